package dhcp

import (
	"net/netip"
	"time"

	"github.com/insomniacslk/dhcp/dhcpv4"

	"github.com/clustervision/luna/boot"
	"github.com/clustervision/luna/inventory"
)

// Duty is what this head may answer on a network at this moment.
type Duty int

// The duties, each of which includes the one before it.
const (
	// Silent: another head answers, or nobody does.
	Silent Duty = iota
	// KnownNodes: this head is cut off from the quorum and goes on booting the
	// nodes that it knows. It commits no lease and refuses nobody, for it may
	// not know the newest.
	KnownNodes
	// Everyone: this head is the holder.
	Everyone
)

// knownLease is the lease of a node's own address, as in Luna 1.2. The address
// is the node's until an administrator changes it; renewing lets the node
// learn that within hours.
const knownLease = 8 * time.Hour

// scene is the moment at which a packet is judged.
type scene struct {
	inv     *inventory.Inventory
	self    *inventory.Head
	home    netip.Addr // of this head on the device
	duty    func(inventory.ID) Duty
	dns     func(inventory.ID) []netip.Addr
	loaders boot.Loaders
	poolTTL time.Duration
	now     time.Time // of the mesh's clock, by which leases end
}

// grant is a pool address that is committed.
type grant struct {
	addr netip.Addr
	ttl  time.Duration // from now on
}

// verdict is what follows from a packet: an answer, or silence, or first a
// lease and then to be judged again with it.
type verdict struct {
	reply *dhcpv4.DHCPv4 // nil: no answer
	from  netip.Addr     // this head
	to    destination
	on    inventory.ID       // the network, and
	under Duty               // what this head must still hold there when the answer goes out
	lease *inventory.Network // a pool address of this network must be committed before there is an answer, or in place of what is declined
	note  string             // what an operator should know; "": nothing
}

// destination is where a reply goes: as a UDP packet, or, where nobody can
// resolve the address yet, as a frame to the machine's hardware address.
type destination struct {
	frame bool
	addr  netip.AddrPort
}

// Ports of DHCP (RFC 2131 §4.1).
const (
	serverPort = 67
	clientPort = 68
)

// judge tells what to do about a request. It is a pure function: granted is the
// lease that was committed for this very request, zero at first.
func (s scene) judge(r request, granted grant) verdict {
	network, ok := s.networkOf(r)
	if !ok {
		return verdict{}
	}
	duty := s.duty(network.ID)
	if duty == Silent {
		return verdict{}
	}
	r.machine.Network = network.ID
	spec := boot.Decide(s.inv, s.self, s.loaders, r.machine)
	if !spec.Server.Is4() {
		return verdict{note: "this head has no IPv4 address by which that network could reach it"}
	}
	if spec.Node == nil && duty != Everyone {
		return verdict{}
	}
	if spec.Node != nil {
		if why := boot.Withheld(s.inv, spec.Node, spec.Address, s.now); why != "" {
			return verdict{note: why}
		}
	}
	a := answer{scene: s, request: r, network: network, under: duty, spec: spec}
	switch r.kind {
	case dhcpv4.MessageTypeDiscover:
		a.server = netip.Addr{} // it has not chosen one: RFC 2131, table 5
		return a.address(granted)
	case dhcpv4.MessageTypeRequest:
		return a.address(granted)
	case dhcpv4.MessageTypeInform:
		a.server = netip.Addr{}
		return a.inform()
	case dhcpv4.MessageTypeDecline:
		return a.decline(granted)
	default:
		// RELEASE: a node's address stays its own, and a pool lease ends by
		// itself; giving it away sooner would win nothing.
		return verdict{}
	}
}

// networkOf gives the network on which the machine is. A relay tells it. A
// machine that renews writes to the server it knows, through a router, so its
// own address tells it. Else it is on the device's network. Networks without a
// pool have no DHCP.
func (s scene) networkOf(r request) (*inventory.Network, bool) {
	own, ok := s.inv.NetworkOf(s.home)
	if r.link.IsValid() {
		own, ok = s.inv.NetworkOf(r.link)
	} else if r.unicast && r.client.IsValid() && ok && !own.Prefix.Contains(r.client) {
		own, ok = s.inv.NetworkOf(r.client)
	}
	return own, ok && !own.Range.IsZero()
}

// answer is what goes into one reply.
type answer struct {
	scene
	request
	network *inventory.Network
	under   Duty
	spec    boot.Spec
}

// address answers DISCOVER and REQUEST (RFC 2131 §4.3.1, §4.3.2).
func (a answer) address(granted grant) verdict {
	discover := a.kind == dhcpv4.MessageTypeDiscover
	if !discover && !a.forUs() {
		return verdict{}
	}
	if a.spec.Node != nil {
		granted = grant{a.spec.Address, knownLease}
	} else if !granted.addr.IsValid() {
		granted = a.committed()
	}
	if !granted.addr.IsValid() {
		return a.fromPool()
	}
	switch {
	case discover:
		return a.grant(dhcpv4.MessageTypeOffer, granted)
	case a.wants == granted.addr:
		return a.grant(dhcpv4.MessageTypeAck, granted)
	case a.under == Everyone:
		return a.refuse("that address is not yours: ask again")
	}
	return verdict{}
}

// decline gives a machine another pool address where the one that it has is another
// machine's. It asks for that anew (RFC 2131 §3.1.5).
func (a answer) decline(granted grant) verdict {
	v := verdict{note: "a machine found its address in use by another: look for a machine with a fixed address that is not in the inventory"}
	l, leased := a.inv.Lease(a.network.ID, a.machine.MAC)
	switch {
	case granted.addr.IsValid():
		return verdict{} // it has another by now
	case a.spec.Node == nil && a.under == Everyone && a.forUs() && leased && l.Addr == a.wants:
		v.lease = a.network
	}
	return v
}

// forUs tells whether a REQUEST is meant for the heads. One that names a server
// has taken that server's offer. Any head may be the holder by then, and its
// address would be the same, so the name of any head is ours.
func (a answer) forUs() bool {
	if !a.server.IsValid() {
		return true
	}
	_, ours := a.inv.HeadAt(a.server)
	return ours
}

// committed gives the lease that the machine has, if enough of it is left to
// answer from it without another commit: three quarters, so that every renewal
// (at half of it) is a new commit, and a whole boot is not.
func (a answer) committed() grant {
	l, ok := a.inv.Lease(a.network.ID, a.machine.MAC)
	if !ok {
		return grant{}
	}
	left := l.Expires.Sub(a.now) - inventory.MaxAdvance
	if left < a.poolTTL*3/4 || !a.network.Range.Contains(l.Addr) {
		return grant{}
	}
	return grant{l.Addr, min(left, a.poolTTL)}
}

// fromPool says that an unknown machine needs a lease before it is answered,
// unless it asks for an address that no lease of ours could be.
func (a answer) fromPool() verdict {
	switch {
	case a.kind == dhcpv4.MessageTypeDiscover, a.server.IsValid(), a.network.Range.Contains(a.wants):
		return verdict{lease: a.network}
	case !a.network.Prefix.Contains(a.wants):
		return a.refuse("that address is of another network")
	}
	if _, taken := a.inv.Owner(a.wants); taken {
		return a.refuse("that address is another machine's")
	}
	// Nobody knows of it here: another server may (RFC 2131 §4.3.2).
	return verdict{}
}
