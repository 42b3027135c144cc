package test

import (
	"fmt"
	"testing"
	"time"

	"github.com/clustervision/luna/test/site"
)

// TestMesh: three heads are one, for who writes and for who reads, whoever dies.
func TestMesh(t *testing.T) {
	s := newMesh(t, "mesh", 3)
	h := s.Heads
	luna(t, h[0], "network", "add", "-n", "cluster", "-N", "10.30.0.0", "-P", "16")
	addGroup(t, h[0], kernelTree(t, s.Lab))

	t.Run("what is added on h2 is seen everywhere", func(t *testing.T) {
		luna(t, h[1], "node", "add", "-g", "compute", "-n", "node001")
		if _, err := h[1].Luna(t.Context(), "node", "show", "node001"); err != nil {
			t.Errorf("h2 does not read what was written through it: %v", err)
		}
		seen(t, h[0], "node001")
		seen(t, h[2], "node001")
	})
	for i, victim := range h {
		t.Run("kill -9 of "+victim.Name, func(t *testing.T) { killOne(t, s, victim, fmt.Sprintf("node%03d", 10*(i+1))) })
	}
	t.Run("kill -9 of all", func(t *testing.T) { killAll(t, s) })
}

// seen waits until the head knows the node: a follower is some milliseconds behind.
func seen(t *testing.T, h *site.Head, node string) {
	t.Helper()
	must(t, site.Until(t.Context(), 2*time.Second, h.Name+" knows "+node, func() error {
		_, err := h.Luna(t.Context(), "node", "show", node)
		return err
	}))
}

// killOne kills a head, writes on both others, and starts it again.
func killOne(t *testing.T, s *site.Site, victim *site.Head, node string) {
	ctx := t.Context()
	var list []site.HeadStatus
	must(t, victim.JSON(ctx, &list, "head", "list"))
	leads := false
	for _, h := range list {
		leads = leads || h.Leader && h.Name == victim.Name
	}
	stood := standstill(t)
	victim.Agent.Kill9()
	killed := time.Now()
	luna(t, s.Other(victim), "node", "add", "-g", "compute", "-n", node)
	took := time.Since(killed)
	t.Logf("the leader: %t; a write is done %.2f s after the kill", leads, took.Seconds())
	if took-stood() > promised {
		t.Errorf("a write is done %s after the kill (the machine stood still for %s), %s are promised", took, stood(), promised)
	}
	for _, h := range s.Heads {
		if h != victim {
			seen(t, h, node)
			luna(t, h, "node", "change", node, "--mac", "52:54:00:00:00:0"+h.Name[1:])
		}
	}
	must(t, victim.Start(ctx))
	seen(t, victim, node)
	must(t, s.Settle(ctx))
}

// killAll kills all heads together and starts them again.
func killAll(t *testing.T, s *site.Site) {
	ctx := t.Context()
	luna(t, s.Heads[1], "node", "add", "-g", "compute", "-n", "node[100-199]")
	before, err := everything(ctx, s.Heads[1])
	must(t, err)
	for _, h := range s.Heads {
		h.Agent.Kill9()
	}
	for _, h := range s.Heads {
		must(t, h.Start(ctx))
	}
	started := time.Now()
	luna(t, s.Heads[2], "node", "add", "-g", "compute", "-n", "node200")
	t.Logf("a write is done %.2f s after the last head was started again", time.Since(started).Seconds())
	luna(t, s.Heads[0], "node", "delete", "node200")
	must(t, s.Settle(ctx))
	for _, h := range s.Heads {
		must(t, site.Until(ctx, 5*time.Second, h.Name+" has everything", func() error {
			after, err := everything(ctx, h)
			if err == nil && after != before {
				err = fmt.Errorf("before:\n%s\nafter:\n%s", before, after)
			}
			return err
		}))
	}
}
