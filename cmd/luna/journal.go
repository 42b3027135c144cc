package main

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"log/slog"
	"sync"
)

// journaled gives each line the priority that the journal takes from its beginning
// (sd-daemon(3)), so that `journalctl -u luna -p warning` shows what matters, and
// leaves out the time: the journal has its own.
func journaled(out io.Writer, format func(io.Writer, *slog.HandlerOptions) slog.Handler, level slog.Leveler) slog.Handler {
	line := &bytes.Buffer{}
	return journalHandler{&sync.Mutex{}, out, line, format(line, &slog.HandlerOptions{
		Level: level,
		ReplaceAttr: func(groups []string, a slog.Attr) slog.Attr {
			if len(groups) == 0 && a.Key == slog.TimeKey {
				return slog.Attr{}
			}
			return a
		},
	})}
}

type journalHandler struct {
	mu   *sync.Mutex
	out  io.Writer
	line *bytes.Buffer // what the formatting handler writes
	slog.Handler
}

func (h journalHandler) Handle(ctx context.Context, r slog.Record) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.line.Reset()
	fmt.Fprintf(h.line, "<%d>", priority(r.Level))
	if err := h.Handler.Handle(ctx, r); err != nil {
		return err
	}
	_, err := h.out.Write(h.line.Bytes())
	return err
}

func (h journalHandler) WithAttrs(attrs []slog.Attr) slog.Handler {
	h.Handler = h.Handler.WithAttrs(attrs)
	return h
}

func (h journalHandler) WithGroup(name string) slog.Handler {
	h.Handler = h.Handler.WithGroup(name)
	return h
}

// priority is that of syslog (RFC 5424 §6.2.1).
func priority(l slog.Level) int {
	switch {
	case l >= slog.LevelError:
		return 3
	case l >= slog.LevelWarn:
		return 4
	case l >= slog.LevelInfo:
		return 6
	}
	return 7
}
