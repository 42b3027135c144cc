package legacy

import (
	"cmp"
	"fmt"
	"math/big"
	"net/netip"
	"slices"

	"github.com/clustervision/luna/inventory"
)

// network is what became of a network of 1.2.
type network struct {
	old    *Network
	base   *big.Int     // what its offsets count from
	prefix netip.Prefix // its own
	// in is the network whose name stands in the document: itself, or the wider
	// one that it lies in. Networks may not overlap here (B17).
	in   *network
	name string // of in
	// Of the one that is in itself:
	pool  inventory.AddrRange // what DHCP gives to unknown machines
	needs int                 // how many get the next free address
}

// address gives the address of an offset; false where the network has no such.
func (n *network) address(offset Number) (netip.Addr, bool) {
	if offset.Int == nil {
		return netip.Addr{}, false
	}
	a, ok := addrOf(new(big.Int).Add(n.base, offset.Int), n.prefix.Addr().BitLen())
	first, last := inventory.Hosts(n.in.prefix)
	return a, ok && n.prefix.Contains(a) && first.Compare(a) <= 0 && a.Compare(last) <= 0
}

// shown gives an offset for a report: as an address, if it is one.
func (n *network) shown(offset Number) string {
	if a, ok := addrOf(new(big.Int).Add(n.base, offset.Int), n.prefix.Addr().BitLen()); ok {
		return a.String()
	}
	return "base+" + offset.String()
}

func (n *network) String() string { return fmt.Sprintf("network '%s' (%s)", n.name, n.in.prefix) }

// addrOf gives the address that is the number.
func addrOf(i *big.Int, bits int) (netip.Addr, bool) {
	if i.Sign() < 0 || i.BitLen() > bits {
		return netip.Addr{}, false
	}
	return netip.AddrFromSlice(i.FillBytes(make([]byte, bits/8)))
}

// network gives what became of a referred network, nil where nothing did.
func (c *converter) network(r Ref) *network {
	if r.Collection != "" && r.Collection != "network" {
		return nil
	}
	return c.nets[r.ID]
}

// networks takes over the networks, the wider ones first, and their name
// servers.
func (c *converter) networks() {
	var all []*network
	for i := range c.db.Networks {
		old := &c.db.Networks[i]
		n, err := newNetwork(old)
		if err != nil {
			c.find("network", old.Name.Value, Dropped, "%s; so is what was in it", oneLine(err.Error()))
			continue
		}
		all = append(all, n)
	}
	slices.SortStableFunc(all, func(a, b *network) int { return cmp.Compare(a.prefix.Bits(), b.prefix.Bits()) })
	var kept []*network
	for _, n := range all {
		n.in = n
		if i := slices.IndexFunc(kept, func(k *network) bool { return k.prefix.Overlaps(n.prefix) }); i >= 0 {
			n.in = kept[i]
			continue
		}
		kept = append(kept, n)
	}
	slices.SortStableFunc(kept, func(a, b *network) int { return cmp.Compare(a.old.Name.Value, b.old.Name.Value) })
	var names []string
	for _, n := range kept {
		names = append(names, n.old.Name.Value)
	}
	for i, name := range c.renamed("network", names) {
		kept[i].name = name
	}
	c.all = all
	for _, n := range all {
		n.name = n.in.name
		if _, twice := c.nets[n.old.ID]; !twice {
			c.nets[n.old.ID] = n
		}
	}
	for _, n := range kept {
		c.keepNetwork(n)
	}
	for _, n := range all {
		if n.in != n {
			c.mergeNetwork(n)
		}
	}
}

func newNetwork(old *Network) (*network, error) {
	bits := 32
	if old.Version.Or(4) == 6 {
		bits = 128
	}
	if old.Base.Int == nil || old.Prefix.Int == nil {
		return nil, fmt.Errorf("it has no address or no prefix")
	}
	a, ok := addrOf(old.Base.Int, bits)
	if !ok {
		return nil, fmt.Errorf("%s is no IPv%d address", old.Base, old.Version.Or(4))
	}
	length := old.Prefix.Or(-1)
	if length < 0 || length > bits {
		return nil, fmt.Errorf("/%s is no prefix", old.Prefix)
	}
	p := netip.PrefixFrom(a, length)
	if err := inventory.CheckPrefix(old.Name.Value, p); err != nil {
		return nil, err
	}
	return &network{old: old, base: old.Base.Int, prefix: p.Masked()}, nil
}

// keepNetwork writes the network into the document.
func (c *converter) keepNetwork(n *network) {
	old, title := n.old, n.old.Name.Value
	doc := inventory.NetworkDoc{
		Network:    inventory.Given(n.prefix),
		Include:    c.text("network", title, "include", old.Include),
		RevInclude: c.text("network", title, "rev_include", old.RevInclude),
		Comment:    c.text("network", title, "comment", old.Comment),
		DHCPRange:  inventory.Given[*inventory.AddrRange](nil),
	}
	if a, _ := addrOf(n.base, n.prefix.Addr().BitLen()); a != n.prefix.Addr() {
		c.find("network", title, Adjusted, "its base %s is not that of a /%d: the network is %s, and the addresses in it stay", a, n.prefix.Bits(), n.prefix)
	}
	if host := old.NSHostname.Value; host != "" {
		if err := inventory.CheckName("name server", host); err != nil {
			c.find("network", title, Dropped, "ns_hostname is not taken over: %s", oneLine(err.Error()))
		} else {
			doc.NSHostname = inventory.Given(host)
		}
	}
	_, ns := inventory.Hosts(n.prefix)
	if a, ok := n.address(old.NSIP); ok {
		ns = a
	} else if !c.old() || old.NSIP.Int != nil {
		c.find("network", title, Adjusted, "it has no name server's address inside it: ns_ip is %s now, the last one", ns)
	}
	doc.NSIP = inventory.Given(ns)
	c.owners[ns] = fmt.Sprintf("the name server of network '%s'", n.name)
	c.doc.Networks[n.name] = doc
}

// mergeNetwork says that a network became a part of a wider one.
func (c *converter) mergeNetwork(n *network) {
	c.find("network", n.old.Name.Value, Dropped, "%s overlaps %s, and networks may not overlap here: interfaces, devices and domains that were in it are in '%s' now, with the addresses that they had", n.prefix, n.in, n.name)
	for _, lost := range []struct {
		field string
		text  Text
	}{{"include", n.old.Include}, {"rev_include", n.old.RevInclude}, {"comment", n.old.Comment}} {
		if lost.text.Value != "" {
			c.find("network", n.old.Name.Value, Dropped, "its %s is not in '%s': add there what is needed", lost.field, n.name)
		}
	}
}

// dhcp takes over the range from which unknown machines get their addresses;
// 1.2 had one for the whole site. It comes after everything whose address was
// set by hand, and yields to it.
func (c *converter) dhcp() {
	old := &c.db.Cluster
	if old.DHCPNet == (Ref{}) {
		return
	}
	drop := func(format string, args ...any) {
		c.find("cluster", "general", Dropped, "the DHCP range is not taken over: %s. Set it with `luna cluster makedhcp -N NETWORK -s START -e END`", fmt.Sprintf(format, args...))
	}
	n := c.network(old.DHCPNet)
	if n == nil {
		drop("its network is not there")
		return
	}
	start, ok1 := n.address(old.DHCPRangeStart)
	end, ok2 := n.address(old.DHCPRangeEnd)
	r := inventory.AddrRange{Start: start, End: end}
	switch {
	case !ok1 || !ok2 || end.Less(start):
		drop("it is not a range inside %s", n)
		return
	case n.prefix.Addr().Is6():
		drop("%s is IPv6, and DHCP is served on IPv4 only", n)
		return
	case r.Contains(c.frontend):
		drop("%s-%s holds the frontend address %s", start, end, c.frontend)
		return
	case slices.ContainsFunc(c.heads, r.Contains):
		drop("%s-%s holds the address of a head of this site", start, end)
		return
	case len(c.heads) > 0 && !slices.ContainsFunc(c.heads, n.in.prefix.Contains):
		drop("no head of this site has an address in %s, so none could answer there", n)
		return
	}
	var inside []netip.Addr
	for a := range c.owners {
		if r.Contains(a) {
			inside = append(inside, a)
		}
	}
	if len(inside) > 0 {
		a := slices.MinFunc(inside, netip.Addr.Compare)
		drop("%s-%s holds %s, which %s has", start, end, a, c.owners[a])
		return
	}
	n.in.pool = r
	doc := c.doc.Networks[n.name]
	doc.DHCPRange = inventory.Given(&r)
	c.doc.Networks[n.name] = doc
}
