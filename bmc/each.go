package bmc

import (
	"cmp"
	"context"
	"iter"
	"sync"
	"sync/atomic"
	"time"
)

// DefaultParallel is how many BMCs [Each] talks to at a time if not told.
const DefaultParallel = 128

// Options of [Each]; the zero value is good.
type Options struct {
	// Parallel is how many BMCs are talked to at a time, each by one socket.
	// Default: [DefaultParallel].
	Parallel int
	// Timeout is how long each BMC may take, from when its turn has come.
	// Default: [DefaultTimeout].
	Timeout time.Duration
}

// Outcome is what [Do] returned for one target.
type Outcome struct {
	Result
	// Err is nil if it was done.
	Err error
}

// Each does the same to many machines, a bounded number at a time, and yields
// every target's index and outcome as they come: once for each target, whatever
// happens. When ctx ends, what has not been done is yielded with an error at
// once. A caller who leaves the loop early leaves the rest undone.
func Each(ctx context.Context, targets []Target, op Op, o Options) iter.Seq2[int, Outcome] {
	parallel := min(cmp.Or(o.Parallel, DefaultParallel), len(targets))
	timeout := cmp.Or(o.Timeout, DefaultTimeout)
	type result struct {
		index int
		Outcome
	}
	return func(yield func(int, Outcome) bool) {
		ctx, cancel := context.WithCancel(ctx)
		var (
			workers sync.WaitGroup
			next    atomic.Int64
			results = make(chan result, len(targets)) // no worker ever waits for the caller
		)
		for range parallel {
			workers.Go(func() {
				for i := int(next.Add(1)) - 1; i < len(targets); i = int(next.Add(1)) - 1 {
					r := result{index: i}
					limited, done := context.WithTimeout(ctx, timeout)
					r.Result, r.Err = Do(limited, targets[i], op)
					done()
					results <- r
				}
			})
		}
		defer workers.Wait()
		defer cancel()
		for range targets {
			if r := <-results; !yield(r.index, r.Outcome) {
				return
			}
		}
	}
}
