package fsm_test

import (
	"encoding/json"
	"io"
	"os"
	"strings"
	"testing"

	"github.com/hashicorp/raft"

	"github.com/clustervision/luna/fsm"
	"github.com/clustervision/luna/inventory"
)

// FuzzCommands gives the machine any body of any command that can be decoded. A
// panic there would stop every head of a site at once, and again at each start.
func FuzzCommands(f *testing.F) {
	seed := func(c inventory.Command) {
		body, err := json.Marshal(c)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(inventory.Verb(c), body)
	}
	for _, c := range conformance {
		for _, command := range c.do {
			seed(command)
		}
	}
	snapshot := sample(f)
	d := inventory.DocumentOf(begin(f, snapshot).View())
	seed(inventory.ApplyDocument{Document: d, Prune: true})
	d.Nodes, d.Networks = map[string]inventory.NodeDoc{"node001": d.Nodes["node001"]}, map[string]inventory.NetworkDoc{"ipmi": d.Networks["ipmi"]}
	seed(inventory.ApplyDocument{Document: d})
	for i := range 20 {
		seed(inventory.UndoChange{Entry: uint64(i)})
	}
	f.Fuzz(func(t *testing.T, verb string, body []byte) {
		line, err := json.Marshal(map[string]any{"v": inventory.FormatVersion, "at": epoch, "type": verb, "command": json.RawMessage(body)})
		if err != nil {
			t.Skip()
		}
		if _, err := inventory.Decode(line); err != nil {
			t.Skip()
		}
		s := begin(t, snapshot)
		r := s.Apply(&raft.Log{Index: s.index + 1, Data: line}).(inventory.Result)
		if err := consistent(s.View()); err != nil {
			t.Fatalf("%s %s: %v", verb, body, err)
		}
		if err := fsm.Check(s.View()); err != nil {
			t.Fatalf("%s %s: Check: %v", verb, body, err)
		}
		if c, _ := s.View().Cluster(); c.Deleted {
			return
		}
		again := s.do(inventory.ApplyDocument{Document: inventory.DocumentOf(s.View()), Prune: true})
		if again.Error != nil && !headsAbout(again.Error) || again.Entry != 0 {
			t.Fatalf("%s %s: %v: its own document is refused or changes it: %v %s", verb, body, r.Error, again.Error, s.changed(again.Entry))
		}
	})
}

// sample is the newest sample of a snapshot.
func sample(f *testing.F) string {
	f.Helper()
	raw, err := os.ReadFile("testdata/v2.snap")
	if err != nil {
		f.Fatal(err)
	}
	return string(raw)
}

func begin(tb testing.TB, snapshot string) *site {
	tb.Helper()
	m := fsm.New()
	if err := m.Restore(io.NopCloser(strings.NewReader(snapshot))); err != nil {
		tb.Fatal(err)
	}
	return &site{Machine: m, index: m.View().Index}
}
