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
	UUID            string     `json:"uuid"`
	NodePrefix      string     `json:"nodeprefix"`
	NodeDigits      int        `json:"nodedigits"`
	User            string     `json:"user"`
	Path            string     `json:"path"`
	FrontendAddress netip.Addr `json:"frontend_address"`
	FrontendPort    int        `json:"frontend_port"`
	Replicas        int        `json:"replicas" doc:"heads that must hold an image version before nodes boot it"`
	SeedSeconds     int        `json:"seed_seconds" doc:"how long a node goes on seeding before it hands over to its OS"`
	Comment         *string    `json:"comment"`
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

// Group is what nodes have in common.
type Group struct {
	Name       string                    `json:"name"`
	OSImage    string                    `json:"osimage"`
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
	Time    time.Time `json:"time"`
	Head    string    `json:"head" doc:"the head that it was reported to"`
	Failed  bool      `json:"failed"`
	Message string    `json:"message,omitempty" doc:"the last lines of a failed stage"`
}

// Head is a member of the mesh.
type Head struct {
	Name         string     `json:"name"`
	Address      netip.Addr `json:"address"`
	State        string     `json:"state" doc:"alive, suspect, failed, left or joining"`
	Since        time.Time  `json:"since" doc:"since when it is in this state, as the asked head saw it"`
	Role         string     `json:"role" doc:"voter or nonvoter"`
	Leader       bool       `json:"leader"`
	AppliedIndex uint64     `json:"applied_index" doc:"how far its inventory is; 0 if it does not answer"`
	Networks     []string   `json:"networks" doc:"networks on which it answers DHCP"`
	Version      string     `json:"version"`
	Joined       time.Time  `json:"joined"`
	Warnings     []string   `json:"warnings" doc:"what is wrong on it, in words"`
}

// ClusterOf renders the cluster.
func ClusterOf(inv *inventory.Inventory) (Cluster, error) {
	c, ok := inv.Cluster()
	if !ok {
		return Cluster{}, inventory.NotFound("cluster", "general")
	}
	return Cluster{
		UUID: c.UUID, NodePrefix: c.NodePrefix, NodeDigits: c.NodeDigits, User: c.User, Path: c.Path,
		FrontendAddress: c.FrontendAddress, FrontendPort: c.FrontendPort,
		Replicas: c.Replicas, SeedSeconds: c.SeedSeconds, Comment: c.Comment,
	}, nil
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
		Reserved: []string{}, Comment: n.Comment,
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
	slices.SortFunc(r.Versions, func(a, b Version) int {
		if c := b.Created.Compare(a.Created); c != 0 {
			return c
		}
		return strings.Compare(a.ID, b.ID)
	})
	return r
}

// GroupOf renders a group.
func GroupOf(inv *inventory.Inventory, g *inventory.Group) Group {
	r := Group{
		Name: g.Name, Interfaces: map[string]GroupInterface{},
		PreScript: g.PreScript, PartScript: g.PartScript, PostScript: g.PostScript, Comment: g.Comment,
	}
	if o, ok := inv.OSImageByID(g.OSImage); ok {
		r.OSImage = o.Name
	}
	if n, ok := inv.NetworkByID(g.Domain); ok {
		r.Domain = n.Name
	}
	for _, i := range g.Interfaces {
		w := GroupInterface{Params: i.Params}
		if n, ok := inv.NetworkByID(i.Network4); ok {
			w.Network4, w.Prefix4 = n.Name, n.Prefix.String()
		}
		if n, ok := inv.NetworkByID(i.Network6); ok {
			w.Network6, w.Prefix6 = n.Name, n.Prefix.String()
		}
		r.Interfaces[i.Name] = w
	}
	for range inv.NodesOf(g.ID) {
		r.Nodes++
	}
	return r
}

// NodeOf renders a node with its replicated status; the percentage of a
// running download is filled in by the head that knows it.
func NodeOf(inv *inventory.Inventory, n *inventory.Node) Node {
	r := Node{
		Name: n.Name, MAC: n.MAC, Hostname: inv.Hostname(n), Interfaces: map[string]Addresses{},
		LocalBoot: n.LocalBoot, SetupBMC: n.SetupBMC, Service: n.Service, Comment: n.Comment,
	}
	if g, ok := inv.GroupByID(n.Group); ok {
		r.Group = g.Name
		for _, i := range g.Interfaces {
			a := n.Interfaces[i.ID]
			r.Interfaces[i.Name] = Addresses{V4: addr(a.V4), V6: addr(a.V6)}
		}
		if o, ok := inv.OSImageByID(g.OSImage); ok {
			r.OSImage = o.Name
		}
		if v, ok := inv.BootVersion(g.OSImage); ok {
			r.OSImageVersion = v.ID
		}
	}
	if s, ok := inv.Status(n.ID); ok {
		r.Status = &Status{Stage: s.Stage, Time: s.Time, Head: s.Head, Failed: s.Failed, Message: s.Message}
		if s.Version != "" {
			r.OSImageVersion = s.Version
		}
	}
	return r
}
