package site

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"
)

// SameTree tells whether everything in the tree "want" is in "got" as well, with
// its type, mode, owner and content, but for the paths in except, which the
// installer writes. It has nothing in common with the packer and the unpacker.
func SameTree(want, got string, except ...string) error {
	skip := map[string]bool{}
	for _, p := range except {
		skip[p] = true
	}
	return filepath.WalkDir(want, func(p string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		rel, err := filepath.Rel(want, p)
		if err != nil || skip[rel] {
			return err
		}
		q := filepath.Join(got, rel)
		a, err := os.Lstat(p)
		if err != nil {
			return err
		}
		b, err := os.Lstat(q)
		if err != nil {
			return err
		}
		if a.Mode()&fs.ModeSocket != 0 {
			return nil
		}
		x, y := a.Sys().(*syscall.Stat_t), b.Sys().(*syscall.Stat_t)
		if rel != "." && (x.Mode != y.Mode || x.Uid != y.Uid || x.Gid != y.Gid || x.Rdev != y.Rdev) {
			return fmt.Errorf("%s: mode %o owner %d:%d, want %o %d:%d", rel, y.Mode, y.Uid, y.Gid, x.Mode, x.Uid, x.Gid)
		}
		switch {
		case a.Mode().IsRegular():
			return sameContent(p, q)
		case a.Mode()&fs.ModeSymlink != 0:
			s, err1 := os.Readlink(p)
			t, err2 := os.Readlink(q)
			if s != t {
				return fmt.Errorf("%s: link to %s, want %s", rel, t, s)
			}
			return errors.Join(err1, err2)
		}
		return nil
	})
}

func sameContent(p, q string) error {
	a, err := os.Open(p)
	if err != nil {
		return err
	}
	defer a.Close()
	b, err := os.Open(q)
	if err != nil {
		return err
	}
	defer b.Close()
	x, y := make([]byte, 1<<16), make([]byte, 1<<16)
	for {
		n, err1 := io.ReadFull(a, x)
		m, err2 := io.ReadFull(b, y)
		if n != m || !bytes.Equal(x[:n], y[:m]) {
			return fmt.Errorf("%s: the content differs", q)
		}
		if err1 != nil {
			if errors.Is(err1, io.EOF) || errors.Is(err1, io.ErrUnexpectedEOF) {
				return nil
			}
			return errors.Join(err1, err2)
		}
	}
}
