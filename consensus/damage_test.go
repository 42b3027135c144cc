package consensus

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/hashicorp/raft"
)

// fastDir is a directory in memory, where the machine has one: a sync costs nothing
// there, and these tests have thousands.
func fastDir(t testing.TB) string {
	t.Helper()
	dir, err := os.MkdirTemp("/dev/shm", "luna-consensus-")
	if err != nil {
		return t.TempDir()
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	return dir
}

// contents is all that a store may tell raft.
type contents struct {
	term, voteTerm uint64
	vote           string
	first, last    uint64
	log            []string
	state          []string // of the machine, right after the start; nil if raft must bring it
}

func quietLog() *slog.Logger { return slog.New(slog.DiscardHandler) }

// openContents opens a store as New does, and reads everything. If use is set, it
// then goes on to write, as raft will.
func openContents(dir string, use bool) (c contents, err error) {
	cfg := Config{Dir: dir, Logger: quietLog()}
	disk, err := openStorage(&cfg, newRaftLog(context.Background(), cfg.Logger, new(limiter)))
	if err != nil {
		return c, err
	}
	defer func() { err = errors.Join(err, disk.close()) }()
	c.term, c.voteTerm = disk.store.seal.number(keyTerm), disk.store.seal.number(keyVoteTerm)
	c.vote = string(disk.store.seal.Values[keyVote])
	c.first, c.last = disk.store.seal.First, disk.store.seal.Last
	for i := c.first; i <= c.last && i > 0; i++ {
		var log raft.Log
		if err := disk.store.GetLog(i, &log); err != nil {
			return c, err
		}
		c.log = append(c.log, fmt.Sprint(log.Index, log.Term, log.Type, string(log.Data), string(log.Extensions)))
	}
	state := new(list)
	_, trans := raft.NewInmemTransport("h1")
	defer trans.Close()
	replayed, err := disk.replay(&machine{fsm: state}, trans)
	if err != nil {
		return c, err
	}
	if replayed {
		c.state = state.all()
	}
	if !use {
		return c, nil
	}
	for range 3 {
		last, _ := disk.store.LastIndex()
		err = errors.Join(err,
			disk.store.SetUint64([]byte(keyTerm), c.term+1),
			disk.store.StoreLog(&raft.Log{Index: last + 1, Term: c.term + 1, Data: make([]byte, 5000)}),
			disk.store.DeleteRange(c.first, c.first+10))
		c.first += 11
	}
	return c, err
}

// makeContents fills a store as a head does that has lived for a while: with
// snapshots, entries that were replaced, terms and votes, and old pages of all that.
func makeContents(t testing.TB, dir string) contents {
	t.Helper()
	cfg := Config{Dir: dir, Logger: quietLog()}
	disk, err := openStorage(&cfg, newRaftLog(context.Background(), cfg.Logger, new(limiter)))
	if err != nil {
		t.Fatal(err)
	}
	state := new(list)
	m := &machine{fsm: state, record: disk.record}
	_, trans := raft.NewInmemTransport("h1")
	defer trans.Close()
	voters := raft.Configuration{Servers: []raft.Server{{ID: "h1", Address: "127.0.0.1:1"}, {ID: "h2", Address: "127.0.0.1:2"}}}
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	store := disk.store
	entry := func(index, term uint64) *raft.Log {
		return &raft.Log{Index: index, Term: term, Data: []byte(fmt.Sprintf("%d in term %d %s", index, term, strings.Repeat("x", int(index%97)))), AppendedAt: time.Unix(1e9, 0)}
	}
	vote := func(term uint64, name string) {
		must(store.SetUint64([]byte(keyTerm), term))
		must(store.SetUint64([]byte(keyVoteTerm), term))
		must(store.Set([]byte(keyVote), []byte(name)))
	}
	vote(1, "h1")
	must(store.StoreLog(&raft.Log{Index: 1, Term: 1, Type: raft.LogConfiguration, Data: raft.EncodeConfiguration(voters)}))
	replaced := uint64(0)
	for i := uint64(2); i <= 400; {
		var logs []*raft.Log
		for range 1 + i%7 {
			logs = append(logs, entry(i, 1+i/100))
			i++
		}
		if term := 1 + i/100; term > store.seal.number(keyTerm) {
			vote(term, fmt.Sprint("h", 1+term%2))
		}
		must(store.StoreLogs(logs))
		if i/50 > replaced { // a new leader knows others
			replaced = i / 50
			must(store.DeleteRange(i-3, i-1))
			i -= 3
		}
	}
	for i := uint64(2); i <= 390; i++ {
		var log raft.Log
		must(store.GetLog(i, &log))
		m.Apply(&log)
		if i == 180 || i == 260 {
			sink, err := disk.snaps.Create(raft.SnapshotVersionMax, i, log.Term, voters, 1, trans)
			must(err)
			must(persist(m, sink))
			must(store.DeleteRange(1, i-100))
		}
	}
	// Last, others replaced its end once more: the page of before has the same keys.
	must(store.SetUint64([]byte(keyTerm), 6))
	last, _ := store.LastIndex()
	must(store.StoreLogs([]*raft.Log{entry(last-2, 6), entry(last-1, 6), entry(last, 6)}))
	must(disk.close())
	want, err := openContents(copyTree(t, dir), false)
	if err != nil {
		t.Fatal(err)
	}
	if len(want.log) < 200 || len(want.state) != 389 || want.term != 6 || want.vote == "" {
		t.Fatalf("made a store of %d entries, %d in the state, in term %d, vote %q", len(want.log), len(want.state), want.term, want.vote)
	}
	return want
}

// copyTree copies a directory beside itself, and removes it when the test ends.
func copyTree(t testing.TB, dir string) string {
	t.Helper()
	to, err := os.MkdirTemp(filepath.Dir(dir), "copy-")
	if err == nil {
		err = os.CopyFS(to, os.DirFS(dir))
	}
	if err != nil {
		t.Fatal(err)
	}
	return to
}

// verdict is what became of a store that was damaged.
type verdict int

const (
	refused verdict = iota
	same
)

// judge opens a damaged store and reports what came of it, or an error if that may
// not be.
func judge(t testing.TB, dir string, want contents, mayWait bool) (verdict, error) {
	t.Helper()
	got, err := openContents(dir, false)
	var damaged *DamagedError
	switch {
	case errors.As(err, &damaged):
		if !strings.HasPrefix(damaged.Path, dir) || damaged.Reason == "" {
			return refused, fmt.Errorf("refused without a reason: %w", err)
		}
		return refused, nil
	case err != nil:
		return refused, fmt.Errorf("refused, but not as damaged: %w", err)
	case got.term != want.term || got.voteTerm != want.voteTerm || got.vote != want.vote:
		return same, fmt.Errorf("term %d, vote for %q in term %d: it was term %d, %q in %d", got.term, got.vote, got.voteTerm, want.term, want.vote, want.voteTerm)
	case got.first != want.first || got.last != want.last || !slices.Equal(got.log, want.log):
		return same, fmt.Errorf("log from %d to %d: it was from %d to %d", got.first, got.last, want.first, want.last)
	case !slices.Equal(got.state, want.state) && (!mayWait || got.state != nil):
		return same, fmt.Errorf("state of %d lines: it had %d", len(got.state), len(want.state))
	}
	if rand.IntN(8) > 0 && os.Getenv("LUNA_SOAK") == "" { // it takes its time
		return same, nil
	}
	if _, err := openContents(dir, true); err != nil {
		return same, fmt.Errorf("taken, and then not to be used: %w", err)
	}
	if _, err := openContents(dir, false); err != nil {
		return same, fmt.Errorf("taken, used, and then refused: %w", err)
	}
	return same, nil
}

// TestFlippedBytes damages the store at one byte, many times.
func TestFlippedBytes(t *testing.T) {
	base := filepath.Join(fastDir(t), "store")
	want := makeContents(t, base)
	random := rand.New(rand.NewPCG(1, 2))
	soak := os.Getenv("LUNA_SOAK") != ""
	count := map[string]map[verdict]int{}
	err := fs.WalkDir(os.DirFS(base), ".", func(name string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		good, err := os.ReadFile(filepath.Join(base, name))
		if err != nil {
			return err
		}
		kind := filepath.Base(name)
		if count[kind] == nil {
			count[kind] = map[verdict]int{}
		}
		for _, at := range offsets(random, len(good), kind == "raft.db", soak) {
			bad := slices.Clone(good)
			bad[at] ^= byte(1 + random.IntN(255))
			if random.IntN(2) == 0 {
				bad[at] = good[at] ^ 1<<random.IntN(8)
			}
			v := try(t, base, name, bad, want, false, fmt.Sprintf("byte %d of %s: %02x for %02x", at, name, bad[at], good[at]))
			count[kind][v]++
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	for kind, n := range count {
		t.Logf("%s: %d flips refused, %d without effect or repaired", kind, n[refused], n[same])
	}
}

// offsets are those to flip: all of a small file, and of the others the first bytes
// of each page, where most depends on each, and some of the rest.
func offsets(random *rand.Rand, size int, paged, all bool) []int {
	var at []int
	for i := range size {
		inPage := i % os.Getpagesize()
		if all || size < 100 || paged && (i < 2*os.Getpagesize() && inPage < 80 || inPage < 16) || random.IntN(size) < 150 {
			at = append(at, i)
		}
	}
	return at
}

// try puts a file in the place of one in a copy of the store, and judges that.
func try(t *testing.T, base, name string, bad []byte, want contents, mayWait bool, what string) verdict {
	t.Helper()
	dir := copyTree(t, base)
	defer os.RemoveAll(dir)
	if err := os.WriteFile(filepath.Join(dir, name), bad, 0o600); err != nil {
		t.Fatal(err)
	}
	v, err := judge(t, dir, want, mayWait)
	if err != nil {
		t.Errorf("%s: %v", what, err)
	}
	return v
}

// TestDamagedFiles damages each file as a whole.
func TestDamagedFiles(t *testing.T) {
	base := filepath.Join(fastDir(t), "store")
	want := makeContents(t, base)
	random := rand.New(rand.NewPCG(3, 4))
	page := os.Getpagesize()
	err := fs.WalkDir(os.DirFS(base), ".", func(name string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		good, err := os.ReadFile(filepath.Join(base, name))
		if err != nil {
			return err
		}
		mayWait := name == "applied" // who lost it waits for a leader
		check := func(bad []byte, what string) {
			t.Helper()
			try(t, base, name, bad, want, mayWait, name+" "+what)
		}
		check(nil, "is empty")
		check([]byte("#!/bin/sh\nexit 0\n"), "is a script")
		check(random32(random, len(good)), "is random")
		check(make([]byte, len(good)), "is zero")
		check(append(slices.Clone(good), good...), "is there twice")
		for range 40 {
			n := random.IntN(len(good))
			check(good[:n], fmt.Sprintf("is cut after %d bytes", n))
		}
		for at := 0; at < len(good) && len(good) > page; at += page {
			bad := slices.Clone(good)
			clear(bad[at:min(at+page, len(bad))])
			check(bad, fmt.Sprintf("is zero from %d on for a page", at))
			copy(bad[at:], good[random.IntN(len(good)/page)*page:][:page])
			check(bad, fmt.Sprintf("has another page at %d", at))
		}
		dir := copyTree(t, base)
		defer os.RemoveAll(dir)
		if err := errors.Join(os.Remove(filepath.Join(dir, name)), os.Mkdir(filepath.Join(dir, name), 0o700)); err != nil {
			return err
		}
		if _, err := judge(t, dir, want, mayWait); err != nil {
			t.Errorf("%s is a directory: %v", name, err)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}

func random32(random *rand.Rand, n int) []byte {
	b := make([]byte, 0, n+4)
	for len(b) < n {
		b = binary.NativeEndian.AppendUint32(b, random.Uint32())
	}
	return b[:n]
}

// TestPointersToOldPages bends each page number of the log in raft.db to each other
// page: many of these are sound, and hold what the log was once.
func TestPointersToOldPages(t *testing.T) {
	base := filepath.Join(fastDir(t), "store")
	want := makeContents(t, base)
	good, err := os.ReadFile(filepath.Join(base, "raft.db"))
	if err != nil {
		t.Fatal(err)
	}
	random := rand.New(rand.NewPCG(5, 6))
	size, pointers := os.Getpagesize(), []int(nil)
	for page := 2; page < len(good)/size; page++ {
		at := good[page*size:]
		switch binary.NativeEndian.Uint16(at[8:]) {
		case kindBranch:
			for i := range int(binary.NativeEndian.Uint16(at[10:])) {
				pointers = append(pointers, page*size+pageHeader+i*branchSize+8)
			}
		case kindLeaf:
			if i := strings.Index(string(at[:size]), "logs"); i > 0 {
				pointers = append(pointers, page*size+i+len("logs"))
			}
		}
	}
	count := map[verdict]int{}
	for _, at := range pointers {
		for page := 2; page < len(good)/size; page++ {
			if random.IntN(len(pointers)*len(good)/size) > 300 && os.Getenv("LUNA_SOAK") == "" {
				continue
			}
			bad := slices.Clone(good)
			binary.NativeEndian.PutUint64(bad[at:], uint64(page))
			what := fmt.Sprintf("page %d for %d at %d", page, binary.NativeEndian.Uint64(good[at:]), at)
			count[try(t, base, "raft.db", bad, want, false, what)]++
		}
	}
	t.Logf("%d pointers: %d times refused, %d times without effect", len(pointers), count[refused], count[same])
}

// A snapshot that nothing makes up for is missed.
func TestDamagedSnapshotThatIsNeeded(t *testing.T) {
	base := filepath.Join(fastDir(t), "store")
	want := makeContents(t, base)
	snaps, err := os.ReadDir(filepath.Join(base, "snapshots"))
	if err != nil || len(snaps) != 2 {
		t.Fatalf("%d snapshots, %v", len(snaps), err)
	}
	older, newer := filepath.Join("snapshots", snaps[0].Name()), filepath.Join("snapshots", snaps[1].Name())
	for name, damage := range map[string]func(dir string) error{
		"no older one": func(dir string) error {
			return errors.Join(os.RemoveAll(filepath.Join(dir, older)), os.Truncate(filepath.Join(dir, newer, "state.bin"), 10))
		},
		"no older one, and its metadata": func(dir string) error {
			return errors.Join(os.RemoveAll(filepath.Join(dir, older)), os.Truncate(filepath.Join(dir, newer, "meta.json"), 10))
		},
		"both": func(dir string) error {
			return errors.Join(os.Truncate(filepath.Join(dir, older, "meta.sum"), 0), os.Truncate(filepath.Join(dir, newer, "meta.sum"), 0))
		},
		"all gone":       func(dir string) error { return os.RemoveAll(filepath.Join(dir, "snapshots")) },
		"no log":         func(dir string) error { return os.Remove(filepath.Join(dir, "raft.db")) },
		"not even empty": func(dir string) error { return os.Truncate(filepath.Join(dir, "raft.db"), 0) },
	} {
		t.Run(name, func(t *testing.T) {
			dir := copyTree(t, base)
			if err := damage(dir); err != nil {
				t.Fatal(err)
			}
			if v, err := judge(t, dir, want, false); v != refused || err != nil {
				t.Errorf("not refused: %v", err)
			}
		})
	}
}
