package fsm

import (
	"fmt"

	"github.com/clustervision/luna/inventory"
)

// dispatch does one command on an open Tx. Each case is one function; what it
// gives back besides an error is the result that the asker sees.
func dispatch(tx *inventory.Tx, e inventory.Envelope) (any, error) {
	if err := e.Command.Validate(); err != nil {
		return nil, err
	}
	if _, init := e.Command.(inventory.InitCluster); !init {
		if _, ok := tx.Cluster(); !ok {
			return nil, inventory.NotFound("cluster", "general")
		}
	}
	switch c := e.Command.(type) {
	case inventory.InitCluster:
		return nil, initCluster(tx, c)
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
	case inventory.PublishVersion:
		return nil, publishVersion(tx, c)
	case inventory.RecordHolder:
		return nil, recordHolder(tx, c)
	case inventory.DeleteVersion:
		return nil, deleteVersion(tx, c)
	case inventory.AddGroup:
		return nil, addGroup(tx, c)
	case inventory.ChangeGroup:
		return nil, changeGroup(tx, c)
	case inventory.ChangeInterface:
		return changeInterface(tx, c)
	case inventory.DeleteGroup:
		return nil, deleteGroup(tx, c)
	case inventory.AddNodes:
		return addNodes(tx, c)
	case inventory.ChangeNodes:
		return nil, changeNodes(tx, c)
	case inventory.DeleteNodes:
		return nil, deleteNodes(tx, c)
	case inventory.Rename:
		return nil, rename(tx, c)
	case inventory.RecordStatus:
		return nil, recordStatus(tx, c)
	case inventory.CreateInvite:
		return nil, createInvite(tx, c)
	case inventory.AdmitHead:
		return admitHead(tx, c)
	case inventory.UpdateHead:
		return nil, updateHead(tx, c)
	case inventory.RemoveHead:
		return nil, removeHead(tx, c)
	case inventory.AssignDuties:
		return nil, assignDuties(tx, c)
	case inventory.LeaseAddress:
		return leaseAddress(tx, c)
	default:
		panic(fmt.Sprintf("fsm: command %T has no case: upgrade luna on this head", c))
	}
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
