package consensus

// SyncApplied returns how far this head's state machine is, at the least, also if
// the power is cut now and the head then starts without the others: what it knows
// by then was applied here once. It waits for the disk where that is news. 0 where
// the disk does not answer.
func (r *replica) SyncApplied() uint64 {
	index, _, ok := r.record.read()
	if !ok {
		return 0
	}
	if index <= r.synced.Load() {
		return index
	}
	if r.record.file.Sync() != nil {
		return 0
	}
	r.synced.Store(index)
	return index
}
