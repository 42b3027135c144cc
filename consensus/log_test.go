package consensus

import (
	"context"
	"fmt"
	"log/slog"
	"strings"
	"testing"

	"github.com/hashicorp/go-hclog"
)

func TestGossipLog(t *testing.T) {
	var buf logBuffer
	log := newGossipLog(slog.New(slog.NewTextHandler(&buf, nil)), new(limiter))
	for i := range 100 {
		log.Printf("[ERR] memberlist: Decrypt packet failed: No installed keys could decrypt the message from=127.0.0.1:%d", i)
		log.Printf("[ERR] memberlist: Failed fallback TCP ping: connection refused")
		log.Printf("[WARN] memberlist: Refuting a suspect message (from: h%d)", i)
		log.Printf("[INFO] memberlist: Suspect h2 has failed, no acks received")
		log.Printf("a line without a level")
	}
	log.Printf("[WARN] memberlist: Was able to connect to h2 over TCP but UDP probes failed, network may be misconfigured")
	lines := buf.loud("")
	if len(lines) != 2 || !strings.Contains(lines[0], "Decrypt packet") || !strings.Contains(lines[1], "misconfigured") {
		t.Errorf("logged %s", strings.Join(lines, "\n"))
	}
}

func TestRaftLog(t *testing.T) {
	var buf logBuffer
	ctx, cancel := context.WithCancel(context.Background())
	log := newRaftLog(ctx, slog.New(slog.NewTextHandler(&buf, &slog.HandlerOptions{Level: slog.LevelDebug})), new(limiter))
	for i := range 100 {
		peer := fmt.Sprint("h", i%2)
		log.Error("failed to heartbeat to", "peer", peer, "error", i)
		log.With("id", 7).Warn("starting an election", "servers", hclog.Fmt("%d of %d", 1, 3))
	}
	cancel()
	log.Error("transport shutdown")
	lines := buf.loud("")
	if len(lines) != 2 || !strings.Contains(lines[0], "level=WARN") || !strings.Contains(lines[0], "peer=h0") {
		t.Errorf("logged %s", strings.Join(lines, "\n"))
	}
	if !strings.Contains(buf.String(), `detail="starting an election" id=7 servers="1 of 3"`) {
		t.Errorf("logged %s", buf.String()[:400])
	}
}

func TestLimiterForgets(t *testing.T) {
	l := new(limiter)
	for i := range 5000 {
		l.first(fmt.Sprint(i))
	}
	if len(l.last) > 1024 {
		t.Errorf("remembers %d keys, which strangers may make up", len(l.last))
	}
}

func TestWatermark(t *testing.T) {
	var w watermark
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	done := make(chan uint64, 10)
	for _, index := range []uint64{3, 1, 2} {
		go func() {
			if err := w.wait(ctx, index, nil); err == nil {
				done <- index
			}
		}()
	}
	w.raise(2)
	if a, b := <-done, <-done; a+b != 3 {
		t.Errorf("woke %d and %d", a, b)
	}
	w.raise(1)
	if w.get() != 2 {
		t.Errorf("fell to %d", w.get())
	}
	w.raise(5)
	if <-done != 3 || len(w.waiters) != 0 {
		t.Errorf("%d still wait", len(w.waiters))
	}
}
