package failover

import (
	"bufio"
	"fmt"
	"net/netip"
	"os"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/insomniacslk/dhcp/dhcpv4"

	"github.com/clustervision/luna/test/site"
)

// pool are the addresses that site.ServeDHCP gives to unknown machines.
var pool = netip.MustParsePrefix("10.30.128.0/20")

// TestTwin: a holder that hangs, and wakes up when its successor has given away
// what it believes to have, hands out nothing of what it knew: no pool address at
// all, and no node's address that is another's by now. Hundreds of questions wait
// in its socket when it wakes.
func TestTwin(t *testing.T) {
	t.Parallel() // with TestPartition: both wait more than they work
	rounds := 8
	full, length := soak()
	if full {
		rounds = 100
	}
	m := newMesh(t, "twin", false)
	importNodes(t, m, loadNodes())
	d := newLoad(t, m.Lab, m.book, "luna")
	end := time.Now().Add(length)
	var waiting []string
	for i := range rounds {
		if length > 0 && time.Now().After(end) {
			break
		}
		// As soon as there is a successor, or when the twin has been away for longer
		// than any time limit of its own.
		w := &waking{mesh: m, load: d, number: i, extra: time.Duration(i%5) * 700 * time.Millisecond}
		t.Run(fmt.Sprintf("round %d", i+1), func(t *testing.T) { waiting = append(waiting, w.run(t)) })
	}
	t.Logf("bytes in its socket when it woke: %s", strings.Join(waiting, " "))
}

// waking is one holder that hangs and wakes up.
type waking struct {
	*mesh
	load   *load
	number int
	extra  time.Duration // to hang, after there is a successor

	leased, old, new *client // one with a lease that becomes a node; and a node's hardware address, before and after
	node             string  // whose hardware address changes
	address          netip.Addr
}

func (w *waking) run(t *testing.T) (waiting string) {
	ctx := t.Context()
	w.book.clear()
	w.prepare(t)
	twin, err := w.holder(ctx, nil)
	must(t, err)
	defer twin.Agent.Continue()
	twin.Agent.Pause()
	paused := time.Now()
	next, err := w.holder(ctx, twin)
	must(t, err)
	w.load.begin()
	bound := fmt.Sprintf("bound%03d", w.number)
	luna(t, next, "node", "add", "-g", "compute", "-n", bound, "--mac", w.leased.mac.String())
	luna(t, next, "node", "change", w.node, "--mac", w.new.mac.String())
	fresh := w.load.wires[0].machine(fmt.Sprintf("fresh%d", w.number))
	_, err = fresh.lease(ctx)
	must(t, err)
	must(t, w.load.otherThan(ctx, server{name: twin.Name, addr: twin.Addr}))
	select {
	case <-ctx.Done():
	case <-time.After(w.extra):
	}
	waiting, err = queued(twin)
	must(t, err)
	woke := time.Now()

	w.book.turn()
	w.load.begin()
	twin.Agent.Continue()
	must(t, site.Until(ctx, 30*time.Second, twin.Name+" knows who holds DHCP", func() error {
		h, err := w.Holder(ctx, twin)
		if err == nil && h != next {
			err = fmt.Errorf("it takes %s for the holder", h.Name)
		}
		return err
	}))
	must(t, w.Settle(ctx))
	must(t, w.load.otherThan(ctx, server{name: twin.Name, addr: twin.Addr}))
	must(t, site.Until(ctx, 30*time.Second, "the node's new card has its address", func() error {
		if got := w.new.latest(); got.address != w.address {
			return fmt.Errorf("the last answer: %s", got)
		}
		return nil
	}))
	said := w.judge(t, twin, paused, woke)
	t.Logf("%s was away for %.1f s, with %s bytes waiting, and answered %d times when it was back; %s holds", twin.Name, woke.Sub(paused).Seconds(), waiting, said, next.Name)
	return waiting
}

// prepare puts three more machines on the wire, which ask all the time.
func (w *waking) prepare(t *testing.T) {
	on := w.load.wires[w.number%loadWires]
	name := func(what string) string { return fmt.Sprintf("%s%d", what, w.number) }
	w.leased, w.old, w.new = on.machine(name("leased")), on.machine(name("old")), on.machine(name("new"))
	w.node, w.address = fmt.Sprintf("moves%03d", w.number), netip.AddrFrom4([4]byte{10, 30, 1, byte(w.number + 1)})
	importNodes(t, w.mesh, fmt.Sprintf("name,mac,ip\n%s,%s,%s\n", w.node, w.old.mac, w.address))
	ask(t, w.leased, w.old, w.new)
	must(t, site.Until(t.Context(), 30*time.Second, "the machines have addresses", func() error {
		switch {
		case !pool.Contains(w.leased.latest().address):
			return fmt.Errorf("the machine that nobody knows: %s", w.leased.latest())
		case w.old.latest().address != w.address:
			return fmt.Errorf("the node: %s", w.old.latest())
		}
		return nil
	}))
}

// judge looks at all that the twin has said since it woke, but for an answer to an
// older question, which was in its hand when it was stopped.
func (w *waking) judge(t *testing.T, twin *site.Head, paused, woke time.Time) (said int) {
	right := map[string]netip.Addr{w.new.mac.String(): w.address, w.leased.mac.String(): w.leased.latest().address}
	for i, c := range w.load.known {
		right[c.mac.String()] = netip.AddrFrom4([4]byte{10, 30, 0, byte(i + 1)})
	}
	var wrong [3][]answer
	for _, a := range w.book.read() {
		if a.from != twin.Addr {
			continue
		}
		if at := w.book.askedAt(a); !at.IsZero() && at.Before(paused) {
			t.Logf("the twin had it in its hand: %s", a)
			continue
		}
		said++
		switch {
		case a.kind == dhcpv4.MessageTypeNak:
			wrong[0] = append(wrong[0], a)
		case pool.Contains(a.address):
			wrong[1] = append(wrong[1], a)
		case a.address != right[a.mac]:
			wrong[2] = append(wrong[2], a)
		}
	}
	for i, what := range []string{"refuses a machine", "hands out a pool address", "hands out what is not the machine's any more"} {
		if n := len(wrong[i]); n > 0 {
			t.Errorf("the twin %s, %d times in %s after it woke, first: %s", what, n, wrong[i][n-1].at.Sub(woke).Round(time.Millisecond), wrong[i][0])
		}
	}
	for _, twice := range w.book.twice() {
		if strings.Contains(twice, inTurns) {
			t.Error(twice)
		}
	}
	return said
}

// queued gives how many bytes of questions wait in the socket of DHCP on a head.
func queued(h *site.Head) (string, error) {
	f, err := os.Open(fmt.Sprintf("/proc/%d/net/udp", h.Agent.Pid()))
	if err != nil {
		return "", err
	}
	defer f.Close()
	for lines := bufio.NewScanner(f); lines.Scan(); {
		fields := strings.Fields(lines.Text())
		if len(fields) > 4 && strings.HasSuffix(fields[1], fmt.Sprintf(":%04X", serverPort)) {
			_, hex, _ := strings.Cut(fields[4], ":")
			n, err := strconv.ParseInt(hex, 16, 64)
			return strconv.FormatInt(n, 10), err
		}
	}
	return "", fmt.Errorf("%s has no socket of DHCP", h.Name)
}
