package cli

import (
	"bufio"
	"bytes"
	"io"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/clustervision/luna/api"
)

// chrootSite is a head with an osimage of which the tree has a shell and uname.
func chrootSite(t *testing.T) (tree string) {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("only root may chroot")
	}
	tree = t.TempDir()
	for _, dir := range []string{"dev", "proc", "sys", "run", "tmp", "etc"} {
		if err := os.Mkdir(filepath.Join(tree, dir), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	for _, program := range []string{"/bin/sh", "/bin/uname"} {
		copyProgram(t, tree, program)
	}
	h := newTestHead()
	if _, err := h.Init(t.Context(), api.InitRequest{FrontendAddress: netip.MustParseAddr("10.30.255.254")}); err != nil {
		t.Fatal(err)
	}
	t.Setenv("LUNA_SERVER", "unix://"+h.serve(t))
	for _, line := range []string{
		"osimage add -n compute -p " + tree, "osimage change compute -k 5.14.0-999.el9.x86_64",
		"osimage add -n elsewhere -p /tmp", "osimage change elsewhere -p /nonexistent/tree",
	} {
		if code, _, errs := invoke(t, append([]string{"luna"}, strings.Fields(line)...)...); code != exitOK {
			t.Fatalf("luna %s: exit code %d\n%s", line, code, errs)
		}
	}
	return tree
}

// copyProgram puts a program of this machine into a tree, with its libraries.
func copyProgram(t *testing.T, tree, program string) {
	t.Helper()
	libraries, err := exec.CommandContext(t.Context(), "ldd", program).Output()
	if err != nil {
		t.Fatalf("ldd %s: %v", program, err)
	}
	for _, file := range append(regexp.MustCompile(`/\S+`).FindAllString(string(libraries), -1), program) {
		b, err := os.ReadFile(file)
		if err == nil {
			err = os.MkdirAll(filepath.Join(tree, filepath.Dir(file)), 0o755)
		}
		if err == nil {
			err = os.WriteFile(filepath.Join(tree, file), b, 0o755)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
}

func TestChroot(t *testing.T) {
	tree := chrootSite(t)
	for _, tc := range []struct {
		args   []string
		code   int
		stdout string
		stderr string // a piece
	}{
		{[]string{"compute", "uname", "-r"}, 0, "IMAGE PATH: " + tree + "\n5.14.0-999.el9.x86_64\n", ""},
		// What stands behind IMAGE is the command's, whatever it looks like.
		{[]string{"compute", "sh", "-c", "echo $FAKE_KERN $0; exit 42", "--dry-run"}, 42, "IMAGE PATH: " + tree + "\n5.14.0-999.el9.x86_64 --dry-run\n", ""},
		{[]string{"compute", "sh", "-c", "kill -TERM $$"}, 143, "IMAGE PATH: " + tree + "\n", ""},
		{[]string{"compute", "nosuch"}, 127, "IMAGE PATH: " + tree + "\n", "there is no command 'nosuch' in it"},
		{[]string{"--dry-run", "compute", "sh"}, 0, "IMAGE PATH: " + tree + "\n", ""},
		{[]string{"nope", "sh"}, 7, "", "ERROR:luna.osimage:Object 'nope' of type 'osimage' does not exist"},
		{nil, 7, "", "an osimage must be named"},
		{[]string{"elsewhere", "sh"}, 1, "", "its tree /nonexistent/tree is not on this machine"},
	} {
		code, stdout, stderr := invoke(t, append([]string{"lchroot"}, tc.args...)...)
		if code != tc.code || stdout != tc.stdout || !strings.Contains(stderr, tc.stderr) {
			t.Errorf("lchroot %v: exit code %d, want %d\n%s%s", tc.args, code, tc.code, stdout, stderr)
		}
	}
	if code, stdout, stderr := invoke(t, "luna", "lchroot", "compute", "sh", "-c", "exit 3"); code != 3 {
		t.Errorf("luna lchroot: exit code %d\n%s%s", code, stdout, stderr)
	}
}

// Of two at once the second is told who is in the tree.
func TestChrootTwice(t *testing.T) {
	chrootSite(t)
	t.Setenv("SUDO_USER", "alice")
	root := Chroot()
	in, stop := io.Pipe()
	said, out := io.Pipe()
	root.SetIn(in)
	root.SetOut(out)
	var errs bytes.Buffer
	root.SetErr(&errs)
	code := make(chan int, 1)
	go func() {
		code <- Run(t.Context(), root, []string{"compute", "sh", "-c", "echo inside; read x"})
		_ = out.Close()
	}()
	for lines := bufio.NewScanner(said); lines.Text() != "inside"; {
		if !lines.Scan() {
			t.Fatalf("the first lchroot ended: exit code %d\n%s", <-code, &errs)
		}
	}
	again, _, stderr := invoke(t, "lchroot", "compute", "sh", "-c", "exit 0")
	if again != exitInUse || !strings.Contains(stderr, "alice is in it since") {
		t.Errorf("the second: exit code %d\n%s", again, stderr)
	}
	_ = stop.Close() // read finds the end
	if c := <-code; c != 1 {
		t.Errorf("the first: exit code %d\n%s", c, &errs)
	}
	if code, _, stderr := invoke(t, "lchroot", "compute", "sh", "-c", "exit 0"); code != exitOK {
		t.Errorf("the third: exit code %d\n%s", code, stderr)
	}
}
