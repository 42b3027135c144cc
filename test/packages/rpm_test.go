package packages

import (
	"net/netip"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/clustervision/luna/test/lab/labtest"
)

// rpms installs both packages into a tree of their own. There is no RHEL family here: what they
// depend on is read from them, and not resolved.
func rpms(t *testing.T, dist string) {
	arch := map[string]string{"amd64": "x86_64", "arm64": "aarch64"}[runtime.GOARCH]
	head, client := one(t, filepath.Join(dist, "luna-2.0.0-1."+arch+".rpm")), one(t, filepath.Join(dist, "luna-client-2.0.0-1."+arch+".rpm"))
	requires := shell(t, `rpm -qp --requires "$1"`, head)
	for _, want := range []string{"luna-client = 2.0.0", "(ipxe-bootimgs or ipxe-bootimgs-x86)", "rsync", "openssh-clients", "systemd"} {
		if !strings.Contains(requires+"\n", want+"\n") {
			t.Errorf("luna does not require %s, but\n%s", want, requires)
		}
	}
	if got := shell(t, `rpm -qp --configfiles "$1"`, head); got != "/etc/luna/agent.yaml" {
		t.Errorf("configuration files: %q", got)
	}
	scripts := shell(t, `rpm -qp --scripts "$1"`, head)
	for _, want := range []string{"postinstall scriptlet", "preset luna.service", "preuninstall scriptlet", "disable --now", "postuninstall scriptlet", "try-restart", "is kept"} {
		if !strings.Contains(scripts, want) {
			t.Errorf("the scriptlets have no %q:\n%s", want, scripts)
		}
	}
	shell(t, `rpm -qp --queryformat '%{POSTIN}\n' "$1" | sh -n; rpm -qp --queryformat '%{PREUN}\n' "$1" | sh -n
		rpm -qp --queryformat '%{POSTUN}\n' "$1" | sh -n`, head)
	// The directories of the system are others' packages'.
	for _, line := range strings.Split(shell(t, `rpm -qpl "$1" "$2"`, head, client), "\n") {
		switch line {
		case "/usr", "/usr/bin", "/usr/lib", "/usr/share", "/usr/lib/systemd/system", "/etc", "/usr/share/man/man1":
			t.Errorf("the packages own %s", line)
		}
	}

	root := filepath.Join(t.TempDir(), "root")
	must(t, os.Mkdir(root, 0o755))
	// Without scriptlets: they would run in a root that has no shell.
	shell(t, `rpm --root "$1" --dbpath /var/lib/rpm --initdb && rpm --root "$1" --dbpath /var/lib/rpm -i --nodeps --noscripts "$2" "$3"`, root, head, client)
	if out := shell(t, `rpm --root "$1" --dbpath /var/lib/rpm -V --nodeps luna luna-client`, root); out != "" {
		t.Errorf("rpm -V: %s", out)
	}
	for path, mode := range map[string]os.FileMode{
		"usr/bin/luna": 0o755, "usr/lib/luna/luna-install": 0o755, "usr/lib/luna/luna-selinux": 0o755, "etc/luna": 0o755 | os.ModeDir,
		"etc/luna/agent.yaml": 0o644, "usr/lib/systemd/system/luna.service": 0o644, "usr/lib/tmpfiles.d/luna.conf": 0o644, "usr/lib/sysusers.d/luna.conf": 0o644,
		"usr/share/man/man1/luna.1.gz": 0o644, "usr/share/zsh/site-functions/_luna": 0o644,
	} {
		if info, err := os.Lstat(filepath.Join(root, path)); err != nil || info.Mode() != mode {
			t.Errorf("%s: %v, want %v (%v)", path, info, mode, err)
		}
	}
	if target, err := os.Readlink(filepath.Join(root, "usr/bin/lpower")); err != nil || target != "luna" {
		t.Errorf("lpower leads to %q: %v", target, err)
	}
	// What an administrator wrote stays, and the new file lies beside it only where it differs.
	must(t, os.WriteFile(filepath.Join(root, "etc/luna/agent.yaml"), []byte("name: mine\n"), 0o644))
	shell(t, `rpm --root "$1" --dbpath /var/lib/rpm -U --force --nodeps --noscripts "$2"`, root, head)
	if got := read(t, filepath.Join(root, "etc/luna/agent.yaml")); got != "name: mine\n" {
		t.Errorf("an upgrade wrote over the configuration:\n%s", got)
	}
	shell(t, `rpm --root "$1" --dbpath /var/lib/rpm -e --nodeps --noscripts luna luna-client`, root)
	if _, err := os.Stat(filepath.Join(root, "usr/bin/luna")); err == nil {
		t.Error("removed, it is still there")
	}
}

// scriptlets: the rpms on a machine with systemd, which is no RHEL (so --nodeps) but has an rpm.
func scriptlets(t *testing.T, dist string) {
	tree := labtest.HeadTree(t)
	l := labtest.New(t, "rpms")
	ctx := labtest.Context(t, 3*time.Minute)
	host, err := l.Host(ctx, "head1", netip.MustParsePrefix("10.30.255.254/16"))
	must(t, err)
	c, err := host.Boot(ctx, tree, dist)
	must(t, err)
	h := head{c, t}
	// What that family's preset says of services that nobody has decided about.
	h.run("sh", "-euc", "mkdir -p /etc/systemd/system-preset; echo 'disable *' >/etc/systemd/system-preset/99-default.preset")
	rpm := func(version string) []string {
		arch := shell(t, `rpm --eval '%{_arch}'`)
		return []string{filepath.Join(dist, "luna-client-"+version+"-1."+arch+".rpm"), filepath.Join(dist, "luna-"+version+"-1."+arch+".rpm")}
	}

	h.run(append([]string{"rpm", "-i", "--nodeps"}, rpm("2.0.0")...)...)
	if state, file := h.unit("ActiveState"), h.unit("UnitFileState"); state != "inactive" || file != "disabled" {
		t.Errorf("installed, it is %s and %s", state, file)
	}
	if out := h.says("rpm", "-V", "--nodeps", "luna", "luna-client"); out != "" {
		t.Errorf("rpm -V: %s", out)
	}
	h.run("systemctl", "enable", "--now", "luna")
	h.run("luna", "cluster", "init", "--frontend_address", "10.30.255.254")
	h.run("sh", "-c", "echo 'log-level: debug' >>/etc/luna/agent.yaml")

	pid := h.unit("MainPID")
	h.run(append([]string{"rpm", "-U", "--nodeps"}, rpm("2.0.1")...)...)
	if state, now := h.unit("ActiveState"), h.unit("MainPID"); state != "active" || now == pid {
		t.Errorf("upgraded, it is %s, process %s, which was %s", state, now, pid)
	}
	if version := h.run("luna", "--version"); !strings.Contains(version, "2.0.1") {
		t.Errorf("upgraded to 2.0.1, it is %s", version)
	}
	if !strings.Contains(h.run("cat", "/etc/luna/agent.yaml"), "log-level: debug") {
		t.Error("the configuration was written over")
	}

	before := h.run("luna", "cluster", "show")
	if out := h.says("rpm", "-e", "--nodeps", "luna", "luna-client"); !strings.Contains(out, "/var/lib/luna is kept") {
		t.Errorf("rpm -e does not say that data are kept:\n%s", out)
	}
	if state := h.says("systemctl", "is-active", "luna"); state != "inactive" {
		t.Errorf("erased, it is %s", state)
	}
	h.run(append([]string{"rpm", "-i", "--nodeps"}, rpm("2.0.1")...)...)
	h.run("systemctl", "start", "luna")
	if after := h.run("luna", "cluster", "show"); after != before {
		t.Errorf("before rpm -e\n%s\ninstalled again\n%s", before, after)
	}
}

// selinux compiles the module as the packages do, from where they put it.
func selinux(t *testing.T) {
	dir := t.TempDir()
	shell(t, `LUNA_SELINUX_SOURCE="$1"/packaging/selinux "$1"/packaging/selinux/module.sh build "$2"`, source, dir)
	if info, err := os.Stat(filepath.Join(dir, "luna.pp")); err != nil || info.Size() == 0 {
		t.Errorf("no module: %v", err)
	}
}
