package lab

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"
)

// Process is a program that runs on a host until it ends, is stopped, or the lab is closed.
type Process struct {
	cmd  *exec.Cmd
	name string
	log  string
	done chan struct{}
	err  error // why it ended, once done is closed
}

// Start runs a program on the host. What it prints, on either stream, is added to the file
// HOST-NAME.log in the lab's directory.
func (h *Host) Start(processName string, argv ...string) (*Process, error) {
	// The life of the process is the lab's, not that of the call.
	return h.StartCommand(processName, h.Command(context.Background(), argv...))
}

// StartCommand is Start for a command made by [Host.Command] and then given an environment, a
// directory or an input. Its output must not be set.
func (h *Host) StartCommand(processName string, cmd *exec.Cmd) (*Process, error) {
	path := filepath.Join(h.lab.dir, h.name+"-"+processName+".log")
	log, err := os.OpenFile(path, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return nil, fmt.Errorf("lab: start %s on %s: %w", processName, h.name, err)
	}
	defer log.Close() // the process has its own copy
	cmd.Stdout, cmd.Stderr = log, log
	return h.lab.start(h.name+"-"+processName, path, cmd)
}

// start starts a command and remembers it for Close. The lock is held so that Close either sees
// the process or prevents it.
func (l *Lab) start(processName, log string, cmd *exec.Cmd) (*Process, error) {
	p := &Process{cmd: cmd, name: processName, log: log, done: make(chan struct{})}
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.closed {
		return nil, errClosed
	}
	if err := cmd.Start(); err != nil {
		return nil, fmt.Errorf("lab: start %s: %w", processName, err)
	}
	l.processes = append(l.processes, p)
	go func() {
		p.err = cmd.Wait()
		close(p.done)
	}()
	return p, nil
}

// Pid is the process id, which is also the id of its process group.
func (p *Process) Pid() int { return p.cmd.Process.Pid }

// Log is the path of the file with its output.
func (p *Process) Log() string { return p.log }

// Done is closed when the process has ended.
func (p *Process) Done() <-chan struct{} { return p.done }

// Running tells whether the process has not ended.
func (p *Process) Running() bool {
	select {
	case <-p.done:
		return false
	default:
		return true
	}
}

// Wait waits until the process ends. Its error is nil if the exit code was 0, and otherwise an
// [exec.ExitError] with the last lines of the log around it; or the context's, if that ended first.
func (p *Process) Wait(ctx context.Context) error {
	select {
	case <-p.done:
	case <-ctx.Done():
		return fmt.Errorf("lab: %s has not ended: %w", p.name, ctx.Err())
	}
	if p.err == nil {
		return nil
	}
	return fmt.Errorf("lab: %s: %w; its last lines:\n%s", p.name, p.err, tail(p.log, 5))
}

// Kill9 kills the process and its group without a warning, as a power cut does, and waits until
// it is dead.
func (p *Process) Kill9() {
	p.signal(syscall.SIGKILL)
	<-p.done
}

// Stop asks the process to end by a signal to it alone, and waits as long as given; if it has not
// ended then, it is killed, and that is an error. The exit code is not looked at: see Wait.
func (p *Process) Stop(signal syscall.Signal, patience time.Duration) error {
	if !p.Running() {
		return nil
	}
	if err := p.cmd.Process.Signal(signal); err != nil && !errors.Is(err, os.ErrProcessDone) {
		return fmt.Errorf("lab: stop %s: %w", p.name, err)
	}
	select {
	case <-p.done:
		return nil
	case <-time.After(patience):
		p.Kill9()
		return fmt.Errorf("lab: %s ignored %s for %s and was killed; its last lines:\n%s", p.name, signal, patience, tail(p.log, 5))
	}
}

// Pause stops the process and its group where they are (SIGSTOP): to the others it is as if the
// machine hung, with its connections open.
func (p *Process) Pause() { p.signal(syscall.SIGSTOP) }

// Continue lets a paused process go on.
func (p *Process) Continue() { p.signal(syscall.SIGCONT) }

// signal reaches the whole group. After the process has ended its id is free to be another's, so
// that nothing is sent then; what the group left behind is Close's to kill.
func (p *Process) signal(signal syscall.Signal) {
	if p.Running() {
		_ = syscall.Kill(-p.Pid(), signal) // it may end in this very moment
	}
}

// tail is the last lines of a file, for an error.
func tail(path string, lines int) string {
	text, err := os.ReadFile(path)
	if err != nil {
		return err.Error()
	}
	all := strings.Split(strings.TrimRight(string(text), "\n"), "\n")
	return strings.Join(all[max(0, len(all)-lines):], "\n")
}
