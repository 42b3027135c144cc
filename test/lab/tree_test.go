package lab_test

import (
	"context"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/clustervision/luna/test/lab"
	"github.com/clustervision/luna/test/lab/labtest"
)

// The tree boots by itself to a login prompt. Here it is its own initrd, which makes it the quickest
// test there is of what mkimage.sh made: no installer, no network but the card.
func TestDebianTreeBoots(t *testing.T) {
	root := labtest.Tree(t)
	for _, path := range []string{"usr/bin/dracut", "usr/bin/zstd", "usr/bin/dpkg", "usr/sbin/mkfs.ext4"} {
		if _, err := os.Stat(filepath.Join(root, path)); err != nil {
			t.Error(err)
		}
	}
	for _, path := range []string{"etc/hostname", "etc/resolv.conf", "etc/fstab", "etc/machine-id"} {
		if text, err := os.ReadFile(filepath.Join(root, path)); err == nil && len(text) > 0 {
			t.Errorf("/%s holds %q: it is the installer's to write", path, text)
		}
	}

	l := labtest.New(t, "tree")
	mac := "52:54:00:00:00:01"
	kernel, initrd := treeAsInitrd(t, root, l.Dir(), map[string]string{
		"etc/hostname":                     "node001\n",
		"etc/systemd/network/luna.network": "[Match]\nMACAddress=" + mac + "\n[Network]\nAddress=10.99.0.1/16\n",
	})
	ctx := labtest.Context(t, 5*time.Minute)
	m, err := l.Machine(ctx, lab.MachineConfig{
		Name: "node001", MAC: hardware(t, mac), Kernel: kernel, Initrd: initrd,
		CommandLine: "console=ttyS0,115200 rdinit=/lib/systemd/systemd",
	})
	if err != nil {
		t.Fatal(err)
	}
	start := time.Now()
	for _, step := range []string{`Linux version`, `systemd \d+\S* running in system mode`, `node001 login:`} {
		if _, err := m.WaitFor(ctx, regexp.MustCompile(step)); err != nil {
			t.Fatal(err)
		}
		t.Logf("%5.1f s, %5.1f s of CPU: %s", time.Since(start).Seconds(), m.CPU().Seconds(), step)
	}
	if err := ready(ctx, m); err != nil {
		t.Fatal(err)
	}
	if err := m.Send("root\n"); err != nil {
		t.Fatal(err)
	}
	out, err := m.Run(ctx, "hostname; cat /sys/class/net/e*/address; systemctl --failed --no-legend")
	if err != nil {
		t.Fatal(err)
	}
	if got := strings.Fields(out); len(got) != 2 || got[0] != "node001" || got[1] != mac {
		t.Errorf("on the machine: %q", out)
	}
	if _, err := m.Run(ctx, "false"); err == nil {
		t.Error("a failing command has no error")
	}
}

// ready waits until the machine says that it is.
func ready(ctx context.Context, m *lab.Machine) error {
	if regexp.MustCompile(`OS-READY hostname=node001 addr=10.99.0.1/16\n`).MatchString(m.Console()) {
		return nil
	}
	_, err := m.WaitFor(ctx, regexp.MustCompile(`OS-READY hostname=node001 addr=10.99.0.1/16\n`))
	return err
}

// A tree that cannot be built is an error that says why, and nothing stays.
func TestDebianTreeFails(t *testing.T) {
	labtest.RequireRoot(t)
	cache := t.TempDir()
	t.Setenv("LUNA_LAB_CACHE", cache)
	t.Setenv("LUNA_LAB_MIRROR", "http://127.0.0.1:9/debian") // where nobody is
	_, err := lab.DebianTree(labtest.Context(t, 2*time.Minute), labtest.Log(t))
	if err == nil || !strings.Contains(err.Error(), "127.0.0.1") {
		t.Errorf("no mirror: %v", err)
	}
	left, err := filepath.Glob(filepath.Join(cache, "debian12-*"))
	if err != nil || left != nil {
		t.Errorf("left behind: %v, %v", left, err)
	}
}
