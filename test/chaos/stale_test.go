package chaos

import (
	"fmt"
	"testing"
	"time"

	"github.com/anishathalye/porcupine"

	"github.com/clustervision/luna/test/site"
)

// TestStaleReadIsFound: the checker is worth something. A head that is cut off is
// read, on purpose, without its word on how fresh the answer is: that history is
// found wrong. The same reads with that word are no part of it, and the rest is
// right.
func TestStaleReadIsFound(t *testing.T) {
	t.Parallel()
	s := newMesh(t, "stale")
	away, here := s.Heads[2], socket(s.Heads[0])
	blind := socket(away)
	blind.local = true

	h := newHistory()
	do := func(d *door, c call, in *history) outcome {
		t.Helper()
		c.node, c.head = "node001", d.head
		began := h.now()
		o, strange := d.do(t.Context(), c)
		must(t, strange)
		in.record(1, began, c, o)
		return o
	}
	write := func(c call) {
		t.Helper()
		must(t, site.Until(t.Context(), time.Minute, fmt.Sprintf("%s %s is done", c.verb, c.value), func() error {
			if o := do(here, c, h); o.fate != done {
				return fmt.Errorf("it is %s", o.fate)
			}
			return nil
		}))
	}
	write(call{verb: add})
	write(call{verb: comment, value: "before"})
	must(t, site.Until(t.Context(), time.Minute, away.Name+" has it", func() error {
		if o := do(blind, call{verb: read}, newHistory()); o.seen.comment != "before" {
			return fmt.Errorf("there is %s", o.seen)
		}
		return nil
	}))

	must(t, away.Cut(t.Context()))
	write(call{verb: comment, value: "after"})

	o := do(socket(away), call{verb: read}, h)
	t.Logf("asked in the usual way, the head that is cut off says: %s, %s", o.seen, o.fate)
	if o != (outcome{stale, state{true, "before"}}) {
		t.Errorf("a read of the head that is cut off: %+v; want what it had before, and the header %s", o, headerStale)
	} else {
		h.mustBeLinearizable(t)
	}

	if o := do(blind, call{verb: read}, h); o != (outcome{done, state{true, "before"}}) {
		t.Fatalf("a local read of the head that is cut off: %+v; want what it had before, without a word on how old it is", o)
	}
	if v := h.check(); len(v) != 1 || v[0].result != porcupine.Illegal || len(v[0].odd) == 0 {
		t.Errorf("a stale read was let through, and the checker finds nothing: %+v", v)
	} else {
		t.Logf("the checker finds it: %s: %q", v[0].result, v[0].odd)
	}
	must(t, away.Heal(t.Context()))
	must(t, settle(t.Context(), s))
}
