package chaos

import (
	"context"
	"fmt"
	"maps"
	"math/rand/v2"
	"net/http"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/clustervision/luna/test/site"
)

const (
	shortKills = 15  // as make test can spare
	longKills  = 200 // as is promised
	writers    = 8
)

// ledger is what one client was told of the nodes that are its own.
type ledger struct {
	told  map[string]state // what it was told last, and must be so in the end
	open  map[string]bool  // a change of this one was not answered: it may have been done
	auto  []string         // names that it was given
	count map[fate]int
}

// note remembers the end of a call.
func (l *ledger) note(c call, f fate) {
	l.count[f]++
	switch f {
	case unknown:
		l.open[c.node] = true
	case done:
		_, l.told[c.node] = step(l.told[c.node], c, outcome{fate: done})
	}
}

// writer adds, changes and deletes nodes of its own until the context ends: every
// other writer names them, and the rest let the cluster choose the names. The
// last call is let end.
func writer(ctx context.Context, t *testing.T, id int, doors []*door) *ledger {
	l := &ledger{told: map[string]state{}, open: map[string]bool{}, count: map[fate]int{}}
	tell := func(c call) fate {
		d := doors[rand.N(len(doors))]
		o, strange := d.do(context.WithoutCancel(ctx), c)
		if l.note(c, o.fate); strange != nil {
			t.Error(strange)
		}
		if o.fate == nobody {
			pause(ctx, 50*time.Millisecond)
		}
		return o.fate
	}
	for n := 0; ctx.Err() == nil; n++ {
		name := fmt.Sprintf("w%dn%d", id, n)
		var f fate
		if id%2 == 0 {
			f = tell(call{verb: add, node: name})
		} else {
			name, f = l.addUnnamed(ctx, t, doors[rand.N(len(doors))])
		}
		if f != done {
			continue
		}
		tell(call{verb: comment, node: name, value: fmt.Sprintf("of %d, number %d", id, n)})
		if id%2 == 0 && n%4 == 0 { // the name of a deleted node may be chosen again
			tell(call{verb: remove, node: name})
		}
	}
	return l
}

// addUnnamed adds a node whose name the cluster chooses.
func (l *ledger) addUnnamed(ctx context.Context, t *testing.T, d *door) (string, fate) {
	var answer struct {
		Names []string `json:"names"`
	}
	_, err := d.ask(context.WithoutCancel(ctx), http.MethodPost, "/v1/nodes", map[string]string{"group": group}, &answer)
	f, strange := fateOf(err)
	if l.count[f]++; strange != nil {
		t.Errorf("%s: add a node without a name: %v", d.head, strange)
	}
	switch {
	case f == nobody:
		pause(ctx, 50*time.Millisecond)
	case f == done && len(answer.Names) != 1:
		t.Errorf("%s: a node was added, and its name is %q", d.head, answer.Names)
		return "", unknown
	case f == done:
		l.auto = append(l.auto, answer.Names[0])
		l.told[answer.Names[0]] = state{there: true}
		return answer.Names[0], done
	}
	return "", f
}

// TestNothingAcknowledgedIsLost: heads are killed without warning, one, two and
// all of them at once, and again while they start. Every change that a client was
// told of is there in the end, on each head, and each head has the same: no name
// given twice, and no address.
func TestNothingAcknowledgedIsLost(t *testing.T) {
	s := newMesh(t, "killed")
	ctx, stop := context.WithCancel(t.Context())
	ledgers := make([]*ledger, writers)
	var clients sync.WaitGroup
	defer clients.Wait()
	defer stop()
	for i := range writers {
		clients.Go(func() { ledgers[i] = writer(ctx, t, i, sockets(s)) })
	}
	want := shortKills
	if os.Getenv("LUNA_SOAK") != "" {
		want = longKills
	}
	k := &killer{T: t, site: s, doors: sockets(s)}
	k.kill(want)
	stop()
	clients.Wait()
	must(t, settle(t.Context(), s))

	told, open, auto := map[string]state{}, map[string]bool{}, []string(nil)
	count := map[fate]int{}
	for _, l := range ledgers {
		maps.Copy(told, l.told)
		maps.Copy(open, l.open)
		auto = append(auto, l.auto...)
		for f, n := range l.count {
			count[f] += n
		}
	}
	t.Logf("%d heads were killed in %d rounds, all together %d times, and %d again while they started; calls %v; %d nodes to find, %d that may be either way",
		k.kills, k.rounds, k.all, k.again, count, len(told), len(open))
	if count[done] < 100 || k.all == 0 {
		t.Errorf("that is too little to tell")
	}
	if slices.Sort(auto); len(slices.Compact(slices.Clone(auto))) != len(auto) {
		t.Errorf("a name was given to two clients: %q", auto)
	}
	lists := make([][]node, len(s.Heads))
	for i, d := range sockets(s) {
		must(t, changes(t.Context(), d)) // who has made a change has all that was before it
		lists[i] = allNodes(t, d)
		audit(t, d.head, lists[i], told, open)
		if what := difference(lists[0], lists[i]); what != "" {
			t.Errorf("h1 and %s do not have the same: %s", d.head, what)
		}
	}
	t.Logf("each head has %d nodes", len(lists[0]))
}

// allNodes reads them; the answer must be a fresh one.
func allNodes(t *testing.T, d *door) (nodes []node) {
	t.Helper()
	must(t, site.Until(t.Context(), time.Minute, d.head+" gives all nodes", func() error {
		old, err := d.ask(t.Context(), http.MethodGet, "/v1/nodes", nil, &nodes)
		if err == nil && old != "" {
			err = fmt.Errorf("the answer may be old: %s", old)
		}
		return err
	}))
	return nodes
}

// audit holds what a head has against what clients were told.
func audit(t *testing.T, head string, nodes []node, told map[string]state, open map[string]bool) {
	t.Helper()
	there, addresses := map[string]state{}, map[string]string{}
	for _, n := range nodes {
		if _, twice := there[n.Name]; twice {
			t.Errorf("%s has two nodes %s", head, n.Name)
		}
		there[n.Name] = n.state()
		if len(n.Interfaces) == 0 {
			t.Errorf("on %s, %s has no address", head, n.Name)
		}
		for _, of := range n.Interfaces {
			for _, address := range of {
				if other, taken := addresses[address]; taken {
					t.Errorf("on %s, %s and %s have %s both", head, n.Name, other, address)
				}
				addresses[address] = n.Name
			}
		}
	}
	for name, want := range told {
		if got := there[name]; got != want && !open[name] {
			t.Errorf("%s: the client of %s was told of %s, and there is %s", head, name, want, got)
		}
	}
}

// difference tells where two lists of nodes are not the same, in one of the places.
func difference(a, b []node) string {
	text := func(nodes []node) (lines []string) {
		for _, n := range nodes {
			lines = append(lines, fmt.Sprint(n.Name, n.state(), n.Interfaces))
		}
		slices.Sort(lines)
		return lines
	}
	x, y := text(a), text(b)
	if slices.Equal(x, y) {
		return ""
	}
	i := 0
	for i < min(len(x), len(y)) && x[i] == y[i] {
		i++
	}
	return fmt.Sprintf("%q and %q", strings.Join(x[i:min(i+1, len(x))], ""), strings.Join(y[i:min(i+1, len(y))], ""))
}

// killer kills heads until it is enough.
type killer struct {
	*testing.T
	site                      *site.Site
	doors                     []*door
	kills, rounds, all, again int
}

// kill kills so many heads, all three at once in the second round and in every
// fourth one after it.
func (k *killer) kill(want int) {
	for ; k.kills < want; k.rounds++ {
		heads := slices.Clone(k.site.Heads)
		rand.Shuffle(len(heads), func(i, j int) { heads[i], heads[j] = heads[j], heads[i] })
		switch {
		case k.rounds%4 == 1:
			k.all++
		case rand.IntN(3) == 0:
			heads = heads[:2]
		default:
			heads = heads[:1]
		}
		for _, h := range heads {
			h.Agent.Kill9()
			k.kills++
		}
		pause(k.Context(), time.Duration(rand.IntN(1500))*time.Millisecond)
		if rand.IntN(4) == 0 { // where it is in its start then is another place each time
			must(k.T, heads[0].Launch())
			pause(k.Context(), time.Duration(rand.IntN(400))*time.Millisecond)
			heads[0].Agent.Kill9()
			k.kills++
			k.again++
		}
		for _, h := range heads {
			must(k.T, start(k.Context(), h))
		}
		k.wait()
	}
}

// wait lets the mesh go on for a moment once changes are made again; and every
// other time once each head makes them.
func (k *killer) wait() {
	doors := k.doors
	if rand.IntN(2) == 0 {
		doors = doors[rand.N(len(doors)):][:1]
	}
	for _, d := range doors {
		must(k.T, changes(k.Context(), d))
	}
	pause(k.Context(), time.Duration(rand.IntN(1500))*time.Millisecond)
}

// changes waits until a change is made at that door.
func changes(ctx context.Context, d *door) error {
	return site.Until(ctx, 2*time.Minute, "a change is made on "+d.head, func() error {
		_, err := d.ask(ctx, http.MethodPatch, "/v1/groups/"+group, map[string]string{"comment": fmt.Sprint(rand.Int())}, nil)
		return err
	})
}
