package agent

import (
	"fmt"
	"strings"
	"time"
)

// stuck is how long a head that lives may go without looking at itself: a machine
// that swaps, or stands still, is not mended by a new agent.
const stuck = 20 * time.Second

// Alive tells whether the agent's own loop goes round.
func (a *Agent) Alive() bool {
	m, err := a.self()
	return err != nil || m.pulse.lookedWithin(stuck)
}

func (p *pulse) lookedWithin(d time.Duration) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.looked.IsZero() || time.Since(p.looked) < d
}

// Standing tells whether this head does what it is there for, and how it is, in a
// line. It serves when it knows what the others know; when it is cut off from them
// and goes by what it knew; and when it waits to be told whose head it is.
func (a *Agent) Standing() (serves bool, words string) {
	m, err := a.self()
	if err != nil {
		return true, "belongs to no cluster: waits for `luna cluster init` or `luna join`"
	}
	if err := m.outside(); err != nil {
		return true, err.Error()
	}
	s, disk := m.standing(), m.peer.DiskError()
	var is []string
	switch {
	case m.opening.Load() > 0:
		return false, "opens its services for nodes"
	case s.current:
		is = append(is, "knows all that the others know")
	case s.cutOff:
		is = append(is, "cut off: no head leads, and nothing can be changed")
	case disk == nil:
		return false, "catches up with the others"
	}
	if disk != nil { // which nobody shall wait for
		is = append(is, "takes no part in decisions, its disk cannot be written: "+disk.Error())
	}
	inv := m.machine.View()
	if self, ok := inv.Head(m.cfg.Name); ok {
		if self.Drained {
			is = append(is, "is drained")
		}
		if on := answersOn(inv, self); len(on) > 0 {
			is = append(is, "answers DHCP on "+strings.Join(on, ", "))
		}
	}
	if n := len(m.warn.list()); n > 0 {
		is = append(is, fmt.Sprintf("has %d warnings: luna head show %s", n, m.cfg.Name))
	}
	return true, strings.Join(is, "; ")
}
