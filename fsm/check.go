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
	if err := checkReferences(inv); err != nil {
		return err
	}
	if err := checkNodes(inv); err != nil {
		return err
	}
	return checkOwners(inv)
}

func checkReferences(inv *inventory.Inventory) error {
	gone := func(object, name, what string) error {
		return fmt.Errorf("%s '%s' would have a %s that does not exist", object, name, what)
	}
	network := func(id inventory.ID) bool {
		_, ok := inv.NetworkByID(id)
		return ok || id == 0
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
		if _, ok := said[o.Addr]; !ok && !headHas(inv, o.Addr) {
			return fmt.Errorf("%s would be lost: %s %d, who owns it, does not have it", o.Addr, o.Type, o.ID)
		}
	}
	return nil
}
