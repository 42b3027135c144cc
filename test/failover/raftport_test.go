package failover

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/clustervision/luna/test/site"
)

// TestOnlyRaftIsCut: a firewall closes the port of raft on the holder, and nothing else.
// Gossip goes on, so nobody takes that head for dead; but it follows nobody, and gives
// no machine an address that it does not know yet. Another head takes its duty over,
// and whoever asks is told.
func TestOnlyRaftIsCut(t *testing.T) {
	t.Parallel()
	m := newMesh(t, "raftport", false)
	ctx := t.Context()
	victim, err := m.Holder(ctx, m.Heads[0])
	must(t, err)
	other := m.Other(victim)
	firewall := func(verb string) {
		for _, end := range []string{"sport", "dport"} {
			out, err := victim.Command(ctx, "ip", "rule", verb, "ipproto", "tcp", end, "8300", "blackhole").CombinedOutput()
			if err != nil {
				t.Fatalf("%v: %s", err, out)
			}
		}
	}
	w := m.newWire(t, "", "wire")
	unknown := w.machine("unknown0")
	firewall("add")
	began := time.Now()
	holder, err := m.holder(ctx, victim)
	must(t, err)
	t.Logf("%s holds after %.1f s", holder.Name, time.Since(began).Seconds())
	ask(t, unknown)
	answered(t, unknown)
	must(t, site.Until(ctx, 20*time.Second, "the others say so", func() error {
		status := luna(t, other, "cluster", "status")
		if !strings.Contains(status, victim.Name+": hears of no head that leads") {
			return errors.New(status)
		}
		return nil
	}))
	third := m.third(victim, other)
	said, err := other.Luna(ctx, "cluster", "safe", third.Name)
	if want := fmt.Sprintf("(%s hears of no head that leads", victim.Name); err == nil || !strings.Contains(said, want) {
		t.Errorf("may %s go down: %s (%v), want %q", third.Name, said, err, want)
	}
	firewall("del")
	must(t, m.Settle(ctx))
	must(t, site.Until(ctx, 20*time.Second, "all is well", func() error {
		if status := luna(t, other, "cluster", "status"); strings.Contains(status, victim.Name+": ") {
			return errors.New(status)
		}
		return nil
	}))
	for _, twice := range m.book.twice() {
		t.Error(twice)
	}
}

// third gives the head that is neither of two.
func (m *mesh) third(a, b *site.Head) *site.Head {
	for _, h := range m.Heads {
		if h != a && h != b {
			return h
		}
	}
	return nil
}
