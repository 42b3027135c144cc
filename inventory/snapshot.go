package inventory

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
)

// record is one line of a snapshot: an object and the table it belongs to.
type record struct {
	Table  string          `json:"t"`
	Object json.RawMessage `json:"o"`
}

// header is the first line of a snapshot.
type header struct {
	Format  string `json:"format"`
	Version int    `json:"v"`
	Index   uint64 `json:"index"`
}

const snapshotFormat = "luna-inventory"

// decoders gives, for each table in the order of the snapshot, a fresh object.
var decoders = []struct {
	table string
	fresh func() any
}{
	{tSequence, func() any { return new(Sequence) }},
	{tCluster, func() any { return &Cluster{Services: DefaultServices()} }}, // for samples older than Services
	{tNetwork, func() any { return new(Network) }},
	{tOSImage, func() any { return new(OSImage) }},
	{tVersion, func() any { return new(ImageVersion) }},
	{tBMCSetup, func() any { return new(BMCSetup) }},
	{tGroup, func() any { return new(Group) }},
	{tSwitch, func() any { return new(Switch) }},
	{tOtherDev, func() any { return new(OtherDev) }},
	{tNode, func() any { return new(Node) }},
	{tStatus, func() any { return new(Status) }},
	{tHead, func() any { return new(Head) }},
	{tInvite, func() any { return new(Invite) }},
	{tLease, func() any { return new(Lease) }},
	{tRetired, func() any { return new(Retired) }},
	{tOwner, func() any { return new(Owner) }},
	{tLog, func() any { return new(Entry) }},
	{tReceipt, func() any { return new(Receipt) }},
}

// WriteTo writes the whole state as lines of JSON, in an order that depends on
// nothing but the state. Its version is the mesh's, so that a head of an older
// release, which is in a mesh of its format, can read it.
func (inv *Inventory) WriteTo(w io.Writer) (int64, error) {
	b := bufio.NewWriterSize(w, 1<<16)
	n := &counter{w: b}
	enc := json.NewEncoder(n)
	if err := enc.Encode(header{snapshotFormat, inv.Format(), inv.Index}); err != nil {
		return n.n, err
	}
	for _, d := range decoders {
		it, err := inv.txn.Get(d.table, "id")
		if err != nil {
			return n.n, err
		}
		for o := it.Next(); o != nil; o = it.Next() {
			body, err := json.Marshal(o)
			if err != nil {
				return n.n, fmt.Errorf("write %s: %w", d.table, err)
			}
			if err := enc.Encode(record{d.table, body}); err != nil {
				return n.n, err
			}
		}
	}
	return n.n, b.Flush()
}

// Read makes the state that WriteTo wrote.
func Read(r io.Reader) (*Inventory, error) {
	dec := json.NewDecoder(bufio.NewReaderSize(r, 1<<16))
	var h header
	if err := dec.Decode(&h); err != nil {
		return nil, fmt.Errorf("read snapshot: %w", err)
	}
	if h.Format != snapshotFormat || h.Version > FormatVersion {
		return nil, fmt.Errorf("read snapshot: format %q version %d is not one that this agent reads (up to %s version %d)", h.Format, h.Version, snapshotFormat, FormatVersion)
	}
	fresh := map[string]func() any{}
	for _, d := range decoders {
		fresh[d.table] = d.fresh
	}
	tx := Empty().Begin()
	defer tx.Abort()
	for {
		var rec record
		err := dec.Decode(&rec)
		if errors.Is(err, io.EOF) {
			return tx.Commit(h.Index), nil
		}
		if err != nil {
			return nil, fmt.Errorf("read snapshot: %w", err)
		}
		f, ok := fresh[rec.Table]
		if !ok {
			return nil, fmt.Errorf("read snapshot: table %q is unknown to this agent", rec.Table)
		}
		o := f()
		if err := json.Unmarshal(rec.Object, o); err != nil {
			return nil, fmt.Errorf("read snapshot: %s: %w", rec.Table, err)
		}
		tx.put(rec.Table, o)
	}
}

type counter struct {
	w io.Writer
	n int64
}

func (c *counter) Write(p []byte) (int, error) {
	n, err := c.w.Write(p)
	c.n += int64(n)
	return n, err
}
