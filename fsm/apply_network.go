package fsm

import (
	"cmp"
	"iter"
	"maps"
	"net/netip"
	"slices"
	"strings"
	"time"

	"github.com/clustervision/luna/inventory"
)

func addNetwork(tx *inventory.Tx, c inventory.AddNetwork) error {
	if _, ok := tx.Network(c.Name); ok {
		return inventory.Exists("network", c.Name)
	}
	n := &inventory.Network{ID: tx.NewID(), Name: c.Name, Prefix: c.Prefix.Masked(), NSHostname: c.NSHostname}
	if err := noOverlap(&tx.Inventory, n); err != nil {
		return err
	}
	if err := placeNameServer(tx, n, c.NSIP); err != nil {
		return err
	}
	tx.Put(n)
	return nil
}

func noOverlap(inv *inventory.Inventory, n *inventory.Network) error {
	for other := range inv.Networks() {
		if other.ID == n.ID || !other.Prefix.Overlaps(n.Prefix) {
			continue
		}
		if other.Prefix == n.Prefix {
			return inventory.Errorf(inventory.KindExists, "network", n.Name, "Network %s is defined already as '%s'", n.Prefix, other.Name)
		}
		return inventory.Errorf(inventory.KindInvalid, "network", n.Name, "network %s overlaps network '%s' (%s)", n.Prefix, other.Name, other.Prefix)
	}
	return nil
}

// placeNameServer gives the network's name server the address asked for, or the
// last assignable one. Where that is a head's own address, as with the front
// end of a site made the usual way, the head is the name server and the address
// stays its own.
func placeNameServer(tx *inventory.Tx, n *inventory.Network, ask netip.Addr) error {
	want := ask
	if !want.IsValid() {
		_, want = inventory.Hosts(n.Prefix)
	}
	n.NSIP = want
	err := within(n, want)
	if err == nil && !headHas(&tx.Inventory, want) {
		err = claim(tx, n, inventory.Owner{Addr: want, Type: inventory.OwnerNetwork, ID: n.ID})
	}
	if err != nil {
		return inventory.Errorf(inventory.KindInvalid, "network", n.Name, "the name server cannot have %s: %v", want, err)
	}
	return nil
}

// freeNameServer takes the address from the network's name server.
func freeNameServer(tx *inventory.Tx, n *inventory.Network) {
	if o, ok := tx.Owner(n.NSIP); ok && o.Type == inventory.OwnerNetwork && o.ID == n.ID {
		tx.Delete(o)
	}
	n.NSIP = none
}

func headHas(inv *inventory.Inventory, a netip.Addr) bool {
	_, has := inv.HeadAt(a)
	return has
}

func changeNetwork(tx *inventory.Tx, c inventory.ChangeNetwork) error {
	old, ok := tx.Network(c.Name)
	if !ok {
		return inventory.NotFound("network", c.Name)
	}
	n := *old
	set(&n.NSHostname, c.NSHostname)
	setText(&n.Include, c.Include)
	setText(&n.RevInclude, c.RevInclude)
	setText(&n.Comment, c.Comment)
	newNS := c.NSIP != nil && *c.NSIP != n.NSIP
	if newNS {
		freeNameServer(tx, &n)
	}
	if c.Prefix != nil && c.Prefix.Masked() != n.Prefix {
		if err := moveNetworks(tx, []renumbering{{&n, c.Prefix.Masked()}}); err != nil {
			return err
		}
		if err := sameFamily(tx, old, &n); err != nil {
			return err
		}
	}
	if newNS {
		if err := placeNameServer(tx, &n, *c.NSIP); err != nil {
			return err
		}
	}
	for _, a := range c.Reserve {
		if err := claim(tx, &n, inventory.Owner{Addr: a, Type: inventory.OwnerReserved, ID: n.ID}); err != nil {
			return err
		}
		n.Reserved = append(slices.Clone(n.Reserved), a)
	}
	for _, a := range c.Release {
		if err := releaseReserved(tx, &n, a, c.Force); err != nil {
			return err
		}
	}
	slices.SortFunc(n.Reserved, netip.Addr.Compare)
	tx.Put(&n)
	return nil
}

// releaseReserved puts a reserved address back into the pool. Forced, it takes
// an address from a node too, which gets the next free one instead.
func releaseReserved(tx *inventory.Tx, n *inventory.Network, a netip.Addr, force bool) error {
	refuse := func(format string, args ...any) error {
		return inventory.Errorf(inventory.KindRefused, "network", n.Name, format, args...)
	}
	o, ok := tx.Owner(a)
	switch {
	case !ok || o.Network != n.ID:
		return refuse("%s is not reserved in network '%s'", a, n.Name)
	case o.Type == inventory.OwnerReserved:
		tx.Delete(o)
		n.Reserved = slices.DeleteFunc(slices.Clone(n.Reserved), func(r netip.Addr) bool { return r == a })
		return nil
	case o.Type != inventory.OwnerNode:
		return refuse("%s is not reserved: it belongs to %s, which keeps it until it is changed itself", a, ownerName(&tx.Inventory, o))
	case !force:
		return refuse("%s is not reserved: it is taken by %s; --force takes it away and gives the node the next free one", a, ownerName(&tx.Inventory, o))
	}
	old, _ := tx.NodeByID(o.ID)
	g, _ := tx.GroupByID(old.Group)
	node := *old
	node.Interfaces = cloneMap(old.Interfaces)
	at := slices.IndexFunc(g.Interfaces, func(i inventory.Interface) bool { return i.ID == o.Iface })
	if err := newAllocator(tx).give(&node, g.Interfaces[at], n); err != nil {
		return err
	}
	tx.Put(&node)
	release(tx, a)
	return nil
}

// sameFamily refuses to make an IPv6 network of an IPv4 one, or the other way
// round, where an interface has it as what it was.
func sameFamily(tx *inventory.Tx, old, n *inventory.Network) error {
	if old.Prefix.Addr().Is6() == n.Prefix.Addr().Is6() {
		return nil
	}
	for g := range tx.Groups() {
		for _, i := range g.Interfaces {
			if i.Network4 == n.ID || i.Network6 == n.ID {
				return inventory.Errorf(inventory.KindRefused, "network", n.Name, "network '%s' cannot become %s: interface '%s' of group '%s' has it as %s", n.Name, n.Prefix, i.Name, g.Name, old.Prefix)
			}
		}
	}
	return nil
}

// renumbering is a network, as a command is changing it, on its way to another prefix.
type renumbering struct {
	network *inventory.Network
	to      netip.Prefix
}

// moveNetworks gives networks other prefixes, all at once, so that they may
// follow each other. Every address in them keeps its offset.
func moveNetworks(tx *inventory.Tx, moves []renumbering) error {
	taken := make([][]*inventory.Owner, len(moves))
	for k, m := range moves {
		for o := range tx.Owners(m.network.Prefix.Addr()) {
			if !m.network.Prefix.Contains(o.Addr) {
				break
			}
			taken[k] = append(taken[k], o)
		}
		for _, o := range taken[k] {
			tx.Delete(o)
		}
	}
	from := make([]netip.Prefix, len(moves))
	for k, m := range moves {
		from[k], m.network.Prefix = m.network.Prefix, m.to
		stored := *m.network
		tx.Put(&stored)
	}
	for k, m := range moves {
		if err := m.settle(tx, from[k], taken[k]); err != nil {
			return err
		}
	}
	return nil
}

// settle gives everything that was in the network its address there.
func (m renumbering) settle(tx *inventory.Tx, from netip.Prefix, taken []*inventory.Owner) error {
	n := m.network
	if err := noOverlap(&tx.Inventory, n); err != nil {
		return err
	}
	var err error
	place := func(a netip.Addr) netip.Addr {
		b, ok := inventory.Move(a, from, m.to)
		if !ok && a.IsValid() && err == nil {
			err = inventory.Errorf(inventory.KindInvalid, "network", n.Name, "%s has no place in %s: network '%s' stays %s", a, m.to, n.Name, from)
		}
		return b
	}
	n.Range = inventory.AddrRange{Start: place(n.Range.Start), End: place(n.Range.End)}
	n.Reserved = slices.Clone(n.Reserved)
	for i, a := range n.Reserved {
		n.Reserved[i] = place(a)
	}
	n.NSIP = place(n.NSIP)
	if err != nil {
		return err
	}
	for _, o := range taken {
		if o.Type == inventory.OwnerNetwork {
			continue
		}
		to := *o
		if to.Addr = place(o.Addr); err != nil {
			return err
		}
		if err := claim(tx, n, to); err != nil {
			return err
		}
		moveOwner(tx, o, to.Addr)
	}
	dropLeases(tx, n, func(*inventory.Lease) bool { return true })
	if n.NSIP.IsValid() {
		if err := placeNameServer(tx, n, n.NSIP); err != nil {
			return err
		}
	}
	return rangeFree(tx, n)
}

// moveOwner writes the new address into the object that has the old one.
func moveOwner(tx *inventory.Tx, o *inventory.Owner, to netip.Addr) {
	switch o.Type {
	case inventory.OwnerSwitch:
		old, _ := tx.SwitchByID(o.ID)
		s := *old
		s.Addr = to
		tx.Put(&s)
	case inventory.OwnerOtherDev:
		old, _ := tx.OtherDevByID(o.ID)
		d := *old
		d.Connected = cloneMap(old.Connected)
		d.Connected[o.Network] = to
		tx.Put(&d)
	case inventory.OwnerNode:
		old, _ := tx.NodeByID(o.ID)
		node := *old
		node.Interfaces = cloneMap(old.Interfaces)
		a := node.Interfaces[o.Iface]
		if to.Is4() {
			a.V4 = to
		} else {
			a.V6 = to
		}
		node.Interfaces[o.Iface] = a
		tx.Put(&node)
	}
}

func deleteNetwork(tx *inventory.Tx, c inventory.DeleteNetwork) error {
	n, ok := tx.Network(c.Name)
	if !ok {
		return inventory.NotFound("network", c.Name)
	}
	var users []string
	if !n.Range.IsZero() {
		users = append(users, "[cluster/general]")
	}
	for g := range tx.Groups() {
		uses := g.Domain == n.ID || slices.ContainsFunc(g.Interfaces, func(i inventory.Interface) bool {
			return i.Network4 == n.ID || i.Network6 == n.ID
		})
		if uses {
			users = append(users, "[group/"+g.Name+"]")
		}
	}
	for s := range tx.Switches() {
		if s.Network == n.ID {
			users = append(users, "[switch/"+s.Name+"]")
		}
	}
	for d := range tx.OtherDevs() {
		if _, ok := d.Connected[n.ID]; ok {
			users = append(users, "[otherdev/"+d.Name+"]")
		}
	}
	if len(users) > 0 {
		return inUse("network", c.Name, users)
	}
	releaseAll(tx, n)
	dropLeases(tx, n, func(*inventory.Lease) bool { return true })
	tx.Delete(n)
	return nil
}

func inUse(object, name string, users []string) error {
	e := inventory.Errorf(inventory.KindInUse, object, name, "%s is a dependency for the objects:", name)
	e.Users = users
	return e
}

func setRange(tx *inventory.Tx, c inventory.SetRange) error {
	old, ok := tx.Network(c.Network)
	if !ok {
		return inventory.NotFound("network", c.Network)
	}
	n := *old
	n.Range = c.Range
	if c.Range.IsZero() {
		n.Duty = inventory.Duty{Epoch: n.Duty.Epoch + 1}
		dropLeases(tx, &n, func(*inventory.Lease) bool { return true })
		tx.Put(&n)
		return nil
	}
	refuse := func(format string, args ...any) error {
		return inventory.Errorf(inventory.KindRefused, "network", n.Name, format, args...)
	}
	for _, a := range []netip.Addr{c.Range.Start, c.Range.End} {
		if err := within(&n, a); err != nil {
			return err
		}
	}
	if n.Prefix.Addr().Is6() {
		return refuse("network '%s' is IPv6: DHCP is served on IPv4 networks only", n.Name)
	}
	if c, _ := tx.Cluster(); !attached(tx, &n) && !n.Prefix.Contains(c.FrontendAddress) {
		return refuse("neither a head nor the frontend has an address in network '%s' (%s), so none could answer DHCP there", n.Name, n.Prefix)
	}
	if err := rangeFree(tx, &n); err != nil {
		return err
	}
	dropLeases(tx, &n, func(l *inventory.Lease) bool { return !n.Range.Contains(l.Addr) })
	tx.Put(&n)
	return nil
}

// rangeFree refuses a DHCP range in which somebody has an address.
func rangeFree(tx *inventory.Tx, n *inventory.Network) error {
	refuse := func(a netip.Addr, by string) error {
		return inventory.Errorf(inventory.KindRefused, "network", n.Name, "%s lies in the range %s-%s and %s", a, n.Range.Start, n.Range.End, by)
	}
	if n.Range.IsZero() {
		return nil
	}
	for o := range tx.Owners(n.Range.Start) {
		if !n.Range.Contains(o.Addr) {
			break
		}
		return refuse(o.Addr, "is taken by "+ownerName(&tx.Inventory, o))
	}
	for h := range tx.Heads() {
		for _, p := range append([]netip.Prefix{netip.PrefixFrom(h.Address, 0)}, h.Addresses...) {
			if n.Range.Contains(p.Addr()) {
				return refuse(p.Addr(), "belongs to head '"+h.Name+"'")
			}
		}
	}
	if c, ok := tx.Cluster(); ok && n.Range.Contains(c.FrontendAddress) {
		return refuse(c.FrontendAddress, "is the frontend address of the cluster")
	}
	return nil
}

func attached(tx *inventory.Tx, n *inventory.Network) bool {
	for h := range tx.Heads() {
		if _, ok := h.AddressIn(n.Prefix); ok {
			return true
		}
	}
	return false
}

func dropLeases(tx *inventory.Tx, n *inventory.Network, drop func(*inventory.Lease) bool) {
	var gone []*inventory.Lease
	for l := range tx.Leases() {
		if l.Network == n.ID && drop(l) {
			gone = append(gone, l)
		}
	}
	for _, l := range gone {
		tx.Delete(l)
	}
}

func assignDuties(tx *inventory.Tx, c inventory.AssignDuties) error {
	for _, name := range slices.Sorted(maps.Keys(c.DHCP)) {
		old, ok := tx.Network(name)
		if !ok {
			continue // deleted since the leader looked
		}
		n := *old
		if handOver(tx, &n.Duty, c.DHCP[name]) {
			tx.Put(&n)
		}
	}
	for _, name := range slices.Sorted(maps.Keys(c.Polls)) {
		old, ok := tx.Switch(name)
		if !ok {
			continue
		}
		s := *old
		if handOver(tx, &s.Duty, c.Polls[name]) {
			tx.Put(&s)
		}
	}
	return nil
}

// handOver gives a duty to the head of that name, and tells whether that is a
// change.
func handOver(tx *inventory.Tx, d *inventory.Duty, head string) bool {
	var holder inventory.ID
	if h, ok := tx.Head(head); ok {
		holder = h.ID
	}
	if d.Holder == holder {
		return false
	}
	*d = inventory.Duty{Holder: holder, Epoch: d.Epoch + 1}
	return true
}

// leaseAddress gives a machine the pool address it had, or one that nobody had,
// or the one whose lease ended first.
func leaseAddress(tx *inventory.Tx, c inventory.LeaseAddress, now moment) (any, error) {
	n, ok := tx.Network(c.Network)
	if !ok {
		return nil, inventory.NotFound("network", c.Network)
	}
	if node, ok := tx.NodeByMAC(c.MAC); ok {
		if a, ok := tx.BootAddress(node, n.ID); ok {
			return nil, inventory.Errorf(inventory.KindRefused, "lease", string(c.MAC), "%s is node '%s' and has %s in network '%s'", c.MAC, node.Name, a, n.Name)
		}
	}
	if n.Range.IsZero() {
		return nil, inventory.Errorf(inventory.KindRefused, "network", n.Name, "network '%s' has no DHCP range: luna cluster makedhcp gives it one", n.Name)
	}
	decline(tx, n, c, now.at)
	lease := &inventory.Lease{Network: n.ID, MAC: c.MAC, Expires: now.at.Add(c.TTL + now.more)}
	if old, ok := tx.Lease(n.ID, c.MAC); ok && !headsOwn(tx, old.Addr) {
		lease.Addr = old.Addr
		if old.Expires.After(lease.Expires) {
			lease.Expires = old.Expires // a clock that jumped back takes nothing away
		}
	} else if lease.Addr, ok = freeLease(tx, n, c.MAC, now.at); !ok {
		return nil, inventory.Errorf(inventory.KindRefused, "network", n.Name, "the range %s-%s of network '%s' is used up: make it larger with luna cluster makedhcp", n.Range.Start, n.Range.End, n.Name)
	}
	tx.Put(lease)
	return lease, nil
}

// declinedFor is how long nobody gets an address at which a machine found another one
// that the inventory does not know.
const declinedFor = time.Hour

// decline takes from a machine the lease that it declines, and no other, and keeps the
// address for a while: as the lease of a machine that does not exist.
func decline(tx *inventory.Tx, n *inventory.Network, c inventory.LeaseAddress, now time.Time) {
	l, ok := tx.Lease(n.ID, c.MAC)
	if !ok || !c.Declined.IsValid() || l.Addr != c.Declined {
		return
	}
	tx.Delete(l)
	tx.Put(&inventory.Lease{Network: n.ID, MAC: inventory.MAC(declinedBy + l.Addr.String()), Addr: l.Addr, Expires: now.Add(declinedFor)})
}

// declinedBy begins the name of a machine that does not exist.
const declinedBy = "declined "

func isDeclined(l *inventory.Lease) bool { return strings.HasPrefix(string(l.MAC), declinedBy) }

// headsOwn tells whether an address is not leased, though it may lie in a range: a head
// got it after the range was there. Heads of the last release lease it.
func headsOwn(tx *inventory.Tx, a netip.Addr) bool {
	return tx.Format() >= 2 && headHas(&tx.Inventory, a)
}

// freeLease finds a pool address for a machine: the first that nobody had, else the one
// whose lease ended first, else one that was declined long ago. A flood of machines asks
// for that, so it walks the leases once, in the order of addresses, and looks at no more
// of the rest than it must.
func freeLease(tx *inventory.Tx, n *inventory.Network, mac inventory.MAC, now time.Time) (netip.Addr, bool) {
	free := func(a netip.Addr) bool {
		_, retired := tx.RetiredFrom(a, mac)
		return !retired && !headsOwn(tx, a)
	}
	var ended, declined []*inventory.Lease
	a := n.Range.Start
	next, stop := iter.Pull(tx.LeasesFrom(a))
	defer stop()
	for l, more := next(); n.Range.Contains(a); a = a.Next() {
		for more && l.Addr.Less(a) {
			l, more = next()
		}
		switch {
		case !more || l.Addr != a:
			if free(a) {
				return a, true
			}
		case l.Expires.Before(now):
			ended = append(ended, l)
		case isDeclined(l):
			declined = append(declined, l)
		}
	}
	for _, leases := range [][]*inventory.Lease{ended, declined} {
		for len(leases) > 0 {
			first := slices.MinFunc(leases, func(a, b *inventory.Lease) int {
				return cmp.Or(a.Expires.Compare(b.Expires), a.Addr.Compare(b.Addr))
			})
			if free(first.Addr) {
				tx.Delete(first)
				return first.Addr, true
			}
			leases = slices.DeleteFunc(leases, func(l *inventory.Lease) bool { return l == first })
		}
	}
	return netip.Addr{}, false
}
