package fsm_test

import (
	"fmt"
	"net/netip"
	"testing"
	"time"

	"github.com/hashicorp/raft"
	"pgregory.net/rapid"

	"github.com/clustervision/luna/fsm"
	"github.com/clustervision/luna/inventory"
)

// TestPromise5NoAddressIsOfferedTwice lets administrators change a small mesh at
// random while its heads learn of it late, or not at all, and its machines ask
// whichever head they reach. No two machines may ever be offered one address.
//
// What the heads do is written down here once more, as short as it can be: whom a
// head answers (package dhcp), and what the leader says of the mesh. The machine
// is the real one.
func TestPromise5NoAddressIsOfferedTwice(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		m := newMesh(t)
		for range rapid.IntRange(20, 80).Draw(t, "steps") {
			m.step()
			m.check()
		}
		if err := consistent(m.View()); err != nil {
			t.Fatal(err)
		}
	})
}

const (
	meshLease = 10 * time.Minute // what a machine is told
	meshHeads = 3
)

var meshMachines = []inventory.MAC{"52:54:00:00:00:01", "52:54:00:00:00:02", "52:54:00:00:00:03", "52:54:00:00:00:04"}

// mesh is a leader's state and log, and the heads that follow.
type mesh struct {
	*site
	t     *rapid.T
	heads [meshHeads]*follower

	now     time.Duration // as it really passes
	counted time.Duration // by the leader since it said so last; never more than has passed

	holds   []hold
	entries []uint64
	old     []inventory.Document
}

// follower is a head that may not have applied everything.
type follower struct {
	*fsm.Machine
	next uint64 // index of the last entry that it has applied
	told uint64 // and of the last that it told the leader of
	away bool   // cut off: it learns nothing, and tells nothing
}

// hold is what a machine has from the pool, until then.
type hold struct {
	addr  netip.Addr
	mac   inventory.MAC
	until time.Duration
}

func newMesh(t *rapid.T) *mesh {
	m := &mesh{site: begun(t), t: t}
	for i := range m.heads {
		m.heads[i] = &follower{Machine: fsm.New()}
	}
	own := []netip.Prefix{prefix("10.1.0.13/28"), prefix("10.1.0.29/28"), prefix("10.2.0.13/28")}
	for _, c := range []inventory.Command{
		inventory.UpdateHead{Name: "h1", Address: addr("10.30.255.254"), Addresses: own},
		inventory.AddNetwork{Name: "a", Prefix: prefix("10.1.0.0/28")},
		inventory.AddNetwork{Name: "b", Prefix: prefix("10.2.0.0/28")},
		inventory.AddOSImage{Name: "i", Path: "/i"},
		inventory.AddGroup{Name: "g", OSImage: "i", Network: "a"},
		inventory.AddGroup{Name: "h", OSImage: "i", Network: "b"},
		inventory.AddNodes{Group: "g", Names: []string{"n1"}, MAC: meshMachines[0]},
		inventory.AddNodes{Group: "g", Names: []string{"n2"}, MAC: meshMachines[1]},
		inventory.SetRange{Network: "a", Range: addrRange("10.1.0.8", "10.1.0.9")},
	} {
		if r := m.do(c); r.Error != nil {
			t.Fatalf("%s: %v", shown(c), r.Error)
		}
	}
	return m
}

func (m *mesh) g() generator { return generator{m.t, m.View()} }

func (m *mesh) step() {
	g := m.g()
	head := m.heads[g.between(0, meshHeads-1)]
	switch g.between(0, 11) {
	case 0, 1, 2, 3:
		c := m.change()
		if r := m.do(c); r.Entry != 0 {
			m.entries = append(m.entries, r.Entry)
			m.old = append(m.old, inventory.DocumentOf(m.View()))
		}
	case 4, 5:
		if !head.away {
			head.catchUp(m.log, uint64(g.between(1, 6)))
			if g.yes() {
				head.told = head.next
			}
		}
	case 6:
		head.away = !head.away
	case 7:
		for range pick(g, []int{0, 0, 9, 10}) { // about the time of a lease, counted to the second
			m.now += inventory.MaxAdvance
			m.counted += inventory.MaxAdvance
			m.advance()
		}
		m.pass(time.Duration(g.between(1, 90)) * time.Second)
	case 8, 9:
		m.advance()
	default:
		m.ask(pick(g, meshMachines), head)
	}
}

// catchUp applies up to n more entries.
func (f *follower) catchUp(log [][]byte, n uint64) {
	for ; n > 0 && f.next < uint64(len(log)); n-- {
		f.next++
		f.Apply(&raft.Log{Index: f.next, Data: log[f.next-1]})
	}
}

// pass lets time pass, of which the leader counts some: it may be a new one, or
// have been asleep.
func (m *mesh) pass(d time.Duration) {
	g := m.g()
	m.now += d
	switch g.between(0, 3) {
	case 0:
		m.counted = 0
	case 1:
		m.counted += d / 2
	default:
		m.counted += d
	}
}

// advance is what the leader says: the time that it counted, but for what is too
// much, and how far every head is.
func (m *mesh) advance() {
	applied := m.index
	held := false
	for _, h := range m.heads {
		applied = min(applied, h.told)
		held = held || h.away
	}
	if r := m.do(inventory.Advance{Elapsed: min(m.counted, inventory.MaxAdvance), Applied: applied, Held: held && m.g().yes()}); r.Error != nil {
		m.t.Fatal(r.Error)
	}
	m.counted = 0
}

// change draws what an administrator does.
func (m *mesh) change() inventory.Command {
	g := m.g()
	if c, _ := m.View().Cluster(); c.Deleted {
		if g.yes() || len(m.entries) == 0 {
			return generator{}.again()
		}
		return inventory.UndoChange{Entry: m.entries[len(m.entries)-1]}
	}
	name, mac := g.one("n1", "n2", "n3"), pick(g, meshMachines)
	a := netip.AddrFrom4([4]byte{10, 1, 0, byte(g.between(1, 10))})
	switch g.between(0, 14) {
	case 0, 1:
		return inventory.DeleteNodes{Names: []string{name}}
	case 2, 3, 4:
		return inventory.AddNodes{Group: g.one("g", "g", "h"), Names: []string{name}, MAC: mac}
	case 5, 6:
		return inventory.ChangeNodes{Names: []string{name}, MAC: ptr(pick(g, append(meshMachines, "")))}
	case 7, 8:
		return inventory.ChangeNodes{Names: []string{name}, Addresses: []inventory.SetAddress{{Interface: "BOOTIF", Addr: a}}}
	case 9:
		return inventory.ChangeNodes{Names: []string{name}, Group: ptr(g.one("g", "h"))}
	case 10:
		return inventory.ChangeNetwork{Name: g.one("a", "a", "b"), Prefix: ptr(prefix(g.one("10.1.0.0/28", "10.1.0.16/28", "10.2.0.0/28")))}
	case 11:
		pools := []inventory.AddrRange{{}, addrRange("10.1.0.8", "10.1.0.9"), addrRange("10.1.0.1", "10.1.0.3"), addrRange("10.1.0.9", "10.1.0.10")}
		return inventory.SetRange{Network: "a", Range: pick(g, pools)}
	case 12:
		if len(m.entries) > 0 {
			return inventory.UndoChange{Entry: m.entries[g.between(max(0, len(m.entries)-4), len(m.entries)-1)]}
		}
		return inventory.ChangeNetwork{Name: "a", Release: []netip.Addr{a}, Force: true}
	case 13:
		if len(m.old) > 0 {
			return inventory.ApplyDocument{Document: pick(g, m.old), Prune: true}
		}
		return inventory.ChangeNetwork{Name: "a", Release: []netip.Addr{a}, Force: true}
	}
	if g.between(0, 4) == 0 {
		return inventory.DeleteCluster{Force: true}
	}
	return inventory.ChangeNetwork{Name: "a", Release: []netip.Addr{a}, Force: true}
}

// ask is a machine's request on network a: of the leader, or of another head.
func (m *mesh) ask(mac inventory.MAC, head *follower) {
	inv, upToDate := m.View(), true
	if m.g().yes() {
		inv, upToDate = head.View(), head.next == m.index
	}
	network, ok := inv.Network("a")
	if !ok || network.Range.IsZero() || !upToDate {
		return // who may be behind answers the nodes that it knows; see check
	}
	if n, ok := inv.NodeByMAC(mac); ok {
		if _, ok := inv.BootAddress(n, network.ID); ok {
			return
		}
	}
	if l, ok := inv.Lease(network.ID, mac); ok {
		if left := l.Expires.Sub(inv.Clock()) - inventory.MaxAdvance; left >= meshLease*3/4 {
			m.give(hold{l.Addr, mac, m.now + min(left, meshLease)})
			return
		}
	}
	var l inventory.Lease
	if err := m.do(inventory.LeaseAddress{Network: "a", MAC: mac, At: epoch, TTL: meshLease}).Into(&l); err == nil {
		m.give(hold{l.Addr, mac, m.now + meshLease})
	}
}

func (m *mesh) give(h hold) { m.holds = append(m.holds, h) }

// check asks every head for every machine, and holds that what they offer, and
// what machines hold, are addresses of one machine each.
func (m *mesh) check() {
	of := map[netip.Addr]string{}
	owner := map[netip.Addr]inventory.MAC{}
	claim := func(a netip.Addr, mac inventory.MAC, how string) {
		if has, taken := owner[a]; taken && has != mac {
			m.t.Fatalf("after %s, %s is for %s (%s) and for %s (%s)", m.log[len(m.log)-1], a, has, of[a], mac, how)
		}
		owner[a], of[a] = mac, how
	}
	for _, h := range m.holds {
		if h.until > m.now {
			claim(h.addr, h.mac, fmt.Sprintf("by lease for %s", h.until-m.now))
		}
	}
	m.offers(m.View(), func(a netip.Addr, mac inventory.MAC) { claim(a, mac, "the leader") })
	for i, h := range m.heads {
		m.offers(h.View(), func(a netip.Addr, mac inventory.MAC) {
			claim(a, mac, fmt.Sprintf("head %d, which has applied %d of %d", i, h.next, m.index))
		})
	}
}

// offers gives what a head with that state offers the nodes that it knows. It is
// what dhcp.judge does; TestJudgeRetired there holds it to this.
func (m *mesh) offers(inv *inventory.Inventory, offer func(netip.Addr, inventory.MAC)) {
	for _, mac := range meshMachines {
		n, ok := inv.NodeByMAC(mac)
		if !ok {
			continue
		}
		for network := range inv.Networks() {
			a, ok := inv.BootAddress(n, network.ID)
			if _, refused := inv.RetiredFrom(a, mac); ok && !refused {
				offer(a, mac)
			}
		}
	}
}
