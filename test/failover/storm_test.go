package failover

import (
	"context"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/clustervision/luna/test/site"
)

// What a boot storm is, and what asks in it: firmware, which is patient.
const (
	stormNodes   = 900
	stormUnknown = 100
	stormTime    = 10 * time.Second
	firmware     = 4 * time.Second // until a PXE ROM asks again (PXE 2.1 §2.2.4)
)

// TestBootStorm: a thousand machines are switched on within ten seconds. Each gets
// its address, writes go on, and no other head has to lead.
func TestBootStorm(t *testing.T) {
	m := newMesh(t, "storm", false)
	var csv strings.Builder
	csv.WriteString("name,mac,ip\n")
	right := map[string]netip.Addr{}
	for i := range stormNodes {
		mac, address := hardware(fmt.Sprintf("storm%d", i)), netip.AddrFrom4([4]byte{10, 30, 4 + byte(i/200), byte(1 + i%200)})
		right[mac.String()] = address
		fmt.Fprintf(&csv, "storm%04d,%s,%s\n", i, mac, address)
	}
	importNodes(t, m, csv.String())
	var wires []*wire
	for i := range 8 {
		wires = append(wires, m.newWire(t, "", fmt.Sprintf("wire%d", i)))
	}
	ctx, cancel := context.WithTimeout(t.Context(), 3*time.Minute)
	defer cancel()
	calm := m.watch(t)
	stop := m.write(t)

	var mu sync.Mutex
	var took sample
	machines, ctx := errgroup.WithContext(ctx)
	for n, i := range rand.Perm(stormNodes + stormUnknown) {
		on := time.After(stormTime * time.Duration(n) / (stormNodes + stormUnknown))
		c := wires[i%len(wires)].machine(fmt.Sprintf("storm%d", i))
		machines.Go(func() error {
			select {
			case <-ctx.Done():
				return ctx.Err()
			case <-on:
			}
			began := time.Now()
			a, err := c.exchange(ctx, firmware)
			if err != nil {
				return err
			}
			if want, known := right[a.mac]; known && a.address != want || !known && !pool.Contains(a.address) {
				return fmt.Errorf("wrong: %s", a)
			}
			mu.Lock()
			defer mu.Unlock()
			took.add(time.Since(began))
			return nil
		})
	}
	must(t, machines.Wait())
	writes := stop()
	calm(t)
	for _, twice := range m.book.twice() {
		t.Error(twice)
	}
	t.Logf("\n%s", times(map[string]sample{"machine has an address": took, "write is done": writes}))
}

// watch looks who leads and who holds DHCP. Calm makes sure that it is so still, and
// was all the time, and that nobody has died. But in a soak, for which the machine
// has nothing else to do, one that stood still for longer than heads wait for one
// another is an excuse.
func (m *mesh) watch(t *testing.T) (calm func(t *testing.T)) {
	t.Helper()
	must(t, m.Settle(t.Context()))
	leader, err := m.leader(t.Context(), m.Heads[0])
	must(t, err)
	holder, err := m.holder(t.Context(), nil)
	must(t, err)
	led, err := m.led()
	must(t, err)
	stood := newStandstill()
	return func(t *testing.T) {
		t.Helper()
		still := stood.end()
		for _, h := range m.Heads {
			if !h.Agent.Running() {
				t.Errorf("the agent of %s has ended", h.Name)
			}
		}
		must(t, m.Settle(t.Context()))
		now, err := m.leader(t.Context(), m.Heads[0])
		must(t, err)
		holds, err := m.holder(t.Context(), nil)
		must(t, err)
		again, err := m.led()
		must(t, err)
		t.Logf("led by %s, then by %s; DHCP held by %s, then by %s; %d words of a new leader; the machine stood still for %.2f s",
			leader.Name, now.Name, holder.Name, holds.Name, again-led, still.Seconds())
		// A machine that stood still gave nobody the CPU, which proves nothing.
		if moved := now != leader || holds != holder || again != led; moved && still < 200*time.Millisecond {
			t.Error("another head had to lead, or to hold DHCP")
		}
	}
}

// write adds a node, for rewrite.
func (m *mesh) write(t *testing.T) (stop func() sample) {
	t.Helper()
	luna(t, m.Heads[0], "node", "add", "-g", "compute", "-n", "written")
	return m.rewrite(t)
}

// rewrite changes a node again and again, at each head in turn, until stop is called,
// which gives how long each change took.
func (m *mesh) rewrite(t *testing.T) (stop func() sample) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	var took sample
	done := make(chan struct{})
	go func() {
		defer close(done)
		for i := 0; ctx.Err() == nil; i++ {
			began := time.Now()
			h := m.Heads[i%len(m.Heads)]
			// A write that has begun is finished: it is not what is interrupted.
			if _, err := h.Luna(context.WithoutCancel(ctx), "node", "change", "written", "--tag", fmt.Sprintf("t%d", i%7)); err != nil {
				t.Errorf("a write at %s: %v", h.Name, err)
				return
			}
			took.add(time.Since(began))
			select {
			case <-ctx.Done():
			case <-time.After(100 * time.Millisecond):
			}
		}
	}()
	stop = func() sample {
		cancel()
		<-done
		return took
	}
	t.Cleanup(func() { stop() })
	return stop
}

// answered makes sure that the machine is answered, from now on.
func answered(t *testing.T, c *client) {
	t.Helper()
	c.begin()
	must(t, site.Until(t.Context(), time.Minute, "the machine is answered", func() error { return c.other(netip.Addr{}) }))
}
