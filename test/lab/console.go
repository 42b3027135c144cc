package lab

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"regexp"
	"strings"
	"sync"
	"time"
)

// console is what a machine has printed on its serial line: plain text, for matching, and a log
// in which each line carries the seconds since power-on.
type console struct {
	start time.Time
	log   io.Writer

	mu     sync.Mutex
	text   bytes.Buffer // without escape sequences and carriage returns
	next   int          // where the next waitFor begins
	line   bytes.Buffer // not yet in the log
	escape escape
	ended  bool
}

// look is how often waitFor looks. A serial line brings one byte at a time, at which to look would
// cost more than the machine.
const look = 100 * time.Millisecond

func newConsole(log io.Writer) *console { return &console{start: time.Now(), log: log} }

// Write takes what the machine prints.
func (c *console) Write(p []byte) (int, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, b := range p {
		if !c.escape.text(b) || b == '\r' || b == 0 {
			continue
		}
		if c.line.Len() == 0 {
			fmt.Fprintf(&c.line, "[%7.2f] ", time.Since(c.start).Seconds())
		}
		c.line.WriteByte(b)
		c.text.WriteByte(b)
		if b == '\n' {
			if _, err := c.line.WriteTo(c.log); err != nil {
				return 0, err
			}
		}
	}
	return len(p), nil
}

// end says that nothing more will come.
func (c *console) end() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.ended = true
	_, _ = c.line.WriteTo(c.log) // the text is what counts
}

// String is everything so far.
func (c *console) String() string {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.text.String()
}

// waitFor waits until something matches in the text after the match of the call before, and
// returns the line, or lines, that the match lies in.
func (c *console) waitFor(ctx context.Context, pattern *regexp.Regexp) (string, error) {
	ticker := time.NewTicker(look)
	defer ticker.Stop()
	for {
		line, found, ended := c.match(pattern)
		if found {
			return line, nil
		}
		if ended {
			return "", fmt.Errorf("it is off and has not printed %q; its last lines:\n%s", pattern, lastLines(c.String(), 5))
		}
		select {
		case <-ticker.C:
		case <-ctx.Done():
			return "", fmt.Errorf("it has not printed %q: %w; its last lines:\n%s", pattern, ctx.Err(), lastLines(c.String(), 5))
		}
	}
}

// match looks once, and remembers where it found something.
func (c *console) match(pattern *regexp.Regexp) (line string, found, ended bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	text := c.text.Bytes()
	at := pattern.FindIndex(text[c.next:])
	if at == nil {
		return "", false, c.ended
	}
	from, to := c.next+at[0], c.next+at[1]
	c.next = to
	head := bytes.LastIndexByte(text[:from], '\n') + 1
	end := len(text)
	if to > from && text[to-1] == '\n' { // a pattern may want a whole line
		to--
	}
	if i := bytes.IndexByte(text[to:], '\n'); i >= 0 {
		end = to + i
	}
	return string(text[head:end]), true, c.ended
}

// lastLines is the end of a text, without empty lines.
func lastLines(text string, lines int) string {
	var all []string
	for line := range strings.Lines(text) {
		if strings.TrimSpace(line) != "" {
			all = append(all, strings.TrimRight(line, " \n"))
		}
	}
	return strings.Join(all[max(0, len(all)-lines):], "\n")
}

// escape follows the escape sequences of terminals (ECMA-48), with which firmware and systemd place
// and colour their words, so that they can be left out.
type escape int

const (
	plain   escape = iota
	escaped        // after ESC
	control        // in a control sequence: ESC [ ... letter
	str            // in a string: ESC ] ... BEL, or ESC P ... ESC \
	charset        // one more byte to come: ESC ( B
)

// text takes the next byte and tells whether it is part of the text.
func (e *escape) text(b byte) bool {
	was := *e
	switch {
	case b == 0x1b:
		*e = escaped
	case was == plain:
		return true
	case was == escaped && b == '[':
		*e = control
	case was == escaped && (b == ']' || b == 'P' || b == 'X' || b == '^' || b == '_'):
		*e = str
	case was == escaped && (b == '(' || b == ')' || b == '#'):
		*e = charset
	case was == control && (b < '@' || b > '~'): // parameters; the final byte is of @ to ~
	case was == str && b != 0x07:
	default:
		*e = plain
	}
	return false
}
