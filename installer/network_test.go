package installer

import (
	"context"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/insomniacslk/dhcp/dhcpv4"
	"github.com/insomniacslk/dhcp/dhcpv4/server4"
	"github.com/vishvananda/netlink"

	"github.com/clustervision/luna/boot"
)

var bootMAC = net.HardwareAddr{0x52, 0x54, 0, 0, 0, 0x0a}

const headPort = "10.141.255.254:7050"

// cable makes two interfaces that are connected: that of a head, with its
// address, and that of a node, with the MAC that booted, down as the kernel
// leaves it. Both are in the namespace of the test.
func cable(t *testing.T) (node netlink.Link) {
	t.Helper()
	veth := &netlink.Veth{
		LinkAttrs: netlink.LinkAttrs{Name: "head0", HardwareAddr: net.HardwareAddr{0x52, 0x54, 0, 0, 0, 0xff}},
		PeerName:  "boot0", PeerHardwareAddr: bootMAC,
	}
	if err := netlink.LinkAdd(veth); err != nil {
		t.Fatalf("make a cable: %v", err)
	}
	head, err := netlink.LinkByName("head0")
	if err != nil {
		t.Fatal(err)
	}
	addr, err := netlink.ParseAddr("10.141.255.254/16")
	if err != nil {
		t.Fatal(err)
	}
	if err := netlink.AddrAdd(head, addr); err != nil {
		t.Fatal(err)
	}
	if err := netlink.LinkSetUp(head); err != nil {
		t.Fatal(err)
	}
	if node, err = netlink.LinkByName("boot0"); err != nil {
		t.Fatal(err)
	}
	return node
}

// serveDHCP answers on the head's end of the cable, but not the first packets: a
// switch that is still thinking holds those back.
func serveDHCP(t *testing.T, deaf int32) (heard *atomic.Int32) {
	t.Helper()
	heard = new(atomic.Int32)
	s, err := server4.NewServer("head0", &net.UDPAddr{Port: 67}, func(conn net.PacketConn, peer net.Addr, m *dhcpv4.DHCPv4) {
		if heard.Add(1) <= deaf {
			return
		}
		reply, err := dhcpv4.NewReplyFromRequest(m,
			dhcpv4.WithYourIP(net.IPv4(10, 141, 0, 10)),
			dhcpv4.WithServerIP(net.IPv4(10, 141, 255, 254)),
			dhcpv4.WithOption(dhcpv4.OptServerIdentifier(net.IPv4(10, 141, 255, 254))),
			dhcpv4.WithNetmask(net.CIDRMask(16, 32)),
			dhcpv4.WithLeaseTime(4))
		if err != nil {
			t.Error(err)
			return
		}
		if m.MessageType() == dhcpv4.MessageTypeRequest {
			reply.UpdateOption(dhcpv4.OptMessageType(dhcpv4.MessageTypeAck))
		} else {
			reply.UpdateOption(dhcpv4.OptMessageType(dhcpv4.MessageTypeOffer))
		}
		if _, err := conn.WriteTo(reply.ToBytes(), peer); err != nil {
			t.Error(err)
		}
	})
	if err != nil {
		t.Fatalf("serve DHCP: %v", err)
	}
	done := make(chan struct{})
	go func() { _ = s.Serve(); close(done) }()
	t.Cleanup(func() { s.Close(); <-done })
	return heard
}

// addresses are those of the interface, but for the kernel's own.
func addresses(t *testing.T, name string) []string {
	t.Helper()
	link, err := netlink.LinkByName(name)
	if err != nil {
		t.Fatal(err)
	}
	list, err := netlink.AddrList(link, netlink.FAMILY_ALL)
	if err != nil {
		t.Fatal(err)
	}
	var found []string
	for _, a := range list {
		if !a.IP.IsLinkLocalUnicast() {
			found = append(found, a.IPNet.String())
		}
	}
	return found
}

func TestNetworkStatic(t *testing.T) {
	if !inNamespaces(t) {
		return
	}
	n := newNetwork(Boot{MAC: bootMAC, Address: netip.MustParsePrefix("10.141.0.1/16")}, slog.Default())
	n.poll = 10 * time.Millisecond
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	// The driver comes late.
	late := make(chan struct{})
	go func() {
		defer close(late)
		_ = sleep(ctx, 100*time.Millisecond)
		cable(t)
	}()
	got, err := n.up(ctx)
	<-late
	if err != nil || got != (nic{name: "boot0"}) {
		t.Fatalf("got %+v, %v", got, err)
	}
	if got := strings.Join(addresses(t, "boot0"), " "); got != "10.141.0.1/16" {
		t.Errorf("boot0 has %q", got)
	}
	if _, err := n.up(ctx); err != nil {
		t.Errorf("again: %v", err)
	}
	if err := n.down(); err != nil {
		t.Error(err)
	}
	if got := addresses(t, "boot0"); len(got) > 0 {
		t.Errorf("boot0 still has %q", got)
	}
	if l, _ := netlink.LinkByName("boot0"); !hasCarrier(l) {
		t.Error("boot0 is down: the operating system has to wait for the switch")
	}
	if got := addresses(t, "head0"); len(got) != 1 {
		t.Errorf("head0, which is not ours, has %q", got)
	}
}

func TestNetworkDHCP(t *testing.T) {
	if !inNamespaces(t) {
		return
	}
	cable(t)
	heard := serveDHCP(t, 1)
	for _, tt := range []struct {
		name string
		mac  net.HardwareAddr
	}{
		{"by MAC", bootMAC},
		{"nobody knows the MAC", nil},
		{"a MAC that no interface has", net.HardwareAddr{2, 0, 0, 0, 0, 1}},
	} {
		n := newNetwork(Boot{MAC: tt.mac}, slog.Default())
		n.poll, n.appear = 10*time.Millisecond, 50*time.Millisecond
		ctx, cancel := context.WithTimeout(t.Context(), 60*time.Second)
		defer cancel()
		got, err := n.up(ctx)
		if err != nil || got != (nic{name: "boot0"}) {
			t.Errorf("%s: got %+v, %v", tt.name, got, err)
		}
		if got := strings.Join(addresses(t, "boot0"), " "); got != "10.141.0.10/16" {
			t.Errorf("%s: boot0 has %q", tt.name, got)
		}
		if tt.mac != nil {
			for before := heard.Load(); heard.Load() == before; {
				if err := sleep(ctx, n.poll); err != nil {
					t.Fatalf("%s: the lease of 4 s is not renewed: %v", tt.name, err)
				}
			}
		}
		if err := n.down(); err != nil {
			t.Errorf("%s: %v", tt.name, err)
		}
	}
}

func TestNetworkFails(t *testing.T) {
	if !inNamespaces(t) {
		return
	}
	n := newNetwork(Boot{MAC: bootMAC}, slog.Default())
	n.poll, n.appear, n.carrier, n.dhcp = 10*time.Millisecond, 50*time.Millisecond, 50*time.Millisecond, 100*time.Millisecond
	fails := func(want string) {
		t.Helper()
		if got, err := n.up(t.Context()); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("got %+v, %v, want an error with %q", got, err, want)
		}
	}
	fails("no network interface has a link after 50ms")
	cable(t)
	fails("boot0: no address by dhcp within 100ms")
	head, err := netlink.LinkByName("head0")
	if err != nil {
		t.Fatal(err)
	}
	if err := netlink.LinkSetDown(head); err != nil {
		t.Fatal(err)
	}
	fails("boot0 has no link after 50ms: look at its cable")
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := n.up(ctx); err == nil {
		t.Error("no error after an interruption")
	}
}

func TestWithMAC(t *testing.T) {
	link := func(name string, hw string) netlink.Link {
		mac, err := net.ParseMAC(hw)
		if err != nil {
			t.Fatal(err)
		}
		return &netlink.Dummy{LinkAttrs: netlink.LinkAttrs{Name: name, HardwareAddr: mac}}
	}
	links := []netlink.Link{
		link("eth0", "52:54:00:00:00:01"),
		link("ib0", "80:00:02:08:fe:80:00:00:00:00:00:00:00:02:c9:03:00:10:39:95"),
		link("ib1", "80:00:02:09:fe:80:00:00:00:00:00:01:00:02:c9:03:00:10:39:96"),
	}
	for mac, want := range map[string]string{
		"52:54:00:00:00:01": "eth0",
		"00:02:c9:10:39:95": "ib0", // the port's GUID without the two in its middle
		"00:02:c9:10:39:96": "ib1",
		"52:54:00:00:00:02": "",
		"95:39:10:c9:02:00": "", // in another order
	} {
		hw, _ := net.ParseMAC(mac)
		got := ""
		if l := withMAC(links, hw); l != nil {
			got = l.Attrs().Name
		}
		if got != want {
			t.Errorf("%s is found at %q, want %q", mac, got, want)
		}
	}
}

// TestWholeNode makes a node as in the initrd: no simulation but the hardware. Its
// interface gets the address, the partscript mounts a tmpfs, the kernel gets the
// name, and all that is left when the installer ends is the tree.
func TestWholeNode(t *testing.T) {
	if !inNamespaces(t) {
		return
	}
	cable(t)
	s := newSite(t, 0)
	h := s.start(t)
	l, err := net.Listen("tcp", headPort)
	if err != nil {
		t.Fatal(err)
	}
	go h.Config.Serve(l) // it ends with the process
	s.plan.Heads = []string{headPort}
	s.plan.Interfaces = []boot.PlanInterface{{Name: "BOOTIF", MAC: bootMAC.String(), Addresses: []netip.Prefix{netip.MustParsePrefix("10.141.0.1/16")}}}
	const root = "/mnt/sysroot"
	// Fails at the first time, after it mounted: the second attempt must not find it.
	s.plan.PartScript = `if mountpoint -q $NEWROOT; then echo "still mounted"; exit 1; fi
mount -t tmpfs -o size=1m tmpfs $NEWROOT && mkdir $NEWROOT/boot && mount -t tmpfs tmpfs $NEWROOT/boot
if [ ! -e /run/again ]; then touch /run/again; exit 7; fi`
	s.plan.PreScript = `test "$(hostname)" = node001 || test -e /run/again`
	s.plan.PostScript = `echo "$LUNA_BOOTIF $(hostname)" >$NEWROOT/etc/fstab`
	cfg := s.config(t)
	cfg.Root, cfg.Simulated = root, false
	cfg.Boot = Boot{Node: "node001", Hostname: "node001", MAC: bootMAC, Address: netip.MustParsePrefix("10.141.0.1/16"), Heads: []string{headPort}, Token: testToken}
	if err := install(t, cfg); err != nil {
		t.Fatal(err)
	}
	checkTree(t, root)
	for path, want := range map[string]string{
		"/etc/fstab": "boot0 node001.cluster\n",
		"/etc/systemd/network/10-luna-BOOTIF.network": "# Written by luna-install for node node001. The next installation writes it anew.\n" +
			"[Match]\nMACAddress=52:54:00:00:00:0a\n\n[Network]\nAddress=10.141.0.1/16\n",
	} {
		if got, err := os.ReadFile(root + path); err != nil || string(got) != want {
			t.Errorf("%s is %q (%v), want %q", path, got, err, want)
		}
	}
	if name, _ := os.Hostname(); name != "node001.cluster" {
		t.Errorf("the kernel's hostname is %q", name)
	}
	if got := addresses(t, "boot0"); len(got) > 0 {
		t.Errorf("the operating system finds the addresses %v", got)
	}
	if got := s.stages(); len(got) < 3 || got[2] != "partscript!" || got[len(got)-1] != "success" {
		t.Errorf("stages: %v", got)
	}
	if left, _ := os.ReadDir("/run/luna"); len(left) > 0 {
		t.Errorf("left in /run/luna: %v", left)
	}
}
