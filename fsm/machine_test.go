package fsm_test

import (
	"bytes"
	"flag"
	"net/netip"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/hashicorp/raft"

	"github.com/clustervision/luna/fsm"
	"github.com/clustervision/luna/inventory"
)

var update = flag.Bool("update", false, "write the samples of formats anew")

var epoch = time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)

// site is a machine and the index of its log.
type site struct {
	*fsm.Machine
	index   uint64
	log     [][]byte
	version int       // of the envelopes; 0 is the newest
	wall    time.Time // what the head that takes commands takes for the time; zero is epoch
}

func (s *site) clock() time.Time {
	if s.wall.IsZero() {
		return epoch
	}
	return s.wall
}

func (s *site) do(c inventory.Command) inventory.Result {
	return s.doAs("", c)
}

func (s *site) doAs(request string, c inventory.Command) inventory.Result {
	b, err := inventory.Envelope{Version: s.version, Request: request, At: s.clock(), Asker: inventory.Asker{By: "test"}, Command: c}.Encode()
	if err != nil {
		panic(err)
	}
	s.index++
	s.log = append(s.log, b)
	return s.Apply(&raft.Log{Index: s.index, Data: b}).(inventory.Result)
}

func begun(tb interface{ Fatal(...any) }) *site { return begunAt(tb, inventory.FormatVersion) }

// begunAt is a site whose heads speak that version.
func begunAt(tb interface{ Fatal(...any) }, version int) *site {
	s := &site{Machine: fsm.New(), version: version}
	r := s.do(inventory.InitCluster{
		Cluster: inventory.Cluster{
			UUID: "0123456789abcdef", NodePrefix: "node", NodeDigits: 3, Replicas: 2,
			FrontendAddress: netip.MustParseAddr("10.30.255.254"),
			Secrets:         inventory.Secrets{CACert: "c", CAKey: "k", GossipKey: make([]byte, 32), BootKey: make([]byte, 32)},
		},
		Head: inventory.Head{Name: "h1", Address: netip.MustParseAddr("10.30.255.254"), Addresses: []netip.Prefix{netip.MustParsePrefix("10.30.255.254/16")}},
	})
	if r.Error != nil {
		tb.Fatal(r.Error)
	}
	return s
}

func (s *site) must(t *testing.T, commands ...inventory.Command) {
	t.Helper()
	for _, c := range commands {
		if r := s.do(c); r.Error != nil {
			t.Fatalf("%s: %v", inventory.Verb(c), r.Error)
		}
	}
}

// usual is a site as the quick start makes it.
func usual(t *testing.T) *site {
	t.Helper()
	return usualAt(t, inventory.FormatVersion)
}

func usualAt(t *testing.T, version int) *site {
	t.Helper()
	s := begunAt(t, version)
	s.must(t,
		inventory.AddNetwork{Name: "cluster", Prefix: netip.MustParsePrefix("10.30.0.0/16"), NSHostname: "master"},
		inventory.AddNetwork{Name: "ipmi", Prefix: netip.MustParsePrefix("10.31.0.0/24")},
		inventory.AddOSImage{Name: "compute", Path: "/images/compute", KernVer: "6.1"},
		inventory.AddGroup{Name: "compute", OSImage: "compute", Network: "cluster"},
	)
	return s
}

func TestRefusals(t *testing.T) {
	a := netip.MustParseAddr
	for _, c := range []struct {
		name    string
		command inventory.Command
		kind    inventory.Kind
		text    string
	}{
		{"second init", inventory.InitCluster{Cluster: inventory.Cluster{FrontendAddress: a("10.0.0.1"), NodePrefix: "n", NodeDigits: 1, Secrets: inventory.Secrets{CAKey: "k", GossipKey: make([]byte, 32), BootKey: make([]byte, 32)}}, Head: inventory.Head{Name: "h"}}, inventory.KindExists, "'general' is already created"},
		{"prefix", inventory.AddNetwork{Name: "n", Prefix: netip.MustParsePrefix("10.40.0.0/31")}, inventory.KindInvalid, "[1..30]"},
		{"same network", inventory.AddNetwork{Name: "n", Prefix: netip.MustParsePrefix("10.30.0.1/16")}, inventory.KindExists, "defined already"},
		{"overlap", inventory.AddNetwork{Name: "n", Prefix: netip.MustParsePrefix("10.30.4.0/24")}, inventory.KindInvalid, "overlaps"},
		{"bad name", inventory.AddNetwork{Name: "we ird;$(id)", Prefix: netip.MustParsePrefix("10.40.0.0/16")}, inventory.KindInvalid, "cannot name"},
		{"range outside", inventory.SetRange{Network: "cluster", Range: inventory.AddrRange{Start: a("10.31.0.1"), End: a("10.31.0.9")}}, inventory.KindRefused, "no address of network"},
		{"range reversed", inventory.SetRange{Network: "cluster", Range: inventory.AddrRange{Start: a("10.30.0.9"), End: a("10.30.0.1")}}, inventory.KindRefused, "Wrong range"},
		{"range over a node", inventory.SetRange{Network: "cluster", Range: inventory.AddrRange{Start: a("10.30.0.1"), End: a("10.30.0.9")}}, inventory.KindRefused, "node 'node001'"},
		{"range over a head", inventory.SetRange{Network: "cluster", Range: inventory.AddrRange{Start: a("10.30.255.1"), End: a("10.30.255.254")}}, inventory.KindRefused, "head 'h1'"},
		{"range without a head", inventory.SetRange{Network: "ipmi", Range: inventory.AddrRange{Start: a("10.31.0.1"), End: a("10.31.0.9")}}, inventory.KindRefused, "neither a head nor the frontend"},
		{"group of no image", inventory.AddGroup{Name: "g", OSImage: "nix", Network: "cluster"}, inventory.KindNotFound, "Object 'nix' of type 'osimage' does not exist"},
		{"image path twice", inventory.AddOSImage{Name: "i", Path: "/images/compute"}, inventory.KindInvalid, "Path belongs to osimage 'compute'"},
		{"node exists", inventory.AddNodes{Group: "compute", Names: []string{"node009", "node001"}}, inventory.KindExists, "'node001' is already created"},
		{"address taken", inventory.ChangeNodes{Names: []string{"node002"}, Addresses: []inventory.SetAddress{{Interface: "BOOTIF", Addr: a("10.30.0.1")}}}, inventory.KindRefused, "taken by node 'node001'"},
		{"address of the head", inventory.ChangeNodes{Names: []string{"node002"}, Addresses: []inventory.SetAddress{{Interface: "BOOTIF", Addr: a("10.30.255.254")}}}, inventory.KindRefused, "frontend"},
		{"no interface", inventory.ChangeNodes{Names: []string{"node002"}, Addresses: []inventory.SetAddress{{Interface: "eth7", Addr: a("10.30.0.7")}}}, inventory.KindRefused, "No such interface 'eth7'"},
		{"network in use", inventory.DeleteNetwork{Name: "cluster"}, inventory.KindInUse, "is a dependency"},
		{"image in use", inventory.DeleteOSImage{Name: "compute"}, inventory.KindInUse, "[group/compute]"},
		{"group in use", inventory.DeleteGroup{Name: "compute"}, inventory.KindInUse, "[node/node001] [node/node002]"},
		{"half a hostlist", inventory.DeleteNodes{Names: []string{"node001", "nix"}}, inventory.KindNotFound, "'nix'"},
		{"last head", inventory.RemoveHead{Name: "h1"}, inventory.KindRefused, "only head"},
		{"unknown token", inventory.AdmitHead{Invite: "x", Head: inventory.Head{Name: "h2", Address: a("10.30.255.253"), Key: "k"}}, inventory.KindDenied, "unknown"},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := usual(t)
			s.must(t, inventory.AddNodes{Group: "compute"}, inventory.AddNodes{Group: "compute"})
			before := dump(t, s.View())
			r := s.do(c.command)
			if r.Error == nil || r.Error.Kind != c.kind || !strings.Contains(r.Error.Error(), c.text) {
				t.Errorf("got %#v, want %s with %q", r.Error, c.kind, c.text)
			}
			if diff := cmp.Diff(before, dump(t, s.View())); diff != "" {
				t.Errorf("a refused command changed the state:\n%s", diff)
			}
		})
	}
}

func TestNodesGetTheLowestFreeAddress(t *testing.T) {
	s := usual(t)
	s.must(t, inventory.SetRange{Network: "cluster", Range: inventory.AddrRange{Start: netip.MustParseAddr("10.30.0.3"), End: netip.MustParseAddr("10.30.0.10")}})
	r := s.do(inventory.AddNodes{Group: "compute", Names: []string{"node001", "node002", "node003"}})
	if r.Error != nil {
		t.Fatal(r.Error)
	}
	want := map[string]string{"node001": "10.30.0.1", "node002": "10.30.0.2", "node003": "10.30.0.11"}
	for name, addr := range want {
		if got := addressOf(s.View(), name); got != addr {
			t.Errorf("%s has %s, want %s", name, got, addr)
		}
	}
	s.must(t, inventory.DeleteNodes{Names: []string{"node002"}})
	var names []string
	if err := s.do(inventory.AddNodes{Group: "compute"}).Into(&names); err != nil {
		t.Fatal(err)
	}
	if names[0] != "node004" || addressOf(s.View(), "node004") != "10.30.0.2" {
		t.Errorf("the next node is %s at %s, want node004 at the freed 10.30.0.2", names[0], addressOf(s.View(), names[0]))
	}
}

// TestPreviewDisturbsNobody previews while commands are done; the race detector
// looks on.
func TestPreviewDisturbsNobody(t *testing.T) {
	s := usual(t)
	done := make(chan struct{})
	go func() {
		defer close(done)
		for range 50 {
			s.Preview(inventory.Envelope{At: epoch, Command: inventory.AddNodes{Group: "compute"}})
			if err := fsm.Check(s.View()); err != nil {
				t.Error(err)
			}
		}
	}()
	for range 50 {
		s.must(t, inventory.AddNodes{Group: "compute"})
	}
	<-done
	if got := addressOf(s.View(), "node050"); got != "10.30.0.50" {
		t.Errorf("node050 is at %s", got)
	}
}

func addressOf(inv *inventory.Inventory, node string) string {
	n, ok := inv.Node(node)
	if !ok {
		return "nobody"
	}
	for _, a := range n.Interfaces {
		return a.V4.String()
	}
	return "none"
}

func TestACommandSentTwiceIsDoneOnce(t *testing.T) {
	s := usual(t)
	first := s.doAs("r1", inventory.AddNodes{Group: "compute"})
	second := s.doAs("r1", inventory.AddNodes{Group: "compute"})
	if diff := cmp.Diff(first, second); diff != "" {
		t.Errorf("the answers differ: %s", diff)
	}
	if _, ok := s.View().Node("node002"); ok {
		t.Error("the node was added twice")
	}
}

func TestVersionsBecomeReady(t *testing.T) {
	s := usual(t)
	version := func(id string, at time.Duration) inventory.PublishVersion {
		f := inventory.Artifact{SHA256: strings.Repeat("0", 64), Size: 1, Descriptor: []byte("{}")}
		return inventory.PublishVersion{OSImage: "compute", Head: "h1", Version: inventory.ImageVersion{ID: id, Created: epoch.Add(at), Root: f, Kernel: f, Initrd: f}}
	}
	o, _ := s.View().OSImage("compute")
	s.must(t, version("0000000000000001", 0))
	if v, ok := s.View().BootVersion(o.ID); !ok || v.ID != "0000000000000001" {
		t.Fatal("with one head, one holder is all there can be")
	}
	s.must(t,
		inventory.CreateInvite{Invite: inventory.Invite{ID: "i", Hash: strings.Repeat("ab", 32), Created: epoch, Expires: epoch.Add(time.Hour)}},
		inventory.AdmitHead{Invite: "i", Secret: strings.Repeat("ab", 32), At: epoch, Head: inventory.Head{Name: "h2", Key: "k", Address: netip.MustParseAddr("10.30.255.253")}},
		version("0000000000000002", time.Second),
	)
	if v, _ := s.View().BootVersion(o.ID); v.ID != "0000000000000001" {
		t.Error("a version that one head of two holds is booted")
	}
	s.must(t, inventory.RecordHolder{Version: "0000000000000002", Head: "h2", Held: true})
	if v, _ := s.View().BootVersion(o.ID); v.ID != "0000000000000002" {
		t.Error("a version that both heads hold is not booted")
	}
}

// TestFewerCopiesSuffice: a version that one head holds is booted as soon as no other
// head has to hold it, whatever became of the others.
func TestFewerCopiesSuffice(t *testing.T) {
	const id = "0000000000000001"
	admit := func(s *site, name string, last byte, witness bool) {
		s.must(t,
			inventory.CreateInvite{Invite: inventory.Invite{ID: name, Hash: strings.Repeat("ab", 32), Created: epoch, Expires: epoch.Add(time.Hour)}},
			inventory.AdmitHead{Invite: name, Secret: strings.Repeat("ab", 32), At: epoch, Head: inventory.Head{Name: name, Key: "k", Address: netip.AddrFrom4([4]byte{10, 30, 255, last}), Witness: witness}},
		)
	}
	ready := func(s *site) bool {
		v, ok := s.View().Version(id)
		return ok && v.Ready
	}
	for _, tc := range []struct {
		name  string
		heads int // beside h1
		does  inventory.Command
	}{
		{"the other head is removed", 1, inventory.RemoveHead{Name: "h2"}},
		{"all others are lost", 2, inventory.AdoptCluster{Head: inventory.Head{Name: "h1", Address: netip.MustParseAddr("10.30.255.254")}}},
		{"one copy is asked for", 2, inventory.ChangeCluster{Replicas: ptr(1)}},
	} {
		s := usual(t)
		for i := range tc.heads {
			admit(s, "h"+string(rune('2'+i)), byte(253-i), false)
		}
		s.must(t, generator{}.publish(id, "compute", epoch))
		if ready(s) {
			t.Fatalf("%s: it was ready before", tc.name)
		}
		s.must(t, tc.does)
		if !ready(s) {
			t.Errorf("%s: it cannot be booted", tc.name)
		}
	}

	s := usual(t)
	admit(s, "w", 253, true)
	s.must(t, generator{}.publish(id, "compute", epoch))
	if !ready(s) {
		t.Error("a witness counts, which never holds an image")
	}
}

// TestHeadsAddressesAreNotLeased: a head may get an address in a range that is there.
func TestHeadsAddressesAreNotLeased(t *testing.T) {
	s := usual(t)
	s.must(t, inventory.SetRange{Network: "cluster", Range: addrRange("10.30.128.0", "10.30.128.1")})
	h, _ := s.View().Head("h1")
	var l inventory.Lease
	lease := func() error {
		return s.do(inventory.LeaseAddress{Network: "cluster", MAC: "52:54:00:00:00:77", At: epoch, TTL: time.Hour}).Into(&l)
	}
	if err := lease(); err != nil || l.Addr != addr("10.30.128.0") {
		t.Fatalf("leased %s (%v)", l.Addr, err)
	}
	s.must(t, inventory.UpdateHead{Name: "h1", Address: h.Address, Addresses: append(slices.Clone(h.Addresses), netip.MustParsePrefix("10.30.128.0/16"))})
	if err := lease(); err != nil || l.Addr != addr("10.30.128.1") {
		t.Errorf("leased %s (%v) where the head has 10.30.128.0", l.Addr, err)
	}
}

func text(inv *inventory.Inventory) (string, error) {
	var b bytes.Buffer
	_, err := inv.WriteTo(&b)
	return b.String(), err
}

func dump(t *testing.T, inv *inventory.Inventory) string {
	t.Helper()
	s, err := text(inv)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// everything is a site that has something in every table of a snapshot.
func everything(t *testing.T) *site {
	t.Helper()
	s := full(t)
	g := generator{}
	s.must(t,
		g.invite(),
		inventory.AdmitHead{Invite: "t", Secret: secret, At: epoch, Head: inventory.Head{Name: "h2", Key: "k", Address: addr("10.30.255.253")}},
		inventory.AssignDuties{DHCP: map[string]string{"cluster": "h2"}},
		g.publish("0000000000000001", "compute", epoch),
		inventory.RecordHolder{Version: "0000000000000001", Head: "h2", Held: true},
		inventory.RecordStatus{Statuses: []inventory.NodeStatus{{Name: "node001", Status: inventory.Status{Stage: "install.success", Time: epoch, Head: "h1", Run: "r", Number: 9}}}},
		inventory.LeaseAddress{Network: "cluster", MAC: "52:54:00:00:00:77", At: epoch, TTL: time.Hour},
		inventory.LeaseAddress{Network: "cluster", MAC: "52:54:00:00:00:78", At: epoch, TTL: time.Hour},
		inventory.SetRange{Network: "cluster", Range: addrRange("10.30.128.0", "10.30.128.0")}, // the second is retired
		inventory.ChangeNodes{Names: []string{"node002"}, MAC: ptr(inventory.MAC("52:54:00:00:00:02"))},
		inventory.ChangeNodes{Names: []string{"node002"}, MAC: ptr(inventory.MAC("52:54:00:00:00:03"))},
		inventory.AssignDuties{Polls: map[string]string{"sw1": "h2", "sw2": "h1"}},
		inventory.ChangeHead{Name: "h2", Drained: ptr(true), Weight: ptr(3)},
		inventory.Advance{Elapsed: 30 * time.Second, Applied: 3, Held: true},
	)
	r := s.doAs("request", inventory.ChangeNodes{Names: []string{"node002"}, Comment: ptr("a mistake")})
	s.must(t, inventory.UndoChange{Entry: r.Entry})
	s.sound(t)
	return s
}

// TestEveryReleasedSnapshotRestores keeps the promise of the format: what any
// version wrote, all later ones read. A sample stays as it is; with -update the
// newest is written anew, which is only for as long as no head has it.
func TestEveryReleasedSnapshotRestores(t *testing.T) {
	if *update {
		if err := os.WriteFile("testdata/v2.snap", []byte(dump(t, everything(t).View())), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	files, err := filepath.Glob("testdata/*.snap")
	if err != nil || len(files) < 2 {
		t.Fatalf("the samples are %v: %v", files, err)
	}
	for _, name := range files {
		t.Run(filepath.Base(name), func(t *testing.T) {
			f, err := os.Open(name)
			if err != nil {
				t.Fatal(err)
			}
			s := &site{Machine: fsm.New()}
			if err := s.Restore(f); err != nil {
				t.Fatal(err)
			}
			s.sound(t)
			if _, ok := s.View().Node("node001"); !ok {
				t.Error("node001 is not in it")
			}
			s.index = s.View().Index
			if r := s.apply(t, inventory.DocumentOf(s.View()), true); r.Entry != 0 {
				t.Errorf("its own document changes %s", s.changed(r.Entry))
			}
		})
	}
}

// TestTheNewestSampleHasEverything holds that no table is without a sample.
func TestTheNewestSampleHasEverything(t *testing.T) {
	raw, err := os.ReadFile("testdata/v2.snap")
	if err != nil {
		t.Fatal(err)
	}
	s, err := parse(string(raw))
	if err != nil {
		t.Fatal(err)
	}
	for of, v := range map[string]reflect.Value{"the sample": reflect.ValueOf(*s), "its sequence": reflect.ValueOf(s.Sequence)} {
		for i := range v.NumField() {
			if name := v.Type().Field(i).Name; v.Field(i).IsZero() && name != "LogFull" {
				t.Errorf("no %s in %s", name, of)
			}
		}
	}
}
