package api

import (
	"context"
	"net/netip"
	"time"

	"github.com/clustervision/luna/inventory"
)

// Backend is the head behind the handler. Package agent implements it.
type Backend interface {
	// View gives the inventory as this head knows it now.
	View() *inventory.Inventory
	// Prepare completes a command with what only a head can see: a tree's kernel,
	// whether a user or a directory exists. It refuses what cannot be.
	Prepare(ctx context.Context, c inventory.Command) (inventory.Command, error)
	// Propose puts a command through Raft, here or one hop away, and returns
	// when this head has applied it. A refusal is an *inventory.Error.
	Propose(ctx context.Context, by inventory.Asker, c inventory.Command) (inventory.Result, error)
	// Preview tells what a command would do, and does not do it: its result and
	// the changes, with the state that it would make.
	Preview(by inventory.Asker, c inventory.Command) (inventory.Result, []inventory.Change, *inventory.Inventory, error)
	// Forwarded applies a command that another head passed on to this one
	// because it leads; it never passes it on again.
	Forwarded(ctx context.Context, command []byte) (Applied, error)

	// Self tells how this head is.
	Self(ctx context.Context) (HeadStatus, error)
	// Heads tells of every head, as seen from this one.
	Heads(ctx context.Context) ([]Head, error)
	// Progress gives how far nodes are with their downloads, if any head
	// heard of one.
	Progress(ctx context.Context, nodes []string) map[string]Progress

	// Init makes a cluster of this one head and gives the admin credential.
	Init(ctx context.Context, r InitRequest) (InitReply, error)
	// Join makes this head a member of the mesh at the address.
	Join(ctx context.Context, r JoinRequest) error
	// Invite makes a join token.
	Invite(ctx context.Context, by inventory.Asker, r InviteRequest) (InviteReply, error)
	// Admit answers a head that wants to join.
	Admit(ctx context.Context, r AdmitRequest) (AdmitReply, error)
	// Credential makes an admin credential: PEM of CA, certificate and key.
	Credential(ctx context.Context, name string) ([]byte, error)
	// RemoveHead forgets a head for good.
	RemoveHead(ctx context.Context, by inventory.Asker, name string) error

	// Kernels lists the kernels in the osimage's tree on this head.
	Kernels(image string) ([]string, error)
	// Pack packs the osimage's tree on this head, telling of its progress.
	Pack(ctx context.Context, by inventory.Asker, image string, r PackRequest, progress func(JobEvent)) error
	// Clone copies the osimage's tree on this head and makes an osimage of the
	// copy.
	Clone(ctx context.Context, by inventory.Asker, image string, r CloneRequest, progress func(JobEvent)) error
	// Grab takes a running host's file systems into the osimage's tree.
	Grab(ctx context.Context, image string, r GrabRequest, progress func(JobEvent)) error
	// Zones gives the DNS zones as files for BIND; write also puts them where the
	// cluster's named_zone_dir is.
	Zones(ctx context.Context, write bool) (Exported, error)
	// DHCPConfig gives the inventory as a configuration of ISC's dhcpd; one for
	// each of a failover pair if asked for.
	DHCPConfig(failover bool) (Exported, error)
	// Script renders what a node gets at "boot" or "install", secrets masked.
	Script(node *inventory.Node, step string) (string, error)
}

// Applied is what a leader answers to a forwarded command: the answer is valid
// for a head that has applied Index.
type Applied struct {
	Index  uint64           `json:"index"`
	Result inventory.Result `json:"result"`
}

// HeadStatus is how a head says it is.
type HeadStatus struct {
	Name         string              `json:"name"`
	Member       bool                `json:"member" doc:"false before luna cluster init or luna join"`
	Version      string              `json:"version"`
	Leader       string              `json:"leader" doc:"name of the head that leads, empty if none is known"`
	AppliedIndex uint64              `json:"applied_index"`
	CommitIndex  uint64              `json:"commit_index"`
	Warnings     []string            `json:"warnings" doc:"what is wrong on this head, in words"`
	Progress     map[string]Progress `json:"progress" doc:"running downloads of nodes that reported here"`
}

// Progress is how far a node is with its download.
type Progress struct {
	Percent float64 `json:"percent" doc:"0 to 100"`
	Age     float64 `json:"age" doc:"seconds since the node said so"`
}

// InitRequest is luna cluster init.
type InitRequest struct {
	FrontendAddress netip.Addr `json:"frontend_address"`
	NodePrefix      string     `json:"nodeprefix,omitempty"`
	NodeDigits      int        `json:"nodedigits,omitempty"`
	User            string     `json:"user,omitempty"`
	Path            string     `json:"path,omitempty"`
}

// InitReply is what init leaves with the administrator.
type InitReply struct {
	UUID       string `json:"uuid"`
	Head       string `json:"head"`
	Credential string `json:"credential" doc:"PEM: CA, certificate and key of the first administrator"`
}

// JoinRequest is luna join.
type JoinRequest struct {
	Address string `json:"address" doc:"host or host:port of any member's API"`
	Token   string `json:"token"`
}

// InviteRequest is luna head invite.
type InviteRequest struct {
	TTL time.Duration `json:"ttl,omitempty" doc:"nanoseconds; one hour if 0"`
}

// InviteReply holds a join token.
type InviteReply struct {
	Token   string    `json:"token"`
	Expires time.Time `json:"expires"`
}

// AdmitRequest is what a joining agent tells a member.
type AdmitRequest struct {
	InviteID  string         `json:"invite_id"`
	Secret    string         `json:"secret"`
	Name      string         `json:"name"`
	Address   netip.Addr     `json:"address"`
	Addresses []netip.Prefix `json:"addresses"`
	Ports     Ports          `json:"ports"`
	Version   string         `json:"version"`
	Protocol  int            `json:"protocol" doc:"version of the language between heads"`
	Time      time.Time      `json:"time" doc:"the joining head's clock"`
	CSR       string         `json:"csr" doc:"PEM certificate signing request"`
}

// Ports are the TCP ports of a head; gossip uses UDP too.
type Ports struct {
	API    int `json:"api"`
	Raft   int `json:"raft"`
	Gossip int `json:"gossip"`
	HTTP   int `json:"http"`
}

// AdmitReply is all that a head needs to be a member.
type AdmitReply struct {
	Certificate string   `json:"certificate"` // PEM
	CA          string   `json:"ca"`          // PEM
	GossipKey   []byte   `json:"gossip_key"`
	Cluster     string   `json:"cluster"` // its UUID
	Gossip      []string `json:"gossip"`  // addresses of members to join
	Index       uint64   `json:"index"`   // the state with the new head in it
}

// ProtocolVersion is the version of the language between heads: heads of
// different ones refuse each other with a clear word.
const ProtocolVersion = 1

// PackRequest says what of an osimage to pack. All of it if nothing is set; what
// is left out is taken from the newest version.
type PackRequest struct {
	Tree     bool `json:"tree,omitempty" doc:"only the root file system"`
	Boot     bool `json:"boot,omitempty" doc:"only the kernel and the initrd"`
	CopyBoot bool `json:"copy_boot,omitempty" doc:"take the initrd that the tree has instead of building one"`
}

// CloneRequest says where a copy of an osimage goes.
type CloneRequest struct {
	To   string `json:"to" doc:"name of the new osimage"`
	Path string `json:"path" doc:"where its tree goes, on the asked head"`
}

// GrabRequest says of which host to take what.
type GrabRequest struct {
	Host    string `json:"host"`
	DryRun  bool   `json:"dry_run,omitempty"`
	Verbose bool   `json:"verbose,omitempty"`
}

// JobDone is the phase of the last event of a job that went well.
const JobDone = "done"

// JobEvent is one line of the progress of a long job on a head.
type JobEvent struct {
	Phase   string           `json:"phase"`             // "tree", "initrd", "describe", "publish", "copy", "done"
	Done    int64            `json:"done,omitempty"`    // bytes
	Total   int64            `json:"total,omitempty"`   // bytes; 0 if not known yet
	Message string           `json:"message,omitempty"` // a line for people
	Version string           `json:"version,omitempty"` // with "done" of a pack
	Error   *inventory.Error `json:"error,omitempty"`   // the last event, if it failed
}

// Exported are files made of the inventory for another server.
type Exported struct {
	Files   []ExportedFile `json:"files"`
	Notices []string       `json:"notices" doc:"what the reader should know, in words"`
}

// ExportedFile is a file, with its place where it was written.
type ExportedFile struct {
	Path    string `json:"path"`
	Content string `json:"content"`
}
