package consensus

import (
	"errors"
	"fmt"
)

var (
	// ErrNotLeader says that this head does not lead, and that another one does:
	// the error is a *[NotLeaderError] with its name. Nothing was done; ask there.
	ErrNotLeader = errors.New("this head does not lead")

	// ErrNoLeader says that no head leads as far as this one knows: an election is
	// going on, or a majority of the voters is away. Nothing was done; try again.
	ErrNoLeader = errors.New("no head leads the cluster: an election is going on, or most heads are away")

	// ErrOutcomeUnknown says that a proposal was handed to raft and that its end
	// was not seen: it may have been committed, or may yet be, or never. Look at
	// the state before trying again, unless doing it twice is harmless.
	ErrOutcomeUnknown = errors.New("the outcome is unknown: it may have been done or not")

	// ErrHasState says that this head cannot begin a new cluster, as it is, or was,
	// part of one.
	ErrHasState = errors.New("this head already has the state of a cluster")

	// errNotBegun goes with the context's error where nothing was proposed.
	errNotBegun = errors.New("nothing was done")

	// ErrClosed says that the [Peer] has ended.
	ErrClosed = errors.New("this head has stopped")
)

// NotLeaderError is [ErrNotLeader] with the name of the head that leads.
type NotLeaderError struct {
	Leader string
}

func (e *NotLeaderError) Error() string {
	return fmt.Sprintf("this head does not lead: head %s does", e.Leader)
}

// Is makes errors.Is(err, ErrNotLeader) true.
func (e *NotLeaderError) Is(target error) bool { return target == ErrNotLeader }

// DamagedError says that what this head has on disk is damaged: nothing was
// changed, and trying again does not help. A person must act: take the directory
// away and let the head join again, which gives it everything from the others; or,
// where it is the last one, restore a backup.
type DamagedError struct {
	Path   string // the file, or the directory where one is missing
	Reason string // what is wrong with it
}

func (e *DamagedError) Error() string { return fmt.Sprintf("%s is damaged: %s", e.Path, e.Reason) }
