package consensus

import (
	"bytes"
	"crypto/rand"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/hashicorp/raft"
)

// undisturbed checks that a cluster went on as if nothing had been.
func undisturbed(t *testing.T, c *cluster, heads []*head) {
	t.Helper()
	leader := heads[0]
	term := leader.raft.CurrentTerm()
	t.Cleanup(func() {
		if !leader.IsLeader() || leader.raft.CurrentTerm() != term {
			t.Error("leadership has changed")
		}
		index := c.write("still here")
		for _, h := range heads {
			h.has(index, "still here")
			c.until(h.name+" sees the others alive", func() bool { return h.alive() == len(heads) })
			if len(h.Members()) != len(heads) {
				t.Errorf("%s sees %v", h.name, h.Members())
			}
		}
	})
}

func TestStrangersSpeakNoRaft(t *testing.T) {
	c := newCalmCluster(t)
	heads := c.form(2)
	undisturbed(t, c, heads)
	for _, test := range []struct {
		name string
		conf *tls.Config
		want string // in the log of the head
	}{
		{"without certificate", &tls.Config{RootCAs: c.ca.tls("x", "x").RootCAs}, "didn't provide a certificate"},
		{"of another cluster", newAuthority(t).tls("h2", "head"), "unknown authority"},
		{"of an administrator", c.ca.tls("h2", "admin"), "not one of a head"},
	} {
		t.Run(test.name, func(t *testing.T) {
			heads[0].replica.transport.stream.limit.forget()
			test.conf.InsecureSkipVerify = true
			conn, err := tls.Dial("tcp", heads[0].RaftAddr().String(), test.conf)
			if err == nil {
				defer conn.Close()
				_ = conn.SetDeadline(time.Now().Add(10 * time.Second))
				// A client of TLS 1.3 learns only afterwards that it is not wanted.
				_, err = conn.Read(make([]byte, 1))
			}
			var late net.Error
			if err == nil || errors.As(err, &late) && late.Timeout() {
				t.Errorf("not turned away: %v", err)
			}
			c.until("the head logs why", func() bool { return len(heads[0].log.loud(test.want)) > 0 })
		})
	}
	if lines := heads[0].log.loud("raft connection refused"); len(lines) != 3 || !strings.Contains(lines[0], "remote=127.0.0.1") {
		t.Errorf("logged %q", lines)
	}
}

// Who decides on strangers is told of each whether it is a head, and may turn it away.
func TestAdmit(t *testing.T) {
	type verdict struct{ port, good bool } // port: raft's, else gossip's
	verdicts := make(chan verdict, 1000)
	var ports sync.Map // true for raft's
	var turnAway atomic.Bool
	c := newCalmCluster(t)
	cfg := c.config("h1")
	cfg.Admit = func(conn net.Conn) func(bool) {
		if turnAway.Load() {
			_ = conn.Close()
			return nil
		}
		port, _ := ports.Load(conn.LocalAddr().String())
		return func(good bool) { verdicts <- verdict{port == true, good} }
	}
	first := c.start(cfg)
	ports.Store(first.RaftAddr().String(), true)
	if err := first.Bootstrap(c.ctx()); err != nil {
		t.Fatal(err)
	}
	told := func(want verdict) {
		t.Helper()
		c.until(fmt.Sprintf("it is told %+v", want), func() bool {
			select {
			case got := <-verdicts:
				return got == want
			default:
				return false
			}
		})
	}
	for addr, want := range map[string]verdict{
		first.RaftAddr().String():   {true, false},
		first.GossipAddr().String(): {false, false},
	} {
		conn, err := net.Dial("tcp", addr)
		if err != nil {
			t.Fatal(err)
		}
		_, _ = conn.Write(bytes.Repeat([]byte("garbage"), 10))
		told(want)
		_ = conn.Close()
	}
	conn, err := tls.Dial("tcp", first.RaftAddr().String(), first.replica.transport.stream.dialing("h1"))
	if err != nil {
		t.Fatal(err)
	}
	told(verdict{true, true})
	_ = conn.Close()

	turnAway.Store(true)
	for _, addr := range []string{first.RaftAddr().String(), first.GossipAddr().String()} {
		conn, err := net.Dial("tcp", addr)
		if err != nil {
			t.Fatal(err)
		}
		_ = conn.SetReadDeadline(time.Now().Add(10 * time.Second))
		if _, err := conn.Read(make([]byte, 1)); !errors.Is(err, io.EOF) {
			t.Errorf("not turned away: %v", err)
		}
		_ = conn.Close()
	}
}

// A head with a certificate of another cluster gets neither entries nor votes,
// even if someone adds it.
func TestHeadOfAnotherCluster(t *testing.T) {
	c := newCalmCluster(t)
	heads := c.form(2)
	undisturbed(t, c, heads)
	cfg := c.config("h3")
	cfg.TLS = newAuthority(t).tls("h3", "head")
	cfg.GossipKey = bytes.Repeat([]byte{8}, 32)
	stranger := c.start(cfg)

	if _, err := stranger.Join(c.ctx(), []string{heads[0].GossipAddr().String()}); err == nil {
		t.Error("joined gossip with another key")
	} else {
		t.Logf("Join: %v", err)
	}
	if _, err := heads[0].Join(c.ctx(), []string{stranger.GossipAddr().String()}); err == nil {
		t.Error("joined the gossip of a stranger")
	}

	if err := heads[0].AddNonvoter(c.ctx(), "h3", stranger.RaftAddr()); err != nil {
		t.Fatal(err)
	}
	c.until("the leader logs that it does not trust h3", func() bool { return len(heads[0].log.loud("unknown authority")) > 0 })
	if err := heads[0].RemoveServer(c.ctx(), "h3"); err != nil {
		t.Fatal(err)
	}
	var vote raft.RequestVoteResponse
	request := &raft.RequestVoteRequest{RPCHeader: raft.RPCHeader{ProtocolVersion: 3, ID: []byte("h2")}, Term: 1000, LeadershipTransfer: true}
	server := raft.ServerAddress("h1@" + heads[0].RaftAddr().String())
	conn, err := stranger.replica.transport.stream.Dial(server, time.Second)
	if err == nil {
		_ = conn.Close()
		t.Error("a stranger trusts a head of this cluster")
	}
	if err := stranger.replica.transport.RequestVote("h1", server, request, &vote); err == nil {
		t.Errorf("a head answers a stranger: %+v", vote)
	}
	if stranger.AppliedIndex() != 0 || len(stranger.Members()) != 1 {
		t.Errorf("the stranger has %d entries and sees %v", stranger.AppliedIndex(), stranger.Members())
	}
}

// Who answers at a head's address but is another head is not counted for it.
func TestOneHeadDoesNotAnswerForAnother(t *testing.T) {
	c := newCalmCluster(t)
	first := c.form(1)[0]
	cfg := c.config("h2")
	cfg.Bind = netip.IPv4Unspecified() // it listens at the address of h3 too, as after a takeover
	second := c.start(cfg)
	at := netip.AddrPortFrom(netip.MustParseAddr("127.0.0.3"), second.RaftAddr().Port())
	if err := first.AddNonvoter(c.ctx(), "h2", second.RaftAddr()); err != nil {
		t.Fatal(err)
	}
	if err := first.AddNonvoter(c.ctx(), "h3", at); err != nil {
		t.Fatal(err)
	}
	c.until("the leader notices", func() bool {
		return len(first.log.loud("head h2 answers in the place of head h3")) > 0
	})
	second.has(c.write("one"), "one")
	if err := first.AddNonvoter(c.ctx(), "h4", at); err == nil || errors.Is(err, ErrOutcomeUnknown) {
		t.Errorf("two heads at one address: %v", err)
	}
}

func TestSilenceAndGarbage(t *testing.T) {
	c := newCalmCluster(t)
	heads := c.form(3) // one may go and the leader stays
	undisturbed(t, c, heads)
	garbage := make([]byte, 4096)
	_, _ = rand.Read(garbage)
	packet, err := net.Dial("udp", heads[0].GossipAddr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer packet.Close()
	for i := range 200 {
		_, _ = packet.Write(garbage[i : i+1+7*i%1200])
		_, _ = packet.Write([]byte{byte(i)})
	}
	for i := range 60 {
		for _, port := range []string{heads[0].RaftAddr().String(), heads[0].GossipAddr().String()} {
			conn, err := net.Dial("tcp", port)
			if err != nil {
				t.Fatal(err)
			}
			defer conn.Close()
			if i%2 == 0 {
				_, _ = conn.Write(garbage)
			} // else it says nothing at all, for as long as it is let
		}
	}
	heads[1].kill() // so that all connections must be made again, beside the silent ones
	heads[1].restart()
	c.until("h2 is alive again", func() bool { return heads[0].alive() == 3 })
	index, err := c.leader().Barrier(c.ctx())
	if err != nil {
		t.Fatal(err)
	}
	if err := heads[1].WaitApplied(c.ctx(), index); err != nil {
		t.Fatal(err)
	}
	var lines []string
	for _, line := range heads[0].log.loud("") {
		if strings.Contains(line, "msg=gossip") || strings.Contains(line, "refused") {
			lines = append(lines, line)
		}
	}
	if len(lines) == 0 || len(lines) > 12 {
		t.Errorf("%d lines about garbage: %s", len(lines), strings.Join(lines, "\n"))
	}
}

// forget makes the limiter let everything through once more.
func (l *limiter) forget() {
	l.mu.Lock()
	defer l.mu.Unlock()
	clear(l.last)
}
