package failover

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"net/netip"
	"os/exec"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/insomniacslk/dhcp/dhcpv4"
	"golang.org/x/sync/errgroup"

	"github.com/clustervision/luna/test/lab"
)

// client is a machine that asks DHCP.
type client struct {
	mac  net.HardwareAddr
	wire *wire
	in   chan heard
	rest time.Duration // from one exchange to the next, on average; 0 is rest
	silence
}

// machine puts a machine on the wire; its hardware address is made of its name.
func (w *wire) machine(name string) *client { return w.machineOf(hardware(name)) }

// get gives a machine that is on the wire already.
func (w *wire) get(name string) *client {
	mac := hardware(name).String()
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.machines[mac]
}

// hardware makes an address of a name.
func hardware(name string) net.HardwareAddr {
	sum := sha256.Sum256([]byte(name))
	return net.HardwareAddr{0x02, 0x30, sum[0], sum[1], sum[2], sum[3]}
}

func (w *wire) machineOf(mac net.HardwareAddr) *client {
	c := &client{mac: mac, wire: w, in: make(chan heard, 32)}
	w.mu.Lock()
	defer w.mu.Unlock()
	w.machines[mac.String()] = c
	return c
}

// errSilent says that no answer has come in time.
var errSilent = errors.New("no answer")

// exchange is DISCOVER, OFFER, REQUEST, ACK, from the beginning until it has
// succeeded. What is not answered is asked again after retry, with the time that the
// machine has waited in DHCP's secs field: a failover pair looks at it.
func (c *client) exchange(ctx context.Context, retry time.Duration) (answer, error) {
	began := time.Now()
	for {
		a, err := c.attempt(ctx, began, retry)
		if err == nil {
			c.heard(a)
			return a, nil
		}
		if ctx.Err() != nil {
			return answer{}, fmt.Errorf("%s: %w, after %.1f s", c.mac, err, time.Since(began).Seconds())
		}
		if !errors.Is(err, errSilent) {
			return answer{}, err
		}
	}
}

// lease is an exchange of an impatient machine, which must succeed within a minute.
func (c *client) lease(ctx context.Context) (answer, error) {
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	return c.exchange(ctx, impatience)
}

func (c *client) attempt(ctx context.Context, began time.Time, retry time.Duration) (answer, error) {
	discover, err := dhcpv4.NewDiscovery(c.mac)
	if err != nil {
		return answer{}, err
	}
	offer, err := c.ask(ctx, discover, began, retry)
	if err != nil {
		return answer{}, err
	}
	request, err := dhcpv4.NewRequestFromOffer(offer.packet)
	if err != nil {
		return answer{}, err
	}
	request.TransactionID = discover.TransactionID
	ack, err := c.ask(ctx, request, began, retry)
	if err != nil {
		return answer{}, err
	}
	if ack.kind != dhcpv4.MessageTypeAck {
		return answer{}, errSilent // a NAK: begin again
	}
	return ack.answer, nil
}

// ask sends a question and waits for its answer.
func (c *client) ask(ctx context.Context, p *dhcpv4.DHCPv4, began time.Time, patience time.Duration) (heard, error) {
	p.NumSeconds = uint16(time.Since(began) / time.Second)
	c.wire.book.ask(p)
	if err := c.wire.send(c.mac, p); err != nil && ctx.Err() == nil && !errors.Is(err, net.ErrClosed) {
		return heard{}, fmt.Errorf("%s: ask: %w", c.mac, err)
	}
	wants := dhcpv4.MessageTypeOffer
	if p.MessageType() == dhcpv4.MessageTypeRequest {
		wants = dhcpv4.MessageTypeAck
	}
	timer := time.NewTimer(patience)
	defer timer.Stop()
	for {
		select {
		case h := <-c.in:
			if h.question == p.TransactionID && (h.kind == wants || wants == dhcpv4.MessageTypeAck && h.kind == dhcpv4.MessageTypeNak) {
				return h, nil
			}
		case <-timer.C:
			return heard{}, errSilent
		case <-ctx.Done():
			return heard{}, errSilent
		}
	}
}

const (
	impatience = 150 * time.Millisecond // until a client of a load asks again
	rest       = 150 * time.Millisecond
)

// goOn does one exchange after the other until ctx ends.
func (c *client) goOn(ctx context.Context) error {
	pause := max(c.rest, rest)
	for ctx.Err() == nil {
		if _, err := c.exchange(ctx, max(impatience, pause/2)); err != nil && ctx.Err() == nil {
			return err
		}
		select {
		case <-ctx.Done():
		case <-time.After(pause/2 + rand.N(pause)):
		}
	}
	return nil
}

// silence measures the time from one good answer to the next.
type silence struct {
	mu    sync.Mutex
	last  answer
	since time.Time // when an answer first had the address that the last one has
	worst time.Duration
	from  map[netip.Addr]bool
}

// begin measures from now on; the time since the last good answer counts.
func (s *silence) begin() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.worst, s.from = 0, map[netip.Addr]bool{}
}

// heard is told of a good answer.
func (s *silence) heard(a answer) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.last.at.IsZero() {
		s.worst = max(s.worst, a.at.Sub(s.last.at))
	}
	if s.from == nil {
		s.from = map[netip.Addr]bool{}
	}
	if a.address != s.last.address {
		s.since = a.at
	}
	s.last = a
	s.from[a.from] = true
}

// longest gives the longest time without a good answer since begin.
func (s *silence) longest() time.Duration {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.worst
}

// latest gives the last good answer.
func (s *silence) latest() answer {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.last
}

// settled tells since when the machine has the address that it has.
func (s *silence) settled() time.Time {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.since
}

// other is nil where a server other than that one has given a good answer since
// begin.
func (s *silence) other(than netip.Addr) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	for a := range s.from {
		if a != than {
			return nil
		}
	}
	return fmt.Errorf("no good answer from another server than %s; the last: %s", than, s.last)
}

// udhcpc is busybox's client, on a host of its own, run again and again. It asks
// again after a second, at the earliest.
type udhcpc struct {
	host *lab.Host
	book *book
	silence
}

func newUDHCPC(ctx context.Context, l *lab.Lab, b *book, name string) (*udhcpc, error) {
	if out, err := exec.CommandContext(ctx, "busybox", "--list").Output(); err != nil || !strings.Contains(string(out), "udhcpc\n") {
		return nil, errors.New("busybox with udhcpc is not installed: run make deps")
	}
	host, err := l.Host(ctx, name)
	return &udhcpc{host: host, book: b}, err
}

func (u *udhcpc) goOn(ctx context.Context) error {
	for ctx.Err() == nil {
		cmd := u.host.Command(ctx, "busybox", "udhcpc", "-f", "-q", "-n", "-i", "eth0", "-T", "1", "-t", "20", "-s", "/bin/true")
		out, err := cmd.CombinedOutput()
		at := time.Now()
		for line := range strings.Lines(string(out)) {
			// udhcpc: lease of 10.30.0.1 obtained from 10.30.255.254, lease time 28800
			words := strings.Fields(strings.ReplaceAll(line, ",", ""))
			if len(words) > 6 && words[1] == "lease" && words[4] == "obtained" && words[5] == "from" {
				address, err1 := netip.ParseAddr(words[3])
				from, err2 := netip.ParseAddr(words[6])
				if err := errors.Join(err1, err2); err != nil {
					return fmt.Errorf("udhcpc says %q: %w", line, err)
				}
				a := answer{at: at, from: from, kind: dhcpv4.MessageTypeAck, mac: u.host.MAC().String(), address: address}
				u.book.note(a)
				u.heard(a)
			}
		}
		var exit *exec.ExitError
		if err != nil && !errors.As(err, &exit) && ctx.Err() == nil {
			return fmt.Errorf("udhcpc: %w", err)
		}
		select {
		case <-ctx.Done():
		case <-time.After(rest):
		}
	}
	return nil
}

// asker is whoever goes on asking.
type asker interface {
	goOn(ctx context.Context) error
}

// ask lets them all ask until stop is called, or the test ends.
func ask[A asker](tb testing.TB, all ...A) (stop func()) {
	tb.Helper()
	ctx, cancel := context.WithCancel(tb.Context())
	group, ctx := errgroup.WithContext(ctx)
	for _, a := range all {
		group.Go(func() error { return a.goOn(ctx) })
	}
	stop = sync.OnceFunc(func() {
		cancel()
		if err := group.Wait(); err != nil {
			tb.Error(err)
		}
	})
	tb.Cleanup(stop)
	return stop
}
