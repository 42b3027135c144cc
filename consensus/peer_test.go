package consensus

import (
	"testing"
)

func TestThreeHeads(t *testing.T) {
	c := newCluster(t)
	heads := c.form(3)
	index := c.write("one")
	for _, h := range heads {
		h.has(index, "one")
	}
	heads[0].kill()
	index = c.write("two")
	for _, h := range heads[1:] {
		h.has(index, "one", "two")
	}
	for _, h := range heads {
		t.Logf("%s: %q", h.name, h.log.loud(""))
	}
}
