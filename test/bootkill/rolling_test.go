package bootkill

import (
	"context"
	"fmt"
	"net"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/clustervision/luna/api"
	"github.com/clustervision/luna/test/lab"
	"github.com/clustervision/luna/test/lab/labtest"
	"github.com/clustervision/luna/test/site"
)

const (
	// promised is for how long at most writes may be refused while heads are taken
	// down in order.
	promised = 2 * time.Second
	// writeEvery is how often something is written.
	writeEvery = 100 * time.Millisecond
	// downFor is how long a head's machine takes to be back.
	downFor = 5 * time.Second
	// bootPatience is for some of the nodes to boot, on two CPUs for all.
	bootPatience = 10 * time.Minute
	// stopPatience is for an agent that stops in order.
	stopPatience = 30 * time.Second
)

// rolling is a maintenance of all heads while nodes boot.
type rolling struct {
	*site.Site
	drains bool // there is luna head drain

	mu   sync.Mutex
	away *site.Head // nobody is sent to this one

	fleet *site.Fleet
	began time.Time
}

// roll drains, reboots and takes back every head in turn while nodes boot in a
// loop. No node fails, and no write is refused for long.
func roll(t *testing.T, s *site.Site) {
	count, rate := 6, 100
	if soak() {
		count, rate = 36, 20
	}
	ctx := labtest.Context(t, 30*time.Minute)
	r := &rolling{Site: s, began: time.Now()}
	verbs, err := s.Heads[0].Luna(ctx, "head", "--help")
	must(t, err)
	r.drains = strings.Contains(verbs, "drain")
	t.Logf("%d nodes at %d Mbit/s boot in a loop; luna head drain is there: %v", count, rate, r.drains)

	for i := range count {
		must(t, bind(ctx, s, i+1))
	}
	stood := standstill(t)
	writing, stopWriting := context.WithCancel(ctx)
	var outage time.Duration
	var writes errgroup.Group
	writes.Go(func() (err error) {
		outage, err = r.write(writing, t)
		return err
	})
	var nodes []lab.NodeConfig
	for i := range count {
		nodes = append(nodes, lab.NodeConfig{Name: nodeName(i + 1), MAC: nodeMAC(i + 1), RateMbit: rate})
	}
	fleet, booting := site.NewFleet(ctx, s.Lab, s.Bin, nodes)
	r.fleet = fleet
	// The next head goes when a third of the nodes has booted since the last: a link
	// that is slower than heads are rebooted would never carry a file to its end.
	turn := func(h *site.Head) error {
		enough := r.fleet.Boots() + int64(count/3)
		if err := r.reboot(booting, t, h); err != nil {
			return fmt.Errorf("%s: %w", h.Name, err)
		}
		return site.Until(booting, bootPatience, "nodes have booted meanwhile", func() error {
			if n := r.fleet.Boots(); n < enough {
				return fmt.Errorf("%d boots, not %d", n, enough)
			}
			return nil
		})
	}
	for _, h := range s.Heads {
		if err := turn(h); err != nil {
			t.Error(err)
			break
		}
	}
	again, err := fleet.Stop()
	must(t, err)
	stopWriting()
	must(t, writes.Wait())
	t.Logf("%d boots in %.0f s; firmware began again %d times; writes were refused for %s at most", r.fleet.Boots(), time.Since(r.began).Seconds(), again, outage)
	if outage-stood() > promised {
		t.Errorf("writes were refused for %s (the machine stood still for %s), %s are promised", outage, stood(), promised)
	}
	if r.drains && again > 0 {
		t.Errorf("machines had to begin again %d times, though heads were drained", again)
	}
}

// reboot takes a head down as an administrator does and brings it back.
func (r *rolling) reboot(ctx context.Context, t *testing.T, h *site.Head) error {
	other := r.Other(h)
	start, before := time.Now(), r.fleet.Boots()
	if r.drains {
		out, err := other.Luna(ctx, "head", "drain", h.Name)
		if err != nil {
			return err
		}
		t.Logf("%6.1f s luna head drain %s took %.1f s: %s", time.Since(r.began).Seconds(), h.Name, time.Since(start).Seconds(), strings.ReplaceAll(out, "\n", " / "))
	}
	r.mu.Lock()
	r.away = h
	r.mu.Unlock()
	stopping := time.Now()
	if err := h.Agent.Stop(syscall.SIGTERM, stopPatience); err != nil {
		return err
	}
	stopped := time.Since(stopping)
	select {
	case <-ctx.Done():
		return context.Cause(ctx)
	case <-time.After(downFor):
	}
	if err := h.Start(ctx); err != nil {
		return err
	}
	if err := r.Settle(ctx); err != nil {
		return err
	}
	if err := site.Until(ctx, time.Minute, "all heads hold the image", func() error { return held(ctx, r.Site) }); err != nil {
		return err
	}
	r.mu.Lock()
	r.away = nil
	r.mu.Unlock()
	if r.drains {
		if _, err := other.Luna(ctx, "head", "undrain", h.Name); err != nil {
			return err
		}
	}
	t.Logf("%6.1f s %s is back: stopped within %.1f s, away for %.1f s, %d boots meanwhile", time.Since(r.began).Seconds(), h.Name,
		stopped.Seconds(), time.Since(stopping).Seconds(), r.fleet.Boots()-before)
	return nil
}

// write changes something again and again, on one head after the other but for the
// one that is away, until ctx ends. It gives the longest time from the beginning of
// a write that was refused to the end of the next one that was not.
func (r *rolling) write(ctx context.Context, t *testing.T) (longest time.Duration, err error) {
	clients := map[*site.Head]*api.Client{}
	for _, h := range r.Heads {
		dial := func(ctx context.Context, _, _ string) (net.Conn, error) {
			return (&net.Dialer{}).DialContext(ctx, "unix", h.Socket())
		}
		clients[h] = &api.Client{Base: "http://luna", HTTP: &http.Client{Transport: &http.Transport{DialContext: dial, DisableKeepAlives: true}}}
	}
	tick := time.NewTicker(writeEvery)
	defer tick.Stop()
	var refused time.Time // when the first of the writes that were refused in a row began
	for i := 0; ; i++ {
		select {
		case <-ctx.Done():
			return longest, nil
		case <-tick.C:
		}
		h := r.Heads[i%len(r.Heads)]
		r.mu.Lock()
		away := r.away == h
		r.mu.Unlock()
		if away {
			continue
		}
		began, comment := time.Now(), fmt.Sprintf("write %d", i)
		_, err := clients[h].ChangeNodes(ctx, nodeName(nodes), api.ChangeNodes{Comment: &comment})
		switch {
		case ctx.Err() != nil:
			return longest, nil
		case err != nil && refused.IsZero():
			refused = began
			t.Logf("%6.1f s %s refuses a write: %v", time.Since(r.began).Seconds(), h.Name, err)
		case err == nil && !refused.IsZero():
			longest = max(longest, time.Since(refused))
			refused = time.Time{}
		case err == nil && time.Since(began) > time.Second:
			t.Logf("%6.1f s a write on %s took %.1f s", time.Since(r.began).Seconds(), h.Name, time.Since(began).Seconds())
		}
	}
}

// standstill begins to measure for how long this machine does not run at all, as a
// virtual one does whose host has other things to do, and gives the sum so far.
func standstill(t *testing.T) (sum func() time.Duration) {
	t.Helper()
	const beat, late = 10 * time.Millisecond, 100 * time.Millisecond
	var total atomic.Int64
	tick := time.NewTicker(beat)
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		for last := time.Now(); t.Context().Err() == nil; {
			now := <-tick.C
			if gap := now.Sub(last); gap > late {
				total.Add(int64(gap))
			}
			last = now
		}
	}()
	t.Cleanup(func() { <-ended; tick.Stop() })
	return func() time.Duration { return time.Duration(total.Load()) }
}
