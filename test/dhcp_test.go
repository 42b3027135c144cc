package test

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/insomniacslk/dhcp/dhcpv4"
	"github.com/insomniacslk/dhcp/dhcpv4/nclient4"
	"golang.org/x/sync/errgroup"

	"github.com/clustervision/luna/test/lab"
	"github.com/clustervision/luna/test/lab/labtest"
	"github.com/clustervision/luna/test/site"
)

// TestDHCP: one head answers; when it dies another one does, and nobody's address
// changes. Two clients ask all the time, one as a known node and one as a machine
// that nobody knows; others come when the head dies.
func TestDHCP(t *testing.T) {
	s := newMesh(t, "dhcp", 3)
	ctx := labtest.Context(t, 3*time.Minute)
	holder, err := s.ServeDHCP(ctx)
	must(t, err)
	known, stranger := newAsker(t, s.Lab, "known"), newAsker(t, s.Lab, "stranger")
	addGroup(t, s.Heads[0], kernelTree(t, s.Lab))
	luna(t, s.Heads[0], "node", "add", "-g", "compute", "-n", "node001")
	luna(t, s.Heads[0], "node", "change", "node001", "--mac", known.node.MAC().String())

	addresses := map[*asker]netip.Prefix{known: netip.MustParsePrefix("10.30.0.1/16"), stranger: netip.MustParsePrefix("10.30.128.1/16")}
	leases := func(t *testing.T, from *site.Head) {
		t.Helper()
		for a, want := range addresses {
			lease, err := a.node.DHCP(ctx, false)
			must(t, err)
			if lease.Address != want || lease.Server != from.Addr {
				t.Errorf("%s has %s from %s, want %s from %s, %s", a.node.Name(), lease.Address, lease.Server, want, from.Name, from.Addr)
			}
		}
	}
	leases(t, holder)
	stop := known.askOn(ctx, t, stranger)
	all := []*asker{known, stranger}
	for i := range 2 {
		t.Run("kill -9 of "+holder.Name, func(t *testing.T) {
			late := newAsker(t, s.Lab, fmt.Sprintf("late%d", i+1))
			moving := newAsker(t, s.Lab, fmt.Sprintf("moving%d", i+1))
			all = append(all, late)
			defer moving.askOn(ctx, t)()
			must(t, site.Until(ctx, 5*time.Second, "a machine has a lease, as nobody knows it", func() error { return moving.has("10.30.128.", time.Time{}) }))
			defer late.askOn(ctx, t)()
			next := killHolder(t, s, holder, known, stranger, late)
			leases(t, next)

			// What the dead head knows becomes wrong: it must not say so when it is back.
			node, address := nodeName(i+2), fmt.Sprintf("10.30.0.%d", i+2)
			luna(t, next, "node", "add", "-g", "compute", "-n", node)
			luna(t, next, "node", "change", node, "--mac", moving.node.MAC().String())
			moved := time.Now()
			must(t, site.Until(ctx, 5*time.Second, "it has the address of a node", func() error { return moving.has(address, moved) }))
			must(t, holder.Start(ctx))
			must(t, s.Settle(ctx))
			quiet(t, next, known, stranger, moving)
			for _, r := range moving.since(moved) {
				if r.address.String() != address {
					t.Errorf("%s: %s of %s from %s, and it is %s with %s", moving.node.Name(), r.kind, r.address, r.server, node, address)
				}
			}
			holder = next
		})
	}
	stop()
	owner := map[netip.Addr]string{}
	for _, a := range all {
		answers := a.since(time.Time{})
		t.Logf("%s: %d answers", a.node.Name(), len(answers))
		for _, r := range answers {
			if r.kind == dhcpv4.MessageTypeNak || r.address != answers[0].address {
				t.Errorf("%s: %s of %s from %s, after %s", a.node.Name(), r.kind, r.address, r.server, answers[0].address)
			}
		}
		if other := owner[answers[0].address]; other != "" {
			t.Errorf("%s and %s have the same address %s", a.node.Name(), other, answers[0].address)
		}
		owner[answers[0].address] = a.node.Name()
	}
}

// killHolder kills the head that holds DHCP, measures how long each client is
// without an answer, and gives the next holder.
func killHolder(t *testing.T, s *site.Site, holder *site.Head, clients ...*asker) *site.Head {
	t.Helper()
	stood := standstill(t)
	holder.Agent.Kill9()
	killed := time.Now()
	for _, a := range clients {
		var first reply
		must(t, site.Until(t.Context(), 10*time.Second, a.node.Name()+" has an offer of another head", func() error {
			for _, r := range a.since(killed) {
				if r.server != holder.Addr && r.kind == dhcpv4.MessageTypeOffer {
					first = r
					return nil
				}
			}
			return errors.New("no answer")
		}))
		gap := first.at.Sub(killed)
		t.Logf("%s has an offer of %s from %s %.2f s after the kill", a.node.Name(), first.address, first.server, gap.Seconds())
		if gap-stood() > promised {
			t.Errorf("%s has an offer %s after the kill (the machine stood still for %s), %s are promised", a.node.Name(), gap, stood(), promised)
		}
	}
	next, err := s.Holder(t.Context(), s.Other(holder))
	must(t, err)
	if next == holder {
		t.Fatalf("the dead %s still holds DHCP", holder.Name)
	}
	return next
}

// quiet makes sure that the holder, and nobody else, answers each question, once.
func quiet(t *testing.T, holder *site.Head, clients ...*asker) {
	t.Helper()
	from := time.Now()
	for _, a := range clients {
		must(t, site.Until(t.Context(), 10*time.Second, a.node.Name()+" has asked a while", func() error {
			if n := len(a.since(from)); n < 20 {
				return fmt.Errorf("%d answers", n)
			}
			return nil
		}))
		seen := map[dhcpv4.TransactionID]bool{}
		for _, r := range a.since(from) {
			if r.server != holder.Addr || seen[r.question] {
				t.Errorf("%s: another answer, from %s, while %s holds DHCP", a.node.Name(), r.server, holder.Addr)
			}
			seen[r.question] = true
		}
	}
}

// asker is a simulated node that can go on asking DHCP for an offer, and that
// writes down every answer that comes to it, whoever's question it is for.
type asker struct {
	node *lab.Node
	conn net.PacketConn

	mu      sync.Mutex
	replies []reply
}

type reply struct {
	at              time.Time
	asked           time.Time // when the question was sent, if it was asker's own
	question        dhcpv4.TransactionID
	kind            dhcpv4.MessageType
	address, server netip.Addr
}

func newAsker(t *testing.T, l *lab.Lab, name string) *asker {
	t.Helper()
	n, err := l.Node(t.Context(), lab.NodeConfig{Name: name})
	must(t, err)
	a := &asker{node: n}
	must(t, n.Do(func() (err error) {
		a.conn, err = nclient4.NewRawUDPConn("eth0", nclient4.ClientPort)
		return err
	}))
	return a
}

// has tells whether an answer to what was asked after a moment gave an address that
// begins so.
func (a *asker) has(address string, after time.Time) error {
	for _, r := range a.since(after) {
		if strings.HasPrefix(r.address.String(), address) {
			return nil
		}
	}
	return errors.New("no such answer")
}

// askOn asks ten times a second, and the others too, until stop is called.
func (a *asker) askOn(ctx context.Context, t *testing.T, others ...*asker) (stop func()) {
	t.Helper()
	ctx, cancel := context.WithCancel(ctx)
	all, ctx := errgroup.WithContext(ctx)
	for _, a := range append(others, a) {
		var asked sync.Map // when, by transaction
		all.Go(func() error { return a.ask(ctx, &asked) })
		all.Go(func() error { return a.listen(&asked) })
		context.AfterFunc(ctx, func() { a.conn.Close() })
	}
	stop = sync.OnceFunc(func() {
		cancel()
		if err := all.Wait(); err != nil {
			t.Error(err)
		}
	})
	t.Cleanup(stop)
	return stop
}

func (a *asker) ask(ctx context.Context, asked *sync.Map) error {
	tick := time.NewTicker(100 * time.Millisecond)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
		discover, err := dhcpv4.NewDiscovery(a.node.MAC())
		if err != nil {
			return err
		}
		asked.Store(discover.TransactionID, time.Now())
		if _, err := a.conn.WriteTo(discover.ToBytes(), &net.UDPAddr{IP: net.IPv4bcast, Port: nclient4.ServerPort}); err != nil && ctx.Err() == nil {
			return fmt.Errorf("%s: ask DHCP: %w", a.node.Name(), err)
		}
	}
}

func (a *asker) listen(asked *sync.Map) error {
	buffer := make([]byte, 4096)
	for {
		n, _, err := a.conn.ReadFrom(buffer)
		if err != nil {
			return nil //nolint:nilerr // closed: nobody asks any more
		}
		packet, err := dhcpv4.FromBytes(buffer[:n])
		if err != nil {
			return fmt.Errorf("%s: a malformed answer: %w", a.node.Name(), err)
		}
		if !slices.Equal(packet.ClientHWAddr, a.node.MAC()) || packet.OpCode != dhcpv4.OpcodeBootReply {
			continue
		}
		r := reply{at: time.Now(), question: packet.TransactionID, kind: packet.MessageType()}
		r.address, _ = netip.AddrFromSlice(packet.YourIPAddr.To4())
		r.server, _ = netip.AddrFromSlice(packet.ServerIdentifier().To4())
		if at, ok := asked.Load(packet.TransactionID); ok {
			r.asked = at.(time.Time)
		}
		a.mu.Lock()
		a.replies = append(a.replies, r)
		a.mu.Unlock()
	}
}

// since gives the answers to what was asked after a moment; all of them, other
// clients' on the node too, since the zero moment.
func (a *asker) since(moment time.Time) []reply {
	a.mu.Lock()
	defer a.mu.Unlock()
	var found []reply
	for _, r := range a.replies {
		if moment.IsZero() || r.asked.After(moment) {
			found = append(found, r)
		}
	}
	return found
}
