package agent

import (
	"context"
	"time"
)

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
