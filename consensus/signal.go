package consensus

import (
	"context"
	"fmt"
	"sync"
	"time"
)

// signal tells any number of waiters that something changed, not what: they look
// for themselves, so nothing is lost by changes that come close together.
type signal struct {
	mu sync.Mutex
	ch chan struct{}
}

// wait returns a channel that the next fire closes. Take it first, look second.
func (s *signal) wait() <-chan struct{} {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.ch == nil {
		s.ch = make(chan struct{})
	}
	return s.ch
}

func (s *signal) fire() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.ch != nil {
		close(s.ch)
		s.ch = nil
	}
}

// watermark is an index that only rises, and those who wait for it.
type watermark struct {
	mu      sync.Mutex
	index   uint64
	waiters map[chan struct{}]uint64
}

func (w *watermark) get() uint64 {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.index
}

func (w *watermark) raise(index uint64) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if index <= w.index {
		return
	}
	w.index = index
	for ch, wanted := range w.waiters {
		if wanted <= index {
			close(ch)
			delete(w.waiters, ch)
		}
	}
}

func (w *watermark) wait(ctx context.Context, index uint64, closed <-chan struct{}) error {
	w.mu.Lock()
	if index <= w.index {
		w.mu.Unlock()
		return nil
	}
	ch := make(chan struct{})
	if w.waiters == nil {
		w.waiters = make(map[chan struct{}]uint64)
	}
	w.waiters[ch] = index
	w.mu.Unlock()

	defer func() {
		w.mu.Lock()
		delete(w.waiters, ch)
		w.mu.Unlock()
	}()
	select {
	case <-ch:
		return nil
	case <-closed:
		return ErrClosed
	case <-ctx.Done():
		return fmt.Errorf("this head has applied %d entries and waits for the %dth: %w", w.get(), index, context.Cause(ctx))
	}
}

// flight counts what is under way and cannot be called back, so that the end can
// wait for it.
type flight struct {
	mu      sync.Mutex
	closing bool
	wg      sync.WaitGroup
}

// begin reports whether something new may begin. If so, it must end.
func (f *flight) begin() bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.closing {
		return false
	}
	f.wg.Add(1)
	return true
}

func (f *flight) end() { f.wg.Done() }

// drain lets nothing new begin, and waits for the rest, but not for ever.
func (f *flight) drain(limit time.Duration) {
	f.mu.Lock()
	f.closing = true
	f.mu.Unlock()
	done := make(chan struct{})
	go func() { // ends with the last one under way
		f.wg.Wait()
		close(done)
	}()
	select {
	case <-done:
	case <-time.After(limit):
	}
}
