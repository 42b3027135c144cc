package inventory

import (
	"encoding/binary"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/hashicorp/go-memdb"
)

// Table names; they stand in snapshots too and never change.
const (
	tCluster  = "cluster"
	tNetwork  = "network"
	tOSImage  = "osimage"
	tVersion  = "version"
	tBMCSetup = "bmcsetup"
	tGroup    = "group"
	tSwitch   = "switch"
	tOtherDev = "otherdev"
	tNode     = "node"
	tStatus   = "status"
	tHead     = "head"
	tInvite   = "invite"
	tLease    = "lease"
	tRetired  = "retired"
	tOwner    = "address"
	tLog      = "log"
	tReceipt  = "receipt"
	tSequence = "sequence"
)

// Receipt remembers the result of a command by the identity its sender gave
// it, so that a command sent twice (the first answer was lost with a head) is
// done once.
type Receipt struct {
	Request string `json:"request"`
	Seq     uint64 `json:"seq"` // order of arrival: the oldest is forgotten first
	Result  Result `json:"result"`
}

// Sequence holds the counters of the state.
type Sequence struct {
	NextID  ID     `json:"next_id"`
	Receipt uint64 `json:"receipt"`
	Entry   uint64 `json:"entry,omitempty"`    // ID of the newest log entry
	LogSize int    `json:"log_size,omitempty"` // bytes of all changes in the log
	LogFull uint64 `json:"log_full,omitempty"` // ID of the newest log entry whose changes were forgotten

	// From format 2 on.
	Format int       `json:"format,omitempty"` // 0 is 1
	Clock  time.Time `json:"clock,omitzero"`   // of the mesh: see Inventory.Clock
	Held   bool      `json:"held,omitempty"`   // see Inventory.Held
}

// by indexes a table of *T by the key of each object; a nil key leaves the
// object out of the index.
type by[T any] struct{ key func(*T) []byte }

func (i by[T]) FromObject(o any) (bool, []byte, error) {
	k := i.key(o.(*T))
	return k != nil, k, nil
}

func (by[T]) FromArgs(args ...any) ([]byte, error) { return args[0].([]byte), nil }

func idKey(id ID) []byte      { return binary.BigEndian.AppendUint64(nil, uint64(id)) }
func nameKey(s string) []byte { return append([]byte(s), 0) }

// addrKey sorts IPv4 before IPv6 and keeps the order within each family.
func addrKey(a netip.Addr) []byte { return append([]byte{byte(a.BitLen())}, a.AsSlice()...) }

// numberKey sorts the nodes whose names differ in the last number only by that
// number; nil for a name that does not end in one.
func numberKey(prefix string, number uint64, ok bool) []byte {
	if !ok {
		return nil
	}
	return binary.BigEndian.AppendUint64(nameKey(prefix), number)
}

// splitNumber cuts the number off the end of a name.
func splitNumber(name string) (prefix string, number uint64, ok bool) {
	prefix = strings.TrimRight(name, "0123456789")
	number, err := strconv.ParseUint(name[len(prefix):], 10, 63)
	return prefix, number, err == nil
}

func leaseKey(network ID, mac MAC) []byte { return append(idKey(network), mac...) }

func table[T any](name string, indexes map[string]by[T]) *memdb.TableSchema {
	t := &memdb.TableSchema{Name: name, Indexes: map[string]*memdb.IndexSchema{}}
	for n, i := range indexes {
		unique := n != "group" && n != "image" && n != "number"
		t.Indexes[n] = &memdb.IndexSchema{Name: n, Unique: unique, AllowMissing: n != "id", Indexer: i}
	}
	return t
}

func schema() *memdb.DBSchema {
	one := func(k string) []byte { return nameKey(k) }
	s := &memdb.DBSchema{Tables: map[string]*memdb.TableSchema{}}
	for _, t := range []*memdb.TableSchema{
		table(tCluster, map[string]by[Cluster]{"id": {func(*Cluster) []byte { return one("general") }}}),
		table(tSequence, map[string]by[Sequence]{"id": {func(*Sequence) []byte { return one("general") }}}),
		table(tNetwork, map[string]by[Network]{
			"id":   {func(o *Network) []byte { return idKey(o.ID) }},
			"name": {func(o *Network) []byte { return nameKey(o.Name) }},
		}),
		table(tOSImage, map[string]by[OSImage]{
			"id":   {func(o *OSImage) []byte { return idKey(o.ID) }},
			"name": {func(o *OSImage) []byte { return nameKey(o.Name) }},
		}),
		table(tVersion, map[string]by[ImageVersion]{
			"id":    {func(o *ImageVersion) []byte { return nameKey(o.ID) }},
			"image": {func(o *ImageVersion) []byte { return idKey(o.Image) }},
		}),
		table(tGroup, map[string]by[Group]{
			"id":   {func(o *Group) []byte { return idKey(o.ID) }},
			"name": {func(o *Group) []byte { return nameKey(o.Name) }},
		}),
		table(tBMCSetup, map[string]by[BMCSetup]{
			"id":   {func(o *BMCSetup) []byte { return idKey(o.ID) }},
			"name": {func(o *BMCSetup) []byte { return nameKey(o.Name) }},
		}),
		table(tSwitch, map[string]by[Switch]{
			"id":   {func(o *Switch) []byte { return idKey(o.ID) }},
			"name": {func(o *Switch) []byte { return nameKey(o.Name) }},
		}),
		table(tOtherDev, map[string]by[OtherDev]{
			"id":   {func(o *OtherDev) []byte { return idKey(o.ID) }},
			"name": {func(o *OtherDev) []byte { return nameKey(o.Name) }},
		}),
		table(tNode, map[string]by[Node]{
			"id":    {func(o *Node) []byte { return idKey(o.ID) }},
			"name":  {func(o *Node) []byte { return nameKey(o.Name) }},
			"group": {func(o *Node) []byte { return idKey(o.Group) }},
			"mac": {func(o *Node) []byte {
				if o.MAC == "" {
					return nil
				}
				return nameKey(string(o.MAC))
			}},
			"number": {func(o *Node) []byte { return numberKey(splitNumber(o.Name)) }},
		}),
		table(tStatus, map[string]by[Status]{"id": {func(o *Status) []byte { return idKey(o.Node) }}}),
		table(tHead, map[string]by[Head]{
			"id":   {func(o *Head) []byte { return idKey(o.ID) }},
			"name": {func(o *Head) []byte { return nameKey(o.Name) }},
		}),
		table(tInvite, map[string]by[Invite]{"id": {func(o *Invite) []byte { return nameKey(o.ID) }}}),
		table(tLease, map[string]by[Lease]{
			"id":      {func(o *Lease) []byte { return leaseKey(o.Network, o.MAC) }},
			"address": {func(o *Lease) []byte { return addrKey(o.Addr) }},
		}),
		table(tRetired, map[string]by[Retired]{"id": {func(o *Retired) []byte { return retiredKey(o.Addr, o.MAC) }}}),
		table(tOwner, map[string]by[Owner]{"id": {func(o *Owner) []byte { return addrKey(o.Addr) }}}),
		table(tLog, map[string]by[Entry]{"id": {func(o *Entry) []byte { return idKey(ID(o.ID)) }}}),
		table(tReceipt, map[string]by[Receipt]{
			"id":  {func(o *Receipt) []byte { return nameKey(o.Request) }},
			"seq": {func(o *Receipt) []byte { return idKey(ID(o.Seq)) }},
		}),
	} {
		s.Tables[t.Name] = t
	}
	return s
}

// Inventory is the whole replicated state at one moment. It never changes: all
// methods may be called by anyone at any time, and what they return must not
// be written to.
type Inventory struct {
	db  *memdb.MemDB
	txn *memdb.Txn
	// Index is the Raft index of the last command in it, 0 for an empty one.
	Index uint64

	// taken is what is known of networks without looking: up to where none of
	// their addresses is free. It follows from the rest and may be left out.
	taken map[ID]netip.Addr
}

// Empty gives the state before the first command.
func Empty() *Inventory {
	db, err := memdb.NewMemDB(schema())
	if err != nil {
		panic(err) // the schema above is malformed: a bug no caller can handle
	}
	return &Inventory{db: db, txn: db.Txn(false)}
}

// Tx makes the next Inventory out of one. Its lookups see its own writes.
// Only one may be open at a time, and only on the newest Inventory.
type Tx struct{ Inventory }

// Begin opens a Tx on the state; end it with Commit or Abort.
func (inv *Inventory) Begin() *Tx { return inv.begin(inv.db) }

// Fork opens a Tx on a copy of the newest state: what would happen can be seen
// there, and nothing does. It disturbs nobody.
func (inv *Inventory) Fork() *Tx {
	tx := inv.begin(inv.db.Snapshot())
	clear(tx.taken) // the copy may be of a newer state than this one
	return tx
}

func (inv *Inventory) begin(db *memdb.MemDB) *Tx {
	tx := &Tx{Inventory{db: db, txn: db.Txn(true), Index: inv.Index, taken: map[ID]netip.Addr{}}}
	maps.Copy(tx.taken, inv.taken)
	tx.txn.TrackChanges()
	return tx
}

// Commit gives the state with all that was put and deleted, at that index.
func (tx *Tx) Commit(index uint64) *Inventory {
	tx.txn.Commit()
	return &Inventory{db: tx.db, txn: tx.db.Txn(false), Index: index, taken: tx.taken}
}

// Abort forgets the Tx. It is harmless after Commit.
func (tx *Tx) Abort() { tx.txn.Abort() }

// NewID gives an ID that no object ever had.
func (tx *Tx) NewID() ID {
	s := tx.sequence()
	s.NextID++
	tx.put(tSequence, &s)
	return s.NextID
}

func (inv *Inventory) sequence() Sequence {
	if s, ok := get[Sequence](inv, tSequence, "id", nameKey("general")); ok {
		return *s
	}
	return Sequence{}
}

// put and drop panic on a memdb error: with the closed schema above that is a
// bug, and a head that went on after it would diverge from the others.
func (tx *Tx) put(table string, o any) {
	if err := tx.txn.Insert(table, o); err != nil {
		panic(err)
	}
}

func (tx *Tx) drop(table string, o any) {
	if err := tx.txn.Delete(table, o); err != nil {
		panic(err)
	}
}

func get[T any](inv *Inventory, table, index string, key []byte) (*T, bool) {
	o, err := inv.txn.First(table, index, key)
	if err != nil {
		panic(err)
	}
	if o == nil {
		return nil, false
	}
	return o.(*T), true
}

func each[T any](inv *Inventory, table, index string, key ...any) func(yield func(*T) bool) {
	return func(yield func(*T) bool) {
		it, err := inv.txn.Get(table, index, key...)
		if err != nil {
			panic(err)
		}
		for o := it.Next(); o != nil; o = it.Next() {
			if !yield(o.(*T)) {
				return
			}
		}
	}
}

// tableOf names the table of an object that commands may put and delete.
func tableOf(o any) string {
	switch o.(type) {
	case *Cluster:
		return tCluster
	case *Network:
		return tNetwork
	case *OSImage:
		return tOSImage
	case *ImageVersion:
		return tVersion
	case *BMCSetup:
		return tBMCSetup
	case *Group:
		return tGroup
	case *Switch:
		return tSwitch
	case *OtherDev:
		return tOtherDev
	case *Node:
		return tNode
	case *Status:
		return tStatus
	case *Head:
		return tHead
	case *Invite:
		return tInvite
	case *Lease:
		return tLease
	case *Owner:
		return tOwner
	}
	panic("inventory: not an object of the state")
}

// Put stores the object; the pointed-to value must not be written to
// afterwards.
func (tx *Tx) Put(o any) {
	tx.forgetTaken(o)
	tx.put(tableOf(o), o)
}

// Delete takes the object out of its table.
func (tx *Tx) Delete(o any) {
	if own, ok := o.(*Owner); ok {
		if upTo, known := tx.taken[own.Network]; known && own.Addr.Less(upTo) {
			tx.taken[own.Network] = own.Addr
		}
	}
	tx.forgetTaken(o)
	tx.drop(tableOf(o), o)
}

// forgetTaken forgets what followed from an object that changes: a network's
// prefix and range, the addresses of heads and of the front end.
func (tx *Tx) forgetTaken(o any) {
	switch o := o.(type) {
	case *Network:
		delete(tx.taken, o.ID)
	case *Cluster, *Head:
		clear(tx.taken)
	}
}

// Taken tells up to where no address of the network is free, as far as that is
// known: the zero Addr where nothing is.
func (tx *Tx) Taken(network ID) netip.Addr { return tx.taken[network] }

// SetTaken notes that no address of the network below a is free. The next Tx
// knows it too, until it is not so any more.
func (tx *Tx) SetTaken(network ID, a netip.Addr) { tx.taken[network] = a }

// Doubles tells of two objects of one type that have the same name, or two nodes
// with one MAC address: lookups find only one of such two. Commands look before
// they put; whoever puts many objects at once asks this afterwards.
func (inv *Inventory) Doubles() error {
	for _, d := range decoders {
		indexes := inv.db.DBSchema().Tables[d.table].Indexes
		for _, name := range slices.Sorted(maps.Keys(indexes)) {
			index, ok := indexes[name].Indexer.(memdb.SingleIndexer)
			if name == "id" || !indexes[name].Unique || !ok {
				continue
			}
			it, err := inv.txn.Get(d.table, "id")
			if err != nil {
				panic(err)
			}
			for o := it.Next(); o != nil; o = it.Next() {
				has, key, err := index.FromObject(o)
				if err != nil || !has {
					continue
				}
				if first, err := inv.txn.First(d.table, name, key); err != nil || first != o {
					return fmt.Errorf("two objects of type %s would have the same %s", d.table, name)
				}
			}
		}
	}
	return nil
}

// receiptsKept is how many results are remembered: far more than can be asked
// for again within the seconds in which a sender retries.
const receiptsKept = 4096

// Receipt gives the result of a command that was done under that request.
func (inv *Inventory) Receipt(request string) (Result, bool) {
	r, ok := get[Receipt](inv, tReceipt, "id", nameKey(request))
	if !ok {
		return Result{}, false
	}
	return r.Result, true
}

// Remember keeps the result under the request's identity, and forgets the
// oldest.
func (tx *Tx) Remember(request string, result Result) {
	s := tx.sequence()
	s.Receipt++
	tx.put(tSequence, &s)
	tx.put(tReceipt, &Receipt{Request: request, Seq: s.Receipt, Result: result})
	if s.Receipt > receiptsKept {
		if old, ok := get[Receipt](&tx.Inventory, tReceipt, "seq", idKey(ID(s.Receipt-receiptsKept))); ok {
			tx.drop(tReceipt, old)
		}
	}
}
