package fsm

import (
	"cmp"
	"maps"
	"net/netip"
	"slices"

	"github.com/clustervision/luna/inventory"
)

// freeAddresses takes from every object the addresses that it shall not have,
// and from nodes the MAC addresses.
func (d document) freeAddresses() error {
	tx := d.tx
	for _, old := range slices.Collect(tx.Networks()) {
		doc, ok := d.doc.Networks[old.Name]
		if !ok {
			continue
		}
		n := *old
		if doc.DHCPRange.Given && (doc.DHCPRange.Value == nil || *doc.DHCPRange.Value != n.Range) {
			n.Range = inventory.AddrRange{}
		}
		if doc.Reserved.Given {
			n.Reserved = slices.DeleteFunc(slices.Clone(n.Reserved), func(a netip.Addr) bool {
				gone := !slices.Contains(doc.Reserved.Value, a)
				if gone {
					release(tx, a)
				}
				return gone
			})
		}
		tx.Put(&n)
	}
	for _, old := range slices.Collect(tx.Switches()) {
		doc, ok := d.doc.Switches[old.Name]
		if ok && !(doc.IP.Given && doc.IP.Value != old.Addr) || !ok && !d.prune {
			continue
		}
		s := *old
		release(tx, s.Addr)
		s.Addr = none
		tx.Put(&s)
	}
	for _, old := range slices.Collect(tx.OtherDevs()) {
		doc, ok := d.doc.OtherDevs[old.Name]
		if ok && !doc.Connected.Given || !ok && !d.prune {
			continue
		}
		o := *old
		releaseAll(tx, &o)
		o.Connected = map[inventory.ID]netip.Addr{}
		tx.Put(&o)
	}
	for _, old := range slices.Collect(tx.Nodes()) {
		doc, ok := d.doc.Nodes[old.Name]
		if !ok {
			continue
		}
		n := *old
		n.Interfaces = cloneMap(old.Interfaces)
		d.freeNode(&n, doc)
		if doc.MAC.Given && (doc.MAC.Value == nil || *doc.MAC.Value != n.MAC) {
			n.MAC = ""
		}
		tx.Put(&n)
	}
	return nil
}

func (d document) freeNode(n *inventory.Node, doc inventory.NodeDoc) {
	g, _ := d.tx.GroupByID(n.Group)
	for _, i := range g.Interfaces {
		want := doc.Interfaces[i.Name]
		a, ok := n.Interfaces[i.ID]
		if !ok {
			continue
		}
		if want.V4.IsValid() && a.V4.IsValid() && want.V4 != a.V4 {
			release(d.tx, a.V4)
			a.V4 = none
		}
		if want.V6.IsValid() && a.V6.IsValid() && want.V6 != a.V6 {
			release(d.tx, a.V6)
			a.V6 = none
		}
		n.Interfaces[i.ID] = a
	}
}

// claimAddresses takes the addresses that the document gives by name.
func (d document) claimAddresses() error {
	tx := d.tx
	err := inOrder(d.doc.Switches, func(name string, doc inventory.SwitchDoc) error {
		old, _ := tx.Switch(name)
		if !doc.IP.Given || old.Addr == doc.IP.Value {
			return nil
		}
		s := *old
		release(tx, s.Addr)
		s.Addr = doc.IP.Value
		n, _ := tx.NetworkByID(s.Network)
		tx.Put(&s)
		return claim(tx, n, inventory.Owner{Addr: s.Addr, Type: inventory.OwnerSwitch, ID: s.ID})
	})
	if err != nil {
		return err
	}
	err = inOrder(d.doc.OtherDevs, func(name string, doc inventory.OtherDevDoc) error {
		if !doc.Connected.Given {
			return nil
		}
		old, _ := tx.OtherDev(name)
		o := *old
		o.Connected = map[inventory.ID]netip.Addr{}
		for _, network := range slices.Sorted(maps.Keys(doc.Connected.Value)) {
			n, ok := tx.Network(network)
			if !ok {
				return inventory.NotFound("network", network)
			}
			o.Connected[n.ID] = doc.Connected.Value[network]
			if err := claim(tx, n, inventory.Owner{Addr: o.Connected[n.ID], Type: inventory.OwnerOtherDev, ID: o.ID}); err != nil {
				return err
			}
		}
		tx.Put(&o)
		return nil
	})
	if err != nil {
		return err
	}
	return inOrder(d.doc.Nodes, d.claimNode)
}

func (d document) claimNode(name string, doc inventory.NodeDoc) error {
	if len(doc.Interfaces) == 0 {
		return nil
	}
	old, _ := d.tx.Node(name)
	n := *old
	n.Interfaces = cloneMap(old.Interfaces)
	g, _ := d.tx.GroupByID(n.Group)
	for _, iface := range slices.Sorted(maps.Keys(doc.Interfaces)) {
		i, ok := g.Interface(iface)
		if !ok {
			return inventory.Errorf(inventory.KindRefused, "node", name, "No such interface '%s'", iface)
		}
		want, has := doc.Interfaces[iface], n.Interfaces[i.ID]
		for _, f := range []struct {
			want, has netip.Addr
			network   inventory.ID
		}{{want.V4, has.V4, i.Network4}, {want.V6, has.V6, i.Network6}} {
			if !f.want.IsValid() || f.want == f.has {
				continue
			}
			network, ok := d.tx.NetworkByID(f.network)
			if !ok {
				return inventory.Errorf(inventory.KindRefused, "node", name, "interface '%s' of group '%s' has no network for %s", iface, g.Name, f.want)
			}
			release(d.tx, f.has) // kept across a change of group
			if err := claim(d.tx, network, inventory.Owner{Addr: f.want, Type: inventory.OwnerNode, ID: n.ID, Iface: i.ID}); err != nil {
				return err
			}
			n.Interfaces[i.ID] = with(n.Interfaces[i.ID], network, f.want)
		}
	}
	d.tx.Put(&n)
	return nil
}

// ranges sets the DHCP ranges, once nobody is in their way and before free
// addresses are given out.
func (d document) ranges() error {
	return inOrder(d.doc.Networks, func(name string, doc inventory.NetworkDoc) error {
		if !doc.DHCPRange.Given {
			return nil
		}
		n, _ := d.tx.Network(name)
		var want inventory.AddrRange
		if doc.DHCPRange.Value != nil {
			want = *doc.DHCPRange.Value
		}
		if n.Range == want && !(want.IsZero() && n.Duty.Holder != 0) {
			return nil
		}
		return setRange(d.tx, inventory.SetRange{Network: name, Range: want})
	})
}

// giveAddresses gives the lowest free address where one is missing, to the
// nodes in the order of their names.
func (d document) giveAddresses() error {
	alloc := newAllocator(d.tx)
	for _, old := range slices.SortedFunc(d.tx.Nodes(), func(a, b *inventory.Node) int { return cmp.Compare(a.Name, b.Name) }) {
		g, _ := d.tx.GroupByID(old.Group)
		if complete(old, g) {
			continue
		}
		n := *old
		n.Interfaces = cloneMap(old.Interfaces)
		if err := alloc.giveAll(&n, g); err != nil {
			return err
		}
		d.tx.Put(&n)
	}
	return inOrder(d.doc.Switches, func(name string, _ inventory.SwitchDoc) error {
		old, _ := d.tx.Switch(name)
		if old.Addr.IsValid() {
			return nil
		}
		s := *old
		n, _ := d.tx.NetworkByID(s.Network)
		var ok bool
		if s.Addr, ok = alloc.take(n, inventory.Owner{Type: inventory.OwnerSwitch, ID: s.ID}); !ok {
			return inventory.Errorf(inventory.KindInvalid, "switch", name, "network '%s' (%s) has no free address left for switch '%s'", n.Name, n.Prefix, name)
		}
		d.tx.Put(&s)
		return nil
	})
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
