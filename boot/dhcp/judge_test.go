package dhcp

import (
	"bytes"
	"fmt"
	"net"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/insomniacslk/dhcp/dhcpv4"
	"github.com/insomniacslk/dhcp/iana"

	"github.com/clustervision/luna/boot"
	"github.com/clustervision/luna/inventory"
)

// The fixture: three heads; node001 on two networks with DHCP, a third network
// without.
const (
	netCluster = inventory.ID(10)
	netEdge    = inventory.ID(11) // behind a relay; no head has an address there

	macKnown   = "52:54:00:00:00:01"
	macLeased  = "52:54:00:00:00:98" // has a committed lease
	macUnknown = "52:54:00:00:00:99"
)

var (
	ip  = netip.MustParseAddr
	now = time.Date(2026, 9, 1, 12, 0, 0, 0, time.UTC)
)

func fixture() *inventory.Inventory { return fixtureTx().Commit(1) }

func fixtureTx() *inventory.Tx {
	prefix := netip.MustParsePrefix
	tx := inventory.Empty().Begin()
	for i, name := range []string{"h1", "h2", "h3"} {
		a := netip.AddrFrom4([4]byte{10, 30, 0, byte(251 + i)})
		tx.Put(&inventory.Head{ID: inventory.ID(31 + i), Name: name, Address: a, Addresses: []netip.Prefix{netip.PrefixFrom(a, 16)}, HTTPPort: 7050})
	}
	for _, o := range []any{
		&inventory.Cluster{FrontendAddress: ip("10.30.255.254")},
		&inventory.Network{ID: netCluster, Name: "cluster", Prefix: prefix("10.30.0.0/16"), Range: inventory.AddrRange{Start: ip("10.30.128.1"), End: ip("10.30.255.200")}},
		&inventory.Network{ID: netEdge, Name: "edge", Prefix: prefix("10.40.0.0/24"), Range: inventory.AddrRange{Start: ip("10.40.0.100"), End: ip("10.40.0.110")}},
		&inventory.Network{ID: 12, Name: "quiet", Prefix: prefix("10.50.0.0/24")},
		&inventory.Group{ID: 40, Name: "compute", Interfaces: []inventory.Interface{
			{ID: 1, Name: inventory.BootIF, Network4: netCluster}, {ID: 2, Name: "eth1", Network4: netEdge},
		}},
		&inventory.Node{ID: 51, Name: "node001", Group: 40, MAC: macKnown, Interfaces: map[inventory.ID]inventory.Addresses{
			1: {V4: ip("10.30.0.1")}, 2: {V4: ip("10.40.0.1")},
		}},
		&inventory.Owner{Addr: ip("10.30.0.1"), Type: "node", ID: 51, Network: netCluster},
		&inventory.Lease{Network: netCluster, MAC: macLeased, Addr: ip("10.30.128.7"), Expires: now.Add(10*time.Minute + inventory.MaxAdvance)},
	} {
		tx.Put(o)
	}
	return tx
}

var loaders = boot.Loaders{"undionly.kpxe": "u", "snponly.efi": "s"}

func everyone(inventory.ID) Duty { return Everyone }

// TestJudgeANetworkMadeAnew: machines on the device are in the network of this head's
// address there, even where that was deleted and made anew in one change.
func TestJudgeANetworkMadeAnew(t *testing.T) {
	tx := fixtureTx()
	old, _ := tx.Network("cluster")
	anew := *old
	anew.ID, anew.Name = 77, "other"
	tx.Delete(old)
	tx.Put(&anew)
	r, err := classify(testPacket(macUnknown, ask(dhcpv4.MessageTypeDiscover)), false)
	if err != nil {
		t.Fatal(err)
	}
	if got := outcome(newScene(tx.Commit(1), Everyone).judge(r, grant{})); got != "lease in other" {
		t.Errorf("got %q, want a lease in other", got)
	}
}

func newScene(inv *inventory.Inventory, duty Duty) scene {
	self, _ := inv.Head("h2")
	return scene{
		inv: inv, self: self, home: self.Address, loaders: loaders, poolTTL: 10 * time.Minute, now: now,
		duty: func(inventory.ID) Duty { return duty },
		dns:  func(inventory.ID) []netip.Addr { return []netip.Addr{ip("10.30.0.251"), ip("10.30.0.252")} },
	}
}

// Modifiers of a packet, in the words of the tests.
type with = dhcpv4.Modifier

func ask(kind dhcpv4.MessageType) with { return dhcpv4.WithMessageType(kind) }
func wants(a string) with {
	return dhcpv4.WithOption(dhcpv4.OptRequestedIPAddress(net.ParseIP(a)))
}
func server(a string) with { return dhcpv4.WithOption(dhcpv4.OptServerIdentifier(net.ParseIP(a))) }
func has(a string) with    { return dhcpv4.WithClientIP(net.ParseIP(a)) }
func relay(a string) with  { return dhcpv4.WithGatewayIP(net.ParseIP(a)) }
func pxe(arch iana.Arch) with {
	return func(p *dhcpv4.DHCPv4) {
		p.UpdateOption(dhcpv4.OptClassIdentifier(fmt.Sprintf("PXEClient:Arch:%05d:UNDI:003000", arch)))
		p.UpdateOption(dhcpv4.OptClientArch(arch))
		p.UpdateOption(dhcpv4.OptGeneric(dhcpv4.OptionClientMachineIdentifier, bytes.Repeat([]byte{7}, 17)))
	}
}

func httpBoot(p *dhcpv4.DHCPv4) {
	p.UpdateOption(dhcpv4.OptClassIdentifier("HTTPClient:Arch:00016:UNDI:003001"))
	p.UpdateOption(dhcpv4.OptClientArch(iana.EFI_X86_64_HTTP))
	p.UpdateOption(dhcpv4.OptParameterRequestList(dhcpv4.OptionBootfileName))
}

func ipxe(p *dhcpv4.DHCPv4) {
	pxe(iana.INTEL_X86PC)(p)
	p.UpdateOption(dhcpv4.OptGeneric(dhcpv4.OptionUserClassInformation, []byte("iPXE")))
}

func option(code uint8, b ...byte) with {
	return dhcpv4.WithOption(dhcpv4.OptGeneric(dhcpv4.GenericOptionCode(code), b))
}

func testPacket(mac string, mods ...with) *dhcpv4.DHCPv4 {
	hw, err := net.ParseMAC(mac)
	if err != nil {
		panic(err)
	}
	p, err := dhcpv4.New(append([]with{dhcpv4.WithHwAddr(hw), dhcpv4.WithTransactionID(dhcpv4.TransactionID{1, 2, 3, 4})}, mods...)...)
	if err != nil {
		panic(err)
	}
	// As it comes from the wire, and not as a test makes it.
	p, err = dhcpv4.FromBytes(p.ToBytes())
	if err != nil {
		panic(err)
	}
	return p
}

// outcome writes a verdict as one line: what is sent, with which address, where.
func outcome(v verdict) string {
	switch {
	case v.lease != nil:
		return "lease in " + v.lease.Name
	case v.reply == nil && v.note != "":
		return "silent: " + v.note
	case v.reply == nil:
		return "silent"
	}
	how := "udp"
	if v.to.frame {
		how = "frame"
	}
	return fmt.Sprintf("%s %s %s %s", v.reply.MessageType(), v.reply.YourIPAddr, how, v.to.addr)
}

func TestJudge(t *testing.T) {
	const (
		discover = dhcpv4.MessageTypeDiscover
		request  = dhcpv4.MessageTypeRequest
	)
	for name, test := range map[string]struct {
		mac     string
		duty    Duty
		mods    []with
		unicast bool
		want    string
	}{
		"known node discovers":                 {macKnown, Everyone, []with{ask(discover)}, false, "OFFER 10.30.0.1 frame 10.30.0.1:68"},
		"and cannot hear unicast yet":          {macKnown, Everyone, []with{ask(discover), dhcpv4.WithBroadcast(true)}, false, "OFFER 10.30.0.1 frame 255.255.255.255:68"},
		"this head is not the holder":          {macKnown, Silent, []with{ask(discover)}, false, "silent"},
		"this head is cut off, known node":     {macKnown, KnownNodes, []with{ask(discover)}, false, "OFFER 10.30.0.1 frame 10.30.0.1:68"},
		"this head is cut off, unknown":        {macUnknown, KnownNodes, []with{ask(discover)}, false, "silent"},
		"this head is cut off, leased":         {macLeased, KnownNodes, []with{ask(discover)}, false, "silent"},
		"this head is cut off, refuses nobody": {macKnown, KnownNodes, []with{ask(request), wants("10.30.0.9")}, false, "silent"},

		"takes our offer":                     {macKnown, Everyone, []with{ask(request), server("10.30.0.252"), wants("10.30.0.1")}, false, "ACK 10.30.0.1 frame 10.30.0.1:68"},
		"takes the former holder's offer":     {macKnown, Everyone, []with{ask(request), server("10.30.0.253"), wants("10.30.0.1")}, false, "ACK 10.30.0.1 frame 10.30.0.1:68"},
		"takes a stranger's offer":            {macKnown, Everyone, []with{ask(request), server("10.30.0.7"), wants("10.30.0.1")}, false, "silent"},
		"takes an offer that we did not make": {macKnown, Everyone, []with{ask(request), server("10.30.0.252"), wants("10.30.0.9")}, false, "NAK 0.0.0.0 frame 255.255.255.255:68"},
		"reboots with its address":            {macKnown, Everyone, []with{ask(request), wants("10.30.0.1")}, false, "ACK 10.30.0.1 frame 10.30.0.1:68"},
		"reboots with an old address":         {macKnown, Everyone, []with{ask(request), wants("10.30.128.3")}, false, "NAK 0.0.0.0 frame 255.255.255.255:68"},
		"reboots from another network":        {macKnown, Everyone, []with{ask(request), wants("192.0.2.1")}, false, "NAK 0.0.0.0 frame 255.255.255.255:68"},
		"renews":                              {macKnown, Everyone, []with{ask(request), has("10.30.0.1")}, true, "ACK 10.30.0.1 udp 10.30.0.1:68"},
		"rebinds":                             {macKnown, Everyone, []with{ask(request), has("10.30.0.1")}, false, "ACK 10.30.0.1 udp 10.30.0.1:68"},
		"renews what was its pool address":    {macKnown, Everyone, []with{ask(request), has("10.30.128.3")}, true, "NAK 0.0.0.0 frame 255.255.255.255:68"},
		"renews through a router":             {macKnown, Everyone, []with{ask(request), has("10.40.0.1")}, true, "ACK 10.40.0.1 udp 10.40.0.1:68"},
		"is refused through a router":         {macKnown, Everyone, []with{ask(request), has("10.40.0.9")}, true, "NAK 0.0.0.0 udp 10.40.0.9:68"},

		"unknown machine discovers":          {macUnknown, Everyone, []with{ask(discover)}, false, "lease in cluster"},
		"takes our offer, and it is gone":    {macUnknown, Everyone, []with{ask(request), server("10.30.0.252"), wants("10.30.128.9")}, false, "lease in cluster"},
		"reboots with a pool address":        {macUnknown, Everyone, []with{ask(request), wants("10.30.128.9")}, false, "lease in cluster"},
		"reboots with a node's address":      {macUnknown, Everyone, []with{ask(request), wants("10.30.0.1")}, false, "NAK 0.0.0.0 frame 255.255.255.255:68"},
		"reboots with nobody's address":      {macUnknown, Everyone, []with{ask(request), wants("10.30.0.77")}, false, "silent"},
		"reboots with a foreign address":     {macUnknown, Everyone, []with{ask(request), wants("192.0.2.1")}, false, "NAK 0.0.0.0 frame 255.255.255.255:68"},
		"leased machine discovers":           {macLeased, Everyone, []with{ask(discover)}, false, "OFFER 10.30.128.7 frame 10.30.128.7:68"},
		"leased machine takes the offer":     {macLeased, Everyone, []with{ask(request), server("10.30.0.252"), wants("10.30.128.7")}, false, "ACK 10.30.128.7 frame 10.30.128.7:68"},
		"leased machine wants another":       {macLeased, Everyone, []with{ask(request), wants("10.30.128.8")}, false, "NAK 0.0.0.0 frame 255.255.255.255:68"},
		"unknown on the other network":       {macLeased, Everyone, []with{ask(discover), relay("10.40.0.254")}, false, "lease in edge"},
		"known through a relay":              {macKnown, Everyone, []with{ask(discover), relay("10.40.0.254")}, false, "OFFER 10.40.0.1 udp 10.40.0.254:67"},
		"refused through a relay":            {macKnown, Everyone, []with{ask(request), wants("10.40.0.9"), relay("10.40.0.254")}, false, "NAK 0.0.0.0 udp 10.40.0.254:67"},
		"a relay with another link":          {macKnown, Everyone, []with{ask(discover), relay("192.0.2.9"), option(82, 5, 4, 10, 40, 0, 0)}, false, "OFFER 10.40.0.1 udp 192.0.2.9:67"},
		"a relay of an unknown network":      {macKnown, Everyone, []with{ask(discover), relay("192.0.2.9")}, false, "silent"},
		"a relay of a network without range": {macKnown, Everyone, []with{ask(discover), relay("10.50.0.254")}, false, "silent"},

		"informs":              {macKnown, Everyone, []with{ask(dhcpv4.MessageTypeInform), has("10.30.0.1")}, false, "ACK 0.0.0.0 udp 10.30.0.1:68"},
		"informs from nowhere": {macKnown, Everyone, []with{ask(dhcpv4.MessageTypeInform)}, false, "silent"},
		"releases":             {macKnown, Everyone, []with{ask(dhcpv4.MessageTypeRelease), has("10.30.0.1")}, true, "silent"},
		"declines":             {macKnown, Everyone, []with{ask(dhcpv4.MessageTypeDecline), wants("10.30.0.1")}, false, "silent: a machine found its address in use by another: look for a machine with a fixed address that is not in the inventory"},
		"declines a lease":     {macLeased, Everyone, []with{ask(dhcpv4.MessageTypeDecline), server("10.30.0.251"), wants("10.30.128.7")}, false, "lease in cluster"},
		"declines another's":   {macLeased, Everyone, []with{ask(dhcpv4.MessageTypeDecline), server("10.30.0.251"), wants("10.30.128.8")}, false, "silent: a machine found its address in use by another: look for a machine with a fixed address that is not in the inventory"},
		"declines to others":   {macLeased, Everyone, []with{ask(dhcpv4.MessageTypeDecline), server("10.30.0.9"), wants("10.30.128.7")}, false, "silent: a machine found its address in use by another: look for a machine with a fixed address that is not in the inventory"},
		"declines, cut off":    {macLeased, KnownNodes, []with{ask(dhcpv4.MessageTypeDecline), wants("10.30.128.7")}, false, "silent"},
		"BOOTP":                {macKnown, Everyone, nil, false, "silent"},
	} {
		t.Run(name, func(t *testing.T) {
			r, err := classify(testPacket(test.mac, test.mods...), test.unicast)
			if err != nil {
				t.Fatal(err)
			}
			v := newScene(fixture(), test.duty).judge(r, grant{})
			if got := outcome(v); got != test.want {
				t.Errorf("got  %s\nwant %s", got, test.want)
			}
			if v.reply == nil {
				return
			}
			if named := r.packet.ServerIdentifier(); named != nil && !v.reply.ServerIdentifier().Equal(named) {
				t.Errorf("the answer names server %s, the request %s", v.reply.ServerIdentifier(), named)
			}
			if v.from != ip("10.30.0.252") {
				t.Errorf("the answer comes from %s", v.from)
			}
		})
	}
}

// A lease that was committed for the request is what is answered with, unless
// the machine has become a node meanwhile.
func TestJudgeWithGrant(t *testing.T) {
	granted := grant{ip("10.30.128.9"), 10 * time.Minute}
	for name, test := range map[string]struct {
		mac  string
		mods []with
		want string
	}{
		"discover":         {macUnknown, []with{ask(dhcpv4.MessageTypeDiscover)}, "OFFER 10.30.128.9 frame 10.30.128.9:68"},
		"request":          {macUnknown, []with{ask(dhcpv4.MessageTypeRequest), server("10.30.0.252"), wants("10.30.128.9")}, "ACK 10.30.128.9 frame 10.30.128.9:68"},
		"request, another": {macUnknown, []with{ask(dhcpv4.MessageTypeRequest), wants("10.30.128.10")}, "NAK 0.0.0.0 frame 255.255.255.255:68"},
		"a node by now":    {macKnown, []with{ask(dhcpv4.MessageTypeDiscover)}, "OFFER 10.30.0.1 frame 10.30.0.1:68"},
	} {
		r, err := classify(testPacket(test.mac, test.mods...), false)
		if err != nil {
			t.Fatal(err)
		}
		if got := outcome(newScene(fixture(), Everyone).judge(r, granted)); got != test.want {
			t.Errorf("%s: got %s, want %s", name, got, test.want)
		}
	}
}

// A lease is renewed at half its time, so what is left then must not do.
func TestJudgeRenewsLeases(t *testing.T) {
	for left, want := range map[time.Duration]string{
		10 * time.Minute: "ACK 10.30.128.7 udp 10.30.128.7:68",
		8 * time.Minute:  "ACK 10.30.128.7 udp 10.30.128.7:68",
		5 * time.Minute:  "lease in cluster",
		-time.Minute:     "lease in cluster",
	} {
		s := newScene(fixture(), Everyone)
		s.now = now.Add(10*time.Minute - left) // the lease has MaxAdvance on top of that
		r, err := classify(testPacket(macLeased, ask(dhcpv4.MessageTypeRequest), has("10.30.128.7")), true)
		if err != nil {
			t.Fatal(err)
		}
		v := s.judge(r, grant{})
		if got := outcome(v); got != want {
			t.Errorf("%s left: got %s, want %s", left, got, want)
		}
		if v.reply != nil && v.reply.IPAddressLeaseTime(0) != left {
			t.Errorf("%s left: the answer says %s", left, v.reply.IPAddressLeaseTime(0))
		}
	}
}

// Each kind of firmware gets what it boots from, and its words back.
func TestReplies(t *testing.T) {
	var text strings.Builder
	for _, c := range []struct {
		name string
		mac  string
		mods []with
	}{
		{"BIOS PXE", macKnown, []with{pxe(iana.INTEL_X86PC), dhcpv4.WithBroadcast(true)}},
		{"UEFI PXE", macKnown, []with{pxe(iana.EFI_X86_64), dhcpv4.WithRequestedOptions(dhcpv4.OptionBootfileName, dhcpv4.OptionTFTPServerName)}},
		{"UEFI HTTP boot", macKnown, []with{httpBoot}},
		{"arm64 without a loader", macKnown, []with{pxe(iana.EFI_ARM64)}},
		{"OpenPOWER", macKnown, []with{pxe(iana.PPC_OPAL)}},
		{"iPXE", macKnown, []with{ipxe}},
		{"iPXE of an unknown machine", macLeased, []with{ipxe}},
		{"the operating system", macKnown, []with{option(61, 0xff, 1, 2, 3)}},
		{"through a relay", macKnown, []with{pxe(iana.INTEL_X86PC), relay("10.40.0.254"), option(82, 1, 3, 'p', '0', '1')}},
	} {
		r, err := classify(testPacket(c.mac, append(c.mods, ask(dhcpv4.MessageTypeDiscover))...), false)
		if err != nil {
			t.Fatal(err)
		}
		v := newScene(fixture(), Everyone).judge(r, grant{})
		fmt.Fprintf(&text, "=== %s: to %+v\n%s", c.name, v.to.addr, v.reply.Summary())
	}
	golden(t, "replies.txt", []byte(text.String()))
}

func TestClassify(t *testing.T) {
	for name, test := range map[string]struct {
		mods []with
		want string
	}{
		"an OS":                   {nil, "0 0"},
		"BIOS PXE":                {[]with{pxe(iana.INTEL_X86PC)}, "1 0"},
		"arch in the class alone": {[]with{dhcpv4.WithOption(dhcpv4.OptClassIdentifier("PXEClient:Arch:00007:UNDI:003000"))}, "1 7"},
		"old ROM":                 {[]with{dhcpv4.WithOption(dhcpv4.OptClassIdentifier("PXEClient"))}, "1 0"},
		"petitboot":               {[]with{dhcpv4.WithOption(dhcpv4.OptClientArch(iana.PPC_OPAL))}, "1 14"},
		"HTTP boot":               {[]with{httpBoot}, "2 16"},
		"iPXE":                    {[]with{ipxe}, "3 0"},
		"iPXE as RFC 3004 wants":  {[]with{pxe(iana.EFI_X86_64), option(77, 4, 'i', 'P', 'X', 'E')}, "3 7"},
		"short option 93":         {[]with{option(93, 7)}, "0 0"},
	} {
		r, err := classify(testPacket(macKnown, test.mods...), false)
		if got := fmt.Sprint(int(r.machine.Firmware), r.machine.Arch); err != nil || got != test.want {
			t.Errorf("%s: got %s, %v, want %s", name, got, err, test.want)
		}
	}
	for name, mod := range map[string]with{
		"a reply":        dhcpv4.WithReply(testPacket(macKnown)),
		"InfiniBand":     func(p *dhcpv4.DHCPv4) { p.HWType, p.ClientHWAddr = iana.HWTypeInfiniband, nil },
		"no address":     dhcpv4.WithHwAddr(make(net.HardwareAddr, 6)),
		"a group":        dhcpv4.WithHwAddr(everybody),
		"too long a one": dhcpv4.WithHwAddr(make(net.HardwareAddr, 16)),
	} {
		if _, err := classify(testPacket(macKnown, mod), false); err == nil {
			t.Errorf("%s was taken for a request", name)
		}
	}
}

// What the kernel would compute, for frames that it does not see.
func TestFrames(t *testing.T) {
	src, dst := netip.MustParseAddrPort("10.30.0.252:67"), netip.MustParseAddrPort("10.30.0.1:68")
	for _, payload := range []string{"", "odd", "even"} {
		b := udpPacket(src, dst, []byte(payload))
		if checksum(0, b[:ipv4Header]) != 0 || checksum(protoUDP+uint32(len(payload)+udpHeader), b[12:]) != 0 {
			t.Errorf("%q: wrong checksum in % x", payload, b)
		}
		if string(b[ipv4Header+udpHeader:]) != payload {
			t.Errorf("%q: got % x", payload, b)
		}
	}
	head, machine := net.HardwareAddr{0x52, 0x54, 0, 0xaa, 0xbb, 0xcc}, net.HardwareAddr{0x52, 0x54, 0, 0, 0, 1}
	b := routerAdvertisement(head, machine)
	if len(b) != 64 || checksum(protoICMPv6+24, b[8:]) != 0 {
		t.Errorf("wrong length or checksum in % x", b)
	}
	src6, _ := netip.AddrFromSlice(b[8:24])
	dst6, _ := netip.AddrFromSlice(b[24:40])
	if src6 != ip("fe80::5054:ff:feaa:bbcc") || dst6 != ip("fe80::5054:ff:fe00:1") {
		t.Errorf("got %s to %s", src6, dst6)
	}
}

// BenchmarkAnswer is a packet's way from bytes to bytes.
func BenchmarkAnswer(b *testing.B) {
	tx := fixtureTx()
	for i := range 10000 {
		tx.Put(&inventory.Node{
			ID: inventory.ID(1000 + i), Name: fmt.Sprintf("n%05d", i), Group: 40, MAC: inventory.MAC(fmt.Sprintf("02:00:00:00:%02x:%02x", i>>8, i&0xff)),
			Interfaces: map[inventory.ID]inventory.Addresses{1: {V4: netip.AddrFrom4([4]byte{10, 30, byte(i >> 8), byte(i)})}},
		})
	}
	s := newScene(tx.Commit(1), Everyone)
	in := testPacket("02:00:00:00:12:34", ask(dhcpv4.MessageTypeDiscover), pxe(iana.EFI_X86_64)).ToBytes()
	b.ReportAllocs()
	for b.Loop() {
		p, err := dhcpv4.FromBytes(in)
		if err != nil {
			b.Fatal(err)
		}
		r, err := classify(p, false)
		if err != nil {
			b.Fatal(err)
		}
		v := s.judge(r, grant{})
		udpPacket(netip.AddrPortFrom(ip("10.30.0.252"), 67), v.to.addr, v.reply.ToBytes())
	}
}
