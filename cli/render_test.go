package cli

import (
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/clustervision/luna/api"
)

func TestTable(t *testing.T) {
	unset := (*string)(nil)
	for _, tc := range []struct {
		name string
		t    table
		want string
	}{
		{"empty", table{header: []string{"Name"}}, `
+---------+
| Name    |
+---------+
+---------+
`},
		{"lines, unset and empty", table{header: []string{"Name", "Value"}, rows: [][]any{{"a", nil}, {nil, ""}, {unset, unset}, {true, "x\nyy\n"}}}, `
+---------+----------+
| Name    | Value    |
+---------+----------+
| a       | -        |
| None    |          |
| None    | -        |
| yes     | x        |
|         | yy       |
|         |          |
+---------+----------+
`},
		{"not ASCII", table{header: []string{"Name"}, rows: [][]any{{"größer"}, {"計算"}, {"e\u0301te\u0301"}}}, `
+-----------+
| Name      |
+-----------+
| größer    |
| 計算      |
| ` + "e\u0301te\u0301" + `       |
+-----------+
`},
		{"control characters", table{header: []string{"Name"}, rows: [][]any{{"a\x1b[2Jb"}, {"c\r"}, {"\td"}}}, `
+-----------+
| Name      |
+-----------+
| a` + "\uFFFD" + `[2Jb    |
| c` + "\uFFFD" + `        |
| ` + "\t" + `d        |
+-----------+
`},
	} {
		var b strings.Builder
		if err := tc.t.write(&b); err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(strings.TrimPrefix(tc.want, "\n"), b.String()); diff != "" {
			t.Errorf("%s (-want +got):\n%s", tc.name, diff)
		}
	}
}

func TestOneLineCellsOfMixedGroups(t *testing.T) {
	nodes := []api.Node{
		{Name: "a", Group: "g", Interfaces: map[string]api.Addresses{"BMC": {V4: "10.31.0.9"}, "BOOTIF": {V4: "10.30.0.9"}, "ib0": {}}},
		{Name: "b", Group: "g", Interfaces: map[string]api.Addresses{"BMC": {V4: "10.31.0.10"}, "BOOTIF": {V4: "10.30.0.10", V6: "fd00::a"}}},
		{Name: "c", Group: "h", Interfaces: map[string]api.Addresses{}},
	}
	var b strings.Builder
	if err := nodesTable(nodes, true).write(&b); err != nil {
		t.Fatal(err)
	}
	want := `
+---------+----------+---------+-----------------+----------------------------+---------+
| Name    | Group    | MAC     | IPs                                                    |
+---------+----------+---------+-----------------+----------------------------+---------+
| a       | [g]      | None    | BMC: 10.31.0.9  | BOOTIF: 10.30.0.9          | ib0:    |
| b       | [g]      | None    | BMC: 10.31.0.10 | BOOTIF: 10.30.0.10 fd00::a           |
| c       | [h]      | None    |                                                        |
+---------+----------+---------+-----------------+----------------------------+---------+
`
	if diff := cmp.Diff(want[1:], b.String()); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

func TestStatusCell(t *testing.T) {
	now := created
	for _, tc := range []struct {
		status api.Status
		want   string
	}{
		{api.Status{Stage: "install.success", Time: now.Add(-70 * time.Second)}, "install.success - 0:01:10"},
		{api.Status{Stage: "install.download", Percent: 66.6666, Age: 3.4, Time: now.Add(-time.Hour)}, "install.download (66.67% / last update 3sec) - 1:00:00"},
		{api.Status{Stage: "boot.request", Time: now.Add(-73 * time.Hour)}, "boot.request - 3 days, 1:00:00"},
		{api.Status{Stage: "boot.request", Time: now.Add(-25 * time.Hour)}, "boot.request - 1 day, 1:00:00"},
		{api.Status{Stage: "boot.request", Time: now.Add(time.Hour)}, "boot.request - 0:00:00"},
		{api.Status{Stage: "install.partscript", Failed: true, Message: "mount: no such device\n", Time: now}, "install.partscript (failed, tried again) - 0:00:00\nmount: no such device"},
	} {
		if got := statusCell(&tc.status, now); got != tc.want {
			t.Errorf("got %q, want %q", got, tc.want)
		}
	}
}

func TestProgressInALog(t *testing.T) {
	var b strings.Builder
	now := created
	p := &progress{w: &b, job: "pack compute", now: func() time.Time { return now }}
	for percent := range int64(101) {
		p.show(api.JobEvent{Phase: "tree", Done: percent << 20, Total: 100 << 20, Message: "/a/file"})
		now = now.Add(300 * time.Millisecond)
	}
	p.show(api.JobEvent{Phase: "initrd", Message: "dracut"})
	p.show(api.JobEvent{Phase: "describe", Done: 5 << 20})
	for range 20 {
		now = now.Add(time.Second)
		p.show(api.JobEvent{Phase: "describe", Done: 6 << 20})
	}
	p.show(api.JobEvent{Phase: "done", Version: "v"})
	p.end()
	want := `pack compute: tree 0% (0 B of 100 MiB)
pack compute: tree 17% (17 MiB of 100 MiB)
pack compute: tree 34% (34 MiB of 100 MiB)
pack compute: tree 51% (51 MiB of 100 MiB)
pack compute: tree 68% (68 MiB of 100 MiB)
pack compute: tree 85% (85 MiB of 100 MiB)
pack compute: initrd: dracut
pack compute: describe (5.0 MiB)
pack compute: describe (6.0 MiB)
pack compute: describe (6.0 MiB)
pack compute: describe (6.0 MiB)
pack compute: describe (6.0 MiB)
`
	if diff := cmp.Diff(want, b.String()); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

func TestProgressOnATerminal(t *testing.T) {
	var b strings.Builder
	p := &progress{w: &b, job: "pack compute", terminal: true, now: time.Now}
	p.show(api.JobEvent{Phase: "tree", Done: 1, Total: 2, Message: "/a/file"})
	p.show(api.JobEvent{Phase: "tree", Done: 2, Total: 2})
	p.show(api.JobEvent{Phase: "initrd", Message: "dracut"})
	p.show(api.JobEvent{Phase: "publish"})
	p.show(api.JobEvent{Phase: "done"})
	p.end()
	want := "\rpack compute: tree 50% (1 B of 2 B)\x1b[K\rpack compute: tree 100% (2 B of 2 B)\x1b[K\rpack compute: initrd: dracut\x1b[K\n\rpack compute: publish\x1b[K\n"
	if diff := cmp.Diff(want, b.String()); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}
