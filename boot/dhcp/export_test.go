package dhcp

import (
	"bufio"
	"errors"
	"fmt"
	"maps"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/insomniacslk/dhcp/dhcpv4"
	"github.com/insomniacslk/dhcp/dhcpv4/nclient4"
	"github.com/insomniacslk/dhcp/iana"

	"github.com/clustervision/luna/boot"
	"github.com/clustervision/luna/inventory"
)

// exportFixture is the fixture with name servers, an IPv6 network, and nodes of
// which not everything may be exported: one whose BMC is in the network it boots
// from, one with a BMC alone, one without a hardware address, one with a name
// that dhcpd does not read.
func exportFixture(clusterIPs string) *inventory.Inventory {
	tx := fixtureTx()
	c := &inventory.Cluster{FrontendAddress: ip("10.30.0.252"), Services: inventory.DefaultServices()}
	if clusterIPs != "" {
		c.Services.ClusterIPs = &clusterIPs
	}
	tx.Put(c)
	for _, name := range []string{"cluster", "edge"} {
		old, _ := tx.Network(name)
		n := *old
		n.NSHostname = "master"
		_, n.NSIP = inventory.Hosts(n.Prefix)
		tx.Put(&n)
	}
	tx.Put(&inventory.Network{ID: 13, Name: "six", Prefix: netip.MustParsePrefix("fd00::/64"), Range: inventory.AddrRange{Start: ip("fd00::1"), End: ip("fd00::9")}})
	tx.Put(&inventory.Group{ID: 41, Name: "bmcs", Interfaces: []inventory.Interface{
		{ID: 3, Name: inventory.BMC, Network4: netCluster}, {ID: 4, Name: inventory.BootIF, Network4: netCluster},
	}})
	tx.Put(&inventory.Group{ID: 42, Name: "bmc only", Interfaces: []inventory.Interface{{ID: 5, Name: inventory.BMC, Network4: netCluster}}})
	node := func(id, group inventory.ID, name string, mac inventory.MAC, addresses map[inventory.ID]string) {
		n := &inventory.Node{ID: id, Name: name, Group: group, MAC: mac, Interfaces: map[inventory.ID]inventory.Addresses{}}
		for iface, a := range addresses {
			n.Interfaces[iface] = inventory.Addresses{V4: ip(a)}
		}
		tx.Put(n)
	}
	node(52, 41, "node002", "52:54:00:00:00:02", map[inventory.ID]string{3: "10.30.0.102", 4: "10.30.0.2"})
	node(53, 41, "node003", "", map[inventory.ID]string{3: "10.30.0.103", 4: "10.30.0.3"})
	node(54, 41, "a..b", "52:54:00:00:00:04", map[inventory.ID]string{3: "10.30.0.104", 4: "10.30.0.4"})
	node(55, 42, "node005", "52:54:00:00:00:05", map[inventory.ID]string{5: "10.30.0.105"})
	return tx.Commit(1)
}

// dhcpd gives the real server: a copy, for Debian's AppArmor profile keeps the
// one in its place from reading our files.
func dhcpd(t *testing.T) string {
	t.Helper()
	path, err := exec.LookPath("dhcpd")
	if err != nil && os.Geteuid() != 0 {
		t.Skip("dhcpd is not installed: make deps, as root, installs it")
	}
	if err != nil {
		t.Fatal("dhcpd is not installed: run make deps")
	}
	program, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	own := filepath.Join(t.TempDir(), "dhcpd")
	if err := os.WriteFile(own, program, 0o755); err != nil {
		t.Fatal(err)
	}
	return own
}

// dhcpdFiles writes a configuration and an empty lease file.
func dhcpdFiles(t *testing.T, text string) (conf, leases string) {
	t.Helper()
	dir := t.TempDir()
	conf, leases = filepath.Join(dir, "conf"), filepath.Join(dir, "leases")
	for path, text := range map[string]string{conf: text, leases: ""} {
		if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	return conf, leases
}

// Check 58, and bug B27: the two files of a pair are two.
func TestExportDHCPD(t *testing.T) {
	program := dhcpd(t)
	for name, test := range map[string]struct {
		inv      *inventory.Inventory
		failover bool
		want     []string
	}{
		"dhcpd":           {exportFixture(""), false, []string{PrimaryFile}},
		"dhcpd-pair":      {exportFixture(""), true, []string{SecondaryFile, PrimaryFile}},
		"dhcpd-clusterip": {exportFixture("10.30.0.253, 10.99.0.1"), true, []string{SecondaryFile, PrimaryFile}},
	} {
		t.Run(name, func(t *testing.T) {
			files, err := ExportDHCPD(test.inv, test.failover)
			if err != nil {
				t.Fatal(err)
			}
			names := slices.Sorted(maps.Keys(files))
			if diff := cmp.Diff(test.want, names); diff != "" {
				t.Fatal(diff)
			}
			var text strings.Builder
			for _, n := range names {
				fmt.Fprintf(&text, "-- %s --\n%s", n, files[n])
				conf, leases := dhcpdFiles(t, files[n])
				if out, err := exec.Command(program, "-t", "-4", "-cf", conf, "-lf", leases).CombinedOutput(); err != nil {
					t.Errorf("dhcpd -t refuses %s: %v\n%s", n, err, out)
				}
			}
			golden(t, name+".txt", []byte(text.String()))
		})
	}
}

func TestExportDHCPDRefuses(t *testing.T) {
	noRange := inventory.Empty().Begin()
	noRange.Put(&inventory.Network{ID: 12, Name: "quiet", Prefix: netip.MustParsePrefix("10.50.0.0/24")})
	noHead := inventory.Empty().Begin()
	noHead.Put(&inventory.Network{ID: 12, Name: "lone", Prefix: netip.MustParsePrefix("10.50.0.0/24"), Range: inventory.AddrRange{Start: ip("10.50.0.1"), End: ip("10.50.0.2")}})
	alone := noHead.Commit(1)
	for name, test := range map[string]struct {
		inv      *inventory.Inventory
		failover bool
		want     string
	}{
		"no range":          {noRange.Commit(1), false, "no network has a range"},
		"no head":           {alone, false, "no head is a member yet"},
		"nobody for a pair": {alone, true, "needs the IPv4 addresses of two servers"},
		"one for a pair":    {exportFixture("10.30.0.251"), true, "needs the IPv4 addresses of two servers"},
		"twice the same":    {exportFixture("10.30.0.251,10.30.0.251"), true, "needs the IPv4 addresses of two servers"},
		"IPv6 for a pair":   {exportFixture("fd00::1,fd00::2"), true, "needs the IPv4 addresses of two servers"},
		"no address":        {exportFixture("10.30.0.251,h2"), true, "'h2' is no address"},
	} {
		files, err := ExportDHCPD(test.inv, test.failover)
		if !errors.Is(err, inventory.ErrRefused) || !strings.Contains(fmt.Sprint(err), test.want) || len(files) > 0 {
			t.Errorf("%s: got %v, %d files, want %q", name, err, len(files), test.want)
		}
	}
}

// What the real dhcpd answers from the export is what a Server answers.
func TestDHCPDSaysTheSame(t *testing.T) {
	program := dhcpd(t)
	segment(t)
	inv := exportFixture("")
	files, err := ExportDHCPD(inv, false)
	if err != nil {
		t.Fatal(err)
	}
	startDHCPD(t, program, files[PrimaryFile])

	s := newScene(inv, Everyone) // of h2, which has the frontend address
	s.dns = func(inventory.ID) []netip.Addr { return []netip.Addr{ip("10.30.255.254")} }
	s.loaders = boot.Loaders{"undionly.kpxe": "u", "snponly.efi": "s", "snponly-arm64.efi": "a"}
	listing := func(class string, arch iana.Arch) with {
		return func(p *dhcpv4.DHCPv4) {
			p.UpdateOption(dhcpv4.OptClassIdentifier(class))
			p.UpdateOption(dhcpv4.OptClientArch(arch))
		}
	}
	for name, test := range map[string]struct {
		mac  string
		mods []with
	}{
		"BIOS":            {macKnown, []with{pxe(iana.INTEL_X86PC)}},
		"old ROM":         {macKnown, []with{dhcpv4.WithOption(dhcpv4.OptClassIdentifier("PXEClient"))}},
		"UEFI":            {macKnown, []with{pxe(iana.EFI_X86_64)}},
		"UEFI, as 9":      {macKnown, []with{pxe(iana.EFI_BC)}},
		"arm64":           {macKnown, []with{pxe(iana.EFI_ARM64)}},
		"32 bits":         {macKnown, []with{pxe(iana.EFI_IA32)}},
		"OpenPOWER":       {macKnown, []with{dhcpv4.WithOption(dhcpv4.OptClientArch(iana.PPC_OPAL))}},
		"HTTP":            {macKnown, []with{listing("HTTPClient:Arch:00016:UNDI:003001", iana.EFI_X86_64_HTTP)}},
		"HTTP of arm64":   {macKnown, []with{listing("HTTPClient:Arch:00019:UNDI:003001", iana.EFI_ARM64_HTTP)}},
		"iPXE":            {"52:54:00:00:00:02", []with{ipxe}},
		"iPXE, as a list": {macKnown, []with{pxe(iana.EFI_X86_64), option(77, 4, 'i', 'P', 'X', 'E')}},
		"a system":        {macKnown, nil},
		"a stranger":      {macUnknown, nil},
		"strange iPXE":    {"0a:00:0b:00:0c:0d", []with{ipxe}},
	} {
		// Not a subtest: that would run on a thread outside the namespace.
		hw, err := net.ParseMAC(test.mac)
		if err != nil {
			t.Fatal(err)
		}
		asked := append(slices.Clone(test.mods), dhcpv4.WithRequestedOptions(toldOptions...))
		client, err := nclient4.New("machine", nclient4.WithHWAddr(hw), nclient4.WithTimeout(10*time.Second))
		if err != nil {
			t.Fatal(err)
		}
		theirs, err := client.DiscoverOffer(t.Context(), asked...)
		if err := errors.Join(err, client.Close()); err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		r, err := classify(testPacket(test.mac, append(asked, ask(dhcpv4.MessageTypeDiscover))...), false)
		if err != nil {
			t.Fatal(err)
		}
		leased := grant{}
		if _, known := inv.NodeByMAC(inventory.MAC(test.mac)); !known {
			network, _ := inv.Network("cluster")
			a, _ := netip.AddrFromSlice(theirs.YourIPAddr.To4())
			if !network.Range.Contains(a) {
				t.Errorf("%s: a stranger gets %s", name, a)
			}
			leased = grant{a, s.poolTTL}
		}
		ours := s.judge(r, leased).reply
		// Every head serves its best loader under the names of 1.2 too.
		ours.BootFileName = strings.NewReplacer("undionly.kpxe", "luna_undionly.kpxe", "snponly.efi", "luna_ipxe.efi").Replace(ours.BootFileName)
		if diff := cmp.Diff(told(ours), told(theirs)); diff != "" {
			t.Errorf("%s: luna (-) and dhcpd (+) differ:\n%s", name, diff)
		}
	}
}

// toldOptions are the options that a machine acts on.
var toldOptions = []dhcpv4.OptionCode{
	dhcpv4.OptionSubnetMask, dhcpv4.OptionRouter, dhcpv4.OptionDomainNameServer, dhcpv4.OptionHostName, dhcpv4.OptionDomainName,
	dhcpv4.OptionVendorSpecificInformation, dhcpv4.OptionClassIdentifier, optionIPXE,
}

// told is what a machine learns from an offer.
func told(p *dhcpv4.DHCPv4) map[string]string {
	m := map[string]string{
		"address": p.YourIPAddr.String(), "server": p.ServerIPAddr.String(), "identifier": p.ServerIdentifier().String(),
		"file": p.BootFileName, "lease": p.IPAddressLeaseTime(0).String(),
	}
	for _, o := range toldOptions {
		m[o.String()] = fmt.Sprintf("%q", p.Options.Get(o))
	}
	return m
}

// startDHCPD runs the real server on the head's end of the cable until the test
// ends.
func startDHCPD(t *testing.T, program, text string) {
	t.Helper()
	conf, leases := dhcpdFiles(t, text)
	server := exec.Command(program, "-4", "-f", "-d", "-cf", conf, "-lf", leases, "--no-pid", "head")
	log, err := server.StderrPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := server.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = server.Process.Kill()
		_ = server.Wait()
	})
	stuck := time.AfterFunc(30*time.Second, func() { _ = server.Process.Kill() })
	defer stuck.Stop()
	var lines []string
	for in := bufio.NewScanner(log); in.Scan(); {
		lines = append(lines, in.Text())
		if strings.Contains(in.Text(), "Server starting service") {
			go func() { // until it is killed: it must not wait for a full pipe
				for in.Scan() {
				}
			}()
			return
		}
	}
	t.Fatalf("dhcpd does not start:\n%s", strings.Join(lines, "\n"))
}
