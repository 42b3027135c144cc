package swarm

import (
	"context"
	"crypto/sha1" //nolint:gosec // BEP 3
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"runtime"
	"sync"

	"golang.org/x/sync/errgroup"
)

// errNotPiece is returned by [content.put] for data that is not what the descriptor promises.
var errNotPiece = errors.New("the data does not have the hash in the descriptor")

// content is the file of one artifact on this machine: which pieces of it are there and proven, who
// waits for them, and what broke. It knows no network. The file stays open, so it may be renamed
// while it is filled or served.
type content struct {
	desc Descriptor
	file *os.File

	// writes keeps the engine, which writes chunks before they are proven (read side), away from
	// pieces that put proves and writes at once (write side).
	writes sync.RWMutex

	mu      sync.Mutex
	have    []bool        // pieces that are there and proven
	missing int64         // bytes of the others
	whole   bool          // the SHA-256 was right
	err     error         // the first failure that no peer can cure, such as a full disk
	changed chan struct{} // closed, and replaced, when one of the above changes
}

func newContent(d Descriptor, f *os.File) *content {
	return &content{
		desc: d, file: f,
		have: make([]bool, d.count()), missing: d.Size,
		changed: make(chan struct{}),
	}
}

// openTrusted opens a file that is known to be the whole artifact; only its size is looked at.
func openTrusted(d Descriptor, path string) (*content, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	st, err := f.Stat()
	if err == nil && (!st.Mode().IsRegular() || st.Size() != d.Size) {
		err = fmt.Errorf("%s is not a file of %d bytes", path, d.Size)
	}
	if err != nil {
		f.Close()
		return nil, err
	}
	c := newContent(d, f)
	for i := range c.have {
		c.have[i] = true
	}
	c.missing, c.whole = 0, true
	return c, nil
}

// openPartial opens or creates the file to be filled. What an earlier attempt left there is proven
// piece by piece and kept.
func openPartial(ctx context.Context, d Descriptor, path string) (*content, error) {
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o644)
	if err != nil {
		return nil, err
	}
	c := newContent(d, f)
	if err := c.adopt(ctx); err != nil {
		f.Close()
		return nil, err
	}
	return c, nil
}

// adopt proves what the file holds already and gives it its final size, as holes.
func (c *content) adopt(ctx context.Context) error {
	st, err := c.file.Stat()
	if err != nil {
		return err
	}
	if !st.Mode().IsRegular() {
		return fmt.Errorf("%s is not a regular file", c.file.Name())
	}
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(min(runtime.NumCPU(), 8))
	for i := range c.have {
		if c.desc.offset(i)+c.desc.pieceSize(i) > st.Size() {
			break
		}
		g.Go(func() error {
			if err := ctx.Err(); err != nil {
				return err
			}
			h := sha1.New() //nolint:gosec // BEP 3
			if _, err := io.Copy(h, c.section(i)); err != nil {
				return fmt.Errorf("read back piece %d: %w", i, err)
			}
			if string(h.Sum(nil)) == string(c.desc.Pieces[i*hashLen:(i+1)*hashLen]) {
				c.add(i)
			}
			return nil
		})
	}
	if err := g.Wait(); err != nil {
		return err
	}
	return c.file.Truncate(c.desc.Size)
}

func (c *content) section(i int) *io.SectionReader {
	return io.NewSectionReader(c.file, c.desc.offset(i), c.desc.pieceSize(i))
}

// writeChunk stores part of a piece that is not proven yet. Once the piece is proven it is dropped.
func (c *content) writeChunk(i int, data []byte, off int64) error {
	c.writes.RLock()
	defer c.writes.RUnlock()
	if c.has(i) {
		return nil
	}
	if _, err := c.file.WriteAt(data, c.desc.offset(i)+off); err != nil {
		return c.fail(err)
	}
	return nil
}

// put stores a whole piece, if it is one.
func (c *content) put(i int, data []byte) error {
	if !c.desc.proves(i, data) {
		return errNotPiece
	}
	c.writes.Lock()
	defer c.writes.Unlock()
	if c.has(i) {
		return nil
	}
	if _, err := c.file.WriteAt(data, c.desc.offset(i)); err != nil {
		return c.fail(err)
	}
	c.add(i)
	return nil
}

// add counts piece i as there and proven.
func (c *content) add(i int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if !c.have[i] {
		c.have[i] = true
		c.missing -= c.desc.pieceSize(i)
		c.tell()
	}
}

func (c *content) has(i int) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.have[i]
}

// lacks returns the indexes of the missing pieces, lowest first.
func (c *content) lacks() []int {
	c.mu.Lock()
	defer c.mu.Unlock()
	var out []int
	for i, have := range c.have {
		if !have {
			out = append(out, i)
		}
	}
	return out
}

// left is the number of bytes that are not there yet.
func (c *content) left() int64 {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.missing
}

// fail ends all waiting with err, unless something failed before. It returns what counts.
func (c *content) fail(err error) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.err == nil {
		c.err = err
		c.tell()
	}
	return c.err
}

// failed is the failure, or nil.
func (c *content) failed() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.err
}

// tell wakes everybody who waits. The caller holds mu.
func (c *content) tell() {
	close(c.changed)
	c.changed = make(chan struct{})
}

// waitPiece returns when piece i can be read.
func (c *content) waitPiece(ctx context.Context, i int) error {
	return c.wait(ctx, func() bool { return c.have[i] })
}

// waitAll returns when all pieces are there.
func (c *content) waitAll(ctx context.Context) error {
	return c.wait(ctx, func() bool { return c.missing == 0 })
}

// waitWhole returns when the SHA-256 of the whole file was found right.
func (c *content) waitWhole(ctx context.Context) error {
	return c.wait(ctx, func() bool { return c.whole })
}

// wait returns nil when met, called with mu held, is true, or the failure, or the error of ctx.
func (c *content) wait(ctx context.Context, met func() bool) error {
	for {
		c.mu.Lock()
		ok, err, changed := met(), c.err, c.changed
		c.mu.Unlock()
		if ok {
			return nil
		}
		if err != nil {
			return err
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// prove follows the pieces in order and holds the whole file against its SHA-256, so that little is
// left to do after the last piece. Waiters learn the verdict; prove returns early only with ctx.
func (c *content) prove(ctx context.Context) {
	h := sha256.New()
	buf := make([]byte, 256<<10)
	for i := range c.desc.count() {
		if err := c.waitPiece(ctx, i); err != nil {
			return
		}
		// The struct hides WriteTo, which would bring its own small buffer.
		if _, err := io.CopyBuffer(h, struct{ io.Reader }{c.section(i)}, buf); err != nil {
			_ = c.fail(fmt.Errorf("read back piece %d: %w", i, err))
			return
		}
	}
	if got := hex.EncodeToString(h.Sum(nil)); got != c.desc.SHA256 {
		_ = c.fail(fmt.Errorf("all pieces are right, but the sha256 of the file is %s, not %s: the artifact was described wrongly; pack it again",
			got, c.desc.SHA256))
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.whole = true
	c.tell()
}
