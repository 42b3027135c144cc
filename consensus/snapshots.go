package consensus

import (
	"encoding/json"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"

	"github.com/hashicorp/go-hclog"
	"github.com/hashicorp/raft"
)

// snapshots are raft's snapshot files, with four differences. What a snapshot says
// of itself has a checksum, as its state has in raft already. What a failed snapshot
// leaves behind is removed, as the disk may well have failed because it was full.
// Its readers tell the index, for machine. And one may be in memory only.
type snapshots struct {
	*raft.FileSnapshotStore
	dir string
	// held is the snapshot of the start where the disk did not take it: see replay.
	// The next one that is on disk takes its place.
	held atomic.Pointer[raft.InmemSnapshotStore]
}

// sumFile is in the directory of each snapshot and holds the CRC-32C, in hex, of its
// metadata as JSON. Snapshots of older releases have none.
const sumFile = "meta.sum"

var _ raft.SnapshotStore = (*snapshots)(nil)

func openSnapshots(dir string, logger hclog.Logger) (*snapshots, error) {
	s := &snapshots{dir: filepath.Join(dir, "snapshots")}
	if info, err := os.Stat(s.dir); err == nil && !info.IsDir() {
		return nil, &DamagedError{Path: s.dir, Reason: "it is not a directory"}
	}
	files, err := raft.NewFileSnapshotStoreWithLogger(dir, snapshotsKept, logger)
	if err != nil {
		return nil, fmt.Errorf("opening the snapshots in %s: %w", s.dir, err)
	}
	s.FileSnapshotStore = files
	names, err := s.names(true)
	if err != nil {
		return nil, err
	}
	for _, name := range names {
		if err := os.RemoveAll(filepath.Join(s.dir, name)); err != nil {
			return nil, fmt.Errorf("removing what is left of a snapshot: %w", err)
		}
	}
	return s, nil
}

// names are the directories of all snapshots that were finished, or of those that
// were not.
func (s *snapshots) names(unfinished bool) ([]string, error) {
	entries, err := os.ReadDir(s.dir)
	if err != nil {
		return nil, fmt.Errorf("listing the snapshots: %w", err)
	}
	var names []string
	for _, e := range entries {
		if e.IsDir() && strings.HasSuffix(e.Name(), ".tmp") == unfinished {
			names = append(names, e.Name())
		}
	}
	return names, nil
}

// Create implements raft.SnapshotStore.
func (s *snapshots) Create(version raft.SnapshotVersion, index, term uint64, configuration raft.Configuration, configurationIndex uint64, trans raft.Transport) (raft.SnapshotSink, error) {
	sink, err := s.FileSnapshotStore.Create(version, index, term, configuration, configurationIndex, trans)
	if err != nil {
		s.sweep()
		return nil, err
	}
	return &snapshotSink{SnapshotSink: sink, store: s, dir: filepath.Join(s.dir, sink.ID()+".tmp"), meta: raft.SnapshotMeta{
		Version: version, ID: sink.ID(), Index: index, Term: term,
		Configuration: configuration, ConfigurationIndex: configurationIndex,
	}}, nil
}

// sweep removes a snapshot that could not even be begun: one that was has a state.
func (s *snapshots) sweep() {
	names, _ := s.names(true)
	for _, name := range names {
		if _, err := os.Stat(filepath.Join(s.dir, name, "state.bin")); errors.Is(err, os.ErrNotExist) {
			_ = os.RemoveAll(filepath.Join(s.dir, name))
		}
	}
}

// snapshotSink is one snapshot that is being written.
type snapshotSink struct {
	raft.SnapshotSink
	store  *snapshots
	dir    string
	meta   raft.SnapshotMeta
	closed bool
}

func (k *snapshotSink) Write(b []byte) (int, error) {
	n, err := k.SnapshotSink.Write(b)
	k.meta.Size += int64(n)
	return n, err
}

// Close finishes the snapshot: with its sum, as both get their name at once. Both
// the machine and raft call it.
func (k *snapshotSink) Close() error {
	if k.closed {
		return nil
	}
	k.closed = true
	sum := metaSum(&k.meta)
	if err := writeSynced(filepath.Join(k.dir, sumFile), sum); err != nil {
		return errors.Join(err, k.Cancel())
	}
	if err := k.SnapshotSink.Close(); err != nil {
		_ = os.RemoveAll(k.dir)
		return err
	}
	k.store.held.Store(nil) // raft takes none that is older
	return nil
}

// Cancel leaves nothing, also where raft would, because it cannot write the rest. That
// is no failure, and was told when it was to be written.
func (k *snapshotSink) Cancel() error {
	_ = k.SnapshotSink.Cancel()
	return os.RemoveAll(k.dir)
}

func writeSynced(path string, data []byte) error {
	file, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return err
	}
	_, err = file.Write(data)
	return errors.Join(err, file.Sync(), file.Close())
}

// metaSum covers all of it but Peers, which nobody reads any more.
func metaSum(meta *raft.SnapshotMeta) []byte {
	m := *meta
	m.Peers = nil
	body, _ := json.Marshal(m) // of these types, it cannot fail
	return fmt.Appendf(nil, "%08x\n", crc32.Checksum(body, sumTable()))
}

// List implements raft.SnapshotStore: the newest first.
func (s *snapshots) List() ([]*raft.SnapshotMeta, error) {
	all, err := s.onDisk()
	if held := s.held.Load(); held != nil && err == nil {
		first, _ := held.List() // it never fails
		all = append(first, all...)
	}
	return all, err
}

func (s *snapshots) onDisk() ([]*raft.SnapshotMeta, error) {
	all, err := s.FileSnapshotStore.List()
	if err != nil {
		return nil, err
	}
	return slices.DeleteFunc(all, func(m *raft.SnapshotMeta) bool { return s.vouch(m) != nil }), nil
}

// vouch reports what is wrong with what a snapshot says of itself.
func (s *snapshots) vouch(meta *raft.SnapshotMeta) error {
	if prefix := fmt.Sprintf("%d-%d-", meta.Term, meta.Index); !strings.HasPrefix(meta.ID, prefix) {
		return errors.New("its index or term is not the one in its name")
	}
	sum, err := os.ReadFile(filepath.Join(s.dir, meta.ID, sumFile))
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	if err == nil && string(sum) != string(metaSum(meta)) {
		err = errors.New("the checksum of its metadata is wrong")
	}
	return err
}

// Open implements raft.SnapshotStore.
func (s *snapshots) Open(id string) (*raft.SnapshotMeta, io.ReadCloser, error) {
	if held := s.held.Load(); held != nil {
		if meta, src, err := held.Open(id); err == nil {
			return meta, &snapshotReader{ReadCloser: src, index: meta.Index}, nil
		}
	}
	meta, src, err := s.FileSnapshotStore.Open(id)
	if err != nil {
		return nil, nil, err
	}
	if err := errors.Join(s.vouch(meta), sameID(meta, id)); err != nil {
		return nil, nil, errors.Join(err, src.Close())
	}
	return meta, &snapshotReader{ReadCloser: src, index: meta.Index}, nil
}

func sameID(meta *raft.SnapshotMeta, id string) error {
	if meta.ID != id {
		return fmt.Errorf("snapshot %s says that it is %s", id, meta.ID)
	}
	return nil
}

type snapshotReader struct {
	io.ReadCloser
	index uint64
}

// newest is the index of the newest snapshot on disk, 0 if there is none.
func (s *snapshots) newest() (uint64, error) {
	metas, err := s.onDisk()
	if err != nil || len(metas) == 0 {
		return 0, err
	}
	return metas[0].Index, nil
}

// badSnapshot is one that cannot be read.
type badSnapshot struct {
	path   string
	index  uint64 // by its name
	reason error
}

// inspect reads all snapshots to their end, and returns the newest that is sound,
// nil if none, and all that are not.
func (s *snapshots) inspect() (newest *raft.SnapshotMeta, bad []badSnapshot, err error) {
	names, err := s.names(false)
	if err != nil {
		return nil, nil, err
	}
	for _, name := range names {
		var index uint64
		if parts := strings.Split(name, "-"); len(parts) == 3 {
			index, _ = strconv.ParseUint(parts[1], 10, 64)
		}
		if index == 0 {
			continue // not one of raft's
		}
		meta, src, err := s.Open(name)
		if err != nil {
			bad = append(bad, badSnapshot{filepath.Join(s.dir, name), index, err})
			continue
		}
		_ = src.Close()
		if newest == nil || meta.Index > newest.Index {
			newest = meta
		}
	}
	return newest, bad, nil
}

// aside takes a damaged snapshot out of raft's way.
func (b badSnapshot) aside() error {
	to := filepath.Join(filepath.Dir(filepath.Dir(b.path)), "damaged")
	if err := os.MkdirAll(to, 0o700); err != nil {
		return err
	}
	to = filepath.Join(to, filepath.Base(b.path))
	if err := os.RemoveAll(to); err != nil {
		return err
	}
	return os.Rename(b.path, to)
}
