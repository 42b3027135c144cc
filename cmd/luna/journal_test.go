package main

import (
	"bytes"
	"errors"
	"io"
	"log/slog"
	"testing"
)

func TestJournal(t *testing.T) {
	var out bytes.Buffer
	lines := func(w io.Writer, o *slog.HandlerOptions) slog.Handler { return slog.NewTextHandler(w, o) }
	log := slog.New(journaled(&out, lines, slog.LevelDebug))
	log.Debug("a", "n", 1)
	log.With("head", "h1").Info("b")
	log.WithGroup("g").Warn("c", "time", "noon")
	log.Error("d", "err", errors.New("no"))
	const want = "<7>level=DEBUG msg=a n=1\n<6>level=INFO msg=b head=h1\n<4>level=WARN msg=c g.time=noon\n<3>level=ERROR msg=d err=no\n"
	if out.String() != want {
		t.Errorf("got\n%swant\n%s", out.String(), want)
	}
}
