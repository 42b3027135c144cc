package dns

import (
	"bufio"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	miekg "github.com/miekg/dns"

	"github.com/clustervision/luna/inventory"
)

// tool finds a program of BIND.
func tool(t testing.TB, name string) string {
	t.Helper()
	path, err := exec.LookPath(name)
	if err == nil {
		return path
	}
	if os.Geteuid() != 0 {
		t.Skipf("%s is not installed: make deps, as root, installs it", name)
	}
	t.Fatalf("%s is not installed: run make deps", name)
	return ""
}

// export writes the zones' files as luna would, and gives the include file.
func export(t testing.TB, dir string, inv *inventory.Inventory) string {
	t.Helper()
	include := filepath.Join(dir, "named.luna.zones")
	files, _, err := Files(inv, include, dir)
	if err != nil {
		t.Fatal(err)
	}
	if err := write(files, dir, account{}); err != nil {
		t.Fatal(err)
	}
	return include
}

// loads lets BIND load every zone as named does when it starts. Without
// warnings: a warning is a record that it does not serve.
func loads(t testing.TB, inv *inventory.Inventory) {
	t.Helper()
	include := export(t, t.TempDir(), inv)
	out, err := exec.Command(tool(t, "named-checkconf"), "-z", include).CombinedOutput()
	zones, _ := Zones(inv)
	lines := strings.Split(strings.TrimSpace(string(out)), "\n")
	if err != nil || len(lines) != len(zones) || slices.ContainsFunc(lines, func(l string) bool { return !strings.Contains(l, ": loaded serial ") }) {
		t.Errorf("named-checkconf -z: %v\n%s", err, out)
	}
}

// nameserver runs the real named on loopback with the files, and gives its
// address.
func nameserver(t *testing.T, inv *inventory.Inventory) string {
	t.Helper()
	dir := t.TempDir()
	include := export(t, dir, inv)
	free, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	at := free.Addr().(*net.TCPAddr)
	free.Close()
	conf := filepath.Join(dir, "named.conf")
	text := fmt.Sprintf("options {\n directory %q;\n listen-on port %d { 127.0.0.1; };\n listen-on-v6 { none; };\n pid-file none;\n session-keyfile none;\n recursion no;\n dnssec-validation no;\n};\ncontrols { };\ninclude %q;\n", dir, at.Port, include)
	if err := os.WriteFile(conf, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
	// A copy, for Debian's AppArmor profile keeps the one in its place from
	// reading our files.
	program, err := os.ReadFile(tool(t, "named"))
	if err != nil {
		t.Fatal(err)
	}
	own := filepath.Join(dir, "named")
	if err := os.WriteFile(own, program, 0o755); err != nil {
		t.Fatal(err)
	}
	named := exec.Command(own, "-g", "-n", "1", "-c", conf)
	log, err := named.StderrPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := named.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = named.Process.Kill()
		_ = named.Wait()
	})
	stuck := time.AfterFunc(30*time.Second, func() { _ = named.Process.Kill() })
	defer stuck.Stop()
	var said []string
	for lines := bufio.NewScanner(log); lines.Scan(); {
		said = append(said, lines.Text())
		if strings.HasSuffix(lines.Text(), " running") {
			go func() { // until it is killed: it must not wait for a full pipe
				for lines.Scan() {
				}
			}()
			return at.String()
		}
	}
	t.Fatalf("named does not run:\n%s", strings.Join(said, "\n"))
	return ""
}

// Checks 59 and 60: what is written is what a resolver hears.
func TestRealNameServerAnswers(t *testing.T) {
	at := nameserver(t, site())
	for _, test := range []struct{ name, rrtype, want string }{
		{"node001.cluster.", "A", "10.30.0.1"},
		{"NODE001.Cluster.", "A", "10.30.0.1"},
		{"node003.ipmi.", "A", "10.31.0.3"},
		{"switch01.ipmi.", "A", "10.31.0.101"},
		{"pdu_1.cluster.", "A", "10.30.100.1"},
		{"pdu_1.ipmi.", "A", "10.31.0.102"},
		{"master.cluster.", "A", "10.30.255.254"},
		{"cluster.", "A", "10.30.255.254"},
		{"cluster.", "NS", "master.cluster."},
		{"cluster.", "MX", "10 mail.cluster."},
		{"mail.cluster.", "A", "10.30.200.1"},
		{"www.cluster.", "A", "node001.cluster. 10.30.0.1"},
		{"_ldap._tcp.cluster.", "SRV", "0 5 389 master.cluster."},
		{"note.cluster.", "TXT", `"one; two"`},
		{"gpu2.cluster.", "A", "10.30.201.2"},
		{"1.0.30.10.in-addr.arpa.", "PTR", "node001.cluster."},
		{"2.0.31.10.in-addr.arpa.", "PTR", "node002.ipmi."},
		{"101.0.31.10.in-addr.arpa.", "PTR", "switch01.ipmi."},
		{"1.100.30.10.in-addr.arpa.", "PTR", "pdu_1.cluster."},
		{"254.255.30.10.in-addr.arpa.", "PTR", "master.cluster."},
		{"1.200.30.10.in-addr.arpa.", "PTR", "mail.cluster."},
		{"node004.cluster.", "A", "NXDOMAIN"},
	} {
		q := new(miekg.Msg).SetQuestion(test.name, miekg.StringToType[test.rrtype])
		client := miekg.Client{Timeout: 10 * time.Second}
		answer, _, err := client.Exchange(q, at)
		if err != nil {
			t.Fatal(err)
		}
		var said []string
		for _, rr := range answer.Answer {
			said = append(said, data(rr))
		}
		got := strings.Join(said, " ")
		if answer.Rcode != miekg.RcodeSuccess {
			got = miekg.RcodeToString[answer.Rcode]
		}
		if got != test.want || !answer.Authoritative {
			t.Errorf("%s %s: got %q (authoritative: %t), want %q", test.name, test.rrtype, got, answer.Authoritative, test.want)
		}
	}
}

func TestFilesRefuses(t *testing.T) {
	for name, test := range map[string]struct {
		inv          *inventory.Inventory
		include, dir string
		kind         error
		text         string
	}{
		"no network":          {state(), "/etc/z", "/var/named", inventory.ErrRefused, "No networks configured in this cluster"},
		"no include file":     {site(), "", "/var/named", inventory.ErrRefused, "named_include_file is not set"},
		"no directory":        {site(), "/etc/z", "", inventory.ErrRefused, "named_zone_dir is not set"},
		"relative path":       {site(), "/etc/z", "named", inventory.ErrInvalid, "named_zone_dir 'named' must be an absolute path"},
		"quote":               {site(), `/etc/z"; };`, "/var/named", inventory.ErrInvalid, "must be an absolute path without quotes"},
		"a zone file's name":  {site(), "/var/named/x.luna.zone", "/var/named", inventory.ErrInvalid, "must not end in .luna.zone"},
		"a record is broken":  {included("a A 10.30.0.9\nb A 10.30.0.256\n", ""), "/etc/z", "/var/named", inventory.ErrInvalid, "line 2 of the include of network 'cluster': bad A"},
		"a pointer is broken": {included("", "1 PTR a b"), "/etc/z", "/var/named", inventory.ErrInvalid, "line 1 of the rev_include of network 'cluster'"},
	} {
		t.Run(name, func(t *testing.T) {
			files, _, err := Files(test.inv, test.include, test.dir)
			if !errors.Is(err, test.kind) || !strings.Contains(err.Error(), test.text) {
				t.Errorf("got error %v, want %q", err, test.text)
			}
			if files != nil {
				t.Errorf("got files")
			}
		})
	}
}

// included is a network with records of the administrator's own.
func included(include, revInclude string) *inventory.Inventory {
	return state(
		&inventory.Network{ID: 10, Name: "cluster", Prefix: prefix("10.30.0.0/24"), NSHostname: "master", NSIP: ip("10.30.0.254"), Include: &include, RevInclude: &revInclude},
		&inventory.OtherDev{ID: 70, Name: "dev", Connected: map[inventory.ID]netip.Addr{10: ip("10.30.0.1")}},
	)
}
