package agent

import (
	"context"
	"fmt"
	"io/fs"
	"net"
	"net/http"
	"net/netip"
	"strings"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/clustervision/luna/boot"
	"github.com/clustervision/luna/boot/dhcp"
	"github.com/clustervision/luna/boot/tftp"
	"github.com/clustervision/luna/inventory"
)

// runner is a service that has opened its sockets.
type runner interface {
	Run(ctx context.Context) error
}

// runFunc makes a runner of a function.
type runFunc func(ctx context.Context) error

func (f runFunc) Run(ctx context.Context) error { return f(ctx) }

// serveNodes gives nodes all they need on every network that this head is on:
// HTTP and TFTP at this head's address there, DHCP on the device behind it. The
// services follow the inventory and the machine's addresses.
func (m *member) serveNodes(ctx context.Context) error {
	dirs := m.cfg.IPXEDirs
	if len(dirs) == 0 {
		dirs = boot.LoaderDirs()
	}
	loaders := boot.FindLoaders(dirs...)
	if len(loaders) == 0 {
		m.warn.set("loaders", fmt.Errorf("no iPXE in %v: install the package ipxe (Debian) or ipxe-bootimgs (RHEL), or set ipxe-dir", dirs))
		m.log.Warn("no iPXE loaders found: machines whose firmware is not iPXE cannot boot", "dirs", dirs)
	}
	h := boot.NewHandler(boot.HandlerConfig{
		View: m.machine.View, Current: m.mayTell, Live: m.serving, Files: m.artifactPath, Loaders: loaders, Tracker: m.tracker,
		Torrent: m.torrent, BindMAC: m.bindMAC, Report: m.report, Logger: m.log,
	})
	all, ctx := errgroup.WithContext(ctx)
	all.Go(func() error {
		return serve(ctx, eitherListener{guarded{m.httpL, m.guard}, m.nodeTLS()}, m.counted(h), m.log)
	})
	all.Go(func() error { return m.followNetworks(ctx, h, loaders) })
	return all.Wait()
}

// followNetworks starts and stops services as networks and addresses come and go.
func (m *member) followNetworks(ctx context.Context, h *boot.Handler, loaders boot.Loaders) error {
	type run struct {
		stop context.CancelFunc
		done chan struct{}
	}
	running := map[service]run{}
	m.opening.Add(1)
	looked := sync.OnceFunc(func() { m.opening.Add(-1) })
	all, ctx := errgroup.WithContext(ctx)
	for {
		changed := m.machine.Changed()
		want := m.services(h, loaders)
		var ending []chan struct{}
		for s, r := range running {
			if want[s] == nil {
				r.stop()
				delete(running, s)
				ending = append(ending, r.done)
			}
		}
		for late := time.After(time.Second); len(ending) > 0; ending = ending[1:] {
			select {
			case <-ending[0]: // what comes in its place may want its port
			case <-late:
				ending = ending[:1]
			}
		}
		for s, open := range want {
			if _, runs := running[s]; runs {
				continue
			}
			own, stop := context.WithCancel(ctx)
			done := make(chan struct{})
			running[s] = run{stop, done}
			m.opening.Add(1)
			all.Go(func() error {
				defer close(done)
				return m.keep(own, s.name, open)
			})
		}
		looked()
		select {
		case <-ctx.Done():
			return all.Wait()
		case <-changed:
		case <-time.After(5 * time.Second):
		}
	}
}

// service is one that runs for nodes. Where anything of it changes it is another one.
type service struct {
	name string     // for people: what, and where
	addr netip.Addr // of this head
	// device is where DHCP is: sockets do not follow a device that is made anew, by
	// the same name, and do not tell.
	device device
}

// device is a network device. Its name may become another's, its index not.
type device struct {
	name  string
	index int
}

// services gives what should run now.
func (m *member) services(h *boot.Handler, loaders boot.Loaders) map[service]func() (runner, error) {
	want := map[service]func() (runner, error){}
	served := map[device]bool{}
	self := m.describe()
	devices := deviceOf()
	for n := range m.machine.View().Networks() {
		addr, ok := self.AddressIn(n.Prefix)
		if !ok || !addr.Is4() {
			continue
		}
		if specific(m.cfg.Bind) && addr != m.cfg.Bind {
			want[service{name: "HTTP on " + addr.String(), addr: addr}] = func() (runner, error) {
				l, err := listen(addr, self.HTTPPort, "http-port")
				return runFunc(func(ctx context.Context) error {
					return serve(ctx, eitherListener{guarded{l, m.guard}, m.nodeTLS()}, m.counted(h), m.log)
				}), err
			}
		}
		if n.Range.IsZero() {
			continue
		}
		if m.cfg.TFTPPort >= 0 {
			want[service{name: "TFTP on " + addr.String(), addr: addr}] = func() (runner, error) {
				return tftp.New(tftp.Config{Addr: netip.AddrPortFrom(addr, uint16(m.cfg.TFTPPort)).String(), Open: h.OpenTFTP, Logger: m.log})
			}
		}
		if all := boot.Broadcast(n.Prefix); m.firstScript() && all.IsValid() {
			want[service{name: "TFTP on " + all.String(), addr: addr}] = func() (runner, error) {
				return tftp.New(tftp.Config{
					Addr: netip.AddrPortFrom(all, uint16(m.cfg.TFTPPort)).String(), Open: h.OpenTFTP, Logger: m.log,
					Answers: func() bool {
						n, ok := m.machine.View().NetworkOf(addr)
						return ok && m.answers(n.ID) != dhcp.Silent
					},
				})
			}
		}
		d, ok := devices[addr]
		if m.cfg.DHCPPort < 0 || !ok || served[d] {
			continue
		}
		served[d] = true
		want[service{name: "DHCP on " + d.name, addr: addr, device: d}] = func() (runner, error) { return m.openDHCP(d.name, addr, loaders) }
	}
	return want
}

func (m *member) openDHCP(device string, addr netip.Addr, loaders boot.Loaders) (runner, error) {
	return dhcp.New(dhcp.Config{
		Device: device, Address: addr, Self: m.cfg.Name, View: m.machine.View,
		Answers: m.answers, Lease: m.lease, LeaseTime: leaseTime, Loaders: loaders, Logger: m.log,
		FirstScript: m.firstScript(),
	})
}

// firstScript tells whether iPXE gets its first script by TFTP from whichever head
// answers: it knows one port of TFTP.
func (m *member) firstScript() bool { return m.cfg.TFTPPort == 69 }

// deviceOf gives the network device of each of the machine's addresses.
func deviceOf() map[netip.Addr]device {
	devices := map[netip.Addr]device{}
	ifaces, err := net.Interfaces()
	if err != nil {
		return devices
	}
	for _, i := range ifaces {
		addrs, err := i.Addrs()
		if err != nil || i.Flags&net.FlagUp == 0 {
			continue
		}
		for _, a := range addrs {
			if p, err := netip.ParsePrefix(a.String()); err == nil {
				devices[p.Addr().Unmap()] = device{i.Name, i.Index}
			}
		}
	}
	return devices
}

// keep runs a service until ctx ends, opening it again after it failed: a
// device may come back, another program may let go of a port.
func (m *member) keep(ctx context.Context, name string, open func() (runner, error)) error {
	defer m.warn.set(name, nil)
	tried := sync.OnceFunc(func() { m.opening.Add(-1) })
	for {
		r, err := open()
		tried()
		if err == nil {
			m.log.Info("serving nodes", "service", name)
			if m.warn.set(name, nil) {
				m.log.Info("service recovered", "service", name)
			}
			err = r.Run(ctx)
		}
		if ctx.Err() != nil {
			return nil
		}
		if m.warn.set(name, err) && err != nil {
			m.log.Error("a service for nodes does not run", "service", name, "err", err)
		}
		if !pause(ctx, 2*time.Second) {
			return nil
		}
	}
}

// answers says what this head may answer on a network now.
func (m *member) answers(network inventory.ID) dhcp.Duty {
	inv := m.machine.View()
	n, ok := inv.NetworkByID(network)
	if !ok || n.Range.IsZero() {
		return dhcp.Silent
	}
	if m.outside() != nil {
		return dhcp.Silent
	}
	st := m.standing()
	if holder, ok := inv.HeadByID(n.Duty.Holder); ok {
		st.holds, st.holderLives = holder.Name == m.cfg.Name, m.live(holder.Name)
	}
	return st.duty()
}

// leaseTime is short: most unknown machines become nodes, and then have an
// address of their own.
const leaseTime = 10 * time.Minute

// lease commits a pool address for an unknown machine, another one than it declined.
func (m *member) lease(ctx context.Context, network string, mac inventory.MAC, declined netip.Addr) (netip.Addr, time.Duration, error) {
	r, err := m.propose(ctx, m.byItself(), inventory.LeaseAddress{Network: network, MAC: mac, At: time.Now().UTC(), TTL: leaseTime, Declined: declined})
	var l inventory.Lease
	if err == nil {
		err = r.Into(&l)
	}
	return l.Addr, leaseTime, err
}

// counted counts the requests for files that are being answered: a head that is
// drained waits for them. And it vouches for nodes.
func (m *member) counted(h http.Handler) http.Handler {
	return vouch(wellFormed, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if strings.HasPrefix(r.URL.Path, "/artifacts/") || strings.HasPrefix(r.URL.Path, "/boot/") {
			m.transfers.Add(1)
			defer m.transfers.Add(-1)
		}
		h.ServeHTTP(w, r)
	}))
}

// bindMAC makes a machine a node, as chosen at its boot menu.
func (m *member) bindMAC(ctx context.Context, node string, mac inventory.MAC) error {
	r, err := m.propose(ctx, inventory.Asker{By: "boot menu", From: m.cfg.Name}, inventory.ChangeNodes{Names: []string{node}, MAC: &mac})
	if err == nil {
		err = r.Into(nil)
	}
	return err
}

// torrent makes the .torrent of an artifact, for other clients.
func (m *member) torrent(sum string, heads []string) ([]byte, error) {
	for v := range m.machine.View().Versions() {
		for _, a := range artifacts(v) {
			if a.SHA256 != sum {
				continue
			}
			d, err := descriptor(a)
			if err != nil {
				return nil, err
			}
			scheme := boot.Scheme(m.machine.View())
			var trackers, seeds []string
			for _, h := range heads {
				trackers = append(trackers, scheme+"://"+h+"/announce")
				seeds = append(seeds, scheme+"://"+h+"/artifacts/"+sum)
			}
			return d.Torrent(trackers, seeds)
		}
	}
	return nil, fmt.Errorf("artifact %s: %w", sum, fs.ErrNotExist)
}
