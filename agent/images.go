package agent

import (
	"context"
	"encoding/json"
	"fmt"
	"net/netip"
	"os"
	"slices"
	"time"

	"github.com/clustervision/luna/inventory"
	"github.com/clustervision/luna/swarm"
)

// keepImages makes this head's disk follow the inventory: it fetches every
// version that it lacks from the heads that hold it, seeds all that it has, says
// so, and removes what nobody needs any more.
func (m *member) keepImages(ctx context.Context) error {
	seeded := map[string]string{} // SHA-256 by info hash: one content may have two names
	for {
		changed := m.machine.Changed()
		inv := m.machine.View()
		wait := time.Minute
		for v := range inv.Versions() {
			err := m.keepVersion(ctx, v, seeded)
			if ctx.Err() != nil {
				return nil
			}
			if m.warn.set("image version "+v.ID, err) && err != nil {
				m.log.Warn("this head does not hold an image version yet", "image", v.ID, "err", err)
			}
			if err != nil {
				wait = 5 * time.Second
			}
		}
		m.forget(inv, seeded)
		select {
		case <-ctx.Done():
			return nil
		case <-changed:
		case <-time.After(wait):
		}
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
func (m *member) keepVersion(ctx context.Context, v *inventory.ImageVersion, seeded map[string]string) error {
	self, ok := m.machine.View().Head(m.cfg.Name)
	if !ok {
		return nil // not admitted yet, as far as this head knows
	}
	for _, a := range artifacts(v) {
		d, err := descriptor(a)
		if err != nil {
			return err
		}
		if seeded[d.InfoHash] != "" {
			continue
		}
		if !m.store.Has(a.SHA256) {
			if err := m.fetch(ctx, v, d); err != nil {
				return err
			}
		}
		if err := m.swarm.Seed(d, m.store.Path(a.SHA256)); err != nil {
			return fmt.Errorf("seed %s: %w", d.Name, err)
		}
		seeded[d.InfoHash] = a.SHA256
		m.tracked.Store(d.InfoHash, a.SHA256)
	}
	if slices.Contains(v.Holders, self.ID) {
		return nil
	}
	if cur, ok := m.machine.View().Version(v.ID); !ok || slices.Contains(cur.Holders, self.ID) {
		return nil
	}
	m.log.Info("this head holds the image version", "image", v.ID)
	res, err := m.propose(ctx, m.byItself(), inventory.RecordHolder{Version: v.ID, Head: m.cfg.Name, Held: true})
	if err == nil {
		err = res.Into(nil)
	}
	return err
}

// fetch brings one artifact from the other heads into the store.
func (m *member) fetch(ctx context.Context, v *inventory.ImageVersion, d swarm.Descriptor) error {
	m.log.Info("fetching from the other heads", "image", v.ID, "file", d.Name, "bytes", d.Size)
	draft, err := m.store.Create()
	if err != nil {
		return err
	}
	defer m.store.Discard(draft) //nolint:errcheck // does nothing after Commit; before it, the first error counts
	m.tracked.Store(d.InfoHash, d.SHA256)
	dl, err := m.swarm.Fetch(ctx, d, draft.Name(), m.source(v, d.SHA256))
	if err != nil {
		return err
	}
	defer dl.Close()
	done := make(chan error, 1)
	go func() { done <- dl.Wait(ctx) }()
	refresh := time.NewTicker(2 * time.Second)
	defer refresh.Stop()
	for {
		select {
		case err := <-done:
			if err != nil {
				return err
			}
			_, err = m.store.Commit(ctx, draft)
			return err
		case <-refresh.C:
			now, ok := m.machine.View().Version(v.ID)
			if !ok {
				dl.Close()
				<-done
				return nil // deleted meanwhile
			}
			dl.SetSource(m.source(now, d.SHA256))
		}
	}
}

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
func (m *member) forget(inv *inventory.Inventory, seeded map[string]string) {
	needed := map[string]bool{}
	for v := range inv.Versions() {
		for _, a := range artifacts(v) {
			needed[a.SHA256] = true
		}
	}
	for hash, sum := range seeded {
		if !needed[sum] {
			m.swarm.Drop(hash)
			m.tracked.Delete(hash)
			delete(seeded, hash)
		}
	}
	if !m.packing.TryLock() {
		return
	}
	defer m.packing.Unlock()
	have, err := m.store.List()
	if err != nil {
		m.log.Warn("cannot list the artifacts", "err", err)
		return
	}
	for _, sum := range have {
		st, err := os.Stat(m.store.Path(sum))
		if needed[sum] || err != nil || time.Since(st.ModTime()) < keepUnknown {
			continue
		}
		if err := m.store.Remove(sum); err != nil {
			m.log.Warn("cannot remove an artifact that nobody needs", "err", err)
		}
	}
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
