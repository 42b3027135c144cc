package installer

import (
	"encoding/json"
	"strings"
	"testing"

	"github.com/clustervision/luna/boot"
)

// goodPlan is a plan with which nothing is wrong; its artifact does not exist.
func goodPlan() boot.Plan {
	return boot.Plan{
		Version: boot.PlanVersion, Node: "node001", Hostname: "node001.cluster", Group: "compute",
		OSImage: "compute", ImageVersion: "v1", Heads: []string{"10.0.0.1:7050"},
		Root: boot.PlanArtifact{
			SHA256: strings.Repeat("ab", 32), Size: 1, UnpackedSize: 1, Descriptor: json.RawMessage(`{}`),
		},
	}
}

func TestParsePlan(t *testing.T) {
	for _, tt := range []struct {
		name    string
		damage  func(*boot.Plan)
		refusal string
	}{
		{"good", func(*boot.Plan) {}, ""},
		{"newer", func(p *boot.Plan) { p.Version++ }, "version 2, this luna-install knows version 1"},
		{"no version", func(p *boot.Plan) { p.Version = 0 }, "version 0"},
		{"another node", func(p *boot.Plan) { p.Node = "node002" }, `for node "node002", this is node "node001"`},
		{"no hostname", func(p *boot.Plan) { p.Hostname = "" }, "no hostname"},
		{"hostname with a newline", func(p *boot.Plan) { p.Hostname = "a\nb" }, "is not one"},
		{"nothing to install", func(p *boot.Plan) { p.Root = boot.PlanArtifact{} }, "no root.size, no root.unpacked_size, no root.descriptor"},
		{"null descriptor", func(p *boot.Plan) { p.Root.Descriptor = json.RawMessage("null") }, "no root.descriptor"},
		{"no hash", func(p *boot.Plan) { p.Root.SHA256 = "abcd" }, "not a SHA-256"},
		{"no heads", func(p *boot.Plan) { p.Heads = nil }, "no heads"},
		{"interface outside of its folder", func(p *boot.Plan) { p.Interfaces = []boot.PlanInterface{{Name: "../x"}} }, `interface "../x"`},
	} {
		t.Run(tt.name, func(t *testing.T) {
			p := goodPlan()
			tt.damage(&p)
			data, err := json.Marshal(p)
			if err != nil {
				t.Fatal(err)
			}
			_, err = parsePlan(data, "node001")
			if tt.refusal == "" && err != nil {
				t.Fatal(err)
			}
			if tt.refusal != "" && (err == nil || !strings.Contains(err.Error(), tt.refusal)) {
				t.Errorf("got error %v, want one with %q", err, tt.refusal)
			}
		})
	}
}

// TestParsePlanTruncated cuts a plan at every byte: no head and no proxy may cut
// it so that it passes.
func TestParsePlanTruncated(t *testing.T) {
	data, err := json.Marshal(goodPlan())
	if err != nil {
		t.Fatal(err)
	}
	for n := range data {
		if _, err := parsePlan(data[:n], "node001"); err == nil {
			t.Fatalf("the first %d of %d bytes pass for a plan", n, len(data))
		}
	}
	if _, err := parsePlan(append(data, data...), "node001"); err == nil {
		t.Error("two plans pass for one")
	}
}
