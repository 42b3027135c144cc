package swarm

import (
	"context"
	"crypto/sha1" //nolint:gosec // BEP 3 names pieces by SHA-1; the whole file is proven by SHA-256 besides
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"math/bits"
	"os"
	"runtime"
	"strings"
	"unicode/utf8"

	"github.com/anacrolix/torrent/bencode"
	"golang.org/x/sync/errgroup"
)

const (
	minPiece    = 64 << 10 // below it the messages about pieces cost more than the pieces
	maxPiece    = 4 << 20  // above it a node waits too long for the first piece that it can pass on
	wantPieces  = 320      // measured best: enough to spread, few enough to talk about
	mostPieces  = 1024     // keeps the descriptor of a large artifact at about 20 KB
	hashLen     = sha1.Size
	leastLegal  = 16 << 10 // the chunk of standard clients
	mostLegal   = 64 << 20
	mostAllowed = 1 << 16 // pieces in a descriptor from outside
)

// ErrDescriptor is wrapped by every refusal of a descriptor.
var ErrDescriptor = errors.New("bad descriptor")

// Descriptor tells what an artifact is: enough to fetch it from strangers and to prove it. It is
// made by [Describe], immutable, and travels as JSON.
type Descriptor struct {
	// Name is the file name that other clients use, without a path.
	Name string `json:"name"`
	// Size in bytes.
	Size int64 `json:"size"`
	// SHA256 of the whole file, 64 lower-case hex digits.
	SHA256 string `json:"sha256"`
	// PieceLength in bytes, a power of two; the last piece may be shorter.
	PieceLength int64 `json:"piece_length"`
	// Pieces are the SHA-1 sums of all pieces, 20 bytes each, in order.
	Pieces []byte `json:"pieces"`
	// InfoHash names the artifact in the swarm: 40 lower-case hex digits, the SHA-1 of the BitTorrent
	// info dictionary, which holds all the other fields. So [Descriptor.Validate] notices when any of
	// them was damaged, before a transfer that could never end.
	InfoHash string `json:"info_hash"`
}

// infoDict is the info dictionary of BEP 3. The key sha256 is ours; other clients pass over it.
type infoDict struct {
	Length      int64  `bencode:"length"`
	Name        string `bencode:"name"`
	PieceLength int64  `bencode:"piece length"`
	Pieces      []byte `bencode:"pieces"`
	// Private (BEP 27) keeps other clients from telling the DHT and their own friends.
	Private int    `bencode:"private"`
	SHA256  string `bencode:"sha256"`
}

// torrentFile is a .torrent file: BEP 3, BEP 12 (announce-list), BEP 19 (url-list).
type torrentFile struct {
	Announce     string        `bencode:"announce,omitempty"`
	AnnounceList [][]string    `bencode:"announce-list,omitempty"`
	Info         bencode.Bytes `bencode:"info"`
	URLList      []string      `bencode:"url-list,omitempty"`
}

// Describe reads the file at path once and describes it under name. It uses one core for the SHA-256
// and as many others as there are for the pieces. An empty file is refused.
func Describe(ctx context.Context, path, name string) (Descriptor, error) {
	f, err := os.Open(path)
	if err != nil {
		return Descriptor{}, fmt.Errorf("describe %s: %w", name, err)
	}
	defer f.Close()
	st, err := f.Stat()
	if err != nil {
		return Descriptor{}, fmt.Errorf("describe %s: %w", name, err)
	}
	if !st.Mode().IsRegular() || st.Size() == 0 {
		return Descriptor{}, fmt.Errorf("describe %s: %s is not a file with content", name, path)
	}
	d := Descriptor{Name: name, Size: st.Size(), PieceLength: pieceLength(st.Size())}
	if err := d.hashFrom(ctx, f); err != nil {
		return Descriptor{}, fmt.Errorf("describe %s: read %s: %w", name, path, err)
	}
	info, err := d.info()
	if err != nil {
		return Descriptor{}, fmt.Errorf("describe %s: %w", name, err)
	}
	d.InfoHash = sha1Hex(info)
	return d, d.Validate()
}

// pieceLength chooses the power of two that gives about wantPieces pieces.
func pieceLength(size int64) int64 {
	// The factor of 3/4 rounds to the nearer power of two instead of to the larger one.
	n := int64(1) << bits.Len64(uint64(size/wantPieces)*3/4)
	n = min(max(n, minPiece), maxPiece)
	for size/n > mostPieces && n < mostLegal {
		n *= 2
	}
	return n
}

// hashFrom fills Pieces and SHA256 from r, which must yield Size bytes and then end.
func (d *Descriptor) hashFrom(ctx context.Context, r io.Reader) error {
	type job struct {
		index int
		data  []byte
	}
	workers := min(runtime.NumCPU(), 8)
	free := make(chan []byte, workers+1)
	for range workers + 1 {
		free <- make([]byte, d.PieceLength)
	}
	d.Pieces = make([]byte, d.count()*hashLen)
	jobs := make(chan job)
	g, ctx := errgroup.WithContext(ctx)
	for range workers {
		g.Go(func() error {
			for j := range jobs {
				sum := sha1.Sum(j.data) //nolint:gosec // BEP 3
				copy(d.Pieces[j.index*hashLen:], sum[:])
				free <- j.data[:cap(j.data)]
			}
			return nil
		})
	}
	whole := sha256.New()
	g.Go(func() error {
		defer close(jobs)
		for i := range d.count() {
			if err := ctx.Err(); err != nil {
				return err
			}
			buf := (<-free)[:d.pieceSize(i)]
			if _, err := io.ReadFull(r, buf); err != nil {
				return fmt.Errorf("the file changed while it was read: %w", err)
			}
			whole.Write(buf)
			jobs <- job{i, buf}
		}
		if n, _ := r.Read(make([]byte, 1)); n != 0 {
			return errors.New("the file grew while it was read")
		}
		return nil
	})
	if err := g.Wait(); err != nil {
		return err
	}
	d.SHA256 = hex.EncodeToString(whole.Sum(nil))
	return nil
}

// Validate tells whether the descriptor is whole and well-formed. It needs no network and no file.
// The error wraps [ErrDescriptor].
func (d Descriptor) Validate() error {
	bad := func(format string, args ...any) error {
		return fmt.Errorf("%w of artifact %q: %s", ErrDescriptor, d.Name, fmt.Sprintf(format, args...))
	}
	switch {
	case d.Name == "" || d.Name == "." || d.Name == ".." || len(d.Name) > 255 ||
		strings.ContainsAny(d.Name, "/\\\x00") || !utf8.ValidString(d.Name):
		return bad("the name is not a file name")
	case d.Size <= 0:
		return bad("the size is %d bytes", d.Size)
	case d.PieceLength < leastLegal || d.PieceLength > mostLegal || bits.OnesCount64(uint64(d.PieceLength)) != 1:
		return bad("the piece length %d is not a power of two from %d to %d", d.PieceLength, leastLegal, mostLegal)
	case (d.Size-1)/d.PieceLength >= mostAllowed:
		return bad("it has more than %d pieces", mostAllowed)
	case len(d.Pieces) != d.count()*hashLen:
		return bad("it has %d bytes of piece hashes, its size asks for %d", len(d.Pieces), d.count()*hashLen)
	case !isHex(d.SHA256, sha256.Size):
		return bad("the sha256 is not 64 lower-case hex digits")
	}
	info, err := d.info()
	if err != nil {
		return bad("%v", err)
	}
	if got := sha1Hex(info); got != d.InfoHash {
		return bad("its info hash is %q, its content has %q: it was damaged on its way", d.InfoHash, got)
	}
	return nil
}

// Torrent writes the descriptor as a standard .torrent file for other clients. trackers are announce
// URLs, of which a client asks any that answers; webseeds are URLs of the whole file, which clients
// then use beside the peers from the start, not as a fall-back. Same input, same bytes.
func (d Descriptor) Torrent(trackers, webseeds []string) ([]byte, error) {
	if err := d.Validate(); err != nil {
		return nil, err
	}
	info, err := d.info()
	if err != nil {
		return nil, err
	}
	m := torrentFile{Info: info, URLList: webseeds}
	if len(trackers) > 0 {
		m.Announce = trackers[0]
		m.AnnounceList = [][]string{trackers}
	}
	b, err := bencode.Marshal(m)
	if err != nil {
		return nil, fmt.Errorf("write torrent of %s: %w", d.Name, err)
	}
	return b, nil
}

// info is the encoded info dictionary.
func (d Descriptor) info() ([]byte, error) {
	b, err := bencode.Marshal(infoDict{d.Size, d.Name, d.PieceLength, d.Pieces, 1, d.SHA256})
	if err != nil {
		return nil, fmt.Errorf("encode info of %s: %w", d.Name, err)
	}
	return b, nil
}

// count is the number of pieces.
func (d Descriptor) count() int { return int((d.Size + d.PieceLength - 1) / d.PieceLength) }

// offset is where piece i begins.
func (d Descriptor) offset(i int) int64 { return int64(i) * d.PieceLength }

// pieceSize is the length of piece i in bytes.
func (d Descriptor) pieceSize(i int) int64 { return min(d.PieceLength, d.Size-d.offset(i)) }

// proves tells whether data is the content of piece i.
func (d Descriptor) proves(i int, data []byte) bool {
	sum := sha1.Sum(data) //nolint:gosec // BEP 3
	return string(sum[:]) == string(d.Pieces[i*hashLen:(i+1)*hashLen])
}

func sha1Hex(b []byte) string {
	sum := sha1.Sum(b) //nolint:gosec // BEP 3
	return hex.EncodeToString(sum[:])
}

// isHex tells whether s is n bytes in lower-case hex.
func isHex(s string, n int) bool {
	b, err := hex.DecodeString(s)
	return err == nil && len(b) == n && s == strings.ToLower(s)
}
