package boot

import (
	"encoding/json"
	"flag"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/clustervision/luna/inventory"
)

var update = flag.Bool("update", false, "write the golden files under testdata anew")

// golden compares got with testdata/name.
func golden(t *testing.T, name string, got []byte) {
	t.Helper()
	path := filepath.Join("testdata", name)
	if *update {
		if err := os.WriteFile(path, got, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatalf("%v: run 'go test -update' and look at what it wrote", err)
	}
	if diff := cmp.Diff(string(want), string(got)); diff != "" {
		t.Errorf("%s differs (-want +got):\n%s", name, diff)
	}
}

const (
	macOne   = inventory.MAC("52:54:00:00:00:01")
	macTwo   = inventory.MAC("52:54:00:00:00:02")
	macSix   = inventory.MAC("52:54:00:00:00:06")
	versionA = "0123456789abcdef"
	versionB = "fedcba9876543210"
)

var bootKey = []byte("0123456789abcdef0123456789abcdef")

func hash(digit string) string { return strings.Repeat(digit, 64) }

func ptr[T any](v T) *T { return &v }

// fixture is a cluster of three heads on two networks:
// node001 boots statically, node002 from its disk, node003 has no MAC, node004
// an image that is not packed, node005 an image that too few heads hold, node006
// IPv6 alone.
func fixture() *inventory.Inventory {
	tx := inventory.Empty().Begin()
	for _, o := range fixtureObjects() {
		tx.Put(o)
	}
	return tx.Commit(1)
}

func fixtureObjects() []any {
	addr, prefix := netip.MustParseAddr, netip.MustParsePrefix
	artifact := func(digit string) inventory.Artifact {
		return inventory.Artifact{SHA256: hash(digit), Size: 1000, Descriptor: json.RawMessage(`{"piece":1}`)}
	}
	created := time.Date(2026, 9, 1, 12, 0, 0, 0, time.UTC)
	version := func(id string, image inventory.ID, holders ...inventory.ID) *inventory.ImageVersion {
		return &inventory.ImageVersion{
			ID: id, Image: image, Created: created, KernVer: "6.1.0-1-amd64", UnpackedSize: 5000,
			Root: artifact("a"), Kernel: artifact("b"), Initrd: artifact("c"), Holders: holders, Ready: len(holders) > 1,
		}
	}
	head := func(id inventory.ID, name string, a4, a6 string) *inventory.Head {
		return &inventory.Head{
			ID: id, Name: name, Address: addr(a4), HTTPPort: 7050,
			Addresses: []netip.Prefix{prefix(a4 + "/16"), prefix(a6 + "/64")},
		}
	}
	group := func(id, image inventory.ID, name string) *inventory.Group {
		return &inventory.Group{
			ID: id, Name: name, OSImage: image, Domain: 10,
			Interfaces: []inventory.Interface{
				{ID: 1, Name: "BMC", Network4: 11},
				{ID: 2, Name: inventory.BootIF, Network4: 10},
				{ID: 3, Name: "ib0", Network4: 11, Params: "MTU=2044\nCONNECTED_MODE=yes\n"},
			},
			PreScript: ptr(""), PartScript: ptr("mount -t tmpfs tmpfs /sysroot\n"), PostScript: ptr("echo 'root:secret' | chpasswd -R /sysroot\n"),
		}
	}
	node := func(id, group inventory.ID, name string, mac inventory.MAC, last byte) *inventory.Node {
		return &inventory.Node{
			ID: id, Name: name, Group: group, MAC: mac,
			Interfaces: map[inventory.ID]inventory.Addresses{
				1: {V4: netip.AddrFrom4([4]byte{10, 31, 1, last})},
				2: {V4: netip.AddrFrom4([4]byte{10, 30, 0, last})},
				3: {V4: netip.AddrFrom4([4]byte{10, 31, 0, last})},
			},
		}
	}
	objects := []any{
		&inventory.Cluster{FrontendAddress: addr("10.30.255.254"), FrontendPort: 7050, Replicas: 2, SeedSeconds: 30, Secrets: inventory.Secrets{BootKey: bootKey}},
		&inventory.Network{ID: 10, Name: "cluster", Prefix: prefix("10.30.0.0/16"), Range: inventory.AddrRange{Start: addr("10.30.128.1"), End: addr("10.30.128.254")}},
		&inventory.Network{ID: 11, Name: "ipmi", Prefix: prefix("10.31.0.0/16")},
		&inventory.Network{ID: 12, Name: "six", Prefix: prefix("fd00:30::/64")},
		&inventory.OSImage{ID: 20, Name: "compute", KernVer: "6.1.0-1-amd64", KernOpts: "console=ttyS0,115200  quiet"},
		&inventory.OSImage{ID: 21, Name: "raw", KernVer: "6.1.0-1-amd64"},
		&inventory.OSImage{ID: 22, Name: "young", KernVer: "6.1.0-1-amd64"},
		version(versionA, 20, 31, 33),
		version(versionB, 22, 31),
		head(31, "h1", "10.30.0.251", "fd00:30::251"),
		head(32, "h2", "10.30.0.252", "fd00:30::252"),
		head(33, "h3", "10.30.0.253", "fd00:30::253"),
		group(40, 20, "compute"), group(41, 21, "raw"), group(42, 22, "young"),
		&inventory.Group{ID: 43, Name: "sixes", OSImage: 20, Interfaces: []inventory.Interface{{ID: 2, Name: inventory.BootIF, Network6: 12}}},
		node(51, 40, "node001", macOne, 1),
		node(52, 40, "node002", macTwo, 2),
		node(53, 40, "node003", "", 3),
		node(54, 41, "node004", "52:54:00:00:00:04", 4),
		node(55, 42, "node005", "52:54:00:00:00:05", 5),
		&inventory.Node{ID: 56, Name: "node006", Group: 43, MAC: macSix, Interfaces: map[inventory.ID]inventory.Addresses{2: {V6: addr("fd00:30::6")}}},
		&inventory.Lease{Network: 10, MAC: "52:54:00:00:00:99", Addr: addr("10.30.128.1"), Expires: created.Add(time.Hour)},
	}
	for _, o := range objects {
		n, ok := o.(*inventory.Node)
		if !ok {
			continue
		}
		n.LocalBoot = n.Name == "node002"
		for iface, a := range n.Interfaces {
			for _, ip := range []netip.Addr{a.V4, a.V6} {
				if ip.IsValid() {
					objects = append(objects, &inventory.Owner{Addr: ip, Type: "node", ID: n.ID, Iface: iface})
				}
			}
		}
	}
	return objects
}

func mustNode(t *testing.T, inv *inventory.Inventory, name string) *inventory.Node {
	t.Helper()
	n, ok := inv.Node(name)
	if !ok {
		t.Fatalf("the fixture has no node %s", name)
	}
	return n
}

func TestScripts(t *testing.T) {
	inv := fixture()
	site := Site{Inventory: inv}
	first := site.FirstScript(macOne)
	golden(t, "first.ipxe", []byte(first))
	if len(first) >= 512 {
		t.Errorf("the first script of a site with three heads is %d bytes long: it should be one packet", len(first))
	}
	golden(t, "menu.ipxe", []byte(site.Menu("", false)))
	golden(t, "menu-known.ipxe", []byte(site.Menu(macOne, false)))
	golden(t, "menu-unknown.ipxe", []byte(site.Menu("52:54:00:00:00:99", false)))
	golden(t, "menu-list.ipxe", []byte(site.Menu(macOne, true)))
	for n := range inv.Nodes() {
		golden(t, n.Name+".ipxe", []byte(site.BootScript(n, "TOKEN")))
	}
	for _, name := range []string{"node001", "node002"} {
		config, err := site.Syslinux(mustNode(t, inv, name), "TOKEN")
		if err != nil {
			t.Fatal(err)
		}
		golden(t, name+".syslinux", []byte(config))
	}
	if _, err := site.Syslinux(mustNode(t, inv, "node004"), ""); err == nil {
		t.Error("a pxelinux configuration without a packed osimage")
	}
}

// TestWithheldAddress: a machine that has become a node just now, at the boot menu say,
// gets its address by the kernel's command line as late as by DHCP: promise 5.
func TestWithheldAddress(t *testing.T) {
	tx := fixture().Begin()
	tx.Enter(2, clock)
	old, _ := tx.Node("node001")
	moved := *old
	moved.MAC = "52:54:00:00:00:77"
	tx.Put(&moved)
	tx.Retire(2)
	inv := tx.Commit(2)
	n := mustNode(t, inv, "node001")
	site := Site{Inventory: inv}
	if script := site.BootScript(n, "TOKEN"); strings.Contains(script, "luna.ip=") || !strings.Contains(script, "10.30.0.1 was the address of 52:54:00:00:00:01 until lately") {
		t.Errorf("its script:\n%s", script)
	}
	if config, err := site.Syslinux(n, "TOKEN"); err == nil {
		t.Errorf("its pxelinux configuration:\n%s", config)
	}
	if plan, err := site.Plan(n, ""); err == nil {
		t.Errorf("its plan: %+v", plan)
	}
	tx = inv.Begin()
	tx.Release(2)
	site.Inventory = tx.Commit(3)
	if script := site.BootScript(n, "TOKEN"); !strings.Contains(script, "luna.ip=10.30.0.1/16") {
		t.Errorf("its script, when all heads know:\n%s", script)
	}
	if _, err := site.Plan(n, ""); err != nil {
		t.Errorf("its plan, when all heads know: %v", err)
	}
}

// TestPlanOfTheKernelThatRuns: a node that began with a version installs that, though
// another one is the newest by now, unless its osimage has it no more.
func TestPlanOfTheKernelThatRuns(t *testing.T) {
	tx := fixture().Begin()
	old, _ := tx.Version(versionA)
	newer := *old
	newer.ID, newer.Created, newer.KernVer = "aaaaaaaaaaaaaaaa", old.Created.Add(time.Hour), "6.2"
	tx.Put(&newer)
	inv := tx.Commit(2)
	for asked, want := range map[string]string{"": newer.ID, versionA: versionA, newer.ID: newer.ID, versionB: newer.ID, "0000000000000000": newer.ID} {
		plan, err := Site{Inventory: inv}.Plan(mustNode(t, inv, "node001"), asked)
		if err != nil || plan.ImageVersion != want || plan.KernVer == "" {
			t.Errorf("asked for %q: got version %s (%v), want %s", asked, plan.ImageVersion, err, want)
		}
	}
}

// TestHeadsOfAnIPv6Node: its kernel is on the network of its address alone, whichever
// iPXE asked on.
func TestHeadsOfAnIPv6Node(t *testing.T) {
	inv := fixture()
	script := Site{Inventory: inv, At: netip.MustParsePrefix("10.30.0.0/16")}.BootScript(mustNode(t, inv, "node006"), "TOKEN")
	_, heads, _ := strings.Cut(script, "luna.heads=")
	heads, _, _ = strings.Cut(heads, " ")
	for _, h := range strings.Split(heads, ",") {
		if !strings.HasPrefix(h, "[fd00:30::") {
			t.Errorf("a kernel with IPv6 alone is to ask %q", h)
		}
	}
}

func TestPlan(t *testing.T) {
	inv := fixture()
	site := Site{Inventory: inv}
	for _, name := range []string{"node001", "node003", "node006"} {
		plan, err := site.Plan(mustNode(t, inv, name), "")
		if err != nil {
			t.Fatal(err)
		}
		b, err := json.MarshalIndent(plan, "", "  ")
		if err != nil {
			t.Fatal(err)
		}
		golden(t, name+".plan.json", append(b, '\n'))
		if name == "node001" {
			for _, d := range []Detail{Masked, Scripts, Full} {
				golden(t, fmt.Sprintf("%s.install%d.sh", name, d), []byte(InstallScript(plan, d)))
			}
		}
	}
	for name, want := range map[string]string{
		"node004": "osimage 'raw' is not packed: luna osimage pack raw",
		"node005": "osimage 'young' is packed and cannot be booted yet: 1 of 2 heads have fetched it",
	} {
		if _, err := site.Plan(mustNode(t, inv, name), ""); err == nil || err.Error() != want {
			t.Errorf("%s: got error %v, want %s", name, err, want)
		}
	}
}

// The frontend address may be a node's own, or a head's.
func TestGateway(t *testing.T) {
	inv := fixture()
	for own, want := range map[string]string{
		"10.30.0.1/16":     "10.30.255.254",
		"10.30.255.254/16": "invalid IP",
		"10.31.0.1/16":     "invalid IP",
	} {
		if got := Gateway(inv, []netip.Prefix{netip.MustParsePrefix(own)}); got.String() != want {
			t.Errorf("gateway for %s: got %s, want %s", own, got, want)
		}
	}
}

// Words that iPXE would take for its own must not reach it.
func TestKernelOptionsThatIPXECannotCarry(t *testing.T) {
	for opts, ok := range map[string]bool{
		"": true, "quiet splash": true, `dyndbg="file a.c +p"`: true, "a=b||c": true, "a=#1": true,
		"a || b": false, "a && reboot": false, "a ; b": false, "#x": false, "x=${net0/mac}": false,
		strings.Repeat("x", maxCmdline): false,
	} {
		tx := fixture().Begin()
		tx.Put(&inventory.OSImage{ID: 20, Name: "compute", KernOpts: opts})
		inv := tx.Commit(2)
		script := Site{Inventory: inv}.BootScript(mustNode(t, inv, "node001"), "TOKEN")
		if got := strings.Contains(script, "imgargs kernel "); got != ok {
			t.Errorf("kernel options %.20q: booted %v, want %v", opts, got, ok)
		}
	}
}

// A node asks all live heads, those on its network and those with the files
// first.
func TestHeadsOfANode(t *testing.T) {
	tx := fixture().Begin()
	tx.Put(&inventory.Head{ID: 34, Name: "far", Address: netip.MustParseAddr("192.0.2.1"), HTTPPort: 7050})
	inv := tx.Commit(2)
	v, _ := inv.Version(versionA)
	at := netip.MustParsePrefix("10.30.0.0/16")
	got := Site{Inventory: inv}.heads(macOne, at, v)
	if len(got) != 4 || got[2] != "10.30.0.252:7050" || got[3] != "192.0.2.1:7050" {
		t.Errorf("got %v: want the holders h1 and h3, then h2, then the one that a router leads to", got)
	}
	alive := func(name string) bool { return name == "h2" }
	if got := (Site{Inventory: inv, Live: alive}).heads(macOne, at, v); len(got) != 1 || got[0] != "10.30.0.252:7050" {
		t.Errorf("got %v: want the live head alone", got)
	}
	got = (Site{Inventory: inv, Live: alive}).headsForLong(macOne, at, v)
	if len(got) != 4 || got[0] != "10.30.0.252:7050" || got[3] != "192.0.2.1:7050" {
		t.Errorf("got %v: want the live head first, and the others behind it", got)
	}
	none := func(string) bool { return false }
	if got := (Site{Inventory: inv, Live: none}).heads(macOne, at, nil); len(got) != 4 {
		t.Errorf("got %v: want all where none seems alive", got)
	}
	if got := (Site{Inventory: inv}).heads(macOne, netip.MustParsePrefix("fd00:30::/64"), nil); !strings.HasPrefix(got[0], "[fd00:30::25") {
		t.Errorf("got %v: want addresses of the network asked on", got)
	}
}
