package fsm_test

import (
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/clustervision/luna/inventory"
)

// TestUndoGivesTheDocumentBack does a command and takes it back.
func TestUndoGivesTheDocumentBack(t *testing.T) {
	mac := inventory.MAC("52:54:00:00:00:01")
	document := func(d inventory.Document, prune bool) inventory.Command {
		d.Luna = inventory.DocumentVersion
		return inventory.ApplyDocument{Document: d, Prune: prune}
	}
	for name, c := range map[string]inventory.Command{
		"a MAC address that was taken":          inventory.ChangeNodes{Names: []string{"node002"}, MAC: &mac},
		"a MAC address, from one before":        inventory.ChangeNodes{Names: []string{"a"}, MAC: &mac},
		"another network":                       inventory.ChangeNetwork{Name: "ipmi", Prefix: ptr(prefix("10.50.0.0/16"))},
		"networks that move up":                 document(inventory.Document{Networks: map[string]inventory.NetworkDoc{"ipmi": {Network: given(prefix("10.40.0.0/24"))}, "away": {Network: given(prefix("10.41.0.0/24"))}}}, false),
		"networks that move down":               document(inventory.Document{Networks: map[string]inventory.NetworkDoc{"away": {Network: given(prefix("10.31.0.0/24"))}, "ipmi": {Network: given(prefix("10.25.0.0/24"))}}}, false),
		"nodes":                                 inventory.AddNodes{Group: "compute", Names: []string{"x", "y"}},
		"deleted nodes":                         inventory.DeleteNodes{Names: []string{"node001", "node002"}},
		"a name":                                inventory.Rename{Object: "group", Name: "compute", NewName: "other"},
		"a deleted cluster":                     inventory.DeleteCluster{Force: true},
		"a released reservation":                inventory.ChangeNetwork{Name: "cluster", Release: []netip.Addr{addr("10.30.7.7")}},
		"an address taken by force":             inventory.ChangeNetwork{Name: "ipmi", Release: []netip.Addr{addr("10.31.0.1")}, Force: true},
		"no range":                              inventory.SetRange{Network: "cluster"},
		"switches that went to another network": inventory.ChangeSwitches{Names: []string{"sw1", "sw2"}, Network: ptr("away")},
		"an empty document, pruning":            document(inventory.Document{}, true),
		"a network that got another name":       nil, // made from the document
	} {
		t.Run(name, func(t *testing.T) {
			s := full(t)
			s.must(t, inventory.AddNodes{Group: "compute", Names: []string{"a"}})
			was := inventory.DocumentOf(s.View())
			if c == nil {
				d := inventory.DocumentOf(s.View())
				renameNetwork(&d, "ipmi", "bmc")
				c = document(d, true)
			}
			r := s.do(c)
			if r.Error != nil || r.Entry == 0 {
				t.Fatalf("it gives %v and entry %d", r.Error, r.Entry)
			}
			s.sound(t)
			then := inventory.DocumentOf(s.View())
			undone := s.do(inventory.UndoChange{Entry: r.Entry})
			if undone.Error != nil {
				t.Fatalf("undo: %v", undone.Error)
			}
			s.sound(t)
			if diff := documentDiff(was, inventory.DocumentOf(s.View())); diff != "" {
				t.Errorf("undone, it is not what it was:\n%s", diff)
			}
			if e, _ := s.View().Entry(r.Entry); e.UndoneBy != undone.Entry {
				t.Errorf("the entry says it was undone by %d, not %d", e.UndoneBy, undone.Entry)
			}
			s.must(t, inventory.UndoChange{Entry: undone.Entry})
			if diff := documentDiff(then, inventory.DocumentOf(s.View())); diff != "" {
				t.Errorf("the undoing undone, it is not what it became:\n%s", diff)
			}
		})
	}
}

// renameNetwork gives a network another name, by document: it is another network
// with the same addresses then.
func renameNetwork(d *inventory.Document, from, to string) {
	d.Networks[to] = d.Networks[from]
	delete(d.Networks, from)
	for name, s := range d.Switches {
		s.Network = given(to)
		d.Switches[name] = s
	}
	for _, o := range d.OtherDevs {
		o.Connected.Value[to] = o.Connected.Value[from]
		delete(o.Connected.Value, from)
	}
	for _, g := range d.Groups {
		g.Interfaces.Value["BMC"] = inventory.InterfaceDoc{Network4: to, Implicit: true}
	}
}

func TestUndoIsRefused(t *testing.T) {
	for name, tc := range map[string]struct {
		do    inventory.Command
		since []inventory.Command
		want  string
	}{
		"changed since": {
			inventory.ChangeNodes{Names: []string{"node001"}, Comment: ptr("x")},
			[]inventory.Command{inventory.ChangeNodes{Names: []string{"node001"}, Comment: ptr("y")}},
			"node 'node001' was changed since by entry",
		},
		"address taken": {
			inventory.DeleteNodes{Names: []string{"node001"}},
			[]inventory.Command{inventory.AddNodes{Group: "compute", Names: []string{"x"}}},
			"is taken by node 'x'",
		},
		"name taken": {
			inventory.Rename{Object: "bmcsetup", Name: "base", NewName: "other"},
			[]inventory.Command{inventory.AddBMCSetup{Name: "base"}},
			"another bmcsetup is called 'base' now",
		},
		"MAC address taken": {
			inventory.ChangeNodes{Names: []string{"node001"}, MAC: ptr(inventory.MAC(""))},
			[]inventory.Command{inventory.ChangeNodes{Names: []string{"node002"}, MAC: ptr(inventory.MAC("52:54:00:00:00:01"))}},
			"is the MAC address of node 'node002' now",
		},
		"path taken": {
			inventory.ChangeOSImage{Name: "compute", Path: ptr("/images/new")},
			[]inventory.Command{inventory.AddOSImage{Name: "second", Path: "/images/compute"}},
			"Path belongs to osimage 'second'",
		},
		"in use": {
			inventory.AddBMCSetup{Name: "second"},
			[]inventory.Command{inventory.ChangeGroup{Name: "compute", BMCSetup: ptr("second")}},
			"would have a bmcsetup that does not exist",
		},
		"nodes in the range": {
			inventory.SetRange{Network: "cluster"},
			[]inventory.Command{
				inventory.AddNodes{Group: "compute", Names: []string{"x"}},
				inventory.ChangeNodes{Names: []string{"x"}, Addresses: []inventory.SetAddress{{Interface: "BOOTIF", Addr: addr("10.30.128.9")}}},
			},
			"10.30.128.9",
		},
		"the cluster is gone": {
			inventory.AddBMCSetup{Name: "second"},
			[]inventory.Command{inventory.DeleteBMCSetup{Name: "second"}, inventory.DeleteCluster{Force: true}},
			"was changed since",
		},
		"a network that overlaps": {
			inventory.ChangeNetwork{Name: "away", Prefix: ptr(prefix("10.41.0.0/24"))},
			[]inventory.Command{inventory.AddNetwork{Name: "second", Prefix: prefix("10.40.0.0/25")}},
			"overlaps",
		},
		"the front end in a range": {
			inventory.ChangeCluster{FrontendAddress: ptr(addr("10.30.255.254"))},
			[]inventory.Command{inventory.SetRange{Network: "cluster", Range: addrRange("10.30.200.0", "10.30.200.9")}},
			"lie in the DHCP range",
		},
	} {
		t.Run(name, func(t *testing.T) {
			s := full(t)
			if name == "the front end in a range" {
				s.must(t, inventory.ChangeCluster{FrontendAddress: ptr(addr("10.30.200.5"))})
			}
			r := s.do(tc.do)
			if r.Error != nil {
				t.Fatal(r.Error)
			}
			s.must(t, tc.since...)
			before := dump(t, s.View())
			undone := s.do(inventory.UndoChange{Entry: r.Entry})
			if undone.Error == nil || !strings.Contains(undone.Error.Error(), tc.want) {
				t.Errorf("got %v, want %q", undone.Error, tc.want)
			}
			if dump(t, s.View()) != before {
				t.Error("it changed something")
			}
		})
	}
}

func TestUndoEndsLeases(t *testing.T) {
	s := full(t)
	r := s.do(makedhcp("cluster", "10.30.129.0", "10.30.130.254"))
	s.must(t,
		inventory.LeaseAddress{Network: "cluster", MAC: "52:54:00:00:00:77", At: epoch, TTL: time.Hour}, // .129.0 is in both
		makedhcp("cluster", "10.30.130.0", "10.30.130.9"),
		inventory.LeaseAddress{Network: "cluster", MAC: "52:54:00:00:00:78", At: epoch, TTL: time.Hour},
	)
	for e := range s.View().Entries() {
		s.must(t, inventory.UndoChange{Entry: e.ID})
		break
	}
	s.must(t, inventory.UndoChange{Entry: r.Entry})
	s.sound(t)
	for l := range s.View().Leases() {
		t.Errorf("%s is still leased", l.Addr)
	}
}

// TestNothingComesBackIntoADeletedCluster undoes a deletion from before.
func TestNothingComesBackIntoADeletedCluster(t *testing.T) {
	s := full(t)
	s.must(t, inventory.AddBMCSetup{Name: "second"})
	r := s.do(inventory.DeleteBMCSetup{Name: "second"})
	s.must(t, inventory.DeleteCluster{Force: true})
	if undone := s.do(inventory.UndoChange{Entry: r.Entry}); undone.Error == nil || !strings.Contains(undone.Error.Error(), "deleted") {
		t.Errorf("got %v", undone.Error)
	}
}
