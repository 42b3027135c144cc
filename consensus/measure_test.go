package consensus

import (
	"bufio"
	"context"
	"crypto/ecdsa"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"flag"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"testing"
	"time"
)

// The figures about timing come from here: three heads in processes of their own,
// killed by kill -9 and started again, beside busy loops.
//
//	go test ./consensus -run Measure -v -kills 20 -hogs 2 -calm 60s
var (
	kills = flag.Int("kills", 0, "measure this many kills of a head (0: do not measure)")
	hogs  = flag.Int("hogs", 0, "measure beside this many busy loops")
	calm  = flag.Duration("calm", 10*time.Second, "count false alarms for so long, before the kills")
	inner = flag.Int("busy", 0, "measure with this many busy goroutines in each head")
	quick = flag.Bool("test-timing", false, "measure TestTiming instead of DefaultTiming")
	heart = flag.Duration("heartbeat", 0, "another Heartbeat, Election and Lease")
	probe = flag.Duration("probe", 0, "another Probe, with 0.4 as ProbeTimeout")
)

// childEnv makes the test binary a head, or a busy loop, instead of a test.
const childEnv = "LUNA_CONSENSUS_CHILD"

// childConfig is what a head in its own process is told.
type childConfig struct {
	Hog, First   bool
	Name, Dir    string
	Raft, Gossip int
	Cert, Key    []byte // DER
	CA           []byte
	Seeds        []string
	Busy         int
	Timing       Timing
}

// childEvent is what it tells, a line each.
type childEvent struct {
	At     time.Time
	Wrote  bool   `json:",omitempty"`
	Leads  string `json:",omitempty"`
	Member string `json:",omitempty"`
	State  State  `json:",omitempty"`
	Log    string `json:",omitempty"`
}

func runChild(spec string) {
	var c childConfig
	if err := json.Unmarshal([]byte(spec), &c); err != nil {
		panic(err)
	}
	for c.Hog {
		if os.Getppid() == 1 { // the test is gone
			return
		}
		for range 10_000_000 {
		}
	}
	out := json.NewEncoder(os.Stdout)
	events := make(chan childEvent, 100)
	go func() {
		for e := range events {
			if err := out.Encode(e); err != nil {
				os.Exit(1) // the test is gone
			}
		}
	}()
	ca, err := x509.ParseCertificate(c.CA)
	if err != nil {
		panic(err)
	}
	key, err := x509.ParseECPrivateKey(c.Key)
	if err != nil {
		panic(err)
	}
	pool := x509.NewCertPool()
	pool.AddCert(ca)
	cfg := Config{
		Name: c.Name, Dir: c.Dir, Bind: loopback, Advertise: loopback, RaftPort: c.Raft, GossipPort: c.Gossip,
		GossipKey: make([]byte, 32), Authorize: onlyHeads, Seeds: func() []string { return c.Seeds },
		TLS:    &tls.Config{RootCAs: pool, ClientCAs: pool, Certificates: []tls.Certificate{{Certificate: [][]byte{c.Cert}, PrivateKey: key}}},
		Logger: slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: slog.LevelError})),
	}
	cfg.Timing = c.Timing
	for range c.Busy {
		go func() {
			for { //nolint:staticcheck // SA5002: taking the whole processor is the point
			}
		}()
	}
	p, err := New(cfg, new(list))
	if err != nil {
		panic(err)
	}
	ctx := context.Background()
	p.WhileLeader(func(ctx context.Context) error { return childLeads(ctx, p, events) })
	go childWatches(p, events)
	if c.First {
		if err := p.Bootstrap(ctx); err != nil {
			panic(err)
		}
	}
	panic(p.Run(ctx))
}

// childLeads adds who is there, and writes all the time.
func childLeads(ctx context.Context, p *Peer, events chan<- childEvent) error {
	for ; ; time.Sleep(5 * time.Millisecond) {
		if _, _, err := p.Apply(ctx, []byte("tick")); err != nil {
			return err
		}
		events <- childEvent{At: time.Now(), Wrote: true}
		servers, err := p.Servers()
		if err != nil {
			return err
		}
		for _, m := range p.Members() {
			known := slices.ContainsFunc(servers, func(s Server) bool { return s.Name == m.Name })
			if m.State == Alive && !known {
				if err := p.AddVoter(ctx, m.Name, m.Raft); err != nil {
					return err
				}
			}
		}
	}
}

// childWatches tells each change.
func childWatches(p *Peer, events chan<- childEvent) {
	seen, led, applied := map[string]State{}, "", false
	for {
		members, leads := p.MembersChanged(), p.LeaderChanged()
		for _, m := range p.Members() {
			if seen[m.Name] != m.State {
				seen[m.Name] = m.State
				events <- childEvent{At: time.Now(), Member: m.Name, State: m.State}
			}
		}
		if leader, _ := p.Leader(); leader != led {
			led = leader
			events <- childEvent{At: time.Now(), Leads: leader + " leads"}
		}
		if !applied {
			applied = true
			go func(from uint64) { // tells when the first new entry is applied here
				_ = p.WaitApplied(context.Background(), from+1)
				events <- childEvent{At: time.Now(), Log: "caught up"}
			}(p.AppliedIndex())
		}
		select {
		case <-members:
		case <-leads:
		}
	}
}

// child is a process with a head in it.
type child struct {
	conf   childConfig
	cmd    *exec.Cmd
	events chan childEvent
}

func (c *child) start(t *testing.T) {
	t.Helper()
	spec, err := json.Marshal(c.conf)
	if err != nil {
		t.Fatal(err)
	}
	c.cmd = exec.Command(os.Args[0])
	c.cmd.Env = append(os.Environ(), childEnv+"="+string(spec))
	c.cmd.Stderr = os.Stderr
	out, err := c.cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := c.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	events := make(chan childEvent, 100000)
	c.events = events
	go func() {
		defer close(events)
		for lines := bufio.NewScanner(out); lines.Scan(); {
			var e childEvent
			if json.Unmarshal(lines.Bytes(), &e) == nil {
				events <- e
			}
		}
	}()
}

func (c *child) kill() time.Time {
	at := time.Now()
	_ = c.cmd.Process.Kill()
	for range c.events { // to the end
	}
	_ = c.cmd.Wait()
	return at
}

// next waits for an event of that kind, and fails the test after a while.
func (c *child) next(t *testing.T, what string, is func(childEvent) bool) childEvent {
	t.Helper()
	limit := time.After(30 * time.Second)
	for {
		select {
		case e := <-c.events:
			if is(e) {
				return e
			}
		case <-limit:
			t.Fatalf("%s: waited in vain: %s", c.conf.Name, what)
		}
	}
}

func freePort(t *testing.T) int {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().(*net.TCPAddr).Port
}

func TestMeasure(t *testing.T) {
	if *kills == 0 {
		t.Skip("only with -kills N: it takes minutes and loads the machine")
	}
	timing := DefaultTiming()
	if *quick {
		timing = TestTiming()
	}
	if *heart > 0 {
		timing.Heartbeat, timing.Election, timing.Lease = *heart, *heart, *heart
	}
	if *probe > 0 {
		timing.Probe, timing.ProbeTimeout = *probe, *probe*2/5
	}
	t.Logf("timing %+v", timing)
	ca := newAuthority(t)
	children := map[string]*child{}
	names := []string{"h1", "h2", "h3"}
	var seeds []string
	for i, name := range names {
		conf := ca.tls(name, "head").Certificates[0]
		key, err := x509.MarshalECPrivateKey(conf.PrivateKey.(*ecdsa.PrivateKey))
		if err != nil {
			t.Fatal(err)
		}
		c := &child{conf: childConfig{
			First: i == 0, Name: name, Dir: filepath.Join(t.TempDir(), name), Raft: freePort(t), Gossip: freePort(t),
			Cert: conf.Certificate[0], Key: key, CA: ca.cert.Raw, Busy: *inner, Timing: timing,
		}}
		seeds = append(seeds, netip.AddrPortFrom(loopback, uint16(c.conf.Gossip)).String())
		children[name] = c
	}
	for range *hogs {
		h := &child{conf: childConfig{Hog: true}}
		h.start(t)
		defer h.kill()
	}
	for _, name := range names {
		children[name].conf.Seeds = seeds
		children[name].start(t)
		defer func() { children[name].kill() }()
		children[name].conf.First = false
		if name == "h1" {
			children[name].next(t, "write", func(e childEvent) bool { return e.Wrote })
		} else {
			children[name].next(t, "caught up", func(e childEvent) bool { return e.Log != "" })
		}
	}

	time.Sleep(*calm) // what happens in that time is counted
	alarms, elections, writes := 0, 0, 0
	for _, c := range children {
		for len(c.events) > 0 {
			e := <-c.events
			if e.State == Failed {
				alarms++
			}
			if e.Leads != "" && e.Leads == c.conf.Name+" leads" {
				elections++
			}
			if e.Wrote {
				writes++
			}
		}
	}
	t.Logf("%s of calm beside %d busy loops: %d false alarms, %d needless elections, %d writes", *calm, *hogs, alarms, elections, writes)

	var detect, both, write, back, caught []time.Duration
	leader := ""
	for i := range *kills {
		for _, c := range children { // who leads, and nothing old is left
			for len(c.events) > 0 {
				if e := <-c.events; e.Wrote {
					leader = c.conf.Name
				}
			}
		}
		victim := children[names[i%3]]
		wasLeader := victim.conf.Name == leader
		at := victim.kill()
		var seen []time.Duration
		var wrote time.Time // the first write after the kill
		var others []*child
		for _, c := range children {
			if c == victim {
				continue
			}
			others = append(others, c)
			e := c.next(t, "failed", func(e childEvent) bool {
				wrote = earlier(wrote, e, at)
				return e.Member == victim.conf.Name && e.State == Failed
			})
			seen = append(seen, e.At.Sub(at))
		}
		for limit := time.After(30 * time.Second); wrote.IsZero(); {
			select {
			case e := <-others[0].events:
				wrote = earlier(wrote, e, at)
			case e := <-others[1].events:
				wrote = earlier(wrote, e, at)
			case <-limit:
				t.Fatal("no more writes")
			}
		}
		if wasLeader {
			write = append(write, wrote.Sub(at))
		}
		slices.Sort(seen)
		detect, both = append(detect, seen[0]), append(both, seen[1])
		began := time.Now()
		victim.start(t)
		for _, c := range children {
			if c != victim {
				e := c.next(t, "back", func(e childEvent) bool { return e.Member == victim.conf.Name && e.State == Alive })
				back = append(back, e.At.Sub(began))
			}
		}
		caught = append(caught, victim.next(t, "caught up", func(e childEvent) bool { return e.Log != "" }).At.Sub(began))
		time.Sleep(time.Second) // let it settle
	}
	for _, row := range []struct {
		what string
		d    []time.Duration
	}{
		{"kill -9 to failed on the first head", detect},
		{"kill -9 to failed on both heads", both},
		{"kill -9 of the leader to the first write", write},
		{"start to alive on another head", back},
		{"start to first new entry applied", caught},
	} {
		t.Log(row.what + ": " + quantiles(row.d))
	}
}

// earlier is the time of the write e, if that came after the kill and before best.
func earlier(best time.Time, e childEvent, kill time.Time) time.Time {
	if e.Wrote && e.At.After(kill) && (best.IsZero() || e.At.Before(best)) {
		return e.At
	}
	return best
}

func quantiles(d []time.Duration) string {
	if len(d) == 0 {
		return "none"
	}
	slices.Sort(d)
	ms := func(q float64) string { return strconv.Itoa(int(d[int(q*float64(len(d)-1))].Milliseconds())) }
	return fmt.Sprintf("min %s, median %s, p90 %s, max %s ms (n=%d)", ms(0), ms(0.5), ms(0.9), ms(1), len(d))
}
