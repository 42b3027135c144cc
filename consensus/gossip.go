package consensus

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/hashicorp/memberlist"
)

// State is what gossip thinks of a head.
type State string

// The states of a member.
//
// memberlist knows a fourth, suspect, for a head that missed a probe and may
// still object. It lasts for half a second and memberlist does not tell of it:
// such a head counts as alive here.
const (
	// Alive: it answers.
	Alive State = "alive"
	// Failed: it stopped answering, without a word. It may be back any moment.
	Failed State = "failed"
	// Left: its agent was stopped in an orderly way. It still belongs to the
	// cluster: who has left gossip has not left raft.
	Left State = "left"
)

// Member is a head as gossip sees it.
type Member struct {
	Name  string
	Addr  netip.AddrPort // where it gossips
	Raft  netip.AddrPort // where it speaks raft, as it says itself
	State State
	Since time.Time // of this state, by this head's clock

	// Format and Generation are what the head says of itself: see [Config]. 0 where
	// it does not say.
	Format     int
	Generation uint64

	// Unfit says that the head cannot write to its raft log now: it neither leads nor
	// votes, and follows without keeping anything. See DiskError, there.
	Unfit bool
}

// memberMeta travels with a member's name through gossip, as JSON. memberlist
// allows 512 bytes and panics on more.
type memberMeta struct {
	Raft       netip.AddrPort `json:"raft"`
	Leaving    bool           `json:"leaving,omitempty"`
	Format     int            `json:"format,omitempty"`
	Generation uint64         `json:"generation,omitempty"`
	Unfit      bool           `json:"unfit,omitempty"`
}

const (
	// gossipTCPTimeout bounds one full exchange of what two heads know.
	gossipTCPTimeout = 3 * time.Second
	// leaveTimeout bounds each of the two steps of leaving.
	leaveTimeout = time.Second
)

// gossip is this head among those that are there. It remembers everyone whom it
// has met since it started: memberlist forgets the dead after half a minute.
type gossip struct {
	cfg       *Config
	raftAddr  netip.AddrPort
	list      *memberlist.Memberlist
	transport *gossipTransport
	changed   signal
	calls     flight // exchanges with other heads that this one began

	ending sync.Mutex // memberlist panics on leaving after closing
	closed bool

	mu         sync.Mutex
	leaving    bool
	generation uint64
	unfit      bool
	members    map[string]Member
}

// openGossip opens the port and begins to answer. raftAddr is what other heads
// will learn of this one.
func openGossip(cfg *Config, raftAddr netip.AddrPort, limit *limiter) (*gossip, error) {
	g := &gossip{cfg: cfg, raftAddr: raftAddr, generation: cfg.Generation, members: make(map[string]Member)}
	logger := newGossipLog(cfg.Logger, limit)
	transport, err := listenGossip(cfg)
	if err != nil {
		return nil, err
	}
	g.transport = transport
	port := transport.port()

	conf := memberlist.DefaultLANConfig()
	conf.Name = cfg.Name
	conf.Transport = transport
	conf.BindPort = port
	conf.AdvertiseAddr, conf.AdvertisePort = cfg.Advertise.String(), port
	conf.SecretKey = cfg.GossipKey
	conf.GossipVerifyIncoming, conf.GossipVerifyOutgoing = true, true
	conf.EnableCompression = false // the messages of a few heads are small
	conf.TCPTimeout = gossipTCPTimeout
	conf.ProbeInterval = cfg.Timing.Probe
	conf.ProbeTimeout = cfg.Timing.ProbeTimeout
	conf.SuspicionMult = cfg.Timing.Suspicion
	conf.SuspicionMaxTimeoutMult = 2
	// A head that thinks itself slow probes slower, by up to this factor.
	conf.AwarenessMaxMultiplier = 3
	conf.GossipInterval = cfg.Timing.Probe * 2 / 5
	// Full exchanges mend what gossip has missed, such as a head that came back at
	// another address before it was seen as failed at the old one. Heads are few.
	conf.PushPullInterval = 5 * time.Second
	conf.DeadNodeReclaimTime = time.Nanosecond // a failed head may be back at another address at once
	conf.Delegate = gossipDelegate{g}
	conf.Events = gossipDelegate{g}
	conf.Logger = logger
	if g.list, err = memberlist.Create(conf); err != nil {
		_ = transport.Shutdown()
		return nil, fmt.Errorf("starting gossip: %w", err)
	}
	return g, nil
}

// GossipAddr is the address at which other heads find this one in gossip.
func (g *gossip) GossipAddr() netip.AddrPort {
	return netip.AddrPortFrom(g.cfg.Advertise, uint16(g.transport.port()))
}

// Members are all heads that this one has met since it started, itself included,
// by name. It is a view: other heads may see others, and none of it says who
// belongs to the cluster: see [Peer.Servers] for that.
func (g *gossip) Members() []Member {
	g.mu.Lock()
	defer g.mu.Unlock()
	all := make([]Member, 0, len(g.members))
	for _, m := range g.members {
		all = append(all, m)
	}
	slices.SortFunc(all, func(a, b Member) int { return cmp.Compare(a.Name, b.Name) })
	return all
}

func (g *gossip) member(name string) Member {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.members[name]
}

// MembersChanged returns a channel that is closed when Members has changed. Take
// the channel first and look at Members second, to miss nothing.
func (g *gossip) MembersChanged() <-chan struct{} { return g.changed.wait() }

// Join calls the heads at these gossip addresses (host:port, or host with this
// head's own gossip port) and exchanges with each what both know. It returns how
// many answered, and an error only if none did. It needs no repetition: [Peer.Run]
// keeps calling those who should be there.
func (g *gossip) Join(ctx context.Context, addrs []string) (int, error) {
	if len(addrs) == 0 {
		return 0, errors.New("no address of another head to join")
	}
	results := make(chan error, len(addrs))
	for _, addr := range addrs {
		if !g.calls.begin() {
			return 0, ErrClosed
		}
		go func() {
			defer g.calls.end()
			results <- g.call(ctx, addr)
		}()
	}
	answered, errs := 0, []error(nil)
	for range addrs {
		select {
		case err := <-results:
			if err == nil {
				answered++
			}
			errs = append(errs, err)
		case <-ctx.Done():
			errs = append(errs, context.Cause(ctx))
		}
	}
	if answered == 0 {
		return 0, fmt.Errorf("no head answers gossip: %w", errors.Join(errs...))
	}
	return answered, nil
}

// call exchanges what both know with the head at one address.
func (g *gossip) call(ctx context.Context, addr string) error {
	host, port, err := net.SplitHostPort(addr)
	if err != nil {
		host, port = strings.Trim(addr, "[]"), strconv.Itoa(g.transport.port())
	}
	// memberlist would resolve names as well, but by asking DNS servers over TCP.
	ips, err := net.DefaultResolver.LookupNetIP(ctx, "ip", host)
	if err != nil {
		return err
	}
	var errs []error
	for _, ip := range ips {
		_, err := g.list.Join([]string{net.JoinHostPort(ip.Unmap().String(), port)})
		if err == nil {
			return nil
		}
		var many interface{ WrappedErrors() []error } // of go-multierror, which prints over many lines
		if errors.As(err, &many) {
			err = errors.Join(many.WrappedErrors()...)
		}
		errs = append(errs, err)
	}
	return errors.Join(errs...)
}

// keepJoined calls, now and at each interval, everyone who should be there and is
// not. Without it, heads that all started at once, or that a broken switch kept
// apart for longer than memberlist remembers, would not meet.
func (g *gossip) keepJoined(ctx context.Context) {
	tick := time.NewTicker(g.cfg.Timing.Rejoin)
	defer tick.Stop()
	for {
		if missing := g.missing(); len(missing) > 0 {
			if _, err := g.Join(ctx, missing); err != nil && ctx.Err() == nil {
				g.cfg.Logger.Debug("calling heads that are not there", "error", err)
			}
		}
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
	}
}

// missing are the addresses of the seeds and of failed members at which no member
// is alive.
func (g *gossip) missing() []string {
	var wanted []string
	if g.cfg.Seeds != nil {
		wanted = slices.Clone(g.cfg.Seeds())
	}
	there := map[string]bool{g.GossipAddr().String(): true}
	for _, m := range g.Members() {
		switch m.State {
		case Alive:
			there[m.Addr.String()] = true
		case Failed:
			wanted = append(wanted, m.Addr.String())
		}
	}
	slices.Sort(wanted)
	return slices.DeleteFunc(slices.Compact(wanted), func(addr string) bool { return there[addr] })
}

// SetGeneration changes what this head says of itself: see [Config]. It returns
// when the others were told, or after a second: gossip then goes on telling them.
func (g *gossip) SetGeneration(generation uint64) {
	g.mu.Lock()
	same := g.generation == generation
	g.generation = generation
	g.mu.Unlock()
	if !same {
		g.tell()
	}
}

// keepFitness tells the others whether this head can write, until ctx ends.
func (g *gossip) keepFitness(ctx context.Context, d *disk) {
	for {
		changed := d.DiskChanged()
		unfit := d.DiskError() != nil
		g.mu.Lock()
		same := g.unfit == unfit
		g.unfit = unfit
		g.mu.Unlock()
		if !same {
			g.tell()
		}
		select {
		case <-ctx.Done():
			return
		case <-changed:
		}
	}
}

// tell makes the others learn what NodeMeta says now.
func (g *gossip) tell() {
	g.ending.Lock()
	defer g.ending.Unlock()
	if g.closed {
		return
	}
	if err := g.list.UpdateNode(leaveTimeout); err != nil {
		g.cfg.Logger.Debug("telling the other heads what has changed here", "error", err)
	}
}

// leave tells the others that this head goes, so that they do not take it for
// failed. memberlist tells them the difference but not us: so the meta says it
// first, and the messages are sent in this order.
func (g *gossip) leave() {
	g.ending.Lock()
	defer g.ending.Unlock()
	if g.closed {
		return
	}
	g.mu.Lock()
	g.leaving = true
	g.mu.Unlock()
	if err := errors.Join(g.list.UpdateNode(leaveTimeout), g.list.Leave(leaveTimeout)); err != nil {
		g.cfg.Logger.Debug("leaving gossip", "error", err) // others will see a failed head instead
	}
}

func (g *gossip) close() error {
	g.ending.Lock()
	defer g.ending.Unlock()
	g.closed = true
	err := g.list.Shutdown()
	g.calls.drain(gossipTCPTimeout)
	if err != nil {
		return fmt.Errorf("closing gossip: %w", err)
	}
	return nil
}

// see notes what memberlist tells of a head. It is called with memberlist's lock
// held and must not call it.
func (g *gossip) see(node *memberlist.Node, gone bool) {
	var meta memberMeta
	_ = json.Unmarshal(node.Meta, &meta) // another version may write another form; its address is then not known
	addr, _ := netip.AddrFromSlice(node.Addr)
	m := Member{
		Name: node.Name, Addr: netip.AddrPortFrom(addr.Unmap(), node.Port), Raft: meta.Raft,
		State: Alive, Since: time.Now(), Format: meta.Format, Generation: meta.Generation, Unfit: meta.Unfit,
	}
	switch {
	case meta.Leaving:
		m.State = Left
	case gone:
		m.State = Failed
	}
	g.mu.Lock()
	old, known := g.members[m.Name]
	if known && old.State == m.State {
		m.Since = old.Since
	}
	g.members[m.Name] = m
	g.mu.Unlock()
	if known && old == m {
		return
	}
	g.changed.fire()
	if m.State == old.State || m.Name == g.cfg.Name {
		return
	}
	level := slog.LevelInfo
	if m.State == Failed {
		level = slog.LevelWarn
	}
	g.cfg.Logger.Log(context.Background(), level, "head seen by gossip", "head", m.Name, "state", string(m.State), "address", m.Addr.String())
}

// gossipDelegate is what memberlist calls: apart from gossip, so that none of it
// shows on Peer.
type gossipDelegate struct{ g *gossip }

var (
	_ memberlist.Delegate      = gossipDelegate{}
	_ memberlist.EventDelegate = gossipDelegate{}
)

func (d gossipDelegate) NodeMeta(int) []byte {
	d.g.mu.Lock()
	defer d.g.mu.Unlock()
	meta, _ := json.Marshal(memberMeta{ // of these types, it cannot fail
		Raft: d.g.raftAddr, Leaving: d.g.leaving, Format: d.g.cfg.Format, Generation: d.g.generation, Unfit: d.g.unfit,
	})
	return meta
}

func (d gossipDelegate) NotifyJoin(n *memberlist.Node)   { d.g.see(n, false) }
func (d gossipDelegate) NotifyUpdate(n *memberlist.Node) { d.g.see(n, false) }
func (d gossipDelegate) NotifyLeave(n *memberlist.Node)  { d.g.see(n, true) }
func (d gossipDelegate) NotifyMsg([]byte)                {}
func (d gossipDelegate) GetBroadcasts(int, int) [][]byte { return nil }
func (d gossipDelegate) LocalState(bool) []byte          { return nil }
func (d gossipDelegate) MergeRemoteState([]byte, bool)   {}
