package test

import (
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"github.com/clustervision/luna/test/lab/labtest"
	"github.com/clustervision/luna/test/site"
)

// TestOneHeadAlone: a site of one head does everything, without ceremony: luna
// cluster init, and go. Its agent knows nothing but a configuration file.
func TestOneHeadAlone(t *testing.T) {
	s := newSite(t, "alone", 0)
	ctx := labtest.Context(t, 10*time.Minute)
	h, err := s.Add(ctx, "h1", netip.MustParseAddr("10.30.255.254"))
	must(t, err)
	config := filepath.Join(s.Lab.Dir(), "agent.yaml")
	settings := fmt.Sprintf("name: h1\ndata-dir: %s\nbind: %s\nsocket: %s\nlog-format: json\n", h.Dir(), h.Addr, h.Socket())
	must(t, os.WriteFile(config, []byte(settings), 0o600))
	must(t, h.StartAs(ctx, "--config", config))

	must(t, s.Mesh(ctx))
	holder, err := s.ServeDHCP(ctx)
	if err != nil || holder != h {
		t.Fatalf("%v holds DHCP: %v", holder, err)
	}
	tree := labtest.Tree(t)
	addGroup(t, h, tree)
	luna(t, h, "node", "add", "-g", "compute", "-n", "node[001-002]")
	for i := range 2 {
		luna(t, h, "node", "change", nodeName(i+1), "--mac", nodeMAC(i+1).String())
	}
	luna(t, h, "osimage", "pack", "compute")
	must(t, site.SameTree(tree, install(t, s, 1), writtenByInstaller...))
	before, err := everything(ctx, h)
	must(t, err)

	must(t, h.Agent.Stop(syscall.SIGTERM, 10*time.Second))
	must(t, h.Agent.Wait(ctx))
	must(t, h.StartAs(ctx, "--config", config))
	must(t, s.Settle(ctx))
	unchanged(t, h, before)
	must(t, site.SameTree(tree, install(t, s, 2), writtenByInstaller...))
}
