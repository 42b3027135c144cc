package consensus

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"github.com/hashicorp/go-hclog"
	"github.com/hashicorp/raft"
	raftboltdb "github.com/hashicorp/raft-boltdb/v2"
	"go.etcd.io/bbolt"
)

// storage is everything that a head has on disk.
type storage struct {
	store  *watchedStore
	snaps  raft.SnapshotStore
	record *record
	*disk
}

// openStorage opens what is in the directory, and begins it where there is nothing.
func openStorage(cfg *Config, logger hclog.Logger) (s *storage, err error) {
	if err := os.MkdirAll(cfg.Dir, 0o700); err != nil {
		return nil, fmt.Errorf("creating the directory of the raft log: %w", err)
	}
	files, err := raft.NewFileSnapshotStoreWithLogger(cfg.Dir, snapshotsKept, logger)
	if err != nil {
		return nil, fmt.Errorf("opening the snapshots in %s: %w", cfg.Dir, err)
	}
	path := filepath.Join(cfg.Dir, "raft.db")
	store, err := raftboltdb.New(raftboltdb.Options{
		Path: path,
		// The list of free pages is found by a scan at the start instead of being
		// written with every entry.
		BoltOptions: &bbolt.Options{Timeout: lockTimeout, NoFreelistSync: true, FreelistType: bbolt.FreelistMapType},
	})
	switch {
	case errors.Is(err, bbolt.ErrTimeout):
		return nil, fmt.Errorf("opening the raft log %s: another process uses it: is an agent running already?", path)
	case errors.Is(err, bbolt.ErrInvalid), errors.Is(err, bbolt.ErrChecksum), errors.Is(err, bbolt.ErrVersionMismatch):
		return nil, &DamagedError{Path: path, Reason: err.Error()}
	case err != nil:
		return nil, fmt.Errorf("opening the raft log %s: %w", path, err)
	}
	s = &storage{snaps: snapshots{files}, disk: new(disk)}
	s.store = &watchedStore{store, s.disk}
	if s.record, err = openRecord(filepath.Join(cfg.Dir, "applied")); err != nil {
		_ = store.Close()
		return nil, err
	}
	return s, nil
}

func (s *storage) close() error { return errors.Join(s.record.close(), s.store.Close()) }
