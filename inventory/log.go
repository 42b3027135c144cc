package inventory

import (
	"bytes"
	"cmp"
	"encoding/json"
	"fmt"
	"iter"
	"slices"
	"strings"
	"time"

	"github.com/hashicorp/go-memdb"
)

// Entry is one line of the audit trail: a command that changed something of
// the administrator's, with what it changed.
type Entry struct {
	ID   uint64    `json:"id"` // 1, 2, 3, ...
	At   time.Time `json:"at"` // by the clock of the head that took the command
	Verb string    `json:"verb"`
	Asker
	// Objects are what it changed, as "node/node[001-100]".
	Objects []string `json:"objects"`
	Changes []Change `json:"changes,omitempty"`
	Size    int      `json:"size"` // bytes of Changes, until they are forgotten
	// Forgotten is set once Changes had to make room for newer ones.
	Forgotten bool   `json:"forgotten,omitempty"`
	UndoneBy  uint64 `json:"undone_by,omitempty"` // the entry that took this one back
}

// Change is an object before and after a command, as the state holds it: with
// IDs for references, so that no rename makes it wrong.
type Change struct {
	Object string          `json:"object"` // type: "node", "group", ...
	ID     ID              `json:"id"`     // 0 for the cluster
	Name   string          `json:"name"`   // afterwards; before, if it was deleted
	Before json.RawMessage `json:"before,omitempty"`
	After  json.RawMessage `json:"after,omitempty"`
}

// What the log keeps: entries, and bytes of what they changed. The older ones
// lose their changes first, then go.
const (
	logEntries = 10_000
	logBytes   = 32 << 20
)

// logged are the tables whose changes are the administrator's, in the order in
// which references point: to earlier ones.
var logged = []string{tCluster, tNetwork, tOSImage, tVersion, tBMCSetup, tGroup, tSwitch, tOtherDev, tNode, tHead}

// recorded gives what the log keeps of an object, and its identity. What heads
// keep in it by themselves, and secrets of the mesh, are left out.
func recorded(o any) (id ID, name string, kept any) {
	switch o := o.(type) {
	case *Cluster:
		c := *o
		c.Secrets, c.Generation = Secrets{}, 0
		return 0, "general", c
	case *Network:
		n := *o
		n.Duty = Duty{}
		return o.ID, o.Name, n
	case *OSImage:
		return o.ID, o.Name, o
	case *ImageVersion:
		return 0, o.ID, struct {
			Image   ID        `json:"image"`
			Created time.Time `json:"created"`
			KernVer string    `json:"kernver"`
		}{o.Image, o.Created, o.KernVer}
	case *BMCSetup:
		return o.ID, o.Name, o
	case *Group:
		return o.ID, o.Name, o
	case *Switch:
		s := *o
		s.Duty = Duty{}
		return o.ID, o.Name, s
	case *OtherDev:
		return o.ID, o.Name, o
	case *Node:
		return o.ID, o.Name, o
	case *Head:
		return o.ID, o.Name, struct {
			Address string `json:"address"`
			Drained bool   `json:"drained,omitempty"`
			Witness bool   `json:"witness,omitempty"`
			Weight  int    `json:"weight,omitempty"`
		}{o.Address.String(), o.Drained, o.Witness, o.Weight}
	}
	panic(fmt.Sprintf("inventory: %T is not logged", o))
}

// Record gives what the log keeps of an object of the state.
func Record(o any) json.RawMessage {
	_, _, kept := recorded(o)
	b, err := json.Marshal(kept)
	if err != nil {
		panic(err) // plain structs: a bug no caller can handle
	}
	return b
}

// Changes gives what the Tx has changed so far of the administrator's objects,
// in the order of references and names.
func (tx *Tx) Changes() []Change {
	var list []Change
	for _, m := range tx.txn.Changes() {
		if !slices.Contains(logged, m.Table) || m.Table == tVersion && !tx.tells(m) {
			continue
		}
		c := Change{Object: m.Table}
		if m.Before != nil {
			c.ID, c.Name, _ = recorded(m.Before)
			c.Before = Record(m.Before)
		}
		if m.After != nil {
			c.ID, c.Name, _ = recorded(m.After)
			c.After = Record(m.After)
		}
		if !bytes.Equal(c.Before, c.After) {
			list = append(list, c)
		}
	}
	slices.SortFunc(list, func(a, b Change) int {
		return cmp.Or(
			cmp.Compare(slices.Index(logged, a.Object), slices.Index(logged, b.Object)),
			strings.Compare(a.Name, b.Name), cmp.Compare(a.ID, b.ID))
	})
	return list
}

// tells whether the change of a version says anything to an administrator: that
// it came, or that it went and its osimage stays. Who holds it is the heads'.
func (tx *Tx) tells(m memdb.Change) bool {
	if m.Before == nil {
		return true
	}
	_, stays := tx.OSImageByID(m.Before.(*ImageVersion).Image)
	return m.After == nil && stays
}

// Log writes the changes of the Tx into the audit trail, if there are any, and
// gives the entry's ID, else 0.
func (tx *Tx) Log(e Envelope) uint64 {
	changes := tx.Changes()
	if len(changes) == 0 {
		return 0
	}
	s := tx.sequence()
	s.Entry++
	entry := &Entry{ID: s.Entry, At: e.At, Verb: Verb(e.Command), Asker: e.Asker, Objects: objects(changes), Changes: changes}
	for _, c := range changes {
		entry.Size += len(c.Before) + len(c.After) + len(c.Name)
	}
	s.LogSize += entry.Size
	tx.put(tLog, entry)
	for s.LogSize > logBytes && s.LogFull < s.Entry {
		s.LogFull++
		if old, ok := tx.Entry(s.LogFull); ok {
			s.LogSize -= old.Size
			tx.put(tLog, old.forget())
		}
	}
	if old, ok := tx.Entry(s.Entry - logEntries); ok && s.Entry > logEntries {
		s.LogSize -= old.Size
		s.LogFull = max(s.LogFull, old.ID)
		tx.drop(tLog, old)
	}
	tx.put(tSequence, &s)
	return entry.ID
}

func (e *Entry) forget() *Entry {
	f := *e
	f.Changes, f.Size, f.Forgotten = nil, 0, true
	return &f
}

// objectsShown bounds the text of one of an entry's Objects, in bytes.
const objectsShown = 1000

// objects names what was changed, one line for each type.
func objects(changes []Change) []string {
	var lines []string
	for len(changes) > 0 {
		object := changes[0].Object
		var names []string
		for len(changes) > 0 && changes[0].Object == object {
			names = append(names, changes[0].Name)
			changes = changes[1:]
		}
		text := object + "/" + CompressHostlist(names)
		if len(text) > objectsShown {
			text = fmt.Sprintf("%s/%s,... (%d)", object, names[0], len(names))
		}
		lines = append(lines, text)
	}
	return lines
}

// Touches tells whether the entry changed the object of that type and name; ""
// stands for every type, and for every name.
func (e *Entry) Touches(object, name string) bool {
	for _, line := range e.Objects {
		of, list, _ := strings.Cut(line, "/")
		if object != "" && of != object {
			continue
		}
		if name == "" || list == name {
			return true
		}
		if names, err := ExpandHostlist(list); err == nil && slices.Contains(names, name) {
			return true
		}
	}
	return slices.ContainsFunc(e.Changes, func(c Change) bool {
		return (object == "" || c.Object == object) && c.Name == name
	})
}

// MarkUndone notes in the entry which other one took it back.
func (tx *Tx) MarkUndone(id, by uint64) {
	if e, ok := tx.Entry(id); ok {
		m := *e
		m.UndoneBy = by
		tx.put(tLog, &m)
	}
}

// Entry gives the log entry of that ID.
func (inv *Inventory) Entry(id uint64) (*Entry, bool) {
	return get[Entry](inv, tLog, "id", idKey(ID(id)))
}

// Entries lists the log, the newest entry first.
func (inv *Inventory) Entries() iter.Seq[*Entry] {
	return func(yield func(*Entry) bool) {
		it, err := inv.txn.GetReverse(tLog, "id")
		if err != nil {
			panic(err)
		}
		for o := it.Next(); o != nil; o = it.Next() {
			if !yield(o.(*Entry)) {
				return
			}
		}
	}
}

// fresh gives an empty object of each type whose record is whole.
func fresh(object string) any {
	switch object {
	case tCluster:
		return new(Cluster)
	case tNetwork:
		return new(Network)
	case tOSImage:
		return new(OSImage)
	case tBMCSetup:
		return new(BMCSetup)
	case tGroup:
		return new(Group)
	case tSwitch:
		return new(Switch)
	case tOtherDev:
		return new(OtherDev)
	case tNode:
		return new(Node)
	}
	return nil
}

// Objects gives the object before and after the change as the state holds it,
// *Node, *Group and so on; nil where there was none. ok is false for what the
// log remembers only in part: heads and image versions.
func (c Change) Objects() (before, after any, ok bool) {
	read := func(raw json.RawMessage) any {
		if raw == nil {
			return nil
		}
		o := fresh(c.Object)
		if err := json.Unmarshal(raw, o); err != nil {
			panic(fmt.Sprintf("inventory: a record of the log cannot be read: %v", err)) // Record wrote it
		}
		return o
	}
	if fresh(c.Object) == nil {
		return nil, nil, false
	}
	return read(c.Before), read(c.After), true
}

// Docs gives the object before and after the change as a document shows it;
// nil where there was none. References to objects that are gone are shown as
// "#" and their ID.
func (c Change) Docs(before, after *Inventory) (was, is any) {
	b, a, whole := c.Objects()
	if !whole {
		return rawOrNil(c.Before), rawOrNil(c.After)
	}
	return docOf(before, b), docOf(after, a)
}

func rawOrNil(raw json.RawMessage) any {
	if raw == nil {
		return nil
	}
	return raw
}

func docOf(inv *Inventory, o any) any {
	switch o := o.(type) {
	case *Cluster:
		if o.Deleted {
			return nil
		}
		return o.doc()
	case *Network:
		return o.doc()
	case *OSImage:
		return o.doc()
	case *BMCSetup:
		return o.doc()
	case *Group:
		return o.doc(inv)
	case *Switch:
		return o.doc(inv)
	case *OtherDev:
		return o.doc(inv)
	case *Node:
		return o.doc(inv)
	}
	return nil
}
