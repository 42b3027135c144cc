// Package tftp serves the first file that firmware loads, by TFTP (RFC 1350,
// with the options blksize and tsize of RFC 2348 and 2349).
//
// It reads, never writes, and knows no directory: what a name means is the
// business of whoever made the server. All later files come by HTTP, for TFTP
// sends one block for each round trip.
package tftp

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"math"
	"net"
	"net/netip"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/pin/tftp/v3"
	"golang.org/x/net/bpf"
	"golang.org/x/net/ipv4"
)

// Config is what a Server works with.
type Config struct {
	// Addr is the UDP address to listen on, as in "0.0.0.0:69".
	Addr string
	// Open gives the content under a name, without leading slashes, for the
	// machine with that address. An error that is fs.ErrNotExist means there is
	// none. Open decides alone what can be read: it must look names up, and
	// never make a path of one. Required; called by several at once.
	Open func(name string, from netip.Addr) (io.ReadSeekCloser, error)
	// Answers tells whether requests are answered now. While it says no they are
	// dropped without a word: a request that was sent to all must be answered by
	// one alone, and a refusal would be taken for the answer. Nil: always.
	Answers func() bool
	// Timeout is how long an acknowledgement is waited for before the block is
	// sent again. Default: 1 s.
	Timeout time.Duration
	// Retries is how often a block is sent again. The default of 10 outlasts a
	// switch port that comes and goes.
	Retries int
	// Logger gets what an operator should see. Nil: slog.Default.
	Logger *slog.Logger
}

const (
	// receiveBuffer holds the requests of a machine room that is switched on.
	receiveBuffer = 4 << 20
	// grace is how long Run waits for transfers that are under way.
	grace = 2 * time.Second
	// maxName bounds what is looked up and logged.
	maxName = 255
	// atOnce and ofOne are how many transfers may be under way, in all and of one
	// address: each takes some 130 KB, and one that is not acknowledged as long as
	// Retries last. Firmware has one at a time, but a rack may be behind one address.
	atOnce = 2048
	ofOne  = 256
)

// Server serves files.
type Server struct {
	Config
	conn *net.UDPConn

	mu    sync.Mutex
	under map[netip.Addr]int // transfers that are under way, of each address
	all   int                // the sum of them
}

// New opens the socket.
func New(c Config) (*Server, error) {
	if c.Timeout == 0 {
		c.Timeout = time.Second
	}
	if c.Retries == 0 {
		c.Retries = 10
	}
	if c.Logger == nil {
		c.Logger = slog.Default()
	}
	conn, err := net.ListenPacket("udp", c.Addr)
	if errors.Is(err, syscall.EADDRINUSE) {
		return nil, fmt.Errorf("listen for TFTP on %s: another TFTP server runs there, stop it: %w", c.Addr, err)
	}
	if err != nil {
		return nil, fmt.Errorf("listen for TFTP: %w", err)
	}
	udp := conn.(*net.UDPConn)
	if err := errors.Join(enlarge(udp), sift(udp)); err != nil {
		return nil, errors.Join(fmt.Errorf("listen for TFTP on %s: %w", c.Addr, err), udp.Close())
	}
	return &Server{Config: c, conn: udp, under: map[netip.Addr]int{}}, nil
}

// sift has the kernel drop what is no request (RFC 1350, section 5): the library looks
// up the network device for each packet before it looks at what it says.
func sift(conn *net.UDPConn) error {
	const header = 8 // of UDP, which the filter sees
	program, err := bpf.Assemble([]bpf.Instruction{
		bpf.LoadAbsolute{Off: header, Size: 2}, // of a shorter packet this is the end: it is dropped
		bpf.JumpIf{Cond: bpf.JumpEqual, Val: 1, SkipTrue: 2},
		bpf.JumpIf{Cond: bpf.JumpEqual, Val: 2, SkipTrue: 1}, // to write, which is refused
		bpf.RetConstant{Val: 0},
		bpf.RetConstant{Val: math.MaxUint32},
	})
	if err != nil {
		return err
	}
	return ipv4.NewPacketConn(conn).SetBPF(program)
}

// enlarge sets the receive buffer: beyond net.core.rmem_max where the process
// may (CAP_NET_ADMIN), else up to it.
func enlarge(conn *net.UDPConn) error {
	raw, err := conn.SyscallConn()
	if err != nil {
		return err
	}
	var forced error
	if err := raw.Control(func(fd uintptr) {
		forced = syscall.SetsockoptInt(int(fd), syscall.SOL_SOCKET, syscall.SO_RCVBUFFORCE, receiveBuffer)
	}); err != nil {
		return err
	}
	if forced != nil {
		return conn.SetReadBuffer(receiveBuffer)
	}
	return nil
}

// Addr gives the address that the server listens on.
func (s *Server) Addr() net.Addr { return s.conn.LocalAddr() }

// Close closes the socket of a Server that is not to be run. It may be called
// again.
func (s *Server) Close() error {
	if err := s.conn.Close(); err != nil && !errors.Is(err, net.ErrClosed) {
		return err
	}
	return nil
}

// Run serves until ctx ends, and returns nil then. Transfers that are under way
// get two seconds; what is left after that ends by itself, for it gets no more
// to send.
func (s *Server) Run(ctx context.Context) error {
	defer s.Close()
	stop := make(chan struct{}) // closed when transfers get no more to send
	server := tftp.NewServer(func(name string, rf io.ReaderFrom) error { return s.transfer(stop, name, rf) }, nil)
	server.SetTimeout(s.Timeout)
	server.SetRetries(s.Retries)
	// The default waits for up to a second more, at random, before it sends a
	// lost block again: right for a crowded internet, wrong for a boot.
	server.SetBackoff(func(int) time.Duration { return 0 })

	served := make(chan error, 1)
	go func() { served <- server.Serve(s.requests()) }()
	select {
	case err := <-served:
		return fmt.Errorf("serve TFTP on %s: %w", s.conn.LocalAddr(), err)
	case <-ctx.Done():
	}
	finished := make(chan struct{})
	go func() {
		server.Shutdown()
		close(finished)
	}()
	select {
	case <-finished:
	case <-time.After(grace):
	}
	close(stop)
	return nil
}

// requests is the socket as the library reads it. With Answers it must not be
// seen to be one: the library answers from the address that it was asked at,
// which cannot be done from a broadcast address.
func (s *Server) requests() net.PacketConn {
	if s.Answers == nil {
		return s.conn
	}
	return heeded{s.conn, s.Answers}
}

// heeded drops what comes while answers says no.
type heeded struct {
	net.PacketConn
	answers func() bool
}

func (h heeded) ReadFrom(b []byte) (int, net.Addr, error) {
	for {
		n, from, err := h.PacketConn.ReadFrom(b)
		if err != nil || h.answers() {
			return n, from, err
		}
	}
}

// transfer answers one request to read.
func (s *Server) transfer(stop <-chan struct{}, name string, rf io.ReaderFrom) error {
	from := remote(rf)
	if len(name) > maxName {
		return errNotFound
	}
	if !s.enter(from) {
		return errBusy
	}
	defer s.leave(from)
	file, err := s.Open(strings.TrimLeft(name, "/"), from)
	if err != nil {
		if !errors.Is(err, fs.ErrNotExist) {
			s.Logger.Warn("a file asked for by TFTP cannot be read", "name", name, "from", from, "error", err)
		}
		return errNotFound // the reason is not for whoever asks
	}
	defer file.Close()
	n, err := rf.ReadFrom(until{file, stop})
	if err != nil {
		// UEFI asks for the size first and breaks off: that is no fault.
		s.Logger.Debug("TFTP transfer broke off", "name", name, "from", from, "bytes", n, "error", err)
		return err
	}
	s.Logger.Debug("TFTP transfer done", "name", name, "from", from, "bytes", n)
	return nil
}

// enter tells whether one more transfer may begin; leave must follow when it may.
func (s *Server) enter(from netip.Addr) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.all == atOnce || s.under[from] == ofOne {
		return false
	}
	s.all++
	s.under[from]++
	return true
}

func (s *Server) leave(from netip.Addr) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.all--
	if s.under[from]--; s.under[from] == 0 {
		delete(s.under, from)
	}
}

// The texts that machines are sent, and some show on their console.
var (
	errBusy     = errors.New("too many transfers at once, try again")
	errNotFound = errors.New("file not found")
	errStopped  = errors.New("the server stops")
)

// until is a file that ends in an error once stop is closed. It seeks, for that
// is how the library finds the size.
type until struct {
	io.ReadSeeker
	stop <-chan struct{}
}

func (u until) Read(b []byte) (int, error) {
	select {
	case <-u.stop:
		return 0, errStopped
	default:
		return u.ReadSeeker.Read(b)
	}
}

// remote gives the address of the machine that asks.
func remote(rf io.ReaderFrom) netip.Addr {
	t, ok := rf.(tftp.OutgoingTransfer)
	if !ok {
		return netip.Addr{}
	}
	a := t.RemoteAddr()
	return a.AddrPort().Addr().Unmap()
}
