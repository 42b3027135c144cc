package consensus

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync"

	"github.com/hashicorp/raft"
	"go.etcd.io/bbolt"
)

const (
	// The keys under which raft keeps its term and its vote, in raft.go there.
	keyTerm     = "CurrentTerm"
	keyVoteTerm = "LastVoteTerm"
	keyVote     = "LastVoteCand"

	// recentLogs is how many entries are kept in memory: what is sent to the other
	// heads is nearly always among them.
	recentLogs = 512
)

// The buckets of raft.db, which are those of raft-boltdb, so that a release which
// knows only that finds entries that it cannot read, instead of none.
var (
	bucketLogs = []byte("logs") // entries, by index
	bucketConf = []byte("conf") // the seal
	keySeal    = []byte("seal")
)

// errNotStored says that a write failed and has left nothing behind.
var errNotStored = errors.New("the disk of this head does not take it")

// store is raft's log and its few values, in a bbolt file.
//
// raft-boltdb does the same, and was here before. But it gives no checksums, and
// none could be added around it that would not leave a hole: bbolt writes a page
// beside the old one and then points to the new, so that a damaged pointer leads to
// an old page, sound in itself, on which the last entries or a vote are missing.
// That is only seen if each transaction says also what there must be: the seal.
// raft-boltdb has no transaction to put it into. What it does besides is fifty
// lines.
type store struct {
	path string
	disk *disk
	// covered is the index of the newest snapshot: no entry before it is needed.
	covered func() (uint64, error)

	writing sync.Mutex // held for a whole write
	vote    []byte     // a value of keyVoteTerm to be written with keyVote

	mu     sync.RWMutex // of what follows; db is only replaced, under both
	db     *bbolt.DB
	seal   seal
	recent [recentLogs]*raft.Log
}

var (
	_ raft.LogStore    = (*store)(nil)
	_ raft.StableStore = (*store)(nil)
)

// openBolt opens a file that is sound. It stays locked against other processes.
func openBolt(file *os.File) (*bbolt.DB, error) {
	return bbolt.Open(file.Name(), 0o600, &bbolt.Options{
		Timeout: lockTimeout,
		// The list of free pages is found by a scan at the start instead of being
		// written with every entry.
		NoFreelistSync: true,
		FreelistType:   bbolt.FreelistMapType,
		OpenFile:       func(string, int, os.FileMode) (*os.File, error) { return file, nil },
	})
}

// createStore makes a new file at the path, with what another store has, if any. It
// is complete or not there at all, whenever the power fails.
func createStore(path string, from *seal, entry func(uint64, *raft.Log) error) (*bbolt.DB, error) {
	fresh := path + ".new"
	if err := os.Remove(fresh); err != nil && !errors.Is(err, os.ErrNotExist) {
		return nil, err
	}
	file, err := os.OpenFile(fresh, os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return nil, err
	}
	db, err := openBolt(file)
	if err != nil {
		return nil, errors.Join(err, os.Remove(fresh))
	}
	db.NoSync = true // until it is complete
	if err = fill(db, from, entry); err == nil {
		err = db.Sync()
	}
	db.NoSync = false
	if err == nil {
		err = os.Rename(fresh, path)
	}
	if err == nil {
		err = syncDir(filepath.Dir(path))
	}
	if err != nil {
		return nil, errors.Join(err, db.Close(), os.RemoveAll(fresh))
	}
	return db, nil
}

func fill(db *bbolt.DB, from *seal, entry func(uint64, *raft.Log) error) error {
	const batch = 1000
	var to seal
	if from != nil {
		to.Values = from.Values
	}
	write := func(first, last uint64) error {
		return db.Update(func(tx *bbolt.Tx) error {
			logs, err := tx.CreateBucketIfNotExists(bucketLogs)
			if err != nil {
				return err
			}
			for i := first; i <= last && i > 0; i++ {
				var log raft.Log
				if err := entry(i, &log); err != nil {
					return err
				}
				value, sum := encodeEntry(&log, to.Sum)
				if err := logs.Put(entryKey(i), value); err != nil {
					return err
				}
				to.Last, to.Sum = i, sum
			}
			conf, err := tx.CreateBucketIfNotExists(bucketConf)
			if err != nil {
				return err
			}
			return conf.Put(keySeal, to.encode())
		})
	}
	if from == nil || from.Last == 0 {
		return write(0, 0)
	}
	to.First = from.First
	for first := from.First; first <= from.Last; first += batch {
		if err := write(first, min(first+batch-1, from.Last)); err != nil {
			return err
		}
	}
	return nil
}

// syncDir makes the names in a directory last.
func syncDir(path string) error {
	dir, err := os.Open(path)
	if err != nil {
		return err
	}
	return errors.Join(dir.Sync(), dir.Close())
}

func entryKey(index uint64) []byte { return binary.BigEndian.AppendUint64(nil, index) }

// load reads the seal and checks every entry: that it is there, unharmed, and the
// one that was written last in its place.
func (s *store) load() error {
	return s.db.View(func(tx *bbolt.Tx) (err error) {
		conf, logs := tx.Bucket(bucketConf), tx.Bucket(bucketLogs)
		if s.seal, err = decodeSeal(conf.Get(keySeal)); err != nil {
			return err
		}
		before, term := uint32(0), uint64(0)
		for i := s.seal.First; i <= s.seal.Last && i > 0; i++ {
			var log raft.Log
			sum, chain, err := decodeEntry(i, logs.Get(entryKey(i)), &log)
			switch {
			case err != nil:
				return err
			case i > s.seal.First && chain != before, i == s.seal.Last && sum != s.seal.Sum:
				return fmt.Errorf("entry %d is an old one, of before it was replaced", i)
			}
			before, term = sum, log.Term
		}
		if have := s.seal.number(keyTerm); have < term {
			return fmt.Errorf("it is in term %d, and has entries of term %d", have, term)
		}
		return nil
	})
}

func (s *store) close() error { return s.db.Close() }

// FirstIndex implements raft.LogStore.
func (s *store) FirstIndex() (uint64, error) {
	s.mu.RLock()
	defer s.mu.RUnlock()
	return s.seal.First, nil
}

// LastIndex implements raft.LogStore.
func (s *store) LastIndex() (uint64, error) {
	s.mu.RLock()
	defer s.mu.RUnlock()
	return s.seal.Last, nil
}

// GetLog implements raft.LogStore.
func (s *store) GetLog(index uint64, log *raft.Log) error {
	s.mu.RLock()
	defer s.mu.RUnlock()
	if index < s.seal.First || index > s.seal.Last || index == 0 {
		return raft.ErrLogNotFound
	}
	if recent := s.recent[index%recentLogs]; recent != nil && recent.Index == index {
		*log = *recent
		return nil
	}
	_, err := s.read(index, log)
	return err
}

// read reads an entry from disk and returns its sum.
func (s *store) read(index uint64, log *raft.Log) (sum uint32, err error) {
	err = s.db.View(func(tx *bbolt.Tx) error {
		sum, _, err = decodeEntry(index, tx.Bucket(bucketLogs).Get(entryKey(index)), log)
		return err
	})
	if err != nil {
		return 0, &DamagedError{Path: s.path, Reason: err.Error()}
	}
	return sum, nil
}

// StoreLog implements raft.LogStore.
func (s *store) StoreLog(log *raft.Log) error { return s.StoreLogs([]*raft.Log{log}) }

// StoreLogs implements raft.LogStore. The entries continue the log; or they replace
// its end; or, after a snapshot that came from elsewhere, they begin it anew.
func (s *store) StoreLogs(logs []*raft.Log) error {
	s.writing.Lock()
	defer s.writing.Unlock()
	first := logs[0].Index
	next, drop, err := s.makeRoom(first)
	if err != nil {
		return err
	}
	values := make([][]byte, len(logs))
	for i, log := range logs {
		if log.Index != first+uint64(i) {
			return fmt.Errorf("entry %d follows entry %d in what is to be stored", log.Index, first+uint64(i)-1)
		}
		values[i], next.Sum = encodeEntry(log, next.Sum)
	}
	next.Last = first + uint64(len(logs)) - 1
	return s.write(next, func(bucket *bbolt.Bucket) error {
		if err := drop.from(bucket); err != nil {
			return err
		}
		for i, value := range values {
			if err := bucket.Put(entryKey(first+uint64(i)), value); err != nil {
				return err
			}
		}
		return nil
	}, logs...)
}

// makeRoom tells what must go so that an entry of that index may come, and what
// the log is then.
func (s *store) makeRoom(index uint64) (next seal, drop indexes, err error) {
	next = s.seal
	switch {
	case next.Last > 0 && index == next.Last+1:
		return next, drop, nil
	case index > next.First && index <= next.Last:
		drop = indexes{index, next.Last}
		var before raft.Log
		next.Sum, err = s.read(index-1, &before)
		return next, drop, err
	}
	covered, err := s.covered()
	if err != nil {
		return next, drop, err
	}
	if index > covered+1 {
		return next, drop, fmt.Errorf("entry %d is to follow entry %d, and no snapshot covers what is between", index, next.Last)
	}
	drop = indexes{next.First, next.Last}
	next.First, next.Sum = index, 0
	return next, drop, nil
}

// DeleteRange implements raft.LogStore: raft cuts the log at its beginning or at
// its end.
func (s *store) DeleteRange(first, last uint64) error {
	s.writing.Lock()
	defer s.writing.Unlock()
	next := s.seal
	drop := indexes{max(first, next.First), min(last, next.Last)}
	switch {
	case next.Last == 0 || drop.first > drop.last:
		return nil
	case drop.first == next.First && drop.last == next.Last:
		next.First, next.Last, next.Sum = 0, 0, 0
	case drop.first == next.First:
		next.First = drop.last + 1
	case drop.last == next.Last:
		var log raft.Log
		sum, err := s.read(drop.first-1, &log)
		if err != nil {
			return err
		}
		next.Last, next.Sum = drop.first-1, sum
	default:
		return fmt.Errorf("entries %d to %d are to be deleted from among %d to %d", first, last, next.First, next.Last)
	}
	return s.write(next, drop.from)
}

// indexes are entries from first to last; none if first is 0.
type indexes struct{ first, last uint64 }

// from deletes them, one by one: that goes wrong with a cursor.
func (d indexes) from(bucket *bbolt.Bucket) error {
	for i := d.first; i <= d.last && i > 0; i++ {
		if err := bucket.Delete(entryKey(i)); err != nil {
			return err
		}
	}
	return nil
}

// Get implements raft.StableStore.
func (s *store) Get(key []byte) ([]byte, error) {
	s.mu.RLock()
	defer s.mu.RUnlock()
	value, ok := s.seal.Values[string(key)]
	if !ok {
		return nil, errors.New("not found") // raft knows it by these words
	}
	return bytes.Clone(value), nil
}

// GetUint64 implements raft.StableStore.
func (s *store) GetUint64(key []byte) (uint64, error) {
	value, err := s.Get(key)
	if err != nil {
		return 0, err
	}
	if len(value) != 8 {
		return 0, &DamagedError{Path: s.path, Reason: fmt.Sprintf("its %s has %d bytes", key, len(value))}
	}
	return binary.BigEndian.Uint64(value), nil
}

// SetUint64 implements raft.StableStore.
func (s *store) SetUint64(key []byte, value uint64) error {
	return s.Set(key, binary.BigEndian.AppendUint64(nil, value))
}

// Set implements raft.StableStore, in three ways:
//
//   - A vote is two values for raft, and one here: the first is written with the
//     second. Else, between the two, the vote of this term would seem to have been
//     given to whoever had that of the last, and raft would give it to him again,
//     with no look at his log.
//   - A term that cannot be written is remembered, and written before anything else
//     will be. raft has no answer to that but to end the process; and there is no
//     need for one: what binds a head to a term is what it says in it, its votes and
//     that it has entries, and both must be on disk first, and bring the term along.
//     Until then it only follows. Should it forget the term by a restart, then it
//     has said nothing in it.
//   - All else is written, or fails.
func (s *store) Set(key, value []byte) error {
	s.writing.Lock()
	defer s.writing.Unlock()
	name := string(key)
	if name == keyVoteTerm {
		s.vote = bytes.Clone(value)
		return nil
	}
	next := s.seal
	if name == keyVote && s.vote != nil {
		next = next.with(keyVoteTerm, s.vote)
		s.vote = nil
	} else if old, ok := next.Values[name]; ok && bytes.Equal(old, value) {
		return nil
	}
	next = next.with(name, value)
	err := s.write(next, nil)
	if err != nil && name == keyTerm {
		s.adopt(next)
		return nil
	}
	return err
}

// write makes the store what next says; logs are the entries that come with it.
// Nothing is tried where the disk is known to fail: see disk.go.
func (s *store) write(next seal, edit func(logs *bbolt.Bucket) error, logs ...*raft.Log) error {
	if err := s.disk.failure(); err != nil {
		return fmt.Errorf("%w: %w", errNotStored, err)
	}
	err := s.commit(next, edit)
	if err == nil {
		s.adopt(next, logs...)
		return nil
	}
	s.disk.fail(err)
	if s.untouched() {
		return fmt.Errorf("%w: %w", errNotStored, err)
	}
	return err
}

// untouched reports whether the file has the entries that it had before a write.
// Where even the last step of a transaction was done and only its sync has failed,
// bbolt says that it failed, but it stands.
func (s *store) untouched() (same bool) {
	err := s.db.View(func(tx *bbolt.Tx) error {
		written, err := decodeSeal(tx.Bucket(bucketConf).Get(keySeal))
		same = written.First == s.seal.First && written.Last == s.seal.Last && written.Sum == s.seal.Sum
		return err
	})
	return err == nil && same
}

func (s *store) adopt(next seal, logs ...*raft.Log) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.seal = next
	for _, log := range logs {
		s.recent[log.Index%recentLogs] = log
	}
}

// commit writes a seal, and what it seals, in one transaction.
func (s *store) commit(next seal, edit func(logs *bbolt.Bucket) error) (err error) {
	defer s.disk.watch()()
	tx, err := s.db.Begin(true)
	if err != nil {
		return err
	}
	defer func() { _ = tx.Rollback() }() // of what was not committed
	if edit != nil {
		if err := edit(tx.Bucket(bucketLogs)); err != nil {
			return err
		}
	}
	if err := tx.Bucket(bucketConf).Put(keySeal, next.encode()); err != nil {
		return err
	}
	return tx.Commit()
}
