package consensus

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"sync/atomic"
	"time"

	"github.com/hashicorp/go-hclog"
	"github.com/hashicorp/raft"
)

const (
	// Snapshots are taken when this many entries came since the last; so many and
	// some more are kept beside a snapshot, so that a head that was away for a while
	// gets entries and not the whole state.
	snapshotThreshold = 8192
	trailingLogs      = 10240
	snapshotInterval  = 2 * time.Minute
	snapshotsKept     = 2

	// lockTimeout is how long another process may take to let go of raft.db.
	lockTimeout = time.Second

	// enqueueTimeout is how long a leader that is stuck, on its disk most likely,
	// may take to accept a proposal whose context has no deadline.
	enqueueTimeout = 10 * time.Second

	// drainTimeout bounds how long the end waits for proposals under way. A leader
	// without a majority gives them up sooner.
	drainTimeout = time.Second
)

// replica is this head's copy of the replicated log and of the state that the log
// makes, and its vote.
type replica struct {
	name string
	raft *raft.Raft
	*storage
	machine   *machine
	transport *transport
	members   *gossip
	started   time.Time
	reads     reads

	leaderChanged signal
	underWay      flight
	synced        atomic.Uint64 // see SyncApplied
	syncing       atomic.Bool
	closed        chan struct{}
}

// openReplica restores the state from disk and begins to take part.
func openReplica(cfg *Config, fsm raft.FSM, trans *transport, logger hclog.Logger) (r *replica, err error) {
	disk, err := openStorage(cfg, logger)
	if err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			_ = disk.close()
		}
	}()
	r = &replica{
		name:      cfg.Name,
		storage:   disk,
		machine:   &machine{fsm: fsm},
		transport: trans,
		started:   time.Now(),
		closed:    make(chan struct{}),
	}
	replayed, err := r.replay(r.machine, trans)
	if err != nil {
		return nil, fmt.Errorf("restoring the state from %s: %w", cfg.Dir, err)
	}
	r.machine.record = r.record

	conf := raft.DefaultConfig()
	conf.LocalID = raft.ServerID(cfg.Name)
	conf.HeartbeatTimeout = cfg.Timing.Heartbeat
	conf.ElectionTimeout = cfg.Timing.Election
	conf.LeaderLeaseTimeout = cfg.Timing.Lease
	conf.CommitTimeout = cfg.Timing.Commit
	conf.SnapshotThreshold = snapshotThreshold
	conf.SnapshotInterval = snapshotInterval
	conf.TrailingLogs = trailingLogs
	conf.NoSnapshotRestoreOnStart = replayed // done
	conf.ShutdownOnRemove = false            // a removed leader steps down; what else to do is the caller's
	conf.NoLegacyTelemetry = true
	conf.Logger = logger
	r.disk.handOver = r.abdicate
	if r.raft, err = raft.NewRaft(conf, r.machine, r.store, r.store, r.snaps, trans); err != nil {
		return nil, fmt.Errorf("starting raft from %s: %w", cfg.Dir, err)
	}
	// raft calls the filter in its own loop, right after the change. That is all
	// that is wanted: no channel, which could be full.
	r.raft.RegisterObserver(raft.NewObserver(nil, false, func(o *raft.Observation) bool {
		switch o.Data.(type) {
		case raft.LeaderObservation, raft.RaftState:
			r.leaderChanged.fire()
		}
		return false
	}))
	return r, nil
}

// close ends raft without a word to the other heads.
func (r *replica) close() error {
	// Raft forgets what is in the queue of the state machine when it ends, and who
	// waits for it would wait for ever.
	r.underWay.drain(drainTimeout)
	close(r.closed)
	ended := r.raft.Shutdown()
	// Raft waits for its calls to other heads, so these must end first.
	errs := []error{r.transport.Close(), ended.Error(), r.storage.close()}
	if err := errors.Join(errs...); err != nil {
		return fmt.Errorf("closing the raft log: %w", err)
	}
	return nil
}

// RaftAddr is the address at which other heads speak raft to this one.
func (r *replica) RaftAddr() netip.AddrPort { return r.transport.stream.advertise }

// HasState reports whether this head is, or was, part of a cluster. If not, it
// waits, and takes part as soon as the leader of a cluster adds it.
func (r *replica) HasState() (bool, error) {
	has, err := raft.HasExistingState(r.store, r.store, r.snaps)
	if err != nil {
		return false, fmt.Errorf("looking for the state of a cluster: %w", err)
	}
	return has, nil
}

// Bootstrap makes this head the only voter of a new cluster. It returns
// [ErrHasState] if there is any state on disk. It does not wait for this head to
// lead, which takes up to twice Timing.Heartbeat.
func (r *replica) Bootstrap(ctx context.Context) error {
	err := r.await(ctx, func(time.Duration) raft.Future {
		return r.raft.BootstrapCluster(raft.Configuration{Servers: []raft.Server{{
			Suffrage: raft.Voter,
			ID:       raft.ServerID(r.name),
			Address:  r.transport.LocalAddr(),
		}}})
	})
	if errors.Is(err, raft.ErrCantBootstrap) {
		return ErrHasState
	}
	if err != nil {
		return fmt.Errorf("beginning a new cluster: %w", err)
	}
	return nil
}

// Apply proposes an entry and waits until it is committed and this head's state
// machine has applied it. It returns what the state machine answered, and the
// entry's index, for WaitApplied on other heads.
//
// Only the leader can: else it returns [ErrNotLeader] with the leader's name, or
// [ErrNoLeader]. With either, and with the context's error alone, nothing was
// done. [ErrOutcomeUnknown] says that it may have been, or may yet be: when
// leadership is lost on the way, or ctx ends.
func (r *replica) Apply(ctx context.Context, data []byte) (any, uint64, error) {
	return r.propose(ctx, raft.Log{Data: data})
}

// Barrier proposes an entry that does nothing and returns its index. When it
// returns, this head, which leads, has applied every entry that was committed
// before; and so has any head where WaitApplied of this index returns. It is how a
// head that has just started finds out that it has caught up.
func (r *replica) Barrier(ctx context.Context) (uint64, error) {
	term := r.raft.CurrentTerm()
	_, index, err := r.propose(ctx, raft.Log{Extensions: barrier})
	if err == nil && r.raft.CurrentTerm() == term {
		r.reads.barred.Store(term)
	}
	return index, err
}

func (r *replica) propose(ctx context.Context, log raft.Log) (any, uint64, error) {
	var future raft.ApplyFuture
	err := r.await(ctx, func(enqueue time.Duration) raft.Future {
		future = r.raft.ApplyLog(log, enqueue)
		return future
	})
	if err != nil {
		return nil, 0, r.explain(err)
	}
	return future.Response(), future.Index(), nil
}

// Verify asks a majority of the voters whether this head still leads, now. What is
// read from the state machine after that is as new as can be.
func (r *replica) Verify(ctx context.Context) error {
	term := r.raft.CurrentTerm()
	if !r.IsLeader() {
		return r.explain(raft.ErrNotLeader)
	}
	return r.verify(ctx, term)
}

func (r *replica) explainVerify(ctx context.Context, err error) error {
	switch {
	case errors.Is(err, raft.ErrLeadershipLost), errors.Is(err, raft.ErrRaftShutdown):
		return ErrNoLeader
	case ctx.Err() != nil, errors.Is(err, ErrClosed):
		return fmt.Errorf("asking the other heads who leads: %w", err)
	}
	return r.explain(err)
}

// AppliedIndex is the index of the last entry that this head's state machine has
// applied. Right after [New] it is what it was when the head stopped.
func (r *replica) AppliedIndex() uint64 { return r.machine.applied.get() }

// CommitIndex is the index of the last entry that this head knows to be
// committed: 0 until it has heard from a leader, or leads.
func (r *replica) CommitIndex() uint64 { return r.raft.CommitIndex() }

// WaitApplied waits until this head's state machine has applied the entry with
// this index, which may come from any head's Apply, Barrier or CommitIndex. To
// know that this head has caught up, wait for the leader's.
func (r *replica) WaitApplied(ctx context.Context, index uint64) error {
	return r.machine.applied.wait(ctx, index, r.closed)
}

// Snapshot writes the state to disk and lets go of the log that it makes
// needless. Raft does so by itself too.
func (r *replica) Snapshot(ctx context.Context) error {
	err := r.await(ctx, func(time.Duration) raft.Future { return r.raft.Snapshot() })
	if err != nil && !errors.Is(err, raft.ErrNothingNewToSnapshot) {
		return fmt.Errorf("taking a snapshot: %w", err)
	}
	return nil
}

// await begins something in raft and waits for its end or for that of ctx. Raft
// itself knows no contexts: what has begun goes on.
func (r *replica) await(ctx context.Context, begin func(enqueue time.Duration) raft.Future) error {
	if ctx.Err() != nil {
		return fmt.Errorf("%w: %w", errNotBegun, context.Cause(ctx))
	}
	enqueue := enqueueTimeout
	if deadline, ok := ctx.Deadline(); ok {
		enqueue = max(time.Until(deadline), time.Nanosecond) // 0 would be for ever
	}
	if !r.underWay.begin() {
		return ErrClosed
	}
	done := make(chan error, 1)
	go func() {
		defer r.underWay.end()
		done <- begin(enqueue).Error()
	}()
	select {
	case err := <-done:
		return err
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// explain turns raft's error about a proposal into one of this package.
func (r *replica) explain(err error) error {
	switch {
	case errors.Is(err, ErrClosed), errors.Is(err, errNotBegun):
		return err
	case errors.Is(err, raft.ErrNotLeader):
		if leader, ok := r.Leader(); ok && leader != r.name {
			return &NotLeaderError{Leader: leader}
		}
		return ErrNoLeader
	case errors.Is(err, raft.ErrLeadershipTransferInProgress):
		return ErrNoLeader
	case errors.Is(err, errNotStored):
		return fmt.Errorf("%w: this one led, and cannot write its log: %w", ErrNoLeader, err)
	case errors.Is(err, raft.ErrEnqueueTimeout):
		return fmt.Errorf("%w: the leader did not take the proposal in time: %w", errNotBegun, context.DeadlineExceeded)
	}
	return fmt.Errorf("%w: %w", ErrOutcomeUnknown, err)
}
