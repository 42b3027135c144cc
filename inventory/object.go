package inventory

import (
	"encoding/json"
	"net/netip"
	"slices"
	"time"
)

// ID identifies an object for its whole life; 0 is no object. IDs come from one
// counter in the replicated state and are never used again.
type ID uint64

// Cluster is the one object that is there once: the settings of the whole site
// and the secrets that make the heads one mesh.
type Cluster struct {
	UUID            string     `json:"uuid"` // random, made by init; stands in certificates and tokens
	NodePrefix      string     `json:"nodeprefix"`
	NodeDigits      int        `json:"nodedigits"`
	User            string     `json:"user"`
	Path            string     `json:"path"`
	FrontendAddress netip.Addr `json:"frontend_address"` // the address administrators call the site by
	FrontendPort    int        `json:"frontend_port"`    // TCP port on which every head serves nodes over HTTP
	FrontendHTTPS   bool       `json:"frontend_https,omitempty"`
	Replicas        int        `json:"replicas"`     // heads that must hold an image version before it is booted
	SeedSeconds     int        `json:"seed_seconds"` // how long a node goes on seeding before it hands over to its OS
	Services        Services   `json:"services"`
	Comment         *string    `json:"comment,omitempty"`
	Secrets         Secrets    `json:"secrets"`
	// Generation counts how often the cluster went on with one head alone, by
	// recover or restore. Heads of an earlier one do not belong to it any more.
	Generation uint64 `json:"generation,omitempty"`
	// Deleted is set by "luna cluster delete" until the next init: the mesh of
	// heads and its secrets stay, the administrator's cluster is gone.
	Deleted bool `json:"deleted,omitempty"`
}

// Services are settings of 1.2's daemons. Administrators set them by habit and
// by playbook; the tracker's and the zone files' are obeyed, the others kept.
type Services struct {
	ServerPort           int     `json:"server_port"`          // TCP port of the API
	TrackerInterval      int     `json:"tracker_interval"`     // s between two announces
	TrackerMinInterval   int     `json:"tracker_min_interval"` // s
	TrackerMaxPeers      int     `json:"tracker_maxpeers"`     // peers in one answer
	TorrentListenPortMin int     `json:"torrent_listen_port_min"`
	TorrentListenPortMax int     `json:"torrent_listen_port_max"`
	TorrentPidfile       *string `json:"torrent_pidfile"`
	LwebPidfile          *string `json:"lweb_pidfile"`
	LwebNumProc          int     `json:"lweb_num_proc"`
	ClusterIPs           *string `json:"cluster_ips"` // comma separated; unset unless given
	NamedIncludeFile     *string `json:"named_include_file"`
	NamedZoneDir         *string `json:"named_zone_dir"`
}

// DefaultServices are the settings that 1.2 began with.
func DefaultServices() Services {
	text := func(s string) *string { return &s }
	return Services{
		ServerPort: 7051, TrackerInterval: 10, TrackerMinInterval: 5, TrackerMaxPeers: 200,
		TorrentListenPortMin: 7052, TorrentListenPortMax: 7200,
		TorrentPidfile: text("/run/luna/ltorrent.pid"), LwebPidfile: text("/run/luna/lweb.pid"),
		NamedIncludeFile: text("/etc/named.luna.zones"), NamedZoneDir: text("/var/named"),
	}
}

// Secrets are what heads share and nobody else sees: they are replicated to
// the disks of the heads (mode 0600) and never leave through the API.
type Secrets struct {
	CACert    string `json:"ca_cert"`    // PEM; its fingerprint is what a join token carries
	CAKey     string `json:"ca_key"`     // PEM; every head can sign, so any head can admit another
	GossipKey []byte `json:"gossip_key"` // 32 bytes, AES-256 for memberlist
	BootKey   []byte `json:"boot_key"`   // 32 bytes, HMAC-SHA256 of the nodes' boot tokens
}

// Network is an IPv4 or IPv6 network of the cluster.
type Network struct {
	ID         ID           `json:"id"`
	Name       string       `json:"name"`
	Prefix     netip.Prefix `json:"prefix"` // masked
	NSHostname string       `json:"ns_hostname"`
	NSIP       netip.Addr   `json:"ns_ip"`
	Range      AddrRange    `json:"range,omitzero"`        // the DHCP pool for unknown machines; zero: DHCP is not served here
	Reserved   []netip.Addr `json:"reserved,omitempty"`    // taken out of the pool by hand, sorted
	Duty       Duty         `json:"duty,omitzero"`         // which head answers DHCP here
	Include    *string      `json:"include,omitempty"`     // further lines of the forward zone
	RevInclude *string      `json:"rev_include,omitempty"` // further lines of the reverse zone
	Comment    *string      `json:"comment,omitempty"`
}

// AddrRange is a range of addresses, both ends included.
type AddrRange struct {
	Start netip.Addr `json:"start"`
	End   netip.Addr `json:"end"`
}

// IsZero tells whether no range is set.
func (r AddrRange) IsZero() bool { return !r.Start.IsValid() }

// Contains tells whether a lies in the range.
func (r AddrRange) Contains(a netip.Addr) bool {
	return r.Start.IsValid() && r.Start.Compare(a) <= 0 && a.Compare(r.End) <= 0
}

// Duty says which head at this moment does what exactly one head should do.
// The leader assigns it; the epoch grows with each assignment.
type Duty struct {
	Holder ID     `json:"holder"`
	Epoch  uint64 `json:"epoch"`
}

// OSImage is an operating system's tree on a head, and its settings.
type OSImage struct {
	ID              ID      `json:"id"`
	Name            string  `json:"name"`
	Path            string  `json:"path"` // absolute; where the tree lies on the heads that have it
	KernVer         string  `json:"kernver"`
	KernOpts        string  `json:"kernopts"`
	KernModules     string  `json:"kernmodules"`   // comma separated; "-x" omits x from the initrd
	DracutModules   string  `json:"dracutmodules"` // comma separated; "-x" omits x from the initrd
	GrabExcludeList string  `json:"grab_exclude_list"`
	GrabFilesystems string  `json:"grab_filesystems"`
	Comment         *string `json:"comment,omitempty"`
}

// ImageVersion is one packed, immutable artifact set of an osimage: the root
// file system, the kernel and the initrd, each named by its hash.
type ImageVersion struct {
	ID      string    `json:"id"` // 16 hex digits: of the hash over the three artifacts and the kernel version
	Image   ID        `json:"image"`
	Created time.Time `json:"created"`
	KernVer string    `json:"kernver"`
	Root    Artifact  `json:"root"`
	Kernel  Artifact  `json:"kernel"`
	Initrd  Artifact  `json:"initrd"`
	// UnpackedSize is what the tree needs on the node, in bytes.
	UnpackedSize int64 `json:"unpacked_size"`
	// Holders are the heads that have all three artifacts on disk, verified; sorted.
	Holders []ID `json:"holders"`
	// Ready is set once enough heads hold the version, and stays.
	Ready bool `json:"ready"`
}

// Artifact is one content-addressed file.
type Artifact struct {
	SHA256 string `json:"sha256"` // hex
	Size   int64  `json:"size"`   // bytes
	// Descriptor is what package swarm needs to fetch and seed it; opaque here.
	Descriptor json.RawMessage `json:"descriptor"`
}

// BMCSetup is how the management controllers of nodes are set up: the
// arguments of ipmitool lan, user and channel.
type BMCSetup struct {
	ID          ID      `json:"id"`
	Name        string  `json:"name"`
	User        string  `json:"user"`
	Password    string  `json:"password"` // in the clear, as the BMC needs it
	UserID      int     `json:"userid"`
	NetChannel  int     `json:"netchannel"`
	MgmtChannel int     `json:"mgmtchannel"`
	Comment     *string `json:"comment,omitempty"`
}

// Group is what nodes have in common.
type Group struct {
	ID         ID          `json:"id"`
	Name       string      `json:"name"`
	OSImage    ID          `json:"osimage"`
	BMCSetup   ID          `json:"bmcsetup,omitempty"`
	TorrentIF  *string     `json:"torrent_if,omitempty"` // the interface over which the nodes share the image; unset: the one that boots
	Domain     ID          `json:"domain,omitempty"`     // the network that gives the nodes' domain name
	Interfaces []Interface `json:"interfaces"`           // sorted by name
	PreScript  *string     `json:"prescript"`
	PartScript *string     `json:"partscript"`
	PostScript *string     `json:"postscript"`
	Comment    *string     `json:"comment,omitempty"`
}

// BootIF is the name of the interface that stands for the NIC whose MAC is the
// node's.
const BootIF = "BOOTIF"

// BMC is the name of the interface of a node's management controller.
const BMC = "BMC"

// Interface is a network interface that every node of the group has.
type Interface struct {
	ID       ID     `json:"id"`
	Name     string `json:"name"`
	Network4 ID     `json:"network4,omitempty"`
	Network6 ID     `json:"network6,omitempty"`
	Params   string `json:"params,omitempty"`
	// Implicit marks an interface that another option made; the first explicit
	// "add" adopts it instead of being refused.
	Implicit bool `json:"implicit,omitempty"`
}

// Interface gives the group's interface of that name.
func (g *Group) Interface(name string) (Interface, bool) {
	for _, i := range g.Interfaces {
		if i.Name == name {
			return i, true
		}
	}
	return Interface{}, false
}

// Node is a machine that is provisioned.
type Node struct {
	ID         ID               `json:"id"`
	Name       string           `json:"name"`
	Group      ID               `json:"group"`
	MAC        MAC              `json:"mac,omitempty"`
	Interfaces map[ID]Addresses `json:"interfaces"` // by the ID of the group's interface
	LocalBoot  bool             `json:"localboot"`
	SetupBMC   bool             `json:"setupbmc"`
	Service    bool             `json:"service"`
	Switch     ID               `json:"switch,omitempty"`
	Port       *string          `json:"port,omitempty"` // the name or the number of the switch's port
	Tags       []string         `json:"tags,omitempty"` // sorted
	Comment    *string          `json:"comment,omitempty"`
}

// Addresses are one node's addresses on one interface, at most one a family.
type Addresses struct {
	V4 netip.Addr `json:"v4,omitzero"`
	V6 netip.Addr `json:"v6,omitzero"`
}

// Switch is a switch whose bridge table tells which machine hangs on which port.
type Switch struct {
	ID      ID         `json:"id"`
	Name    string     `json:"name"`
	Network ID         `json:"network"`
	Addr    netip.Addr `json:"ip"`
	Read    string     `json:"read"`          // SNMP community, v2c
	RW      string     `json:"rw"`            // SNMP community, v2c
	OID     string     `json:"oid"`           // of the bridge table
	Duty    Duty       `json:"duty,omitzero"` // which head polls it; from format 2 on
	Comment *string    `json:"comment,omitempty"`
}

// OtherDev is anything else with addresses: a PDU, a storage box.
type OtherDev struct {
	ID        ID                `json:"id"`
	Name      string            `json:"name"`
	Connected map[ID]netip.Addr `json:"connected"` // one address in each network
	Comment   *string           `json:"comment,omitempty"`
}

// Status is the last stage that a node reported. It is kept beside the node,
// so that a report and an edit never meet.
type Status struct {
	Node    ID        `json:"node"`
	Stage   string    `json:"stage"`             // "install.download", "install.success", ...
	Time    time.Time `json:"time"`              // when the head received it
	Head    string    `json:"head"`              // the head that received it
	Version string    `json:"version,omitempty"` // the image version that the node boots
	Failed  bool      `json:"failed,omitempty"`  // the stage failed and is tried again
	Message string    `json:"message,omitempty"` // last lines of a failed stage

	// From format 2 on: which run of the installer said it, and as its how manieth word.
	Run    string `json:"run,omitempty"`
	Number int    `json:"number,omitempty"`
}

// Before tells whether the same run of the installer said this before that one.
func (s Status) Before(t Status) bool { return s.Run != "" && s.Run == t.Run && s.Number < t.Number }

// Head is a machine that runs the agent.
type Head struct {
	ID         ID             `json:"id"`
	Name       string         `json:"name"`
	Address    netip.Addr     `json:"address"`   // by which other heads reach it
	Addresses  []netip.Prefix `json:"addresses"` // all its addresses, with the length of their networks
	APIPort    int            `json:"api_port"`
	RaftPort   int            `json:"raft_port"`
	GossipPort int            `json:"gossip_port"`
	HTTPPort   int            `json:"http_port"`
	Key        string         `json:"key"` // SHA-256 of its public key, hex: who may retry a join
	Version    string         `json:"version"`
	Joined     time.Time      `json:"joined"`

	// From format 2 on.
	Drained bool `json:"drained,omitempty"` // it is to do nothing that another head can do
	Witness bool `json:"witness,omitempty"` // it votes, holds no images and serves no nodes
	Weight  int  `json:"weight,omitempty"`  // share of the duties; 0 is 1
}

// told tells whether the head is to be something that format 1 does not know.
func (h *Head) told() bool { return h.Drained || h.Witness || h.Weight != 0 }

// AddressIn gives the head's own address on the network of prefix p.
func (h *Head) AddressIn(p netip.Prefix) (netip.Addr, bool) {
	if p.Contains(h.Address) {
		return h.Address, true
	}
	for _, a := range h.Addresses {
		if p.Contains(a.Addr()) {
			return a.Addr(), true
		}
	}
	return netip.Addr{}, false
}

// Has tells whether an address is one of the head's own, on whatever network.
func (h *Head) Has(a netip.Addr) bool {
	return h.Address == a || slices.ContainsFunc(h.Addresses, func(p netip.Prefix) bool { return p.Addr() == a })
}

// Invite is a join token as the mesh keeps it: its secret only as a hash.
type Invite struct {
	ID      string    `json:"id"`
	Hash    string    `json:"hash"` // SHA-256 of the secret, hex
	Created time.Time `json:"created"`
	Expires time.Time `json:"expires"`
	UsedBy  string    `json:"used_by,omitempty"` // name of the head that it admitted
	UsedKey string    `json:"used_key,omitempty"`
	UsedAt  time.Time `json:"used_at,omitzero"`
}

// Life is how long the invite is good.
func (i *Invite) Life() time.Duration { return i.Expires.Sub(i.Created) }

// Lease is a pool address given to a machine that no node claims.
type Lease struct {
	Network ID         `json:"network"`
	MAC     MAC        `json:"mac"`
	Addr    netip.Addr `json:"addr"`
	Expires time.Time  `json:"expires"`
}

// OwnerType says what kind of object has an address.
type OwnerType string

// The types of owners.
const (
	OwnerNode     OwnerType = "node"
	OwnerNetwork  OwnerType = "network"  // the network's name server
	OwnerReserved OwnerType = "reserved" // taken out of the pool by hand
	OwnerSwitch   OwnerType = "switch"
	OwnerOtherDev OwnerType = "otherdev"
)

// Owner says who has an address.
type Owner struct {
	Addr    netip.Addr `json:"addr"`
	Network ID         `json:"network"`
	Type    OwnerType  `json:"type"`
	ID      ID         `json:"id"` // of the object of that type
	Iface   ID         `json:"iface,omitempty"`
}
