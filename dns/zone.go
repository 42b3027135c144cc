// Package dns makes authoritative zones of the inventory: for each network a
// forward zone, named after it, and the reverse zones of its addresses.
//
// All of it is a pure function of one Inventory, so every head has the same
// zones. [Zones] gives them as records, for a name server to answer from;
// [Files] gives the same as the files of BIND, for a site that keeps its own
// name server, and [Write] puts those in place.
//
// Names are those of Luna 1.2: a node's short name, or node-interface where its
// group has several interfaces in the network; switches, other devices and the
// network's name server. A node's addresses in different networks stay in the
// zones of those networks. Pool leases get no names.
package dns

import (
	"fmt"
	"net/netip"
	"regexp"
	"slices"
	"strconv"

	miekg "github.com/miekg/dns"

	"github.com/clustervision/luna/inventory"
)

// What Luna 1.2 wrote into each zone, in seconds.
const (
	ttl     = 604800
	refresh = 86400
	retry   = 14400
	expire  = 3628800
	minimum = 604800 // for how long a resolver may remember that a name is not there (RFC 2308 §4)
)

// Zone is one authoritative zone.
//
// Its serial is the Raft index of the state that it was made from, modulo 2^32.
// It is the same on every head that knows the same state, and every change of
// the inventory raises it, for each is a command in the log; so do commands
// that change no name. In the arithmetic of RFC 1982 it grows across the wrap
// too, for a secondary that misses fewer than 2^31 commands. Only a mesh that
// is founded anew starts again at the bottom.
type Zone struct {
	Name    string     // absolute: "cluster.", "30.10.in-addr.arpa."
	Records []miekg.RR // first the SOA, then the NS; the order depends on the inventory alone
}

// Notice is something about the zones that an administrator should know.
type Notice struct {
	Network string // the name of the network it is about
	Text    string // what it is and what to do, one line
	// Fault says that the administrator's own text (include or rev_include) has
	// a record that no name server would load. It is left out of the zone, and
	// Files refuses to write any.
	Fault bool
}

// Zones makes the zones of all networks: the forward ones in the order of the
// networks' names, then the reverse ones. Networks whose addresses are in one
// reverse zone share it, with the name server of the first.
func Zones(inv *inventory.Inventory) ([]Zone, []Notice) {
	b := &builder{serial: uint32(inv.Index), named: map[string]*draft{}}
	hosts := hostsOf(inv)
	var networks []served
	for n := range inv.Networks() {
		if s, ok := b.network(inv, n, hosts[n.ID]); ok {
			networks = append(networks, s)
		}
	}
	for _, s := range networks {
		b.forward(s)
	}
	for _, s := range networks {
		b.reverse(s)
	}
	for _, s := range networks {
		b.include(s, s.zone, s.Include, "include")
		_, base := cut(s.Prefix.Addr(), s.Prefix.Bits())
		b.include(s, base, s.RevInclude, "rev_include")
	}
	zones := make([]Zone, 0, len(b.drafts))
	for _, d := range b.drafts {
		b.check(d)
		z := Zone{Name: d.name, Records: make([]miekg.RR, len(d.records))}
		for i, r := range d.records {
			z.Records[i] = r.rr
		}
		zones = append(zones, z)
	}
	return zones, b.notices
}

// builder collects the zones.
type builder struct {
	serial  uint32
	drafts  []*draft
	named   map[string]*draft // by canonical name
	notices []Notice
}

// draft is a zone that is being made.
type draft struct {
	name    string
	network string // the first one in it
	records []record
	first   map[key]source  // who gave the first record of that name and type
	texts   map[string]bool // of all records, once there is an include
}

type record struct {
	rr   miekg.RR
	from source
}

// source is where a record comes from.
type source struct {
	network string
	what    string // "node 'node001'", "the include of network 'cluster'"
	line    int    // of an include; 0: the inventory says it
}

func (s source) String() string {
	if s.line == 0 {
		return s.what
	}
	return fmt.Sprintf("line %d of %s", s.line, s.what)
}

// key is an owner name in canonical spelling, and a type of record.
type key struct {
	name   string
	rrtype uint16
}

func keyOf(rr miekg.RR) key {
	return key{miekg.CanonicalName(rr.Header().Name), rr.Header().Rrtype}
}

// served is a network with what its zones are made from.
type served struct {
	*inventory.Network
	zone  string // absolute
	ns    host   // its name server
	hosts []host // by name; without the name server
}

// network chooses what a network's zones are made from. It gives false where
// its name is no name of a zone.
func (b *builder) network(inv *inventory.Inventory, n *inventory.Network, hosts []host) (served, bool) {
	s := served{Network: n, zone: n.Name + "."}
	if !plain(s.zone) {
		b.notice(n, "network '%s' has no zone: its name cannot be one; rename it with luna network rename", n.Name)
		return s, false
	}
	var note string
	s.ns, note = nameServer(inv, n)
	if note != "" {
		b.notice(n, "%s", note)
	}
	for _, h := range hosts {
		if !plain(h.name + "." + s.zone) {
			b.notice(n, "%s has no name in network '%s': %s.%s is no domain name", h.what, n.Name, h.name, n.Name)
			continue
		}
		s.hosts = append(s.hosts, h)
	}
	return s, true
}

// Names that are written have no character that means anything in a zone file,
// in BIND's configuration or in a path. The administrator's own records may
// have two more: "*" is a wildcard, "/" is in classless delegations (RFC 2317).
var (
	plainRE = regexp.MustCompile(`^([A-Za-z0-9_-]+\.)+$`)
	ownerRE = regexp.MustCompile(`^([A-Za-z0-9_*/-]+\.)+$`)
)

// plain tells whether an absolute name is a domain name of such characters.
func plain(name string) bool {
	_, ok := miekg.IsDomainName(name)
	return ok && plainRE.MatchString(name)
}

// open gives the zone of that name; where it is new, with the network's name
// server.
func (b *builder) open(name string, s served) (d *draft, isNew bool) {
	id := miekg.CanonicalName(name)
	if d, ok := b.named[id]; ok {
		return d, false
	}
	d = &draft{name: name, network: s.Name, first: map[key]source{}}
	b.named[id] = d
	b.drafts = append(b.drafts, d)
	ns, from := s.ns.name+"."+s.zone, source{network: s.Name, what: s.ns.what}
	b.add(d, &miekg.SOA{
		Hdr: header(name, miekg.TypeSOA), Ns: ns, Mbox: "hostmaster." + s.zone,
		Serial: b.serial, Refresh: refresh, Retry: retry, Expire: expire, Minttl: minimum,
	}, from)
	b.add(d, &miekg.NS{Hdr: header(name, miekg.TypeNS), Ns: ns}, from)
	return d, true
}

func header(name string, rrtype uint16) miekg.RR_Header {
	return miekg.RR_Header{Name: name, Rrtype: rrtype, Class: miekg.ClassINET, Ttl: ttl}
}

// add puts a record into the zone. Two sources that give addresses to one name,
// or names to one address, are told of: both stay, and it is hardly meant.
func (b *builder) add(d *draft, rr miekg.RR, from source) {
	k := keyOf(rr)
	had, taken := d.first[k]
	if !taken {
		d.first[k] = from
	} else if had.what != from.what {
		switch k.rrtype {
		case miekg.TypeA, miekg.TypeAAAA, miekg.TypePTR:
			b.notices = append(b.notices, Notice{
				Network: from.network,
				Text:    fmt.Sprintf("%s has %s records of %s and of %s: it stands for both", rr.Header().Name, miekg.TypeToString[k.rrtype], had, from),
			})
		}
	}
	d.records = append(d.records, record{rr, from})
}

func (b *builder) notice(n *inventory.Network, format string, args ...any) {
	b.notices = append(b.notices, Notice{Network: n.Name, Text: fmt.Sprintf(format, args...)})
}

// forward makes the zone of the network's names.
func (b *builder) forward(s served) {
	d, isNew := b.open(s.zone, s)
	if !isNew {
		b.notice(s.Network, "networks '%s' and '%s' share a zone, for DNS does not tell upper case from lower: rename one with luna network rename", d.network, s.Name)
	}
	b.add(d, address(s.zone, s.ns.addr), source{network: s.Name, what: s.ns.what})
	for _, h := range append([]host{s.ns}, s.hosts...) {
		b.add(d, address(h.name+"."+s.zone, h.addr), source{network: s.Name, what: h.what})
	}
}

// address makes the A or AAAA record.
func address(name string, a netip.Addr) miekg.RR {
	if a.Is4() {
		return &miekg.A{Hdr: header(name, miekg.TypeA), A: a.AsSlice()}
	}
	return &miekg.AAAA{Hdr: header(name, miekg.TypeAAAA), AAAA: a.AsSlice()}
}

// reverse makes the zones of the network's addresses.
func (b *builder) reverse(s served) {
	_, base := cut(s.Prefix.Addr(), s.Prefix.Bits())
	b.open(base, s)
	hosts := slices.Clone(s.hosts)
	if s.Prefix.Contains(s.ns.addr) { // it may be a head's address in another network
		hosts = append(hosts, s.ns)
	}
	slices.SortStableFunc(hosts, func(x, y host) int { return x.addr.Compare(y.addr) })
	for _, h := range hosts {
		owner, zone := cut(h.addr, s.Prefix.Bits())
		in, _ := b.open(zone, s)
		b.add(in, &miekg.PTR{Hdr: header(owner, miekg.TypePTR), Ptr: h.name + "." + s.zone}, source{network: s.Name, what: h.what})
	}
}

// cut gives the name that stands for an address, and its zone: of as many whole
// octets (nibbles for IPv6) as the network's length has. A network too short for
// one has a zone for each first octet in use, for none would be the zone of all
// addresses there are.
func cut(a netip.Addr, bits int) (owner, zone string) {
	var labels []string // the most significant first
	root, each := "in-addr.arpa.", 8
	if a.Is6() {
		root, each = "ip6.arpa.", 4
	}
	for _, octet := range a.AsSlice() {
		if a.Is4() {
			labels = append(labels, strconv.Itoa(int(octet)))
		} else {
			labels = append(labels, strconv.FormatUint(uint64(octet>>4), 16), strconv.FormatUint(uint64(octet&15), 16))
		}
	}
	keep := max(1, bits/each)
	owner, zone = root, root
	for i, label := range labels {
		owner = label + "." + owner
		if i < keep {
			zone = owner
		}
	}
	return owner, zone
}
