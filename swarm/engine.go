package swarm

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"sync"
	"time"

	"github.com/anacrolix/torrent"
	"github.com/anacrolix/torrent/metainfo"
	pp "github.com/anacrolix/torrent/peer_protocol"
	"github.com/anacrolix/torrent/storage"
	"golang.org/x/time/rate"
)

const (
	// maxChunk is the largest request between our own clients; the standard 16 KiB cost twice the
	// CPU. Other clients ask us for what they like. See DESIGN.md for the stalls that were blamed on it.
	maxChunk = 256 << 10
	// outstanding is how many chunks are asked of one neighbour at a time. More would wait in the
	// queue of a neighbour while another could send them.
	outstanding = 2
	// tickle is the engine's keep-alive interval. The engine can lose the wake-up of a connection's
	// writer when it becomes ready between its last look and its sleep; what it had to say then waits
	// for the next keep-alive, a minute by default (seen in 1 of 150 transfers between two peers). With chunks of 16 KiB other messages hide that,
	// with large ones a transfer stands still.
	tickle = 500 * time.Millisecond
)

// engine is the BitTorrent client: peers, pieces, chunks. It finds no peers by itself, keeps no
// files, and decides nothing about HTTP. One engine serves all artifacts of a process.
type engine struct {
	client   *torrent.Client
	listener *listener

	mu    sync.Mutex
	peers map[*torrent.PeerConn]netip.AddrPort // where others can connect to those connected to us
}

// newEngine starts a client that calls itself id, 20 bytes, and uses no socket but those of l.
func newEngine(cfg Config, id string, l *listener) (*engine, error) {
	e := &engine{listener: l, peers: map[*torrent.PeerConn]netip.AddrPort{}}
	c := torrent.NewDefaultClientConfig()
	c.DefaultStorage = noStorage{} // each torrent brings its own
	c.DisableTCP = true            // its own sockets, that is: ours are added below
	c.DisableUTP = true
	c.NoDHT = true
	c.DisablePEX = true
	c.DisableTrackers = true
	c.DisableWebtorrent = true
	c.DisableWebseeds = true
	c.NoDefaultPortForwarding = true
	// Nothing is obfuscated. To accept it would be an exchange of keys for whoever says anything else
	// than what BitTorrent begins with.
	c.HeaderObfuscationPolicy = torrent.HeaderObfuscationPolicy{RequirePreferred: true}
	c.Seed = true // and so upload without asking what it brings
	c.DropDuplicatePeerIds = true
	c.EstablishedConnsPerTorrent = cfg.MaxPeers
	c.NominalDialTimeout = 3 * time.Second
	c.MinDialTimeout = 2 * time.Second
	c.DialRateLimiter = rate.NewLimiter(rate.Inf, 1) // its wait cannot be cancelled
	c.KeepAliveTimeout = tickle
	c.MaxAllocPeerRequestDataPerConn = outstanding * maxChunk
	// The limit counts wanted pieces, those that no neighbour has first: with 64 MiB of them (the
	// default) nothing at all would be asked of neighbours who have only others.
	c.MaxUnverifiedBytes = 0
	c.PeerID = id
	c.ExtendedHandshakeClientVersion = "luna"
	c.Slogger = slog.New(engineLog{cfg.Logger.Handler()})
	c.Callbacks.ReadMessage = func(_ *torrent.PeerConn, m *pp.Message) {
		if !spoken(m) {
			*m = pp.Message{Keepalive: true} // the engine passes that over
		}
	}
	c.Callbacks.ReadExtendedHandshake = func(p *torrent.PeerConn, m *pp.ExtendedHandshakeMessage) {
		m.Reqq = outstanding         // the engine takes the peer's own limit after this call
		m.M, m.MetadataSize = nil, 0 // no extension is spoken; the engine would keep their names for ever
		e.met(p, m.Port)
	}
	c.Callbacks.PeerConnClosed = e.parted
	c.Callbacks.PeerConnAdded = append(c.Callbacks.PeerConnAdded, func(p *torrent.PeerConn) {
		p.PeerMaxRequests = outstanding
	})
	client, err := torrent.NewClient(c)
	if err != nil {
		return nil, fmt.Errorf("start the torrent engine: %w", err)
	}
	e.client = client
	client.AddDialer(l)
	client.AddListener(l)
	return e, nil
}

// mostHandshake is the longest extended handshake that is read, in bytes. Those of clients
// that are known have some hundreds.
const mostHandshake = 4 << 10

// spoken tells whether a message is one of those that artifacts are exchanged by. The
// engine understands more, and takes some of them for granted: a question for hashes of
// BitTorrent v2, a piece -1 of the metadata or a meeting with a stranger would end the
// process. It counts each length of a request under a name of its own, for ever.
func spoken(m *pp.Message) bool {
	switch m.Type {
	case pp.Choke, pp.Unchoke, pp.Interested, pp.NotInterested, pp.Have, pp.Bitfield, pp.Piece, pp.Cancel,
		pp.HaveAll, pp.HaveNone, pp.Reject, pp.AllowedFast:
		return true
	case pp.Request:
		return m.Length <= maxChunk
	case pp.Extended:
		return m.ExtendedID == pp.HandshakeExtendedID && len(m.ExtendedPayload) <= mostHandshake
	}
	return false
}

// met notes where a connected peer listens: a connection that came from it has another port.
func (e *engine) met(p *torrent.PeerConn, port int) {
	at, err := netip.ParseAddrPort(p.RemoteAddr.String())
	if err != nil || port <= 0 || port > 65535 {
		return
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	e.peers[p] = netip.AddrPortFrom(at.Addr().Unmap(), uint16(port))
}

func (e *engine) parted(p *torrent.PeerConn) {
	e.mu.Lock()
	defer e.mu.Unlock()
	delete(e.peers, p)
}

// close ends all transfers and connections.
func (e *engine) close() {
	e.client.Close()
	e.listener.close()
}

// add makes an artifact known to peers. What its content lacks is asked of them, if want is set.
func (e *engine) add(c *content, want bool) (*transfer, error) {
	info, err := c.desc.info()
	if err != nil {
		return nil, err
	}
	var hash metainfo.Hash
	if err := hash.FromHexString(c.desc.InfoHash); err != nil {
		return nil, err
	}
	t, fresh := e.client.AddTorrentOpt(torrent.AddTorrentOpts{
		InfoHash:                 hash,
		InfoBytes:                info,
		Storage:                  engineStorage{c},
		ChunkSize:                pp.Integer(min(c.desc.PieceLength, maxChunk)),
		DisableInitialPieceCheck: true,
	})
	if !fresh {
		return nil, fmt.Errorf("artifact %s is in the swarm already", c.desc.InfoHash)
	}
	if t.Info() == nil {
		t.Drop()
		return nil, fmt.Errorf("the torrent engine refused artifact %s", c.desc.InfoHash)
	}
	// The content has noted the failure and ended the download; the default would log and hang.
	t.SetOnWriteChunkError(func(error) { t.DisallowDataDownload() })
	if want {
		t.DownloadAll()
	}
	return &transfer{engine: e, torrent: t}, nil
}

// transfer is one artifact in the engine. After stop all methods do nothing.
type transfer struct {
	engine  *engine
	mu      sync.RWMutex // held for reading while the engine is used, for writing by stop
	torrent *torrent.Torrent
	stopped bool
}

// use calls f unless the transfer was stopped; the engine panics when a dropped torrent is changed.
func (t *transfer) use(f func(*torrent.Torrent)) {
	t.mu.RLock()
	defer t.mu.RUnlock()
	if !t.stopped {
		f(t.torrent)
	}
}

// stop ends the transfer and its connections, and returns when the content is not used any more.
func (t *transfer) stop() {
	t.mu.Lock()
	defer t.mu.Unlock()
	if !t.stopped {
		t.stopped = true
		t.torrent.Drop()
	}
}

// connect lets the engine connect to peers, soon and in any order.
func (t *transfer) connect(peers []netip.AddrPort) {
	infos := make([]torrent.PeerInfo, len(peers))
	for i, p := range peers {
		infos[i] = torrent.PeerInfo{Addr: net.TCPAddrFromAddrPort(p), Source: torrent.PeerSourceTracker}
	}
	t.use(func(t *torrent.Torrent) { t.AddPeers(infos) })
}

// connected tells whether there is a connection to the peer who listens at addr, whoever opened it.
func (t *transfer) connected(addr netip.AddrPort) bool {
	t.engine.mu.Lock()
	defer t.engine.mu.Unlock()
	for p, at := range t.engine.peers {
		if at == addr && p.Torrent() == t.torrent {
			return true
		}
	}
	return false
}

// traffic is what the engine has moved for one artifact since it was added.
type traffic struct {
	received int64 // bytes of content that were new
	sent     int64 // bytes of content
	peers    int   // connections
	lacking  int   // connections to peers that do not have everything
}

func (t *transfer) traffic() (out traffic) {
	t.use(func(t *torrent.Torrent) {
		s := t.Stats()
		out = traffic{s.BytesReadUsefulData.Int64(), s.BytesWrittenData.Int64(), s.ActivePeers, s.ActivePeers - s.ConnectedSeeders}
	})
	return out
}

// busy tells whether the engine has part of the piece or is about to prove it.
func (t *transfer) busy(piece int) (busy bool) {
	t.use(func(t *torrent.Torrent) {
		s := t.PieceState(piece)
		busy = s.Partial || s.Checking || s.Marking
	})
	return busy
}

// got tells the engine that the content has a piece that did not come from it.
func (t *transfer) got(piece int) {
	t.use(func(t *torrent.Torrent) { t.Piece(piece).UpdateCompletion() })
}

// prefer asks for pieces from..to-1 before all others, the rarest of them first.
func (t *transfer) prefer(from, to int) {
	t.use(func(t *torrent.Torrent) {
		for i := from; i < min(to, t.NumPieces()); i++ {
			t.Piece(i).SetPriority(torrent.PiecePriorityHigh)
		}
	})
}

// engineStorage shows a content to the engine.
type engineStorage struct{ c *content }

func (s engineStorage) OpenTorrent(context.Context, *metainfo.Info, metainfo.Hash) (storage.TorrentImpl, error) {
	return storage.TorrentImpl{
		Piece: func(p metainfo.Piece) storage.PieceImpl { return enginePiece{s.c, p.Index()} },
		Close: func() error { return nil },
	}, nil
}

type enginePiece struct {
	c     *content
	index int
}

func (p enginePiece) ReadAt(b []byte, off int64) (int, error) {
	n, err := p.c.file.ReadAt(b, p.c.desc.offset(p.index)+off)
	if errors.Is(err, os.ErrClosed) {
		// The transfer has ended, and all its connections, so nobody gets this. A read that
		// fails then, for a peer that had asked before, makes the engine panic: it keeps the
		// request of a closed torrent, and holds that it never does (1.61).
		return len(b), nil
	}
	return n, err
}

func (p enginePiece) WriteAt(b []byte, off int64) (int, error) {
	if err := p.c.writeChunk(p.index, b, off); err != nil {
		return 0, err
	}
	return len(b), nil
}

func (p enginePiece) MarkComplete() error {
	p.c.add(p.index)
	return nil
}

// MarkNotComplete has nothing to do: a piece counts only once it was proven, and then for good.
func (p enginePiece) MarkNotComplete() error { return nil }

func (p enginePiece) Completion() storage.Completion {
	return storage.Completion{Ok: true, Complete: p.c.has(p.index)}
}

// noStorage stands where the engine would otherwise open a database in the working directory.
type noStorage struct{}

func (noStorage) OpenTorrent(_ context.Context, _ *metainfo.Info, h metainfo.Hash) (storage.TorrentImpl, error) {
	return storage.TorrentImpl{}, fmt.Errorf("torrent %s has no storage", hex.EncodeToString(h[:]))
}

// engineLog passes on the engine's warnings, for debugging only: what it warns of is either cured
// here or reported by us in our own words.
type engineLog struct{ slog.Handler }

func (h engineLog) Enabled(ctx context.Context, l slog.Level) bool {
	return l >= slog.LevelWarn && h.Handler.Enabled(ctx, slog.LevelDebug)
}

func (h engineLog) Handle(ctx context.Context, r slog.Record) error {
	out := slog.NewRecord(r.Time, slog.LevelDebug, "torrent engine", r.PC)
	out.AddAttrs(slog.String("said", r.Message))
	r.Attrs(func(a slog.Attr) bool { out.AddAttrs(a); return true })
	return h.Handler.Handle(ctx, out)
}

func (h engineLog) WithAttrs(a []slog.Attr) slog.Handler { return engineLog{h.Handler.WithAttrs(a)} }
func (h engineLog) WithGroup(n string) slog.Handler      { return engineLog{h.Handler.WithGroup(n)} }
