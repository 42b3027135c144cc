package consensus

import (
	"bytes"
	"context"
	"crypto/rand"
	"crypto/tls"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"runtime"
	"sync"
	"testing"
	"time"
)

// TestFlood lets strangers at the ports of a leader, over a thousand, and ten thousand
// with LUNA_SOAK: silent ones, such as talk garbage, such as begin to speak TLS, and
// datagrams of garbage without end.
func TestFlood(t *testing.T) {
	c := newCalmCluster(t)
	heads := c.form(3)
	undisturbed(t, c, heads)
	leader := heads[0]
	ctx, cancel := context.WithCancel(t.Context())
	garbage := make([]byte, 1200)
	_, _ = rand.Read(garbage)
	var flood sync.WaitGroup
	flood.Go(func() { datagrams(ctx, leader.GossipAddr().String(), garbage) })
	each, crowds := 150, 8
	if os.Getenv("LUNA_SOAK") != "" {
		each = 1250
	}
	var done sync.WaitGroup
	for i := range crowds {
		addr := leader.RaftAddr().String()
		if i%2 == 1 {
			addr = leader.GossipAddr().String()
		}
		done.Add(1)
		flood.Go(func() {
			conns := strangers(ctx, addr, i/2, each, garbage)
			done.Done()
			<-ctx.Done()
			for _, conn := range conns {
				_ = conn.Close()
			}
		})
	}
	came := make(chan struct{})
	go func() { done.Wait(); close(came) }()
	most, goroutines, worst, index := 0, 0, time.Duration(0), uint64(0)
	began := time.Now()
	for n, over := 0, false; !over; n++ {
		at := time.Now()
		index = c.write(fmt.Sprint(n))
		worst = max(worst, time.Since(at))
		most, goroutines = max(most, leader.connections()), max(goroutines, runtime.NumGoroutine())
		select {
		case <-came:
			over = true
		default:
		}
	}
	for _, h := range heads {
		if err := h.WaitApplied(c.ctx(), index); err != nil {
			t.Error(err)
		}
	}
	t.Logf("%d strangers in %s: %d connections held at most, %d goroutines of all heads, the slowest write took %s",
		each*crowds, time.Since(began), most, goroutines, worst)
	if most > 2*crowdLimit+50 {
		t.Errorf("%d connections at the same time", most)
	}
	cancel()
	flood.Wait()
	for _, h := range heads { // so that undisturbed finds only its own
		h.list.mu.Lock()
		h.list.lines = nil
		h.list.mu.Unlock()
	}
}

// TestGarbageIsNotReceived: of what comes by UDP, gossip gets to see only what begins as
// a packet of a head does.
func TestGarbageIsNotReceived(t *testing.T) {
	wire, err := listenGossip(&Config{Bind: netip.MustParseAddr("127.0.0.1"), Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = wire.Shutdown() })
	conn, err := net.Dial("udp", fmt.Sprint("127.0.0.1:", wire.port()))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	sealed := append([]byte{packetVersion}, make([]byte, packetMin-1)...)
	for _, packet := range [][]byte{{}, {packetVersion}, sealed[:packetMin-1], make([]byte, 1400), append([]byte{12}, sealed...), sealed} {
		if _, err := conn.Write(packet); err != nil {
			t.Fatal(err)
		}
	}
	select {
	case got := <-wire.PacketCh():
		if !bytes.Equal(got.Buf, sealed) || got.From.String() != conn.LocalAddr().String() {
			t.Errorf("received %x from %s", got.Buf, got.From)
		}
	case <-time.After(5 * time.Second):
		t.Error("nothing is received")
	}
}

// connections is how many are open at both ports, those of heads included.
func (h *head) connections() int {
	s, g := h.replica.transport.stream, &h.gossip.transport.strangers
	s.mu.Lock()
	defer s.mu.Unlock()
	g.mu.Lock()
	defer g.mu.Unlock()
	return len(s.conns) + g.waiting.Len()
}

// strangers opens n connections, one after the other, and keeps them.
func strangers(ctx context.Context, addr string, kind, n int, garbage []byte) []net.Conn {
	var conns []net.Conn
	for range n {
		conn, err := new(net.Dialer).DialContext(ctx, "tcp", addr)
		if err != nil {
			continue // out of descriptors, or of the backlog
		}
		conns = append(conns, conn)
		_ = conn.SetDeadline(time.Now().Add(100 * time.Millisecond))
		switch kind {
		case 1:
			_, _ = conn.Write(garbage)
		case 2: // as far as it gets without a certificate
			_ = tls.Client(conn, &tls.Config{InsecureSkipVerify: true}).HandshakeContext(ctx)
		case 3:
			_, _ = conn.Write(garbage[:5])
		}
	}
	return conns
}

func datagrams(ctx context.Context, addr string, garbage []byte) {
	conn, err := net.Dial("udp", addr)
	if err != nil {
		return
	}
	defer conn.Close()
	for i := 0; ctx.Err() == nil; i++ {
		_, _ = conn.Write(garbage[i%600 : i%600+1+i%599])
	}
}
