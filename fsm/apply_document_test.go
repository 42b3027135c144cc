package fsm_test

import (
	"fmt"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/clustervision/luna/fsm"
	"github.com/clustervision/luna/inventory"
)

func addr(s string) netip.Addr { return netip.MustParseAddr(s) }

func prefix(s string) netip.Prefix { return netip.MustParsePrefix(s) }

func addrRange(first, last string) inventory.AddrRange {
	return inventory.AddrRange{Start: addr(first), End: addr(last)}
}

func given[T any](v T) inventory.Maybe[T] { return inventory.Given(v) }

// sound fails the test where the state is not consistent in itself.
func (s *site) sound(t *testing.T) {
	t.Helper()
	if err := fsm.Check(s.View()); err != nil {
		t.Errorf("Check: %v", err)
	}
	if err := consistent(s.View()); err != nil {
		t.Errorf("the state: %v", err)
	}
}

// apply applies a document, which must be accepted.
func (s *site) apply(t *testing.T, d inventory.Document, prune bool) inventory.Result {
	t.Helper()
	d.Luna = inventory.DocumentVersion
	r := s.do(inventory.ApplyDocument{Document: d, Prune: prune})
	if r.Error != nil {
		t.Fatalf("apply: %v", r.Error)
	}
	s.sound(t)
	return r
}

// changed tells what an entry of the log changed.
func (s *site) changed(entry uint64) string {
	var b strings.Builder
	e, _ := s.View().Entry(entry)
	for _, c := range e.Changes {
		fmt.Fprintf(&b, "\n%s %s:\n\t%s\n\t%s", c.Object, c.Name, c.Before, c.After)
	}
	return b.String()
}

func documentDiff(was, is inventory.Document) string { return cmp.Diff(was, is, cmpAddr, cmpPrefix) }

var (
	cmpAddr   = cmp.Comparer(func(a, b netip.Addr) bool { return a == b })
	cmpPrefix = cmp.Comparer(func(a, b netip.Prefix) bool { return a == b })
)

// full is a site with every kind of object in it.
func full(t *testing.T) *site {
	t.Helper()
	s := usual(t)
	text := func(s string) *string { return &s }
	s.must(t,
		inventory.AddNetwork{Name: "six", Prefix: prefix("fd00:1::/64")},
		inventory.AddNetwork{Name: "away", Prefix: prefix("10.40.0.0/24"), NSHostname: "ns"},
		inventory.SetRange{Network: "cluster", Range: addrRange("10.30.128.0", "10.30.129.254")},
		inventory.AddBMCSetup{Name: "base"},
		inventory.ChangeGroup{Name: "compute", BMCSetup: text("base"), Interfaces: []inventory.InterfaceChange{
			{Interface: "BOOTIF", Action: inventory.InterfaceSetNet, Network: "six"},
			{Interface: "BMC", Action: inventory.InterfaceSetNet, Network: "ipmi", Implicit: true},
			{Interface: "eth1", Action: inventory.InterfaceAdd},
			{Interface: "eth1", Action: inventory.InterfaceParams, Params: "MTU=9000"},
		}},
		inventory.AddSwitches{Names: []string{"sw1", "sw2"}, Network: "ipmi", Addr: addr("10.31.0.100"), Increment: true},
		inventory.AddOtherDevs{Names: []string{"pdu"}, Network: "ipmi", Addr: addr("10.31.0.200")},
		inventory.ChangeOtherDevs{Names: []string{"pdu"}, Network: "away", Addr: addr("10.40.0.7")},
		inventory.AddNodes{Group: "compute", Names: []string{"node001", "node002"}, Tags: []string{"new"}},
		inventory.ChangeNodes{Names: []string{"node001"}, Switch: text("sw1"), Port: text("ge1"), MAC: ptr(inventory.MAC("52:54:00:00:00:01"))},
		inventory.ChangeNetwork{Name: "cluster", Reserve: []netip.Addr{addr("10.30.7.7")}, Comment: text("ours")},
		inventory.ChangeCluster{Path: text("/opt/luna"), Comment: text("the whole site")},
	)
	s.sound(t)
	return s
}

func ptr[T any](v T) *T { return &v }

func TestTheDocumentOfAStateChangesNothing(t *testing.T) {
	for name, begin := range map[string]func(*testing.T) *site{
		"bare":  func(t *testing.T) *site { return begun(t) },
		"usual": usual,
		"full":  full,
		"no interfaces": func(t *testing.T) *site {
			s := usual(t)
			s.must(t, inventory.ChangeGroup{Name: "compute", Interfaces: []inventory.InterfaceChange{{Interface: "BOOTIF", Action: inventory.InterfaceDelete}}})
			return s
		},
		"device at the front end": func(t *testing.T) *site {
			s := usual(t)
			s.must(t, inventory.ChangeCluster{FrontendAddress: ptr(addr("10.31.0.9"))}, inventory.AddOtherDevs{Names: []string{"balancer"}, Network: "ipmi", Addr: addr("10.31.0.9")})
			return s
		},
	} {
		t.Run(name, func(t *testing.T) {
			s := begin(t)
			for _, prune := range []bool{false, true} {
				if r := s.apply(t, inventory.DocumentOf(s.View()), prune); r.Entry != 0 {
					t.Errorf("prune %t: it changed %s", prune, s.changed(r.Entry))
				}
			}
		})
	}
}

func TestADocumentBringsBackADeletedCluster(t *testing.T) {
	s := full(t)
	was := inventory.DocumentOf(s.View())
	c, _ := s.View().Cluster()
	s.must(t, inventory.DeleteCluster{Force: true}, inventory.SetUpCluster{Cluster: *c})
	s.apply(t, was, false)
	if diff := documentDiff(was, inventory.DocumentOf(s.View())); diff != "" {
		t.Errorf("it is another cluster:\n%s", diff)
	}
}

// TestOnlyTheEndOfADocumentCounts applies documents that could not be done
// object by object in any fixed order.
func TestOnlyTheEndOfADocumentCounts(t *testing.T) {
	for name, edit := range map[string]func(d *inventory.Document){
		"a network gets another name": func(d *inventory.Document) {
			d.Networks["lan"] = d.Networks["cluster"]
			delete(d.Networks, "cluster")
			g := d.Groups["compute"]
			g.Domain = given(ptr("lan"))
			g.Interfaces.Value["BOOTIF"] = inventory.InterfaceDoc{Network4: "lan", Network6: "six"}
			d.Groups["compute"] = g
		},
		"an osimage gets another name": func(d *inventory.Document) {
			d.OSImages["new"] = d.OSImages["compute"]
			delete(d.OSImages, "compute")
			g := d.Groups["compute"]
			g.OSImage = given("new")
			d.Groups["compute"] = g
		},
		"a group gets another name": func(d *inventory.Document) {
			d.Groups["new"] = d.Groups["compute"]
			delete(d.Groups, "compute")
			for name, n := range d.Nodes {
				n.Group = given("new")
				d.Nodes[name] = n
			}
		},
		"an interface gets another name": func(d *inventory.Document) {
			i := d.Groups["compute"].Interfaces.Value
			i["eth0"] = i["BMC"]
			delete(i, "BMC")
			for _, n := range d.Nodes {
				n.Interfaces["eth0"] = n.Interfaces["BMC"]
				delete(n.Interfaces, "BMC")
			}
		},
		"nodes change places": func(d *inventory.Document) {
			d.Nodes["node001"].Interfaces["BOOTIF"], d.Nodes["node002"].Interfaces["BOOTIF"] = d.Nodes["node002"].Interfaces["BOOTIF"], d.Nodes["node001"].Interfaces["BOOTIF"]
		},
		"a node takes over another's name": func(d *inventory.Document) {
			d.Nodes["node000"] = d.Nodes["node001"]
			delete(d.Nodes, "node001")
		},
		"networks change places": func(d *inventory.Document) {
			move := func(name, to, ns string) {
				n := d.Networks[name]
				n.Network, n.NSIP = given(prefix(to)), given(addr(ns))
				d.Networks[name] = n
			}
			move("away", "10.31.0.0/24", "10.31.0.254")
			move("ipmi", "10.40.0.0/24", "10.40.0.254")
			d.Switches["sw1"] = inventory.SwitchDoc{Network: given("ipmi"), IP: given(addr("10.40.0.100"))}
			d.Switches["sw2"] = inventory.SwitchDoc{Network: given("ipmi"), IP: given(addr("10.40.0.101"))}
			d.OtherDevs["pdu"].Connected.Value["ipmi"] = addr("10.40.0.200")
			d.OtherDevs["pdu"].Connected.Value["away"] = addr("10.31.0.7")
			d.Nodes["node001"].Interfaces["BMC"] = inventory.AddressesDoc{V4: addr("10.40.0.1")}
			d.Nodes["node002"].Interfaces["BMC"] = inventory.AddressesDoc{V4: addr("10.40.0.2")}
		},
		"a network shrinks under its name server": func(d *inventory.Document) {
			n := d.Networks["away"]
			n.Network, n.NSIP = given(prefix("10.40.0.0/28")), given(addr("10.40.0.14"))
			d.Networks["away"] = n
		},
		"osimages change paths": func(d *inventory.Document) {
			d.OSImages["other"] = inventory.OSImageDoc{Path: given("/images/compute")}
			o := d.OSImages["compute"]
			o.Path = given("/images/other")
			d.OSImages["compute"] = o
		},
		"osimages swap paths": func(d *inventory.Document) {
			for name, path := range map[string]string{"compute": "/images/second", "second": "/images/compute"} {
				o := d.OSImages[name]
				o.Path = given(path)
				d.OSImages[name] = o
			}
		},
		"the name server takes a node's address": func(d *inventory.Document) {
			n := d.Networks["ipmi"]
			n.NSIP = given(addr("10.31.0.1"))
			d.Networks["ipmi"] = n
			d.Nodes["node001"].Interfaces["BMC"] = inventory.AddressesDoc{V4: addr("10.31.0.254")}
		},
		"a reservation of what an interface leaves": func(d *inventory.Document) {
			delete(d.Groups["compute"].Interfaces.Value, "BMC")
			for _, n := range d.Nodes {
				delete(n.Interfaces, "BMC")
			}
			n := d.Networks["ipmi"]
			n.Reserved = given([]netip.Addr{addr("10.31.0.1")})
			d.Networks["ipmi"] = n
		},
		"the front end takes a node's address": func(d *inventory.Document) {
			d.Cluster.FrontendAddress = given(addr("10.30.0.1"))
			d.Nodes["node001"].Interfaces["BOOTIF"] = inventory.AddressesDoc{V4: addr("10.30.0.9")}
		},
		"a range where nodes were": func(d *inventory.Document) {
			n := d.Networks["cluster"]
			n.DHCPRange = given(ptr(addrRange("10.30.0.1", "10.30.0.9")))
			d.Networks["cluster"] = n
			d.Nodes["node001"].Interfaces["BOOTIF"] = inventory.AddressesDoc{V4: addr("10.30.128.1"), V6: addr("fd00:1::1")}
			d.Nodes["node002"].Interfaces["BOOTIF"] = inventory.AddressesDoc{V4: addr("10.30.128.2"), V6: addr("fd00:1::2")}
		},
		"a switch makes place": func(d *inventory.Document) {
			n := d.Networks["ipmi"]
			n.NSIP = given(addr("10.31.0.100"))
			d.Networks["ipmi"] = n
			d.Switches["sw1"] = inventory.SwitchDoc{Network: given("away")}
		},
	} {
		t.Run(name, func(t *testing.T) {
			s := full(t)
			s.must(t, inventory.AddOSImage{Name: "second", Path: "/images/second"})
			want := inventory.DocumentOf(s.View())
			edit(&want)
			s.apply(t, want, true)
			if name == "an osimage gets another name" {
				if _, ok := s.View().OSImage("compute"); ok {
					t.Error("the old osimage is still there")
				}
			}
			r := s.apply(t, inventory.DocumentOf(s.View()), true)
			if r.Entry != 0 {
				t.Error("its own document changes it again")
			}
			if again := s.apply(t, want, true); again.Entry != 0 {
				t.Errorf("applied again, it changes %s", s.changed(again.Entry))
			}
		})
	}
}

func TestANodeThatChangesGroupMakesPlace(t *testing.T) {
	s := usual(t)
	s.must(t,
		inventory.CloneGroup{Name: "compute", To: "other"},
		inventory.ChangeGroup{Name: "other", Interfaces: []inventory.InterfaceChange{{Interface: "BOOTIF", Action: inventory.InterfaceRename, NewName: "eth0"}}},
		inventory.AddNodes{Group: "compute", Names: []string{"a", "b"}},
	)
	s.apply(t, inventory.Document{Nodes: map[string]inventory.NodeDoc{
		"a": {Interfaces: map[string]inventory.AddressesDoc{"BOOTIF": {V4: addr("10.30.0.2")}}},
		"b": {Group: given("other"), Interfaces: map[string]inventory.AddressesDoc{"eth0": {V4: addr("10.30.0.9")}}},
	}}, false)
	if got := addressOf(s.View(), "a") + " " + addressOf(s.View(), "b"); got != "10.30.0.2 10.30.0.9" {
		t.Errorf("they are at %s", got)
	}
}

// TestANetworkMovesWhereAnotherWas keeps the offsets of nodes of which the
// document says nothing.
func TestANetworkMovesWhereAnotherWas(t *testing.T) {
	s := full(t)
	s.must(t, address("node001", "BMC", "10.31.0.77"), inventory.DeleteOtherDevs{Names: []string{"pdu"}})
	d := inventory.DocumentOf(s.View())
	delete(d.Networks, "away")
	d.Networks["ipmi"] = inventory.NetworkDoc{Network: given(prefix("10.40.0.0/24"))}
	for name := range d.Nodes {
		d.Nodes[name] = inventory.NodeDoc{Comment: given(ptr("moved"))}
	}
	for name := range d.Switches {
		d.Switches[name] = inventory.SwitchDoc{}
	}
	s.apply(t, d, true)
	if got := s.at(t, "nodes.node001.interfaces.BMC.4"); got != `"10.40.0.77"` {
		t.Errorf("node001 is at %s, want 10.40.0.77", got)
	}
}

// TestAPrunedNetworkInUse holds that pruning what is in use is a refusal, and
// nothing worse.
func TestAPrunedNetworkInUse(t *testing.T) {
	for name, edit := range map[string]func(d *inventory.Document){
		"by a group": func(d *inventory.Document) {
			delete(d.Networks, "ipmi")
			g := d.Groups["compute"]
			g.Interfaces = inventory.Maybe[map[string]inventory.InterfaceDoc]{}
			d.Groups["compute"] = g
			d.Nodes["node003"] = inventory.NodeDoc{Group: given("compute")}
		},
		"by a switch": func(d *inventory.Document) {
			delete(d.Networks, "away")
			d.Switches["sw1"] = inventory.SwitchDoc{Network: given("away"), IP: given(addr("10.40.0.1"))}
		},
		"by a switch as before": func(d *inventory.Document) {
			delete(d.Networks, "ipmi")
			d.Switches["sw1"] = inventory.SwitchDoc{IP: given(addr("10.31.0.50"))}
		},
		"by another device": func(d *inventory.Document) {
			delete(d.Networks, "away")
			d.OtherDevs["pdu"] = inventory.OtherDevDoc{Comment: given(ptr("x"))}
		},
		"a bmcsetup": func(d *inventory.Document) {
			delete(d.BMCSetups, "base")
			g := d.Groups["compute"]
			g.BMCSetup = inventory.Maybe[*string]{}
			d.Groups["compute"] = g
		},
	} {
		t.Run(name, func(t *testing.T) {
			s := full(t)
			before := dump(t, s.View())
			d := inventory.DocumentOf(s.View())
			edit(&d)
			if r := s.do(inventory.ApplyDocument{Document: d, Prune: true}); r.Error == nil {
				t.Error("it was accepted")
			}
			if dump(t, s.View()) != before {
				t.Error("it changed something")
			}
		})
	}
}

func TestADocumentWithoutARangeEndsItsLeases(t *testing.T) {
	s := full(t)
	s.must(t, inventory.LeaseAddress{Network: "cluster", MAC: "52:54:00:00:00:77", At: epoch, TTL: time.Hour})
	s.apply(t, inventory.Document{Networks: map[string]inventory.NetworkDoc{"cluster": {DHCPRange: given[*inventory.AddrRange](nil)}}}, false)
	for l := range s.View().Leases() {
		t.Errorf("the lease of %s is still there", l.Addr)
	}
}
