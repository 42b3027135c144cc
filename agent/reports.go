package agent

import (
	"context"
	"maps"
	"sync"
	"time"

	"github.com/clustervision/luna/api"
	"github.com/clustervision/luna/boot"
	"github.com/clustervision/luna/inventory"
)

// reports gathers what nodes say. Stages go through Raft in batches, so that a
// thousand nodes that boot together are a few commands; percentages stay here
// in memory and are asked for when someone looks.
type reports struct {
	mu      sync.Mutex
	wake    chan struct{}
	stages  map[string]inventory.NodeStatus // by node, not yet in the inventory
	percent map[string]percent
}

type percent struct {
	value float64
	at    time.Time
}

func newReports() *reports {
	return &reports{wake: make(chan struct{}, 1), stages: map[string]inventory.NodeStatus{}, percent: map[string]percent{}}
}

// sameReport is for how long a report that says what the last one did says nothing: a
// machine may fail at once, again and again, or send it for fun.
const sameReport = 5 * time.Second

// report takes what a node said; it never waits.
func (m *member) report(n *inventory.Node, r boot.Report) {
	now := time.Now().UTC()
	s, known := m.machine.View().Status(n.ID)
	if known && s.Stage == r.Stage && s.Failed == r.Failed && s.Version == r.Version && r.Stage == boot.StageDownload && !r.Failed {
		m.reports.note(n.Name, r.Percent, now)
		return
	}
	if known && s.Stage == r.Stage && s.Failed == r.Failed && s.Version == r.Version && s.Run == r.Run && s.Message == r.Message && now.Sub(s.Time).Abs() < sameReport {
		return
	}
	m.log.Info("node reports", "node", n.Name, "stage", r.Stage, "failed", r.Failed, "message", r.Message)
	m.reports.add(inventory.NodeStatus{Name: n.Name, Status: inventory.Status{
		Stage: r.Stage, Time: now, Head: m.cfg.Name, Version: r.Version, Failed: r.Failed, Message: r.Message, Run: r.Run, Number: r.Number,
	}}, r.Percent)
}

func (r *reports) note(node string, p float64, at time.Time) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.percent[node] = percent{p, at}
}

func (r *reports) add(s inventory.NodeStatus, p float64) {
	r.mu.Lock()
	defer r.mu.Unlock()
	// The percentage of a download that is over stays until its time has run out: it
	// is shown as long as the inventory has not heard of the next stage.
	if s.Stage == boot.StageDownload {
		r.percent[s.Name] = percent{p, s.Time}
	}
	if s.Before(r.stages[s.Name].Status) {
		return
	}
	r.stages[s.Name] = s
	select {
	case r.wake <- struct{}{}:
	default: // a batch is due already
	}
}

// progress gives the downloads of which a node spoke in the last half minute.
func (r *reports) progress() map[string]api.Progress {
	r.mu.Lock()
	defer r.mu.Unlock()
	out := map[string]api.Progress{}
	for node, p := range r.percent {
		age := time.Since(p.at)
		if age > 30*time.Second {
			delete(r.percent, node)
			continue
		}
		out[node] = api.Progress{Percent: p.value, Age: age.Seconds()}
	}
	return out
}

// take empties the batch.
func (r *reports) take() map[string]inventory.NodeStatus {
	r.mu.Lock()
	defer r.mu.Unlock()
	batch := r.stages
	r.stages = map[string]inventory.NodeStatus{}
	return batch
}

// giveBack keeps a batch that could not be stored, but for what is newer.
func (r *reports) giveBack(batch map[string]inventory.NodeStatus) {
	r.mu.Lock()
	defer r.mu.Unlock()
	maps.Copy(batch, r.stages)
	r.stages = batch
}

// sendReports puts the stages into the inventory, a batch at a time.
func (m *member) sendReports(ctx context.Context) error {
	const gather, retry = 100 * time.Millisecond, time.Second
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-m.reports.wake:
		}
		if !pause(ctx, gather) {
			return nil
		}
		batch := m.reports.take()
		for len(batch) > 0 {
			c := inventory.RecordStatus{}
			for _, s := range batch {
				// What the head saw itself before it slept is long over. The installer's
				// own word bears a number, and finds its place.
				if s.Run != "" || !s.Time.Before(m.pulse.awakeSince()) {
					c.Statuses = append(c.Statuses, s)
				}
			}
			if _, err := m.propose(ctx, m.byItself(), c); err == nil {
				break
			} else if ctx.Err() == nil {
				m.log.Warn("what nodes reported is not stored yet", "nodes", len(batch), "err", err)
			}
			m.reports.giveBack(batch)
			if !pause(ctx, retry) {
				return nil
			}
			batch = m.reports.take()
		}
	}
}

// pause waits, and tells whether ctx goes on.
func pause(ctx context.Context, d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-t.C:
		return true
	}
}
