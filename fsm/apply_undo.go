package fsm

import (
	"bytes"
	"fmt"
	"slices"
	"strconv"
	"time"

	"github.com/clustervision/luna/inventory"
)

// undoChange takes back what a log entry did: each object that it changed must
// still be as it left it, and becomes what it was before. All addresses are
// free before the first is taken, and in the end the whole must be sound.
func undoChange(tx *inventory.Tx, c inventory.UndoChange) error {
	id := strconv.FormatUint(c.Entry, 10)
	refuse := func(format string, args ...any) error {
		return inventory.Errorf(inventory.KindRefused, "log", id, format, args...)
	}
	e, ok := tx.Entry(c.Entry)
	switch {
	case !ok:
		return inventory.Errorf(inventory.KindNotFound, "log", id, "there is no entry %d in the log: luna log lists them", c.Entry)
	case e.UndoneBy != 0:
		return refuse("entry %d was undone already, by entry %d", c.Entry, e.UndoneBy)
	case e.Forgotten:
		return refuse("entry %d is too old: what it changed is not kept any more", c.Entry)
	}
	var was, is []any
	made := map[any]bool{} // those of is that the entry made
	for _, change := range e.Changes {
		before, after, ok := change.Objects()
		if !ok {
			return refuse("entry %d (%s of %s '%s') cannot be undone", c.Entry, e.Verb, change.Object, change.Name)
		}
		if err := unchanged(tx, change, after, e); err != nil {
			return err
		}
		if before != nil {
			was = append(was, before)
		}
		if after != nil {
			now := tx.WithID(change.Object, change.ID)
			is, made[now] = append(is, now), before == nil
		}
	}
	duties := map[inventory.ID]inventory.Duty{}
	for _, o := range is {
		releaseAll(tx, o)
		switch o := o.(type) {
		case *inventory.Network:
			duties[o.ID] = o.Duty
		case *inventory.Switch:
			duties[o.ID] = o.Duty
		}
		takeOut(tx, o, made[o])
	}
	if err := restore(tx, was, duties); err != nil {
		return refuse("entry %d cannot be undone: %v", c.Entry, err)
	}
	if err := Check(&tx.Inventory); err != nil {
		return refuse("entry %d cannot be undone: then %v", c.Entry, err)
	}
	return nil
}

// unchanged refuses where an object is not as the entry left it.
func unchanged(tx *inventory.Tx, change inventory.Change, after any, e *inventory.Entry) error {
	now := tx.WithID(change.Object, change.ID)
	if now == nil && after == nil || now != nil && after != nil && bytes.Equal(inventory.Record(now), inventory.Record(after)) {
		return nil
	}
	by := ""
	for later := range tx.Entries() {
		if later.ID > e.ID && slices.ContainsFunc(later.Changes, func(c inventory.Change) bool { return c.Object == change.Object && c.ID == change.ID }) {
			by = fmt.Sprintf(" by entry %d (%s, %s)", later.ID, later.By, later.At.UTC().Format(time.DateTime))
			break
		}
	}
	return inventory.Errorf(inventory.KindRefused, "log", strconv.FormatUint(e.ID, 10),
		"entry %d cannot be undone: %s '%s' was changed since%s: undo that first, or change it by hand", e.ID, change.Object, change.Name, by)
}

// takeOut takes an object away, so that its name and its MAC address are free
// for others; for good with what is kept beside it. The cluster stays, for it
// is asked for the frontend address.
func takeOut(tx *inventory.Tx, o any, forGood bool) {
	if _, ok := o.(*inventory.Cluster); ok {
		return
	}
	tx.Delete(o)
	if !forGood {
		return
	}
	switch o := o.(type) {
	case *inventory.Node:
		if s, ok := tx.Status(o.ID); ok {
			tx.Delete(s)
		}
	case *inventory.OSImage:
		for _, v := range slices.Collect(tx.VersionsOf(o.ID)) {
			tx.Delete(v)
		}
	case *inventory.Network:
		dropLeases(tx, o, func(*inventory.Lease) bool { return true })
	}
}

// restore puts objects as the log has them into the state, with what heads keep
// in them by themselves, and takes their addresses.
func restore(tx *inventory.Tx, was []any, duties map[inventory.ID]inventory.Duty) error {
	for _, o := range was {
		if err := nameFree(tx, o); err != nil {
			return err
		}
		switch o := o.(type) {
		case *inventory.Cluster:
			now, _ := tx.Cluster()
			o.Secrets, o.Generation = now.Secrets, now.Generation
		case *inventory.Network:
			o.Duty = duties[o.ID]
			dropLeases(tx, o, func(l *inventory.Lease) bool { return !o.Range.Contains(l.Addr) })
		case *inventory.Switch:
			o.Duty = duties[o.ID]
		case *inventory.Node:
			if has, ok := tx.NodeByMAC(o.MAC); ok && o.MAC != "" {
				return fmt.Errorf("%s is the MAC address of node '%s' now", o.MAC, has.Name)
			}
		}
		tx.Put(o)
	}
	for _, o := range was {
		if err := claimAll(tx, o); err != nil {
			return err
		}
		if n, ok := o.(*inventory.Network); ok {
			rehome(tx, n)
		}
	}
	return nil
}

// rehome tells the addresses in a network that are not claimed anew that they
// are in it: a node whose network was replaced by one with the same prefix was
// not changed itself.
func rehome(tx *inventory.Tx, n *inventory.Network) {
	for o := range tx.Owners(n.Prefix.Addr()) {
		if !n.Prefix.Contains(o.Addr) {
			return
		}
		if o.Network != n.ID {
			own := *o
			own.Network = n.ID
			tx.Put(&own)
		}
	}
}

// nameFree refuses to restore an object whose name another one has by now.
func nameFree(tx *inventory.Tx, o any) error {
	object, id, name := inventory.Identify(o)
	if has := tx.Named(object, name); has != nil {
		if _, other, _ := inventory.Identify(has); other != id {
			return fmt.Errorf("another %s is called '%s' now", object, name)
		}
	}
	if image, ok := o.(*inventory.OSImage); ok {
		return pathFree(tx, image.Name, image.Path)
	}
	return nil
}
