package dns

import (
	"testing"

	"github.com/google/go-cmp/cmp"
)

// Each fault names its line, and what is right around it stays.
func TestFaultsNameTheLine(t *testing.T) {
	const include, rev = " of the include of network 'cluster': ", " of the rev_include of network 'cluster': "
	for name, test := range map[string]struct {
		include, revInclude string
		want                []string
	}{
		"right":              {"a A 10.0.0.1\n\n; note\n  AAAA fd00::1\n", "7 PTR x.cluster.", nil},
		"no address":         {"a A 10.0.0.1\n\nb A 10.0.0\nc A 10.0.0.3", "", []string{"line 3" + include + `bad A A: "10.0.0"`}},
		"no last line break": {"a A x", "", []string{"line 1" + include + `bad A A: "x"`}},
		"half a line":        {"a A 10.0.0.1\nwww IN", "", []string{"line 2" + include + `not a TTL: "IN"`}},
		"no data":            {"a A 10.0.0.1\nwww IN A\n", "", []string{"line 2" + include + `unexpected newline: "\n"`}},
		"open bracket":       {"a ( A 10.0.0.1\n\n", "", []string{"line 1" + include + `garbage after rdata: "unbalanced brace"`}},
		"several lines":      {"a TXT ( \"x\"\n \"y\" )\nb A 1\n", "", []string{"line 3" + include + `bad A A: "1"`}},
		"of another zone":    {"a.example. A 10.0.0.1\nb.cluster. A 10.0.0.2\nc.xcluster. A 10.0.0.3", "", []string{"line 1" + include + "'a.example.' is not in zone cluster.", "line 3" + include + "'c.xcluster.' is not in zone cluster."}},
		"a file":             {"$INCLUDE /etc/passwd", "", []string{"line 1" + include + `$INCLUDE directive not allowed: "/etc/passwd"`}},
		"SOA":                {"@ SOA a b 1 2 3 4 5", "", []string{"line 1" + include + "the SOA is made by Luna"}},
		"class":              {"a CH A 10.0.0.1", "", []string{"line 1" + include + "the class of 'a.cluster.' is not IN"}},
		"type":               {"a DNAME b", "", []string{"line 1" + include + "records of type DNAME are not served"}},
		"TTL":                {"a 2147483648 A 10.0.0.1", "", []string{"line 1" + include + "the TTL of 'a.cluster.' is too large"}},
		"owner":              {"a\\;b A 10.0.0.1", "", []string{"line 1" + include + `'a\;b.cluster.' is no name for a record: use letters, digits, '-', '_', '/' and '*'`}},
		"target":             {"a CNAME b\\;c", "", []string{"line 1" + include + "'a.cluster.' leads to a name with escaped characters"}},
		"alias of a device":  {"x A 10.0.0.1\ndev CNAME x", "", []string{"line 2" + include + "'dev.cluster.' is an alias (CNAME) and has other records too"}},
		"lost name server":   {"sub NS ns.sub", "", []string{"line 1" + include + "name server 'ns.sub.cluster.' has no address in zone cluster."}},
		"wildcard delegated": {"* NS ns.example.", "", []string{"line 1" + include + "'*.cluster.' cannot be delegated"}},
		"fingerprint":        {"a SSHFP 1 2 00", "", []string{"line 1" + include + "the fingerprint of 'a.cluster.' must be type 1 with 40 hexadecimal digits or type 2 with 64"}},
		"reverse":            {"", "7 PTR x.cluster.\n8 A 10.0.0.256\n", []string{"line 2" + rev + `bad A A: "10.0.0.256"`}},
		"too many":           {"$GENERATE 1-40000 a$ A 10.0.0.1\n$GENERATE 1-40000 b$ A 10.0.0.1\n", "", []string{"line 2" + include + "there are more than 65536 records"}},
	} {
		t.Run(name, func(t *testing.T) {
			inv := included(test.include, test.revInclude)
			_, notices := Zones(inv)
			var got []string
			for _, n := range notices {
				if n.Fault && n.Network == "cluster" {
					got = append(got, n.Text)
				}
			}
			if diff := cmp.Diff(test.want, got); diff != "" {
				t.Error(diff)
			}
		})
	}
}

// One that is right and would have been served before the fault still is.
func TestFaultLeavesTheRest(t *testing.T) {
	zones, _ := Zones(included("a A 10.0.0.1\nb DNAME x\nc A 10.0.0.3\n", ""))
	for name, want := range map[string]int{"a.cluster.": 1, "b.cluster.": 0, "c.cluster.": 1, "dev.cluster.": 1} {
		if got := len(ask(zones, name, 1)); got != want {
			t.Errorf("%s has %d addresses, want %d", name, got, want)
		}
	}
}

func BenchmarkZones(b *testing.B) {
	inv := nodes(10_000)
	b.ReportAllocs()
	for b.Loop() {
		if zones, _ := Zones(inv); len(zones) != 4 {
			b.Fatal(len(zones))
		}
	}
}

// BenchmarkFiles is makedns of 10,000 nodes in two networks, but for the disk.
func BenchmarkFiles(b *testing.B) {
	inv := nodes(10_000)
	b.ReportAllocs()
	for b.Loop() {
		if _, _, err := Files(inv, "/etc/z", "/var/named"); err != nil {
			b.Fatal(err)
		}
	}
}
