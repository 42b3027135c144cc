package chaos

import (
	"context"
	"fmt"
	"math/rand/v2"
	"net/http"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/clustervision/luna/test/site"
)

const (
	nodesAtOnce = 4   // that the clients quarrel about
	callsOfNode = 150 // after which a node is left as it is, for another: the search in a history grows with it
	perHead     = 3   // clients at each head's socket
	fromOutside = 3   // clients that ask any head, over TLS
)

// load is clients that read and write the same few nodes.
type load struct {
	*testing.T
	history *history
	calls   [nodesAtOnce]atomic.Int64
	values  atomic.Int64
}

// any gives a node, one of a few for some time.
func (l *load) any() string {
	i := rand.N(nodesAtOnce)
	return nodeName(i, l.calls[i].Add(1)/callsOfNode)
}

func nodeName(place int, turn int64) string { return fmt.Sprintf("n%dt%d", place, turn) }

// all gives every node that there has been.
func (l *load) all() (names []string) {
	for i := range l.calls {
		for turn := range l.calls[i].Load()/callsOfNode + 1 {
			names = append(names, nodeName(i, turn))
		}
	}
	return names
}

// call draws what to do next.
func (l *load) call() call {
	c := call{verb: read, node: l.any()}
	switch n := rand.N(100); {
	case n < 15:
		c.verb = add
	case n < 22:
		c.verb = remove
	case n < 50:
		c.verb, c.value = comment, fmt.Sprintf("v%d", l.values.Add(1))
	}
	return c
}

// client makes calls until the context ends; the last one is let end.
func (l *load) client(ctx context.Context, id int, doors []*door) {
	for ctx.Err() == nil {
		d, c := doors[rand.N(len(doors))], l.call()
		if rand.N(200) == 0 {
			l.list(ctx, id, d)
			continue
		}
		c.head = d.head
		o := l.judge(ctx, id, d, c)
		wait := time.Duration(rand.N(20)) * time.Millisecond
		if o.fate == nobody {
			wait = 50 * time.Millisecond // a dead head answers at once
		}
		pause(ctx, wait)
	}
}

// judge makes a call and writes it into the history.
func (l *load) judge(ctx context.Context, id int, d *door, c call) outcome {
	began := l.history.now()
	o, strange := d.do(context.WithoutCancel(ctx), c)
	l.history.record(id, began, c, o)
	if strange != nil {
		l.Error(strange)
	}
	return o
}

// list reads all nodes at once: each of those in use is then a read of its own.
func (l *load) list(ctx context.Context, id int, d *door) {
	var names []string
	for i := range l.calls {
		names = append(names, nodeName(i, l.calls[i].Load()/callsOfNode))
	}
	began := l.history.now()
	var nodes []node
	old, err := d.ask(context.WithoutCancel(ctx), http.MethodGet, "/v1/nodes", nil, &nodes)
	if err != nil {
		return
	}
	o := outcome{fate: done}
	if old != "" {
		o.fate = stale
	}
	seen := map[string]state{}
	for _, n := range nodes {
		seen[n.Name] = n.state()
	}
	for _, name := range names {
		o.seen = seen[name]
		l.history.record(id, began, call{verb: read, node: name, head: d.head}, o)
	}
}

// begin lets clients work at all heads until the context ends; the group is done
// when they are.
func (l *load) begin(ctx context.Context, s *site.Site, wg *sync.WaitGroup) {
	from, trust := pc(l.T, s), credential(l.T, s.Lab.Dir())
	var outside []*door
	for _, h := range s.Heads {
		outside = append(outside, remote(from, h, trust))
	}
	id := 0
	begin := func(doors []*door) {
		id++
		me := id
		wg.Go(func() { l.client(ctx, me, doors) })
	}
	for _, h := range s.Heads {
		for range perHead {
			begin([]*door{socket(h)})
		}
	}
	for range fromOutside {
		begin(outside)
	}
}

// last reads every node on each head. They are all well then, and must answer.
func (l *load) last(s *site.Site) {
	for _, d := range sockets(s) {
		for _, name := range l.all() {
			c := call{verb: read, node: name, head: d.head}
			if o := l.judge(l.Context(), lastClient, d, c); o.fate != done {
				l.Errorf("%s gives no fresh answer about %s when all is well again: %s", d.head, name, o.fate)
			}
		}
	}
}

// TestLinearizable: whatever happens to heads and links, what clients see is what
// one inventory would show them that nothing happens to, and an answer that is
// not sure of that says so.
func TestLinearizable(t *testing.T) {
	s := newMesh(t, "linear")
	h := newHistory()
	l := &load{T: t, history: h}
	long := soak(time.Minute, 20*time.Minute)
	ctx, stop := context.WithTimeout(t.Context(), long)
	var clients sync.WaitGroup
	defer clients.Wait()
	defer stop()
	l.begin(ctx, s, &clients)
	tr := &trouble{T: t, site: s, doors: sockets(s), history: h}
	tr.run(ctx)
	clients.Wait()
	must(t, settle(t.Context(), s))
	l.last(s)
	t.Logf("%d calls on %d nodes in %s: %s", h.total(), len(l.all()), long, h.summary())
	if n := len(h.faults); n < 3 || h.count["read done"] < 200 || h.count["comment done"] < 50 {
		t.Errorf("that is too little to tell: %d faults", n)
	}
	h.mustBeLinearizable(t)
}
