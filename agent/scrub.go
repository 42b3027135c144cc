package agent

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"slices"
	"time"

	"golang.org/x/time/rate"

	"github.com/clustervision/luna/image"
)

const (
	// scrubEvery is how old the last look at an artifact may become.
	scrubEvery = 24 * time.Hour
	// scrubRate is in bytes per second: a tenth of a hard disk, and 1.7 TB in a day.
	scrubRate = 20 << 20
	// scrubRetry is when an artifact is tried again that could not be looked at, for a
	// reason that is not its own.
	scrubRetry = 10 * time.Minute
	// manyDownloads is how many nodes that download and report to this head keep it
	// from scrubbing: their bytes come from the same disk.
	manyDownloads = 4
)

// scrubber reads every artifact of a store about once a day, slowly and one at a
// time, and tells of those that are damaged.
//
// When each was read last is on disk only while the agent does not run: the file
// is written at an orderly end and removed at the start. So after a power cut, or
// a kill, nothing is known, and everything is read at once: these are the moments
// when files are damaged.
type scrubber struct {
	store  *image.Store
	path   string                      // of the file of times
	busy   func() bool                 // then reading waits
	damage func(sum string, err error) // told of each damaged artifact
	log    *slog.Logger
	limit  *rate.Limiter        // in bytes
	tick   time.Duration        // between looks at what is due, and whether it is still busy
	seen   map[string]time.Time // by hash: when it was last found good, or written
}

func newScrubber(store *image.Store, path string, log *slog.Logger) *scrubber {
	return &scrubber{
		store: store, path: path, log: log,
		busy: func() bool { return false }, damage: func(string, error) {},
		limit: rate.NewLimiter(scrubRate, scrubRate), tick: time.Second,
	}
}

// Run scrubs until ctx ends.
func (s *scrubber) Run(ctx context.Context) error {
	s.load()
	for ok := true; ok; ok = pause(ctx, s.tick) {
		sum := s.due(time.Now())
		if sum == "" {
			continue
		}
		err := s.store.Scrub(ctx, sum, s.pace)
		switch {
		case ctx.Err() != nil:
		case err == nil:
			s.seen[sum] = time.Now()
			s.log.Debug("an artifact is as it was", "file", sum)
		case image.IsDamage(err):
			delete(s.seen, sum) // with luck it is another file when it is seen next
			s.damage(sum, err)
		default:
			s.seen[sum] = time.Now().Add(scrubRetry - scrubEvery)
			s.log.Warn("an artifact cannot be looked at now", "file", sum, "err", err)
		}
	}
	s.save()
	return nil
}

// due gives the artifact that was not looked at for the longest time, if that is
// too long. One that appeared since the last call was just written, and read for
// its hash.
func (s *scrubber) due(now time.Time) string {
	all, err := s.store.List()
	if err != nil {
		s.log.Warn("cannot list the artifacts", "err", err)
		return ""
	}
	oldest := ""
	for _, sum := range all {
		if !s.store.Has(sum) {
			continue // known to be damaged, on a disk where it cannot be moved
		}
		at, known := s.seen[sum]
		if !known {
			s.seen[sum] = now
			continue
		}
		// A clock that was put back makes times of the future.
		if age := now.Sub(at); age >= 0 && age < scrubEvery {
			continue
		}
		if oldest == "" || at.Before(s.seen[oldest]) {
			oldest = sum
		}
	}
	for sum := range s.seen {
		if !slices.Contains(all, sum) {
			delete(s.seen, sum)
		}
	}
	return oldest
}

// pace waits until the disk has nothing better to do.
func (s *scrubber) pace(ctx context.Context, bytes int) error {
	for s.busy() {
		if !pause(ctx, s.tick) {
			return ctx.Err()
		}
	}
	return s.limit.WaitN(ctx, bytes)
}

// load begins with what was saved; what is there besides is due.
func (s *scrubber) load() {
	s.seen = map[string]time.Time{}
	if all, err := s.store.List(); err == nil {
		for _, sum := range all {
			s.seen[sum] = time.Time{}
		}
	}
	saved := map[string]time.Time{}
	text, err := os.ReadFile(s.path)
	if err == nil {
		err = errors.Join(json.Unmarshal(text, &saved), os.Remove(s.path))
	}
	if err != nil {
		if !errors.Is(err, fs.ErrNotExist) {
			s.log.Warn("when the artifacts were looked at is not known: all are read anew", "err", err)
		} else if len(s.seen) > 0 {
			s.log.Info("the last end was not an orderly one: all artifacts are read anew", "artifacts", len(s.seen))
		}
		return
	}
	for sum := range s.seen {
		s.seen[sum] = saved[sum]
	}
}

func (s *scrubber) save() {
	text, err := json.Marshal(s.seen)
	if err == nil {
		err = writeFile(s.path, text)
	}
	if err != nil {
		s.log.Warn("when the artifacts were looked at is not kept: all will be read anew", "err", fmt.Errorf("write %s: %w", s.path, err))
	}
}
