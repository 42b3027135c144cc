package installer

import (
	"context"
	"crypto/rand"
	"log/slog"
	"sync"
	"time"

	"github.com/clustervision/luna/boot"
)

// reporter sends reports in their order, beside the installation, which never
// waits for a head. A report that has not gone out yet is replaced by a newer
// one of the same stage, and is given up for a newer one of any when no head
// listens: what counts is where the node is, not where it was.
type reporter struct {
	send  func(context.Context, boot.Report) error
	log   *slog.Logger
	pause time.Duration // between two walks over heads of which none listens

	name string // of this run, in each report

	mu      sync.Mutex
	told    int           // how many reports
	queue   []boot.Report // the first may be on its way
	changed chan struct{} // closed, and replaced, whenever queue changes
}

func newReporter(send func(context.Context, boot.Report) error, log *slog.Logger) *reporter {
	return &reporter{send: send, log: log, pause: time.Second, name: rand.Text(), changed: make(chan struct{})}
}

// tell queues a report and returns at once.
func (r *reporter) tell(rep boot.Report) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.told++
	rep.Run, rep.Number = r.name, r.told
	// The first is left alone, for it may be on its way.
	if n := len(r.queue); n > 1 && r.queue[n-1].Stage == rep.Stage {
		r.queue[n-1] = rep
	} else {
		r.queue = append(r.queue, rep)
	}
	r.notify()
}

func (r *reporter) notify() {
	close(r.changed)
	r.changed = make(chan struct{})
}

// run sends until ctx ends.
func (r *reporter) run(ctx context.Context) {
	silent := false // whether the last walk found nobody: said once, not every second
	for {
		rep, changed, ok := r.next()
		if !ok {
			select {
			case <-changed:
				continue
			case <-ctx.Done():
				return
			}
		}
		err := r.send(ctx, rep)
		if ctx.Err() != nil {
			return
		}
		if err != nil && !silent {
			r.log.Warn("no head takes the report, the installation goes on", "stage", rep.Stage, "error", err)
		}
		silent = err != nil
		r.sent(err == nil)
		if err == nil {
			continue
		}
		select {
		case <-time.After(r.pause):
		case <-ctx.Done():
			return
		}
	}
}

// next returns the report to send, or a channel that tells when there is one.
func (r *reporter) next() (boot.Report, <-chan struct{}, bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if len(r.queue) == 0 {
		return boot.Report{}, r.changed, false
	}
	return r.queue[0], nil, true
}

// sent takes the first report off the queue if it was delivered, or if there is
// a newer one.
func (r *reporter) sent(delivered bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if delivered || len(r.queue) > 1 {
		r.queue = r.queue[1:]
		r.notify()
	}
}

// flush waits until everything is sent or ctx ends.
func (r *reporter) flush(ctx context.Context) {
	for {
		r.mu.Lock()
		empty, changed := len(r.queue) == 0, r.changed
		r.mu.Unlock()
		if empty {
			return
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return
		}
	}
}
