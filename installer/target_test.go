package installer

import (
	"bytes"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

func quietLog() *slog.Logger { return slog.New(slog.DiscardHandler) }

// testTarget is a target at path, on a machine with that much free memory.
func testTarget(t *testing.T, path string, mibFree int64) *target {
	t.Helper()
	if err := os.MkdirAll(path, 0o755); err != nil {
		t.Fatal(err)
	}
	tg, err := newTarget(path, "/run/luna", false, quietLog())
	if err != nil {
		t.Fatal(err)
	}
	tg.memory = func() (int64, int64, error) { return 4096 * mib, mibFree * mib, nil }
	return tg
}

func TestTargetNotMounted(t *testing.T) {
	tg := testTarget(t, t.TempDir(), 1000)
	_, err := tg.prepare(1, 1)
	if err == nil || !strings.Contains(err.Error(), "nothing is mounted on "+tg.path+": the partscript must mount") {
		t.Errorf("got error %v", err)
	}
	tg.unowned = true
	if _, err := tg.prepare(1, 1); err != nil {
		t.Errorf("a simulated node takes any folder: %v", err)
	}
}

func TestTargetTmpfs(t *testing.T) {
	if !inNamespaces(t) {
		return
	}
	const path = "/mnt/sys root" // a blank is escaped in mountinfo
	tg := testTarget(t, path, 1000)
	mount := func() {
		t.Helper()
		if err := unix.Mount("tmpfs", path, "tmpfs", unix.MS_NODEV, "size=64m"); err != nil {
			t.Fatal(err)
		}
	}
	mount()
	work, err := tg.prepare(10*mib, 20*mib)
	if err != nil || work != path+"/.luna-install" {
		t.Errorf("an image that fits: got %q, %v", work, err)
	}
	if free, _ := room(path); free > 64*mib {
		t.Errorf("the tmpfs grew to %d MiB for an image that fits", free/mib)
	}

	if _, err := tg.prepare(100*mib, 300*mib); err != nil {
		t.Errorf("an image for which there is memory: %v", err)
	}
	if free, _ := room(path); free < 400*mib {
		t.Errorf("the tmpfs has %d MiB free, it should have grown to more than 400", free/mib)
	}
	var st unix.Statfs_t
	if err := unix.Statfs(path, &st); err != nil || st.Flags&unix.ST_NODEV == 0 {
		t.Errorf("growing took nodev away (%v)", err)
	}

	_, err = tg.prepare(100*mib, 960*mib)
	if want := "the installation needs 1260 MiB of memory, the node has 1000 MiB free of 4096 MiB"; err == nil || err.Error() != want {
		t.Errorf("an image for which there is no memory: got %v, want %s", err, want)
	}

	// Whatever is mounted there goes, in order, and what is busy too.
	if err := os.Mkdir(path+"/boot", 0o755); err != nil {
		t.Fatal(err)
	}
	if err := unix.Mount("tmpfs", path+"/boot", "tmpfs", 0, ""); err != nil {
		t.Fatal(err)
	}
	busy, err := os.Create(path + "/boot/busy")
	if err != nil {
		t.Fatal(err)
	}
	defer busy.Close()
	if err := tg.clear(); err != nil {
		t.Error(err)
	}
	if left, _ := tg.mounts(); len(left) > 0 {
		t.Errorf("still mounted: %v", left)
	}

	// What was in a simulated node's folder before belongs to somebody else.
	mount()
	if tg, err = newTarget(path, "/run/luna", true, quietLog()); err != nil {
		t.Fatal(err)
	}
	mount()
	if err := tg.clear(); err != nil {
		t.Error(err)
	}
	if left, _ := tg.mounts(); len(left) != 1 {
		t.Errorf("mounted after clearing: %v, want the one of before", left)
	}
}

// ext4 makes a file system in a file and mounts it.
func ext4(t *testing.T, path, size string) (image string) {
	t.Helper()
	needs(t, "mkfs.ext4", "debugfs", "mount")
	image = filepath.Join(t.TempDir(), "disk")
	f, err := os.Create(image)
	if err != nil {
		t.Fatal(err)
	}
	f.Close()
	command(t, "mkfs.ext4", "-q", image, size)
	if err := os.MkdirAll(path, 0o755); err != nil {
		t.Fatal(err)
	}
	command(t, "mount", "-o", "loop", image, path)
	t.Cleanup(func() { _ = unix.Unmount(path, 0) })
	return image
}

func TestTargetDisk(t *testing.T) {
	if !inNamespaces(t) {
		return
	}
	const path = "/mnt/disk"
	tg := testTarget(t, path, 1000)
	ext4(t, path, "128M")
	if work, err := tg.prepare(10*mib, 60*mib); err != nil || work != path+"/.luna-install" {
		t.Errorf("a disk with room for both: got %q, %v", work, err)
	}
	if work, err := tg.prepare(60*mib, 70*mib); err != nil || work != "/run/luna" {
		t.Errorf("a disk with room for the tree: got %q, %v", work, err)
	}
	if _, err := tg.prepare(10*mib, 200*mib); err == nil || !strings.Contains(err.Error(), "/mnt/disk needs 251 MiB for tree and artifact, and has") {
		t.Errorf("a small disk: got %v", err)
	}
	tg.memory = func() (int64, int64, error) { return 128 * mib, 100 * mib, nil }
	if _, err := tg.prepare(60*mib, 70*mib); err == nil {
		t.Error("a disk with room for the tree, no memory for the artifact: no error")
	}
}

// TestSettle reads the disk as GRUB does, without the journal, after the last
// moment at which the power may fail.
func TestSettle(t *testing.T) {
	if !inNamespaces(t) {
		return
	}
	const path = "/mnt/disk"
	tg := testTarget(t, path, 1000)
	image := ext4(t, path, "64M")
	if err := os.MkdirAll(path+"/boot/grub", 0o755); err != nil {
		t.Fatal(err)
	}
	f, err := os.Create(path + "/boot/grub/grub.cfg")
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if _, err := f.WriteString("set default=0\n"); err != nil {
		t.Fatal(err)
	}
	if err := f.Sync(); err != nil {
		t.Fatal(err)
	}
	if out := command(t, "debugfs", "-R", "cat /boot/grub/grub.cfg", image); strings.Contains(out, "set default=0") {
		t.Fatal("this kernel writes beside the journal at once: the test would prove nothing")
	}
	if err := tg.settle(); err != nil {
		t.Fatal(err)
	}
	if out := command(t, "debugfs", "-R", "cat /boot/grub/grub.cfg", image); !strings.Contains(out, "set default=0") {
		t.Errorf("a boot loader that does not replay the journal finds no grub.cfg:\n%s", out)
	}
	// It is thawed again.
	if err := os.WriteFile(path+"/after", bytes.Repeat([]byte("x"), mib), 0o644); err != nil {
		t.Error(err)
	}
}

// TestSettleOnADiskThatLosesData: what was written is in memory alone, for the disk did
// not take it, and only the last look can tell.
func TestSettleOnADiskThatLosesData(t *testing.T) {
	if !inNamespaces(t) {
		return
	}
	needs(t, "mkfs.ext4", "mount")
	const path = "/mnt/lossy"
	small := t.TempDir()
	command(t, "mount", "-t", "tmpfs", "-o", "size=8m", "tmpfs", small)
	t.Cleanup(func() { _ = unix.Unmount(small, unix.MNT_DETACH) })
	image := filepath.Join(small, "disk")
	f, err := os.Create(image)
	if err != nil {
		t.Fatal(err)
	}
	f.Close()
	command(t, "mkfs.ext4", "-q", "-O", "^has_journal", "-E", "nodiscard", image, "64M")
	tg := testTarget(t, path, 1000)
	if err := os.MkdirAll(path, 0o755); err != nil {
		t.Fatal(err)
	}
	command(t, "mount", "-o", "loop", image, path)
	t.Cleanup(func() { _ = unix.Unmount(path, unix.MNT_DETACH) })
	if err := os.WriteFile(path+"/tree", bytes.Repeat([]byte("x"), 20*mib), 0o644); err != nil {
		t.Fatal(err)
	}
	if err := tg.settle(); err == nil || !strings.Contains(err.Error(), path) || !strings.Contains(err.Error(), "the disk lost what was written to it") {
		t.Errorf("the disk is smaller than it says, and settle gives %v", err)
	}
}
