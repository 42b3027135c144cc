package failover

import (
	"context"
	"crypto/rand"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/insomniacslk/dhcp/dhcpv4"
	"golang.org/x/sync/errgroup"

	"github.com/clustervision/luna/test/lab"
)

// mayGrow is by how many bytes the memory of an agent may grow while it is flooded.
const mayGrow = 512 << 20

// TestFlood: a host sends garbage to every port of the head that leads, opens
// connections and leaves them, and makes up machines. People's writes and machines'
// questions are answered all the same, no other head has to lead, and memory is
// bounded.
func TestFlood(t *testing.T) {
	full, _ := soak()
	m := newMesh(t, "flood", false)
	importNodes(t, m, loadNodes())
	w := m.newWire(t, "", "wire")
	clients := map[string]*client{"node is without an answer": w.machine("known0"), "unknown is without an answer": w.machine("unknown0")}
	target, err := m.leader(t.Context(), m.Heads[0])
	must(t, err)
	bad, err := m.Lab.Host(t.Context(), "bad", netip.MustParsePrefix("10.30.200.1/16"))
	must(t, err)

	calm := m.watch(t)
	stop := m.write(t)
	memory := m.memory(t)
	for _, c := range clients {
		ask(t, c)
		answered(t, c)
		c.begin()
	}
	f := flood{
		Target: target.Addr, UDP: []int{67, 69, 7946}, TCP: portsOfTCP(),
		Burst: 50, Connecting: 1, Pause: 20 * time.Millisecond, Lasting: lasting(10*time.Second, 2*time.Minute),
	}
	if full { // as much as there is time for
		f.Burst, f.Connecting, f.Pause = 1000, 8, 0
	}
	sent, err := f.on(t.Context(), bad)
	must(t, err)
	measured := map[string]sample{}
	for what, c := range clients {
		answered(t, c)
		measured[what] = sample{c.longest()}
	}
	measured["write is done"] = stop()
	calm(t)
	for name, rss := range memory() {
		t.Logf("the agent of %s has %d MiB before, %d at most, %d after", name, rss[0]>>20, slices.Max(rss)>>20, rss[len(rss)-1]>>20)
		if slices.Max(rss)-rss[0] > mayGrow {
			t.Errorf("the agent of %s grew by %d MiB", name, (slices.Max(rss)-rss[0])>>20)
		}
	}
	t.Logf("%s was sent %d packets on UDP, %d machines that are none, and %d connections with %d MiB", target.Name,
		sent.Packets, sent.MadeUp, sent.Connections, sent.Bytes>>20)
	t.Logf("\n%s", times(measured))
}

// portsOfTCP are all that a head may have. 7052 and following are the swarm's, of which
// it opens one.
func portsOfTCP() []int { return []int{7050, 7051, 8300, 7946, 7052, 7053, 7054} }

// TestFloodOfPort measures, in a soak, what a flood at full strength of one port of TCP
// after the other does: whether another head has to lead, and how long writes take.
func TestFloodOfPort(t *testing.T) {
	full, _ := soak()
	if !full {
		t.Skip("a measurement, for make soak")
	}
	m := newMesh(t, "floods", false)
	bad, err := m.Lab.Host(t.Context(), "bad", netip.MustParsePrefix("10.30.200.1/16"))
	must(t, err)
	m.write(t)()
	for _, ports := range [][]int{nil, {7050}, {7051}, {7052}, {7946}, {8300}, portsOfTCP()} {
		must(t, m.Settle(t.Context()))
		target, err := m.leader(t.Context(), m.Heads[0])
		must(t, err)
		led, err := m.led()
		must(t, err)
		cpu, err := processor(target.Agent.Pid())
		must(t, err)
		stop := m.rewrite(t)
		f := flood{Target: target.Addr, TCP: ports, Connecting: 8, Lasting: lasting(10*time.Second, 30*time.Second)}
		sent, err := f.on(t.Context(), bad)
		must(t, err)
		writes := stop()
		spent, err := processor(target.Agent.Pid())
		must(t, err)
		must(t, m.Settle(t.Context()))
		again, err := m.led()
		must(t, err)
		t.Logf("ports %d: %d connections with %d MiB in %s; %d words of a new leader; the agent spent %s\n%s", ports,
			sent.Connections, sent.Bytes>>20, f.Lasting, again-led, spent-cpu, times(map[string]sample{"write is done": writes}))
	}
}

// processor gives how long a process has run on any processor.
func processor(pid int) (time.Duration, error) {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return 0, err
	}
	// proc(5): utime and stime are the fields 14 and 15, in hundredths of a second; the
	// name, which is field 2, may have blanks.
	_, rest, _ := strings.Cut(string(text), ") ")
	var ticks int64
	if fields := strings.Fields(rest); len(fields) > 12 {
		for _, field := range fields[11:13] {
			n, err := strconv.ParseInt(field, 10, 64)
			if err != nil {
				return 0, err
			}
			ticks += n
		}
	}
	return time.Duration(ticks) * 10 * time.Millisecond, nil
}

// memory reads the resident memory of each agent until it is called.
func (m *mesh) memory(t *testing.T) (stop func() map[string][]int64) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	all := map[string][]int64{}
	read := func() (err error) {
		for _, h := range m.Heads {
			rss, e := resident(h.Agent.Pid())
			all[h.Name] = append(all[h.Name], rss)
			err = errors.Join(err, e)
		}
		return err
	}
	must(t, read())
	done := make(chan error, 1)
	go func() {
		tick := time.NewTicker(200 * time.Millisecond)
		defer tick.Stop()
		for {
			select {
			case <-ctx.Done():
				done <- nil
				return
			case <-tick.C:
			}
			if err := read(); err != nil {
				done <- err
				return
			}
		}
	}()
	return func() map[string][]int64 {
		cancel()
		if err := errors.Join(<-done, read()); err != nil {
			t.Error(err)
		}
		return all
	}
}

// resident gives the bytes of memory that a process has.
func resident(pid int) (int64, error) {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/statm", pid))
	if err != nil {
		return 0, err
	}
	fields := strings.Fields(string(text))
	if len(fields) < 2 {
		return 0, fmt.Errorf("statm of %d: %q", pid, text)
	}
	pages, err := strconv.ParseInt(fields[1], 10, 64)
	return pages * int64(os.Getpagesize()), err
}

// flood is garbage from one host to one head. It is sent by a process of its own, so
// that this one, which measures, is not as busy as it is.
type flood struct {
	Target     netip.Addr
	UDP, TCP   []int         // the ports
	Burst      int           // packets to each port of UDP every ten milliseconds
	Connecting int           // at a time, to each port of TCP
	Pause      time.Duration // between two such connections
	Lasting    time.Duration

	sent struct{ packets, madeUp, connections, bytes atomic.Int64 }
}

// sent is what a flood was.
type sent struct{ Packets, MadeUp, Connections, Bytes int64 }

// floods is the variable that makes a flood of this program: it holds one, in JSON.
const floods = "LUNA_TEST_FLOOD"

// TestMain is the flood, where it was started as one.
func TestMain(m *testing.M) {
	order := os.Getenv(floods)
	if order == "" {
		os.Exit(m.Run())
	}
	var f flood
	err := json.Unmarshal([]byte(order), &f)
	if err == nil {
		ctx, cancel := context.WithTimeout(context.Background(), f.Lasting)
		defer cancel()
		err = f.run(ctx)
	}
	if err == nil {
		err = json.NewEncoder(os.Stdout).Encode(sent{f.sent.packets.Load(), f.sent.madeUp.Load(), f.sent.connections.Load(), f.sent.bytes.Load()})
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

// on floods from a host, as long as the flood lasts.
func (f *flood) on(ctx context.Context, h *lab.Host) (s sent, err error) {
	program, err := os.Executable()
	if err != nil {
		return s, err
	}
	order, err := json.Marshal(f)
	if err != nil {
		return s, err
	}
	cmd := h.Command(ctx, program)
	cmd.Env = append(os.Environ(), floods+"="+string(order))
	cmd.Stderr = os.Stderr
	out, err := cmd.Output()
	if err == nil {
		err = json.Unmarshal(out, &s)
	}
	return s, err
}

// dial connects to the head. It does not wait for long.
func (f *flood) dial(ctx context.Context, network string, port int) (net.Conn, error) {
	dialer := net.Dialer{Timeout: time.Second}
	return dialer.DialContext(ctx, network, netip.AddrPortFrom(f.Target, uint16(port)).String())
}

// What else the flood is made of.
const (
	inventedMachines = 1000 // fewer than the pool has addresses: it must not run out
	leftOpen         = 100  // connections to each port that say no more than a byte
)

func (f *flood) run(ctx context.Context) error {
	all, ctx := errgroup.WithContext(ctx)
	for _, port := range f.UDP {
		all.Go(func() error { return f.udp(ctx, port) })
	}
	for _, port := range f.TCP {
		for range f.Connecting {
			all.Go(func() error { return f.tcp(ctx, port) })
		}
		all.Go(func() error { return f.leave(ctx, port) })
	}
	all.Go(func() error { <-ctx.Done(); return nil }) // it lasts, even where it is none
	if slices.Contains(f.UDP, serverPort) {
		all.Go(func() error { return f.invent(ctx) })
	}
	return all.Wait()
}

// udp sends packets of any length. Half of them begin as what the port expects.
func (f *flood) udp(ctx context.Context, port int) error {
	conn, err := f.dial(ctx, "udp", port)
	if err != nil {
		return err
	}
	defer conn.Close()
	discover, err := dhcpv4.NewDiscovery(net.HardwareAddr{2, 0xba, 0xd, 0, 0, 0})
	if err != nil {
		return err
	}
	starts := map[int][]byte{67: discover.ToBytes()[:236], 69: []byte("\x00\x01../../etc/passwd\x00octet\x00"), 7946: {12}}
	garbage := make([]byte, 1400)
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for i := 0; ; {
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
		for range f.Burst {
			if i++; i%100 == 1 {
				_, _ = rand.Read(garbage) // never fails
			}
			if copy(garbage, starts[port]); i%2 == 0 {
				garbage[0] ^= 0x55
			}
			if _, err := conn.Write(garbage[:1+i*37%len(garbage)]); err == nil { // a full buffer, or a refusal of before
				f.sent.packets.Add(1)
			}
			if ctx.Err() != nil {
				return nil
			}
		}
	}
}

// tcp opens connections, says what TLS, HTTP and BitTorrent begin with, and then
// garbage, until it is closed.
func (f *flood) tcp(ctx context.Context, port int) error {
	starts := []string{"", "\x16\x03\x01\xff\xff\x01", "GET /luna HTTP/1.1\r\nX: ", "\x13BitTorrent protocol", "POST / HTTP/1.1\r\nContent-Length: 99999999999\r\n\r\n"}
	garbage := make([]byte, 16<<10)
	for i := 0; ctx.Err() == nil; i++ {
		err := f.connect(ctx, port, func(conn net.Conn) {
			_, _ = rand.Read(garbage) // never fails
			n, _ := io.WriteString(conn, starts[i%len(starts)])
			f.sent.bytes.Add(int64(n))
			for range 64 {
				n, err := conn.Write(garbage)
				f.sent.bytes.Add(int64(n))
				if err != nil {
					return
				}
			}
		})
		pause := f.Pause
		if err != nil && !errors.Is(err, syscall.ECONNRESET) { // nobody listens there, or the queue is full
			pause = 100 * time.Millisecond
		}
		select {
		case <-ctx.Done():
		case <-time.After(pause):
		}
	}
	return nil
}

// connect makes a connection for a second at most.
func (f *flood) connect(ctx context.Context, port int, do func(net.Conn)) error {
	conn, err := f.dial(ctx, "tcp", port)
	if err != nil {
		return err
	}
	defer conn.Close()
	stop := context.AfterFunc(ctx, func() { conn.Close() })
	defer stop()
	f.sent.connections.Add(1)
	if err := conn.SetDeadline(time.Now().Add(time.Second)); err != nil {
		return err
	}
	do(conn)
	return nil
}

// leave opens connections and says a byte on each, no more.
func (f *flood) leave(ctx context.Context, port int) error {
	var open []net.Conn
	defer func() {
		for _, c := range open {
			c.Close()
		}
	}()
	for range leftOpen {
		conn, err := f.dial(ctx, "tcp", port)
		if err != nil {
			continue
		}
		f.sent.connections.Add(1)
		open = append(open, conn)
		_, _ = conn.Write([]byte{0x16})
	}
	<-ctx.Done()
	return nil
}

// invent asks DHCP for machines that do not exist.
func (f *flood) invent(ctx context.Context) error {
	conn, err := f.dial(ctx, "udp", serverPort)
	if err != nil {
		return err
	}
	defer conn.Close()
	for i := range inventedMachines {
		mac := net.HardwareAddr{2, 0xba, 0xd, 0, 0, 0}
		binary.BigEndian.PutUint16(mac[4:], uint16(i+1))
		discover, err := dhcpv4.NewDiscovery(mac)
		if err != nil {
			return err
		}
		if _, err := conn.Write(discover.ToBytes()); err == nil {
			f.sent.madeUp.Add(1)
		}
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(2 * time.Millisecond):
		}
	}
	return nil
}
