package bootkill

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/clustervision/luna/test/lab/labtest"
	"github.com/clustervision/luna/test/site"
)

// must ends the test at an error.
func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// soak tells whether there is time for everything.
func soak() bool { return os.Getenv("LUNA_SOAK") != "" }

// nodes is how many there are in the inventory. The first ones boot in a loop, the
// next ones are emulated machines and then installations, and the last one is only
// written to.
const (
	nodes        = 64
	firstMachine = 40
	firstInstall = 50
)

func nodeName(i int) string { return fmt.Sprintf("node%03d", i) }

func nodeMAC(i int) net.HardwareAddr { return net.HardwareAddr{0x52, 0x54, 0, 0, 0, byte(i)} }

// bind gives a node its machine.
func bind(ctx context.Context, s *site.Site, node int) error {
	_, err := s.Heads[0].Luna(ctx, "node", "change", nodeName(node), "--mac", nodeMAC(node).String())
	return err
}

func nodeAddr(i int) netip.Addr { return netip.AddrFrom4([4]byte{10, 30, 0, byte(i)}) }

// TestBootKill: whichever head dies under a node, at whatever step, the node is
// booted in the end.
func TestBootKill(t *testing.T) {
	s, tree := newCluster(t, "bootkill")
	w := newWire(t, s)
	if soak() { // an emulated machine's firmware takes a minute or two for each death
		t.Run("Machine", func(t *testing.T) { machines(t, s, w) })
	}
	t.Run("Install", func(t *testing.T) { installs(t, s, w, tree) })
	t.Run("Rolling", func(t *testing.T) { roll(t, s) })
}

// newCluster makes three heads that answer DHCP, all of them with the packed image
// of a small Debian, and nodes that boot it.
func newCluster(t *testing.T, name string) (s *site.Site, tree string) {
	t.Helper()
	ctx := labtest.Context(t, 5*time.Minute)
	tree = labtest.Tree(t)
	l := labtest.New(t, name)
	bin, err := site.Bin()
	must(t, err)
	s, err = site.New(ctx, l, bin, 3)
	must(t, err)
	must(t, s.Mesh(ctx))
	must(t, s.Settle(ctx))
	_, err = s.ServeDHCP(ctx)
	must(t, err)
	h := s.Heads[0]
	for _, args := range [][]string{
		{"osimage", "add", "-n", "compute", "-p", tree},
		{"osimage", "change", "compute", "--kernopts", "console=ttyS0"},
		{"group", "add", "-n", "compute", "-o", "compute", "-N", "cluster"},
		{"node", "add", "-g", "compute", "-n", fmt.Sprintf("node[001-%03d]", nodes)},
		{"osimage", "pack", "compute"},
	} {
		_, err := h.Luna(ctx, args...)
		must(t, err)
	}
	must(t, site.Until(ctx, time.Minute, "all heads hold the image", func() error { return held(ctx, s) }))
	return s, tree
}

// held tells whether all heads have the image.
func held(ctx context.Context, s *site.Site) error {
	var o struct {
		Versions []struct {
			Heads []string `json:"heads"`
		} `json:"versions"`
	}
	if err := s.Heads[0].JSON(ctx, &o, "osimage", "show", "compute"); err != nil {
		return err
	}
	if len(o.Versions) != 1 || len(o.Versions[0].Heads) != len(s.Heads) {
		return fmt.Errorf("held by %v", o.Versions)
	}
	return nil
}

// imageSize is how many bytes a node downloads: the root file system is the
// largest of the artifacts.
func imageSize(t *testing.T, s *site.Site) int64 {
	t.Helper()
	files, err := os.ReadDir(filepath.Join(s.Heads[0].Dir(), "artifacts"))
	must(t, err)
	var largest int64
	for _, f := range files {
		info, err := f.Info()
		must(t, err)
		largest = max(largest, info.Size())
	}
	return largest
}

// succeeds waits until any other head than the dead one says that the node has
// told of its success in this boot.
func succeeds(ctx context.Context, s *site.Site, dead *site.Head, node string) error {
	return site.Until(ctx, 30*time.Second, "the success of "+node+" is known", func() error {
		stage, _, err := s.Other(dead).Stage(ctx, node)
		if err == nil && stage != "install.success" {
			err = fmt.Errorf("it is at %s", stage)
		}
		return err
	})
}
