package dns

import (
	"flag"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	miekg "github.com/miekg/dns"

	"github.com/clustervision/luna/inventory"
)

var update = flag.Bool("update", false, "write the golden files under testdata anew")

// golden compares got with testdata/name.
func golden(t *testing.T, name string, got []byte) {
	t.Helper()
	path := filepath.Join("testdata", name)
	if *update {
		if err := os.WriteFile(path, got, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatalf("%v: run 'go test -update' and look at what it wrote", err)
	}
	if diff := cmp.Diff(string(want), string(got)); diff != "" {
		t.Errorf("%s differs (-want +got):\n%s", name, diff)
	}
}

var (
	ip     = netip.MustParseAddr
	prefix = netip.MustParsePrefix
)

func text(s string) *string { return &s }

// state makes an inventory of the objects, at index 7.
func state(objects ...any) *inventory.Inventory {
	tx := inventory.Empty().Begin()
	for _, o := range objects {
		tx.Put(o)
	}
	return tx.Commit(7)
}

type addresses = map[inventory.ID]inventory.Addresses

// site is check 59 and 60 of the specification: nodes on two networks, devices,
// and records of the administrator's own.
func site() *inventory.Inventory {
	objects := []any{
		&inventory.Network{
			ID: 10, Name: "cluster", Prefix: prefix("10.30.0.0/16"), NSHostname: "master", NSIP: ip("10.30.255.254"),
			Include:    text("\tMX 10 mail ; the site's\nmail A 10.30.200.1\nwww 300 IN CNAME node001\n_ldap._tcp SRV 0 5 389 master\nnote TXT \"one; two\"\n$GENERATE 1-2 gpu$ A 10.30.201.$\n"),
			RevInclude: text("1.200 PTR mail.cluster."),
		},
		&inventory.Network{ID: 11, Name: "ipmi", Prefix: prefix("10.31.0.0/24"), NSHostname: "master", NSIP: ip("10.31.0.254")},
		&inventory.Group{ID: 40, Name: "compute", Domain: 10, Interfaces: []inventory.Interface{
			{ID: 1, Name: inventory.BootIF, Network4: 10}, {ID: 2, Name: inventory.BMC, Network4: 11},
		}},
		&inventory.Switch{ID: 60, Name: "switch01", Network: 11, Addr: ip("10.31.0.101")},
		&inventory.OtherDev{ID: 70, Name: "pdu_1", Connected: map[inventory.ID]netip.Addr{10: ip("10.30.100.1"), 11: ip("10.31.0.102")}},
	}
	for i := range 3 {
		objects = append(objects, &inventory.Node{
			ID: inventory.ID(51 + i), Name: fmt.Sprintf("node%03d", i+1), Group: 40,
			Interfaces: addresses{1: {V4: netip.AddrFrom4([4]byte{10, 30, 0, byte(1 + i)})}, 2: {V4: netip.AddrFrom4([4]byte{10, 31, 0, byte(1 + i)})}},
		})
	}
	return state(objects...)
}

// sixteen is check 62: a /16 with ten nodes.
func sixteen() *inventory.Inventory { return nodes(10) }

// nodes has n nodes in two networks.
func nodes(n int) *inventory.Inventory {
	objects := []any{
		&inventory.Network{ID: 10, Name: "cluster", Prefix: prefix("10.50.0.0/16"), NSHostname: "master", NSIP: ip("10.50.255.254")},
		&inventory.Network{ID: 11, Name: "ipmi", Prefix: prefix("10.51.0.0/16"), NSHostname: "master", NSIP: ip("10.51.255.254")},
		&inventory.Group{ID: 40, Name: "compute", Interfaces: []inventory.Interface{
			{ID: 1, Name: inventory.BootIF, Network4: 10}, {ID: 2, Name: inventory.BMC, Network4: 11},
		}},
	}
	a, bmc := ip("10.50.0.1"), ip("10.51.0.1")
	for i := range n {
		objects = append(objects, &inventory.Node{
			ID: inventory.ID(51 + i), Name: fmt.Sprintf("node%03d", i+1), Group: 40, Interfaces: addresses{1: {V4: a}, 2: {V4: bmc}},
		})
		a, bmc = a.Next(), bmc.Next()
	}
	return state(objects...)
}

// interfaces is check 61: several interfaces of a group in one network, once
// with names that differ in more than their case, and once not.
func interfaces() *inventory.Inventory {
	return state(
		&inventory.Network{ID: 10, Name: "cluster", Prefix: prefix("10.30.0.0/24"), NSHostname: "master", NSIP: ip("10.30.0.254")},
		&inventory.Network{ID: 11, Name: "data", Prefix: prefix("10.31.0.0/24"), NSHostname: "master", NSIP: ip("10.31.0.254")},
		&inventory.Group{ID: 40, Name: "fast", Interfaces: []inventory.Interface{
			{ID: 1, Name: inventory.BMC, Network4: 10}, {ID: 2, Name: inventory.BootIF, Network4: 10}, {ID: 3, Name: "ib0.8001", Network4: 11},
		}},
		&inventory.Group{ID: 41, Name: "odd", Interfaces: []inventory.Interface{
			{ID: 4, Name: inventory.BMC, Network4: 10}, {ID: 5, Name: "Eth0", Network4: 10}, {ID: 6, Name: "eth0", Network4: 10},
		}},
		&inventory.Node{ID: 51, Name: "fast1", Group: 40, Interfaces: addresses{1: {V4: ip("10.30.0.1")}, 2: {V4: ip("10.30.0.2")}, 3: {V4: ip("10.31.0.1")}}},
		&inventory.Node{ID: 52, Name: "odd1", Group: 41, Interfaces: addresses{4: {V4: ip("10.30.0.3")}, 5: {V4: ip("10.30.0.4")}, 6: {V4: ip("10.30.0.5")}}},
	)
}

// six has IPv6: addresses that print without "::" (bug B12), lengths that are
// no whole nibbles, and a node with both families.
func six() *inventory.Inventory {
	return state(
		&inventory.Network{ID: 10, Name: "cluster", Prefix: prefix("10.30.0.0/24"), NSHostname: "master", NSIP: ip("10.30.0.254")},
		&inventory.Network{ID: 11, Name: "six", Prefix: prefix("2001:db8:5::/64"), NSHostname: "master", NSIP: ip("2001:db8:5:0:ffff:ffff:ffff:fffe")},
		&inventory.Network{ID: 12, Name: "small", Prefix: prefix("2001:db8:1:2:3:4:5:0/112"), NSHostname: "master", NSIP: ip("2001:db8:1:2:3:4:5:fffe"), RevInclude: text("7.0.0 PTR extra.small.\n")},
		&inventory.Network{ID: 13, Name: "tiny", Prefix: prefix("2001:db8:1:2:3:4:6:4/126"), NSHostname: "master", NSIP: ip("2001:db8:1:2:3:4:6:6")},
		&inventory.Group{ID: 40, Name: "compute", Interfaces: []inventory.Interface{{ID: 1, Name: inventory.BootIF, Network4: 10, Network6: 11}, {ID: 2, Name: "eth1", Network6: 12}}},
		&inventory.Node{ID: 51, Name: "node001", Group: 40, Interfaces: addresses{1: {V4: ip("10.30.0.1"), V6: ip("2001:db8:5::1")}, 2: {V6: ip("2001:db8:1:2:3:4:5:1")}}},
	)
}

// shared has networks in one reverse zone: none is as long as a whole octet.
func shared() *inventory.Inventory {
	return state(
		&inventory.Network{ID: 10, Name: "b", Prefix: prefix("10.50.32.0/19"), NSHostname: "nsb", NSIP: ip("10.50.63.254"), RevInclude: text("9.40 PTR x.b.\n")},
		&inventory.Network{ID: 11, Name: "a", Prefix: prefix("10.50.0.0/19"), NSHostname: "nsa", NSIP: ip("10.50.31.254"), RevInclude: text("9.9 PTR x.a.\n1.32 PTR dev.b.\n2.32 PTR other.b.\n")},
		&inventory.Network{ID: 12, Name: "c", Prefix: prefix("10.50.64.0/24"), NSHostname: "nsc", NSIP: ip("10.50.64.254")},
		&inventory.OtherDev{ID: 70, Name: "dev", Connected: map[inventory.ID]netip.Addr{10: ip("10.50.32.1")}},
		&inventory.OtherDev{ID: 71, Name: "dev2", Connected: map[inventory.ID]netip.Addr{10: ip("10.50.32.2")}},
	)
}

// short has networks shorter than one octet or nibble (bug B32).
func short() *inventory.Inventory {
	return state(
		&inventory.Network{ID: 10, Name: "wide", Prefix: prefix("10.0.0.0/7"), NSHostname: "master", NSIP: ip("11.255.255.254"), RevInclude: text("9.9.9 PTR x.wide.\n")},
		&inventory.Network{ID: 11, Name: "wide6", Prefix: prefix("2000::/3"), NSHostname: "master", NSIP: ip("3fff:ffff:ffff:ffff:ffff:ffff:ffff:fffe")},
		&inventory.OtherDev{ID: 70, Name: "dev", Connected: map[inventory.ID]netip.Addr{10: ip("10.0.0.1"), 11: ip("2000::1")}},
	)
}

// odd has what an administrator is told of.
func odd() *inventory.Inventory {
	return state(
		&inventory.Head{ID: 31, Name: "h1.site", Address: ip("10.30.0.254"), Addresses: []netip.Prefix{prefix("10.30.0.254/24")}},
		&inventory.Network{ID: 10, Name: "cluster", Prefix: prefix("10.30.0.0/24"), NSIP: ip("10.30.0.254")},                  // the name server is a head
		&inventory.Network{ID: 11, Name: "ipmi", Prefix: prefix("10.31.0.0/24"), NSHostname: "a..b", NSIP: ip("10.31.0.254")}, // no name
		&inventory.Network{ID: 12, Name: "old", Prefix: prefix("10.32.0.0/24"), NSHostname: "master"},                         // no address
		&inventory.Network{ID: 13, Name: "far", Prefix: prefix("10.33.0.0/24"), NSHostname: "master", NSIP: ip("10.30.0.254")},
		&inventory.Network{ID: 14, Name: "Cluster", Prefix: prefix("10.34.0.0/24"), NSHostname: "master", NSIP: ip("10.34.0.254")},
		&inventory.Network{ID: 15, Name: "dot.", Prefix: prefix("10.35.0.0/24"), NSHostname: "master", NSIP: ip("10.35.0.254")},
		&inventory.Network{ID: 16, Name: "rack1.cluster", Prefix: prefix("10.36.0.0/24"), NSHostname: "master", NSIP: ip("10.36.0.254")},
		&inventory.OtherDev{ID: 70, Name: "x..y", Connected: map[inventory.ID]netip.Addr{10: ip("10.30.0.1")}},
		&inventory.OtherDev{ID: 71, Name: "twin", Connected: map[inventory.ID]netip.Addr{10: ip("10.30.0.2")}},
		&inventory.Switch{ID: 60, Name: "Twin", Network: 10, Addr: ip("10.30.0.3")},
		&inventory.Switch{ID: 61, Name: "sw.rack1", Network: 10, Addr: ip("10.30.0.4")},
	)
}

func TestGolden(t *testing.T) {
	for name, inv := range map[string]*inventory.Inventory{
		"site": site(), "sixteen": sixteen(), "interfaces": interfaces(), "six": six(), "shared": shared(), "short": short(), "odd": odd(),
	} {
		t.Run(name, func(t *testing.T) {
			files, notices, err := Files(inv, "/etc/named.luna.zones", "/var/named")
			if err != nil {
				t.Fatal(err)
			}
			var got strings.Builder
			for _, n := range notices {
				fmt.Fprintf(&got, "notice: %s: %s\n", n.Network, n.Text)
			}
			for _, f := range files {
				fmt.Fprintf(&got, "-- %s --\n%s", f.Path, f.Text)
			}
			golden(t, name+".txt", []byte(got.String()))
			loads(t, inv)
		})
	}
}

// The serial follows the index and wraps with it.
func TestSerial(t *testing.T) {
	for _, test := range []struct {
		index uint64
		want  uint32
	}{{1, 1}, {7_000_000, 7_000_000}, {1<<32 + 5, 5}} {
		tx := inventory.Empty().Begin()
		tx.Put(&inventory.Network{ID: 10, Name: "cluster", Prefix: prefix("10.30.0.0/16"), NSHostname: "master", NSIP: ip("10.30.255.254")})
		zones, _ := Zones(tx.Commit(test.index))
		for _, z := range zones {
			if soa := z.Records[0].(*miekg.SOA); soa.Serial != test.want {
				t.Errorf("index %d, zone %s: serial %d, want %d", test.index, z.Name, soa.Serial, test.want)
			}
		}
	}
}
