package consensus

// SyncApplied returns how far this head's state machine is, at the least, also if
// the power is cut now and the head then starts without the others: what it knows
// by then was applied here once. It does not wait for the disk: where there is
// news, it has it written, and a later call tells. 0 where the disk has never
// answered.
func (r *replica) SyncApplied() uint64 {
	index, _, ok := r.record.read()
	if ok && index > r.synced.Load() && r.syncing.CompareAndSwap(false, true) {
		r.syncRecord(index)
	}
	return r.synced.Load()
}

// syncRecord begins to write the record, which holds the index, to the disk.
func (r *replica) syncRecord(index uint64) {
	if !r.underWay.begin() {
		return // it ends
	}
	go func() { // ends with the disk's answer
		defer r.underWay.end()
		defer r.syncing.Store(false)
		if r.record.file.Sync() == nil {
			r.synced.Store(index)
		}
	}()
}
