package consensus

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"slices"
	"sync"
	"time"

	"github.com/hashicorp/raft"
)

const (
	// Backoff of a function that failed while this head leads.
	firstBackoff = 100 * time.Millisecond
	lastBackoff  = 5 * time.Second

	// duesTimeout is how long functions of WhileLeader may take to return when
	// leadership has ended, before that is said, and lastDuesTimeout how much longer
	// before the peer ends: this head would never lead well again.
	duesTimeout     = 5 * time.Second
	lastDuesTimeout = 30 * time.Second

	// barrierTimeout bounds one attempt of a new leader to commit something.
	barrierTimeout = 10 * time.Second
)

// Leader names the head that leads, as far as this one knows: it learns of a
// leader's death after Timing.Heartbeat.
func (r *replica) Leader() (name string, ok bool) {
	_, id := r.raft.LeaderWithID()
	return string(id), id != ""
}

// IsLeader reports whether this head leads, as far as it knows; Verify makes sure.
func (r *replica) IsLeader() bool { return r.raft.State() == raft.Leader }

// LeaderChanged returns a channel that is closed when Leader or IsLeader may have
// changed. Take the channel first and look second, to miss nothing.
func (r *replica) LeaderChanged() <-chan struct{} { return r.leaderChanged.wait() }

// LastContact is how long ago this head heard from a leader: 0 on the leader
// itself. A head that has heard from none counts from its start.
func (r *replica) LastContact() time.Duration {
	if r.IsLeader() {
		return 0
	}
	last := r.raft.LastContact()
	if last.Before(r.started) {
		last = r.started
	}
	return time.Since(last)
}

// Obeys tells whether a head has answered this one, as its leader, a question of raft's
// that was asked since then. One that is alive to gossip need not: a port may be closed,
// or a clock so wrong that no certificate is good there. False where this head does not
// lead.
func (r *replica) Obeys(name string, since time.Time) bool {
	return r.IsLeader() && (name == r.name || r.transport.answers.since(name, r.raft.CurrentTerm(), since))
}

// Heeded tells whether most voters obey this head, as far as Obeys tells. Where they do
// not, it may be this head that stood still.
func (r *replica) Heeded(since time.Time) bool {
	most, err := r.majority(r.raft.CurrentTerm(), since)
	return err == nil && most
}

// Server is a head in the raft configuration.
type Server struct {
	Name  string
	Addr  netip.AddrPort // of raft; where the head says in gossip that it is elsewhere, that is tried
	Voter bool
}

// Servers is the raft configuration, as this head knows it.
func (r *replica) Servers() ([]Server, error) {
	future := r.raft.GetConfiguration()
	if err := future.Error(); err != nil {
		return nil, fmt.Errorf("reading the raft configuration: %w", err)
	}
	var servers []Server
	for _, s := range future.Configuration().Servers {
		addr, err := netip.ParseAddrPort(string(s.Address))
		if err != nil {
			return nil, fmt.Errorf("raft address of head %s: %w", s.ID, err)
		}
		servers = append(servers, Server{Name: string(s.ID), Addr: addr, Voter: s.Suffrage == raft.Voter})
	}
	return servers, nil
}

// address is where to find a head: where it says itself that it is, or where the
// configuration says. So a head may come back at another address, and even all of
// them may, without a majority to write that down first. That a stranger sits
// there is no danger: who is dialed must prove his name.
func (r *replica) address(name string) (netip.AddrPort, bool) {
	if m := r.members.member(name); m.State == Alive && m.Raft.IsValid() {
		return m.Raft, true
	}
	servers, err := r.Servers()
	if err != nil {
		return netip.AddrPort{}, false
	}
	for _, s := range servers {
		if s.Name == name {
			return s.Addr, true
		}
	}
	return netip.AddrPort{}, false
}

// AddVoter gives a head a vote, or a voter another address. Only the leader can,
// and the errors are those of Apply.
//
// A voter that is not there still counts for the majority: the second voter of a
// cluster, if it cannot be reached, stops the first for good. So add a head with
// AddNonvoter, see it catch up, and then give it a vote.
func (r *replica) AddVoter(ctx context.Context, name string, addr netip.AddrPort) error {
	return r.configure(ctx, "giving a vote to", name, func(enqueue time.Duration) raft.Future {
		return r.raft.AddVoter(raft.ServerID(name), raft.ServerAddress(addr.String()), 0, enqueue)
	})
}

// AddNonvoter makes a head a follower without a vote; one that has a vote keeps
// it. Only the leader can, and the errors are those of Apply.
func (r *replica) AddNonvoter(ctx context.Context, name string, addr netip.AddrPort) error {
	return r.configure(ctx, "adding", name, func(enqueue time.Duration) raft.Future {
		return r.raft.AddNonvoter(raft.ServerID(name), raft.ServerAddress(addr.String()), 0, enqueue)
	})
}

// Demote takes the vote of a head, which stays a follower; one that has none, or
// that does not belong to the cluster, is left as it is. Only the leader can, and
// the errors are those of Apply.
func (r *replica) Demote(ctx context.Context, name string) error {
	return r.configure(ctx, "taking the vote of", name, func(enqueue time.Duration) raft.Future {
		return r.raft.DemoteVoter(raft.ServerID(name), 0, enqueue)
	})
}

// RemoveServer ends the membership of a head. That head is not told, and keeps its
// state; it must be wiped before it can join again under any name. Only the leader
// can, itself included; the errors are those of Apply.
func (r *replica) RemoveServer(ctx context.Context, name string) error {
	return r.configure(ctx, "removing", name, func(enqueue time.Duration) raft.Future {
		return r.raft.RemoveServer(raft.ServerID(name), 0, enqueue)
	})
}

func (r *replica) configure(ctx context.Context, doing, name string, begin func(time.Duration) raft.Future) error {
	err := r.await(ctx, begin)
	if err == nil {
		return nil
	}
	if explained := r.explain(err); !errors.Is(explained, ErrOutcomeUnknown) || ctx.Err() != nil || errors.Is(err, raft.ErrLeadershipLost) {
		err = explained // else raft refuses it, and tells why
	}
	return fmt.Errorf("%s head %s: %w", doing, name, err)
}

// TransferLeadership hands leadership to another voter that is alive, and returns
// when this head leads no more. If the first does not take it, it asks the next.
// Those to avoid are not asked.
func (r *replica) TransferLeadership(ctx context.Context, avoid ...string) error {
	servers, err := r.Servers()
	if err != nil {
		return err
	}
	errs := []error{errors.New("no other voter is there")}
	for _, s := range servers {
		if m := r.members.member(s.Name); !s.Voter || s.Name == r.name || m.State != Alive || m.Unfit || slices.Contains(avoid, s.Name) {
			continue
		}
		if len(errs) == 1 {
			errs = nil
		}
		err := r.await(ctx, func(time.Duration) raft.Future {
			return r.raft.LeadershipTransferToServer(raft.ServerID(s.Name), raft.ServerAddress(s.Addr.String()))
		})
		if err == nil {
			return nil
		}
		if errors.Is(err, raft.ErrNotLeader) {
			return r.explain(err)
		}
		errs = append(errs, fmt.Errorf("head %s: %w", s.Name, err))
	}
	return fmt.Errorf("handing over leadership: %w", errors.Join(errs...))
}

// abdicate is called when this head can write no more. Had it led, raft steps down
// with that, and the others would miss it after a while: instead, the one that has
// most is told to stand for election now. It is so told as by raft's own transfer,
// which only a leader can begin; it wins if most voters find that it has everything.
func (r *replica) abdicate() {
	if !r.transport.isOpen() {
		return
	}
	servers, err := r.Servers()
	if err != nil {
		return
	}
	term, next, most := r.raft.CurrentTerm(), Server{}, uint64(0)
	for _, s := range servers {
		matched, obeys := r.transport.answers.matched(s.Name, term)
		if obeys && s.Voter && s.Name != r.name && (next.Name == "" || matched > most) {
			next, most = s, matched
		}
	}
	if next.Name == "" {
		return // it did not lead
	}
	self := r.transport.LocalAddr()
	request := &raft.TimeoutNowRequest{RPCHeader: raft.RPCHeader{
		ProtocolVersion: raft.ProtocolVersionMax, ID: []byte(r.name), Addr: r.transport.EncodePeer(raft.ServerID(r.name), self),
	}}
	if err := r.transport.TimeoutNow(raft.ServerID(next.Name), raft.ServerAddress(next.Addr.String()), request, new(raft.TimeoutNowResponse)); err != nil {
		r.disk.log.Debug("handing over leadership because of the disk", "head", next.Name, "error", err)
	}
}

// leadership runs functions while this head leads.
type leadership struct {
	*replica
	log   *slog.Logger
	duty  []func(context.Context) error
	known string // the leader that was logged last
}

// run watches until ctx ends, and returns when the last function has.
func (l *leadership) run(ctx context.Context) error {
	for ctx.Err() == nil {
		changed := l.LeaderChanged()
		l.note()
		if l.IsLeader() {
			if err := l.lead(ctx, l.raft.CurrentTerm()); err != nil {
				return err
			}
			continue
		}
		select {
		case <-changed:
		case <-ctx.Done():
		}
	}
	return nil
}

// note logs who leads, if that has changed.
func (l *leadership) note() {
	leader, ok := l.Leader()
	switch {
	case leader == l.known:
		return
	case ok:
		l.log.Info("head leads", "head", leader, "before", l.known)
	case !l.IsLeader(): // it does not know itself yet in the moment when it comes to lead
		l.log.Warn("no head leads", "before", l.known)
	}
	l.known = leader
}

// lead runs the functions until this term of office or ctx ends.
func (l *leadership) lead(ctx context.Context, term uint64) error {
	office, cancel := context.WithCancel(ctx)
	defer cancel()
	var duties sync.WaitGroup
	duties.Go(func() {
		// Before anything is decided, this head's state must hold everything that any
		// leader before has committed. Other heads need the entry too: see machine.
		if !l.until(office, "committing the first entry of a new leader", l.establish) {
			return
		}
		for _, f := range l.duty {
			duties.Go(func() { l.until(office, "working as the leader", f) })
		}
	})
	for {
		changed := l.LeaderChanged()
		if ctx.Err() != nil {
			break
		}
		l.note()
		// A leader that lost and won again in between has another term, and must not
		// go on with what it thought then.
		if !l.IsLeader() || l.raft.CurrentTerm() != term {
			break
		}
		select {
		case <-changed:
		case <-ctx.Done():
		}
	}
	cancel()
	done := make(chan struct{})
	go func() { // ends with the functions
		duties.Wait()
		close(done)
	}()
	for _, patience := range []time.Duration{duesTimeout, lastDuesTimeout} {
		select {
		case <-done:
			return nil
		case <-time.After(patience):
			l.log.Warn("the work of a leader goes on after leadership has ended", "for", patience)
		}
	}
	return fmt.Errorf("a function of the leader goes on %s after leadership has ended", duesTimeout+lastDuesTimeout)
}

func (l *leadership) establish(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, barrierTimeout)
	defer cancel()
	_, err := l.Barrier(ctx)
	return err
}

// until runs f, again and again if it fails, and reports whether it succeeded
// before ctx ended.
func (l *leadership) until(ctx context.Context, doing string, f func(context.Context) error) bool {
	for wait := firstBackoff; ; wait = min(2*wait, lastBackoff) {
		err := f(ctx)
		if ctx.Err() != nil {
			return false
		}
		if err == nil {
			return true
		}
		l.log.Warn("leader's work failed, will try again", "work", doing, "error", err, "after", wait)
		select {
		case <-ctx.Done():
			return false
		case <-time.After(wait):
		}
	}
}
