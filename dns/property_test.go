package dns

import (
	"errors"
	"fmt"
	"net/netip"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	miekg "github.com/miekg/dns"
	"pgregory.net/rapid"

	"github.com/clustervision/luna/inventory"
)

// anyInventory draws networks that do not overlap, with everything that can
// have an address in them, and each address's owner.
func anyInventory(t *rapid.T) *inventory.Inventory {
	tx := inventory.Empty().Begin()
	id := inventory.ID(100)
	next := func() inventory.ID { id++; return id }
	own := func(network *inventory.Network, kind inventory.OwnerType, of, iface inventory.ID, a netip.Addr) bool {
		first, last := inventory.Hosts(network.Prefix)
		if _, taken := tx.Owner(a); taken || a.Less(first) || last.Less(a) {
			return false
		}
		tx.Put(&inventory.Owner{Addr: a, Network: network.ID, Type: kind, ID: of, Iface: iface})
		return true
	}
	networks := anyNetworks(t, tx, next, own)
	draw := func(n *inventory.Network) netip.Addr { return anyAddress(t, n.Prefix) }
	host := rapid.StringMatching(`[a-cA-C][a-b0-1_-]{0,2}(\.[a-b]1?)?`)

	for range rapid.IntRange(0, 3).Draw(t, "groups") {
		g := &inventory.Group{ID: next()}
		g.Name = fmt.Sprint("group", g.ID)
		for i, name := range rapid.SliceOfNDistinct(rapid.SampledFrom([]string{"BOOTIF", "BMC", "eth0", "Eth0", "ib0.8001"}), 1, 4, rapid.ID).Draw(t, "interfaces") {
			iface := inventory.Interface{ID: inventory.ID(i + 1), Name: name}
			n := rapid.SampledFrom(networks).Draw(t, "network")
			if n.Prefix.Addr().Is4() {
				iface.Network4 = n.ID
			} else {
				iface.Network6 = n.ID
			}
			g.Interfaces = append(g.Interfaces, iface)
		}
		tx.Put(g)
		for _, name := range rapid.SliceOfNDistinct(host, 0, 4, rapid.ID).Draw(t, "nodes") {
			if _, exists := tx.Node(name); exists {
				continue
			}
			node := &inventory.Node{ID: next(), Name: name, Group: g.ID, Interfaces: addresses{}}
			for _, i := range g.Interfaces {
				n, _ := tx.NetworkByID(max(i.Network4, i.Network6))
				a := draw(n)
				if !own(n, inventory.OwnerNode, node.ID, i.ID, a) {
					continue
				}
				if a.Is4() {
					node.Interfaces[i.ID] = inventory.Addresses{V4: a}
				} else {
					node.Interfaces[i.ID] = inventory.Addresses{V6: a}
				}
			}
			tx.Put(node)
		}
	}
	for _, name := range rapid.SliceOfNDistinct(host, 0, 4, rapid.ID).Draw(t, "devices") {
		n := rapid.SampledFrom(networks).Draw(t, "network")
		s, d := next(), next()
		if a := draw(n); own(n, inventory.OwnerSwitch, s, 0, a) {
			tx.Put(&inventory.Switch{ID: s, Name: name, Network: n.ID, Addr: a})
		}
		dev := &inventory.OtherDev{ID: d, Name: name, Connected: map[inventory.ID]netip.Addr{}}
		for _, n := range networks {
			if a := draw(n); rapid.Bool().Draw(t, "connected") && own(n, inventory.OwnerOtherDev, d, 0, a) {
				dev.Connected[n.ID] = a
			}
		}
		tx.Put(dev)
	}
	return tx.Commit(uint64(id))
}

func anyNetworks(t *rapid.T, tx *inventory.Tx, next func() inventory.ID, own func(*inventory.Network, inventory.OwnerType, inventory.ID, inventory.ID, netip.Addr) bool) []*inventory.Network {
	var networks []*inventory.Network
	for i := range rapid.IntRange(1, 5).Draw(t, "networks") {
		base, top := ip("10.0.0.0"), 30
		if rapid.Bool().Draw(t, "v6") {
			base, top = ip("2001:db8:1:2:3:4:5:0"), 126
		}
		bits := rapid.IntRange(1, top).Draw(t, "bits")
		p := netip.PrefixFrom(anyAddress(t, netip.PrefixFrom(base, rapid.IntRange(1, top).Draw(t, "near"))), bits).Masked()
		overlaps := false
		for _, n := range networks {
			overlaps = overlaps || n.Prefix.Overlaps(p)
		}
		if overlaps {
			continue
		}
		n := &inventory.Network{ID: next(), Name: fmt.Sprintf("Net%d", i), Prefix: p, NSHostname: rapid.SampledFrom([]string{"", "master", "a"}).Draw(t, "ns")}
		if rapid.Bool().Draw(t, "included") {
			n.Include, n.RevInclude = text(anyInclude(t)), text(anyInclude(t))
		}
		_, n.NSIP = inventory.Hosts(p)
		own(n, inventory.OwnerNetwork, n.ID, 0, n.NSIP)
		tx.Put(n)
		networks = append(networks, n)
	}
	return networks
}

func anyAddress(t *rapid.T, p netip.Prefix) netip.Addr {
	b, host := p.Addr().AsSlice(), rapid.Uint64().Draw(t, "host")
	for i := p.Bits(); i < len(b)*8; i++ {
		bit := byte(1) << (7 - i%8)
		b[i/8] &^= bit
		if host>>(i%64)&1 == 1 {
			b[i/8] |= bit
		}
	}
	a, _ := netip.AddrFromSlice(b)
	return a
}

// lines are what an administrator may write, right and wrong.
var lines = []string{
	"a A 10.0.0.1", "@ AAAA fd00::1", "a AFSDB 1 b.example.", "www CNAME b", "a HINFO \"PC\" Linux", "a LOC 52 22 23.000 N 4 53 32.000 E -2.00m 0.00m 10000m 10m",
	"\tMX 10 mail.x.", "d NS ns.d\nns.d A 10.0.0.1", "1 PTR b", "a RP me.x. txt.x.", "_x._tcp SRV 0 5 389 out.side.", "a SSHFP 1 1 0123456789abcdef0123456789abcdef01234567",
	"a TXT \"hello; \\\"world\\\" \\200\" b", "a URI 10 1 \"ftp://x/y\"", "a 1h IN ( TXT \n \"x\" )", "*.w 60 IN A 10.0.0.1", "0/25 NS out.side.",
	"$GENERATE 1-3/2 g${0,3,d} A 10.0.0.$", "$ORIGIN s", "$ORIGIN other.", "$TTL 1d", "$INCLUDE /etc/passwd", "; a comment", "",
	"a CNAME b\na A 10.0.0.1", "@ CNAME b", "a CNAME b\na CNAME c", "a NS ns.b", "* NS out.side.", "out.side. A 10.0.0.1", "a CH A 10.0.0.1", "a 4294967295 A 10.0.0.1",
	"a A", "a A 10.0.0.256", "a AAAA ::ffff:10.0.0.1", "a MX a", "a MX 10 b\\300.x.", "a SSHFP 1 1 00", "a TLSA 3 1 1\n 00", "a DNAME b", "a SOA a b 1 2 3 4 5", "a TYPE65280 \\# 2 abcd",
	"a TXT \"", "a TXT " + strings.Repeat("y", 300), "a RRSIG", "a OPT", "a ( A 10.0.0.3", "$b A 10.0.0.1", "\\$a A 10.0.0.1", "a\\.b A 10.0.0.1", "a..b A 10.0.0.1", strings.Repeat("l", 64) + " A 10.0.0.1",
}

// anyInclude draws some of the lines, with something put into them.
func anyInclude(t *rapid.T) string {
	text := strings.Join(rapid.SliceOfN(rapid.SampledFrom(lines), 0, 3).Draw(t, "lines"), "\n")
	at := rapid.IntRange(0, len(text)).Draw(t, "at")
	return text[:at] + rapid.SampledFrom([]string{"", "", "", "\"", "\\", "(", ")", ";", "@", ".", "*", "$", "9", " ", "\n", "IN", "TXT", "\\032", "\x00", "\xff", "{", "\r"}).Draw(t, "put") + text[at:]
}

// Whatever the inventory is: BIND loads the zones, each address that a named
// object has leads to a name that leads back to it, and the text of a zone says
// what its records say.
func TestAnyInventory(t *testing.T) {
	checkconf := tool(t, "named-checkconf")
	dir := t.TempDir()
	rapid.Check(t, func(t *rapid.T) {
		inv := anyInventory(t)
		zones, notices := Zones(inv)
		for o := range inv.Owners(netip.Addr{}) {
			if !leadsBack(zones, o.Addr) {
				t.Errorf("%s of %s %d has no name that leads back to it", o.Addr, o.Type, o.ID)
			}
		}
		for _, z := range zones {
			sameText(t, z)
		}
		_, _, err := Files(inv, "/etc/z", "/var/named")
		faults := 0
		for _, n := range notices {
			if n.Fault {
				faults++
			}
		}
		if (faults > 0) != errors.Is(err, inventory.ErrInvalid) {
			t.Errorf("%d faults, and Files says: %v", faults, err)
		}
		accepted(t, checkconf, dir, zones, notices)
	})
}

// leadsBack asks for the names of the address, and for their addresses.
func leadsBack(zones []Zone, a netip.Addr) bool {
	owner, _ := cut(a, 8)
	for _, ptr := range ask(zones, owner, miekg.TypePTR) {
		for _, rr := range ask(zones, ptr.(*miekg.PTR).Ptr, miekg.TypeA) {
			if got, _ := netip.AddrFromSlice(rr.(*miekg.A).A.To4()); got == a {
				return true
			}
		}
		for _, rr := range ask(zones, ptr.(*miekg.PTR).Ptr, miekg.TypeAAAA) {
			if got, _ := netip.AddrFromSlice(rr.(*miekg.AAAA).AAAA); got == a {
				return true
			}
		}
	}
	return false
}

// ask answers as a name server does: from the zone nearest to the name.
func ask(zones []Zone, name string, rrtype uint16) (answer []miekg.RR) {
	best := -1
	for i, z := range zones {
		if miekg.IsSubDomain(z.Name, name) && (best < 0 || len(z.Name) > len(zones[best].Name)) {
			best = i
		}
	}
	if best < 0 {
		return nil
	}
	for _, rr := range zones[best].Records {
		if rr.Header().Rrtype == rrtype && strings.EqualFold(rr.Header().Name, name) {
			answer = append(answer, rr)
		}
	}
	return answer
}

func sameText(t *rapid.T, z Zone) {
	p := miekg.NewZoneParser(strings.NewReader(z.Master()), "", "")
	for _, want := range z.Records {
		got, ok := p.Next()
		if !ok {
			t.Fatalf("%s: %v\n%s", z.Name, p.Err(), z.Master())
		}
		if got.String() != want.String() {
			t.Errorf("%s: %s is written as %s", z.Name, want, got)
		}
	}
	if more, ok := p.Next(); ok || p.Err() != nil {
		t.Errorf("%s: %v follows, %v", z.Name, more, p.Err())
	}
}

// accepted lets BIND load the zones, without what was told of as a fault.
func accepted(t *rapid.T, checkconf, dir string, zones []Zone, notices []Notice) {
	include := filepath.Join(dir, "include")
	if err := write(bindFiles(zones, include, dir), dir, account{}); err != nil {
		t.Fatal(err)
	}
	out, err := exec.Command(checkconf, "-z", include).CombinedOutput()
	if err != nil || strings.Count(string(out), ": loaded serial ") != len(zones) || strings.Contains(string(out), "ignoring") {
		t.Errorf("BIND does not load this: %v\n%s\n%v\n%v", err, out, zones, notices)
	}
}
