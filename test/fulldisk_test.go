package test

import (
	"fmt"
	"net/netip"
	"path/filepath"
	"testing"
	"time"

	"github.com/clustervision/luna/test/lab/labtest"
)

// TestFullDisk: an image that the disk has no room for is refused with the reason,
// leaves nothing behind, and the head goes on; with room again, so does the packing.
func TestFullDisk(t *testing.T) {
	s := newSite(t, "fulldisk", 0)
	ctx := labtest.Context(t, 5*time.Minute)
	h, err := s.Add(ctx, "h1", netip.MustParseAddr("10.30.255.254"))
	must(t, err)
	// Its data is on a file system of its own, which only it sees and which goes with it.
	h.Around = []string{
		"unshare", "--mount", "--propagation", "private", "sh", "-euc",
		`mkdir "$0"; mount -t tmpfs -o size=220m,mode=0700 tmpfs "$0"; exec "$@"`, h.Dir(),
	}
	must(t, h.Start(ctx))
	must(t, s.Mesh(ctx))
	data := fmt.Sprintf("/proc/%d/root%s", h.Agent.Pid(), h.Dir())
	tree := filepath.Join(s.Lab.Dir(), "tree")
	shell(t, "", `cp -a "$1" "$2"; head -c 180M /dev/urandom >"$2/incompressible"`, labtest.Tree(t), tree)
	luna(t, h, "osimage", "add", "-n", "compute", "-p", tree)
	before, err := everything(ctx, h)
	must(t, err)

	refuse := func(t *testing.T, words string) {
		t.Helper()
		_, err := h.Luna(ctx, "osimage", "pack", "compute")
		refused(t, err, 1, words)
		unchanged(t, h, before)
		if left := shell(t, data, `find . -name 'draft-*' -o -name 'initrd-*'`); left != "" {
			t.Errorf("there is still\n%s", left)
		}
	}
	t.Run("in the initrd", func(t *testing.T) {
		shell(t, data, "head -c 180M /dev/zero >ballast")
		refuse(t, "where dracut works")
		shell(t, data, "rm ballast")
	})
	t.Run("in the tree", func(t *testing.T) { refuse(t, "while packing compute: needs about") })
	luna(t, h, "network", "add", "-n", "cluster", "-N", "10.30.0.0", "-P", "16")
	shell(t, tree, "rm incompressible")
	luna(t, h, "osimage", "pack", "compute")
}
