package failover

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/clustervision/luna/test/site"
)

// TestPartition: one head is cut off from the two others, and each side still has
// machines. While the majority's administrator deletes, moves and adds nodes again,
// every machine that is concerned asks on both sides: no address is offered to two
// of them. The head alone goes on booting the nodes it knows and gives no lease.
func TestPartition(t *testing.T) {
	t.Parallel() // with TestTwin
	full, _ := soak()
	for _, holds := range []bool{true, false} {
		name := "the holder alone"
		if !holds {
			name = "another head alone"
			if !full {
				continue
			}
		}
		t.Run(name, func(t *testing.T) {
			m := newMesh(t, "parted", true)
			alone, err := m.holder(t.Context(), nil)
			must(t, err)
			if !holds {
				alone = m.Other(alone)
			}
			p := newParted(t, m, alone)
			p.before(t)
			p.cut(t)
			p.edit(t, lasting(20*time.Second, 10*time.Minute))
			p.verdict(t)
			p.heal(t)
			t.Log("\n" + strings.Join(p.figures, "\n"))
		})
	}
}

// partedNodes is how many nodes may be edited, one after the other.
const partedNodes = 200

// parted is a mesh of which one head is cut off.
type parted struct {
	*mesh
	alone       *site.Head // on one side
	desk        *site.Head // of the other, where the administrator sits
	here, there *wire      // on the side of many, and on that of one
	stopThere   []func()
	stays       [2]*client // a node that nothing happens to, on each side
	lessee      *client    // an unknown machine with a lease from before
	stranger    *client    // an unknown machine that comes to the head alone

	pace    time.Duration
	next    int    // the node that is edited next
	edits   []edit // that were done, or refused
	figures []string
}

// edit is a change that gives an address to another machine.
type edit struct {
	what    string
	run     func() error
	address netip.Addr // of the machine, then; zero: any
	heir    *client    // the machine, on the side of many
	refused error
}

func newParted(t *testing.T, m *mesh, alone *site.Head) *parted {
	t.Helper()
	p := &parted{mesh: m, alone: alone, desk: m.Other(alone), next: 1, pace: 500 * time.Millisecond}
	if full, _ := soak(); full {
		p.pace = 2 * time.Second // there will be some hundred machines, on two sides
	}
	p.here = m.newWire(t, "lan", "here")
	p.there = m.newWire(t, "rack"+alone.Name[1:], "there")
	var csv strings.Builder
	fmt.Fprintf(&csv, "name,mac,ip\nstays,%s,10.30.0.250\n", hardware("stays"))
	for i := range partedNodes {
		fmt.Fprintf(&csv, "%s,%s,%s\n", partedName(i), hardware(partedName(i)), partedAddress(i))
	}
	importNodes(t, m, csv.String())
	return p
}

func partedName(i int) string { return fmt.Sprintf("node%03d", i) }

// partedAddress is the node's: that of the first is below the pool's first address.
func partedAddress(i int) netip.Addr {
	if i == 0 {
		return netip.MustParseAddr("10.30.127.255")
	}
	return netip.AddrFrom4([4]byte{10, 30, 0, byte(i)})
}

// both puts a machine on each side, as if its cable were in both. That is more than
// a machine can do; it may be moved, though, from one to the other.
func (p *parted) both(t *testing.T, name string) (here, there *client) {
	t.Helper()
	here, there = p.here.machine(name), p.there.machine(name)
	here.rest, there.rest = p.pace, p.pace
	ask(t, here)
	p.stopThere = append(p.stopThere, ask(t, there))
	return here, there
}

// before is the time when all is well: a node has its address and an unknown
// machine its lease, the first of the pool.
func (p *parted) before(t *testing.T) {
	p.stays[0] = p.here.machine("stays")
	p.stays[1] = p.there.machineOf(p.stays[0].mac)
	p.lessee = p.here.machine("lessee")
	a, err := p.lessee.lease(t.Context())
	must(t, err)
	if want := netip.MustParseAddr("10.30.128.1"); a.address != want {
		t.Fatalf("the first lease is %s, want %s", a.address, want)
	}
}

// cut cuts, and waits until the majority has a holder.
func (p *parted) cut(t *testing.T) {
	must(t, p.trunks[p.alone].Cut(t.Context()))
	p.book.clear()
	for _, c := range p.stays {
		c.rest = p.pace
	}
	ask(t, p.stays[0])
	p.stopThere = append(p.stopThere, ask(t, p.stays[1]))
	p.both(t, "lessee")
	p.stranger = p.there.machine("stranger")
	ask(t, p.stranger)
	if _, err := p.holder(t.Context(), p.alone); err != nil {
		t.Fatal(err)
	}
	for i, c := range p.stays {
		must(t, site.Until(t.Context(), 30*time.Second, "the node is answered on both sides", func() error {
			if c.latest().address != netip.MustParseAddr("10.30.0.250") {
				return fmt.Errorf("side %d: %s", i, c.latest())
			}
			return nil
		}))
	}
}

// edit does one change after the other, for that long, each kind at least twice; the
// changes of the range come last.
func (p *parted) edit(t *testing.T, lasting time.Duration) {
	began := time.Now()
	until := func(moment time.Duration) {
		t.Helper()
		must(t, site.Until(t.Context(), lasting+time.Minute, "it is time", func() error {
			if time.Since(began) < moment {
				return errors.New("not yet")
			}
			return nil
		}))
	}
	kinds := []func(*testing.T) []edit{p.readd, p.another, p.card, p.swap, p.inherit}
	rounds := len(kinds) * max(2, int(lasting/(50*time.Second)))
	for i := range rounds {
		until(lasting * 2 / 3 * time.Duration(i) / time.Duration(rounds))
		p.run(t, kinds[i%len(kinds)](t))
	}
	p.run(t, p.cover(t))
	p.run(t, p.uncover(t))
	until(lasting) // the machines ask on, on both sides
}

// run does edits and writes down which were refused: a refusal is a way to keep the
// promise, if it ends with the partition.
func (p *parted) run(t *testing.T, edits []edit) {
	t.Helper()
	for _, e := range edits {
		e.refused = e.run()
		var failure *site.Failure
		if e.refused != nil && !errors.As(e.refused, &failure) {
			t.Fatal(e.refused)
		}
		p.edits = append(p.edits, e)
	}
}

// take gives a node that nothing was done to yet. Its machine asks on both sides,
// and the head alone answers it.
func (p *parted) take(t *testing.T) (name string, address netip.Addr) {
	t.Helper()
	name, address = partedName(p.next), partedAddress(p.next)
	p.next++
	p.asks(t, name, address)
	return name, address
}

func (p *parted) asks(t *testing.T, name string, address netip.Addr) {
	t.Helper()
	_, there := p.both(t, name)
	must(t, site.Until(t.Context(), 30*time.Second, p.alone.Name+", alone, answers "+name, func() error {
		if got := there.latest(); got.address != address {
			return fmt.Errorf("it has not: %s", got)
		}
		return nil
	}))
}

func (p *parted) luna(t *testing.T, args ...string) func() error {
	t.Helper()
	return func() error {
		_, err := p.desk.Luna(t.Context(), args...)
		return err
	}
}

// heir puts the machine on the wire that gets another's address.
func (p *parted) heir(t *testing.T, name string) *client {
	t.Helper()
	here, _ := p.both(t, name)
	return here
}

// readd deletes a node and adds it again with another card.
func (p *parted) readd(t *testing.T) []edit {
	name, address := p.take(t)
	heir := p.heir(t, "again-"+name)
	return []edit{
		{what: "delete", run: p.luna(t, "node", "delete", name)},
		{what: "add again", run: p.luna(t, "node", "add", "-g", "compute", "-n", name, "--mac", heir.mac.String())},
		{what: "its address", run: p.luna(t, "node", "change", name, "-i", "BOOTIF", address.String()), address: address, heir: heir},
	}
}

// another deletes a node and gives its address to one of another name.
func (p *parted) another(t *testing.T) []edit {
	name, address := p.take(t)
	heir := p.heir(t, "instead-"+name)
	csv := fmt.Sprintf("name,mac,ip\nx%s,%s,%s\n", name, heir.mac, address)
	return []edit{
		{what: "delete", run: p.luna(t, "node", "delete", name)},
		{what: "add another", address: address, heir: heir, run: func() error {
			_, err := p.desk.LunaIn(t.Context(), csv, "import", "-", "-g", "compute")
			return err
		}},
	}
}

// card gives a node another hardware address.
func (p *parted) card(t *testing.T) []edit {
	name, address := p.take(t)
	heir := p.heir(t, "card-"+name)
	return []edit{{
		what: "another MAC", run: p.luna(t, "node", "change", name, "--mac", heir.mac.String()),
		address: address, heir: heir,
	}}
}

// swap lets two nodes change their hardware addresses, which is the same as to change
// their addresses.
func (p *parted) swap(t *testing.T) []edit {
	one, oneAddress := p.take(t)
	other, otherAddress := p.take(t)
	csv := fmt.Sprintf("name,mac,ip\n%s,,%s\n%s,,%s\n", one, otherAddress, other, oneAddress)
	return []edit{
		{what: "swap", address: otherAddress, heir: p.here.get(one), run: func() error {
			_, err := p.desk.LunaIn(t.Context(), csv, "import", "-")
			return err
		}},
		{what: "swapped", address: oneAddress, heir: p.here.get(other), run: func() error { return nil }},
	}
}

// inherit moves a node to another address and gives the one that it had to another
// node, which goes on.
func (p *parted) inherit(t *testing.T) []edit {
	from, address := p.take(t)
	to, _ := p.take(t)
	away := netip.AddrFrom4([4]byte{10, 30, 2, byte(p.next)})
	return []edit{
		{what: "move", run: p.luna(t, "node", "change", from, "-i", "BOOTIF", away.String()), address: away, heir: p.here.get(from)},
		{what: "inherit", run: p.luna(t, "node", "change", to, "-i", "BOOTIF", address.String()), address: address, heir: p.here.get(to)},
	}
}

// cover deletes a node and makes the range of DHCP begin with its address. A machine
// that nobody knows comes.
func (p *parted) cover(t *testing.T) []edit {
	p.asks(t, partedName(0), partedAddress(0))
	return []edit{
		{what: "delete", run: p.luna(t, "node", "delete", partedName(0))},
		{
			what: "range over it", heir: p.heir(t, "newcomer"),
			run: p.luna(t, "cluster", "makedhcp", "-N", "cluster", "-s", partedAddress(0).String(), "-e", "10.30.140.255"),
		},
	}
}

// uncover takes a leased address out of the range and gives it to a node, which does
// not get it before the lease is over: longer than anybody waits here.
func (p *parted) uncover(t *testing.T) []edit {
	address, heir := p.lessee.latest().address, p.heir(t, "settler")
	csv := fmt.Sprintf("name,mac,ip\nsettler,%s,%s\n", heir.mac, address)
	return []edit{
		{what: "range without it", run: p.luna(t, "cluster", "makedhcp", "-N", "cluster", "-s", "10.30.130.1", "-e", "10.30.140.255")},
		{what: "node in place of a lease", run: func() error {
			_, err := p.desk.LunaIn(t.Context(), csv, "import", "-", "-g", "compute")
			return err
		}},
	}
}

// verdict looks into the book, at the end of the partition.
func (p *parted) verdict(t *testing.T) {
	twice := p.book.twice()
	for i, one := range twice {
		if i < 10 {
			t.Error(one)
		}
	}
	if got := p.stranger.latest(); got.address.IsValid() {
		t.Errorf("an unknown machine got a lease of a head that is alone: %s", got)
	}
	kinds, refused, silent := map[string]int{}, 0, 0
	for _, e := range p.edits {
		kinds[e.what]++
		if e.refused != nil {
			refused++
			t.Logf("refused as long as %s is away: %v", p.alone.Name, e.refused)
		}
		if e.heir != nil && e.address.IsValid() && e.heir.latest().address != e.address {
			silent++
		}
	}
	offers, addresses := p.book.count()
	p.figures = append(p.figures,
		fmt.Sprintf("edits: %d, of them refused: %d; %v", len(p.edits), refused, kinds),
		fmt.Sprintf("machines that wait for another's address: %d", silent),
		fmt.Sprintf("offers: %d of %d addresses; to more than one machine: %d", offers, addresses, len(twice)))
	for i, side := range []string{"many", "one"} {
		longest := p.stays[i].longest()
		p.figures = append(p.figures, fmt.Sprintf("on the side of %s a known node was without an answer for %.2f s at most", side, longest.Seconds()))
		if longest > bearable {
			t.Errorf("on the side of %s a known node was without an answer for %s", side, longest)
		}
	}
}

// heal ends the partition. Every machine gets the address that is its own by then.
func (p *parted) heal(t *testing.T) {
	for _, stop := range p.stopThere { // a machine has one cable now
		stop()
	}
	must(t, p.trunks[p.alone].Heal(t.Context()))
	healed := time.Now()
	must(t, p.Settle(t.Context()))
	for _, e := range p.edits {
		if e.refused != nil {
			must(t, site.Until(t.Context(), time.Minute, "what was refused can be done: "+e.what, e.run))
		}
	}
	last := map[*client]edit{}
	for _, e := range p.edits {
		if e.heir != nil {
			last[e.heir] = e
		}
	}
	var took sample
	for c, e := range last {
		must(t, site.Until(t.Context(), time.Minute, fmt.Sprintf("%s: %s has %s", e.what, c.mac, e.address), func() error {
			a := c.latest()
			if !a.address.IsValid() || e.address.IsValid() && a.address != e.address {
				return fmt.Errorf("its last answer: %s", a)
			}
			took.add(c.settled().Sub(healed))
			return nil
		}))
	}
	must(t, site.Until(t.Context(), time.Minute, "the unknown machine has a lease", func() error {
		if !p.stranger.latest().address.IsValid() {
			return errors.New("it has none")
		}
		return nil
	}))
	// From now on there is one truth.
	p.book.clear()
	clients := slices.Clone(p.stays[:1])
	for c := range last {
		clients = append(clients, c)
	}
	for _, c := range clients {
		c.begin()
		must(t, site.Until(t.Context(), time.Minute, "each machine is answered", func() error { return c.other(netip.Addr{}) }))
	}
	for _, one := range p.book.twice() {
		t.Errorf("after the partition: %s", one)
	}
	p.figures = append(p.figures, fmt.Sprintf("after healing a machine has its new address within %.2f s (median), %.2f s (worst)", took.at(0.5).Seconds(), took.at(1).Seconds()))
}
