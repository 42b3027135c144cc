// Package agenttest starts real agents in one process, each on a loopback
// address of its own and with short timers: three make a mesh in about a second.
// Raft, gossip, TLS and disks are real; DHCP and TFTP, which need root and a
// network of their own, are off.
package agenttest

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"os"
	"path/filepath"
	"sync/atomic"
	"testing"
	"time"

	"github.com/clustervision/luna/agent"
	"github.com/clustervision/luna/api"
	"github.com/clustervision/luna/consensus"
	"github.com/clustervision/luna/inventory"
)

// Head is an agent under test.
type Head struct {
	*agent.Agent
	*api.Client // over its socket, as root
	Name        string
	Config      agent.Config

	cancel context.CancelFunc
	done   chan error
}

// Witness makes a head one that only votes.
func Witness(c *agent.Config) { c.Witness = true }

// Start starts an agent that is no member yet, with a configuration changed by
// each of as.
func Start(tb testing.TB, name string, as ...func(*agent.Config)) *Head {
	tb.Helper()
	// Not t.TempDir: its path may be longer than a socket's may be.
	dir, err := os.MkdirTemp("", "luna")
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() { os.RemoveAll(dir) })
	c := agent.Defaults()
	c.Name, c.DataDir, c.Socket = name, filepath.Join(dir, "data"), filepath.Join(dir, "sock")
	c.Bind, c.TFTPPort, c.DHCPPort = address(), -1, -1
	c.Version, c.Timing, c.Logger = "test", consensus.TestTiming(), Logger(tb).With("head", name)
	for _, change := range as {
		change(&c)
	}
	h := &Head{Name: name, Config: c, Client: Client(c.Socket)}
	h.Run(tb)
	return h
}

// address gives a loopback address that no other head of this or another test
// process has, so that heads keep Luna's own ports and find each other again
// after a restart.
func address() netip.Addr {
	pid := os.Getpid()
	return netip.AddrFrom4([4]byte{127, byte(1 + pid%250), byte(pid / 250 % 250), byte(heads.Add(1))})
}

// heads counts the heads of this process.
var heads atomic.Int32

// Run starts the agent of the head, after Stop or Kill too.
func (h *Head) Run(tb testing.TB) {
	tb.Helper()
	a, err := agent.New(h.Config)
	if err != nil {
		tb.Fatalf("head %s: %v", h.Name, err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	h.Client.HTTP.CloseIdleConnections() // one to an agent that was killed may be among them
	h.Agent, h.cancel, h.done = a, cancel, make(chan error, 1)
	done := h.done
	go func() { done <- a.Run(ctx) }()
	tb.Cleanup(func() { h.Stop(tb) })
}

// Stop stops the agent in order, as systemd would; a stopped one stays so.
func (h *Head) Stop(tb testing.TB) {
	tb.Helper()
	if h.cancel == nil {
		return
	}
	h.cancel()
	h.cancel = nil
	select {
	case err := <-h.done:
		if err != nil {
			tb.Errorf("head %s: %v", h.Name, err)
		}
	case <-time.After(20 * time.Second):
		tb.Errorf("head %s does not stop", h.Name)
	}
}

// Kill ends the agent as kill -9 would, as far as the others can tell.
func (h *Head) Kill(tb testing.TB) {
	tb.Helper()
	_ = h.Close() // what it says of its end matters as little as after kill -9
	h.cancel()
	h.cancel = nil
	<-h.done
}

// Client gives a client of the agent behind a socket.
func Client(socket string) *api.Client {
	dial := func(ctx context.Context, _, _ string) (net.Conn, error) {
		return (&net.Dialer{}).DialContext(ctx, "unix", socket)
	}
	return &api.Client{Base: api.SocketBase, HTTP: &http.Client{Transport: &http.Transport{DialContext: dial}}}
}

// Logger shows what agents say where the test fails or -v is given.
func Logger(tb testing.TB) *slog.Logger {
	if os.Getenv("LUNA_TEST_LOG") == "" {
		return slog.New(slog.DiscardHandler)
	}
	return slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: slog.LevelDebug}))
}

// Mesh starts n heads, h1 to hn, and joins them.
func Mesh(tb testing.TB, n int) []*Head {
	tb.Helper()
	var heads []*Head
	for i := range n {
		h := Start(tb, fmt.Sprintf("h%d", i+1))
		heads = append(heads, h)
		if i == 0 {
			Init(tb, h)
			continue
		}
		h.JoinAt(tb, heads[0])
	}
	return heads
}

// JoinAt makes the head a member of the mesh that another one is of.
func (h *Head) JoinAt(tb testing.TB, member *Head) {
	tb.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	token, err := member.Client.Invite(ctx, api.InviteRequest{})
	if err != nil {
		tb.Fatalf("invite: %v", err)
	}
	if err := h.Client.Join(ctx, api.JoinRequest{Address: member.API(), Token: token.Token}); err != nil {
		tb.Fatalf("join of %s: %v", h.Name, err)
	}
}

// Init makes a cluster of one head and gives the admin credential.
func Init(tb testing.TB, h *Head) string {
	tb.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	r, err := h.Client.Init(ctx, api.InitRequest{FrontendAddress: h.Config.Bind, Path: h.Config.DataDir})
	if err != nil {
		tb.Fatalf("init: %v", err)
	}
	return r.Credential
}

// API gives the address of the head's API.
func (h *Head) API() string {
	self, _ := h.View().Head(h.Name)
	return netip.AddrPortFrom(self.Address, uint16(self.APIPort)).String()
}

// Eventually waits until ok, and fails the test if that takes too long.
func Eventually(tb testing.TB, within time.Duration, what string, ok func() bool) {
	tb.Helper()
	for deadline := time.Now().Add(within); !ok(); {
		if time.Now().After(deadline) {
			tb.Fatalf("not within %s: %s", within, what)
		}
		time.Sleep(10 * time.Millisecond)
	}
}

// Do writes through the head, and fails the test if it is refused.
func (h *Head) Do(tb testing.TB, commands ...inventory.Command) {
	tb.Helper()
	for _, c := range commands {
		if _, err := h.TryDo(c); err != nil {
			tb.Fatalf("%s: %v", inventory.Verb(c), err)
		}
	}
}

// TryDo writes through the head.
func (h *Head) TryDo(c inventory.Command) (inventory.Result, error) {
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	r, err := h.Propose(ctx, inventory.Asker{By: "test"}, c)
	if err == nil && r.Error != nil {
		err = r.Error
	}
	return r, errors.Join(err)
}
