package image

import (
	"archive/tar"
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"runtime"
	"time"

	"golang.org/x/sync/errgroup"
	"golang.org/x/sys/unix"
)

const (
	// smallFile is the size up to which a file is read, or written, as a whole beside its neighbours.
	// Nearly all files of an operating system are smaller, and they are what costs the time.
	smallFile = 256 << 10
	// readAhead is how many files are open or in memory before their turn: 16 MiB at most.
	readAhead = 64
	// reportEvery bounds how often Progress is called.
	reportEvery = 100 * time.Millisecond
)

// PackOptions is what Pack may be told. The zero value packs everything, silently.
type PackOptions struct {
	// Exclude lists what to leave out, in the syntax of [path.Match]. A pattern with a slash is
	// held against the whole path from the tree's root ("/var/cache/apt/*.bin"), one without
	// against every name ("*.pyc"). A directory that matches is left out with all that is below it.
	Exclude []string
	// Progress, if not nil, hears of the bytes of file content packed and in all, and of the path
	// at hand, at most ten times a second and once at the end. It must return quickly.
	Progress func(done, total int64, path string)
}

// Summary tells what Pack or Unpack did.
type Summary struct {
	Files    int64  // entries of all types, hard links counted each
	Unpacked int64  // bytes of file content; holes and further hard links not counted
	Packed   int64  // bytes of the artifact
	SHA256   string // hash of the artifact's bytes: 64 lower-case hexadecimal digits
	// LostXattrs counts attributes that the destination's file system cannot hold (user.* on a
	// tmpfs before Linux 6.6, any on vfat). Unpack only.
	LostXattrs int64
}

// Pack writes the tree below the directory tree to w, as the artifact that the package comment
// describes. It changes nothing in the tree, not even access times where the kernel lets it.
//
// Errors name the file they are about. After an error, what w has is worthless: it lacks the
// trailer, so Unpack refuses it. An error of w can be found with [errors.Is].
func Pack(ctx context.Context, tree string, w io.Writer, opts PackOptions) (Summary, error) {
	p := &packer{tree: tree, progress: meter{report: opts.Progress}}
	if err := p.pack(ctx, w, opts.Exclude); err != nil {
		return Summary{}, fmt.Errorf("pack %s: %w", tree, err)
	}
	return p.sum, nil
}

type packer struct {
	tree     string
	root     *root
	progress meter
	tarBytes int64 // about how long the tar will be
	sum      Summary
}

func (p *packer) pack(ctx context.Context, w io.Writer, exclude []string) error {
	root, err := openRoot(p.tree)
	if err != nil {
		return err
	}
	defer root.close()
	p.root = root
	entries, err := root.scan(ctx, exclude)
	if err != nil {
		return err
	}
	for i := range entries {
		p.progress.total += entries[i].weight()
	}
	p.tarBytes = p.progress.total + 1024*int64(len(entries))

	g, ctx := errgroup.WithContext(ctx)
	buffers := newChunks()
	compress, err := compressor(buffers)
	if err != nil {
		return err
	}
	ahead := func(emit func(*entry) error) error {
		for i := range entries {
			if err := emit(&entries[i]); err != nil {
				return err
			}
		}
		return nil
	}
	nextFile := ordered(ctx, g, max(4, maxWorkers()), readAhead, ahead, root.read)
	var tarBytes int64
	cut := func(emit func([]byte) error) error {
		chunker := &chunker{chunks: buffers, emit: emit}
		if err := p.writeTar(ctx, nextFile, chunker); err != nil {
			return err
		}
		err := chunker.flush()
		tarBytes = chunker.total
		return err
	}
	nextFrame := ordered(ctx, g, maxWorkers(), 2*maxWorkers(), cut, compress)
	g.Go(func() error { return p.writeFrames(w, nextFrame, &tarBytes) })
	if err := g.Wait(); err != nil {
		return err
	}
	p.progress.finish()
	return nil
}

// writeFrames writes the frames that next returns, then the trailer. tarBytes is the length of the
// tar, true when the last frame has come.
func (p *packer) writeFrames(w io.Writer, next func() ([]byte, error), tarBytes *int64) error {
	hash := sha256.New()
	out := io.MultiWriter(w, hash)
	for frames := int64(0); ; frames++ {
		frame, err := next()
		last := errors.Is(err, io.EOF)
		if last {
			frame = trailer(*tarBytes)
		} else if err != nil {
			return err
		}
		n, err := out.Write(frame)
		p.sum.Packed += int64(n)
		if err != nil {
			return &writeError{needed: p.guess(frames), err: err}
		}
		if last {
			p.sum.SHA256 = hex.EncodeToString(hash.Sum(nil))
			return nil
		}
	}
}

// writeError tells, beside what went wrong, about how long the artifact would have become.
type writeError struct {
	needed int64
	err    error
}

func (e *writeError) Error() string { return "write the artifact: " + e.err.Error() }
func (e *writeError) Unwrap() error { return e.err }

// guess is the length of the artifact by what its first frames have shrunk to.
func (p *packer) guess(frames int64) int64 {
	if frames == 0 {
		return p.tarBytes / 3 // what zstd makes of an operating system
	}
	return max(p.sum.Packed, int64(float64(p.sum.Packed)*float64(p.tarBytes)/float64(frames*chunkSize)))
}

// writeTar writes the files that next returns, and the end of the tar. It is the one goroutine
// that all bytes pass in order; whatever can be done beforehand is done in [root.read].
func (p *packer) writeTar(ctx context.Context, next func() (*file, error), w io.Writer) error {
	tw := tar.NewWriter(w)
	buf := make([]byte, smallFile)
	for {
		f, err := next()
		if errors.Is(err, io.EOF) {
			if err := tw.Close(); err != nil {
				return fmt.Errorf("end the tar: %w", err)
			}
			return nil
		}
		if err != nil {
			return err
		}
		if f.hdr != nil {
			err = p.writeFile(ctx, tw, w, f, buf)
		}
		if cerr := f.close(); err == nil {
			err = cerr
		}
		if err != nil {
			return fmt.Errorf("%s: %w", f.entry.name(), err)
		}
	}
}

// writeFile writes one entry: header and content. tw writes to w; a sparse entry goes around it.
func (p *packer) writeFile(ctx context.Context, tw *tar.Writer, w io.Writer, f *file, buf []byte) error {
	hdr, weight := f.hdr, f.entry.weight()
	p.sum.Files++

	content := io.Reader(bytes.NewReader(f.data))
	size := int64(len(f.data))
	switch {
	case f.sparse != nil:
		if err := tw.Flush(); err != nil {
			return err
		}
		n, err := writeSparseHeader(w, hdr, f.sparse)
		if err != nil {
			return err
		}
		content, size = f.sparse.reader(f.fd), n
		tw = nil
	case f.fd != nil:
		content, size = io.NewSectionReader(f.fd, 0, hdr.Size), hdr.Size
	}
	if tw != nil {
		if err := tw.WriteHeader(hdr); err != nil {
			return err
		}
		w = tw
	}
	for left := size; left > 0; {
		if err := context.Cause(ctx); err != nil {
			return err
		}
		n, err := io.ReadFull(content, buf[:min(left, int64(len(buf)))])
		if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
			return errChanged
		} else if err != nil {
			return fmt.Errorf("read: %w", err)
		}
		if _, err := w.Write(buf[:n]); err != nil {
			return err
		}
		left -= int64(n)
		p.sum.Unpacked += int64(n)
		step := min(weight, int64(n))
		weight -= step
		p.progress.step(step, f.entry.path)
	}
	if tw == nil {
		if err := pad(w, size); err != nil {
			return err
		}
	}
	p.progress.step(weight, f.entry.path)
	return nil
}

// errChanged is the end of an artifact, or a clone, that would hold a tree that never was.
var errChanged = errors.New("changed while the tree was read: stop what writes to the tree and try again")

// meter calls report with the sum of the steps, not more often than reportEvery.
type meter struct {
	report      func(done, total int64, path string)
	done, total int64
	last        time.Time
}

func (m *meter) step(n int64, path string) {
	m.done += n
	if m.report == nil {
		return
	}
	if now := time.Now(); now.Sub(m.last) >= reportEvery {
		m.last = now
		m.report(m.done, m.total, path)
	}
}

func (m *meter) finish() {
	if m.report != nil {
		m.report(m.total, m.total, "")
	}
}

func maxWorkers() int { return runtime.GOMAXPROCS(0) }

// sameInode tells whether nothing that a tar would show happened to an inode between two stats.
func sameInode(a, b *unix.Stat_t) bool {
	return a.Dev == b.Dev && a.Ino == b.Ino && a.Mode == b.Mode && a.Size == b.Size &&
		a.Mtim == b.Mtim && a.Ctim == b.Ctim
}
