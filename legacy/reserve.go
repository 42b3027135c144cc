package legacy

import (
	"encoding/binary"
	"fmt"
	"math/big"
	"net/netip"
	"slices"
	"strings"

	"github.com/clustervision/luna/inventory"
)

// mostReserved is how many reservations of one network are taken over. 1.2 did
// not list them: they are what is neither free nor anybody's, and so is what it
// lost. A hole of thousands is a loss, not a reservation.
const mostReserved = 1000

// span is a run of addresses, both ends included.
type span struct{ first, last netip.Addr }

func (s span) String() string {
	if s.first == s.last {
		return s.first.String()
	}
	return s.first.String() + "-" + s.last.String()
}

// reservations computes what was reserved in each network.
func (c *converter) reservations() {
	unfree := map[*network][]span{}
	for _, n := range c.all {
		unfree[n.in] = append(unfree[n.in], c.unfree(n)...)
	}
	for _, n := range c.all {
		if n.in != n {
			continue
		}
		doc := c.doc.Networks[n.name]
		doc.Reserved = inventory.Given(c.spared(n, c.listed(n, c.unowned(n, union(unfree[n])))))
		c.doc.Networks[n.name] = doc
	}
}

// union puts runs in order and joins those that overlap.
func union(spans []span) []span {
	slices.SortFunc(spans, func(a, b span) int { return a.first.Compare(b.first) })
	var joined []span
	for _, s := range spans {
		if i := len(joined) - 1; i >= 0 && !joined[i].last.Less(s.first) {
			if joined[i].last.Less(s.last) {
				joined[i].last = s.last
			}
			continue
		}
		joined = append(joined, s)
	}
	return joined
}

// unfree gives what is not in the network's list of free offsets.
func (c *converter) unfree(n *network) []span {
	first, last := inventory.Hosts(n.prefix)
	if n.old.FreeList == nil {
		c.find("network", n.old.Name.Value, Warning, "it has no list of free addresses, so reservations are not known")
		return nil
	}
	gaps := []span{{first, last}}
	bad := false
	for _, free := range n.old.FreeList {
		s, ok := n.span(free)
		bad = bad || !ok
		if ok {
			gaps = subtract(gaps, s)
		}
	}
	if bad {
		c.find("network", n.old.Name.Value, Warning, "its list of free addresses is damaged: see that the reservations are right")
	}
	return gaps
}

// span gives a run of offsets as addresses, cut to the network.
func (n *network) span(free Range) (span, bool) {
	if free.Start.Int == nil || free.End.Int == nil || free.Start.Int.Cmp(free.End.Int) > 0 || free.Start.Int.Sign() < 0 {
		return span{}, false
	}
	bits := n.prefix.Addr().BitLen()
	first, last := inventory.Hosts(n.prefix)
	start, ok := addrOf(new(big.Int).Add(n.base, free.Start.Int), bits)
	if !ok || last.Less(start) {
		return span{}, false
	}
	end, ok := addrOf(new(big.Int).Add(n.base, free.End.Int), bits)
	if !ok || last.Less(end) {
		end = last // 1.2 let the list end behind a network that was made smaller
	}
	if end.Less(first) {
		return span{}, false
	}
	return span{start, end}, true
}

// subtract takes a run out of runs.
func subtract(from []span, s span) []span {
	var rest []span
	for _, f := range from {
		if s.last.Less(f.first) || f.last.Less(s.first) {
			rest = append(rest, f)
			continue
		}
		if f.first.Less(s.first) {
			rest = append(rest, span{f.first, s.first.Prev()})
		}
		if s.last.Less(f.last) {
			rest = append(rest, span{s.last.Next(), f.last})
		}
	}
	return rest
}

// unowned takes what somebody has out of runs: the addresses of objects, the
// DHCP range, the frontend and the heads of 1.2.
func (c *converter) unowned(n *network, spans []span) []span {
	if !n.pool.IsZero() {
		spans = subtract(spans, span{n.pool.Start, n.pool.End})
	}
	taken := append([]netip.Addr{c.frontend}, c.heads...)
	if ips := c.doc.Cluster.ClusterIPs.Value; ips != nil {
		for _, ip := range strings.Split(*ips, ",") {
			a, _ := netip.ParseAddr(strings.TrimSpace(ip))
			taken = append(taken, a)
		}
	}
	for a := range c.owners {
		taken = append(taken, a)
	}
	slices.SortFunc(taken, netip.Addr.Compare)
	for _, a := range taken {
		if n.prefix.Contains(a) {
			spans = subtract(spans, span{a, a})
		}
	}
	return spans
}

// listed gives the addresses of the runs, and says what they are.
func (c *converter) listed(n *network, spans []span) []netip.Addr {
	list := []netip.Addr{}
	var shown []string
	for _, s := range spans {
		if len(shown) < 10 {
			shown = append(shown, s.String())
		} else if len(shown) == 10 {
			shown = append(shown, "...")
		}
		for a := s.first; ; a = a.Next() {
			list = append(list, a)
			if a == s.last || len(list) > mostReserved {
				break
			}
		}
	}
	title, text := n.old.Name.Value, strings.Join(shown, ", ")
	switch {
	case len(list) > mostReserved:
		c.find("network", title, Dropped, "more than %d addresses are neither free nor anybody's (%s): they are free here. Reserve what must be with `luna network change %s --reserve IP`", mostReserved, text, n.name)
		return []netip.Addr{}
	case len(list) > 0:
		c.find("network", title, Warning, "%s neither free nor anybody's, so reserved (%s): give back what 1.2 only lost with `luna network change %s --release IP`", are(len(list)), text, n.name)
	}
	return list
}

// spared gives the reservations up where they would leave too few addresses for
// those who need a free one: the import would be refused whole.
func (c *converter) spared(n *network, reserved []netip.Addr) []netip.Addr {
	hosts := n.prefix.Addr().BitLen() - n.prefix.Bits()
	if n.needs == 0 || hosts > 30 {
		return reserved
	}
	free := 1<<hosts - 2
	count := func(a netip.Addr) {
		if n.prefix.Contains(a) && !n.pool.Contains(a) {
			free--
		}
	}
	for a := range c.owners {
		count(a)
	}
	for _, a := range append([]netip.Addr{c.frontend}, c.heads...) {
		if _, owned := c.owners[a]; !owned {
			count(a)
		}
	}
	if !n.pool.IsZero() {
		free -= size(n.pool)
	}
	title := n.old.Name.Value
	if free < n.needs {
		c.find("network", title, Warning, "%d need a free address in it and %d are left: the import will be refused. Make room in the 1.2 database first", n.needs, max(free, 0))
	}
	if free-len(reserved) < n.needs && len(reserved) > 0 {
		c.find("network", title, Dropped, "its %d reservations are given up, for %d need a free address", len(reserved), n.needs)
		return []netip.Addr{}
	}
	return reserved
}

// size counts the addresses of an IPv4 range.
func size(r inventory.AddrRange) int {
	first, last := r.Start.As4(), r.End.As4()
	return int(binary.BigEndian.Uint32(last[:])-binary.BigEndian.Uint32(first[:])) + 1
}

func are(n int) string {
	if n == 1 {
		return "1 address is"
	}
	return fmt.Sprintf("%d addresses are", n)
}
