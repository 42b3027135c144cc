package consensus

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"log"
	"log/slog"
	"strings"
	"sync"
	"time"

	"github.com/hashicorp/go-hclog"
)

// quiet is how long a complaint that was made is not made again above debug
// level: raft alone would complain seven times a second about a head that is off.
const quiet = 10 * time.Minute

// limiter remembers what was said lately.
type limiter struct {
	mu   sync.Mutex
	last map[string]time.Time
}

// first reports whether key was not seen for the time of quiet.
func (l *limiter) first(key string) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	now := time.Now()
	if last, seen := l.last[key]; seen && now.Sub(last) < quiet {
		return false
	}
	if l.last == nil || len(l.last) >= 1024 { // someone may make up keys
		l.last = make(map[string]time.Time)
	}
	l.last[key] = now
	return true
}

// raftLog takes what raft logs. Raft's elections and replications are its own
// business and go to debug level, and this package tells what comes of them in
// its own words; errors are warnings, as raft goes on, each once in a while.
type raftLog struct {
	log    *slog.Logger
	limit  *limiter
	ending context.Context // when it is over, every error is expected
}

// newRaftLog makes the logger that raft wants out of one of slog. An intercepting
// logger with its own output switched off is hclog's way to say "call me".
func newRaftLog(ending context.Context, logger *slog.Logger, limit *limiter) hclog.Logger {
	l := hclog.NewInterceptLogger(&hclog.LoggerOptions{Name: "raft", Output: io.Discard, Level: hclog.Off})
	l.RegisterSink(raftLog{log: logger, limit: limit, ending: ending})
	return l
}

// Accept implements hclog.SinkAdapter.
func (r raftLog) Accept(_ string, level hclog.Level, msg string, args ...any) {
	to := slog.LevelDebug
	hungUp := msg == "failed to decode incoming command" // the other end died; others say so better
	if level >= hclog.Error && !hungUp && r.ending.Err() == nil && r.limit.first("raft "+msg+subject(args)) {
		to = slog.LevelWarn
	}
	if !r.log.Enabled(context.Background(), to) {
		return
	}
	for i, arg := range args {
		if f, ok := arg.(hclog.Format); ok && len(f) > 0 {
			args[i] = fmt.Sprintf(fmt.Sprint(f[0]), f[1:]...)
		}
	}
	r.log.Log(context.Background(), to, "raft", append([]any{"detail", msg}, args...)...)
}

// subject is about whom raft complains.
func subject(args []any) string {
	for i := 0; i+1 < len(args); i += 2 {
		switch args[i] {
		case "peer", "target", "id":
			return fmt.Sprint(" ", args[i+1])
		}
	}
	return ""
}

// gossipLog takes what memberlist logs, one line per write, with the level in
// brackets in front.
type gossipLog struct {
	log   *slog.Logger
	limit *limiter
}

func newGossipLog(logger *slog.Logger, limit *limiter) *log.Logger {
	return log.New(gossipLog{log: logger, limit: limit}, "", 0)
}

// routine is what memberlist warns of and what is normal: probing a head that is
// off, and contradicting what is told about this one's former life.
var routine = []string{"Failed UDP ping", "Failed fallback TCP ping", "Failed to send", "Refuting", "Push/Pull with"}

// Write never fails: a log that cannot be written must not stop gossip.
func (g gossipLog) Write(line []byte) (int, error) {
	text := string(bytes.TrimSpace(line))
	level, text, found := strings.Cut(text, "] ")
	if !found {
		level, text = "", level
	}
	text = strings.TrimPrefix(text, "memberlist: ")
	to := slog.LevelDebug
	switch level {
	case "[WARN", "[ERR", "[ERROR":
		to = slog.LevelWarn
	}
	for _, prefix := range routine {
		if strings.HasPrefix(text, prefix) {
			to = slog.LevelDebug
		}
	}
	// Three words tell one complaint from another and hold nothing that a stranger
	// can vary, like an address: garbage on the port makes one line.
	if to > slog.LevelDebug && !g.limit.first("gossip "+strings.Join(firstWords(text, 3), " ")) {
		to = slog.LevelDebug
	}
	g.log.Log(context.Background(), to, "gossip", "detail", text)
	return len(line), nil
}

func firstWords(text string, n int) []string {
	words := strings.Fields(text)
	return words[:min(n, len(words))]
}
