package agent

import (
	"testing"
	"time"

	"github.com/clustervision/luna/boot"
	"github.com/clustervision/luna/inventory"
)

// Between a node's report that it unpacks and the inventory's knowing it, who asks
// is told of the download's end, and not that it stands at 0 again.
func TestPercentOutlivesTheDownload(t *testing.T) {
	at := func(stage string) inventory.NodeStatus {
		return inventory.NodeStatus{Name: "node001", Status: inventory.Status{Stage: stage, Time: time.Now()}}
	}
	r := newReports()
	r.add(at(boot.StageDownload), 0)
	r.note("node001", 98, time.Now())
	r.add(at(boot.StageUnpack), 0)
	if got := r.progress()["node001"].Percent; got != 98 {
		t.Errorf("%v percent after the download, want 98", got)
	}
	r.add(at(boot.StageDownload), 0)
	if got := r.progress()["node001"].Percent; got != 0 {
		t.Errorf("%v percent at the beginning of the next download, want 0", got)
	}
}
