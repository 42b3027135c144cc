package consensus

import (
	"sync"

	"github.com/hashicorp/raft"
	raftboltdb "github.com/hashicorp/raft-boltdb/v2"
)

// disk is what is known of the disk below the raft store.
type disk struct {
	mu      sync.Mutex
	err     error
	changed signal
}

func (d *disk) note(err error) error {
	d.mu.Lock()
	was := d.err
	d.err = err
	d.mu.Unlock()
	if (was == nil) != (err == nil) {
		d.changed.fire()
	}
	return err
}

// DiskError is nil, or why this head cannot write to its raft store now, in words
// for an administrator. It goes on trying by itself.
func (d *disk) DiskError() error {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.err
}

// DiskChanged returns a channel that is closed when DiskError comes or goes. Take
// the channel first and look second, to miss nothing.
func (d *disk) DiskChanged() <-chan struct{} { return d.changed.wait() }

// watchedStore is the raft store, which tells disk how each write went.
type watchedStore struct {
	*raftboltdb.BoltStore
	disk *disk
}

func (s *watchedStore) StoreLog(log *raft.Log) error { return s.StoreLogs([]*raft.Log{log}) }
func (s *watchedStore) StoreLogs(logs []*raft.Log) error {
	return s.disk.note(s.BoltStore.StoreLogs(logs))
}

func (s *watchedStore) DeleteRange(first, last uint64) error {
	return s.disk.note(s.BoltStore.DeleteRange(first, last))
}
func (s *watchedStore) Set(key, value []byte) error { return s.disk.note(s.BoltStore.Set(key, value)) }
func (s *watchedStore) SetUint64(key []byte, value uint64) error {
	return s.disk.note(s.BoltStore.SetUint64(key, value))
}
