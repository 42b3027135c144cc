package image

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/signal"
	"path"
	"path/filepath"
	"regexp"
	"runtime"
	"slices"
	"strings"
	"syscall"
	"time"

	securejoin "github.com/cyphar/filepath-securejoin"
	"golang.org/x/sys/unix"
)

// Exit statuses of Chroot where there is none of a command, as env and chroot of coreutils have them.
const (
	exitFailed  = 125 // Chroot itself failed
	exitNotRun  = 126 // the command is there and cannot be run
	exitMissing = 127 // there is no such command
)

// chrootPath is where commands of a tree are looked for.
const chrootPath = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

// ChrootSpec tells Chroot what to run where.
type ChrootSpec struct {
	Tree string // the image's tree
	Name string // what the prompt calls the image; empty is the last part of Tree
	// KernelVersion is what uname -r prints inside. Empty is the version of the running kernel.
	KernelVersion string
	// Command and its arguments. Empty is a shell: bash where the tree has it, else sh.
	Command []string
	// Stdin, Stdout and Stderr are those of the command. An [os.File], and with it a terminal, is handed
	// through as it is; another Stdin that does not end delays the return by five seconds. Nil is nothing.
	Stdin          io.Reader
	Stdout, Stderr io.Writer
	// Env is the environment, beside PATH, HOME, SHELL, USER, LOGNAME, PS1 and FAKE_KERN. Nil is what
	// of this process's has a meaning in another system: the terminal, language, time zone, proxies.
	Env []string
	// User is the name under which others are told who is in the tree. Empty is root.
	User string
	// Warn, if not nil, hears what could not be had and is no reason not to run the command.
	Warn func(message string)
}

// chrootJob is a specification as it goes to the second stage.
type chrootJob struct {
	Tree, KernelVersion, Resolv string
	Path                        string
	Args, Env                   []string
}

// chrootReport is what the second stage tells: first that it is one, then warnings, then perhaps why
// it could not run the command.
type chrootReport struct {
	Warning, Error string
	Code           int
}

// Chroot runs a command with a tree as its root, and returns its exit status: 128+N where signal N
// ended it. It needs root. One Chroot at a time may run in a tree; for another one the error is a
// [LockedError], which goes by itself when the process that is in the tree ends, however it ends.
//
// The command sees /dev and /etc/resolv.conf of this machine, a /proc and a /run of its own and a
// /sys that it can only read. They are mounted in a namespace that ends with the command, and so does
// every process that it leaves behind. The tree holds what the command wrote and no trace of Chroot.
// From the seat of uname(2) the kernel has the version KernelVersion; where the kernel of this machine
// cannot make believe so (before Linux 5.5), and in 32-bit programs, it has its own. /proc/version
// tells the truth.
//
// While Chroot runs, SIGINT and SIGQUIT of the terminal are for the command alone, so ctx must not be
// one that they end. SIGTERM and SIGHUP end the command as the end of ctx does: it gets SIGTERM, and
// is killed after five seconds.
//
// The program's main must call [ChrootChild] first. Where err is not nil, exitCode is the status that
// coreutils' chroot would have: 127 no such command, 126 not runnable, 125 all else.
func Chroot(ctx context.Context, spec ChrootSpec) (exitCode int, err error) {
	exitCode, err = spec.chroot(ctx)
	if err != nil {
		err = fmt.Errorf("chroot into %s: %w", spec.Tree, err)
	}
	return exitCode, err
}

func (spec ChrootSpec) chroot(ctx context.Context) (exitCode int, err error) {
	job, code, err := spec.job()
	if err != nil {
		return code, err
	}
	lock, err := lockTree(job.Tree, spec.User)
	if err != nil {
		return exitFailed, err
	}
	defer func() { err = errors.Join(err, lock.leave()) }()
	resolv, err := job.placeResolv(spec.warn)
	if err != nil {
		return exitFailed, err
	}
	if resolv != nil {
		defer func() { err = errors.Join(err, resolv.leave()) }()
	}

	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	defer catchSignals(cancel)()
	defer keepForeground(spec.Stdin)()
	return spec.runStage(ctx, job)
}

// chrootName is what a prompt, which a shell expands, may hold of an image's name.
var chrootName = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9._-]*$`)

// job checks the specification and finds the command.
func (spec ChrootSpec) job() (job chrootJob, exitCode int, err error) {
	tree, err := filepath.Abs(spec.Tree)
	if err == nil {
		tree, err = filepath.EvalSymlinks(tree)
	}
	if err != nil {
		return job, exitFailed, err
	}
	name := spec.Name
	if name == "" {
		name = filepath.Base(tree)
	}
	switch info, err := os.Stat(tree); {
	case err != nil:
		return job, exitFailed, err
	case !info.IsDir():
		return job, exitFailed, errors.New("it is not a directory")
	case os.Geteuid() != 0:
		return job, exitFailed, errors.New("only root can: run it with sudo")
	case spec.Name != "" && !chrootName.MatchString(spec.Name):
		return job, exitFailed, fmt.Errorf("the name '%s' is not valid: use letters, digits, '.', '_' and '-'", spec.Name)
	case !chrootName.MatchString(name):
		name = "image"
	}
	if most := len(unix.Utsname{}.Release) - 1; len(spec.KernelVersion) > most {
		return job, exitFailed, fmt.Errorf("the kernel version '%s' is longer than the %d bytes that uname can tell", spec.KernelVersion, most)
	}
	shell, haveShell := commandIn(tree, chrootPath, "bash")
	if !haveShell {
		shell, haveShell = commandIn(tree, chrootPath, "sh")
	}
	args := spec.Command
	file := shell
	if len(args) == 0 {
		if !haveShell {
			return job, exitMissing, errors.New("there is no shell in it: install bash in the image")
		}
		args = []string{path.Base(shell)}
	} else if file = args[0]; !strings.Contains(file, "/") {
		var ok bool
		if file, ok = commandIn(tree, chrootPath, args[0]); !ok {
			return job, exitMissing, fmt.Errorf("there is no command '%s' in it: install it in the image", args[0])
		}
	}
	return chrootJob{
		Tree: tree, KernelVersion: spec.KernelVersion, Path: file, Args: args, Env: spec.environment(name, shell),
	}, 0, nil
}

// environment is what the command finds.
func (spec ChrootSpec) environment(name, shell string) []string {
	env := spec.Env
	if env == nil {
		env = slices.DeleteFunc(os.Environ(), func(v string) bool {
			key, _, _ := strings.Cut(v, "=")
			proxy := strings.HasSuffix(strings.ToLower(key), "_proxy")
			return !proxy && !strings.HasPrefix(key, "LC_") && !slices.Contains([]string{"TERM", "COLORTERM", "LANG", "LANGUAGE", "TZ"}, key)
		})
	}
	prompt := `chroot [\u@` + name + ` \W]\$ `
	return append(slices.Clip(env),
		"PATH="+chrootPath, "HOME=/root", "SHELL="+shell, "USER=root", "LOGNAME=root",
		"FAKE_KERN="+spec.KernelVersion,
		"PS1="+prompt,
		// Debian's bash.bashrc sets a PS1 of its own. This comes after it, once.
		"PROMPT_COMMAND=PS1='"+prompt+"'; unset PROMPT_COMMAND")
}

// placeResolv finds the file over which this machine's resolv.conf goes, and makes an empty one for
// the time being where the tree has none: package managers want to know names.
func (job *chrootJob) placeResolv(warn func(string)) (*guest, error) {
	if _, err := os.Stat("/etc/resolv.conf"); err != nil {
		return nil, nil //nolint:nilerr // this machine knows no names, so there is nothing to hand on
	}
	file, err := securejoin.SecureJoin(job.Tree, "etc/resolv.conf")
	if err != nil {
		return nil, err
	}
	job.Resolv = file
	_, err = os.Lstat(file)
	// What is below /run, as a link to that of systemd-resolved is, will be hidden by another /run.
	if err == nil || job.inRun(file) {
		return nil, nil
	}
	g, err := newGuest(filepath.Dir(file), filepath.Base(file))
	if errors.Is(err, os.ErrNotExist) { // there is no /etc
		warn("/etc/resolv.conf of the tree leads to nowhere: names may stay unknown")
		job.Resolv = ""
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("make %s for the time being: %w", file, err)
	}
	return g, nil
}

func (job *chrootJob) inRun(file string) bool {
	return strings.HasPrefix(file, filepath.Join(job.Tree, "run")+"/")
}

// runStage runs this program once more, as the second stage, in namespaces of its own. That one is
// process 1 in there: when it ends, by whatever, the kernel ends all others.
func (spec ChrootSpec) runStage(ctx context.Context, job chrootJob) (exitCode int, err error) {
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return exitFailed, err
	}
	ours, theirs := os.NewFile(uintptr(fds[0]), "stage"), os.NewFile(uintptr(fds[1]), "stage")
	defer ours.Close()

	cmd := exec.CommandContext(ctx, "/proc/self/exe")
	cmd.Args = []string{chrootStage, job.Tree}
	cmd.Stdin, cmd.Stdout, cmd.Stderr = spec.Stdin, spec.Stdout, spec.Stderr
	cmd.ExtraFiles = []*os.File{theirs}
	cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: unix.CLONE_NEWNS | unix.CLONE_NEWPID, Pdeathsig: syscall.SIGKILL}
	cmd.Cancel = func() error { return cmd.Process.Signal(syscall.SIGTERM) }
	cmd.WaitDelay = 5 * time.Second
	// Pdeathsig comes when the thread that started it ends, so that one has to stay.
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	err = cmd.Start()
	theirs.Close()
	if err != nil {
		return exitFailed, fmt.Errorf("start the second stage: %w", err)
	}
	failure := spec.converse(ours, job)
	err = cmd.Wait()
	var exit *exec.ExitError
	switch {
	case ctx.Err() != nil:
		return exitFailed, context.Cause(ctx)
	case failure.Error != "":
		return failure.Code, errors.New(failure.Error)
	case err == nil || errors.Is(err, exec.ErrWaitDelay):
		return cmd.ProcessState.ExitCode(), nil
	case errors.As(err, &exit) && exit.Exited():
		return exit.ExitCode(), nil
	default:
		return exitFailed, fmt.Errorf("the second stage: %w", err)
	}
}

// converse tells the second stage what to do and hears it until it ends.
func (spec ChrootSpec) converse(stage *os.File, job chrootJob) (failure chrootReport) {
	_ = json.NewEncoder(stage).Encode(job) // where it does not get there, no answer comes
	failure = chrootReport{Error: "this program does not call image.ChrootChild first in its main", Code: exitFailed}
	for in := json.NewDecoder(stage); ; {
		var r chrootReport
		if err := in.Decode(&r); err != nil {
			return failure
		}
		failure = chrootReport{}
		switch {
		case r.Error != "":
			return r
		case r.Warning != "":
			spec.warn(r.Warning)
		}
	}
}

func (spec ChrootSpec) warn(message string) {
	if spec.Warn != nil {
		spec.Warn(message)
	}
}

// catchSignals keeps the signals that a terminal sends from ending this process before its command,
// and makes others end the command first.
func catchSignals(cancel context.CancelCauseFunc) (stop func()) {
	signals := notifySignals()
	done := make(chan struct{})
	go func() {
		defer close(done)
		for s := range signals {
			if s == syscall.SIGTERM || s == syscall.SIGHUP {
				cancel(fmt.Errorf("ended by the signal '%s'", s))
			}
		}
	}()
	return func() { signal.Stop(signals); close(signals); <-done }
}

// notifySignals asks for the signals by which a person or a terminal ends programs, but for those
// that this process was started to ignore: nohup means the command too.
func notifySignals() chan os.Signal {
	signals := make(chan os.Signal, 8)
	for _, s := range []os.Signal{syscall.SIGINT, syscall.SIGQUIT, syscall.SIGTERM, syscall.SIGHUP} {
		if !signal.Ignored(s) {
			signal.Notify(signals, s)
		}
	}
	return signals
}

// keepForeground returns what gives the terminal back to this process's group at the end. A shell
// would do that if it could name that group, whose number does not exist in its namespace.
func keepForeground(stdin io.Reader) (restore func()) {
	terminal, ok := stdin.(*os.File)
	if !ok {
		return func() {}
	}
	group := unix.Getpgrp()
	fd := int(terminal.Fd())
	if now, err := unix.IoctlGetInt(fd, unix.TIOCGPGRP); err != nil || now != group {
		return func() {}
	}
	return func() {
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		var before unix.Sigset_t
		ttou := unix.Sigset_t{}
		ttou.Val[0] = 1 << (unix.SIGTTOU - 1) // blocked, it may be done from the background
		if err := unix.PthreadSigmask(unix.SIG_BLOCK, &ttou, &before); err != nil {
			return
		}
		// Where it fails, the terminal has gone.
		_ = unix.IoctlSetPointerInt(fd, unix.TIOCSPGRP, group)
		_ = unix.PthreadSigmask(unix.SIG_SETMASK, &before, nil)
	}
}
