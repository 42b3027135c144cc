package dhcp

import (
	"encoding/binary"
	"net"
	"net/netip"
	"time"

	"github.com/insomniacslk/dhcp/dhcpv4"

	"github.com/clustervision/luna/boot"
)

// Options that firmware wants to see. The library would take any, these are
// the bytes on the wire.
var (
	// pxeOptions is option 43 for a PXE client: PXE_DISCOVERY_CONTROL (6) with
	// bit 3, "load the file that this answer names", so that the ROM does not
	// look for boot servers by multicast first (PXE 2.1 §2.4.1).
	pxeOptions = []byte{6, 1, 8, 255}
	// ipxeOptions is option 175 for iPXE: no-pxedhcp (176), "there is no proxy
	// DHCP here". Without it iPXE waits more than two seconds for one, each
	// time that it asks.
	ipxeOptions = []byte{176, 1, 1}
)

const (
	optionIPXE        = dhcpv4.GenericOptionCode(175)
	optionMachineUUID = dhcpv4.OptionClientMachineIdentifier
)

// grant is OFFER or ACK.
func (a answer) grant(kind dhcpv4.MessageType, g grant) verdict {
	p := a.reply(kind)
	p.YourIPAddr = g.addr.AsSlice()
	if kind == dhcpv4.MessageTypeAck {
		p.ClientIPAddr = a.packet.ClientIPAddr
	}
	p.Options[dhcpv4.OptionIPAddressLeaseTime.Code()] = seconds(g.ttl)
	a.configure(p, g.addr)
	return a.send(p, a.destination(g.addr))
}

// inform is the ACK to a machine that has its address from elsewhere.
func (a answer) inform() verdict {
	if !a.network.Prefix.Contains(a.client) {
		return verdict{}
	}
	p := a.reply(dhcpv4.MessageTypeAck)
	p.ClientIPAddr = a.packet.ClientIPAddr
	a.configure(p, a.client)
	return a.send(p, a.destination(a.client))
}

// refuse is NAK. It goes to all where no relay carries it, for the machine must
// give up the address that it may have; and a relay is told to do the same
// (RFC 2131 §4.3.2).
func (a answer) refuse(why string) verdict {
	p := a.reply(dhcpv4.MessageTypeNak)
	p.Options[dhcpv4.OptionMessage.Code()] = []byte(why)
	p.ServerIPAddr = net.IPv4zero
	to := destination{frame: true, addr: netip.AddrPortFrom(broadcast, clientPort)}
	switch {
	case a.relay.IsValid():
		p.SetBroadcast()
		to = destination{addr: netip.AddrPortFrom(a.relay, serverPort)}
	case !a.network.Prefix.Contains(a.home): // it renews through a router
		to = destination{addr: netip.AddrPortFrom(a.client, clientPort)}
	}
	v := a.send(p, to)
	v.note = "refused an address: " + why
	return v
}

func (a answer) send(p *dhcpv4.DHCPv4, to destination) verdict {
	return verdict{reply: p, from: a.spec.Server, to: to, on: a.network.ID, under: a.under}
}

// reply is what all replies have in common.
func (a answer) reply(kind dhcpv4.MessageType) *dhcpv4.DHCPv4 {
	q := a.packet
	// Who took another head's offer must hear its name: iPXE, for one, drops an
	// ACK that names another server. It renews with that head, if it is there,
	// and else with whoever answers.
	id := a.spec.Server
	if a.server.IsValid() {
		id = a.server
	}
	p := &dhcpv4.DHCPv4{
		OpCode:        dhcpv4.OpcodeBootReply,
		HWType:        q.HWType,
		TransactionID: q.TransactionID,
		Flags:         q.Flags,
		ClientIPAddr:  net.IPv4zero,
		YourIPAddr:    net.IPv4zero,
		ServerIPAddr:  a.spec.Server.AsSlice(),
		GatewayIPAddr: q.GatewayIPAddr,
		ClientHWAddr:  q.ClientHWAddr,
		Options: dhcpv4.Options{
			dhcpv4.OptionDHCPMessageType.Code():  {byte(kind)},
			dhcpv4.OptionServerIdentifier.Code(): id.AsSlice(),
		},
	}
	// What must come back as it came: option 82 (RFC 3046 §2.2) and the
	// client identifier (RFC 6842).
	for _, o := range []dhcpv4.OptionCode{dhcpv4.OptionRelayAgentInformation, dhcpv4.OptionClientIdentifier} {
		a.echo(p, o)
	}
	return p
}

func (a answer) echo(p *dhcpv4.DHCPv4, o dhcpv4.OptionCode) {
	if b := a.packet.Options.Get(o); b != nil {
		p.Options[o.Code()] = b
	}
}

// configure fills in what the machine is told about its network and what it
// loads.
func (a answer) configure(p *dhcpv4.DHCPv4, own netip.Addr) {
	bits := a.network.Prefix.Bits()
	p.Options[dhcpv4.OptionSubnetMask.Code()] = net.CIDRMask(bits, 32)
	p.Options[dhcpv4.OptionDomainName.Code()] = []byte(a.network.Name)
	if router := boot.Gateway(a.inv, []netip.Prefix{netip.PrefixFrom(own, bits)}); router.Is4() {
		p.Options[dhcpv4.OptionRouter.Code()] = router.AsSlice()
	}
	for _, server := range a.dns(a.network.ID) {
		if server.Is4() {
			o := dhcpv4.OptionDomainNameServer.Code()
			p.Options[o] = append(p.Options[o], server.AsSlice()...)
		}
	}
	if a.spec.Node != nil {
		p.Options[dhcpv4.OptionHostName.Code()] = []byte(a.spec.Node.Name)
	}
	if a.machine.Firmware == boot.IPXE {
		p.Options[optionIPXE.Code()] = ipxeOptions
	}
	if a.spec.File == "" {
		return
	}
	switch a.machine.Firmware {
	case boot.PXE:
		p.Options[dhcpv4.OptionClassIdentifier.Code()] = []byte("PXEClient")
		p.Options[dhcpv4.OptionVendorSpecificInformation.Code()] = pxeOptions
		a.echo(p, optionMachineUUID)
	case boot.HTTPBoot:
		// Without this word UEFI takes the answer for one to PXE.
		p.Options[dhcpv4.OptionClassIdentifier.Code()] = []byte("HTTPClient")
		a.echo(p, optionMachineUUID)
	case boot.IPXE, boot.NoFirmware:
	}
	// The fields of BOOTP hold 127 characters and are what all firmware reads.
	// The options are for those that ask for them: a few read nothing else.
	p.BootFileName = a.spec.File
	wanted := a.packet.ParameterRequestList()
	if wanted.Has(dhcpv4.OptionBootfileName) {
		p.Options[dhcpv4.OptionBootfileName.Code()] = []byte(a.spec.File)
	}
	if wanted.Has(dhcpv4.OptionTFTPServerName) {
		p.Options[dhcpv4.OptionTFTPServerName.Code()] = []byte(a.spec.Server.String())
	}
}

// destination is where an answer with an address goes (RFC 2131 §4.1).
func (a answer) destination(own netip.Addr) destination {
	switch {
	case a.relay.IsValid():
		return destination{addr: netip.AddrPortFrom(a.relay, serverPort)}
	case a.client.IsValid():
		return destination{addr: netip.AddrPortFrom(a.client, clientPort)}
	case a.packet.IsBroadcast():
		return destination{frame: true, addr: netip.AddrPortFrom(broadcast, clientPort)}
	}
	return destination{frame: true, addr: netip.AddrPortFrom(own, clientPort)}
}

func seconds(d time.Duration) []byte {
	return binary.BigEndian.AppendUint32(nil, uint32(d/time.Second))
}

// broadcast is the address of everybody on the link.
var broadcast = netip.AddrFrom4([4]byte{255, 255, 255, 255})
