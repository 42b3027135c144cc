package consensus

import (
	"context"
	"errors"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"
)

func TestWritesSurviveTheLeader(t *testing.T) {
	c := newCalmCluster(t)
	heads := c.form(3)
	result, index, err := heads[0].Apply(c.ctx(), []byte("one"))
	if err != nil || result != 1 {
		t.Fatalf("Apply: %v, %v", result, err)
	}
	if got := heads[0].AppliedIndex(); got != index {
		t.Errorf("the leader has applied %d when Apply of %d returns", got, index)
	}
	for _, h := range heads {
		h.has(index, "one")
	}
	if servers, err := heads[2].Servers(); err != nil || len(servers) != 3 || !servers[2].Voter || servers[2].Addr != heads[2].RaftAddr() {
		t.Errorf("servers %v, %v", servers, err)
	}

	heads[0].kill()
	index = c.write("two")
	for _, h := range heads[1:] {
		h.has(index, "one", "two")
	}

	heads[0].restart()
	heads[0].has(index, "one", "two")
	c.leader().has(c.write("three"), "one", "two", "three")
}

func TestFollowerSaysWhoLeads(t *testing.T) {
	c := newCalmCluster(t)
	heads := c.form(2)
	_, _, err := heads[1].Apply(c.ctx(), []byte("x"))
	var not *NotLeaderError
	if !errors.Is(err, ErrNotLeader) || !errors.As(err, &not) || not.Leader != "h1" {
		t.Errorf("Apply on a follower: %v", err)
	}
	if _, err := heads[1].Barrier(c.ctx()); !errors.Is(err, ErrNotLeader) {
		t.Errorf("Barrier on a follower: %v", err)
	}
	if err := heads[1].Verify(c.ctx()); !errors.Is(err, ErrNotLeader) {
		t.Errorf("Verify on a follower: %v", err)
	}
	if err := heads[1].AddVoter(c.ctx(), "h9", heads[0].RaftAddr()); !errors.Is(err, ErrNotLeader) {
		t.Errorf("AddVoter on a follower: %v", err)
	}
	if err := heads[0].Verify(c.ctx()); err != nil {
		t.Errorf("Verify on the leader: %v", err)
	}
	if heads[0].LastContact() != 0 || heads[1].LastContact() == 0 || heads[1].LastContact() > time.Second {
		t.Errorf("last contact %s and %s", heads[0].LastContact(), heads[1].LastContact())
	}
}

func TestWithoutMajority(t *testing.T) {
	c := newCluster(t)
	heads := c.form(2)
	heads[1].kill()
	_, _, err := heads[0].Apply(c.ctx(), []byte("lost?"))
	if !errors.Is(err, ErrOutcomeUnknown) && !errors.Is(err, ErrNoLeader) {
		t.Errorf("Apply while the majority goes: %v", err)
	}
	c.until("h1 leads no more", func() bool { return !heads[0].IsLeader() })
	if _, _, err := heads[0].Apply(c.ctx(), []byte("no")); !errors.Is(err, ErrNoLeader) {
		t.Errorf("Apply without a majority: %v", err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if _, _, err := heads[0].Apply(ctx, nil); !errors.Is(err, context.Canceled) || errors.Is(err, ErrOutcomeUnknown) {
		t.Errorf("Apply with a dead context: %v", err)
	}
	ctx, cancel = context.WithTimeout(context.Background(), time.Millisecond)
	defer cancel()
	if err := heads[0].WaitApplied(ctx, 1000); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("WaitApplied: %v", err)
	}
}

func TestAllRestartInAnyOrder(t *testing.T) {
	for _, test := range []struct {
		name  string
		stop  func(*head)
		order []int
	}{
		{"killed", (*head).kill, []int{2, 0, 1}},
		{"stopped", (*head).shut, []int{1, 2, 0}},
	} {
		t.Run(test.name, func(t *testing.T) {
			c := newCluster(t)
			heads := c.form(3)
			c.write("one")
			for _, h := range heads {
				test.stop(h)
			}
			for _, i := range test.order {
				heads[i].restart()
			}
			index := c.write("two")
			for _, h := range heads {
				h.has(index, "one", "two")
				c.until(h.name+" sees all three alive", func() bool { return h.alive() == 3 })
			}
		})
	}
}

func (h *head) alive() (n int) {
	for _, m := range h.Members() {
		if m.State == Alive {
			n++
		}
	}
	return n
}

// A head that starts alone must know what it knew: it boots nodes from that.
func TestStateWithoutMajority(t *testing.T) {
	c := newCluster(t)
	heads := c.form(3)
	index := c.write("one")
	last := heads[2]
	last.has(index, "one")
	before := last.AppliedIndex()
	for _, h := range heads {
		h.kill()
	}
	last.restart()
	if got := last.AppliedIndex(); got != before {
		t.Errorf("applied %d after a start without a majority, %d before", got, before)
	}
	last.has(index, "one")

	// And all of that again, from the snapshot that the start has left, with more on
	// top, and with a majority that goes on.
	heads[0].restart()
	index = c.write("two")
	last.has(index, "one", "two")
	heads[0].kill()
	last.kill()
	last.restart()
	last.has(index, "one", "two")
}

func TestDamagedRecord(t *testing.T) {
	for name, damage := range map[string]func(path string) error{
		"missing": os.Remove,
		"empty":   func(path string) error { return os.Truncate(path, 0) },
		"torn": func(path string) error {
			return os.WriteFile(path, []byte("0123456789abcdefghij"), 0o600)
		},
	} {
		t.Run(name, func(t *testing.T) {
			c := newCluster(t)
			h := c.form(1)[0]
			index := c.write("one")
			h.kill()
			if err := damage(filepath.Join(h.cfg.Dir, "applied")); err != nil {
				t.Fatal(err)
			}
			h.restart() // raft alone: the state comes when the head leads
			h.has(index, "one")
		})
	}
}

// What was applied here must still be here.
func TestLogOfBefore(t *testing.T) {
	for name, write := range map[string]func(rec *record, index, term uint64){
		"shorter":         func(rec *record, index, term uint64) { rec.write(index+1000, term) },
		"of another term": func(rec *record, index, term uint64) { rec.write(index, term+1) },
	} {
		t.Run(name, func(t *testing.T) {
			c := newCluster(t)
			h := c.form(1)[0]
			c.write("one")
			h.kill()
			rec, err := openRecord(filepath.Join(h.cfg.Dir, "applied"))
			if err != nil {
				t.Fatal(err)
			}
			index, term, ok := rec.read()
			if write(rec, index, term); !ok {
				t.Error("no record")
			}
			if err := rec.close(); err != nil {
				t.Fatal(err)
			}
			_, err = New(h.cfg, new(list))
			var damaged *DamagedError
			if !errors.As(err, &damaged) || damaged.Path != filepath.Join(h.cfg.Dir, "raft.db") {
				t.Errorf("New: %v", err)
			}
		})
	}
}

func TestFailedIsNotLeft(t *testing.T) {
	c := newCluster(t)
	heads := c.form(3)
	state := func(h *head) State { return heads[0].member(h.name).State }

	heads[1].kill()
	c.until("h2 has failed", func() bool { return state(heads[1]) == Failed })
	heads[2].shut()
	c.until("h3 has left", func() bool { return state(heads[2]) == Left })
	if since := heads[0].member("h3").Since; time.Since(since) > 10*time.Second {
		t.Errorf("h3 has left since %s", since)
	}
	if servers, err := heads[0].Servers(); err != nil || len(servers) != 3 {
		t.Errorf("gossip changed who votes: %v, %v", servers, err)
	}
	lines := heads[0].log.loud("state=failed") // of others too, on a busy machine
	if !slices.ContainsFunc(lines, func(line string) bool { return strings.Contains(line, "head=h2") }) {
		t.Errorf("logged %q", lines)
	}

	// Both are back at once, whatever they were.
	for _, h := range heads[1:] {
		h.restart()
		c.until(h.name+" is alive", func() bool { return state(h) == Alive })
	}
}

// The leader does not back off from a head that is away: it waits for its answer.
func TestReturningHeadIsCaughtUpAtOnce(t *testing.T) {
	c := newCluster(t)
	heads := c.form(3)
	leader, away := c.leader().replica.transport, heads[2]
	away.kill()
	index := c.write("one")
	c.until("replication waits for h3", func() bool {
		leader.mu.Lock()
		defer leader.mu.Unlock()
		return leader.away["h3"] != nil
	})
	began := time.Now()
	away.restart()
	away.has(index, "one")
	t.Logf("caught up after %s", time.Since(began))
	if heads[0].IsLeader() {
		leader.mu.Lock()
		defer leader.mu.Unlock()
		if leader.away["h3"] != nil {
			t.Error("replication still waits for h3")
		}
	}
}

// A head that knows no other one is called by those who know it.
func TestForgetfulHeadIsCalled(t *testing.T) {
	c := newCluster(t)
	heads := c.form(2)
	heads[1].kill()
	c.until("h2 has failed", func() bool { return heads[0].member("h2").State == Failed })
	all := c.heads
	c.heads = nil // no seeds
	heads[1].restart()
	c.heads = all
	c.until("h2 is alive", func() bool { return heads[0].member("h2").State == Alive })
}

// All heads come back at other addresses: nobody can write that down before they
// have a majority, and they get none before they find each other.
func TestAllMove(t *testing.T) {
	c := newCluster(t)
	heads := c.form(3)
	c.write("one")
	for _, h := range heads {
		h.kill()
		h.cfg.RaftPort, h.cfg.GossipPort = 0, 0
	}
	for _, h := range heads {
		h.restart()
		h.cfg.GossipPort = int(h.GossipAddr().Port()) // the seed of those that follow
	}
	index := c.write("two")
	for _, h := range heads {
		h.has(index, "one", "two")
	}
}

func TestWhileLeader(t *testing.T) {
	var mu sync.Mutex
	working, first := map[string]int{}, true
	count := func(name string, n int) bool {
		mu.Lock()
		defer mu.Unlock()
		working[name] += n
		failing := first
		first = false
		return failing
	}
	works := func(h *head) bool {
		mu.Lock()
		defer mu.Unlock()
		return working[h.name] == 1
	}
	duty := func(h *head, ctx context.Context) error {
		failing := count(h.name, 1)
		defer count(h.name, -1)
		if len(h.list.all()) == 0 && !failing {
			t.Errorf("%s works as leader before its state is there", h.name)
		}
		mu.Lock()
		if working[h.name] > 1 {
			t.Errorf("%s works for two terms at the same time", h.name)
		}
		mu.Unlock()
		if failing {
			return errors.New("not the first time")
		}
		<-ctx.Done()
		return ctx.Err()
	}
	c := newCalmCluster(t)
	one := c.start(c.config("h1"), duty)
	if err := one.Bootstrap(c.ctx()); err != nil {
		t.Fatal(err)
	}
	c.write("one")
	c.until("the leader works, at the second attempt", func() bool { return works(one) })
	if lines := one.log.loud("not the first time"); len(lines) != 1 {
		t.Errorf("logged %q", lines)
	}
	heads := []*head{one, c.join(one, "h2", duty), c.join(one, "h3", duty)}

	leader := c.leader()
	if err := leader.TransferLeadership(c.ctx()); err != nil {
		t.Fatal(err)
	}
	next := c.leader()
	c.until("the new leader works and the old one rests", func() bool { return works(next) && (next == leader || !works(leader)) })

	// A polite end hands over by itself: nobody has to miss the leader first.
	next.shut()
	if lines := next.log.loud("not handed over"); len(lines) != 0 {
		t.Errorf("logged %q", lines)
	}
	last := c.leader()
	c.until("the third leader works", func() bool { return works(last) })
	for _, h := range heads {
		if h != next && len(h.log.loud("no head leads")) > 2 {
			t.Errorf("%s logged %q", h.name, h.log.loud("no head leads"))
		}
	}
}

func TestMembership(t *testing.T) {
	c := newCluster(t)
	first := c.form(1)[0]
	if has, err := first.HasState(); err != nil || !has {
		t.Errorf("HasState of the first head: %v, %v", has, err)
	}
	if err := first.Bootstrap(c.ctx()); !errors.Is(err, ErrHasState) {
		t.Errorf("Bootstrap again: %v", err)
	}

	second := c.start(c.config("h2"))
	if has, err := second.HasState(); err != nil || has {
		t.Errorf("HasState of an empty head: %v, %v", has, err)
	}
	if _, ok := second.Leader(); ok {
		t.Error("a head that is in no cluster knows a leader")
	}
	if _, _, err := second.Apply(c.ctx(), nil); !errors.Is(err, ErrNoLeader) {
		t.Errorf("Apply in no cluster: %v", err)
	}
	if n, err := second.Join(c.ctx(), []string{first.GossipAddr().String()}); n != 1 || err != nil {
		t.Errorf("Join: %d, %v", n, err)
	}
	if _, err := second.Join(c.ctx(), []string{"127.0.0.1:1"}); err == nil || !strings.Contains(err.Error(), "refused") || strings.Contains(err.Error(), "\n") {
		t.Errorf("Join of nobody: %v", err)
	}
	c.until("h1 sees where h2 speaks raft", func() bool { return first.member("h2").Raft == second.RaftAddr() })
	if err := first.AddNonvoter(c.ctx(), "h2", second.RaftAddr()); err != nil {
		t.Fatal(err)
	}
	index := c.write("one")
	second.has(index, "one")
	if servers, _ := second.Servers(); len(servers) != 2 || servers[1].Voter {
		t.Errorf("servers %v", servers)
	}
	if err := first.RemoveServer(c.ctx(), "h2"); err != nil {
		t.Fatal(err)
	}
	if servers, _ := first.Servers(); len(servers) != 1 {
		t.Errorf("servers %v", servers)
	}
	c.write("two")
}

// A head that joins late gets the state as a snapshot, and knows at which index.
func TestSnapshotToANewHead(t *testing.T) {
	c := newCluster(t)
	first := c.form(1)[0]
	keep := first.raft.ReloadableConfig()
	keep.TrailingLogs = 0
	if err := first.raft.ReloadConfig(keep); err != nil {
		t.Fatal(err)
	}
	c.write("one")
	if err := first.Snapshot(c.ctx()); err != nil {
		t.Fatal(err)
	}
	index := c.write("two")
	second := c.join(first, "h2")
	second.has(index, "one", "two")
	if first.AppliedIndex() != second.AppliedIndex() {
		c.until("both are equally far", func() bool { return first.AppliedIndex() == second.AppliedIndex() })
	}
	first.kill()
	first.restart()
	first.has(index, "one", "two")
}

// Every kind of index can be waited for: of the empty entry of a new leader, of a
// configuration, of a barrier.
func TestEveryIndexIsReached(t *testing.T) {
	c := newCluster(t)
	heads := c.form(3)
	heads[0].kill()
	leader := c.leader()
	for range 5 {
		index := leader.CommitIndex()
		for _, h := range heads[1:] {
			if err := h.WaitApplied(c.ctx(), index); err != nil {
				t.Fatal(err)
			}
		}
		if err := leader.AddNonvoter(c.ctx(), "h4", netip.MustParseAddrPort("127.0.0.1:1")); err != nil {
			t.Fatal(err)
		}
	}
}

func TestSingleHeadLeadsSoon(t *testing.T) {
	c := newCluster(t)
	c.timing = DefaultTiming()
	h := c.start(c.config("h1"))
	if err := h.Bootstrap(c.ctx()); err != nil {
		t.Fatal(err)
	}
	began := time.Now()
	c.until("h1 leads", h.IsLeader)
	t.Logf("leads %s after Bootstrap", time.Since(began))
	index := c.write("one")
	h.kill()
	began = time.Now()
	h.restart()
	c.until("h1 leads again", h.IsLeader)
	took := time.Since(began)
	t.Logf("leads %s after the start", took)
	if took > 2*time.Second {
		t.Error("that is too long")
	}
	h.has(index, "one")
}

func TestNewFails(t *testing.T) {
	c := newCluster(t)
	h := c.form(1)[0]
	for name, test := range map[string]struct {
		spoil func(*Config)
		want  string
	}{
		"no name":           {func(cfg *Config) { cfg.Name = "" }, "head name"},
		"odd name":          {func(cfg *Config) { cfg.Name = "a@b" }, "head name"},
		"no address":        {func(cfg *Config) { cfg.Advertise = netip.Addr{} }, "address"},
		"any address":       {func(cfg *Config) { cfg.Advertise = netip.IPv4Unspecified() }, "address"},
		"no key":            {func(cfg *Config) { cfg.GossipKey = nil }, "gossip key of 0 bytes"},
		"no certificates":   {func(cfg *Config) { cfg.TLS = nil }, "certificate"},
		"no rule":           {func(cfg *Config) { cfg.Authorize = nil }, "who may speak raft"},
		"no directory":      {func(cfg *Config) { cfg.Dir = "" }, "directory"},
		"odd timing":        {func(cfg *Config) { cfg.Timing.Lease = time.Hour }, "timing"},
		"raft port taken":   {func(cfg *Config) { cfg.RaftPort = h.cfg.RaftPort }, "raft port"},
		"gossip port taken": {func(cfg *Config) { cfg.GossipPort = h.cfg.GossipPort }, "gossip port"},
		"locked":            {func(cfg *Config) { cfg.Dir = h.cfg.Dir }, "agent running already"},
		"file in place":     {func(cfg *Config) { cfg.Dir = filepath.Join(h.cfg.Dir, "raft.db", "x") }, "not a directory"},
	} {
		t.Run(name, func(t *testing.T) {
			cfg := c.config("h2")
			test.spoil(&cfg)
			peer, err := New(cfg, new(list))
			if err == nil {
				_ = peer.Close()
			}
			if err == nil || !strings.Contains(err.Error(), test.want) {
				t.Errorf("New: %v, want something with %q", err, test.want)
			}
		})
	}
}

func TestCloseWithoutRun(t *testing.T) {
	c := newCluster(t)
	peer, err := New(c.config("h1"), new(list))
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(peer.Close(), peer.Close()); err != nil {
		t.Error(err)
	}
	if _, _, err := peer.Apply(c.ctx(), nil); !errors.Is(err, ErrClosed) {
		t.Errorf("Apply: %v", err)
	}
	if err := peer.WaitApplied(c.ctx(), 1); !errors.Is(err, ErrClosed) {
		t.Errorf("WaitApplied: %v", err)
	}
	if _, err := peer.Join(c.ctx(), []string{"127.0.0.1:1"}); !errors.Is(err, ErrClosed) {
		t.Errorf("Join: %v", err)
	}
	if err := peer.Run(c.ctx()); err != nil {
		t.Errorf("Run: %v", err)
	}
}
