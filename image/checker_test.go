package image_test

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/pkg/xattr"
)

// seen is everything the checker can see of a file. It shares no code with the package: lstat
// and the xattr library tell what there is.
type seen struct {
	Mode    string
	Owner   string
	Mtime   string
	Rdev    uint64
	Target  string
	Size    int64
	Content string
	Xattrs  map[string]string
	Links   []string // all names of the inode
	Holes   string   // the blocks of 4 KiB without data that the file system reports
}

// look walks a tree and describes every file in it.
func look(t testing.TB, root string) map[string]seen {
	t.Helper()
	all := map[string]seen{}
	names := map[uint64][]string{}
	inodes := map[string]uint64{}
	err := filepath.WalkDir(root, func(path string, _ fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		rel, err := filepath.Rel(root, path)
		if err != nil {
			return err
		}
		var st syscall.Stat_t
		if err := syscall.Lstat(path, &st); err != nil {
			return err
		}
		s := seen{
			Mode:  fmt.Sprintf("%o", st.Mode),
			Owner: fmt.Sprintf("%d:%d", st.Uid, st.Gid),
			Mtime: fmt.Sprintf("%d.%09d", st.Mtim.Sec, st.Mtim.Nsec),
			Rdev:  uint64(st.Rdev),
		}
		switch st.Mode & syscall.S_IFMT {
		case syscall.S_IFREG:
			s.Size = st.Size
			if s.Content, s.Holes, err = content(path); err != nil {
				return err
			}
		case syscall.S_IFLNK:
			if s.Target, err = os.Readlink(path); err != nil {
				return err
			}
		}
		keys, err := xattr.LList(path)
		if err != nil {
			return err
		}
		for _, k := range keys {
			v, err := xattr.LGet(path, k)
			if err != nil {
				return err
			}
			if s.Xattrs == nil {
				s.Xattrs = map[string]string{}
			}
			s.Xattrs[k] = hex.EncodeToString(v)
		}
		if st.Mode&syscall.S_IFMT != syscall.S_IFDIR {
			names[st.Ino] = append(names[st.Ino], rel)
			inodes[rel] = st.Ino
		}
		all[rel] = s
		return nil
	})
	if err != nil {
		t.Fatalf("look at %s: %v", root, err)
	}
	for rel, ino := range inodes {
		s := all[rel]
		s.Links = names[ino]
		slices.Sort(s.Links)
		all[rel] = s
	}
	return all
}

// content returns the hash of a file and the runs of 4 KiB blocks that lie in holes.
func content(path string) (sum, holes string, err error) {
	f, err := os.Open(path)
	if err != nil {
		return "", "", err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return "", "", err
	}
	h := sha256.New()
	if info.Size() < 1<<30 { // a huge sparse file is known by its data alone
		if _, err := io.Copy(h, f); err != nil {
			return "", "", err
		}
	}
	var b strings.Builder
	const seekData, seekHole = 3, 4
	for at := int64(0); at < info.Size(); {
		hole, err := f.Seek(at, seekHole)
		if err != nil || hole >= info.Size() {
			break
		}
		data, err := f.Seek(hole, seekData)
		if err != nil {
			data = info.Size()
		} else if info.Size() >= 1<<30 {
			if _, err := io.Copy(h, io.NewSectionReader(f, data, 4096)); err != nil {
				return "", "", err
			}
		}
		fmt.Fprintf(&b, "%d-%d ", hole, data)
		at = data
	}
	return hex.EncodeToString(h.Sum(nil)), b.String(), nil
}

// sameTree fails the test unless both trees look the same, but for what the given functions change.
func sameTree(t testing.TB, want, got string, forget ...func(map[string]seen)) {
	t.Helper()
	a, b := look(t, want), look(t, got)
	for _, f := range forget {
		f(a)
		f(b)
	}
	if diff := cmp.Diff(a, b); diff != "" {
		t.Errorf("the trees differ (-want +got):\n%s", diff)
	}
}

// needRoot skips for an ordinary user and fails where root lacks a tool of `make deps`.
func needRoot(t testing.TB, tools ...string) {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("needs root: makes devices, owners, mounts")
	}
	for _, tool := range tools {
		if _, err := exec.LookPath(tool); err != nil {
			t.Fatalf("%s is missing: run 'make deps'", tool)
		}
	}
}

func run(t testing.TB, name string, args ...string) string {
	t.Helper()
	out, err := exec.Command(name, args...).CombinedOutput()
	if err != nil {
		t.Fatalf("%s %s: %v\n%s", name, strings.Join(args, " "), err, out)
	}
	return string(out)
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}
