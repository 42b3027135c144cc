package cli

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"gopkg.in/yaml.v3"
	"pgregory.net/rapid"

	"github.com/clustervision/luna/inventory"
)

// nasty draws strings that YAML may take for something else.
var nasty = rapid.OneOf(
	rapid.String(),
	rapid.StringOf(rapid.SampledFrom([]rune("ab \t\n\r\u0085\u2028\u00a0\ufeff\x7f\x00\U0001F600:#-|>'\"\\%@`{}[],&*!?=<~019.+_eExX"))),
	rapid.SampledFrom([]string{
		"", "yes", "No", "y", "N", "on", "OFF", "true", "null", "~", "NULL", "=", "<<", "---", "...", "- a", "? a", ": a", "a: b", "a :b", "a #b", "#",
		"1", "-1", "+1", "1.", ".5", "1e3", "1_000", "0x1F", "0o7", "0b1", "017", ".inf", "-.INF", ".nan", "12:30", "1:2:3", "190:20:30", "52:54:00:12:34:56",
		"2026-01-02", "2026-01-02T15:04:05Z", "2026-01-02 15:04:05", "10.30.0.1", "10.30.0.0/16", "fd00::", "::1", "2001:e::1",
		" x", "x ", "\tx", "a\n", "\n", "\n\n", "\n\nb", "a\n\n", " a\nb", "a\n  b\n", "a\n \n", "  \na", "\ta\nb", "a\r\nb\r\n", "#!/bin/bash\n# a\n", "key:\n  - a\n",
	}),
)

func TestYAMLSaysWhatJSONSays(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		leaf := rapid.OneOf(
			rapid.Map(nasty, func(s string) any { return s }),
			rapid.Map(rapid.Float64Range(-1e9, 1e9), func(f float64) any { return f }),
			rapid.Map(rapid.Bool(), func(b bool) any { return b }),
			rapid.Just[any](nil),
		)
		value := leaf
		key := rapid.Custom(func(t *rapid.T) string { // yaml.v3 reads keys of 1024 characters at the most
			k := nasty.Draw(t, "key")
			return k[:min(len(k), 100)]
		})
		for range 3 {
			inner := value
			value = rapid.OneOf(leaf,
				rapid.Map(rapid.SliceOfN(inner, 0, 3), func(l []any) any { return l }),
				rapid.Map(rapid.MapOfN(key, inner, 0, 3), func(m map[string]any) any { return m }))
		}
		v := map[string]any{"v": value.Draw(t, "value")}
		var j, y bytes.Buffer
		if err := writeJSON(&j, v); err != nil {
			t.Fatal(err)
		}
		if err := writeYAML(&y, v); err != nil {
			t.Fatal(err)
		}
		var fromJSON, fromYAML any
		if err := json.Unmarshal(j.Bytes(), &fromJSON); err != nil {
			t.Fatal(err)
		}
		if err := yaml.Unmarshal(y.Bytes(), &fromYAML); err != nil {
			t.Fatalf("%v in:\n%s", err, y.String())
		}
		if diff := cmp.Diff(fromJSON, likeJSON(fromYAML)); diff != "" {
			t.Fatalf("(-json +yaml):\n%s\nin:\n%s", diff, y.String())
		}
	})
}

// likeJSON gives what was read from YAML in the types of JSON.
func likeJSON(v any) any {
	switch v := v.(type) {
	case int:
		return float64(v)
	case []any:
		for i := range v {
			v[i] = likeJSON(v[i])
		}
	case map[string]any:
		for k := range v {
			v[k] = likeJSON(v[k])
		}
	}
	return v
}

func TestYAMLForPeople(t *testing.T) {
	text := "#!/bin/bash\n\n\tmkfs /dev/sda  \n  mount"
	doc := inventory.Document{
		Luna: 1,
		Groups: map[string]inventory.GroupDoc{"compute": {
			Interfaces: inventory.Given(map[string]inventory.InterfaceDoc{"eth0": {}, "BOOTIF": {Network4: "cluster"}}),
			PartScript: inventory.Given(&text), Comment: inventory.Given[*string](nil),
		}},
		Nodes: map[string]inventory.NodeDoc{"n1": {
			Tags: inventory.Given([]string{"gpu", "1"}), LocalBoot: inventory.Given(false),
			Port: inventory.Given(new("007")),
		}},
	}
	var b strings.Builder
	if err := writeYAML(&b, doc); err != nil {
		t.Fatal(err)
	}
	want := `luna: 1
groups:
  compute:
    interfaces:
      BOOTIF:
        "4": cluster
      eth0: {}
    partscript: |-
      #!/bin/bash

      	mkfs /dev/sda  ` + `
        mount
    comment: null
nodes:
  n1:
    port: "007"
    localboot: false
    tags:
      - gpu
      - "1"
`
	if diff := cmp.Diff(want, b.String()); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

// BenchmarkYAML is the export of 10,000 nodes.
func BenchmarkYAML(b *testing.B) {
	d := inventory.Document{Luna: 1, Nodes: map[string]inventory.NodeDoc{}}
	for i := range 10_000 {
		d.Nodes[fmt.Sprintf("node%05d", i)] = inventory.NodeDoc{
			Group: inventory.Given("compute"), MAC: inventory.Given[*inventory.MAC](nil), LocalBoot: inventory.Given(false),
			SetupBMC: inventory.Given(true), Service: inventory.Given(false), Tags: inventory.Given([]string{"gpu"}),
			Interfaces: map[string]inventory.AddressesDoc{"BOOTIF": {}, "BMC": {}},
			Comment:    inventory.Given[*string](nil), Port: inventory.Given[*string](nil), Switch: inventory.Given[*string](nil),
		}
	}
	for b.Loop() {
		if err := writeYAML(io.Discard, d); err != nil {
			b.Fatal(err)
		}
	}
}
