package fsm

import (
	"maps"
	"net/netip"
	"slices"

	"github.com/clustervision/luna/inventory"
)

// blocked tells why an address that nobody owns cannot be owned all the same.
func blocked(tx *inventory.Tx, n *inventory.Network, a netip.Addr) (by string, yes bool) {
	if n.Range.Contains(a) {
		return "the DHCP range of network '" + n.Name + "'", true
	}
	for h := range tx.Heads() {
		if own, ok := h.AddressIn(n.Prefix); ok && own == a {
			return "head '" + h.Name + "'", true
		}
		for _, p := range h.Addresses {
			if p.Addr() == a {
				return "head '" + h.Name + "'", true
			}
		}
	}
	return "", false
}

// within refuses what is no address of the network, its base and its last one
// among them.
func within(n *inventory.Network, a netip.Addr) error {
	first, last := inventory.Hosts(n.Prefix)
	if !n.Prefix.Contains(a) || a.Less(first) || last.Less(a) {
		return inventory.Errorf(inventory.KindRefused, "network", n.Name, "%s is no address of network '%s' (%s)", a, n.Name, n.Prefix)
	}
	return nil
}

// claim makes the address the owner's, or says who has it.
func claim(tx *inventory.Tx, n *inventory.Network, o inventory.Owner) error {
	if err := within(n, o.Addr); err != nil {
		return err
	}
	if c, ok := tx.Cluster(); ok && c.FrontendAddress == o.Addr && o.Type == inventory.OwnerNode {
		return inventory.Errorf(inventory.KindRefused, "network", n.Name, "%s is the frontend address of the cluster", o.Addr)
	}
	if by, yes := blocked(tx, n, o.Addr); yes {
		return inventory.Errorf(inventory.KindRefused, "network", n.Name, "%s belongs to %s", o.Addr, by)
	}
	if has, ok := tx.Owner(o.Addr); ok {
		return inventory.Errorf(inventory.KindRefused, "network", n.Name, "%s is taken by %s", o.Addr, ownerName(&tx.Inventory, has))
	}
	if r, ok := tx.RetiredFrom(o.Addr, ""); ok && tx.Held() && (o.Type == inventory.OwnerSwitch || o.Type == inventory.OwnerOtherDev) {
		return inventory.Errorf(inventory.KindRefused, "network", n.Name, "%s was the address of %s until lately, and a head that is away may still give it to that machine: wait until the head is back, or remove it", o.Addr, r.MAC)
	}
	o.Network = n.ID
	tx.Put(&o)
	return nil
}

func release(tx *inventory.Tx, a netip.Addr) {
	if o, ok := tx.Owner(a); ok {
		tx.Delete(o)
	}
}

func ownerName(inv *inventory.Inventory, o *inventory.Owner) string {
	switch o.Type {
	case inventory.OwnerNode:
		if n, ok := inv.NodeByID(o.ID); ok {
			return "node '" + n.Name + "'"
		}
	case inventory.OwnerNetwork:
		if n, ok := inv.NetworkByID(o.ID); ok {
			return "the name server of network '" + n.Name + "'"
		}
	case inventory.OwnerReserved:
		return "a reservation"
	case inventory.OwnerSwitch:
		if s, ok := inv.SwitchByID(o.ID); ok {
			return "switch '" + s.Name + "'"
		}
	case inventory.OwnerOtherDev:
		if d, ok := inv.OtherDevByID(o.ID); ok {
			return "otherdev '" + d.Name + "'"
		}
	}
	return "another object"
}

// ownersOf lists the addresses that an object says it has, but for the name
// server of a network where that is a head's own.
func ownersOf(inv *inventory.Inventory, o any) []inventory.Owner {
	var list []inventory.Owner
	put := func(t inventory.OwnerType, id, iface inventory.ID, a netip.Addr) {
		if a.IsValid() {
			list = append(list, inventory.Owner{Addr: a, Type: t, ID: id, Iface: iface})
		}
	}
	switch o := o.(type) {
	case *inventory.Network:
		if !headHas(inv, o.NSIP) {
			put(inventory.OwnerNetwork, o.ID, 0, o.NSIP)
		}
		for _, a := range o.Reserved {
			put(inventory.OwnerReserved, o.ID, 0, a)
		}
	case *inventory.Switch:
		put(inventory.OwnerSwitch, o.ID, 0, o.Addr)
	case *inventory.OtherDev:
		for _, id := range slices.Sorted(maps.Keys(o.Connected)) {
			put(inventory.OwnerOtherDev, o.ID, 0, o.Connected[id])
		}
	case *inventory.Node:
		for _, id := range slices.Sorted(maps.Keys(o.Interfaces)) {
			put(inventory.OwnerNode, o.ID, id, o.Interfaces[id].V4)
			put(inventory.OwnerNode, o.ID, id, o.Interfaces[id].V6)
		}
	}
	return list
}

// releaseAll frees every address that the object has.
func releaseAll(tx *inventory.Tx, o any) {
	for _, own := range ownersOf(&tx.Inventory, o) {
		release(tx, own.Addr)
	}
}

// claimAll takes every address that the object says it has.
func claimAll(tx *inventory.Tx, o any) error {
	for _, own := range ownersOf(&tx.Inventory, o) {
		n, ok := tx.NetworkOf(own.Addr)
		if !ok {
			return inventory.Errorf(inventory.KindRefused, "network", "", "%s lies in no network", own.Addr)
		}
		if err := claim(tx, n, own); err != nil {
			return err
		}
	}
	return nil
}

// after gives the address that comes n addresses after a; the zero Addr behind
// the last one there is.
func after(a netip.Addr, n int) netip.Addr {
	for range n {
		a = a.Next()
	}
	return a
}

// assign writes an address into the copy of a node's addresses that is given;
// the absent one takes it away.
func assign(of map[inventory.ID]inventory.Addresses, iface inventory.ID, a inventory.Addresses) {
	if a == (inventory.Addresses{}) {
		delete(of, iface)
		return
	}
	of[iface] = a
}

// allocator gives free addresses of networks, the lowest first.
type allocator struct {
	tx   *inventory.Tx
	used map[netip.Addr]bool // the frontend's and the heads' own addresses, and those that may not be offered yet
}

func newAllocator(tx *inventory.Tx) *allocator {
	a := &allocator{tx: tx, used: map[netip.Addr]bool{}}
	for r := range tx.RetiredAddresses() {
		if tx.Held() || !r.Until.IsZero() { // else every head will have heard within a moment
			a.used[r.Addr] = true
		}
	}
	if c, ok := tx.Cluster(); ok {
		a.used[c.FrontendAddress] = true
	}
	for h := range tx.Heads() {
		a.used[h.Address] = true
		for _, p := range h.Addresses {
			a.used[p.Addr()] = true
		}
	}
	return a
}

// take claims the lowest free address of the network for the owner. The
// transaction remembers how far it came, so that the next one does not walk the
// taken addresses again.
func (a *allocator) take(n *inventory.Network, o inventory.Owner) (netip.Addr, bool) {
	first, last := inventory.Hosts(n.Prefix)
	at := a.tx.Taken(n.ID)
	if !at.IsValid() {
		at = first
	}
	at = a.skip(n, at)
	for own := range a.tx.Owners(at) {
		if at.Less(own.Addr) {
			break
		}
		if own.Addr == at { // else one that skip jumped over
			at = a.skip(n, at.Next())
		}
	}
	if last.Less(at) || !n.Prefix.Contains(at) {
		return netip.Addr{}, false
	}
	o.Addr, o.Network = at, n.ID
	a.tx.Put(&o)
	a.tx.SetTaken(n.ID, at.Next())
	return at, true
}

// skip jumps over the DHCP range and the heads' own addresses.
func (a *allocator) skip(n *inventory.Network, at netip.Addr) netip.Addr {
	for at.IsValid() && (n.Range.Contains(at) || a.used[at]) {
		if n.Range.Contains(at) {
			at = n.Range.End
		}
		at = at.Next()
	}
	return at
}
