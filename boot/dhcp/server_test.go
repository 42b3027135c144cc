package dhcp

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/insomniacslk/dhcp/dhcpv4"
	"github.com/insomniacslk/dhcp/dhcpv4/nclient4"
	"github.com/insomniacslk/dhcp/iana"
	"go.uber.org/goleak"
	"golang.org/x/sys/unix"

	"github.com/clustervision/luna/inventory"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// wire joins servers and clients in memory, as one Ethernet segment would.
type wire struct {
	mu      sync.Mutex
	servers []*port
	clients map[string]chan []byte // by hardware address
	adverts map[string]int         // router advertisements, by the same
}

// port is a server's end of a wire.
type port struct {
	wire *wire
	in   chan []byte
	done chan struct{}
	once sync.Once
}

func newWire() *wire { return &wire{clients: map[string]chan []byte{}, adverts: map[string]int{}} }

func (w *wire) server() *port {
	p := &port{wire: w, in: make(chan []byte, 1<<15), done: make(chan struct{})}
	w.mu.Lock()
	defer w.mu.Unlock()
	w.servers = append(w.servers, p)
	return p
}

func (p *port) read(buf []byte) (int, netip.Addr, error) {
	select {
	case b := <-p.in:
		return copy(buf, b), broadcast, nil
	case <-p.done:
		return 0, netip.Addr{}, os.ErrDeadlineExceeded
	}
}

func (p *port) send([]byte, netip.AddrPort) error { return nil }

func (p *port) frame(etherType uint16, packet []byte, to net.HardwareAddr) error {
	p.wire.mu.Lock()
	defer p.wire.mu.Unlock()
	if etherType == unix.ETH_P_IPV6 {
		p.wire.adverts[to.String()]++
		return nil
	}
	for hw, c := range p.wire.clients {
		if hw == to.String() || to.String() == everybody.String() {
			select {
			case c <- packet[ipv4Header+udpHeader:]:
			default: // a client that does not read loses packets, as on a wire
			}
		}
	}
	return nil
}

func (p *port) interrupt()   { p.once.Do(func() { close(p.done) }) }
func (p *port) close() error { return nil }

// broadcast puts a client's packet on the wire.
func (w *wire) broadcast(b []byte) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, s := range w.servers {
		s.in <- b
	}
}

// hear gives what the machine with that address is sent.
func (w *wire) hear(mac string) <-chan []byte {
	w.mu.Lock()
	defer w.mu.Unlock()
	c := make(chan []byte, 100)
	w.clients[mac] = c
	return c
}

// client gives a real DHCP client on the wire.
func (w *wire) client(t *testing.T, mac string) *nclient4.Client {
	t.Helper()
	hw, err := net.ParseMAC(mac)
	if err != nil {
		t.Fatal(err)
	}
	c, err := nclient4.NewWithConn(&clientConn{wire: w, in: w.hear(mac), done: make(chan struct{})}, hw, nclient4.WithTimeout(5*time.Second), nclient4.WithRetry(1))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return c
}

type clientConn struct {
	net.PacketConn // not used
	wire           *wire
	in             <-chan []byte
	done           chan struct{}
}

func (c *clientConn) ReadFrom(b []byte) (int, net.Addr, error) {
	select {
	case p := <-c.in:
		return copy(b, p), &net.UDPAddr{Port: serverPort}, nil
	case <-c.done:
		return 0, nil, net.ErrClosed
	}
}

func (c *clientConn) WriteTo(b []byte, _ net.Addr) (int, error) {
	c.wire.broadcast(append([]byte(nil), b...))
	return len(b), nil
}

func (c *clientConn) Close() error {
	close(c.done)
	return nil
}

var hardware = net.HardwareAddr{2, 0, 0, 0, 0, 1}

func testConfig(inv *inventory.Inventory) Config {
	return Config{
		Address: ip("10.30.0.252"), Self: "h2", Loaders: loaders, Answers: everyone,
		View: func() *inventory.Inventory { return inv },
		Lease: func(context.Context, string, inventory.MAC, netip.Addr) (netip.Addr, time.Duration, error) {
			return netip.Addr{}, 0, errors.New("no lease in this test")
		},
		Logger: slog.New(slog.DiscardHandler),
	}
}

// run runs the server until the test ends.
func run(t *testing.T, s *Server) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- s.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		select {
		case err := <-done:
			if err != nil {
				t.Errorf("Run: %v", err)
			}
		case <-time.After(10 * time.Second):
			t.Error("Run does not end")
		}
	})
}

func start(t *testing.T, w *wire, c Config) *Server {
	t.Helper()
	s := newServer(c, w.server(), hardware)
	run(t, s)
	return s
}

// receive gives the next packet, or fails.
func receive(t *testing.T, c <-chan []byte) *dhcpv4.DHCPv4 {
	t.Helper()
	select {
	case b := <-c:
		p, err := dhcpv4.FromBytes(b)
		if err != nil {
			t.Fatal(err)
		}
		return p
	case <-time.After(10 * time.Second):
		t.Fatal("no answer")
		return nil
	}
}

// The whole exchange, by a client that is not ours, for each firmware of one
// node: always the same address.
func TestExchange(t *testing.T) {
	for name, test := range map[string]struct {
		mod  with
		file string
	}{
		"BIOS":     {pxe(iana.INTEL_X86PC), "undionly.kpxe"},
		"UEFI":     {pxe(iana.EFI_X86_64), "snponly.efi"},
		"UEFI 9":   {pxe(iana.EFI_BC), "snponly.efi"},
		"HTTP":     {httpBoot, "http://10.30.0.252:7050/boot/snponly.efi"},
		"iPXE":     {ipxe, "http://10.30.0.252:7050/luna?step=boot&mac=" + macKnown},
		"the OS":   {option(61, 0xff, 1, 2, 3), ""},
		"OPAL":     {pxe(iana.PPC_OPAL), ""},
		"OS again": {option(61, 1, 9, 9), ""},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWire()
			start(t, w, testConfig(fixture()))
			lease, err := w.client(t, macKnown).Request(t.Context(), test.mod)
			if err != nil {
				t.Fatal(err)
			}
			if a := lease.ACK; a.YourIPAddr.String() != "10.30.0.1" || a.BootFileName != test.file || a.IPAddressLeaseTime(0) != knownLease {
				t.Errorf("got %s, file %q, for %s", a.YourIPAddr, a.BootFileName, a.IPAddressLeaseTime(0))
			}
			w.mu.Lock()
			defer w.mu.Unlock()
			if got, want := w.adverts[macKnown], map[bool]int{true: 2}[name == "iPXE"]; got != want {
				t.Errorf("%d router advertisements, want %d", got, want)
			}
		})
	}
}

// An offer takes what was committed, and comes after it.
func TestOfferComesAfterTheCommit(t *testing.T) {
	w := newWire()
	c := testConfig(fixture())
	asked, commit := make(chan claim, 10), make(chan struct{})
	c.Lease = func(_ context.Context, network string, mac inventory.MAC, _ netip.Addr) (netip.Addr, time.Duration, error) {
		asked <- claim{network, mac}
		<-commit
		return ip("10.30.128.9"), 10 * time.Minute, nil
	}
	start(t, w, c)
	hear := w.hear(macUnknown)
	discover := testPacket(macUnknown, ask(dhcpv4.MessageTypeDiscover), pxe(iana.INTEL_X86PC))
	w.broadcast(discover.ToBytes())
	if got := <-asked; got != (claim{"cluster", macUnknown}) {
		t.Errorf("a lease was asked for %v", got)
	}
	// It asks again, twice, before there is an answer, with a new transaction.
	for i := range byte(2) {
		discover.TransactionID = dhcpv4.TransactionID{9, 9, 9, i}
		w.broadcast(discover.ToBytes())
	}
	// A known node asks last and is answered: so the others were seen, and were not.
	known := w.hear(macKnown)
	w.broadcast(testPacket(macKnown, ask(dhcpv4.MessageTypeDiscover)).ToBytes())
	receive(t, known)
	if len(hear) != 0 {
		t.Fatal("an offer came before its lease was committed")
	}
	close(commit)
	offer := receive(t, hear)
	if offer.YourIPAddr.String() != "10.30.128.9" || offer.TransactionID != (dhcpv4.TransactionID{9, 9, 9, 1}) || offer.IPAddressLeaseTime(0) != 10*time.Minute {
		t.Errorf("got %s for %s, want what was committed, in the last transaction", offer, offer.IPAddressLeaseTime(0))
	}
	if len(asked) != 0 || len(hear) != 0 {
		t.Errorf("one machine got %d more leases and %d more offers", len(asked), len(hear))
	}
}

// What a machine declines is told with its next lease, which it does not hear of: it
// asks again. A question that comes between does not make that forgotten.
func TestDeclineIsTold(t *testing.T) {
	w := newWire()
	c := testConfig(fixture())
	asked, commit := make(chan netip.Addr, 10), make(chan struct{})
	c.Lease = func(_ context.Context, _ string, _ inventory.MAC, declined netip.Addr) (netip.Addr, time.Duration, error) {
		asked <- declined
		<-commit
		return ip("10.30.128.9"), 10 * time.Minute, nil
	}
	start(t, w, c)
	hear, known := w.hear(macLeased), w.hear(macKnown)
	w.broadcast(testPacket(macLeased, ask(dhcpv4.MessageTypeDecline), server("10.30.0.252"), wants("10.30.128.7")).ToBytes())
	if got := <-asked; got != ip("10.30.128.7") {
		t.Errorf("told to have declined: %s", got)
	}
	close(commit)
	w.broadcast(testPacket(macKnown, ask(dhcpv4.MessageTypeDiscover)).ToBytes())
	receive(t, known)
	if len(hear) != 0 {
		t.Errorf("a DECLINE is answered with %s", receive(t, hear))
	}

	l := newLeaser()
	n, _ := fixture().Network("cluster")
	mac := inventory.MAC(macLeased)
	r := request{kind: dhcpv4.MessageTypeDecline, wants: ip("10.30.128.7")}
	r.machine.MAC = mac
	l.ask(n, r)
	r.kind, r.wants = dhcpv4.MessageTypeDiscover, netip.Addr{}
	l.ask(n, r)
	if q, _ := l.newest(claim{"cluster", mac}, true); q.declined != ip("10.30.128.7") || q.request.kind != dhcpv4.MessageTypeDiscover {
		t.Errorf("it waits as %+v", q)
	}
}

// The state may move between OFFER and REQUEST: another head answers then.
func TestHolderChangesBetweenOfferAndRequest(t *testing.T) {
	w := newWire()
	var holder atomic.Value
	holder.Store("h1")
	inv := fixture()
	for _, name := range []string{"h1", "h2"} {
		c := testConfig(inv)
		c.Self = name
		c.Answers = func(inventory.ID) Duty {
			if holder.Load() == name {
				return Everyone
			}
			return Silent
		}
		start(t, w, c)
	}
	client := w.client(t, macKnown)
	offer, err := client.DiscoverOffer(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	holder.Store("h2")
	lease, err := client.RequestFromOffer(t.Context(), offer)
	if err != nil {
		t.Fatalf("the new holder ignores who took the old one's offer: %v", err)
	}
	if a := lease.ACK; a.YourIPAddr.String() != "10.30.0.1" || a.ServerIPAddr.String() != "10.30.0.252" || a.ServerIdentifier().String() != "10.30.0.251" {
		t.Errorf("got %s, named %s: want to load from the new holder, in the name of the old one", a, a.ServerIdentifier())
	}
}

// A head that stood still with an answer in its hand does not send it when another one
// may hold the duty.
func TestDutyEndsBeforeTheAnswer(t *testing.T) {
	for then, sent := range map[Duty]int{Everyone: 1, KnownNodes: 0, Silent: 0} {
		w := newWire()
		c := testConfig(fixture())
		duties := []Duty{Everyone, then}
		c.Answers = func(inventory.ID) (d Duty) {
			d, duties = duties[0], duties[1:]
			return d
		}
		answers := w.hear(macUnknown)
		s := newServer(c, w.server(), net.HardwareAddr{2, 0, 0, 0, 0, 1})
		r, err := classify(testPacket(macUnknown, ask(dhcpv4.MessageTypeDiscover)), false)
		if err != nil {
			t.Fatal(err)
		}
		s.handle(r, grant{netip.MustParseAddr("10.30.128.1"), time.Minute})
		if len(answers) != sent || len(duties) != 0 {
			t.Errorf("duty %d in the end: %d answers sent, and %d duties not asked for", then, len(answers), len(duties))
		}
	}
}

// A flood of made-up machines, with a quorum that does not answer: what waits is
// bounded, and known nodes are answered all the while.
func TestFlood(t *testing.T) {
	w := newWire()
	c := testConfig(fixture())
	var asked, most atomic.Int64
	c.Lease = func(ctx context.Context, _ string, _ inventory.MAC, _ netip.Addr) (netip.Addr, time.Duration, error) {
		most.Store(max(most.Load(), asked.Add(1)))
		defer asked.Add(-1)
		<-ctx.Done()
		return netip.Addr{}, 0, ctx.Err()
	}
	s := start(t, w, c)
	before := runtime.NumGoroutine()
	for i := range 3 * leaseQueue {
		w.broadcast(testPacket(fmt.Sprintf("06:00:00:00:%02x:%02x", i>>8, i&0xff), ask(dhcpv4.MessageTypeDiscover)).ToBytes())
	}
	lease, err := w.client(t, macKnown).Request(t.Context())
	if err != nil {
		t.Fatalf("a known node got no answer: %v", err)
	}
	if lease.ACK.YourIPAddr.String() != "10.30.0.1" {
		t.Errorf("got %s", lease.ACK.YourIPAddr)
	}
	s.leases.mu.Lock()
	waiting := len(s.leases.waiting)
	s.leases.mu.Unlock()
	if limit := leaseQueue + leaseWorkers; waiting > limit {
		t.Errorf("%d machines wait, the limit is %d", waiting, limit)
	}
	if after := runtime.NumGoroutine(); after > before+leaseWorkers+5 {
		t.Errorf("%d goroutines, %d before", after, before)
	}
	if n := most.Load(); n > leaseWorkers {
		t.Errorf("%d leases were asked for at once", n)
	}
}

// Where no lease can be had the machine hears nothing, and may ask again.
func TestNoLeaseNoOffer(t *testing.T) {
	w := newWire()
	c := testConfig(fixture())
	var calls atomic.Int64
	c.Lease = func(context.Context, string, inventory.MAC, netip.Addr) (netip.Addr, time.Duration, error) {
		if calls.Add(1) == 1 {
			return netip.Addr{}, 0, errors.New("no leader")
		}
		return ip("10.30.128.9"), 10 * time.Minute, nil
	}
	start(t, w, c)
	hear := w.hear(macUnknown)
	first := testPacket(macUnknown, ask(dhcpv4.MessageTypeDiscover))
	w.broadcast(first.ToBytes())
	eventually(t, "the first lease was asked for", func() bool { return calls.Load() == 1 })
	eventually(t, "a second request is answered", func() bool {
		second := testPacket(macUnknown, ask(dhcpv4.MessageTypeDiscover))
		second.TransactionID = dhcpv4.TransactionID{2}
		w.broadcast(second.ToBytes())
		return len(hear) > 0
	})
	if p := receive(t, hear); p.TransactionID != (dhcpv4.TransactionID{2}) {
		t.Errorf("the request without a lease was answered: %s", p)
	}
}

// eventually waits until the condition holds.
func eventually(t *testing.T, what string, holds func() bool) {
	t.Helper()
	deadline := time.Now().Add(10 * time.Second)
	for !holds() {
		if time.Now().After(deadline) {
			t.Fatalf("it never came that %s", what)
		}
		time.Sleep(5 * time.Millisecond)
	}
}

func TestMalformedPacketsAreDropped(t *testing.T) {
	w := newWire()
	start(t, w, testConfig(fixture()))
	good := testPacket(macKnown, ask(dhcpv4.MessageTypeDiscover), ipxe).ToBytes()
	for n := range good {
		w.broadcast(good[:n])
	}
	w.broadcast([]byte("GET / HTTP/1.1\r\n\r\n"))
	if _, err := w.client(t, macKnown).Request(t.Context()); err != nil {
		t.Errorf("after garbage: %v", err)
	}
}

// FuzzJudge looks for a packet that makes the server panic, or send without an
// address.
func FuzzJudge(f *testing.F) {
	for _, m := range []with{ipxe, httpBoot, pxe(iana.EFI_X86_64), relay("10.40.0.254"), option(82, 5, 1, 1), option(54, 1)} {
		f.Add(testPacket(macKnown, ask(dhcpv4.MessageTypeDiscover), m).ToBytes())
		f.Add(testPacket(macUnknown, ask(dhcpv4.MessageTypeRequest), wants("10.30.0.1"), m).ToBytes())
	}
	s := newScene(fixture(), Everyone)
	f.Fuzz(func(t *testing.T, b []byte) {
		p, err := dhcpv4.FromBytes(b)
		if err != nil {
			return
		}
		for _, unicast := range []bool{true, false} {
			r, err := classify(p, unicast)
			if err != nil {
				continue
			}
			v := s.judge(r, grant{})
			if v.reply == nil {
				continue
			}
			v.reply.ToBytes()
			if id := addr(v.reply.ServerIdentifier()); !v.to.addr.Addr().Is4() || !netip.MustParsePrefix("10.30.0.248/29").Contains(id) {
				t.Errorf("%s to %v", v.reply.Summary(), v.to)
			}
		}
	})
}
