package agent_test

import (
	"strings"
	"testing"
	"time"

	"github.com/clustervision/luna/agent/agenttest"
)

// TestStanding: what a service manager hears of a head that waits, one that knows
// what there is, and one that others have left.
func TestStanding(t *testing.T) {
	stands := func(h *agenttest.Head, want string) {
		t.Helper()
		agenttest.Eventually(t, 30*time.Second, h.Name+" "+want, func() bool {
			serves, words := h.Standing()
			return serves && strings.Contains(words, want) && h.Alive()
		})
	}
	stands(agenttest.Start(t, "nobody"), "belongs to no cluster")
	heads := agenttest.Mesh(t, 3)
	for _, h := range heads {
		stands(h, "knows all that the others know")
	}
	heads[0].Kill(t)
	heads[1].Kill(t)
	stands(heads[2], "cut off")
}
