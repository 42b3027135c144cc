package fsm_test

import (
	"testing"

	"github.com/clustervision/luna/inventory"
)

// TestStatusTakesItsPlace: heads store what a node said at their own pace, and one
// that slept may do so when the node is done.
func TestStatusTakesItsPlace(t *testing.T) {
	type word struct {
		stage, run string
		number     int
	}
	done := word{"install.success", "first", 9}
	for name, test := range map[string]struct {
		format      int
		said        []word
		want        string
		wantsNumber int
	}{
		"in order":                   {2, []word{{"install.unpack", "first", 5}, done}, "install.success", 9},
		"told late":                  {2, []word{done, {"install.unpack", "first", 5}}, "install.success", 9},
		"told twice":                 {2, []word{done, done}, "install.success", 9},
		"installed anew":             {2, []word{done, {"install.prescript", "second", 1}}, "install.prescript", 1},
		"seen by a head itself":      {2, []word{done, {"boot.request", "", 0}}, "boot.request", 0},
		"in a mesh of the first one": {1, []word{done, {"install.unpack", "first", 5}}, "install.unpack", 0},
	} {
		t.Run(name, func(t *testing.T) {
			s := replay(firstLog(t))
			s.version, s.wall = test.format, epoch
			for _, w := range test.said {
				s.must(t, inventory.RecordStatus{Statuses: []inventory.NodeStatus{{Name: "node001", Status: inventory.Status{
					Stage: w.stage, Time: epoch, Head: "h1", Run: w.run, Number: w.number,
				}}}})
			}
			n, _ := s.View().Node("node001")
			got, _ := s.View().Status(n.ID)
			if got.Stage != test.want || got.Number != test.wantsNumber {
				t.Errorf("the node is at %s, word %d", got.Stage, got.Number)
			}
		})
	}
}
