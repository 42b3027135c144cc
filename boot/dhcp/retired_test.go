package dhcp

import (
	"context"
	"fmt"
	"net/netip"
	"testing"
	"time"

	"github.com/insomniacslk/dhcp/dhcpv4"

	"github.com/clustervision/luna/inventory"
)

const macNew = "52:54:00:00:00:02"

// after gives the fixture after changes, one command each, in format 2.
func after(changes ...func(tx *inventory.Tx)) *inventory.Inventory {
	inv := fixture()
	for _, change := range changes {
		tx := inv.Begin()
		tx.Enter(2, now)
		change(tx)
		tx.Retire(inv.Index + 1)
		inv = tx.Commit(inv.Index + 1)
	}
	return inv
}

func nothing(*inventory.Tx) {}

func passed(d time.Duration) func(*inventory.Tx) {
	return func(tx *inventory.Tx) { tx.Pass(d, false) }
}

// newBoard gives node001 another MAC address.
func newBoard(mac inventory.MAC) func(*inventory.Tx) {
	return func(tx *inventory.Tx) {
		old, _ := tx.Node("node001")
		n := *old
		n.MAC = mac
		tx.Put(&n)
	}
}

// TestJudgeRetired asks for an address that was another machine's, before all
// heads know and afterwards: design, promise 5. What is offered is what
// fsm.TestPromise5NoAddressIsOfferedTwice takes for it: the node's address on
// the network, unless the state has it retired from another machine.
func TestJudgeRetired(t *testing.T) {
	const (
		discover = dhcpv4.MessageTypeDiscover
		request  = dhcpv4.MessageTypeRequest
		lately   = "silent: 10.30.0.1 was the address of 52:54:00:00:00:01 until lately, and a head that has not heard of the change may still give it to that machine: node 'node001' gets it when all heads know, or when those that are away are removed"
	)
	before := fixture()
	retired := after(newBoard(macNew))
	released := after(newBoard(macNew), func(tx *inventory.Tx) { tx.Release(retired.Index) })
	leasedTo := after(func(tx *inventory.Tx) { // a smaller range, and the node where a lease was
		l, _ := tx.LeaseAt(ip("10.30.128.7"))
		tx.Delete(l)
		old, _ := tx.Node("node001")
		n := *old
		n.Interfaces = map[inventory.ID]inventory.Addresses{1: {V4: l.Addr}, 2: old.Interfaces[2]}
		tx.Put(&n)
	})
	for name, test := range map[string]struct {
		inv     *inventory.Inventory
		mac     string
		duty    Duty
		mods    []with
		unicast bool
		want    string
	}{
		"the new machine discovers":            {retired, macNew, Everyone, []with{ask(discover)}, false, lately},
		"the new machine takes an offer":       {retired, macNew, Everyone, []with{ask(request), server("10.30.0.252"), wants("10.30.0.1")}, false, lately},
		"the new machine renews":               {retired, macNew, Everyone, []with{ask(request), has("10.30.0.1")}, true, lately},
		"the new machine, not the holder":      {retired, macNew, Silent, []with{ask(discover)}, false, "silent"},
		"the new machine, through a relay":     {retired, macNew, Everyone, []with{ask(discover), relay("10.40.0.254")}, false, "silent: 10.40.0.1 was the address of 52:54:00:00:00:01 until lately, and a head that has not heard of the change may still give it to that machine: node 'node001' gets it when all heads know, or when those that are away are removed"},
		"the old machine discovers":            {retired, macKnown, Everyone, []with{ask(discover)}, false, "lease in cluster"},
		"the old machine renews":               {retired, macKnown, Everyone, []with{ask(request), has("10.30.0.1")}, true, "NAK 0.0.0.0 frame 255.255.255.255:68"},
		"a head that knows is cut off":         {retired, macNew, KnownNodes, []with{ask(discover)}, false, lately},
		"and asked by the old machine":         {retired, macKnown, KnownNodes, []with{ask(discover)}, false, "silent"},
		"a head that does not know is cut off": {before, macKnown, KnownNodes, []with{ask(discover)}, false, "OFFER 10.30.0.1 frame 10.30.0.1:68"},
		"and asked by the new machine":         {before, macNew, KnownNodes, []with{ask(discover)}, false, "silent"},
		"all heads know":                       {released, macNew, Everyone, []with{ask(discover)}, false, "OFFER 10.30.0.1 frame 10.30.0.1:68"},
		"all know, and one is cut off":         {released, macNew, KnownNodes, []with{ask(discover)}, false, "OFFER 10.30.0.1 frame 10.30.0.1:68"},
		"the old board is back":                {after(newBoard(macNew), newBoard(macKnown)), macKnown, Everyone, []with{ask(discover)}, false, "silent: 10.30.0.1 was the address of 52:54:00:00:00:02 until lately, and a head that has not heard of the change may still give it to that machine: node 'node001' gets it when all heads know, or when those that are away are removed"},
		"another node is as before":            {retired, macLeased, Everyone, []with{ask(discover)}, false, "OFFER 10.30.128.7 frame 10.30.128.7:68"},
		"a node where a lease was":             {leasedTo, macKnown, Everyone, []with{ask(discover)}, false, "silent: 10.30.128.7 is leased to 52:54:00:00:00:98 for up to 11m0s more: node 'node001' gets it then"},
		"and its other address":                {leasedTo, macKnown, Everyone, []with{ask(discover), relay("10.40.0.254")}, false, "OFFER 10.40.0.1 udp 10.40.0.254:67"},
	} {
		t.Run(name, func(t *testing.T) {
			r, err := classify(testPacket(test.mac, test.mods...), test.unicast)
			if err != nil {
				t.Fatal(err)
			}
			if got := outcome(newScene(test.inv, test.duty).judge(r, grant{})); got != test.want {
				t.Errorf("got  %s\nwant %s", got, test.want)
			}
		})
	}
}

// TestTheMeshsClockCounts gives a head that is hours off the lease of a machine:
// what it says is left of it must go by the mesh's clock, where there is one.
func TestTheMeshsClockCounts(t *testing.T) {
	for name, test := range map[string]struct {
		inv    *inventory.Inventory
		wall   time.Duration // what this head's clock is off by
		left   time.Duration // in the answer
		commit bool          // a new lease, first
	}{
		"format 1":                      {fixture(), 0, 10 * time.Minute, false},
		"format 1, later":               {fixture(), 5 * time.Minute, 10 * time.Minute, true},
		"format 2":                      {after(nothing), 0, 10 * time.Minute, false},
		"format 2, a head ahead":        {after(nothing), 5 * time.Hour, 10 * time.Minute, false},
		"format 2, a head behind":       {after(nothing), -5 * time.Hour, 10 * time.Minute, false},
		"format 2, after a while":       {after(passed(2 * time.Minute)), -5 * time.Hour, 8 * time.Minute, false},
		"format 2, and almost the half": {after(passed(4 * time.Minute)), -5 * time.Hour, 10 * time.Minute, true},
	} {
		t.Run(name, func(t *testing.T) {
			w, c := newWire(), testConfig(test.inv)
			committed := make(chan struct{}, 10)
			c.Lease = func(context.Context, string, inventory.MAC, netip.Addr) (netip.Addr, time.Duration, error) {
				committed <- struct{}{}
				return ip("10.30.128.7"), 10 * time.Minute, nil
			}
			s := newServer(c, w.server(), hardware)
			s.now = func() time.Time { return now.Add(test.wall) }
			run(t, s)
			heard := w.hear(macLeased)
			w.broadcast(testPacket(macLeased, ask(dhcpv4.MessageTypeDiscover)).ToBytes())
			p := receive(t, heard)
			got := fmt.Sprint(p.YourIPAddr, " for ", p.IPAddressLeaseTime(0), ", committed ", len(committed) > 0)
			if want := fmt.Sprint("10.30.128.7 for ", test.left, ", committed ", test.commit); got != want {
				t.Errorf("got %s, want %s", got, want)
			}
		})
	}
}
