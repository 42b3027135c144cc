package fsm

import (
	"fmt"
	"net/netip"
	"strconv"
	"strings"

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
		n := &inventory.Node{ID: tx.NewID(), Name: name, Group: g.ID, SetupBMC: true, Interfaces: map[inventory.ID]inventory.Addresses{}}
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
	top := uint64(0)
	for n := range tx.Nodes() {
		digits, ok := strings.CutPrefix(n.Name, c.NodePrefix)
		if !ok {
			continue
		}
		if num, err := strconv.ParseUint(digits, 10, 63); err == nil {
			top = max(top, num)
		}
	}
	return fmt.Sprintf("%s%0*d", c.NodePrefix, c.NodeDigits, top+1)
}

// takeMAC gives the node a hardware address, and takes it from the one who had
// it: a machine that was moved or a board that was changed.
func takeMAC(tx *inventory.Tx, n *inventory.Node, mac inventory.MAC) {
	if had, ok := tx.NodeByMAC(mac); ok && had.ID != n.ID {
		o := *had
		o.MAC = ""
		tx.Put(&o)
	}
	n.MAC = mac
}

func changeNodes(tx *inventory.Tx, c inventory.ChangeNodes) error {
	var alloc *allocator
	for _, name := range c.Names {
		old, ok := tx.Node(name)
		if !ok {
			return inventory.NotFound("node", name)
		}
		n := *old
		n.Interfaces = cloneMap(old.Interfaces)
		if c.Group != nil {
			if alloc == nil {
				alloc = newAllocator(tx)
			}
			if err := changeNodeGroup(tx, alloc, &n, *c.Group); err != nil {
				return err
			}
		}
		for _, a := range c.Addresses {
			if err := setAddress(tx, &n, a); err != nil {
				return err
			}
		}
		if c.MAC != nil {
			if *c.MAC == "" {
				n.MAC = ""
			} else {
				takeMAC(tx, &n, *c.MAC)
			}
		}
		set(&n.LocalBoot, c.LocalBoot)
		set(&n.SetupBMC, c.SetupBMC)
		set(&n.Service, c.Service)
		setText(&n.Comment, c.Comment)
		tx.Put(&n)
	}
	return nil
}

// changeNodeGroup moves the node; an address stays where the new group has an
// interface in the same network, first of all the one of the same name.
func changeNodeGroup(tx *inventory.Tx, alloc *allocator, n *inventory.Node, group string) error {
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
			n.Interfaces[i.ID] = a
		}
	}
	for _, old := range from.Interfaces {
		keep(old, func(i inventory.Interface) bool { return i.Name == old.Name })
	}
	for _, old := range from.Interfaces {
		keep(old, func(inventory.Interface) bool { return true })
	}
	for _, a := range had {
		for _, addr := range []netip.Addr{a.V4, a.V6} {
			if addr.IsValid() {
				release(tx, addr)
			}
		}
	}
	for id, a := range n.Interfaces {
		for _, addr := range []netip.Addr{a.V4, a.V6} {
			if addr.IsValid() {
				net, _ := tx.NetworkOf(addr)
				tx.Put(&inventory.Owner{Addr: addr, Network: net.ID, Type: ownerNode, ID: n.ID, Iface: id})
			}
		}
	}
	return alloc.giveAll(n, to)
}

func setAddress(tx *inventory.Tx, n *inventory.Node, c inventory.SetAddress) error {
	refuse := func(format string, args ...any) error {
		return inventory.Errorf(inventory.KindRefused, "node", n.Name, format, args...)
	}
	g, _ := tx.GroupByID(n.Group)
	i, ok := g.Interface(c.Interface)
	if !ok {
		return refuse("No such interface '%s'", c.Interface)
	}
	has := n.Interfaces[i.ID]
	old, network := has.V4, i.Network4
	if c.Addr.Is6() {
		old, network = has.V6, i.Network6
	}
	if old == c.Addr {
		return nil
	}
	net, ok := tx.NetworkByID(network)
	if !ok || !old.IsValid() {
		return refuse("interface '%s' of node '%s' has no address of the family of %s", i.Name, n.Name, c.Addr)
	}
	if err := claim(tx, net, inventory.Owner{Addr: c.Addr, Type: ownerNode, ID: n.ID, Iface: i.ID}); err != nil {
		return err
	}
	release(tx, old)
	n.Interfaces[i.ID] = with(has, net, c.Addr)
	return nil
}

func deleteNodes(tx *inventory.Tx, c inventory.DeleteNodes) error {
	for _, name := range c.Names {
		n, ok := tx.Node(name)
		if !ok {
			return inventory.NotFound("node", name)
		}
		for _, a := range n.Interfaces {
			for _, addr := range []netip.Addr{a.V4, a.V6} {
				if addr.IsValid() {
					release(tx, addr)
				}
			}
		}
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
		tx.Put(&status)
	}
	return nil
}
