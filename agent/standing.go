package agent

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"github.com/clustervision/luna/boot/dhcp"
	"github.com/clustervision/luna/inventory"
)

const (
	// cutOff is how long a head hears of no leader before it takes itself to be cut
	// off from the others.
	cutOff = 2 * time.Second
	// holdsFor is how long a holder that hears of no leader goes on as such. The
	// others miss a head after nine tenths of a second at the earliest, and then make
	// another one the holder.
	holdsFor = 700 * time.Millisecond
	// A head looks at itself at each beat. One that was stopped and goes on, or that
	// gets no CPU, may have been replaced meanwhile: the first packet that it finds
	// in its socket must find it silent.
	beatTime = 50 * time.Millisecond
	late     = 500 * time.Millisecond
	// sureFor is how long a head believes that it is current before it asks again,
	// and doubtAfter how long it does so while it gets no answer: it may hear of the
	// leader and not get, or not be able to keep, what that sends.
	sureFor    = time.Second
	doubtAfter = 4 * time.Second
	// saveEvery is how often a head writes down that it was current.
	saveEvery = time.Minute
)

// standing is what decides whether a head answers DHCP on a network.
type standing struct {
	holds, holderLives bool          // as the state that this head has says
	heard              bool          // of the leader, just now
	cutOff             bool          // from the others
	awake              bool          // it runs, and did so without a pause
	current            bool          // its state is the newest
	unsure             time.Duration // since it knew that
}

// duty gives what may be answered. The holder is for quiet, not for safety: a
// node's address is computed, so two heads that both answer say the same. But a
// head that comes back from the dead may still take itself for the holder, and
// know leases and nodes as they were: until it has caught up it says nothing. A
// head that stays cut off, together with some nodes, boots those it knows, for as
// long as the others keep the addresses that it knows from everybody else.
func (s standing) duty() dhcp.Duty {
	switch {
	case !s.awake:
		return dhcp.Silent
	case s.cutOff && s.unsure < inventory.RetiredFor && (s.holds || !s.holderLives):
		return dhcp.KnownNodes
	case s.heard && s.current && s.holds:
		return dhcp.Everyone
	}
	return dhcp.Silent
}

// pulse is what a head knows of how well it knows.
type pulse struct {
	mu      sync.Mutex
	looked  time.Time // at itself
	woke    time.Time // from a pause, or when it started
	current bool
	sure    time.Time // when it knew last that it is current, or as if: see start
}

// start begins where the head left off: it was sure that long ago.
func (p *pulse) start(ago time.Duration) {
	p.mu.Lock()
	defer p.mu.Unlock()
	now := time.Now()
	p.looked, p.woke, p.sure = now, now, now.Add(-ago)
}

// look is a beat. away tells how long the head has heard of no leader.
func (p *pulse) look(away time.Duration) {
	p.mu.Lock()
	defer p.mu.Unlock()
	now := time.Now()
	if now.Sub(p.looked) > late {
		p.woke, p.current = now, false
	}
	if away > cutOff || now.Sub(p.sure) > doubtAfter {
		p.current = false
	}
	p.looked = now
}

// know notes that the head was current at a moment, and tells whether it did: not where
// the head slept since.
func (p *pulse) know(at time.Time) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if !at.After(p.woke) || time.Since(p.looked) > late {
		return false
	}
	p.current, p.sure = true, at
	return true
}

// awakeSince gives when the head started, or woke up last.
func (p *pulse) awakeSince() time.Time {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.woke
}

// standing tells how this head is, but for what it holds.
func (m *member) standing() standing {
	away := m.peer.LastContact()
	p := &m.pulse
	p.mu.Lock()
	defer p.mu.Unlock()
	return standing{
		heard: away < holdsFor, awake: time.Since(p.looked) <= late, current: p.current, unsure: time.Since(p.sure),
		cutOff: away > cutOff && time.Since(p.woke) > cutOff,
	}
}

// mayTell tells whether this head may say what machines boot: it runs, and knows what the
// others do, or is cut off from them, for no longer than they keep the addresses that
// it knows from everybody else.
func (m *member) mayTell() bool {
	s := m.standing()
	return s.awake && (s.current || s.cutOff && s.unsure < inventory.RetiredFor) && m.outside() == nil
}

// keepPulse looks after how well this head knows.
func (m *member) keepPulse(ctx context.Context) error {
	m.pulse.start(m.lastSure())
	var others sync.WaitGroup
	others.Go(func() { m.keepSure(ctx) })
	others.Go(func() { m.keepAsking(ctx) })
	defer others.Wait()
	for pause(ctx, beatTime) {
		m.pulse.look(m.peer.LastContact())
	}
	return nil
}

// keepSure asks the leader again and again whether this head has all there is.
func (m *member) keepSure(ctx context.Context) {
	var saved time.Time
	for pause(ctx, beatTime) {
		s := m.standing()
		if s.current && s.unsure < sureFor {
			continue
		}
		at := time.Now()
		if m.catchUp(ctx) != nil {
			continue
		}
		if m.pulse.know(at) && time.Since(saved) > saveEvery {
			saved = at
			m.saveSure(at)
		}
	}
}

// keepAsking says, once, that this head is outside of the cluster. Where it hears of no
// leader it asks the others whether it was removed: nobody tells it.
func (m *member) keepAsking(ctx context.Context) {
	for pause(ctx, cutOff) {
		if m.standing().cutOff {
			for h := range m.machine.View().Heads() {
				if h.Name != m.cfg.Name && m.live(h.Name) && m.removedBy(ctx, h) {
					m.removed.Store(true)
				}
			}
		}
		if err := m.outside(); err != nil {
			m.log.Error("this head is outside of its cluster", "err", err)
			return
		}
	}
}

// removedBy asks a head, and tells whether it is one of a mesh that can decide and
// that this one does not belong to.
func (m *member) removedBy(ctx context.Context, h *inventory.Head) bool {
	ctx, cancel := context.WithTimeout(ctx, askPatience+3*time.Second) // it asks all others, who may be silent
	defer cancel()
	asked, fresh := *m.clientOf(h), true
	asked.Stale = func(string) { fresh = false } // it may not know of this head yet
	heads, err := asked.Heads(ctx)
	led := false
	for _, other := range heads {
		if other.Name == m.cfg.Name {
			return false
		}
		led = led || other.Leader
	}
	return err == nil && led && fresh
}

// outside tells why this head does not belong to the cluster any more, if so.
func (m *member) outside() error {
	inv := m.machine.View()
	_, begun := inv.Cluster()
	_, listed := inv.Head(m.cfg.Name)
	if listed {
		m.known.Store(true) // not before: one that joins goes through states of when it was not there yet
	}
	if m.removed.Load() || begun && !listed && m.known.Load() && (m.id.Adopt == nil || m.begun.Load()) {
		return fmt.Errorf("head '%s' was removed from the cluster and serves nobody: `luna leave` on it makes it forget the cluster, and then it may join anew", m.cfg.Name)
	}
	return m.superseded()
}

// sureRecord is kept in DataDir, so that the time for which a head that is cut off
// answers does not begin anew with its agent.
type sureRecord struct {
	Current time.Time `json:"current"` // when the head was last, by its clock
	// The same by the time since the machine booted, which nobody sets, and the boot
	// for which that is true.
	BootID string        `json:"boot_id,omitempty"`
	Uptime time.Duration `json:"uptime,omitempty"`
}

func (m *member) surePath() string { return filepath.Join(m.cfg.DataDir, "current.json") }

func (m *member) saveSure(at time.Time) {
	r := sureRecord{Current: at.UTC()}
	if id, up, err := sinceBoot(); err == nil {
		r.BootID, r.Uptime = id, up-time.Since(at)
	}
	b, err := json.Marshal(r)
	if err == nil {
		err = writeFile(m.surePath(), b)
	}
	if err != nil {
		m.log.Debug("when this head was current is not written down", "err", err) // its disk complains loudly enough
	}
}

// lastSure gives how long ago this head was current, as far as is written down. Where that
// is in the future, the clock was set, and by how much says how little is known; where it
// cannot be read nothing is.
func (m *member) lastSure() time.Duration {
	b, err := os.ReadFile(m.surePath())
	if errors.Is(err, fs.ErrNotExist) {
		return 0 // it is new
	}
	var r sureRecord
	if err == nil {
		err = json.Unmarshal(b, &r)
	}
	if err != nil {
		m.log.Warn("when this head was current cannot be read: it answers no node until it is again", "err", err)
		return inventory.RetiredFor
	}
	if id, up, err := sinceBoot(); err == nil && id == r.BootID {
		return up - r.Uptime
	}
	return time.Since(r.Current).Abs() // after a reboot there is only the clock
}

// sinceBoot gives which boot of the machine this is, and how long ago that was, with the
// time for which it was suspended (proc(5), clock_gettime(2)).
func sinceBoot() (id string, uptime time.Duration, err error) {
	b, err := os.ReadFile("/proc/sys/kernel/random/boot_id")
	if err != nil {
		return "", 0, err
	}
	var t unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_BOOTTIME, &t); err != nil {
		return "", 0, err
	}
	return string(bytes.TrimSpace(b)), time.Duration(t.Nano()), nil
}
