package agent

import (
	"context"
	"sync"
	"time"

	"github.com/clustervision/luna/inventory"
)

const (
	// tickTime is how often the leader moves the mesh's clock on, where something
	// goes by it, and inviteTick where a token does: people wait for its end.
	tickTime, inviteTick = 30 * time.Second, 5 * time.Second
	// patientAfter is how long heads may take to hear that an address was given up,
	// before the leader takes one to be away.
	patientAfter = 2 * time.Second
)

// timekeeper is what the leader does for what ends some time: it counts the time,
// and finds out when every head has heard that an address was given up.
type timekeeper struct {
	*member

	mu      sync.Mutex
	counted time.Time // up to when time is counted
	running bool      // something went by the clock when it was looked at last
	waiting time.Time // since when addresses wait; zero: none does
	reached map[inventory.ID]uint64
}

// keepTime counts from where this head began to lead, and at most a minute at
// once; what it is not sure to have told is lost. So the mesh's clock never runs
// faster than time does.
func (m *member) keepTime(ctx context.Context) error {
	k := &timekeeper{member: m, counted: time.Now(), reached: map[inventory.ID]uint64{}}
	m.keeper.Store(k)
	defer m.keeper.Store(nil)
	for {
		changed := m.machine.Changed()
		wait := k.look(ctx, m.machine.View())
		if !k.waiting.IsZero() {
			changed = nil // asking the heads is not done more often for being busy
		}
		select {
		case <-ctx.Done():
			return nil
		case <-changed:
		case <-time.After(wait):
		}
	}
}

// look tells the mesh what is due, and returns when to look again.
func (k *timekeeper) look(ctx context.Context, inv *inventory.Inventory) time.Duration {
	k.mu.Lock()
	defer k.mu.Unlock()
	waits, ends := retired(inv), ends(inv)
	now := time.Now()
	if !k.running {
		k.counted = now // nothing went by it until now
	}
	k.running = len(waits) > 0 || len(ends) > 0
	switch {
	case len(waits) == 0:
		k.waiting = time.Time{}
	case k.waiting.IsZero():
		k.waiting = now
	}
	next := inventory.Advance{Elapsed: min(now.Sub(k.counted), inventory.MaxAdvance), Held: len(waits) > 0 && now.Sub(k.waiting) > patientAfter}
	wait := tickTime
	for _, at := range ends {
		wait = min(wait, max(at.Sub(inv.Clock()), inviteTick))
	}
	due := k.running && next.Elapsed >= wait || next.Held != inv.Held()
	for _, at := range ends {
		due = due || at.Before(inv.Clock().Add(next.Elapsed)) // something is over
	}
	if len(waits) > 0 {
		next.Applied = k.everywhere(ctx, inv)
		for _, r := range waits {
			due = due || r.Index <= next.Applied && !inv.Clock().Before(r.Until)
		}
		wait = time.Second
		if now.Sub(k.waiting) < patientAfter {
			wait = 50 * time.Millisecond
		}
	}
	if due {
		k.advance(ctx, inv, now, next)
	}
	return min(wait, k.untilEnd(inv, ends))
}

// count moves the mesh's clock on to now, where anything goes by it.
func (k *timekeeper) count(ctx context.Context) {
	k.mu.Lock()
	defer k.mu.Unlock()
	inv, now := k.machine.View(), time.Now()
	next := inventory.Advance{Elapsed: min(now.Sub(k.counted), inventory.MaxAdvance), Held: inv.Held()}
	if k.running {
		k.advance(ctx, inv, now, next)
	}
}

// advance tells what was counted up to now, where the mesh has such a clock. What
// it is not sure to have told is not counted again.
func (k *timekeeper) advance(ctx context.Context, inv *inventory.Inventory, now time.Time, c inventory.Advance) {
	if inv.Format() >= inventory.Since(c) {
		k.tell(ctx, c)
		k.counted = now
	}
}

// untilEnd is when the next thing ends, as far as is counted by now.
func (k *timekeeper) untilEnd(inv *inventory.Inventory, ends []time.Time) time.Duration {
	first := tickTime
	for _, at := range ends {
		first = min(first, at.Sub(inv.Clock())-time.Since(k.counted))
	}
	return max(first, 0) + 100*time.Millisecond
}

// tell puts an Advance into the log as this leader, once: another leader counts
// for itself.
func (k *timekeeper) tell(ctx context.Context, c inventory.Advance) {
	data, err := inventory.Envelope{Version: k.machine.View().Format(), At: time.Now().UTC(), Asker: k.byItself(), Command: c}.Encode()
	if err == nil {
		ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
		defer cancel()
		_, err = k.apply(ctx, c, data)
	}
	if err != nil && ctx.Err() == nil {
		k.log.Warn("the mesh's clock stands still", "err", err)
	}
}

func retired(inv *inventory.Inventory) []*inventory.Retired {
	var list []*inventory.Retired
	for r := range inv.RetiredAddresses() {
		list = append(list, r)
	}
	return list
}

// ends lists when things end, by the mesh's clock, that have not ended yet: those
// that people wait for. A lease is one of them, at its end; until then it makes
// the clock run.
func ends(inv *inventory.Inventory) []time.Time {
	now := inv.Clock()
	var list []time.Time
	for l := range inv.Leases() {
		if l.Expires.After(now) {
			list = append(list, l.Expires)
		}
	}
	for i := range inv.Invites() {
		if i.UsedBy == "" && !i.Expires.Before(now) {
			list = append(list, i.Expires)
		}
	}
	return list
}

// everywhere gives the index up to which every head that answers nodes has
// applied the log, as far as they can be asked; what each said is remembered.
// A head says only what would survive that its power is cut.
func (k *timekeeper) everywhere(ctx context.Context, inv *inventory.Inventory) uint64 {
	status := k.askEach(ctx)
	lowest := min(k.peer.SyncApplied(), inv.Index) // of what came since, a head may be that inv does not list
	for h := range inv.Heads() {
		if h.Name == k.cfg.Name || h.Witness {
			continue
		}
		if s, ok := status[h.Name]; ok {
			k.reached[h.ID] = max(k.reached[h.ID], s.SyncedIndex)
		}
		lowest = min(lowest, k.reached[h.ID])
	}
	return lowest
}
