package cli

import (
	"fmt"
	"io"
	"time"

	"github.com/clustervision/luna/api"
)

// progress shows how a long job goes on: as one line that changes on a terminal,
// as a few lines in a log.
type progress struct {
	w        io.Writer
	job      string // as "pack compute"
	terminal bool
	now      func() time.Time

	phase string    // of the last line
	tenth int64     // of the last line: how many tenths were done
	at    time.Time // of the last line
}

// logEvery is how often a log gets a line at most.
const logEvery = 5 * time.Second

func newProgress(w io.Writer, job string) *progress {
	return &progress{w: w, job: job, terminal: isTerminal(w), now: time.Now}
}

func (p *progress) show(e api.JobEvent) {
	if e.Done > 0 || e.Total > 0 {
		e.Message = "" // the file it is at: they pass too fast to read
	}
	line := fmt.Sprintf("%s: %s", p.job, e.Phase)
	switch {
	case e.Total > 0:
		line += fmt.Sprintf(" %d%% (%s of %s)", e.Done*100/e.Total, size(e.Done), size(e.Total))
	case e.Done > 0:
		line += fmt.Sprintf(" (%s)", size(e.Done))
	}
	if e.Message != "" {
		line += ": " + printable(e.Message)
	}
	switch {
	case e.Phase == api.JobDone && e.Message == "":
	case p.terminal && e.Message == "":
		fmt.Fprintf(p.w, "\r%s\x1b[K", line)
		p.phase = e.Phase
	case p.terminal:
		fmt.Fprintf(p.w, "\r%s\x1b[K\n", line)
		p.phase = ""
	case p.due(e):
		fmt.Fprintln(p.w, line)
	}
}

// due tells whether a log wants a line: for a new phase and for words at once,
// else when a tenth more is done, and not too often.
func (p *progress) due(e api.JobEvent) bool {
	tenth, now := int64(0), p.now()
	if e.Total > 0 {
		tenth = e.Done * 10 / e.Total
	}
	more := (tenth != p.tenth || e.Total == 0) && now.Sub(p.at) >= logEvery
	if e.Message == "" && e.Phase == p.phase && !more {
		return false
	}
	p.phase, p.tenth, p.at = e.Phase, tenth, now
	return true
}

// end leaves the line that changes.
func (p *progress) end() {
	if p.terminal && p.phase != "" {
		fmt.Fprintln(p.w)
	}
}
