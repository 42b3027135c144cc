package inventory

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"
)

func TestExpandHostlist(t *testing.T) {
	for _, tc := range []struct{ list, want string }{
		{"node001", "node001"},
		{"node[001-003,007]", "node001 node002 node003 node007"},
		{"a,b[01-02]", "a b01 b02"},
		{"n[9-11]", "n9 n10 n11"},
		{"n[09-11]", "n09 n10 n11"},
		{"n[8-010]", "n8 n9 n10"},
		{"n[099-101]", "n099 n100 n101"},
		{"r[1-2]n[1-2]", "r1n1 r1n2 r2n1 r2n2"},
		{"r[1,2]-x", "r1-x r2-x"},
		{"[1-2]", "1 2"},
		{"n[5]", "n5"},
		{"n[2,1,2],n1", "n2 n1"},
		{"n[99999999999999999999-100000000000000000000]", "n99999999999999999999 n100000000000000000000"},
	} {
		got, err := ExpandHostlist(tc.list)
		if err != nil || strings.Join(got, " ") != tc.want {
			t.Errorf("%s: got %q, %v, want %s", tc.list, got, err, tc.want)
		}
	}
}

func TestExpandHostlistRefuses(t *testing.T) {
	for _, tc := range []struct{ list, want string }{
		{"", "empty"},
		{"a,,b", "missing"},
		{"a,", "missing"},
		{"node[1-3", "character 5 is not closed"},
		{"node1-3]", "closes no bracket"},
		{"node[1-[2-3]]", "brackets within brackets"},
		{"node[]", "'' is no number"},
		{"node[a-b]", "'a-b' is no number"},
		{"node[-3]", "'-3' is no number"},
		{"node[1-2-3]", "'1-2-3' is no number"},
		{"node[+1]", "'+1' is no number"},
		{"node[3-1]", "runs backwards"},
		{"node[1-100001]", "more than 100000 names"},
		{"node[0-99999999999999999999]", "more than 100000 names"},
		{"n[1-60000],n[1-70000]", "more than 100000 names"},
		{"a[1-1000]b[1-1000]c[1-1000]", "more than 100000 names"},
	} {
		got, err := ExpandHostlist(tc.list)
		if err == nil || !strings.Contains(err.Error(), tc.want) || !strings.HasPrefix(err.Error(), "bad hostlist '") {
			t.Errorf("%q: got %d names, %v, want an error with %q", tc.list, len(got), err, tc.want)
		}
	}
	if names, err := ExpandHostlist("node[1-100000]"); err != nil || len(names) != MaxHostlist {
		t.Errorf("the largest hostlist: %d names, %v", len(names), err)
	}
}

func TestCompressHostlist(t *testing.T) {
	for _, tc := range []struct{ names, want string }{
		{"", ""},
		{"node001", "node001"},
		{"node003 node001 node002 node007", "node[001-003,007]"},
		{"n11 n9 n10", "n[9-11]"},
		{"n1 n2 n01 n02 n10", "n[1-2,01-02,10]"},
		{"login master", "login,master"},
		{"node2 node10 login1", "login1,node[2,10]"},
		{"r1n1 r1n2 r2n1 r2n2", "r[1-2]n[1-2]"},
		{"r1n1 r1n2 r2n1", "r1n[1-2],r2n1"},
		{"n1-ib n2-ib", "n[1-2]-ib"},
		{"a a a", "a"},
	} {
		if got := CompressHostlist(strings.Fields(tc.names)); got != tc.want {
			t.Errorf("%s: got %s, want %s", tc.names, got, tc.want)
		}
	}
}

func TestHostlistThereAndBack(t *testing.T) {
	name := rapid.OneOf(
		rapid.StringMatching(`[a-c]{1,2}[0-9]{1,3}`),
		rapid.StringMatching(`r[0-9]{1,2}n[0-9]{1,2}(-ib)?`),
		rapid.StringMatching(`[0-9][0-9a-b._-]{0,8}`),
		rapid.Custom(func(t *rapid.T) string { return fmt.Sprintf("node%03d", rapid.IntRange(1, 1200).Draw(t, "n")) }),
	)
	rapid.Check(t, func(t *rapid.T) {
		names := rapid.SliceOfN(name, 1, 60).Draw(t, "names")
		list := CompressHostlist(names)
		back, err := ExpandHostlist(list)
		if err != nil {
			t.Fatalf("%v gives %s: %v", names, list, err)
		}
		want := slices.Compact(slices.Sorted(slices.Values(names)))
		if got := slices.Sorted(slices.Values(back)); !slices.Equal(got, want) {
			t.Fatalf("%v gives %s, which is %v", want, list, got)
		}
		if again := CompressHostlist(rapid.Permutation(names).Draw(t, "shuffled")); again != list {
			t.Fatalf("the order of the names matters: %s and %s", list, again)
		}
	})
}

func TestExpandHostlistOfAnything(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		list := rapid.StringMatching(`[an0-9,\[\]-]{0,24}`).Draw(t, "list")
		names, err := ExpandHostlist(list)
		if (err == nil) != (len(names) > 0) || len(names) > MaxHostlist {
			t.Fatalf("%q gives %d names and %v", list, len(names), err)
		}
	})
}
