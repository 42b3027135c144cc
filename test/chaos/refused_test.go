package chaos

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"testing"

	"github.com/clustervision/luna/test/site"
)

// TestRefusedMeansNotDone: a change of which a head says that it cannot be made
// now (503) was not made and never will be; where it does not know, it says so.
func TestRefusedMeansNotDone(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name, lab string
		asked     int // the head that the clients ask; the first one leads, for it made the cluster
		fault     func(*testing.T, *site.Site)
		repair    func(*testing.T, *site.Site)
	}{
		// What a deaf head sends comes through still: the others take its changes for
		// good, and it does not hear so.
		{
			"the leader is asked and goes deaf", "deaf", 0,
			func(t *testing.T, s *site.Site) { must(t, s.Heads[0].Deafen(t.Context())) },
			func(t *testing.T, s *site.Site) { must(t, s.Heads[0].Heal(t.Context())) },
		},
		// What was sent on to the leader may be done, and nobody is left to say so.
		{
			"another head is asked and the leader dies, and the third one too", "widow", 2,
			func(_ *testing.T, s *site.Site) { s.Heads[0].Agent.Kill9(); s.Heads[1].Agent.Kill9() },
			func(t *testing.T, s *site.Site) {
				must(t, start(t.Context(), s.Heads[0]))
				must(t, start(t.Context(), s.Heads[1]))
			},
		},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			s := newMesh(t, c.lab)
			fates := askDuring(t, s.Heads[c.asked], func() { c.fault(t, s) })
			c.repair(t, s)
			must(t, settle(t.Context(), s))
			d := socket(s.Heads[1])
			must(t, changes(t.Context(), d)) // who has made a change has all that was before it
			there := map[string]bool{}
			for _, n := range allNodes(t, d) {
				there[n.Name] = true
			}
			count := map[string]int{}
			var wrong []string
			for name, f := range fates {
				count[fmt.Sprintf("%s, is there: %t", f, there[name])]++
				if f == done && !there[name] || f == never && there[name] {
					wrong = append(wrong, fmt.Sprintf("%s: %s", name, f))
				}
			}
			t.Logf("%v", count)
			if slices.Sort(wrong); wrong != nil {
				t.Errorf("%d nodes are not as their clients were told (never: not added, for 503): %q", len(wrong), wrong)
			}
		})
	}
}

// askDuring lets clients add nodes at a head, so that many are under way when the
// fault begins, until each of them has an answer that is a refusal. It gives all
// the answers.
func askDuring(t *testing.T, h *site.Head, fault func()) map[string]fate {
	t.Helper()
	const clients = 24
	type answer struct {
		node string
		fate fate
	}
	answers := make(chan answer)
	ctx, stop := context.WithCancel(t.Context())
	var all sync.WaitGroup
	defer func() { stop(); all.Wait() }()
	for id := range clients {
		all.Go(func() {
			d := socket(h)
			for n := 0; ctx.Err() == nil; n++ {
				c := call{verb: add, node: fmt.Sprintf("c%dn%d", id, n)}
				o, strange := d.do(ctx, c)
				if strange != nil {
					t.Error(strange)
				}
				select {
				case answers <- answer{c.node, o.fate}:
				case <-ctx.Done():
				}
				if o.fate != done {
					return
				}
			}
		})
	}
	fates := map[string]fate{}
	for ended := 0; ended < clients; {
		if len(fates) == 10*clients {
			fault()
		}
		a := <-answers
		if fates[a.node] = a.fate; a.fate != done {
			ended++
		}
	}
	return fates
}
