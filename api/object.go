package api

import (
	"net/netip"
	"slices"
	"strings"
	"time"

	"github.com/clustervision/luna/inventory"
)

// Cluster is the cluster as administrators see it; no secret is in it.
type Cluster struct {
	UUID                 string     `json:"uuid"`
	NodePrefix           string     `json:"nodeprefix"`
	NodeDigits           int        `json:"nodedigits"`
	User                 string     `json:"user"`
	Path                 string     `json:"path"`
	FrontendAddress      netip.Addr `json:"frontend_address"`
	FrontendPort         int        `json:"frontend_port"`
	FrontendHTTPS        bool       `json:"frontend_https"`
	Replicas             int        `json:"replicas" doc:"heads that must hold an image version before nodes boot it"`
	SeedSeconds          int        `json:"seed_seconds" doc:"how long a node goes on seeding before it hands over to its OS"`
	ServerPort           int        `json:"server_port"`
	TrackerInterval      int        `json:"tracker_interval" doc:"seconds"`
	TrackerMinInterval   int        `json:"tracker_min_interval" doc:"seconds"`
	TrackerMaxPeers      int        `json:"tracker_maxpeers"`
	TorrentListenPortMin int        `json:"torrent_listen_port_min"`
	TorrentListenPortMax int        `json:"torrent_listen_port_max"`
	TorrentPidfile       *string    `json:"torrent_pidfile"`
	LwebPidfile          *string    `json:"lweb_pidfile"`
	LwebNumProc          int        `json:"lweb_num_proc"`
	ClusterIPs           *string    `json:"cluster_ips"`
	NamedIncludeFile     *string    `json:"named_include_file"`
	NamedZoneDir         *string    `json:"named_zone_dir"`
	DHCP                 []DHCP     `json:"dhcp" doc:"the networks on which the heads answer DHCP"`
	Comment              *string    `json:"comment"`
}

// DHCP is a network that has DHCP, with the pool for unknown machines.
type DHCP struct {
	Network string     `json:"dhcp_net"`
	Start   netip.Addr `json:"dhcp_range_start"`
	End     netip.Addr `json:"dhcp_range_end"`
}

// Network is a network with the head that answers DHCP on it.
type Network struct {
	Name       string   `json:"name"`
	Network    string   `json:"NETWORK" doc:"base address"`
	Prefix     int      `json:"PREFIX"`
	Version    int      `json:"version" doc:"4 or 6"`
	NSHostname string   `json:"ns_hostname"`
	NSIP       string   `json:"ns_ip"`
	RangeStart string   `json:"dhcp_range_start" doc:"first address of the pool; empty where DHCP is not served"`
	RangeEnd   string   `json:"dhcp_range_end"`
	DHCPHolder string   `json:"dhcp_holder" doc:"the head that answers DHCP here; empty if none does"`
	Leases     int      `json:"leases" doc:"pool addresses given out"`
	Reserved   []string `json:"reservedips"`
	Include    *string  `json:"include" doc:"further lines of the forward zone"`
	RevInclude *string  `json:"rev_include" doc:"further lines of the reverse zone"`
	Comment    *string  `json:"comment"`
}

// OSImage is an osimage with its packed versions, newest first.
type OSImage struct {
	Name            string    `json:"name"`
	Path            string    `json:"path"`
	KernVer         string    `json:"kernver"`
	KernOpts        string    `json:"kernopts"`
	KernModules     string    `json:"kernmodules"`
	DracutModules   string    `json:"dracutmodules"`
	GrabExcludeList string    `json:"grab_exclude_list"`
	GrabFilesystems string    `json:"grab_filesystems"`
	KernFile        string    `json:"kernfile" doc:"under /boot/; empty before the first pack"`
	InitrdFile      string    `json:"initrdfile" doc:"under /boot/; empty before the first pack"`
	Tarball         *string   `json:"tarball" doc:"SHA-256 of the root file system that nodes get now"`
	Torrent         *string   `json:"torrent" doc:"the version that nodes get now"`
	Comment         *string   `json:"comment"`
	Versions        []Version `json:"versions"`
}

// Version is one packed version of an osimage.
type Version struct {
	ID           string    `json:"id"`
	Created      time.Time `json:"created"`
	Size         int64     `json:"size" doc:"bytes that travel: root file system, kernel and initrd"`
	UnpackedSize int64     `json:"unpacked_size" doc:"bytes on the node"`
	KernVer      string    `json:"kernver"`
	State        string    `json:"state" enum:"replicating,ready,boots" doc:"boots: what nodes get now; ready: enough heads hold it"`
	Heads        []string  `json:"heads" doc:"heads that hold it, verified"`
	SHA256       string    `json:"sha256" doc:"of the root file system's artifact"`
}

// States of a Version.
const (
	VersionReplicating = "replicating"
	VersionReady       = "ready"
	VersionBoots       = "boots"
)

// BMCSetup is how management controllers are set up.
type BMCSetup struct {
	Name        string  `json:"name"`
	User        string  `json:"user"`
	Password    string  `json:"password" doc:"masked unless secrets are asked for"`
	UserID      int     `json:"userid"`
	NetChannel  int     `json:"netchannel"`
	MgmtChannel int     `json:"mgmtchannel"`
	Comment     *string `json:"comment"`
}

// Switch is a switch whose bridge table finds machines.
type Switch struct {
	Name    string  `json:"name"`
	Network string  `json:"network"`
	IP      string  `json:"ip"`
	Read    string  `json:"read"`
	RW      string  `json:"rw"`
	OID     string  `json:"oid"`
	Comment *string `json:"comment"`
}

// OtherDev is anything else with addresses.
type OtherDev struct {
	Name      string            `json:"name"`
	Connected map[string]string `json:"connected" doc:"its address in each network"`
	Comment   *string           `json:"comment"`
}

// Group is what nodes have in common.
type Group struct {
	Name       string                    `json:"name"`
	OSImage    string                    `json:"osimage"`
	BMCSetup   string                    `json:"bmcsetup"`
	TorrentIF  *string                   `json:"torrent_if"`
	Domain     string                    `json:"domain"`
	Interfaces map[string]GroupInterface `json:"interfaces"`
	PreScript  *string                   `json:"prescript"`
	PartScript *string                   `json:"partscript"`
	PostScript *string                   `json:"postscript"`
	Comment    *string                   `json:"comment"`
	Nodes      int                       `json:"nodes" doc:"how many nodes are in it"`
}

// GroupInterface is an interface of a group, with its networks by family.
type GroupInterface struct {
	Network4 string `json:"4,omitempty" doc:"name of the IPv4 network"`
	Prefix4  string `json:"prefix4,omitempty"`
	Network6 string `json:"6,omitempty" doc:"name of the IPv6 network"`
	Prefix6  string `json:"prefix6,omitempty"`
	Params   string `json:"params,omitempty"`
}

// Node is a node with what it last reported.
type Node struct {
	Name           string               `json:"name"`
	Group          string               `json:"group"`
	MAC            inventory.MAC        `json:"mac"`
	Interfaces     map[string]Addresses `json:"interfaces"`
	Hostname       string               `json:"hostname"`
	LocalBoot      bool                 `json:"localboot"`
	SetupBMC       bool                 `json:"setupbmc"`
	Service        bool                 `json:"service"`
	Switch         string               `json:"switch"`
	Port           *string              `json:"port"`
	Tags           []string             `json:"tags"`
	OSImage        string               `json:"osimage"`
	OSImageVersion string               `json:"osimage_version" doc:"the version that it boots, or that it has booted"`
	Status         *Status              `json:"status"`
	Comment        *string              `json:"comment"`
}

// Addresses are a node's addresses on one interface, by family.
type Addresses struct {
	V4 string `json:"4,omitempty"`
	V6 string `json:"6,omitempty"`
}

// Status is the stage that a node last reported.
type Status struct {
	Stage   string    `json:"stage"`
	Percent float64   `json:"percent" doc:"of the download, 0 to 100"`
	Age     float64   `json:"age" doc:"seconds since the node told that percentage"`
	Time    time.Time `json:"time"`
	Head    string    `json:"head" doc:"the head that it was reported to"`
	Failed  bool      `json:"failed"`
	Message string    `json:"message,omitempty" doc:"the last lines of a failed stage"`
}

// Head is a member of the mesh.
type Head struct {
	Name         string         `json:"name"`
	Address      netip.Addr     `json:"address"`
	Addresses    []netip.Prefix `json:"addresses" doc:"all that it has, with the length of their networks"`
	State        string         `json:"state" doc:"alive, failed, or left (its agent was stopped)"`
	Since        time.Time      `json:"since" doc:"since when it is in this state, as the asked head saw it"`
	Role         string         `json:"role" doc:"voter, nonvoter, or joining"`
	Leader       bool           `json:"leader"`
	AppliedIndex uint64         `json:"applied_index" doc:"how far its inventory is; 0 if it does not answer"`
	Networks     []string       `json:"networks" doc:"networks on which it answers DHCP"`
	Version      string         `json:"version"`
	Joined       time.Time      `json:"joined"`
	Warnings     []string       `json:"warnings" doc:"what is wrong on it, in words"`
	Drained      bool           `json:"drained" doc:"it is to do nothing that another head can do"`
	Witness      bool           `json:"witness" doc:"it votes, holds no images and serves no nodes"`
	Weight       int            `json:"weight" doc:"share of the duties that it takes"`
	CutOff       float64        `json:"cut_off" doc:"seconds since it last heard of a head that leads"`
}

// ClusterOf renders the cluster.
func ClusterOf(inv *inventory.Inventory) (Cluster, error) {
	c, ok := inv.Cluster()
	if !ok || c.Deleted {
		return Cluster{}, inventory.NotFound("cluster", "general")
	}
	s := c.Services
	r := Cluster{
		UUID: c.UUID, NodePrefix: c.NodePrefix, NodeDigits: c.NodeDigits, User: c.User, Path: c.Path,
		FrontendAddress: c.FrontendAddress, FrontendPort: c.FrontendPort, FrontendHTTPS: c.FrontendHTTPS,
		Replicas: c.Replicas, SeedSeconds: c.SeedSeconds, ServerPort: s.ServerPort,
		TrackerInterval: s.TrackerInterval, TrackerMinInterval: s.TrackerMinInterval, TrackerMaxPeers: s.TrackerMaxPeers,
		TorrentListenPortMin: s.TorrentListenPortMin, TorrentListenPortMax: s.TorrentListenPortMax,
		TorrentPidfile: s.TorrentPidfile, LwebPidfile: s.LwebPidfile, LwebNumProc: s.LwebNumProc,
		ClusterIPs: s.ClusterIPs, NamedIncludeFile: s.NamedIncludeFile, NamedZoneDir: s.NamedZoneDir,
		DHCP: []DHCP{}, Comment: c.Comment,
	}
	for n := range inv.Networks() {
		if !n.Range.IsZero() {
			r.DHCP = append(r.DHCP, DHCP{n.Name, n.Range.Start, n.Range.End})
		}
	}
	return r, nil
}

func addr(a netip.Addr) string {
	if !a.IsValid() {
		return ""
	}
	return a.String()
}

// NetworkOf renders a network.
func NetworkOf(inv *inventory.Inventory, n *inventory.Network) Network {
	r := Network{
		Name: n.Name, Network: n.Prefix.Addr().String(), Prefix: n.Prefix.Bits(), Version: 4,
		NSHostname: n.NSHostname, NSIP: addr(n.NSIP), RangeStart: addr(n.Range.Start), RangeEnd: addr(n.Range.End),
		Reserved: []string{}, Include: n.Include, RevInclude: n.RevInclude, Comment: n.Comment,
	}
	if n.Prefix.Addr().Is6() {
		r.Version = 6
	}
	for _, a := range n.Reserved {
		r.Reserved = append(r.Reserved, a.String())
	}
	if h, ok := inv.HeadByID(n.Duty.Holder); ok {
		r.DHCPHolder = h.Name
	}
	for l := range inv.Leases() {
		if l.Network == n.ID {
			r.Leases++
		}
	}
	return r
}

// OSImageOf renders an osimage.
func OSImageOf(inv *inventory.Inventory, o *inventory.OSImage) OSImage {
	r := OSImage{
		Name: o.Name, Path: o.Path, KernVer: o.KernVer, KernOpts: o.KernOpts, KernModules: o.KernModules,
		DracutModules: o.DracutModules, GrabExcludeList: o.GrabExcludeList, GrabFilesystems: o.GrabFilesystems,
		Comment: o.Comment, Versions: []Version{},
	}
	boots, _ := inv.BootVersion(o.ID)
	for v := range inv.VersionsOf(o.ID) {
		w := Version{
			ID: v.ID, Created: v.Created, KernVer: v.KernVer, UnpackedSize: v.UnpackedSize, SHA256: v.Root.SHA256,
			Size: v.Root.Size + v.Kernel.Size + v.Initrd.Size, State: VersionReplicating, Heads: []string{},
		}
		switch {
		case boots != nil && boots.ID == v.ID:
			w.State = VersionBoots
		case v.Ready:
			w.State = VersionReady
		}
		for _, id := range v.Holders {
			if h, ok := inv.HeadByID(id); ok {
				w.Heads = append(w.Heads, h.Name)
			}
		}
		slices.Sort(w.Heads)
		r.Versions = append(r.Versions, w)
	}
	if boots != nil {
		r.KernFile, r.InitrdFile = boots.BootFiles(o.Name)
		r.Tarball, r.Torrent = &boots.Root.SHA256, &boots.ID
	}
	slices.SortFunc(r.Versions, func(a, b Version) int {
		if c := b.Created.Compare(a.Created); c != 0 {
			return c
		}
		return strings.Compare(a.ID, b.ID)
	})
	return r
}
