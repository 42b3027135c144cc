package conformance

import (
	"context"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/clustervision/luna/test/lab"
	"github.com/clustervision/luna/test/lab/labtest"
	"github.com/clustervision/luna/test/site"
)

// How long nodes are added while heads die: as long as make test can spare, and the full time where
// LUNA_SOAK is set (make soak), or the time that it says: LUNA_SOAK=1m.
const (
	shortSoak = 20 * time.Second
	longSoak  = 10 * time.Minute
)

const clients = 8

func soakTime() time.Duration {
	soak := os.Getenv("LUNA_SOAK")
	if given, err := time.ParseDuration(soak); err == nil {
		return given
	}
	if soak != "" {
		return longSoak
	}
	return shortSoak
}

// TestConcurrentAutoNames: eight administrators add nodes without naming them, at whichever head,
// while one head after the other dies and comes back: no name is given twice, no address, and every
// node that was acknowledged is there, on each head.
func TestConcurrentAutoNames(t *testing.T) {
	l := labtest.New(t, "autoname")
	s, err := site.New(t.Context(), l, programs, 3)
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Mesh(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := s.Settle(t.Context()); err != nil {
		t.Fatal(err)
	}
	d := deskAt(t, l, s.Heads[0]).with(t)
	d.ok("luna network add -n cluster -N 10.30.0.0 -P 16", "luna network add -n ipmi -N 10.31.0.0 -P 16", "luna osimage add -n compute -p $IMG",
		"luna group add -n compute -o compute -N cluster -bn ipmi")
	pc, err := l.Host(t.Context(), "pc", netip.PrefixFrom(netip.MustParseAddr("10.30.254.1"), 16))
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithTimeout(t.Context(), soakTime())
	defer stop()
	var wg sync.WaitGroup
	acknowledged := make([][]string, clients)
	failures := make([]map[string]int, clients)
	for i := range clients {
		wg.Go(func() { acknowledged[i], failures[i] = addUntil(ctx, t, s, pc, l.Dir()) })
	}
	kills := killHeads(ctx, t, s)
	wg.Wait()
	if err := s.Settle(t.Context()); err != nil {
		t.Fatal(err)
	}
	all := slices.Concat(acknowledged...)
	t.Logf("%d nodes acknowledged by %d clients in %s, %d times a head was killed; refused or unanswered: %v", len(all), clients, soakTime(), kills, failures)
	if len(all) < 10*clients || kills < 2 {
		t.Errorf("that is too little to tell: %d nodes, %d times a head was killed", len(all), kills)
	}
	for _, h := range s.Heads {
		nothingTwice(t, h, all)
	}
}

// addUntil adds nodes, at random heads, until the time is over. It gives the names that it was told,
// and how often each complaint came: a killed head's clients must complain.
func addUntil(ctx context.Context, t *testing.T, s *site.Site, pc *lab.Host, home string) (names []string, failures map[string]int) {
	failures = map[string]int{}
	for ctx.Err() == nil {
		h := s.Heads[rand.N(len(s.Heads))]
		// The last command is let end: its node counts.
		out, err := h.LunaFrom(context.WithoutCancel(ctx), pc, home, "--timeout", "10s", "node", "add", "-g", "compute")
		if err != nil {
			words := err.Error()
			failures[words[max(0, len(words)-60):]]++
			continue
		}
		name := nodeName.FindString(out)
		if name == "" {
			t.Errorf("luna node add did not tell which node it added: %q", out)
			return names, failures
		}
		names = append(names, name)
	}
	return names, failures
}

// killHeads kills one head after the other, each time when all are well, until the time is over; all
// run in the end.
func killHeads(ctx context.Context, t *testing.T, s *site.Site) (kills int) {
	t.Helper()
	for pause := 3 * time.Second; ; kills++ {
		select {
		case <-ctx.Done():
			return kills
		case <-time.After(pause):
		}
		h := s.Heads[rand.N(len(s.Heads))]
		h.Agent.Kill9()
		select {
		case <-ctx.Done():
		case <-time.After(time.Duration(rand.IntN(2000)) * time.Millisecond):
		}
		if err := h.Start(t.Context()); err != nil {
			t.Fatal(err)
		}
		if err := s.Settle(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
}

// nothingTwice makes sure that the head knows all these nodes, and none with the name or an address
// of another.
func nothingTwice(t *testing.T, h *site.Head, acknowledged []string) {
	t.Helper()
	var nodes []node
	if err := h.JSON(t.Context(), &nodes, "node", "list"); err != nil {
		t.Fatal(err)
	}
	names, addresses := map[string]bool{}, map[string]string{}
	for _, n := range nodes {
		if names[n.Name] {
			t.Errorf("%s has two nodes %s", h.Name, n.Name)
		}
		names[n.Name] = true
		for iface, of := range n.Interfaces {
			if of["4"] == "" {
				t.Errorf("on %s, %s of %s has no address", h.Name, iface, n.Name)
			}
			if other, taken := addresses[of["4"]]; taken {
				t.Errorf("on %s, %s and %s have %s both", h.Name, n.Name, other, of["4"])
			}
			addresses[of["4"]] = n.Name
		}
	}
	told := map[string]bool{}
	for _, name := range acknowledged {
		if told[name] {
			t.Errorf("%s was given to two clients", name)
		}
		if told[name] = true; !names[name] {
			t.Errorf("%s was acknowledged, and %s does not have it", name, h.Name)
		}
	}
	t.Logf("%s has %d nodes and %d addresses", h.Name, len(nodes), len(addresses))
}

// TestMinority: check 78. A head that has lost the others refuses writes in clear words, and reads on.
func TestMinority(t *testing.T) {
	l := labtest.New(t, "minority")
	s, err := site.New(t.Context(), l, programs, 3)
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Mesh(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := s.Settle(t.Context()); err != nil {
		t.Fatal(err)
	}
	for i, h := range s.Heads { // a write on any head is taken, and read on any other
		d := deskAt(t, l, h).with(t)
		d.ok(fmt.Sprintf("luna network add -n n%d -N 10.%d.0.0 -P 16", i, 40+i), "luna cluster sync")
	}
	for _, h := range s.Heads {
		d := deskAt(t, l, h).with(t)
		if err := site.Until(t.Context(), 5*time.Second, "all networks are on "+h.Name, func() error {
			if out := d.ok("luna network list"); strings.Count(out, "/16") != 3 {
				return fmt.Errorf("there is\n%s", out)
			}
			return nil
		}); err != nil {
			t.Error(err)
		}
	}
	last := deskAt(t, l, s.Heads[2]).with(t)
	s.Heads[0].Agent.Kill9()
	s.Heads[1].Agent.Kill9()
	r := last.run("", "luna --timeout 15s network add -n late -N 10.60.0.0 -P 16")
	if r.code != 1 || !strings.Contains(r.errs, "h1") || !strings.Contains(r.errs, "h2") {
		t.Errorf("a write without a quorum: exit code %d, want 1 and who is missing: %s", r.code, r.errs)
	}
	last.has("luna network list", "n0", "n1", "n2")
	last.lacks("luna network list", "late")
}
