package inventory

import (
	"bytes"
	"encoding/json"
	"fmt"
	"net/netip"
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

// FormatVersion is the version of the command envelope and of the snapshot. A
// head refuses a higher one rather than guess.
const FormatVersion = 1

// Envelope is a command on its way through Raft.
type Envelope struct {
	Version int       `json:"v"`
	Request string    `json:"request"`      // random; the same command sent twice is done once
	At      time.Time `json:"at"`           // when it was asked for, by the clock of the head that took it
	By      string    `json:"by,omitempty"` // who asked: "admin", "root@h1", "h1"
	Command Command   `json:"-"`
}

type wireEnvelope struct {
	Envelope
	Type string          `json:"type"`
	Body json.RawMessage `json:"command"`
}

// verbs names each command on the wire; a name once released stays.
var verbs = map[string]reflect.Type{
	"init-cluster":     reflect.TypeFor[InitCluster](),
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
	"change-interface": reflect.TypeFor[ChangeInterface](),
	"delete-group":     reflect.TypeFor[DeleteGroup](),
	"add-nodes":        reflect.TypeFor[AddNodes](),
	"change-nodes":     reflect.TypeFor[ChangeNodes](),
	"delete-nodes":     reflect.TypeFor[DeleteNodes](),
	"rename":           reflect.TypeFor[Rename](),
	"record-status":    reflect.TypeFor[RecordStatus](),
	"create-invite":    reflect.TypeFor[CreateInvite](),
	"admit-head":       reflect.TypeFor[AdmitHead](),
	"update-head":      reflect.TypeFor[UpdateHead](),
	"remove-head":      reflect.TypeFor[RemoveHead](),
	"assign-duties":    reflect.TypeFor[AssignDuties](),
	"lease-address":    reflect.TypeFor[LeaseAddress](),
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
	e.Version = FormatVersion
	verb := Verb(e.Command)
	if verb == "" {
		return nil, fmt.Errorf("encode command: %T is not in the set of commands", e.Command)
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

// InitCluster makes the cluster and its first head.
type InitCluster struct {
	Cluster Cluster `json:"cluster"`
	Head    Head    `json:"head"`
}

// ChangeCluster sets what is given. A pointer to "" for Comment unsets it.
type ChangeCluster struct {
	NodePrefix      *string     `json:"nodeprefix,omitempty"`
	NodeDigits      *int        `json:"nodedigits,omitempty"`
	User            *string     `json:"user,omitempty"`
	Path            *string     `json:"path,omitempty"`
	FrontendAddress *netip.Addr `json:"frontend_address,omitempty"`
	FrontendPort    *int        `json:"frontend_port,omitempty"`
	Replicas        *int        `json:"replicas,omitempty"`
	SeedSeconds     *int        `json:"seed_seconds,omitempty"`
	Comment         *string     `json:"comment,omitempty"`
}

// AddNetwork makes a network. NSIP defaults to its last assignable address.
type AddNetwork struct {
	Name       string       `json:"name"`
	Prefix     netip.Prefix `json:"prefix"` // any address of the network will do
	NSHostname string       `json:"ns_hostname,omitempty"`
	NSIP       netip.Addr   `json:"ns_ip,omitzero"`
}

// ChangeNetwork sets what is given. A new prefix moves every address with it.
type ChangeNetwork struct {
	Name       string        `json:"name,omitempty"`
	Prefix     *netip.Prefix `json:"prefix,omitempty"`
	NSHostname *string       `json:"ns_hostname,omitempty"`
	NSIP       *netip.Addr   `json:"ns_ip,omitempty"`
	Reserve    []netip.Addr  `json:"reserve,omitempty"`
	Release    []netip.Addr  `json:"release,omitempty"`
	Comment    *string       `json:"comment,omitempty"`
}

// DeleteNetwork removes a network that nothing uses.
type DeleteNetwork struct {
	Name string `json:"name"`
}

// SetRange sets the pool of a network, from which unknown machines get their
// addresses; with it the network gets DHCP. A zero range ends both.
type SetRange struct {
	Network string    `json:"network"`
	Range   AddrRange `json:"range,omitzero"`
}

// AddOSImage makes an osimage of a tree that the asked head has checked.
type AddOSImage struct {
	Name     string `json:"name"`
	Path     string `json:"path"`
	KernVer  string `json:"kernver"`
	KernOpts string `json:"kernopts,omitempty"`
}

// ChangeOSImage sets what is given.
type ChangeOSImage struct {
	Name            string  `json:"name,omitempty"`
	Path            *string `json:"path,omitempty"`
	KernVer         *string `json:"kernver,omitempty"`
	KernOpts        *string `json:"kernopts,omitempty"`
	KernModules     *string `json:"kernmodules,omitempty"`
	DracutModules   *string `json:"dracutmodules,omitempty"`
	GrabExcludeList *string `json:"grab_exclude_list,omitempty"`
	GrabFilesystems *string `json:"grab_filesystems,omitempty"`
	Comment         *string `json:"comment,omitempty"`
}

// DeleteOSImage removes an osimage that no group uses, and its versions.
type DeleteOSImage struct {
	Name string `json:"name"`
}

// PublishVersion makes a packed version known, held by one head so far.
type PublishVersion struct {
	OSImage string       `json:"osimage"`
	Version ImageVersion `json:"version"` // ID, Created, KernVer, artifacts, UnpackedSize
	Head    string       `json:"head"`
}

// RecordHolder says that a head has a version on disk, or has it no more.
type RecordHolder struct {
	Version string `json:"version"`
	Head    string `json:"head"`
	Held    bool   `json:"held"`
}

// DeleteVersion forgets a version; the heads then delete its artifacts.
type DeleteVersion struct {
	Version string `json:"version"`
}

// AddGroup makes a group whose nodes boot from BOOTIF on the network.
type AddGroup struct {
	Name       string `json:"name"`
	OSImage    string `json:"osimage"`
	Network    string `json:"network"`
	BMCNetwork string `json:"bmcnetwork,omitempty"` // makes an interface BMC in it too
}

// ChangeGroup sets what is given. Domain "" clears it.
type ChangeGroup struct {
	Name       string  `json:"name,omitempty"`
	OSImage    *string `json:"osimage,omitempty"`
	Domain     *string `json:"domain,omitempty"`
	PreScript  *string `json:"prescript,omitempty"`
	PartScript *string `json:"partscript,omitempty"`
	PostScript *string `json:"postscript,omitempty"`
	Comment    *string `json:"comment,omitempty"`
}

// InterfaceAction is what ChangeInterface does.
type InterfaceAction string

// The actions on an interface of a group.
const (
	InterfaceAdd    InterfaceAction = "add"
	InterfaceDelete InterfaceAction = "delete"
	InterfaceSetNet InterfaceAction = "setnet"
	InterfaceDelNet InterfaceAction = "delnet"
	InterfaceRename InterfaceAction = "rename"
	InterfaceParams InterfaceAction = "params"
)

// ChangeInterface does one thing to one interface of a group, and to the
// addresses of all its nodes.
type ChangeInterface struct {
	Group     string          `json:"group,omitempty"`
	Interface string          `json:"interface"`
	Action    InterfaceAction `json:"action"`
	Network   string          `json:"network,omitempty"` // setnet, delnet
	NewName   string          `json:"newname,omitempty"` // rename
	Params    string          `json:"params,omitempty"`  // params
	// Implicit makes a missing interface before setnet; see Interface.Implicit.
	Implicit bool `json:"implicit,omitempty"`
}

// DeleteGroup removes a group that has no nodes.
type DeleteGroup struct {
	Name string `json:"name"`
}

// AddNodes makes nodes, each with the next free address on each interface of
// its group. Without names it makes one with the next automatic name. The
// result is the list of names.
type AddNodes struct {
	Group string   `json:"group"`
	Names []string `json:"names,omitempty"`
	MAC   MAC      `json:"mac,omitempty"` // only with one node
}

// ChangeNodes sets on every named node what is given. MAC "" erases it.
type ChangeNodes struct {
	Names     []string     `json:"names"`
	Group     *string      `json:"group,omitempty"`
	MAC       *MAC         `json:"mac,omitempty"`
	Addresses []SetAddress `json:"addresses,omitempty"`
	LocalBoot *bool        `json:"localboot,omitempty"`
	SetupBMC  *bool        `json:"setupbmc,omitempty"`
	Service   *bool        `json:"service,omitempty"`
	Comment   *string      `json:"comment,omitempty"`
}

// SetAddress gives an interface another address of the same family.
type SetAddress struct {
	Interface string     `json:"interface"`
	Addr      netip.Addr `json:"addr"`
}

// DeleteNodes removes nodes and frees what they had.
type DeleteNodes struct {
	Names []string `json:"names"`
}

// Rename gives an object a new name; nothing that refers to it breaks.
type Rename struct {
	Object  string `json:"object"` // network, osimage, group, node
	Name    string `json:"name"`
	NewName string `json:"newname"`
}

// RecordStatus stores stages that nodes reported; unknown nodes are passed over.
type RecordStatus struct {
	Statuses []NodeStatus `json:"statuses"`
}

// NodeStatus is a Status by the name of its node.
type NodeStatus struct {
	Name string `json:"name"`
	Status
}

// CreateInvite stores a join token's hash.
type CreateInvite struct {
	Invite Invite `json:"invite"`
}

// AdmitHead uses up an invite and makes the head a member, in one step. At is
// the time of the admitting head: a token's hour is counted by one clock as
// long as the heads' clocks agree, which the admission checks.
type AdmitHead struct {
	Invite string    `json:"invite"`
	Secret string    `json:"secret"` // its SHA-256, hex
	At     time.Time `json:"at"`
	Head   Head      `json:"head"`
}

// UpdateHead records what a running agent says of its own head.
type UpdateHead struct {
	Name       string         `json:"name"`
	Address    netip.Addr     `json:"address"`
	Addresses  []netip.Prefix `json:"addresses"`
	APIPort    int            `json:"api_port"`
	RaftPort   int            `json:"raft_port"`
	GossipPort int            `json:"gossip_port"`
	HTTPPort   int            `json:"http_port"`
	Version    string         `json:"version"`
}

// RemoveHead forgets a head for good.
type RemoveHead struct {
	Name string `json:"name"`
}

// AssignDuties makes heads holders of DHCP, by network; "" takes it from all.
type AssignDuties struct {
	DHCP map[string]string `json:"dhcp"` // network name to head name
}

// LeaseAddress gives an unknown machine a pool address on a network, or renews
// the one it has. The result is the Lease.
type LeaseAddress struct {
	Network string        `json:"network"`
	MAC     MAC           `json:"mac"`
	At      time.Time     `json:"at"`
	TTL     time.Duration `json:"ttl"` // ns
}

// Result is what applying a command gave: a value, or a refusal.
type Result struct {
	Value json.RawMessage `json:"value,omitempty"`
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
