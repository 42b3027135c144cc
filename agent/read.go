package agent

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/clustervision/luna/consensus"
	"github.com/clustervision/luna/inventory"
)

// readPatience is how long a read waits to become fresh: about as long as the
// heads take to agree on another leader.
const readPatience = 3 * time.Second

// Fresh returns when this head has applied all that was committed before. One that is no
// member refuses: that it knows of no objects says nothing of any cluster.
func (a *Agent) Fresh(ctx context.Context) error {
	m, err := a.self()
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, readPatience)
	defer cancel()
	old := func(ago time.Duration, why error) error {
		return fmt.Errorf("this is what head '%s' knew at %s, and may be old: %w", m.cfg.Name, clock(time.Now().Add(-ago)), why)
	}
	for {
		if err := m.outside(); err != nil {
			return old(m.standing().unsure, err)
		}
		leader := m.peer.LeaderChanged()
		index, err := m.readIndex(ctx)
		if err == nil {
			err = m.waitApplied(ctx, index)
		}
		if err == nil {
			return nil
		}
		if errors.Is(err, errDisk) {
			return old(m.standing().unsure, err)
		}
		if away := m.peer.LastContact(); ctx.Err() != nil || away > cutOff {
			return old(away, errors.New(m.quorum()))
		}
		select {
		case <-leader:
		case <-time.After(50 * time.Millisecond):
		case <-ctx.Done():
		}
	}
}

// fresh waits until this head has applied all that was committed before.
func (m *member) fresh(ctx context.Context) error {
	index, err := m.readIndex(ctx)
	if err != nil {
		return err
	}
	return m.peer.WaitApplied(ctx, index)
}

// readIndex asks the head that leads, which asks a majority whether it still does,
// how far a head must be to be fresh (Raft's read index).
func (m *member) readIndex(ctx context.Context) (uint64, error) {
	index, err := m.peer.ReadIndex(ctx)
	var other *consensus.NotLeaderError
	if errors.As(err, &other) {
		h, ok := m.machine.View().Head(other.Leader)
		if !ok {
			return 0, err // it has led longer than this head has known of it
		}
		index, err = m.clientOf(h).ReadIndex(ctx)
		if errors.Is(err, inventory.ErrNotFound) { // a release before format 2
			s, oldErr := m.clientOf(h).Self(ctx)
			index, err = s.CommitIndex, oldErr
		}
	}
	return index, err
}

// ReadIndex answers another head's fresh.
func (a *Agent) ReadIndex(ctx context.Context) (uint64, error) {
	m, err := a.self()
	if err != nil {
		return 0, err
	}
	index, err := m.peer.ReadIndex(ctx)
	if err != nil {
		return 0, inventory.Errorf(inventory.KindUnavailable, "head", m.cfg.Name, "%v", err)
	}
	return index, nil
}

// catchUp waits a moment until this head has what the leader has committed.
func (m *member) catchUp(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, 2*time.Second)
	defer cancel()
	return m.fresh(ctx)
}
