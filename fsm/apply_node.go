package fsm

import (
	"fmt"
	"net/netip"
	"slices"

	"github.com/clustervision/luna/inventory"
)

// none is the absent address.
var none netip.Addr

func with(a inventory.Addresses, n *inventory.Network, addr netip.Addr) inventory.Addresses {
	if n.Prefix.Addr().Is6() {
		a.V6 = addr
	} else {
		a.V4 = addr
	}
	return a
}

// addNodes gives the names of the nodes that it made.
func addNodes(tx *inventory.Tx, c inventory.AddNodes) (any, error) {
	g, ok := tx.Group(c.Group)
	if !ok {
		return nil, inventory.NotFound("group", c.Group)
	}
	names := c.Names
	if len(names) == 0 {
		names = []string{autoName(tx)}
	}
	alloc := newAllocator(tx)
	for _, name := range names {
		if _, ok := tx.Node(name); ok {
			return nil, inventory.Exists("node", name)
		}
		if err := inventory.CheckName("node", name); err != nil {
			return nil, err
		}
		n := &inventory.Node{ID: tx.NewID(), Name: name, Group: g.ID, SetupBMC: true, Interfaces: map[inventory.ID]inventory.Addresses{}, Tags: tagged(nil, c.Tags, nil)}
		if err := alloc.giveAll(n, g); err != nil {
			return nil, err
		}
		if c.MAC != "" {
			takeMAC(tx, n, c.MAC)
		}
		tx.Put(n)
	}
	return names, nil
}

// giveAll takes an address for each interface and family that has none yet.
func (a *allocator) giveAll(node *inventory.Node, g *inventory.Group) error {
	for _, i := range g.Interfaces {
		has := node.Interfaces[i.ID]
		if n, ok := a.tx.NetworkByID(i.Network4); ok && !has.V4.IsValid() {
			if err := a.give(node, i, n); err != nil {
				return err
			}
		}
		if n, ok := a.tx.NetworkByID(i.Network6); ok && !has.V6.IsValid() {
			if err := a.give(node, i, n); err != nil {
				return err
			}
		}
	}
	return nil
}

// autoName is the prefix and the highest number in use plus one; a number that
// a deleted node left is not used again.
func autoName(tx *inventory.Tx) string {
	c, _ := tx.Cluster()
	return fmt.Sprintf("%s%0*d", c.NodePrefix, c.NodeDigits, tx.TopNumber(c.NodePrefix)+1)
}

// takeMAC gives the node a hardware address, and takes it from the one who had
// it: a machine that was moved or a board that was changed.
func takeMAC(tx *inventory.Tx, n *inventory.Node, mac inventory.MAC) {
	n.MAC = mac
	if mac == "" {
		return
	}
	if had, ok := tx.NodeByMAC(mac); ok && had.ID != n.ID {
		o := *had
		o.MAC = ""
		tx.Put(&o)
	}
}

func changeNodes(tx *inventory.Tx, c inventory.ChangeNodes) error {
	var sw inventory.ID
	if c.Switch != nil && *c.Switch != "" {
		s, ok := tx.Switch(*c.Switch)
		if !ok {
			return inventory.NotFound("switch", *c.Switch)
		}
		sw = s.ID
	}
	for _, name := range c.Names {
		old, ok := tx.Node(name)
		if !ok {
			return inventory.NotFound("node", name)
		}
		n := *old
		if c.Group != nil {
			if err := changeNodeGroup(tx, &n, *c.Group); err != nil {
				return err
			}
		}
		if c.MAC != nil {
			takeMAC(tx, &n, *c.MAC)
		}
		if c.Switch != nil {
			n.Switch = sw
		}
		set(&n.LocalBoot, c.LocalBoot)
		set(&n.SetupBMC, c.SetupBMC)
		set(&n.Service, c.Service)
		setText(&n.Port, c.Port)
		setText(&n.Comment, c.Comment)
		n.Tags = tagged(n.Tags, c.Tag, c.Untag)
		tx.Put(&n)
	}
	if c.Group != nil {
		return giveMissing(tx, c.Names)
	}
	return setAddresses(tx, c)
}

// giveMissing gives nodes the addresses that their groups' interfaces want and
// that they have not. All that others leave is free by then.
func giveMissing(tx *inventory.Tx, names []string) error {
	alloc := newAllocator(tx)
	for _, name := range names {
		old, _ := tx.Node(name)
		g, _ := tx.GroupByID(old.Group)
		if complete(old, g) {
			continue
		}
		n := *old
		n.Interfaces = cloneMap(old.Interfaces)
		if err := alloc.giveAll(&n, g); err != nil {
			return err
		}
		tx.Put(&n)
	}
	return nil
}

// complete tells whether the node has every address that its group gives it.
func complete(n *inventory.Node, g *inventory.Group) bool {
	for _, i := range g.Interfaces {
		a := n.Interfaces[i.ID]
		if (i.Network4 != 0) != a.V4.IsValid() || (i.Network6 != 0) != a.V6.IsValid() {
			return false
		}
	}
	return true
}

// tagged gives the tags with some more and without others, sorted.
func tagged(tags, add, remove []string) []string {
	if len(add)+len(remove) == 0 {
		return tags
	}
	tags = append(slices.Clone(tags), add...)
	slices.Sort(tags)
	return slices.DeleteFunc(slices.Compact(tags), func(t string) bool { return slices.Contains(remove, t) })
}

// changeNodeGroup moves the node; an address stays where the new group has an
// interface in the same network, first of all the one of the same name. The
// interfaces that have none then are for the caller to fill.
func changeNodeGroup(tx *inventory.Tx, n *inventory.Node, group string) error {
	to, ok := tx.Group(group)
	if !ok {
		return inventory.NotFound("group", group)
	}
	from, _ := tx.GroupByID(n.Group)
	if from.ID == to.ID {
		return nil
	}
	had := n.Interfaces
	n.Interfaces, n.Group = map[inventory.ID]inventory.Addresses{}, to.ID
	kept := map[netip.Addr]bool{}
	keep := func(old inventory.Interface, match func(i inventory.Interface) bool) {
		for _, i := range to.Interfaces {
			if !match(i) {
				continue
			}
			a, b := n.Interfaces[i.ID], had[old.ID]
			if i.Network4 != 0 && i.Network4 == old.Network4 && b.V4.IsValid() && !a.V4.IsValid() && !kept[b.V4] {
				a.V4, kept[b.V4] = b.V4, true
			}
			if i.Network6 != 0 && i.Network6 == old.Network6 && b.V6.IsValid() && !a.V6.IsValid() && !kept[b.V6] {
				a.V6, kept[b.V6] = b.V6, true
			}
			assign(n.Interfaces, i.ID, a)
		}
	}
	for _, old := range from.Interfaces {
		keep(old, func(i inventory.Interface) bool { return i.Name == old.Name })
	}
	for _, old := range from.Interfaces {
		keep(old, func(inventory.Interface) bool { return true })
	}
	releaseAll(tx, &inventory.Node{ID: n.ID, Interfaces: had})
	for _, own := range ownersOf(&tx.Inventory, n) {
		net, _ := tx.NetworkOf(own.Addr)
		own.Network = net.ID
		tx.Put(&own)
	}
	return nil
}

// setAddresses gives interfaces other addresses. All old ones are free before
// the first new one is taken, so that nodes can change places.
func setAddresses(tx *inventory.Tx, c inventory.ChangeNodes) error {
	type move struct {
		node    *inventory.Node
		iface   inventory.ID
		network *inventory.Network
		to      netip.Addr
	}
	var moves []move
	for k, name := range c.Names {
		n, _ := tx.Node(name)
		for _, a := range c.Addresses {
			if a.Increment {
				a.Addr = after(a.Addr, k)
			}
			iface, network, old, err := addressed(tx, n, a)
			if err != nil {
				return err
			}
			if old != a.Addr {
				release(tx, old)
				moves = append(moves, move{n, iface, network, a.Addr})
			}
		}
	}
	for _, m := range moves {
		if err := claim(tx, m.network, inventory.Owner{Addr: m.to, Type: inventory.OwnerNode, ID: m.node.ID, Iface: m.iface}); err != nil {
			return err
		}
		now, _ := tx.NodeByID(m.node.ID)
		n := *now
		n.Interfaces = cloneMap(now.Interfaces)
		n.Interfaces[m.iface] = with(n.Interfaces[m.iface], m.network, m.to)
		tx.Put(&n)
	}
	return nil
}

// addressed finds the interface for which an address is meant, its network and
// the address that it has now.
func addressed(tx *inventory.Tx, n *inventory.Node, c inventory.SetAddress) (inventory.ID, *inventory.Network, netip.Addr, error) {
	refuse := func(format string, args ...any) (inventory.ID, *inventory.Network, netip.Addr, error) {
		return 0, nil, none, inventory.Errorf(inventory.KindRefused, "node", n.Name, format, args...)
	}
	if !c.Addr.IsValid() {
		return refuse("the addresses end before node '%s'", n.Name)
	}
	g, _ := tx.GroupByID(n.Group)
	i, ok := g.Interface(c.Interface)
	if !ok {
		return refuse("No such interface '%s'", c.Interface)
	}
	old, network := n.Interfaces[i.ID].V4, i.Network4
	if c.Addr.Is6() {
		old, network = n.Interfaces[i.ID].V6, i.Network6
	}
	net, ok := tx.NetworkByID(network)
	if !ok || !old.IsValid() {
		return refuse("interface '%s' of node '%s' has no address of the family of %s", i.Name, n.Name, c.Addr)
	}
	return i.ID, net, old, nil
}

func deleteNodes(tx *inventory.Tx, c inventory.DeleteNodes) error {
	for _, name := range c.Names {
		n, ok := tx.Node(name)
		if !ok {
			return inventory.NotFound("node", name)
		}
		releaseAll(tx, n)
		if s, ok := tx.Status(n.ID); ok {
			tx.Delete(s)
		}
		tx.Delete(n)
	}
	return nil
}

func recordStatus(tx *inventory.Tx, c inventory.RecordStatus) error {
	for _, s := range c.Statuses {
		n, ok := tx.Node(s.Name)
		if !ok {
			continue
		}
		status := s.Status
		status.Node = n.ID
		if tx.Format() < 2 {
			status.Run, status.Number = "", 0 // what heads of that format do not know
		}
		if known, ok := tx.Status(n.ID); ok && status.Before(*known) {
			continue // a head that slept, or that waited for a leader, tells it late
		}
		tx.Put(&status)
	}
	return nil
}
