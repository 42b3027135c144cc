// Package agent is what runs on a head: the one place where consensus, boot
// services, images and the API meet. It holds no rules of its own about nodes;
// it opens, starts, connects and stops.
//
// An agent begins as nobody: it serves its local socket and waits. By
// [Agent.Init] or [Agent.Join] it becomes a member, and is one again after each
// restart, from disk. A member runs in two stages: the edge (API, DHCP, TFTP,
// HTTP, images) inside the core (Raft, gossip, swarm). It stops edge first, so
// that nodes go elsewhere while this head can still answer; then it hands over
// leadership and leaves.
package agent

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"
	"golang.org/x/sys/unix"

	"github.com/clustervision/luna/api"
	"github.com/clustervision/luna/consensus"
	"github.com/clustervision/luna/inventory"
)

// Agent is one head. Make it with New and run it with Run, once.
type Agent struct {
	cfg    Config
	log    *slog.Logger
	socket net.Listener

	becoming sync.Mutex // held while Init, Join or Restore is at work

	mu      sync.Mutex
	m       *member       // nil while this head is nobody
	arrived chan struct{} // closed once m is set
}

var _ api.Backend = (*Agent)(nil)

// ErrDamaged says that what this head keeps on disk is damaged: trying again does
// not help. The error's text says what to do.
var ErrDamaged = errors.New("the data of this head is damaged")

// ErrMismatch says that the configuration is not that of the head whose data there is, or
// can be no head's: trying again does not help.
var ErrMismatch = errors.New("the configuration does not fit this head")

// damaged says what to do about an error of the data directory, and passes on all
// others.
func damaged(cfg Config, err error) error {
	var raft *consensus.DamagedError
	if !errors.Is(err, errBadIdentity) && !errors.As(err, &raft) {
		return err
	}
	return fmt.Errorf("%w: %w; the other heads have all that it had: on one of them run `luna head replace %s --force`, here empty %s, start the agent, and run `luna join` with the token (where there is no other head: `luna cluster restore` of a backup)", ErrDamaged, err, cfg.Name, cfg.DataDir)
}

// New takes the data directory, opens the socket and, where this head is a
// member already, every port of its services. Run must follow, or Close.
func New(cfg Config) (*Agent, error) {
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	if cfg.Logger == nil {
		cfg.Logger = slog.Default()
	}
	a := &Agent{cfg: cfg, log: cfg.Logger, arrived: make(chan struct{})}
	if err := os.MkdirAll(cfg.DataDir, 0o700); errors.Is(err, unix.ENOTDIR) {
		return nil, fmt.Errorf("%w: data-dir must be a directory: %w", ErrMismatch, err)
	} else if err != nil {
		return nil, fmt.Errorf("make the data directory: %w", err)
	}
	id, err := loadIdentity(cfg.DataDir)
	if err == nil && id != nil {
		err = id.check(cfg.DataDir)
	}
	if err != nil {
		return nil, damaged(cfg, err)
	}
	switch {
	case id == nil:
	case id.Name != cfg.Name:
		return nil, fmt.Errorf("%w: %s belongs to head '%s', but this agent is to be '%s': set name to '%s', or use an empty data-dir", ErrMismatch, cfg.DataDir, id.Name, cfg.Name, id.Name)
	case id.Witness && !cfg.Witness:
		return nil, fmt.Errorf("%w: head '%s' is a witness of its cluster: set witness to true; to make it serve nodes, let it leave and join anew", ErrMismatch, id.Name)
	case cfg.Witness && !id.Witness:
		return nil, fmt.Errorf("%w: head '%s' is not a witness of its cluster: set witness to false; to make it one, let it leave and join anew", ErrMismatch, id.Name)
	}
	if a.socket, err = listenSocket(cfg.Socket); err != nil {
		return nil, err
	}
	sweep(cfg)
	if id != nil {
		m, err := newMember(cfg, id)
		if err != nil {
			a.socket.Close()
			return nil, damaged(cfg, err)
		}
		a.become(m)
	}
	return a, nil
}

// halfWritten are what an agent that was killed had begun to write: initrds, unpacked,
// and files of writeFile.
var halfWritten = regexp.MustCompile(`^(` + initrdWork + `|(identity|current|scrubbed)\.json\.|join\.key\.|restore\.snap\.)[0-9]+$`)

// sweep removes what was left half written.
func sweep(cfg Config) {
	entries, err := os.ReadDir(cfg.DataDir)
	for _, e := range entries {
		if halfWritten.MatchString(e.Name()) {
			err = errors.Join(err, os.RemoveAll(filepath.Join(cfg.DataDir, e.Name())))
		}
	}
	if err != nil {
		cfg.Logger.Warn("cannot remove what was left half written", "err", err)
	}
}

// become makes this head a member; nil makes it nobody again.
func (a *Agent) become(m *member) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.m = m
	if m == nil {
		a.arrived = make(chan struct{})
		return
	}
	close(a.arrived)
}

// self gives the member, or the refusal that there is none.
func (a *Agent) self() (*member, error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.m == nil {
		return nil, errNoMember()
	}
	return a.m, nil
}

// errNoMember is what a head answers before it belongs to a cluster, first of all in the
// words of 1.2.
func errNoMember() *inventory.Error {
	e := inventory.NotFound("cluster", "general")
	e.Text += "\nThis head belongs to no cluster yet: `luna cluster init` begins one here, `luna join HEAD --token TOKEN` joins it to one"
	return e
}

// View gives the inventory as this head knows it.
func (a *Agent) View() *inventory.Inventory {
	if m, err := a.self(); err == nil {
		return m.machine.View()
	}
	return inventory.Empty()
}

// listenSocket opens the local socket for root alone. A socket file that nobody
// listens on is what a crash left behind.
func listenSocket(path string) (net.Listener, error) {
	if c, err := net.DialTimeout("unix", path, time.Second); err == nil {
		c.Close()
		return nil, fmt.Errorf("another agent listens on %s: stop it, or give this one another --socket and --data-dir", path)
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return nil, fmt.Errorf("make the directory of the socket: %w", err)
	}
	if err := os.Remove(path); err != nil && !errors.Is(err, os.ErrNotExist) {
		return nil, fmt.Errorf("remove the old socket: %w", err)
	}
	old := unix.Umask(0o177) // so that it is never open to others, not even for a moment
	l, err := net.Listen("unix", path)
	unix.Umask(old)
	if err != nil {
		return nil, fmt.Errorf("open the socket: %w", err)
	}
	return l, nil
}

// Run serves until ctx ends, and then stops in order; nil if nothing failed.
func (a *Agent) Run(ctx context.Context) error {
	local := func(r *http.Request) api.Caller {
		return api.Caller{Name: peerName(r.Context()), From: a.cfg.Name, Role: api.RoleLocal}
	}
	edge, edgeCtx := errgroup.WithContext(ctx)
	edge.Go(func() error {
		return serve(edgeCtx, a.socket, api.Handler(a, a.cfg.Version, local), a.log)
	})
	edge.Go(func() error { return a.runMember(edgeCtx) })
	err := edge.Wait()
	a.log.Info("agent stopped")
	return err
}

// runMember waits until this head is a member and is one until ctx ends. A head
// may end as a member and go on as nobody, or as another one: see afterwards.
func (a *Agent) runMember(ctx context.Context) error {
	for {
		m, err := a.awaitSelf(ctx)
		if err != nil {
			return nil //nolint:nilerr // it ends before it is one
		}
		err = m.run(ctx, a)
		then := m.afterwards.Load()
		if err != nil || then == nil {
			return err
		}
		a.become(nil)
		next, err := (*then)()
		if err != nil {
			return err
		}
		if next != nil {
			a.become(next)
		}
	}
}

// Close ends an agent that is not run, or cuts one short as kill -9 would: the
// other heads see it fail. It is for tests.
func (a *Agent) Close() error {
	err := a.socket.Close()
	if m, none := a.self(); none == nil {
		err = errors.Join(err, m.close())
	}
	return err
}

// serve answers HTTP on the listener until ctx ends; requests in flight then
// have two seconds.
func serve(ctx context.Context, l net.Listener, h http.Handler, log *slog.Logger) error {
	s := &http.Server{
		Handler: h, ReadHeaderTimeout: 5 * time.Second, IdleTimeout: 2 * time.Minute,
		BaseContext: func(net.Listener) context.Context { return context.WithoutCancel(ctx) }, // until Close ends them
		ConnContext: func(ctx context.Context, c net.Conn) context.Context { return withGuest(withPeer(ctx, c), c) },
		ErrorLog:    slog.NewLogLogger(log.Handler(), slog.LevelDebug),
	}
	done := make(chan error, 1)
	go func() { done <- s.Serve(l) }()
	select {
	case err := <-done:
		s.Close() // the connections that are open would be served on
		return fmt.Errorf("serve %s: %w", l.Addr(), err)
	case <-ctx.Done():
	}
	grace, cancel := context.WithTimeout(context.WithoutCancel(ctx), 2*time.Second)
	defer cancel()
	if s.Shutdown(grace) != nil {
		s.Close()
	}
	<-done
	return nil
}
