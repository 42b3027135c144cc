package agent

import (
	"context"
	"time"

	"github.com/clustervision/luna/inventory"
)

const (
	// tickTime is how often the leader moves the mesh's clock on, where something
	// goes by it.
	tickTime = 30 * time.Second
	// patientAfter is how long heads may take to hear that an address was given up,
	// before the leader takes one to be away.
	patientAfter = 2 * time.Second
)

// keepTime is what the leader does for what ends some time: it counts the time,
// and finds out when every head has heard that an address was given up. It counts
// from where it began to lead, and at most a minute at once, so that the mesh's
// clock never runs faster than time does.
func (m *member) keepTime(ctx context.Context) error {
	counted := time.Now()
	reached := map[inventory.ID]uint64{} // what each head is known to have applied
	var waiting time.Time                // since when addresses wait
	for {
		changed := m.machine.Changed()
		inv := m.machine.View()
		waits, timed := retired(inv), ends(inv)
		now := time.Now()
		if !timed && len(waits) == 0 {
			counted = now
		}
		if len(waits) == 0 {
			waiting = time.Time{}
		} else if waiting.IsZero() {
			waiting = now
		}
		next := inventory.Advance{Elapsed: min(now.Sub(counted), inventory.MaxAdvance), Held: len(waits) > 0 && now.Sub(waiting) > patientAfter}
		due := next.Elapsed >= tickTime || next.Held != inv.Held()
		if len(waits) > 0 {
			next.Applied = m.everywhere(ctx, inv, reached)
			for _, r := range waits {
				due = due || r.Index <= next.Applied && !inv.Clock().Before(r.Until)
			}
		}
		if due && inv.Format() >= inventory.Since(next) {
			if _, err := m.propose(ctx, m.byItself(), next); err != nil && ctx.Err() == nil {
				m.log.Warn("the mesh's clock stands still", "err", err)
			} else {
				counted = now
			}
		}
		wait := tickTime
		switch {
		case len(waits) > 0 && time.Since(waiting) < patientAfter:
			wait = 50 * time.Millisecond
		case len(waits) > 0:
			wait = time.Second
		}
		if len(waits) > 0 {
			changed = nil // what takes time is not done more often for being busy
		}
		select {
		case <-ctx.Done():
			return nil
		case <-changed:
		case <-time.After(wait):
		}
	}
}

func retired(inv *inventory.Inventory) []*inventory.Retired {
	var list []*inventory.Retired
	for r := range inv.RetiredAddresses() {
		list = append(list, r)
	}
	return list
}

// ends tells whether anything ends some time by the mesh's clock.
func ends(inv *inventory.Inventory) bool {
	now := inv.Clock()
	for l := range inv.Leases() {
		if l.Expires.After(now) {
			return true
		}
	}
	for i := range inv.Invites() {
		if i.UsedBy == "" && i.Expires.After(now) {
			return true
		}
	}
	return false
}

// everywhere gives the index up to which every head that answers nodes has
// applied the log, as far as they can be asked; reached remembers what each said.
// A head says only what would survive that its power is cut.
func (m *member) everywhere(ctx context.Context, inv *inventory.Inventory, reached map[inventory.ID]uint64) uint64 {
	status := m.askEach(ctx)
	lowest := m.peer.SyncApplied()
	for h := range inv.Heads() {
		if h.Name == m.cfg.Name || h.Witness {
			continue
		}
		if s, ok := status[h.Name]; ok {
			reached[h.ID] = max(reached[h.ID], s.SyncedIndex)
		}
		lowest = min(lowest, reached[h.ID])
	}
	return lowest
}
