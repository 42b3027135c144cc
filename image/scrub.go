package image

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"unsafe"

	"golang.org/x/sys/unix"
)

// asidePrefix marks artifacts that were found damaged. No hash starts so.
const asidePrefix = "damaged-"

// scrubChunk is the size in bytes of one read of Scrub.
const scrubChunk = 1 << 20

// Scrub reads an artifact as it is on the disk, and compares it with its hash. pace is called before
// each read with the number of bytes to come; it may wait, and its error ends the scrub. Of the
// errors, those that say that the artifact is no good are told from others by [IsDamage].
//
// It goes around the page cache (O_DIRECT): what is in memory says nothing of the disk, and an
// artifact that nodes are booting must not be driven out of it, neither by this one nor because it
// was looked at itself. A file system that cannot do that is read as usual, and what was read is
// dropped from the page cache.
func (s *Store) Scrub(ctx context.Context, sum string, pace func(ctx context.Context, bytes int) error) error {
	r, err := openDisk(s.Path(sum))
	if err != nil {
		return fmt.Errorf("scrub %s: %w", sum, err)
	}
	defer r.close()
	got, err := r.hash(ctx, pace)
	switch {
	case IsDamage(err) && !r.isAt(s.Path(sum)):
		return nil // it was committed anew meanwhile, and read for that, or removed
	case err != nil:
		return fmt.Errorf("scrub %s at byte %d: %w", s.Path(sum), r.off, err)
	case got != sum && r.isAt(s.Path(sum)):
		return fmt.Errorf("scrub %s: %w: it is %s, of %d bytes", s.Path(sum), ErrMismatch, got, r.off)
	}
	return nil
}

// IsDamage tells whether an error of Scrub or Verify means that the artifact is no good: it has
// changed, is gone, or cannot be read. Others, such as too many open files, say nothing of it.
func IsDamage(err error) bool {
	for _, damage := range []error{ErrMismatch, fs.ErrNotExist, unix.EIO, unix.EUCLEAN, unix.EBADMSG} {
		if errors.Is(err, damage) {
			return true
		}
	}
	return false
}

// diskReader reads a file in order from the disk.
type diskReader struct {
	file   *os.File
	off    int64
	direct bool
}

func openDisk(path string) (*diskReader, error) {
	f, err := os.OpenFile(path, os.O_RDONLY|unix.O_DIRECT, 0)
	if err == nil {
		return &diskReader{file: f, direct: true}, nil
	}
	if !errors.Is(err, unix.EINVAL) {
		return nil, err
	}
	if f, err = os.Open(path); err != nil {
		return nil, err
	}
	return &diskReader{file: f}, nil
}

func (r *diskReader) close() { _ = r.file.Close() } // it was only read

// isAt tells whether a path still leads to the file.
func (r *diskReader) isAt(path string) bool {
	mine, err := r.file.Stat()
	if err != nil {
		return false
	}
	there, err := os.Stat(path)
	return err == nil && os.SameFile(mine, there)
}

// hash reads the file to its end.
func (r *diskReader) hash(ctx context.Context, pace func(context.Context, int) error) (string, error) {
	h, buf := sha256.New(), pageAligned(scrubChunk)
	for {
		if err := pace(ctx, len(buf)); err != nil {
			return "", err
		}
		n, err := r.read(buf)
		if err != nil {
			return "", err
		}
		if n == 0 {
			return hex.EncodeToString(h.Sum(nil)), nil
		}
		h.Write(buf[:n])
	}
}

// read fills buf, but at the end of the file; 0 is the end.
func (r *diskReader) read(buf []byte) (int, error) {
	for {
		// Not File.ReadAt, which goes on after a short read where no direct read may begin.
		n, err := unix.Pread(int(r.file.Fd()), buf, r.off)
		switch {
		case errors.Is(err, unix.EINTR):
			continue
		case errors.Is(err, unix.EINVAL) && r.direct:
			// It let itself be opened so and yet cannot, or wants other limits than pages.
			f, err := os.Open(r.file.Name())
			if err != nil {
				return 0, err
			}
			r.close()
			r.file, r.direct = f, false
			continue
		case err != nil:
			return 0, err
		}
		if !r.direct {
			_ = unix.Fadvise(int(r.file.Fd()), r.off, int64(n), unix.FADV_DONTNEED) // a wish
		}
		r.off += int64(n)
		return n, nil
	}
}

// pageAligned gives a buffer that begins at a page, as direct reads want.
func pageAligned(size int) []byte {
	page := os.Getpagesize()
	b := make([]byte, size+page)
	skip := (page - int(uintptr(unsafe.Pointer(&b[0]))%uintptr(page))) % page //nolint:gosec // the address is only looked at
	return b[skip : skip+size]
}

// SetAside takes an artifact that is damaged out of the store: from now on the store does not hold it,
// even if the file cannot be moved, as on a disk that has become read-only. It is kept under another
// name, which is returned, until the artifact is committed anew or RemoveAside is called: it may be the
// only copy, and the most of it good. That there is none is no error.
func (s *Store) SetAside(sum string) (path string, err error) {
	path = s.AsidePath(sum)
	if !isHash(sum) {
		return path, nil
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.damaged[sum] = true
	if err = os.Rename(s.Path(sum), path); errors.Is(err, fs.ErrNotExist) {
		return path, nil
	}
	if err = errors.Join(err, s.sync()); err != nil {
		return path, fmt.Errorf("set aside a damaged artifact: %w", err)
	}
	return path, nil
}

// AsidePath is where the artifact is, or would be, after SetAside.
func (s *Store) AsidePath(sum string) string {
	return filepath.Join(s.dir, asidePrefix+filepath.Base(s.Path(sum)))
}

// Aside returns the hashes of what was set aside and is still there, in order.
func (s *Store) Aside() ([]string, error) {
	entries, err := os.ReadDir(s.dir)
	if err != nil {
		return nil, fmt.Errorf("list the store: %w", err)
	}
	var all []string
	for _, e := range entries {
		if sum, ok := strings.CutPrefix(e.Name(), asidePrefix); ok && isHash(sum) {
			all = append(all, sum)
		}
	}
	return all, nil
}

// RemoveAside removes what was set aside. It is emptied first, so that whoever still sends it from an
// open file breaks off, which the receiver sees.
func (s *Store) RemoveAside(sum string) error {
	path := s.AsidePath(sum)
	err := os.Truncate(path, 0)
	if err == nil {
		err = os.Remove(path)
	}
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("remove a damaged artifact: %w", err)
	}
	return nil
}

// place gives a whole file its hash for a name, also where a damaged one has it or had it.
func (s *Store) place(path, sum string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := os.Rename(path, s.Path(sum)); err != nil {
		return err
	}
	delete(s.damaged, sum)
	_ = s.RemoveAside(sum) // what stays is in nobody's way; the next Commit tries again
	return nil
}

func (s *Store) isDamaged(sum string) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.damaged[sum]
}
