package failover

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/clustervision/luna/test/lab"
	"github.com/clustervision/luna/test/site"
)

// What is promised of the gap that a dead holder leaves.
const (
	promisedMedian = 1500 * time.Millisecond
	promisedWorst  = 3 * time.Second // of 99 in 100
	// bearable is what a gap must not reach on any machine that runs at all.
	bearable = 15 * time.Second
)

// server is what can be killed: a head, or one of the pair that is not ours.
type server struct {
	name    string
	host    *lab.Host
	addr    netip.Addr
	process *lab.Process
}

// service is who serves DHCP together: a mesh, or the pair.
type service interface {
	// victim gives the server that is to die next.
	victim(ctx context.Context, round int) (server, error)
	// revive starts it again, and returns when all is as before.
	revive(ctx context.Context, dead server) error
}

// kill is a way to die.
type kill struct {
	name string
	do   func(ctx context.Context, s server) error
}

// A killed process closes its connections, and the kernel goes on to answer for its
// ports: others can know at once. A machine without power is just silent.
func kills() []kill {
	return []kill{
		{"kill -9", func(_ context.Context, s server) error {
			s.process.Kill9()
			return nil
		}},
		{"power cut", func(ctx context.Context, s server) error {
			err := s.host.Cut(ctx)
			s.process.Kill9()
			return err
		}},
	}
}

// load is clients that ask all the time: nodes, machines that nobody knows, and
// two of them with a client that is not ours.
type load struct {
	of      string // whose load it is
	wires   []*wire
	known   []*client
	unknown []*client
	real    []*udhcpc
	late    int // how many machines have come since
	stop    func()
}

const (
	loadWires   = 6
	loadClients = 2 // of each kind, on each wire
)

// loadNodes is the table of the load's nodes for luna import: the same names, and so
// the same hardware addresses, in each lab.
func loadNodes() (csv string) {
	var text strings.Builder
	text.WriteString("name,mac,ip\n")
	for i := range loadWires * loadClients {
		fmt.Fprintf(&text, "node%03d,%s,10.30.0.%d\n", i+1, hardware(fmt.Sprintf("known%d", i)), i+1)
	}
	return text.String()
}

func newLoad(tb testing.TB, l *lab.Lab, b *book, name string) *load {
	tb.Helper()
	d := &load{of: name}
	var all []asker
	for i := range loadWires {
		w, err := newWire(tb.Context(), l, b, "", fmt.Sprintf("wire%d", i))
		must(tb, err)
		tb.Cleanup(w.close)
		d.wires = append(d.wires, w)
		for j := range loadClients {
			n := i*loadClients + j
			d.known = append(d.known, w.machine(fmt.Sprintf("known%d", n)))
			d.unknown = append(d.unknown, w.machine(fmt.Sprintf("unknown%d", n)))
			all = append(all, d.known[n], d.unknown[n])
		}
	}
	for i := range 2 {
		u, err := newUDHCPC(tb.Context(), l, b, fmt.Sprintf("udhcpc%d", i))
		must(tb, err)
		d.real = append(d.real, u)
		all = append(all, u)
	}
	d.stop = ask(tb, all...)
	must(tb, site.Until(tb.Context(), time.Minute, "every client of the load has an address", func() error {
		for _, s := range d.all() {
			if !s.latest().address.IsValid() {
				return errors.New("not yet")
			}
		}
		return nil
	}))
	return d
}

// all gives what is measured of each client.
func (d *load) all() (all []*silence) {
	for _, c := range append(append([]*client{}, d.known...), d.unknown...) {
		all = append(all, &c.silence)
	}
	for _, u := range d.real {
		all = append(all, &u.silence)
	}
	return all
}

func (d *load) begin() {
	for _, s := range d.all() {
		s.begin()
	}
}

// otherThan waits until everybody has a good answer of another server.
func (d *load) otherThan(ctx context.Context, dead server) error {
	return site.Until(ctx, time.Minute, "each client has an answer of another server than "+dead.name, func() error {
		for _, s := range d.all() {
			if err := s.other(dead.addr); err != nil {
				return err
			}
		}
		return nil
	})
}

// gaps are what was measured, by kind of client.
type gaps struct {
	known, unknown, real, late, back sample
	stood                            time.Duration
}

// note takes down the longest silences since begin, without the time for which the
// machine did not run at all.
func (g *gaps) note(d *load, stood time.Duration) {
	for _, c := range d.known {
		g.known.add(c.longest() - stood)
	}
	for _, c := range d.unknown {
		g.unknown.add(c.longest() - stood)
	}
	for _, u := range d.real {
		g.real.add(u.longest() - stood)
	}
	g.stood += stood
}

// ours are the gaps of the clients that ask again soon enough to measure a gap.
func (g *gaps) ours() sample { return append(append(sample{}, g.known...), g.unknown...) }

// kill kills servers, rounds times in all, and measures how long each client is
// without a good answer. A machine that nobody knows comes at each of these moments.
func (d *load) kill(ctx context.Context, s service, rounds int, until time.Time) (map[string]*gaps, error) {
	measured := map[string]*gaps{}
	for i := range rounds {
		if !until.IsZero() && time.Now().After(until) {
			break
		}
		how := kills()[i%len(kills())]
		if measured[how.name] == nil {
			measured[how.name] = &gaps{}
		}
		if err := d.killOnce(ctx, s, i, how, measured[how.name]); err != nil {
			return nil, fmt.Errorf("%s, %s number %d: %w", d.of, how.name, i+1, err)
		}
	}
	return measured, nil
}

func (d *load) killOnce(ctx context.Context, s service, round int, how kill, g *gaps) error {
	victim, err := s.victim(ctx, round)
	if err != nil {
		return err
	}
	d.late++
	late := d.wires[d.late%len(d.wires)].machine(fmt.Sprintf("late%d", d.late))
	d.begin()
	stood := newStandstill()
	if err := how.do(ctx, victim); err != nil {
		return err
	}
	came := time.Now()
	first, err := late.lease(ctx)
	if err != nil {
		return fmt.Errorf("a machine that came when %s died: %w", victim.name, err)
	}
	if err := d.otherThan(ctx, victim); err != nil {
		return err
	}
	still := stood.end()
	g.note(d, still)
	g.late.add(first.at.Sub(came) - still)

	// That it comes back must disturb nobody.
	d.begin()
	stood = newStandstill()
	if err := victim.host.Heal(ctx); err != nil {
		return err
	}
	if err := s.revive(ctx, victim); err != nil {
		return err
	}
	still = stood.end()
	for _, c := range append(append([]*client{}, d.known...), d.unknown...) {
		g.back.add(c.longest() - still)
	}
	return nil
}

// victim is the head that holds DHCP.
func (m *mesh) victim(ctx context.Context, _ int) (server, error) {
	h, err := m.holder(ctx, nil)
	if err != nil {
		return server{}, err
	}
	return server{h.Name, h.Host, h.Addr, h.Agent}, nil
}

func (m *mesh) revive(ctx context.Context, dead server) error {
	if err := m.Head(dead.name).Start(ctx); err != nil {
		return err
	}
	return m.Settle(ctx)
}

// TestHolderDies: whoever answers DHCP may die at any time: clients are without an
// answer for some second, and no address becomes two machines'. A pair of ISC's
// dhcpd dies in the same way, under the same load, for comparison.
func TestHolderDies(t *testing.T) {
	rounds, peerRounds, until := 8, 2, time.Time{} // the pair takes a quarter of a minute for some deaths
	full, length := soak()
	if full {
		rounds, peerRounds = 200, 50
	}
	if length > 0 {
		until = time.Now().Add(length / 2)
	}
	m := newMesh(t, "holder", false)
	importNodes(t, m, loadNodes())
	conf := m.exportPair(t)
	d := newLoad(t, m.Lab, m.book, "luna")
	ours, err := d.kill(t.Context(), m, rounds, until)
	must(t, err)
	d.stop()
	for _, twice := range m.book.twice() {
		t.Error(twice)
	}
	must(t, m.Lab.Close())

	if length > 0 {
		until = time.Now().Add(length / 2)
	}
	p := newPair(t, conf)
	peer := newLoad(t, p.lab, p.book, "dhcpd")
	theirs, err := peer.kill(t.Context(), p, peerRounds, until)
	must(t, err)
	peer.stop()
	for _, twice := range p.book.twice() {
		t.Logf("the pair: %s", twice)
	}

	t.Log("\n" + table(map[string]map[string]*gaps{"luna": ours, "dhcpd pair": theirs}))
	for name, b := range map[string]*book{"luna": m.book, "dhcpd pair": p.book} {
		offers, addresses := b.count()
		t.Logf("%s: %d offers of %d addresses, %d of them to more than one machine", name, offers, addresses, len(b.twice()))
	}
	var all sample
	for how, g := range ours {
		all = append(all, g.ours()...)
		if worst := g.ours().at(1); worst > bearable {
			t.Errorf("%s: a client was without an answer for %s", how, worst)
		}
	}
	if full && (all.at(0.5) > promisedMedian || all.at(0.99) > promisedWorst) {
		t.Errorf("the median gap is %s and 99 in 100 are under %s: %s and %s are promised", all.at(0.5), all.at(0.99), promisedMedian, promisedWorst)
	}
}

// importNodes makes nodes of a table.
func importNodes(tb testing.TB, m *mesh, csv string) {
	tb.Helper()
	_, err := m.Heads[0].LunaIn(tb.Context(), csv, "import", "-", "-g", "compute")
	must(tb, err)
}

// BenchmarkHolderDies measures the gap that a dead server leaves, by how it died: a
// head that holds DHCP, and one of a pair of ISC's dhcpd.
func BenchmarkHolderDies(b *testing.B) {
	report := func(b *testing.B, measured map[string]*gaps) {
		b.Helper()
		for how, g := range measured {
			unit := strings.ReplaceAll(how, " ", "")
			b.ReportMetric(g.ours().at(0.5).Seconds(), unit+"-p50-s")
			b.ReportMetric(g.ours().at(0.99).Seconds(), unit+"-p99-s")
		}
		b.ReportMetric(0, "ns/op") // of the whole round, with the return of the dead: it tells nothing
	}
	m := newMesh(b, "bench", false)
	importNodes(b, m, loadNodes())
	conf := m.exportPair(b)
	d := newLoad(b, m.Lab, m.book, "luna")
	b.Run("luna", func(b *testing.B) {
		measured, err := d.kill(b.Context(), m, 2*b.N, time.Time{})
		must(b, err)
		report(b, measured)
	})
	d.stop()
	must(b, m.Lab.Close())
	p := newPair(b, conf)
	d = newLoad(b, p.lab, p.book, "dhcpd")
	b.Run("dhcpd", func(b *testing.B) {
		measured, err := d.kill(b.Context(), p, 2*b.N, time.Time{})
		must(b, err)
		report(b, measured)
	})
}
