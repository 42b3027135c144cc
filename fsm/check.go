package fsm

import (
	"fmt"
	"net/netip"

	"github.com/clustervision/luna/inventory"
)

// Check holds a whole state against itself: every address has one owner who
// knows of it and lies in the owner's network, every reference leads to an
// object, every name to one. The error names the first fault. What commands do
// keeps it by itself; a change that restores or replaces many objects at once
// is checked with it.
func Check(inv *inventory.Inventory) error {
	if c, ok := inv.Cluster(); ok && c.Deleted && len(objects(inv)) > 0 {
		return fmt.Errorf("there would be objects in a cluster that is deleted")
	}
	for _, check := range []func(*inventory.Inventory) error{
		(*inventory.Inventory).Doubles, checkNetworks, checkReferences, checkNodes, checkOwners,
	} {
		if err := check(inv); err != nil {
			return err
		}
	}
	return nil
}

// checkNetworks tells of networks that overlap, and of whatever is where a DHCP
// range or the frontend address is.
func checkNetworks(inv *inventory.Inventory) error {
	var frontend netip.Addr
	if c, ok := inv.Cluster(); ok {
		frontend = c.FrontendAddress
	}
	for n := range inv.Networks() {
		if err := noOverlap(inv, n); err != nil {
			return err
		}
		if err := within(n, n.NSIP); err != nil {
			return fmt.Errorf("the name server of network '%s': %w", n.Name, err)
		}
		if n.Range.Contains(frontend) {
			return fmt.Errorf("the frontend address %s would lie in the DHCP range of network '%s'", frontend, n.Name)
		}
		for o := range inv.Owners(n.Range.Start) {
			if !n.Range.Contains(o.Addr) {
				break
			}
			return fmt.Errorf("%s of %s would lie in the DHCP range of network '%s'", o.Addr, ownerName(inv, o), n.Name)
		}
	}
	if o, ok := inv.Owner(frontend); ok && o.Type == inventory.OwnerNode {
		return fmt.Errorf("the frontend address %s would be that of %s", frontend, ownerName(inv, o))
	}
	paths := map[string]string{}
	for o := range inv.OSImages() {
		if other, twice := paths[o.Path]; twice {
			return fmt.Errorf("osimages '%s' and '%s' would have the same path %s", other, o.Name, o.Path)
		}
		paths[o.Path] = o.Name
	}
	return nil
}

func checkReferences(inv *inventory.Inventory) error {
	gone := func(object, name, what string) error {
		return fmt.Errorf("%s '%s' would have a %s that does not exist", object, name, what)
	}
	network := func(id inventory.ID) bool {
		_, ok := inv.NetworkByID(id)
		return ok || id == 0
	}
	for v := range inv.Versions() {
		if _, ok := inv.OSImageByID(v.Image); !ok {
			return gone("version", v.ID, "osimage")
		}
	}
	for l := range inv.Leases() {
		if n, ok := inv.NetworkByID(l.Network); !ok || !n.Range.Contains(l.Addr) {
			return gone("lease", l.Addr.String(), "range")
		}
	}
	for g := range inv.Groups() {
		if _, ok := inv.OSImageByID(g.OSImage); !ok {
			return gone("group", g.Name, "osimage")
		}
		if _, ok := inv.BMCSetupByID(g.BMCSetup); !ok && g.BMCSetup != 0 {
			return gone("group", g.Name, "bmcsetup")
		}
		if !network(g.Domain) {
			return gone("group", g.Name, "domain")
		}
		for _, i := range g.Interfaces {
			if !network(i.Network4) || !network(i.Network6) {
				return gone("group", g.Name, "network on interface "+i.Name)
			}
			if n, ok := inv.NetworkByID(i.Network4); ok && !n.Prefix.Addr().Is4() {
				return gone("group", g.Name, "IPv4 network on interface "+i.Name)
			}
			if n, ok := inv.NetworkByID(i.Network6); ok && !n.Prefix.Addr().Is6() {
				return gone("group", g.Name, "IPv6 network on interface "+i.Name)
			}
		}
		if g.TorrentIF != nil {
			if _, ok := g.Interface(*g.TorrentIF); !ok {
				return gone("group", g.Name, "torrent_if")
			}
		}
	}
	for s := range inv.Switches() {
		if _, ok := inv.NetworkByID(s.Network); !ok {
			return gone("switch", s.Name, "network")
		}
	}
	for d := range inv.OtherDevs() {
		for id := range d.Connected {
			if _, ok := inv.NetworkByID(id); !ok {
				return gone("otherdev", d.Name, "network")
			}
		}
	}
	for n := range inv.Nodes() {
		if _, ok := inv.GroupByID(n.Group); !ok {
			return gone("node", n.Name, "group")
		}
		if _, ok := inv.SwitchByID(n.Switch); !ok && n.Switch != 0 {
			return gone("node", n.Name, "switch")
		}
	}
	return nil
}

// checkNodes tells of a node without an address where its group has a network,
// or with one where it has none.
func checkNodes(inv *inventory.Inventory) error {
	for n := range inv.Nodes() {
		g, _ := inv.GroupByID(n.Group)
		known := 0
		for _, i := range g.Interfaces {
			a, ok := n.Interfaces[i.ID]
			if ok {
				known++
			}
			for _, f := range []struct {
				network inventory.ID
				addr    netip.Addr
			}{{i.Network4, a.V4}, {i.Network6, a.V6}} {
				network, ok := inv.NetworkByID(f.network)
				if ok != f.addr.IsValid() || ok && !network.Prefix.Contains(f.addr) {
					return fmt.Errorf("interface '%s' of node '%s' would have address %v, which is not in its group's network", i.Name, n.Name, f.addr)
				}
			}
		}
		if known != len(n.Interfaces) {
			return fmt.Errorf("node '%s' would have an address on an interface that its group has not", n.Name)
		}
	}
	return nil
}

func checkOwners(inv *inventory.Inventory) error {
	said := map[netip.Addr]inventory.Owner{}
	check := func(name string, o any) error {
		for _, own := range ownersOf(inv, o) {
			if other, twice := said[own.Addr]; twice {
				return fmt.Errorf("%s would belong to '%s' and to %s", own.Addr, name, other.Type)
			}
			said[own.Addr] = own
			n, ok := inv.NetworkOf(own.Addr)
			if !ok {
				return fmt.Errorf("%s of '%s' would be in no network", own.Addr, name)
			}
			own.Network = n.ID
			if has, ok := inv.Owner(own.Addr); !ok || *has != own {
				return fmt.Errorf("%s of '%s' would be free to be given away", own.Addr, name)
			}
		}
		return nil
	}
	for n := range inv.Networks() {
		if err := check(n.Name, n); err != nil {
			return err
		}
	}
	for s := range inv.Switches() {
		if err := check(s.Name, s); err != nil {
			return err
		}
	}
	for d := range inv.OtherDevs() {
		if err := check(d.Name, d); err != nil {
			return err
		}
	}
	for n := range inv.Nodes() {
		if err := check(n.Name, n); err != nil {
			return err
		}
	}
	for o := range inv.Owners(netip.Addr{}) {
		if _, ok := said[o.Addr]; !ok {
			return fmt.Errorf("%s would be lost: %s %d, who owns it, does not have it", o.Addr, o.Type, o.ID)
		}
	}
	return nil
}
