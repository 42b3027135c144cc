package fsm

import (
	"maps"
	"slices"
	"strings"

	"github.com/clustervision/luna/inventory"
)

// The scripts that 1.2 gave every new group: a node without a disk.
const (
	defaultPartScript = "mount -t tmpfs tmpfs /sysroot"
	defaultPostScript = "cat << EOF >> /sysroot/etc/fstab\ntmpfs   /       tmpfs    defaults        0 0\nEOF"
)

func cloneMap[K comparable, V any](m map[K]V) map[K]V {
	if m == nil {
		return map[K]V{}
	}
	return maps.Clone(m)
}

func addGroup(tx *inventory.Tx, c inventory.AddGroup) error {
	image, ok := tx.OSImage(c.OSImage)
	if !ok {
		return inventory.NotFound("osimage", c.OSImage)
	}
	network, ok := tx.Network(c.Network)
	if !ok {
		return inventory.NotFound("network", c.Network)
	}
	if _, ok := tx.Group(c.Name); ok {
		return inventory.Exists("group", c.Name)
	}
	var setup inventory.ID
	if c.BMCSetup != "" {
		b, ok := tx.BMCSetup(c.BMCSetup)
		if !ok {
			return inventory.NotFound("bmcsetup", c.BMCSetup)
		}
		setup = b.ID
	}
	pre, part, post := "", defaultPartScript, defaultPostScript
	boot := inventory.Interface{ID: tx.NewID(), Name: inventory.BootIF}
	setNetwork(&boot, network)
	interfaces := []inventory.Interface{boot}
	if c.BMCNetwork != "" {
		network, ok := tx.Network(c.BMCNetwork)
		if !ok {
			return inventory.NotFound("network", c.BMCNetwork)
		}
		bmc := inventory.Interface{ID: tx.NewID(), Name: inventory.BMC, Implicit: true}
		setNetwork(&bmc, network)
		interfaces = []inventory.Interface{bmc, boot} // by name
	}
	tx.Put(&inventory.Group{
		ID: tx.NewID(), Name: c.Name, OSImage: image.ID, BMCSetup: setup, Domain: network.ID,
		Interfaces: interfaces,
		PreScript:  &pre, PartScript: &part, PostScript: &post,
	})
	return nil
}

func setNetwork(i *inventory.Interface, n *inventory.Network) {
	if n.Prefix.Addr().Is6() {
		i.Network6 = n.ID
	} else {
		i.Network4 = n.ID
	}
}

func cloneGroup(tx *inventory.Tx, c inventory.CloneGroup) error {
	from, ok := tx.Group(c.Name)
	if !ok {
		return inventory.NotFound("group", c.Name)
	}
	if _, ok := tx.Group(c.To); ok {
		return inventory.Exists("group", c.To)
	}
	g := *from
	g.ID, g.Name = tx.NewID(), c.To
	g.Interfaces = slices.Clone(from.Interfaces)
	for i := range g.Interfaces {
		g.Interfaces[i].ID = tx.NewID()
	}
	tx.Put(&g)
	return nil
}

// changeGroup gives a notice where an interface's change had nothing to do.
func changeGroup(tx *inventory.Tx, c inventory.ChangeGroup) (any, error) {
	old, ok := tx.Group(c.Name)
	if !ok {
		return nil, inventory.NotFound("group", c.Name)
	}
	g := *old
	g.Interfaces = slices.Clone(old.Interfaces)
	var notices []string
	for _, i := range c.Interfaces {
		notice, err := changeInterface(tx, &g, i)
		if err != nil {
			return nil, err
		}
		if notice != "" {
			notices = append(notices, notice)
		}
	}
	slices.SortFunc(g.Interfaces, func(a, b inventory.Interface) int { return strings.Compare(a.Name, b.Name) })
	if err := setReferences(tx, &g, c); err != nil {
		return nil, err
	}
	setText(&g.PreScript, c.PreScript)
	setText(&g.PartScript, c.PartScript)
	setText(&g.PostScript, c.PostScript)
	setText(&g.Comment, c.Comment)
	setText(&g.TorrentIF, c.TorrentIF)
	if c.TorrentIF != nil && *c.TorrentIF != "" {
		if _, ok := g.Interface(*c.TorrentIF); !ok {
			return nil, inventory.Errorf(inventory.KindRefused, "group", g.Name, "No such interface '%s'", *c.TorrentIF)
		}
	}
	tx.Put(&g)
	if len(notices) == 0 {
		return nil, nil
	}
	return strings.Join(notices, "\n"), nil
}

// setReferences sets the objects that the group refers to; "" clears those that
// it need not have.
func setReferences(tx *inventory.Tx, g *inventory.Group, c inventory.ChangeGroup) error {
	if c.OSImage != nil {
		o, ok := tx.OSImage(*c.OSImage)
		if !ok {
			return inventory.NotFound("osimage", *c.OSImage)
		}
		g.OSImage = o.ID
	}
	if c.BMCSetup != nil {
		g.BMCSetup = 0
		if *c.BMCSetup != "" {
			b, ok := tx.BMCSetup(*c.BMCSetup)
			if !ok {
				return inventory.NotFound("bmcsetup", *c.BMCSetup)
			}
			g.BMCSetup = b.ID
		}
	}
	if c.Domain != nil {
		g.Domain = 0
		if *c.Domain != "" {
			n, ok := tx.Network(*c.Domain)
			if !ok {
				return inventory.NotFound("network", *c.Domain)
			}
			g.Domain = n.ID
		}
	}
	return nil
}

func deleteGroup(tx *inventory.Tx, c inventory.DeleteGroup) error {
	g, ok := tx.Group(c.Name)
	if !ok {
		return inventory.NotFound("group", c.Name)
	}
	var users []string
	for n := range tx.NodesOf(g.ID) {
		users = append(users, "[node/"+n.Name+"]")
	}
	if len(users) > 0 {
		slices.Sort(users)
		return inUse("group", c.Name, users)
	}
	tx.Delete(g)
	return nil
}

// changeInterface does one thing to an interface of a group that is being
// changed; the notice says why there was nothing to do.
func changeInterface(tx *inventory.Tx, g *inventory.Group, c inventory.InterfaceChange) (notice string, err error) {
	at := slices.IndexFunc(g.Interfaces, func(i inventory.Interface) bool { return i.Name == c.Interface })
	refuse := func(format string, args ...any) (string, error) {
		return "", inventory.Errorf(inventory.KindRefused, "group", g.Name, format, args...)
	}
	if at < 0 && c.Implicit && c.Action == inventory.InterfaceSetNet {
		if err := inventory.CheckName("interface", c.Interface); err != nil {
			return "", err
		}
		at = len(g.Interfaces)
		g.Interfaces = append(g.Interfaces, inventory.Interface{ID: tx.NewID(), Name: c.Interface, Implicit: true})
	}
	if at < 0 && c.Action != inventory.InterfaceAdd {
		return refuse("No such interface '%s'", c.Interface)
	}
	isTorrentIF := g.TorrentIF != nil && *g.TorrentIF == c.Interface
	switch c.Action {
	case inventory.InterfaceAdd:
		if at < 0 {
			g.Interfaces = append(g.Interfaces, inventory.Interface{ID: tx.NewID(), Name: c.Interface})
			break
		}
		if !g.Interfaces[at].Implicit {
			return refuse("Interface '%s' already exists", c.Interface)
		}
		g.Interfaces[at].Implicit = false
	case inventory.InterfaceRename:
		if _, ok := g.Interface(c.NewName); ok {
			return refuse("Interface '%s' already exists", c.NewName)
		}
		g.Interfaces[at].Name = c.NewName
		if isTorrentIF {
			g.TorrentIF = &c.NewName
		}
		if c.Interface == inventory.BootIF || c.Interface == inventory.BMC {
			return "interface '" + c.Interface + "' is '" + c.NewName + "' now: " + specialUse[c.Interface], nil
		}
	case inventory.InterfaceParams:
		g.Interfaces[at].Params = strings.TrimSpace(c.Params)
	case inventory.InterfaceSetNet:
		return setNet(tx, g, &g.Interfaces[at], c.Network)
	case inventory.InterfaceDelNet:
		return "", delNet(tx, g, &g.Interfaces[at], c.Network)
	case inventory.InterfaceDelete:
		freeInterface(tx, g, g.Interfaces[at].ID, true, true)
		g.Interfaces = slices.Delete(g.Interfaces, at, at+1)
		if isTorrentIF {
			g.TorrentIF = nil
		}
	}
	return "", nil
}

// specialUse is what is lost with the two names that mean something.
var specialUse = map[string]string{
	inventory.BootIF: "without a BOOTIF the nodes ask DHCP for an address while they are provisioned",
	inventory.BMC:    "without a BMC the nodes' management controllers get no address",
}

// setNet gives the interface a network and every node of the group an address
// there, in the order of their names.
func setNet(tx *inventory.Tx, g *inventory.Group, i *inventory.Interface, name string) (notice string, err error) {
	n, ok := tx.Network(name)
	if !ok {
		return "", inventory.NotFound("network", name)
	}
	has, family := i.Network4, "IPv4"
	if n.Prefix.Addr().Is6() {
		has, family = i.Network6, "IPv6"
	}
	if has == n.ID {
		return "network '" + name + "' is that of interface '" + i.Name + "' already", nil
	}
	if has != 0 {
		return "", inventory.Errorf(inventory.KindRefused, "group", g.Name, "Network %s is already defined for interface '%s'", family, i.Name)
	}
	setNetwork(i, n)
	alloc := newAllocator(tx)
	for _, old := range nodesByName(tx, g.ID) {
		node := *old
		node.Interfaces = cloneMap(old.Interfaces)
		if err := alloc.give(&node, *i, n); err != nil {
			return "", err
		}
		tx.Put(&node)
	}
	return "", nil
}

// give takes an address of the network for the node's interface.
func (a *allocator) give(node *inventory.Node, i inventory.Interface, n *inventory.Network) error {
	addr, ok := a.take(n, inventory.Owner{Type: inventory.OwnerNode, ID: node.ID, Iface: i.ID})
	if !ok {
		return inventory.Errorf(inventory.KindInvalid, "node", node.Name, "Unable to allocate IP address for interface '%s': network '%s' (%s) has none left", i.Name, n.Name, n.Prefix)
	}
	node.Interfaces[i.ID] = with(node.Interfaces[i.ID], n, addr)
	return nil
}

func delNet(tx *inventory.Tx, g *inventory.Group, i *inventory.Interface, name string) error {
	refuse := func(format string, args ...any) error {
		return inventory.Errorf(inventory.KindRefused, "group", g.Name, format, args...)
	}
	drop4, drop6 := i.Network4 != 0, i.Network6 != 0
	switch {
	case !drop4 && !drop6:
		return refuse("interface '%s' has no network", i.Name)
	case name != "":
		n, ok := tx.Network(name)
		if !ok {
			return inventory.NotFound("network", name)
		}
		drop4, drop6 = i.Network4 == n.ID, i.Network6 == n.ID
		if !drop4 && !drop6 {
			return refuse("network '%s' is not that of interface '%s'", name, i.Name)
		}
	case drop4 && drop6:
		return refuse("Both IPv4 and IPv6 networks are configured for group. Need to specify network name.")
	}
	freeInterface(tx, g, i.ID, drop4, drop6)
	if drop4 {
		i.Network4 = 0
	}
	if drop6 {
		i.Network6 = 0
	}
	return nil
}

// freeInterface takes the addresses of an interface from all nodes of the group.
func freeInterface(tx *inventory.Tx, g *inventory.Group, id inventory.ID, drop4, drop6 bool) {
	for _, old := range nodesByName(tx, g.ID) {
		a, ok := old.Interfaces[id]
		if !ok {
			continue
		}
		node := *old
		node.Interfaces = cloneMap(old.Interfaces)
		if drop4 {
			release(tx, a.V4)
			a.V4 = none
		}
		if drop6 {
			release(tx, a.V6)
			a.V6 = none
		}
		assign(node.Interfaces, id, a)
		tx.Put(&node)
	}
}

func nodesByName(tx *inventory.Tx, group inventory.ID) []*inventory.Node {
	return slices.SortedFunc(tx.NodesOf(group), func(a, b *inventory.Node) int { return strings.Compare(a.Name, b.Name) })
}
