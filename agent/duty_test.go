package agent

import (
	"fmt"
	"slices"
	"testing"

	"pgregory.net/rapid"
)

func TestAssign(t *testing.T) {
	all := []string{"h1", "h2", "h3"}
	three := []duty{{name: "a", candidates: all}, {name: "b", candidates: all}, {name: "c", candidates: all}}
	got := assign(three)
	if got["a"] == got["b"] || got["b"] == got["c"] || got["a"] == got["c"] {
		t.Errorf("three networks do not spread over three heads: %v", got)
	}
	if got := assign([]duty{{name: "a", holder: "h1", candidates: []string{"h2"}}}); got["a"] != "h2" {
		t.Errorf("a dead holder keeps its duty: %v", got)
	}
	if got := assign([]duty{{name: "a", holder: "h1"}}); got["a"] != "" {
		t.Errorf("nobody can, but %q got it", got["a"])
	}
}

func TestAssignIsStableAndFair(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		heads := []string{"h1", "h2", "h3", "h4", "h5"}[:rapid.IntRange(1, 5).Draw(t, "heads")]
		var duties []duty
		for i := range rapid.IntRange(0, 12).Draw(t, "duties") {
			d := duty{name: fmt.Sprintf("net%02d", i), candidates: heads}
			d.holder = rapid.SampledFrom(append(slices.Clone(heads), "", "gone")).Draw(t, "holder")
			duties = append(duties, d)
		}
		for range 3 { // each round mends what the one before could not
			got := assign(duties)
			for i := range duties {
				duties[i].holder = got[duties[i].name]
			}
		}
		first := assign(duties)
		load := map[string]int{}
		for _, d := range duties {
			if first[d.name] != d.holder {
				t.Fatalf("%s moves from %s to %s without need", d.name, d.holder, first[d.name])
			}
			load[d.holder]++
		}
		most, least := 0, len(duties)
		for _, h := range heads {
			most, least = max(most, load[h]), min(least, load[h])
		}
		if most-least > 1 {
			t.Fatalf("unfair: %v", load)
		}
	})
}
