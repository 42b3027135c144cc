package failover

import (
	"context"
	"os/exec"
	"runtime"
	"sync"
	"syscall"
	"testing"
	"time"
)

// TestBusy: with every core busy with something else, no head takes the leader or
// the holder for dead. In a soak it goes on for an hour.
func TestBusy(t *testing.T) {
	m := newMesh(t, "busy", false)
	importNodes(t, m, loadNodes())
	w := m.newWire(t, "", "wire")
	node, unknown := w.machine("known0"), w.machine("unknown0")
	ask(t, node, unknown)
	answered(t, node)
	answered(t, unknown)

	idle := keepBusy(t, runtime.NumCPU())
	calm := m.watch(t)
	stop := m.write(t)
	node.begin()
	unknown.begin()
	select {
	case <-t.Context().Done():
	case <-time.After(lasting(10*time.Second, time.Hour)):
	}
	measured := map[string]sample{"write is done": stop(), "node is without an answer": {node.longest()}, "unknown is without an answer": {unknown.longest()}}
	calm(t)
	idle()
	t.Logf("\n%s", times(measured))
}

// keepBusy runs loops of nothing, each in a process of its own, until the end is
// called or the test is over.
func keepBusy(tb testing.TB, loops int) (end func()) {
	tb.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	var running sync.WaitGroup
	end = sync.OnceFunc(func() {
		cancel()
		running.Wait()
	})
	tb.Cleanup(end)
	for range loops {
		loop := exec.CommandContext(ctx, "sh", "-c", "while :; do :; done")
		loop.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL} // also of a test that is killed
		must(tb, loop.Start())
		running.Go(func() { _ = loop.Wait() }) // killed
	}
	return end
}
