package fsm_test

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/clustervision/luna/inventory"
)

// The machine of node001 in full, its address, and another machine.
const (
	machine1 = inventory.MAC("52:54:00:00:00:01")
	machine2 = inventory.MAC("52:54:00:00:00:02")
)

var address1 = addr("10.30.0.1")

// applied says that all heads have applied the log up to that index.
func (s *site) applied(t *testing.T, index uint64, held bool) {
	t.Helper()
	s.must(t, inventory.Advance{Applied: index, Held: held})
}

func bootif(name, a string) inventory.Command { return address(name, "BOOTIF", a) }

// bootAddress is what DHCP offers the node in the network "cluster".
func bootAddress(inv *inventory.Inventory, node string) string {
	n, ok := inv.Node(node)
	network, ok2 := inv.Network("cluster")
	if !ok || !ok2 {
		return "nothing"
	}
	a, _ := inv.BootAddress(n, network.ID)
	return a.String()
}

// TestPromise5AnAddressTakenAwayIsNobodysYet goes through the commands that take an address
// from a machine: no other machine may be offered it before every head knows.
func TestPromise5AnAddressTakenAwayIsNobodysYet(t *testing.T) {
	document := func(change func(d *inventory.Document)) func(*site) inventory.Command {
		return func(s *site) inventory.Command {
			d := inventory.DocumentOf(s.View())
			change(&d)
			return inventory.ApplyDocument{Document: d, Prune: true}
		}
	}
	undo := func(c inventory.Command) func(*site) inventory.Command {
		return func(s *site) inventory.Command { return inventory.UndoChange{Entry: s.do(c).Entry} }
	}
	is := func(c inventory.Command) func(*site) inventory.Command {
		return func(*site) inventory.Command { return c }
	}
	for name, tc := range map[string]struct {
		before []inventory.Command
		do     func(*site) inventory.Command
	}{
		"delete the node":              {nil, is(inventory.DeleteNodes{Names: []string{"node001", "node002"}})},
		"no MAC any more":              {nil, is(mac("node001", ""))},
		"another MAC":                  {nil, is(mac("node001", "52:54:00:00:00:09"))},
		"the MAC for another node":     {nil, is(mac("node002", string(machine1)))},
		"the MAC for a new node":       {nil, is(inventory.AddNodes{Group: "compute", Names: []string{"x"}, MAC: machine1})},
		"another address":              {nil, is(bootif("node001", "10.30.0.9"))},
		"changed places":               {nil, is(inventory.ChangeNodes{Names: []string{"node002", "node001"}, Addresses: []inventory.SetAddress{{Interface: "BOOTIF", Addr: address1, Increment: true}}})},
		"taken by force":               {nil, is(inventory.ChangeNetwork{Name: "cluster", Release: []netip.Addr{address1}, Force: true})},
		"another group":                {[]inventory.Command{inventory.AddGroup{Name: "g", OSImage: "compute", Network: "away"}}, is(inventory.ChangeNodes{Names: []string{"node001"}, Group: ptr("g")})},
		"the network moves":            {nil, is(inventory.ChangeNetwork{Name: "cluster", Prefix: ptr(prefix("10.60.0.0/16"))})},
		"the interface goes":           {nil, is(inventory.ChangeGroup{Name: "compute", Interfaces: []inventory.InterfaceChange{{Interface: "BOOTIF", Action: inventory.InterfaceDelete}}})},
		"the interface's network goes": {nil, is(inventory.ChangeGroup{Name: "compute", Interfaces: []inventory.InterfaceChange{{Interface: "BOOTIF", Action: inventory.InterfaceDelNet, Network: "cluster"}}})},
		"the interface goes elsewhere": {nil, is(inventory.ChangeGroup{Name: "compute", Interfaces: []inventory.InterfaceChange{
			{Interface: "BOOTIF", Action: inventory.InterfaceDelNet, Network: "cluster"}, {Interface: "BOOTIF", Action: inventory.InterfaceSetNet, Network: "away"},
		}})},
		"delete the cluster": {nil, is(inventory.DeleteCluster{Force: true})},

		"a document without it": {nil, document(func(d *inventory.Document) { delete(d.Nodes, "node001") })},
		"a document with another MAC": {nil, document(func(d *inventory.Document) {
			n := d.Nodes["node001"]
			n.MAC = given(ptr(inventory.MAC("52:54:00:00:00:09")))
			d.Nodes["node001"] = n
		})},
		"a document with another address": {nil, document(func(d *inventory.Document) {
			n := d.Nodes["node001"]
			n.Interfaces["BOOTIF"] = inventory.AddressesDoc{V4: addr("10.30.0.9"), V6: n.Interfaces["BOOTIF"].V6}
			d.Nodes["node001"] = n
		})},
		"a document that moves the network": {nil, document(func(d *inventory.Document) {
			d.Networks["cluster"] = inventory.NetworkDoc{Network: given(prefix("10.60.0.0/16"))}
			for name, n := range d.Nodes {
				n.Interfaces = nil
				d.Nodes[name] = n
			}
		})},

		"undo, and it was never added":     {[]inventory.Command{inventory.DeleteNodes{Names: []string{"node001"}}}, undo(inventory.AddNodes{Group: "compute", Names: []string{"x"}, MAC: machine1})},
		"undo, and it never had the MAC":   {[]inventory.Command{mac("node001", "")}, undo(mac("node001", string(machine1)))},
		"undo, and it never had this":      {[]inventory.Command{bootif("node001", "10.30.0.9")}, undo(bootif("node001", "10.30.0.1"))},
		"undo, and the network was not it": {[]inventory.Command{inventory.ChangeNetwork{Name: "cluster", Prefix: ptr(prefix("10.60.0.0/16"))}}, undo(inventory.ChangeNetwork{Name: "cluster", Prefix: ptr(prefix("10.30.0.0/16"))})},
		"undo, and its deletion is back": {nil, func(s *site) inventory.Command {
			r := s.do(inventory.DeleteNodes{Names: []string{"node001"}})
			return inventory.UndoChange{Entry: s.do(inventory.UndoChange{Entry: r.Entry}).Entry}
		}},
		"the group is merged into another":  {[]inventory.Command{inventory.CloneGroup{Name: "compute", To: "g"}}, is(inventory.ChangeNodes{Names: []string{"node001"}, Group: ptr("g"), MAC: ptr(inventory.MAC(""))})},
		"two changes of it in one command":  {nil, is(inventory.ChangeNodes{Names: []string{"node001"}, MAC: ptr(machine2), Addresses: []inventory.SetAddress{{Interface: "BOOTIF", Addr: addr("10.30.0.9")}}})},
		"a document that swaps two nodes":   {nil, document(swapAddresses)},
		"a document that swaps their MACs":  {[]inventory.Command{mac("node002", string(machine2))}, document(swapMACs)},
		"a document that is of nodes alone": {nil, document(func(d *inventory.Document) { d.Nodes = map[string]inventory.NodeDoc{} })},
	} {
		t.Run(name, func(t *testing.T) {
			s := full(t)
			s.must(t, tc.before...)
			c := tc.do(s)
			s.applied(t, s.index, false)
			if r, retired := s.View().RetiredFrom(address1, "52:54:00:00:00:77"); retired {
				t.Fatalf("beforehand, it is retired: %+v", r)
			}
			s.must(t, c)
			s.sound(t)
			s.isRetired(t, address1, machine1)
		})
	}
}

// isRetired holds that the address was taken from the machine by the last
// command, and what follows from that.
func (s *site) isRetired(t *testing.T, a netip.Addr, from inventory.MAC) {
	t.Helper()
	index := s.index
	inv := s.View()
	if r, ok := inv.RetiredFrom(a, machine2); !ok || r.MAC != from || r.Index != index || !r.At.Equal(inv.Clock()) || r.Node == "" {
		t.Fatalf("it is retired as %+v, %t", r, ok)
	}
	if r, ok := inv.RetiredFrom(a, from); ok {
		t.Errorf("it is retired from the machine itself: %+v", r)
	}
	s.applied(t, index-1, false)
	if _, ok := s.View().RetiredFrom(a, machine2); !ok {
		t.Error("a head has not heard of it, and it is anybody's")
	}
	s.sound(t)
	s.applied(t, index, false)
	if r, ok := s.View().RetiredFrom(a, machine2); ok {
		t.Errorf("all heads have heard of it, and it is retired: %+v", r)
	}
}

func swapAddresses(d *inventory.Document) {
	one, two := d.Nodes["node001"], d.Nodes["node002"]
	one.Interfaces, two.Interfaces = two.Interfaces, one.Interfaces
	d.Nodes["node001"], d.Nodes["node002"] = one, two
}

func swapMACs(d *inventory.Document) {
	one, two := d.Nodes["node001"], d.Nodes["node002"]
	one.MAC, two.MAC = two.MAC, one.MAC
	d.Nodes["node001"], d.Nodes["node002"] = one, two
}

// TestPromise5NothingIsTaken changes what leaves machines their addresses.
func TestPromise5NothingIsTaken(t *testing.T) {
	for name, commands := range map[string][]inventory.Command{
		"a name":              {inventory.Rename{Object: "node", Name: "node001", NewName: "x"}},
		"a group with it":     {inventory.CloneGroup{Name: "compute", To: "g"}, inventory.ChangeNodes{Names: []string{"node001"}, Group: ptr("g")}},
		"a machine for it":    {mac("node002", string(machine2))},
		"a node without one":  {inventory.DeleteNodes{Names: []string{"node002"}}},
		"a range elsewhere":   {makedhcp("cluster", "10.30.129.0", "10.30.130.254")},
		"all but the address": {inventory.ChangeNodes{Names: []string{"node001"}, Comment: ptr("x"), Service: ptr(true), Tag: []string{"y"}}},
		"the MAC that it has": {mac("node001", string(machine1))},
	} {
		t.Run(name, func(t *testing.T) {
			s := full(t)
			s.must(t, commands...)
			for r := range s.View().RetiredAddresses() {
				t.Errorf("%+v", r)
			}
		})
	}
	s := full(t)
	d := inventory.DocumentOf(s.View())
	renameNetwork(&d, "ipmi", "bmc") // another network with the same addresses
	s.apply(t, d, true)
	for r := range s.View().RetiredAddresses() {
		t.Errorf("the network has another name: %+v", r)
	}
}

// TestPromise5TheSameMachineGetsItBack takes an address away and gives it back
// at once, by a command and by an undo, while another head is away.
func TestPromise5TheSameMachineGetsItBack(t *testing.T) {
	for name, back := range map[string]func(s *site, entry uint64) inventory.Command{
		"undo": func(_ *site, entry uint64) inventory.Command { return inventory.UndoChange{Entry: entry} },
		"added again, with the address": func(s *site, _ uint64) inventory.Command {
			d := inventory.Document{Luna: inventory.DocumentVersion, Nodes: map[string]inventory.NodeDoc{"y": {
				Group: given("compute"), MAC: given(ptr(machine1)), Interfaces: map[string]inventory.AddressesDoc{"BOOTIF": {V4: address1}},
			}}}
			return inventory.ApplyDocument{Document: d}
		},
	} {
		t.Run(name, func(t *testing.T) {
			s := full(t)
			s.applied(t, s.index, true)
			r := s.do(inventory.DeleteNodes{Names: []string{"node001"}})
			s.must(t, back(s, r.Entry))
			s.sound(t)
			if n, ok := s.View().NodeByMAC(machine1); !ok || bootAddress(s.View(), n.Name) != address1.String() {
				t.Fatalf("the machine is %+v", n)
			}
			if r, ok := s.View().RetiredFrom(address1, machine1); ok {
				t.Errorf("it is refused its own address: %+v", r)
			}
			if r, ok := s.View().RetiredFrom(address1, machine2); ok {
				t.Errorf("an address that is somebody's is retired: %+v", r)
			}
		})
	}
}

// TestPromise5AnAddressThatWentThroughHands goes to one machine and then the
// next while no head but one knows of anything.
func TestPromise5AnAddressThatWentThroughHands(t *testing.T) {
	s := full(t)
	var last [4]uint64
	for i := range 4 {
		s.must(t, mac("node001", fmt.Sprintf("52:54:00:00:00:0%d", i+2)))
		last[i] = s.index
	}
	for i, index := range last {
		var of []string
		for r := range s.View().RetiredAddresses() {
			if r.Addr == address1 {
				of = append(of, string(r.MAC))
			}
		}
		want := []string{"52:54:00:00:00:01", "52:54:00:00:00:02", "52:54:00:00:00:03", "52:54:00:00:00:04"}[i:]
		if !slices.Equal(of, want) {
			t.Errorf("it is retired from %v, want %v", of, want)
		}
		if _, refused := s.View().RetiredFrom(address1, "52:54:00:00:00:05"); !refused {
			t.Error("who has it now is offered it, and so may be others")
		}
		s.applied(t, index, false)
	}
	if r, refused := s.View().RetiredFrom(address1, "52:54:00:00:00:05"); refused {
		t.Errorf("it is refused still: %+v", r)
	}
	s.sound(t)
}

// TestPromise5TheLowestFreeAddress asks for addresses while a head is away, and
// afterwards. A head that began with a snapshot must give the same ones.
func TestPromise5TheLowestFreeAddress(t *testing.T) {
	s := full(t)
	add := func(want string) {
		t.Helper()
		restored := begin(t, dump(t, s.View()))
		name := fmt.Sprintf("x%d", s.index)
		for who, on := range map[string]*site{"the head": s, "one that restored": restored} {
			on.must(t, inventory.AddNodes{Group: "compute", Names: []string{name}})
			if got := bootAddress(on.View(), name); got != want {
				t.Errorf("%s gives %s, want %s", who, got, want)
			}
		}
		if diff := cmp.Diff(dump(t, s.View()), dump(t, restored.View())); diff != "" {
			t.Errorf("the states differ:\n%s", diff)
		}
		s.sound(t)
	}
	s.must(t, mac("node002", string(machine2)))
	s.applied(t, s.index, true)
	add("10.30.0.3")
	s.must(t, inventory.DeleteNodes{Names: []string{"node001", "node002"}})
	deleted := s.index
	add("10.30.0.4") // a head may still give .1 and .2 away
	s.applied(t, deleted-1, true)
	add("10.30.0.5")
	s.applied(t, deleted, true)
	add("10.30.0.1") // that head knows
	add("10.30.0.2")
	add("10.30.0.6")

	s.must(t, inventory.ChangeNodes{Names: []string{"x" + fmt.Sprint(s.index-2)}, Comment: ptr("")}, mac("x"+fmt.Sprint(s.index-1), string(machine2)))
	n, _ := s.View().NodeByMAC(machine2)
	was := bootAddress(s.View(), n.Name)
	s.must(t, inventory.DeleteNodes{Names: []string{n.Name}})
	add("10.30.0.7")
	s.applied(t, 0, false) // the head is back, and has not said how far it is
	add(was)               // quick: it will have heard by the time that the node asks
	if _, refused := s.View().RetiredFrom(addr(was), machine1); !refused {
		t.Error("and if it has not, the node is offered it all the same")
	}
}

// TestPromise5TheTimeThatACutOffHeadHas lets it run out. Nothing that the leader
// counts may be more than what has passed.
func TestPromise5TheTimeThatACutOffHeadHas(t *testing.T) {
	s := full(t)
	s.passed(t, time.Minute)
	s.must(t, inventory.DeleteNodes{Names: []string{"node001"}})
	s.passed(t, inventory.RetiredFor+inventory.MaxAdvance)
	if _, refused := s.View().RetiredFrom(address1, machine2); !refused {
		t.Error("it was given up just before the end of what the leader counted: it is anybody's a minute too soon")
	}
	s.passed(t, time.Second)
	if r, refused := s.View().RetiredFrom(address1, machine2); refused {
		t.Errorf("its time is over: %+v", r)
	}
	s.sound(t)
}

// TestPromise5ALeaseThatIsDropped goes through what drops leases: until the end
// of what the machine was told, no other gets the address.
func TestPromise5ALeaseThatIsDropped(t *testing.T) {
	leased := addr("10.30.128.0")
	none := inventory.SetRange{Network: "cluster"}
	for name, tc := range map[string]struct {
		drop func(s *site) inventory.Command
		back []inventory.Command // until there is a range over the address again
	}{
		"no range":      {func(*site) inventory.Command { return none }, nil},
		"another range": {func(*site) inventory.Command { return makedhcp("cluster", "10.30.129.0", "10.30.130.254") }, nil},
		"the network moves": {
			func(*site) inventory.Command {
				return inventory.ChangeNetwork{Name: "cluster", Prefix: ptr(prefix("10.60.0.0/16"))}
			},
			[]inventory.Command{inventory.ChangeNetwork{Name: "cluster", Prefix: ptr(prefix("10.30.0.0/16"))}},
		},
		"a document": {func(s *site) inventory.Command {
			return inventory.ApplyDocument{Document: inventory.Document{Luna: inventory.DocumentVersion, Networks: map[string]inventory.NetworkDoc{"cluster": {DHCPRange: given[*inventory.AddrRange](nil)}}}}
		}, nil},
		"undo of the range": {func(s *site) inventory.Command {
			for e := range s.View().Entries() {
				if e.Verb == "set-range" {
					return inventory.UndoChange{Entry: e.ID}
				}
			}
			return nil
		}, nil},
		"the cluster is deleted": {
			func(*site) inventory.Command { return inventory.DeleteCluster{Force: true} },
			[]inventory.Command{
				generator{}.again(),
				inventory.AddNetwork{Name: "cluster", Prefix: prefix("10.30.0.0/16")},
			},
		},
	} {
		t.Run(name, func(t *testing.T) {
			s := usual(t)
			s.must(t, inventory.SetRange{Network: "cluster", Range: addrRange("10.30.128.0", "10.30.128.1")})
			l, err := s.lease(machine1, 10*time.Minute)
			if err != nil || l.Addr != leased {
				t.Fatal(l, err)
			}
			s.passed(t, time.Minute)
			s.must(t, tc.drop(s))
			if r, ok := s.View().RetiredFrom(leased, machine2); !ok || !r.Until.Equal(l.Expires) || r.MAC != machine1 {
				t.Fatalf("the lease %+v is retired as %+v", l, r)
			}
			s.must(t, tc.back...)
			s.must(t, none, inventory.SetRange{Network: "cluster", Range: addrRange("10.30.128.0", "10.30.128.0")})
			s.applied(t, s.index, false) // every head knows; the machine does not
			if got, err := s.lease(machine2, 10*time.Minute); err == nil {
				t.Errorf("another machine is given %s", got.Addr)
			}
			s.passed(t, 9*time.Minute) // 10 of 11
			if got, err := s.lease(machine2, 10*time.Minute); err == nil {
				t.Errorf("another machine is given %s in the last minute", got.Addr)
			}
			twin := begin(t, dump(t, s.View()))
			if got, err := twin.lease(machine1, 10*time.Minute); err != nil || got.Addr != leased {
				t.Errorf("the same machine is given %v: %v", got, err)
			}
			twin.sound(t)
			s.passed(t, time.Minute)
			if got, err := s.lease(machine2, 10*time.Minute); err != nil || got.Addr != leased {
				t.Errorf("afterwards, another machine is given %v: %v", got, err)
			}
			s.sound(t)
		})
	}
}

// again sets up a cluster that was deleted.
func (generator) again() inventory.Command {
	return inventory.SetUpCluster{Cluster: inventory.Cluster{NodePrefix: "node", NodeDigits: 3, FrontendAddress: addr("10.30.255.254")}}
}

// TestPromise5ALeaseThatEndedIsAnybodys drops one that has run out.
func TestPromise5ALeaseThatEndedIsAnybodys(t *testing.T) {
	s := full(t)
	if _, err := s.lease(machine2, time.Minute); err != nil {
		t.Fatal(err)
	}
	s.passed(t, 2*time.Minute)
	s.must(t, inventory.SetRange{Network: "cluster"})
	for r := range s.View().RetiredAddresses() {
		t.Errorf("%+v", r)
	}
}

// TestPromise5ANodeAtALease gives a node the address that a machine has a lease
// of: it is not offered it before the lease ends.
func TestPromise5ANodeAtALease(t *testing.T) {
	s := full(t)
	l, err := s.lease(machine2, 10*time.Minute)
	if err != nil {
		t.Fatal(err)
	}
	s.must(t, inventory.SetRange{Network: "cluster"}, bootif("node001", l.Addr.String()))
	s.applied(t, s.index, false)
	if _, refused := s.View().RetiredFrom(l.Addr, machine1); !refused {
		t.Error("the node is offered it")
	}
	s.passed(t, 11*time.Minute)
	if r, refused := s.View().RetiredFrom(l.Addr, machine1); refused {
		t.Errorf("the lease has ended: %+v", r)
	}
	s.must(t, inventory.DeleteNodes{Names: []string{"node001"}})
	if text := dump(t, s.View()); strings.Count(text, `"t":"retired"`) != 2 { // BOOTIF and BMC
		t.Error("what the node had is not retired")
	}
}
