package consensus

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math"
	"net"
	"net/netip"
	"strconv"
	"sync"
	"time"

	"github.com/hashicorp/memberlist"
	"golang.org/x/net/bpf"
	"golang.org/x/net/ipv4"
)

// gossipTransport carries what memberlist says: packets by UDP, full exchanges by TCP,
// both at the same port.
//
// It is not memberlist's own transport, which clears 64 KiB for each packet before it
// looks at it: garbage kept the collector and a CPU so busy that heads took each other
// for dead. Its calls end with it, and it lets only so many strangers in: see crowd.
type gossipTransport struct {
	ctx    context.Context // the lifetime of the transport; memberlist passes none
	cancel context.CancelFunc
	log    *slog.Logger
	tcp    *net.TCPListener
	udp    *net.UDPConn

	strangers crowd
	open      func(net.Conn) (verdict func(good bool))
	streams   chan net.Conn
	packets   chan *memberlist.Packet
	listening sync.WaitGroup
}

const (
	// packetMax is more than a packet of memberlist can be long (UDPBufferSize, and
	// what encrypting adds).
	packetMax = 2 << 10
	// packetMin is the least of an encrypted one: version, nonce and tag.
	packetMin = 1 + 12 + 16
	// packetVersion is how memberlist encrypts (AES-GCM without padding), and with what
	// each packet begins.
	packetVersion = 1
	// packetBuffer holds what comes while this process is not on a CPU.
	packetBuffer = 2 << 20
	// retryPause is how long to wait when nothing can be accepted or received, as where
	// there are too many open files.
	retryPause = 50 * time.Millisecond
)

// listenGossip opens the same port for TCP and UDP. A free port for the one may
// be taken for the other, then it takes another.
func listenGossip(cfg *Config) (*gossipTransport, error) {
	bind := cfg.Bind
	if !bind.IsValid() {
		bind = netip.IPv4Unspecified()
		if cfg.Advertise.Is6() {
			bind = netip.IPv6Unspecified()
		}
	}
	for attempt := 1; ; attempt++ {
		tcp, udp, err := listenBoth(bind, cfg.GossipPort)
		if err == nil {
			ctx, cancel := context.WithCancel(context.Background())
			t := &gossipTransport{
				ctx: ctx, cancel: cancel, log: cfg.Logger, tcp: tcp, udp: udp, open: cfg.Admit,
				streams: make(chan net.Conn), packets: make(chan *memberlist.Packet),
			}
			t.listening.Go(t.accept)
			t.listening.Go(t.receive)
			return t, nil
		}
		if cfg.GossipPort != 0 || attempt == 10 {
			return nil, fmt.Errorf("opening the gossip port %s (TCP and UDP): %w", net.JoinHostPort(bind.String(), strconv.Itoa(cfg.GossipPort)), err)
		}
	}
}

func listenBoth(bind netip.Addr, port int) (*net.TCPListener, *net.UDPConn, error) {
	tcp, err := net.ListenTCP("tcp", net.TCPAddrFromAddrPort(netip.AddrPortFrom(bind, uint16(port))))
	if err != nil {
		return nil, nil, err
	}
	same := tcp.Addr().(*net.TCPAddr).AddrPort()
	udp, err := net.ListenUDP("udp", net.UDPAddrFromAddrPort(same))
	if err != nil {
		return nil, nil, errors.Join(err, tcp.Close())
	}
	if err := errors.Join(udp.SetReadBuffer(packetBuffer), sift(udp)); err != nil {
		return nil, nil, errors.Join(err, tcp.Close(), udp.Close())
	}
	return tcp, udp, nil
}

// sift has the kernel drop what cannot be a packet of a head, so that it takes no place
// in the queue from those that are.
func sift(udp *net.UDPConn) error {
	const header = 8 // of UDP, which the filter sees
	program, err := bpf.Assemble([]bpf.Instruction{
		bpf.LoadExtension{Num: bpf.ExtLen},
		bpf.JumpIf{Cond: bpf.JumpLessThan, Val: header + packetMin, SkipTrue: 3},
		bpf.LoadAbsolute{Off: header, Size: 1},
		bpf.JumpIf{Cond: bpf.JumpNotEqual, Val: packetVersion, SkipTrue: 1},
		bpf.RetConstant{Val: math.MaxUint32},
		bpf.RetConstant{Val: 0},
	})
	if err != nil {
		return err
	}
	return ipv4.NewPacketConn(udp).SetBPF(program)
}

// port is that of both.
func (t *gossipTransport) port() int { return t.tcp.Addr().(*net.TCPAddr).Port }

// accept hands connections on to memberlist, which keeps each for as long as it has
// something to say, but at most for gossipTCPTimeout.
func (t *gossipTransport) accept() {
	for t.ctx.Err() == nil {
		conn, err := t.tcp.Accept()
		if err != nil {
			if t.ctx.Err() == nil {
				t.log.Debug("accepting a connection of gossip", "error", err)
			}
			t.pause(retryPause)
			continue
		}
		verdict := t.open(conn)
		if verdict == nil {
			continue
		}
		leave := t.strangers.enter(conn)
		guarded := &crowdConn{Conn: conn, leave: func() { leave(); verdict(false) }}
		select {
		case t.streams <- guarded:
		case <-t.ctx.Done():
			_ = guarded.Close()
		}
	}
}

func (t *gossipTransport) pause(d time.Duration) {
	select {
	case <-t.ctx.Done():
	case <-time.After(d):
	}
}

// receive hands packets on to memberlist, which keeps them.
func (t *gossipTransport) receive() {
	buf := make([]byte, packetMax)
	for {
		n, from, err := t.udp.ReadFromUDPAddrPort(buf)
		at := time.Now()
		switch {
		case t.ctx.Err() != nil:
			return
		case err != nil:
			t.log.Debug("receiving a packet of gossip", "error", err)
			t.pause(retryPause)
			continue
		}
		packet := &memberlist.Packet{Buf: append([]byte(nil), buf[:n]...), From: net.UDPAddrFromAddrPort(from), Timestamp: at}
		select {
		case t.packets <- packet:
		case <-t.ctx.Done():
			return
		}
	}
}

// StreamCh implements memberlist.Transport, as all below.
func (t *gossipTransport) StreamCh() <-chan net.Conn { return t.streams }

func (t *gossipTransport) PacketCh() <-chan *memberlist.Packet { return t.packets }

func (t *gossipTransport) FinalAdvertiseAddr(ip string, port int) (net.IP, int, error) {
	addr := net.ParseIP(ip) // that of the configuration
	if addr == nil {
		return nil, 0, fmt.Errorf("'%s' is no address for gossip", ip)
	}
	if four := addr.To4(); four != nil {
		addr = four
	}
	return addr, port, nil
}

func (t *gossipTransport) WriteTo(b []byte, addr string) (time.Time, error) {
	to, err := netip.ParseAddrPort(addr)
	if err == nil {
		_, err = t.udp.WriteToUDPAddrPort(b, to)
	}
	return time.Now(), err
}

func (t *gossipTransport) WriteToAddress(b []byte, addr memberlist.Address) (time.Time, error) {
	return t.WriteTo(b, addr.Addr)
}

func (t *gossipTransport) DialTimeout(addr string, timeout time.Duration) (net.Conn, error) {
	dialer := net.Dialer{Timeout: timeout}
	return dialer.DialContext(t.ctx, "tcp", addr)
}

func (t *gossipTransport) DialAddressTimeout(addr memberlist.Address, timeout time.Duration) (net.Conn, error) {
	return t.DialTimeout(addr.Addr, timeout)
}

func (t *gossipTransport) Shutdown() error {
	t.cancel()
	err := errors.Join(ignoreClosed(t.tcp.Close()), ignoreClosed(t.udp.Close())) // memberlist may say it twice
	t.listening.Wait()
	return err
}

func ignoreClosed(err error) error {
	if errors.Is(err, net.ErrClosed) {
		return nil
	}
	return err
}
