package swarm

import (
	"cmp"
	"encoding/hex"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"net"
	"net/http"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/anacrolix/torrent/bencode"
)

// TrackerConfig of a [Tracker].
type TrackerConfig struct {
	// Known tells whether an artifact may be tracked, by its info hash in hex. Default: all may.
	Known func(infoHash string) bool
	// Swarm is the one of this head. What it has is named to every peer first, at the address on which
	// the peer reached the tracker. Default: none.
	Swarm *Swarm
	// Interval is how often peers shall announce themselves; one that misses three is forgotten.
	// Default 8 s.
	Interval time.Duration
	// Tuned, if not nil, gives an Interval and a bound on Neighbours for now; 0 leaves what is above.
	Tuned func() (interval time.Duration, neighbours int)
	// Neighbours is the most peers named in one answer, beside this head. Default 10: with three heads
	// a node hears of up to thirty, more than it connects to.
	Neighbours int
	// MaxTorrents and MaxPeers (of each) bound the memory, about 200 bytes a peer. Defaults 256 and
	// 16384.
	MaxTorrents, MaxPeers int
}

// Tracker tells peers of each other (BEP 3, 7, 23, 48). Each head runs one, in memory, and knows
// nothing of the others': peers announce themselves to all of them. It is an [http.Handler] for the
// paths announce and scrape, wherever they are mounted.
type Tracker struct {
	cfg TrackerConfig
	now func() time.Time

	mu       sync.Mutex
	torrents map[string]*swarmOf // by info hash in hex
}

// swarmOf are the peers of one artifact.
type swarmOf struct {
	peers     map[netip.AddrPort]*peer
	order     []*peer            // for drawing at random; peer.at is the index
	at        map[netip.Addr]int // how many of the peers are there
	completed int64              // downloads that ended well here
	swept     time.Time
}

type peer struct {
	addr                       netip.AddrPort
	id                         string
	uploaded, downloaded, left int64
	seen                       time.Time // has a monotonic reading: setting the clock forgets nobody
	at                         int
}

// PeerStatus is what a peer last told about itself.
type PeerStatus struct {
	Addr       netip.AddrPort
	ID         string // the 20 bytes that it chose for this run
	Uploaded   int64  // bytes
	Downloaded int64  // bytes
	Left       int64  // bytes; 0: it has the whole artifact
	Age        time.Duration
}

// NewTracker makes a tracker without peers.
func NewTracker(cfg TrackerConfig) *Tracker {
	cfg.Interval = cmp.Or(cfg.Interval, 8*time.Second)
	cfg.Neighbours = cmp.Or(cfg.Neighbours, 10)
	cfg.MaxTorrents = cmp.Or(cfg.MaxTorrents, 256)
	cfg.MaxPeers = cmp.Or(cfg.MaxPeers, 16384)
	return &Tracker{cfg: cfg, now: time.Now, torrents: map[string]*swarmOf{}}
}

// ServeHTTP answers announce and scrape. What a peer did wrong is told it in the way of BEP 3, as a
// bencoded reason with status 200.
func (t *Tracker) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if r.Method != http.MethodGet && r.Method != http.MethodHead {
		w.Header().Set("Allow", "GET, HEAD")
		http.Error(w, "a tracker is asked by GET", http.StatusMethodNotAllowed)
		return
	}
	var answer map[string]any
	var err error
	switch {
	case strings.HasSuffix(r.URL.Path, "/announce"):
		answer, err = t.announce(r)
	case strings.HasSuffix(r.URL.Path, "/scrape"):
		answer, err = t.scrape(r.URL.Query()["info_hash"])
	default:
		http.NotFound(w, r)
		return
	}
	if err != nil {
		answer = map[string]any{"failure reason": err.Error()}
	}
	b, err := bencode.Marshal(answer)
	if err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	w.Header().Set("Content-Type", "text/plain")
	w.Header().Set("Content-Length", strconv.Itoa(len(b)))
	_, _ = w.Write(b)
}

// Peers tells what the living peers of an artifact told about themselves, in the order of their
// addresses. Heads are among them only while they fetch.
func (t *Tracker) Peers(infoHash string) []PeerStatus {
	t.mu.Lock()
	defer t.mu.Unlock()
	s := t.torrents[infoHash]
	if s == nil {
		return nil
	}
	now := t.now()
	s.sweep(now, t.lifetime())
	out := make([]PeerStatus, 0, len(s.order))
	for _, p := range s.order {
		out = append(out, PeerStatus{p.addr, p.id, p.uploaded, p.downloaded, p.left, now.Sub(p.seen)})
	}
	slices.SortFunc(out, func(a, b PeerStatus) int { return a.Addr.Compare(b.Addr) })
	return out
}

// lifetime is how long a peer is known after its last announce.
func (t *Tracker) lifetime() time.Duration { return 3 * t.interval() }

func (t *Tracker) interval() time.Duration {
	if t.cfg.Tuned != nil {
		if d, _ := t.cfg.Tuned(); d > 0 {
			return d
		}
	}
	return t.cfg.Interval
}

func (t *Tracker) neighbours() int {
	if t.cfg.Tuned != nil {
		if _, n := t.cfg.Tuned(); n > 0 {
			return min(n, t.cfg.Neighbours)
		}
	}
	return t.cfg.Neighbours
}

// announcement is a request to announce, understood.
type announcement struct {
	peer
	hash            string
	event           string
	want            int
	compact, withID bool
}

// parseAnnounce reads the query of BEP 3.
func (t *Tracker) parseAnnounce(r *http.Request) (announcement, error) {
	q := r.URL.Query()
	a := announcement{want: t.neighbours(), event: q.Get("event"), compact: q.Get("compact") == "1", withID: q.Get("no_peer_id") != "1"}
	hash := q.Get("info_hash")
	if len(hash) != hashLen {
		return a, fmt.Errorf("info_hash has %d bytes, not 20", len(hash))
	}
	a.hash = hex.EncodeToString([]byte(hash))
	if a.id = q.Get("peer_id"); len(a.id) != 20 {
		return a, fmt.Errorf("peer_id has %d bytes, not 20", len(a.id))
	}
	port, err := strconv.ParseUint(q.Get("port"), 10, 16)
	if err != nil || port == 0 {
		return a, fmt.Errorf("port %q is not a port", q.Get("port"))
	}
	for name, to := range map[string]*int64{"uploaded": &a.uploaded, "downloaded": &a.downloaded, "left": &a.left} {
		if v := q.Get(name); v != "" {
			if *to, err = strconv.ParseInt(v, 10, 64); err != nil || *to < 0 {
				return a, fmt.Errorf("%s %q is not a number of bytes", name, v)
			}
		}
	}
	if v := q.Get("numwant"); v != "" {
		if n, err := strconv.Atoi(v); err == nil && n >= 0 {
			a.want = min(n, t.neighbours())
		}
	}
	from, err := netip.ParseAddrPort(r.RemoteAddr)
	if err != nil {
		return a, errors.New("the address of the peer is unknown")
	}
	ip := from.Addr().Unmap().WithZone("")
	// Who may send what they like to anybody's address is only this machine itself.
	if ip.IsLoopback() {
		if told, err := netip.ParseAddr(q.Get("ip")); err == nil && !told.IsUnspecified() {
			ip = told.Unmap().WithZone("")
		}
	}
	a.addr = netip.AddrPortFrom(ip, uint16(port))
	return a, nil
}

func (t *Tracker) announce(r *http.Request) (map[string]any, error) {
	a, err := t.parseAnnounce(r)
	if err != nil {
		return nil, err
	}
	if t.cfg.Known != nil && !t.cfg.Known(a.hash) {
		return nil, errors.New("this artifact is not known here")
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	now := t.now()
	s, err := t.swarmOf(a.hash)
	if err != nil {
		return nil, err
	}
	s.sweep(now, t.lifetime())
	if a.event == "stopped" {
		s.remove(a.addr)
		return t.answer(s, a, nil), nil
	}
	s.update(a, now, t.cfg.MaxPeers) // who is not listed for want of room is told of others all the same
	found := s.draw(a.want, a.peer)
	if own, ok := t.self(r, a); ok {
		found = slices.Insert(found, 0, own)
	}
	return t.answer(s, a, found), nil
}

// swarmOf finds or makes the swarm of an artifact. The caller holds mu.
func (t *Tracker) swarmOf(hash string) (*swarmOf, error) {
	if s := t.torrents[hash]; s != nil {
		return s, nil
	}
	if len(t.torrents) >= t.cfg.MaxTorrents {
		for h, s := range t.torrents {
			s.sweep(t.now(), t.lifetime())
			if len(s.order) == 0 {
				delete(t.torrents, h)
			}
		}
	}
	if len(t.torrents) >= t.cfg.MaxTorrents {
		return nil, errors.New("the tracker is full")
	}
	s := &swarmOf{peers: map[netip.AddrPort]*peer{}, at: map[netip.Addr]int{}}
	t.torrents[hash] = s
	return s, nil
}

// self is this head as a peer, at the address on which the request reached it: that one is surely
// reachable for the peer, whatever networks the head is in.
func (t *Tracker) self(r *http.Request, a announcement) (*peer, bool) {
	if t.cfg.Swarm == nil || a.want == 0 || !t.cfg.Swarm.has(a.hash) {
		return nil, false
	}
	local, ok := r.Context().Value(http.LocalAddrContextKey).(net.Addr)
	if !ok {
		return nil, false
	}
	at, err := netip.ParseAddrPort(local.String())
	if err != nil {
		return nil, false
	}
	own := netip.AddrPortFrom(at.Addr().Unmap().WithZone(""), uint16(t.cfg.Swarm.Port()))
	return &peer{addr: own, id: t.cfg.Swarm.id}, own != a.addr
}

// answer is the reply to an announce that names peers. The caller holds mu.
func (t *Tracker) answer(s *swarmOf, a announcement, peers []*peer) map[string]any {
	seeders := s.seeders()
	out := map[string]any{
		"interval":     int64(t.interval() / time.Second),
		"min interval": int64(1),
		"complete":     seeders,
		"incomplete":   int64(len(s.order)) - seeders,
	}
	if !a.compact {
		list := []any{}
		for _, p := range peers {
			d := map[string]any{"ip": p.addr.Addr().String(), "port": int64(p.addr.Port())}
			if a.withID {
				d["peer id"] = p.id
			}
			list = append(list, d)
		}
		out["peers"] = list
		return out
	}
	var v4, v6 []byte
	for _, p := range peers {
		ip, port := p.addr.Addr(), p.addr.Port()
		if ip.Is4() {
			v4 = append(append(v4, ip.AsSlice()...), byte(port>>8), byte(port))
		} else {
			v6 = append(append(v6, ip.AsSlice()...), byte(port>>8), byte(port))
		}
	}
	out["peers"] = v4
	if len(v6) > 0 {
		out["peers6"] = v6
	}
	return out
}

// scrape tells the counts of the artifacts asked for. Others it does not name: their
// hashes are what one needs to take part.
func (t *Tracker) scrape(hashes []string) (map[string]any, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	asked := map[string]bool{}
	for _, h := range hashes {
		if len(h) != hashLen {
			return nil, fmt.Errorf("info_hash has %d bytes, not 20", len(h))
		}
		asked[hex.EncodeToString([]byte(h))] = true
	}
	files := map[string]any{}
	for h, s := range t.torrents {
		if !asked[h] {
			continue
		}
		s.sweep(t.now(), t.lifetime())
		raw, err := hex.DecodeString(h)
		if err != nil {
			return nil, err
		}
		seeders := s.seeders()
		files[string(raw)] = map[string]any{
			"complete": seeders, "incomplete": int64(len(s.order)) - seeders, "downloaded": s.completed,
		}
	}
	return map[string]any{"files": files}, nil
}

// shareOfOne is which part of the peers may be at one address: one machine must not take
// the place of all others, and many may be behind one router.
const shareOfOne = 16

// update notes what a peer told, if there is room.
func (s *swarmOf) update(a announcement, now time.Time, most int) {
	p := s.peers[a.addr]
	if p == nil {
		if len(s.order) >= most || s.at[a.addr.Addr()] >= max(1, most/shareOfOne) {
			return
		}
		p = &peer{at: len(s.order)}
		s.peers[a.addr] = p
		s.order = append(s.order, p)
		s.at[a.addr.Addr()]++
	}
	if a.event == "completed" && (p.left > 0 || p.id != a.id) {
		s.completed++
	}
	at := p.at
	*p = a.peer
	p.at, p.seen = at, now
}

func (s *swarmOf) remove(addr netip.AddrPort) {
	p := s.peers[addr]
	if p == nil {
		return
	}
	delete(s.peers, addr)
	if s.at[addr.Addr()]--; s.at[addr.Addr()] == 0 {
		delete(s.at, addr.Addr())
	}
	last := s.order[len(s.order)-1]
	s.order[p.at], last.at = last, p.at
	s.order = s.order[:len(s.order)-1]
}

// sweep forgets silent peers; it looks at all of them at most four times in a lifetime.
func (s *swarmOf) sweep(now time.Time, lifetime time.Duration) {
	if now.Sub(s.swept) < lifetime/4 {
		return
	}
	s.swept = now
	for addr, p := range maps.All(s.peers) {
		if now.Sub(p.seen) > lifetime {
			s.remove(addr)
		}
	}
}

// draw picks up to n other peers at random. Who has everything is not told of others who have.
func (s *swarmOf) draw(n int, asks peer) []*peer {
	var out []*peer
	// A random start and a random stride would favour neighbours in the list; a partial shuffle does
	// not, and looks at few more than it takes.
	for i := 0; i < len(s.order) && len(out) < n; i++ {
		j := i + rand.IntN(len(s.order)-i) //nolint:gosec // not a secret
		s.order[i], s.order[j] = s.order[j], s.order[i]
		s.order[i].at, s.order[j].at = i, j
		p := s.order[i]
		if p.addr != asks.addr && (p.left > 0 || asks.left > 0) {
			out = append(out, p)
		}
	}
	return out
}

func (s *swarmOf) seeders() (n int64) {
	for _, p := range s.order {
		if p.left == 0 {
			n++
		}
	}
	return n
}
