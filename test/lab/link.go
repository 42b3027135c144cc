package lab

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"net"
	"net/netip"
)

// NIC describes one network card of a host.
type NIC struct {
	// Network it is plugged into; "" is "lan". A network is made when it is first named.
	Network string
	// MAC address; nil is one made of the names of lab, host and card, the same in every run.
	MAC net.HardwareAddr
	// Addresses with their prefix lengths, each bringing the route to its prefix.
	Addresses []netip.Prefix
	// RateMbit shapes the card to so many megabit per second (10^6 bit) in each direction;
	// 0 is as fast as the kernel can.
	RateMbit int
}

// link is a card of a host, or the tap of a machine, and the port of the bridge at its other end.
type link struct {
	lab       *Lab
	namespace string // of the card; "" for a tap, whose card is inside QEMU
	card      string // eth0
	port      string // the same for the bridge
	mac       net.HardwareAddr
	rate      int
}

// plug makes a host's card, its port on the bridge, and shapes both.
func (l *Lab) plug(ctx context.Context, h *Host, index int, nic NIC) (*link, error) {
	bridge, err := l.network(ctx, nic.Network)
	if err != nil {
		return nil, err
	}
	k := &link{
		lab: l, namespace: h.namespace, card: fmt.Sprintf("eth%d", index),
		port: fmt.Sprintf("%s.%d", h.name, index), mac: nic.MAC, rate: nic.RateMbit,
	}
	if k.mac == nil {
		k.mac = madeUpMAC(k.port)
	}
	err = ip(ctx, l.bridges(),
		fmt.Sprintf("link add %s type veth peer name %s address %s netns %s", k.port, k.card, k.mac, k.namespace),
		fmt.Sprintf("link set %s master %s up", k.port, bridge))
	if err != nil {
		return nil, err
	}
	lines := []string{fmt.Sprintf("link set %s up", k.card)}
	for _, address := range nic.Addresses {
		line := fmt.Sprintf("address add %s dev %s", address, k.card)
		if address.Addr().Is6() {
			line += " nodad" // usable at once; nobody else can have it here
		}
		lines = append(lines, line)
	}
	if err := ip(ctx, k.namespace, lines...); err != nil {
		return nil, err
	}
	return k, k.restore(ctx)
}

// madeUpMAC is an address for who does not care which: the same for the same name.
func madeUpMAC(of string) net.HardwareAddr {
	sum := sha256.Sum256([]byte(of))
	return net.HardwareAddr{0x02, sum[0], sum[1], sum[2], sum[3], sum[4]} // 02: locally administered
}

// cut takes the port down: the other side sees its carrier go, as when a cable is pulled.
func (k *link) cut(ctx context.Context) error {
	return ip(ctx, k.lab.bridges(), "link set "+k.port+" down")
}

// restore plugs the cable in and lets traffic flow both ways at the link's rate.
func (k *link) restore(ctx context.Context) error {
	err := ip(ctx, k.lab.bridges(), "link set "+k.port+" up")
	if err != nil || k.namespace == "" {
		return err
	}
	return errors.Join(k.queue(ctx, k.lab.bridges(), k.port, true), k.queue(ctx, k.namespace, k.card, true))
}

// queue sets what happens to packets that leave a device: let out at the link's rate, or dropped
// in silence.
func (k *link) queue(ctx context.Context, namespace, device string, open bool) error {
	// To delete the default fails, to replace it does not: so these two reset any state.
	lines := []string{"qdisc replace dev " + device + " root pfifo", "qdisc del dev " + device + " root"}
	switch {
	case !open:
		lines = append(lines, "qdisc add dev "+device+" root blackhole")
	case k.rate > 0:
		lines = append(lines, fmt.Sprintf("qdisc add dev %s root tbf rate %dmbit burst 128kb latency 30ms", device, k.rate))
	}
	return tc(ctx, namespace, lines...)
}
