package image_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/clustervision/luna/image"
)

// fakeKernel is a version that no machine runs.
const fakeKernel = "4.18.0-553.el8_10.x86_64"

func TestMain(m *testing.M) {
	image.ChrootChild()
	if tree := os.Getenv("LUNA_TEST_LCHROOT"); tree != "" {
		os.Exit(lchroot(tree))
	}
	heedSignals()
	os.Exit(m.Run())
}

// heedSignals lets the processes of tests hear signals that this one was started to ignore, by nohup
// or by a shell that has it run beside others: a program inherits deafness, but not a handler.
func heedSignals() {
	for _, s := range []os.Signal{syscall.SIGHUP, syscall.SIGINT, syscall.SIGQUIT} {
		if signal.Ignored(s) {
			signal.Notify(make(chan os.Signal, 1), s)
		}
	}
}

// lchroot is what this program does in the place of a command lchroot, for tests that need a process
// of its own.
func lchroot(tree string) int {
	if os.Getenv("LUNA_TEST_NO_SECCOMP") != "" {
		forbidSeccomp()
	}
	code, err := image.Chroot(context.Background(), image.ChrootSpec{
		Tree: tree, Name: "compute", KernelVersion: fakeKernel, Command: os.Args[1:], User: "alice",
		Stdin: os.Stdin, Stdout: os.Stdout, Stderr: os.Stderr,
		Warn: func(message string) { fmt.Fprintln(os.Stderr, "warning:", message) },
	})
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
	}
	return code
}

// lchrootCommand is a process of lchroot, not started yet.
func lchrootCommand(t *testing.T, tree string, args ...string) *exec.Cmd {
	t.Helper()
	exe, err := os.Executable()
	must(t, err)
	cmd := exec.CommandContext(t.Context(), exe, args...)
	cmd.Env = append(os.Environ(), "LUNA_TEST_LCHROOT="+tree)
	return cmd
}

// smallTree is a tree with a shell and a few programs of this machine.
func smallTree(t *testing.T) string {
	t.Helper()
	needRoot(t, "ldd", "setarch", "busybox")
	tree := filepath.Join(t.TempDir(), "tree")
	for _, d := range []string{"", "dev", "proc", "sys", "run", "tmp", "etc", "root", "bin"} {
		must(t, os.MkdirAll(filepath.Join(tree, d), 0o755))
	}
	for _, program := range []string{"bash", "uname", "cat", "sleep", "stat", "setarch", "busybox"} {
		addProgram(t, tree, program)
	}
	must(t, os.Symlink("bash", filepath.Join(tree, "bin/sh")))
	must(t, os.WriteFile(filepath.Join(tree, "bin/no-program"), []byte("text"), 0o644))
	must(t, os.WriteFile(filepath.Join(tree, "bin/of-another-machine"), []byte("\x7fELF\x02\x01\x01"+strings.Repeat("\x00", 60)), 0o755))
	must(t, os.WriteFile(filepath.Join(tree, "bin/no-interpreter"), []byte("#!/bin/perl\n"), 0o755))
	must(t, os.Chmod(filepath.Join(tree, "tmp"), 0o777|os.ModeSticky))
	return tree
}

// inTree runs a command in a tree to its end.
func inTree(t *testing.T, tree, stdin string, command ...string) (exitCode int, stdout, stderr string, err error) {
	t.Helper()
	var out, errs bytes.Buffer
	exitCode, err = image.Chroot(t.Context(), image.ChrootSpec{
		Tree: tree, KernelVersion: fakeKernel, Command: command,
		Stdin: strings.NewReader(stdin), Stdout: &out, Stderr: &errs,
		Warn: func(message string) { t.Errorf("%q: warning: %s", command, message) },
	})
	return exitCode, out.String(), errs.String(), err
}

func TestChroot(t *testing.T) {
	tree := smallTree(t)
	resolv, err := os.ReadFile("/etc/resolv.conf")
	must(t, err)
	hostname, err := os.Hostname()
	must(t, err)
	tests := map[string]struct {
		stdin   string
		command []string
		exit    int
		want    string
	}{
		"uname":                    {command: []string{"uname", "-r"}, want: fakeKernel + "\n"},
		"uname of another program": {command: []string{"busybox", "uname", "-r"}, want: fakeKernel + "\n"},
		"uname of a grandchild":    {command: []string{"sh", "-c", "echo $(uname -r); uname -r"}, want: fakeKernel + "\n" + fakeKernel + "\n"},
		"the rest of uname":        {command: []string{"uname", "-sn"}, want: "Linux " + hostname + "\n"},
		"machine":                  {command: []string{"uname", "-m"}, want: run(t, "uname", "-m")},
		"another machine":          {command: []string{"setarch", "linux32", "uname", "-mr"}, want: fakeKernel + " " + lastField(run(t, "setarch", "linux32", "uname", "-m")) + "\n"},
		"status":                   {command: []string{"sh", "-c", "exit 42"}, exit: 42},
		"status of a signal":       {command: []string{"sh", "-c", "kill -TERM $$"}, exit: 143},
		"arguments":                {command: []string{"sh", "-c", `echo "$0|$1"`, "a b", "$(c)"}, want: "a b|$(c)\n"},
		"input":                    {stdin: "hello\n", command: []string{"cat"}, want: "hello\n"},
		"a shell for nothing":      {stdin: "echo $SHELL\nexit 9\n", exit: 9, want: "/usr/bin/bash\n"},
		"no more open files":       {command: []string{"bash", "-c", "cd /proc/$$/fd && echo *"}, want: run(t, "bash", "-c", "cd /proc/$$/fd && echo *")},
		"environment":              {command: []string{"sh", "-c", "echo $FAKE_KERN $HOME $USER $LUNA_SECRET"}, want: fakeKernel + " /root root\n"},
		"names":                    {command: []string{"cat", "/etc/resolv.conf"}, want: string(resolv)},
		"names, not to write":      {command: []string{"sh", "-c", "echo x >/etc/resolv.conf"}, exit: 1},
		"sys, not to write":        {command: []string{"sh", "-c", "echo x >/sys/kernel/uevent_helper"}, exit: 1},
		"devices":                  {command: []string{"sh", "-c", "test -c /dev/null && echo x >/dev/null"}},
		"its own run":              {command: []string{"sh", "-c", "echo x >/run/x && cat /run/x && test -d /run/lock"}, want: "x\n"},
		"processes of its own":     {command: []string{"sh", "-c", "set -- /proc/[0-9]*; echo $1 and $#"}, want: "/proc/1 and 2\n"},
		"programs see the chroot":  {command: []string{"sh", "-c", "test $(stat -Lc %i /proc/1/root) != $(stat -Lc %i /)"}},
		"the directory":            {command: []string{"sh", "-c", "pwd"}, want: "/\n"},
		"path":                     {command: []string{"/bin/uname", "-r"}, want: fakeKernel + "\n"},
		"may have new privileges":  {command: []string{"busybox", "grep", "NoNewPrivs", "/proc/self/status"}, want: "NoNewPrivs:\t0\n"},
		"many calls, and at once":  {command: []string{"sh", "-c", "for i in 1 2 3 4 5 6 7 8; do (for j in 1 2 3 4 5; do uname -r; done) & done; wait"}, want: strings.Repeat(fakeKernel+"\n", 40)},
		"closed standard channels": {command: []string{"sh", "-c", "exec <&- >&-; uname -r 2>/dev/null; exit 5"}, exit: 5},
	}
	t.Setenv("LUNA_SECRET", "of the agent")
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			exit, stdout, stderr, err := inTree(t, tree, tt.stdin, tt.command...)
			if err != nil || exit != tt.exit || stdout != tt.want {
				t.Errorf("got status %d, %v, output %q, want %d, %q; it said %q", exit, err, stdout, tt.exit, tt.want, stderr)
			}
		})
	}
}

func lastField(s string) string {
	fields := strings.Fields(s)
	return fields[len(fields)-1]
}

func TestChrootErrorsSayWhatToDo(t *testing.T) {
	tree := smallTree(t)
	bare := plant(t, "tmp/")
	locked := plant(t, "bin/sh", "tmp/lchroot.lock -> /etc/passwd")
	tests := map[string]struct {
		spec image.ChrootSpec
		exit int
		want string
	}{
		"no command":       {image.ChrootSpec{Tree: tree, Command: []string{"perl"}}, 127, "there is no command 'perl' in it: install it in the image"},
		"no such file":     {image.ChrootSpec{Tree: tree, Command: []string{"/bin/perl"}}, 127, "there is no command '/bin/perl' in it"},
		"no interpreter":   {image.ChrootSpec{Tree: tree, Command: []string{"no-interpreter"}}, 127, "or not the interpreter that it asks for"},
		"no program":       {image.ChrootSpec{Tree: tree, Command: []string{"no-program"}}, 126, "'/bin/no-program' cannot be run on this machine: permission denied"},
		"another machine":  {image.ChrootSpec{Tree: tree, Command: []string{"of-another-machine"}}, 126, "cannot be run on this machine: exec format error"},
		"no shell":         {image.ChrootSpec{Tree: bare}, 127, "there is no shell in it: install bash in the image"},
		"no tree":          {image.ChrootSpec{Tree: "/nonexistent"}, 125, "no such file"},
		"a file":           {image.ChrootSpec{Tree: "/etc/passwd"}, 125, "it is not a directory"},
		"a name that runs": {image.ChrootSpec{Tree: tree, Name: "$(reboot)"}, 125, "the name '$(reboot)' is not valid"},
		"a long version":   {image.ChrootSpec{Tree: tree, KernelVersion: strings.Repeat("1", 65)}, 125, "is longer than the 64 bytes"},
		"no /tmp":          {image.ChrootSpec{Tree: plant(t, "bin/sh")}, 125, "lock the tree: "},
		"a strange lock":   {image.ChrootSpec{Tree: locked}, 125, "tmp/lchroot.lock: too many levels"},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			exit, err := image.Chroot(t.Context(), tt.spec)
			if exit != tt.exit || err == nil || !strings.Contains(err.Error(), tt.want) || !strings.Contains(err.Error(), tt.spec.Tree) {
				t.Errorf("got status %d and %v, want %d and %q", exit, err, tt.exit, tt.want)
			}
		})
	}
	onlyIn(t, filepath.Join(tree, "tmp"))
}

// All that an artifact has of a tree is the same before and after, whatever the tree has for a
// resolv.conf.
func TestChrootLeavesNoTrace(t *testing.T) {
	for name, prepare := range map[string]func(tree string) error{
		"no resolv.conf": func(string) error { return nil },
		"one": func(tree string) error {
			return os.WriteFile(filepath.Join(tree, "etc/resolv.conf"), []byte("#"), 0o644)
		},
		"a link of resolved": func(tree string) error {
			return os.Symlink("../run/systemd/resolve/stub-resolv.conf", filepath.Join(tree, "etc/resolv.conf"))
		},
		"a link in the tree": func(tree string) error { return os.Symlink("/tmp/resolv.conf", filepath.Join(tree, "etc/resolv.conf")) },
		"links that lead outside": func(tree string) error {
			return errors.Join(os.Remove(filepath.Join(tree, "proc")), os.Symlink("/sys", filepath.Join(tree, "proc")))
		},
	} {
		t.Run(name, func(t *testing.T) {
			tree := smallTree(t)
			must(t, prepare(tree))
			before := look(t, tree)
			host, err := os.ReadFile("/proc/self/mountinfo")
			must(t, err)
			if !strings.HasPrefix(name, "links") {
				exit, stdout, _, err := inTree(t, tree, "", "sh", "-c", "cat /etc/resolv.conf; sleep 1000 & sleep 1000 & echo; echo left $(uname -r)")
				if err != nil || exit != 0 || !strings.HasSuffix(stdout, "left "+fakeKernel+"\n") || !strings.Contains(stdout, "nameserver") {
					t.Errorf("got status %d, %v, output %q", exit, err, stdout)
				}
			} else if _, err := image.Chroot(t.Context(), image.ChrootSpec{Tree: tree, Command: []string{"sh"}}); err != nil {
				t.Error(err)
			}
			if diff := cmp.Diff(before, look(t, tree)); diff != "" {
				t.Errorf("the tree is not what it was:\n%s", diff)
			}
			if now, err := os.ReadFile("/proc/self/mountinfo"); err != nil || !bytes.Equal(host, now) {
				t.Errorf("the mounts of this machine are other ones than before, %v:\n%s", err, now)
			}
			if left := processesIn(t, tree); len(left) != 0 {
				t.Errorf("left running: %v", left)
			}
		})
	}
	// What the command writes stays, and so do the times that it gave its directories.
	tree := smallTree(t)
	_, _, _, err := inTree(t, tree, "", "sh", "-c", "echo x >/etc/new; echo x >/tmp/new")
	must(t, err)
	onlyIn(t, filepath.Join(tree, "etc"), "new")
	onlyIn(t, filepath.Join(tree, "tmp"), "new")
	for _, dir := range []string{"etc", "tmp"} {
		d, err := os.Stat(filepath.Join(tree, dir))
		must(t, err)
		f, err := os.Stat(filepath.Join(tree, dir, "new"))
		must(t, err)
		if d.ModTime().Before(f.ModTime().Truncate(10 * time.Millisecond)) {
			t.Errorf("/%s was changed at %s and says %s", dir, f.ModTime(), d.ModTime())
		}
	}
}

// processesIn lists the processes whose root is the tree.
func processesIn(t *testing.T, tree string) (pids []string) {
	t.Helper()
	roots, err := filepath.Glob("/proc/[0-9]*/root")
	must(t, err)
	for _, r := range roots {
		if to, err := os.Readlink(r); err == nil && to == tree {
			pids = append(pids, filepath.Base(filepath.Dir(r)))
		}
	}
	return pids
}

// visitor is a process that is in a tree until it is told to leave.
type visitor struct {
	cmd   *exec.Cmd
	stdin io.Closer
}

func visit(t *testing.T, tree string) *visitor {
	t.Helper()
	cmd := lchrootCommand(t, tree, "sh", "-c", "echo here; cat")
	in, err := cmd.StdinPipe()
	must(t, err)
	out, err := cmd.StdoutPipe()
	must(t, err)
	must(t, cmd.Start())
	if _, err := io.ReadFull(out, make([]byte, len("here\n"))); err != nil {
		t.Fatalf("the visitor did not come: %v", err)
	}
	return &visitor{cmd: cmd, stdin: in}
}

func TestChrootIsForOne(t *testing.T) {
	tree := smallTree(t)
	start := time.Now().Truncate(time.Second)
	v := visit(t, tree)
	exit, _, _, err := inTree(t, tree, "", "uname")
	var locked *image.LockedError
	if !errors.As(err, &locked) || exit != 125 {
		t.Fatalf("got status %d and %v beside another", exit, err)
	}
	hostname, err := os.Hostname()
	must(t, err)
	if locked.PID != v.cmd.Process.Pid || locked.User != "alice" || locked.Host != hostname || locked.Tree != tree ||
		locked.Since.Before(start) || locked.Since.After(time.Now()) {
		t.Errorf("the holder is %+v", locked)
	}
	if want := fmt.Sprintf("alice is in it since %s, with process %d on %s: wait", locked.Since.Local().Format(time.DateTime), v.cmd.Process.Pid, hostname); !strings.Contains(locked.Error(), want) {
		t.Errorf("got %q, want %q", locked.Error(), want)
	}
	v.stdin.Close()
	must(t, v.cmd.Wait())
	if _, _, _, err := inTree(t, tree, "", "uname"); err != nil {
		t.Errorf("after the other has left: %v", err)
	}
	onlyIn(t, filepath.Join(tree, "tmp"))
}

func TestChrootOfAKilledOneIsFree(t *testing.T) {
	tree := smallTree(t)
	v := visit(t, tree)
	must(t, v.cmd.Process.Kill())
	_ = v.cmd.Wait() // it was killed
	onlyIn(t, filepath.Join(tree, "tmp"), "lchroot.lock")
	if exit, stdout, _, err := inTree(t, tree, "", "uname", "-r"); err != nil || exit != 0 || stdout != fakeKernel+"\n" {
		t.Errorf("got status %d, %v, output %q", exit, err, stdout)
	}
	onlyIn(t, filepath.Join(tree, "tmp"))
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	for len(processesIn(t, tree)) > 0 && ctx.Err() == nil {
		<-time.After(10 * time.Millisecond)
	}
	if left := processesIn(t, tree); len(left) > 0 {
		t.Errorf("the command of a killed lchroot still runs: %v", left)
	}
}

// Many at once: never are two in the tree, and the lock that each leaves fools none.
func TestChrootLockIsSafe(t *testing.T) {
	tree := smallTree(t)
	var all sync.WaitGroup
	var mu sync.Mutex
	entered := 0
	for range 4 {
		all.Go(func() {
			for range 10 {
				exit, err := image.Chroot(t.Context(), image.ChrootSpec{Tree: tree, Command: []string{"sh", "-c", "set -C; echo >/tmp/mark && busybox rm /tmp/mark"}})
				var locked *image.LockedError
				if errors.As(err, &locked) {
					continue
				}
				if err != nil || exit != 0 {
					t.Errorf("status %d: %v: two were in the tree", exit, err)
				}
				mu.Lock()
				entered++
				mu.Unlock()
			}
		})
	}
	all.Wait()
	if entered == 0 {
		t.Error("nobody ever got in")
	}
	onlyIn(t, filepath.Join(tree, "tmp"))
}

func TestChrootEndsWithItsContext(t *testing.T) {
	tree := smallTree(t)
	stop := errors.New("the administrator has had enough")
	ctx, cancel := context.WithCancelCause(t.Context())
	defer cancel(nil)
	var out bytes.Buffer
	exit, err := image.Chroot(ctx, image.ChrootSpec{
		Tree: tree, Command: []string{"sh", "-c", "trap 'echo bye; exit' TERM; echo here; while :; do sleep 0.05; done"},
		Stdout: writerFunc(func(p []byte) (int, error) { cancel(stop); return out.Write(p) }),
	})
	if exit != 125 || !errors.Is(err, stop) || out.String() != "here\nbye\n" {
		t.Errorf("got status %d, %v, output %q", exit, err, out.String())
	}
	if left := processesIn(t, tree); len(left) != 0 {
		t.Errorf("left running: %v", left)
	}
	onlyIn(t, filepath.Join(tree, "tmp"))
}

// A terminal that is closed sends SIGHUP.
func TestChrootEndsTidilyOnASignal(t *testing.T) {
	for _, sig := range []syscall.Signal{syscall.SIGHUP, syscall.SIGTERM} {
		tree := smallTree(t)
		v := visit(t, tree)
		must(t, v.cmd.Process.Signal(sig))
		err := v.cmd.Wait()
		if code := v.cmd.ProcessState.ExitCode(); code != 125 {
			t.Errorf("%s: got %v", sig, err)
		}
		onlyIn(t, filepath.Join(tree, "tmp"))
		onlyIn(t, filepath.Join(tree, "etc"))
	}
}

// Where the kernel has no such filters, or somebody forbids them, the command runs all the same.
func TestChrootWithoutSeccomp(t *testing.T) {
	tree := smallTree(t)
	cmd := lchrootCommand(t, tree, "uname", "-r")
	cmd.Env = append(cmd.Env, "LUNA_TEST_NO_SECCOMP=1")
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil || string(out) != run(t, "uname", "-r") {
		t.Errorf("got %q, %v", out, err)
	}
	if want := "warning: uname -r tells the kernel of this machine and not " + fakeKernel + ": filter system calls: function not implemented\n"; stderr.String() != want {
		t.Errorf("it said %q, want %q", stderr.String(), want)
	}
}

// A tree that lacks what is needed for comfort: it is said, once each, and the command runs.
func TestChrootWarns(t *testing.T) {
	tree := smallTree(t)
	run(t, "rm", "-r", filepath.Join(tree, "sys"), filepath.Join(tree, "run"), filepath.Join(tree, "etc"))
	var warnings []string
	exit, err := image.Chroot(t.Context(), image.ChrootSpec{
		Tree: tree, Command: []string{"uname"}, Warn: func(message string) { warnings = append(warnings, message) },
	})
	want := []string{
		"/etc/resolv.conf of the tree leads to nowhere: names may stay unknown",
		"there is no directory /sys in the tree, so none is mounted",
		"there is no directory /run in the tree, so none is mounted",
	}
	got, _ := json.Marshal(warnings)
	if expect, _ := json.Marshal(want); err != nil || exit != 0 || string(got) != string(expect) {
		t.Errorf("status %d, %v, warnings %s, want %s", exit, err, got, expect)
	}
}
