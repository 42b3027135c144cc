package consensus

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/netip"
	"sync"
	"syscall"
	"time"

	"github.com/hashicorp/raft"
)

// handshakeTimeout bounds how long a stranger may hold a connection without a word.
const handshakeTimeout = 3 * time.Second

// stream is raft's stream layer: mutual TLS 1.3 over TCP. Handshakes run beside
// each other and only those that succeed reach raft, so neither silence nor
// garbage on the port is in anyone's way, nor many of them: see crowd.
type stream struct {
	listener  net.Listener
	advertise netip.AddrPort
	tls       *tls.Config
	authorize func(*x509.Certificate) error
	admit     func(net.Conn) (verdict func(good bool))
	log       *slog.Logger
	limit     *limiter
	strangers crowd

	accepted chan net.Conn
	ctx      context.Context // the lifetime of the port; raft passes none
	cancel   context.CancelFunc
	serving  sync.WaitGroup

	mu    sync.Mutex
	conns map[net.Conn]struct{} // all that are open; nil when closed
}

var _ raft.StreamLayer = (*stream)(nil)

// listenStream opens the port and begins to accept.
func listenStream(cfg *Config, limit *limiter) (*stream, error) {
	host := ""
	if cfg.Bind.IsValid() && !cfg.Bind.IsUnspecified() {
		host = cfg.Bind.String()
	}
	addr := net.JoinHostPort(host, fmt.Sprint(cfg.RaftPort))
	listener, err := net.Listen("tcp", addr)
	if err != nil {
		return nil, fmt.Errorf("opening the raft port %s: %w", addr, err)
	}
	port := listener.Addr().(*net.TCPAddr).AddrPort().Port()
	ctx, cancel := context.WithCancel(context.Background())
	s := &stream{
		listener:  listener,
		advertise: netip.AddrPortFrom(cfg.Advertise, port),
		tls:       cfg.TLS.Clone(),
		authorize: cfg.Authorize,
		admit:     cfg.Admit,
		log:       cfg.Logger,
		limit:     limit,
		accepted:  make(chan net.Conn),
		ctx:       ctx,
		cancel:    cancel,
		conns:     make(map[net.Conn]struct{}),
	}
	s.tls.MinVersion = tls.VersionTLS13
	s.tls.ClientAuth = tls.RequireAndVerifyClientCert
	// Gossip tells generations too late: a head of the past may be calling already. So
	// they are part of the handshake (ALPN, RFC 7301), and none is the first.
	if cfg.Generation > 0 {
		s.tls.NextProtos = []string{fmt.Sprintf("luna-raft/%d", cfg.Generation)}
	}
	s.tls.VerifyConnection = func(cs tls.ConnectionState) error {
		if err := s.sameGeneration(cs); err != nil {
			return err
		}
		return s.authorize(cs.PeerCertificates[0])
	}
	s.serving.Go(s.serve)
	return s, nil
}

func (s *stream) serve() {
	for {
		conn, err := s.listener.Accept()
		if err == nil {
			if verdict := s.admit(conn); verdict != nil {
				s.serving.Go(func() { s.handshake(conn, verdict) })
			}
			continue
		}
		if s.ctx.Err() == nil && s.limit.first("accept "+err.Error()) {
			s.log.Warn("raft accepts no connections for now", "error", err)
		}
		select {
		case <-s.ctx.Done():
			return
		case <-time.After(100 * time.Millisecond): // out of file descriptors, perhaps
		}
	}
}

// handshake hands the connection to raft if its other end is a head, and logs why not.
func (s *stream) handshake(raw net.Conn, verdict func(good bool)) {
	conn, err := s.track(raw)
	if err != nil {
		verdict(true) // it is this end that closes
		return
	}
	defer s.strangers.enter(conn)()
	ctx, cancel := context.WithTimeout(s.ctx, handshakeTimeout)
	defer cancel()
	secure := tls.Server(conn, s.tls)
	err = secure.HandshakeContext(ctx)
	verdict(err == nil)
	if err != nil {
		_ = secure.Close()
		s.refused(raw.RemoteAddr(), err)
		return
	}
	select {
	case s.accepted <- secure:
	case <-s.ctx.Done():
		_ = secure.Close()
	}
}

func (s *stream) refused(remote net.Addr, reason error) {
	if s.ctx.Err() != nil {
		return // by this end
	}
	host, _, _ := net.SplitHostPort(remote.String())
	level := slog.LevelDebug
	if gone := errors.Is(reason, io.EOF) || errors.Is(reason, syscall.ECONNRESET); !gone && s.limit.first("refused "+host) {
		level = slog.LevelWarn // who only looks whether the port is open is not worth a line
	}
	s.log.Log(context.Background(), level, "raft connection refused", "remote", host, "reason", reason)
}

// Accept implements net.Listener.
func (s *stream) Accept() (net.Conn, error) {
	select {
	case conn := <-s.accepted:
		return conn, nil
	case <-s.ctx.Done():
		return nil, net.ErrClosed
	}
}

// Dial implements raft.StreamLayer, for a server as transport.ServerAddr names it.
func (s *stream) Dial(server raft.ServerAddress, timeout time.Duration) (net.Conn, error) {
	name, addr, err := splitServer(server)
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(s.ctx, timeout)
	defer cancel()
	raw, err := new(net.Dialer).DialContext(ctx, "tcp", addr)
	if err != nil {
		return nil, err
	}
	conn, err := s.track(raw)
	if err != nil {
		return nil, err
	}
	secure := tls.Client(conn, s.dialing(name))
	if err := secure.HandshakeContext(ctx); err != nil {
		_ = secure.Close()
		return nil, fmt.Errorf("raft to head %s at %s: %w", name, addr, err)
	}
	return secure, nil
}

// dialing is the TLS configuration for calling one head. crypto/tls would hold
// the certificate against a DNS name or address; here the common name must be the
// head's, whatever its address, so the check is made by hand, in full.
func (s *stream) dialing(name string) *tls.Config {
	conf := s.tls.Clone()
	conf.InsecureSkipVerify = true // VerifyConnection verifies chain, name and role
	conf.VerifyConnection = func(cs tls.ConnectionState) error {
		opts := x509.VerifyOptions{
			Roots:         conf.RootCAs,
			Intermediates: x509.NewCertPool(),
			KeyUsages:     []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
		}
		if conf.Time != nil {
			opts.CurrentTime = conf.Time()
		}
		for _, cert := range cs.PeerCertificates[1:] {
			opts.Intermediates.AddCert(cert)
		}
		leaf := cs.PeerCertificates[0]
		if _, err := leaf.Verify(opts); err != nil {
			return err
		}
		if leaf.Subject.CommonName != name {
			return fmt.Errorf("head %s answers in the place of head %s", leaf.Subject.CommonName, name)
		}
		if err := s.sameGeneration(cs); err != nil {
			return err
		}
		return s.authorize(leaf)
	}
	return conf
}

// sameGeneration refuses a head of another generation of the cluster.
func (s *stream) sameGeneration(cs tls.ConnectionState) error {
	if len(s.tls.NextProtos) > 0 && cs.NegotiatedProtocol != s.tls.NextProtos[0] {
		return fmt.Errorf("head %s is of another generation of the cluster", cs.PeerCertificates[0].Subject.CommonName)
	}
	return nil
}

// Addr is the address that others know, not the one that is bound: raft takes it
// for its own.
func (s *stream) Addr() net.Addr { return net.TCPAddrFromAddrPort(s.advertise) }

// Close closes the port and every connection, and waits for the handshakes.
func (s *stream) Close() error {
	s.cancel()
	err := s.listener.Close()
	s.mu.Lock()
	conns := s.conns
	s.conns = nil
	s.mu.Unlock()
	for conn := range conns {
		_ = conn.Close()
	}
	s.serving.Wait()
	if errors.Is(err, net.ErrClosed) {
		return nil // a second time
	}
	return err
}

// track returns the connection such that Close closes it too.
func (s *stream) track(conn net.Conn) (net.Conn, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.conns == nil {
		_ = conn.Close()
		return nil, net.ErrClosed
	}
	s.conns[conn] = struct{}{}
	return &trackedConn{Conn: conn, stream: s}, nil
}

type trackedConn struct {
	net.Conn
	stream *stream
}

func (c *trackedConn) Close() error {
	c.stream.mu.Lock()
	delete(c.stream.conns, c.Conn)
	c.stream.mu.Unlock()
	return c.Conn.Close()
}
