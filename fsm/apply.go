package fsm

import (
	"fmt"
	"time"

	"github.com/clustervision/luna/inventory"
)

// dispatch does one command on an open Tx. Each case is one function; what it
// gives back besides an error is the result that the asker sees.
func dispatch(tx *inventory.Tx, e inventory.Envelope) (any, error) {
	if err := e.Command.Validate(); err != nil {
		return nil, err
	}
	if err := inCluster(tx, e.Command); err != nil {
		return nil, err
	}
	switch c := e.Command.(type) {
	case inventory.InitCluster:
		return nil, initCluster(tx, c)
	case inventory.SetUpCluster:
		return nil, setUpCluster(tx, c)
	case inventory.DeleteCluster:
		return nil, deleteCluster(tx, c)
	case inventory.ChangeCluster:
		return nil, changeCluster(tx, c)
	case inventory.AddNetwork:
		return nil, addNetwork(tx, c)
	case inventory.ChangeNetwork:
		return nil, changeNetwork(tx, c)
	case inventory.DeleteNetwork:
		return nil, deleteNetwork(tx, c)
	case inventory.SetRange:
		return nil, setRange(tx, c)
	case inventory.AddOSImage:
		return nil, addOSImage(tx, c)
	case inventory.ChangeOSImage:
		return nil, changeOSImage(tx, c)
	case inventory.DeleteOSImage:
		return nil, deleteOSImage(tx, c)
	case inventory.DeleteVersion:
		return nil, deleteVersion(tx, c)
	case inventory.AddGroup:
		return nil, addGroup(tx, c)
	case inventory.CloneGroup:
		return nil, cloneGroup(tx, c)
	case inventory.ChangeGroup:
		return changeGroup(tx, c)
	case inventory.DeleteGroup:
		return nil, deleteGroup(tx, c)
	case inventory.AddBMCSetup:
		return nil, addBMCSetup(tx, c)
	case inventory.ChangeBMCSetup:
		return nil, changeBMCSetup(tx, c)
	case inventory.DeleteBMCSetup:
		return nil, deleteBMCSetup(tx, c)
	case inventory.AddSwitches:
		return nil, addSwitches(tx, c)
	case inventory.ChangeSwitches:
		return nil, changeSwitches(tx, c)
	case inventory.DeleteSwitches:
		return nil, deleteSwitches(tx, c)
	case inventory.AddOtherDevs:
		return nil, addOtherDevs(tx, c)
	case inventory.ChangeOtherDevs:
		return nil, changeOtherDevs(tx, c)
	case inventory.DeleteOtherDevs:
		return nil, deleteOtherDevs(tx, c)
	case inventory.AddNodes:
		return addNodes(tx, c)
	case inventory.ChangeNodes:
		return nil, changeNodes(tx, c)
	case inventory.DeleteNodes:
		return nil, deleteNodes(tx, c)
	case inventory.Rename:
		return nil, rename(tx, c)
	case inventory.ApplyDocument:
		return nil, applyDocument(tx, c)
	case inventory.UndoChange:
		return nil, undoChange(tx, c)
	default:
		return dispatchMesh(tx, e)
	}
}

// dispatchMesh does what heads ask of each other and for their nodes.
func dispatchMesh(tx *inventory.Tx, e inventory.Envelope) (any, error) {
	switch c := e.Command.(type) {
	case inventory.PublishVersion:
		return nil, publishVersion(tx, c)
	case inventory.RecordHolder:
		return nil, recordHolder(tx, c)
	case inventory.RecordStatus:
		return nil, recordStatus(tx, c)
	case inventory.CreateInvite:
		return nil, createInvite(tx, c, now(tx, e, c.Invite.Created))
	case inventory.AdmitHead:
		return admitHead(tx, c, now(tx, e, c.At))
	case inventory.UpdateHead:
		return nil, updateHead(tx, c)
	case inventory.RemoveHead:
		return nil, removeHead(tx, c)
	case inventory.AssignDuties:
		return nil, assignDuties(tx, c)
	case inventory.ChangeHead:
		return nil, changeHead(tx, c)
	case inventory.AdoptCluster:
		return adoptCluster(tx, c)
	case inventory.Advance:
		tx.Pass(c.Elapsed, c.Held)
		tx.Release(c.Applied)
		return nil, nil
	case inventory.LeaseAddress:
		return leaseAddress(tx, c, now(tx, e, c.At))
	default:
		panic(fmt.Sprintf("fsm: command %T has no case: upgrade luna on this head", c))
	}
}

// moment is when a command is done, by the clock that its rules go by.
type moment struct {
	at time.Time
	// more is what must be added to a time that is to last: see inventory.MaxAdvance.
	more time.Duration
	mesh bool // it is the mesh's clock
}

// now gives the mesh's time, or in format 1 that of the head that took the command.
func now(tx *inventory.Tx, e inventory.Envelope, told time.Time) moment {
	if e.Version < 2 {
		return moment{at: told}
	}
	return moment{at: tx.Clock(), more: inventory.MaxAdvance, mesh: true}
}

// inCluster refuses what an administrator asks where there is no cluster. The
// heads go on with theirs while it is deleted: they are a mesh all the same.
func inCluster(tx *inventory.Tx, c inventory.Command) error {
	cluster, ok := tx.Cluster()
	switch c.(type) {
	case inventory.InitCluster:
		return nil
	case inventory.SetUpCluster, inventory.CreateInvite, inventory.AdmitHead, inventory.UpdateHead, inventory.RemoveHead,
		inventory.ChangeHead, inventory.AdoptCluster, inventory.Advance, inventory.AssignDuties, inventory.RecordStatus, inventory.UndoChange:
	default:
		ok = ok && !cluster.Deleted
	}
	if !ok {
		return inventory.NotFound("cluster", "general")
	}
	return nil
}

// set stores v where the command gives a value.
func set[T any](field *T, v *T) {
	if v != nil {
		*field = *v
	}
}

// setText stores a text where the command gives one; empty unsets it.
func setText(field **string, v *string) {
	switch {
	case v == nil:
	case *v == "":
		*field = nil
	default:
		*field = v
	}
}
