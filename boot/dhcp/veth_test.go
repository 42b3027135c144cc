package dhcp

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"os"
	"runtime"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/insomniacslk/dhcp/dhcpv4"
	"github.com/insomniacslk/dhcp/dhcpv4/nclient4"
	"github.com/insomniacslk/dhcp/iana"
	"github.com/mdlayher/packet"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/clustervision/luna/inventory"
)

// segment moves the test into a network namespace of its own, with an Ethernet
// cable in it: the head's end "head", with the address of h2, and the machine's
// end "machine".
func segment(t *testing.T) {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("needs root: real sockets on a veth pair in a network namespace")
	}
	runtime.LockOSThread() // for ever: the thread, and with it the namespace, ends with the test
	if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
		t.Fatalf("no network namespace: %v", err)
	}
	cable := &netlink.Veth{LinkAttrs: netlink.LinkAttrs{Name: "head", TxQLen: 10000}, PeerName: "machine"}
	if err := netlink.LinkAdd(cable); err != nil {
		t.Fatalf("no veth pair: %v", err)
	}
	for _, name := range []string{"lo", "head", "machine"} {
		if err := netlink.LinkSetUp(named(t, name)); err != nil {
			t.Fatal(err)
		}
	}
	address(t, "head", "10.30.0.252/16")
	// A link that has just come up loses what is sent, until the kernel gets round to it.
	eventually(t, "the cable carries", func() bool {
		return named(t, "head").Attrs().OperState == netlink.OperUp && named(t, "machine").Attrs().OperState == netlink.OperUp
	})
}

func named(t *testing.T, name string) netlink.Link {
	t.Helper()
	l, err := netlink.LinkByName(name)
	if err != nil {
		t.Fatal(err)
	}
	return l
}

// address gives a device an address.
func address(t *testing.T, device, prefix string) {
	t.Helper()
	a, err := netlink.ParseAddr(prefix)
	if err != nil {
		t.Fatal(err)
	}
	if err := netlink.AddrAdd(named(t, device), a); err != nil {
		t.Fatal(err)
	}
}

func startReal(t *testing.T, c Config) *Server {
	t.Helper()
	c.Device = "head"
	s, err := New(c)
	if err != nil {
		t.Fatal(err)
	}
	run(t, s)
	return s
}

// A real client over real sockets: node, iPXE, unknown machine, renewal.
func TestRealClient(t *testing.T) {
	segment(t)
	c := testConfig(fixture())
	c.Lease = func(context.Context, string, inventory.MAC, netip.Addr) (netip.Addr, time.Duration, error) {
		return ip("10.30.128.9"), 10 * time.Minute, nil
	}
	startReal(t, c)
	for _, test := range []struct {
		mac  string
		mods []with
		want string
	}{
		{macKnown, []with{pxe(iana.EFI_X86_64)}, "10.30.0.1 snponly.efi"},
		{macKnown, []with{ipxe, dhcpv4.WithBroadcast(true)}, "10.30.0.1 http://10.30.0.252:7050/luna?step=boot&mac=" + macKnown},
		{macUnknown, nil, "10.30.128.9 "},
	} {
		hw, err := net.ParseMAC(test.mac)
		if err != nil {
			t.Fatal(err)
		}
		client, err := nclient4.New("machine", nclient4.WithHWAddr(hw), nclient4.WithTimeout(5*time.Second))
		if err != nil {
			t.Fatal(err)
		}
		lease, err := client.Request(t.Context(), test.mods...)
		if err != nil {
			t.Fatalf("%s: %v", test.mac, err)
		}
		if got := lease.ACK.YourIPAddr.String() + " " + lease.ACK.BootFileName; got != test.want {
			t.Errorf("%s: got %s, want %s", test.mac, got, test.want)
		}
		if err := client.Close(); err != nil {
			t.Error(err)
		}
	}
}

// The machine's kernel must take what comes: checksums and addresses are right
// if an ordinary socket gets the packet.
func TestRealFrameReachesAnOrdinarySocket(t *testing.T) {
	segment(t)
	s := startReal(t, testConfig(fixture()))
	address(t, "machine", "10.99.0.1/24")
	conn, err := net.ListenPacket("udp4", ":6868")
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	p := udpPacket(netip.MustParseAddrPort("10.99.0.2:67"), netip.MustParseAddrPort("10.99.0.1:6868"), []byte("odd"))
	if err := s.link.frame(unix.ETH_P_IP, p, named(t, "machine").Attrs().HardwareAddr); err != nil {
		t.Fatal(err)
	}
	if err := conn.SetReadDeadline(time.Now().Add(5 * time.Second)); err != nil {
		t.Fatal(err)
	}
	buf := make([]byte, 100)
	n, from, err := conn.ReadFrom(buf)
	if err != nil || string(buf[:n]) != "odd" || from.String() != "10.99.0.2:67" {
		t.Errorf("got %q from %v, %v", buf[:n], from, err)
	}
}

func TestPortTakenAndNoDevice(t *testing.T) {
	segment(t)
	c := testConfig(fixture())
	c.Device = "head"
	s, err := New(c)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := New(c); err == nil || !strings.Contains(err.Error(), "another DHCP server runs there") {
		t.Errorf("a second server: got error %v", err)
	}
	if err := s.Close(); err != nil {
		t.Error(err)
	}
	c.Device = "lo"
	if _, err := New(c); err == nil || !strings.Contains(err.Error(), "no Ethernet device") {
		t.Errorf("on the loopback: got error %v", err)
	}
	c.Device = "nowhere"
	if _, err := New(c); err == nil {
		t.Error("on a device that is not there")
	}
}

// A machine room that is switched on: a thousand machines within some ten
// milliseconds, each asking once. All must be answered.
func TestBurst(t *testing.T) {
	for _, kind := range []string{"known", "unknown"} {
		t.Run(kind, func(t *testing.T) { burst(t, kind == "known") })
	}
}

func burst(t *testing.T, known bool) {
	t.Helper()
	segment(t)
	const machines = 1000
	tx := fixtureTx()
	mac := func(i int) string { return fmt.Sprintf("06:00:00:00:%02x:%02x", i>>8, i&0xff) }
	for i := range machines {
		if known {
			tx.Put(&inventory.Node{
				ID: inventory.ID(1000 + i), Name: fmt.Sprintf("n%04d", i), Group: 40, MAC: inventory.MAC(mac(i)),
				Interfaces: map[inventory.ID]inventory.Addresses{1: {V4: netip.AddrFrom4([4]byte{10, 30, byte(1 + i>>8), byte(i)})}},
			})
		}
	}
	c := testConfig(tx.Commit(1))
	var leased atomic.Uint32
	c.Lease = func(context.Context, string, inventory.MAC, netip.Addr) (netip.Addr, time.Duration, error) {
		time.Sleep(5 * time.Millisecond) // a commit
		n := leased.Add(1)
		return netip.AddrFrom4([4]byte{10, 30, byte(128 + n>>8), byte(n)}), 10 * time.Minute, nil
	}
	startReal(t, c)

	iface, err := net.InterfaceByName("machine")
	if err != nil {
		t.Fatal(err)
	}
	raw, err := packet.Listen(iface, packet.Datagram, unix.ETH_P_IP, nil)
	if err != nil {
		t.Fatal(err)
	}
	control, err := raw.SyscallConn()
	if err != nil {
		t.Fatal(err)
	}
	if err := control.Control(func(fd uintptr) { err = unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_RCVBUFFORCE, 32<<20) }); err != nil {
		t.Fatal(err)
	}
	if err != nil {
		t.Fatal(err)
	}
	conn := nclient4.NewBroadcastUDPConn(raw, &net.UDPAddr{Port: clientPort})
	defer conn.Close()

	packets := make([][]byte, machines)
	for i := range packets {
		packets[i] = testPacket(mac(i), ask(dhcpv4.MessageTypeDiscover), pxe(iana.INTEL_X86PC)).ToBytes()
	}
	begin := time.Now()
	for _, p := range packets {
		if _, err := conn.WriteTo(p, &net.UDPAddr{IP: net.IPv4bcast, Port: serverPort}); err != nil {
			t.Fatal(err)
		}
	}
	sent := time.Since(begin)
	if err := conn.SetReadDeadline(time.Now().Add(3 * time.Second)); err != nil {
		t.Fatal(err)
	}
	answered, given := map[string]bool{}, map[string]string{}
	buf := make([]byte, 2000)
	for len(answered) < machines {
		n, _, err := conn.ReadFrom(buf)
		if err != nil {
			break
		}
		if p, err := dhcpv4.FromBytes(buf[:n]); err == nil && p.MessageType() == dhcpv4.MessageTypeOffer {
			hw, a := p.ClientHWAddr.String(), p.YourIPAddr.String()
			if other, twice := given[a]; twice && other != hw {
				t.Errorf("%s was offered to %s and to %s", a, other, hw)
			}
			answered[hw], given[a] = true, hw
		}
	}
	t.Logf("%d of %d answered at the first try; sent within %s, the last answer after %s", len(answered), machines, sent, time.Since(begin))
	if len(answered) < machines*99/100 {
		t.Errorf("%d of %d machines were answered at the first try", len(answered), machines)
	}
}
