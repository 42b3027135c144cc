package dns

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// tree reads the regular files under dir.
func tree(t *testing.T, dir string) map[string]string {
	t.Helper()
	found := map[string]string{}
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		text, err := os.ReadFile(path)
		found[strings.TrimPrefix(path, dir+"/")] = string(text)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return found
}

func put(t *testing.T, path, text string) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

// Old zone files of Luna go, what is not Luna's stays.
func TestWriteReplacesItsOwnFilesOnly(t *testing.T) {
	dir := t.TempDir()
	zones := filepath.Join(dir, "zones")
	for _, name := range []string{"zones/gone.luna.zone", "zones/a.luna.zone", "zones/named.ca", "zones/x.luna.zone.bak", "zones/d.luna.zone/inner.luna.zone", "etc/other"} {
		put(t, filepath.Join(dir, name), "old")
	}
	files := []File{
		{filepath.Join(zones, "a.luna.zone"), "new a"},
		{filepath.Join(zones, "b.luna.zone"), "new b"},
		{filepath.Join(dir, "etc/named.luna.zones"), "new include"},
	}
	for range 2 {
		if err := Write(files, zones); err != nil {
			t.Fatal(err)
		}
		want := map[string]string{
			"zones/a.luna.zone": "new a", "zones/b.luna.zone": "new b", "etc/named.luna.zones": "new include",
			"zones/named.ca": "old", "zones/x.luna.zone.bak": "old", "zones/d.luna.zone/inner.luna.zone": "old", "etc/other": "old",
		}
		if diff := cmp.Diff(want, tree(t, dir)); diff != "" {
			t.Fatal(diff)
		}
	}
}

// A file that cannot be replaced stays as it was, and nothing is left beside it.
func TestWriteFailsWhole(t *testing.T) {
	dir := t.TempDir()
	put(t, filepath.Join(dir, "a.luna.zone", "in the way"), "old")
	err := Write([]File{{filepath.Join(dir, "a.luna.zone"), "new"}}, dir)
	if err == nil || !strings.Contains(err.Error(), filepath.Join(dir, "a.luna.zone")) {
		t.Errorf("got %v", err)
	}
	if diff := cmp.Diff(map[string]string{"a.luna.zone/in the way": "old"}, tree(t, dir)); diff != "" {
		t.Error(diff)
	}
	none := filepath.Join(dir, "none")
	err = Write([]File{{filepath.Join(none, "a.luna.zone"), "new"}}, none)
	if !errors.Is(err, fs.ErrNotExist) || !strings.Contains(err.Error(), "there is no directory "+none) {
		t.Errorf("got %v", err)
	}
}

func TestOwners(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("needs root: files are given to another account")
	}
	dir := t.TempDir()
	zone, include := filepath.Join(dir, "a.luna.zone"), filepath.Join(dir, "include")
	for _, test := range []struct {
		to              account
		zone, include   [2]uint32
		zoneMode, iMode fs.FileMode
	}{
		{account{25, 26, true}, [2]uint32{25, 26}, [2]uint32{0, 26}, 0o640, 0o640},
		{account{}, [2]uint32{0, 0}, [2]uint32{0, 0}, 0o644, 0o644},
	} {
		if err := write([]File{{zone, "z"}, {include, "i"}}, dir, test.to); err != nil {
			t.Fatal(err)
		}
		for path, want := range map[string]struct {
			owner [2]uint32
			mode  fs.FileMode
		}{zone: {test.zone, test.zoneMode}, include: {test.include, test.iMode}} {
			info, err := os.Stat(path)
			if err != nil {
				t.Fatal(err)
			}
			s := info.Sys().(*syscall.Stat_t)
			if got := [2]uint32{s.Uid, s.Gid}; got != want.owner || info.Mode() != want.mode {
				t.Errorf("%s: owner %v mode %v, want %v %v", path, got, info.Mode(), want.owner, want.mode)
			}
		}
	}
	if a := findAccount(); !a.known || a.uid == 0 || a.gid == 0 {
		t.Errorf("BIND's account is not found (%+v): run make deps", a)
	}
}

func TestInPlace(t *testing.T) {
	path := filepath.Join(t.TempDir(), "a.luna.zone")
	zone := func(serial, host string) File {
		return File{path, "$ORIGIN a.\n@\tIN\tSOA\tm.a. hostmaster.a. " + serial + " 86400 14400 3628800 604800\n" + host + "\tIN\tA\t10.0.0.1\n"}
	}
	if zone("7", "n").InPlace() {
		t.Error("a file that is not there is in place")
	}
	put(t, path, zone("7", "n").Text)
	if !zone("7", "n").InPlace() || !zone("19", "n").InPlace() {
		t.Error("the same zone, of another serial, is not in place")
	}
	if zone("7", "m").InPlace() {
		t.Error("another zone is in place")
	}
}
