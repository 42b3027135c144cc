// Package dhcp answers DHCPv4 on one network device of a head.
//
// A packet goes through three pure steps: classify (what machine asks, by which
// firmware, through which relay), boot.Decide (what it boots), and the reply.
// Only the loop of Server touches sockets. The answer to a known node is
// computed from the replicated inventory and nothing is written, so two heads
// that both answer while the duty moves between them say the same, and a head
// that is cut off can go on. An unknown machine gets a pool address, and gets
// to see it only after its lease is committed.
//
// Identity is the hardware address. A client identifier is echoed and means
// nothing: firmware, iPXE and the operating system of one machine each send
// another.
//
// There is no goroutine per packet. One reads and answers, in some tens of
// microseconds each, and a fixed number commits leases, so a flood costs
// packets and not memory.
package dhcp

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"sync"
	"time"

	"github.com/insomniacslk/dhcp/dhcpv4"
	"golang.org/x/sys/unix"
	"golang.org/x/time/rate"

	"github.com/clustervision/luna/boot"
	"github.com/clustervision/luna/inventory"
)

// Config is what a Server works with.
type Config struct {
	// Device is the network device to listen on. One Server a device.
	Device string
	// Address is this head's on the device. Machines there are in its network, by
	// whatever name and ID the inventory knows that at the moment. Those behind
	// relays, and those that renew through a router, are in the network that their
	// packets tell.
	Address netip.Addr
	// Self is the name of this head.
	Self string
	// View gives the state as this head knows it. Required.
	View func() *inventory.Inventory
	// Answers tells, for each packet, what this head may answer on the network
	// of that ID at this moment. Required.
	Answers func(network inventory.ID) Duty
	// Lease commits a pool address of the network for the machine, or renews
	// the one it has, and returns after the commit with the address and the
	// time for which it is the machine's; another one than what the machine has
	// declined, if that is valid. Several are asked for at once. Required.
	Lease func(ctx context.Context, network string, mac inventory.MAC, declined netip.Addr) (netip.Addr, time.Duration, error)
	// LeaseTime is the time that Lease gives. A lease with three quarters of
	// it left is answered from without another commit. Default: 10 minutes.
	LeaseTime time.Duration
	// DNS gives the name servers to tell machines on the network of. Nil: none.
	DNS func(network inventory.ID) []netip.Addr
	// Loaders are what this head's TFTP and HTTP serve.
	Loaders boot.Loaders
	// FirstScript says that TFTP answers broadcasts on the network, and iPXE is sent
	// there: see boot.Site.FirstScript.
	FirstScript bool
	// NoRouterAdvertisements keeps iPXE waiting for a real router; see
	// routerAdvertisement.
	NoRouterAdvertisements bool
	// Logger gets what an operator should see. Nil: slog.Default.
	Logger *slog.Logger
}

// Server answers DHCP on one device.
type Server struct {
	Config
	link     link
	hardware net.HardwareAddr // of the device
	leases   *leaser
	now      func() time.Time
	complain rate.Sometimes // guards what a flood would fill the log with

	closing sync.Once
}

// New opens the sockets. It takes CAP_NET_BIND_SERVICE, CAP_NET_RAW and, for the
// size of the receive buffer, CAP_NET_ADMIN.
func New(c Config) (*Server, error) {
	iface, err := net.InterfaceByName(c.Device)
	if err != nil {
		return nil, fmt.Errorf("serve DHCP on device %s: %w", c.Device, err)
	}
	if len(iface.HardwareAddr) != 6 {
		return nil, fmt.Errorf("serve DHCP on device %s: it is no Ethernet device", c.Device)
	}
	d, err := openDevice(c.Device, serverPort)
	if err != nil {
		return nil, err
	}
	return newServer(c, d, iface.HardwareAddr), nil
}

func newServer(c Config, l link, hardware net.HardwareAddr) *Server {
	if c.LeaseTime == 0 {
		c.LeaseTime = 10 * time.Minute
	}
	if c.DNS == nil {
		c.DNS = func(inventory.ID) []netip.Addr { return nil }
	}
	if c.Logger == nil {
		c.Logger = slog.Default()
	}
	s := &Server{Config: c, link: l, hardware: hardware, leases: newLeaser(), now: time.Now, complain: rate.Sometimes{First: 5, Interval: 10 * time.Second}}
	s.leases.commit = c.Lease
	s.leases.answer = s.handle
	s.leases.failed = func(c claim, err error) {
		s.complain.Do(func() {
			s.Logger.Warn("no pool address for an unknown machine", "network", c.network, "mac", c.mac, "error", err)
		})
	}
	return s
}

// Run answers until ctx ends, and returns nil then. An error says that the
// device cannot be read any more: it is gone, or down. Make a new Server when
// it is back. The sockets are closed when Run returns.
func (s *Server) Run(ctx context.Context) error {
	ctx, stop := context.WithCancel(ctx)
	defer s.Close()
	release := context.AfterFunc(ctx, s.link.interrupt)
	defer release()

	var workers sync.WaitGroup
	defer workers.Wait()
	defer stop()
	for range leaseWorkers {
		workers.Go(func() { s.leases.work(ctx) })
	}
	return s.loop(ctx)
}

// Close closes the sockets of a Server that is not to be run. It may be called
// again.
func (s *Server) Close() (err error) {
	s.closing.Do(func() { err = s.link.close() })
	return err
}

func (s *Server) loop(ctx context.Context) error {
	buf := make([]byte, 4096) // no DHCP packet is longer than an Ethernet frame
	for {
		n, to, err := s.link.read(buf)
		switch {
		case ctx.Err() != nil:
			return nil
		case err != nil:
			return fmt.Errorf("read DHCP packets on device %s: %w", s.Device, err)
		}
		packet, err := dhcpv4.FromBytes(buf[:n])
		if err != nil {
			s.Logger.Debug("malformed DHCP packet dropped", "device", s.Device, "error", err)
			continue
		}
		r, err := classify(packet, to.IsValid() && to != broadcast)
		if err != nil {
			s.Logger.Debug("packet dropped", "device", s.Device, "mac", packet.ClientHWAddr, "error", err)
			continue
		}
		s.handle(r, grant{})
	}
}

// handle does what follows from a request.
func (s *Server) handle(r request, granted grant) {
	inv := s.View()
	self, ok := inv.Head(s.Self)
	if !ok {
		return // not a member yet, or no more
	}
	r.machine.Reached = s.FirstScript && !r.relay.IsValid()
	now := inv.Clock()
	if now.IsZero() { // a mesh of the first format goes by the heads' clocks
		now = s.now()
	}
	v := scene{
		inv: inv, self: self, home: s.Address, duty: s.Answers, dns: s.DNS,
		loaders: s.Loaders, poolTTL: s.LeaseTime, now: now,
	}.judge(r, granted)
	if v.note != "" {
		s.complain.Do(func() {
			s.Logger.Warn("DHCP request not granted", "device", s.Device, "mac", r.machine.MAC, "address", r.wants, "reason", v.note)
		})
	}
	switch {
	case v.lease != nil:
		if !s.leases.ask(v.lease, r) {
			s.complain.Do(func() {
				s.Logger.Warn("too many unknown machines wait for a pool address", "network", v.lease.Name, "waiting", leaseQueue)
			})
		}
	case v.reply != nil:
		s.answer(r, v)
	}
}

func (s *Server) answer(r request, v verdict) {
	err := s.advertise(r, v)
	if err == nil {
		err = s.transmit(r, v)
	}
	switch {
	case errors.Is(err, errOutOfDuty):
		s.Logger.Debug("DHCP answer dropped", "device", s.Device, "mac", r.machine.MAC, "error", err)
	case err != nil:
		s.complain.Do(func() {
			s.Logger.Warn("cannot send a DHCP answer", "device", s.Device, "mac", r.machine.MAC, "to", v.to.addr, "error", err)
		})
	case s.Logger.Enabled(context.Background(), slog.LevelDebug):
		s.Logger.Debug("DHCP answered", "device", s.Device, "mac", r.machine.MAC, "answer", v.reply.MessageType().String(),
			"address", v.reply.YourIPAddr.String(), "file", v.reply.BootFileName)
	}
}

var errOutOfDuty = errors.New("this head may not say so any more")

// transmit asks again, last of all, whether this head has the duty: it may have stood
// still with the answer in its hand, for long enough that another one holds.
func (s *Server) transmit(r request, v verdict) error {
	payload := v.reply.ToBytes()
	if !v.to.frame {
		if s.Answers(v.on) < v.under {
			return errOutOfDuty
		}
		return s.link.send(payload, v.to.addr)
	}
	to := r.packet.ClientHWAddr
	if v.to.addr.Addr() == broadcast {
		to = everybody
	}
	frame := udpPacket(netip.AddrPortFrom(v.from, serverPort), v.to.addr, payload)
	if s.Answers(v.on) < v.under {
		return errOutOfDuty
	}
	return s.link.frame(unix.ETH_P_IP, frame, to)
}

// advertise sends the router advertisement that goes with an answer to iPXE: before
// it, so that it is there when the DHCP answer ends the other wait.
func (s *Server) advertise(r request, v verdict) error {
	if !v.to.frame || r.machine.Firmware != boot.IPXE || s.NoRouterAdvertisements {
		return nil
	}
	return s.link.frame(unix.ETH_P_IPV6, routerAdvertisement(s.hardware, r.packet.ClientHWAddr), r.packet.ClientHWAddr)
}

// everybody is the Ethernet broadcast address.
var everybody = net.HardwareAddr{0xff, 0xff, 0xff, 0xff, 0xff, 0xff}
