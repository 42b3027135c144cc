package fsm_test

import (
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/clustervision/luna/inventory"
)

// TestNoAddressIsLost does what could leave an address owned by somebody who
// does not have it, or free although somebody has it.
func TestNoAddressIsLost(t *testing.T) {
	head := func(name string, addresses ...string) inventory.UpdateHead {
		u := inventory.UpdateHead{Name: name, Address: addr("10.30.255.254")}
		for _, a := range addresses {
			u.Addresses = append(u.Addresses, prefix(a))
		}
		return u
	}
	twice := func(name string) []string { return []string{name, name} }
	for name, commands := range map[string][]inventory.Command{
		"a node named twice":   {inventory.ChangeNodes{Names: twice("node001"), Addresses: []inventory.SetAddress{{Interface: "BOOTIF", Addr: addr("10.30.9.1"), Increment: true}}}},
		"an interface twice":   {inventory.ChangeNodes{Names: []string{"node001"}, Addresses: []inventory.SetAddress{{Interface: "BOOTIF", Addr: addr("10.30.9.1")}, {Interface: "BOOTIF", Addr: addr("10.30.9.2")}}}},
		"a switch named twice": {inventory.ChangeSwitches{Names: twice("sw1"), Addr: ptr(addr("10.31.0.50")), Increment: true}},
		"a device named twice": {inventory.ChangeOtherDevs{Names: twice("pdu"), Network: "away", Addr: addr("10.40.0.50"), Increment: true}},
		"a head at a name server": {
			head("h1", "10.30.255.254/16", "10.31.0.254/24"),
			inventory.ChangeNetwork{Name: "ipmi", NSIP: ptr(addr("10.31.0.253"))},
			head("h1", "10.30.255.254/16"),
		},
		"a head comes at a name server": {
			inventory.CreateInvite{Invite: inventory.Invite{ID: "i", Hash: strings.Repeat("ab", 32), Created: epoch, Expires: epoch.Add(time.Hour)}},
			inventory.AdmitHead{Invite: "i", Secret: strings.Repeat("ab", 32), At: epoch, Head: inventory.Head{Name: "h2", Key: "k", Address: addr("10.40.0.254")}},
			inventory.RemoveHead{Name: "h2"},
		},
		"a name server that leaves a head behind": {
			head("h1", "10.30.255.254/16", "10.40.0.254/24"),
			inventory.ChangeNetwork{Name: "away", Prefix: ptr(prefix("10.41.0.0/24"))},
		},
		"a name server that comes to a head": {
			head("h1", "10.30.255.254/16", "10.41.0.254/24"),
			inventory.ChangeNetwork{Name: "away", Prefix: ptr(prefix("10.41.0.0/24"))},
		},
		"a head's address out of the network": {
			inventory.ChangeNetwork{Name: "ipmi", NSIP: ptr(addr("10.30.255.254"))},
			head("h1", "10.30.255.254/16"),
		},
		"a network grows": {
			inventory.ChangeNetwork{Name: "ipmi", Prefix: ptr(prefix("10.31.0.0/16"))},
			inventory.AddSwitches{Names: []string{"a"}, Network: "ipmi", Addr: addr("10.31.0.255")},
		},
		"nodes change groups": {
			inventory.CloneGroup{Name: "compute", To: "other"},
			inventory.ChangeGroup{Name: "other", Interfaces: []inventory.InterfaceChange{{Interface: "BMC", Action: inventory.InterfaceDelete}}},
			inventory.ChangeNodes{Names: []string{"node001", "node002"}, Group: ptr("other")},
			inventory.ChangeNodes{Names: []string{"node002", "node001"}, Group: ptr("compute")},
		},
		"released by force": {inventory.ChangeNetwork{Name: "ipmi", Release: []netip.Addr{addr("10.31.0.2"), addr("10.31.0.1")}, Force: true}},
	} {
		t.Run(name, func(t *testing.T) {
			s := full(t)
			for _, c := range commands {
				r := s.do(c)
				t.Logf("%s: %v", inventory.Verb(c), r.Error)
				s.sound(t)
			}
		})
	}
}

// TestANetworkTakesItsNameServerAlong shrinks a network, whose name server would
// have no place in it without the one that is given too.
func TestANetworkTakesItsNameServerAlong(t *testing.T) {
	s := full(t)
	if r := s.do(inventory.ChangeNetwork{Name: "away", Prefix: ptr(prefix("10.40.0.0/28"))}); r.Error == nil {
		t.Error("the name server is out of its network")
	}
	s.must(t, inventory.ChangeNetwork{Name: "away", Prefix: ptr(prefix("10.40.0.0/28")), NSIP: ptr(addr("10.40.0.14"))})
	s.sound(t)
}

func TestNobodyIsMovedOntoAnother(t *testing.T) {
	for name, tc := range map[string]struct {
		before []inventory.Command
		move   inventory.Command
		want   string
	}{
		"a range onto a head": {
			[]inventory.Command{inventory.UpdateHead{Name: "h1", Address: addr("10.30.255.254"), Addresses: []netip.Prefix{prefix("10.30.255.254/16"), prefix("10.60.128.7/16")}}},
			inventory.ChangeNetwork{Name: "cluster", Prefix: ptr(prefix("10.60.0.0/16"))},
			"head 'h1'",
		},
		"a node onto the front end": {
			[]inventory.Command{inventory.ChangeCluster{FrontendAddress: ptr(addr("10.60.0.1"))}},
			inventory.ChangeNetwork{Name: "cluster", Prefix: ptr(prefix("10.60.0.0/16"))},
			"frontend",
		},
		"a switch onto a head": {
			[]inventory.Command{inventory.UpdateHead{Name: "h1", Address: addr("10.30.255.254"), Addresses: []netip.Prefix{prefix("10.60.0.100/16")}}},
			inventory.ChangeNetwork{Name: "ipmi", Prefix: ptr(prefix("10.60.0.0/24"))},
			"head 'h1'",
		},
		"a range onto the front end": {
			[]inventory.Command{inventory.ChangeCluster{FrontendAddress: ptr(addr("10.30.200.1"))}},
			inventory.SetRange{Network: "cluster", Range: addrRange("10.30.200.0", "10.30.200.9")},
			"frontend",
		},
		"the front end into a range": {
			nil, inventory.ChangeCluster{FrontendAddress: ptr(addr("10.30.128.1"))}, "DHCP range",
		},
		"the front end onto a node": {
			nil, inventory.ChangeCluster{FrontendAddress: ptr(addr("10.30.0.1"))}, "node 'node001'",
		},
	} {
		t.Run(name, func(t *testing.T) {
			s := full(t)
			s.must(t, tc.before...)
			before := dump(t, s.View())
			if r := s.do(tc.move); r.Error == nil || !strings.Contains(r.Error.Error(), tc.want) {
				t.Errorf("got %v, want %q", r.Error, tc.want)
			}
			if dump(t, s.View()) != before {
				t.Error("it changed something")
			}
			s.sound(t)
		})
	}
}

// TestACommentNeedsNoAddress changes a switch whose address a head has by now.
func TestACommentNeedsNoAddress(t *testing.T) {
	s := full(t)
	s.must(t,
		inventory.UpdateHead{Name: "h1", Address: addr("10.30.255.254"), Addresses: []netip.Prefix{prefix("10.31.0.100/24")}},
		inventory.ChangeSwitches{Names: []string{"sw1"}, Comment: ptr("x")},
	)
}

// TestABatchReusesWhatItFrees moves nodes of two groups at once.
func TestABatchReusesWhatItFrees(t *testing.T) {
	s := full(t)
	s.must(t,
		inventory.AddGroup{Name: "plain", OSImage: "compute", Network: "away"},
		inventory.AddGroup{Name: "mixed", OSImage: "compute", Network: "ipmi"},
		inventory.AddNodes{Group: "plain", Names: []string{"p1"}},
		inventory.ChangeNodes{Names: []string{"p1", "node001"}, Group: ptr("mixed")},
	)
	n, _ := s.View().Node("node001")
	for _, a := range n.Interfaces {
		if a.V4 != addr("10.31.0.1") {
			t.Errorf("node001 did not keep its address, it has %v", a)
		}
	}
	s.sound(t)
}

// TestGroupAndBack is check 47: a node that changed its group and came back is
// what it was.
func TestGroupAndBack(t *testing.T) {
	s := full(t)
	was, _ := s.View().Node("node001")
	s.must(t,
		inventory.CloneGroup{Name: "compute", To: "other"},
		inventory.ChangeNodes{Names: []string{"node001"}, Group: ptr("other")},
		inventory.ChangeNodes{Names: []string{"node001"}, Group: ptr("compute")},
	)
	is, _ := s.View().Node("node001")
	if string(inventory.Record(was)) != string(inventory.Record(is)) {
		t.Errorf("it was %s\nand is %s", inventory.Record(was), inventory.Record(is))
	}
}
