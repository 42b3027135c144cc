package upgrade

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/clustervision/luna/api"
	"github.com/clustervision/luna/test/lab"
	"github.com/clustervision/luna/test/lab/labtest"
	"github.com/clustervision/luna/test/site"
)

// must ends the test at an error.
func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// mesh is a cluster of three heads, which begins with the last release on all.
type mesh struct {
	*site.Site
	old     string // the directory of the last release's luna
	release string // what the new one calls itself
	nodes   int    // how many there are: node001 and so on
	made    int    // how many heads were ever made: h1 and so on
	clients []*client
}

// newMesh makes the cluster with something of everything, and two machines that
// ask DHCP until the test ends: node001, and one that nobody knows.
func newMesh(ctx context.Context, t *testing.T, name string) *mesh {
	t.Helper()
	old := oldBin(t)
	l := labtest.New(t, name)
	bin, err := site.Bin()
	must(t, err)
	m := &mesh{Site: &site.Site{Lab: l, Bin: bin}, old: old}
	m.release, err = output(ctx, ".", filepath.Join(bin, "luna"), "--version")
	must(t, err)
	for range 3 {
		h := m.add(ctx, t)
		h.Bin = old
		must(t, h.Start(ctx))
	}
	must(t, m.Mesh(ctx))
	must(t, m.Settle(ctx))
	_, err = m.ServeDHCP(ctx)
	must(t, err)
	for i, args := range []string{
		"osimage add -n compute -p " + kernelTree(t, l),
		"bmcsetup add -n ipmi",
		"group add -n compute -o compute -N cluster -b ipmi",
		"switch add -n switch01 -N cluster -i 10.30.253.1",
		"otherdev add -n pdu[1-3] -N cluster -i 10.30.250.1+",
		"node add -g compute -n node[001-010]",
		"node change node[002-010] --switch switch01 --tag rack1",
	} {
		luna(ctx, t, m.Heads[i%3], strings.Fields(args)...)
	}
	m.nodes = 10
	known := m.client(ctx, t, "known", "10.30.0.1/16")
	luna(ctx, t, m.Heads[1], "node", "change", "node001", "--mac", known.node.MAC().String())
	stranger := m.client(ctx, t, "stranger", "10.30.128.1/16")
	for _, c := range []*client{known, stranger} {
		c.askOn(t)
	}
	return m
}

// add makes a head, whose agent is to be started.
func (m *mesh) add(ctx context.Context, t *testing.T) *site.Head {
	t.Helper()
	m.made++
	h, err := m.Add(ctx, fmt.Sprintf("h%d", m.made), netip.AddrFrom4([4]byte{10, 30, 255, byte(255 - m.made)}))
	must(t, err)
	return h
}

// dismiss stops a head that is no member, or no more one.
func (m *mesh) dismiss(t *testing.T, h *site.Head) {
	t.Helper()
	must(t, h.Agent.Stop(syscall.SIGTERM, 20*time.Second))
	m.Heads = slices.DeleteFunc(m.Heads, func(o *site.Head) bool { return o == h })
}

// join has a head join the mesh through one of its members.
func (m *mesh) join(ctx context.Context, t *testing.T, h, through *site.Head) error {
	t.Helper()
	_, err := h.Luna(ctx, "join", through.Addr.String(), "--token", luna(ctx, t, through, "head", "invite"))
	return err
}

// kernelTree makes a tree that has a kernel, as far as it is looked at before it
// is packed.
func kernelTree(t *testing.T, l *lab.Lab) string {
	t.Helper()
	tree := filepath.Join(l.Dir(), "tree")
	for _, dir := range []string{"boot", "lib/modules/6.1.0"} {
		must(t, os.MkdirAll(filepath.Join(tree, dir), 0o755))
	}
	for _, file := range []string{"boot/vmlinuz-6.1.0", "lib/modules/6.1.0/modules.dep"} {
		must(t, os.WriteFile(filepath.Join(tree, file), []byte("nothing of this kind\n"), 0o644))
	}
	return tree
}

// luna runs a luna command on a head, that of its release; the test ends if it fails.
func luna(ctx context.Context, t *testing.T, h *site.Head, args ...string) string {
	t.Helper()
	out, err := h.Luna(ctx, args...)
	must(t, err)
	return out
}

// refused makes sure that a command was refused for a reason that has these words.
func refused(t *testing.T, err error, words ...string) {
	t.Helper()
	var failure *site.Failure
	if !errors.As(err, &failure) {
		t.Fatalf("%v: want a refusal with %q", err, words)
	}
	t.Log(failure)
	for _, w := range words {
		if !strings.Contains(failure.Stderr, w) {
			t.Errorf("%v: want a refusal with %q", err, w)
		}
	}
}

// ask runs a luna command of this release on a head of whatever release, and fails
// where the answer comes with a warning, as that it may be old.
func (m *mesh) ask(ctx context.Context, h *site.Head, args ...string) (string, error) {
	cmd := h.Command(ctx, append([]string{filepath.Join(m.Bin, "luna"), "--server", "unix://" + h.Socket()}, args...)...)
	var errs bytes.Buffer
	cmd.Stderr = &errs
	out, err := cmd.Output()
	if said := strings.TrimSpace(errs.String()); err != nil || said != "" {
		return "", fmt.Errorf("luna %s on %s: %w", strings.Join(args, " "), h.Name, errors.Join(err, errors.New(said)))
	}
	return string(out), nil
}

// everything is all of a head's inventory, and who changed it.
func (m *mesh) everything(ctx context.Context, h *site.Head) (string, error) {
	var all strings.Builder
	for _, what := range []string{"export", "log -n 0 -o json", "cluster show -o json"} {
		out, err := m.ask(ctx, h, strings.Fields(what)...)
		if err != nil {
			return "", err
		}
		all.WriteString(out)
	}
	return all.String(), nil
}

// socket is a client of a head, at its socket.
func socket(h *site.Head) *api.Client {
	return &api.Client{Base: "http://luna", HTTP: &http.Client{Transport: &http.Transport{
		DisableKeepAlives: true,
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			return (&net.Dialer{}).DialContext(ctx, "unix", h.Socket())
		},
	}}}
}

// agree waits until all heads have the same inventory, and gives it.
func (m *mesh) agree(ctx context.Context, t *testing.T) string {
	t.Helper()
	var first string
	must(t, site.Until(ctx, 20*time.Second, "all heads have the same inventory", func() error {
		first = ""
		for _, h := range m.Heads {
			if !h.Agent.Running() {
				continue
			}
			all, err := m.everything(ctx, h)
			if err != nil {
				return err
			}
			if first == "" {
				first = all
			}
			if err := differ(first, all); err != nil {
				return fmt.Errorf("%s: %w", h.Name, err)
			}
		}
		return nil
	}))
	return first
}

// differ tells where two texts differ first.
func differ(a, b string) error {
	x, y := strings.Split(a, "\n"), strings.Split(b, "\n")
	for i := range max(len(x), len(y)) {
		if i >= len(x) || i >= len(y) || x[i] != y[i] {
			return fmt.Errorf("line %d: %q, and %q", i+1, x[min(i, len(x)-1)], y[min(i, len(y)-1)])
		}
	}
	return nil
}

// upgrade stops a head in order and starts it with this release, as a package
// manager does.
func (m *mesh) upgrade(ctx context.Context, t *testing.T, h *site.Head) {
	t.Helper()
	must(t, h.Agent.Stop(syscall.SIGTERM, 20*time.Second))
	m.write(ctx, t) // through those that stay
	for _, other := range m.Heads {
		if other != h && other.Bin == "" {
			must(t, wantFormat(ctx, other, 1)) // whoever is away must understand the log when he is back
		}
	}
	before := m.agree(ctx, t)
	h.Bin = ""
	must(t, h.Start(ctx))
	must(t, m.Settle(ctx))
	if err := differ(before, m.agree(ctx, t)); err != nil {
		t.Errorf("the upgrade of %s has changed the inventory: %v", h.Name, err)
	}
	must(t, site.Until(ctx, 20*time.Second, "all know the release of "+h.Name, func() error {
		for _, asked := range m.Heads {
			out, err := m.ask(ctx, asked, "head", "show", h.Name)
			if err != nil {
				return err
			}
			if v := m.release[strings.LastIndex(m.release, " ")+1:]; !strings.Contains(out, v) {
				return fmt.Errorf("%s shows it without %q:\n%s", asked.Name, v, out)
			}
		}
		return nil
	}))
}

// write changes something of each kind through every head that runs, each of which
// knows what it was told, and makes sure that all then have the same.
func (m *mesh) write(ctx context.Context, t *testing.T) {
	t.Helper()
	var told []string
	for _, h := range m.Heads {
		if !h.Agent.Running() {
			continue
		}
		m.nodes++
		name := fmt.Sprintf("node%03d", m.nodes)
		for _, args := range []string{
			"node add -g compute -n " + name,
			"node change " + name + " --mac " + fmt.Sprintf("02:00:00:00:00:%02x", m.nodes) + " --switch switch01 --tag " + h.Name,
			"node add -g compute -n gone" + name,
			"node change gone" + name + " -i BOOTIF 10.30.9." + fmt.Sprint(m.nodes),
			"node delete gone" + name,
			"osimage change compute --kernopts " + name,
		} {
			luna(ctx, t, h, strings.Fields(args)...)
		}
		var newest []struct {
			ID uint64 `json:"id"`
		}
		must(t, h.JSON(ctx, &newest, "log", "-n", "1"))
		luna(ctx, t, h, "undo", fmt.Sprint(newest[0].ID))
		luna(ctx, t, h, "node", "show", name) // who writes reads his own write
		told = append(told, name)
	}
	all := m.agree(ctx, t)
	for _, name := range told {
		if !strings.Contains(all, name) {
			t.Errorf("%s was added and is not there", name)
		}
	}
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

// lead has those heads that lead and should not stand still, until one does that
// should: one of this release, or one of the last.
func (m *mesh) lead(ctx context.Context, t *testing.T, old bool) {
	t.Helper()
	for range 20 { // an election is as likely won by one head as by the other
		var leads *site.Head
		must(t, site.Until(ctx, 20*time.Second, "a head leads", func() (err error) {
			leads, err = m.leader(ctx, m.Heads[0])
			return err
		}))
		if (leads.Bin != "") == old {
			t.Logf("%s leads", leads.Name)
			return
		}
		leads.Agent.Pause()
		asked := m.Other(leads)
		err := site.Until(ctx, 20*time.Second, "another head leads", func() error {
			h, err := m.leader(ctx, asked)
			if err == nil && h == leads {
				err = fmt.Errorf("%s still does", h.Name)
			}
			return err
		})
		leads.Agent.Continue()
		must(t, err)
		must(t, m.Settle(ctx))
	}
	t.Fatalf("twenty times the wrong head was elected (old: %t)", old)
}

// wantFormat fails where the mesh uses another format of the log.
func wantFormat(ctx context.Context, h *site.Head, want int) error {
	var s struct {
		Format int `json:"format"`
	}
	err := h.JSON(ctx, &s, "cluster", "status")
	if err == nil && s.Format != want {
		err = fmt.Errorf("%s says that the mesh uses format %d, not %d", h.Name, s.Format, want)
	}
	return err
}

// client is a machine that asks DHCP again and again and must always get the same
// address.
type client struct {
	node *lab.Node
	want netip.Prefix

	mu      sync.Mutex
	answers int
	last    error // of the newest attempt
	wrong   []netip.Prefix
}

func (m *mesh) client(ctx context.Context, t *testing.T, name, address string) *client {
	t.Helper()
	n, err := m.Lab.Node(ctx, lab.NodeConfig{Name: name})
	must(t, err)
	c := &client{node: n, want: netip.MustParsePrefix(address)}
	m.clients = append(m.clients, c)
	return c
}

// askOn asks until the test ends.
func (c *client) askOn(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() {
		defer close(done)
		tick := time.NewTicker(500 * time.Millisecond)
		defer tick.Stop()
		for {
			lease, err := c.node.DHCP(ctx, false)
			c.note(lease, err)
			select {
			case <-ctx.Done():
				return
			case <-tick.C:
			}
		}
	}()
	t.Cleanup(func() {
		cancel()
		<-done
		t.Logf("%s: %d answers", c.node.Name(), c.answers)
		for _, a := range c.wrong {
			t.Errorf("%s was given %s, and its address is %s", c.node.Name(), a, c.want)
		}
	})
}

func (c *client) note(lease lab.Lease, err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.last = err
	if err != nil {
		return
	}
	c.answers++
	if lease.Address != c.want {
		c.wrong = append(c.wrong, lease.Address)
	}
}

// served waits until each client has had two answers from now on: the second
// answers a question that was asked after it.
func (m *mesh) served(ctx context.Context, t *testing.T) {
	t.Helper()
	for _, c := range m.clients {
		c.mu.Lock()
		from := c.answers
		c.mu.Unlock()
		must(t, site.Until(ctx, 30*time.Second, c.node.Name()+" is answered", func() error {
			c.mu.Lock()
			defer c.mu.Unlock()
			if c.answers < from+2 {
				return fmt.Errorf("no answer: %w", c.last)
			}
			return nil
		}))
	}
}
