package swarm

import (
	"bytes"
	"context"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func partial(t *testing.T, d Descriptor) *content {
	t.Helper()
	c, err := openPartial(t.Context(), d, filepath.Join(t.TempDir(), "got"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.file.Close() })
	return c
}

// A chunk of a bad peer that comes late does not reach a piece that was proven meanwhile.
func TestProvenPieceIsNotOverwritten(t *testing.T) {
	data := randomBytes(2*minPiece, 30)
	d, _ := artifactFile(t, data)
	c := partial(t, d)
	bad := make([]byte, 1000)
	if err := c.writeChunk(1, bad, 0); err != nil {
		t.Fatal(err)
	}
	if err := c.put(1, bad); !errors.Is(err, errNotPiece) {
		t.Errorf("a bad piece: %v", err)
	}
	if err := c.put(1, data[minPiece:]); err != nil {
		t.Fatal(err)
	}
	if err := c.writeChunk(1, bad, 0); err != nil {
		t.Fatal(err)
	}
	got, err := os.ReadFile(c.file.Name())
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(got[minPiece:], data[minPiece:]) {
		t.Error("the proven piece was overwritten")
	}
	if c.left() != minPiece || len(c.lacks()) != 1 || c.lacks()[0] != 0 {
		t.Errorf("left %d, lacks %v", c.left(), c.lacks())
	}
}

// Pieces that are all right do not make up for a wrong SHA-256, and the end of the file is not
// reported before the verdict.
func TestWrongSHA256(t *testing.T) {
	data := randomBytes(2*minPiece, 31)
	d, _ := artifactFile(t, data)
	d.SHA256 = strings.Repeat("0", 64)
	c := partial(t, d)
	for i := range 2 {
		if err := c.put(i, data[i*minPiece:(i+1)*minPiece]); err != nil {
			t.Fatal(err)
		}
	}
	c.prove(t.Context())
	r := &reader{c: c, ctx: t.Context(), cancel: func() {}, moved: func(int) {}, explain: func(err error) error { return err }}
	var got bytes.Buffer
	_, err := got.ReadFrom(r)
	for _, err := range []error{err, c.waitWhole(t.Context())} {
		if err == nil || !strings.Contains(err.Error(), "sha256 of the file is ") || !strings.Contains(err.Error(), "not "+d.SHA256) {
			t.Errorf("error: %v", err)
		}
	}
	if !bytes.Equal(got.Bytes(), data) {
		t.Error("the pieces were not delivered")
	}
}

// The first failure counts, and reaches those who wait already.
func TestFailureReachesWaiters(t *testing.T) {
	d, _ := artifactFile(t, randomBytes(minPiece, 32))
	c := partial(t, d)
	first := errors.New("first")
	got := make(chan error)
	go func() { got <- c.waitPiece(context.Background(), 0) }()
	if err := c.fail(first); !errors.Is(err, first) {
		t.Error(err)
	}
	if err := c.fail(errors.New("second")); !errors.Is(err, first) {
		t.Errorf("the second failure counts: %v", err)
	}
	if err := <-got; !errors.Is(err, first) {
		t.Error(err)
	}
}

// TestReadAfterTheEnd: the engine panics at a failed read for a peer whose transfer has
// ended meanwhile; any other failure it must hear of.
func TestReadAfterTheEnd(t *testing.T) {
	d, path := artifactFile(t, randomBytes(1<<20, 1))
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	p := enginePiece{newContent(d, f), 0}
	b := make([]byte, 100)
	if _, err := p.ReadAt(b, d.Size); !errors.Is(err, io.EOF) {
		t.Errorf("a read beyond the end: %v", err)
	}
	f.Close()
	if n, err := p.ReadAt(b, 0); n != len(b) || err != nil {
		t.Errorf("a read of what is closed: %d bytes, %v", n, err)
	}
}
