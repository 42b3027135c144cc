package image

import (
	"archive/tar"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"
	"golang.org/x/sys/unix"
)

// UnpackOptions is what Unpack may be told. The zero value is right for root.
type UnpackOptions struct {
	// Unprivileged leaves out what only root may do: owners, device nodes, security.* attributes.
	Unprivileged bool
	// Progress, if not nil, hears of the bytes of file content unpacked so far and of the path at
	// hand, at most ten times a second. It must return quickly.
	Progress func(done int64, path string)
}

// Unpack restores the artifact read from r below the directory dest, which should be empty or hold
// mount points only: a file that is in the way is replaced, a stray one stays. It unpacks while it
// reads. Summary.SHA256 is the hash of the bytes read, for the caller to compare.
//
// An artifact that is truncated or corrupt is an error, and so is one with a name that leads out
// of dest, by "..", by a symbolic link or in any other way; what has been unpacked till then stays.
// Data is not flushed to disk. Where r is an [io.Closer] it is closed when ctx ends or unpacking fails
// before r is read to its end, since nothing else would wake a Read that waits.
func Unpack(ctx context.Context, r io.Reader, dest string, opts UnpackOptions) (Summary, error) {
	fd, err := unix.Open(dest, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return Summary{}, fmt.Errorf("unpack to %s: %w", dest, err)
	}
	defer unix.Close(fd)
	u := &unpacker{root: fd, opts: opts}
	sum, err := u.unpack(ctx, r)
	if err != nil && ctx.Err() != nil {
		err = context.Cause(ctx) // not what became of a reader that was closed for it
	}
	if errors.Is(err, unix.ENOSPC) {
		err = fmt.Errorf("%w: %d bytes fitted", err, u.done.Load())
	}
	if err != nil {
		return Summary{}, fmt.Errorf("unpack to %s: %w", dest, err)
	}
	return sum, nil
}

type unpacker struct {
	root int // descriptor of dest
	opts UnpackOptions
	dirs []*tar.Header // to be given their modes and times at the end
	link []*tar.Header // to be made at the end, when what they name exists

	done, lost atomic.Int64
	files      int64
	reported   time.Time
}

// counter counts and hashes what is read through it.
type counter struct {
	r    io.Reader
	n    int64
	hash io.Writer
}

func (c *counter) Read(p []byte) (int, error) {
	n, err := c.r.Read(p)
	c.n += int64(n)
	_, _ = c.hash.Write(p[:n]) // a hash never fails
	return n, err
}

func (u *unpacker) unpack(ctx context.Context, r io.Reader) (Summary, error) {
	g, ctx := errgroup.WithContext(ctx)
	buffers := newChunks()
	decompress, stop, err := decompressor(buffers)
	if err != nil {
		return Summary{}, err
	}
	defer stop()
	hash := sha256.New()
	in := &counter{r: r, hash: hash}
	promised := int64(-1)
	var readAll atomic.Bool
	frames := func(emit func([]byte) error) error {
		n, err := readFrames(in, emit)
		promised = n
		readAll.Store(true)
		return err
	}
	defer context.AfterFunc(ctx, func() {
		if c, ok := r.(io.Closer); ok && !readAll.Load() {
			_ = c.Close() // there is an error already, and it says more
		}
	})()
	next := ordered(ctx, g, maxWorkers(), 2*maxWorkers(), frames, decompress)

	small := make(chan smallEntry, 64)
	for range min(max(2, maxWorkers()), 8) {
		g.Go(func() error { return u.writeSmall(ctx, small) })
	}
	g.Go(func() error {
		defer close(small)
		stream := &chunkReader{chunks: buffers, next: next}
		if err := u.readTar(ctx, stream, small); err != nil {
			return err
		}
		// What follows the tar's end is nothing, but has to be read to know that.
		if _, err := io.Copy(io.Discard, stream); err != nil {
			return err
		}
		if stream.total != promised {
			return corrupt(fmt.Sprintf("%d bytes in place of %d", stream.total, promised))
		}
		return nil
	})
	if err := g.Wait(); err != nil {
		return Summary{}, err
	}
	if err := u.finish(); err != nil {
		return Summary{}, err
	}
	return Summary{
		Files: u.files, Unpacked: u.done.Load(), LostXattrs: u.lost.Load(),
		Packed: in.n, SHA256: hex.EncodeToString(hash.Sum(nil)),
	}, nil
}

// smallEntry is a file whose content is in memory, to be written beside others.
type smallEntry struct {
	hdr  *tar.Header
	data []byte
}

func (u *unpacker) writeSmall(ctx context.Context, small <-chan smallEntry) error {
	at := newPlace(u.root)
	defer at.close()
	for e := range small {
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		if err := u.entry(at, e.hdr, func(fd int) error { return writeAll(fd, e.data) }); err != nil {
			return err
		}
		u.done.Add(int64(len(e.data)))
	}
	return nil
}

// readTar makes everything in the tar but small files, directories' attributes and hard links.
func (u *unpacker) readTar(ctx context.Context, stream io.Reader, small chan<- smallEntry) error {
	tr := tar.NewReader(stream)
	at := newPlace(u.root)
	defer at.close()
	buf := make([]byte, smallFile)
	for {
		hdr, err := tr.Next()
		if errors.Is(err, io.EOF) {
			return nil
		} else if err != nil {
			return tarError(err)
		}
		u.files++
		u.report(hdr.Name)
		sparse := hdr.PAXRecords[sparseMark] != ""
		switch {
		case hdr.Typeflag == tar.TypeDir:
			u.dirs = append(u.dirs, hdr)
			err = at.mkdir(hdr.Name)
		case hdr.Typeflag == tar.TypeLink:
			u.link = append(u.link, hdr)
		case hdr.Typeflag == tar.TypeReg && hdr.Size <= smallFile && !sparse:
			e := smallEntry{hdr: hdr, data: make([]byte, hdr.Size)}
			if _, err := io.ReadFull(tr, e.data); err != nil {
				return tarError(err)
			}
			select {
			case small <- e:
			case <-ctx.Done():
				return context.Cause(ctx)
			}
		default:
			err = u.entry(at, hdr, func(fd int) error { return u.copyFile(ctx, fd, hdr, tr, sparse, buf) })
		}
		if err != nil {
			return err
		}
	}
}

// tarError tells a broken tar from an error of the stream that it came by.
func tarError(err error) error {
	if errors.Is(err, tar.ErrHeader) || errors.Is(err, io.ErrUnexpectedEOF) || errors.Is(err, io.EOF) {
		return corrupt(err.Error())
	}
	return err
}

// copyFile writes a file's content to fd; of a sparse one, what is not zero.
func (u *unpacker) copyFile(ctx context.Context, fd int, hdr *tar.Header, tr io.Reader, sparse bool, buf []byte) error {
	if sparse { // its length at once: no write may come to the holes at its end
		if err := unix.Ftruncate(fd, hdr.Size); err != nil {
			return err
		}
	}
	for off := int64(0); off < hdr.Size; {
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		n, err := io.ReadFull(tr, buf[:min(hdr.Size-off, int64(len(buf)))])
		if err != nil {
			return tarError(err)
		}
		write := writeData
		if sparse {
			write = writeSparse
		}
		written, err := write(fd, buf[:n], off)
		u.done.Add(written)
		if err != nil {
			return err
		}
		off += int64(n)
		u.report(hdr.Name)
	}
	return nil
}

func writeData(fd int, b []byte, _ int64) (int64, error) {
	return int64(len(b)), writeAll(fd, b)
}

// writeSparse writes the blocks of b that are not zero; off, where b belongs, is a whole block.
func writeSparse(fd int, b []byte, off int64) (written int64, err error) {
	for start := 0; start < len(b); {
		end := start
		for end < len(b) && !allZero(b[end:min(end+sparseBlock, len(b))]) {
			end = min(end+sparseBlock, len(b))
		}
		if err := writeAt(fd, b[start:end], off+int64(start)); err != nil {
			return written, err
		}
		written += int64(end - start)
		start = end + sparseBlock
	}
	return written, nil
}

func writeAt(fd int, b []byte, off int64) error {
	for len(b) > 0 {
		n, err := unix.Pwrite(fd, b, off)
		if err != nil && !errors.Is(err, unix.EINTR) {
			return err
		}
		b = b[max(n, 0):]
		off += int64(max(n, 0))
	}
	return nil
}

func writeAll(fd int, b []byte) error {
	for len(b) > 0 {
		n, err := unix.Write(fd, b)
		if err != nil && !errors.Is(err, unix.EINTR) {
			return err
		}
		b = b[max(n, 0):]
	}
	return nil
}

func (u *unpacker) report(path string) {
	if u.opts.Progress == nil {
		return
	}
	if now := time.Now(); now.Sub(u.reported) >= reportEvery {
		u.reported = now
		u.opts.Progress(u.done.Load(), path)
	}
}

// finish makes the hard links, then gives directories what their content would have disturbed:
// times, default ACLs (which new files inherit), modes without write permission.
func (u *unpacker) finish() error {
	at := newPlace(u.root)
	defer at.close()
	for _, hdr := range u.link {
		if err := at.link(hdr.Linkname, hdr.Name); err != nil {
			return err
		}
	}
	for i := len(u.dirs) - 1; i >= 0; i-- {
		hdr := u.dirs[i]
		dir, name, err := at.find(hdr.Name)
		if err == nil {
			err = u.setDir(dir, name, hdr)
		}
		if err != nil {
			return fmt.Errorf("%s: %w", hdr.Name, err)
		}
	}
	return nil
}
