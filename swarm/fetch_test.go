package swarm

import (
	"fmt"
	"testing"
	"time"

	"golang.org/x/sync/errgroup"
)

func TestSeedAndFetch(t *testing.T) {
	data := randomBytes(10<<20+12345, 1)
	d, path := artifactFile(t, data)
	h := newHead(t, 1, nil)
	if err := h.Seed(d, path); err != nil {
		t.Fatal(err)
	}
	if err := h.Seed(d, path); err != nil {
		t.Fatalf("seeding again: %v", err)
	}
	dl := fetch(t, newMachine(t, 2), d, sourceOf(h))
	mustArrive(t, dl, data, 20*time.Second)
	p := dl.Progress()
	if p.Done != d.Size || p.FromPeers < d.Size || p.FromHTTP != 0 {
		t.Errorf("progress at the end: %+v", p)
	}
}

// Six nodes read while they fetch, from one head that can only feed them all because they feed each
// other.
func TestManyReadWhileFetching(t *testing.T) {
	data := randomBytes(24<<20, 2)
	d, path := artifactFile(t, data)
	h := newHead(t, 1, files(data))
	if err := h.Seed(d, path); err != nil {
		t.Fatal(err)
	}
	var g errgroup.Group
	var dls []*Download
	for n := range 6 {
		dl := fetch(t, newMachine(t, 10+n), d, sourceOf(h))
		dls = append(dls, dl)
		g.Go(func() error { return mustRead(dl, data) })
	}
	start := time.Now()
	if err := g.Wait(); err != nil {
		t.Fatal(err)
	}
	var up int64
	for _, dl := range dls {
		mustArrive(t, dl, data, time.Second)
		up += dl.Progress().Uploaded
	}
	t.Logf("took %s; the nodes sent %.1f copies; http requests: %d", time.Since(start), float64(up)/float64(d.Size), h.ranges.Load())
	if up == 0 {
		t.Error("no node passed anything on")
	}
	eventually(t, "the tracker knows that all are complete", func() bool {
		n := 0
		for _, p := range h.tracker.Peers(d.InfoHash) {
			if p.Left == 0 {
				n++
			}
		}
		return n == 6
	})
	_ = fmt.Sprint()
}
