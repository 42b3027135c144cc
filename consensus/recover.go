package consensus

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"time"

	"github.com/hashicorp/raft"
)

// Restore replaces the state of the whole cluster by a snapshot of size bytes that
// the machine wrote once: on this head, which must lead, and by it on all others,
// also on those that are away now. Who votes does not change. It returns when a
// majority has it. The errors are those of Apply.
//
// The snapshot is read whole before anything is done. But the caller must be sure
// that the machine will take it: a machine that turns it down leaves raft no other
// way than to stop the process.
func (r *replica) Restore(ctx context.Context, snapshot io.Reader, size int64) error {
	var state bytes.Buffer
	if n, err := io.Copy(&state, io.LimitReader(snapshot, size+1)); err != nil {
		return fmt.Errorf("reading the snapshot to restore: %w", err)
	} else if n != size {
		return fmt.Errorf("reading the snapshot to restore: it has not the %d bytes that were told", size)
	}
	if !r.IsLeader() {
		return r.explain(raft.ErrNotLeader)
	}
	meta := &raft.SnapshotMeta{Version: raft.SnapshotVersionMax, Size: size}
	err := r.await(ctx, func(enqueue time.Duration) raft.Future {
		return done{r.raft.Restore(meta, &state, enqueue)}
	})
	if err != nil {
		return fmt.Errorf("restoring a snapshot: %w", r.explain(err))
	}
	return nil
}

// done is a future whose end has come.
type done struct{ err error }

func (d done) Error() error { return d.err }

// Recover makes this head, whose Peer must be closed, the only voter of its
// cluster, when a majority of the voters is lost for good and nothing can be
// decided any more. It keeps everything that this head has, in snapshots and in
// the log; fsm is used on the way, and must not be used afterwards. After it,
// [New] gives a peer that leads alone, and to which others may be added again.
//
// It is the last resort, and has its price:
//
//   - What the others had committed and this head had not yet received is lost.
//   - Entries that were in this head's log and perhaps never committed, as it did
//     not hear of it, are taken as committed: who proposed them may have been told
//     that the outcome is unknown.
//   - The heads that were lost must never come back with their old state: with each
//     other they would be a majority of the old cluster. Wipe them first.
func Recover(cfg Config, fsm raft.FSM) (err error) {
	if err := cfg.prepare(); err != nil {
		return err
	}
	logger := newRaftLog(context.Background(), cfg.Logger, new(limiter))
	disk, err := openStorage(&cfg, logger)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, disk.close()) }()
	if has, err := raft.HasExistingState(disk.store, disk.store, disk.snaps); err != nil || !has {
		return errors.Join(err, fmt.Errorf("recovering from %s: there is no state of a cluster, so nothing to recover", cfg.Dir))
	}
	conf := raft.DefaultConfig()
	conf.LocalID = raft.ServerID(cfg.Name)
	conf.Logger = logger
	self := raft.ServerAddress(netip.AddrPortFrom(cfg.Advertise, uint16(cfg.RaftPort)).String())
	_, trans := raft.NewInmemTransport(self) // it only puts the address in words
	alone := raft.Configuration{Servers: []raft.Server{{Suffrage: raft.Voter, ID: conf.LocalID, Address: self}}}
	if err := raft.RecoverCluster(conf, &machine{fsm: fsm}, disk.store, disk.store, disk.snaps, trans, alone); err != nil {
		return fmt.Errorf("recovering from %s: %w", cfg.Dir, err)
	}
	return nil
}
