package lab

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// Host is a network namespace with its own cards: a head, a client, a server of the lab. It shares
// everything else, files above all, with the machine that it runs on.
type Host struct {
	lab       *Lab
	name      string
	namespace string
	links     []*link
}

// Host makes a host with one card, eth0, on the network "lan".
func (l *Lab) Host(ctx context.Context, hostName string, addresses ...netip.Prefix) (*Host, error) {
	return l.HostWith(ctx, hostName, NIC{Addresses: addresses})
}

// HostWith makes a host with the cards given: eth0, eth1 and so on, in their order.
func (l *Lab) HostWith(ctx context.Context, hostName string, nics ...NIC) (*Host, error) {
	h := &Host{lab: l, name: hostName, namespace: l.prefix + "." + hostName}
	if err := l.enter(h); err != nil {
		return nil, err
	}
	err := ip(ctx, "", "netns add "+h.namespace)
	if err == nil {
		err = ip(ctx, h.namespace, "link set lo up")
	}
	for i, nic := range nics {
		if err != nil {
			break
		}
		var k *link
		k, err = l.plug(ctx, h, i, nic)
		h.links = append(h.links, k)
	}
	if err != nil {
		return nil, fmt.Errorf("lab: make host %s: %w", hostName, err)
	}
	return h, nil
}

// enter takes the host's name.
func (l *Lab) enter(h *Host) error {
	if !name.MatchString(h.name) || h.name == "switch" {
		return fmt.Errorf("lab: host %q: want 1 to 11 lower-case letters, digits and dashes, and not \"switch\"", h.name)
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.closed {
		return errClosed
	}
	if l.hosts[h.name] != nil || l.machines[h.name] != nil {
		return fmt.Errorf("lab: %s exists already", h.name)
	}
	l.hosts[h.name] = h
	return nil
}

// Name is the host's name in the lab.
func (h *Host) Name() string { return h.name }

// Namespace is the host's name for ip(8): ip -n NAMESPACE address.
func (h *Host) Namespace() string { return h.namespace }

// MAC is the address of the host's first card.
func (h *Host) MAC() net.HardwareAddr { return h.links[0].mac }

// Cut pulls the cables of all the host's cards; the programs on it see the link go down.
func (h *Host) Cut(ctx context.Context) error { return h.each(ctx, "cut", (*link).cut) }

// Mute drops in silence all that the host sends, while it still hears the others.
func (h *Host) Mute(ctx context.Context) error {
	return h.each(ctx, "mute", func(k *link, ctx context.Context) error {
		return k.queue(ctx, k.namespace, k.card, false)
	})
}

// Deafen drops in silence all that is sent to the host, while the others still hear it.
func (h *Host) Deafen(ctx context.Context) error {
	return h.each(ctx, "deafen", func(k *link, ctx context.Context) error {
		return k.queue(ctx, k.lab.bridges(), k.port, false)
	})
}

// Heal undoes Cut, Mute and Deafen.
func (h *Host) Heal(ctx context.Context) error { return h.each(ctx, "heal", (*link).restore) }

// each does something to all the links of the host, also if it fails for one.
func (h *Host) each(ctx context.Context, verb string, do func(*link, context.Context) error) error {
	var errs []error
	for _, k := range h.links {
		errs = append(errs, do(k, ctx))
	}
	if err := errors.Join(errs...); err != nil {
		return fmt.Errorf("lab: %s %s: %w", verb, h.name, err)
	}
	return nil
}

// Command is an [exec.Cmd] that runs on the host, in a process group of its own. When the context
// ends, the whole group is killed; when this process dies, the program is too.
//
// Only the network differs: /sys shows the cards of the machine outside.
func (h *Host) Command(ctx context.Context, argv ...string) *exec.Cmd {
	return inNamespace(ctx, h.namespace, argv)
}

// inNamespace is a command in a namespace. nsenter becomes the program (it does not fork), so that
// the process id is the program's.
func inNamespace(ctx context.Context, namespace string, argv []string) *exec.Cmd {
	args := append([]string{"--net=" + filepath.Join(namespaces, namespace), "--"}, argv...)
	cmd := exec.CommandContext(ctx, "nsenter", args...)
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
	cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) }
	cmd.WaitDelay = 5 * time.Second // for the pipes, should a grandchild hold them
	return cmd
}

// Do calls f on a thread that is on the host's network: sockets opened there belong to the host,
// also after f has returned. What f starts as goroutines is outside.
func (h *Host) Do(f func() error) (err error) {
	runtime.LockOSThread()
	outside, err := os.Open("/proc/thread-self/ns/net")
	if err != nil {
		runtime.UnlockOSThread()
		return fmt.Errorf("lab: %w", err)
	}
	defer outside.Close()
	inside, err := os.Open(filepath.Join(namespaces, h.namespace))
	if err != nil {
		runtime.UnlockOSThread()
		return fmt.Errorf("lab: enter %s: %w", h.name, err)
	}
	defer inside.Close()
	if err := unix.Setns(int(inside.Fd()), unix.CLONE_NEWNET); err != nil {
		runtime.UnlockOSThread()
		return fmt.Errorf("lab: enter %s: %w", h.name, err)
	}
	defer func() {
		// The thread must go back and live on, not end here as locked threads do: it may be the
		// one that started a Process, which would be killed with it (Pdeathsig is of threads).
		if back := unix.Setns(int(outside.Fd()), unix.CLONE_NEWNET); back != nil {
			panic(fmt.Sprintf("lab: a thread is lost on the network of %s: %v", h.name, back))
		}
		runtime.UnlockOSThread()
	}()
	return f()
}

// Dial connects from the host to an address, which must be a numeric one. It is a
// [net.Dialer.DialContext] for clients of all kinds.
func (h *Host) Dial(ctx context.Context, network, address string) (conn net.Conn, err error) {
	if _, err := netip.ParseAddrPort(address); err != nil && network != "unix" {
		return nil, fmt.Errorf("lab: dial from %s: %w (names are not resolved here)", h.name, err)
	}
	err = h.Do(func() error {
		dialer := net.Dialer{Timeout: 10 * time.Second}
		conn, err = dialer.DialContext(ctx, network, address)
		return err
	})
	return conn, err
}

// Listen opens a TCP listener on the host.
func (h *Host) Listen(address string) (listener net.Listener, err error) {
	err = h.Do(func() error {
		listener, err = net.Listen("tcp", address)
		return err
	})
	return listener, err
}

// HTTP is a client on the host. It keeps no connections.
func (h *Host) HTTP() *http.Client {
	return &http.Client{Transport: &http.Transport{
		DialContext:           h.Dial,
		DisableKeepAlives:     true,
		ResponseHeaderTimeout: 20 * time.Second,
	}}
}
