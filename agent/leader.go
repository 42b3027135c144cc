package agent

import (
	"cmp"
	"context"
	"net/netip"
	"slices"
	"time"

	"github.com/clustervision/luna/consensus"
	"github.com/clustervision/luna/inventory"
)

// lead is what this head does while it leads: on every change of the state or
// of who is there, and on a timer for what was missed, it makes Raft's
// configuration follow the inventory and gives every duty a holder who is there.
func (m *member) lead(ctx context.Context) error {
	began := time.Now()
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	for {
		changed, members := m.machine.Changed(), m.peer.MembersChanged()
		inv := m.machine.View()
		if _, ok := inv.Cluster(); ok {
			m.raiseFormat(ctx, inv)
			m.reconcile(ctx, inv, began)
			m.assignDuties(ctx, inv, began)
			m.stepAside(ctx, inv)
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

// mostVoters is how many heads vote at most: each write waits for a majority of them.
const mostVoters = 5

// farewell is how long a head that was removed and is there has to hear of it.
const farewell = 500 * time.Millisecond

// replaceAfter is how long a voter must be away before a head without a vote gets
// a vote in its place, where there is one.
const replaceAfter = 10 * time.Minute

// reconcile makes Raft's configuration follow the inventory: a vote for every head
// up to the fifth once it has caught up, none for those who were removed. Failed is
// not left: that a head is away changes nothing here, unless another one waits
// for a vote. This head leads since it began to.
func (m *member) reconcile(ctx context.Context, inv *inventory.Inventory, began time.Time) {
	servers, err := m.peer.Servers()
	if err != nil {
		return // not leading any more
	}
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	fit := m.fit()
	in, votes := map[string]consensus.Server{}, 0
	for _, s := range servers {
		in[s.Name] = s
		if _, ok := inv.Head(s.Name); !ok {
			m.removeServer(ctx, s.Name)
		} else if s.Voter {
			votes++
		}
	}
	var waits string // a head that could vote
	for h := range inv.Heads() {
		addr := netip.AddrPortFrom(h.Address, uint16(h.RaftPort))
		s, there := in[h.Name]
		switch {
		case there && s.Voter && s.Addr == addr:
		case there && s.Voter:
			m.tell(m.peer.AddVoter(ctx, h.Name, addr), "move", h.Name)
		case !fit[h.Name]: // a vote that is not there stops the others
		case !there:
			m.tell(m.peer.AddNonvoter(ctx, h.Name, addr), "add", h.Name)
		case !m.nearlyCaughtUp(ctx, h):
		case votes < mostVoters:
			m.tell(m.peer.AddVoter(ctx, h.Name, addr), "vote", h.Name)
			votes++
		default:
			waits = h.Name
		}
	}
	if waits != "" {
		m.replaceVoter(ctx, servers, waits, began)
	}
}

// removeServer takes the vote of a head that was removed. One that is there first
// gets to know that: else it would take itself for cut off.
func (m *member) removeServer(ctx context.Context, name string) {
	if m.live(name) && !pause(ctx, farewell) {
		return
	}
	m.tell(m.peer.RemoveServer(ctx, name), "remove", name)
}

// replaceVoter gives the vote of a head that has been away for long to one that waits.
func (m *member) replaceVoter(ctx context.Context, servers []consensus.Server, waits string, began time.Time) {
	servers = slices.DeleteFunc(servers, func(s consensus.Server) bool { return !s.Voter || s.Name == m.cfg.Name })
	if lost := longAway(servers, m.peer.Members(), began, time.Now()); lost != "" {
		m.tell(m.peer.Demote(ctx, lost), "take the vote, for "+waits+" is there", lost) // the next round gives it
	}
}

// longAway names one of the voters that has been away for longer than replaceAfter,
// however it went. One that this head has never met counts from when it came to lead.
func longAway(voters []consensus.Server, members []consensus.Member, began, now time.Time) string {
	met := map[string]consensus.Member{}
	for _, p := range members {
		met[p.Name] = p
	}
	for _, v := range voters {
		if p := met[v.Name]; p.State != consensus.Alive && now.Sub(cmp.Or(p.Since, began)) > replaceAfter {
			return v.Name
		}
	}
	return ""
}

// stepAside hands leadership to another head where this one is drained or only a
// witness, and that one is neither.
func (m *member) stepAside(ctx context.Context, inv *inventory.Inventory) {
	self, ok := inv.Head(m.cfg.Name)
	if !ok || !self.Drained && !self.Witness || !m.otherVoters(m.cfg.Name) {
		return
	}
	var avoid []string
	for h := range inv.Heads() {
		if h.Drained || h.Witness {
			avoid = append(avoid, h.Name)
		}
	}
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	if err := m.peer.TransferLeadership(ctx, avoid...); err != nil && ctx.Err() == nil {
		m.log.Warn("leadership stays here for now", "err", err)
	}
}

// raiseFormat begins to use the newest format once every head knows it.
func (m *member) raiseFormat(ctx context.Context, inv *inventory.Inventory) {
	if inv.Format() >= inventory.FormatVersion {
		return
	}
	knows := map[string]bool{m.cfg.Name: true}
	for _, p := range m.peer.Members() {
		if p.State == consensus.Alive && p.Format >= inventory.FormatVersion {
			knows[p.Name] = true
		}
	}
	for h := range inv.Heads() {
		if !knows[h.Name] {
			return
		}
	}
	ctx, cancel := context.WithTimeout(ctx, 2*time.Second)
	defer cancel()
	if _, err := m.proposeBy(ctx, m.byItself(), inventory.Advance{}, inventory.FormatVersion); err == nil {
		m.log.Info("all heads understand the newest format of the log, which is used from now on", "format", inventory.FormatVersion)
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

// disobedience is for how long a head may answer gossip and not its leader before its
// duties go to others. Raft asks each head several times a second; one that gets no CPU
// for a while is late with both.
const disobedience = 5 * time.Second

// obeys tells whether a head may have a duty from this one, which leads since it began
// to: it follows it. Who has the duty already has some time to find a new leader, and
// keeps it where this head has heard of nobody, for it may have stood still itself.
func (m *member) obeys(head, holder string, began time.Time) bool {
	since := time.Now().Add(-disobedience)
	return m.peer.Obeys(head, since) || head == holder && (time.Since(began) < disobedience || !m.peer.Heeded(since))
}

// assignDuties gives DHCP on each network with a range, and the polling of each
// switch, to one head that is there and has an address on the network.
func (m *member) assignDuties(ctx context.Context, inv *inventory.Inventory, began time.Time) {
	candidates := func(network *inventory.Network, holder string) (names []string) {
		for h := range inv.Heads() {
			if _, ok := h.AddressIn(network.Prefix); ok && m.able(h.Name) && m.obeys(h.Name, holder, began) {
				names = append(names, h.Name)
			}
		}
		return names
	}
	holder := func(d inventory.Duty) string {
		if h, ok := inv.HeadByID(d.Holder); ok {
			return h.Name
		}
		return ""
	}
	weights := map[string]int{}
	for h := range inv.Heads() {
		weights[h.Name] = max(1, h.Weight)
	}
	var duties []duty
	for n := range inv.Networks() {
		if !n.Range.IsZero() {
			duties = append(duties, duty{kind: dutyDHCP, name: n.Name, holder: holder(n.Duty), candidates: candidates(n, holder(n.Duty))})
		}
	}
	if inv.Format() >= 2 {
		for s := range inv.Switches() {
			if n, ok := inv.NetworkByID(s.Network); ok {
				duties = append(duties, duty{kind: dutyPoll, name: s.Name, holder: holder(s.Duty), candidates: candidates(n, holder(s.Duty))})
			}
		}
	}
	c := inventory.AssignDuties{DHCP: map[string]string{}}
	polls := map[string]string{}
	for d, head := range assign(duties, weights) {
		switch d.kind {
		case dutyDHCP:
			c.DHCP[d.name] = head
		case dutyPoll:
			polls[d.name] = head
		}
	}
	if len(polls) > 0 {
		c.Polls = polls // absent, a head of format 1 understands it
	}
	if len(c.DHCP)+len(c.Polls) == 0 {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, 2*time.Second)
	defer cancel()
	if _, err := m.propose(ctx, m.byItself(), c); err != nil {
		m.log.Warn("duties have no new holder yet", "err", err)
		return
	}
	for network, head := range c.DHCP {
		m.log.Info("DHCP has a new holder", "network", network, "head", head)
	}
	for name, head := range c.Polls {
		m.log.Info("a switch has a new poller", "switch", name, "head", head)
	}
}
