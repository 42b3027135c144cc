package agent

import (
	"context"
	"net/netip"
	"time"

	"github.com/clustervision/luna/consensus"
	"github.com/clustervision/luna/inventory"
)

// lead is what this head does while it leads: on every change of the state or
// of who is there, and on a timer for what was missed, it makes Raft's
// configuration follow the inventory and gives every duty a holder who is there.
func (m *member) lead(ctx context.Context) error {
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	for {
		changed, members := m.machine.Changed(), m.peer.MembersChanged()
		inv := m.machine.View()
		if _, ok := inv.Cluster(); ok {
			alive := m.alive()
			m.reconcile(ctx, inv, alive)
			m.assignDuties(ctx, inv, alive)
		}
		select {
		case <-ctx.Done():
			return nil
		case <-changed:
		case <-members:
		case <-tick.C:
		}
	}
}

// alive gives the names of the heads that gossip sees alive, this one included.
func (m *member) alive() map[string]bool {
	alive := map[string]bool{m.cfg.Name: true}
	for _, p := range m.peer.Members() {
		if p.State == consensus.Alive {
			alive[p.Name] = true
		}
	}
	return alive
}

// reconcile gives a vote to every head of the inventory once it has caught up,
// and takes it from those who were removed. Failed is not left: that a head is
// away changes nothing here.
func (m *member) reconcile(ctx context.Context, inv *inventory.Inventory, alive map[string]bool) {
	servers, err := m.peer.Servers()
	if err != nil {
		return // not leading any more
	}
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	in := map[string]consensus.Server{}
	for _, s := range servers {
		in[s.Name] = s
		if _, ok := inv.Head(s.Name); !ok {
			m.tell(m.peer.RemoveServer(ctx, s.Name), "remove", s.Name)
		}
	}
	for h := range inv.Heads() {
		addr := netip.AddrPortFrom(h.Address, uint16(h.RaftPort))
		s, there := in[h.Name]
		switch {
		case there && s.Voter && s.Addr == addr:
		case there && s.Voter:
			m.tell(m.peer.AddVoter(ctx, h.Name, addr), "move", h.Name)
		case !alive[h.Name]: // a vote that is not there stops the others
		case !there:
			m.tell(m.peer.AddNonvoter(ctx, h.Name, addr), "add", h.Name)
		case m.nearlyCaughtUp(ctx, h):
			m.tell(m.peer.AddVoter(ctx, h.Name, addr), "vote", h.Name)
		}
	}
}

func (m *member) tell(err error, what, head string) {
	if err != nil {
		m.log.Warn("raft does not follow the inventory yet", "step", what, "head", head, "err", err)
		return
	}
	m.log.Info("raft follows the inventory", "step", what, "head", head)
}

// nearlyCaughtUp asks a head how far it is; the last steps are quick.
func (m *member) nearlyCaughtUp(ctx context.Context, h *inventory.Head) bool {
	ctx, cancel := context.WithTimeout(ctx, time.Second)
	defer cancel()
	s, err := m.clientOf(h).Self(ctx)
	return err == nil && s.AppliedIndex+1000 > m.peer.CommitIndex()
}

// assignDuties gives DHCP on each network with a range to one head.
func (m *member) assignDuties(ctx context.Context, inv *inventory.Inventory, alive map[string]bool) {
	var duties []duty
	for n := range inv.Networks() {
		if n.Range.IsZero() {
			continue
		}
		d := duty{name: n.Name}
		if h, ok := inv.HeadByID(n.Duty.Holder); ok {
			d.holder = h.Name
		}
		for h := range inv.Heads() {
			if _, ok := h.AddressIn(n.Prefix); ok && alive[h.Name] {
				d.candidates = append(d.candidates, h.Name)
			}
		}
		duties = append(duties, d)
	}
	want := assign(duties)
	for _, d := range duties {
		if want[d.name] == d.holder {
			delete(want, d.name)
		}
	}
	if len(want) == 0 {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, 2*time.Second)
	defer cancel()
	if _, err := m.propose(ctx, m.byItself(), inventory.AssignDuties{DHCP: want}); err != nil {
		m.log.Warn("assigning DHCP failed", "err", err)
		return
	}
	for network, head := range want {
		m.log.Info("DHCP has a new holder", "network", network, "head", head)
	}
}
