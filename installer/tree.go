package installer

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"slices"

	"golang.org/x/sys/unix"
)

// tree is the unpacked image. All paths are relative to it, and no link in it
// leads out of it.
type tree struct {
	root *os.Root
}

func openTree(dir string) (tree, error) {
	root, err := os.OpenRoot(dir)
	if err != nil {
		return tree{}, fmt.Errorf("open the tree: %w", err)
	}
	return tree{root}, nil
}

func (t tree) close() error { return t.root.Close() }

// has tells whether any of the paths is there; the last link is not followed.
func (t tree) has(paths ...string) bool {
	return slices.ContainsFunc(paths, func(p string) bool {
		_, err := t.root.Lstat(p)
		return err == nil
	})
}

// enabled tells whether systemd starts the unit at boot: some target or other
// unit wants it.
func (t tree) enabled(unit string) bool {
	// The wildcard at the end makes Glob list the folders; the links in them
	// are absolute, and must not be followed.
	links, err := fs.Glob(t.root.FS(), "etc/systemd/system/*.wants/*")
	return err == nil && slices.ContainsFunc(links, func(p string) bool { return path.Base(p) == unit })
}

// enable has systemd start the unit at boot, as `systemctl enable` would.
func (t tree) enable(unit string) error {
	const wants = "etc/systemd/system/multi-user.target.wants"
	file := "/usr/lib/systemd/system/" + unit
	if !t.has(file[1:]) { // a tree without merged /usr
		file = "/lib/systemd/system/" + unit
	}
	err := t.root.MkdirAll(wants, 0o755)
	if err == nil {
		err = t.root.Symlink(file, wants+"/"+unit)
	}
	if err != nil && !errors.Is(err, fs.ErrExist) {
		return fmt.Errorf("enable %s: %w", unit, err)
	}
	return nil
}

// write puts a file there, or replaces what is there, link or file, and gives
// it the SELinux label of what it replaces: without one, an enforcing system
// cannot read it, and no policy is loaded yet that would give it one.
func (t tree) write(name, text string, mode fs.FileMode) error {
	dir := path.Dir(name)
	if err := t.root.MkdirAll(dir, 0o755); err != nil {
		return fmt.Errorf("write /%s: %w", name, err)
	}
	label := t.label(name)
	if label == nil {
		label = t.label(dir)
	}
	temp := path.Join(dir, ".luna-install."+path.Base(name))
	err := t.create(temp, text, mode, label)
	if err == nil {
		err = t.root.Rename(temp, name)
	}
	if err != nil {
		_ = t.root.Remove(temp)
		return fmt.Errorf("write /%s: %w", name, err)
	}
	return nil
}

func (t tree) create(name, text string, mode fs.FileMode, label []byte) error {
	_ = t.root.Remove(name) // of an attempt that was interrupted
	f, err := t.root.OpenFile(name, os.O_CREATE|os.O_EXCL|os.O_WRONLY, mode)
	if err != nil {
		return err
	}
	defer f.Close()
	if _, err := f.WriteString(text); err != nil {
		return err
	}
	if err := f.Chmod(mode); err != nil { // whatever the umask is
		return err
	}
	if label != nil {
		if err := unix.Fsetxattr(int(f.Fd()), selinux, label, 0); err != nil && !errors.Is(err, unix.ENOTSUP) {
			return fmt.Errorf("label it: %w", err)
		}
	}
	return f.Close()
}

const selinux = "security.selinux"

// label reads the SELinux label of a file or folder; nil if it has none.
func (t tree) label(name string) []byte {
	if st, err := t.root.Lstat(name); err != nil || !st.Mode().IsRegular() && !st.IsDir() {
		return nil
	}
	f, err := t.root.Open(name)
	if err != nil {
		return nil
	}
	defer f.Close()
	buf := make([]byte, 1024)
	n, err := unix.Fgetxattr(int(f.Fd()), selinux, buf)
	if err != nil {
		return nil
	}
	return buf[:n]
}

// removeOthers removes the files that a pattern finds, but for those in keep.
func (t tree) removeOthers(pattern string, keep []string) error {
	found, err := fs.Glob(t.root.FS(), pattern)
	if err != nil {
		return fmt.Errorf("look for /%s: %w", pattern, err)
	}
	for _, name := range found {
		if slices.Contains(keep, name) {
			continue
		}
		if err := t.root.Remove(name); err != nil {
			return fmt.Errorf("remove /%s: %w", name, err)
		}
	}
	return nil
}
