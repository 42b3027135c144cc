package image_test

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"

	"github.com/clustervision/luna/image"
)

func pack(t testing.TB, tree string, opts image.PackOptions) ([]byte, image.Summary) {
	t.Helper()
	var b bytes.Buffer
	sum, err := image.Pack(t.Context(), tree, &b, opts)
	if err != nil {
		t.Fatal(err)
	}
	return b.Bytes(), sum
}

func TestPackUnpackKeepsEverything(t *testing.T) {
	tree := everyKind(t)
	artifact, packed := pack(t, tree, image.PackOptions{})
	if hash := sha256.Sum256(artifact); packed.SHA256 != hex.EncodeToString(hash[:]) || packed.Packed != int64(len(artifact)) {
		t.Errorf("the summary %+v is not of the %d bytes with hash %x", packed, len(artifact), hash)
	}
	dest := t.TempDir()
	unpacked, err := image.Unpack(t.Context(), bytes.NewReader(artifact), dest, image.UnpackOptions{})
	if err != nil {
		t.Fatal(err)
	}
	if unpacked != packed {
		t.Errorf("Unpack counted %+v, Pack %+v", unpacked, packed)
	}
	sameTree(t, tree, dest)
	if caps := run(t, "getcap", filepath.Join(dest, "a/file")); !strings.Contains(caps, "cap_net_raw") {
		t.Errorf("getcap says %q", caps)
	}
	again, _ := pack(t, dest, image.PackOptions{})
	if !bytes.Equal(artifact, again) {
		t.Error("the unpacked tree packs to another artifact")
	}
	// Over what is there already: the same again, with no complaint.
	if _, err := image.Unpack(t.Context(), bytes.NewReader(artifact), dest, image.UnpackOptions{}); err != nil {
		t.Fatal(err)
	}
	sameTree(t, tree, dest)
}

// GNU tar and the zstd tool are the second opinion on the format.
func TestGNUTarRestoresAnArtifact(t *testing.T) {
	tree := everyKind(t)
	needRoot(t, "zstd", "tar")
	artifact, _ := pack(t, tree, image.PackOptions{})
	file := filepath.Join(t.TempDir(), "artifact")
	must(t, os.WriteFile(file, artifact, 0o600))
	run(t, "zstd", "-tq", file)
	dest := t.TempDir()
	run(t, "sh", "-c", "zstd -dcq "+file+" | tar -x -C "+dest+
		" --numeric-owner --same-owner --acls --xattrs --xattrs-include='*' 2>&1")
	sameTree(t, tree, dest, func(all map[string]seen) {
		for path, s := range all {
			// tar rounds the fraction of a time before 1970 in its own way, and sets no
			// attributes on what it can not open.
			if strings.HasPrefix(s.Mtime, "-") || path == "a/dangling" || path == "shared/hardlink-to-symlink" || path == "shared/null" {
				s.Mtime, s.Xattrs = "", nil
			}
			all[path] = s
		}
	})
}

func TestPackIsDeterministic(t *testing.T) {
	tree := everyKind(t)
	first, _ := pack(t, tree, image.PackOptions{})
	before := runtime.GOMAXPROCS(1)
	defer runtime.GOMAXPROCS(before)
	for _, procs := range []int{1, 2, 3, 16} {
		runtime.GOMAXPROCS(procs)
		if again, _ := pack(t, tree, image.PackOptions{}); !bytes.Equal(first, again) {
			t.Errorf("with GOMAXPROCS %d the bytes differ", procs)
		}
	}
	runtime.GOMAXPROCS(before)
	clone := filepath.Join(t.TempDir(), "clone")
	run(t, "cp", "-a", "--sparse=auto", tree, clone) // other inodes, other order in the directories
	if again, _ := pack(t, clone, image.PackOptions{}); !bytes.Equal(first, again) {
		t.Error("a copy of the tree packs to other bytes")
	}
}

func TestPackLeavesOut(t *testing.T) {
	tree := everyKind(t)
	addSocket(t, filepath.Join(tree, "a/socket"))
	must(t, os.Mkdir(filepath.Join(tree, "proc"), 0o555))
	must(t, os.Mkdir(filepath.Join(tree, "bound"), 0o711))
	must(t, unix.Mount("tmpfs", filepath.Join(tree, "proc"), "tmpfs", 0, "mode=1777"))
	t.Cleanup(func() { must(t, unix.Unmount(filepath.Join(tree, "proc"), 0)) })
	must(t, unix.Mount(filepath.Join(tree, "a"), filepath.Join(tree, "bound"), "", unix.MS_BIND, ""))
	t.Cleanup(func() { must(t, unix.Unmount(filepath.Join(tree, "bound"), 0)) })
	must(t, os.WriteFile(filepath.Join(tree, "proc/inside"), nil, 0o644))

	artifact, _ := pack(t, tree, image.PackOptions{Exclude: []string{"/a/b", "big", "a-b/gr*", "/usr/*/"}})
	dest := t.TempDir()
	_, err := image.Unpack(t.Context(), bytes.NewReader(artifact), dest, image.UnpackOptions{})
	must(t, err)
	got := look(t, dest)
	for _, path := range []string{"a/socket", "proc/inside", "bound/file", "a/b", "a/b/hard", "a-b/grüße–日本語", "usr/bin"} {
		if _, there := got[path]; there {
			t.Errorf("%s should have been left out", path)
		}
	}
	for path, mode := range map[string]string{"proc": "40555", "bound": "40711", "usr": "40755", "a/file": "100644"} {
		if got[path].Mode != mode {
			t.Errorf("%s has mode %s, want %s: the directory under the mount", path, got[path].Mode, mode)
		}
	}
}

func TestPackErrorsNameTheFile(t *testing.T) {
	needRoot(t)
	plain := func(t *testing.T) string {
		tree := t.TempDir()
		for i := range 300 {
			must(t, os.WriteFile(filepath.Join(tree, fmt.Sprintf("f%03d", i)), bytes.Repeat([]byte{byte(i)}, 100_000), 0o644))
		}
		must(t, os.WriteFile(filepath.Join(tree, "large"), make([]byte, 60<<20), 0o644))
		return tree
	}
	// Progress is called before the last files are read: a place to change the tree from.
	tests := map[string]struct {
		change func(tree string) error
		want   string
	}{
		"vanishes":      {func(tree string) error { return os.Remove(filepath.Join(tree, "f299")) }, "/f299: changed while"},
		"grows":         {func(tree string) error { return appendTo(filepath.Join(tree, "f299")) }, "/f299: changed while"},
		"large changes": {func(tree string) error { return appendTo(filepath.Join(tree, "large")) }, "/large: changed while"},
		"shrinks":       {func(tree string) error { return os.Truncate(filepath.Join(tree, "large"), 5<<20) }, "/large: changed while"},
		"becomes a link": {func(tree string) error {
			return errors.Join(os.Remove(filepath.Join(tree, "large")), os.Symlink("/dev/zero", filepath.Join(tree, "large")))
		}, "/large: changed while"},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			tree, changed := plain(t), false
			_, err := image.Pack(t.Context(), tree, io.Discard, image.PackOptions{Progress: func(_, _ int64, _ string) {
				if !changed {
					changed = true
					must(t, tt.change(tree))
				}
			}})
			if err == nil || !strings.Contains(err.Error(), tt.want) || !strings.Contains(err.Error(), tree) {
				t.Errorf("got %v, want %q", err, tt.want)
			}
		})
	}
	for tree, want := range map[string]string{"/nonexistent": "open the tree: no such file", "/etc/passwd": "not a directory"} {
		if _, err := image.Pack(t.Context(), tree, io.Discard, image.PackOptions{}); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("pack %s: got %v, want %q", tree, err, want)
		}
	}
	_, err := image.Pack(t.Context(), t.TempDir(), io.Discard, image.PackOptions{Exclude: []string{"[a"}})
	if err == nil || !strings.Contains(err.Error(), "'[a' is not valid") {
		t.Errorf("got %v for a bad pattern", err)
	}
}

func appendTo(path string) error {
	f, err := os.OpenFile(path, os.O_APPEND|os.O_WRONLY, 0)
	if err != nil {
		return err
	}
	_, err = f.WriteString("more")
	return errors.Join(err, f.Close())
}

func TestPackStops(t *testing.T) {
	tree := t.TempDir()
	must(t, os.WriteFile(filepath.Join(tree, "large"), make([]byte, 100<<20), 0o644))
	ctx, cancel := context.WithCancel(t.Context())
	_, err := image.Pack(ctx, tree, writerFunc(func(p []byte) (int, error) { cancel(); return len(p), nil }), image.PackOptions{})
	if !errors.Is(err, context.Canceled) {
		t.Errorf("got %v, want context.Canceled", err)
	}
	full := errors.New("the disk is full")
	_, err = image.Pack(t.Context(), tree, writerFunc(func([]byte) (int, error) { return 0, full }), image.PackOptions{})
	if !errors.Is(err, full) {
		t.Errorf("got %v, want the writer's error", err)
	}
}

type writerFunc func(p []byte) (int, error)

func (f writerFunc) Write(p []byte) (int, error) { return f(p) }

func TestPackReportsProgress(t *testing.T) {
	tree := t.TempDir()
	var want int64
	for i := range 50 {
		must(t, os.WriteFile(filepath.Join(tree, fmt.Sprint(i)), bytes.Repeat([]byte("x"), i*4096), 0o644))
		want += int64(i * 4096)
	}
	var last, calls int64
	pack(t, tree, image.PackOptions{Progress: func(done, total int64, _ string) {
		calls++
		if total != want || done < last || done > total {
			t.Errorf("progress %d of %d after %d, want a total of %d", done, total, last, want)
		}
		last = done
	}})
	if last != want || calls < 2 {
		t.Errorf("ended at %d of %d in %d calls", last, want, calls)
	}
}

func TestPackChangesNothing(t *testing.T) {
	tree := everyKind(t)
	times := func() string { return run(t, "find", tree, "-printf", "%p %A@ %C@ %T@\n") }
	times() // which reads the directories
	before := times()
	pack(t, tree, image.PackOptions{})
	if diff := cmp.Diff(before, times()); diff != "" {
		t.Errorf("access, change or modification times moved:\n%s", diff)
	}
}

func TestPackAsOrdinaryUser(t *testing.T) {
	if os.Geteuid() == 0 { // run this test again, as nobody
		exe, err := os.Executable()
		must(t, err)
		dir, err := os.MkdirTemp("", "nobody")
		must(t, err)
		t.Cleanup(func() { os.RemoveAll(dir) })
		must(t, os.Chmod(dir, 0o777))
		run(t, "cp", exe, filepath.Join(dir, "test"))
		cmd := exec.Command("setpriv", "--reuid=65534", "--regid=65534", "--clear-groups", filepath.Join(dir, "test"), "-test.run", t.Name()+"$")
		cmd.Env = append(os.Environ(), "TMPDIR="+dir)
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Fatalf("as nobody: %v\n%s", err, out)
		}
		return
	}
	tree, dest := t.TempDir(), t.TempDir()
	must(t, os.Mkdir(filepath.Join(tree, "ro"), 0o755))
	must(t, os.WriteFile(filepath.Join(tree, "ro/file"), []byte("x"), 0o400))
	must(t, os.Symlink("file", filepath.Join(tree, "ro/link")))
	must(t, os.Chmod(filepath.Join(tree, "ro"), 0o555))
	artifact, _ := pack(t, tree, image.PackOptions{})
	_, err := image.Unpack(t.Context(), bytes.NewReader(artifact), dest, image.UnpackOptions{Unprivileged: true})
	must(t, err)
	sameTree(t, tree, dest)
	for _, d := range []string{tree, dest} {
		must(t, os.Chmod(filepath.Join(d, "ro"), 0o755))
	}
}
