package cli

import (
	"fmt"
	"io"
	"net/netip"
	"testing"

	"github.com/clustervision/luna/api"
	"github.com/clustervision/luna/inventory"
)

// BenchmarkLargeSite is what an administrator waits for at 10,000 nodes: the
// whole way from the command line to the state machine and back, but for raft
// and the start of the process.
func BenchmarkLargeSite(b *testing.B) {
	h := newTestHead()
	if _, err := h.Init(b.Context(), api.InitRequest{FrontendAddress: netip.MustParseAddr("10.30.255.254")}); err != nil {
		b.Fatal(err)
	}
	for _, c := range []inventory.Command{
		inventory.AddNetwork{Name: "cluster", Prefix: netip.MustParsePrefix("10.30.0.0/16")},
		inventory.AddOSImage{Name: "compute", Path: "/img", KernVer: "6.1"},
		inventory.AddGroup{Name: "spare", OSImage: "compute", Network: "cluster"},
	} {
		if err := h.propose(c); err != nil {
			b.Fatal(err)
		}
	}
	b.Setenv("LUNA_SERVER", "unix://"+h.serve(b))
	luna := func(args ...string) {
		b.Helper()
		root := Root()
		root.SetOut(io.Discard)
		root.SetErr(b.Output())
		if code := Run(b.Context(), root, args); code != exitOK {
			b.Fatalf("luna %v: exit code %d", args, code)
		}
	}
	for g := range 20 {
		if err := h.propose(inventory.AddGroup{Name: fmt.Sprintf("g%02d", g), OSImage: "compute", Network: "cluster"}); err != nil {
			b.Fatal(err)
		}
		luna("node", "add", "-g", fmt.Sprintf("g%02d", g), "-n", fmt.Sprintf("node[%05d-%05d]", g*500, g*500+499))
	}
	luna("node", "change", "node[00000-00099]", "--tag", "gpu")
	file := b.TempDir() + "/all.yaml"
	luna("export", "-f", file)
	for name, args := range map[string][]string{
		"list":           {"node", "list"},
		"list in a line": {"node", "list", "-1"},
		"list as JSON":   {"node", "list", "-o", "json"},
		"list as YAML":   {"node", "list", "-o", "yaml"},
		"show one":       {"node", "show", "node04711"},
		"list a choice":  {"node", "list", "@gpu,%g07,-node[03500-03600]"},
		"origins of one": {"node", "show", "node04711", "--origin"},
		"change 5000":    {"node", "change", "node[00000-04999]", "--service", "y"},
		"dry run 5000":   {"node", "change", "node[00000-04999]", "-g", "spare", "--dry-run"},
		"export":         {"export", "-f", file},
		"diff":           {"diff", "-f", file},
		"apply":          {"apply", "-f", file},
		"log":            {"log", "--diff", "-n", "5"},
	} {
		b.Run(name, func(b *testing.B) {
			for b.Loop() {
				luna(args...)
			}
		})
	}
	b.Run("add and delete 10000", func(b *testing.B) {
		for b.Loop() {
			luna("node", "add", "-g", "spare", "-n", "extra[00000-09999]")
			luna("node", "delete", "extra[00000-09999]")
		}
	})
}
