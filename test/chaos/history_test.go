package chaos

import (
	"fmt"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/anishathalye/porcupine"
)

// verb is what a client asks of one node.
type verb string

// The verbs. A comment is a register: its values are never written twice in a
// run, so that a read tells which write it saw.
const (
	read    verb = "read"
	add     verb = "add"
	remove  verb = "delete"
	comment verb = "comment"
)

// call is what a client asked.
type call struct {
	verb  verb
	node  string
	value string // of comment
	head  string // whom it asked
}

// state is a node, or that there is none.
type state struct {
	there   bool
	comment string
}

func (s state) String() string {
	if !s.there {
		return "no node"
	}
	return fmt.Sprintf("node %q", s.comment)
}

// fate is how a call ended, as far as its client can tell.
type fate string

const (
	done    fate = "done"
	refused fate = "refused" // by the state: there is no such node, or there is one already
	unknown fate = "unknown" // it may have been done, or may yet be, or never
	never   fate = "never"   // a write of which the head says that it was not done; a read without an answer
	nobody  fate = "nobody"  // listened: a head that is dead, or not to be reached
	stale   fate = "stale"   // a read whose answer says itself that it may be old
)

// outcome is a fate, and what was seen by a read that is done.
type outcome struct {
	fate fate
	seen state
}

// step is the model: whether a call can end so on a node in that state, and the
// state then. A call whose end is unknown is done where it can be, and otherwise
// nothing; that it never was is the same as that it comes after all others.
func step(now state, c call, o outcome) (bool, state) {
	then, can := now, now.there
	switch c.verb {
	case read:
		return o.seen == now, now
	case add:
		then, can = state{there: true}, !now.there
	case remove:
		then = state{}
	case comment:
		then.comment = c.value
	}
	switch {
	case o.fate == refused:
		return !can, now
	case can:
		return true, then
	}
	return o.fate == unknown, now
}

// model is step, for porcupine, of one node.
func model() porcupine.Model {
	return porcupine.Model{
		Init: func() any { return state{} },
		Step: func(now, in, out any) (bool, any) {
			ok, then := step(now.(state), in.(call), out.(outcome))
			return ok, then
		},
		DescribeOperation: func(in, out any) string {
			c, o := in.(call), out.(outcome)
			if c.verb == read {
				return fmt.Sprintf("%s: read: %s", c.head, o.seen)
			}
			return fmt.Sprintf("%s: %s %s: %s", c.head, c.verb, c.value, o.fate)
		},
		DescribeState: func(s any) string { return s.(state).String() },
	}
}

// history is what the clients of one run saw. Its methods may be called from
// several goroutines.
type history struct {
	start time.Time

	mu     sync.Mutex
	calls  map[string][]porcupine.Operation // by node
	denied map[string]call                  // comments of which a head said that they were not made
	faults []porcupine.Annotation
	count  map[string]int // of what is to be told in the end
}

func newHistory() *history {
	return &history{start: time.Now(), calls: map[string][]porcupine.Operation{}, denied: map[string]call{}, count: map[string]int{}}
}

// now is the time of the run, in nanoseconds. It never jumps.
func (h *history) now() int64 { return int64(time.Since(h.start)) }

// record adds a call that began then and has ended now. Those that cannot be
// judged are counted only.
func (h *history) record(client int, began int64, c call, o outcome) {
	ended := h.now()
	h.mu.Lock()
	defer h.mu.Unlock()
	h.count[fmt.Sprintf("%s %s", c.verb, o.fate)]++
	switch {
	case o.fate == never && c.verb == comment:
		h.denied[c.value] = c
		return
	case o.fate == never, o.fate == nobody, o.fate == stale:
		return
	}
	h.calls[c.node] = append(h.calls[c.node], porcupine.Operation{ClientId: client, Input: c, Call: began, Output: o, Return: ended})
}

// fault tells of something that was done to the heads and has ended now.
func (h *history) fault(kind, what string, began int64) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.count[kind]++
	h.faults = append(h.faults, porcupine.Annotation{Tag: "faults", Start: began, End: h.now(), Description: what})
}

// summary is the counts in one line.
func (h *history) summary() string {
	h.mu.Lock()
	defer h.mu.Unlock()
	var parts []string
	for what, n := range h.count {
		parts = append(parts, fmt.Sprintf("%s %d", what, n))
	}
	slices.Sort(parts)
	return strings.Join(parts, ", ")
}

// total is how many calls can be judged.
func (h *history) total() (n int) {
	for _, of := range h.calls {
		n += len(of)
	}
	return n
}

// patience is for porcupine's search in the history of one node, which takes some
// milliseconds, but could take for ever.
const patience = 2 * time.Minute

// verdict is what is wrong with the history of one node.
type verdict struct {
	node   string
	result porcupine.CheckResult
	info   porcupine.LinearizationInfo
	odd    []string // the calls that found no place in the longest order
	writes bool     // the writes are linearizable, and what they came to: some reads were wrong
}

// check judges the history, node by node: a history of several objects is
// linearizable where that of each one is (Herlihy and Wing, 1990, theorem 1).
func (h *history) check() (wrong []verdict) {
	end := h.now()
	m := model()
	for node, calls := range h.calls {
		ops := slices.Clone(calls)
		for i, op := range ops {
			if op.Output.(outcome).fate == unknown {
				ops[i].Return = end // the client that had it is free for others, but it is not over
				ops[i].ClientId += lateClients
			}
		}
		if porcupine.CheckOperationsTimeout(m, ops, patience) == porcupine.Ok {
			continue
		}
		v := verdict{node: node}
		v.result, v.info = porcupine.CheckOperationsVerbose(m, ops, patience)
		v.odd = outside(m, ops, v.info)
		ops = slices.DeleteFunc(ops, func(op porcupine.Operation) bool { return op.Input.(call).verb == read && op.ClientId != lastClient })
		v.writes = porcupine.CheckOperationsTimeout(m, ops, patience) == porcupine.Ok
		v.info.AddAnnotations(h.faults)
		wrong = append(wrong, v)
	}
	slices.SortFunc(wrong, func(a, b verdict) int { return strings.Compare(a.node, b.node) })
	return wrong
}

const (
	lastClient  = 0   // reads everything when all is over
	lateClients = 100 // is added to who made a call that may be done late, for the picture
)

// outside gives the calls that are not in the longest order that was found, the
// first one first: it is where to look.
func outside(m porcupine.Model, ops []porcupine.Operation, info porcupine.LinearizationInfo) (odd []string) {
	var longest []porcupine.Operation
	for _, orders := range info.PartialLinearizationsOperations() {
		for _, order := range orders {
			if len(order) > len(longest) {
				longest = order
			}
		}
	}
	slices.SortFunc(ops, func(a, b porcupine.Operation) int { return int(a.Call - b.Call) })
	for _, op := range ops {
		in := slices.ContainsFunc(longest, func(o porcupine.Operation) bool { return o.ClientId == op.ClientId && o.Call == op.Call })
		if !in && op.Output.(outcome).fate != unknown {
			odd = append(odd, fmt.Sprintf("%s, %s to %s", m.DescribeOperation(op.Input, op.Output),
				time.Duration(op.Call).Round(time.Microsecond), time.Duration(op.Return).Round(time.Microsecond)))
		}
	}
	return odd[:min(len(odd), 5)]
}

// mustBeLinearizable fails the test where the history is not, and leaves a picture.
func (h *history) mustBeLinearizable(t *testing.T) {
	t.Helper()
	h.neverMeansNever(t)
	wrong := h.check()
	for i, v := range wrong {
		if i == 3 {
			bad := slices.DeleteFunc(slices.Clone(wrong[i:]), func(v verdict) bool { return v.writes })
			t.Errorf("and %d nodes more, of %d of which not even the writes are", len(wrong)-i, len(bad))
			break
		}
		file, err := os.CreateTemp("", "luna-history-*.html") //nolint:usetesting // it stays: it is what to look at
		if err != nil {
			t.Fatal(err)
		}
		if err := porcupine.Visualize(model(), v.info, file); err != nil {
			t.Error(err)
		}
		if err := file.Close(); err != nil {
			t.Error(err)
		}
		t.Errorf("the history of node %s is not linearizable (%s; its writes alone are: %t); the calls without a place begin with\n  %s\nall of it is in %s",
			v.node, v.result, v.writes, strings.Join(v.odd, "\n  "), file.Name())
	}
}

// neverMeansNever tells of writes of which a head said that they were not made,
// and that were seen all the same.
func (h *history) neverMeansNever(t *testing.T) {
	t.Helper()
	told := map[string]bool{}
	for node, calls := range h.calls {
		for _, op := range calls {
			value := op.Output.(outcome).seen.comment
			if c, was := h.denied[value]; was && !told[value] {
				told[value] = true
				t.Errorf("%s said that the comment %q of node %s was not made (503), and at %s %s gives it",
					c.head, value, node, time.Duration(op.Return).Round(time.Millisecond), op.Input.(call).head)
			}
		}
	}
}
