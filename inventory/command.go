package inventory

import (
	"bytes"
	"encoding/json"
	"fmt"
	"reflect"
	"time"
)

// Command is one verb: a change of the inventory that happens whole or not at
// all. The set is closed: the types in this file. What time it is, what is
// random and what was measured travels inside, for applying a command must give
// the same result on every head, today and in a year.
type Command interface {
	// Validate refuses what is malformed, whatever the state is.
	Validate() error
}

// FormatVersion is the newest version of the command envelope, of the rules by
// which commands are applied, and of the snapshot, that this release knows. A
// head refuses a higher one rather than guess. A mesh uses the version that all
// its heads know, which [Inventory.Format] tells: a command of version N is
// applied by the rules of version N on every head, whatever its release.
//
//	1: the first
//	2: the mesh's own clock, retired addresses, and what heads are told to do
const FormatVersion = 2

// since is the format from which on a command may be used; 1 where none is given.
var since = map[string]int{"advance": 2, "change-head": 2, "adopt-cluster": 2}

// Since gives the format from which on the command may be used.
func Since(c Command) int {
	switch c := c.(type) { // what an older release would leave out of a command that it knows
	case InitCluster:
		if c.Head.told() {
			return 2
		}
	case AdmitHead:
		if c.Head.told() {
			return 2
		}
	case LeaseAddress:
		if c.Declined.IsValid() {
			return 2
		}
	case AssignDuties:
		if len(c.Polls) > 0 {
			return 2
		}
	}
	return max(1, since[Verb(c)])
}

// Envelope is a command on its way through Raft.
type Envelope struct {
	Version int       `json:"v"`       // of the rules; 0 is FormatVersion
	Request string    `json:"request"` // random; the same command sent twice is done once
	At      time.Time `json:"at"`      // when it was asked for, by the clock of the head that took it
	Asker
	Command Command `json:"-"`
}

// Asker is who asked for a command, and from where.
type Asker struct {
	By   string `json:"by,omitempty"`   // "alice" of a credential or a login, "h1" of a head itself
	From string `json:"from,omitempty"` // an address, or the head on whose socket it was asked
}

type wireEnvelope struct {
	Envelope
	Type string          `json:"type"`
	Body json.RawMessage `json:"command"`
}

// verbs names each command on the wire; a name once released stays.
var verbs = map[string]reflect.Type{
	"init-cluster":     reflect.TypeFor[InitCluster](),
	"set-up-cluster":   reflect.TypeFor[SetUpCluster](),
	"delete-cluster":   reflect.TypeFor[DeleteCluster](),
	"change-cluster":   reflect.TypeFor[ChangeCluster](),
	"add-network":      reflect.TypeFor[AddNetwork](),
	"change-network":   reflect.TypeFor[ChangeNetwork](),
	"delete-network":   reflect.TypeFor[DeleteNetwork](),
	"set-range":        reflect.TypeFor[SetRange](),
	"add-osimage":      reflect.TypeFor[AddOSImage](),
	"change-osimage":   reflect.TypeFor[ChangeOSImage](),
	"delete-osimage":   reflect.TypeFor[DeleteOSImage](),
	"publish-version":  reflect.TypeFor[PublishVersion](),
	"record-holder":    reflect.TypeFor[RecordHolder](),
	"delete-version":   reflect.TypeFor[DeleteVersion](),
	"add-group":        reflect.TypeFor[AddGroup](),
	"change-group":     reflect.TypeFor[ChangeGroup](),
	"clone-group":      reflect.TypeFor[CloneGroup](),
	"delete-group":     reflect.TypeFor[DeleteGroup](),
	"add-bmcsetup":     reflect.TypeFor[AddBMCSetup](),
	"change-bmcsetup":  reflect.TypeFor[ChangeBMCSetup](),
	"delete-bmcsetup":  reflect.TypeFor[DeleteBMCSetup](),
	"add-switches":     reflect.TypeFor[AddSwitches](),
	"change-switches":  reflect.TypeFor[ChangeSwitches](),
	"delete-switches":  reflect.TypeFor[DeleteSwitches](),
	"add-otherdevs":    reflect.TypeFor[AddOtherDevs](),
	"change-otherdevs": reflect.TypeFor[ChangeOtherDevs](),
	"delete-otherdevs": reflect.TypeFor[DeleteOtherDevs](),
	"add-nodes":        reflect.TypeFor[AddNodes](),
	"change-nodes":     reflect.TypeFor[ChangeNodes](),
	"delete-nodes":     reflect.TypeFor[DeleteNodes](),
	"rename":           reflect.TypeFor[Rename](),
	"apply":            reflect.TypeFor[ApplyDocument](),
	"undo":             reflect.TypeFor[UndoChange](),
	"record-status":    reflect.TypeFor[RecordStatus](),
	"create-invite":    reflect.TypeFor[CreateInvite](),
	"admit-head":       reflect.TypeFor[AdmitHead](),
	"update-head":      reflect.TypeFor[UpdateHead](),
	"remove-head":      reflect.TypeFor[RemoveHead](),
	"assign-duties":    reflect.TypeFor[AssignDuties](),
	"lease-address":    reflect.TypeFor[LeaseAddress](),
	"advance":          reflect.TypeFor[Advance](),
	"change-head":      reflect.TypeFor[ChangeHead](),
	"adopt-cluster":    reflect.TypeFor[AdoptCluster](),
}

// Verb gives the name of the command's type on the wire, as the audit shows it.
func Verb(c Command) string {
	t := reflect.TypeOf(c)
	for name, v := range verbs {
		if v == t {
			return name
		}
	}
	return ""
}

// Encode gives the bytes that go through Raft.
func (e Envelope) Encode() ([]byte, error) {
	if e.Version == 0 {
		e.Version = FormatVersion
	}
	verb := Verb(e.Command)
	if verb == "" {
		return nil, fmt.Errorf("encode command: %T is not in the set of commands", e.Command)
	}
	if need := Since(e.Command); need > e.Version {
		return nil, Errorf(KindUnavailable, "", "", "not all heads of the mesh are there with a release of luna that knows this: upgrade luna on all heads first, and remove those that are lost (`luna cluster status` shows their versions)")
	}
	body, err := json.Marshal(e.Command)
	if err != nil {
		return nil, fmt.Errorf("encode command %s: %w", verb, err)
	}
	return json.Marshal(wireEnvelope{Envelope: e, Type: verb, Body: body})
}

// Decode reads what Encode made. A newer version or an unknown command is an
// error that must stop the head: going on would make it differ from the others.
func Decode(b []byte) (Envelope, error) {
	var w wireEnvelope
	if err := json.Unmarshal(b, &w); err != nil {
		return Envelope{}, fmt.Errorf("decode command: %w", err)
	}
	if w.Version > FormatVersion {
		return Envelope{}, fmt.Errorf("decode command: format %d is newer than this agent's %d: upgrade luna on this head", w.Version, FormatVersion)
	}
	t, ok := verbs[w.Type]
	if !ok {
		return Envelope{}, fmt.Errorf("decode command: %q is unknown to this agent: upgrade luna on this head", w.Type)
	}
	c := reflect.New(t)
	dec := json.NewDecoder(bytes.NewReader(w.Body))
	if err := dec.Decode(c.Interface()); err != nil {
		return Envelope{}, fmt.Errorf("decode command %s: %w", w.Type, err)
	}
	e := w.Envelope
	e.Command = c.Elem().Interface().(Command)
	return e, nil
}

// Result is what applying a command gave: a value, or a refusal.
type Result struct {
	Value json.RawMessage `json:"value,omitempty"`
	Entry uint64          `json:"entry,omitempty"` // in the log; 0 where nothing of the administrator's changed
	Error *Error          `json:"error,omitempty"`
}

// Into decodes the value into v, or gives the refusal.
func (r Result) Into(v any) error {
	if r.Error != nil {
		return r.Error
	}
	if v == nil || len(r.Value) == 0 {
		return nil
	}
	return json.Unmarshal(r.Value, v)
}
