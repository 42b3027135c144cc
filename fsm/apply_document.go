package fsm

import (
	"iter"
	"maps"
	"net/netip"
	"reflect"
	"slices"

	"github.com/clustervision/luna/inventory"
)

// document is a Document on its way into the state. It is done in an order in
// which only the end counts: everything that goes or loses an address or a name
// does so first, then objects are made and changed from the networks to the
// nodes, then explicit addresses are taken, then the free ones given out. So
// two nodes may change places, whatever the order of their names, and what is
// in order in the end is asked in the end.
type document struct {
	tx    *inventory.Tx
	doc   inventory.Document
	prune bool
	gone  []netip.Prefix // of networks that are pruned, until their addresses are free
}

func applyDocument(tx *inventory.Tx, c inventory.ApplyDocument) error {
	d := &document{tx: tx, doc: c.Document, prune: c.Prune}
	for _, step := range []func() error{
		d.cluster, d.pruneMost, d.freeAddresses, d.networks, d.osimages, d.bmcsetups, d.groups,
		d.switches, d.otherdevs, d.nodes, d.freeNodes, d.claimAddresses, d.ranges, d.giveAddresses, d.pruneGroups,
	} {
		if err := step(); err != nil {
			return err
		}
	}
	if err := Check(&tx.Inventory); err != nil {
		return inventory.Errorf(inventory.KindRefused, "document", "", "the document cannot be applied: %v", err)
	}
	return nil
}

// inOrder goes through a part of the document by name.
func inOrder[D any](docs map[string]D, do func(name string, doc D) error) error {
	for _, name := range slices.Sorted(maps.Keys(docs)) {
		if err := do(name, docs[name]); err != nil {
			return err
		}
	}
	return nil
}

func (d *document) cluster() error {
	if d.doc.Cluster == nil {
		return nil
	}
	return setCluster(d.tx, d.doc.Cluster.Change())
}

// pruneMost deletes what the document does not name, but for groups: nodes that
// leave one keep their addresses. Who refers to what is gone by then must be
// changed by the document too; the check at the end sees to that.
func (d *document) pruneMost() error {
	if !d.prune {
		return nil
	}
	tx := d.tx
	var nodes []string
	for n := range tx.Nodes() {
		if _, ok := d.doc.Nodes[n.Name]; !ok {
			nodes = append(nodes, n.Name)
		}
	}
	if err := deleteNodes(tx, inventory.DeleteNodes{Names: nodes}); err != nil {
		return err
	}
	wipe(tx, unnamed(tx.OtherDevs(), d.doc.OtherDevs, func(o *inventory.OtherDev) string { return o.Name }))
	wipe(tx, unnamed(tx.Switches(), d.doc.Switches, func(o *inventory.Switch) string { return o.Name }))
	wipe(tx, unnamed(tx.BMCSetups(), d.doc.BMCSetups, func(o *inventory.BMCSetup) string { return o.Name }))
	for _, o := range unnamed(tx.OSImages(), d.doc.OSImages, func(o *inventory.OSImage) string { return o.Name }) {
		wipe(tx, slices.Collect(tx.VersionsOf(o.ID)))
		tx.Delete(o)
	}
	networks := unnamed(tx.Networks(), d.doc.Networks, func(o *inventory.Network) string { return o.Name })
	for _, n := range networks {
		dropLeases(tx, n, func(*inventory.Lease) bool { return true })
		d.gone = append(d.gone, n.Prefix)
	}
	wipe(tx, networks)
	return nil
}

// unnamed gives the objects that a part of the document does not name.
func unnamed[T, D any](all iter.Seq[*T], docs map[string]D, name func(*T) string) []*T {
	var list []*T
	for o := range all {
		if _, ok := docs[name(o)]; !ok {
			list = append(list, o)
		}
	}
	return list
}

// networks makes and changes networks, but for the addresses in them that are
// claimed later.
func (d *document) networks() error {
	var moves []renumbering
	err := inOrder(d.doc.Networks, func(name string, doc inventory.NetworkDoc) error {
		tx := d.tx
		var n inventory.Network
		if old, ok := tx.Network(name); ok {
			n = *old
		} else {
			if !doc.Network.Given {
				return inventory.Errorf(inventory.KindInvalid, "network", name, "network '%s' is new: the document must say its network, as in `network: 10.30.0.0/16`", name)
			}
			n = inventory.Network{ID: tx.NewID(), Name: name, Prefix: doc.Network.Value.Masked()}
		}
		doc.NSHostname.Into(&n.NSHostname)
		setText(&n.Include, text(doc.Include))
		setText(&n.RevInclude, text(doc.RevInclude))
		setText(&n.Comment, text(doc.Comment))
		tx.Put(&n)
		if to := doc.Network.Value.Masked(); doc.Network.Given && to != n.Prefix {
			moved := n
			moves = append(moves, renumbering{&moved, to})
		}
		return nil
	})
	if err != nil {
		return err
	}
	if err := moveNetworks(d.tx, moves); err != nil {
		return err
	}
	for _, m := range moves {
		d.tx.Put(m.network)
	}
	for n := range d.tx.Networks() {
		if err := noOverlap(&d.tx.Inventory, n); err != nil {
			return err
		}
	}
	return nil
}

// osimages makes and changes osimages. Those that leave a path leave it first.
func (d *document) osimages() error {
	for _, old := range slices.Collect(d.tx.OSImages()) {
		if doc := d.doc.OSImages[old.Name]; doc.Path.Given && doc.Path.Value != old.Path {
			o := *old
			o.Path = ""
			d.tx.Put(&o)
		}
	}
	return inOrder(d.doc.OSImages, func(name string, doc inventory.OSImageDoc) error {
		if _, ok := d.tx.OSImage(name); !ok {
			if !doc.Path.Given {
				return inventory.Errorf(inventory.KindInvalid, "osimage", name, "osimage '%s' is new: the document must say its path", name)
			}
			if err := addOSImage(d.tx, inventory.AddOSImage{Name: name, Path: doc.Path.Value, KernVer: doc.KernVer.Value}); err != nil {
				return err
			}
		}
		return changeOSImage(d.tx, doc.Change(name))
	})
}

func (d *document) bmcsetups() error {
	return inOrder(d.doc.BMCSetups, func(name string, doc inventory.BMCSetupDoc) error {
		change := doc.Change(name)
		_, ok := d.tx.BMCSetup(name)
		if change.Password != nil && *change.Password == inventory.Masked {
			if !ok {
				return inventory.Errorf(inventory.KindInvalid, "bmcsetup", name, "the document does not tell the password of bmcsetup '%s', which is new: export it with its secrets", name)
			}
			change.Password = nil
		}
		if !ok {
			if err := addBMCSetup(d.tx, inventory.AddBMCSetup{Name: name}); err != nil {
				return err
			}
		}
		return changeBMCSetup(d.tx, change)
	})
}

func (d *document) groups() error {
	return inOrder(d.doc.Groups, func(name string, doc inventory.GroupDoc) error {
		tx := d.tx
		old, ok := tx.Group(name)
		if !ok {
			if !doc.OSImage.Given {
				return inventory.Errorf(inventory.KindInvalid, "group", name, "group '%s' is new: the document must say its osimage", name)
			}
			part, post := defaultPartScript, defaultPostScript
			old = &inventory.Group{ID: tx.NewID(), Name: name, Interfaces: []inventory.Interface{}, PartScript: &part, PostScript: &post}
		}
		g := *old
		if doc.Interfaces.Given {
			if err := d.setInterfaces(&g, doc.Interfaces.Value); err != nil {
				return err
			}
		}
		tx.Put(&g)
		_, err := changeGroup(tx, doc.Change(name))
		// What unset does to a script, a document can say apart from empty.
		if now, ok := tx.Group(name); ok && err == nil {
			g := *now
			doc.PreScript.Into(&g.PreScript)
			doc.PartScript.Into(&g.PartScript)
			doc.PostScript.Into(&g.PostScript)
			tx.Put(&g)
		}
		return err
	})
}

// setInterfaces gives the group those interfaces and no others, and takes from
// its nodes the addresses that do not fit any more.
func (d *document) setInterfaces(g *inventory.Group, docs map[string]inventory.InterfaceDoc) error {
	tx, had := d.tx, g.Interfaces
	g.Interfaces = []inventory.Interface{}
	err := inOrder(docs, func(name string, doc inventory.InterfaceDoc) error {
		i := inventory.Interface{Name: name, Params: doc.Params, Implicit: doc.Implicit}
		if at := slices.IndexFunc(had, func(h inventory.Interface) bool { return h.Name == name }); at >= 0 {
			i.ID = had[at].ID
		} else {
			i.ID = tx.NewID()
		}
		for _, family := range []struct {
			network string
			is6     bool
			id      *inventory.ID
		}{{doc.Network4, false, &i.Network4}, {doc.Network6, true, &i.Network6}} {
			if family.network == "" {
				continue
			}
			n, ok := tx.Network(family.network)
			if !ok {
				return inventory.NotFound("network", family.network)
			}
			if n.Prefix.Addr().Is6() != family.is6 {
				return inventory.Errorf(inventory.KindInvalid, "group", g.Name, "network '%s' (%s) of interface '%s' is of the other family", n.Name, n.Prefix, name)
			}
			*family.id = n.ID
		}
		g.Interfaces = append(g.Interfaces, i)
		return nil
	})
	if err != nil {
		return err
	}
	if g.TorrentIF != nil {
		if _, ok := g.Interface(*g.TorrentIF); !ok {
			g.TorrentIF = nil
		}
	}
	for _, was := range had {
		now, _ := g.Interface(was.Name) // the zero Interface where it is gone
		drop4, drop6 := was.Network4 != now.Network4, was.Network6 != now.Network6
		if drop4 || drop6 {
			freeInterface(tx, g, was.ID, drop4, drop6)
		}
	}
	return nil
}

func (d *document) switches() error {
	return inOrder(d.doc.Switches, func(name string, doc inventory.SwitchDoc) error {
		tx := d.tx
		old, ok := tx.Switch(name)
		if !ok {
			if !doc.Network.Given {
				return inventory.Errorf(inventory.KindInvalid, "switch", name, "switch '%s' is new: the document must say its network", name)
			}
			old = &inventory.Switch{
				ID: tx.NewID(), Name: name,
				Read: inventory.DefaultSwitchRead, RW: inventory.DefaultSwitchRW, OID: inventory.DefaultSwitchOID,
			}
		}
		s := *old
		if doc.Network.Given {
			n, ok := tx.Network(doc.Network.Value)
			if !ok {
				return inventory.NotFound("network", doc.Network.Value)
			}
			if s.Network != n.ID {
				release(tx, s.Addr)
				s.Network, s.Addr = n.ID, none
			}
		}
		doc.Read.Into(&s.Read)
		doc.RW.Into(&s.RW)
		doc.OID.Into(&s.OID)
		setText(&s.Comment, text(doc.Comment))
		tx.Put(&s)
		return nil
	})
}

// text gives a document's text as setText wants it.
func text(m inventory.Maybe[*string]) *string {
	if m.Given && m.Value == nil {
		return new(string)
	}
	return m.Value
}

func (d *document) otherdevs() error {
	return inOrder(d.doc.OtherDevs, func(name string, doc inventory.OtherDevDoc) error {
		old, ok := d.tx.OtherDev(name)
		if !ok {
			old = &inventory.OtherDev{ID: d.tx.NewID(), Name: name, Connected: map[inventory.ID]netip.Addr{}}
		}
		o := *old
		setText(&o.Comment, text(doc.Comment))
		d.tx.Put(&o)
		return nil
	})
}

func (d *document) nodes() error {
	macs := map[inventory.MAC]string{}
	return inOrder(d.doc.Nodes, func(name string, doc inventory.NodeDoc) error {
		tx := d.tx
		n, err := d.node(name, doc)
		if err != nil {
			return err
		}
		if doc.MAC.Value != nil && *doc.MAC.Value != "" {
			if other, twice := macs[*doc.MAC.Value]; twice {
				return inventory.Errorf(inventory.KindInvalid, "node", name, "nodes '%s' and '%s' have the same MAC address %s", other, name, *doc.MAC.Value)
			}
			macs[*doc.MAC.Value] = name
			takeMAC(tx, n, *doc.MAC.Value)
		}
		if doc.Switch.Given {
			n.Switch = 0
			if doc.Switch.Value != nil {
				s, ok := tx.Switch(*doc.Switch.Value)
				if !ok {
					return inventory.NotFound("switch", *doc.Switch.Value)
				}
				n.Switch = s.ID
			}
		}
		setText(&n.Port, text(doc.Port))
		doc.LocalBoot.Into(&n.LocalBoot)
		doc.SetupBMC.Into(&n.SetupBMC)
		doc.Service.Into(&n.Service)
		if doc.Tags.Given {
			n.Tags = tagged(nil, doc.Tags.Value, nil)
		}
		setText(&n.Comment, text(doc.Comment))
		d.putNode(n)
		return nil
	})
}

// putNode stores a node that is not as it was. Most are, in a large document
// that is applied again, and comparing costs a tenth of storing.
func (d *document) putNode(n *inventory.Node) {
	if old, ok := d.tx.NodeByID(n.ID); !ok || !reflect.DeepEqual(old, n) {
		d.tx.Put(n)
	}
}

// node gives the node to be written, a new one if need be, in its group.
func (d *document) node(name string, doc inventory.NodeDoc) (*inventory.Node, error) {
	old, ok := d.tx.Node(name)
	if !ok {
		g, ok := d.tx.Group(doc.Group.Value)
		switch {
		case !doc.Group.Given:
			return nil, inventory.Errorf(inventory.KindInvalid, "node", name, "node '%s' is new: the document must say its group", name)
		case !ok:
			return nil, inventory.NotFound("group", doc.Group.Value)
		}
		return &inventory.Node{ID: d.tx.NewID(), Name: name, Group: g.ID, SetupBMC: true, Interfaces: map[inventory.ID]inventory.Addresses{}}, nil
	}
	n := *old
	n.Interfaces = cloneMap(old.Interfaces)
	if doc.Group.Given {
		if err := changeNodeGroup(d.tx, &n, doc.Group.Value); err != nil {
			return nil, err
		}
	}
	return &n, nil
}

// pruneGroups deletes the groups that the document does not name.
func (d *document) pruneGroups() error {
	if !d.prune {
		return nil
	}
	for _, g := range unnamed(d.tx.Groups(), d.doc.Groups, func(o *inventory.Group) string { return o.Name }) {
		if err := deleteGroup(d.tx, inventory.DeleteGroup{Name: g.Name}); err != nil {
			return err
		}
	}
	return nil
}
