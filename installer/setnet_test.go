package installer

import (
	"flag"
	"io/fs"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"

	"github.com/clustervision/luna/boot"
)

var update = flag.Bool("update", false, "write the golden files anew")

// netPlan has every kind of interface: the one that booted, one with two
// families and params, one only for its params, an InfiniBand port, the BMC.
// Params are in the format of whatever configures the image's network.
func netPlan(params string) boot.Plan {
	p := goodPlan()
	p.Interfaces = []boot.PlanInterface{
		{
			Name: "BOOTIF", MAC: "52:54:00:00:00:01", Addresses: []netip.Prefix{netip.MustParsePrefix("10.141.0.1/16")},
			Gateway: netip.MustParseAddr("10.141.255.254"), Domain: "cluster",
			DNS: []netip.Addr{netip.MustParseAddr("10.141.255.254"), netip.MustParseAddr("10.141.255.253")},
		},
		{
			Name: "eth1", Domain: "storage", Params: params,
			Addresses: []netip.Prefix{
				netip.MustParsePrefix("10.142.0.1/24"), netip.MustParsePrefix("10.143.0.1/24"),
				netip.MustParsePrefix("fd00:142::1/64"), netip.MustParsePrefix("fd00:143::1/64"),
			},
			DNS: []netip.Addr{netip.MustParseAddr("fd00:142::fffe")},
		},
		{Name: "eth2", Params: "# only here for this line"},
		{Name: "ib0", Addresses: []netip.Prefix{netip.MustParsePrefix("10.149.0.1/16")}},
		{Name: "BMC", Addresses: []netip.Prefix{netip.MustParsePrefix("10.148.0.1/16")}},
	}
	return p
}

// dhcpPlan is that of a group whose BOOTIF has no network, for a node that has
// no MAC: the interface is known by what answered it.
func dhcpPlan() boot.Plan {
	p := goodPlan()
	p.Interfaces = []boot.PlanInterface{{Name: "BOOTIF"}}
	return p
}

const (
	ifcfgParams     = "MTU=9000\r\nETHTOOL_OPTS=\"-K eth1 gro off\"\n\n"
	networkdParams  = "LLDP=yes\n\n[Link]\nMTUBytes=9000"
	keyfileParams   = "\n[user]\nsite.rack=r1\n"
	interfacesLines = "mtu 9000\n  up ethtool -K eth1 gro off\n"

	enabledNetworkd = "etc/systemd/system/multi-user.target.wants/systemd-networkd.service -> /lib/systemd/system/systemd-networkd.service"
	enabledNM       = "etc/systemd/system/multi-user.target.wants/NetworkManager.service -> /usr/lib/systemd/system/NetworkManager.service"
	enabledIfupdown = "etc/systemd/system/multi-user.target.wants/networking.service -> /lib/systemd/system/networking.service"
)

// TestSetNetGolden writes into trees of several kinds. Of each tree only what
// setnet looks at is there; what it wrote is in testdata/setnet/NAME.
func TestSetNetGolden(t *testing.T) {
	for _, tt := range []struct {
		name   string
		tree   []string // paths; "a -> b" is a link, "a = text" a file with that text
		plan   boot.Plan
		booted nic
	}{
		{
			name: "debian-networkd",
			tree: []string{"usr/lib/systemd/systemd-networkd", "lib -> usr/lib", enabledNetworkd},
			plan: netPlan(networkdParams), booted: nic{name: "enp1s0"},
		},
		{
			name: "networkd-resolved", // a link: resolved writes resolv.conf
			tree: []string{"usr/lib/systemd/systemd-networkd", enabledNetworkd, "etc/resolv.conf -> ../run/systemd/resolve/stub-resolv.conf"},
			plan: netPlan(networkdParams), booted: nic{name: "ib0", infiniband: true},
		},
		{
			name: "networkd-not-enabled", // fresh from debootstrap
			tree: []string{"usr/lib/systemd/systemd-networkd", "usr/lib/systemd/system/systemd-networkd.service", "etc/resolv.conf = nameserver 192.0.2.1\n"},
			plan: dhcpPlan(), booted: nic{name: "enp1s0"},
		},
		{
			name: "rhel9", // NetworkManager with keyfiles; networkd is there and sleeps
			tree: []string{
				"usr/sbin/NetworkManager", "usr/sbin/ifup", "usr/lib/systemd/systemd-networkd", enabledNM,
				"etc/sysconfig/network-scripts/readme-ifcfg-rh.txt",
				"etc/NetworkManager/system-connections/luna-eth7.nmconnection = of the node that was grabbed\n",
				"etc/NetworkManager/system-connections/site.nmconnection = stays\n",
			},
			plan: netPlan(keyfileParams), booted: nic{name: "enp1s0"},
		},
		{
			name: "rhel9-dhcp",
			tree: []string{"usr/sbin/NetworkManager", enabledNM},
			plan: dhcpPlan(), booted: nic{name: "enp1s0"},
		},
		{
			name: "rhel8", // NetworkManager reads ifcfg files
			tree: []string{"usr/sbin/NetworkManager", enabledNM, "etc/sysconfig/network-scripts/ifcfg-enp1s0 = DEVICE=enp1s0\nIPADDR=192.0.2.9\n"},
			plan: netPlan(ifcfgParams), booted: nic{name: "enp1s0"},
		},
		{
			name: "rhel7-infiniband",
			tree: []string{"etc/sysconfig/network-scripts/ifcfg-lo"},
			plan: netPlan(ifcfgParams), booted: nic{name: "ib1", infiniband: true},
		},
		{
			name: "debian-ifupdown",
			tree: []string{
				"usr/sbin/ifup", "sbin -> usr/sbin", "usr/lib/systemd/systemd-networkd", enabledIfupdown,
				"etc/network/interfaces = # Debian's\nsource /etc/network/interfaces.d/*\n", "etc/resolv.conf = nameserver 192.0.2.1\n",
			},
			plan: netPlan(interfacesLines), booted: nic{name: "enp1s0"},
		},
		{
			name: "ifupdown-without-source",
			tree: []string{"sbin/ifup", "etc/network/if-up.d/", enabledIfupdown, "etc/network/interfaces = auto lo\niface lo inet loopback\n"},
			plan: dhcpPlan(), booted: nic{name: "enp1s0"},
		},
		{
			name: "no-manager",
			tree: []string{"etc/hostname -> /proc/sys/kernel/hostname"}, // a link out of the tree is replaced, not followed
			plan: netPlan(""), booted: nic{name: "enp1s0"},
		},
	} {
		t.Run(tt.name, func(t *testing.T) {
			dir := t.TempDir()
			plant(t, dir, tt.tree)
			before := snapshot(t, dir)
			tr, err := openTree(dir)
			if err != nil {
				t.Fatal(err)
			}
			defer tr.close()
			if err := setnet(tr, tt.plan, tt.booted, quietLog()); err != nil {
				t.Fatal(err)
			}
			once := snapshot(t, dir)
			if err := setnet(tr, tt.plan, tt.booted, quietLog()); err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(once, snapshot(t, dir)); diff != "" {
				t.Errorf("written twice it is another tree (-once +twice):\n%s", diff)
			}
			golden(t, filepath.Join("testdata", "setnet", tt.name), changes(before, once))
		})
	}
}

// plant makes files as TestSetNetGolden describes them.
func plant(t *testing.T, dir string, paths []string) {
	t.Helper()
	for _, p := range paths {
		name, to, link := strings.Cut(p, " -> ")
		name, text, _ := strings.Cut(name, " = ")
		at := filepath.Join(dir, name)
		err := os.MkdirAll(filepath.Dir(at), 0o755)
		switch {
		case err != nil:
		case link:
			err = os.Symlink(to, at)
		case strings.HasSuffix(name, "/"):
			err = os.Mkdir(at, 0o755)
		default:
			err = os.WriteFile(at, []byte(text), 0o644)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
}

// snapshot maps the path of every file and link to its mode and content.
func snapshot(t *testing.T, dir string) map[string]string {
	t.Helper()
	found := map[string]string{}
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		name, _ := filepath.Rel(dir, path)
		st, err := d.Info()
		if err != nil {
			return err
		}
		if st.Mode()&fs.ModeSymlink != 0 {
			to, err := os.Readlink(path)
			found[name] = "link to " + to + "\n"
			return err
		}
		text, err := os.ReadFile(path)
		found[name] = st.Mode().String() + "\n" + string(text)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return found
}

// changes is what is new or different after, and what is gone.
func changes(before, after map[string]string) map[string]string {
	changed := map[string]string{}
	for name, text := range after {
		if before[name] != text {
			changed[name] = text
		}
	}
	for name := range before {
		if _, ok := after[name]; !ok {
			changed[name] = "removed\n"
		}
	}
	return changed
}

// golden holds files against those in dir, or writes them there with -update.
// The first line of each is what it is: a mode, a link, or removed.
func golden(t *testing.T, dir string, got map[string]string) {
	t.Helper()
	if *update {
		if err := os.RemoveAll(dir); err != nil {
			t.Fatal(err)
		}
		for name, text := range got {
			at := filepath.Join(dir, name)
			if err := os.MkdirAll(filepath.Dir(at), 0o755); err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(at, []byte(text), 0o644); err != nil {
				t.Fatal(err)
			}
		}
		return
	}
	want := map[string]string{}
	for name, text := range snapshot(t, dir) {
		_, want[name], _ = strings.Cut(text, "\n") // without the golden file's own mode
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("what setnet writes (-want +got), go test -update accepts it:\n%s", diff)
	}
}

// TestTreeStaysInside: links of the image lead out of it, or in a circle.
func TestTreeStaysInside(t *testing.T) {
	outside := t.TempDir()
	dir := t.TempDir()
	plant(t, dir, []string{"etc -> " + outside})
	tr, err := openTree(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer tr.close()
	if err := setnet(tr, netPlan(""), nic{name: "eth0"}, quietLog()); err == nil || !strings.Contains(err.Error(), "write /etc/hostname") {
		t.Errorf("got error %v", err)
	}
	if left, _ := os.ReadDir(outside); len(left) > 0 {
		t.Errorf("written outside of the tree: %v", left)
	}
}

// TestTreeLabels: what is written has the SELinux label of what was there, or of
// the folder that it is in.
func TestTreeLabels(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("labels are set by root")
	}
	dir := t.TempDir()
	plant(t, dir, []string{"etc/hostname = old\n"})
	const folder, file = "system_u:object_r:etc_t:s0\x00", "system_u:object_r:hostname_etc_t:s0\x00"
	for path, label := range map[string]string{"etc": folder, "etc/hostname": file} {
		if err := unix.Setxattr(filepath.Join(dir, path), selinux, []byte(label), 0); err != nil {
			t.Fatalf("this file system holds no labels: %v", err)
		}
	}
	tr, err := openTree(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer tr.close()
	for path, want := range map[string]string{"etc/hostname": file, "etc/new": folder} {
		if err := tr.write(path, "text\n", 0o600); err != nil {
			t.Fatal(err)
		}
		buf := make([]byte, 100)
		n, err := unix.Getxattr(filepath.Join(dir, path), selinux, buf)
		if err != nil || string(buf[:n]) != want {
			t.Errorf("%s has the label %q (%v), want %q", path, buf[:max(n, 0)], err, want)
		}
	}
}
