package legacy

import (
	"cmp"
	"maps"
	"net/netip"
	"slices"

	"go.mongodb.org/mongo-driver/v2/bson"

	"github.com/clustervision/luna/inventory"
)

// group is what became of a group of 1.2.
type group struct {
	name string
	ifs  []groupIf // by name
}

// groupIf is an interface of a group.
type groupIf struct {
	key  string // in 1.2, by which nodes refer to it
	old  string // its name in 1.2
	name string
	nets [2]*network // by family; nil for none
}

// family is IPv4 or IPv6.
type family int

const (
	v4 family = iota
	v6
)

func (f family) String() string { return [...]string{"IPv4", "IPv6"}[f] }

// makeGroups takes over the groups that still have their osimage.
func (c *converter) makeGroups() {
	var kept []*Group
	for i := range c.db.Groups {
		old := &c.db.Groups[i]
		if c.images[old.OSImage.ID] == "" {
			c.find("group", old.Name.Value, Dropped, "its osimage is not there; so are its nodes")
			continue
		}
		kept = append(kept, old)
	}
	names := c.renamed("group", titlesOf(kept, func(o *Group) Text { return o.Name }))
	for i, old := range kept {
		title := old.Name.Value
		g := &group{name: names[i]}
		if _, twice := c.groups[old.ID]; !twice {
			c.groups[old.ID] = g
		}
		doc := inventory.GroupDoc{
			OSImage:    inventory.Given(c.images[old.OSImage.ID]),
			BMCSetup:   inventory.Given[*string](nil),
			Domain:     inventory.Given[*string](nil),
			TorrentIF:  inventory.Given[*string](nil),
			Interfaces: inventory.Given(c.interfaces(old, g)),
			PreScript:  c.text("group", title, "prescript", old.PreScript),
			PartScript: c.text("group", title, "partscript", old.PartScript),
			PostScript: c.text("group", title, "postscript", old.PostScript),
			Comment:    c.text("group", title, "comment", old.Comment),
		}
		if old.BMCSetup != (Ref{}) {
			if name, ok := c.setups[old.BMCSetup.ID]; ok {
				doc.BMCSetup.Value = &name
			} else {
				c.find("group", title, Adjusted, "its bmcsetup is not there: it has none now")
			}
		}
		if old.Domain != (Ref{}) {
			if n := c.network(old.Domain); n != nil {
				doc.Domain.Value = &n.name
			} else {
				c.find("group", title, Adjusted, "the network of its domain is not there: it has none now")
			}
		}
		doc.TorrentIF.Value = c.torrentIf(old, g)
		if b := old.BootIF.Value; b != "" && b != inventory.BootIF {
			c.find("group", title, Warning, "its nodes booted from '%s' in 1.1: `luna group change %s -i %s --rename BOOTIF` makes them do so here", printable(b), g.name, printable(b))
		}
		c.doc.Groups[g.name] = doc
	}
}

func (c *converter) torrentIf(old *Group, g *group) *string {
	if old.TorrentIF.Value == "" {
		return nil
	}
	for _, i := range g.ifs {
		if i.old == old.TorrentIF.Value {
			return &i.name
		}
	}
	c.find("group", old.Name.Value, Adjusted, "its torrent_if '%s' is none of its interfaces: it is unset now", printable(old.TorrentIF.Value))
	return nil
}

// interfaces takes over the interfaces of a group.
func (c *converter) interfaces(old *Group, g *group) map[string]inventory.InterfaceDoc {
	title := old.Name.Value
	keys := slices.SortedFunc(maps.Keys(old.Interfaces), func(a, b string) int {
		return cmp.Or(cmp.Compare(old.Interfaces[a].Name.Value, old.Interfaces[b].Name.Value), cmp.Compare(a, b))
	})
	names := make([]string, len(keys))
	for i, key := range keys {
		names[i] = old.Interfaces[key].Name.Value
	}
	now := c.names("interface", names, func(i int, now, why string) {
		c.find("group", title, Adjusted, "its interface '%s' is '%s' here: %s", printable(names[i]), now, why)
	})
	docs := map[string]inventory.InterfaceDoc{}
	for i, key := range keys {
		o := old.Interfaces[key]
		in := groupIf{key: key, old: names[i], name: now[i]}
		in.nets[v4] = c.interfaceNet(title, now[i], v4, o.Network.V4)
		in.nets[v6] = c.interfaceNet(title, now[i], v6, o.Network.V6)
		doc := inventory.InterfaceDoc{Params: c.clean("group", title, "the text of parameters of "+now[i], o.Params)}
		if n := in.nets[v4]; n != nil {
			doc.Network4 = n.name
		}
		if n := in.nets[v6]; n != nil {
			doc.Network6 = n.name
		}
		g.ifs = append(g.ifs, in)
		docs[now[i]] = doc
	}
	return docs
}

// interfaceNet gives the network of one family of an interface, nil for none.
func (c *converter) interfaceNet(title, name string, f family, r Ref) *network {
	if r == (Ref{}) {
		return nil
	}
	n := c.network(r)
	switch {
	case n == nil:
		c.find("group", title, Adjusted, "the %s network of its interface '%s' is not there: it has none now", f, name)
	case n.prefix.Addr().Is4() != (f == v4):
		c.find("group", title, Adjusted, "the %s network of its interface '%s' was %s: it has none now", f, name, n)
		return nil
	}
	return n
}

// connections gives the addresses of an other device, one in each network.
func (c *converter) connections(old *OtherDev, name string) map[string]netip.Addr {
	title, connected := old.Name.Value, map[string]netip.Addr{}
	drop := func(format string, args ...any) {
		c.find("otherdev", title, Dropped, format+". Connect it with `luna otherdev change %s -N NETWORK -i IP`", append(args, name)...)
	}
	type connection struct {
		key string
		n   *network
	}
	var list []connection
	for key := range old.Connected {
		id, _ := objectID(key)
		list = append(list, connection{key, c.nets[id]})
	}
	slices.SortFunc(list, func(a, b connection) int { return cmp.Compare(a.key, b.key) })
	// A network's own connections come before those of networks that became a
	// part of it: here there is one address in each.
	slices.SortStableFunc(list, func(a, b connection) int { return cmp.Compare(merged(a.n), merged(b.n)) })
	for _, at := range list {
		offset := old.Connected[at.key]
		if at.n == nil {
			drop("a network that it was connected to is not there")
			continue
		}
		if offset.unset() {
			drop("it had no address in %s", at.n)
			continue
		}
		a, ok := at.n.address(offset)
		if !ok {
			drop("its address %s is none of %s", at.n.shown(offset), at.n)
			continue
		}
		if first, twice := connected[at.n.name]; twice {
			drop("its address %s is its second one in %s, after %s", a, at.n, first)
			continue
		}
		if has, free := c.claim(a, "otherdev '"+name+"'"); !free {
			drop("its address %s is that of %s", a, has)
			continue
		}
		connected[at.n.name] = a
	}
	return connected
}

// merged tells a network that became a part of another one (1) from one that
// stayed (0).
func merged(n *network) int {
	if n != nil && n.in != n {
		return 1
	}
	return 0
}

// nodes takes over the nodes that still have their group.
func (c *converter) nodes() {
	var kept []*Node
	gone := map[bson.ObjectID]string{}
	for i := range c.db.Nodes {
		old := &c.db.Nodes[i]
		switch {
		case c.groups[old.Group.ID] == nil:
			c.find("node", old.Name.Value, Dropped, "its group is not there")
		case !old.Linked && !old.addressed():
			c.find("node", old.Name.Value, Dropped, "it is what is left of an addition that failed: 1.2 did not list it, and it has no address")
		default:
			kept = append(kept, old)
			continue
		}
		gone[old.ID] = old.Name.Value
	}
	names := c.renamed("node", titlesOf(kept, func(o *Node) Text { return o.Name }))
	known := map[bson.ObjectID]string{}
	for i, old := range kept {
		if _, twice := known[old.ID]; !twice {
			known[old.ID] = names[i]
		}
	}
	macs := c.macs(known, gone)
	for i, old := range kept {
		title, name := old.Name.Value, names[i]
		g := c.groups[old.Group.ID]
		doc := inventory.NodeDoc{
			Group:      inventory.Given(g.name),
			MAC:        inventory.Given[*inventory.MAC](nil),
			Interfaces: c.addresses(old, name, g),
			Switch:     inventory.Given[*string](nil),
			Port:       c.text("node", title, "port", old.Port),
			LocalBoot:  inventory.Given(old.LocalBoot.Or(false)),
			SetupBMC:   inventory.Given(old.SetupBMC.Or(true)),
			Service:    inventory.Given(old.Service.Or(false)),
			Comment:    c.text("node", title, "comment", old.Comment),
		}
		if mac, ok := macs[name]; ok {
			doc.MAC.Value = &mac
		}
		if old.Switch != (Ref{}) {
			if s, ok := c.switches[old.Switch.ID]; ok {
				doc.Switch.Value = &s
			} else {
				c.find("node", title, Adjusted, "its switch is not there: it has none now")
			}
		}
		c.doc.Nodes[name] = doc
	}
}

// addressed tells whether the node has an address at all.
func (n *Node) addressed() bool {
	for _, a := range n.Interfaces {
		if !a.V4.unset() || !a.V6.unset() {
			return true
		}
	}
	return false
}

// unset tells whether an offset is none: 1.2 took 0 for that too.
func (n Number) unset() bool { return n.Int == nil || n.Int.Sign() == 0 }

// addresses gives the node's addresses by interface. What is left out gets the
// next free address.
func (c *converter) addresses(old *Node, name string, g *group) map[string]inventory.AddressesDoc {
	title, docs, used := old.Name.Value, map[string]inventory.AddressesDoc{}, map[string]bool{}
	for _, in := range g.ifs {
		key := in.key
		if _, ok := old.Interfaces[key]; !ok {
			key = in.old // a node that 1.2's migration did not reach
		}
		used[key] = true
		had := old.Interfaces[key]
		doc := inventory.AddressesDoc{
			V4: c.address(title, name, in, v4, had.V4),
			V6: c.address(title, name, in, v6, had.V6),
		}
		if doc != (inventory.AddressesDoc{}) {
			docs[in.name] = doc
		}
	}
	for _, key := range slices.Sorted(maps.Keys(old.Interfaces)) {
		if a := old.Interfaces[key]; !used[key] && (!a.V4.unset() || !a.V6.unset()) {
			c.find("node", title, Dropped, "it had addresses on an interface that its group does not have (%s)", printable(key))
		}
	}
	return docs
}

// address gives the node's address of one family on an interface, or none.
func (c *converter) address(title, name string, in groupIf, f family, offset Number) (none netip.Addr) {
	n := in.nets[f]
	if n == nil {
		if !offset.unset() {
			c.find("node", title, Dropped, "it had an %s address on '%s', which has no such network", f, in.name)
		}
		return none
	}
	next := func(format string, args ...any) netip.Addr {
		n.in.needs++
		c.find("node", title, Adjusted, format+": it gets the next free one of %s on '%s'", append(args, n, in.name)...)
		return none
	}
	if offset.unset() {
		return next("it has no address")
	}
	a, ok := n.address(offset)
	switch {
	case !ok:
		return next("its address %s lies outside", n.shown(offset))
	case a == c.frontend:
		return next("its address %s is the frontend address", a)
	case n.in.pool.Contains(a):
		return next("its address %s lies in the DHCP range", a)
	}
	if has, free := c.claim(a, "node '"+name+"'"); !free {
		return next("its address %s is that of %s", a, has)
	}
	return a
}

// macs gives the MAC address of each node, by its name here.
func (c *converter) macs(known, gone map[bson.ObjectID]string) map[string]inventory.MAC {
	of, owner := map[string]inventory.MAC{}, map[inventory.MAC]string{}
	for _, old := range c.db.MACs {
		title := old.MAC.Value
		mac, err := inventory.ParseMAC(title)
		name, ok := known[old.Node.ID]
		switch {
		case err != nil:
			c.find("mac", title, Dropped, "it is no MAC address%s", whose(name, ok))
		case !ok && gone[old.Node.ID] != "":
			c.find("mac", title, Dropped, "its node '%s' is not taken over", printable(gone[old.Node.ID]))
		case !ok:
			c.find("mac", title, Dropped, "its node is not there")
		case of[name] != "":
			c.find("mac", title, Dropped, "node '%s' has %s already", name, of[name])
		case owner[mac] != "":
			c.find("mac", title, Dropped, "it is that of node '%s', and stood at '%s' too", owner[mac], name)
		default:
			of[name], owner[mac] = mac, name
		}
	}
	return of
}

func whose(name string, ok bool) string {
	if !ok {
		return ""
	}
	return ": node '" + name + "' has none now"
}
