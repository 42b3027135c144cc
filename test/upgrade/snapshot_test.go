package upgrade

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/clustervision/luna/api"
	"github.com/clustervision/luna/test/lab/labtest"
	"github.com/clustervision/luna/test/site"
)

const (
	// flood is how many changes make heads forget what a head that is away has not
	// heard: more than trailingLogs of package consensus, the snapshot's threshold,
	// and some.
	flood = 20_000
	// forgetful is how long heads may take to write a snapshot after that: raft looks
	// every two to four minutes.
	forgetful = 6 * time.Minute
)

// TestSnapshots: a head that was away for so long that it must be sent the whole
// state understands that of a leader of the other release, either way.
func TestSnapshots(t *testing.T) {
	if os.Getenv("LUNA_SOAK") == "" {
		t.Skip("takes ten minutes, for heads write a snapshot every two to four: make soak runs it")
	}
	ctx := labtest.Context(t, 40*time.Minute)
	m := newMesh(ctx, t, "snapshots")
	h1, h2, h3 := m.Heads[0], m.Heads[1], m.Heads[2]

	must(t, h1.Agent.Stop(syscall.SIGTERM, 20*time.Second))
	m.flood(ctx, t, h2, h3)
	h1.Bin = ""
	must(t, h1.Start(ctx))
	must(t, m.Settle(ctx))
	m.write(ctx, t)
	got(t, h1)

	m.upgrade(ctx, t, h2) // it has a snapshot of its own, as the last release writes it
	must(t, h3.Agent.Stop(syscall.SIGTERM, 20*time.Second))
	must(t, os.RemoveAll(snapshots(h3))) // its log is not whole without: it begins anew from what it is sent
	must(t, os.Remove(filepath.Join(filepath.Dir(snapshots(h3)), "raft.db")))
	must(t, os.Remove(filepath.Join(filepath.Dir(snapshots(h3)), "applied")))
	must(t, h3.Start(ctx))
	must(t, m.Settle(ctx))
	m.write(ctx, t)
	got(t, h3)
	m.mixed(ctx, t)

	m.upgrade(ctx, t, h3)
	must(t, site.Until(ctx, 20*time.Second, "the mesh uses the new format", func() error { return wantFormat(ctx, h3, 2) }))
	m.write(ctx, t)
	m.served(ctx, t)
}

// snapshots is where a head keeps its snapshots.
func snapshots(h *site.Head) string { return filepath.Join(h.Dir(), "raft", "snapshots") }

// flood makes so many changes that the heads forget their beginning, and waits until
// they have.
func (m *mesh) flood(ctx context.Context, t *testing.T, heads ...*site.Head) {
	t.Helper()
	began := time.Now()
	work, ctx := errgroup.WithContext(ctx)
	for i := range 64 {
		h := heads[i%len(heads)]
		c := socket(h)
		work.Go(func() error {
			for j := range flood / 64 {
				service := j%2 == 0
				if _, err := c.ChangeNodes(ctx, fmt.Sprintf("node%03d", 1+i%10), api.ChangeNodes{Service: &service}); err != nil {
					return fmt.Errorf("change %d through %s: %w", j, h.Name, err)
				}
			}
			return nil
		})
	}
	must(t, work.Wait())
	t.Logf("%d changes in %.1f s", flood, time.Since(began).Seconds())
	must(t, site.Until(t.Context(), forgetful, "the heads have written snapshots", func() error {
		for _, h := range heads {
			if err := wrote(h); err != nil {
				return err
			}
		}
		return nil
	}))
}

// wrote tells whether a head has a snapshot.
func wrote(h *site.Head) error {
	names, err := os.ReadDir(snapshots(h))
	if err != nil {
		return err
	}
	for _, n := range names {
		if n.IsDir() && !strings.HasSuffix(n.Name(), ".tmp") {
			return nil
		}
	}
	return errors.New(h.Name + " has no snapshot")
}

// got makes sure that a head, which has run for too short a time to write a snapshot
// itself, was sent one.
func got(t *testing.T, h *site.Head) {
	t.Helper()
	if err := wrote(h); err != nil {
		t.Errorf("%v: it was caught up in another way, and this test shows nothing", err)
	}
}
