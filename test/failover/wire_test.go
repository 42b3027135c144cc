package failover

import (
	"context"
	"encoding/binary"
	"fmt"
	"net"
	"net/netip"
	"sync"
	"testing"
	"time"

	"github.com/insomniacslk/dhcp/dhcpv4"
	"github.com/mdlayher/packet"
	"golang.org/x/net/bpf"
	"golang.org/x/sys/unix"

	"github.com/clustervision/luna/test/lab"
)

// Offsets in a frame whose IP header has no options, and ports of DHCP.
const (
	etherHeader = 14
	ipHeader    = 20
	udpHeader   = 8
	payloadAt   = etherHeader + ipHeader + udpHeader

	serverPort = 67
	clientPort = 68
)

// wire is one cable with any number of machines at its end: a raw socket on a host.
// A machine's frames come from its own hardware address, and what is sent to any
// machine on the cable is written into the book.
type wire struct {
	host *lab.Host
	conn *packet.Conn
	book *book
	quit chan struct{} // closed by close
	done chan struct{} // closed when nobody listens any more

	mu       sync.Mutex
	machines map[string]*client
}

// newWire makes a host on the lab's network, "" being "lan", and listens there.
func (m *mesh) newWire(tb testing.TB, network, name string) *wire {
	tb.Helper()
	w, err := newWire(tb.Context(), m.Lab, m.book, network, name)
	must(tb, err)
	tb.Cleanup(w.close)
	return w
}

func newWire(ctx context.Context, l *lab.Lab, b *book, network, name string) (*wire, error) {
	host, err := l.HostWith(ctx, name, lab.NIC{Network: network})
	if err != nil {
		return nil, err
	}
	// Only what goes to a DHCP client: each wire hears the questions of all others.
	filter, err := bpf.Assemble([]bpf.Instruction{
		bpf.LoadAbsolute{Off: 12, Size: 2},
		bpf.JumpIf{Cond: bpf.JumpNotEqual, Val: unix.ETH_P_IP, SkipTrue: 5},
		bpf.LoadAbsolute{Off: 23, Size: 1},
		bpf.JumpIf{Cond: bpf.JumpNotEqual, Val: unix.IPPROTO_UDP, SkipTrue: 3},
		bpf.LoadAbsolute{Off: etherHeader + ipHeader + 2, Size: 2},
		bpf.JumpIf{Cond: bpf.JumpNotEqual, Val: clientPort, SkipTrue: 1},
		bpf.RetConstant{Val: 4096},
		bpf.RetConstant{Val: 0},
	})
	if err != nil {
		return nil, err
	}
	w := &wire{host: host, book: b, quit: make(chan struct{}), done: make(chan struct{}), machines: map[string]*client{}}
	err = host.Do(func() error {
		card, err := net.InterfaceByName("eth0")
		if err != nil {
			return err
		}
		w.conn, err = packet.Listen(card, packet.Raw, unix.ETH_P_IP, &packet.Config{Filter: filter})
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("listen on %s: %w", name, err)
	}
	go func() {
		defer close(w.done)
		w.listen()
	}()
	return w, nil
}

// close ends it; machines hear nothing any more.
func (w *wire) close() {
	close(w.quit)
	_ = w.conn.Close()
	<-w.done
}

func (w *wire) listen() {
	buffer := make([]byte, 4096)
	for {
		n, _, err := w.conn.ReadFrom(buffer)
		if err != nil { // the link may be down for a while
			select {
			case <-time.After(10 * time.Millisecond):
				continue
			case <-w.quit:
				return
			}
		}
		if n < payloadAt {
			continue
		}
		p, err := dhcpv4.FromBytes(buffer[payloadAt:n])
		if err != nil || p.OpCode != dhcpv4.OpcodeBootReply {
			continue
		}
		a := answer{at: time.Now(), kind: p.MessageType(), mac: p.ClientHWAddr.String(), question: p.TransactionID}
		a.from, _ = netip.AddrFromSlice(buffer[etherHeader+12 : etherHeader+16])
		a.address, _ = netip.AddrFromSlice(p.YourIPAddr.To4())
		a.server, _ = netip.AddrFromSlice(p.ServerIdentifier().To4())
		w.hear(heard{a, p})
	}
}

// heard is an answer with its packet.
type heard struct {
	answer
	packet *dhcpv4.DHCPv4
}

// hear writes down what is for a machine on this wire, once: of what a bridge
// floods, or a server broadcasts, each wire gets a copy.
func (w *wire) hear(h heard) {
	w.mu.Lock()
	c := w.machines[h.mac]
	w.mu.Unlock()
	if c == nil {
		return
	}
	w.book.note(h.answer)
	select {
	case c.in <- h:
	default: // it has not asked for so much
	}
}

// send broadcasts a question from the machine's hardware address.
func (w *wire) send(from net.HardwareAddr, p *dhcpv4.DHCPv4) error {
	payload := p.ToBytes()
	b := make([]byte, payloadAt, payloadAt+len(payload))
	for i := range 6 {
		b[i] = 0xff
	}
	copy(b[6:], from)
	binary.BigEndian.PutUint16(b[12:], unix.ETH_P_IP)
	header := b[etherHeader:]
	header[0], header[8], header[9] = 0x45, 64, unix.IPPROTO_UDP
	binary.BigEndian.PutUint16(header[2:], uint16(ipHeader+udpHeader+len(payload)))
	copy(header[16:20], net.IPv4bcast.To4())
	binary.BigEndian.PutUint16(header[10:], checksum(header[:ipHeader]))
	udp := header[ipHeader:]
	binary.BigEndian.PutUint16(udp, clientPort)
	binary.BigEndian.PutUint16(udp[2:], serverPort)
	binary.BigEndian.PutUint16(udp[4:], uint16(udpHeader+len(payload))) // its checksum stays 0: none
	_, err := w.conn.WriteTo(append(b, payload...), &packet.Addr{HardwareAddr: b[:6]})
	return err
}

// checksum is that of an IP header (RFC 1071).
func checksum(b []byte) uint16 {
	var sum uint32
	for ; len(b) >= 2; b = b[2:] {
		sum += uint32(binary.BigEndian.Uint16(b))
	}
	for sum > 0xffff {
		sum = sum>>16 + sum&0xffff
	}
	return ^uint16(sum)
}
