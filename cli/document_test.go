package cli

import (
	"bytes"
	"encoding/json"
	"net/netip"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/clustervision/luna/inventory"
)

// TestExportsAreReadBack holds that what export writes, apply reads, whatever
// administrators have put into texts.
func TestExportsAreReadBack(t *testing.T) {
	maybe := func(t *rapid.T, name string) inventory.Maybe[*string] {
		if rapid.Bool().Draw(t, name+" given") {
			text := nasty.Draw(t, name)
			return inventory.Given(&text)
		}
		return inventory.Given[*string](nil)
	}
	rapid.Check(t, func(t *rapid.T) {
		text := func(name string) inventory.Maybe[string] { return inventory.Given(nasty.Draw(t, name)) }
		name := rapid.StringMatching(`[A-Za-z0-9][A-Za-z0-9._-]{0,8}`)
		mac := inventory.MAC("52:54:00:12:34:56")
		d := inventory.Document{
			Luna:      inventory.DocumentVersion,
			Cluster:   &inventory.ClusterDoc{User: text("user"), NodeDigits: inventory.Given(3), FrontendAddress: inventory.Given(netip.MustParseAddr("10.30.255.254"))},
			OSImages:  map[string]inventory.OSImageDoc{name.Draw(t, "osimage"): {KernVer: text("kernver"), KernOpts: text("kernopts"), Comment: maybe(t, "comment")}},
			BMCSetups: map[string]inventory.BMCSetupDoc{name.Draw(t, "bmcsetup"): {Password: text("password"), UserID: inventory.Given(3)}},
			Groups: map[string]inventory.GroupDoc{name.Draw(t, "group"): {
				PreScript: maybe(t, "pre"), PartScript: maybe(t, "part"), PostScript: maybe(t, "post"),
				Interfaces: inventory.Given(map[string]inventory.InterfaceDoc{"BOOTIF": {Network4: "n", Params: nasty.Draw(t, "params"), Implicit: true}}),
			}},
			Networks: map[string]inventory.NetworkDoc{name.Draw(t, "network"): {
				Network: inventory.Given(netip.MustParsePrefix("fd00:1::/64")), DHCPRange: inventory.Given[*inventory.AddrRange](nil),
				Reserved: inventory.Given([]netip.Addr{netip.MustParseAddr("fd00::"), netip.MustParseAddr("::1")}),
			}},
			Nodes: map[string]inventory.NodeDoc{name.Draw(t, "node"): {
				MAC: inventory.Given(&mac), Port: maybe(t, "port"), Comment: maybe(t, "comment"), LocalBoot: inventory.Given(rapid.Bool().Draw(t, "localboot")),
				Interfaces: map[string]inventory.AddressesDoc{"BOOTIF": {V4: netip.MustParseAddr("10.30.0.1"), V6: netip.MustParseAddr("fd00::")}, "BMC": {}},
				Tags:       inventory.Given([]string{name.Draw(t, "tag")}),
			}},
		}
		want, err := json.Marshal(d)
		if err != nil {
			t.Fatal(err)
		}
		var file bytes.Buffer
		if err := writeYAML(&file, d); err != nil {
			t.Fatal(err)
		}
		got, err := parseDocument("f", file.Bytes())
		if err != nil {
			t.Fatalf("%v in:\n%s", err, file.String())
		}
		if diff := cmp.Diff(asAny(t, want), asAny(t, got.json)); diff != "" {
			t.Fatalf("(-written +read):\n%s\nin:\n%s", diff, file.String())
		}
	})
}

func asAny(t *rapid.T, b []byte) any {
	var v any
	if err := json.Unmarshal(b, &v); err != nil {
		t.Fatal(err)
	}
	return v
}

// TestWrongDocuments are such as must not get anywhere near a head.
func TestWrongDocuments(t *testing.T) {
	laughs := "luna: 1\na0: &a0 [x]\n"
	for i := range 9 {
		laughs += "a" + string(rune('1'+i)) + ": &a" + string(rune('1'+i)) + " [" + strings.TrimSuffix(strings.Repeat("*a"+string(rune('0'+i))+",", 9), ",") + "]\n"
	}
	for name, tc := range map[string]struct{ file, want string }{
		"recursion":  {"luna: 1\nx: &a [*a]\n", "f:2: the document is too large or too deep"},
		"a bomb":     {laughs, "the document is too large or too deep"},
		"no mapping": {"- luna\n", "f:1: a list stands where an object with fields is needed"},
		"a text":     {"luna\n", "f:1: 'luna' stands where an object with fields is needed"},
		"a key":      {"luna: 1\n[a]: b\n", "f:2: this cannot be the name of a field"},
		"a number":   {"luna: one\n", "f:1: 'one' stands where a number is needed"},
		"a flag":     {"luna: 1\nnodes: {n: {service: 7}}\n", "f:2: '7' stands where yes or no is needed"},
		"fields":     {"luna: 1\nnodes: {n: {port: {a: b}}}\n", "f:2: fields stand where a text is needed"},
		"an address": {"luna: 1\nswitches: {s: {ip: {a: b}}}\n", "f:2: fields stand where a text is needed"},
		"a list":     {"luna: 1\nnodes: {n: {tags: a}}\n", "f:2: 'a' stands where a list is needed"},
		"broken":     {"luna: 1\n\tnodes: {}\n", "f:2: this is no YAML: found a tab character that violates indentation"},
		"binary":     {"luna: \x01\n", "f: this is no YAML: control characters are not allowed"},
	} {
		if _, err := parseDocument("f", []byte(tc.file)); err == nil || !strings.HasSuffix(err.Error(), tc.want) {
			t.Errorf("%s: got %v, want %s", name, err, tc.want)
		}
	}
}

// FuzzDocument looks for files on which the reader falls over.
func FuzzDocument(f *testing.F) {
	f.Add("luna: 1\nnodes:\n  n: {port: 7, tags: [a]}\n")
	f.Add(`{"luna": 1}`)
	f.Add("a: &a {<<: *a}\n? [b]\n: c\n")
	f.Fuzz(func(_ *testing.T, file string) {
		_, _ = parseDocument("f", []byte(file))
		_, _ = readTable("f", []byte(file), "g")
	})
}
