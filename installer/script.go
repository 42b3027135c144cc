package installer

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"time"
)

const (
	keptLines  = 20  // of a script's output, for the report of its failure
	keptLength = 300 // bytes of each of them
	// scriptGrace is how long output is read after a script ended: what it left
	// in the background may hold its output open for ever.
	scriptGrace = 2 * time.Second
)

// scripts runs what the administrator wrote for a group.
type scripts struct {
	dir     string    // for the text of the script that runs; made when needed
	env     []string  // NAME=value, over the environment of this process
	console io.Writer // where the output goes as it comes
}

// scriptPath is what the scripts of 1.2 rely on, whatever the initrd has set.
const scriptPath = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

// run runs one script to its end. It is run plainly, as in 1.2, so that the
// scripts of a site go on working: its exit status is that of its last command
// unless it says "set -e". An empty script is a good one. The last lines of the
// output are returned in any case.
func (s scripts) run(ctx context.Context, name, text string) (tail []string, err error) {
	if strings.TrimSpace(text) == "" {
		return nil, nil
	}
	if err := os.MkdirAll(s.dir, 0o700); err != nil {
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	// A file and not an argument: bash then names script and line in its
	// messages. It may hold secrets of the site.
	file := filepath.Join(s.dir, name)
	if err := os.WriteFile(file, []byte(strings.ReplaceAll(text, "\r\n", "\n")), 0o700); err != nil {
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	defer os.Remove(file)

	last := &lastLines{}
	cmd := exec.CommandContext(ctx, shell(), file)
	cmd.Dir = "/"
	cmd.Env = append(append(os.Environ(), scriptPath), s.env...)
	cmd.Stdout = io.MultiWriter(s.console, last)
	cmd.Stderr = cmd.Stdout // the same writer: one pipe, and the lines keep their order
	cmd.WaitDelay = scriptGrace
	// The group, so that an interrupted script takes its children along.
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) }
	err = cmd.Run()
	switch {
	case ctx.Err() != nil:
		return last.lines(), fmt.Errorf("%s: %w", name, context.Cause(ctx))
	case errors.Is(err, exec.ErrWaitDelay): // it ended well and left something in the background
		return last.lines(), nil
	case err != nil:
		return last.lines(), fmt.Errorf("the %s failed: %w", name, err)
	}
	return last.lines(), nil
}

// shell is bash, for which scripts are written, or what the initrd has.
func shell() string {
	for _, path := range []string{"/bin/bash", "/usr/bin/bash"} {
		if _, err := os.Stat(path); err == nil {
			return path
		}
	}
	return "/bin/sh"
}

// serviceShell gives the console to the administrator until he leaves the shell.
func serviceShell(ctx context.Context, console string, env []string) error {
	tty, err := os.OpenFile(console, os.O_RDWR|syscall.O_NOCTTY, 0)
	if err != nil {
		return fmt.Errorf("service shell: %w", err)
	}
	defer tty.Close()
	cmd := exec.CommandContext(ctx, shell(), "-i")
	if path.Base(cmd.Path) == "bash" {
		cmd.Args = append(cmd.Args[:1], "--norc", "-i") // so that the prompt stays ours
	}
	cmd.Dir = "/"
	cmd.Env = append(append(os.Environ(), scriptPath, `PS1=(service) \h:\w\$ `, "TERM=linux"), env...)
	cmd.Stdin, cmd.Stdout, cmd.Stderr = tty, tty, tty
	// Its own session with the console as its terminal: else neither job
	// control nor ^C would work.
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true, Setctty: true, Ctty: 0}
	var exit *exec.ExitError
	if err := cmd.Run(); err != nil && !errors.As(err, &exit) { // with what status he left it says nothing
		return fmt.Errorf("service shell on %s: %w", console, err)
	}
	return ctx.Err()
}

// lastLines keeps the last lines of what is written to it. A carriage return
// ends a line too: that is how mkfs and dd show their progress.
type lastLines struct {
	mu   sync.Mutex
	kept []string
	open []byte // the line that has not ended yet
}

func (l *lastLines) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, c := range p {
		switch {
		case c == '\n' || c == '\r':
			l.end()
		case len(l.open) < keptLength:
			l.open = append(l.open, c)
		}
	}
	return len(p), nil
}

func (l *lastLines) end() {
	if len(l.open) == 0 {
		return
	}
	l.kept = append(l.kept, strings.ToValidUTF8(string(l.open), "?"))
	l.kept = l.kept[max(0, len(l.kept)-keptLines):]
	l.open = l.open[:0]
}

func (l *lastLines) lines() []string {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.end()
	return l.kept
}
