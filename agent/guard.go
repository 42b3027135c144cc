package agent

import (
	"context"
	"crypto/tls"
	"fmt"
	"io"
	"log/slog"
	"math"
	"net"
	"net/http"
	"net/netip"
	"sync"
	"time"

	lru "github.com/hashicorp/golang-lru/v2"
	"golang.org/x/time/rate"
)

// What a guard puts up with.
const (
	// failuresAtOnce and failuresPerSecond are how many connections of a source may come
	// to nothing before no more are accepted from it: more than a scanner of ports, or a
	// rack of machines behind one address that lose power, make.
	failuresAtOnce    = 50
	failuresPerSecond = 5
	// strangers is how many connections, to all ports, may be open whose other side has
	// not shown yet what it wants. It bounds the memory that silent ones take.
	strangers = 1024
	// strangersOfOne is how many of these may be of one source, so that none keeps all
	// others out.
	strangersOfOne = strangers / 4
	// guests is how many connections of HTTP may be open, of all sources and of one, who
	// has shown what it wants or not: each takes two of the files that a process may open.
	guests      = 16384
	guestsOfOne = guests / 4
	// slowest is how long a guest may take for a MiB, or for less where less is sent at
	// once, before it is taken for one that does not read.
	slowest = 30 * time.Second
	// showWithin is how long a stranger has to show that: as long as a head that joins,
	// which has no certificate before it is admitted, may need.
	showWithin = 30 * time.Second
	// sources is how many sources of failures are remembered, the last ones.
	sources = 4096
	// resetsPerSecond is how many connections are turned away in a second, at all ports,
	// with as many as resetsAtOnce in a row. The port of the next one then accepts nothing
	// for a moment. A reset costs 0.1 to 0.15 ms of a CPU, most of it the kernel's.
	resetsPerSecond = 1000
	resetsAtOnce    = 100
)

// A guard stands at the ports of a head, so that garbage costs next to nothing and
// leaves the CPU to the heads' own words. It charges a source only for connections that
// come to nothing: a thousand machines that boot are let in, whether they have an address
// each or all the same. A source with too many of them is turned away before anything of
// what it says is read. Heads and this machine itself are always let in.
type guard struct {
	exempt   func(netip.Addr) bool // from the rules
	log      *slog.Logger
	failures *lru.Cache[netip.Addr, *failures]
	resets   *rate.Limiter

	mu        sync.Mutex
	strangers int                // of all sources
	from      map[netip.Addr]int // strangers of each source that has some
	guests    int
	guestsOf  map[netip.Addr]int
}

// failures are those of one source.
type failures struct {
	left *rate.Limiter // of what it may still do wrong
	told rate.Sometimes
}

func newGuard(exempt func(netip.Addr) bool, log *slog.Logger) (*guard, error) {
	cache, err := lru.New[netip.Addr, *failures](sources)
	if err != nil {
		return nil, fmt.Errorf("remember sources of failures: %w", err)
	}
	return &guard{
		exempt: exempt, log: log, failures: cache, resets: rate.NewLimiter(resetsPerSecond, resetsAtOnce),
		from: map[netip.Addr]int{}, guestsOf: map[netip.Addr]int{},
	}, nil
}

// admit looks at a connection that was accepted. It is nil where that was turned away,
// which closes it. Else it must be told, once or more, of which the first counts, whether
// the other side has shown that it belongs here; where it is not told in time, the
// connection has come to nothing and is closed.
func (g *guard) admit(c net.Conn) (verdict func(good bool)) {
	from := sourceOf(c)
	if !from.IsValid() || g.exempt(from) {
		return func(bool) {}
	}
	if f, ok := g.failures.Get(from); ok && f.left.Tokens() < 1 || !g.meet(from) {
		g.reset(c)
		return nil
	}
	var once sync.Once
	settle := func(good bool) (first bool) {
		once.Do(func() {
			first = true
			g.part(from)
			if !good {
				g.failed(from)
			}
		})
		return first
	}
	late := time.AfterFunc(showWithin, func() {
		if settle(false) {
			_ = c.Close()
		}
	})
	return func(good bool) {
		late.Stop()
		settle(good)
	}
}

// reset turns a connection away.
func (g *guard) reset(c net.Conn) {
	if tcp, ok := c.(*net.TCPConn); ok {
		_ = tcp.SetLinger(0) // no last words, and nothing of it stays in the kernel
	}
	_ = c.Close()
	time.Sleep(g.resets.Reserve().Delay()) // some milliseconds at most: a port has one reset at a time
}

// seat counts a guest, unless there are too many, and gives what counts it no more.
func (g *guard) seat(c net.Conn) (leave func(), ok bool) {
	from := sourceOf(c)
	if !from.IsValid() || g.exempt(from) {
		return func() {}, true
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.guests >= guests || g.guestsOf[from] >= guestsOfOne {
		return nil, false
	}
	g.guests++
	g.guestsOf[from]++
	return sync.OnceFunc(func() {
		g.mu.Lock()
		defer g.mu.Unlock()
		g.guests--
		if g.guestsOf[from]--; g.guestsOf[from] == 0 {
			delete(g.guestsOf, from)
		}
	}), true
}

// meet counts a stranger, unless there are too many.
func (g *guard) meet(from netip.Addr) bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.strangers >= strangers || g.from[from] >= strangersOfOne {
		return false
	}
	g.strangers++
	g.from[from]++
	return true
}

// part counts one that is a stranger no more.
func (g *guard) part(from netip.Addr) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.strangers--
	if g.from[from]--; g.from[from] == 0 {
		delete(g.from, from)
	}
}

// failed notes that a connection came to nothing.
func (g *guard) failed(from netip.Addr) {
	f, ok := g.failures.Get(from)
	if !ok {
		f = &failures{left: rate.NewLimiter(failuresPerSecond, failuresAtOnce), told: rate.Sometimes{Interval: time.Minute}}
		if old, ok, _ := g.failures.PeekOrAdd(from, f); ok {
			f = old
		}
	}
	if !f.left.Allow() || f.left.Tokens() < 1 {
		f.told.Do(func() {
			g.log.Warn("connections are turned away, as too many from there came to nothing", "remote", from.String())
		})
	}
}

// sourceOf is who is at the other end: an address, or for IPv6 the network of 64 bits,
// of which one machine may have every address.
func sourceOf(c net.Conn) netip.Addr {
	tcp, ok := c.RemoteAddr().(*net.TCPAddr)
	if !ok {
		return netip.Addr{}
	}
	a := tcp.AddrPort().Addr().Unmap().WithZone("")
	if a.Is6() && !a.IsLoopback() {
		return netip.PrefixFrom(a, 64).Masked().Addr()
	}
	return a
}

// guarded is a listener of HTTP behind a guard.
type guarded struct {
	net.Listener
	guard *guard
}

// Accept returns connections that were let in.
func (l guarded) Accept() (net.Conn, error) {
	for {
		c, err := l.Listener.Accept()
		if err != nil {
			return nil, err
		}
		tcp, ok := c.(*net.TCPConn)
		if !ok {
			return c, nil
		}
		verdict := l.guard.admit(tcp)
		if verdict == nil {
			continue
		}
		leave, seated := l.guard.seat(tcp)
		if !seated {
			verdict(true) // it did nothing wrong
			l.guard.reset(tcp)
			continue
		}
		return &guest{tcp, verdict, leave}, nil
	}
}

// guest is a connection that came to nothing, unless it is vouched for before it is
// closed. It keeps what net/http knows to use of a TCP connection.
type guest struct {
	*net.TCPConn
	verdict func(good bool)
	leave   func()
}

// Close closes the connection.
func (g *guest) Close() error {
	g.verdict(false)
	g.leave()
	return g.TCPConn.Close()
}

// Write gives who does not read some time, and no more.
func (g *guest) Write(b []byte) (int, error) {
	if err := g.SetWriteDeadline(time.Now().Add(slowest)); err != nil {
		return 0, err
	}
	return g.TCPConn.Write(b)
}

// ReadFrom does the same for a file, which the kernel sends, a MiB at a time.
func (g *guest) ReadFrom(r io.Reader) (total int64, err error) {
	all, ok := r.(*io.LimitedReader) // as net/http gives it; another one around it would hide the file
	if !ok {
		all = &io.LimitedReader{R: r, N: math.MaxInt64}
	}
	for all.N > 0 {
		if err := g.SetWriteDeadline(time.Now().Add(slowest)); err != nil {
			return total, err
		}
		part := &io.LimitedReader{R: all.R, N: min(all.N, 1<<20)}
		want := part.N
		n, err := g.TCPConn.ReadFrom(part)
		total += n
		all.N -= n
		if err != nil || n < want {
			return total, err
		}
	}
	return total, nil
}

// guestKey is under which a request's context has the guest, if it came from one.
type guestKey struct{}

// withGuest is for [http.Server.ConnContext].
func withGuest(ctx context.Context, c net.Conn) context.Context {
	for {
		switch inner := c.(type) {
		case *tls.Conn:
			c = inner.NetConn()
		case *eitherConn:
			c = inner.Conn
		case *guest:
			return context.WithValue(ctx, guestKey{}, inner)
		default:
			return ctx
		}
	}
}

// vouch vouches for those whose requests are as they should be.
func vouch(good func(*http.Request) bool, h http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if g, ok := r.Context().Value(guestKey{}).(*guest); ok && good(r) {
			g.verdict(true)
		}
		h.ServeHTTP(w, r)
	})
}

// wellFormed is good enough of a node, which has nothing to prove itself with.
func wellFormed(*http.Request) bool { return true }

// certified is who has a certificate of this cluster.
func certified(r *http.Request) bool { return r.TLS != nil && len(r.TLS.VerifiedChains) > 0 }

// belongs tells whether an address is this machine's own or a head's.
func (m *member) belongs(a netip.Addr) bool {
	if a.IsLoopback() {
		return true
	}
	_, head := m.machine.View().HeadAt(a)
	return head
}
