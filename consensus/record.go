package consensus

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"os"
	"syscall"

	"github.com/hashicorp/raft"
)

// A record remembers on disk the last entry that was applied here. What was
// applied was committed, so at the next start the log may be replayed so far
// without asking anyone. Raft alone keeps no such thing: it would restore the
// last snapshot, which may be thousands of entries old, and wait for a leader. A
// head that starts while the others are down would then know next to nothing,
// and it must go on booting nodes.
//
// It is written in place without fsync, about a microsecond per entry: whatever
// reaches the disk is true, if perhaps old, and the checksum catches a torn write.
// It is there twice, so that one damaged byte does not cost a head its state.
type record struct{ file *os.File }

const recordSize = 8 + 8 + 4 // index, term, CRC-32 of both

func openRecord(path string) (*record, error) {
	file, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
	if errors.Is(err, syscall.EISDIR) {
		return nil, &DamagedError{Path: path, Reason: "it is a directory"}
	}
	if err != nil {
		return nil, fmt.Errorf("opening the record of what was applied: %w", err)
	}
	return &record{file}, nil
}

func (r *record) write(index, term uint64) {
	var b [2 * recordSize]byte
	binary.BigEndian.PutUint64(b[0:], index)
	binary.BigEndian.PutUint64(b[8:], term)
	binary.BigEndian.PutUint32(b[16:], crc32.ChecksumIEEE(b[:16]))
	copy(b[recordSize:], b[:recordSize])
	_, _ = r.file.WriteAt(b[:], 0) // an older record is true as well, a broken one is seen
}

func (r *record) read() (index, term uint64, ok bool) {
	for i := range int64(2) {
		var b [recordSize]byte
		if _, err := r.file.ReadAt(b[:], i*recordSize); err == nil && crc32.ChecksumIEEE(b[:16]) == binary.BigEndian.Uint32(b[16:]) {
			return binary.BigEndian.Uint64(b[0:]), binary.BigEndian.Uint64(b[8:]), true
		}
	}
	return 0, 0, false
}

// agree checks that the log and the snapshots hold what was applied. If not, they
// have lost what was on disk once, and what this head may have told others that it
// has: as where an old copy was put in their place, or a disk lied about a sync.
func (r *record) agree(logs *store, newest *raft.SnapshotMeta) error {
	index, term, ok := r.read()
	if !ok || newest != nil && index <= newest.Index {
		return nil
	}
	last, _ := logs.LastIndex()
	if index > last {
		return &DamagedError{Path: logs.path, Reason: fmt.Sprintf("it ends with entry %d, but entry %d was here once", last, index)}
	}
	var entry raft.Log
	if err := logs.GetLog(index, &entry); err != nil {
		return err
	}
	if entry.Term != term {
		return &DamagedError{Path: logs.path, Reason: fmt.Sprintf("entry %d is of term %d, but one of term %d was applied", index, entry.Term, term)}
	}
	return nil
}

func (r *record) close() error {
	_ = r.file.Sync()
	return r.file.Close()
}

// replay brings m to the recorded entry, from the last snapshot and the log, and
// leaves a snapshot of that, from which raft then goes on. It is what
// raft.RecoverCluster does, but with entries that are known to be committed.
//
// Where the disk does not take that snapshot, it is held in memory: the head knows
// what it knew, and is silent until it can write (see disk.go). Snapshot and log on
// disk stay what they were, so nothing depends on it.
//
// It reports false, and has left m alone, if there is nothing to gain or if what
// is on disk does not fit together: then raft restores by itself.
func (s *storage) replay(m *machine, trans raft.Transport) (bool, error) {
	logs, snaps := s.store, s.snaps
	index, term, ok := s.record.read()
	if !ok {
		return false, nil
	}
	metas, err := snaps.List()
	if err != nil {
		return false, fmt.Errorf("listing snapshots: %w", err)
	}
	var base raft.SnapshotMeta // of index 0, if there is none
	if len(metas) > 0 {
		base = *metas[0]
	}
	if index <= base.Index || !inLog(logs, base.Index+1, index, term) {
		return false, nil
	}
	if base.Index > 0 {
		_, src, err := snaps.Open(base.ID)
		if err != nil {
			return false, nil // raft tries older ones
		}
		err = m.Restore(src)
		_ = src.Close()
		if err != nil {
			return false, nil // and has them restored over whatever this one left
		}
	}
	for i := base.Index + 1; i <= index; i++ {
		var entry raft.Log
		if err := logs.GetLog(i, &entry); err != nil {
			return false, fmt.Errorf("reading entry %d of the raft log: %w", i, err)
		}
		switch entry.Type {
		case raft.LogCommand:
			m.Apply(&entry)
		case raft.LogConfiguration:
			base.Configuration, base.ConfigurationIndex = raft.DecodeConfiguration(entry.Data), i
		}
	}
	base.Index, base.Term = index, term
	err = keep(m, snaps, base, trans)
	if refusesWrites(err) {
		s.disk.fail(err)
		held := raft.NewInmemSnapshotStore()
		err = keep(m, held, base, trans)
		snaps.held.Store(held)
	}
	if err != nil {
		return false, fmt.Errorf("writing a snapshot: %w", err)
	}
	return true, nil
}

// keep writes a snapshot of m, which is where meta says, or leaves none.
func keep(m *machine, snaps raft.SnapshotStore, meta raft.SnapshotMeta, trans raft.Transport) error {
	sink, err := snaps.Create(raft.SnapshotVersionMax, meta.Index, meta.Term, meta.Configuration, meta.ConfigurationIndex, trans)
	if err != nil {
		return err
	}
	if err := persist(m, sink); err != nil {
		_ = sink.Cancel()
		return err
	}
	return nil
}

func persist(m *machine, sink raft.SnapshotSink) error {
	snap, err := m.Snapshot()
	if err != nil {
		return err
	}
	defer snap.Release()
	if err := snap.Persist(sink); err != nil {
		return err
	}
	return sink.Close()
}

// inLog reports whether the log has all entries from first to last, and the last
// of that term.
func inLog(logs raft.LogStore, first, last, term uint64) bool {
	lo, err := logs.FirstIndex()
	if err != nil || lo == 0 || lo > first {
		return false
	}
	var entry raft.Log
	return logs.GetLog(last, &entry) == nil && entry.Term == term
}
