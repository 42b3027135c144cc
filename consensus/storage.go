package consensus

import (
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"syscall"
	"time"

	"github.com/hashicorp/go-hclog"
	"github.com/hashicorp/raft"
	"go.etcd.io/bbolt"
	"golang.org/x/sys/unix"
)

// storage is everything that a head has on disk.
type storage struct {
	store  *store
	snaps  *snapshots
	record *record
	*disk
}

// openStorage opens what is in the directory, and begins it where there is nothing.
// Everything is read and checked before anything is relied on: the error is a
// *[DamagedError] where it is not what was written once.
func openStorage(cfg *Config, logger hclog.Logger) (_ *storage, err error) {
	if err := os.MkdirAll(cfg.Dir, 0o700); err != nil {
		return nil, fmt.Errorf("creating the directory of the raft log: %w", err)
	}
	s := new(storage)
	if s.snaps, err = openSnapshots(cfg.Dir, logger); err != nil {
		return nil, err
	}
	newest, bad, err := s.snaps.inspect()
	if err != nil {
		return nil, err
	}
	path := filepath.Join(cfg.Dir, "raft.db")
	s.disk = newDisk(path, cfg.Logger)
	s.store = &store{path: path, disk: s.disk, covered: s.snaps.newest}
	s.disk.mend = s.store.retry
	if err := s.store.open(newest != nil || len(bad) > 0); err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			_ = s.store.close()
		}
	}()
	if err := s.agree(newest, bad, cfg.Logger); err != nil {
		return nil, err
	}
	if s.record, err = openRecord(filepath.Join(cfg.Dir, "applied")); err != nil {
		return nil, err
	}
	if err := s.record.agree(s.store, newest); err != nil {
		_ = s.record.close()
		return nil, err
	}
	return s, nil
}

func (s *storage) close() error {
	s.disk.close()
	return errors.Join(s.record.close(), s.store.close())
}

// agree checks that the snapshots and the log make one whole, and takes damaged
// snapshots aside that are not needed for it.
func (s *storage) agree(newest *raft.SnapshotMeta, bad []badSnapshot, log *slog.Logger) error {
	var index, term uint64
	if newest != nil {
		index, term = newest.Index, newest.Term
	}
	have := s.store.seal
	covers := have.First <= index+1
	for _, b := range bad {
		if b.index > index && (!covers || have.Last < b.index) {
			return &DamagedError{Path: b.path, Reason: fmt.Sprintf("%v; and the log does not hold all that the snapshot held", b.reason)}
		}
	}
	switch {
	case !covers:
		return &DamagedError{Path: s.store.path, Reason: fmt.Sprintf("its first entry is %d, and there is no snapshot of what was before", have.First)}
	case have.number(keyTerm) < term:
		return &DamagedError{Path: s.store.path, Reason: fmt.Sprintf("it is in term %d, and there is a snapshot of term %d", have.number(keyTerm), term)}
	}
	for _, b := range bad {
		if err := b.aside(); err != nil {
			return fmt.Errorf("taking a damaged snapshot aside: %w", err)
		}
		log.Warn("snapshot was damaged, and is not needed: an older one and the log make up for it", "path", b.path, "reason", b.reason)
	}
	return nil
}

// open opens raft.db, or creates it. expected says that there must be one.
func (s *store) open(expected bool) error {
	file, err := os.OpenFile(s.path, os.O_RDWR, 0)
	switch {
	case errors.Is(err, syscall.EISDIR):
		return &DamagedError{Path: s.path, Reason: "it is a directory"}
	case errors.Is(err, os.ErrNotExist):
		return s.begin(expected, "it is missing")
	case err != nil:
		return fmt.Errorf("opening the raft log: %w", err)
	}
	opened := false
	defer func() {
		if !opened {
			_ = file.Close()
		}
	}()
	if err := lock(file); err != nil {
		return err
	}
	if info, err := file.Stat(); err == nil && info.Size() == 0 {
		return s.begin(expected, "it is empty")
	}
	buckets, blank, err := checkPages(file)
	switch {
	case err != nil:
		return &DamagedError{Path: s.path, Reason: err.Error()}
	case blank:
		return s.begin(expected, "it is empty")
	case !slices.Equal(buckets, []string{string(bucketConf), string(bucketLogs)}):
		return &DamagedError{Path: s.path, Reason: fmt.Sprintf("it has %q instead of a raft log", buckets)}
	}
	opened = true // whatever comes: bbolt closes the file
	if s.db, err = openBolt(file); err != nil {
		return fmt.Errorf("opening the raft log %s: %w", s.path, err)
	}
	if err := s.take(); err != nil {
		return errors.Join(err, s.db.Close())
	}
	return nil
}

// take checks what is in an open file, and brings it into today's form.
func (s *store) take() error {
	sealed := false
	_ = s.db.View(func(tx *bbolt.Tx) error {
		sealed = tx.Bucket(bucketConf).Get(keySeal) != nil
		return nil
	})
	if !sealed {
		if err := s.upgrade(); err != nil {
			return err
		}
	}
	if err := s.load(); err != nil {
		return &DamagedError{Path: s.path, Reason: err.Error()}
	}
	return nil
}

// begin makes an empty store, unless there was one.
func (s *store) begin(expected bool, reason string) (err error) {
	if info, err := os.Stat(filepath.Join(filepath.Dir(s.path), "applied")); err == nil && info.Size() > 0 {
		expected = true
	}
	if expected {
		return &DamagedError{Path: s.path, Reason: reason + ", but other files of a raft store are there"}
	}
	if s.db, err = createStore(s.path, nil, nil); err != nil {
		return fmt.Errorf("creating the raft log %s: %w", s.path, err)
	}
	return nil
}

// lock waits for a moment until no other process has the file locked.
func lock(file *os.File) error {
	for deadline := time.Now().Add(lockTimeout); ; time.Sleep(lockTimeout / 20) {
		err := unix.Flock(int(file.Fd()), unix.LOCK_EX|unix.LOCK_NB)
		switch {
		case err == nil:
			return nil
		case !errors.Is(err, unix.EWOULDBLOCK):
			return fmt.Errorf("locking the raft log %s: %w", file.Name(), err)
		case time.Now().After(deadline):
			return fmt.Errorf("opening the raft log %s: another process uses it: is an agent running already?", file.Name())
		}
	}
}
