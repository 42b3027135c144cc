package agent

import (
	"context"
	"errors"
	"fmt"
	"time"
)

// errDisk says that this head gets no further, as its disk takes nothing.
var errDisk = errors.New("its disk fails")

// waitApplied waits until this head has applied an entry. Where its disk fails it does
// not wait for a person to mend that: the error is errDisk then.
func (m *member) waitApplied(ctx context.Context, index uint64) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	go func() { // ends with this call
		for {
			changed := m.peer.DiskChanged()
			if err := m.peer.DiskError(); err != nil {
				cancel(fmt.Errorf("%w: %w", errDisk, err))
			}
			select {
			case <-changed:
			case <-ctx.Done():
				return
			}
		}
	}()
	err := m.peer.WaitApplied(ctx, index)
	if cause := context.Cause(ctx); err != nil && errors.Is(cause, errDisk) {
		return cause // in fewer words
	}
	return err
}

// watchDisk says what is wrong with the disk of the raft store as long as it is.
func (m *member) watchDisk(ctx context.Context) error {
	for {
		changed := m.peer.DiskChanged()
		err := m.peer.DiskError()
		if m.warn.set("disk", err) {
			if err != nil {
				m.log.Error("this head takes no part in decisions: its disk cannot be written", "err", err)
			} else {
				m.log.Info("the disk can be written again")
			}
		}
		select {
		case <-ctx.Done():
			return nil
		case <-changed:
		case <-time.After(10 * time.Second):
		}
	}
}
