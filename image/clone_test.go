package image_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"

	"github.com/clustervision/luna/image"
)

func TestCloneKeepsEverything(t *testing.T) {
	tree := everyKind(t)
	to := filepath.Join(t.TempDir(), "clone")
	times := func() string { return run(t, "find", tree, "-printf", "%p %A@ %C@ %T@\n") }
	times() // which reads the directories
	before := times()
	var last, total int64
	must(t, image.Clone(t.Context(), tree, to, func(done, all int64, _ string) {
		if done < last || done > all {
			t.Errorf("progress %d of %d after %d", done, all, last)
		}
		last, total = done, all
	}))
	if last != total || total == 0 {
		t.Errorf("the progress ended at %d of %d", last, total)
	}
	if diff := cmp.Diff(before, times()); diff != "" {
		t.Errorf("access, change or modification times of the original moved:\n%s", diff)
	}
	sameTree(t, tree, to)
	if caps := run(t, "getcap", filepath.Join(to, "a/file")); !strings.Contains(caps, "cap_net_raw") {
		t.Errorf("getcap says %q", caps)
	}
	first, _ := pack(t, tree, image.PackOptions{})
	if second, _ := pack(t, to, image.PackOptions{}); !bytes.Equal(first, second) {
		t.Error("the clone packs to another artifact")
	}
	onlyIn(t, filepath.Dir(to), "clone")
}

// onlyIn fails unless these names, and no others, are in a directory.
func onlyIn(t *testing.T, dir string, want ...string) {
	t.Helper()
	got := []string{}
	entries, err := os.ReadDir(dir)
	must(t, err)
	for _, e := range entries {
		got = append(got, e.Name())
	}
	if diff := cmp.Diff(append([]string{}, want...), got); diff != "" {
		t.Errorf("in %s (-want +got):\n%s", dir, diff)
	}
}

// Blocks are shared where they can be. XFS can, and is what RHEL heads have their images on.
func TestCloneSharesBlocks(t *testing.T) {
	tree := everyKind(t)
	needRoot(t, "mkfs.xfs", "filefrag")
	must(t, os.Remove(filepath.Join(tree, "shared/disk"))) // XFS holds no minor numbers as large
	dir := t.TempDir()
	disk, mnt := filepath.Join(dir, "disk"), filepath.Join(dir, "mnt")
	must(t, os.WriteFile(disk, nil, 0o600))
	must(t, os.Truncate(disk, 400<<20))
	must(t, os.Mkdir(mnt, 0o755))
	run(t, "mkfs.xfs", "-q", "-m", "reflink=1", disk)
	run(t, "mount", "-o", "loop", disk, mnt)
	t.Cleanup(func() { must(t, unix.Unmount(mnt, 0)) })
	from, to := filepath.Join(mnt, "from"), filepath.Join(mnt, "to")
	must(t, image.Clone(t.Context(), tree, from, nil))
	must(t, image.Clone(t.Context(), from, to, nil))
	sameTree(t, from, to)
	if out := run(t, "filefrag", "-v", filepath.Join(to, "a/b/big")); !strings.Contains(out, "shared") {
		t.Errorf("the blocks of a clone are its own:\n%s", out)
	}
}

func TestCloneLeavesOutWhatIsMounted(t *testing.T) {
	tree := everyKind(t)
	addSocket(t, filepath.Join(tree, "a/socket"))
	must(t, os.Mkdir(filepath.Join(tree, "proc"), 0o555))
	must(t, unix.Mount("tmpfs", filepath.Join(tree, "proc"), "tmpfs", 0, "mode=1777"))
	t.Cleanup(func() { must(t, unix.Unmount(filepath.Join(tree, "proc"), 0)) })
	must(t, os.WriteFile(filepath.Join(tree, "proc/inside"), nil, 0o644))
	to := t.TempDir() // empty, and there
	must(t, image.Clone(t.Context(), tree, to, nil))
	got := look(t, to)
	for _, path := range []string{"a/socket", "proc/inside"} {
		if _, there := got[path]; there {
			t.Errorf("%s should have been left out", path)
		}
	}
	if mode := got["proc"].Mode; mode != "40555" {
		t.Errorf("proc has mode %s, want that of the directory under the mount", mode)
	}
}

func TestCloneRefuses(t *testing.T) {
	needRoot(t)
	tree := plant(t, "etc/passwd")
	place := plant(t, "full/file", "file", "link -> empty", "empty/")
	mounted := filepath.Join(place, "mounted")
	must(t, os.Mkdir(mounted, 0o755))
	must(t, unix.Mount("tmpfs", mounted, "tmpfs", 0, ""))
	t.Cleanup(func() { must(t, unix.Unmount(mounted, 0)) })
	empty := t.TempDir()
	tests := map[string]struct{ from, to, want string }{
		"no tree":        {"/nonexistent", place + "/new", "no such file"},
		"a file":         {"/etc/passwd", place + "/new", "not a directory"},
		"no place":       {tree, place + "/no/new", "make the directory first"},
		"a full one":     {tree, place + "/full", "is not an empty directory: choose another path"},
		"a file there":   {tree, place + "/file", "is not an empty directory: choose another path"},
		"a link there":   {tree, place + "/link", "is not an empty directory: choose another path"},
		"a mount":        {tree, mounted, "is a mount point"},
		"in the tree":    {tree, tree + "/etc/new", "inside the tree"},
		"itself":         {empty, empty, "inside the tree"},
		"no room for it": {"/usr/bin", mounted + "/new", "needs about"},
	}
	must(t, unix.Mount("", mounted, "", unix.MS_REMOUNT, "size=4m"))
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			err := image.Clone(t.Context(), tt.from, tt.to, nil)
			if err == nil || !strings.Contains(err.Error(), tt.want) || !strings.Contains(err.Error(), tt.from) {
				t.Errorf("got %v, want %q", err, tt.want)
			}
		})
	}
	onlyIn(t, place, "empty", "file", "full", "link", "mounted")
	onlyIn(t, mounted)
	onlyIn(t, filepath.Join(tree, "etc"), "passwd")
}

func TestCloneIsAllOrNothing(t *testing.T) {
	needRoot(t)
	tree := t.TempDir()
	for i := range 300 {
		must(t, os.WriteFile(filepath.Join(tree, fmt.Sprintf("f%03d", i)), bytes.Repeat([]byte{byte(i)}, 100_000), 0o644))
	}
	stop := errors.New("the administrator has had enough")
	tests := map[string]struct {
		disturb func(cancel context.CancelCauseFunc)
		want    string
	}{
		"ctx ends":  {func(cancel context.CancelCauseFunc) { cancel(stop) }, stop.Error()},
		"a change":  {func(context.CancelCauseFunc) { must(t, appendTo(filepath.Join(tree, "f299"))) }, "/f299: changed while"},
		"one going": {func(context.CancelCauseFunc) { must(t, os.Remove(filepath.Join(tree, "f298"))) }, "/f298: changed while"},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			ctx, cancel := context.WithCancelCause(t.Context())
			defer cancel(nil)
			place := t.TempDir()
			var disturbed atomic.Bool
			err := image.Clone(ctx, tree, filepath.Join(place, "new"), func(_, _ int64, _ string) {
				if !disturbed.Swap(true) {
					tt.disturb(cancel)
				}
			})
			if err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("got %v, want %q", err, tt.want)
			}
			onlyIn(t, place)
		})
	}
}

func TestCloneClearsWhatAKilledOneLeft(t *testing.T) {
	needRoot(t)
	tree, place := plant(t, "etc/passwd"), plant(t, ".new.cloning/etc/shadow")
	left, err := os.Open(filepath.Join(place, ".new.cloning"))
	must(t, err)
	must(t, unix.Flock(int(left.Fd()), unix.LOCK_EX)) // as one that is at work has it
	to := filepath.Join(place, "new")
	if err := image.Clone(t.Context(), tree, to, nil); err == nil || !strings.Contains(err.Error(), "another clone to it is under way") {
		t.Errorf("got %v beside another clone", err)
	}
	must(t, left.Close())
	must(t, image.Clone(t.Context(), tree, to, nil))
	sameTree(t, tree, to)
	onlyIn(t, place, "new")
}

// The peer is what an administrator would type.
func BenchmarkClone(b *testing.B) {
	tree := benchTree(b)
	dir := b.TempDir()
	must(b, unix.Mount("tmpfs", dir, "tmpfs", 0, ""))
	b.Cleanup(func() { must(b, unix.Unmount(dir, 0)) })
	measure(b, func() {
		must(b, image.Clone(b.Context(), tree, filepath.Join(dir, "ours"), nil))
		must(b, os.RemoveAll(filepath.Join(dir, "ours"))) // in the time of both
	}, func() {
		out, err := exec.Command("cp", "-ax", tree, filepath.Join(dir, "cp")).CombinedOutput()
		if err != nil {
			b.Fatalf("%v: %s", err, out)
		}
		must(b, os.RemoveAll(filepath.Join(dir, "cp")))
	})
}
