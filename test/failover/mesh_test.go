package failover

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/clustervision/luna/test/lab"
	"github.com/clustervision/luna/test/lab/labtest"
	"github.com/clustervision/luna/test/site"
)

// soak tells whether the full length is asked for, and the length if one was named.
func soak() (full bool, length time.Duration) {
	value := os.Getenv("LUNA_SOAK")
	length, _ = time.ParseDuration(value) // "1" names none
	return value != "", length
}

// lasting is how long a test goes on: short, or in a soak what is promised, or what
// was asked for.
func lasting(short, promised time.Duration) time.Duration {
	switch full, length := soak(); {
	case length > 0:
		return length
	case full:
		return promised
	}
	return short
}

// must ends the test at an error.
func must(tb testing.TB, err error) {
	tb.Helper()
	if err != nil {
		tb.Fatal(err)
	}
}

// luna runs a luna command on a head; the test ends if it fails.
func luna(tb testing.TB, h *site.Head, args ...string) string {
	tb.Helper()
	out, err := h.Luna(tb.Context(), args...)
	must(tb, err)
	return out
}

// mesh is a cluster of three heads that serves DHCP.
type mesh struct {
	*site.Site
	book *book
	// trunks are the cables between the head's own bridge and that of all, where the
	// heads stand apart.
	trunks map[*site.Head]*lab.Trunk
}

// newMesh makes a cluster with the group "compute" and DHCP on the network
// "cluster". Heads that stand apart have a bridge each, h1 the network "rack1",
// which a trunk connects with the network "lan".
func newMesh(tb testing.TB, name string, apart bool) *mesh {
	tb.Helper()
	ctx := tb.Context()
	l := labtest.New(tb, name)
	bin, err := site.Bin()
	must(tb, err)
	m := &mesh{Site: &site.Site{Lab: l, Bin: bin}, book: newBook(), trunks: map[*site.Head]*lab.Trunk{}}
	for i := range 3 {
		network := "lan"
		if apart {
			network = fmt.Sprintf("rack%d", i+1)
		}
		h, err := m.AddOn(ctx, network, fmt.Sprintf("h%d", i+1), netip.AddrFrom4([4]byte{10, 30, 255, byte(254 - i)}))
		must(tb, err)
		if apart {
			m.trunks[h], err = l.Trunk(ctx, "lan", network)
			must(tb, err)
		}
		must(tb, h.Start(ctx))
	}
	must(tb, m.Mesh(ctx))
	must(tb, m.Settle(ctx))
	_, err = m.ServeDHCP(ctx)
	must(tb, err)
	luna(tb, m.Heads[0], "osimage", "add", "-n", "compute", "-p", kernelTree(tb, l))
	luna(tb, m.Heads[0], "group", "add", "-n", "compute", "-o", "compute", "-N", "cluster")
	return m
}

// kernelTree makes a tree that has a kernel, as far as it is looked at before it
// is packed.
func kernelTree(tb testing.TB, l *lab.Lab) string {
	tb.Helper()
	tree := filepath.Join(l.Dir(), "tree")
	for _, dir := range []string{"boot", "lib/modules/6.1.0"} {
		must(tb, os.MkdirAll(filepath.Join(tree, dir), 0o755))
	}
	for _, file := range []string{"boot/vmlinuz-6.1.0", "lib/modules/6.1.0/modules.dep"} {
		must(tb, os.WriteFile(filepath.Join(tree, file), []byte("nothing of this kind\n"), 0o644))
	}
	return tree
}

// holder gives the head that holds DHCP, as a head other than that one sees it.
func (m *mesh) holder(ctx context.Context, not *site.Head) (found *site.Head, err error) {
	asked := m.Other(not)
	if asked == nil {
		return nil, errors.New("no other head runs")
	}
	err = site.Until(ctx, 20*time.Second, "another head holds DHCP", func() error {
		h, err := m.Holder(ctx, asked)
		if err == nil && h == not {
			err = fmt.Errorf("%s still does", h.Name)
		}
		found = h
		return err
	})
	return found, err
}

// leader gives the head that leads, as the asked head sees it.
func (m *mesh) leader(ctx context.Context, asked *site.Head) (*site.Head, error) {
	var list []site.HeadStatus
	if err := asked.JSON(ctx, &list, "head", "list"); err != nil {
		return nil, err
	}
	for _, h := range list {
		if h.Leader {
			return m.Head(h.Name), nil
		}
	}
	return nil, errors.New("no head leads")
}

// led counts how often the heads have learned of another leader, since they were
// started first.
func (m *mesh) led() (n int, err error) {
	for _, h := range m.Heads {
		text, err := os.ReadFile(h.Agent.Log())
		if err != nil {
			return 0, err
		}
		n += strings.Count(string(text), "head leads")
	}
	return n, nil
}

// standstill measures for how long this machine does not run at all, as a virtual
// one does whose host has other things to do. A machine that is merely busy lets a
// timer come a few hundredths of a second late.
type standstill struct {
	total       atomic.Int64
	stop, ended chan struct{}
}

func newStandstill() *standstill {
	const beat, late = 10 * time.Millisecond, 100 * time.Millisecond
	s := &standstill{stop: make(chan struct{}), ended: make(chan struct{})}
	go func() {
		defer close(s.ended)
		tick := time.NewTicker(beat)
		defer tick.Stop()
		for last := time.Now(); ; {
			select {
			case <-s.stop:
				return
			case now := <-tick.C:
				if gap := now.Sub(last); gap > late {
					s.total.Add(int64(gap))
				}
				last = now
			}
		}
	}()
	return s
}

// end gives the sum, and measures no more.
func (s *standstill) end() time.Duration {
	close(s.stop)
	<-s.ended
	return time.Duration(s.total.Load())
}
