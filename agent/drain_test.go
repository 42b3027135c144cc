package agent_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/clustervision/luna/agent/agenttest"
	"github.com/clustervision/luna/api"
	"github.com/clustervision/luna/inventory"
)

// addDHCP makes a network with the heads on it, on which one of them is to answer.
func addDHCP(t *testing.T, h *agenttest.Head) {
	t.Helper()
	p := netip.PrefixFrom(h.Config.Bind, 24).Masked()
	at := func(last byte) netip.Addr {
		a := p.Addr().As4()
		a[3] = last
		return netip.AddrFrom4(a)
	}
	h.Do(
		t, inventory.AddNetwork{Name: "cluster", Prefix: p},
		inventory.SetRange{Network: "cluster", Range: inventory.AddrRange{Start: at(240), End: at(250)}},
	)
}

// holder gives the name of the head that is to answer DHCP; "" where none is.
func holder(t *testing.T, asked *agenttest.Head) string {
	t.Helper()
	n, ok := asked.View().Network("cluster")
	if !ok {
		return ""
	}
	h, ok := asked.View().HeadByID(n.Duty.Holder)
	if !ok {
		return ""
	}
	return h.Name
}

// drain drains a head, and gives all that was said.
func drain(t *testing.T, asked *agenttest.Head, name string) (said string, err error) {
	t.Helper()
	var lines []string
	err = asked.Client.Drain(t.Context(), name, api.DrainRequest{Wait: soon}, func(e api.JobEvent) {
		lines = append(lines, e.Message)
	})
	return strings.Join(lines, "\n"), err
}

func TestDrain(t *testing.T) {
	heads := agenttest.Mesh(t, 3)
	addDHCP(t, heads[0])
	first, others := leaderOf(t, heads)
	free := func(name string) {
		t.Helper()
		for _, h := range heads {
			s, err := h.Client.Self(t.Context())
			if err != nil || s.Leader == name || holder(t, h) == name || holder(t, h) == "" {
				t.Errorf("%s takes %q for the leader and %q for the holder, while %s is drained (%v)", h.Name, s.Leader, holder(t, h), name, err)
			}
		}
	}
	agenttest.Eventually(t, soon, "a head answers DHCP", func() bool { return holder(t, first) != "" })

	said, err := drain(t, others[0], first.Name)
	noError(t, err)
	t.Log(said)
	if want := fmt.Sprintf("head '%s' may be rebooted", first.Name); !strings.HasSuffix(said, want) {
		t.Errorf("said %q, want %q", said, want)
	}
	agenttest.Eventually(t, soon, "all know", func() bool {
		for _, h := range heads {
			if w, ok := h.View().Head(first.Name); !ok || !w.Drained || holder(t, h) == first.Name {
				return false
			}
		}
		return true
	})
	free(first.Name)
	first.Stop(t)
	others[0].Do(t, network(1))
	first.Run(t)
	agenttest.Eventually(t, soon, "it is back", func() bool {
		w := row(t, others[0], first.Name)
		return w.State == "alive" && w.AppliedIndex > 0
	})
	if w := row(t, others[0], first.Name); !w.Drained || len(w.Networks) > 0 {
		t.Errorf("after a restart: %+v", w)
	}

	// The next one goes; the third has all. It may not go.
	second, rest := leaderOf(t, others)
	third := rest[0]
	_, err = drain(t, first, second.Name)
	noError(t, err)
	agenttest.Eventually(t, soon, "the third has all", func() bool {
		s, err := third.Client.Self(t.Context())
		return err == nil && s.Leader == third.Name && holder(t, third) == third.Name
	})
	_, err = drain(t, third, third.Name)
	refused(t, "draining the last", err, "no other head is there that could take over", "undrain")

	for _, h := range heads {
		noError(t, third.Client.Undrain(t.Context(), h.Name))
		if row(t, third, h.Name).Drained {
			t.Errorf("%s is drained", h.Name)
		}
	}
	_, err = drain(t, first, third.Name)
	noError(t, err)
	agenttest.Eventually(t, soon, "those who were undrained do it", func() bool {
		s, err := third.Client.Self(t.Context())
		return err == nil && s.Leader != third.Name && s.Leader != "" && holder(t, third) != third.Name && holder(t, third) != ""
	})
}

func TestDrainOfTheOnlyOne(t *testing.T) {
	h := agenttest.Start(t, "only")
	agenttest.Init(t, h)
	_, err := drain(t, h, "only")
	refused(t, "draining the only one", err, "no other head is there")
	_, err = drain(t, h, "nobody")
	refused(t, "draining one that does not exist", err, "'nobody'")
	if row(t, h, "only").Drained {
		t.Error("it is drained all the same")
	}
	heads := agenttest.Mesh(t, 2)
	heads[1].Kill(t)
	agenttest.Eventually(t, soon, "h2 is seen to be away", func() bool {
		return row(t, heads[0], "h2").State == "failed"
	})
	_, err = drain(t, heads[0], "h1")
	refused(t, "draining the last that is there", err, "no other head is there")
}

// slowly begins to download from a head and does not go on until told.
func slowly(t *testing.T, h *agenttest.Head, sum string) (finish func()) {
	t.Helper()
	d := net.Dialer{Control: func(_, _ string, c syscall.RawConn) error {
		var err error
		return errors.Join(c.Control(func(fd uintptr) {
			err = syscall.SetsockoptInt(int(fd), syscall.SOL_SOCKET, syscall.SO_RCVBUF, 4096)
		}), err)
	}}
	c, err := d.DialContext(t.Context(), "tcp", netip.AddrPortFrom(h.Config.Bind, uint16(h.Config.HTTPPort)).String())
	noError(t, err)
	t.Cleanup(func() { c.Close() })
	_, err = fmt.Fprintf(c, "GET /artifacts/%s HTTP/1.0\r\nHost: %s\r\n\r\n", sum, h.Name)
	noError(t, err)
	begin := make([]byte, 12)
	_, err = io.ReadFull(c, begin)
	noError(t, err)
	if string(begin) != "HTTP/1.0 200" {
		t.Fatalf("the download begins with %q", begin)
	}
	return func() { _, _ = io.Copy(io.Discard, c) }
}

func TestDrainWaitsForDownloads(t *testing.T) {
	heads := agenttest.Mesh(t, 3)
	p := publish(t, heads[0])
	p.heldBy(t, heads[1], heads...)
	finish := slowly(t, heads[1], p.Root.SHA256)
	s, err := heads[0].Client.Safe(t.Context(), "h2")
	noError(t, err)
	if s.Safe || !strings.Contains(strings.Join(s.Reasons, "\n"), "serves 1 download") {
		t.Errorf("safe: %+v", s)
	}

	short := heads[2].Client.Drain(t.Context(), "h2", api.DrainRequest{Wait: time.Second}, func(api.JobEvent) {})
	refused(t, "no more patience", short, "still serves 1 download", "luna head drain h2")

	says, done := make(chan string, 100), make(chan error, 1)
	ctx, cancel := context.WithTimeout(t.Context(), 2*soon)
	defer cancel()
	go func() {
		done <- heads[0].Client.Drain(ctx, "h2", api.DrainRequest{Wait: soon}, func(e api.JobEvent) { says <- e.Message })
	}()
	if said := <-says; !strings.Contains(said, "head 'h2' still serves 1 download") {
		t.Errorf("said: %q", said)
	}
	select {
	case err := <-done:
		t.Fatalf("it did not wait: %v", err)
	case <-time.After(time.Second):
	}
	finish()
	noError(t, <-done)
	if said := <-says; said != "head 'h2' may be rebooted" {
		t.Errorf("said: %q", said)
	}
}

func TestDrainEndsWithUndrain(t *testing.T) {
	heads := agenttest.Mesh(t, 2)
	p := publish(t, heads[0])
	p.heldBy(t, heads[1], heads...)
	slowly(t, heads[1], p.Root.SHA256)
	says, done := make(chan string, 100), make(chan error, 1)
	go func() {
		done <- heads[0].Client.Drain(t.Context(), "h2", api.DrainRequest{Wait: soon}, func(e api.JobEvent) { says <- e.Message })
	}()
	<-says
	noError(t, heads[1].Client.Undrain(t.Context(), "h2"))
	refused(t, "the drain", <-done, "undrained meanwhile")
}

// TestNobodyWaits: who does not want to wait for nodes does not.
func TestNobodyWaits(t *testing.T) {
	heads := agenttest.Mesh(t, 3)
	p := publish(t, heads[0])
	p.heldBy(t, heads[1], heads...)
	slowly(t, heads[1], p.Root.SHA256)
	said := ""
	noError(t, heads[0].Client.Drain(t.Context(), "h2", api.DrainRequest{NoWait: true}, func(e api.JobEvent) { said += e.Message }))
	if !row(t, heads[0], "h2").Drained || !strings.Contains(said, "luna cluster safe h2") {
		t.Errorf("drained: %t; said: %q", row(t, heads[0], "h2").Drained, said)
	}
	noError(t, heads[0].Client.Undrain(t.Context(), "h2"))
	_, err := leave(t, heads[1], true)
	noError(t, err)
	nobody(t, heads[1])
}

// TestWitness: two heads and a vote that keeps nothing.
func TestWitness(t *testing.T) {
	heads := agenttest.Mesh(t, 2)
	w := agenttest.Start(t, "w", agenttest.Witness)
	w.JoinAt(t, heads[0])
	all := append(heads[:2:2], w)
	voters(t, all, "h1", "h2", "w")
	addDHCP(t, heads[0])
	p := publish(t, heads[0])
	p.heldBy(t, w, heads...) // and nobody else
	if entries, err := os.ReadDir(w.Config.DataDir + "/artifacts"); err != nil || len(entries) > 0 {
		t.Errorf("the witness keeps %v (%v)", entries, err)
	}
	if r := row(t, heads[0], "w"); !r.Witness || r.Role != "voter" {
		t.Errorf("it is known as %+v", r)
	}
	for _, name := range []string{"h1", "w"} { // any one may go
		s, err := w.Client.Safe(t.Context(), name)
		noError(t, err)
		if strings.Contains(strings.Join(s.Reasons, "\n"), "voters") {
			t.Errorf("%s: %v", name, s.Reasons)
		}
	}
	refused(t, "recover on a witness", w.Client.Recover(t.Context()), "is a witness")

	leader, others := leaderOf(t, heads)
	leader.Kill(t)
	rest := others[0]
	rest.Do(t, network(1))
	w.Do(t, network(2))
	agenttest.Eventually(t, soon, "the real head leads, and answers DHCP", func() bool {
		s, err := rest.Client.Self(t.Context())
		return err == nil && s.Leader == rest.Name && holder(t, w) == rest.Name
	})
	leader.Run(t)
	agenttest.Eventually(t, soon, "it is back", func() bool { return row(t, w, leader.Name).State == "alive" })

	said, err := drain(t, heads[0], "w")
	noError(t, err)
	if said != "head 'w' may be rebooted" {
		t.Errorf("draining the witness: %q", said)
	}
	w.Stop(t)
	heads[0].Do(t, network(3))
	heads[1].Do(t, network(4))
	w.Run(t)
	noError(t, heads[0].Client.Undrain(t.Context(), "w"))
	_, err = leave(t, w, false)
	noError(t, err)
	nobody(t, w)
	voters(t, heads, "h1", "h2")
}
