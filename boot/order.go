package boot

import (
	"cmp"
	"crypto/sha256"
	"encoding/binary"
	"net/netip"
	"slices"

	"github.com/clustervision/luna/inventory"
)

// Order gives the heads in the order in which the machine asks them: the same
// one every time and on every head, and another one for another machine
// (rendezvous hashing). So the machines spread over the heads without anybody
// counting, and when a head dies only its own machines move, each to another.
func Order(mac inventory.MAC, heads []*inventory.Head) []*inventory.Head {
	type scored struct {
		head  *inventory.Head
		score uint64
	}
	all := make([]scored, len(heads))
	for i, h := range heads {
		// SHA-256 for its even spread; the price is a microsecond a head.
		sum := sha256.Sum256(binary.BigEndian.AppendUint64([]byte(mac), uint64(h.ID)))
		all[i] = scored{h, binary.BigEndian.Uint64(sum[:])}
	}
	slices.SortFunc(all, func(a, b scored) int {
		return cmp.Or(cmp.Compare(b.score, a.score), cmp.Compare(a.head.ID, b.head.ID))
	})
	ordered := make([]*inventory.Head, len(all))
	for i, s := range all {
		ordered[i] = s.head
	}
	return ordered
}

// Site is what the answers to one node are made from.
type Site struct {
	Inventory *inventory.Inventory
	// Live tells which heads, by name, are alive as far as this head knows;
	// nil, or no one alive: all are named, for a dead name costs a node seconds
	// and a missing one its boot.
	Live func(head string) bool
	// At is the network on which the node asks. Zero: the one on which the
	// inventory says that it boots.
	At netip.Prefix
}

// Scheme is that of every URL that machines get: "http", or "https" where the
// cluster says so.
func Scheme(inv *inventory.Inventory) string {
	if c, ok := inv.Cluster(); ok && c.FrontendHTTPS {
		return "https"
	}
	return "http"
}

// heads gives "address:port" of every live head in the machine's order. Heads
// with an address on the machine's network come before those that a router
// must lead to; among equals, holders of the version (if one is given) come
// first, for the others have not got its files yet.
func (s Site) heads(mac inventory.MAC, at netip.Prefix, version *inventory.ImageVersion) []string {
	live, away := s.liveHeads()
	if len(live) == 0 {
		live = away
	}
	return addresses(live, mac, at, version)
}

// headsForLong gives the same for who keeps it for longer than a script takes, and has
// nobody to ask anew: behind the live heads those that are not. They may be back when
// the others are not there any more.
func (s Site) headsForLong(mac inventory.MAC, at netip.Prefix, version *inventory.ImageVersion) []string {
	live, away := s.liveHeads()
	return append(addresses(live, mac, at, version), addresses(away, mac, at, version)...)
}

// liveHeads gives the heads that may serve nodes, as they do so now or not.
func (s Site) liveHeads() (live, away []*inventory.Head) {
	for h := range s.Inventory.Heads() {
		switch {
		case s.Live == nil || s.Live(h.Name):
			live = append(live, h)
		case !h.Witness:
			away = append(away, h)
		}
	}
	return live, away
}

// addresses gives "address:port" of heads in the machine's order.
func addresses(heads []*inventory.Head, mac inventory.MAC, at netip.Prefix, version *inventory.ImageVersion) []string {
	rank := func(h *inventory.Head) (r int) {
		if _, ok := h.AddressIn(at); at.IsValid() && !ok {
			r += 2
		}
		if version != nil && !slices.Contains(version.Holders, h.ID) {
			r++
		}
		return r
	}
	ordered := Order(mac, heads)
	slices.SortStableFunc(ordered, func(a, b *inventory.Head) int { return cmp.Compare(rank(a), rank(b)) })
	list := make([]string, len(ordered))
	for i, h := range ordered {
		list[i] = hostPort(addressOf(h, at), h)
	}
	return list
}

// where gives the network to answer for: the one the node asks on, else the
// one of its BOOTIF.
func (s Site) where(n *inventory.Node) netip.Prefix {
	if s.At.IsValid() {
		return s.At
	}
	if _, address, ok := s.bootAddress(n); ok {
		return address.Masked()
	}
	return netip.Prefix{}
}

// bootAddress gives the interface that the node boots from and its address
// there, IPv4 where it has both. ok is false where the BOOTIF of its group has
// no network, and the node must ask DHCP.
func (s Site) bootAddress(n *inventory.Node) (inventory.Interface, netip.Prefix, bool) {
	g, ok := s.Inventory.GroupByID(n.Group)
	if !ok {
		return inventory.Interface{}, netip.Prefix{}, false
	}
	i, ok := g.Interface(inventory.BootIF)
	if !ok {
		return inventory.Interface{}, netip.Prefix{}, false
	}
	for _, p := range s.prefixes(n, i) {
		return i, p, true
	}
	return i, netip.Prefix{}, false
}

// prefixes gives the node's addresses on an interface with the lengths of
// their networks, IPv4 first.
func (s Site) prefixes(n *inventory.Node, i inventory.Interface) []netip.Prefix {
	prefixes := []netip.Prefix{}
	own := n.Interfaces[i.ID]
	for _, a := range []struct {
		addr    netip.Addr
		network inventory.ID
	}{{own.V4, i.Network4}, {own.V6, i.Network6}} {
		if network, ok := s.Inventory.NetworkByID(a.network); ok && a.addr.IsValid() {
			prefixes = append(prefixes, netip.PrefixFrom(a.addr, network.Prefix.Bits()))
		}
	}
	return prefixes
}
