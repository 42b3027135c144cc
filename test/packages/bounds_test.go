package packages

import (
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/clustervision/luna/test/lab"
	"github.com/clustervision/luna/test/lab/labtest"
	"github.com/clustervision/luna/test/site"
)

// bounds: what the agent does besides packing and serving, it may do under its unit.
func bounds(t *testing.T, h head) {
	t.Run("Clone", func(t *testing.T) { clone(t, head{h.Container, t}) })
	t.Run("Grab", func(t *testing.T) { grab(t, head{h.Container, t}) })
	t.Run("BIND", func(t *testing.T) { zones(t, head{h.Container, t}) })
	t.Run("Watchdog", func(t *testing.T) { watchdog(t, head{h.Container, t}) })
}

// clone: device files, owners, modes, capabilities and attributes of a tree come along.
func clone(t *testing.T, h head) {
	h.run("sh", "-euc", `mkdir -p /srv/odd/dev /srv/odd/private; cd /srv/odd; umask 022
		mknod dev/sda b 8 0; mknod dev/null c 1 3; mkfifo fifo; ln -s /etc/passwd link
		cp /bin/true setuid; chmod 4755 setuid; cp /bin/true owned; chown 1234:5678 owned; chmod 2711 owned
		cp /bin/true capable; setfattr -n security.capability -v 0x0100000200200000000000000000000000000000 capable
		mkdir -p boot lib/modules/6.1.0; echo no kernel | tee boot/vmlinuz-6.1.0 >lib/modules/6.1.0/modules.dep
		echo x >private/x; chmod 0 private/x; chmod 700 private; setfattr -n user.luna -v moon private/x`)
	h.run("luna", "osimage", "add", "-n", "odd", "-p", "/srv/odd")
	h.run("luna", "osimage", "clone", "odd", "--to", "copy", "--path", "/srv/copy")
	const listing = `cd "$1"; find . -mindepth 1 -printf '%p %M %U:%G %s %l\n' | sort; stat -c '%n %t:%T' dev/*; getfattr -Rhdm '^(user|security)' .`
	want, got := h.run("sh", "-euc", listing, "sh", "/srv/odd"), h.run("sh", "-euc", listing, "sh", "/srv/copy")
	if got != want || !strings.Contains(want, "security.capability") {
		t.Errorf("the tree is\n%s\nits clone\n%s", want, got)
	}
}

// grab: it takes a host with root's key, and remembers whom it has met.
func grab(t *testing.T, h head) {
	h.run("sh", "-euc", "mkdir /srv/grabbed; cp -r /srv/odd/boot /srv/odd/lib /srv/grabbed")
	h.run("luna", "osimage", "add", "-n", "grabbed", "-p", "/srv/grabbed")
	h.run("luna", "osimage", "change", "grabbed", "--grab_filesystems", "/etc")
	h.run("luna", "osimage", "grab", "grabbed", "--host", "10.30.255.254")
	if out := h.run("sh", "-c", "cmp /etc/passwd /srv/grabbed/etc/passwd && cat /root/.ssh/known_hosts"); !strings.Contains(out, "ssh-") {
		t.Errorf("the host's key is not remembered: %q", out)
	}
}

// zones: it writes them for a BIND, and has that read them.
func zones(t *testing.T, h head) {
	h.run("sh", "-euc", `echo 'include "/etc/named.luna.zones";' >>/etc/bind/named.conf.local; : >/etc/named.luna.zones; systemctl start named`)
	h.run("luna", "cluster", "change", "--named_zone_dir", "/var/cache/bind")
	said := h.says("luna", "cluster", "makedns")
	if strings.Contains(said, "reload") || !strings.Contains(said, "/etc/named.luna.zones") {
		t.Errorf("luna cluster makedns says\n%s", said)
	}
	if list := h.run("sh", "-c", "cat /etc/named.luna.zones; ls /var/cache/bind"); !strings.Contains(list, "cluster") {
		t.Errorf("no zone for the network:\n%s", list)
	}
	h.run("systemctl", "stop", "named")
}

// watchdog: an agent that hangs is ended, and another one takes its place.
func watchdog(t *testing.T, h head) {
	h.run("sh", "-euc", `mkdir -p /run/systemd/system/luna.service.d
		printf '[Service]\nWatchdogSec=3s\n' >/run/systemd/system/luna.service.d/test.conf; systemctl daemon-reload; systemctl restart luna`)
	pid := h.unit("MainPID")
	h.run("kill", "-STOP", pid)
	must(t, site.Until(t.Context(), time.Minute, "another agent runs", func() error {
		_, err := h.Run(t.Context(), "sh", "-c", `systemctl is-active -q luna && [ $(systemctl show --value -p MainPID luna) != `+pid+` ]`)
		return err
	}))
	if out := h.says("sh", "-c", "journalctl --no-pager -u luna | grep -e 'Watchdog timeout' -e '^.*goroutine 1 '"); strings.Count(out, "\n") != 1 {
		t.Errorf("the journal does not tell of the watchdog, and where the agent stood:\n%s", out)
	}
	h.run("sh", "-euc", `rm -r /run/systemd/system/luna.service.d; systemctl daemon-reload; systemctl restart luna`)
}

// cutOff: a head whose peers are down is started like any other, and a package that restarts it is not
// held up.
func cutOff(t *testing.T, h head, l *lab.Lab, tree, dist string, debs []string) {
	ctx := labtest.Context(t, 3*time.Minute)
	host, err := l.Host(ctx, "head2", netip.MustParsePrefix("10.30.255.253/16"))
	must(t, err)
	c, err := host.Boot(ctx, tree, dist)
	must(t, err)
	other := head{c, t}
	other.dpkg(append([]string{"--install"}, debs...)...)
	other.run("luna", "join", "10.30.255.254", "--token", h.run("luna", "head", "invite"))
	c.Kill9()

	start := time.Now()
	h.dpkg("--install", debs[1])
	t.Logf("without its peer, installed again and started after %.1f s", time.Since(start).Seconds())
	if state, status := h.unit("ActiveState"), h.unit("StatusText"); state != "active" || !strings.Contains(status, "cut off") {
		t.Errorf("without its peer it is %s: %q", state, status)
	}

	// The other comes back by its own at the next boot.
	must(t, c.Start(ctx))
	if state := other.unit("ActiveState"); state != "active" {
		t.Errorf("after a power cut and a boot the other is %s", state)
	}
	must(t, site.Until(ctx, time.Minute, "both are at work", func() error {
		_, err := h.Run(ctx, "luna", "osimage", "change", "compute", "--kernopts", "quiet")
		return err
	}))
	other.run("luna", "leave")
	must(t, c.Stop(ctx))
}
