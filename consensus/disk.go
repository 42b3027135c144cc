package consensus

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// This file is about a disk that does not take what raft must write: it is full, or
// has become read-only, or is broken. raft alone would end the process when it
// cannot write its term; and a leader that cannot write steps down, but wins the
// next election, and the next.
//
// Instead this head falls silent with the first write that fails. As a leader it
// has stepped down then (raft does that), and hands over; it sends no heartbeats
// and wants no votes any more (see transport.go); what must be on disk before it
// may be said is not said. It goes on to follow: it knows who leads, and has the
// state that it had. A head that starts on such a disk is the same from the start
// (see replay), if its files can be opened. Meanwhile it looks whether it can write again, and then takes
// part as before.

const (
	// retryInterval is how often a disk that failed is tried.
	retryInterval = 200 * time.Millisecond

	// room is how much must fit on the disk before it counts as well again: else a
	// head would be back for one entry, and lead, and fail with the next.
	room = 1 << 20

	// stallLimit is how long a write may take before this head falls silent as if it
	// had failed: a leader whose disk hangs must not keep the others waiting.
	stallLimit = 1500 * time.Millisecond
)

// disk is what is known of the disk below the raft store.
type disk struct {
	path string
	log  *slog.Logger

	ctx     context.Context // its lifetime
	cancel  context.CancelFunc
	mending sync.WaitGroup
	// mend tries to write; anew says that the file itself cannot be relied on.
	mend func(anew bool) error
	// handOver is called with the first failure, and when a write is late.
	handOver func()

	mu      sync.Mutex
	err     error // of the last attempt; nil if all is well
	anew    bool
	writes  uint64 // that have begun
	stalled bool   // the last of them is late
	changed signal
}

func newDisk(path string, log *slog.Logger) *disk {
	d := &disk{path: path, log: log, handOver: func() {}}
	d.ctx, d.cancel = context.WithCancel(context.Background())
	return d
}

// DiskError is nil, or why this head cannot write to its raft store now, in words
// for an administrator. It then neither leads nor votes; it goes on trying, and
// takes part again when it can.
func (d *disk) DiskError() error {
	d.mu.Lock()
	defer d.mu.Unlock()
	var refused *fs.PathError
	switch {
	case errors.As(d.err, &refused): // by a call that names the file as it was when it was opened
		return fmt.Errorf("the raft log %s cannot be written: %w", d.path, refused.Err)
	case d.err != nil:
		return fmt.Errorf("the raft log %s cannot be written: %w", d.path, d.err)
	case d.stalled:
		return fmt.Errorf("the raft log %s cannot be written: the disk does not answer", d.path)
	}
	return nil
}

// DiskChanged returns a channel that is closed when DiskError has come or gone.
// Take the channel first and look second, to miss nothing.
func (d *disk) DiskChanged() <-chan struct{} { return d.changed.wait() }

// failure is why nothing is to be written now.
func (d *disk) failure() error {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.err
}

// fail takes note that a write has failed, and begins to try again.
func (d *disk) fail(err error) {
	d.mu.Lock()
	first := d.err == nil
	d.err = err
	d.anew = d.anew || suspect(err)
	if first && d.ctx.Err() == nil {
		d.mending.Go(d.handOver)
		d.mending.Go(d.keepTrying)
	} // else it ends, and nobody waits for what begins now
	d.mu.Unlock()
	if first {
		d.log.Warn("raft log cannot be written, this head neither leads nor votes for now", "path", d.path, "error", err)
		d.changed.fire()
	}
}

// suspect reports whether the file may be other than it reads. A write that was
// refused has changed nothing. But when a sync fails, the kernel forgets which pages
// it could not write, and the next sync succeeds: what is read is then in memory
// only. bbolt has no other calls of the system, and wraps the error of this one not.
func suspect(err error) bool { return !refusesWrites(err) }

// refusesWrites reports whether the system turned down a call on a file: the error
// names the file then.
func refusesWrites(err error) bool {
	var refused *fs.PathError
	return errors.As(err, &refused)
}

// keepTrying ends when the disk is well again.
func (d *disk) keepTrying() {
	tick := time.NewTicker(retryInterval)
	defer tick.Stop()
	for {
		select {
		case <-d.ctx.Done():
			return
		case <-tick.C:
		}
		d.mu.Lock()
		anew := d.anew
		d.mu.Unlock()
		err := d.mend(anew)
		d.mu.Lock()
		d.err = err
		d.anew = err != nil && (anew || suspect(err))
		d.mu.Unlock()
		if err == nil {
			d.log.Info("raft log can be written again", "path", d.path)
			d.changed.fire()
			return
		}
	}
}

// watch is told when a write begins, and returns what is to be told when it ends.
func (d *disk) watch() (ended func()) {
	d.mu.Lock()
	d.writes++
	this := d.writes
	d.mu.Unlock()
	set := func(stalled bool) {
		d.mu.Lock()
		changed := d.writes == this && d.stalled != stalled
		if changed {
			d.stalled = stalled
		}
		if changed && stalled && d.ctx.Err() == nil {
			d.mending.Go(d.handOver)
		}
		d.mu.Unlock()
		if changed {
			d.changed.fire()
		}
	}
	late := time.AfterFunc(stallLimit, func() { set(true) })
	return func() {
		late.Stop()
		set(false)
		d.mu.Lock()
		d.writes++ // so that a timer which has just fired finds itself to be old
		d.mu.Unlock()
	}
}

func (d *disk) close() {
	d.mu.Lock()
	d.cancel()
	d.mu.Unlock()
	d.mending.Wait()
}

// retry is how a store tries its disk.
func (s *store) retry(anew bool) error {
	s.writing.Lock()
	defer s.writing.Unlock()
	if err := s.hasRoom(); err != nil {
		return err
	}
	if !anew {
		return s.commit(s.seal, nil)
	}
	db, err := createStore(s.path, &s.seal, s.GetLog)
	if err != nil {
		return err
	}
	s.mu.Lock()
	old := s.db
	s.db = db
	s.mu.Unlock()
	_ = old.Close() // it has no name any more
	return nil
}

// hasRoom writes a file beside the store and takes it away again.
func (s *store) hasRoom() (err error) {
	path := s.path + ".room"
	file, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, file.Close(), os.Remove(path)) }()
	err = unix.Fallocate(int(file.Fd()), 0, 0, room)
	if err != nil && !errors.Is(err, unix.EOPNOTSUPP) {
		return &fs.PathError{Op: "reserve room in", Path: path, Err: err}
	}
	if _, err := file.Write(make([]byte, 64<<10)); err != nil {
		return err
	}
	return file.Sync()
}
