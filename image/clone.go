package image

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"

	"golang.org/x/sync/errgroup"
	"golang.org/x/sys/unix"
)

// copyStep is how much of a file is copied between two looks at the context.
const copyStep = 1 << 20

// Clone copies the tree below the directory from to the path to, where nothing may be yet but an
// empty directory that is no mount point. All that the package comment says of what an artifact keeps,
// of a consistent tree and of mounts below it is true of a clone. Where the file system can share
// blocks between files (XFS, Btrfs) they are shared, and a clone takes neither time nor room for them.
//
// The tree appears at to whole and on disk, or not at all: it grows beside it in a hidden directory,
// which goes when Clone fails or ctx ends. One that a killed process left is removed by the next
// Clone to the same path.
//
// progress, if not nil, hears of the bytes copied and in all, and of the path at hand, at most ten
// times a second and once at the end. It must return quickly.
func Clone(ctx context.Context, from, to string, progress func(done, total int64, message string)) error {
	c := &cloner{progress: meter{report: progress}}
	err := c.clone(ctx, from, to)
	if errors.Is(err, unix.ENOSPC) {
		err = fmt.Errorf("needs about %d MiB: %w", c.progress.total>>20+1, err)
	}
	if err != nil {
		return fmt.Errorf("clone %s to %s: %w", from, to, err)
	}
	return nil
}

type cloner struct {
	from *root
	to   *unpacker

	mu       sync.Mutex
	progress meter
}

func (c *cloner) clone(ctx context.Context, from, to string) error {
	to, err := cloneTarget(from, to)
	if err != nil {
		return err
	}
	if c.from, err = openRoot(from); err != nil {
		return err
	}
	defer c.from.close()
	entries, err := c.from.scan(ctx, nil)
	if err != nil {
		return err
	}
	draft, err := openDraft(to)
	if err != nil {
		return err
	}
	defer draft.Close() // and with it the lock
	c.to = &unpacker{root: int(draft.Fd())}
	err = c.copyTree(ctx, entries)
	if err == nil {
		// A tree with empty files after a power cut would look whole.
		err = unix.Syncfs(c.to.root)
	}
	if err == nil {
		err = unix.Rename(draft.Name(), to) // os.Rename would not replace an empty directory
	}
	if err != nil {
		return errors.Join(err, os.RemoveAll(draft.Name()))
	}
	c.progress.finish()
	parent, err := os.Open(filepath.Dir(to))
	if err != nil {
		return err
	}
	return errors.Join(parent.Sync(), parent.Close())
}

// cloneTarget checks that a tree can be cloned to a path, which it returns without links on the way.
func cloneTarget(from, to string) (string, error) {
	from, err := filepath.Abs(from)
	if err == nil {
		from, err = filepath.EvalSymlinks(from)
	}
	if err != nil {
		return "", err
	}
	if to, err = filepath.Abs(to); err != nil {
		return "", err
	}
	parent, err := filepath.EvalSymlinks(filepath.Dir(to))
	if err != nil {
		return "", fmt.Errorf("%w: make the directory first", err)
	}
	to = filepath.Join(parent, filepath.Base(to))
	if rel, err := filepath.Rel(from, to); err == nil && filepath.IsLocal(rel) {
		return "", errors.New("the target is inside the tree: choose another path")
	}
	var st, above unix.Stat_t
	if err := unix.Lstat(to, &st); errors.Is(err, unix.ENOENT) {
		return to, nil
	} else if err != nil {
		return "", err
	}
	left, err := os.ReadDir(to)
	if err != nil || len(left) > 0 || st.Mode&unix.S_IFMT != unix.S_IFDIR {
		return "", errors.New("the target is there and is not an empty directory: choose another path")
	}
	if err := unix.Stat(parent, &above); err != nil || above.Dev != st.Dev {
		return "", errors.New("the target is a mount point, which nothing can take the place of: choose a path below it")
	}
	return to, nil
}

// openDraft opens the directory in which a clone grows, empty and locked against other clones.
func openDraft(to string) (*os.File, error) {
	name := filepath.Join(filepath.Dir(to), "."+filepath.Base(to)+".cloning")
	if err := os.Mkdir(name, 0o700); err != nil && !errors.Is(err, os.ErrExist) {
		return nil, err
	}
	fd, err := unix.Open(name, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	draft := os.NewFile(uintptr(fd), name)
	err = unix.Flock(fd, unix.LOCK_EX|unix.LOCK_NB)
	var locked, named unix.Stat_t
	if err == nil {
		err = errors.Join(unix.Fstat(fd, &locked), unix.Lstat(name, &named))
	}
	// Another clone may have ended, and taken the directory along, between our looks at it.
	if err != nil || locked.Ino != named.Ino {
		return nil, errors.Join(errors.New("another clone to it is under way: wait for its end"), err, draft.Close())
	}
	left, err := draft.Readdirnames(-1)
	for _, l := range left {
		err = errors.Join(err, os.RemoveAll(filepath.Join(name, l)))
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("remove what an earlier clone left: %w", err), draft.Close())
	}
	return draft, nil
}

// copyTree makes directories first, then all else on several goroutines, then hard links.
func (c *cloner) copyTree(ctx context.Context, entries []entry) error {
	at := newPlace(c.to.root)
	defer at.close()
	var files []*entry
	for i := range entries {
		e := &entries[i]
		c.progress.total += e.weight()
		if !e.isDir() && e.first == "" {
			files = append(files, e)
			continue
		}
		f, err := c.from.open(e)
		if err == nil && f.hdr != nil && e.isDir() {
			c.to.dirs = append(c.to.dirs, f.hdr)
			err = at.mkdir(f.hdr.Name)
		} else if err == nil && f.hdr != nil {
			c.to.link = append(c.to.link, f.hdr)
		}
		if err != nil {
			return fmt.Errorf("%s: %w", e.name(), err)
		}
	}

	g, ctx := errgroup.WithContext(ctx)
	var next atomic.Int64
	for range min(max(2, maxWorkers()), 8) {
		g.Go(func() error {
			at, buf := newPlace(c.to.root), make([]byte, copyStep)
			defer at.close()
			for i := next.Add(1) - 1; i < int64(len(files)); i = next.Add(1) - 1 {
				if err := c.copyEntry(ctx, at, files[i], buf); err != nil {
					return err
				}
			}
			return nil
		})
	}
	if err := g.Wait(); err != nil {
		return err
	}
	if err := c.to.finish(); err != nil {
		return err
	}
	if n := c.to.lost.Load(); n > 0 {
		return fmt.Errorf("its file system cannot hold %d extended attributes of the tree: choose another one", n)
	}
	return nil
}

// copyEntry copies anything but a directory or a further hard link.
func (c *cloner) copyEntry(ctx context.Context, at *place, e *entry, buf []byte) error {
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	f, err := c.from.open(e)
	if err != nil {
		return fmt.Errorf("%s: %w", e.name(), err)
	}
	if f.hdr == nil { // a socket
		return nil
	}
	err = c.to.entry(at, f.hdr, func(out int) error { return c.content(ctx, f.fd, out, e, buf) })
	if changed := f.close(); err == nil && changed != nil {
		err = fmt.Errorf("%s: %w", e.name(), changed)
	}
	return err
}

// content gives the file behind out the content of in, by sharing its blocks if that can be.
func (c *cloner) content(ctx context.Context, in *os.File, out int, e *entry, buf []byte) error {
	size := e.stat.Size
	if size == 0 || unix.IoctlFileClone(out, int(in.Fd())) == nil {
		c.step(e.weight(), e)
		return nil
	}
	data := []extent{{0, size}}
	if e.stat.Blocks*512 < size {
		sparse, err := findSparse(in, size)
		if err != nil {
			return fmt.Errorf("find holes: %w", bare(err))
		}
		if sparse != nil {
			data = sparse.data
			if err := unix.Ftruncate(out, size); err != nil {
				return err
			}
		}
	}
	left := e.weight()
	for _, x := range data {
		for end := x.off + x.length; x.off < end; {
			if ctx.Err() != nil {
				return context.Cause(ctx)
			}
			n, err := in.ReadAt(buf[:min(int64(len(buf)), end-x.off)], x.off)
			if n == 0 {
				return errors.Join(errChanged, bare(err))
			}
			if err := writeAt(out, buf[:n], x.off); err != nil {
				return err
			}
			x.off += int64(n)
			step := min(left, int64(n)) // blocks of zeros in a file's data are in neither sum
			left -= step
			c.step(step, e)
		}
	}
	c.step(left, e)
	return nil
}

func (c *cloner) step(n int64, e *entry) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.progress.step(n, e.name())
}
