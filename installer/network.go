package installer

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"time"

	"github.com/insomniacslk/dhcp/dhcpv4"
	"github.com/insomniacslk/dhcp/dhcpv4/nclient4"
	"github.com/vishvananda/netlink"
	"golang.org/x/sync/errgroup"
	"golang.org/x/sys/unix"
)

// nic is the interface that booted, as this kernel calls it.
type nic struct {
	name       string
	infiniband bool
}

// network brings up what the heads are reached by. It may be brought up again
// and again: a cable, a driver, a lease may have changed.
type network struct {
	boot Boot
	log  *slog.Logger

	appear  time.Duration // how long to wait for the interface: drivers load late
	carrier time.Duration // how long for its link: negotiation, and switches that take their time
	dhcp    time.Duration // how long for a DHCP server: spanning tree holds packets back for 30 s to 50 s
	poll    time.Duration

	used    map[int]bool // indices of interfaces with addresses of ours
	release func()       // ends the renewing of a lease; nil where there is none
}

func newNetwork(b Boot, log *slog.Logger) *network {
	return &network{
		boot: b, log: log,
		appear: 60 * time.Second, carrier: 70 * time.Second, dhcp: 70 * time.Second, poll: 200 * time.Millisecond,
		used: map[int]bool{},
	}
}

// up finds the interface that booted by its MAC and gives it its address. When
// nobody knows the MAC, or no interface has it, every interface with a link asks
// DHCP, and the first that is answered is taken for the one that booted.
func (n *network) up(ctx context.Context) (nic, error) {
	if lo, err := netlink.LinkByName("lo"); err == nil {
		_ = netlink.LinkSetUp(lo) // for the scripts' sake; nothing of ours needs it
	}
	if n.boot.MAC != nil {
		link, err := n.find(ctx)
		if err != nil {
			return nic{}, err
		}
		if link != nil {
			return n.configure(ctx, link)
		}
		n.log.Warn("no interface has the MAC that booted, every interface with a link asks dhcp", "mac", n.boot.MAC.String())
	}
	return n.anyByDHCP(ctx)
}

// find waits for the interface with the MAC; nil means that it did not appear.
func (n *network) find(ctx context.Context) (netlink.Link, error) {
	deadline := time.Now().Add(n.appear)
	for {
		links, err := netlink.LinkList()
		if err != nil && !errors.Is(err, netlink.ErrDumpInterrupted) {
			return nil, fmt.Errorf("list interfaces: %w", err)
		}
		if link := withMAC(links, n.boot.MAC); link != nil {
			return link, nil
		}
		if time.Now().After(deadline) {
			return nil, nil
		}
		if err := sleep(ctx, n.poll); err != nil {
			return nil, err
		}
	}
}

// withMAC returns the interface with the hardware address, or the InfiniBand
// port whose firmware shows it as one: of its 20 octets the six appear in order,
// as in a port GUID, which has two more in their middle.
func withMAC(links []netlink.Link, mac net.HardwareAddr) netlink.Link {
	for _, link := range links {
		if bytes.Equal(link.Attrs().HardwareAddr, mac) && link.Attrs().MasterIndex == 0 {
			return link
		}
	}
	for _, link := range links {
		if hw := link.Attrs().HardwareAddr; len(hw) == 20 && appearsIn(mac, hw) {
			return link
		}
	}
	return nil
}

// appearsIn tells whether the octets of short are in long, in their order.
func appearsIn(short, long []byte) bool {
	for _, b := range long {
		if len(short) > 0 && short[0] == b {
			short = short[1:]
		}
	}
	return len(short) == 0
}

// configure brings one interface up and gives it its address.
func (n *network) configure(ctx context.Context, link netlink.Link) (nic, error) {
	name := link.Attrs().Name
	if err := netlink.LinkSetUp(link); err != nil {
		return nic{}, fmt.Errorf("%s: bring it up: %w", name, err)
	}
	if err := n.awaitCarrier(ctx, link); err != nil {
		return nic{}, err
	}
	addr := n.boot.Address
	if !addr.IsValid() {
		l, err := n.askDHCP(ctx, name)
		if err != nil {
			return nic{}, err
		}
		return n.hold(ctx, link, l)
	}
	return n.assign(link, addr)
}

// lease is an address that a DHCP server gave, and for how long.
type lease struct {
	addr netip.Prefix
	ends time.Duration // from when it was given
}

// hold assigns a leased address, and asks for it again at each half of its time, until
// ctx ends: a machine that nobody knows has it for ten minutes, and its installation
// may take longer.
func (n *network) hold(ctx context.Context, link netlink.Link, l lease) (nic, error) {
	got, err := n.assign(link, l.addr)
	if err != nil {
		return got, err
	}
	if n.release != nil {
		n.release() // of what was up before
	}
	ctx, n.release = context.WithCancel(ctx)
	go func() {
		for wait := l.ends / 2; sleep(ctx, wait) == nil; {
			again, err := requestLease(ctx, got.name)
			switch {
			case ctx.Err() != nil:
			case err != nil:
				n.log.Warn("the lease is not renewed yet", "interface", got.name, "address", l.addr, "error", err)
				wait = min(wait, 10*time.Second)
			case again.addr != l.addr:
				n.log.Warn("the heads would give another address by now", "interface", got.name, "address", l.addr, "now", again.addr)
				wait = again.ends / 2
			default:
				wait = again.ends / 2
			}
		}
	}()
	return got, nil
}

func (n *network) assign(link netlink.Link, addr netip.Prefix) (nic, error) {
	name := link.Attrs().Name
	a := &netlink.Addr{IPNet: &net.IPNet{
		IP:   addr.Addr().AsSlice(),
		Mask: net.CIDRMask(addr.Bits(), addr.Addr().BitLen()),
	}}
	if addr.Addr().Is6() {
		a.Flags = unix.IFA_F_NODAD // the heads gave it to this node alone; the second of waiting is for nothing
	}
	if err := netlink.AddrReplace(link, a); err != nil {
		return nic{}, fmt.Errorf("%s: set address %s: %w", name, addr, err)
	}
	n.used[link.Attrs().Index] = true
	n.log.Info("the network is up", "interface", name, "address", addr.String())
	return nic{name: name, infiniband: len(link.Attrs().HardwareAddr) == 20}, nil
}

func (n *network) awaitCarrier(ctx context.Context, link netlink.Link) error {
	name, index := link.Attrs().Name, link.Attrs().Index
	deadline, said := time.Now().Add(n.carrier), time.Now().Add(5*time.Second)
	for {
		l, err := netlink.LinkByIndex(index)
		if err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
		if hasCarrier(l) {
			return nil
		}
		if time.Now().After(deadline) {
			return fmt.Errorf("%s has no link after %s: look at its cable and at the port of the switch", name, n.carrier)
		}
		if time.Now().After(said) {
			said = deadline
			n.log.Info("waiting for the link", "interface", name)
		}
		if err := sleep(ctx, n.poll); err != nil {
			return err
		}
	}
}

// hasCarrier: the flag says that the driver sees a link. The state beside it
// tells "dormant" from "up"; drivers that know no state say "unknown".
func hasCarrier(l netlink.Link) bool {
	a := l.Attrs()
	return a.RawFlags&unix.IFF_LOWER_UP != 0 && (a.OperState == netlink.OperUp || a.OperState == netlink.OperUnknown)
}

// askDHCP asks for an address until somebody answers or the time is up.
func (n *network) askDHCP(ctx context.Context, name string) (lease, error) {
	ctx, cancel := context.WithTimeout(ctx, n.dhcp)
	defer cancel()
	n.log.Info("asking dhcp", "interface", name)
	for {
		addr, err := requestLease(ctx, name)
		if err == nil {
			return addr, nil
		}
		if ctx.Err() != nil {
			return addr, fmt.Errorf("%s: no address by dhcp within %s: %w", name, n.dhcp, err)
		}
		if err := sleep(ctx, n.poll); err != nil {
			return addr, fmt.Errorf("%s: no address by dhcp within %s: %w", name, n.dhcp, err)
		}
	}
}

// requestLease makes one DHCP exchange. Tries are short: firmware has just
// proven that somebody answers here, and the next head takes over within
// seconds.
func requestLease(ctx context.Context, name string) (lease, error) {
	client, err := nclient4.New(name, nclient4.WithTimeout(2*time.Second), nclient4.WithRetry(3))
	if err != nil {
		return lease{}, err
	}
	defer client.Close()
	got, err := client.Request(ctx, dhcpv4.WithRequestedOptions(dhcpv4.OptionSubnetMask))
	if err != nil {
		return lease{}, err
	}
	ip, ok := netip.AddrFromSlice(got.ACK.YourIPAddr.To4())
	bits, _ := got.ACK.SubnetMask().Size()
	if !ok || bits == 0 {
		return lease{}, fmt.Errorf("the server's answer has no usable address and mask (%s, %s)", got.ACK.YourIPAddr, got.ACK.SubnetMask())
	}
	return lease{netip.PrefixFrom(ip, bits), max(got.ACK.IPAddressLeaseTime(time.Hour), 2*time.Second)}, nil
}

// anyByDHCP asks on every interface with a link at the same time.
func (n *network) anyByDHCP(ctx context.Context) (nic, error) {
	links, err := n.linksUp(ctx)
	if err != nil {
		return nic{}, err
	}
	type answer struct {
		link netlink.Link
		lease
		err error
	}
	answers := make(chan answer, len(links))
	asking, stop := context.WithCancel(ctx)
	defer stop()
	g := errgroup.Group{}
	for _, link := range links {
		g.Go(func() error {
			l, err := n.askDHCP(asking, link.Attrs().Name)
			answers <- answer{link, l, err}
			return nil
		})
	}
	var errs []error
	for range links {
		a := <-answers
		if a.err == nil {
			stop()
			_ = g.Wait()
			return n.hold(ctx, a.link, a.lease)
		}
		errs = append(errs, a.err)
	}
	return nic{}, errors.Join(errs...)
}

// linksUp brings up every interface that is a device and returns those with a
// link. It waits for the first, and a moment longer for others.
func (n *network) linksUp(ctx context.Context) ([]netlink.Link, error) {
	deadline := time.Now().Add(n.carrier)
	var found []netlink.Link
	for settled := 0; settled < 5; {
		links, err := netlink.LinkList()
		if err != nil && !errors.Is(err, netlink.ErrDumpInterrupted) {
			return nil, fmt.Errorf("list interfaces: %w", err)
		}
		found = found[:0]
		for _, link := range links {
			if a := link.Attrs(); a.Flags&net.FlagLoopback != 0 || len(a.HardwareAddr) != 6 || a.MasterIndex != 0 {
				continue
			}
			if link.Attrs().Flags&net.FlagUp == 0 {
				_ = netlink.LinkSetUp(link) // one that refuses shows no link
			}
			if hasCarrier(link) {
				found = append(found, link)
			}
		}
		if len(found) > 0 {
			settled++
		} else if time.Now().After(deadline) {
			return nil, fmt.Errorf("no network interface has a link after %s: is its driver in the initrd, its cable plugged?", n.carrier)
		}
		if err := sleep(ctx, n.poll); err != nil {
			return nil, err
		}
	}
	return found, nil
}

// down takes the addresses away again, and leaves the links up: to negotiate
// anew costs seconds, or a minute with spanning tree. The operating system finds
// interfaces without addresses: ifupdown fails at an address that is there, and
// NetworkManager takes such an interface for somebody else's.
func (n *network) down() error {
	if n.release != nil {
		n.release()
	}
	var errs []error
	for index := range n.used {
		link, err := netlink.LinkByIndex(index)
		if err != nil {
			errs = append(errs, fmt.Errorf("interface %d: %w", index, err))
			continue
		}
		addrs, err := netlink.AddrList(link, netlink.FAMILY_ALL)
		if err != nil {
			errs = append(errs, fmt.Errorf("%s: list addresses: %w", link.Attrs().Name, err))
		}
		for _, a := range addrs {
			if a.IP.IsLinkLocalUnicast() && a.IP.To4() == nil {
				continue // the kernel's own
			}
			// A secondary address may have gone with its primary one.
			if err := netlink.AddrDel(link, &a); err != nil && !errors.Is(err, unix.EADDRNOTAVAIL) {
				errs = append(errs, fmt.Errorf("%s: remove %s: %w", link.Attrs().Name, a.IPNet, err))
			}
		}
	}
	return errors.Join(errs...)
}

// sleep waits for d, or returns the reason why ctx ended before.
func sleep(ctx context.Context, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}
