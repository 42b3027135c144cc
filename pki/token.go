package pki

import (
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"strings"
)

// Token admits one head, once. It carries the fingerprint of the cluster's
// authority, so that whoever holds it recognises the cluster before he gives
// the secret away.
type Token struct {
	ID          string // names the invite in the inventory
	Secret      []byte // 32 bytes
	Fingerprint []byte // SHA-256 of the authority's certificate
}

const tokenPrefix = "luna1"

// NewToken makes a token of the cluster whose authority has the fingerprint.
func NewToken(fingerprint []byte) (Token, error) {
	b := make([]byte, 40)
	if _, err := rand.Read(b); err != nil {
		return Token{}, fmt.Errorf("make a token: %w", err)
	}
	return Token{ID: hex.EncodeToString(b[:8]), Secret: b[8:], Fingerprint: fingerprint}, nil
}

// String gives the token as one word of letters, digits, '.', '-' and '_'.
func (t Token) String() string {
	e := base64.RawURLEncoding
	return strings.Join([]string{tokenPrefix, t.ID, e.EncodeToString(t.Secret), e.EncodeToString(t.Fingerprint)}, ".")
}

// Hash is what the inventory keeps of the secret, in hex.
func (t Token) Hash() string { return HashSecret(t.Secret) }

// HashSecret gives the hash of a token's secret, in hex.
func HashSecret(secret []byte) string {
	sum := sha256.Sum256(secret)
	return hex.EncodeToString(sum[:])
}

// ParseToken reads what String gave.
func ParseToken(s string) (Token, error) {
	part := strings.Split(strings.TrimSpace(s), ".")
	if len(part) != 4 || part[0] != tokenPrefix {
		return Token{}, errors.New("this is no join token: take the line that `luna head invite` printed")
	}
	e := base64.RawURLEncoding
	secret, err1 := e.DecodeString(part[2])
	print, err2 := e.DecodeString(part[3])
	if err1 != nil || err2 != nil || len(secret) != 32 || len(print) != 32 || part[1] == "" {
		return Token{}, errors.New("the join token is damaged: copy the whole line that `luna head invite` printed")
	}
	return Token{ID: part[1], Secret: secret, Fingerprint: print}, nil
}
