package inventory

import (
	"iter"
	"net/netip"
	"slices"
	"time"
)

// Retired is an address that was a machine's, and is no more. As long as some
// head may not know that, it may still offer the address to that machine, so
// that nobody else is offered it.
type Retired struct {
	Addr  netip.Addr `json:"addr"`
	MAC   MAC        `json:"mac"`   // whose it was
	Node  string     `json:"node"`  // as the machine was called; "" for a pool lease
	Index uint64     `json:"index"` // Raft index of the command that took the address away
	At    time.Time  `json:"at"`    // by the mesh's clock
	// Until is when a pool lease would have ended, by the mesh's clock: the
	// machine was told so.
	Until time.Time `json:"until,omitzero"`
}

// RetiredFor is how long a head that is cut off from the others goes on
// answering the nodes that it knows. After it, an address is anybody's, whether
// every head knows or not.
const RetiredFor = 72 * time.Hour

func retiredKey(a netip.Addr, mac MAC) []byte { return append(addrKey(a), mac...) }

// RetiredAddresses lists the addresses that are not anybody's yet.
func (inv *Inventory) RetiredAddresses() iter.Seq[*Retired] {
	return each[Retired](inv, tRetired, "id")
}

// RetiredFrom gives the machine that may still be offered the address by some
// head, if it is another one than that of the MAC.
func (inv *Inventory) RetiredFrom(a netip.Addr, mac MAC) (*Retired, bool) {
	it, err := inv.txn.LowerBound(tRetired, "id", addrKey(a))
	if err != nil {
		panic(err)
	}
	for o := it.Next(); o != nil && o.(*Retired).Addr == a; o = it.Next() {
		if r := o.(*Retired); r.MAC != mac {
			return r, true
		}
	}
	return nil, false
}

// Held tells whether addresses that are not anybody's yet are passed over when
// free ones are looked for: since a head is away that cannot be told.
func (inv *Inventory) Held() bool { return inv.sequence().Held }

// Format is the version of the rules and of the log that all heads of the mesh
// understand. It only grows.
func (inv *Inventory) Format() int { return max(1, inv.sequence().Format) }

// Clock is the mesh's own time, by which leases and tokens end. It begins at
// what the heads took for the time and passes no faster than time does,
// whatever their clocks do: the leader counts it. It stands still where nothing
// depends on it. Zero in a mesh of format 1.
func (inv *Inventory) Clock() time.Time { return inv.sequence().Clock }

// Enter raises the state to the format of a command of that version, taken at
// that time: the first one of format 2 starts the mesh's clock.
func (tx *Tx) Enter(version int, at time.Time) {
	s := tx.sequence()
	if s.Format >= version && !s.Clock.IsZero() {
		return
	}
	s.Format = max(s.Format, version)
	if s.Clock.IsZero() {
		s.Clock = at
	}
	tx.put(tSequence, &s)
}

// Retire notes which machines lost an address in this Tx, and which got one
// back.
func (tx *Tx) Retire(index uint64) {
	before, after := map[netip.Addr]Retired{}, map[netip.Addr]MAC{}
	clock := tx.Clock()
	for _, m := range tx.txn.Changes() {
		switch m.Table {
		case tNode:
			if n, ok := m.Before.(*Node); ok && n.MAC != "" {
				for _, a := range n.Interfaces {
					before[a.V4] = Retired{Addr: a.V4, MAC: n.MAC, Node: n.Name, Index: index, At: clock}
				}
			}
			if n, ok := m.After.(*Node); ok && n.MAC != "" {
				for _, a := range n.Interfaces {
					after[a.V4] = n.MAC
				}
			}
		case tLease:
			if l, ok := m.Before.(*Lease); ok && m.After == nil && clock.Before(l.Expires) {
				before[l.Addr] = Retired{Addr: l.Addr, MAC: l.MAC, At: clock, Until: l.Expires}
			}
			if l, ok := m.After.(*Lease); ok {
				after[l.Addr] = l.MAC
			}
		}
	}
	for a, mac := range after {
		if r, ok := get[Retired](&tx.Inventory, tRetired, "id", retiredKey(a, mac)); ok {
			tx.release(r)
		}
	}
	for a, r := range before {
		if a.IsValid() && after[a] != r.MAC {
			tx.put(tRetired, &r)
		}
	}
}

// Release gives back the addresses of which every head has heard: it has applied
// that index. So it does with those whose time is over.
func (tx *Tx) Release(applied uint64) {
	clock := tx.Clock()
	for _, r := range slices.Collect(tx.RetiredAddresses()) {
		if (r.Index <= applied || clock.After(r.At.Add(RetiredFor+MaxAdvance))) && !clock.Before(r.Until) {
			tx.release(r)
		}
	}
}

func (tx *Tx) release(r *Retired) {
	tx.drop(tRetired, r)
	for id, upTo := range tx.taken { // it may have been passed over when a free one was looked for
		if n, ok := tx.NetworkByID(id); ok && n.Prefix.Contains(r.Addr) && r.Addr.Less(upTo) {
			tx.taken[id] = r.Addr
		}
	}
}

// Pass moves the mesh's clock on, and notes whether a head is away that cannot
// be told of addresses that were given up.
func (tx *Tx) Pass(elapsed time.Duration, held bool) {
	s := tx.sequence()
	if s.Held && !held {
		clear(tx.taken) // those that were passed over count as free again: a head that restores would know nothing else
	}
	s.Clock = s.Clock.Add(elapsed)
	s.Held = held
	tx.put(tSequence, &s)
}
