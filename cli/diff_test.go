package cli

import (
	"encoding/json"
	"fmt"
	"io"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/clustervision/luna/api"
)

// change reads both sides of a change as they come over the wire.
func change(t testing.TB, object, name, before, after string) api.Change {
	t.Helper()
	c := api.Change{Object: object, Name: name}
	for side, v := range map[string]*any{before: &c.Before, after: &c.After} {
		if side != "" {
			if err := json.Unmarshal([]byte(side), v); err != nil {
				t.Fatal(err)
			}
		}
	}
	return c
}

func renamed(c api.Change, was string) api.Change {
	c.Was = was
	return c
}

func TestPrintChanges(t *testing.T) {
	each := func(n int, of func(i int) api.Change) []api.Change {
		list := make([]api.Change, n)
		for i := range list {
			list[i] = of(i + 1)
		}
		return list
	}
	for _, tc := range []struct {
		name    string
		changes []api.Change
		want    string
	}{
		{"many the same, some not", each(30, func(i int) api.Change {
			return change(t, "node", fmt.Sprintf("node%d", i),
				fmt.Sprintf(`{"group":"g%d","service":false,"interfaces":{"BOOTIF":{"4":"10.30.0.%d"}}}`, i%2, i),
				fmt.Sprintf(`{"group":"h","service":false,"interfaces":{"BOOTIF":{"4":"10.31.0.%d"}}}`, i))
		}), `
node node[1,3,5,7,9,11,13,15,17,19,21,23,25,27,29]
    group: g1 -> h
    interfaces.BOOTIF.4:
        node1: 10.30.0.1 -> 10.31.0.1
        node3: 10.30.0.3 -> 10.31.0.3
        node5: 10.30.0.5 -> 10.31.0.5
        node7: 10.30.0.7 -> 10.31.0.7
        node9: 10.30.0.9 -> 10.31.0.9
        node11: 10.30.0.11 -> 10.31.0.11
        node13: 10.30.0.13 -> 10.31.0.13
        node15: 10.30.0.15 -> 10.31.0.15
        node17: 10.30.0.17 -> 10.31.0.17
        node19: 10.30.0.19 -> 10.31.0.19
        ... 5 more
node node[2,4,6,8,10,12,14,16,18,20,22,24,26,28,30]
    group: g0 -> h
    interfaces.BOOTIF.4:
        node2: 10.30.0.2 -> 10.31.0.2
        node4: 10.30.0.4 -> 10.31.0.4
        node6: 10.30.0.6 -> 10.31.0.6
        node8: 10.30.0.8 -> 10.31.0.8
        node10: 10.30.0.10 -> 10.31.0.10
        node12: 10.30.0.12 -> 10.31.0.12
        node14: 10.30.0.14 -> 10.31.0.14
        node16: 10.30.0.16 -> 10.31.0.16
        node18: 10.30.0.18 -> 10.31.0.18
        node20: 10.30.0.20 -> 10.31.0.20
        ... 5 more
`},
		{"ranges in two pieces, across an octet", each(6, func(i int) api.Change {
			return change(t, "node", fmt.Sprintf("n%d", i+7),
				fmt.Sprintf(`{"interfaces":{"ib0":{"6":"fd00::%x"}}}`, i+13),
				fmt.Sprintf(`{"interfaces":{"ib0":{"6":"fd00:1::%x"}}}`, i+13+16*(i/4)))
		}), `
node n[8-13]
    interfaces.ib0.6:
        n[8-10]: fd00::e-fd00::10 -> fd00:1::e-fd00:1::10
        n[11-13]: fd00::11-fd00::13 -> fd00:1::21-fd00:1::23
`},
		{"from and to nothing", each(3, func(i int) api.Change {
			return change(t, "node", fmt.Sprintf("n%d", i), `{"interfaces":{"BMC":{}},"comment":"","port":"1"}`,
				fmt.Sprintf(`{"interfaces":{"BMC":{"4":"10.31.0.%d"}},"comment":null,"port":null}`, i))
		}), `
node n[1-3]
    interfaces.BMC.4: - -> 10.31.0.1-10.31.0.3
    port: 1 -> -
    comment: '' -> -
`},
		{"comments of their own", each(3, func(i int) api.Change {
			return change(t, "node", fmt.Sprintf("n%d", i), `{"comment":null}`, fmt.Sprintf(`{"comment":"in rack %d"}`, i%2))
		}), `
node n[1-3]
    comment:
        n1: - -> in rack 1
        n2: - -> in rack 0
        n3: - -> in rack 1
`},
		{"new ones with texts of their own", each(2, func(i int) api.Change {
			return change(t, "group", fmt.Sprintf("g%d", i), "", fmt.Sprintf(`{"prescript":"a\nb%d","comment":"a"}`, i))
		}), `
+ group g[1-2]
    prescript:
        g1: (2 lines)
        g2: (2 lines)
    comment: a
`},
		{"tags and other lists", append(each(2, func(i int) api.Change {
			return change(t, "node", fmt.Sprintf("n%d", i), fmt.Sprintf(`{"tags":["a%d","b"]}`, i), fmt.Sprintf(`{"tags":["a%d","c","d"]}`, i))
		}), renamed(change(t, "network", "x", `{"reservedips":[]}`, `{"reservedips":null}`), "w"), change(t, "network", "y", `{"reservedips":[]}`, `{"reservedips":["10.0.0.1"]}`)), `
node n[1-2]
    tags: -b +c +d
network x
    name: w -> x
network y
    reservedips: +10.0.0.1
`},
		{"new, changed and gone", []api.Change{
			change(t, "network", "a", "", `{"network":"10.0.0.0/24","dhcp_range":{"start":"10.0.0.5","end":"10.0.0.9"},"reservedips":[],"include":null}`),
			change(t, "network", "b", `{"dhcp_range":{"start":"10.0.0.5","end":"10.0.0.9"}}`, `{"dhcp_range":null}`),
			change(t, "network", "c", `{"network":"10.1.0.0/24"}`, ""),
			change(t, "cluster", "general", `{"nodedigits":3,"frontend_https":false}`, `{"nodedigits":4,"frontend_https":true}`),
			change(t, "head", "h2", "", `{"address":"10.0.0.2"}`),
			change(t, "otherdev", "pdu", `{"connected":{"a":"10.0.0.1"}}`, `{"connected":{"b":"10.1.0.1"}}`),
			change(t, "group", "g", `{"interfaces":{}}`, `{"interfaces":{"eth0":{},"eth1":{"4":"a","params":"x\ny\n"}}}`),
		}, `
+ network a
    network: 10.0.0.0/24
    dhcp_range: 10.0.0.5-10.0.0.9
network b
    dhcp_range: 10.0.0.5-10.0.0.9 -> -
- network c
cluster
    nodedigits: 3 -> 4
    frontend_https: no -> yes
+ head h2
    address: 10.0.0.2
otherdev pdu
    connected.a: 10.0.0.1 -> -
    connected.b: - -> 10.1.0.1
group g
    interfaces.eth0: - -> (nothing set)
    interfaces.eth1.4: - -> a
    interfaces.eth1.params:
        @@ -0,0 +1,2 @@
        +x
        +y
`},
		{"a text of many lines", []api.Change{
			change(t, "group", "g", `{"partscript":"1\n2\n3\n4\n5\n6\n7\n8\n9\n"}`, `{"partscript":"1\n2\n3\n4\nfive\n6\n7\n8\n9"}`),
			change(t, "group", "h", `{"partscript":"a\n"}`, `{"partscript":"a"}`),
			change(t, "group", "i", `{"comment":"a"}`, `{"comment":"a\u001b[31m"}`),
		}, `
group g
    partscript:
        @@ -2,7 +2,7 @@
         2
         3
         4
        -5
        +five
         6
         7
         8
group h
    partscript:
        @@ -1,1 +1,1 @@
        -a
        +a
        \ No newline at end of file
group i
    comment: a -> a` + "\uFFFD" + `[31m
`},
	} {
		var b strings.Builder
		if err := printChanges(&b, tc.changes, false); err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(tc.want[1:], b.String()); diff != "" {
			t.Errorf("%s (-want +got):\n%s", tc.name, diff)
		}
	}
}

func TestChangesInColour(t *testing.T) {
	var b strings.Builder
	err := printChanges(&b, []api.Change{
		change(t, "group", "a", "", `{"osimage":"i"}`), change(t, "group", "b", `{}`, ""),
		change(t, "group", "c", `{"comment":"a\nb"}`, `{"comment":"a\nc"}`),
	}, true)
	want := "\x1b[32m+ group a\x1b[0m\n    osimage: i\n\x1b[31m- group b\x1b[0m\n\x1b[1mgroup c\x1b[0m\n    comment:\n" +
		"        @@ -1,2 +1,2 @@\n         a\n\x1b[31m        -b\x1b[0m\n\x1b[32m        +c\x1b[0m\n"
	if diff := cmp.Diff(want, b.String()); diff != "" || err != nil {
		t.Errorf("%v (-want +got):\n%s", err, diff)
	}
}

// TestEveryObjectIsTold holds that no object of a difference is lost, and that
// nothing depends on the order of maps.
func TestEveryObjectIsTold(t *testing.T) {
	field := rapid.SampledFrom([]string{`null`, `""`, `"x"`, `"a\nb"`, `"10.0.0.1"`, `"10.0.0.2"`, `1`, `true`, `[]`, `["a"]`, `{}`, `{"4":"10.0.0.3"}`})
	doc := rapid.Custom(func(t *rapid.T) string {
		return fmt.Sprintf(`{"group":%s,"interfaces":{"a":%s},"comment":%s,"tags":%s}`, field.Draw(t, "group"), field.Draw(t, "a"), field.Draw(t, "comment"), field.Draw(t, "tags"))
	})
	side := rapid.OneOf(doc, rapid.Just(""))
	rapid.Check(t, func(rt *rapid.T) {
		n := rapid.IntRange(1, 12).Draw(rt, "n")
		changes := make([]api.Change, n)
		for i := range changes {
			before, after := side.Draw(rt, "before"), side.Draw(rt, "after")
			if before == "" && after == "" {
				before = "{}"
			}
			changes[i] = change(t, "node", fmt.Sprintf("node%02d", i), before, after)
		}
		var once, again strings.Builder
		if err := printChanges(&once, changes, false); err != nil {
			rt.Fatal(err)
		}
		if err := printChanges(&again, changes, false); err != nil || once.String() != again.String() {
			rt.Fatalf("%v\n%s\nthen\n%s", err, once.String(), again.String())
		}
		told := 0
		for _, b := range blocksOf(changes) {
			told += len(b.changes)
		}
		if told != n {
			rt.Fatalf("%d of %d objects:\n%s", told, n, once.String())
		}
	})
}

// BenchmarkPrintChanges moves 5,000 nodes to another group.
func BenchmarkPrintChanges(b *testing.B) {
	doc := `{"group":"%s","mac":"52:54:00:00:%02x:%02x","interfaces":{"BOOTIF":{"4":"%s.%d.%d"},"BMC":{"4":"10.40.%[5]d.%[6]d"}},"switch":null,"port":"%[6]d","localboot":false,"setupbmc":true,"service":false,"tags":["gpu"],"comment":null}`
	changes := make([]api.Change, 5000)
	for i := range changes {
		changes[i] = change(b, "node", fmt.Sprintf("node%04d", i),
			fmt.Sprintf(doc, "compute", i/256, i%256, "10.30", i/256, i%256), fmt.Sprintf(doc, "gpu", i/256, i%256, "10.31", i/256, i%256))
	}
	for b.Loop() {
		if err := printChanges(io.Discard, changes, false); err != nil {
			b.Fatal(err)
		}
	}
}
