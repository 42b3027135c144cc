package agent

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"time"

	"github.com/clustervision/luna/api"
	"github.com/clustervision/luna/consensus"
	"github.com/clustervision/luna/inventory"
)

// patience is how long a write waits for a leader: an election takes about a
// second, so whoever waits longer waits for heads that are away.
const patience = 8 * time.Second

// perSecond is how many bytes of a command are applied in a second, at the very
// least: a whole inventory in one command takes its time on a busy head.
const perSecond = 100 << 10

// Propose puts a command through Raft and returns when this head has applied
// it, so that its asker reads his own write here; where the disk of this head fails,
// when the leader has, and says so.
func (a *Agent) Propose(ctx context.Context, by inventory.Asker, c inventory.Command) (inventory.Result, error) {
	m, err := a.self()
	if err != nil {
		return inventory.Result{}, err
	}
	return m.propose(ctx, by, c)
}

// byItself is who asks where nobody did: the head.
func (m *member) byItself() inventory.Asker { return inventory.Asker{By: m.cfg.Name} }

// Preview tells what a command would do, by this head's state.
func (a *Agent) Preview(by inventory.Asker, c inventory.Command) (inventory.Result, []inventory.Change, *inventory.Inventory, error) {
	m, err := a.self()
	if err != nil {
		return inventory.Result{}, nil, nil, err
	}
	r, changes, then := m.machine.Preview(inventory.Envelope{At: time.Now().UTC(), Asker: by, Command: c})
	return r, changes, then, nil
}

// propose puts a command through by the rules of the mesh, which all its heads know.
func (m *member) propose(ctx context.Context, by inventory.Asker, c inventory.Command) (inventory.Result, error) {
	return m.proposeBy(ctx, by, c, m.machine.View().Format())
}

// proposeBy puts a command through by the rules of a format. A newer one than the
// mesh's is entered by that: only a head that knows that all others know it, or that
// there are none, may do so.
func (m *member) proposeBy(ctx context.Context, by inventory.Asker, c inventory.Command, format int) (inventory.Result, error) {
	if err := c.Validate(); err != nil {
		return inventory.Result{}, err
	}
	if err := m.outside(); err != nil {
		return inventory.Result{}, inventory.Errorf(inventory.KindRefused, "head", m.cfg.Name, "%v", err)
	}
	// The request's identity makes it safe to send the command again when a head
	// died between doing it and saying so.
	data, err := inventory.Envelope{Version: format, Request: rand.Text(), At: time.Now().UTC(), Asker: by, Command: c}.Encode()
	if err != nil {
		return inventory.Result{}, err
	}
	ctx, cancel := context.WithTimeout(ctx, patience+time.Duration(len(data)/perSecond)*time.Second)
	defer cancel()
	open := false // an attempt may have succeeded, or may yet
	for {
		leader := m.peer.LeaderChanged()
		done, err := m.tryPropose(ctx, c, data)
		open = open || errors.Is(err, consensus.ErrOutcomeUnknown) || errors.Is(err, inventory.ErrUnknown)
		if err == nil {
			if err := m.waitApplied(ctx, done.Index); errors.Is(err, errDisk) {
				api.Stale(ctx, fmt.Sprintf("the change is made, but head '%s' does not know it yet: %v", m.cfg.Name, err))
			} else if err != nil {
				return inventory.Result{}, inventory.Errorf(inventory.KindUnknown, "", "", "the change is made, but this head has not caught up with it: %v", err)
			}
			return done.Result, nil
		}
		if ctx.Err() == nil && again(err) && !m.outvoted() {
			select {
			case <-leader:
				continue
			case <-time.After(100 * time.Millisecond):
				continue
			case <-ctx.Done():
			}
		}
		err = m.explain(err)
		if open && errors.Is(err, inventory.ErrUnavailable) {
			err = inventory.Errorf(inventory.KindUnknown, "", "", "the change may have been made or not, look before trying again: %v", err)
		}
		return inventory.Result{}, err
	}
}

// again tells whether the same command, sent again, may fare better.
func again(err error) bool {
	return errors.Is(err, consensus.ErrNoLeader) || errors.Is(err, consensus.ErrNotLeader) || errors.Is(err, consensus.ErrOutcomeUnknown) ||
		errors.Is(err, inventory.ErrUnavailable) || errors.Is(err, inventory.ErrUnknown)
}

// tryPropose asks the leader once: this head, or the one that leads.
func (m *member) tryPropose(ctx context.Context, c inventory.Command, data []byte) (api.Applied, error) {
	applied, err := m.apply(ctx, c, data)
	var other *consensus.NotLeaderError
	if !errors.As(err, &other) {
		return applied, err
	}
	h, ok := m.machine.View().Head(other.Leader)
	if !ok {
		return api.Applied{}, err // it has led longer than this head has known of it
	}
	return m.clientOf(h).Forward(ctx, data)
}

// apply puts a command into the log, if this head leads. A token is held against
// what the time is, and not against what it was at the last tick.
func (m *member) apply(ctx context.Context, c inventory.Command, data []byte) (api.Applied, error) {
	if _, admits := c.(inventory.AdmitHead); admits {
		if k := m.keeper.Load(); k != nil {
			k.count(ctx)
		}
	}
	r, index, err := m.peer.Apply(ctx, data)
	if err != nil {
		return api.Applied{}, err
	}
	return api.Applied{Index: index, Result: r.(inventory.Result)}, nil
}

// Forwarded applies a command that another head took, if this one leads.
func (a *Agent) Forwarded(ctx context.Context, data []byte) (api.Applied, error) {
	m, err := a.self()
	if err != nil {
		return api.Applied{}, err
	}
	e, err := inventory.Decode(data)
	if err != nil {
		// It must never get into the log, where no head could pass over it.
		return api.Applied{}, inventory.Errorf(inventory.KindInvalid, "", "", "%v", err)
	}
	applied, err := m.apply(ctx, e.Command, data)
	if err == nil {
		return applied, nil
	}
	if ctx.Err() != nil && !errors.Is(err, consensus.ErrOutcomeUnknown) {
		return api.Applied{}, m.stopping(err) // whatever ended it
	}
	return api.Applied{}, m.explain(err)
}

// explain says in an administrator's words why a write did not go through.
func (m *member) explain(err error) error {
	var refusal *inventory.Error
	switch {
	case errors.Is(err, consensus.ErrOutcomeUnknown) && !errors.Is(err, consensus.ErrClosed) && m.tooFew(): // a leader that still hears them
		return inventory.Errorf(inventory.KindUnknown, "", "", "no change can be made now: %s; this one may be made when that is mended: look before trying again", m.undecided())
	case errors.Is(err, consensus.ErrOutcomeUnknown):
		return inventory.Errorf(inventory.KindUnknown, "", "", "the head that leads went away in the middle: the change may have been made or not, look before trying again (%v)", err)
	case errors.Is(err, consensus.ErrNoLeader), errors.Is(err, consensus.ErrNotLeader), errors.Is(err, context.DeadlineExceeded):
		return inventory.Errorf(inventory.KindUnavailable, "", "", "no change can be made now: %s", m.undecided())
	case errors.Is(err, consensus.ErrClosed):
		return m.stopping(err)
	case errors.Is(err, inventory.ErrUnavailable) && m.outvoted(): // the leader of before does not answer, because of this
		return inventory.Errorf(inventory.KindUnavailable, "", "", "no change can be made now: %s", m.undecided())
	case errors.As(err, &refusal):
		return refusal
	}
	return err
}

// stopping says that this head ends and did nothing: who asked turns to another,
// and a head that asked finds the next leader.
func (m *member) stopping(err error) error {
	return inventory.Errorf(inventory.KindUnavailable, "head", m.cfg.Name, "head '%s' is stopping, ask another: %v", m.cfg.Name, err)
}

// undecided says why no change can be made, as far as this head knows.
func (m *member) undecided() string {
	disk := m.peer.DiskError()
	if disk == nil {
		return m.quorum()
	}
	why := fmt.Sprintf("%v (make room, or mend the disk of '%s')", disk, m.cfg.Name)
	if len(m.voters()) > 1 {
		why += "; " + m.quorum()
	}
	return why
}
