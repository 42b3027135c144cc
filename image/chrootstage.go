package image

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"syscall"

	securejoin "github.com/cyphar/filepath-securejoin"
	"golang.org/x/sys/unix"
)

// chrootStage is the name by which a program knows that it is the second stage of Chroot.
const chrootStage = "luna-chroot"

// ChrootChild is the second stage of [Chroot], for which Chroot runs its own program once more. The
// main function of a program that calls Chroot calls ChrootChild first: before it looks at its
// arguments, opens files or starts goroutines. In any other process it returns at once; in the
// second stage it never does.
func ChrootChild() {
	if os.Args[0] != chrootStage {
		return
	}
	const socket = 3 // the first of exec.Cmd's ExtraFiles
	unix.CloseOnExec(socket)
	first := os.NewFile(socket, "stage")
	out := json.NewEncoder(first)
	tell := func(r chrootReport) {
		_ = out.Encode(r) // the first stage is gone, and this one goes with it
	}
	var job chrootJob
	if err := json.NewDecoder(first).Decode(&job); err != nil {
		fmt.Fprintf(os.Stderr, "%s is started by luna, not by hand\n", chrootStage)
		os.Exit(exitFailed)
	}
	tell(chrootReport{})
	code, err := job.run(func(format string, args ...any) { tell(chrootReport{Warning: fmt.Sprintf(format, args...)}) })
	if err != nil {
		tell(chrootReport{Error: err.Error(), Code: code})
	}
	os.Exit(code)
}

// run is the life of the second stage. It stays outside the tree: programs know that they are in a
// chroot by process 1 having another root, and then leave the services of the machine alone.
func (job *chrootJob) run(warn func(format string, args ...any)) (exitCode int, err error) {
	if err := job.mount(warn); err != nil {
		return exitFailed, err
	}
	// The filter is on this thread, and what it starts inherits it. The other threads, which answer,
	// do not have it.
	runtime.LockOSThread()
	if job.KernelVersion != "" {
		if err := fakeUname(job.KernelVersion, warn); err != nil {
			warn("uname -r tells the kernel of this machine and not %s: %v", job.KernelVersion, err)
		}
	}
	signals := notifySignals()
	child, err := os.StartProcess(job.Path, job.Args, &os.ProcAttr{
		Dir: "/", Env: job.Env, Files: []*os.File{os.Stdin, os.Stdout, os.Stderr},
		Sys: &syscall.SysProcAttr{Chroot: job.Tree},
	})
	switch {
	case errors.Is(err, unix.ENOENT):
		return exitMissing, fmt.Errorf("there is no command '%s' in it, or not the interpreter that it asks for", job.Path)
	case err != nil:
		return exitNotRun, fmt.Errorf("'%s' cannot be run on this machine: %w", job.Path, bare(err))
	}
	go func() {
		for s := range signals {
			if s == syscall.SIGTERM || s == syscall.SIGHUP {
				_ = child.Signal(s) // where it fails, the command has ended
			}
		}
	}()
	return reap(child.Pid)
}

// reap waits for a child, and meanwhile for all that lost their parents, as process 1 has to.
func reap(child int) (exitCode int, err error) {
	for {
		var status unix.WaitStatus
		pid, err := unix.Wait4(-1, &status, 0, nil)
		switch {
		case errors.Is(err, unix.EINTR):
		case err != nil:
			return exitFailed, fmt.Errorf("wait for the command: %w", err)
		case pid != child:
		case status.Signaled():
			return 128 + int(status.Signal()), nil
		default:
			return status.ExitStatus(), nil
		}
	}
}

// mount gives the tree, in this namespace alone, what programs expect. What cannot be had is told.
func (job *chrootJob) mount(warn func(format string, args ...any)) error {
	if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
		return fmt.Errorf("make the mount namespace private: %w", err)
	}
	const quiet = unix.MS_NOSUID | unix.MS_NODEV | unix.MS_NOEXEC
	// Over this machine's, for this stage itself, which has to look into the processes of the namespace.
	if err := unix.Mount("proc", "/proc", "proc", quiet, ""); err != nil {
		warn("cannot mount a /proc for the processes in the tree: %v", err)
	}
	for _, m := range []struct {
		from, dir, kind string
		flags           uintptr
		options         string
	}{
		{"/proc", "proc", "", unix.MS_BIND, ""},
		{"sysfs", "sys", "sysfs", quiet | unix.MS_RDONLY, ""},
		{"/dev", "dev", "", unix.MS_BIND | unix.MS_REC, ""}, // with the pts that the terminal is on
		{"tmpfs", "run", "tmpfs", unix.MS_NOSUID | unix.MS_NODEV, "mode=755"},
	} {
		dir, err := securejoin.SecureJoin(job.Tree, m.dir)
		if err == nil {
			err = unix.Mount(m.from, dir, m.kind, m.flags, m.options)
		}
		if errors.Is(err, unix.ENOENT) || errors.Is(err, unix.ENOTDIR) {
			warn("there is no directory /%s in the tree, so none is mounted", m.dir)
		} else if err != nil {
			warn("cannot mount /%s: %v", m.dir, err)
		} else if m.dir == "run" { // /var/lock is a link to it
			if err := errors.Join(os.Mkdir(filepath.Join(dir, "lock"), 0o755), os.Chmod(filepath.Join(dir, "lock"), 0o777|os.ModeSticky)); err != nil {
				warn("cannot make /run/lock: %v", err)
			}
		}
	}
	if err := job.mountResolv(); err != nil {
		warn("cannot show this machine's /etc/resolv.conf, so names may stay unknown: %v", err)
	}
	return nil
}

// mountResolv puts this machine's resolv.conf, to be read only, over the tree's.
func (job *chrootJob) mountResolv() error {
	const host = "/etc/resolv.conf"
	switch {
	case job.Resolv == "":
		return nil
	case job.inRun(job.Resolv): // in the /run that has just been mounted
		text, err := os.ReadFile(host)
		if err == nil {
			err = os.MkdirAll(filepath.Dir(job.Resolv), 0o755)
		}
		if err == nil {
			err = os.WriteFile(job.Resolv, text, 0o644)
		}
		return err
	}
	if err := unix.Mount(host, job.Resolv, "", unix.MS_BIND, ""); err != nil {
		return err
	}
	return unix.Mount("", job.Resolv, "", unix.MS_REMOUNT|unix.MS_BIND|unix.MS_RDONLY, "")
}
