package dhcp

import (
	"bytes"
	"encoding/binary"
	"errors"
	"net"
	"net/netip"
	"slices"
	"strconv"
	"strings"

	"github.com/insomniacslk/dhcp/dhcpv4"
	"github.com/insomniacslk/dhcp/iana"

	"github.com/clustervision/luna/boot"
	"github.com/clustervision/luna/inventory"
)

// request is what a packet asks, as far as an answer depends on it.
type request struct {
	packet  *dhcpv4.DHCPv4
	kind    dhcpv4.MessageType
	machine boot.Machine // without its network, which the inventory knows
	link    netip.Addr   // an address of the network on which the machine is, if a relay says so; else zero
	relay   netip.Addr   // giaddr; zero: the machine is on our link, or knows us
	client  netip.Addr   // ciaddr: the address that the machine has and uses; else zero
	wants   netip.Addr   // the address that it asks for: option 50, else ciaddr; else zero
	server  netip.Addr   // option 54: the server that it speaks to; else zero
	unicast bool         // it was sent to this head's address
}

// errIgnored is a packet that is no request of an Ethernet machine.
var errIgnored = errors.New("not a DHCP request from an Ethernet address")

// classify reads a packet. unicast tells whether it was sent to an address
// rather than to all.
func classify(p *dhcpv4.DHCPv4, unicast bool) (request, error) {
	r := request{packet: p, kind: p.MessageType(), unicast: unicast}
	// InfiniBand has no hardware address in the packet (RFC 4390), and a
	// group address or none is nobody's.
	if p.OpCode != dhcpv4.OpcodeBootRequest || p.HWType != iana.HWTypeEthernet || len(p.ClientHWAddr) != 6 ||
		p.ClientHWAddr[0]&1 != 0 || bytes.Equal(p.ClientHWAddr, make([]byte, 6)) {
		return r, errIgnored
	}
	r.machine.MAC = inventory.MAC(p.ClientHWAddr.String())
	r.machine.Firmware, r.machine.Arch = firmware(p)
	r.relay = addr(p.GatewayIPAddr)
	r.client = addr(p.ClientIPAddr)
	r.server = addr(p.Options.Get(dhcpv4.OptionServerIdentifier))
	r.wants = addr(p.Options.Get(dhcpv4.OptionRequestedIPAddress))
	if !r.wants.IsValid() {
		r.wants = r.client
	}
	r.link = r.relay
	if info := p.RelayAgentInfo(); info != nil {
		// RFC 3527: the relay's own address need not be on the machine's link.
		if a := addr(info.Get(dhcpv4.LinkSelectionSubOption)); a.IsValid() {
			r.link = a
		}
	}
	return r, nil
}

// firmware tells what runs on the machine. iPXE comes first, for it says that
// it is a PXE client too; and it gives its user class as bare bytes, not as the
// list that RFC 3004 asks for.
func firmware(p *dhcpv4.DHCPv4) (boot.Firmware, boot.Arch) {
	class := p.ClassIdentifier()
	arch, named := architecture(p, class)
	switch {
	case string(p.Options.Get(dhcpv4.OptionUserClassInformation)) == "iPXE", slices.Contains(p.UserClass(), "iPXE"):
		return boot.IPXE, arch
	case strings.HasPrefix(class, "HTTPClient"):
		return boot.HTTPBoot, arch
	case strings.HasPrefix(class, "PXEClient"), named:
		return boot.PXE, arch
	}
	return boot.NoFirmware, arch
}

// architecture gives option 93, of which the first number counts, or else what
// the vendor class says, as in "PXEClient:Arch:00007:UNDI:003000". Old BIOS
// ROMs give neither, and are right: 0 is a BIOS. named is false where there was
// no option 93.
func architecture(p *dhcpv4.DHCPv4, class string) (_ boot.Arch, named bool) {
	if b := p.Options.Get(dhcpv4.OptionClientSystemArchitectureType); len(b) >= 2 {
		return boot.Arch(binary.BigEndian.Uint16(b)), true
	}
	if fields := strings.Split(class, ":"); len(fields) > 2 && fields[1] == "Arch" {
		if n, err := strconv.ParseUint(fields[2], 10, 16); err == nil {
			return boot.Arch(n), false
		}
	}
	return boot.ArchBIOS, false
}

// addr gives an IPv4 address, zero for 0.0.0.0 and for what is none.
func addr(ip net.IP) netip.Addr {
	a, ok := netip.AddrFromSlice(ip)
	if a = a.Unmap(); !ok || !a.Is4() || a.IsUnspecified() {
		return netip.Addr{}
	}
	return a
}
