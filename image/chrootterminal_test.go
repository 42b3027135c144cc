package image_test

import (
	"bytes"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
	"unsafe"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"

	"github.com/clustervision/luna/image"
)

// forbidSeccomp makes seccomp(2) fail in this process and what it starts, as on a kernel without it.
func forbidSeccomp() {
	filter := []unix.SockFilter{
		{Code: unix.BPF_LD | unix.BPF_W | unix.BPF_ABS},
		{Code: unix.BPF_JMP | unix.BPF_JEQ | unix.BPF_K, K: unix.SYS_SECCOMP, Jf: 1},
		{Code: unix.BPF_RET | unix.BPF_K, K: unix.SECCOMP_RET_ERRNO | uint32(unix.ENOSYS)},
		{Code: unix.BPF_RET | unix.BPF_K, K: unix.SECCOMP_RET_ALLOW},
	}
	program := unix.SockFprog{Len: uint16(len(filter)), Filter: &filter[0]}
	_, _, errno := unix.Syscall(unix.SYS_SECCOMP, unix.SECCOMP_SET_MODE_FILTER, unix.SECCOMP_FILTER_FLAG_TSYNC, uintptr(unsafe.Pointer(&program)))
	if errno != 0 {
		panic(errno)
	}
}

// terminal is a shell on a pseudo-terminal, which script(1) makes.
type terminal struct {
	t    *testing.T
	cmd  *exec.Cmd
	in   io.WriteCloser
	out  io.Reader
	said bytes.Buffer
	seen int
}

func startTerminal(t *testing.T, command string, env ...string) *terminal {
	t.Helper()
	needRoot(t, "script")
	// script has the person's $SHELL run the command; exec leaves no shell there that heeds Ctrl-C itself,
	// as dash does and bash does not.
	cmd := exec.CommandContext(t.Context(), "script", "-q", "-e", "-c", "exec "+command, "/dev/null")
	cmd.Env = append(os.Environ(), env...)
	in, err := cmd.StdinPipe()
	must(t, err)
	out, err := cmd.StdoutPipe()
	must(t, err)
	term := &terminal{t: t, cmd: cmd, in: in, out: out}
	must(t, cmd.Start())
	kill := time.AfterFunc(3*time.Minute, func() { _ = cmd.Process.Kill() })
	t.Cleanup(func() { kill.Stop() })
	return term
}

// expect reads until the terminal shows something that it had not shown at the last call.
func (term *terminal) expect(want string) {
	term.t.Helper()
	buf := make([]byte, 4096)
	for {
		if at := strings.Index(term.said.String()[term.seen:], want); at >= 0 {
			term.seen += at + len(want)
			return
		}
		n, err := term.out.Read(buf)
		term.said.Write(buf[:n])
		if err != nil && n == 0 {
			term.t.Fatalf("the terminal never showed %q: %v; it showed:\n%s", want, err, term.said.String())
		}
	}
}

func (term *terminal) send(keys string) {
	term.t.Helper()
	_, err := io.WriteString(term.in, keys)
	must(term.t, err)
}

// A person at a terminal, in a real Debian: the prompt, job control, Ctrl-C, Ctrl-Z, the status, and
// the terminal belongs to the caller again in the end.
func TestChrootOnATerminal(t *testing.T) {
	base, kernel := debianTree(t)
	tree := filepath.Join(t.TempDir(), "tree")
	must(t, image.Clone(t.Context(), base, tree, nil))
	ownInitrd(t, tree, kernel)
	before := look(t, tree)
	exe, err := os.Executable()
	must(t, err)
	term := startTerminal(t, `sh -c '"$EXE"; echo "status $?"; read line; echo "read $line"'`,
		"EXE="+exe, "LUNA_TEST_LCHROOT="+tree, "HISTFILE=/dev/null", "TERM=dumb")
	prompt := "chroot [root@compute /]# "
	term.expect(prompt)
	term.send("unset HISTFILE; tty; uname -r; ls /lib/modules; ischroot; echo ischroot $?\n")
	term.expect("/dev/pts/")
	term.expect(fakeKernel)
	term.expect(kernel)
	term.expect("ischroot 0")
	term.expect(prompt)
	const wait = "sh -c 'echo on $((1+1)); exec sleep 1000'\n" // tells in other words than were typed
	term.send(wait)
	term.expect("on 2")
	term.send("\x1a") // Ctrl-Z
	term.expect("Stopped")
	term.expect(prompt)
	term.send("kill -KILL %1; " + wait)
	term.expect("on 2")
	term.send("\x03") // Ctrl-C
	term.expect(prompt)
	term.send("echo status $?\n")
	term.expect("status 130")
	term.expect(prompt)
	term.send("systemctl start ssh; echo systemctl $?\n")
	term.expect("Running in chroot, ignoring")
	term.expect("systemctl 0")
	term.send("exit 7\n")
	term.expect("status 7")
	term.send("mine again\n")
	term.expect("read mine again")
	must(t, term.in.Close())
	must(t, term.cmd.Wait())
	for _, complaint := range []string{"no job control", "cannot set terminal", "Inappropriate"} {
		if strings.Contains(term.said.String(), complaint) {
			t.Errorf("%q was said:\n%s", complaint, term.said.String())
		}
	}
	if diff := cmp.Diff(before, look(t, tree)); diff != "" {
		t.Errorf("the tree is not what it was:\n%s", diff)
	}
}

// ownInitrd has a tree make its own initrd, as the package of a kernel does: dracut, which is not told
// for which kernel, asks uname.
func ownInitrd(t *testing.T, tree, kernel string) {
	t.Helper()
	var said bytes.Buffer
	exit, err := image.Chroot(t.Context(), image.ChrootSpec{
		Tree: tree, KernelVersion: kernel, Command: []string{"dracut", "--no-hostonly", "--no-kernel", "--modules", "bash base"},
		Stdout: &said, Stderr: &said,
	})
	if err != nil || exit != 0 {
		t.Fatalf("dracut in the tree: %d, %v\n%s", exit, err, said.String())
	}
	initrd, err := image.OwnInitrd(tree, kernel)
	must(t, err)
	if found, err := image.HasInstaller(t.Context(), initrd); found || err != nil {
		t.Errorf("HasInstaller of the image's own initrd: %v, %v", found, err)
	}
}

// A command that is no shell: Ctrl-C ends it, and the tree is left tidily.
func TestChrootCtrlC(t *testing.T) {
	tree := smallTree(t)
	exe, err := os.Executable()
	must(t, err)
	term := startTerminal(t, `sh -c 'trap : INT; "$EXE" sh -c "echo here; sleep 1000"; echo "status $?"'`, "EXE="+exe, "LUNA_TEST_LCHROOT="+tree)
	term.expect("here")
	term.send("\x03")
	term.expect("status 130")
	must(t, term.in.Close())
	must(t, term.cmd.Wait())
	onlyIn(t, filepath.Join(tree, "tmp"))
}
