package chaos

import (
	"context"
	"errors"
	"math/rand/v2"
	"net/http"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/clustervision/luna/test/site"
)

// fault is something that happens to heads, and how it is undone.
type fault struct {
	kind  string
	begin func(context.Context, *site.Head) error
	end   func(context.Context, *site.Head) error
}

// faults are all that there are, each of one head at a time.
func faults() []fault {
	heal := func(ctx context.Context, h *site.Head) error { return h.Heal(ctx) }
	start := func(ctx context.Context, h *site.Head) error { return start(ctx, h) }
	return []fault{
		{"kill", func(_ context.Context, h *site.Head) error { h.Agent.Kill9(); return nil }, start},
		{
			"pause", func(_ context.Context, h *site.Head) error { h.Agent.Pause(); return nil },
			func(_ context.Context, h *site.Head) error { h.Agent.Continue(); return nil },
		},
		{"cut", func(ctx context.Context, h *site.Head) error { return h.Cut(ctx) }, heal},
		{"mute", func(ctx context.Context, h *site.Head) error { return h.Mute(ctx) }, heal},
		{"deafen", func(ctx context.Context, h *site.Head) error { return h.Deafen(ctx) }, heal},
		{"stop", func(_ context.Context, h *site.Head) error { return h.Agent.Stop(syscall.SIGTERM, time.Minute) }, start},
	}
}

// start starts a head's agent again. A busy machine may want a second try: the
// first one's agent must not be left behind.
func start(ctx context.Context, h *site.Head) error {
	var errs []error
	for range 3 {
		err := h.Start(ctx)
		if err == nil {
			return nil
		}
		ended := !h.Agent.Running()
		h.Agent.Kill9()
		if errs = append(errs, err); ended || ctx.Err() != nil {
			break
		}
	}
	return errors.Join(errs...)
}

// trouble makes faults, one after the other, until its time is over.
type trouble struct {
	*testing.T
	site    *site.Site
	doors   []*door
	history *history
	deck    []strike
}

// strike is a fault, and how many heads it hits.
type strike struct {
	fault
	heads int
}

// draw gives the next strike of a shuffled deck, so that each comes equally often
// and in any order.
func (tr *trouble) draw() strike {
	if len(tr.deck) == 0 {
		for _, f := range faults() {
			tr.deck = append(tr.deck, strike{f, 1})
			if f.kind == "kill" {
				tr.deck = append(tr.deck, strike{f, 1}, strike{f, 2}, strike{f, len(tr.site.Heads)})
			}
		}
		rand.Shuffle(len(tr.deck), func(i, j int) { tr.deck[i], tr.deck[j] = tr.deck[j], tr.deck[i] })
	}
	s := tr.deck[0]
	tr.deck = tr.deck[1:]
	return s
}

// run makes trouble until the context ends; in the end all is well again.
func (tr *trouble) run(ctx context.Context) {
	for {
		tr.calm(ctx)
		if ctx.Err() != nil {
			return
		}
		tr.strike(ctx, tr.draw())
	}
}

// strike makes a fault, for a while, and one time in three another one of another
// head meanwhile.
func (tr *trouble) strike(ctx context.Context, s strike) {
	victims := tr.victims(ctx)
	hits := []strike{s}
	if s.heads == 1 && rand.IntN(3) == 0 {
		hits = append(hits, strike{faults()[rand.N(len(faults()))], 1})
	}
	var ends []func()
	for _, hit := range hits {
		var names []string
		began := tr.history.now()
		for _, h := range victims[:hit.heads] {
			names = append(names, h.Name)
			must(tr.T, hit.begin(tr.Context(), h))
		}
		struck := victims[:hit.heads]
		victims = victims[hit.heads:]
		what := hit.kind + " " + strings.Join(names, ", ")
		tr.Logf("%7.3f s: %s", float64(began)/1e9, what)
		ends = append(ends, func() {
			for _, h := range struck {
				must(tr.T, hit.end(tr.Context(), h))
			}
			tr.history.fault(hit.kind, what, began)
		})
		pause(ctx, time.Duration(rand.IntN(1000))*time.Millisecond)
	}
	pause(ctx, time.Duration(rand.IntN(3000))*time.Millisecond)
	rand.Shuffle(len(ends), func(i, j int) { ends[i], ends[j] = ends[j], ends[i] })
	for _, end := range ends {
		end()
	}
}

// victims are the heads in the order in which they are hit: every other time the
// one that leads is first.
func (tr *trouble) victims(ctx context.Context) []*site.Head {
	heads := slices.Clone(tr.site.Heads)
	rand.Shuffle(len(heads), func(i, j int) { heads[i], heads[j] = heads[j], heads[i] })
	if rand.IntN(2) == 0 {
		return heads
	}
	var list []struct {
		Name   string `json:"name"`
		Leader bool   `json:"leader"`
	}
	if _, err := tr.doors[0].ask(ctx, http.MethodGet, "/v1/heads", nil, &list); err != nil {
		return heads
	}
	for _, of := range list {
		if i := slices.IndexFunc(heads, func(h *site.Head) bool { return of.Leader && h.Name == of.Name }); i >= 0 {
			heads[0], heads[i] = heads[i], heads[0]
		}
	}
	return heads
}

// calm lets the mesh get better: two times of three until each head has a change
// made again, else for a moment only.
func (tr *trouble) calm(ctx context.Context) {
	if rand.IntN(3) == 0 {
		pause(ctx, 200*time.Millisecond)
		return
	}
	for _, d := range tr.doors {
		if err := changes(ctx, d); err != nil && ctx.Err() == nil {
			tr.Fatal(err)
		}
	}
}
