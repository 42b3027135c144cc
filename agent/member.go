package agent

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/clustervision/luna/api"
	"github.com/clustervision/luna/consensus"
	"github.com/clustervision/luna/fsm"
	"github.com/clustervision/luna/image"
	"github.com/clustervision/luna/inventory"
	"github.com/clustervision/luna/pki"
	"github.com/clustervision/luna/swarm"
)

// member is this head as one of several: all that needs an identity.
type member struct {
	cfg     Config
	log     *slog.Logger
	id      *identity
	tls     *tls.Config
	address netip.Addr

	machine *fsm.Machine
	peer    *consensus.Peer
	store   *image.Store
	swarm   *swarm.Swarm
	tracker *swarm.Tracker
	guard   *guard
	apiL    net.Listener
	httpL   net.Listener

	reports *reports
	warn    warnings
	packing sync.Mutex // one image at a time: packing takes every CPU
	tracked sync.Map   // SHA-256 by info hash, of what this head seeds or fetches

	opened    atomic.Bool            // peer is set
	opening   atomic.Int64           // services for nodes that were not tried yet
	transfers atomic.Int64           // requests of nodes for files that are being answered
	removed   atomic.Bool            // while it was away, as other heads say
	successor atomic.Pointer[string] // a head of a later generation, seen at any time
	pulse     pulse
	keeper    atomic.Pointer[timekeeper] // while this head leads

	known      atomic.Bool                             // the state was this head's before, or has named it since: see outside
	begun      atomic.Bool                             // what the identity told this head to begin
	stop       chan struct{}                           // closed by end
	afterwards atomic.Pointer[func() (*member, error)] // what this head is after it ends as this member; nil: as ctx says

	clientsMu sync.Mutex
	clients   map[string]*api.Client // of other heads, by name and address
}

// newMember opens everything, or nothing.
func newMember(cfg Config, id *identity) (_ *member, err error) {
	m := &member{
		cfg: cfg, log: cfg.Logger, id: id, address: id.Address, machine: fsm.New(),
		reports: newReports(), clients: map[string]*api.Client{}, stop: make(chan struct{}),
	}
	if specific(cfg.Bind) {
		m.address = cfg.Bind
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, m.close())
		}
	}()
	if m.tls, err = id.tls(); err != nil {
		return nil, err
	}
	if m.guard, err = newGuard(m.belongs, cfg.Logger); err != nil {
		return nil, err
	}
	if m.apiL, err = listen(cfg.Bind, cfg.APIPort, "api-port"); err != nil {
		return nil, err
	}
	if m.httpL, err = listen(cfg.Bind, cfg.HTTPPort, "http-port"); err != nil {
		return nil, err
	}
	if m.store, err = image.Open(filepath.Join(cfg.DataDir, "artifacts")); err != nil {
		return nil, err
	}
	if m.swarm, err = swarm.New(swarm.Config{
		Listen: cfg.Bind, PortMin: cfg.SwarmPortMin, PortMax: cfg.SwarmPortMax,
		MaxPeers: 64, Admit: m.guard.admit, Logger: cfg.Logger,
	}); err != nil {
		return nil, fmt.Errorf("open the swarm: %w", err)
	}
	m.tracker = swarm.NewTracker(swarm.TrackerConfig{Known: m.knownArtifact, Swarm: m.swarm, Tuned: m.trackerSettings})
	if id.Adopt != nil && id.Adopt.Alone {
		if err = consensus.Recover(m.consensusConfig(), fsm.New()); err != nil {
			return nil, fmt.Errorf("go on alone: %w", err)
		}
	}
	if m.peer, err = consensus.New(m.consensusConfig(), m.machine); err != nil {
		return nil, fmt.Errorf("open raft and gossip: %w", err)
	}
	_, begun := m.machine.View().Cluster() // as it was left: one that joins has none
	m.known.Store(begun)
	m.opened.Store(true)
	m.peer.WhileLeader(m.lead)
	m.peer.WhileLeader(m.keepTime)
	return m, nil
}

func (m *member) consensusConfig() consensus.Config {
	return consensus.Config{
		Name: m.cfg.Name, Dir: filepath.Join(m.cfg.DataDir, "raft"), Bind: m.cfg.Bind, Advertise: m.address,
		RaftPort: m.cfg.RaftPort, GossipPort: m.cfg.GossipPort, GossipKey: m.id.GossipKey,
		TLS: m.tls.Clone(), Authorize: m.authorize, Seeds: m.seeds, Timing: m.cfg.Timing, Logger: m.cfg.Logger,
		Admit: m.guard.admit, Format: inventory.FormatVersion, Generation: m.id.Generation,
	}
}

func (m *member) close() error {
	var errs []error
	for _, l := range []net.Listener{m.apiL, m.httpL} {
		if l == nil {
			continue
		}
		if err := l.Close(); !errors.Is(err, net.ErrClosed) {
			errs = append(errs, err)
		}
	}
	if m.peer != nil {
		errs = append(errs, m.peer.Close())
	}
	return errors.Join(errs...)
}

// specific tells whether an address names one of the machine's, not all.
func specific(a netip.Addr) bool { return a.IsValid() && !a.IsUnspecified() }

func listen(bind netip.Addr, port int, key string) (net.Listener, error) {
	host := ""
	if specific(bind) {
		host = bind.String()
	}
	l, err := net.Listen("tcp", net.JoinHostPort(host, strconv.Itoa(port)))
	if err != nil {
		return nil, fmt.Errorf("%s: %w", key, err)
	}
	return l, nil
}

func portOf(l net.Listener) int { return l.Addr().(*net.TCPAddr).Port }

// authorize lets only heads speak raft, and none of an earlier generation of the
// cluster: they would take this one's log for a branch of their own.
func (m *member) authorize(c *x509.Certificate) error {
	name := c.Subject.CommonName
	if pki.RoleOf(c) != pki.Head {
		return fmt.Errorf("'%s' is not a head", name)
	}
	if !m.opened.Load() {
		return nil // gossip, which knows generations, is not there yet
	}
	for _, p := range m.peer.Members() {
		if p.Name == name && p.State == consensus.Alive && p.Generation != m.id.Generation {
			return fmt.Errorf("head '%s' is of generation %d of the cluster and this one of %d: the cluster was recovered or restored without one of them", name, p.Generation, m.id.Generation)
		}
	}
	return nil
}

// superseded tells whether the cluster went on without this head. That stays true when
// those that went on are away.
func (m *member) superseded() error {
	for _, p := range m.peer.Members() {
		if p.State == consensus.Alive && p.Generation > m.id.Generation {
			m.successor.CompareAndSwap(nil, &p.Name)
		}
	}
	if by := m.successor.Load(); by != nil {
		return fmt.Errorf("the cluster was recovered or restored on head '%s' without this head, whose state is of before: it serves nobody; `luna leave` on '%s' makes it forget that, and then it may join anew", *by, m.cfg.Name)
	}
	return nil
}

// seeds gives the gossip addresses of the other heads, as far as known.
func (m *member) seeds() []string {
	seeds := slices.Clone(m.id.Seeds)
	for h := range m.machine.View().Heads() {
		if h.Name != m.cfg.Name {
			seeds = append(seeds, netip.AddrPortFrom(h.Address, uint16(h.GossipPort)).String())
		}
	}
	slices.Sort(seeds)
	return slices.Compact(seeds)
}

// run is the member's life: the edge inside the core.
func (m *member) run(ctx context.Context, backend api.Backend) error {
	coreCtx, stopCore := context.WithCancel(context.WithoutCancel(ctx))
	defer stopCore()
	core, coreCtx := errgroup.WithContext(coreCtx)
	core.Go(func() error { return m.peer.Run(coreCtx) })
	core.Go(func() error { return m.swarm.Run(coreCtx) })

	untilStopped, stopEdge := context.WithCancel(context.WithoutCancel(ctx))
	defer stopEdge()
	go func() { // ends with the edge
		select {
		case <-ctx.Done():
		case <-m.stop:
		case <-coreCtx.Done():
		case <-untilStopped.Done():
		}
		m.peer.HandOver() // before the edge takes its time: nobody waits for a head that goes
		stopEdge()
	}()
	edge, edgeCtx := errgroup.WithContext(untilStopped)
	edge.Go(func() error { return m.begin(edgeCtx) })
	edge.Go(func() error {
		l := tls.NewListener(guarded{m.apiL, m.guard}, m.serverTLS())
		return serve(edgeCtx, l, vouch(certified, api.Handler(backend, m.cfg.Version, callerOf)), m.log)
	})
	edge.Go(func() error { return m.keepRegistered(edgeCtx) })
	edge.Go(func() error { return m.keepPulse(edgeCtx) })
	edge.Go(func() error { return m.watchDisk(edgeCtx) })
	if !m.cfg.Witness {
		edge.Go(func() error { return m.serveNodes(edgeCtx) })
		edge.Go(func() error { return m.keepImages(edgeCtx) })
		edge.Go(func() error { return m.sendReports(edgeCtx) })
	}

	err := edge.Wait()
	stopCore()
	return errors.Join(err, core.Wait(), m.close())
}

// end stops this head as this member, in order, and lets it go on as what then
// gives: nobody for nil. It is false where something else ends it already.
func (m *member) end(then func() (*member, error)) bool {
	if !m.afterwards.CompareAndSwap(nil, &then) {
		return false
	}
	close(m.stop)
	return true
}

// begin makes the cluster that this head was told to begin, unless it is there.
func (m *member) begin(ctx context.Context) error {
	switch {
	case m.id.Init != nil:
		if err := m.bootstrap(ctx); err != nil {
			return err
		}
		c := *m.id.Init
		c.Head = m.describe()
		c.Head.Joined = time.Now().UTC()
		done := func() bool { _, ok := m.machine.View().Cluster(); return ok }
		if !m.insist(ctx, c, done) {
			return nil
		}
	case m.id.Adopt != nil:
		if !m.adopt(ctx) {
			return nil
		}
	default:
		return nil
	}
	m.begun.Store(true)
	id := *m.id
	id.Init, id.Adopt = nil, nil
	for {
		err := id.save(m.cfg.DataDir)
		m.warn.set("identity", err)
		if err == nil {
			break
		}
		if m.id.Adopt != nil && m.id.Adopt.Alone {
			return err // the next start of the agent would take the votes of heads that have joined since
		}
		m.log.Warn("that the cluster is begun is not written down yet", "err", err) // the next start of the agent finds out
		if !pause(ctx, time.Second) {
			return nil
		}
	}
	if m.id.Adopt != nil && m.id.Adopt.Backup != "" { // not before: without the file the next start could not go on
		_ = os.Remove(filepath.Join(m.cfg.DataDir, m.id.Adopt.Backup)) // what is left there does no harm
	}
	return nil
}

// bootstrap makes this head the only voter of a new cluster, if it is in none.
func (m *member) bootstrap(ctx context.Context) error {
	has, err := m.peer.HasState()
	if err == nil && !has {
		err = m.peer.Bootstrap(ctx)
	}
	if err != nil {
		return fmt.Errorf("begin the cluster: %w", err)
	}
	return nil
}

// insist proposes a command of a cluster that has no other head yet, again until the
// state is as wanted, and tells whether it is before ctx ends.
func (m *member) insist(ctx context.Context, c inventory.Command, done func() bool) bool {
	for {
		changed := m.machine.Changed()
		if done() {
			return true
		}
		res, err := m.proposeBy(ctx, m.byItself(), c, inventory.FormatVersion)
		if err == nil {
			err = res.Into(nil)
		}
		if err != nil && ctx.Err() == nil {
			m.log.Warn("the cluster is not begun yet", "err", err)
		}
		select {
		case <-ctx.Done():
			return false
		case <-changed:
		case <-time.After(time.Second):
		}
	}
}

// describe gives this head as the inventory should know it.
func (m *member) describe() inventory.Head {
	return inventory.Head{
		Name: m.cfg.Name, Address: m.address, Addresses: localAddresses(m.address),
		APIPort: portOf(m.apiL), HTTPPort: portOf(m.httpL),
		RaftPort: int(m.peer.RaftAddr().Port()), GossipPort: int(m.peer.GossipAddr().Port()),
		Version: m.cfg.Version, Witness: m.cfg.Witness,
	}
}

// keepRegistered corrects what the inventory says of this head, at the start and
// when the machine's addresses change.
func (m *member) keepRegistered(ctx context.Context) error {
	for {
		changed := m.machine.Changed()
		now := m.describe()
		wait := time.After(2 * time.Second)
		if h, ok := m.machine.View().Head(m.cfg.Name); ok && !sameHead(h, &now) {
			_, err := m.propose(ctx, m.byItself(), inventory.UpdateHead{
				Name: now.Name, Address: now.Address, Addresses: now.Addresses, APIPort: now.APIPort,
				RaftPort: now.RaftPort, GossipPort: now.GossipPort, HTTPPort: now.HTTPPort, Version: now.Version,
			})
			if err != nil && ctx.Err() == nil {
				m.log.Warn("the other heads do not know this head's addresses yet", "err", err)
			}
		} else if ok {
			changed = nil // nothing to do until the addresses change
		}
		select {
		case <-ctx.Done():
			return nil
		case <-changed:
		case <-wait:
		}
	}
}

func sameHead(a, b *inventory.Head) bool {
	return a.Address == b.Address && slices.Equal(a.Addresses, b.Addresses) && a.Version == b.Version &&
		a.APIPort == b.APIPort && a.RaftPort == b.RaftPort && a.GossipPort == b.GossipPort && a.HTTPPort == b.HTTPPort
}

// localAddresses gives the machine's addresses with the length of their
// networks, sorted; loopback only where the head itself lives there, as in tests.
func localAddresses(self netip.Addr) []netip.Prefix {
	var found []netip.Prefix
	addrs, err := net.InterfaceAddrs()
	if err != nil {
		return []netip.Prefix{netip.PrefixFrom(self, self.BitLen())}
	}
	for _, a := range addrs {
		n, ok := a.(*net.IPNet)
		if !ok {
			continue
		}
		addr, _ := netip.AddrFromSlice(n.IP)
		addr = addr.Unmap()
		bits, _ := n.Mask.Size()
		p := netip.PrefixFrom(addr, bits)
		switch {
		case self.IsLoopback() && p.Contains(self):
			found = append(found, netip.PrefixFrom(self, bits))
		case addr.IsGlobalUnicast():
			found = append(found, p)
		}
	}
	slices.SortFunc(found, func(a, b netip.Prefix) int { return a.Addr().Compare(b.Addr()) })
	return slices.Compact(found)
}

// serverTLS lets in whoever shows a certificate of this cluster, and without one
// those who come with a join token; the handler knows what each may do.
func (m *member) serverTLS() *tls.Config {
	c := m.tls.Clone()
	c.ClientAuth = tls.VerifyClientCertIfGiven
	c.NextProtos = []string{"h2", "http/1.1"}
	return c
}

// nodeTLS is serverTLS for nodes, who have no certificates.
func (m *member) nodeTLS() *tls.Config {
	c := m.tls.Clone()
	c.ClientAuth = tls.NoClientCert
	c.MinVersion = tls.VersionTLS12 // iPXE has no other
	c.NextProtos = []string{"http/1.1"}
	return c
}

// callerOf tells from its certificate who asks.
func callerOf(r *http.Request) api.Caller {
	if r.TLS == nil || len(r.TLS.VerifiedChains) == 0 {
		return api.Caller{Name: r.RemoteAddr, From: r.RemoteAddr}
	}
	cert := r.TLS.PeerCertificates[0]
	from, _, _ := net.SplitHostPort(r.RemoteAddr)
	c := api.Caller{Name: cert.Subject.CommonName, From: from}
	switch pki.RoleOf(cert) {
	case pki.Head:
		c.Role = api.RoleHead
	case pki.Admin:
		c.Role = api.RoleAdmin
	}
	return c
}

// clientOf gives a client of another head, who must prove that it is that head.
func (m *member) clientOf(h *inventory.Head) *api.Client {
	base := "https://" + netip.AddrPortFrom(h.Address, uint16(h.APIPort)).String()
	key := h.Name + " " + base
	m.clientsMu.Lock()
	defer m.clientsMu.Unlock()
	if c, ok := m.clients[key]; ok {
		return c
	}
	t := m.tls.Clone()
	t.ServerName = h.Name
	c := &api.Client{Base: base, HTTP: &http.Client{Transport: &http.Transport{
		TLSClientConfig: t, MaxIdleConnsPerHost: 16, IdleConnTimeout: time.Minute,
		DialContext:         (&net.Dialer{Timeout: time.Second}).DialContext,
		TLSHandshakeTimeout: 2 * time.Second, ResponseHeaderTimeout: 15 * time.Second,
	}}}
	m.clients[key] = c
	return c
}
