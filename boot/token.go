package boot

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"errors"
	"fmt"
	"time"

	"github.com/clustervision/luna/inventory"
)

// TokenLife is how long a boot token is good: longer than any boot with its
// retries, short enough that one found in an old log opens nothing.
//
// It counts in both directions. The head that checks a token need not be the
// one that made it, and a head whose clock jumps (no battery, NTP not there
// yet) must not keep a whole machine room from booting.
const TokenLife = 24 * time.Hour

const tokenVersion = 1

// A token is 1 byte of version, 8 of the node's ID, 8 of the time in Unix
// seconds, 32 of HMAC-SHA256 over a fixed word and these, in base64url: 66
// characters that are safe on a kernel command line.
const (
	tokenHeader = 1 + 8 + 8
	tokenSize   = tokenHeader + sha256.Size
)

// The refusals of CheckToken.
var (
	ErrTokenMissing = errors.New("no boot token was sent: this needs 'Authorization: Bearer TOKEN' with the token of the node's present boot (luna.token= on its kernel command line)")
	ErrTokenWrong   = errors.New("the boot token is not one of this node in this cluster: boot the node again")
	ErrTokenExpired = fmt.Errorf("the boot token was made more than %d hours ago by this head's clock: boot the node again, and check the clocks of the heads", int(TokenLife.Hours()))
)

// NewToken makes the token that lets one node fetch its plan and report from
// its present boot. Nothing is stored: any head can check it with the cluster's
// boot key (inventory.Secrets).
func NewToken(key []byte, node inventory.ID, now time.Time) string {
	b := make([]byte, 0, tokenSize)
	b = append(b, tokenVersion)
	b = binary.BigEndian.AppendUint64(b, uint64(node))
	b = binary.BigEndian.AppendUint64(b, uint64(now.Unix()))
	return base64.RawURLEncoding.EncodeToString(append(b, tokenMAC(key, b)...))
}

// CheckToken tells whether the token was made with the key for the node, less
// than TokenLife away from now.
func CheckToken(key []byte, token string, node inventory.ID, now time.Time) error {
	if token == "" {
		return ErrTokenMissing
	}
	b, err := base64.RawURLEncoding.DecodeString(token)
	if err != nil || len(b) != tokenSize || b[0] != tokenVersion || len(key) == 0 {
		return ErrTokenWrong
	}
	if !hmac.Equal(b[tokenHeader:], tokenMAC(key, b[:tokenHeader])) || inventory.ID(binary.BigEndian.Uint64(b[1:])) != node {
		return ErrTokenWrong
	}
	age := now.Sub(time.Unix(int64(binary.BigEndian.Uint64(b[9:])), 0))
	if age.Abs() > TokenLife {
		return ErrTokenExpired
	}
	return nil
}

func tokenMAC(key, header []byte) []byte {
	mac := hmac.New(sha256.New, key)
	mac.Write([]byte("luna boot token\x00"))
	mac.Write(header)
	return mac.Sum(nil)
}
