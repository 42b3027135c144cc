package consensus

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/hashicorp/raft"
	raftboltdb "github.com/hashicorp/raft-boltdb/v2"
	"go.etcd.io/bbolt"
)

// oldStore writes a store as the release before did: raft-boltdb's, and a snapshot
// without a sum. The log has what was before the snapshot too, as of a head that was
// away and got it from another.
func oldStore(t *testing.T, dir string) (state []string) {
	t.Helper()
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	must(os.MkdirAll(dir, 0o700))
	store, err := raftboltdb.New(raftboltdb.Options{
		Path:        filepath.Join(dir, "raft.db"),
		BoltOptions: &bbolt.Options{NoFreelistSync: true, FreelistType: bbolt.FreelistMapType},
	})
	must(err)
	must(store.SetUint64([]byte(keyTerm), 4))
	must(store.SetUint64([]byte(keyVoteTerm), 4))
	must(store.Set([]byte(keyVote), []byte("h2")))
	for i := uint64(1); i <= 300; i++ {
		log := &raft.Log{Index: i, Term: 1 + i/100, Data: []byte(fmt.Sprint(i)), AppendedAt: time.Now()}
		if i%10 == 0 {
			log.Data, log.Extensions = nil, barrier
		}
		if i <= 100 || i > 200 {
			must(store.StoreLog(log))
		}
		if i%10 != 0 {
			state = append(state, string(log.Data))
		}
	}
	must(store.Close())

	snaps, err := raft.NewFileSnapshotStoreWithLogger(dir, snapshotsKept, newRaftLog(t.Context(), quietLog(), new(limiter)))
	must(err)
	_, trans := raft.NewInmemTransport("h1")
	defer trans.Close()
	voters := raft.Configuration{Servers: []raft.Server{{ID: "h1", Address: "127.0.0.1:1"}}}
	sink, err := snaps.Create(raft.SnapshotVersionMax, 200, 3, voters, 1, trans)
	must(err)
	must(listSnapshot(state[:180]).Persist(sink))
	rec, err := openRecord(filepath.Join(dir, "applied"))
	must(err)
	rec.write(299, 3)
	must(rec.file.Truncate(recordSize)) // it was there once only
	must(rec.close())
	return state
}

func TestStoreOfTheReleaseBefore(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "raft")
	state := oldStore(t, dir)
	for range 2 { // it is written anew, and then read
		got, err := openContents(dir, false)
		if err != nil {
			t.Fatal(err)
		}
		if got.term != 4 || got.voteTerm != 4 || got.vote != "h2" || got.first != 201 || got.last != 300 || got.log[99] != fmt.Sprint(300, 4, raft.LogCommand, "", "barrier") {
			t.Errorf("%+v", got)
		}
		if got.state != nil && len(got.state) != len(state) {
			t.Errorf("state of %d lines, want %d", len(got.state), len(state))
		}
	}
	// A crash on the way leaves the old one and half of a new one.
	dir = filepath.Join(t.TempDir(), "raft")
	oldStore(t, dir)
	if err := os.WriteFile(filepath.Join(dir, "raft.db.new"), []byte("half"), 0o600); err != nil {
		t.Fatal(err)
	}
	if got, err := openContents(dir, false); err != nil || got.last != 300 {
		t.Errorf("last %d, %v", got.last, err)
	}
	if _, err := os.Stat(filepath.Join(dir, "raft.db.new")); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("half a store is left: %v", err)
	}
}

// The release before must not take a new store for an empty one.
func TestReleaseBeforeRefusesNewStore(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "raft")
	makeContents(t, dir)
	store, err := raftboltdb.New(raftboltdb.Options{Path: filepath.Join(dir, "raft.db"), BoltOptions: &bbolt.Options{ReadOnly: true}})
	if err != nil {
		t.Fatal(err)
	}
	defer store.Close()
	last, err := store.LastIndex()
	if err == nil && last > 0 {
		err = store.GetLog(last, new(raft.Log))
	}
	if err == nil {
		t.Errorf("it reads entry %d", last)
	}
}
