package consensus

import (
	"errors"
	"fmt"

	"github.com/hashicorp/raft"
	raftboltdb "github.com/hashicorp/raft-boltdb/v2"
	"go.etcd.io/bbolt"
)

// upgrade writes a store of the release before, which was raft-boltdb's and had no
// checksums, anew in today's form. It takes what is there for true, as that release
// did, as far as it makes sense.
func (s *store) upgrade() error {
	damaged := func(format string, args ...any) error {
		return &DamagedError{Path: s.path, Reason: fmt.Sprintf(format, args...)}
	}
	var from seal
	err := s.db.View(func(tx *bbolt.Tx) error {
		return tx.Bucket(bucketConf).ForEach(func(key, value []byte) error {
			name := string(key)
			number := name == keyTerm || name == keyVoteTerm
			if number && len(value) != 8 || !number && name != keyVote {
				return damaged("it has an odd value %q", name)
			}
			from = from.with(name, value)
			return nil
		})
	})
	if err != nil {
		return err
	}
	if err := s.db.Close(); err != nil { // a second time does no harm
		return err
	}
	old, err := raftboltdb.New(raftboltdb.Options{
		Path:        s.path,
		BoltOptions: &bbolt.Options{Timeout: lockTimeout, ReadOnly: true},
	})
	if err != nil {
		return fmt.Errorf("opening the raft log %s of an older release: %w", s.path, err)
	}
	defer func() { _ = old.Close() }() // it was only read
	get := func(index uint64, log *raft.Log) error {
		if err := old.GetLog(index, log); err != nil {
			return damaged("entry %d: %v", index, err)
		}
		if log.Index != index || log.Type > raft.LogConfiguration || log.Term > from.number(keyTerm) {
			return damaged("entry %d makes no sense: %d of term %d and type %d", index, log.Index, log.Term, log.Type)
		}
		return nil
	}
	if from.First, from.Last, err = lastRun(old); err != nil {
		return damaged("%v", err)
	}
	db, err := createStore(s.path, &from, get)
	if err != nil {
		return fmt.Errorf("writing the raft log %s of an older release anew: %w", s.path, err)
	}
	s.db = db
	return nil
}

// lastRun is from where to where a log has all entries. raft-boltdb keeps what was
// before a snapshot that came from elsewhere, which is of no use.
func lastRun(logs raft.LogStore) (first, last uint64, err error) {
	if first, err = logs.FirstIndex(); err != nil {
		return 0, 0, err
	}
	if last, err = logs.LastIndex(); err != nil {
		return 0, 0, err
	}
	for i := last; i > first; i-- {
		var log raft.Log
		if err := logs.GetLog(i-1, &log); errors.Is(err, raft.ErrLogNotFound) {
			return i, last, nil
		}
	}
	return first, last, nil
}
