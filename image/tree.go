package image

import (
	"archive/tar"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path"
	"slices"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// root is the top of a tree that is packed.
type root struct {
	fd     *os.File
	path   string // through /proc/self/fd, so that paths below start at fd and not at its name
	cloned bool   // fd is a private mount of the tree without the mounts below it
}

// openRoot opens a tree. As root on Linux 5.2 or newer it clones the tree's mount, not its
// submounts: what an administrator has mounted in the tree (/proc while he works in a chroot)
// vanishes, and the directory under it is seen as it is on every other head.
func openRoot(tree string) (*root, error) {
	fd, cloned := -1, false
	err := unix.Stat(tree, new(unix.Stat_t))
	if err == nil {
		fd, err = unix.OpenTree(unix.AT_FDCWD, tree, unix.OPEN_TREE_CLONE|unix.OPEN_TREE_CLOEXEC)
		cloned = err == nil
		if cloned {
			// Reading a link or a directory would move its access time. Before 5.12 it does.
			_ = unix.MountSetattr(fd, "", unix.AT_EMPTY_PATH, &unix.MountAttr{
				Attr_set: unix.MOUNT_ATTR_NOATIME | unix.MOUNT_ATTR_RDONLY, Attr_clr: unix.MOUNT_ATTR__ATIME,
			})
		} else {
			fd, err = unix.Open(tree, unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
		}
	}
	if err != nil {
		return nil, fmt.Errorf("open the tree: %w", err)
	}
	r := &root{fd: os.NewFile(uintptr(fd), tree), path: fmt.Sprintf("/proc/self/fd/%d", fd), cloned: cloned}
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil || st.Mode&unix.S_IFMT != unix.S_IFDIR {
		return nil, errors.Join(errors.New("open the tree: it is not a directory"), err, r.fd.Close())
	}
	return r, nil
}

func (r *root) close() error { return r.fd.Close() }

func (r *root) at(rel string) string { return r.path + "/" + rel }

// entry is a file of the tree as it was when packing began.
type entry struct {
	path string // from the root, without a leading slash; empty for the root itself
	stat unix.Stat_t
	// first is the first path of the same inode where that is not this one. Empty for the others.
	first string
}

func (e *entry) isDir() bool  { return e.stat.Mode&unix.S_IFMT == unix.S_IFDIR }
func (e *entry) isFile() bool { return e.stat.Mode&unix.S_IFMT == unix.S_IFREG }

// name is how errors call the entry.
func (e *entry) name() string { return "/" + e.path }

// weight is the entry's share of the progress: the bytes of content, holes not counted.
func (e *entry) weight() int64 {
	if !e.isFile() || e.first != "" {
		return 0
	}
	return min(e.stat.Size, e.stat.Blocks*512)
}

// scan lists the tree in the order of [comparePaths].
func (r *root) scan(ctx context.Context, exclude []string) ([]entry, error) {
	left, err := newExcluder(exclude)
	if err != nil {
		return nil, err
	}
	entries := []entry{{}}
	if err := unix.Lstat(r.at("."), &entries[0].stat); err != nil {
		return nil, fmt.Errorf("/: %w", err)
	}
	dev := entries[0].stat.Dev
	for i := 0; i < len(entries); i++ { // entries grows as directories are met
		dir := entries[i]
		// In a clone another device is a subvolume and belongs to the tree; else it is a mount.
		if !dir.isDir() || !r.cloned && dir.stat.Dev != dev {
			continue
		}
		if err := context.Cause(ctx); err != nil {
			return nil, err
		}
		names, err := r.list(&dir)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", dir.name(), err)
		}
		for _, name := range names {
			e := entry{path: path.Join(dir.path, name)}
			if left.out(e.path, name) {
				continue
			}
			if err := unix.Lstat(r.at(e.path), &e.stat); err != nil {
				return nil, fmt.Errorf("%s: %w", e.name(), vanished(err))
			}
			entries = append(entries, e)
		}
	}
	slices.SortFunc(entries, func(a, b entry) int { return comparePaths(a.path, b.path) })
	findLinks(entries)
	return entries, nil
}

// comparePaths orders by the bytes of the paths, '/' before all others. So what is in a directory
// follows it at once ("a", "a/b", "a-b"), on which GNU tar relies when it sets directories' times.
func comparePaths(a, b string) int {
	for i := range min(len(a), len(b)) {
		switch {
		case a[i] == b[i]:
		case a[i] == '/':
			return -1
		case b[i] == '/':
			return 1
		default:
			return cmp.Compare(a[i], b[i])
		}
	}
	return cmp.Compare(len(a), len(b))
}

// findLinks notes which entries are further names of an inode.
func findLinks(entries []entry) {
	type inode struct{ dev, ino uint64 }
	firsts := map[inode]string{}
	for i := range entries {
		e := &entries[i]
		if e.stat.Nlink < 2 || e.isDir() {
			continue
		}
		id := inode{uint64(e.stat.Dev), e.stat.Ino}
		if first, seen := firsts[id]; seen {
			e.first = first
		} else {
			firsts[id] = e.path
		}
	}
}

func (r *root) list(dir *entry) ([]string, error) {
	fd, err := openQuietly(r.at(dir.path), unix.O_DIRECTORY)
	if err != nil {
		return nil, vanished(err)
	}
	defer fd.Close()
	names, err := fd.Readdirnames(-1)
	if err != nil {
		return nil, fmt.Errorf("list: %w", bare(err))
	}
	return names, nil
}

// file is an entry ready to be written: its header, and its content in data or behind fd.
type file struct {
	entry  *entry
	hdr    *tar.Header // nil: nothing of it goes into a tar
	data   []byte
	fd     *os.File
	sparse *sparseMap // nil for a file without holes
	opened *os.File   // to be closed, and checked, when the content is written
}

// close ends the use of a file and tells whether it stayed the same to the end.
func (f *file) close() error {
	if f.opened == nil {
		return nil
	}
	defer f.opened.Close()
	var now unix.Stat_t
	if err := unix.Fstat(int(f.opened.Fd()), &now); err != nil {
		return fmt.Errorf("stat: %w", err)
	}
	if !sameInode(&now, &f.entry.stat) {
		return errChanged
	}
	return nil
}

// read makes an entry ready to be written. Several goroutines do it ahead of the writing one.
func (r *root) read(e *entry) (*file, error) {
	f, err := r.readEntry(e)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", e.name(), err)
	}
	return f, nil
}

func (r *root) readEntry(e *entry) (*file, error) {
	f, err := r.open(e)
	if err == nil && f.fd != nil {
		if err = f.load(); err != nil && f.opened != nil {
			f.opened.Close()
		}
	}
	return f, err
}

// open opens a regular file, and makes the header of any entry that is still what it was. What it
// returns without an error is to be closed.
func (r *root) open(e *entry) (*file, error) {
	f := &file{entry: e}
	var now unix.Stat_t
	if e.isFile() && e.first == "" {
		fd, err := openQuietly(r.at(e.path), 0)
		if err != nil {
			return nil, vanished(err)
		}
		f.fd, f.opened = fd, fd
		if err := unix.Fstat(int(fd.Fd()), &now); err != nil {
			return nil, errors.Join(err, fd.Close())
		}
	} else if err := unix.Lstat(r.at(e.path), &now); err != nil {
		return nil, vanished(err)
	}
	err := errChanged
	if sameInode(&now, &e.stat) {
		f.hdr, err = r.header(e)
	}
	if err != nil && f.opened != nil {
		f.opened.Close()
	}
	return f, err
}

// load reads a small file, finds the holes of a sparse one, and asks the kernel to fetch a large one.
func (f *file) load() error {
	size := f.entry.stat.Size
	if f.entry.stat.Blocks*512 < size {
		sparse, err := findSparse(f.fd, size)
		if err != nil {
			return fmt.Errorf("find holes: %w", bare(err))
		}
		if sparse != nil {
			f.sparse = sparse
			return nil
		}
	}
	if size > smallFile {
		// A hint: where it fails, reading is only slower.
		_ = unix.Fadvise(int(f.fd.Fd()), 0, 8<<20, unix.FADV_WILLNEED)
		return nil
	}
	f.data = make([]byte, size)
	if _, err := io.ReadFull(f.fd, f.data); err != nil {
		if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
			return errChanged
		}
		return fmt.Errorf("read: %w", bare(err))
	}
	fd := f.opened
	f.fd, f.opened = nil, nil
	return (&file{entry: f.entry, opened: fd}).close()
}

// header is the entry's tar header, nil for what no tar can hold.
func (r *root) header(e *entry) (*tar.Header, error) {
	st := &e.stat
	hdr := &tar.Header{
		Name:    e.path,
		Mode:    int64(st.Mode & 0o7777),
		Uid:     int(st.Uid),
		Gid:     int(st.Gid),
		ModTime: time.Unix(st.Mtim.Sec, st.Mtim.Nsec),
		Format:  tar.FormatPAX, // or archive/tar rounds times to seconds
	}
	if e.first != "" && st.Mode&unix.S_IFMT != unix.S_IFSOCK {
		hdr.Typeflag, hdr.Linkname = tar.TypeLink, e.first
		return hdr, nil
	}
	switch st.Mode & unix.S_IFMT {
	case unix.S_IFREG:
		hdr.Typeflag, hdr.Size = tar.TypeReg, st.Size
	case unix.S_IFDIR:
		hdr.Typeflag, hdr.Name = tar.TypeDir, path.Join(".", e.path)+"/"
	case unix.S_IFLNK:
		target, err := os.Readlink(r.at(e.path))
		if err != nil {
			return nil, fmt.Errorf("read the link: %w", bare(err))
		}
		hdr.Typeflag, hdr.Linkname = tar.TypeSymlink, target
	case unix.S_IFCHR, unix.S_IFBLK:
		hdr.Typeflag = tar.TypeChar
		if st.Mode&unix.S_IFMT == unix.S_IFBLK {
			hdr.Typeflag = tar.TypeBlock
		}
		hdr.Devmajor, hdr.Devminor = int64(unix.Major(uint64(st.Rdev))), int64(unix.Minor(uint64(st.Rdev)))
	case unix.S_IFIFO:
		hdr.Typeflag = tar.TypeFifo
	case unix.S_IFSOCK:
		return nil, nil
	default:
		return nil, fmt.Errorf("a file of unknown type %o", st.Mode&unix.S_IFMT)
	}
	var err error
	if hdr.PAXRecords, err = xattrRecords(r.at(e.path)); err != nil {
		return nil, err
	}
	return hdr, nil
}

// openQuietly opens without following a link at the end and without touching the access time,
// which the kernel allows to root and owner only.
func openQuietly(path string, flags int) (*os.File, error) {
	flags |= unix.O_RDONLY | unix.O_NOFOLLOW | unix.O_CLOEXEC | unix.O_NONBLOCK
	fd, err := unix.Open(path, flags|unix.O_NOATIME, 0)
	if errors.Is(err, unix.EPERM) {
		fd, err = unix.Open(path, flags, 0)
	}
	if err != nil {
		return nil, err
	}
	return os.NewFile(uintptr(fd), path), nil
}

// vanished gives a file that is not there any more, or not the same, the error of one that changed.
func vanished(err error) error {
	if errors.Is(err, unix.ENOENT) || errors.Is(err, unix.ELOOP) || errors.Is(err, unix.ENOTDIR) {
		return fmt.Errorf("%w (%w)", errChanged, err)
	}
	return err
}

// bare strips the /proc/self/fd path of an error: whoever reads it knows the file by another name.
func bare(err error) error {
	var pathErr *os.PathError
	if errors.As(err, &pathErr) {
		return pathErr.Err
	}
	return err
}

// excluder tells what PackOptions.Exclude leaves out.
type excluder struct{ paths, names []string }

func newExcluder(patterns []string) (excluder, error) {
	var x excluder
	for _, p := range patterns {
		trimmed := strings.Trim(p, "/")
		if _, err := path.Match(trimmed, ""); err != nil || trimmed == "" {
			return x, fmt.Errorf("the exclude pattern '%s' is not valid: use names, /paths, * and ?", p)
		}
		if strings.Contains(strings.TrimSuffix(p, "/"), "/") {
			x.paths = append(x.paths, trimmed)
		} else {
			x.names = append(x.names, trimmed)
		}
	}
	return x, nil
}

func (x excluder) out(rel, name string) bool {
	match := func(patterns []string, s string) bool {
		return slices.ContainsFunc(patterns, func(p string) bool { ok, _ := path.Match(p, s); return ok })
	}
	return match(x.paths, rel) || match(x.names, name)
}
