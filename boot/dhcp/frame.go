package dhcp

import (
	"encoding/binary"
	"net"
	"net/netip"
)

// Lengths of headers without options.
const (
	ipv4Header = 20
	udpHeader  = 8
	ipv6Header = 40
)

const (
	protoUDP    = 17
	protoICMPv6 = 58
)

// udpPacket wraps the payload in UDP and IPv4, both with their checksums: the
// clients that read such packets look for themselves, and some do not take a
// packet whose sum a network card was to fill in.
func udpPacket(src, dst netip.AddrPort, payload []byte) []byte {
	b := make([]byte, ipv4Header+udpHeader, ipv4Header+udpHeader+len(payload))
	length := uint16(len(payload) + udpHeader)
	b[0] = 0x45 // version 4, five words
	binary.BigEndian.PutUint16(b[2:], length+ipv4Header)
	b[8] = 64 // hops
	b[9] = protoUDP
	copy(b[12:], src.Addr().AsSlice())
	copy(b[16:], dst.Addr().AsSlice())
	binary.BigEndian.PutUint16(b[10:], checksum(0, b[:ipv4Header]))

	udp := b[ipv4Header:]
	binary.BigEndian.PutUint16(udp[0:], src.Port())
	binary.BigEndian.PutUint16(udp[2:], dst.Port())
	binary.BigEndian.PutUint16(udp[4:], length)
	b = append(b, payload...)
	// The pseudo header is the protocol, the length and both addresses.
	check := checksum(protoUDP+uint32(length), b[12:])
	if check == 0 {
		check = 0xffff // 0 would say that there is none (RFC 768)
	}
	binary.BigEndian.PutUint16(b[ipv4Header+6:], check)
	return b
}

// routerAdvertisement is an IPv6 packet that tells one machine: there is no
// router, no prefix and no DHCPv6 here (RFC 4861 §4.2 with nothing in it).
//
// iPXE configures IPv6 beside IPv4 and goes on only when both are done; where
// no router advertises itself, it solicits for some 15 seconds before it
// gives up, at each stage. Any advertisement ends that. This one goes from the
// head's link-local address to that of the machine, in a frame to its hardware
// address alone, with the DHCP answer: no other machine sees it, no operating
// system learns a route or an address from it, and the head needs no IPv6.
func routerAdvertisement(head, machine net.HardwareAddr) []byte {
	icmp := make([]byte, 16, 24)
	icmp[0] = 134 // router advertisement; all that follows being 0 means "unspecified", and a lifetime of 0 "not a router"
	icmp = append(icmp, 1, 1)
	icmp = append(icmp, head...) // option: the sender's hardware address

	b := make([]byte, ipv6Header, ipv6Header+len(icmp))
	b[0] = 0x60 // version 6
	binary.BigEndian.PutUint16(b[4:], uint16(len(icmp)))
	b[6] = protoICMPv6
	b[7] = 255 // hops: proves that it comes from this link (RFC 4861 §6.1.2)
	copy(b[8:], linkLocal(head))
	copy(b[24:], linkLocal(machine))
	b = append(b, icmp...)
	binary.BigEndian.PutUint16(b[ipv6Header+2:], checksum(protoICMPv6+uint32(len(icmp)), b[8:]))
	return b
}

// linkLocal gives the address that an Ethernet machine makes of its hardware
// address (RFC 4291, appendix A), as iPXE does.
func linkLocal(hw net.HardwareAddr) []byte {
	return []byte{0xfe, 0x80, 0, 0, 0, 0, 0, 0, hw[0] ^ 2, hw[1], hw[2], 0xff, 0xfe, hw[3], hw[4], hw[5]}
}

// checksum is the complement of the ones' complement sum of the 16-bit words
// in b and of start (RFC 1071).
func checksum(start uint32, b []byte) uint16 {
	sum := start
	for ; len(b) >= 2; b = b[2:] {
		sum += uint32(b[0])<<8 | uint32(b[1])
	}
	if len(b) == 1 {
		sum += uint32(b[0]) << 8
	}
	for sum > 0xffff {
		sum = sum>>16 + sum&0xffff
	}
	return ^uint16(sum)
}
