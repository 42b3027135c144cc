package dns

import (
	"cmp"
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"github.com/clustervision/luna/inventory"
)

// host is a name in a network's zone.
type host struct {
	name string // relative to the zone
	addr netip.Addr
	what string // the object it is of
}

// hostsOf gives the names in each network, but for its name server, by name.
func hostsOf(inv *inventory.Inventory) map[inventory.ID][]host {
	all := map[inventory.ID][]host{}
	put := func(network inventory.ID, h host) {
		if h.addr.IsValid() && network != 0 {
			all[network] = append(all[network], h)
		}
	}
	suffix := map[placed]string{}
	for g := range inv.Groups() {
		nameInterfaces(g, suffix)
	}
	for n := range inv.Nodes() {
		g, ok := inv.GroupByID(n.Group)
		if !ok {
			continue
		}
		for _, i := range g.Interfaces {
			what := "interface '" + i.Name + "' of node '" + n.Name + "'"
			own := n.Interfaces[i.ID]
			put(i.Network4, host{n.Name + suffix[placed{g.ID, i.ID, i.Network4}], own.V4, what})
			put(i.Network6, host{n.Name + suffix[placed{g.ID, i.ID, i.Network6}], own.V6, what})
		}
	}
	for s := range inv.Switches() {
		put(s.Network, host{s.Name, s.Addr, "switch '" + s.Name + "'"})
	}
	for d := range inv.OtherDevs() {
		for network, a := range d.Connected {
			put(network, host{d.Name, a, "otherdev '" + d.Name + "'"})
		}
	}
	for _, hosts := range all {
		slices.SortStableFunc(hosts, func(x, y host) int { return cmp.Compare(x.name, y.name) })
	}
	return all
}

// placed is an interface of a group's nodes in a network.
type placed struct{ group, iface, network inventory.ID }

// nameInterfaces tells what is added to a node's name for each interface of the
// group: nothing, or its name where the group has several in one network. It is
// in lower case, unless two of them would be equal then.
func nameInterfaces(g *inventory.Group, suffix map[placed]string) {
	in := map[inventory.ID][]inventory.Interface{}
	for _, i := range g.Interfaces {
		in[i.Network4] = append(in[i.Network4], i)
		in[i.Network6] = append(in[i.Network6], i)
	}
	for network, interfaces := range in {
		if network == 0 || len(interfaces) < 2 {
			continue
		}
		lower := map[string]bool{}
		for _, i := range interfaces {
			lower[strings.ToLower(i.Name)] = true
		}
		for _, i := range interfaces {
			name := i.Name
			if len(lower) == len(interfaces) {
				name = strings.ToLower(name)
			}
			suffix[placed{g.ID, i.ID, network}] = "-" + name
		}
	}
}

// nameServer gives the name and the address of the network's name server: what
// is configured, or what is chosen in its place, and then why.
func nameServer(inv *inventory.Inventory, n *inventory.Network) (host, string) {
	ns := host{name: n.NSHostname, addr: n.NSIP, what: "the name server of network '" + n.Name + "'"}
	var note string
	if !ns.addr.IsValid() {
		_, ns.addr = inventory.Hosts(n.Prefix)
		note = fmt.Sprintf("network '%s' has no address for its name server: %s is taken; set another with luna network change %s --ns_ip ADDRESS", n.Name, ns.addr, n.Name)
	}
	if ns.name != "" && plain(ns.name+"."+n.Name+".") {
		return ns, note
	}
	ns.name = "ns"
	for h := range inv.Heads() {
		short, _, _ := strings.Cut(h.Name, ".")
		if own, ok := h.AddressIn(netip.PrefixFrom(ns.addr, ns.addr.BitLen())); ok && own == ns.addr && plain(short+".") {
			ns.name = short
			break
		}
	}
	return ns, fmt.Sprintf("network '%s' has no usable ns_hostname: its name server is called '%s'; set another with luna network change %s --ns_hostname NAME", n.Name, ns.name, n.Name)
}
