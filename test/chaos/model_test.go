package chaos

import (
	"testing"

	"github.com/anishathalye/porcupine"
)

// TestModel: the checker accepts what an inventory may do and finds what it may not.
func TestModel(t *testing.T) {
	there := func(value string) state { return state{there: true, comment: value} }
	none := state{}
	type event struct {
		from, to int64
		verb     verb
		value    string
		fate     fate
		seen     state
	}
	added := event{0, 1, add, "", done, none}
	one := event{2, 3, comment, "one", done, none}
	for _, c := range []struct {
		name   string
		events []event
		ok     bool
	}{
		{"one after the other", []event{added, one, {4, 5, read, "", done, there("one")}, {6, 7, remove, "", done, none}, {8, 9, read, "", done, none}}, true},
		{"a stale read", []event{added, one, {4, 5, read, "", done, there("")}}, false},
		{"a read of what is being written", []event{added, {2, 9, comment, "one", done, none}, {3, 4, read, "", done, there("one")}}, true},
		{"two reads that go back in time", []event{added, {2, 9, comment, "one", done, none}, {3, 4, read, "", done, there("one")}, {5, 6, read, "", done, there("")}}, false},
		{"a lost write", []event{added, {2, 3, read, "", done, none}}, false},
		{"a deleted node that is back", []event{added, {2, 3, remove, "", done, none}, {4, 5, read, "", done, there("")}}, false},
		{"a comment that outlives its node", []event{added, one, {4, 5, remove, "", done, none}, {6, 7, add, "", done, none}, {8, 9, read, "", done, there("one")}}, false},
		{"added twice", []event{added, {2, 3, add, "", done, none}}, false},
		{"added twice and refused", []event{added, {2, 3, add, "", refused, none}}, true},
		{"refused for a node that is not there", []event{{2, 3, add, "", refused, none}}, false},
		{"deleted twice and refused", []event{added, {2, 3, remove, "", done, none}, {4, 5, remove, "", refused, none}}, true},
		{"refused for want of a node that is there", []event{added, {2, 3, comment, "one", refused, none}}, false},
		{"unknown, and done late", []event{added, {2, 3, comment, "one", unknown, none}, {4, 5, read, "", done, there("")}, {6, 7, read, "", done, there("one")}}, true},
		{"unknown, and never done", []event{added, {2, 3, comment, "one", unknown, none}, {4, 5, read, "", done, there("")}}, true},
		{"unknown, and done twice", []event{added, {2, 3, comment, "one", unknown, none}, {4, 5, read, "", done, there("one")}, {6, 7, comment, "two", done, none}, {8, 9, read, "", done, there("one")}}, false},
		{"done before it was asked for", []event{added, {2, 3, read, "", done, there("one")}, {4, 5, comment, "one", unknown, none}}, false},
		{"not made, and seen", []event{added, {2, 3, comment, "one", never, none}, {4, 5, read, "", done, there("one")}}, false},
		{"a read that says that it is stale", []event{added, one, {4, 5, read, "", stale, there("")}}, true},
	} {
		t.Run(c.name, func(t *testing.T) {
			h := newHistory()
			for i, e := range c.events {
				h.record(i, e.from, call{verb: e.verb, node: "node001", value: e.value}, outcome{e.fate, e.seen})
				if of := h.calls["node001"]; len(of) > 0 && of[len(of)-1].Call == e.from {
					of[len(of)-1].Return = e.to
				}
			}
			wrong := h.check()
			if c.ok != (len(wrong) == 0) {
				t.Errorf("found wrong: %d, want linearizable: %t", len(wrong), c.ok)
			}
			for _, v := range wrong {
				if v.result != porcupine.Illegal || len(v.odd) == 0 {
					t.Errorf("the verdict is %s, without place are %q", v.result, v.odd)
				}
			}
		})
	}
}
