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
	net := func(name string) dutyKey { return dutyKey{name: name} }
	got := assign(three, nil)
	if got[net("a")] == got[net("b")] || got[net("b")] == got[net("c")] || got[net("a")] == got[net("c")] {
		t.Errorf("three networks do not spread over three heads: %v", got)
	}
	if got := assign([]duty{{name: "a", holder: "h1", candidates: []string{"h2"}}}, nil); got[net("a")] != "h2" {
		t.Errorf("a dead holder keeps its duty: %v", got)
	}
	if got, ok := assign([]duty{{name: "a", holder: "h1"}}, nil)[net("a")]; !ok || got != "" {
		t.Errorf("nobody can, but %q keeps it", got)
	}
	var many []duty
	for i := range 9 {
		many = append(many, duty{name: fmt.Sprintf("net%d", i), candidates: []string{"big", "small"}})
	}
	load := map[string]int{}
	for _, head := range assign(many, map[string]int{"big": 2}) {
		load[head]++
	}
	if load["big"] != 6 || load["small"] != 3 {
		t.Errorf("a head of weight 2 beside one of 1 has %v of nine duties", load)
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
			got := assign(duties, nil)
			for i := range duties {
				if head, changes := got[duties[i].key()]; changes {
					duties[i].holder = head
				}
			}
		}
		if moves := assign(duties, nil); len(moves) > 0 {
			t.Fatalf("moves without need: %v", moves)
		}
		load := map[string]int{}
		for _, d := range duties {
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
