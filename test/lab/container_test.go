package lab_test

import (
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/clustervision/luna/test/lab"
	"github.com/clustervision/luna/test/lab/labtest"
)

// Two containers boot at once, are two machines with one network, keep what was written over a
// shutdown and a power cut, and leave nothing behind.
func TestContainers(t *testing.T) {
	tree := labtest.HeadTree(t)
	l := labtest.New(t, "cont")
	ctx := labtest.Context(t, 4*time.Minute)
	var both [2]*lab.Container
	var all sync.WaitGroup
	for i := range both {
		h, err := l.Host(ctx, fmt.Sprintf("c%d", i+1), netip.MustParsePrefix(fmt.Sprintf("10.99.0.%d/24", i+1)))
		if err != nil {
			t.Fatal(err)
		}
		all.Go(func() {
			start := time.Now()
			c, err := h.Boot(ctx, tree, l.Dir())
			if err != nil {
				t.Error(err)
			}
			both[i] = c
			t.Logf("%s booted in %s", h.Name(), time.Since(start).Round(100*time.Millisecond))
		})
	}
	all.Wait()
	if t.Failed() {
		t.FailNow()
	}
	one, two := both[0], both[1]
	run := func(c *lab.Container, argv ...string) string {
		t.Helper()
		out, err := c.Run(ctx, argv...)
		if err != nil {
			t.Fatal(err)
		}
		return out
	}

	if out := run(one, "sh", "-c", "hostname; pwd -P; ls .; ls -d $HOME/.ssh"); !strings.HasPrefix(out, "c1\n/\n") {
		t.Errorf("a command sees\n%s", out)
	}
	out, err := one.SSH(ctx, two.Host, "10.99.0.1", "hostname; ls "+l.Dir()).CombinedOutput()
	if err != nil || !strings.HasPrefix(string(out), "c1\n") || !strings.Contains(string(out), "c2.disk") {
		t.Errorf("ssh from c2 to c1: %v: %s", err, out)
	}

	// A service that stops in one goes on in the other.
	run(one, "systemctl", "stop", "ssh")
	if state := run(two, "systemctl", "is-active", "ssh"); state != "active" {
		t.Errorf("sshd of the other is %s", state)
	}

	// What packing asks for: an overlay below /var/lib/luna.
	run(one, "unshare", "--mount", "sh", "-euc", `cd /var/lib/luna; mkdir u w m
		mount -t overlay -o lowerdir=/etc,upperdir=u,workdir=w o m; echo x >m/x; test ! -e /etc/x; mknod m/n c 1 3`)

	if err := one.Write(ctx, "/srv/a/file", "kept\n", 0o640); err != nil {
		t.Fatal(err)
	}
	if err := one.Stop(ctx); err != nil {
		t.Fatal(err)
	}
	if err := one.Start(ctx); err != nil {
		t.Fatal(err)
	}
	one.Kill9()
	if one.Running() {
		t.Error("it runs without power")
	}
	if err := one.Start(ctx); err != nil {
		t.Fatal(err)
	}
	if got := run(one, "stat", "-c", "%a %s", "/srv/a/file"); got != "640 5" {
		t.Errorf("the file is %q after two boots", got)
	}
	if _, err := os.Stat(filepath.Join(tree, "srv/a")); err == nil {
		t.Error("the tree was written to")
	}

	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	for _, pattern := range []string{"/sys/fs/cgroup/luna-cont-*", "/sys/fs/cgroup/*/luna-cont-*"} {
		if left, _ := filepath.Glob(pattern); left != nil {
			t.Errorf("left behind: %s", left)
		}
	}
}
