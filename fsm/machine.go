// Package fsm is the replicated state machine: one switch over the commands of
// package inventory, and nothing else that could make two heads differ.
//
// [Machine.Apply] is a pure function of the state and the command. It reads no
// clock, no disk and no map in its random order; time and random identities
// travel inside the command. A refusal is a result, not a failure. A command
// happens whole or not at all.
//
// Readers take [Machine.View], an immutable value, and hold no lock. Whoever
// reacts to the state is the same loop: look at View, make the world match,
// wait for Changed.
package fsm

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"sync"
	"sync/atomic"

	"github.com/hashicorp/raft"

	"github.com/clustervision/luna/inventory"
)

// Machine holds the inventory of one head. Make it with New.
type Machine struct {
	view atomic.Pointer[inventory.Inventory]

	mu      sync.Mutex
	changed chan struct{} // closed and replaced at each change
}

var _ raft.FSM = (*Machine)(nil)

// New gives a machine in the empty state.
func New() *Machine {
	m := &Machine{changed: make(chan struct{})}
	m.view.Store(inventory.Empty())
	return m
}

// View gives the state as of now.
func (m *Machine) View() *inventory.Inventory { return m.view.Load() }

// Changed is closed when the state is no longer what View gave before the call
// of Changed: take the channel first, then the view.
func (m *Machine) Changed() <-chan struct{} {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.changed
}

// Apply applies one committed entry and gives an inventory.Result. It panics on
// an entry that this agent cannot understand: skipping it would make this head
// differ from the others without anyone seeing it.
func (m *Machine) Apply(entry *raft.Log) any {
	e, err := inventory.Decode(entry.Data)
	if err != nil {
		panic(fmt.Sprintf("fsm: entry %d: %v", entry.Index, err))
	}
	inv := m.view.Load()
	// A head that had not heard of the new format yet sent an older one: no head
	// of an older release is left that would have to apply it by those rules.
	e.Version = max(e.Version, inv.Format())
	if e.Request != "" {
		if r, ok := inv.Receipt(e.Request); ok {
			return r
		}
	}
	next, result := apply(inv, e, entry.Index)
	if next != nil {
		m.publish(next)
	}
	return result
}

// apply gives the next state, or none where the command is refused.
func apply(inv *inventory.Inventory, e inventory.Envelope, index uint64) (*inventory.Inventory, inventory.Result) {
	tx := inv.Begin()
	defer tx.Abort()
	result := execute(tx, e, index)
	if result.Error != nil {
		return nil, result
	}
	result.Entry = tx.Log(e)
	if undo, ok := e.Command.(inventory.UndoChange); ok {
		tx.MarkUndone(undo.Entry, result.Entry)
	}
	if e.Request != "" {
		tx.Remember(e.Request, result)
	}
	return tx.Commit(index), result
}

// execute does the command on an open Tx, by the rules of its version.
func execute(tx *inventory.Tx, e inventory.Envelope, index uint64) inventory.Result {
	if e.Version >= 2 {
		tx.Enter(e.Version, e.At)
	}
	value, err := dispatch(tx, e)
	if err != nil {
		return inventory.Result{Error: inventory.AsError(err)}
	}
	if e.Version >= 2 {
		tx.Retire(index)
	}
	var result inventory.Result
	if value != nil {
		if result.Value, err = json.Marshal(value); err != nil {
			panic(fmt.Sprintf("fsm: result %T of %s: %v", value, inventory.Verb(e.Command), err))
		}
	}
	return result
}

// Preview tells what the command would do now, and does not do it: its result,
// what it would change, and the state that it would make.
func (m *Machine) Preview(e inventory.Envelope) (inventory.Result, []inventory.Change, *inventory.Inventory) {
	tx := m.View().Fork()
	e.Version = tx.Format()
	defer tx.Abort()
	result := execute(tx, e, tx.Index+1)
	if result.Error != nil {
		return result, nil, nil
	}
	changes := tx.Changes()
	return result, changes, tx.Commit(tx.Index)
}

func (m *Machine) publish(next *inventory.Inventory) {
	m.view.Store(next)
	m.mu.Lock()
	close(m.changed)
	m.changed = make(chan struct{})
	m.mu.Unlock()
}

// Snapshot captures the state; writing it happens later, while commands go on.
func (m *Machine) Snapshot() (raft.FSMSnapshot, error) { return snapshot{m.View()}, nil }

// Restore replaces the state by a snapshot's.
func (m *Machine) Restore(r io.ReadCloser) error {
	defer r.Close()
	inv, err := inventory.Read(r)
	if err != nil {
		return err
	}
	m.publish(inv)
	return nil
}

type snapshot struct{ inv *inventory.Inventory }

func (s snapshot) Persist(sink raft.SnapshotSink) error {
	if _, err := s.inv.WriteTo(sink); err != nil {
		return errors.Join(fmt.Errorf("write snapshot: %w", err), sink.Cancel())
	}
	return sink.Close()
}

func (snapshot) Release() {}
