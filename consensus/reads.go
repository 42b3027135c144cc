package consensus

import (
	"context"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/hashicorp/raft"
)

// readTimeout bounds one round of ReadIndex, whoever waits for it.
const readTimeout = 10 * time.Second

// reads answers ReadIndex: all that ask while a round is under way share the next.
type reads struct {
	// barred is the last term in which this head, as the leader, has committed an
	// entry of its own.
	barred atomic.Uint64

	mu      sync.Mutex
	waiting *readRound // those who wait for the next round; nil if none
	running bool
}

type readRound struct {
	done  chan struct{} // closed when the rest is there
	index uint64
	err   error
}

// ReadIndex returns an index such that a head which has applied it knows every
// entry that was committed before the call: so what is read there, after
// WaitApplied of it, is as new as can be (Raft's read index, §6.4 of Ongaro's
// thesis). Only the leader can tell, after it has heard from a majority of the
// voters that they know no newer one; the errors are those of Apply, and nothing
// is ever done.
//
// Calls at the same time share the exchange with the others.
func (r *replica) ReadIndex(ctx context.Context) (uint64, error) {
	if !r.IsLeader() {
		return 0, r.explain(raft.ErrNotLeader)
	}
	round, err := r.joinRound()
	if err != nil {
		return 0, err
	}
	select {
	case <-round.done:
		return round.index, round.err
	case <-ctx.Done():
		return 0, fmt.Errorf("asking the other heads who leads: %w", context.Cause(ctx))
	}
}

// joinRound returns the next round of reads to begin.
func (r *replica) joinRound() (*readRound, error) {
	r.reads.mu.Lock()
	defer r.reads.mu.Unlock()
	if r.reads.waiting == nil {
		r.reads.waiting = &readRound{done: make(chan struct{})}
	}
	round := r.reads.waiting
	if !r.reads.running {
		if !r.underWay.begin() {
			r.reads.waiting = nil
			return nil, ErrClosed
		}
		r.reads.running = true
		go r.runRounds()
	}
	return round, nil
}

// runRounds ends when nobody waits any more.
func (r *replica) runRounds() {
	defer r.underWay.end()
	for {
		r.reads.mu.Lock()
		round := r.reads.waiting
		r.reads.waiting = nil
		r.reads.running = round != nil
		r.reads.mu.Unlock()
		if round == nil {
			return
		}
		round.index, round.err = r.readIndex()
		close(round.done)
	}
}

func (r *replica) readIndex() (uint64, error) {
	ctx, cancel := context.WithTimeout(context.Background(), readTimeout)
	defer cancel()
	term := r.raft.CurrentTerm()
	if r.reads.barred.Load() != term {
		// A new leader does not know yet how much of what it has is committed.
		return r.Barrier(ctx)
	}
	index := r.raft.CommitIndex()
	if err := r.verify(ctx, term); err != nil {
		return 0, err
	}
	return index, nil
}

// verify makes sure that this head leads in that term, and that no other head led
// in a later one when verify was called.
//
// raft.VerifyLeader alone does not do: it also counts answers to questions that
// were sent before, which may have lain in the network while others elected
// another leader; and it counts heads without a vote. So it is only made to ask
// now, and the answers are counted here.
func (r *replica) verify(ctx context.Context, term uint64) error {
	since := time.Now()
	asked := make(chan error, 1)
	go func() { asked <- r.await(ctx, func(time.Duration) raft.Future { return r.raft.VerifyLeader() }) }()
	for {
		answered, changed := r.transport.answers.changed.wait(), r.LeaderChanged()
		enough, err := r.majority(term, since)
		if err != nil {
			return err
		}
		if r.raft.CurrentTerm() != term || !r.IsLeader() {
			return r.explain(raft.ErrNotLeader)
		}
		if enough {
			return nil
		}
		select {
		case <-answered:
		case <-changed:
		case err := <-asked:
			if err != nil && ctx.Err() == nil {
				return r.explainVerify(ctx, err)
			}
			asked = nil // others have still to answer
		case <-ctx.Done():
			return fmt.Errorf("asking the other heads who leads: %w", context.Cause(ctx))
		}
	}
}

// majority reports whether most voters have answered a question that this leader
// of that term has sent since then.
func (r *replica) majority(term uint64, since time.Time) (bool, error) {
	servers, err := r.Servers()
	if err != nil {
		return false, err
	}
	voters, yes := 0, 0
	for _, s := range servers {
		if !s.Voter {
			continue
		}
		voters++
		if s.Name == r.name || r.transport.answers.since(s.Name, term, since) {
			yes++
		}
	}
	return yes > voters/2, nil
}

// answers are the last questions to each head that it has answered as a follower.
type answers struct {
	mu      sync.Mutex
	last    map[string]answer
	changed signal
}

type answer struct {
	term    uint64    // of the leader, which the other head obeys
	sent    time.Time // when the question was sent
	matched uint64    // the last entry that the other head is known to have
}

func (a *answers) note(name string, now answer) {
	a.mu.Lock()
	if a.last == nil {
		a.last = make(map[string]answer)
	}
	if old := a.last[name]; old.term == now.term {
		now.matched = max(now.matched, old.matched)
		if now.sent.Before(old.sent) {
			now.sent = old.sent
		}
		a.last[name] = now
	} else if old.term < now.term {
		a.last[name] = now
	}
	a.mu.Unlock()
	a.changed.fire()
}

// since reports whether a head obeys the leader of that term, by an answer to a
// question that was sent since then.
func (a *answers) since(name string, term uint64, since time.Time) bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	last := a.last[name]
	return last.term == term && !last.sent.Before(since)
}

// matched is the last entry that a head is known to have, if it obeys.
func (a *answers) matched(name string, term uint64) (index uint64, obeys bool) {
	a.mu.Lock()
	defer a.mu.Unlock()
	last := a.last[name]
	return last.matched, last.term == term
}
