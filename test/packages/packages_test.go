package packages

import (
	"net/netip"
	"os"
	"path/filepath"
	"regexp"
	"runtime"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/clustervision/luna/test/lab"
	"github.com/clustervision/luna/test/lab/labtest"
	"github.com/clustervision/luna/test/site"
)

// TestPackages: one build serves all.
func TestPackages(t *testing.T) {
	labtest.RequireRoot(t)
	need(t, "systemd-nspawn", "rpm", "dpkg-deb", "checkmodule", "semodule_package")
	dist := t.TempDir()
	build(t, dist, "v2.0.0", "deb rpm")
	build(t, dist, "v2.0.1", "deb rpm")
	t.Run("RPM", func(t *testing.T) { rpms(t, dist) })
	t.Run("RPMScriptlets", func(t *testing.T) { scriptlets(t, dist) })
	t.Run("SELinux", selinux)
	t.Run("Deb", func(t *testing.T) { debs(t, dist) })
}

// debs is the life of a head: each step finds it as the one before has left it.
func debs(t *testing.T, dist string) {
	tree, image := labtest.HeadTree(t), labtest.Tree(t)
	l := labtest.New(t, "pkgs")
	ctx := labtest.Context(t, 5*time.Minute)
	host, err := l.Host(ctx, "head1", netip.MustParsePrefix("10.30.255.254/16"))
	must(t, err)
	start := time.Now()
	c, err := host.Boot(ctx, tree, dist, image)
	must(t, err)
	t.Logf("booted in %.1f s", time.Since(start).Seconds())
	on := func(t *testing.T) head { return head{c, t} }

	for _, step := range []struct {
		name string
		do   func(*testing.T, head)
	}{
		{"Install", func(t *testing.T, h head) { install(t, h, deb(t, dist, "2.0.0")) }},
		{"Files", files},
		{"Systemd", systemd},
		{"Service", service},
		{"PackAndBoot", func(t *testing.T, h head) { packAndBoot(t, h, l, image, deb(t, dist, "2.0.0")) }},
		{"Bounds", bounds},
		{"CutOff", func(t *testing.T, h head) { cutOff(t, h, l, tree, dist, deb(t, dist, "2.0.0")) }},
		{"Upgrade", func(t *testing.T, h head) { upgrade(t, h, deb(t, dist, "2.0.1")) }},
		{"Remove", func(t *testing.T, h head) { remove(t, h, deb(t, dist, "2.0.1")) }},
	} {
		if !t.Run(step.name, func(t *testing.T) { step.do(t, on(t)) }) {
			t.Log(on(t).says("journalctl", "--no-pager", "-n", "40", "-u", "luna"))
			return
		}
	}
}

// deb is the files of both packages.
func deb(t *testing.T, dist, version string) []string {
	t.Helper()
	return []string{
		one(t, filepath.Join(dist, "luna-client_"+version+"_"+runtime.GOARCH+".deb")),
		one(t, filepath.Join(dist, "luna_"+version+"_"+runtime.GOARCH+".deb")),
	}
}

// install: the agent runs at once and at each boot, and waits to be made a member.
func install(t *testing.T, h head, debs []string) {
	for _, file := range debs {
		must(t, h.Copy(labtest.Context(t, time.Minute), file, "/root/packages/"+filepath.Base(file)))
	}
	// As docs/operating.md tells it.
	text, err := os.ReadFile(filepath.Join(source, "docs/operating.md"))
	must(t, err)
	_, section, _ := strings.Cut(string(text), "\n## Installing\n")
	section, _, _ = strings.Cut(section, "\n## ")
	typed := 0
	for line := range strings.Lines(section) {
		if code, isCode := strings.CutPrefix(line, "    "); isCode {
			h.run("sh", "-euc", "cd /root/packages; "+code)
			typed++
		}
	}
	if typed < 3 {
		t.Errorf("the page has %d commands", typed)
	}
	if active, enabled := h.unit("ActiveState"), h.unit("UnitFileState"); active != "active" || enabled != "enabled" {
		t.Fatalf("the agent is %s and %s:\n%s", active, enabled, h.says("journalctl", "--no-pager", "-u", "luna"))
	}
	if status := h.unit("StatusText"); !strings.Contains(status, "luna cluster init") {
		t.Errorf("its status does not say what to do: %q", status)
	}
	h.run("luna", "cluster", "init", "--frontend_address", "10.30.255.254")
	if heads := h.run("luna", "head", "list"); !strings.Contains(heads, "head1") {
		t.Errorf("no head after init:\n%s", heads)
	}
}

// files: modes, the configuration, the manual, completion, the firewall.
func files(t *testing.T, h head) {
	for path, want := range map[string]string{
		"/usr/bin/luna": "755 root:root", "/usr/bin/lpower": "777 root:root", "/usr/lib/luna/luna-install": "755 root:root",
		"/etc/luna": "755 root:root", "/etc/luna/agent.yaml": "644 root:root", "/var/lib/luna": "700 root:root",
		"/run/luna": "755 root:root", "/usr/lib/systemd/system/luna.service": "644 root:root",
	} {
		if got := h.run("stat", "-c", "%a %U:%G", path); got != want {
			t.Errorf("%s is %s, want %s", path, got, want)
		}
	}
	if out := h.says("dpkg", "--verify", "luna", "luna-client"); out != "" {
		t.Errorf("dpkg --verify: %s", out)
	}
	h.run("luna", "agent", "--check")
	h.run("getent", "passwd", "luna")
	if list := h.run("/usr/share/luna/inventory", "--list"); !strings.Contains(list, "_meta") {
		t.Errorf("the inventory for Ansible is %s", list)
	}
	h.run("sh", "-euc", "test -f /usr/share/ansible/plugins/modules/luna_node.py; cd /usr/share/ansible/collections/ansible_collections/clustervision/luna; test -f roles/luna/tasks/main.yml")
	// The example of each key is one that the agent takes.
	h.run("sh", "-euc", `sed -E 's/^#([a-z-]+:)/\1/' /etc/luna/agent.yaml >/tmp/all.yaml
		test $(grep -c '^[a-z-]*:' /tmp/all.yaml) -gt 10; luna agent --check --config /tmp/all.yaml`)
	for _, page := range []string{"luna", "luna-agent", "lchroot", "lpower"} {
		if out := h.run("man", page); !strings.Contains(out, "SYNOPSIS") {
			t.Errorf("man %s: %.200s", page, out)
		}
	}
	if out := h.run("bash", "-ic", ". /usr/share/bash-completion/bash_completion; _completion_loader luna; complete -p luna"); !strings.Contains(out, "luna") {
		t.Errorf("bash does not complete luna: %s", out)
	}
	h.run("firewall-offline-cmd", "--check-config")
	for service, port := range map[string]string{"luna": "7052-7200/tcp", "luna-head": "7946/udp"} {
		if out := h.run("firewall-offline-cmd", "--info-service="+service); !strings.Contains(out, port) {
			t.Errorf("firewalld's service %s has not %s:\n%s", service, port, out)
		}
	}
}

// systemd: the unit is well-formed, and leaves the agent little to do harm with.
func systemd(t *testing.T, h head) {
	h.run("systemd-analyze", "verify", "/usr/lib/systemd/system/luna.service")
	out := h.run("systemd-analyze", "security", "luna.service")
	score := regexp.MustCompile(`exposure level for luna\.service: ([0-9.]+)`).FindStringSubmatch(out)
	if score == nil {
		t.Fatalf("no score:\n%s", out)
	}
	if exposure, err := strconv.ParseFloat(score[1], 64); err != nil || exposure >= 5 {
		t.Errorf("exposure is %s, want less than 5.0", score[1])
	}
	t.Logf("systemd-analyze security: %s", score[1])
	// Not every machine that tests may lower its memory's score, so that one is as systemd has read it.
	if nice := h.run("sh", "-c", "ps -o ni= -p $(systemctl show --value -p MainPID luna)"); nice != "-10" {
		t.Errorf("niceness is %s", nice)
	}
	if score := h.unit("OOMScoreAdjust"); score != "-800" {
		t.Errorf("OOMScoreAdjust is %s", score)
	}
}

// service: what an administrator types.
func service(t *testing.T, h head) {
	pid := h.unit("MainPID")
	h.run("sh", "-euc", "echo 'log-level: debug' >>/etc/luna/agent.yaml; systemctl reload luna")
	must(t, site.Until(t.Context(), 20*time.Second, "the reload is in the journal", func() error {
		_, err := h.Run(t.Context(), "sh", "-c", `journalctl -u luna | grep -q 'configuration read again.*debug'`)
		return err
	}))
	if now := h.unit("MainPID"); now != pid {
		t.Errorf("a reload made process %s of %s", now, pid)
	}
	h.run("systemctl", "restart", "luna")
	if now := h.unit("MainPID"); now == pid || now == "0" {
		t.Errorf("a restart left process %s", now)
	}
	h.run("luna", "cluster", "status")
	if list := h.run("/usr/share/luna/inventory", "--list"); !strings.Contains(list, "groups.luna") {
		t.Errorf("the inventory for Ansible is %s", list)
	}
	h.run("systemctl", "stop", "luna")
	if state, result := h.unit("ActiveState"), h.unit("Result"); state != "inactive" || result != "success" {
		t.Errorf("stopped, it is %s, with %s", state, result)
	}

	// What only a person can mend is said once, and not tried again.
	h.run("sh", "-euc", "cp /etc/luna/agent.yaml /tmp/good.yaml; echo 'api-prot: 1' >>/etc/luna/agent.yaml")
	if out := h.says("systemctl", "start", "luna"); !strings.Contains(out, "failed") {
		t.Errorf("it starts with a wrong configuration: %q", out)
	}
	if code, again := h.unit("ExecMainStatus"), h.unit("NRestarts"); code != "78" || again != "0" {
		t.Errorf("it ended with %s, and was started %s times again", code, again)
	}
	if out := h.run("journalctl", "-u", "luna", "-n", "20"); !strings.Contains(out, "agent.yaml:") || !strings.Contains(out, "api-prot") {
		t.Errorf("the journal does not say what is wrong, and where:\n%s", out)
	}
	h.run("sh", "-euc", "cp /tmp/good.yaml /etc/luna/agent.yaml; systemctl start luna")

	// One that dies is started again by systemd.
	pid = h.unit("MainPID")
	h.run("systemctl", "kill", "--kill-who=main", "--signal=SIGKILL", "luna")
	must(t, site.Until(t.Context(), 30*time.Second, "it is started again", func() error {
		_, err := h.Run(t.Context(), "sh", "-c", `systemctl is-active -q luna && [ $(systemctl show --value -p MainPID luna) != `+pid+` ]`)
		return err
	}))
}

// packAndBoot: within the bounds of the unit it packs a real Debian, answers DHCP and TFTP, and a
// node gets the image from it.
func packAndBoot(t *testing.T, h head, l *lab.Lab, image string, debs []string) {
	for _, args := range [][]string{
		{"network", "add", "-n", "cluster", "-N", "10.30.0.0", "-P", "16"},
		{"cluster", "makedhcp", "-N", "cluster", "-s", "10.30.128.1", "-e", "10.30.140.255"},
		{"osimage", "add", "-n", "compute", "-p", image},
		{"group", "add", "-n", "compute", "-o", "compute", "-N", "cluster"},
		{"node", "add", "-g", "compute", "-n", "node001"},
		{"node", "change", "node001", "--mac", "52:54:00:00:00:01"},
	} {
		h.run(append([]string{"luna"}, args...)...)
	}
	start := time.Now()
	out, err := h.Run(labtest.Context(t, 3*time.Minute), "luna", "osimage", "pack", "compute")
	if err != nil {
		t.Fatalf("%v\n%s", err, h.says("journalctl", "--no-pager", "-n", "60", "-u", "luna"))
	}
	t.Logf("packed %s in %.1f s", out, time.Since(start).Seconds())

	ctx := labtest.Context(t, 2*time.Minute)
	start = time.Now()
	node, err := l.Node(ctx, lab.NodeConfig{Name: "node001", MAC: []byte{0x52, 0x54, 0, 0, 0, 1}})
	must(t, err)
	booted, err := node.Boot(ctx)
	must(t, err)
	if booted.Loader == "" || booted.Lease.Address.Addr().String() != "10.30.0.1" {
		t.Errorf("the node booted with %+v", booted)
	}
	shell(t, `dpkg-deb -x "$1" "$2"`, debs[1], filepath.Join(l.Dir(), "deb"))
	root := filepath.Join(l.Dir(), "root")
	p, err := node.Install(booted, filepath.Join(l.Dir(), "deb/usr/lib/luna/luna-install"), root)
	must(t, err)
	must(t, p.Wait(ctx))
	must(t, site.SameTree(image, root, "etc/hostname", "etc/resolv.conf", "etc/systemd/network/10-luna-BOOTIF.network"))
	t.Logf("a node booted and has the image after %.1f s", time.Since(start).Seconds())
}

// upgrade: the new agent runs, the configuration is the administrator's, and the mesh goes on.
func upgrade(t *testing.T, h head, debs []string) {
	pid, before := h.unit("MainPID"), h.run("luna", "node", "list")
	h.dpkg(append([]string{"--install", "--force-confdef"}, debs...)...)
	if now := h.unit("MainPID"); now == pid || h.unit("ActiveState") != "active" {
		t.Errorf("process %s before the upgrade, %s after it, which is %s", pid, now, h.unit("ActiveState"))
	}
	if version := h.run("luna", "--version"); !strings.Contains(version, "2.0.1") {
		t.Errorf("upgraded to 2.0.1, it is %s", version)
	}
	if after := h.run("luna", "node", "list"); after != before {
		t.Errorf("before the upgrade\n%s\nafter it\n%s", before, after)
	}
	if !strings.Contains(h.run("cat", "/etc/luna/agent.yaml"), "log-level: debug") {
		t.Error("the configuration was written over")
	}

	// Who has disabled it finds it disabled, and not running.
	h.run("systemctl", "disable", "--now", "luna")
	h.dpkg(append([]string{"--install"}, debs...)...)
	if state := h.unit("UnitFileState"); state != "disabled" {
		t.Errorf("disabled before, it is %s", state)
	}
	h.run("systemctl", "enable", "--now", "luna")
}

// remove: what the mesh keeps stays, also at purge, and serves the head that is installed again.
func remove(t *testing.T, h head, debs []string) {
	before := h.run("luna", "node", "list")
	for _, how := range []string{"--remove", "--purge"} {
		said := h.dpkg(how, "luna", "luna-client")
		if !strings.Contains(said, "/var/lib/luna is kept") {
			t.Errorf("dpkg %s does not say that data are kept:\n%s", how, said)
		}
		if h.run("ls", "/var/lib/luna") == "" {
			t.Errorf("dpkg %s removed the data", how)
		}
		if left := h.says("systemctl", "is-active", "luna"); left != "inactive" {
			t.Errorf("after dpkg %s the agent is %s", how, left)
		}
		h.dpkg(append([]string{"--install"}, debs...)...)
		if state := h.unit("ActiveState"); state != "active" {
			t.Fatalf("installed again after %s, the agent is %s", how, state)
		}
		if after := h.run("luna", "node", "list"); after != before {
			t.Errorf("before dpkg %s\n%s\ninstalled again\n%s", how, before, after)
		}
	}

	// Where there is nothing, nothing is left.
	h.dpkg("--remove", "luna", "luna-client")
	h.run("umount", "/var/lib/luna")
	h.dpkg("--purge", "luna", "luna-client")
	left := h.run("sh", "-c", "ls -d /etc/luna /var/lib/luna /run/luna /usr/lib/luna /etc/systemd/system/*/luna.service 2>/dev/null; find /etc /usr -name 'luna*' ! -name 'named.luna*'")
	if left != "" {
		t.Errorf("purged, it left\n%s", left)
	}
}
