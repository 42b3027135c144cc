package consensus

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"
)

func TestRecoverTheLastHead(t *testing.T) {
	c := newCluster(t)
	heads := c.form(3)
	c.write("one")
	c.lead("a snapshot", func(l *head) error { return l.Snapshot(c.ctx()) })
	index := c.write("two")
	last := heads[2]
	last.has(index, "one", "two")
	if err := Recover(last.cfg, new(list)); err == nil || !strings.Contains(err.Error(), "agent running already") {
		t.Errorf("Recover of a head that runs: %v", err)
	}
	for _, h := range heads {
		h.kill()
	}
	if err := Recover(last.cfg, new(list)); err != nil {
		t.Fatal(err)
	}
	delete(c.heads, "h1")
	delete(c.heads, "h2")
	last.restart()
	c.until("h3 leads alone", last.IsLeader)
	last.has(c.write("three"), "one", "two", "three")
	if servers, err := last.Servers(); err != nil || len(servers) != 1 || servers[0].Name != "h3" || !servers[0].Voter {
		t.Errorf("servers %v, %v", servers, err)
	}
	added := []*head{c.join(last, "h4"), c.join(last, "h5")}
	index = c.write("four")
	for _, h := range added {
		h.has(index, "one", "two", "three", "four")
	}
	last.kill()
	index = c.write("five")
	last.restart()
	last.has(index, "one", "two", "three", "four", "five")
}

func TestRecoverNothing(t *testing.T) {
	c := newCluster(t)
	if err := Recover(c.config("h1"), new(list)); err == nil || !strings.Contains(err.Error(), "nothing to recover") {
		t.Errorf("Recover of an empty head: %v", err)
	}
}

func TestRestore(t *testing.T) {
	c := newCalmCluster(t)
	heads := c.form(3)
	c.write("one")
	away := heads[2]
	away.kill()
	backup := `["a","b"]`
	if err := heads[1].Restore(c.ctx(), strings.NewReader(backup), int64(len(backup))); !errors.Is(err, ErrNotLeader) {
		t.Errorf("Restore on a follower: %v", err)
	}
	if err := heads[0].Restore(c.ctx(), strings.NewReader(backup), 100); err == nil || !strings.Contains(err.Error(), "100 bytes") {
		t.Errorf("Restore of a torn snapshot: %v", err)
	}
	if err := heads[0].Restore(c.ctx(), strings.NewReader(backup), int64(len(backup))); err != nil {
		t.Fatal(err)
	}
	index := c.write("two")
	away.restart()
	for _, h := range heads {
		h.has(index, "a", "b", "two")
	}
	for _, h := range heads { // and it is still so after a start
		h.kill()
		h.restart()
		h.has(index, "a", "b", "two")
	}
}

func TestReadIndex(t *testing.T) {
	c := newCalmCluster(t)
	heads := c.form(3)
	if _, err := heads[1].ReadIndex(c.ctx()); !errors.Is(err, ErrNotLeader) {
		t.Errorf("ReadIndex on a follower: %v", err)
	}
	var wait sync.WaitGroup
	for i := range 20 {
		wait.Go(func() {
			_, wrote, err := heads[0].Apply(c.ctx(), []byte(fmt.Sprint(i)))
			if err != nil {
				t.Error(err)
				return
			}
			index, err := heads[0].ReadIndex(c.ctx())
			if err != nil || index < wrote {
				t.Errorf("read index %d after a write at %d, %v", index, wrote, err)
				return
			}
			if err := heads[2].WaitApplied(c.ctx(), index); err != nil || !slices.Contains(heads[2].list.all(), fmt.Sprint(i)) {
				t.Errorf("at read index %d, h3 has not %d: %v", index, i, err)
			}
		})
	}
	wait.Wait()

	if err := heads[0].TransferLeadership(c.ctx()); err != nil {
		t.Fatal(err)
	}
	next := c.leader()
	index, err := next.ReadIndex(c.ctx())
	if err != nil || !next.IsLeader() {
		t.Fatalf("ReadIndex on a new leader: %v", err)
	}
	if err := next.WaitApplied(c.ctx(), index); err != nil || len(next.list.all()) != 20 {
		t.Errorf("a new leader has %q at its read index: %v", next.list.all(), err)
	}
	for _, h := range heads {
		if h != next {
			h.kill()
		}
	}
	if _, err := next.ReadIndex(c.ctx()); !errors.Is(err, ErrNoLeader) {
		t.Errorf("ReadIndex without a majority: %v", err)
	}
}

// Heads without a vote do not make a majority.
func TestReadIndexAsksVoters(t *testing.T) {
	c := newCalmCluster(t)
	heads := c.form(3)
	for _, name := range []string{"h4", "h5"} {
		h := c.start(c.config(name))
		if err := heads[0].AddNonvoter(c.ctx(), name, h.RaftAddr()); err != nil {
			t.Fatal(err)
		}
		if err := h.WaitApplied(c.ctx(), c.write(name)); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := heads[0].ReadIndex(c.ctx()); err != nil {
		t.Fatal(err)
	}
	heads[1].kill()
	heads[2].kill()
	for range 20 {
		if index, err := heads[0].ReadIndex(c.ctx()); err == nil {
			t.Fatalf("read index %d from a leader without a majority of the voters", index)
		}
	}
}

func TestDemote(t *testing.T) {
	c := newCalmCluster(t)
	heads := c.form(3)
	if err := heads[1].Demote(c.ctx(), "h3"); !errors.Is(err, ErrNotLeader) {
		t.Errorf("Demote on a follower: %v", err)
	}
	if err := heads[0].Demote(c.ctx(), "h3"); err != nil {
		t.Fatal(err)
	}
	if servers, err := heads[0].Servers(); err != nil || len(servers) != 3 || servers[2].Voter {
		t.Errorf("servers %v, %v", servers, err)
	}
	heads[2].has(c.write("one"), "one")
}

func TestTransferLeadershipAvoids(t *testing.T) {
	c := newCalmCluster(t)
	heads := c.form(3)
	if err := heads[0].TransferLeadership(c.ctx(), "h2"); err != nil {
		t.Fatal(err)
	}
	if leader := c.leader(); leader != heads[2] {
		t.Fatalf("%s leads", leader.name)
	}
	heads[0].kill()
	c.until("h1 has failed", func() bool { return heads[2].member("h1").State == Failed })
	if err := heads[2].TransferLeadership(c.ctx(), "h2"); err == nil {
		t.Error("leadership went to the dead or to the one to avoid")
	}
	if leader := c.leader(); leader != heads[2] {
		t.Fatalf("%s leads", leader.name)
	}
}

func TestFormatAndGenerationTravel(t *testing.T) {
	c := newCalmCluster(t)
	cfg := c.config("h1")
	cfg.Format, cfg.Generation = 2, 7
	one, two := c.start(cfg), c.start(c.config("h2"))
	c.until("h2 sees what h1 says", func() bool { m := two.member("h1"); return m.Format == 2 && m.Generation == 7 })
	if m := one.member("h2"); m.Format != 0 || m.Generation != 0 {
		t.Errorf("h2, which says nothing, is seen as %+v", m)
	}
	one.SetGeneration(8)
	c.until("h2 sees that it has changed", func() bool { return two.member("h1").Generation == 8 })
	if m := one.member("h1"); m.Generation != 8 || m.Format != 2 {
		t.Errorf("h1 sees itself as %+v", m)
	}
}

// An answer to what was asked before does not count, nor one of another term.
func TestAnswersCountFromWhenTheyWereAskedFor(t *testing.T) {
	var a answers
	now := time.Now()
	before, after := now.Add(-time.Millisecond), now.Add(time.Millisecond)
	for _, step := range []struct {
		note answer
		want bool // in term 5, since now
	}{
		{answer{term: 5, sent: before, matched: 7}, false},
		{answer{term: 4, sent: after}, false}, // late, of an older term
		{answer{term: 5, sent: after, matched: 3}, true},
		{answer{term: 5, sent: before}, true}, // an older one came later
		{answer{term: 6, sent: after}, false}, // it leads in another one now
	} {
		a.note("h2", step.note)
		if got := a.since("h2", 5, now); got != step.want {
			t.Errorf("after %+v: %t", step.note, got)
		}
		if index, obeys := a.matched("h2", 5); obeys && index != 7 {
			t.Errorf("h2 has entry %d", index)
		}
	}
}
