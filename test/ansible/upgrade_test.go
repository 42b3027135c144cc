package ansible

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sync/errgroup"
	"golang.org/x/sys/unix"

	"github.com/clustervision/luna/test/lab"
	"github.com/clustervision/luna/test/lab/labtest"
	"github.com/clustervision/luna/test/site"
)

const (
	// looping is how many nodes boot in a loop during an upgrade, each at loopRate Mbit/s.
	looping  = 3
	loopRate = 100
	// machineNode is the number of the one that an emulated machine is.
	machineNode = 9
	// tree is where the head has an image that is no system.
	tree = "/srv/compute"
)

func nodeName(i int) string { return fmt.Sprintf("node%03d", i) }

func nodeMAC(i int) net.HardwareAddr { return net.HardwareAddr{0x52, 0x54, 0, 0, 7, byte(i)} }

// machineTree is the Debian that an emulated machine boots.
func machineTree(t *testing.T) string {
	t.Helper()
	return labtest.Tree(t)
}

// upgraded: the heads get another release one by one, and nodes that boot meanwhile do not notice.
func (s *servers) upgraded(all []*server) {
	s.prepare(all[0])
	s.hold("compute", len(all))
	ctx, cancel := context.WithCancel(s.Context())
	defer cancel()
	fleet, booting := errgroup.WithContext(ctx)
	over := make(chan struct{})
	var boots, again atomic.Int64
	for i := range looping {
		fleet.Go(func() error {
			n, err := s.lab.Node(booting, lab.NodeConfig{Name: nodeName(i + 1), MAC: nodeMAC(i + 1), RateMbit: loopRate})
			if err != nil {
				return err
			}
			defer func() { again.Add(int64(strings.Count(n.Console(), "boot failed: "))) }()
			for {
				if err := s.boot(booting, n); err != nil {
					return err
				}
				boots.Add(1)
				select {
				case <-over:
					return nil
				default:
				}
			}
		})
	}
	must(s, site.Until(booting, time.Minute, "nodes boot", func() error {
		if boots.Load() < looping {
			return fmt.Errorf("%d boots", boots.Load())
		}
		return nil
	}))
	before := boots.Load()
	p := s.play("site", nextRelease)
	during := boots.Load() - before
	close(over)
	must(s, fleet.Wait())
	p.must(s)
	s.Logf("%d boots during the upgrade", during)
	if again.Load() > 0 {
		s.Errorf("%d boots failed", again.Load())
	}
	if during < looping {
		s.Errorf("no more than %d boots during the upgrade", during)
	}
	s.heads(all[2], all...)
	for _, v := range all {
		var h struct{ Version string }
		must(s, json.Unmarshal([]byte(s.luna(all[0], "head", "show", v.name, "-o", "json")), &h))
		if h.Version != nextRelease {
			s.Errorf("%s runs %s", v.name, h.Version)
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
		{"osimage", "add", "-n", "compute", "-p", tree},
		{"group", "add", "-n", "compute", "-o", "compute", "-N", "cluster"},
		{"node", "add", "-g", "compute", "-n", fmt.Sprintf("node[001-%03d]", machineNode)},
		{"osimage", "pack", "compute", "--copy_boot"},
	} {
		s.luna(h, args...)
	}
	for i := range machineNode {
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

// boot boots a node once to its unpacked image, and throws that away.
func (s *servers) boot(ctx context.Context, n *lab.Node) error {
	booted, err := n.Boot(ctx)
	if err != nil {
		return err
	}
	bin, err := site.Bin()
	if err != nil {
		return err
	}
	root := filepath.Join(s.lab.Dir(), n.Name()+"-root")
	defer os.RemoveAll(root)
	if err := os.Mkdir(root, 0o755); err != nil {
		return err
	}
	p, err := n.Install(booted, filepath.Join(bin, "luna-install"), root, "--seed", "0", "--once")
	if err != nil {
		return err
	}
	// A node is another machine: what it computes must not slow down the heads.
	if err := unix.Setpriority(unix.PRIO_PGRP, p.Pid(), 15); err != nil && !errors.Is(err, unix.ESRCH) {
		return err
	}
	if err := p.Wait(ctx); err != nil {
		return fmt.Errorf("%s: %w", n.Name(), err)
	}
	return nil
}

// machine: an emulated machine boots a Debian from the mesh, from firmware to its login prompt.
func (s *servers) machine(t *testing.T) {
	ctx, cancel := context.WithTimeout(s.Context(), 15*time.Minute)
	defer cancel()
	h := s.all[0]
	s.luna(h, "osimage", "add", "-n", "debian", "-p", machineTree(t))
	s.luna(h, "osimage", "change", "debian", "--kernopts", "console=ttyS0")
	_, err := h.Run(ctx, "luna", "--timeout", "10m", "osimage", "pack", "debian")
	must(s, err)
	s.hold("debian", 3)
	node := nodeName(machineNode)
	s.luna(h, "group", "add", "-n", "debian", "-o", "debian", "-N", "cluster")
	s.luna(h, "node", "change", node, "-g", "debian")
	m, err := s.lab.Machine(ctx, lab.MachineConfig{Name: node, MAC: nodeMAC(machineNode)})
	must(s, err)
	defer m.Kill()
	for _, pattern := range []string{"Luna: " + node + " boots debian", "Linux version", "OS-READY.*hostname=" + node} {
		line, err := m.WaitFor(ctx, regexp.MustCompile(pattern))
		must(s, err)
		s.Logf("%5.0f s of CPU: %s", m.CPU().Seconds(), line)
	}
}
