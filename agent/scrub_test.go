package agent

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/time/rate"

	"github.com/clustervision/luna/image"
)

// scrubbed is a scrubber at work on a store of its own.
type scrubbed struct {
	*scrubber
	stop func()

	mu   sync.Mutex
	bad  map[string]error
	said bytes.Buffer
}

// Write takes the log.
func (r *scrubbed) Write(b []byte) (int, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.said.Write(b)
}

// good waits until an artifact was found good.
func (r *scrubbed) good(t *testing.T, sum string) {
	t.Helper()
	within(t, sum+" is found good", func() bool {
		r.mu.Lock()
		defer r.mu.Unlock()
		return strings.Contains(r.said.String(), sum)
	})
}

// damaged waits until an artifact was found damaged.
func (r *scrubbed) damaged(t *testing.T, sum string) {
	t.Helper()
	within(t, sum+" is found damaged", func() bool {
		r.mu.Lock()
		defer r.mu.Unlock()
		return r.bad[sum] != nil
	})
}

func startScrubber(t *testing.T, store *image.Store, dir string, busy func() bool) *scrubbed {
	t.Helper()
	r := &scrubbed{bad: map[string]error{}}
	log := slog.New(slog.NewTextHandler(r, &slog.HandlerOptions{Level: slog.LevelDebug}))
	r.scrubber = newScrubber(store, filepath.Join(dir, "scrubbed.json"), log)
	r.tick, r.limit = time.Millisecond, rate.NewLimiter(rate.Inf, 1<<20)
	if busy != nil {
		r.busy = busy
	}
	r.damage = func(sum string, err error) {
		_, _ = store.SetAside(sum)
		r.mu.Lock()
		defer r.mu.Unlock()
		r.bad[sum] = err
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- r.Run(ctx) }()
	r.stop = func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	}
	return r
}

// newStore makes a store with some artifacts of a few megabytes.
func newStore(t *testing.T, n int) (s *image.Store, sums []string) {
	t.Helper()
	s, err := image.Open(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	for i := range n {
		sums = append(sums, put(t, s, fmt.Sprintf("artifact %d", i)))
	}
	return s, sums
}

func put(t *testing.T, s *image.Store, text string) string {
	t.Helper()
	f, err := s.Create()
	if err == nil {
		_, err = f.Write(bytes.Repeat([]byte(text), 300_000))
	}
	if err != nil {
		t.Fatal(err)
	}
	sum, err := s.Commit(t.Context(), f)
	if err != nil {
		t.Fatal(err)
	}
	return sum
}

// spoil changes one byte of a file, in place.
func spoil(t *testing.T, path string) {
	t.Helper()
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	if err == nil {
		_, err = f.WriteAt([]byte{0}, 1<<20+1)
		err = errors.Join(err, f.Close())
	}
	if err != nil {
		t.Fatal(err)
	}
}

func within(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for deadline := time.Now().Add(20 * time.Second); !ok(); {
		if time.Now().After(deadline) {
			t.Fatalf("not within 20 s: %s", what)
		}
		time.Sleep(time.Millisecond)
	}
}

func TestScrubAfterAnUncleanEnd(t *testing.T) {
	store, sums := newStore(t, 3)
	dir := t.TempDir()
	spoil(t, store.Path(sums[1]))
	s := startScrubber(t, store, dir, nil)
	s.damaged(t, sums[1])
	s.good(t, sums[0])
	s.good(t, sums[2])
	if _, err := os.Stat(s.path); err == nil {
		t.Error("the file of times is there while the agent runs: a kill would look like an orderly end")
	}
	s.stop()
	if !errors.Is(s.bad[sums[1]], image.ErrMismatch) || len(s.bad) != 1 || store.Has(sums[1]) {
		t.Errorf("found %v", s.bad)
	}

	// After an orderly end only what that run had not seen is due.
	spoil(t, store.Path(sums[0]))
	late := put(t, store, "late")
	s = startScrubber(t, store, dir, nil)
	s.good(t, late)
	s.stop()
	if len(s.bad) != 0 || !store.Has(sums[0]) {
		t.Errorf("read after an orderly end: %v", s.bad)
	}
	// A kill leaves no file of times.
	if err := os.Remove(s.path); err != nil {
		t.Fatal(err)
	}
	s = startScrubber(t, store, dir, nil)
	s.damaged(t, sums[0])
	s.stop()
}

func TestScrubWaitsWhileTheDiskIsBusy(t *testing.T) {
	store, sums := newStore(t, 1)
	spoil(t, store.Path(sums[0]))
	var busy atomic.Bool
	busy.Store(true)
	asked := make(chan struct{}, 1000)
	s := startScrubber(t, store, t.TempDir(), func() bool {
		select {
		case asked <- struct{}{}:
		default:
		}
		return busy.Load()
	})
	for range 20 {
		<-asked
	}
	s.mu.Lock()
	if len(s.bad) != 0 {
		t.Error("it read while the disk was busy")
	}
	s.mu.Unlock()
	busy.Store(false)
	s.damaged(t, sums[0])
	s.stop()
}

func TestScrubDue(t *testing.T) {
	store, sums := newStore(t, 4)
	now := time.Now()
	s := newScrubber(store, "", slog.New(slog.DiscardHandler))
	for name, c := range map[string]struct {
		ages []time.Duration // of the artifacts; those that are missing were not seen yet
		want string
	}{
		"none":                      {[]time.Duration{time.Hour, 2 * time.Hour, 23 * time.Hour, 0}, ""},
		"the oldest":                {[]time.Duration{time.Hour, 25 * time.Hour, 26 * time.Hour, 0}, sums[2]},
		"new ones were just proven": {nil, ""},
		"a clock that was put back": {[]time.Duration{time.Hour, -time.Hour, 0, 0}, sums[1]},
		"to be tried again":         {[]time.Duration{scrubEvery - scrubRetry, 0, 0, 0}, ""},
	} {
		t.Run(name, func(t *testing.T) {
			s.seen = map[string]time.Time{"gone": now}
			for i, age := range c.ages {
				s.seen[sums[i]] = now.Add(-age)
			}
			if got := s.due(now); got != c.want {
				t.Errorf("got %s, want %s", got, c.want)
			}
			if _, ok := s.seen["gone"]; ok || len(s.seen) != len(sums) {
				t.Errorf("it remembers %v", s.seen)
			}
		})
	}
}

// TestScrubRate: 20 MB/s, whatever the disk could do.
func TestScrubRate(t *testing.T) {
	s := newScrubber(nil, "", slog.New(slog.DiscardHandler))
	if s.limit.Limit() != scrubRate || s.limit.Burst() > scrubRate {
		t.Errorf("%v, at once %d", s.limit.Limit(), s.limit.Burst())
	}
	if err := s.pace(t.Context(), 1<<20); err != nil {
		t.Error(err)
	}
}
