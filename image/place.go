package image

import (
	"archive/tar"
	"errors"
	"fmt"
	"path"
	"strings"

	"golang.org/x/sys/unix"
)

// place walks below a root by descriptors, never through a symbolic link, and keeps the last
// directory open, since neighbours in a tar are mostly neighbours in the tree. This is what keeps
// an archive inside its destination whatever it holds. [os.Root] promises the same but has neither
// device nodes nor extended attributes, and walks the whole path for each call; openat2 would do
// it too, but not on the 4.18 kernels of RHEL 8.
//
// A place is for one goroutine.
type place struct {
	root int
	path string // of dir, from the root
	dir  int    // -1: none open
}

func newPlace(root int) *place { return &place{root: root, dir: -1} }

func (p *place) close() {
	if p.dir >= 0 && p.dir != p.root {
		unix.Close(p.dir)
	}
	p.dir = -1
}

// find opens the directory that holds name and returns its descriptor and the name in it. The
// descriptor is the place's, good until the next call. The root itself is "." in itself.
func (p *place) find(name string) (dir int, base string, err error) {
	clean := path.Clean(name)
	if name == "" || path.IsAbs(clean) || clean == ".." || strings.HasPrefix(clean, "../") || strings.ContainsRune(clean, 0) {
		return -1, "", fmt.Errorf("the name '%s' leads out of the tree", name)
	}
	parent, base := path.Split(clean)
	parent = strings.TrimSuffix(parent, "/")
	if p.dir >= 0 && p.path == parent {
		return p.dir, base, nil
	}
	p.close()
	fd := p.root
	for part := range strings.SplitSeq(parent, "/") {
		if part == "" {
			continue
		}
		// Not O_PATH: its descriptors have neither fchown nor fsetxattr on older kernels.
		next, err := unix.Openat(fd, part, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
		if fd != p.root {
			unix.Close(fd)
		}
		if errors.Is(err, unix.ENOTDIR) || errors.Is(err, unix.ELOOP) {
			return -1, "", fmt.Errorf("%s: '%s' on the way to it is not a directory", name, part)
		} else if err != nil {
			return -1, "", fmt.Errorf("%s: %w", name, err)
		}
		fd = next
	}
	p.dir, p.path = fd, parent
	return fd, base, nil
}

// mkdir makes a directory that only root may enter for now, or takes the one that is there, without
// its ACLs: what is made in it would inherit them.
func (p *place) mkdir(name string) error {
	dir, base, err := p.find(name)
	if err != nil {
		return err
	}
	err = unix.Mkdirat(dir, base, 0o700)
	if errors.Is(err, unix.EEXIST) {
		err = takeDir(dir, base)
	}
	if err != nil {
		return fmt.Errorf("%s: %w", name, err)
	}
	return nil
}

func takeDir(dir int, base string) error {
	fd, err := unix.Openat(dir, base, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	if errors.Is(err, unix.ENOTDIR) || errors.Is(err, unix.ELOOP) {
		return errors.New("something that is not a directory is in its place")
	} else if err != nil {
		return err
	}
	defer unix.Close(fd)
	for _, acl := range []string{aclAccess, aclDefault} {
		err := unix.Fremovexattr(fd, acl)
		if err != nil && !errors.Is(err, unix.ENODATA) && !errors.Is(err, unix.ENOTSUP) {
			return fmt.Errorf("remove its ACL: %w", err)
		}
	}
	return nil
}

// create calls mk, once more after removing a file that is in the way.
func create(dir int, base string, mk func() error) error {
	err := mk()
	if errors.Is(err, unix.EEXIST) {
		if err := unix.Unlinkat(dir, base, 0); err != nil {
			return fmt.Errorf("replace what is in its place: %w", err)
		}
		err = mk()
	}
	return err
}

// link makes a further name of a file. The old name is not followed if it is a symbolic link.
func (p *place) link(oldName, newName string) error {
	from := newPlace(p.root)
	defer from.close()
	oldDir, oldBase, err := from.find(oldName)
	if err != nil {
		return err
	}
	dir, base, err := p.find(newName)
	if err != nil {
		return err
	}
	err = create(dir, base, func() error { return unix.Linkat(oldDir, oldBase, dir, base, 0) })
	if err != nil {
		return fmt.Errorf("%s: link to %s: %w", newName, oldName, err)
	}
	return nil
}

// entry makes one file of any type but directory and hard link, with all its attributes. write
// gets the descriptor of a regular file.
func (u *unpacker) entry(at *place, hdr *tar.Header, write func(fd int) error) error {
	dir, base, err := at.find(hdr.Name)
	if err != nil {
		return err
	}
	mode := uint32(hdr.Mode) & 0o7777
	device := int(unix.Mkdev(uint32(hdr.Devmajor), uint32(hdr.Devminor)))
	switch hdr.Typeflag {
	case tar.TypeReg:
		err = u.regular(dir, base, hdr, write)
	case tar.TypeSymlink:
		err = create(dir, base, func() error { return unix.Symlinkat(hdr.Linkname, dir, base) })
	case tar.TypeChar, tar.TypeBlock:
		if u.opts.Unprivileged {
			return nil
		}
		kind := uint32(unix.S_IFCHR)
		if hdr.Typeflag == tar.TypeBlock {
			kind = unix.S_IFBLK
		}
		err = create(dir, base, func() error { return unix.Mknodat(dir, base, kind|mode, device) })
	case tar.TypeFifo:
		err = create(dir, base, func() error { return unix.Mknodat(dir, base, unix.S_IFIFO|mode, 0) })
	default:
		err = corrupt(fmt.Sprintf("an entry of type '%c'", hdr.Typeflag))
	}
	if err == nil && hdr.Typeflag != tar.TypeReg {
		err = u.setSpecial(dir, base, hdr)
	}
	if err == nil {
		err = setTime(dir, base, hdr)
	}
	if err != nil {
		return fmt.Errorf("%s: %w", hdr.Name, err)
	}
	return nil
}

func (u *unpacker) regular(dir int, base string, hdr *tar.Header, write func(fd int) error) (err error) {
	fd := -1
	err = create(dir, base, func() (err error) {
		fd, err = unix.Openat(dir, base, unix.O_WRONLY|unix.O_CREAT|unix.O_EXCL|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0o600)
		return err
	})
	if err != nil {
		return err
	}
	defer func() {
		if cerr := unix.Close(fd); err == nil {
			err = cerr
		}
	}()
	if err := write(fd); err != nil {
		return err
	}
	return u.setOpen(fd, hdr)
}

// setOpen gives an open file owner, mode and attributes, in the order that keeps them: a change of
// owner clears setuid and capabilities, a change of mode rewrites the ACL's mask.
func (u *unpacker) setOpen(fd int, hdr *tar.Header) error {
	if !u.opts.Unprivileged {
		if err := unix.Fchown(fd, hdr.Uid, hdr.Gid); err != nil && !ownerless(fd, err) {
			return fmt.Errorf("set the owner: %w", err)
		}
	}
	if err := unix.Fchmod(fd, uint32(hdr.Mode)&0o7777); err != nil && !ownerless(fd, err) {
		return fmt.Errorf("set the mode: %w", err)
	}
	return u.setXattrs(hdr, func(name string, value []byte) error { return unix.Fsetxattr(fd, name, value, 0) })
}

// setSpecial does for symbolic links, devices and FIFOs what setOpen does for what can be opened.
func (u *unpacker) setSpecial(dir int, base string, hdr *tar.Header) error {
	if !u.opts.Unprivileged {
		if err := unix.Fchownat(dir, base, hdr.Uid, hdr.Gid, unix.AT_SYMLINK_NOFOLLOW); err != nil {
			return fmt.Errorf("set the owner: %w", err)
		}
	}
	if hdr.Typeflag != tar.TypeSymlink {
		if err := unix.Fchmodat(dir, base, uint32(hdr.Mode)&0o7777, 0); err != nil {
			return fmt.Errorf("set the mode: %w", err)
		}
	}
	path := fmt.Sprintf("/proc/self/fd/%d/%s", dir, base) // there is no call for it by descriptor
	return u.setXattrs(hdr, func(name string, value []byte) error { return unix.Lsetxattr(path, name, value, 0) })
}

func (u *unpacker) setXattrs(hdr *tar.Header, set func(name string, value []byte) error) error {
	if len(hdr.PAXRecords) == 0 {
		return nil
	}
	lost, err := setXattrs(hdr.PAXRecords, u.opts.Unprivileged, set)
	u.lost.Add(lost)
	return err
}

func (u *unpacker) setDir(dir int, base string, hdr *tar.Header) error {
	fd, err := unix.Openat(dir, base, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	if err := u.setOpen(fd, hdr); err != nil {
		return err
	}
	return setTime(dir, base, hdr)
}

// setTime sets the modification time, in the end, when nothing else touches the file.
func setTime(dir int, base string, hdr *tar.Header) error {
	mtime := unix.Timespec{Sec: hdr.ModTime.Unix(), Nsec: int64(hdr.ModTime.Nanosecond())}
	times := []unix.Timespec{{Nsec: unix.UTIME_OMIT}, mtime}
	if err := unix.UtimesNanoAt(dir, base, times, unix.AT_SYMLINK_NOFOLLOW); err != nil {
		return fmt.Errorf("set the time: %w", err)
	}
	return nil
}

// ownerless tells whether err only says that a file is on a FAT file system, such as the EFI
// system partition, which has neither owners nor modes.
func ownerless(fd int, err error) bool {
	var st unix.Statfs_t
	return errors.Is(err, unix.EPERM) && unix.Fstatfs(fd, &st) == nil && st.Type == unix.MSDOS_SUPER_MAGIC
}
