package agent

import (
	"cmp"
	"hash/fnv"
	"slices"
)

// The kinds of duties.
const (
	dutyDHCP = "dhcp" // answers DHCP on a network
	dutyPoll = "poll" // polls a switch
)

// duty is something that exactly one head should do, and who could.
type duty struct {
	kind, name string
	holder     string   // who has it now, "" if nobody
	candidates []string // heads that are alive and able
}

// dutyKey names a duty.
type dutyKey struct{ kind, name string }

func (d duty) key() dutyKey { return dutyKey{d.kind, d.name} }

// load is how many duties each head has, and how many it is to have beside others.
type load struct {
	has    map[string]int
	weight map[string]int // 1 where none is given
}

// with compares how loaded heads would be with one duty more: a/weight(a) to
// b/weight(b).
func (l load) with(a, b string) int {
	return cmp.Compare((l.has[a]+1)*max(1, l.weight[b]), (l.has[b]+1)*max(1, l.weight[a]))
}

// assign gives the duties that are to change hands, each with its new holder
// ("" where nobody can). The present holder keeps a duty where it is still able,
// so that nothing changes without need; else it is the one with the least to do
// for its weight, by rendezvous hashing among equals. Where a head has so much more
// than another that it would still not have less after giving one away, one
// moves. It depends on nothing but its input, so a new leader assigns what the
// old one did.
func assign(duties []duty, weights map[string]int) map[dutyKey]string {
	duties = slices.Clone(duties)
	slices.SortFunc(duties, func(a, b duty) int { return cmp.Or(cmp.Compare(a.kind, b.kind), cmp.Compare(a.name, b.name)) })
	got, l := map[dutyKey]string{}, load{map[string]int{}, weights}
	for _, d := range duties {
		if slices.Contains(d.candidates, d.holder) {
			got[d.key()] = d.holder
			l.has[d.holder]++
		}
	}
	for _, d := range duties {
		if got[d.key()] == "" {
			got[d.key()] = l.lightest(d)
			l.has[got[d.key()]]++
		}
	}
	for _, d := range duties {
		from := got[d.key()]
		if to := l.lightest(d); to != "" && to != from && l.moves(from, to) {
			l.has[from]--
			l.has[to]++
			got[d.key()] = to
		}
	}
	for _, d := range duties {
		if got[d.key()] == d.holder {
			delete(got, d.key())
		}
	}
	return got
}

// moves tells whether a head has so many duties that another one, with one of them
// more, would still have less to do for its weight.
func (l load) moves(from, to string) bool {
	return l.has[from]*max(1, l.weight[to]) > (l.has[to]+1)*max(1, l.weight[from])
}

// lightest gives the candidate with the least to do, "" if there is none.
func (l load) lightest(d duty) string {
	if len(d.candidates) == 0 {
		return ""
	}
	return slices.MinFunc(d.candidates, func(a, b string) int {
		return cmp.Or(l.with(a, b), cmp.Compare(weight(d.kind+d.name, b), weight(d.kind+d.name, a)), cmp.Compare(a, b))
	})
}

// weight is the rendezvous (highest random weight) hash of a duty and a head.
func weight(duty, head string) uint64 {
	h := fnv.New64a()
	_, _ = h.Write([]byte(duty + "\x00" + head)) // never fails
	return h.Sum64()
}
