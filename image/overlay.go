package image

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// buildPath is where the commands of a build are, which an administrator's own in /usr/local are not.
const buildPath = "/usr/sbin:/usr/bin:/sbin:/bin"

// epoch is the time of files that are made for a build: always the same, as the build must be.
var epoch = time.Unix(1_000_000_000, 0)

// runOver runs a command in the tree as in a chroot, as root, with a clean environment, over an overlay
// that keeps what it writes in work/upper. The mounts live in a namespace of one thread and
// vanish with it, so there is nothing to clean up, however this process ends.
func runOver(ctx context.Context, tree, work string, command []string, out io.Writer) error {
	done := make(chan error, 1)
	onOtherThread(func() {
		err := mountOver(tree, work)
		if err == nil {
			err = runIn(ctx, filepath.Join(work, "merged"), command, out)
		}
		done <- err
	})
	return <-done
}

// onOtherThread runs f on a thread that is not the process's first and that ends with f. The first
// thread cannot end, and its namespace is what /proc/self shows to everybody.
func onOtherThread(f func()) {
	go func() {
		runtime.LockOSThread()
		if unix.Gettid() == unix.Getpid() {
			onOtherThread(f) // elsewhere, as this thread is taken
			runtime.UnlockOSThread()
			return
		}
		f() // still locked at its end: the runtime lets the thread go
	}()
}

// mountOver gives this thread a mount namespace with the overlay at work/merged, and in it what
// programs expect: proc, sys (to read), a few devices, an empty run.
func mountOver(tree, work string) error {
	if err := unix.Unshare(unix.CLONE_NEWNS); err != nil {
		return fmt.Errorf("make a mount namespace: %w", err)
	}
	if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
		return fmt.Errorf("make the mount namespace private: %w", err)
	}
	merged := filepath.Join(work, "merged")
	// By descriptor: in the options of an overlay a path can have neither ':' nor ','.
	var fds [3]string
	for i, dir := range []string{tree, filepath.Join(work, "upper"), filepath.Join(work, "work")} {
		if i > 0 {
			if err := os.MkdirAll(dir, 0o755); err != nil {
				return err
			}
		}
		fd, err := unix.Open(dir, unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
		if err != nil {
			return fmt.Errorf("open %s: %w", dir, err)
		}
		defer unix.Close(fd)
		fds[i] = "/proc/self/fd/" + strconv.Itoa(fd)
	}
	// Directories of the upper side, so that no link of the tree can lead a mount elsewhere.
	for _, dir := range []string{"proc", "sys", "dev", "run"} {
		if err := os.MkdirAll(filepath.Join(work, "upper", dir), 0o755); err != nil {
			return err
		}
	}
	if err := os.Mkdir(merged, 0o755); err != nil {
		return err
	}
	options := fmt.Sprintf("lowerdir=%s,upperdir=%s,workdir=%s", fds[0], fds[1], fds[2])
	if err := unix.Mount("overlay", merged, "overlay", 0, options); err != nil {
		return fmt.Errorf("lay an overlay over the tree, with %s to write to (which must not be on an overlay or network file system): %w", work, err)
	}
	for _, m := range []struct {
		kind, dir string
		flags     uintptr
	}{
		{"proc", "proc", unix.MS_NOSUID | unix.MS_NODEV | unix.MS_NOEXEC},
		{"sysfs", "sys", unix.MS_NOSUID | unix.MS_NODEV | unix.MS_NOEXEC | unix.MS_RDONLY},
		{"tmpfs", "dev", unix.MS_NOSUID},
		{"tmpfs", "run", unix.MS_NOSUID | unix.MS_NODEV},
	} {
		if err := unix.Mount(m.kind, filepath.Join(merged, m.dir), m.kind, m.flags, ""); err != nil {
			return fmt.Errorf("mount %s in the overlay: %w", m.dir, err)
		}
	}
	return makeDevices(filepath.Join(merged, "dev"))
}

// makeDevices makes the devices that a build needs. The disks of this machine are not among them.
func makeDevices(dev string) error {
	for name, minor := range map[string]uint32{"null": 3, "zero": 5, "full": 7, "random": 8, "urandom": 9} {
		path := filepath.Join(dev, name)
		if err := unix.Mknod(path, unix.S_IFCHR, int(unix.Mkdev(1, minor))); err != nil {
			return fmt.Errorf("make the device %s: %w", name, err)
		}
		if err := os.Chmod(path, 0o666); err != nil {
			return err
		}
	}
	for name, target := range map[string]string{"fd": "", "stdin": "/0", "stdout": "/1", "stderr": "/2"} {
		if err := os.Symlink("/proc/self/fd"+target, filepath.Join(dev, name)); err != nil {
			return err
		}
	}
	return nil
}

// runIn runs a command in a new root, from the thread's namespace. When ctx ends, or this process,
// the command and all its children are killed.
func runIn(ctx context.Context, root string, command []string, out io.Writer) error {
	cmd := exec.CommandContext(ctx, command[0], command[1:]...)
	cmd.Dir = "/"
	cmd.Env = []string{
		"PATH=" + buildPath, "HOME=/root", "LC_ALL=C", "TERM=dumb",
		fmt.Sprintf("SOURCE_DATE_EPOCH=%d", epoch.Unix()),
	}
	cmd.Stdout, cmd.Stderr = out, out
	cmd.SysProcAttr = &syscall.SysProcAttr{Chroot: root, Setpgid: true, Pdeathsig: syscall.SIGKILL}
	cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) }
	cmd.WaitDelay = 10 * time.Second
	err := run(cmd)
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	if err != nil {
		return fmt.Errorf("run %s: %w", command[0], err)
	}
	return nil
}

// moveFile puts a finished file where it belongs, whole or not at all, also across file systems.
func moveFile(from, to string) error {
	part := to + ".part"
	err := copyFile(from, part, 0o644)
	if err == nil {
		err = os.Rename(part, to)
	}
	if err != nil {
		return errors.Join(err, os.RemoveAll(part))
	}
	dir, err := os.Open(filepath.Dir(to))
	if err != nil {
		return err
	}
	return errors.Join(dir.Sync(), dir.Close())
}

// copyFile copies a file, and waits until the copy is on disk.
func copyFile(from, to string, mode os.FileMode) error {
	in, err := os.Open(from)
	if err != nil {
		return err
	}
	defer in.Close()
	out, err := os.OpenFile(to, os.O_CREATE|os.O_TRUNC|os.O_WRONLY, mode)
	if err != nil {
		return err
	}
	_, err = io.Copy(out, in)
	return errors.Join(err, out.Chmod(mode), out.Sync(), out.Close())
}
