package conformance

import (
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/clustervision/luna/test/lab/labtest"
	"github.com/clustervision/luna/test/site"
)

// ownOpt hides what the machine has in /opt from the agent, whose cluster's path is there.
var ownOpt = []string{"unshare", "--mount", "--propagation", "private", "sh", "-euc", `mount -t tmpfs tmpfs /opt; exec "$@"`, "sh"}

// TestQuickstart: 1.2's quick start, in both spellings that were about, runs top to bottom on a fresh
// head, and what it made is what its lines say.
func TestQuickstart(t *testing.T) {
	l := labtest.New(t, "quick")
	s, err := site.New(t.Context(), l, programs, 0)
	if err != nil {
		t.Fatal(err)
	}
	h, err := s.Add(t.Context(), "h1", netip.MustParseAddr(frontend))
	if err != nil {
		t.Fatal(err)
	}
	h.Around = ownOpt
	if err := h.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	d := deskAt(t, l, h).with(t)
	tree := labtest.Tree(t)
	kernels, err := filepath.Glob(filepath.Join(tree, "boot", "vmlinuz-*"))
	if err != nil || len(kernels) != 1 {
		t.Fatalf("the kernels of the tree are %q: %v", kernels, err)
	}
	version := strings.TrimPrefix(filepath.Base(kernels[0]), "vmlinuz-")
	d.ok("cd $D && echo 'echo the post script' > post.sh")
	said := map[string]string{}
	for _, line := range quickstartLines(t) {
		line = strings.NewReplacer(" IMG", " "+tree, "<kernel version>", version).Replace(line)
		stdin := ""
		if strings.HasSuffix(line, "--partscript -e") {
			stdin = "echo the part script\n"
		}
		start := time.Now()
		said[line] = d.okIn(stdin, "cd $D && "+line)
		t.Logf("%5.1f s  %s", time.Since(start).Seconds(), line)
	}
	didWhatItSays(d, tree, version)
	for line, want := range map[string]string{
		`curl "http://10.30.255.254:7050/luna?step=boot"`:                 "#!ipxe\n",
		`curl "http://10.30.255.254:7050/luna?step=install&node=node001"`: "#!/bin/bash\n",
		"luna node show node001 --script boot":                            "#!ipxe\n",
		"luna node show node001 --script install":                         "#!/bin/bash\n",
	} {
		if !strings.HasPrefix(said[line], want) || !strings.Contains(said[line], "node001") {
			t.Errorf("%s printed %.60q, want %q and node001", line, said[line], want)
		}
	}
}

// quickstartLines are the commands of the quick start, without what is said about them.
func quickstartLines(t *testing.T) []string {
	t.Helper()
	text, err := os.ReadFile(filepath.Join("testdata", "quickstart-1.2.txt"))
	if err != nil {
		t.Fatal(err)
	}
	var lines []string
	for line := range strings.Lines(string(text)) {
		line, _, _ = strings.Cut(line, "  #")
		if line = strings.TrimSpace(line); line != "" && line[0] != '#' {
			lines = append(lines, line)
		}
	}
	return lines
}

// didWhatItSays looks for everything that the lines of the quick start make.
func didWhatItSays(d *desk, tree, version string) {
	d.Helper()
	d.rows("luna cluster show", "frontend_address", frontend, "path", "/opt/luna", "user", "luna",
		"dhcp_net", "[cluster]", "dhcp_range_start", "10.30.128.1", "dhcp_range_end", "10.30.140.255")
	d.prints(table([]string{"Name", "Network"}, []string{"cluster", "10.30.0.0/16"}, []string{"ipmi", "10.31.0.0/16"}), "luna network list")
	d.rows("luna osimage show compute", "path", tree, "kernver", version, "kernfile", "compute-vmlinuz-"+version, "initrdfile", "compute-initramfs-"+version)
	d.rows("luna bmcsetup show base", "user", "ladmin", "userid", "3")
	d.rows("luna switch show switch01", "oid", ".1.3.6.1.2.1.17.7.1.2.2.1.2", "network", "[ipmi]", "ip", "10.31.253.21")
	d.rows("luna group show compute", "osimage", "[compute]", "bmcsetup", "[base]", "domain", "[cluster]",
		"interfaces", "[BMC]:   [ipmi]:10.31.0.0/16\n[BOOTIF]:[cluster]:10.30.0.0/16",
		"partscript", "echo the part script", "postscript", "echo the post script")
	d.rows("luna node show node001", "group", "[compute]", "interfaces", "BMC:   10.31.0.1\nBOOTIF:10.30.0.1", "switch", "[switch01]", "port", "1",
		"service", "yes", "localboot", "yes", "setupbmc", "yes")
	d.rows("luna node show node002", "group", "[compute]", "interfaces", "BMC:   10.31.0.2\nBOOTIF:10.30.0.2", "switch", "-", "service", "no", "localboot", "no")
	if nodes := decodeNodes(d, "luna node list -o json"); len(nodes) != 2 {
		d.Errorf("there are %d nodes, want 2", len(nodes))
	}
	d.ok("cmp $D/compute-vmlinuz-" + version + " " + tree + "/boot/vmlinuz-" + version)
}
