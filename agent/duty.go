package agent

import (
	"cmp"
	"hash/fnv"
	"slices"
)

// duty is something that exactly one head should do, and who could.
type duty struct {
	name       string
	holder     string   // who has it now, "" if nobody
	candidates []string // heads that are alive and able
}

// assign gives each duty a holder among its candidates: the present one where
// it is still able, so that nothing changes without need; else the one with the
// fewest duties, rendezvous hashing among equals. Where one head has two more
// than another that could take one of them, one moves. It depends on nothing but
// its input, so a new leader assigns what the old one did.
func assign(duties []duty) map[string]string {
	duties = slices.Clone(duties)
	slices.SortFunc(duties, func(a, b duty) int { return cmp.Compare(a.name, b.name) })
	got, load := map[string]string{}, map[string]int{}
	for _, d := range duties {
		if slices.Contains(d.candidates, d.holder) {
			got[d.name] = d.holder
			load[d.holder]++
		}
	}
	for _, d := range duties {
		if got[d.name] == "" {
			got[d.name] = lightest(d, load)
			load[got[d.name]]++
		}
	}
	for _, d := range duties {
		if to := lightest(d, load); to != "" && load[got[d.name]] > load[to]+1 {
			load[got[d.name]]--
			load[to]++
			got[d.name] = to
		}
	}
	return got
}

// lightest gives the candidate with the fewest duties, "" if there is none.
func lightest(d duty, load map[string]int) string {
	if len(d.candidates) == 0 {
		return ""
	}
	return slices.MinFunc(d.candidates, func(a, b string) int {
		return cmp.Or(cmp.Compare(load[a], load[b]), cmp.Compare(weight(d.name, b), weight(d.name, a)), cmp.Compare(a, b))
	})
}

// weight is the rendezvous (highest random weight) hash of a duty and a head.
func weight(duty, head string) uint64 {
	h := fnv.New64a()
	_, _ = h.Write([]byte(duty + "\x00" + head)) // never fails
	return h.Sum64()
}
