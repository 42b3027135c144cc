package dhcp

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"syscall"
	"time"

	"golang.org/x/net/ipv4"
	"golang.org/x/sys/unix"
)

// link is the server's end of the wire.
type link interface {
	// read waits for the next packet to the server's port. to is the address
	// that it was sent to. After interrupt it fails.
	read(buf []byte) (n int, to netip.Addr, err error)
	// send sends a UDP packet to an address that can be resolved. It does not wait.
	send(b []byte, to netip.AddrPort) error
	// frame sends an IP packet to a hardware address, or to all where it is
	// the broadcast address. It never blocks.
	frame(etherType uint16, packet []byte, to net.HardwareAddr) error
	// interrupt ends read for good. It may be called at any time.
	interrupt()
	// close is called last, and once.
	close() error
}

// receiveBuffer holds what the kernel keeps for us while we are busy: a
// thousand machines that are switched on together send within some ten
// milliseconds, each packet takes some 2 KiB of it, and a lost one costs the
// machine 4 s.
const receiveBuffer = 8 << 20

// device is the link on a network device.
type device struct {
	udp   *net.UDPConn
	raw   int // AF_PACKET, only to send
	index int
}

// openDevice opens the sockets on the device. They are bound to it and not to
// an address: Linux gives no broadcasts to a socket that is bound to one. It
// sets no option to share the port, so that another DHCP server on the device
// is found out here and does not take every other packet.
func openDevice(name string, port uint16) (_ *device, err error) {
	iface, err := net.InterfaceByName(name)
	if err != nil {
		return nil, fmt.Errorf("open device %s for DHCP: %w", name, err)
	}
	config := net.ListenConfig{Control: func(_, _ string, c syscall.RawConn) error {
		var opt error
		err := c.Control(func(fd uintptr) {
			opt = errors.Join(
				unix.SetsockoptString(int(fd), unix.SOL_SOCKET, unix.SO_BINDTODEVICE, name),
				unix.SetsockoptInt(int(fd), unix.IPPROTO_IP, unix.IP_PKTINFO, 1),
			)
			// Beyond net.core.rmem_max only with CAP_NET_ADMIN; less is no reason not to serve.
			if unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_RCVBUFFORCE, receiveBuffer) != nil {
				opt = errors.Join(opt, unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_RCVBUF, receiveBuffer))
			}
		})
		return errors.Join(err, opt)
	}}
	conn, err := config.ListenPacket(context.Background(), "udp4", netip.AddrPortFrom(netip.IPv4Unspecified(), port).String())
	if errors.Is(err, unix.EADDRINUSE) {
		return nil, fmt.Errorf("listen for DHCP on device %s: another DHCP server runs there, stop it: %w", name, err)
	}
	if err != nil {
		return nil, fmt.Errorf("listen for DHCP on device %s: %w", name, err)
	}
	raw, err := unix.Socket(unix.AF_PACKET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0)
	if err != nil {
		return nil, errors.Join(fmt.Errorf("open a packet socket on device %s (it takes CAP_NET_RAW): %w", name, err), conn.Close())
	}
	// As for what comes in: answers to a burst must not be lost here.
	if unix.SetsockoptInt(raw, unix.SOL_SOCKET, unix.SO_SNDBUFFORCE, receiveBuffer) != nil {
		_ = unix.SetsockoptInt(raw, unix.SOL_SOCKET, unix.SO_SNDBUF, receiveBuffer) // the default is smaller, and works
	}
	return &device{udp: conn.(*net.UDPConn), raw: raw, index: iface.Index}, nil
}

func (d *device) read(buf []byte) (int, netip.Addr, error) {
	var oob [64]byte
	n, oobn, _, _, err := d.udp.ReadMsgUDPAddrPort(buf, oob[:])
	if err != nil {
		return 0, netip.Addr{}, err
	}
	var control ipv4.ControlMessage
	if err := control.Parse(oob[:oobn]); err != nil {
		return n, netip.Addr{}, nil //nolint:nilerr // the packet is good; only where it was sent to is not known
	}
	to, _ := netip.AddrFromSlice(control.Dst)
	return n, to.Unmap(), nil
}

func (d *device) send(b []byte, to netip.AddrPort) error {
	// The kernel keeps what waits for a machine to be found: a packet that finds no room
	// is lost, as on the wire, and does not hold up the answers to all others.
	if err := d.udp.SetWriteDeadline(time.Now().Add(time.Millisecond)); err != nil {
		return err
	}
	_, err := d.udp.WriteToUDPAddrPort(b, to)
	return err
}

func (d *device) frame(etherType uint16, packet []byte, to net.HardwareAddr) error {
	address := unix.SockaddrLinklayer{Protocol: etherType>>8 | etherType<<8, Ifindex: d.index, Halen: uint8(len(to))}
	copy(address.Addr[:], to)
	return unix.Sendto(d.raw, packet, 0, &address)
}

func (d *device) interrupt() { _ = d.udp.SetReadDeadline(time.Unix(1, 0)) } // fails only on a closed socket

func (d *device) close() error { return errors.Join(d.udp.Close(), unix.Close(d.raw)) }
