package image_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/clustervision/luna/image"
)

// runningHost is a real sshd whose users see nothing but the directory root, in which are a shell
// and rsync.
type runningHost struct {
	root string
	ssh  []string // the options with which root logs in
	keys string   // a directory: id and authorized_keys of the user, host_key, known_hosts
}

// startHost starts a host that listens on a free port of loopback.
func startHost(t *testing.T) *runningHost {
	t.Helper()
	needRoot(t, "rsync", "ssh", "ssh-keygen", "sshd", "ldd")
	// Not below /tmp: sshd takes no root that others could write beside.
	dir, err := os.MkdirTemp("/var/cache", "luna-image-")
	must(t, err)
	t.Cleanup(func() { must(t, os.RemoveAll(dir)) })
	h := &runningHost{root: filepath.Join(dir, "root"), keys: filepath.Join(dir, "keys")}
	must(t, os.MkdirAll(h.root, 0o755))
	must(t, os.Mkdir(h.keys, 0o700))
	for _, program := range []string{"bash", "rsync", "sleep"} {
		addProgram(t, h.root, program)
	}
	must(t, os.MkdirAll("/run/sshd", 0o755)) // where sshd puts its unprivileged half
	h.newKey(t, "id")
	h.newKey(t, "host_key")
	run(t, "cp", filepath.Join(h.keys, "id.pub"), filepath.Join(h.keys, "authorized_keys"))
	config := filepath.Join(dir, "sshd_config")
	must(t, os.WriteFile(config, fmt.Appendf(nil, `
		HostKey %[1]s/host_key
		AuthorizedKeysFile %[1]s/authorized_keys
		ChrootDirectory %[2]s
		PermitRootLogin prohibit-password
		StrictModes no
		UsePAM no
		PidFile none
	`, h.keys, h.root), 0o600))
	port := listen(t, config)
	h.ssh = []string{
		"-F", "none", "-p", strconv.Itoa(port), "-i", filepath.Join(h.keys, "id"),
		"-o", "UserKnownHostsFile=" + filepath.Join(h.keys, "known_hosts"), "-o", "GlobalKnownHostsFile=none",
	}
	return h
}

// newKey makes, or replaces, a key.
func (h *runningHost) newKey(t *testing.T, name string) {
	t.Helper()
	file := filepath.Join(h.keys, name)
	os.Remove(file)
	run(t, "ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", file)
}

func (h *runningHost) write(t *testing.T, rel, content string) {
	t.Helper()
	path := filepath.Join(h.root, rel)
	must(t, os.MkdirAll(filepath.Dir(path), 0o755))
	must(t, os.WriteFile(path, []byte(content), 0o644))
}

// listen hands each connection to an sshd of its own, and returns the port.
func listen(t *testing.T, config string) int {
	t.Helper()
	l, err := net.ListenTCP("tcp4", &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1)})
	must(t, err)
	var sessions sync.WaitGroup
	sessions.Go(func() {
		for {
			conn, err := l.AcceptTCP()
			if err != nil {
				return
			}
			f, err := conn.File()
			conn.Close()
			if err != nil {
				return
			}
			cmd := exec.Command("/usr/sbin/sshd", "-i", "-f", config)
			cmd.Stdin, cmd.Stdout = f, f
			if err := cmd.Start(); err == nil {
				sessions.Go(func() { _ = cmd.Wait() })
			}
			f.Close()
		}
	})
	t.Cleanup(func() { l.Close(); sessions.Wait() })
	return l.Addr().(*net.TCPAddr).Port
}

// addProgram copies a program of this machine into a tree, with its libraries.
func addProgram(t *testing.T, tree, program string) {
	t.Helper()
	path, err := exec.LookPath(program)
	must(t, err)
	files := append(regexp.MustCompile(`/\S+`).FindAllString(run(t, "ldd", path), -1), path)
	for _, f := range files {
		to := filepath.Join(tree, f)
		must(t, os.MkdirAll(filepath.Dir(to), 0o755))
		run(t, "cp", "-L", f, to)
	}
	if filepath.Dir(path) != "/bin" {
		must(t, os.MkdirAll(filepath.Join(tree, "bin"), 0o755))
		run(t, "cp", "-L", path, filepath.Join(tree, "bin"))
	}
}

func (h *runningHost) spec(tree string) image.GrabSpec {
	return image.GrabSpec{
		Host: "127.0.0.1", Tree: tree, Filesystems: []string{"/", "/boot"}, Exclude: image.DefaultGrabExclude, SSH: h.ssh,
	}
}

func TestGrab(t *testing.T) {
	h := startHost(t)
	run(t, "cp", "-a", everyKind(t), filepath.Join(h.root, "opt"))
	must(t, os.Remove(filepath.Join(h.root, "opt/a/lastlog"))) // rsync reads its 20 GiB of nothing
	for _, mount := range []string{"boot", "srv"} {
		dir := filepath.Join(h.root, mount)
		must(t, os.Mkdir(dir, 0o755))
		must(t, unix.Mount("tmpfs", dir, "tmpfs", 0, "mode=755"))
		t.Cleanup(func() { must(t, unix.Unmount(dir, unix.MNT_DETACH)) })
	}
	for _, rel := range []string{
		"boot/vmlinuz-1", "boot/grub2/grub.cfg", "srv/data", "etc/passwd", "etc/fstab", "etc/machine-id", "etc/ssh/sshd_config",
		"etc/ssh/ssh_host_rsa_key", "home/alice/thesis", "var/log/httpd/access_log", "var/log/messages", "proc/1/maps", "tmp/x",
	} {
		h.write(t, rel, "of the host")
	}
	parent := t.TempDir()
	tree := filepath.Join(parent, "tree with [a] 'space'")
	must(t, os.Mkdir(tree, 0o755))
	for _, rel := range []string{"boot/vmlinuz-0", "boot/grub2/grub.cfg", "etc/fstab", "etc/old", "tmp/lchroot.lock", "boot/vmlinuz-1"} {
		must(t, os.MkdirAll(filepath.Dir(filepath.Join(tree, rel)), 0o755))
		must(t, os.WriteFile(filepath.Join(tree, rel), []byte("of the image"), 0o644))
	}
	// As the grabbed machine itself has it, below its own root.
	h.write(t, filepath.Join(tree, "etc/again"), "the tree that grows")

	var log bytes.Buffer
	spec := h.spec(tree)
	spec.DryRun, spec.Log = true, &log
	before := look(t, tree)
	must(t, image.Grab(t.Context(), spec))
	if after := look(t, tree); len(after) != len(before) || after["etc/fstab"].Mtime != before["etc/fstab"].Mtime {
		t.Errorf("a dry run changed the tree: %d files in place of %d", len(after), len(before))
	}
	for _, want := range []string{"etc/passwd\n", "deleting etc/old\n", "boot/vmlinuz-1\n", "deleting boot/vmlinuz-0\n", "/boot from 127.0.0.1\n"} {
		if !strings.Contains(log.String(), want) {
			t.Errorf("a dry run does not say %q", want)
		}
	}

	log.Reset()
	spec.DryRun = false
	must(t, image.Grab(t.Context(), spec))
	if strings.Contains(log.String(), "passwd") {
		t.Errorf("it was not to be verbose:\n%s", log.String())
	}
	sameTree(t, filepath.Join(h.root, "opt"), filepath.Join(tree, "opt"), func(all map[string]seen) {
		for path, s := range all {
			s.Holes = ""                              // --sparse makes them of any zeros
			s.Mtime, _, _ = strings.Cut(s.Mtime, ".") // to rsync a time of the same second is the same
			all[path] = s
		}
	})
	for rel, want := range map[string]string{
		"boot/vmlinuz-1": "of the host", "boot/vmlinuz-0": "", "boot/grub2/grub.cfg": "of the image", "srv/data": "", "srv": "a directory",
		"etc/passwd": "of the host", "etc/fstab": "of the image", "etc/old": "", "etc/machine-id": "", "etc/ssh/sshd_config": "of the host",
		"etc/ssh/ssh_host_rsa_key": "", "home/alice": "", "home": "a directory", "var/log/httpd": "a directory", "var/log/httpd/access_log": "",
		"var/log/messages": "", "proc": "a directory", "proc/1": "", "tmp/x": "", "tmp/lchroot.lock": "of the image",
		filepath.Join(tree, "etc/again"): "",
	} {
		got, err := os.ReadFile(filepath.Join(tree, rel))
		if errors.Is(err, unix.EISDIR) {
			got = []byte("a directory")
		}
		if string(got) != want {
			t.Errorf("%s: got %q, want %q", rel, got, want)
		}
	}

	// A second time there is nothing to do, /boot included.
	log.Reset()
	spec.Verbose = true
	must(t, image.Grab(t.Context(), spec))
	if strings.Contains(log.String(), "vmlinuz") || strings.Contains(log.String(), "deleting") {
		t.Errorf("a second grab does something:\n%s", log.String())
	}
}

// The links of a tree are the image's, and lead nowhere on this machine.
func TestGrabStaysInTheTree(t *testing.T) {
	h := startHost(t)
	h.write(t, "boot/vmlinuz", "of the host")
	outside := t.TempDir()
	tree := plant(t, "boot -> "+outside)
	spec := h.spec(tree)
	spec.Filesystems = []string{"/boot"}
	must(t, image.Grab(t.Context(), spec))
	onlyIn(t, outside)
	onlyIn(t, filepath.Join(tree, "boot"), "vmlinuz")
}

func TestGrabKnowsHosts(t *testing.T) {
	h := startHost(t)
	spec := h.spec(t.TempDir())
	spec.Filesystems = []string{"/"}
	must(t, image.Grab(t.Context(), spec))
	known, err := os.ReadFile(filepath.Join(h.keys, "known_hosts"))
	if err != nil || len(known) == 0 {
		t.Errorf("the key of a new host was not kept: %v", err)
	}
	h.newKey(t, "host_key")
	err = image.Grab(t.Context(), spec)
	if err == nil || !strings.Contains(err.Error(), "Host key verification failed") {
		t.Errorf("got %v from a host with another key", err)
	}
}

func TestGrabErrorsSayWhatToDo(t *testing.T) {
	h := startHost(t)
	tests := map[string]struct {
		change func(*image.GrabSpec)
		want   string
	}{
		"an option for a host": {func(s *image.GrabSpec) { s.Host = "-oProxyCommand=reboot" }, "'-oProxyCommand=reboot': this is no name"},
		"a user":               {func(s *image.GrabSpec) { s.Host = "root@host" }, "this is no name or address"},
		"words":                {func(s *image.GrabSpec) { s.Host = "a b" }, "this is no name or address"},
		"nothing":              {func(s *image.GrabSpec) { s.Host = "" }, "this is no name or address"},
		"no tree":              {func(s *image.GrabSpec) { s.Tree = "/nonexistent" }, "the tree: "},
		"a file":               {func(s *image.GrabSpec) { s.Tree = "/etc/passwd" }, "the tree '/etc/passwd' is not the absolute path of a directory"},
		"this machine":         {func(s *image.GrabSpec) { s.Tree = "/proc/self/root" }, "the system of this machine, which would be lost"},
		"no file system":       {func(s *image.GrabSpec) { s.Filesystems = nil }, "name some, such as / and /boot"},
		"a relative one":       {func(s *image.GrabSpec) { s.Filesystems = []string{"boot"} }, "'boot' is not an absolute path"},
		"a pattern":            {func(s *image.GrabSpec) { s.Filesystems = []string{"/b*"} }, "'/b*' is not an absolute path"},
		"one it does not have": {func(s *image.GrabSpec) { s.Filesystems = []string{"/boot/efi"} }, "grab /boot/efi of host '127.0.0.1' into"},
		"nobody there":         {func(s *image.GrabSpec) { s.SSH = []string{"-F", "none", "-p", "1"} }, "see to it that 'ssh root@127.0.0.1 true' works from here"},
		"not let in": {func(s *image.GrabSpec) {
			s.SSH = append(s.SSH[:4:4], "-F", "none", "-i", "/dev/null", "-o", "IdentitiesOnly=yes", "-o", "UserKnownHostsFile="+h.keys+"/known")
		}, "Permission denied"},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			spec := h.spec(t.TempDir())
			tt.change(&spec)
			if err := image.Grab(t.Context(), spec); err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("got %v, want %q", err, tt.want)
			}
		})
	}
	t.Run("no rsync there", func(t *testing.T) {
		run(t, "find", h.root, "-name", "rsync", "-delete")
		if err := image.Grab(t.Context(), h.spec(t.TempDir())); err == nil || !strings.Contains(err.Error(), "install rsync on 127.0.0.1: ") {
			t.Error(err)
		}
	})
	t.Run("no rsync here", func(t *testing.T) {
		t.Setenv("PATH", t.TempDir())
		if err := image.Grab(t.Context(), h.spec("/tmp")); err == nil || !strings.Contains(err.Error(), "rsync is missing on this machine: install it") {
			t.Error(err)
		}
	})
}

// What a status means, told by a stand-in: files do not go away when a test wants them to.
func TestGrabHeedsTheStatus(t *testing.T) {
	for status, want := range map[int]string{0: "", 24: "", 23: "rsync ended with status 23: a warning; the last word"} {
		dir := t.TempDir()
		must(t, os.WriteFile(filepath.Join(dir, "rsync"), fmt.Appendf(nil, "#!/bin/sh\necho a warning >&2\necho the last word >&2\nexit %d\n", status), 0o755))
		t.Setenv("PATH", dir+":"+os.Getenv("PATH"))
		var log bytes.Buffer
		err := image.Grab(t.Context(), image.GrabSpec{Host: "h", Tree: t.TempDir(), Filesystems: []string{"/"}, Log: &log})
		if want == "" && err != nil || want != "" && (err == nil || !strings.Contains(err.Error(), want)) {
			t.Errorf("status %d: got %v, want %q", status, err, want)
		}
		if warned := strings.Contains(log.String(), "warning: files went away on h"); warned != (status == 24) || !strings.Contains(log.String(), "the last word") {
			t.Errorf("status %d: the log is %q", status, log.String())
		}
	}
}

func TestGrabStops(t *testing.T) {
	needRoot(t, "rsync", "ssh")
	silent, err := net.Listen("tcp4", "127.0.0.1:0")
	must(t, err)
	defer silent.Close()
	stop := errors.New("the administrator has had enough")
	ctx, cancel := context.WithCancelCause(t.Context())
	defer cancel(nil)
	gone := make(chan error, 1)
	go func() {
		conn, err := silent.Accept()
		if err == nil {
			cancel(stop)
			_ = conn.SetReadDeadline(time.Now().Add(30 * time.Second))
			for err == nil { // until ssh is gone
				_, err = conn.Read(make([]byte, 512))
			}
			conn.Close()
		}
		gone <- err
	}()
	port := strconv.Itoa(silent.Addr().(*net.TCPAddr).Port)
	err = image.Grab(ctx, image.GrabSpec{Host: "127.0.0.1", Tree: t.TempDir(), Filesystems: []string{"/"}, SSH: []string{"-F", "none", "-p", port}})
	if !errors.Is(err, stop) {
		t.Errorf("got %v, want %v", err, stop)
	}
	if err := <-gone; errors.Is(err, os.ErrDeadlineExceeded) {
		t.Error("ssh outlived the grab")
	}
}
