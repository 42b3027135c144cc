package image_test

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/clustervision/luna/image"
	"github.com/clustervision/luna/test/lab"
)

// debianTree is a real Debian 12 with a kernel and dracut: the one that the lab's machines boot.
// LUNA_TEST_TREE names another tree with which to run the tests of the initrd.
func debianTree(t testing.TB) (tree, kernel string) {
	t.Helper()
	tree = os.Getenv("LUNA_TEST_TREE")
	if tree == "" {
		needRoot(t, "unshare")
		var err error
		tree, err = lab.DebianTree(t.Context(), slog.Default())
		must(t, err)
	}
	kernels, err := image.Kernels(tree)
	must(t, err)
	return tree, kernels[0].Version
}

// dummyInstaller builds the program that stands in for luna-install.
func dummyInstaller(t *testing.T) string {
	t.Helper()
	program := filepath.Join(t.TempDir(), "luna-install")
	cmd := exec.Command("go", "build", "-o", program, "./testdata/dummyinstall")
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("build the dummy installer: %v\n%s", err, out)
	}
	return program
}

func TestInitrdOfDebian(t *testing.T) {
	needRoot(t, "cpio", "zstd")
	tree, kernel := debianTree(t)
	before := run(t, "find", tree, "-printf", "%p %C@ %T@ %s\n")
	var log bytes.Buffer
	spec := image.InitrdSpec{
		Tree: tree, KernelVersion: kernel, Installer: dummyInstaller(t), Out: filepath.Join(t.TempDir(), "initrd"),
		WorkDir: t.TempDir(), AddDrivers: []string{"no_such_driver", "cuse"}, Log: &log,
	}
	start := time.Now()
	if err := image.BuildInitrd(t.Context(), spec); err != nil {
		t.Fatalf("%v\n%s", err, log.String())
	}
	first, err := os.ReadFile(spec.Out)
	must(t, err)
	t.Logf("built %.1f MB in %.1f s", float64(len(first))/1e6, time.Since(start).Seconds())

	spec.WorkDir, spec.Log = t.TempDir(), nil
	must(t, image.BuildInitrd(t.Context(), spec))
	again, err := os.ReadFile(spec.Out)
	must(t, err)
	if !bytes.Equal(first, again) {
		t.Error("a second build gives other bytes")
	}
	if after := run(t, "find", tree, "-printf", "%p %C@ %T@ %s\n"); after != before {
		t.Error("the tree was changed")
	}
	if left, err := os.ReadDir(spec.WorkDir); err != nil || len(left) != 0 {
		t.Errorf("left in the work directory: %v, %v", left, err)
	}
	if mounts, err := os.ReadFile("/proc/self/mounts"); err != nil || bytes.Contains(mounts, []byte(spec.WorkDir)) {
		t.Errorf("left mounted, %v:\n%s", err, mounts)
	}

	if found, err := image.HasInstaller(t.Context(), spec.Out); !found || err != nil {
		t.Errorf("HasInstaller: %v, %v", found, err)
	}
	builtin, err := os.ReadFile(filepath.Join(tree, "lib/modules", kernel, "modules.builtin"))
	must(t, err)
	content := string(builtin) + run(t, "sh", "-c", "zstd -dcq "+spec.Out+" | cpio -t --quiet")
	for _, want := range []string{
		"usr/bin/luna-install", "/hooks/pre-mount/99-luna-premount.sh", "/hooks/cmdline/99-luna-parse.sh", "/virtio_net.ko",
		"/cuse.ko", "/ext4.ko", "/overlay.ko", "/squashfs.ko", "/nvme.ko", "/mkfs.ext4", "/99-default.link", "/wipefs",
	} {
		if !strings.Contains(content, want+"\n") && !strings.Contains(content, want+".xz\n") {
			t.Errorf("the initrd has no %s", want)
		}
	}
	if strings.Contains(content, "lib/systemd/system/") {
		t.Error("systemd is in the initrd")
	}
}

// The real thing, but for the network: the kernel, the initrd, the hooks, a crash of the installer,
// and the switch to the root that the installer made.
func TestInitrdBoots(t *testing.T) {
	needRoot(t, "qemu-system-x86_64")
	tree, version := debianTree(t)
	kernels, err := image.Kernels(tree)
	must(t, err)
	kernel := kernels[slices.IndexFunc(kernels, func(k image.Kernel) bool { return k.Version == version })]
	initrd := filepath.Join(t.TempDir(), "initrd")
	must(t, image.BuildInitrd(t.Context(), image.InitrdSpec{
		Tree: tree, KernelVersion: version, Installer: dummyInstaller(t), Out: initrd,
	}))
	ctx, cancel := context.WithTimeout(t.Context(), 8*time.Minute)
	defer cancel()
	disk := filepath.Join(t.TempDir(), "disk")
	must(t, os.WriteFile(disk, make([]byte, 1<<20), 0o600))
	// Never kvm, even where /dev/kvm is: in nested machines it can be slower than none.
	out, err := exec.CommandContext(ctx, "qemu-system-x86_64", "-machine", "q35", "-accel", "tcg,thread=multi,tb-size=256",
		"-smp", "1", "-m", "768", "-display", "none", "-nodefaults", "-no-reboot", "-serial", "stdio", "-serial", "null",
		"-netdev", "user,id=n0,restrict=on", "-device", "virtio-net-pci,netdev=n0,mac=52:54:00:12:34:56,romfile=",
		"-drive", "if=none,id=d,format=raw,file="+disk, "-device", "virtio-blk-pci,drive=d",
		"-kernel", kernel.Image, "-initrd", initrd,
		"-append", "root=luna console=ttyS0 panic=1 luna.ctty=/dev/ttyS1").CombinedOutput()
	said := string(out)
	for _, want := range []string{
		"DUMMY: crash",
		"mounted nothing at /sysroot. It starts again in 10 seconds",
		"DUMMY: interface enp", "52:54:00:12:34:56 virtio_net",
		"/sys/class/block/vda",
		"DUMMY: switch_root worked",
	} {
		if !strings.Contains(said, want) {
			t.Errorf("the machine never said %q", want)
		}
	}
	if t.Failed() || err != nil {
		t.Errorf("%v; the last it said:\n%s", err, said[max(0, len(said)-6000):])
	}
}

func TestInitrdErrorsSayWhatToDo(t *testing.T) {
	installer := dummyInstaller(t)
	needRoot(t)
	full := []string{
		"lib -> usr/lib", "usr/lib/modules/1/vmlinuz", "usr/lib/modules/1/modules.dep", "usr/bin/dracut", "usr/bin/bash", "usr/bin/cpio",
		"usr/bin/find", "usr/bin/sed", "usr/sbin/modprobe", "usr/bin/udevadm -> /bin/udevadm", "bin/udevadm", "usr/bin/mount",
		"usr/sbin/switch_root", "usr/bin/gzip",
	}
	without := func(names ...string) []string {
		return slices.DeleteFunc(slices.Clone(full), func(f string) bool { return slices.Contains(names, filepath.Base(f)) })
	}
	tests := map[string]struct {
		files  []string
		change func(*image.InitrdSpec)
		want   string
	}{
		"no kernel":  {without("vmlinuz"), nil, "no kernels installed in"},
		"wrong one":  {full, func(s *image.InitrdSpec) { s.KernelVersion = "2" }, "kernel '2' is not installed: available are '1'"},
		"no depmod":  {without("modules.dep"), nil, "kernel 1 has no modules.dep: run 'depmod 1' in the image"},
		"no dracut":  {without("dracut"), nil, "dracut is missing: install dracut in the image"},
		"no udev":    {without("udevadm"), nil, "udevadm is missing: install udev (Debian) or systemd-udev (RHEL family) in the image"},
		"no two":     {without("cpio", "gzip"), nil, "cpio is missing: install cpio in the image; gzip is missing: install gzip in the image"},
		"no program": {full, func(s *image.InitrdSpec) { s.Installer = "/etc/passwd" }, "'/etc/passwd' is not a program"},
		"not static": {full, func(s *image.InitrdSpec) { s.Installer = "/bin/ls" }, "'/bin/ls' is not static: build it with CGO_ENABLED=0"},
		"work in it": {full, func(s *image.InitrdSpec) { s.WorkDir = s.Tree + "/usr" }, "/usr' is inside the tree"},
		"out in it":  {full, func(s *image.InitrdSpec) { s.Out = s.Tree + "/initrd" }, "is inside the tree"},
		"it fails":   {full, nil, "run /usr/bin/dracut: "},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			out := t.TempDir()
			spec := image.InitrdSpec{Tree: plant(t, tt.files...), KernelVersion: "1", Installer: installer, Out: filepath.Join(out, "initrd"), WorkDir: t.TempDir()}
			if tt.change != nil {
				tt.change(&spec)
			}
			err := image.BuildInitrd(t.Context(), spec)
			if err == nil || !strings.Contains(err.Error(), tt.want) || !strings.Contains(err.Error(), spec.Tree) {
				t.Errorf("got %v, want %q", err, tt.want)
			}
			if left := list(t, out); len(left) != 0 {
				t.Errorf("left behind: %v", left)
			}
		})
	}
}

func TestInitrdOnAFullDisk(t *testing.T) {
	needRoot(t)
	tree, kernel := debianTree(t)
	work := t.TempDir()
	must(t, unix.Mount("tmpfs", work, "tmpfs", 0, "size=9m"))
	t.Cleanup(func() { must(t, unix.Unmount(work, 0)) })
	err := image.BuildInitrd(t.Context(), image.InitrdSpec{
		Tree: tree, KernelVersion: kernel, Installer: dummyInstaller(t), Out: filepath.Join(t.TempDir(), "initrd"), WorkDir: work,
	})
	if !errors.Is(err, unix.ENOSPC) || !strings.Contains(err.Error(), "no space left in "+work) || strings.Contains(err.Error(), "depmod") {
		t.Errorf("got %v, want no space left in %s and nothing else", err, work)
	}
	if left := list(t, work); len(left) != 0 {
		t.Errorf("left behind: %v", left)
	}
}

func TestInitrdNeedsTheModulesAskedFor(t *testing.T) {
	needRoot(t)
	tree, kernel := debianTree(t)
	spec := image.InitrdSpec{Tree: tree, KernelVersion: kernel, Installer: dummyInstaller(t), Out: filepath.Join(t.TempDir(), "initrd"), AddModules: []string{"nosuch"}}
	err := image.BuildInitrd(t.Context(), spec)
	if err == nil || !strings.Contains(err.Error(), "module 'nosuch'") {
		t.Errorf("got %v", err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
	defer cancel()
	spec.WorkDir, spec.AddModules = t.TempDir(), nil
	if err := image.BuildInitrd(ctx, spec); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("got %v after the deadline", err)
	}
	if left := list(t, spec.WorkDir); len(left) != 0 {
		t.Errorf("left behind: %v", left)
	}
}
