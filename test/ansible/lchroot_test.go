package ansible

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/clustervision/luna/test/site"
)

// borrowedTree makes a tree that has this machine's programs, read-only, and a kernel of its own.
func borrowedTree(t *testing.T, tree string) {
	t.Helper()
	makeTree(t, tree)
	for _, dir := range []string{"usr", "tmp", "root", "dev", "proc", "sys", "run", "etc/pam.d"} {
		must(t, os.MkdirAll(filepath.Join(tree, dir), 0o755))
	}
	for _, dir := range []string{"bin", "sbin", "lib64"} {
		if _, err := os.Stat("/usr/" + dir); err == nil {
			must(t, os.Symlink("usr/"+dir, filepath.Join(tree, dir)))
		}
	}
	libraries, err := filepath.Glob("/usr/lib/*-linux-gnu") // Debian's; /lib itself has the kernel's modules
	must(t, err)
	for _, dir := range libraries {
		must(t, os.Symlink(".."+dir, filepath.Join(tree, "lib", filepath.Base(dir))))
	}
	for name, text := range map[string]string{
		"passwd": "root:x:0:0:root:/root:/bin/sh\n", "group": "root:x:0:\n",
		"pam.d/su": "auth sufficient pam_rootok.so\naccount required pam_permit.so\nsession required pam_permit.so\n",
	} {
		must(t, os.WriteFile(filepath.Join(tree, "etc", name), []byte(text), 0o644))
	}
	must(t, exec.Command("mount", "--bind", "-o", "ro", "/usr", filepath.Join(tree, "usr")).Run())
	t.Cleanup(func() { must(t, exec.Command("umount", filepath.Join(tree, "usr")).Run()) })
}

// TestLchroot plays tasks in the tree of an osimage, which is a host of the inventory.
func TestLchroot(t *testing.T) {
	s, p := newSite(t, "anschr", 1)
	h, tree := s.Heads[0], filepath.Join(s.Lab.Dir(), "tree")
	borrowedTree(t, tree)
	_, err := h.Luna(t.Context(), "cluster", "init", "--frontend_address", h.Addr.String(), "--path", s.Lab.Dir(), "--user", "root")
	must(t, err)
	_, err = h.Luna(t.Context(), "osimage", "add", "-n", "compute", "-p", tree)
	must(t, err)
	text := "some text\nwith $strange 'words' and \x01\n"
	must(t, os.WriteFile(filepath.Join(p.dir, "sent"), []byte(text), 0o600))

	playbook, err := filepath.Abs("testdata/lchroot.yml")
	must(t, err)
	results := p.play(playbook, "-e", "dir="+p.dir) // the inventory is /etc/ansible/hosts/luna, and its connection lchroot
	byTask := map[string]result{}
	for _, r := range results {
		byTask[r.Task] = r
	}
	if r := byTask["kernel"]; r.Failed || strings.TrimSpace(r.Stdout) != "5.14.0-362.el9.x86_64" {
		t.Errorf("uname -r in the tree: %+v", r)
	}
	if r := byTask["exit"]; !r.Failed || r.Unreachable || r.RC != 8 { // which is lchroot's own code for a lock
		t.Errorf("a command that ends with 8: %+v", r)
	}
	for _, task := range []string{"send", "fetch", "module", "root by su"} {
		if r := byTask[task]; r.Failed {
			t.Errorf("%s: %+v", task, r)
		}
	}
	if r := byTask["root by su"]; strings.TrimSpace(r.Stdout) != "root" {
		t.Errorf("su makes one %q", r.Stdout)
	}
	if r := byTask["send again"]; r.Failed || r.Changed {
		t.Errorf("sent again, it changes: %+v", r)
	}
	if r := byTask["fetch nothing"]; !r.Failed || r.Unreachable {
		t.Errorf("a file that is not there: %+v", r)
	}
	for _, file := range []string{filepath.Join(tree, "root", "got"), filepath.Join(p.dir, "back")} {
		if got, err := os.ReadFile(file); err != nil || string(got) != text {
			t.Errorf("%s is %q, %v", file, got, err)
		}
	}
	if _, err := os.Stat(filepath.Join(tree, "tmp", "lchroot.lock")); err == nil {
		t.Error("the lock is left")
	}
	t.Run("refused", func(t *testing.T) { lchrootRefused(t, p.with(t), h, tree) })
}

// lchrootRefused: who cannot enter a tree is told why.
func lchrootRefused(t *testing.T, p *player, h *site.Head, tree string) {
	ping := func(host string, env ...string) string {
		t.Helper()
		out, errs, err := p.with(t, append(env, "ANSIBLE_LOAD_CALLBACK_PLUGINS=1")...).run(
			"ansible", host, "-i", host+",", "-c", "clustervision.luna.lchroot", "-m", "raw", "-a", "true")
		if exitCode(err) == 0 {
			t.Errorf("%s could be entered", host)
		}
		return out + errs
	}
	if out := ping("nosuch"); !strings.Contains(out, "cannot enter osimage 'nosuch': Object 'nosuch' of type 'osimage' does not exist") {
		t.Errorf("an image that is not: %s", out)
	}
	if out := ping("compute", "LUNA_LCHROOT=/nosuch/lchroot"); !strings.Contains(out, "there is no program /nosuch/lchroot") {
		t.Errorf("without the program: %s", out)
	}
	// Somebody is in the tree.
	cmd := h.Command(t.Context(), filepath.Join(p.dir, "bin", "lchroot"), "--server", "unix://"+h.Socket(), "compute", "/bin/sh", "-c", "echo in; read wait")
	stdin, err := cmd.StdinPipe()
	must(t, err)
	stdout, err := cmd.StdoutPipe()
	must(t, err)
	must(t, cmd.Start())
	var said strings.Builder
	must(t, site.Until(t.Context(), time.Minute, "somebody is in the tree", func() error {
		buffer := make([]byte, 100)
		n, err := stdout.Read(buffer)
		said.Write(buffer[:n])
		if err == nil && !strings.Contains(said.String(), "in\n") {
			err = fmt.Errorf("it says %q", said.String())
		}
		return err
	}))
	out := ping("compute")
	must(t, stdin.Close())
	_ = cmd.Wait() // read ends with 1
	if !strings.Contains(out, "cannot enter osimage 'compute'") || !strings.Contains(out, tree) {
		t.Errorf("a tree that somebody is in: %s", out)
	}
}
