package fsm_test

import (
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/hashicorp/raft"
	"pgregory.net/rapid"

	"github.com/clustervision/luna/fsm"
	"github.com/clustervision/luna/inventory"
)

// TestRandomCommands holds what must always hold over random sequences of all
// commands; see run.step. In the end the same log must give the same state, the
// snapshot too, and the exported document the same cluster after a deletion.
func TestRandomCommands(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		r := &run{site: begunAt(t, pick(generator{t: t}, []int{1, 2})), t: t}
		r.was, r.state = r.read(r.View(), nil)
		if g := (generator{t, r.View()}); g.between(0, 9) > 0 {
			r.furnish()
		}
		var twin *site
		for range rapid.IntRange(10, 30).Draw(t, "steps") {
			r.age()
			if twin == nil || pick(generator{t: t}, []int{0, 1, 2, 3}) == 0 {
				twin = restore(t, r.was)
				twin.index = r.index
			}
			r.step(r.draw())
			for ; twin.index < r.index; twin.index++ {
				twin.Apply(&raft.Log{Index: twin.index + 1, Data: r.log[twin.index]})
			}
			if got, _ := text(twin.View()); got != r.was {
				t.Fatalf("a head that began with a snapshot has another state:\n%s", cmp.Diff(r.was, got))
			}
		}
		again := &site{Machine: fsm.New()}
		for i, b := range r.log {
			again.Apply(&raft.Log{Index: uint64(i + 1), Data: b})
		}
		want := r.was
		if got, _ := text(again.View()); got != want {
			t.Fatalf("the same log gives another state:\n%s", cmp.Diff(want, got))
		}
		restored := restore(t, want)
		if got, _ := text(restored.View()); got != want {
			t.Fatalf("a snapshot gives another state:\n%s", cmp.Diff(want, got))
		}
		exported(t, restored)
	})
}

func restore(t *rapid.T, snapshot string) *site {
	m := fsm.New()
	if err := m.Restore(io.NopCloser(strings.NewReader(snapshot))); err != nil {
		t.Fatal(err)
	}
	return &site{Machine: m, index: m.View().Index}
}

// exported deletes the cluster, sets it up anew and applies its document.
func exported(t *rapid.T, s *site) {
	was := inventory.DocumentOf(s.View())
	c, _ := s.View().Cluster()
	if c.Deleted {
		return
	}
	for _, command := range []inventory.Command{
		inventory.DeleteCluster{Force: true}, inventory.SetUpCluster{Cluster: *c}, inventory.ApplyDocument{Document: was},
	} {
		if r := s.do(command); r.Error != nil && !headsAbout(r.Error) {
			t.Fatalf("%s: %v", inventory.Verb(command), r.Error)
		} else if r.Error != nil {
			return
		}
	}
	if err := consistent(s.View()); err != nil {
		t.Fatal(err)
	}
	if diff := documentDiff(was, inventory.DocumentOf(s.View())); diff != "" {
		t.Fatalf("exported, deleted and applied, it is another cluster:\n%s", diff)
	}
}

// headsAbout tells whether something is refused because of a head: heads come
// and go and say what addresses they have, whatever the commands before said.
func headsAbout(err error) bool { return strings.Contains(err.Error(), "head ") }

// age makes the mesh speak a newer format at some time, has a head say something
// in an older one even then, and lets heads' clocks jump.
func (r *run) age() {
	g := generator{r.t, r.View()}
	switch n := g.between(0, 19); {
	case r.View().Format() == 1 && n == 0:
		r.version = 2
		r.step(inventory.Advance{})
	case r.View().Format() == 2:
		r.version = 2
		if n == 0 {
			r.version = 1
		}
	}
	if g.between(0, 9) == 0 {
		r.wall = epoch.Add(time.Duration(g.between(-100, 100)) * time.Hour)
	}
}

// run is one random sequence.
type run struct {
	*site
	t       *rapid.T
	was     string               // the snapshot of the present state
	state   *state               // and what is in it
	old     []inventory.Document // of states of this run
	entries []uint64
}

// furnish makes something of most kinds, so that commands have something to do.
func (r *run) furnish() {
	for _, c := range []inventory.Command{
		inventory.UpdateHead{Name: "h1", Address: addr("10.30.255.254"), Addresses: []netip.Prefix{prefix("10.1.0.61/26")}},
		inventory.AddNetwork{Name: "a", Prefix: prefix("10.1.0.0/26")},
		inventory.AddNetwork{Name: "b", Prefix: prefix("10.2.0.0/27")},
		inventory.AddNetwork{Name: "six", Prefix: prefix("fd00:1::/122")},
		inventory.AddOSImage{Name: "i", Path: "/i"},
		inventory.AddOSImage{Name: "j", Path: "/j"},
		inventory.AddBMCSetup{Name: "x"},
		inventory.AddGroup{Name: "g", OSImage: "i", Network: "a", BMCSetup: "x", BMCNetwork: "b"},
		inventory.AddGroup{Name: "h", OSImage: "i", Network: "six"},
		inventory.AddSwitches{Names: []string{"s1", "s2"}, Network: "b"},
		inventory.AddOtherDevs{Names: []string{"d1"}, Network: "b", Addr: addr("10.2.0.9")},
		inventory.AddNodes{Group: "g", Names: []string{"n1", "n2", "node001"}},
		generator{}.invite(),
		generator{}.publish("0000000000000001", "i", epoch),
	} {
		if result := r.do(c); result.Error != nil {
			r.t.Fatalf("%s: %v", shown(c), result.Error)
		}
	}
	r.was, r.state = r.read(r.View(), nil)
	r.old = append(r.old, inventory.DocumentOf(r.View()))
}

// read gives the snapshot of a state, and what is in it, which must be sound.
func (r *run) read(inv *inventory.Inventory, c inventory.Command) (string, *state) {
	snapshot, err := text(inv)
	if err != nil {
		r.t.Fatal(err)
	}
	s, err := parse(snapshot)
	if err != nil {
		r.t.Fatal(err)
	}
	if err := s.consistent(); err != nil {
		r.t.Fatalf("%s: %v", shown(c), err)
	}
	return snapshot, s
}

func (r *run) preview(c inventory.Command) (inventory.Result, []inventory.Change, *inventory.Inventory) {
	return r.Preview(inventory.Envelope{At: epoch, Command: c})
}

// step does a command, and holds: the preview told what it does and changed
// nothing; refused, it changes nothing; the state is sound; the log has exactly
// the difference; the lowest free address is the one that is given next; the
// state's own document changes nothing; undoing it gives back what was before.
func (r *run) step(c inventory.Command) {
	t, old := r.t, r.View()
	document := inventory.DocumentOf(old)
	foreseen, changes, then := r.preview(c)
	if r.View() != old {
		t.Fatalf("%s: the preview published something", shown(c))
	}
	result := r.do(c)
	if diff := cmp.Diff(foreseen.Error, result.Error); diff != "" || string(foreseen.Value) != string(result.Value) {
		t.Fatalf("%s: the preview said %v %s, and it is %v %s", shown(c), foreseen.Error, foreseen.Value, result.Error, result.Value)
	}
	if was, _ := text(old); was != r.was {
		t.Fatalf("%s: a state that is past was changed", shown(c))
	}
	if result.Error != nil {
		if r.View() != old || result.Error.Kind == inventory.KindInternal {
			t.Fatalf("%s: refused, it changed something: %v", shown(c), result.Error)
		}
		return
	}
	if err := fsm.Check(r.View()); err != nil {
		t.Fatalf("%s: Check: %v", shown(c), err)
	}
	before := r.state
	r.was, r.state = r.read(r.View(), c)
	_, seen := r.read(then, c)
	if !maps.Equal(seen.objects(), r.state.objects()) {
		t.Fatalf("%s: the preview differs from what became:\n%s", shown(c), cmp.Diff(seen.objects(), r.state.objects()))
	}
	r.checkLog(c, result, changes, before)
	r.checkFree()
	r.checkDocument(c)
	r.checkUndo(c, result, before, document)
	r.old = append(r.old, inventory.DocumentOf(r.View()))
	if result.Entry != 0 {
		r.entries = append(r.entries, result.Entry)
	}
}

// checkLog holds the log entry against the difference of the two states.
func (r *run) checkLog(c inventory.Command, result inventory.Result, foreseen []inventory.Change, before *state) {
	var changes []inventory.Change
	if result.Entry != 0 {
		e, ok := r.View().Entry(result.Entry)
		if !ok {
			r.t.Fatalf("%s: there is no entry %d", shown(c), result.Entry)
		}
		changes = e.Changes
	}
	if diff := cmp.Diff(foreseen, changes); diff != "" {
		r.t.Fatalf("%s: the preview told other changes:\n%s", shown(c), diff)
	}
	got := map[string][2]string{}
	for _, change := range changes {
		if change.Object != "head" && change.Object != "version" {
			got[fmt.Sprintf("%s %d", change.Object, change.ID)] = [2]string{string(change.Before), string(change.After)}
		}
	}
	want := map[string][2]string{}
	was, is := before.objects(), r.state.objects()
	for key := range maps.Keys(was) {
		if was[key] != is[key] {
			want[key] = [2]string{was[key], is[key]}
		}
	}
	for key := range maps.Keys(is) {
		if was[key] != is[key] {
			want[key] = [2]string{was[key], is[key]}
		}
	}
	if diff := cmp.Diff(want, got); diff != "" {
		r.t.Fatalf("%s: the log tells another change:\n%s", shown(c), diff)
	}
}

// checkFree asks for one more address in every network.
func (r *run) checkFree() {
	if r.state.Cluster.Deleted {
		return
	}
	for _, n := range r.state.Networks {
		want := r.state.lowestFree(n)
		result, _, then := r.preview(inventory.AddSwitches{Names: []string{"probe"}, Network: n.Name})
		switch {
		case result.Error != nil && want.IsValid():
			r.t.Fatalf("network %s should have %s free: %v", n.Name, want, result.Error)
		case result.Error == nil:
			if sw, _ := then.Switch("probe"); sw.Addr != want {
				r.t.Fatalf("network %s gives %s, the lowest free one is %s", n.Name, sw.Addr, want)
			}
		}
	}
}

// checkDocument holds that the document of the state is the state.
func (r *run) checkDocument(c inventory.Command) {
	if cluster, _ := r.View().Cluster(); cluster.Deleted {
		return
	}
	raw, err := json.Marshal(inventory.DocumentOf(r.View()))
	if err != nil {
		r.t.Fatal(err)
	}
	var d inventory.Document
	if err := json.Unmarshal(raw, &d); err != nil {
		r.t.Fatal(err)
	}
	prune := len(r.old)%2 == 0
	result, changes, _ := r.preview(inventory.ApplyDocument{Document: d, Prune: prune})
	if result.Error == nil || !headsAbout(result.Error) {
		if result.Error != nil || len(changes) > 0 {
			r.t.Fatalf("after %s the state's own document is refused or changes it (prune %t): %v %+v", shown(c), prune, result.Error, changes)
		}
	}
}

// checkUndo takes the command back, in a preview.
func (r *run) checkUndo(c inventory.Command, result inventory.Result, before *state, document inventory.Document) {
	if result.Entry == 0 {
		return
	}
	undone, _, then := r.preview(inventory.UndoChange{Entry: result.Entry})
	if undone.Error != nil {
		if !headsAbout(undone.Error) && !strings.Contains(undone.Error.Error(), "of version") {
			r.t.Fatalf("%s cannot be undone: %v", shown(c), undone.Error)
		}
		return
	}
	if diff := documentDiff(document, inventory.DocumentOf(then)); diff != "" {
		r.t.Fatalf("%s: undone, the document is another one:\n%s", shown(c), diff)
	}
	if _, seen := r.read(then, c); !maps.Equal(before.objects(), seen.objects()) {
		r.t.Fatalf("%s: undone, the state is another one:\n%s", shown(c), cmp.Diff(before.objects(), seen.objects()))
	}
}

// draw gives a random command, more often one that makes something.
func (r *run) draw() inventory.Command {
	g := generator{r.t, r.View()}
	kinds := []func() inventory.Command{
		g.network, g.network, g.changeNetwork, g.changeNetwork, g.osimage, g.osimage, g.version, g.bmcsetup,
		g.group, g.group, g.changeGroup, g.changeGroup, g.changeGroup, g.nodes, g.nodes, g.changeNodes, g.changeNodes, g.changeNodes,
		g.switches, g.otherdevs, g.rename, g.remove, g.remove, g.head, g.lease, g.lease, g.cluster,
		r.undo, r.undoLast, r.document, r.document, r.document,
	}
	if r.version != 1 {
		kinds = append(kinds, r.mesh, r.mesh, r.mesh)
	}
	if c, _ := r.View().Cluster(); c.Deleted {
		kinds = []func() inventory.Command{g.setUp, g.setUp, g.head, g.network, r.undo, r.undoLast, r.undoLast}
	}
	return pick(g, kinds)()
}

// mesh draws what format 2 brought.
func (r *run) mesh() inventory.Command {
	g := generator{r.t, r.View()}
	switch g.between(0, 9) {
	case 0:
		return inventory.ChangeHead{Name: g.one("h1", "h2"), Drained: ptr(g.yes()), Weight: ptr(g.between(0, 3))}
	case 1:
		return inventory.AdoptCluster{Head: inventory.Head{Name: g.one("h1", "h2"), Key: "k", Address: addr("10.30.255.254")}, Forget: g.yes()}
	case 2, 3:
		return inventory.AssignDuties{Polls: map[string]string{g.switchName(): g.one("", "h1", "h2")}}
	}
	return inventory.Advance{Elapsed: time.Duration(g.between(0, 60)) * time.Second, Applied: uint64(g.between(0, int(r.index))), Held: g.yes()}
}

func (r *run) undo() inventory.Command {
	if len(r.entries) == 0 {
		return inventory.UndoChange{Entry: 1}
	}
	return inventory.UndoChange{Entry: pick(generator{r.t, r.View()}, r.entries)}
}

func (r *run) undoLast() inventory.Command {
	if len(r.entries) == 0 {
		return inventory.UndoChange{Entry: 1}
	}
	return inventory.UndoChange{Entry: r.entries[len(r.entries)-1]}
}

// document gives the document of the present or of an older state of the run,
// whole or in parts, or one made up.
func (r *run) document() inventory.Command {
	g := generator{r.t, r.View()}
	now := inventory.DocumentOf(r.View())
	d := now
	if len(r.old) > 0 && g.yes() {
		d = pick(g, r.old)
	}
	if g.yes() {
		return r.whole(inventory.ApplyDocument{Document: d, Prune: true})
	}
	switch g.between(0, 2) {
	case 0:
		d = g.document()
	case 1:
		d = g.part(d)
	}
	return inventory.ApplyDocument{Document: d, Prune: g.between(0, 9) == 0}
}

// whole holds that a whole older document, pruning, is accepted in any state,
// unless heads are in its way.
func (r *run) whole(c inventory.ApplyDocument) inventory.Command {
	cluster, _ := r.View().Cluster()
	result, _, then := r.preview(c)
	switch {
	case cluster.Deleted || c.Document.Cluster == nil || result.Error != nil && headsAbout(result.Error):
	case result.Error != nil:
		r.t.Fatalf("an older document is refused: %v", result.Error)
	default:
		if diff := documentDiff(c.Document, inventory.DocumentOf(then)); diff != "" {
			r.t.Fatalf("an older document gives another one:\n%s", diff)
		}
	}
	return c
}

// shown is a command as a failure shows it.
func shown(c inventory.Command) string {
	b, err := json.Marshal(c)
	return fmt.Sprintf("%s %s (%v)", inventory.Verb(c), b, err)
}

// sorted gives the keys of a map in an order that is the same for each run with
// the same draws.
func sorted[V any](m map[string]V) []string { return slices.Sorted(maps.Keys(m)) }
