package cli

import (
	"context"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/hashicorp/raft"

	"github.com/clustervision/luna/api"
	"github.com/clustervision/luna/fsm"
	"github.com/clustervision/luna/inventory"
)

// testHead is a head without a mesh: the real state machine behind the real
// API, with no raft between.
type testHead struct {
	api.Backend // what is not asked in these tests

	machine *fsm.Machine

	mu      sync.Mutex
	index   uint64
	asked   int                 // how often Heads was asked
	token   string              // what Join was given
	after   []inventory.Command // applied one by one whenever Heads or Self is asked
	failing *inventory.Error    // what Pack ends with
	behind  uint64              // how far h2 is behind; it catches up whenever Heads is asked
	dead    bool                // h2 failed
	hang    chan struct{}       // if set, Networks' View waits for it
	stale   string              // why what it tells may be old
}

var _ api.Backend = (*testHead)(nil)

// created is when everything happens here.
var created = time.Date(2026, 1, 2, 15, 4, 5, 0, time.UTC)

const testUUID = "0b6e2a52-6c1c-4a1e-9d5e-0d0f6f1d2c3b"

func newTestHead() *testHead { return &testHead{machine: fsm.New()} }

func (h *testHead) View() *inventory.Inventory {
	if h.hang != nil {
		<-h.hang
	}
	return h.machine.View()
}

func (h *testHead) Propose(_ context.Context, by inventory.Asker, c inventory.Command) (inventory.Result, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.index++
	b, err := inventory.Envelope{Asker: by, At: created, Command: c}.Encode()
	if err != nil {
		return inventory.Result{}, err
	}
	r := h.machine.Apply(&raft.Log{Index: h.index, Data: b}).(inventory.Result)
	if r.Error != nil {
		return r, r.Error
	}
	return r, nil
}

func (h *testHead) propose(c inventory.Command) error {
	_, err := h.Propose(context.Background(), inventory.Asker{By: "test"}, c)
	return err
}

func (h *testHead) step() error {
	h.mu.Lock()
	h.asked++
	var next inventory.Command
	if h.asked > 1 && len(h.after) > 0 {
		next, h.after = h.after[0], h.after[1:]
	}
	h.mu.Unlock()
	if next == nil {
		return nil
	}
	return h.propose(next)
}

func (h *testHead) Forwarded(context.Context, []byte) (api.Applied, error) {
	return api.Applied{}, fmt.Errorf("not asked in these tests")
}

func (h *testHead) Self(context.Context) (api.HeadStatus, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	s := api.HeadStatus{Name: "h1", Warnings: []string{}, Progress: map[string]api.Progress{}}
	if _, ok := h.machine.View().Cluster(); ok {
		s.Member, s.Leader, s.AppliedIndex, s.CommitIndex = true, "h1", h.index, h.index
	}
	if h.token != "" { // the steps of a join, one each time somebody asks
		h.asked++
		s.Name, s.Member, s.AppliedIndex, s.CommitIndex = "h2", true, min(uint64(h.asked), 3), 3
		if h.asked > 1 {
			s.Leader = "h1"
		}
	}
	return s, nil
}

func (h *testHead) Heads(context.Context) ([]api.Head, error) {
	if err := h.step(); err != nil {
		return nil, err
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	inv, all := h.View(), []api.Head{}
	for head := range inv.Heads() {
		w := api.Head{
			Name: head.Name, Address: head.Address, State: "alive", Role: "voter", Leader: head.Name == "h1",
			AppliedIndex: h.index, Networks: []string{}, Version: "test", Joined: created, Since: created,
			Addresses: append([]netip.Prefix{}, head.Addresses...), Warnings: []string{},
			Drained: head.Drained, Witness: head.Witness, Weight: max(1, head.Weight),
		}
		if head.Name == "h1" && h.stale != "" {
			w.CutOff = 70
		}
		if head.Name == "h2" {
			w.AppliedIndex -= h.behind
			h.behind -= min(h.behind, 1)
		}
		if head.Name == "h2" && h.dead {
			w.State, w.AppliedIndex = "failed", 0
		}
		for n := range inv.Networks() {
			if n.Duty.Holder == head.ID {
				w.Networks = append(w.Networks, n.Name)
			}
		}
		all = append(all, w)
	}
	return all, nil
}

func (h *testHead) Progress(_ context.Context, nodes []string) map[string]api.Progress {
	p := map[string]api.Progress{}
	for _, n := range nodes {
		p[n] = api.Progress{Percent: 66.666, Age: 3}
	}
	return p
}

func (h *testHead) Init(ctx context.Context, r api.InitRequest) (api.InitReply, error) {
	c := inventory.Cluster{
		UUID: testUUID, NodePrefix: "node", NodeDigits: 3, User: "luna", Path: "/opt/luna",
		FrontendAddress: r.FrontendAddress, FrontendPort: 7050, Replicas: 2, SeedSeconds: 10,
		Secrets: inventory.Secrets{CAKey: "key", GossipKey: make([]byte, 32), BootKey: make([]byte, 32)},
	}
	if r.NodePrefix != "" {
		c.NodePrefix = r.NodePrefix
	}
	if r.NodeDigits != 0 {
		c.NodeDigits = r.NodeDigits
	}
	if r.Path != "" {
		c.Path = r.Path
	}
	if err := onThisHead(nil, &c.Path); r.Path != "" && err != nil {
		return api.InitReply{}, err
	}
	head := inventory.Head{
		Name: "h1", Address: r.FrontendAddress, Joined: created,
		Addresses: []netip.Prefix{netip.PrefixFrom(r.FrontendAddress, 16)},
	}
	var cmd inventory.Command = inventory.InitCluster{Cluster: c, Head: head}
	if old, ok := h.machine.View().Cluster(); ok && old.Deleted {
		cmd = inventory.SetUpCluster{Cluster: c}
	}
	_, err := h.Propose(ctx, inventory.Asker{By: "root"}, cmd)
	return api.InitReply{UUID: testUUID, Head: "h1", Credential: "a credential\n"}, err
}

func (h *testHead) Join(_ context.Context, r api.JoinRequest) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	if r.Token != "good" {
		return inventory.Errorf(inventory.KindDenied, "head", "h2", "the token is damaged: copy it whole, or make one with `luna head invite`")
	}
	h.token, h.asked = r.Token, 0
	return nil
}

func (h *testHead) Invite(_ context.Context, _ inventory.Asker, r api.InviteRequest) (api.InviteReply, error) {
	return api.InviteReply{Token: "luna1.token", Expires: created.Add(r.TTL)}, nil
}

func (h *testHead) Admit(context.Context, api.AdmitRequest) (api.AdmitReply, error) {
	return api.AdmitReply{}, fmt.Errorf("not asked in these tests")
}

func (h *testHead) Credential(_ context.Context, name string) ([]byte, error) {
	return []byte("credential of " + name + "\n"), nil
}

func (h *testHead) Prepare(_ context.Context, c inventory.Command) (inventory.Command, error) {
	if err := c.Validate(); err != nil {
		return c, err
	}
	switch c := c.(type) {
	case inventory.AddNetwork:
		if c.NSHostname == "" {
			c.NSHostname = "h1"
		}
		return c, nil
	case inventory.AddOSImage:
		if st, err := os.Stat(c.Path); err != nil || !st.IsDir() {
			return c, inventory.Errorf(inventory.KindInvalid, "osimage", c.Name, "'%s' is not a valid directory", c.Path)
		}
		switch {
		case strings.HasSuffix(c.Path, "/empty"):
			return c, inventory.Errorf(inventory.KindInvalid, "osimage", c.Name, "No kernels installed in '%s'", c.Path)
		case c.KernVer == "" || c.KernVer == "ANY":
			c.KernVer = testKernels[0]
		case !slices.Contains(testKernels, c.KernVer):
			return c, inventory.Errorf(inventory.KindInvalid, "osimage", c.Name, "Available kernels are %q", testKernels)
		}
		return c, nil
	case inventory.ChangeCluster:
		return c, onThisHead(c.User, c.Path)
	}
	return c, nil
}

// testKernels are in every tree, the newest first.
var testKernels = []string{"6.1.0-9-amd64", "6.1.0-10-amd64"}

// onThisHead refuses as an agent does.
func onThisHead(user, path *string) error {
	if user != nil && *user == "nosuch" {
		return inventory.Errorf(inventory.KindRefused, "cluster", "general", "No such user exists: '%s'", *user)
	}
	if path != nil {
		if st, err := os.Stat(*path); err != nil || !st.IsDir() {
			return inventory.Errorf(inventory.KindRefused, "cluster", "general", "'%s' is not a valid directory", *path)
		}
	}
	return nil
}

func (h *testHead) Preview(by inventory.Asker, c inventory.Command) (inventory.Result, []inventory.Change, *inventory.Inventory, error) {
	r, changes, then := h.machine.Preview(inventory.Envelope{Asker: by, At: created, Command: c})
	return r, changes, then, nil
}

func (h *testHead) Kernels(image string) ([]string, error) {
	o, ok := h.View().OSImage(image)
	if !ok {
		return nil, inventory.NotFound("osimage", image)
	}
	if st, err := os.Stat(o.Path); err != nil || !st.IsDir() {
		return nil, inventory.Errorf(inventory.KindInvalid, "osimage", image, "'%s' is not a valid directory on this head", o.Path)
	}
	return testKernels, nil
}

func (h *testHead) Clone(ctx context.Context, by inventory.Asker, image string, r api.CloneRequest, progress func(api.JobEvent)) error {
	progress(api.JobEvent{Phase: "copy", Done: 20 << 20, Total: 40 << 20})
	if _, err := h.Propose(ctx, by, inventory.AddOSImage{Name: r.To, Path: r.Path, KernVer: "6.1.0-9-amd64", From: image}); err != nil {
		return err
	}
	progress(api.JobEvent{Phase: api.JobDone, Message: "osimage '" + r.To + "' is to be packed before nodes can boot it"})
	return nil
}

func (h *testHead) Grab(_ context.Context, image string, r api.GrabRequest, progress func(api.JobEvent)) error {
	if _, ok := h.View().OSImage(image); !ok {
		return inventory.NotFound("osimage", image)
	}
	progress(api.JobEvent{Phase: "grab", Message: fmt.Sprintf("/ from %s (dry %t, verbose %t)", r.Host, r.DryRun, r.Verbose)})
	progress(api.JobEvent{Phase: api.JobDone})
	return nil
}

func (h *testHead) DHCPConfig(failover bool) (api.Exported, error) {
	e := api.Exported{Files: []api.ExportedFile{{Path: "dhcpd.conf", Content: "subnet\n"}}, Notices: []string{}}
	if failover {
		e.Files = append(e.Files, api.ExportedFile{Path: "dhcpd-secondary.conf", Content: "secondary\n"})
	}
	return e, nil
}

func (h *testHead) Zones(context.Context, bool) (api.Exported, error) {
	if _, ok := h.View().Cluster(); !ok {
		return api.Exported{}, inventory.NotFound("cluster", "general")
	}
	e := api.Exported{Files: []api.ExportedFile{}, Notices: []string{"network 'cluster': MX has no address"}}
	for n := range h.View().Networks() {
		e.Files = append(e.Files, api.ExportedFile{Path: "/var/named/" + n.Name + ".luna.zone", Content: "; " + n.Name + "\n"})
	}
	if len(e.Files) == 0 {
		return e, inventory.Errorf(inventory.KindRefused, "cluster", "general", "No networks configured in this cluster")
	}
	return e, nil
}

func (h *testHead) Pack(ctx context.Context, by inventory.Asker, image string, r api.PackRequest, progress func(api.JobEvent)) error {
	if _, ok := h.View().OSImage(image); !ok {
		return inventory.NotFound("osimage", image)
	}
	if !r.Boot {
		progress(api.JobEvent{Phase: "tree", Done: 10 << 20, Total: 40 << 20})
		progress(api.JobEvent{Phase: "tree", Done: 40 << 20, Total: 40 << 20})
	}
	switch {
	case r.Tree:
	case r.CopyBoot:
		progress(api.JobEvent{Phase: "initrd", Message: "that of the tree"})
	default:
		progress(api.JobEvent{Phase: "initrd", Message: "dracut in a chroot of the tree"})
	}
	h.mu.Lock()
	failing := h.failing
	h.mu.Unlock()
	if failing != nil {
		return failing
	}
	a := inventory.Artifact{SHA256: strings.Repeat("ab", 32), Size: 12 << 20, Descriptor: []byte(`{}`)}
	v := inventory.ImageVersion{ID: "0123456789abcdef", Created: created, KernVer: "6.1.0-9-amd64", Root: a, Kernel: a, Initrd: a, UnpackedSize: 40 << 20}
	if _, err := h.Propose(ctx, by, inventory.PublishVersion{OSImage: image, Version: v, Head: "h1"}); err != nil {
		return err
	}
	progress(api.JobEvent{Phase: api.JobDone, Version: v.ID})
	return nil
}

func (h *testHead) Script(n *inventory.Node, step string) (string, error) {
	return fmt.Sprintf("#!%s\n# of %s\n", map[string]string{"boot": "ipxe", "install": "/bin/bash"}[step], n.Name), nil
}

// secondHead makes the cluster one of two heads.
func (h *testHead) secondHead() error {
	hash := strings.Repeat("0", 64)
	if err := h.propose(inventory.CreateInvite{Invite: inventory.Invite{ID: "i", Hash: hash, Created: created, Expires: created.Add(time.Hour)}}); err != nil {
		return err
	}
	return h.propose(inventory.AdmitHead{Invite: "i", Secret: hash, At: created, Head: inventory.Head{Name: "h2", Address: netip.MustParseAddr("10.30.255.253"), Key: "k"}})
}

// serve answers on a unix socket until the test ends, and gives its path.
func (h *testHead) serve(t testing.TB) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "luna-cli-") // short: a socket's path has 107 bytes
	if err != nil {
		t.Fatal(err)
	}
	l, err := net.Listen("unix", dir+"/s")
	if err != nil {
		t.Fatal(err)
	}
	root := func(*http.Request) api.Caller { return api.Caller{Name: "root", From: "h1", Role: api.RoleLocal} }
	srv := &http.Server{Handler: api.Handler(h, "test", root), ReadHeaderTimeout: time.Minute}
	done := make(chan struct{})
	go func() {
		defer close(done)
		_ = srv.Serve(l) // ends with Close
	}()
	t.Cleanup(func() {
		_ = srv.Close()
		<-done
		_ = os.RemoveAll(dir)
	})
	return dir + "/s"
}
