package conformance

import (
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/clustervision/luna/test/site"
)

// The inventory of the bench: as many nodes as the largest cluster that is planned for.
const (
	manyNodes  = 10_000
	manyGroups = 20
)

// BenchmarkTenThousand measures what an administrator waits for, from the start of the real program
// to its end, with 10,000 nodes in 20 groups on a real agent. Beside each figure stands the bar that
// the issue sets (bar-s), and what a peer takes for the same job in the same run (peer-s).
//
// The peer is sqlite3, the program, on a table of the same nodes in a file: it too starts, reads,
// prints a table (or JSON) of the same columns, or makes one transaction that is on the disk when it
// ends. It checks less and tells no other head, so it is about as quick as a program can be that
// keeps its data in a file: the ratio is the price of being a cluster, on this machine. The export has
// no such peer; jq reads and writes its JSON once.
func BenchmarkTenThousand(b *testing.B) {
	d := newDesk(b, "bench").with(b)
	d.again()
	d.ok("luna cluster init --frontend_address 10.30.255.254 --path $P --user root", "luna network add -n cluster -N 10.30.0.0 -P 16",
		"luna network add -n ipmi -N 10.31.0.0 -P 16", "luna osimage add -n compute -p $IMG", "luna bmcsetup add -n base")
	for g := range manyGroups {
		d.ok(fmt.Sprintf("luna group add -n g%02d -o compute -N cluster -bn ipmi -b base", g+1))
	}
	peer := newPeer(d)

	each := manyNodes / manyGroups
	for g := range manyGroups {
		d.ok(fmt.Sprintf("luna node add -g g%02d -n node[%05d-%05d] >/dev/null", g+1, g*each+1, (g+1)*each))
	}
	d.ok("luna --timeout 60s node change '%g[01-20]' --port 1")
	peer.fill(d)

	b.Run("NodeList", func(b *testing.B) {
		d.compare(b, 500*time.Millisecond, "luna node list >$D/list", peer.sql("-box", "SELECT name, grp, mac, 'BMC:   ' || bmc || char(10) || 'BOOTIF:' || bootif AS IPs FROM node ORDER BY grp, name"))
		if n := strings.Count(d.ok("cat $D/list"), "| node"); n != manyNodes {
			b.Errorf("the list has %d nodes", n)
		}
	})
	b.Run("NodeShow", func(b *testing.B) {
		d.compare(b, 100*time.Millisecond, "luna node show node05000 >/dev/null", peer.sql("-line", "SELECT * FROM node WHERE name = 'node05000'"))
	})
	b.Run("NodeListJSON", func(b *testing.B) {
		d.compare(b, time.Second, "luna node list -o json >$D/nodes.json", peer.sql("-json", "SELECT * FROM node ORDER BY grp, name"))
	})
	b.Run("ChangeFiveThousand", func(b *testing.B) {
		i := 0
		d.measure(b, 2*time.Second, func() string {
			i++
			return fmt.Sprintf("luna node change node[00001-05000] --port %d", i+1)
		}, func() string {
			return peer.sql("", fmt.Sprintf("UPDATE node SET port = '%d' WHERE name <= 'node05000'", i+1))
		})
	})
	b.Run("Export", func(b *testing.B) {
		d.compare(b, 0, "luna export >$D/all.yaml", "jq . $D/nodes.json >/dev/null")
	})
	b.Run("ApplyOwnExport", func(b *testing.B) {
		d.compare(b, 0, "luna --timeout 60s apply -f $D/all.yaml >/dev/null", "")
	})
	b.Run("CompleteName", func(b *testing.B) {
		d.compare(b, 0, "luna __complete node show node0500 >/dev/null 2>&1", peer.sql("", "SELECT name FROM node WHERE name LIKE 'node0500%'"))
	})
	b.Run("AddTenThousand", func(b *testing.B) { addTenThousand(b, d, peer) })
	b.Run("Memory", func(b *testing.B) {
		for b.Loop() {
			b.ReportMetric(memoryMiB(d, "VmRSS:"), "MiB")
			b.ReportMetric(memoryMiB(d, "VmHWM:"), "peak-MiB")
		}
		b.ReportMetric(300, "bar-MiB")
		b.ReportMetric(0, "ns/op")
	})
	b.Run("Restart", func(b *testing.B) { restart(b, d) })
}

// compare measures a line beside a peer's; a bar or a peer that is none is left out.
func (d *desk) compare(b *testing.B, bar time.Duration, line, peer string) {
	b.Helper()
	d.measure(b, bar, func() string { return line }, func() string { return peer })
}

func (d *desk) measure(b *testing.B, bar time.Duration, line, peer func() string) {
	b.Helper()
	var ours, theirs time.Duration
	rounds := 0
	for b.Loop() {
		ours += d.time(line())
		if p := peer(); p != "" {
			theirs += d.time(p)
		}
		rounds++
	}
	report(b, bar, ours/time.Duration(rounds), theirs/time.Duration(rounds))
}

// report gives the figures of one job, in seconds.
func report(b *testing.B, bar, ours, theirs time.Duration) {
	b.Helper()
	b.ReportMetric(0, "ns/op")
	b.ReportMetric(ours.Seconds(), "s")
	if bar > 0 {
		b.ReportMetric(bar.Seconds(), "bar-s")
	}
	if theirs > 0 {
		b.ReportMetric(theirs.Seconds(), "peer-s")
		b.ReportMetric(float64(ours)/float64(theirs), "ratio")
	}
}

// time is how long a line takes, with the shell that starts it.
func (d *desk) time(line string) time.Duration {
	d.Helper()
	start := time.Now()
	d.ok(line)
	return time.Since(start)
}

func addTenThousand(b *testing.B, d *desk, peer *peer) {
	d.ok("luna --timeout 60s node delete '%g[01-20]'")
	var ours, theirs time.Duration
	rounds := 0
	for b.Loop() {
		if rounds > 0 {
			d.ok("luna --timeout 60s node delete 'x[00001-10000]'")
		}
		ours += d.time("luna node add -g g01 -n x[00001-10000] >/dev/null")
		d.ok(peer.sql("", "DELETE FROM node"))
		theirs += d.time(peer.sql("", ".read "+peer.inserts))
		rounds++
	}
	report(b, 3*time.Second, ours/time.Duration(rounds), theirs/time.Duration(rounds))
}

// restart stops the agent in order and starts it: it has its inventory again when it answers with it.
func restart(b *testing.B, d *desk) {
	var took time.Duration
	rounds := 0
	for b.Loop() {
		d.must(d.head.Agent.Stop(syscall.SIGTERM, 20*time.Second))
		start := time.Now()
		d.must(d.head.Start(d.Context()))
		d.must(site.Until(d.Context(), time.Minute, "the nodes are back", func() error {
			if r := d.run("", "luna node show x10000"); r.code != 0 {
				return fmt.Errorf("exit code %d: %s", r.code, r.errs)
			}
			return nil
		}))
		took += time.Since(start)
		rounds++
	}
	report(b, 5*time.Second, took/time.Duration(rounds), 0)
}

// memoryMiB is what the kernel says of the agent's memory: VmRSS that it has now, VmHWM at most.
func memoryMiB(d *desk, field string) float64 {
	d.Helper()
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", d.head.Agent.Pid()))
	d.must(err)
	for line := range strings.Lines(string(status)) {
		if rest, ok := strings.CutPrefix(line, field); ok {
			kib, err := strconv.Atoi(strings.Fields(rest)[0])
			d.must(err)
			return float64(kib) / 1024
		}
	}
	d.Fatal("no " + field)
	return 0
}

// peer is sqlite3 with a file of its own.
type peer struct{ file, inserts string }

func newPeer(d *desk) *peer {
	d.Helper()
	p := &peer{file: filepath.Join(d.path("D"), "peer.db"), inserts: filepath.Join(d.path("D"), "inserts.sql")}
	if d.run("", "command -v sqlite3 && command -v jq").code != 0 {
		d.Fatal("sqlite3 or jq is missing: run make deps")
	}
	d.ok(p.sql("", "CREATE TABLE node (name TEXT PRIMARY KEY, grp TEXT NOT NULL, mac TEXT UNIQUE, bootif TEXT UNIQUE, bmc TEXT UNIQUE, port TEXT, localboot INT, setupbmc INT, service INT, comment TEXT)"))
	var b strings.Builder
	b.WriteString("BEGIN;\n")
	for i := range manyNodes {
		fmt.Fprintf(&b, "INSERT INTO node VALUES ('node%05d', 'g%02d', NULL, '10.30.%d.%d', '10.31.%d.%d', '1', 0, 1, 0, NULL);\n",
			i+1, i/(manyNodes/manyGroups)+1, (i+1)/256, (i+1)%256, (i+1)/256, (i+1)%256)
	}
	b.WriteString("COMMIT;\n")
	d.must(os.WriteFile(p.inserts, []byte(b.String()), 0o600))
	return p
}

func (p *peer) fill(d *desk) {
	d.Helper()
	d.ok(p.sql("", ".read "+p.inserts))
}

// sql is the line that runs a statement.
func (p *peer) sql(format, statement string) string {
	return fmt.Sprintf("sqlite3 %s %s %q >/dev/null", format, p.file, statement)
}
