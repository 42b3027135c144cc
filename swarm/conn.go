package swarm

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"
)

const (
	// bulk is the size of a write from which it counts as content rather than as a message.
	bulk = 16 << 10
	// slotTime is the longest that one connection keeps an upload slot: enough for a chunk on a slow
	// link, short enough that nodes which lost power hold up the others for no more than a moment.
	slotTime = 500 * time.Millisecond
	// silence is how long a connection may be without a byte from the peer, or keep a write of ours
	// waiting, before it counts as dead. Living peers of our kind speak every second while they want
	// something; the engine alone would wait for minutes.
	silence = 20 * time.Second
	// greeting is the length in bytes of BitTorrent's handshake (BEP 3).
	greeting = 68
)

// listener opens the swarm's connections, incoming and outgoing, and limits how many of them send
// content at the same time. It is the engine's whole network.
type listener struct {
	net.Listener
	dialer net.Dialer
	slots  chan struct{} // one token for each connection that may send content now
	buffer int           // bytes of the kernel's send buffer
	admit  func(net.Conn) (verdict func(good bool))

	ctx    context.Context // ends dials
	cancel context.CancelFunc
}

// listen opens the first free port of the range; 0 to 0 is any port.
func listen(cfg Config) (*listener, error) {
	host := ""
	if cfg.Listen.IsValid() {
		host = cfg.Listen.String()
	}
	var errs error
	for port := cfg.PortMin; port <= cfg.PortMax; port++ {
		nl, err := net.Listen("tcp", net.JoinHostPort(host, fmt.Sprint(port)))
		if err != nil {
			errs = err
			continue
		}
		ctx, cancel := context.WithCancel(context.Background())
		l := &listener{
			Listener: nl, slots: make(chan struct{}, cfg.UploadSlots), buffer: cfg.SendBuffer,
			ctx: ctx, cancel: cancel, admit: cfg.Admit,
		}
		if l.admit == nil {
			l.admit = everybody
		}
		l.dialer.LocalAddr = localAddr(cfg.Listen)
		return l, nil
	}
	return nil, fmt.Errorf("no swarm port from %d to %d can be opened: %w", cfg.PortMin, cfg.PortMax, errs)
}

// localAddr is where connections to others come from: the address that we listen on, so that a
// machine, or a test, with many addresses is known by one. nil leaves it to the kernel.
func localAddr(a netip.Addr) net.Addr {
	if !a.IsValid() || a.IsUnspecified() {
		return nil
	}
	return net.TCPAddrFromAddrPort(netip.AddrPortFrom(a, 0))
}

func (l *listener) port() int { return l.Addr().(*net.TCPAddr).Port }

func (l *listener) close() {
	l.cancel()
	_ = l.Listener.Close()
}

// Accept does not return errors that pass, such as too many open files: the engine would ask again
// at once and for ever.
func (l *listener) Accept() (net.Conn, error) {
	for {
		c, err := l.Listener.Accept()
		if err == nil {
			if verdict := l.admit(c); verdict != nil {
				return l.wrap(c, verdict), nil
			}
			continue
		}
		if errors.Is(err, net.ErrClosed) {
			return nil, err
		}
		select {
		case <-time.After(100 * time.Millisecond):
		case <-l.ctx.Done():
		}
	}
}

// Dial and DialerNetwork make the listener the engine's dialer.
func (l *listener) Dial(ctx context.Context, addr string) (net.Conn, error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	defer context.AfterFunc(l.ctx, cancel)()
	c, err := l.dialer.DialContext(ctx, "tcp", addr)
	if err != nil {
		return nil, err
	}
	return l.wrap(c, func(bool) {}), nil
}

// DialerNetwork names the network for the engine.
func (l *listener) DialerNetwork() string { return "tcp" }

// everybody is let in.
func everybody(net.Conn) func(bool) { return func(bool) {} }

func (l *listener) wrap(c net.Conn, verdict func(good bool)) net.Conn {
	if t, ok := c.(*net.TCPConn); ok && l.buffer > 0 {
		// A small buffer: else a chunk is in the kernel, and its slot free, long before it is sent.
		_ = t.SetWriteBuffer(l.buffer)
	}
	return &conn{Conn: c, slots: l.slots, done: make(chan struct{}), verdict: verdict}
}

// conn is a connection to a peer that waits for a slot before it sends content.
type conn struct {
	net.Conn
	slots chan struct{}
	done  chan struct{} // closed by Close
	once  sync.Once

	verdict func(good bool) // on who opened it; the first counts
	said    atomic.Int64    // bytes written
}

// Close also ends a write that waits for its slot.
func (c *conn) Close() error {
	c.once.Do(func() {
		close(c.done)
		c.verdict(false)
	})
	return c.Conn.Close()
}

// SetReadDeadline shortens the engine's minutes. Its handshake has shorter ones.
func (c *conn) SetReadDeadline(t time.Time) error {
	if soon := time.Now().Add(silence); t.IsZero() || t.After(soon) {
		t = soon
	}
	return c.Conn.SetReadDeadline(t)
}

// Write sends messages at once and content in its turn.
func (c *conn) Write(b []byte) (int, error) {
	if len(b) >= bulk {
		select {
		case c.slots <- struct{}{}:
		case <-c.done:
			return 0, net.ErrClosed
		}
		release := sync.OnceFunc(func() { <-c.slots })
		timer := time.AfterFunc(slotTime, release)
		defer func() {
			timer.Stop()
			release()
		}()
	}
	if err := c.SetWriteDeadline(time.Now().Add(silence)); err != nil {
		return 0, err
	}
	n, err := c.Conn.Write(b)
	// The engine says more than a greeting only to who asked for something that is here.
	if c.said.Add(int64(n)) > greeting {
		c.verdict(true)
	}
	return n, err
}
