package fsm_test

import (
	"bytes"
	"errors"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/hashicorp/raft"

	"github.com/clustervision/luna/fsm"
	"github.com/clustervision/luna/inventory"
)

// replay applies a log from its beginning.
func replay(log [][]byte) *site {
	s := &site{Machine: fsm.New(), log: log}
	for _, entry := range log {
		s.index++
		s.Apply(&raft.Log{Index: s.index, Data: entry})
	}
	return s
}

// firstLog is a log of the first release: random commands, some of them refused, some
// sent twice. The release itself made the
// snapshot v1-log.snap of it.
func firstLog(t *testing.T) [][]byte {
	t.Helper()
	raw, err := os.ReadFile("testdata/v1-log.jsonl")
	if err != nil {
		t.Fatal(err)
	}
	return bytes.Split(bytes.TrimSpace(raw), []byte("\n"))
}

// TestAnOldLogGivesWhatItGave holds that heads of this release and of the first
// one, in one mesh, have the same state to the byte. The files stay as they are.
func TestAnOldLogGivesWhatItGave(t *testing.T) {
	want, err := os.ReadFile("testdata/v1-log.snap")
	if err != nil {
		t.Fatal(err)
	}
	s := replay(firstLog(t))
	if diff := cmp.Diff(strings.Split(string(want), "\n"), strings.Split(dump(t, s.View()), "\n")); diff != "" {
		t.Errorf("the first release made another state of this log:\n%s", diff)
	}
	if s.View().Format() != 1 || !s.View().Clock().IsZero() {
		t.Errorf("it is of format %d, and its clock at %s", s.View().Format(), s.View().Clock())
	}
}

// TestAMeshGrowsIntoTheNewFormat goes on with the log of the first release in
// format 2, as a rolling upgrade does.
func TestAMeshGrowsIntoTheNewFormat(t *testing.T) {
	s := replay(firstLog(t))
	s.version, s.wall = 2, epoch.Add(time.Hour)
	refused := s.do(inventory.DeleteNodes{Names: []string{"nobody"}})
	if refused.Error == nil || s.View().Format() != 1 {
		t.Fatalf("a refused command made it format %d: %v", s.View().Format(), refused.Error)
	}
	node, _ := s.View().Node("node001")
	s.must(t, inventory.ChangeNodes{Names: []string{"node001"}, MAC: ptr(inventory.MAC("52:54:00:00:00:0a"))})
	if got := s.View(); got.Format() != 2 || !got.Clock().Equal(s.wall) {
		t.Errorf("it is of format %d, and its clock at %s", got.Format(), got.Clock())
	}
	if head, _, _ := strings.Cut(dump(t, s.View()), "\n"); !strings.Contains(head, `"v":2`) {
		t.Errorf("its snapshot begins with %s", head)
	}
	s.sound(t)
	s.wall = epoch.Add(1000 * time.Hour) // the clock has begun
	s.must(t, inventory.Advance{Elapsed: time.Minute}, inventory.DeleteNodes{Names: []string{"node001"}})
	if got := s.View().Clock(); !got.Equal(epoch.Add(time.Hour + time.Minute)) {
		t.Errorf("its clock is at %s", got)
	}
	s.version = 1 // from a head that has not heard of it
	s.must(t, inventory.UndoChange{Entry: s.do(inventory.AddNodes{Group: groupOf(s, node)}).Entry})
	s.sound(t)
	again := replay(s.log)
	if diff := cmp.Diff(dump(t, s.View()), dump(t, again.View())); diff != "" {
		t.Errorf("the same log gives another state:\n%s", diff)
	}
}

func groupOf(s *site, n *inventory.Node) string {
	g, _ := s.View().GroupByID(n.Group)
	return g.Name
}

// TestAnOldCommandGoesByTheRulesOfTheState sends one in the old format when the
// mesh has the new one already: what it takes away must be noted all the same.
func TestAnOldCommandGoesByTheRulesOfTheState(t *testing.T) {
	s := full(t)
	s.version = 1
	s.must(t, inventory.DeleteNodes{Names: []string{"node001"}})
	if _, retired := s.View().RetiredFrom(addr("10.30.0.1"), "52:54:00:00:00:02"); !retired {
		t.Error("the address that an old command freed is anybody's at once")
	}
	s.wall = epoch.Add(1000 * time.Hour)
	l, err := s.lease("52:54:00:00:00:07", time.Minute)
	if want := s.View().Clock().Add(time.Minute + inventory.MaxAdvance); err != nil || !l.Expires.Equal(want) {
		t.Errorf("a lease ends at %s, want %s: %v", l.Expires, want, err)
	}
}

func TestWhatTheOldFormatDoesNotKnow(t *testing.T) {
	witness := inventory.Head{Name: "h2", Address: addr("10.30.255.253"), Key: "k", Witness: true}
	for name, tc := range map[string]struct {
		command inventory.Command
		since   int
	}{
		"time":             {inventory.Advance{Elapsed: time.Second}, 2},
		"drain":            {inventory.ChangeHead{Name: "h1", Drained: ptr(true)}, 2},
		"adopt":            {inventory.AdoptCluster{Head: inventory.Head{Name: "h1", Address: addr("10.30.255.254")}}, 2},
		"a witness joins":  {inventory.AdmitHead{Invite: "i", Head: witness}, 2},
		"a head joins":     {inventory.AdmitHead{Invite: "i", Head: inventory.Head{Name: "h2"}}, 1},
		"a witness begins": {inventory.InitCluster{Head: witness}, 2},
		"polls":            {inventory.AssignDuties{Polls: map[string]string{"sw1": "h1"}}, 2},
		"no polls":         {inventory.AssignDuties{DHCP: map[string]string{"cluster": "h1"}}, 1},
		"a node":           {inventory.AddNodes{Group: "compute"}, 1},
	} {
		t.Run(name, func(t *testing.T) {
			for version := 1; version <= inventory.FormatVersion; version++ {
				b, err := inventory.Envelope{Version: version, Command: tc.command}.Encode()
				if version < tc.since {
					if !errors.Is(err, inventory.ErrUnavailable) || !strings.Contains(err.Error(), "upgrade luna on all heads first") {
						t.Errorf("in format %d: %v", version, err)
					}
					continue
				}
				e, err2 := inventory.Decode(b)
				if err != nil || err2 != nil || e.Version != version {
					t.Errorf("in format %d: %v, %v, it becomes %d", version, err, err2, e.Version)
				}
			}
		})
	}
	if _, err := inventory.Decode([]byte(`{"v":3,"type":"advance","command":{}}`)); err == nil || !strings.Contains(err.Error(), "upgrade luna on this head") {
		t.Errorf("a command of the future: %v", err)
	}
	if _, err := inventory.Read(strings.NewReader(`{"format":"luna-inventory","v":3,"index":1}`)); err == nil {
		t.Error("a snapshot of the future is read")
	}
}

// TestWhatHeadsAreTold are the verbs of format 2 about heads.
func TestWhatHeadsAreTold(t *testing.T) {
	s := everything(t)
	h2, _ := s.View().Head("h2")
	if !h2.Drained || h2.Weight != 3 {
		t.Errorf("h2 is %+v", h2)
	}
	s.must(t, inventory.UpdateHead{Name: "h2", Address: h2.Address, Version: "9"}, inventory.ChangeHead{Name: "h2", Weight: ptr(5)})
	if h, _ := s.View().Head("h2"); !h.Drained || h.Weight != 5 || h.Version != "9" {
		t.Errorf("h2 is %+v", h)
	}
	sw1, _ := s.View().Switch("sw1")
	if sw1.Duty != (inventory.Duty{Holder: h2.ID, Epoch: 1}) {
		t.Errorf("sw1 is polled by %+v", sw1.Duty)
	}
	r := s.do(inventory.ChangeSwitches{Names: []string{"sw1"}, Comment: ptr("x")})
	s.apply(t, inventory.DocumentOf(s.View()), true)
	s.must(t, inventory.UndoChange{Entry: r.Entry})
	if sw, _ := s.View().Switch("sw1"); sw.Duty != sw1.Duty {
		t.Errorf("changed and undone, sw1 is polled by %+v", sw.Duty)
	}
	if r := s.do(inventory.AssignDuties{Polls: map[string]string{"sw1": "h2", "gone": "h1"}}); r.Error != nil || r.Entry != 0 {
		t.Errorf("the same again: %+v", r)
	}
	if sw, _ := s.View().Switch("sw1"); sw.Duty != sw1.Duty {
		t.Errorf("the same again makes it %+v", sw.Duty)
	}
	s.must(t, inventory.RemoveHead{Name: "h2"})
	if sw, _ := s.View().Switch("sw1"); sw.Duty != (inventory.Duty{Epoch: 2}) {
		t.Errorf("without h2, sw1 is polled by %+v", sw.Duty)
	}
	for _, c := range []inventory.Command{
		inventory.ChangeHead{Name: "h1", Weight: ptr(0)},
		inventory.ChangeHead{Name: "h1", Weight: ptr(101)},
		inventory.Advance{Elapsed: -1},
		inventory.Advance{Elapsed: inventory.MaxAdvance + 1},
		inventory.ChangeHead{Name: "h9"},
		inventory.AdoptCluster{Head: inventory.Head{Name: "h1"}},
	} {
		if r := s.do(c); r.Error == nil {
			t.Errorf("%s is done", shown(c))
		}
	}
	s.sound(t)
}

// TestAHeadGoesOnAlone is recover and restore.
func TestAHeadGoesOnAlone(t *testing.T) {
	for _, forget := range []bool{false, true} {
		s := everything(t)
		was, _ := s.View().Head("h1")
		cluster, _ := s.View().Cluster()
		document := inventory.DocumentOf(s.View())
		var h inventory.Head
		if err := s.do(inventory.AdoptCluster{Head: inventory.Head{Name: "h1", Key: "new", Address: addr("10.30.255.252")}, Forget: forget}).Into(&h); err != nil {
			t.Fatal(err)
		}
		s.sound(t)
		if is, _ := s.View().Head("h1"); is.ID != h.ID || is.Key != "new" || (h.ID == was.ID) == forget {
			t.Errorf("forget %t: the head is %+v, was %+v", forget, h, was)
		}
		if _, there := s.View().Head("h2"); there {
			t.Error("h2 is still there")
		}
		v, _ := s.View().Version("0000000000000001")
		if len(v.Holders) > 0 == forget || v.Ready == forget {
			t.Errorf("forget %t: the version is %+v", forget, v)
		}
		n, _ := s.View().Network("cluster")
		sw, _ := s.View().Switch("sw1")
		if n.Duty != (inventory.Duty{Epoch: 2}) || sw.Duty != (inventory.Duty{Epoch: 2}) {
			t.Errorf("the duties are %+v and %+v", n.Duty, sw.Duty)
		}
		if diff := documentDiff(document, inventory.DocumentOf(s.View())); diff != "" {
			t.Errorf("the document is another one:\n%s", diff)
		}
		s.must(t, inventory.DeleteCluster{Force: true}, inventory.SetUpCluster{Cluster: *cluster})
		for e := range s.View().Entries() {
			s.must(t, inventory.UndoChange{Entry: e.ID})
			break
		}
		if c, _ := s.View().Cluster(); c.Generation != cluster.Generation+1 {
			t.Errorf("the cluster was set up anew, and that undone: its generation is %d", c.Generation)
		}
	}
}
