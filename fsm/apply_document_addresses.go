package fsm

import (
	"maps"
	"net/netip"
	"slices"

	"github.com/clustervision/luna/inventory"
)

// freeAddresses takes from every object the addresses that it shall not have,
// and from nodes the MAC addresses.
func (d *document) freeAddresses() error {
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
		if doc.NSIP.Given && doc.NSIP.Value != n.NSIP {
			freeNameServer(tx, &n)
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
		doc := d.doc.Switches[old.Name]
		in, _ := tx.NetworkByID(old.Network)
		stays := !doc.Network.Given || in != nil && in.Name == doc.Network.Value
		if stays && (!doc.IP.Given || doc.IP.Value == old.Addr) {
			continue
		}
		s := *old
		release(tx, s.Addr)
		s.Addr = none
		tx.Put(&s)
	}
	for _, old := range slices.Collect(tx.OtherDevs()) {
		if !d.doc.OtherDevs[old.Name].Connected.Given {
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
		d.putNode(&n)
	}
	d.gone = nil // from here on others may have what was theirs
	return nil
}

// freeNode takes from a node the addresses that the document gives otherwise,
// and those in networks that go.
func (d *document) freeNode(n *inventory.Node, doc inventory.NodeDoc) {
	g, _ := d.tx.GroupByID(n.Group)
	free := func(has *netip.Addr, want netip.Addr) {
		inGone := slices.ContainsFunc(d.gone, func(p netip.Prefix) bool { return p.Contains(*has) })
		if has.IsValid() && (inGone || want.IsValid() && want != *has) {
			release(d.tx, *has)
			*has = none
		}
	}
	for _, i := range g.Interfaces {
		a, want := n.Interfaces[i.ID], doc.Interfaces[i.Name]
		free(&a.V4, want.V4)
		free(&a.V6, want.V6)
		assign(n.Interfaces, i.ID, a)
	}
}

// freeNodes does what freeAddresses did for nodes once more: by now they are in
// their groups, where an address that they kept may be on another interface.
func (d *document) freeNodes() error {
	return inOrder(d.doc.Nodes, func(name string, doc inventory.NodeDoc) error {
		old, _ := d.tx.Node(name)
		n := *old
		n.Interfaces = cloneMap(old.Interfaces)
		d.freeNode(&n, doc)
		d.putNode(&n)
		return nil
	})
}

// claimAddresses takes the addresses that the document gives by name, and those
// of name servers that are to have the last one.
func (d *document) claimAddresses() error {
	tx := d.tx
	if err := inOrder(d.doc.Networks, d.claimNetwork); err != nil {
		return err
	}
	err := inOrder(d.doc.Switches, func(name string, doc inventory.SwitchDoc) error {
		old, _ := tx.Switch(name)
		if !doc.IP.Given || old.Addr == doc.IP.Value {
			return nil
		}
		s := *old
		s.Addr = doc.IP.Value
		n, ok := tx.NetworkByID(s.Network)
		if !ok {
			return inventory.Errorf(inventory.KindRefused, "switch", name, "the network of switch '%s' is not in the document and would be deleted", name)
		}
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

func (d *document) claimNetwork(name string, doc inventory.NetworkDoc) error {
	old, _ := d.tx.Network(name)
	n := *old
	if !n.NSIP.IsValid() {
		if err := placeNameServer(d.tx, &n, doc.NSIP.Value); err != nil {
			return err
		}
	}
	for _, a := range doc.Reserved.Value {
		if slices.Contains(n.Reserved, a) {
			continue
		}
		if err := claim(d.tx, &n, inventory.Owner{Addr: a, Type: inventory.OwnerReserved, ID: n.ID}); err != nil {
			return err
		}
		n.Reserved = append(slices.Clone(n.Reserved), a)
	}
	slices.SortFunc(n.Reserved, netip.Addr.Compare)
	d.tx.Put(&n)
	return nil
}

func (d *document) claimNode(name string, doc inventory.NodeDoc) error {
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
			if err := claim(d.tx, network, inventory.Owner{Addr: f.want, Type: inventory.OwnerNode, ID: n.ID, Iface: i.ID}); err != nil {
				return err
			}
			n.Interfaces[i.ID] = with(n.Interfaces[i.ID], network, f.want)
		}
	}
	d.putNode(&n)
	return nil
}

// ranges sets the DHCP ranges, once nobody is in their way and before free
// addresses are given out.
func (d *document) ranges() error {
	return inOrder(d.doc.Networks, func(name string, doc inventory.NetworkDoc) error {
		if !doc.DHCPRange.Given {
			return nil
		}
		n, _ := d.tx.Network(name)
		var want inventory.AddrRange
		if doc.DHCPRange.Value != nil {
			want = *doc.DHCPRange.Value
		}
		if n.Range == want && !want.IsZero() {
			return nil
		}
		if n.Range == want && n.Duty.Holder == 0 {
			dropLeases(d.tx, n, func(*inventory.Lease) bool { return true })
			return nil
		}
		return setRange(d.tx, inventory.SetRange{Network: name, Range: want})
	})
}

// giveAddresses gives the lowest free address where one is missing, to the
// nodes in the order of their names.
func (d *document) giveAddresses() error {
	var nodes []string
	for n := range d.tx.Nodes() {
		if g, _ := d.tx.GroupByID(n.Group); !complete(n, g) {
			nodes = append(nodes, n.Name)
		}
	}
	if err := giveMissing(d.tx, nodes); err != nil {
		return err
	}
	alloc := newAllocator(d.tx)
	return inOrder(d.doc.Switches, func(name string, _ inventory.SwitchDoc) error {
		old, _ := d.tx.Switch(name)
		if old.Addr.IsValid() {
			return nil
		}
		s := *old
		n, ok := d.tx.NetworkByID(s.Network)
		if !ok {
			return nil // the check at the end says it
		}
		if s.Addr, ok = alloc.take(n, inventory.Owner{Type: inventory.OwnerSwitch, ID: s.ID}); !ok {
			return inventory.Errorf(inventory.KindInvalid, "switch", name, "network '%s' (%s) has no free address left for switch '%s'", n.Name, n.Prefix, name)
		}
		d.tx.Put(&s)
		return nil
	})
}
