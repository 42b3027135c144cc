package consensus

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"net/netip"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/hashicorp/raft"
	"go.uber.org/goleak"
)

func TestMain(m *testing.M) {
	if spec := os.Getenv(childEnv); spec != "" {
		runChild(spec)
		return
	}
	flag.Parse()
	goleak.VerifyTestMain(m)
}

var loopback = netip.MustParseAddr("127.0.0.1")

// list is the smallest state machine that shows every mistake: it keeps all
// commands in their order.
type list struct {
	mu    sync.Mutex
	lines []string
}

func (l *list) Apply(log *raft.Log) any {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.lines = append(l.lines, string(log.Data))
	return len(l.lines)
}

func (l *list) all() []string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return append([]string(nil), l.lines...)
}

func (l *list) Snapshot() (raft.FSMSnapshot, error) { return listSnapshot(l.all()), nil }

func (l *list) Restore(src io.ReadCloser) error {
	var lines []string
	if err := json.NewDecoder(src).Decode(&lines); err != nil {
		return err
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.lines = lines
	return nil
}

type listSnapshot []string

func (s listSnapshot) Persist(sink raft.SnapshotSink) error {
	if err := json.NewEncoder(sink).Encode([]string(s)); err != nil {
		return errors.Join(err, sink.Cancel())
	}
	return sink.Close()
}

func (s listSnapshot) Release() {}

// head is one peer of a test and what it needs to be started again.
type head struct {
	*Peer
	c    *cluster
	name string
	cfg  Config
	list *list
	log  *logBuffer
	duty []func(*head, context.Context) error

	stop context.CancelFunc
	done chan error
}

// cluster is several heads in this process.
type cluster struct {
	t      testing.TB
	ca     *authority
	key    []byte
	timing Timing
	heads  map[string]*head
}

func newCluster(t testing.TB) *cluster {
	return &cluster{t: t, ca: newAuthority(t), key: bytes.Repeat([]byte{7}, 32), timing: TestTiming(), heads: map[string]*head{}}
}

// newCalmCluster is slow to hold elections, for tests that want to see none.
func newCalmCluster(t testing.TB) *cluster {
	c := newCluster(t)
	c.timing.Heartbeat, c.timing.Election, c.timing.Lease = time.Second, time.Second, 800*time.Millisecond
	return c
}

// config is that of a new head, before it is started.
func (c *cluster) config(name string) Config {
	return Config{
		Name: name, Dir: filepath.Join(c.t.TempDir(), name), Bind: loopback, Advertise: loopback,
		GossipKey: c.key, TLS: c.ca.tls(name, "head"), Authorize: onlyHeads, Timing: c.timing, Seeds: c.seeds,
	}
}

// seeds are all heads that ever were.
func (c *cluster) seeds() []string {
	var addrs []string
	for _, h := range c.heads {
		if h.cfg.GossipPort != 0 {
			addrs = append(addrs, netip.AddrPortFrom(h.cfg.Advertise, uint16(h.cfg.GossipPort)).String())
		}
	}
	return addrs
}

// start starts a head with a new configuration.
func (c *cluster) start(cfg Config, duty ...func(*head, context.Context) error) *head {
	c.t.Helper()
	h := &head{c: c, name: cfg.Name, cfg: cfg, duty: duty}
	h.restart()
	h.cfg.RaftPort, h.cfg.GossipPort = int(h.RaftAddr().Port()), int(h.GossipAddr().Port())
	c.heads[cfg.Name] = h
	c.t.Cleanup(h.shut)
	return h
}

// restart starts a head that was stopped, from its disk, with an empty state machine.
func (h *head) restart() {
	h.c.t.Helper()
	h.list, h.log = new(list), new(logBuffer)
	h.cfg.Logger = slog.New(slog.NewTextHandler(h.log, &slog.HandlerOptions{Level: slog.LevelDebug}))
	// The seeds of a running head must not be written while it reads them.
	seeds := h.c.seeds()
	h.cfg.Seeds = func() []string { return seeds }
	peer, err := New(h.cfg, h.list)
	if err != nil {
		h.c.t.Fatalf("starting %s: %v", h.name, err)
	}
	h.Peer = peer
	for _, f := range h.duty {
		peer.WhileLeader(func(ctx context.Context) error { return f(h, ctx) })
	}
	ctx, cancel := context.WithCancel(context.Background())
	h.stop, h.done = cancel, make(chan error, 1)
	go func() { h.done <- peer.Run(ctx) }()
}

// shut stops a head politely.
func (h *head) shut() {
	h.c.t.Helper()
	if h.stop == nil {
		return
	}
	h.stop()
	h.ended()
}

// kill stops a head as kill -9 would: without a word.
func (h *head) kill() {
	h.c.t.Helper()
	if err := h.Close(); err != nil {
		h.c.t.Errorf("closing %s: %v", h.name, err)
	}
	h.ended()
}

func (h *head) ended() {
	h.c.t.Helper()
	select {
	case err := <-h.done:
		if err != nil {
			h.c.t.Errorf("Run of %s returned %v", h.name, err)
		}
	case <-time.After(20 * time.Second):
		stacks := make([]byte, 1<<20)
		h.c.t.Errorf("Run of %s does not return:\n%s", h.name, stacks[:runtime.Stack(stacks, true)])
	}
	h.stop()
	h.stop = nil
	if h.c.t.Failed() {
		h.c.t.Logf("log of %s:\n%s", h.name, h.log)
	}
}

// form starts n heads, h1 first, and makes them voters of one cluster.
func (c *cluster) form(n int, duty ...func(*head, context.Context) error) []*head {
	c.t.Helper()
	first := c.start(c.config("h1"), duty...)
	if err := first.Bootstrap(c.ctx()); err != nil {
		c.t.Fatal(err)
	}
	c.until("h1 leads", first.IsLeader)
	heads := []*head{first}
	for i := 2; i <= n; i++ {
		heads = append(heads, c.join(first, fmt.Sprint("h", i), duty...))
	}
	return heads
}

// join adds a head as Luna does: as a follower, and when it has caught up as a voter.
func (c *cluster) join(leader *head, name string, duty ...func(*head, context.Context) error) *head {
	c.t.Helper()
	h := c.start(c.config(name), duty...)
	c.until(name+" is in the gossip of "+leader.name, func() bool { return leader.member(name).State == Alive })
	c.lead("adding "+name, func(l *head) error { return l.AddNonvoter(c.ctx(), name, h.RaftAddr()) })
	var index uint64
	c.lead("a barrier", func(l *head) (err error) {
		index, err = l.Barrier(c.ctx())
		return err
	})
	if err := h.WaitApplied(c.ctx(), index); err != nil {
		c.t.Fatal(err)
	}
	c.lead("giving a vote to "+name, func(l *head) error { return l.AddVoter(c.ctx(), name, h.RaftAddr()) })
	return h
}

// lead has the leader do something, until one has done it that still led at its
// end: a machine under load holds elections.
func (c *cluster) lead(what string, do func(leader *head) error) {
	c.t.Helper()
	c.until(what, func() bool {
		err := do(c.leader())
		if err != nil && !errors.Is(err, ErrNotLeader) && !errors.Is(err, ErrNoLeader) && !errors.Is(err, ErrOutcomeUnknown) {
			c.t.Fatalf("%s: %v", what, err)
		}
		return err == nil
	})
}

// leader waits for one of the running heads to lead, and returns it.
func (c *cluster) leader() *head {
	c.t.Helper()
	var leader *head
	c.until("a head leads", func() bool {
		for _, h := range c.heads {
			if h.stop != nil && h.IsLeader() && h.Verify(c.ctx()) == nil {
				leader = h
			}
		}
		return leader != nil
	})
	return leader
}

// write proposes a line until some head has it committed, and returns its index.
func (c *cluster) write(line string) uint64 {
	c.t.Helper()
	var index uint64
	c.until("a write of "+line, func() bool {
		for _, h := range c.heads {
			if h.stop == nil || !h.IsLeader() {
				continue
			}
			_, at, err := h.Apply(c.ctx(), []byte(line))
			if errors.Is(err, ErrOutcomeUnknown) {
				c.t.Fatalf("writing %s: %v", line, err)
			}
			if index = at; err == nil {
				return true
			}
		}
		return false
	})
	return index
}

// has waits until a head has applied the index, and compares its state.
func (h *head) has(index uint64, want ...string) {
	h.c.t.Helper()
	if err := h.WaitApplied(h.c.ctx(), index); err != nil {
		h.c.t.Fatal(err)
	}
	if got := h.list.all(); strings.Join(got, " ") != strings.Join(want, " ") {
		h.c.t.Fatalf("%s has %q, want %q", h.name, got, want)
	}
}

func (c *cluster) ctx() context.Context {
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	c.t.Cleanup(cancel)
	return ctx
}

// until waits for a condition of several heads.
func (c *cluster) until(what string, ok func() bool) {
	c.t.Helper()
	tick := time.NewTicker(2 * time.Millisecond)
	defer tick.Stop()
	for deadline := time.Now().Add(20 * time.Second); !ok(); <-tick.C {
		if time.Now().After(deadline) {
			for _, h := range c.heads {
				c.t.Logf("log of %s:\n%s", h.name, h.log)
			}
			c.t.Fatalf("waited in vain for this: %s", what)
		}
	}
}

// logBuffer keeps what a head logs.
type logBuffer struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (b *logBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buf.Write(p)
}

func (b *logBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buf.String()
}

// loud are the lines above debug level that hold the text.
func (b *logBuffer) loud(text string) []string {
	var lines []string
	for line := range strings.Lines(b.String()) {
		if !strings.Contains(line, "level=DEBUG") && strings.Contains(line, text) {
			lines = append(lines, strings.TrimSpace(line))
		}
	}
	return lines
}
