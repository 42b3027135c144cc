package image_test

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/clustervision/luna/image"
)

func list(t *testing.T, dir string) []string {
	t.Helper()
	entries, err := os.ReadDir(dir)
	must(t, err)
	var names []string
	for _, e := range entries {
		names = append(names, e.Name())
	}
	return names
}

func TestStoreKeepsWhatIsCommitted(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "a [store]*", "deep")
	s, err := image.Open(dir)
	must(t, err)
	content := bytes.Repeat([]byte("artifact "), 300_000)
	want := fmt.Sprintf("%x", sha256.Sum256(content))
	for range 2 { // the second time it is there already
		f, err := s.Create()
		must(t, err)
		// Pieces of a swarm come in any order.
		_, err = f.WriteAt(content[1000:], 1000)
		must(t, err)
		_, err = f.WriteAt(content[:1000], 0)
		must(t, err)
		if got, err := s.Commit(t.Context(), f); err != nil || got != want {
			t.Fatalf("committed as %s, %v; want %s", got, err, want)
		}
		must(t, s.Discard(f))
	}
	if !s.Has(want) || s.Path(want) != filepath.Join(dir, want) {
		t.Errorf("Has %v, Path %s", s.Has(want), s.Path(want))
	}
	if info, err := os.Stat(s.Path(want)); err != nil || info.Mode() != 0o600 {
		t.Errorf("%v, %v: an artifact holds secrets", info.Mode(), err)
	}
	must(t, s.Verify(t.Context(), want))
	if all, err := s.List(); err != nil || fmt.Sprint(all) != "["+want+"]" {
		t.Errorf("List %v, %v", all, err)
	}

	must(t, os.WriteFile(s.Path(want), append(content, 'x'), 0o600))
	if err := s.Verify(t.Context(), want); !errors.Is(err, image.ErrMismatch) || !strings.Contains(err.Error(), want) {
		t.Errorf("a changed file: %v", err)
	}
	must(t, s.Remove(want))
	must(t, s.Remove(want))
	if s.Has(want) {
		t.Error("removed, and there")
	}
	if err := s.Verify(t.Context(), want); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("no file: %v", err)
	}
}

func TestStoreForgetsDrafts(t *testing.T) {
	dir := t.TempDir()
	s, err := image.Open(dir)
	must(t, err)
	f, err := s.Create()
	must(t, err)
	if all, err := s.List(); err != nil || len(all) != 0 {
		t.Errorf("a draft is listed: %v, %v", all, err)
	}
	must(t, s.Discard(f))
	if left := list(t, dir); len(left) != 0 {
		t.Errorf("discarded, and left: %v", left)
	}
	_, err = s.Create() // and the machine dies
	must(t, err)
	_, err = image.Open(dir)
	must(t, err)
	if left := list(t, dir); len(left) != 0 {
		t.Errorf("after the crash there is still %v", left)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	f, err = s.Create()
	must(t, err)
	if _, err := s.Commit(ctx, f); !errors.Is(err, context.Canceled) {
		t.Errorf("cancelled: %v", err)
	}
	if left := list(t, dir); len(left) != 0 {
		t.Errorf("after a failed commit there is %v", left)
	}
}

func TestStoreTakesHashesOnly(t *testing.T) {
	s, err := image.Open(filepath.Join(t.TempDir(), "store"))
	must(t, err)
	secret := filepath.Join(filepath.Dir(s.Path("")), "..", "secret")
	must(t, os.WriteFile(secret, nil, 0o600))
	for _, name := range []string{"", "../secret", strings.Repeat("A", 64), strings.Repeat("0", 63), "."} {
		if s.Has(name) {
			t.Errorf("has %q", name)
		}
		must(t, s.Remove(name))
	}
	_, err = os.Stat(secret)
	must(t, err)
}

func TestStorePacks(t *testing.T) {
	s, err := image.Open(t.TempDir())
	must(t, err)
	sum, err := s.Pack(t.Context(), "compute", randomTree(t), image.PackOptions{})
	must(t, err)
	must(t, s.Verify(t.Context(), sum.SHA256))
	if _, err := s.Pack(t.Context(), "compute", "/nonexistent", image.PackOptions{}); err == nil || !strings.Contains(err.Error(), "/nonexistent") {
		t.Errorf("got %v", err)
	}
	if all := list(t, filepath.Dir(s.Path(sum.SHA256))); len(all) != 1 {
		t.Errorf("the store has %v", all)
	}
}

func TestStoreOnAFullDisk(t *testing.T) {
	needRoot(t)
	dir, tree := t.TempDir(), randomTree(t)
	must(t, unix.Mount("tmpfs", dir, "tmpfs", 0, "size=9m"))
	t.Cleanup(func() { must(t, unix.Unmount(dir, 0)) })
	s, err := image.Open(dir)
	must(t, err)
	_, err = s.Pack(t.Context(), "compute", tree, image.PackOptions{})
	if err == nil || !errors.Is(err, unix.ENOSPC) {
		t.Fatalf("got %v, want no space", err)
	}
	want := regexp.MustCompile(`^no space left in ` + dir + ` while packing compute: needs about (\d+) MiB: `)
	m := want.FindStringSubmatch(err.Error())
	if m == nil {
		t.Fatalf("got %q", err)
	}
	var n int
	_, err = fmt.Sscan(m[1], &n)
	must(t, err)
	if n < 12 || n > 32 { // it would be 16
		t.Errorf("said to need %d MiB", n)
	}
	if left := list(t, dir); len(left) != 0 {
		t.Errorf("left behind: %v", left)
	}
}
