package inventory

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
)

// grouped is an inventory of two groups and some tags.
func grouped() *Inventory {
	tx := Empty().Begin()
	compute, gpu, idle := tx.NewID(), tx.NewID(), tx.NewID()
	tx.Put(&Group{ID: compute, Name: "rack1"})
	tx.Put(&Group{ID: gpu, Name: "rack2"})
	tx.Put(&Group{ID: idle, Name: "idle"})
	for i, n := range []Node{
		{Name: "b2", Group: compute, Tags: []string{"new"}},
		{Name: "b1", Group: compute, Tags: []string{"gpu", "new"}},
		{Name: "b3", Group: compute},
		{Name: "a2", Group: gpu, Tags: []string{"gpu"}},
		{Name: "a1", Group: gpu},
	} {
		n.ID = ID(100 + i)
		tx.Put(&n)
	}
	return tx.Commit(1)
}

func TestSelectNodes(t *testing.T) {
	inv := grouped()
	for _, tc := range []struct{ list, want string }{
		{"b1", "b1"},
		{"x[3-1]", "!runs backwards"},
		{"nix[1-2],b1", "nix1 nix2 b1"},
		{"%rack1", "b1 b2 b3"},
		{"%rack[1-2]", "b1 b2 b3 a1 a2"},
		{"@gpu", "a2 b1"},
		{"@gpu,%rack1", "a2 b1 b2 b3"},
		{"b3,%rack1,b3", "b3 b1 b2"},
		{"%rack1,-b2", "b1 b3"},
		{"%rack1!b2", "b1 b3"},
		{"%rack1,!b2", "b1 b3"},
		{"%rack1,-b[1-2],nix", "b3 nix"},
		{"%rack1,-%rack2", "b1 b2 b3"},
		{"%rack1!@gpu!@new", "b3"},
		{"%rack1&@gpu", "b1"},
		{"%rack1&@new&@gpu,a1", "b1 a1"},
		{"a1,%rack1&@gpu", "b1"},      // from left to right
		{"%rack1,-b1,b1", "b2 b3 b1"}, // the last word counts
		{"b[1-3]&b[2-9]", "b2 b3"},
		{"b[1-3,7],-b[1,3]", "b2 b7"},
		{"b-1,c-", "b-1 c-"}, // a hyphen within a name is a hyphen
		{"%nix", "!Object 'nix' of type 'group' does not exist"},
		{"b1,-%nix", "!Object 'nix' of type 'group' does not exist"},
		{"@nix", "!no node has the tag 'nix'"},
		{"%idle", "!it leaves no node"},
		{"%idle,b1", "b1"},
		{"b1,-b1", "!it leaves no node"},
		{"%rack1&%rack2", "!it leaves no node"},
		{"-b1", "!nothing stands before the '!'"},
		{"!b1", "!nothing stands before the '!'"},
		{"&b1", "!missing"},
		{"", "!empty"},
		{"b1,", "!missing"},
		{"b1!", "!missing"},
		{"b1,-", "!missing"},
		{"b1!!b2", "!missing"},
		{"b1,&b2", "!missing"},
		{"b1!-b2", "!only after a comma"},
		{"b[1-2", "!not closed"},
		{"b[1!2]", "!no number"},
		{"b[1-2,-1]", "!no number"},
		{"%", "!names no group and no tag"},
		{"@", "!names no group and no tag"},
		{"%@new", "!names no group and no tag"},
		{"b%rack1", "!not within 'b%rack1'"},
		{"n[1-100001]", "!more than 100000"},
		{"n[1-60000],-m[1-60000]", "!more than 100000"},
		{"%" + strings.Repeat("x", 200), "!does not exist"},
	} {
		got, err := inv.SelectNodes(tc.list)
		checkSelection(t, tc.list, tc.want, got, err)
	}
	if _, err := inv.SelectNodes("b1,%nix"); !errors.Is(err, ErrNotFound) {
		t.Errorf("an unknown group: %v", err)
	}
	if _, err := inv.SelectNodes("@nix"); !errors.Is(err, ErrInvalid) {
		t.Errorf("a tag of nobody: %v", err)
	}
	if names, err := inv.SelectNodes("n[1-99999],b1"); err != nil || len(names) != MaxHostlist {
		t.Errorf("the largest selection: %d names, %v", len(names), err)
	}
}

// checkSelection compares with the names wanted, or the error after a '!'.
func checkSelection(t *testing.T, list, want string, got []string, err error) {
	t.Helper()
	if part, fails := strings.CutPrefix(want, "!"); fails {
		if err == nil || !strings.Contains(err.Error(), part) {
			t.Errorf("%s: got %v, %v, want an error with %q", list, got, err, part)
		}
		return
	}
	if err != nil || strings.Join(got, " ") != want {
		t.Errorf("%s: got %q, %v, want %s", list, got, err, want)
	}
}

func TestExpandNames(t *testing.T) {
	for _, tc := range []struct{ list, want string }{
		{"sw[1-3]", "sw1 sw2 sw3"},
		{"sw[1-3],-sw2", "sw1 sw3"},
		{"sw[1-3]!sw2", "sw1 sw3"},
		{"sw[1-3]&sw[2-9]", "sw2 sw3"},
		{"sw[01-02],x", "sw01 sw02 x"},
		{"%rack1", "!where nodes are named that exist"},
		{"sw1,@gpu", "!where nodes are named that exist"},
		{"sw1,-sw1", "!it leaves no switch"},
		{"-sw1", "!nothing stands before"},
		{"", "!empty"},
		{"sw[1-100001]", "!more than 100000"},
	} {
		got, err := ExpandNames("switch", tc.list)
		checkSelection(t, tc.list, tc.want, got, err)
		if err != nil && (!errors.Is(err, ErrInvalid) || AsError(err).Object != "switch") {
			t.Errorf("%s: %#v, want an invalid switch", tc.list, err)
		}
	}
}

// FuzzSelectNodes holds any selection against what is true of every one: no
// doubles, nothing left once all of it is taken away, and a plain hostlist
// means what it always meant.
func FuzzSelectNodes(f *testing.F) {
	inv := grouped()
	for _, seed := range []string{"%rack1,-b2", "@gpu&%rack[1-2]!a1", "b[1-3],!b[2,3],x", "%idle", "a,-", "[", "n[1-99999999]"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, list string) {
		names, err := inv.SelectNodes(list)
		if (err == nil) != (len(names) > 0) || len(names) > MaxHostlist {
			t.Fatalf("%q gives %d names and %v", list, len(names), err)
		}
		if err != nil {
			if !errors.Is(err, ErrInvalid) && !errors.Is(err, ErrNotFound) {
				t.Fatalf("%q: %#v is neither invalid nor not found", list, err)
			}
			return
		}
		if len(slices.Compact(slices.Sorted(slices.Values(names)))) != len(names) {
			t.Fatalf("%q gives doubles: %v", list, names)
		}
		if none, err := inv.SelectNodes(fmt.Sprintf("%s,-%s", list, strings.Join(names, ",-"))); err == nil && len(names) < 100 {
			t.Fatalf("%q without all of it leaves %v", list, none)
		}
		if hostlist, err := ExpandHostlist(list); err == nil && !strings.ContainsAny(list, "!&%@") && !strings.Contains(","+list, ",-") && !slices.Equal(hostlist, names) {
			t.Fatalf("%q is the hostlist %v, and selects %v", list, hostlist, names)
		}
	})
}
