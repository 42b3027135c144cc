package chaos

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/http"
	"slices"
	"syscall"
	"testing"
	"time"

	"github.com/clustervision/luna/test/site"
)

// fault is something that happens to so many heads together, and how it is undone.
type fault struct {
	kind       string
	heads      int
	begin, end func(context.Context, []*site.Head) error
}

// each makes a fault of all heads out of one of each.
func each(do func(context.Context, *site.Head) error) func(context.Context, []*site.Head) error {
	return func(ctx context.Context, heads []*site.Head) error {
		var errs []error
		for _, h := range heads {
			errs = append(errs, do(ctx, h))
		}
		return errors.Join(errs...)
	}
}

// faults are all that there are.
func faults() []fault {
	kill := each(func(_ context.Context, h *site.Head) error { h.Agent.Kill9(); return nil })
	pause := each(func(_ context.Context, h *site.Head) error { h.Agent.Pause(); return nil })
	goOn := each(func(_ context.Context, h *site.Head) error { h.Agent.Continue(); return nil })
	stop := each(func(_ context.Context, h *site.Head) error { return h.Agent.Stop(syscall.SIGTERM, time.Minute) })
	cut := each(func(ctx context.Context, h *site.Head) error { return h.Cut(ctx) })
	mute := each(func(ctx context.Context, h *site.Head) error { return h.Mute(ctx) })
	deafen := each(func(ctx context.Context, h *site.Head) error { return h.Deafen(ctx) })
	heal := each(func(ctx context.Context, h *site.Head) error { return h.Heal(ctx) })
	return []fault{
		{"kill", 1, kill, each(start)},
		{"kill", 2, kill, each(start)},
		{"kill", 3, kill, each(start)},
		{"stop", 1, stop, each(start)},
		{"pause", 1, pause, goOn},
		{"pause", 2, pause, goOn},
		{"cut", 1, cut, heal},
		{"mute", 1, mute, heal},
		{"deafen", 1, deafen, heal},
		{"part", 2, part, unite},
	}
}

// part takes two heads from each other, while the third one reaches both: the
// kind of broken network on which heads disagree about who is there.
func part(ctx context.Context, heads []*site.Head) error { return routes(ctx, "add", heads) }

func unite(ctx context.Context, heads []*site.Head) error { return routes(ctx, "del", heads) }

func routes(ctx context.Context, verb string, heads []*site.Head) error {
	var errs []error
	for i, h := range heads {
		other := heads[1-i].Addr.String()
		if out, err := h.Command(ctx, "ip", "route", verb, "blackhole", other).CombinedOutput(); err != nil {
			errs = append(errs, fmt.Errorf("part %s from %s: %w: %s", h.Name, other, err, out))
		}
	}
	return errors.Join(errs...)
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
	deck    []fault
}

// draw gives the next fault of a shuffled deck, so that each comes equally often
// and in any order.
func (tr *trouble) draw() fault {
	if len(tr.deck) == 0 {
		tr.deck = faults()
		rand.Shuffle(len(tr.deck), func(i, j int) { tr.deck[i], tr.deck[j] = tr.deck[j], tr.deck[i] })
	}
	f := tr.deck[0]
	tr.deck = tr.deck[1:]
	return f
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

// strike makes a fault, for a while, and one time in three another one of other
// heads meanwhile. One time in eight the while is longer than a head waits for a
// leader before it gives a change up.
func (tr *trouble) strike(ctx context.Context, f fault) {
	heads := tr.victims(ctx)
	hits := []fault{f}
	if all := faults(); rand.IntN(3) == 0 {
		hits = append(hits, all[rand.N(len(all))])
	}
	long := time.Duration(rand.IntN(3000)) * time.Millisecond
	if rand.IntN(8) == 0 {
		long += 9 * time.Second
	}
	var ends []func()
	for _, hit := range hits {
		if hit.heads > len(heads) {
			continue // the first has not left enough of them
		}
		struck := heads[:hit.heads]
		heads = heads[hit.heads:]
		what := hit.kind
		for _, h := range struck {
			what += " " + h.Name
		}
		began := tr.history.now()
		must(tr.T, hit.begin(tr.Context(), struck))
		tr.Logf("%7.3f s: %s", float64(began)/1e9, what)
		ends = append(ends, func() {
			must(tr.T, hit.end(tr.Context(), struck))
			tr.history.fault(hit.kind, what, began)
		})
		pause(ctx, time.Duration(rand.IntN(1000))*time.Millisecond)
	}
	pause(ctx, long)
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
