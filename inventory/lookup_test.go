package inventory

import (
	"net/netip"
	"strconv"
	"strings"
	"testing"

	"pgregory.net/rapid"
)

func TestTopNumber(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		tx := Empty().Begin()
		name := rapid.StringMatching(`(node|node1|n|node-|no|)(0{0,2}[0-9]{0,4}|x|1x|99999999999999999999)`)
		names := rapid.SliceOfNDistinct(name, 0, 20, rapid.ID[string]).Draw(t, "names")
		for _, n := range names {
			tx.Put(&Node{ID: tx.NewID(), Name: n})
		}
		for _, prefix := range []string{"node", "node1", "n", "node-", "", "nix"} {
			want := uint64(0)
			for _, n := range names {
				digits, ok := strings.CutPrefix(n, prefix)
				if number, err := strconv.ParseUint(digits, 10, 63); ok && err == nil {
					want = max(want, number)
				}
			}
			if got := tx.TopNumber(prefix); got != want {
				t.Fatalf("the top number of %q in %q is %d, want %d", prefix, names, got, want)
			}
		}
	})
}

func TestDoubles(t *testing.T) {
	for name, tc := range map[string]struct {
		objects []any
		want    string
	}{
		"none":      {[]any{&Node{ID: 1, Name: "a", MAC: "m"}, &Node{ID: 2, Name: "b"}, &Node{ID: 3, Name: "c"}, &Group{ID: 4, Name: "a"}}, ""},
		"a name":    {[]any{&Switch{ID: 1, Name: "a"}, &Switch{ID: 2, Name: "a"}}, "type switch would have the same name"},
		"a MAC":     {[]any{&Node{ID: 1, Name: "a", MAC: "m"}, &Node{ID: 2, Name: "b", MAC: "m"}}, "type node would have the same mac"},
		"a lease's": {[]any{&Lease{Network: 1, MAC: "a", Addr: netip.MustParseAddr("10.0.0.1")}, &Lease{Network: 1, MAC: "b", Addr: netip.MustParseAddr("10.0.0.1")}}, "type lease would have the same address"},
	} {
		tx := Empty().Begin()
		for _, o := range tc.objects {
			tx.Put(o)
		}
		err := tx.Doubles()
		if (err == nil) != (tc.want == "") || err != nil && !strings.Contains(err.Error(), tc.want) {
			t.Errorf("%s: got %v, want %q", name, err, tc.want)
		}
	}
}

// TestTakenIsForgotten holds that what is remembered of a network never says
// that a free address is taken.
func TestTakenIsForgotten(t *testing.T) {
	addr := netip.MustParseAddr
	owner := func(a string) *Owner { return &Owner{Addr: addr(a), Network: 1} }
	for name, tc := range map[string]struct {
		do   func(tx *Tx)
		want netip.Addr
	}{
		"nothing":             {func(*Tx) {}, addr("10.0.0.9")},
		"an address above":    {func(tx *Tx) { tx.Delete(owner("10.0.0.12")) }, addr("10.0.0.9")},
		"an address below":    {func(tx *Tx) { tx.Delete(owner("10.0.0.3")) }, addr("10.0.0.3")},
		"two addresses below": {func(tx *Tx) { tx.Delete(owner("10.0.0.3")); tx.Delete(owner("10.0.0.4")) }, addr("10.0.0.3")},
		"the network":         {func(tx *Tx) { tx.Put(&Network{ID: 1}) }, netip.Addr{}},
		"another network":     {func(tx *Tx) { tx.Put(&Network{ID: 2}) }, addr("10.0.0.9")},
		"a head":              {func(tx *Tx) { tx.Put(&Head{ID: 3}) }, netip.Addr{}},
		"the cluster":         {func(tx *Tx) { tx.Put(&Cluster{}) }, netip.Addr{}},
	} {
		tx := Empty().Begin()
		for _, a := range []string{"10.0.0.3", "10.0.0.4", "10.0.0.12"} {
			tx.Put(owner(a))
		}
		tx.SetTaken(1, addr("10.0.0.9"))
		inv := tx.Commit(1)
		aborted := inv.Begin()
		aborted.SetTaken(1, addr("10.0.0.99"))
		aborted.Abort()
		if fork := inv.Fork(); fork.Taken(1).IsValid() {
			t.Errorf("%s: a fork, which may be of a newer state, knows %s", name, fork.Taken(1))
		}
		tx = inv.Begin()
		tc.do(tx)
		if got := tx.Commit(2).Begin().Taken(1); got != tc.want {
			t.Errorf("%s: up to %v is said to be taken, want %v", name, got, tc.want)
		}
	}
}
