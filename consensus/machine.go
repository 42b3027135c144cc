package consensus

import (
	"bytes"
	"errors"
	"io"

	"github.com/hashicorp/raft"
)

// barrier marks, in Log.Extensions, a command that is for this package and not
// for the caller's state machine: it is there for its index.
//
// raft's own barrier does not do: raft shows it to no state machine, so a follower
// could not tell that it has passed it.
var barrier = []byte("barrier")

// machine stands between raft and the caller's state machine, and knows how far
// the latter really is. raft's own AppliedIndex is how far the queue in front of
// it is.
//
// Raft shows it commands, configurations and snapshots, but not the empty entry
// that each new leader begins with. Every new leader therefore proposes a barrier
// (see leadership.go), so whatever index someone waits for, one that is at least
// as high comes by here soon.
type machine struct {
	fsm     raft.FSM
	applied watermark
	record  *record // nil while replaying
}

var _ raft.ConfigurationStore = (*machine)(nil)

func (m *machine) Apply(log *raft.Log) any {
	var result any
	if !bytes.Equal(log.Extensions, barrier) {
		result = m.fsm.Apply(log)
	}
	if m.record != nil {
		m.record.write(log.Index, log.Term)
	}
	m.applied.raise(log.Index)
	return result
}

// StoreConfiguration is called for each change of the raft configuration, in its
// place among the commands.
func (m *machine) StoreConfiguration(index uint64, _ raft.Configuration) {
	m.applied.raise(index)
}

func (m *machine) Snapshot() (raft.FSMSnapshot, error) { return m.fsm.Snapshot() }

// Restore learns from the reader at which index the snapshot was taken, as raft
// does not tell.
func (m *machine) Restore(src io.ReadCloser) error {
	inner := src
	if w, ok := src.(raft.ReadCloserWrapper); ok {
		inner = w.WrappedReadCloser()
	}
	snap, ok := inner.(*snapshotReader)
	if !ok {
		return errors.New("restoring a snapshot of unknown index") // a bug: all come from snapshots.Open
	}
	if err := m.fsm.Restore(src); err != nil {
		return err
	}
	m.applied.raise(snap.index)
	return nil
}
