package ansible

import (
	"encoding/json"
	"fmt"
	"net"
	"strings"
	"time"

	"github.com/clustervision/luna/test/lab"
	"github.com/clustervision/luna/test/site"
)

const (
	// looping is how many nodes boot in a loop during an upgrade, each at loopRate Mbit/s.
	looping  = 3
	loopRate = 100
	// tree is where the head has an image that is no system.
	tree = "/srv/fleet"
)

func nodeName(i int) string { return fmt.Sprintf("node%03d", i) }

func nodeMAC(i int) net.HardwareAddr { return net.HardwareAddr{0x52, 0x54, 0, 0, 7, byte(i)} }

// upgraded: the heads get another release one by one, and nodes that boot meanwhile do not notice.
func (s *servers) upgraded(all []*server) {
	s.prepare(all[0])
	s.hold("fleet", len(all))
	bin, err := site.Bin()
	must(s, err)
	var nodes []lab.NodeConfig
	for i := range looping {
		nodes = append(nodes, lab.NodeConfig{Name: nodeName(i + 1), MAC: nodeMAC(i + 1), RateMbit: loopRate})
	}
	fleet, booting := site.NewFleet(s.Context(), s.lab, bin, nodes)
	must(s, site.Until(booting, time.Minute, "nodes boot", func() error {
		if n := fleet.Boots(); n < looping {
			return fmt.Errorf("%d boots", n)
		}
		return nil
	}))
	before := fleet.Boots()
	p := s.play("site", nextRelease)
	during := fleet.Boots() - before
	failed, err := fleet.Stop()
	must(s, err)
	p.must(s)
	s.Logf("%d boots during the upgrade", during)
	if failed > 0 {
		s.Errorf("%d boots failed", failed)
	}
	if during < looping {
		s.Errorf("no more than %d boots during the upgrade", during)
	}
	s.heads(all[2], all...)
	for _, h := range s.list(all[0]) {
		if h.Version != nextRelease {
			s.Errorf("%s runs %s", h.Name, h.Version)
		}
	}
	drained, cautious := strings.Count(p.out, ": Drain it]"), strings.Count(p.out, ": Wait until it may go down]")
	if drained != len(all) || cautious != len(all) {
		s.Errorf("%d heads were drained, and %d asked whether they may go\n%s", drained, cautious, p.out)
	}
}

// prepare gives the mesh an image that is no system, and nodes that boot it.
func (s *servers) prepare(h *server) {
	s.Helper()
	_, err := h.Run(s.Context(), "sh", "-euc", `mkdir -p "$1"/boot "$1"/lib/modules/6.1.0; cd "$1"; touch lib/modules/6.1.0/modules.dep
		head -c 1M /dev/urandom >boot/vmlinuz-6.1.0; head -c 2M /dev/urandom >boot/initrd.img-6.1.0; head -c 16M /dev/urandom >content`, "sh", tree)
	must(s, err)
	for _, args := range [][]string{
		{"network", "add", "-n", "cluster", "-N", site.Network.Addr().String(), "-P", "16"},
		{"cluster", "makedhcp", "-N", "cluster", "-s", "10.30.128.1", "-e", "10.30.140.255"},
		{"osimage", "add", "-n", "fleet", "-p", tree},
		{"group", "add", "-n", "fleet", "-o", "fleet", "-N", "cluster"},
		{"node", "add", "-g", "fleet", "-n", fmt.Sprintf("node[001-%03d]", looping)},
		{"osimage", "pack", "fleet", "--copy_boot"},
	} {
		s.luna(h, args...)
	}
	for i := range looping {
		s.luna(h, "node", "change", nodeName(i+1), "--mac", nodeMAC(i+1).String())
	}
}

// hold waits until so many heads have the image.
func (s *servers) hold(osimage string, heads int) {
	s.Helper()
	must(s, site.Until(s.Context(), time.Minute, "all heads hold the image", func() error {
		out, err := s.all[0].Run(s.Context(), "luna", "osimage", "show", osimage, "-o", "json")
		if err != nil {
			return err
		}
		var o struct{ Versions []struct{ Heads []string } }
		if err := json.Unmarshal([]byte(out), &o); err != nil {
			return err
		}
		if len(o.Versions) != 1 || len(o.Versions[0].Heads) != heads {
			return fmt.Errorf("held by %v", o.Versions)
		}
		return nil
	}))
}
