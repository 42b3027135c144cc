package api

import (
	"context"
	"encoding/json"

	"github.com/clustervision/luna/inventory"
)

// Written is the answer to a change: what it did, or would do.
type Written struct {
	Entry   uint64   `json:"entry" doc:"of the log, for undo; 0 if nothing changed or it was a dry run"`
	Names   []string `json:"names,omitempty" doc:"of the nodes that were added"`
	Notice  string   `json:"notice,omitempty" doc:"why there was nothing to do, or what follows"`
	Changes []Change `json:"changes,omitempty" doc:"of a dry run: what would change"`
}

// Change is an object before and after. The shape of both is that of the object
// in a document (luna export), but for heads and image versions.
type Change struct {
	Object string `json:"object" doc:"its type"`
	Name   string `json:"name"`
	Was    string `json:"was,omitempty" doc:"its name before, where it was renamed"`
	Before any    `json:"before" doc:"null where there was none"`
	After  any    `json:"after" doc:"null where there is none any more"`
}

// changesOf renders changes between two states. A password is masked unless
// asked for; that it changed is not.
func changesOf(before, after *inventory.Inventory, changes []inventory.Change, secrets bool) []Change {
	list := make([]Change, 0, len(changes))
	for _, c := range changes {
		was, is := c.Docs(before, after)
		if !secrets {
			was, is = maskPassword(was, is)
		}
		change := Change{Object: c.Object, Name: c.Name, Before: was, After: is}
		if old, _, ok := c.Objects(); ok && old != nil {
			if _, _, name := inventory.Identify(old); name != c.Name {
				change.Was = name
			}
		}
		list = append(list, change)
	}
	return list
}

func maskPassword(was, is any) (any, any) {
	b, hadOne := was.(inventory.BMCSetupDoc)
	a, hasOne := is.(inventory.BMCSetupDoc)
	changed := hadOne && hasOne && a.Password != b.Password
	if hadOne {
		b.Password.Value = inventory.Masked
		was = b
	}
	if hasOne {
		a.Password.Value = inventory.Masked
		if changed {
			a.Password.Value += " (another)"
		}
		is = a
	}
	return was, is
}

type dryRunKey struct{}

// write puts a command through, or tells what it would do where the request
// asks for a dry run.
func (s *server) write(ctx context.Context, c inventory.Command) (*body[Written], error) {
	c, err := s.b.Prepare(ctx, c)
	if err != nil {
		return nil, err
	}
	var r inventory.Result
	var out Written
	if dry, _ := ctx.Value(dryRunKey{}).(bool); dry {
		var changes []inventory.Change
		var then *inventory.Inventory
		now := s.b.View()
		if r, changes, then, err = s.b.Preview(caller(ctx).asker(), c); err == nil && r.Error == nil {
			out.Changes = changesOf(now, then, changes, false)
		}
	} else {
		r, err = s.b.Propose(ctx, caller(ctx).asker(), c)
	}
	if err != nil {
		return nil, err
	}
	out.Entry = r.Entry
	if err := r.Into(nil); err != nil {
		return nil, err
	}
	switch c.(type) { // whose results are for people
	case inventory.AddNodes:
		err = json.Unmarshal(r.Value, &out.Names)
	case inventory.ChangeGroup:
		if r.Value != nil {
			err = json.Unmarshal(r.Value, &out.Notice)
		}
	}
	return &body[Written]{out}, err
}

// AddNodes is the body of POST /v1/nodes.
type AddNodes struct {
	Group string        `json:"group"`
	Names string        `json:"names,omitempty" doc:"a hostlist; one node with the next automatic name if empty"`
	MAC   inventory.MAC `json:"mac,omitempty"`
	Tags  []string      `json:"tags,omitempty"`
}

// ChangeNodes is the body of PATCH /v1/nodes/{name}: what is given is set.
type ChangeNodes struct {
	Group     *string                `json:"group,omitempty"`
	MAC       *inventory.MAC         `json:"mac,omitempty" doc:"empty erases"`
	Addresses []inventory.SetAddress `json:"addresses,omitempty"`
	LocalBoot *bool                  `json:"localboot,omitempty"`
	SetupBMC  *bool                  `json:"setupbmc,omitempty"`
	Service   *bool                  `json:"service,omitempty"`
	Switch    *string                `json:"switch,omitempty" doc:"empty clears"`
	Port      *string                `json:"port,omitempty" doc:"empty clears"`
	Tag       []string               `json:"tag,omitempty" doc:"tags to have"`
	Untag     []string               `json:"untag,omitempty" doc:"tags not to have"`
	Comment   *string                `json:"comment,omitempty"`
}

func (c ChangeNodes) command(names []string) inventory.ChangeNodes {
	return inventory.ChangeNodes{
		Names: names, Group: c.Group, MAC: c.MAC, Addresses: c.Addresses,
		LocalBoot: c.LocalBoot, SetupBMC: c.SetupBMC, Service: c.Service,
		Switch: c.Switch, Port: c.Port, Tag: c.Tag, Untag: c.Untag, Comment: c.Comment,
	}
}

// AddSwitches is the body of POST /v1/switches.
type AddSwitches struct {
	Names   string  `json:"names" doc:"a hostlist"`
	Network string  `json:"network"`
	IP      string  `json:"ip,omitempty" doc:"the lowest free one if empty; with a '+' behind it each further switch gets the next one"`
	Read    *string `json:"read,omitempty" doc:"SNMP community"`
	RW      *string `json:"rw,omitempty" doc:"SNMP community"`
	OID     *string `json:"oid,omitempty" doc:"of the bridge table"`
}

// ChangeSwitches is the body of PATCH /v1/switches/{name}.
type ChangeSwitches struct {
	Network *string `json:"network,omitempty" doc:"the switch keeps its place in it"`
	IP      *string `json:"ip,omitempty" doc:"with a '+' behind it each further switch gets the next one"`
	Read    *string `json:"read,omitempty"`
	RW      *string `json:"rw,omitempty"`
	OID     *string `json:"oid,omitempty"`
	Comment *string `json:"comment,omitempty"`
}

// AddOtherDevs is the body of POST /v1/otherdevs.
type AddOtherDevs struct {
	Names   string `json:"names" doc:"a hostlist"`
	Network string `json:"network"`
	IP      string `json:"ip" doc:"with a '+' behind it each further device gets the next one"`
}

// ChangeOtherDevs is the body of PATCH /v1/otherdevs/{name}.
type ChangeOtherDevs struct {
	Network string  `json:"network,omitempty"`
	IP      *string `json:"ip,omitempty" doc:"in that network; empty takes the device out of it"`
	Comment *string `json:"comment,omitempty"`
}
