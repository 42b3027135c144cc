package agent

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/clustervision/luna/inventory"
	"github.com/clustervision/luna/swarm"
)

// keeper makes this head's disk follow the inventory: it fetches every version
// that it lacks from the heads that hold it, seeds all that it has, says so, and
// removes what nobody needs any more. What is damaged is not served from when that
// is known, and fetched anew.
type keeper struct {
	*member
	seeded map[string]string // SHA-256 by info hash: one content may have two names
	warned map[string]bool   // versions of which a warning speaks
	wake   chan struct{}     // something was damaged
	why    sync.Map          // what is wrong with an artifact (error), by SHA-256
}

func (m *member) keepImages(ctx context.Context) error {
	k := &keeper{member: m, seeded: map[string]string{}, warned: map[string]bool{}, wake: make(chan struct{}, 1)}
	s := newScrubber(m.store, filepath.Join(m.cfg.DataDir, "scrubbed.json"), m.log)
	s.busy, s.damage = k.busy, k.damaged
	all, ctx := errgroup.WithContext(ctx)
	all.Go(func() error { return s.Run(ctx) })
	all.Go(func() error { return k.follow(ctx) })
	return all.Wait()
}

func (k *keeper) follow(ctx context.Context) error {
	for {
		changed := k.machine.Changed()
		inv := k.machine.View()
		wait := time.Minute
		for v := range inv.Versions() {
			err := k.keepVersion(ctx, v)
			if ctx.Err() != nil {
				return nil
			}
			k.warnOf(v, err)
			if err != nil {
				wait = 5 * time.Second
			}
		}
		k.forget(inv)
		select {
		case <-ctx.Done():
			return nil
		case <-changed:
		case <-k.wake:
		case <-time.After(wait):
		}
	}
}

// warnOf warns of a version that this head does not hold, while that is so.
func (k *keeper) warnOf(v *inventory.ImageVersion, err error) {
	news := k.warn.set("image version "+v.ID, err)
	switch k.warned[v.ID] = err != nil; {
	case err == nil:
		delete(k.warned, v.ID)
	case news && errors.Is(err, errNowhere):
		k.log.Error("no head holds an image version any more", "image", v.ID, "err", err)
	case news:
		k.log.Warn("this head does not hold an image version", "image", v.ID, "err", err)
	}
}

func descriptor(a inventory.Artifact) (d swarm.Descriptor, err error) {
	if err = json.Unmarshal(a.Descriptor, &d); err != nil {
		return d, fmt.Errorf("read the descriptor of %s: %w", a.SHA256, err)
	}
	return d, nil
}

func artifacts(v *inventory.ImageVersion) []inventory.Artifact {
	return []inventory.Artifact{v.Kernel, v.Initrd, v.Root}
}

// keepVersion ends with this head holding and seeding the version.
func (k *keeper) keepVersion(ctx context.Context, v *inventory.ImageVersion) error {
	self, ok := k.machine.View().Head(k.cfg.Name)
	if !ok || self.Witness {
		return nil // not admitted yet, as far as this head knows; or not to keep any
	}
	if err := k.findLost(ctx, v, self.ID); err != nil {
		return err
	}
	for _, a := range artifacts(v) {
		d, err := descriptor(a)
		if err != nil {
			return err
		}
		if self.Drained {
			k.swarm.Drop(d.InfoHash)
			delete(k.seeded, d.InfoHash)
		}
		if k.seeded[d.InfoHash] != "" {
			continue
		}
		if !k.store.Has(a.SHA256) {
			if err := k.fetch(ctx, v, d); err != nil {
				return k.explainLoss(v, self.ID, a.SHA256, err)
			}
		}
		k.why.Delete(a.SHA256)
		if self.Drained {
			continue
		}
		if err := k.swarm.Seed(d, k.store.Path(a.SHA256)); err != nil {
			return fmt.Errorf("seed %s: %w", d.Name, err)
		}
		k.seeded[d.InfoHash] = a.SHA256
		k.tracked.Store(d.InfoHash, a.SHA256)
	}
	if cur, ok := k.machine.View().Version(v.ID); !ok || slices.Contains(cur.Holders, self.ID) {
		return nil
	}
	k.log.Info("this head holds the image version", "image", v.ID)
	return k.record(ctx, v, true)
}

// record says in the inventory whether this head holds a version.
func (k *keeper) record(ctx context.Context, v *inventory.ImageVersion, held bool) error {
	res, err := k.propose(ctx, k.byItself(), inventory.RecordHolder{Version: v.ID, Head: k.cfg.Name, Held: held})
	if err == nil {
		err = res.Into(nil)
	}
	return err
}

// fetch brings one artifact from the other heads into the store.
func (k *keeper) fetch(ctx context.Context, v *inventory.ImageVersion, d swarm.Descriptor) error {
	from := k.source(v, d.SHA256)
	if err := k.store.HasRoom(d.Size); err != nil {
		return fmt.Errorf("fetch %s: %w", d.Name, err)
	}
	if len(from.HTTP) > 0 {
		k.log.Info("fetching from the other heads", "image", v.ID, "file", d.Name, "bytes", d.Size)
	}
	draft, err := k.store.Create()
	if err != nil {
		return err
	}
	defer k.store.Discard(draft) //nolint:errcheck // does nothing after Commit; before it, the first error counts
	k.tracked.Store(d.InfoHash, d.SHA256)
	dl, err := k.swarm.Fetch(ctx, d, draft.Name(), from)
	if err != nil {
		return err
	}
	defer dl.Close()
	done := make(chan error, 1)
	go func() { done <- dl.Wait(ctx) }()
	stop := func(why error) error {
		dl.Close()
		<-done
		return why
	}
	refresh := time.NewTicker(2 * time.Second)
	defer refresh.Stop()
	have, since := int64(-1), time.Now()
	for {
		select {
		case err := <-done:
			if err != nil {
				return err
			}
			_, err = k.store.Commit(ctx, draft)
			return err
		case <-refresh.C:
		}
		now, ok := k.machine.View().Version(v.ID)
		if !ok {
			return stop(nil) // deleted meanwhile
		}
		from = k.source(now, d.SHA256)
		dl.SetSource(from)
		p := dl.Progress()
		if p.Done != have {
			have, since = p.Done, time.Now()
		}
		// Other versions wait for this one, and may fare better.
		switch quiet := time.Since(since); {
		case p.Done == p.Total:
		case len(from.HTTP) == 0 && quiet > hopeless:
			return stop(fmt.Errorf("fetch %s: %w", d.Name, errNobodyHas))
		case quiet > stalled:
			return stop(fmt.Errorf("fetch %s: no byte came for %s: %s", d.Name, stalled, p.Trouble))
		}
	}
}

const (
	// hopeless is after how long without a byte a fetch ends that no living head can
	// help: a node may still have the file, and seed it.
	hopeless = 10 * time.Second
	// stalled is the same where some head should be able to.
	stalled = time.Minute
)

var errNobodyHas = errors.New("no other head that is alive has it")

// source names the other live heads as trackers, and those who hold the version
// as HTTP servers too.
func (m *member) source(v *inventory.ImageVersion, sum string) swarm.Source {
	var s swarm.Source
	for h := range m.machine.View().Heads() {
		if h.Name == m.cfg.Name || !m.live(h.Name) {
			continue
		}
		base := "http://" + netip.AddrPortFrom(h.Address, uint16(h.HTTPPort)).String()
		s.Trackers = append(s.Trackers, base+"/announce")
		if slices.Contains(v.Holders, h.ID) {
			s.HTTP = append(s.HTTP, base+"/artifacts/"+sum)
		}
	}
	return s
}

// keepUnknown is how long an artifact that no version names stays on disk: it
// may be of a version that is being packed, or that this head has yet to hear of.
const keepUnknown = 10 * time.Minute

// forget stops seeding and removes what no version needs.
func (k *keeper) forget(inv *inventory.Inventory) {
	needed := needed(inv)
	for id := range k.warned {
		if _, ok := inv.Version(id); !ok {
			k.warn.set("image version "+id, nil)
			delete(k.warned, id)
		}
	}
	for hash, sum := range k.seeded {
		if !needed[sum] {
			k.swarm.Drop(hash)
			k.tracked.Delete(hash)
			delete(k.seeded, hash)
		}
	}
	k.tidy()
}

// needed gives the artifacts that some version names.
func needed(inv *inventory.Inventory) map[string]bool {
	sums := map[string]bool{}
	for v := range inv.Versions() {
		for _, a := range artifacts(v) {
			sums[a.SHA256] = true
		}
	}
	return sums
}

// tidy removes from disk what no version needs. A head that does not know what is newest
// leaves all as it is: at its start, and while it joins or is restored, it may know of no
// version at all, or of those of long ago.
func (k *keeper) tidy() {
	if !k.standing().current {
		return
	}
	inv := k.machine.View() // after it was found to be current
	if _, listed := inv.Head(k.cfg.Name); !listed {
		return // it leads a log in which nothing is yet
	}
	needed := needed(inv)
	k.forgetAside(needed)
	if len(k.unneeded(needed)) == 0 || !k.packing.TryLock() {
		return
	}
	defer k.packing.Unlock()
	for _, sum := range k.unneeded(needed) {
		if err := k.store.Remove(sum); err != nil {
			k.log.Warn("cannot remove an artifact that nobody needs", "err", err)
			continue
		}
		k.log.Info("an artifact that no image version needs is removed", "file", sum)
	}
}

// unneeded gives the artifacts that no version names, and that are not new.
func (k *keeper) unneeded(needed map[string]bool) (old []string) {
	have, err := k.store.List()
	if err != nil {
		k.log.Warn("cannot list the artifacts", "err", err)
	}
	for _, sum := range have {
		st, err := os.Stat(k.store.Path(sum))
		if !needed[sum] && err == nil && time.Since(st.ModTime()) >= keepUnknown {
			old = append(old, sum)
		}
	}
	return old
}

// knownArtifact tells the tracker what it may track.
func (m *member) knownArtifact(infoHash string) bool {
	_, ok := m.tracked.Load(infoHash)
	return ok
}

// artifactPath gives the file of an artifact, where this head has it.
func (m *member) artifactPath(sum string) (string, bool) {
	return m.store.Path(sum), m.store.Has(sum)
}

// trackerSettings gives what the administrator set of the tracker. 1.2's own
// interval stands for Luna's, which was measured.
func (m *member) trackerSettings() (interval time.Duration, neighbours int) {
	c, ok := m.machine.View().Cluster()
	if !ok {
		return 0, 0
	}
	if s := c.Services.TrackerInterval; s != inventory.DefaultServices().TrackerInterval {
		interval = time.Duration(s) * time.Second
	}
	return interval, c.Services.TrackerMaxPeers
}
