package api

import "github.com/clustervision/luna/inventory"

// BMCSetupOf renders a bmcsetup, its password masked unless secrets are asked
// for.
func BMCSetupOf(b *inventory.BMCSetup, secrets bool) BMCSetup {
	r := BMCSetup{
		Name: b.Name, User: b.User, Password: b.Password, UserID: b.UserID,
		NetChannel: b.NetChannel, MgmtChannel: b.MgmtChannel, Comment: b.Comment,
	}
	if !secrets {
		r.Password = inventory.Masked
	}
	return r
}

// SwitchOf renders a switch.
func SwitchOf(inv *inventory.Inventory, s *inventory.Switch) Switch {
	r := Switch{Name: s.Name, IP: addr(s.Addr), Read: s.Read, RW: s.RW, OID: s.OID, Comment: s.Comment}
	if n, ok := inv.NetworkByID(s.Network); ok {
		r.Network = n.Name
	}
	return r
}

// OtherDevOf renders another device.
func OtherDevOf(inv *inventory.Inventory, o *inventory.OtherDev) OtherDev {
	r := OtherDev{Name: o.Name, Connected: map[string]string{}, Comment: o.Comment}
	for id, a := range o.Connected {
		if n, ok := inv.NetworkByID(id); ok {
			r.Connected[n.Name] = addr(a)
		}
	}
	return r
}

// GroupOf renders a group.
func GroupOf(inv *inventory.Inventory, g *inventory.Group) Group {
	r := Group{
		Name: g.Name, TorrentIF: g.TorrentIF, Interfaces: map[string]GroupInterface{},
		PreScript: g.PreScript, PartScript: g.PartScript, PostScript: g.PostScript, Comment: g.Comment,
	}
	if o, ok := inv.OSImageByID(g.OSImage); ok {
		r.OSImage = o.Name
	}
	if b, ok := inv.BMCSetupByID(g.BMCSetup); ok {
		r.BMCSetup = b.Name
	}
	if n, ok := inv.NetworkByID(g.Domain); ok {
		r.Domain = n.Name
	}
	for _, i := range g.Interfaces {
		w := GroupInterface{Params: i.Params}
		if n, ok := inv.NetworkByID(i.Network4); ok {
			w.Network4, w.Prefix4 = n.Name, n.Prefix.String()
		}
		if n, ok := inv.NetworkByID(i.Network6); ok {
			w.Network6, w.Prefix6 = n.Name, n.Prefix.String()
		}
		r.Interfaces[i.Name] = w
	}
	for range inv.NodesOf(g.ID) {
		r.Nodes++
	}
	return r
}

// nodeRenderer renders many nodes of one state: what nodes of a group have in
// common it looks up once.
type nodeRenderer struct {
	inv    *inventory.Inventory
	groups map[inventory.ID]*groupOfNodes
}

// groupOfNodes is what the nodes of a group have in common.
type groupOfNodes struct {
	name, domain, osimage, version string
	interfaces                     []inventory.Interface
}

func newNodeRenderer(inv *inventory.Inventory) *nodeRenderer {
	return &nodeRenderer{inv, map[inventory.ID]*groupOfNodes{}}
}

func (r *nodeRenderer) group(id inventory.ID) *groupOfNodes {
	if g, ok := r.groups[id]; ok {
		return g
	}
	c := &groupOfNodes{}
	if g, ok := r.inv.GroupByID(id); ok {
		c.name, c.interfaces = g.Name, g.Interfaces
		if o, ok := r.inv.OSImageByID(g.OSImage); ok {
			c.osimage = o.Name
		}
		if v, ok := r.inv.BootVersion(g.OSImage); ok {
			c.version = v.ID
		}
		if d, ok := r.inv.NetworkByID(g.Domain); ok {
			c.domain = "." + d.Name
		}
	}
	r.groups[id] = c
	return c
}

// node renders a node with its replicated status; the percentage of a running
// download is filled in by the head that knows it.
func (r *nodeRenderer) node(n *inventory.Node) Node {
	g := r.group(n.Group)
	out := Node{
		Name: n.Name, Group: g.name, MAC: n.MAC, Hostname: n.Name + g.domain, OSImage: g.osimage, OSImageVersion: g.version,
		Interfaces: make(map[string]Addresses, len(g.interfaces)), LocalBoot: n.LocalBoot, SetupBMC: n.SetupBMC, Service: n.Service,
		Port: n.Port, Tags: n.Tags, Comment: n.Comment,
	}
	if out.Tags == nil {
		out.Tags = []string{}
	}
	for _, i := range g.interfaces {
		a := n.Interfaces[i.ID]
		out.Interfaces[i.Name] = Addresses{V4: addr(a.V4), V6: addr(a.V6)}
	}
	if s, ok := r.inv.SwitchByID(n.Switch); ok {
		out.Switch = s.Name
	}
	if s, ok := r.inv.Status(n.ID); ok {
		out.Status = &Status{Stage: s.Stage, Time: s.Time, Head: s.Head, Failed: s.Failed, Message: s.Message}
		if s.Version != "" {
			out.OSImageVersion = s.Version
		}
	}
	return out
}

// NodeOf renders a node.
func NodeOf(inv *inventory.Inventory, n *inventory.Node) Node { return newNodeRenderer(inv).node(n) }
