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
	// RemoveHead forgets a head for good. It is refused where that would cost the
	// quorum or the only copy of an image, unless forced.
	RemoveHead(ctx context.Context, by inventory.Asker, name string, force bool) error
	// ReplaceHead removes a head that is lost and makes a token for the machine
	// that takes its place.
	ReplaceHead(ctx context.Context, by inventory.Asker, name string, r ReplaceRequest) (InviteReply, error)
	// ChangeHead tells a head what share of the duties to take.
	ChangeHead(ctx context.Context, by inventory.Asker, name string, r HeadChange) error
	// Drain takes from a head all that another one can do, and returns when the
	// head may be stopped.
	Drain(ctx context.Context, by inventory.Asker, name string, r DrainRequest, progress func(JobEvent)) error
	// Undrain lets a head work again.
	Undrain(ctx context.Context, by inventory.Asker, name string) error
	// Leave drains this head and removes it; its agent is as new then.
	Leave(ctx context.Context, by inventory.Asker, name string, r LeaveRequest, progress func(JobEvent)) error

	// Fresh returns when this head has applied all that was committed anywhere
	// before the call; what View gives then is linearizable. Where it cannot be
	// found out, the error tells why in words; an *inventory.Error is a refusal to
	// answer at all.
	Fresh(ctx context.Context) error
	// ReadIndex gives the index that a head must have applied to be fresh, if
	// this one leads.
	ReadIndex(ctx context.Context) (uint64, error)
	// Safe tells whether a head may go down now.
	Safe(ctx context.Context, head string) (Safety, error)
	// Status tells how the whole cluster is.
	Status(ctx context.Context) (ClusterStatus, error)

	// Backup gives the whole state but for the images, consistent, with its secrets.
	Backup(ctx context.Context) ([]byte, error)
	// Restore begins a cluster on this head with what Backup gave.
	Restore(ctx context.Context, backup []byte) (RestoreReply, error)
	// Recover goes on with this head alone, where the others are lost for good.
	Recover(ctx context.Context, by inventory.Asker) error

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
	SyncedIndex  uint64              `json:"synced_index" doc:"what it has applied and would know after a power cut"`
	Warnings     []string            `json:"warnings" doc:"what is wrong on this head, in words"`
	Progress     map[string]Progress `json:"progress" doc:"running downloads of nodes that reported here"`
	Format       int                 `json:"format" doc:"version of the log that it understands"`
	CutOff       float64             `json:"cut_off" doc:"seconds since it last heard of a head that leads; 0 where it hears of one"`
	Transfers    int                 `json:"transfers" doc:"downloads that it serves at this moment"`
	Booting      []string            `json:"booting" doc:"nodes that boot from it at this moment"`
	Voters       []string            `json:"voters" doc:"the heads that have a vote, as far as it knows"`
}

// HeadChange is luna head change.
type HeadChange struct {
	Weight *int `json:"weight,omitempty" doc:"share of the duties that it takes, beside the other heads': 1 to 100 (1 if never set)"`
}

// DrainRequest is luna head drain.
type DrainRequest struct {
	Wait   time.Duration `json:"wait,omitempty" doc:"nanoseconds to wait for nodes that boot from it; ten minutes if 0"`
	NoWait bool          `json:"no_wait,omitempty" doc:"do not wait at all"`
}

// LeaveRequest is luna leave.
type LeaveRequest struct {
	Force  bool          `json:"force,omitempty" doc:"even where that costs the quorum or the only copy of an image, and without waiting"`
	Wait   time.Duration `json:"wait,omitempty" doc:"nanoseconds to wait for nodes that boot from it; ten minutes if 0"`
	NoWait bool          `json:"no_wait,omitempty" doc:"do not wait at all"`
}

// ReplaceRequest is luna head replace.
type ReplaceRequest struct {
	TTL   time.Duration `json:"ttl,omitempty" doc:"nanoseconds that the token is good; one hour if 0"`
	Force bool          `json:"force,omitempty" doc:"even where that costs the only copy of an image"`
}

// Safety says whether a head may go down now.
type Safety struct {
	Head    string   `json:"head"`
	Safe    bool     `json:"safe"`
	Reasons []string `json:"reasons" doc:"why it must stay"`
	Notes   []string `json:"notes" doc:"what is good to know, and no reason to wait"`
}

// ClusterStatus is one look at everything.
type ClusterStatus struct {
	Cluster  string        `json:"cluster" doc:"its UUID"`
	Asked    string        `json:"asked" doc:"the head that tells"`
	Leader   string        `json:"leader" doc:"empty where no head leads"`
	Format   int           `json:"format" doc:"version of the log that the mesh uses"`
	Voters   int           `json:"voters"`
	Alive    int           `json:"alive" doc:"voters that are there"`
	Quorum   int           `json:"quorum" doc:"voters that must be there for changes"`
	Heads    []Head        `json:"heads"`
	Duties   []DutyStatus  `json:"duties"`
	Images   []ImageStatus `json:"images"`
	Nodes    NodeCounts    `json:"nodes"`
	Waiting  int           `json:"waiting" doc:"addresses that are nobody's yet, since not every head has heard that they were given up"`
	Warnings []string      `json:"warnings" doc:"what is wrong, in words; of a head with its name in front"`
}

// DutyStatus is what exactly one head should do.
type DutyStatus struct {
	Duty   string `json:"duty" doc:"dhcp or poll"`
	On     string `json:"on" doc:"the network or the switch"`
	Holder string `json:"holder" doc:"empty where no head can"`
	Epoch  uint64 `json:"epoch" doc:"grows each time that it is handed over"`
}

// ImageStatus is an osimage with what nodes boot of it.
type ImageStatus struct {
	Name     string   `json:"name"`
	Version  string   `json:"version" doc:"that nodes boot; empty where none is ready"`
	Heads    []string `json:"heads" doc:"that hold it"`
	Missing  []string `json:"missing" doc:"that do not hold it yet"`
	Replicas int      `json:"replicas" doc:"how many heads must hold it"`
}

// NodeCounts are the nodes by what they reported last.
type NodeCounts struct {
	Total   int `json:"total"`
	Booted  int `json:"booted"`
	Booting int `json:"booting"`
	Failed  int `json:"failed"`
	Silent  int `json:"silent" doc:"never reported anything"`
}

// RestoreReply is what a restore leaves with the administrator.
type RestoreReply struct {
	UUID    string    `json:"uuid"`
	Head    string    `json:"head"`
	Taken   time.Time `json:"taken" doc:"when the backup was made, by the clock of the head that made it"`
	Nodes   int       `json:"nodes"`
	Missing []string  `json:"missing" doc:"osimages that are to be packed anew, as the head has not all of any version: images are in no backup"`
	// Credential is a new one of the first administrator: PEM of CA, certificate and key.
	Credential string `json:"credential"`
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
	Format    int            `json:"format,omitempty" doc:"version of the log that it understands; 1 if it does not say"`
	Witness   bool           `json:"witness,omitempty" doc:"it only votes"`
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
	Generation  uint64   `json:"generation,omitempty"`
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
	Changed bool   `json:"changed,omitempty" doc:"the asked head has, or had, another one in its place, whatever the serial, or none"`
}
