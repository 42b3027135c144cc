package image

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"

	"golang.org/x/sys/unix"
)

// draftPrefix marks files that are being written. No hash starts so.
const draftPrefix = "draft-"

// ErrMismatch is what errors.Is finds where a file's content does not have the hash of its name.
var ErrMismatch = errors.New("the content does not match its hash")

// Store is a directory of artifacts, each a file named by the SHA-256 of its content in hexadecimal.
// A file is seen under its hash when it is complete and on disk, never before, whenever the
// machine dies. Its files and directory are for the owner only: they hold every image's shadow file.
//
// A Store may be used by several goroutines, its directory by one process at a time.
type Store struct {
	dir    string
	drafts atomic.Int32 // files of Create that are open

	mu      sync.Mutex
	damaged map[string]bool // by hash: set aside, and not committed anew since
}

// Open opens the store in dir, makes it if there is none, and removes what an earlier process left
// half written.
func Open(dir string) (*Store, error) {
	err := os.MkdirAll(dir, 0o700)
	if err == nil {
		err = syncDir(filepath.Dir(dir))
	}
	if err != nil {
		return nil, fmt.Errorf("open the store: %w", err)
	}
	names, err := fs.Glob(os.DirFS(dir), draftPrefix+"*")
	if err != nil {
		return nil, fmt.Errorf("open the store: %w", err)
	}
	for _, name := range names {
		if err := os.Remove(filepath.Join(dir, name)); err != nil {
			return nil, fmt.Errorf("open the store: remove what was left half written: %w", err)
		}
	}
	return &Store{dir: dir, damaged: map[string]bool{}}, nil
}

// Create opens a new, empty file in the store, for reading and writing, to be given to Commit or
// Discard in the end.
func (s *Store) Create() (*os.File, error) {
	f, err := os.CreateTemp(s.dir, draftPrefix+"*") // mode 0600
	if err != nil {
		return nil, fmt.Errorf("create an artifact: %w", err)
	}
	s.drafts.Add(1)
	return f, nil
}

// spare is the most that a file to be fetched leaves free, in bytes, beside a twentieth of
// the file system where that is less: others write there too.
const spare = 256 << 20

// HasRoom tells, by an error, that a file of so many bytes is not to be begun: it would fill
// the file system, to the harm of everybody who writes there, and not fit in the end.
func (s *Store) HasRoom(size int64) error {
	var st unix.Statfs_t
	if err := unix.Statfs(s.dir, &st); err != nil {
		return &fs.PathError{Op: "statfs", Path: s.dir, Err: err}
	}
	leave := min(spare, int64(st.Blocks)*st.Bsize/20)
	if free := int64(st.Bavail) * st.Bsize; free < size+leave {
		return fmt.Errorf("it needs %d MiB in %s, and %d MiB that stay free, where %d MiB are free: %w", size>>20, s.dir, leave>>20, free>>20, unix.ENOSPC)
	}
	return nil
}

// Writing tells whether a file of Create is open: something is being packed or fetched.
func (s *Store) Writing() bool { return s.drafts.Load() > 0 }

// close closes a file of Create; fs.ErrClosed if that was done.
func (s *Store) close(draft *os.File) error {
	err := draft.Close()
	if !errors.Is(err, fs.ErrClosed) {
		s.drafts.Add(-1)
	}
	return err
}

// Discard closes and removes a file of Create. After a Commit it does nothing, so it can be
// deferred from the start.
func (s *Store) Discard(draft *os.File) error {
	if err := s.close(draft); errors.Is(err, fs.ErrClosed) {
		return nil
	} else if err != nil {
		return errors.Join(err, os.Remove(draft.Name()))
	}
	return os.Remove(draft.Name())
}

// Commit puts a file of Create, with all that has been written to it, under its hash, which it
// returns, and closes it. It reads the file for that, as no writer can be trusted to know. After an
// error the file is discarded. A hash that is there already is left as it is.
func (s *Store) Commit(ctx context.Context, draft *os.File) (sha256 string, err error) {
	defer func() {
		if err != nil {
			err = errors.Join(fmt.Errorf("commit an artifact: %w", s.full(err)), s.Discard(draft))
		}
	}()
	sum, err := hashOf(ctx, io.NewSectionReader(draft, 0, 1<<62))
	if err != nil {
		return "", err
	}
	if err := draft.Sync(); err != nil {
		return "", err
	}
	if err := s.place(draft.Name(), sum); err != nil {
		return "", err
	}
	if err := errors.Join(s.close(draft), s.sync()); err != nil {
		return "", fmt.Errorf("%w: whether %s would survive a power cut is not sure", err, sum)
	}
	return sum, nil
}

// sync makes names in the directory survive a power cut.
func (s *Store) sync() error { return syncDir(s.dir) }

func syncDir(path string) error {
	dir, err := os.Open(path)
	if err != nil {
		return err
	}
	return errors.Join(dir.Sync(), dir.Close())
}

// Pack packs the tree of the image called name into the store. On a full disk the error tells how
// much would have been needed, as far as can be guessed, and nothing is left behind.
func (s *Store) Pack(ctx context.Context, name, tree string, opts PackOptions) (Summary, error) {
	draft, err := s.Create()
	if err != nil {
		return Summary{}, fmt.Errorf("pack %s: %w", name, err)
	}
	defer s.Discard(draft) //nolint:errcheck // does nothing after Commit; before it, the first error counts
	sum, err := Pack(ctx, tree, draft, opts)
	var short *writeError
	if errors.As(err, &short) && isFull(err) {
		return Summary{}, fmt.Errorf("no space left in %s while packing %s: needs about %d MiB: %w", s.dir, name, short.needed>>20+1, err)
	}
	if err != nil {
		return Summary{}, err
	}
	stored, err := s.Commit(ctx, draft)
	if err != nil {
		return Summary{}, fmt.Errorf("pack %s: %w", name, err)
	}
	if stored != sum.SHA256 {
		err := fmt.Errorf("pack %s: %w: written %s, read back %s: check the disk", name, ErrMismatch, sum.SHA256, stored)
		return Summary{}, errors.Join(err, s.Remove(stored))
	}
	return sum, nil
}

// full gives an error of a full disk the words of one.
func (s *Store) full(err error) error {
	if isFull(err) {
		return fmt.Errorf("no space left in %s: %w", s.dir, err)
	}
	return err
}

func isFull(err error) bool { return errors.Is(err, unix.ENOSPC) || errors.Is(err, unix.EDQUOT) }

// Path is where the artifact with this hash is, or would be. What is no hash has a path that
// never exists.
func (s *Store) Path(sha256 string) string {
	if !isHash(sha256) {
		return filepath.Join(s.dir, "not-a-hash")
	}
	return filepath.Join(s.dir, sha256)
}

// Has tells whether the store holds an artifact, without reading it. One that was set aside it does
// not hold.
func (s *Store) Has(sha256 string) bool {
	if s.isDamaged(sha256) {
		return false
	}
	info, err := os.Lstat(s.Path(sha256))
	return err == nil && info.Mode().IsRegular()
}

// List returns the hashes of all artifacts, in order.
func (s *Store) List() ([]string, error) {
	entries, err := os.ReadDir(s.dir)
	if err != nil {
		return nil, fmt.Errorf("list the store: %w", err)
	}
	var all []string
	for _, e := range entries {
		if isHash(e.Name()) {
			all = append(all, e.Name())
		}
	}
	return all, nil
}

// Remove removes an artifact. That there is none is no error.
func (s *Store) Remove(sha256 string) error {
	err := os.Remove(s.Path(sha256))
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err = errors.Join(err, s.sync()); err != nil {
		return fmt.Errorf("remove an artifact: %w", err)
	}
	return nil
}

// Verify reads an artifact and compares it with its hash: [ErrMismatch] where they differ,
// [fs.ErrNotExist] where there is none.
func (s *Store) Verify(ctx context.Context, sha256 string) error {
	f, err := os.Open(s.Path(sha256))
	if err != nil {
		return fmt.Errorf("verify %s: %w", sha256, err)
	}
	defer f.Close()
	sum, err := hashOf(ctx, f)
	if err != nil {
		return fmt.Errorf("verify %s: %w", sha256, err)
	}
	if sum != sha256 {
		return fmt.Errorf("verify %s: %w: it is %s: remove it and fetch it again", s.Path(sha256), ErrMismatch, sum)
	}
	return nil
}

func hashOf(ctx context.Context, r io.Reader) (string, error) {
	h, buf := sha256.New(), make([]byte, 1<<20)
	for {
		if err := context.Cause(ctx); err != nil {
			return "", err
		}
		n, err := r.Read(buf)
		h.Write(buf[:n])
		if err == io.EOF {
			return hex.EncodeToString(h.Sum(nil)), nil
		} else if err != nil {
			return "", err
		}
	}
}

func isHash(s string) bool {
	return len(s) == 64 && strings.Trim(s, "0123456789abcdef") == ""
}
