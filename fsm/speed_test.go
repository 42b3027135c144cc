package fsm_test

import (
	"bytes"
	"fmt"
	"io"
	"runtime"
	"syscall"
	"testing"
	"time"

	"github.com/hashicorp/raft"

	"github.com/clustervision/luna/fsm"
	"github.com/clustervision/luna/inventory"
)

// The largest cluster that is planned for.
const (
	manyNodes  = 10_000
	manyGroups = 20
)

// large is a site with the groups of a large cluster and no nodes.
func large(b *testing.B) *site {
	b.Helper()
	s := begun(b)
	commands := []inventory.Command{
		inventory.AddNetwork{Name: "cluster", Prefix: prefix("10.30.0.0/16")},
		inventory.AddNetwork{Name: "ipmi", Prefix: prefix("10.31.0.0/16")},
		inventory.AddOSImage{Name: "compute", Path: "/images/compute", KernVer: "6.1"},
		inventory.AddBMCSetup{Name: "base"},
		inventory.SetRange{Network: "cluster", Range: addrRange("10.30.200.0", "10.30.203.254")},
	}
	for i := range manyGroups {
		commands = append(commands, inventory.AddGroup{Name: fmt.Sprintf("g%02d", i), OSImage: "compute", Network: "cluster", BMCSetup: "base", BMCNetwork: "ipmi"})
	}
	for _, c := range commands {
		if r := s.do(c); r.Error != nil {
			b.Fatal(r.Error)
		}
	}
	return s
}

// nodeNames are those of the nodes from first on.
func nodeNames(first, count int) []string {
	names := make([]string, count)
	for i := range names {
		names[i] = fmt.Sprintf("node%05d", first+i)
	}
	return names
}

// populated is the large cluster with all its nodes, each with a MAC address.
func populated(b *testing.B) *site {
	b.Helper()
	s := large(b)
	per := manyNodes / manyGroups
	for i := range manyGroups {
		must(b, s, inventory.AddNodes{Group: fmt.Sprintf("g%02d", i), Names: nodeNames(1+i*per, per)})
	}
	d := inventory.Document{Luna: inventory.DocumentVersion, Nodes: map[string]inventory.NodeDoc{}}
	for i, name := range nodeNames(1, manyNodes) {
		d.Nodes[name] = inventory.NodeDoc{MAC: given(ptr(inventory.MAC(fmt.Sprintf("52:54:00:00:%02x:%02x", i>>8, i&0xff))))}
	}
	must(b, s, inventory.ApplyDocument{Document: d})
	return s
}

func must(b *testing.B, s *site, c inventory.Command) {
	b.Helper()
	if r := s.do(c); r.Error != nil {
		b.Fatalf("%s: %v", inventory.Verb(c), r.Error)
	}
}

// BenchmarkCommands measures commands on the large cluster. Each turn begins on
// the same state, which is restored outside of the clock.
func BenchmarkCommands(b *testing.B) {
	empty, full := large(b), populated(b)
	document := inventory.DocumentOf(full.View())
	half := nodeNames(1, manyNodes/2)
	increment := []inventory.SetAddress{{Interface: "BOOTIF", Addr: addr("10.30.100.1"), Increment: true}}
	comments := inventory.Document{Luna: inventory.DocumentVersion, Nodes: map[string]inventory.NodeDoc{}}
	for _, name := range nodeNames(1, manyNodes) {
		comments.Nodes[name] = inventory.NodeDoc{Comment: given(ptr("x"))}
	}
	one := make([]inventory.Command, 1000)
	for i := range one {
		one[i] = inventory.AddNodes{Group: "g00"}
	}
	switches := make([]inventory.Command, 100)
	for i := range switches {
		switches[i] = inventory.DeleteSwitches{Names: []string{fmt.Sprintf("sw%d", i+1)}}
	}
	for _, bench := range []struct {
		name     string
		on       *site
		commands []inventory.Command
	}{
		{"add 10000", empty, []inventory.Command{inventory.AddNodes{Group: "g00", Names: nodeNames(1, manyNodes)}}},
		{"add 1 by 1, 1000 times", full, one},
		{"change 5000", full, []inventory.Command{inventory.ChangeNodes{Names: half, Service: ptr(true), Tag: []string{"new"}}}},
		{"move 5000 to other addresses", full, []inventory.Command{inventory.ChangeNodes{Names: half, Addresses: increment}}},
		{"move 5000 to another group", full, []inventory.Command{inventory.ChangeNodes{Names: half, Group: ptr("g19")}}},
		{"delete 5000", full, []inventory.Command{inventory.DeleteNodes{Names: half}}},
		{"renumber the network", full, []inventory.Command{inventory.ChangeNetwork{Name: "ipmi", Prefix: ptr(prefix("10.40.0.0/16"))}}},
		{"apply the same document", full, []inventory.Command{inventory.ApplyDocument{Document: document, Prune: true}}},
		{"apply 10000 comments", full, []inventory.Command{inventory.ApplyDocument{Document: comments}}},
		{"apply to nothing", empty, []inventory.Command{inventory.ApplyDocument{Document: document}}},
		{"delete the cluster and undo", full, []inventory.Command{inventory.DeleteCluster{Force: true}, undoLast{}}},
		{"delete 100 switches", full, append([]inventory.Command{numbered(100, "ipmi")}, switches...)},
	} {
		b.Run(bench.name, func(b *testing.B) {
			snapshot, used := written(b, bench.on), time.Duration(0)
			for range b.N {
				b.StopTimer()
				s, start := read(b, snapshot), cpu()
				b.StartTimer()
				for _, c := range bench.commands {
					if _, ok := c.(undoLast); ok {
						for e := range s.View().Entries() {
							c = inventory.UndoChange{Entry: e.ID}
							break
						}
					}
					must(b, s, c)
				}
				used += cpu() - start
			}
			b.ReportMetric(float64(used.Milliseconds())/float64(b.N), "cpu-ms/op")
		})
	}
}

// cpu gives the processor time of this process: what counts on a machine that
// does other things too.
func cpu() time.Duration {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		panic(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// undoLast stands for the undoing of the newest entry.
type undoLast struct{ inventory.UndoChange }

func written(b *testing.B, s *site) []byte {
	b.Helper()
	var out bytes.Buffer
	if _, err := s.View().WriteTo(&out); err != nil {
		b.Fatal(err)
	}
	return out.Bytes()
}

func read(b *testing.B, snapshot []byte) *site {
	b.Helper()
	m := fsm.New()
	if err := m.Restore(io.NopCloser(bytes.NewReader(snapshot))); err != nil {
		b.Fatal(err)
	}
	return &site{Machine: m, index: m.View().Index}
}

// BenchmarkState measures what is done with a large state as a whole.
func BenchmarkState(b *testing.B) {
	s := populated(b)
	snapshot := written(b, s)
	document := inventory.DocumentOf(s.View())
	preview := inventory.Envelope{At: epoch, Command: inventory.ApplyDocument{Document: document, Prune: true}}
	for _, bench := range []struct {
		name string
		do   func()
	}{
		{"snapshot", func() { written(b, s) }},
		{"restore", func() { read(b, snapshot) }},
		{"check", func() {
			if err := fsm.Check(s.View()); err != nil {
				b.Fatal(err)
			}
		}},
		{"document", func() { inventory.DocumentOf(s.View()) }},
		{"preview of the document", func() {
			if r, _, _ := s.Preview(preview); r.Error != nil {
				b.Fatal(r.Error)
			}
		}},
		{"preview of one change", func() {
			s.Preview(inventory.Envelope{At: epoch, Command: inventory.ChangeNodes{Names: []string{"node00001"}, Service: ptr(true)}})
		}},
		{"select a group and a tag", func() {
			if _, err := s.View().SelectNodes("%g[00-09],-node00001"); err != nil {
				b.Fatal(err)
			}
		}},
	} {
		b.Run(bench.name, func(b *testing.B) {
			start := cpu()
			for range b.N {
				bench.do()
			}
			b.ReportMetric(float64((cpu()-start).Milliseconds())/float64(b.N), "cpu-ms/op")
		})
	}
	b.Logf("the snapshot is %d KB", len(snapshot)>>10)
}

// BenchmarkMemory tells what a large state keeps in memory: fresh, with a log
// that is full, and after a restore.
func BenchmarkMemory(b *testing.B) {
	heap := func() int64 {
		runtime.GC()
		runtime.GC()
		var m runtime.MemStats
		runtime.ReadMemStats(&m)
		return int64(m.HeapAlloc)
	}
	for range b.N {
		start := heap()
		s := populated(b)
		s.log = nil
		state := heap()
		for i := range 12 { // more than the log keeps
			must(b, s, inventory.ChangeNodes{Names: nodeNames(1, manyNodes), Comment: ptr(fmt.Sprintf("turn %d", i))})
			s.log = nil
		}
		full := heap()
		snapshot := written(b, s)
		before := heap()
		restored := read(b, snapshot)
		after := heap()
		b.ReportMetric(float64(state-start)/(1<<20), "MB-state")
		b.ReportMetric(float64(full-start)/(1<<20), "MB-with-log")
		b.ReportMetric(float64(after-before)/(1<<20), "MB-restored")
		runtime.KeepAlive(s)
		runtime.KeepAlive(restored)
		runtime.KeepAlive(snapshot)
	}
}

var _ raft.FSM = (*fsm.Machine)(nil)
