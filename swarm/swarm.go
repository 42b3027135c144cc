package swarm

import (
	"cmp"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"net"
	"net/http"
	"net/netip"
	"slices"
	"sync"
)

// Config of a [Swarm]. The zero value listens on any port of all addresses.
type Config struct {
	// Listen is the address to accept peers on and to connect to others from. Default: all addresses,
	// and the kernel's choice.
	Listen netip.Addr
	// PortMin and PortMax bound the port, of which the first free one is taken. Luna's are 7052 and
	// 7200. Default: any free port.
	PortMin, PortMax int
	// MaxPeers is the most connections for one artifact. Default 12: enough for a mesh. A head wants
	// more, 64 or so, since every node may come to it first.
	MaxPeers int
	// UploadSlots is the number of connections that send content at the same time. Default 4.
	UploadSlots int
	// SendBuffer is the kernel's send buffer of each connection in bytes; a slot is held until all
	// but that is on its way, so it must be small against a chunk (256 KiB). Default 64 KiB, enough
	// for 10 Gbit/s over the four slots in one building.
	SendBuffer int
	// Admit, if not nil, is asked of each connection that somebody opens to this one. It either turns
	// it away, closes it and returns nil, or returns what is told whether the other side spoke
	// BitTorrent and asked for something that is here; only the first word counts. Admit delays who
	// comes next. Default: everybody may come.
	Admit func(net.Conn) (verdict func(good bool))
	// HTTP asks trackers and HTTP sources. Default: a transport without a proxy that connects from
	// Listen. Give one for https with the cluster's own CA, or for tokens in headers. It should give
	// up connecting within a few seconds.
	HTTP http.RoundTripper
	// Logger gets what an operator may want to know. Default: nothing is logged.
	Logger *slog.Logger
}

// Validate tells what is wrong with the configuration.
func (c Config) Validate() error {
	switch {
	case c.PortMin < 0 || c.PortMax > 65535 || c.PortMin > c.PortMax:
		return fmt.Errorf("swarm ports %d to %d are not a range", c.PortMin, c.PortMax)
	case c.MaxPeers < 0 || c.UploadSlots < 0 || c.SendBuffer < 0:
		return errors.New("a limit of the swarm is negative")
	}
	return nil
}

// Swarm exchanges artifacts with peers. Its methods may be called from everywhere.
type Swarm struct {
	engine *engine
	http   *http.Client
	own    *http.Transport // of ours, to be closed; nil if it was given
	log    *slog.Logger
	id     string // peer id, 20 bytes

	mu     sync.Mutex
	active map[string]artifact // by info hash
	closed bool
}

// artifact is what the swarm has or gets: a *Download or a *seed.
type artifact interface{ Close() }

// errEnded is returned by calls that come after the end of Run.
var errEnded = errors.New("the swarm has ended")

// New opens the port and is ready to seed and fetch at once. [Swarm.Run] must follow; it releases
// everything, even if its context has ended already.
func New(cfg Config) (*Swarm, error) {
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	cfg.MaxPeers = cmp.Or(cfg.MaxPeers, 12)
	cfg.UploadSlots = cmp.Or(cfg.UploadSlots, 4)
	cfg.SendBuffer = cmp.Or(cfg.SendBuffer, 64<<10)
	if cfg.Logger == nil {
		cfg.Logger = slog.New(slog.DiscardHandler)
	}
	s := &Swarm{log: cfg.Logger, active: map[string]artifact{}}
	id := make([]byte, 6)
	_, _ = rand.Read(id) // never fails
	s.id = fmt.Sprintf("-LU2000-%x", id)
	if cfg.HTTP == nil {
		dialer := net.Dialer{Timeout: announceTimeout, LocalAddr: localAddr(cfg.Listen)}
		s.own = &http.Transport{DialContext: dialer.DialContext, IdleConnTimeout: patient, DisableCompression: true}
		cfg.HTTP = s.own
	}
	s.http = &http.Client{Transport: cfg.HTTP}
	l, err := listen(cfg)
	if err != nil {
		return nil, err
	}
	if s.engine, err = newEngine(cfg, s.id, l); err != nil {
		l.close()
		return nil, err
	}
	return s, nil
}

// Run blocks until ctx ends, then ends all downloads and seeding, and returns nil.
func (s *Swarm) Run(ctx context.Context) error {
	<-ctx.Done()
	s.mu.Lock()
	s.closed = true
	all := slices.Collect(maps.Values(s.active))
	s.mu.Unlock()
	var wg sync.WaitGroup
	for _, a := range all {
		wg.Go(a.Close)
	}
	wg.Wait()
	s.engine.close()
	if s.own != nil {
		s.own.CloseIdleConnections()
	}
	return nil
}

// Port is the TCP port that peers connect to.
func (s *Swarm) Port() int { return s.engine.listener.port() }

// Seed serves the file at path, which must be the artifact: it was described or fetched and proven
// on this machine, and is not read again here. (Fetch on a complete file proves and then serves it.)
// Peers find it through this head's [Tracker]. Seeding again what is seeded or fetched already
// changes nothing. The file may be renamed or removed meanwhile, but not changed.
func (s *Swarm) Seed(d Descriptor, path string) error {
	if err := d.Validate(); err != nil {
		return fmt.Errorf("seed: %w", err)
	}
	if s.has(d.InfoHash) {
		return nil
	}
	c, err := openTrusted(d, path)
	if err != nil {
		return fmt.Errorf("seed %s: %w", d.Name, err)
	}
	t, err := s.engine.add(c, false)
	if err != nil {
		c.file.Close()
		return fmt.Errorf("seed %s: %w", d.Name, err)
	}
	sd := &seed{swarm: s, content: c, transfer: t}
	if err := s.enter(d.InfoHash, sd); err != nil {
		t.stop()
		c.file.Close()
		return fmt.Errorf("seed %s: %w", d.Name, err)
	}
	return nil
}

// Drop ends the seeding or fetching of an artifact, if there is any, and closes its file.
func (s *Swarm) Drop(infoHash string) {
	s.mu.Lock()
	a := s.active[infoHash]
	s.mu.Unlock()
	if a != nil {
		a.Close()
	}
}

// seed is an artifact that is only served.
type seed struct {
	swarm    *Swarm
	content  *content
	transfer *transfer
	closed   sync.Once
}

// Close ends the seeding and closes the file.
func (s *seed) Close() {
	s.closed.Do(func() {
		s.transfer.stop()
		_ = s.content.file.Close()
		s.swarm.exit(s.content.desc.InfoHash)
	})
}

// has tells whether an artifact is served here, at least in part.
func (s *Swarm) has(infoHash string) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.active[infoHash] != nil
}

// enter takes an artifact into the swarm.
func (s *Swarm) enter(infoHash string, a artifact) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return errEnded
	}
	s.active[infoHash] = a
	return nil
}

func (s *Swarm) exit(infoHash string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.active, infoHash)
}
