package inventory

import (
	"fmt"
	"net/netip"
)

// DocumentVersion is the version of the format of Document.
const DocumentVersion = 1

// Document is the inventory, or a part of it, as administrators keep it in a
// file: objects by their names, references as names, no state of machines. It
// is what "luna export" writes and "luna apply" makes true; the readers of CSV
// files and of Luna 1.2's databases make one too.
//
// What a document names is made like it says. What an object's entry leaves
// out stays as it is, or gets its default where the object is new; null
// unsets. What the document does not name stays too, unless pruning is asked.
type Document struct {
	Luna      int                    `json:"luna"` // DocumentVersion
	Cluster   *ClusterDoc            `json:"cluster,omitempty"`
	Networks  map[string]NetworkDoc  `json:"networks,omitempty"`
	OSImages  map[string]OSImageDoc  `json:"osimages,omitempty"`
	BMCSetups map[string]BMCSetupDoc `json:"bmcsetups,omitempty"`
	Groups    map[string]GroupDoc    `json:"groups,omitempty"`
	Switches  map[string]SwitchDoc   `json:"switches,omitempty"`
	OtherDevs map[string]OtherDevDoc `json:"otherdevs,omitempty"`
	Nodes     map[string]NodeDoc     `json:"nodes,omitempty"`
}

// ClusterDoc is the cluster in a Document.
type ClusterDoc struct {
	NodePrefix           Maybe[string]     `json:"nodeprefix,omitzero"`
	NodeDigits           Maybe[int]        `json:"nodedigits,omitzero"`
	User                 Maybe[string]     `json:"user,omitzero"`
	Path                 Maybe[string]     `json:"path,omitzero"`
	FrontendAddress      Maybe[netip.Addr] `json:"frontend_address,omitzero"`
	FrontendPort         Maybe[int]        `json:"frontend_port,omitzero"`
	FrontendHTTPS        Maybe[bool]       `json:"frontend_https,omitzero"`
	Replicas             Maybe[int]        `json:"replicas,omitzero"`
	SeedSeconds          Maybe[int]        `json:"seed_seconds,omitzero"`
	ServerPort           Maybe[int]        `json:"server_port,omitzero"`
	TrackerInterval      Maybe[int]        `json:"tracker_interval,omitzero"`
	TrackerMinInterval   Maybe[int]        `json:"tracker_min_interval,omitzero"`
	TrackerMaxPeers      Maybe[int]        `json:"tracker_maxpeers,omitzero"`
	TorrentListenPortMin Maybe[int]        `json:"torrent_listen_port_min,omitzero"`
	TorrentListenPortMax Maybe[int]        `json:"torrent_listen_port_max,omitzero"`
	TorrentPidfile       Maybe[*string]    `json:"torrent_pidfile,omitzero"`
	LwebPidfile          Maybe[*string]    `json:"lweb_pidfile,omitzero"`
	LwebNumProc          Maybe[int]        `json:"lweb_num_proc,omitzero"`
	ClusterIPs           Maybe[*string]    `json:"cluster_ips,omitzero"`
	NamedIncludeFile     Maybe[*string]    `json:"named_include_file,omitzero"`
	NamedZoneDir         Maybe[*string]    `json:"named_zone_dir,omitzero"`
	Comment              Maybe[*string]    `json:"comment,omitzero"`
}

// NetworkDoc is a network in a Document.
type NetworkDoc struct {
	Network    Maybe[netip.Prefix] `json:"network,omitzero"` // 10.30.0.0/16
	NSHostname Maybe[string]       `json:"ns_hostname,omitzero"`
	NSIP       Maybe[netip.Addr]   `json:"ns_ip,omitzero"`
	DHCPRange  Maybe[*AddrRange]   `json:"dhcp_range,omitzero"`
	Reserved   Maybe[[]netip.Addr] `json:"reservedips,omitzero"`
	Include    Maybe[*string]      `json:"include,omitzero"`
	RevInclude Maybe[*string]      `json:"rev_include,omitzero"`
	Comment    Maybe[*string]      `json:"comment,omitzero"`
}

// OSImageDoc is an osimage in a Document.
type OSImageDoc struct {
	Path            Maybe[string]  `json:"path,omitzero"`
	KernVer         Maybe[string]  `json:"kernver,omitzero"`
	KernOpts        Maybe[string]  `json:"kernopts,omitzero"`
	KernModules     Maybe[string]  `json:"kernmodules,omitzero"`
	DracutModules   Maybe[string]  `json:"dracutmodules,omitzero"`
	GrabExcludeList Maybe[string]  `json:"grab_exclude_list,omitzero"`
	GrabFilesystems Maybe[string]  `json:"grab_filesystems,omitzero"`
	Comment         Maybe[*string] `json:"comment,omitzero"`
}

// Masked stands for a password that is not shown. In a document it means the
// password that the object has.
const Masked = "********"

// BMCSetupDoc is a bmcsetup in a Document.
type BMCSetupDoc struct {
	User        Maybe[string]  `json:"user,omitzero"`
	Password    Maybe[string]  `json:"password,omitzero"` // or Masked
	UserID      Maybe[int]     `json:"userid,omitzero"`
	NetChannel  Maybe[int]     `json:"netchannel,omitzero"`
	MgmtChannel Maybe[int]     `json:"mgmtchannel,omitzero"`
	Comment     Maybe[*string] `json:"comment,omitzero"`
}

// GroupDoc is a group in a Document. Given interfaces are all that it has.
type GroupDoc struct {
	OSImage    Maybe[string]                  `json:"osimage,omitzero"`
	BMCSetup   Maybe[*string]                 `json:"bmcsetup,omitzero"`
	Domain     Maybe[*string]                 `json:"domain,omitzero"` // name of a network
	TorrentIF  Maybe[*string]                 `json:"torrent_if,omitzero"`
	Interfaces Maybe[map[string]InterfaceDoc] `json:"interfaces,omitzero"`
	PreScript  Maybe[*string]                 `json:"prescript,omitzero"`
	PartScript Maybe[*string]                 `json:"partscript,omitzero"`
	PostScript Maybe[*string]                 `json:"postscript,omitzero"`
	Comment    Maybe[*string]                 `json:"comment,omitzero"`
}

// InterfaceDoc is an interface of a group in a Document, whole: what it leaves
// out, the interface does not have.
type InterfaceDoc struct {
	Network4 string `json:"4,omitempty"` // name of the IPv4 network
	Network6 string `json:"6,omitempty"` // name of the IPv6 network
	Params   string `json:"params,omitempty"`
	Implicit bool   `json:"implicit,omitempty"` // see Interface
}

// SwitchDoc is a switch in a Document.
type SwitchDoc struct {
	Network Maybe[string]     `json:"network,omitzero"`
	IP      Maybe[netip.Addr] `json:"ip,omitzero"`
	Read    Maybe[string]     `json:"read,omitzero"`
	RW      Maybe[string]     `json:"rw,omitzero"`
	OID     Maybe[string]     `json:"oid,omitzero"`
	Comment Maybe[*string]    `json:"comment,omitzero"`
}

// OtherDevDoc is an otherdev in a Document. Given connections are all it has.
type OtherDevDoc struct {
	Connected Maybe[map[string]netip.Addr] `json:"connected,omitzero"` // by the name of the network
	Comment   Maybe[*string]               `json:"comment,omitzero"`
}

// NodeDoc is a node in a Document. Of its addresses only the given ones are
// changed; an interface that has none yet gets the next free one.
type NodeDoc struct {
	Group      Maybe[string]           `json:"group,omitzero"`
	MAC        Maybe[*MAC]             `json:"mac,omitzero"`
	Interfaces map[string]AddressesDoc `json:"interfaces,omitempty"`
	Switch     Maybe[*string]          `json:"switch,omitzero"`
	Port       Maybe[*string]          `json:"port,omitzero"`
	LocalBoot  Maybe[bool]             `json:"localboot,omitzero"`
	SetupBMC   Maybe[bool]             `json:"setupbmc,omitzero"`
	Service    Maybe[bool]             `json:"service,omitzero"`
	Tags       Maybe[[]string]         `json:"tags,omitzero"`
	Comment    Maybe[*string]          `json:"comment,omitzero"`
}

// AddressesDoc are the addresses of a node on one interface, by family.
type AddressesDoc struct {
	V4 netip.Addr `json:"4,omitzero"`
	V6 netip.Addr `json:"6,omitzero"`
}

// DocumentOf gives the whole inventory as a document. It holds the passwords
// of the bmcsetups; see [Document.Mask].
func DocumentOf(inv *Inventory) Document {
	d := Document{
		Luna: DocumentVersion, Networks: map[string]NetworkDoc{}, OSImages: map[string]OSImageDoc{},
		BMCSetups: map[string]BMCSetupDoc{}, Groups: map[string]GroupDoc{}, Switches: map[string]SwitchDoc{},
		OtherDevs: map[string]OtherDevDoc{}, Nodes: map[string]NodeDoc{},
	}
	if c, ok := inv.Cluster(); ok && !c.Deleted {
		doc := c.doc()
		d.Cluster = &doc
	}
	for o := range inv.Networks() {
		d.Networks[o.Name] = o.doc()
	}
	for o := range inv.OSImages() {
		d.OSImages[o.Name] = o.doc()
	}
	for o := range inv.BMCSetups() {
		d.BMCSetups[o.Name] = o.doc()
	}
	for o := range inv.Groups() {
		d.Groups[o.Name] = o.doc(inv)
	}
	for o := range inv.Switches() {
		d.Switches[o.Name] = o.doc(inv)
	}
	for o := range inv.OtherDevs() {
		d.OtherDevs[o.Name] = o.doc(inv)
	}
	for o := range inv.Nodes() {
		d.Nodes[o.Name] = o.doc(inv)
	}
	return d
}

// Mask puts Masked in the place of every password.
func (d *Document) Mask() {
	for name, b := range d.BMCSetups {
		b.Password = Given(Masked)
		d.BMCSetups[name] = b
	}
}

func (c *Cluster) doc() ClusterDoc {
	s := c.Services
	return ClusterDoc{
		NodePrefix: Given(c.NodePrefix), NodeDigits: set(c.NodeDigits), User: Given(c.User), Path: set(c.Path),
		FrontendAddress: set(c.FrontendAddress), FrontendPort: set(c.FrontendPort), FrontendHTTPS: Given(c.FrontendHTTPS),
		Replicas: set(c.Replicas), SeedSeconds: Given(c.SeedSeconds), ServerPort: set(s.ServerPort),
		TrackerInterval: set(s.TrackerInterval), TrackerMinInterval: set(s.TrackerMinInterval), TrackerMaxPeers: set(s.TrackerMaxPeers),
		TorrentListenPortMin: set(s.TorrentListenPortMin), TorrentListenPortMax: set(s.TorrentListenPortMax),
		TorrentPidfile: Given(s.TorrentPidfile), LwebPidfile: Given(s.LwebPidfile), LwebNumProc: Given(s.LwebNumProc),
		ClusterIPs: Given(s.ClusterIPs), NamedIncludeFile: Given(s.NamedIncludeFile), NamedZoneDir: Given(s.NamedZoneDir),
		Comment: Given(c.Comment),
	}
}

// set gives the value where there is one: what init left out, no document can
// set to nothing.
func set[T comparable](v T) Maybe[T] {
	var zero T
	return Maybe[T]{Given: v != zero, Value: v}
}

func (n *Network) doc() NetworkDoc {
	d := NetworkDoc{
		Network: Given(n.Prefix), NSHostname: Given(n.NSHostname), NSIP: Given(n.NSIP), DHCPRange: Given[*AddrRange](nil),
		Reserved: Given(append([]netip.Addr{}, n.Reserved...)), Include: Given(n.Include), RevInclude: Given(n.RevInclude), Comment: Given(n.Comment),
	}
	if !n.Range.IsZero() {
		r := n.Range
		d.DHCPRange.Value = &r
	}
	return d
}

func (o *OSImage) doc() OSImageDoc {
	return OSImageDoc{
		Path: Given(o.Path), KernVer: Given(o.KernVer), KernOpts: Given(o.KernOpts), KernModules: Given(o.KernModules),
		DracutModules: Given(o.DracutModules), GrabExcludeList: Given(o.GrabExcludeList), GrabFilesystems: Given(o.GrabFilesystems),
		Comment: Given(o.Comment),
	}
}

func (b *BMCSetup) doc() BMCSetupDoc {
	return BMCSetupDoc{
		User: Given(b.User), Password: Given(b.Password), UserID: Given(b.UserID), NetChannel: Given(b.NetChannel),
		MgmtChannel: Given(b.MgmtChannel), Comment: Given(b.Comment),
	}
}

func (g *Group) doc(inv *Inventory) GroupDoc {
	d := GroupDoc{
		OSImage: Given(nameOf(inv.OSImageByID, g.OSImage)), BMCSetup: Given(ref(inv.BMCSetupByID, g.BMCSetup)),
		Domain: Given(ref(inv.NetworkByID, g.Domain)), TorrentIF: Given(g.TorrentIF),
		PreScript: Given(g.PreScript), PartScript: Given(g.PartScript), PostScript: Given(g.PostScript), Comment: Given(g.Comment),
	}
	interfaces := map[string]InterfaceDoc{}
	for _, i := range g.Interfaces {
		w := InterfaceDoc{Params: i.Params, Implicit: i.Implicit}
		if i.Network4 != 0 {
			w.Network4 = nameOf(inv.NetworkByID, i.Network4)
		}
		if i.Network6 != 0 {
			w.Network6 = nameOf(inv.NetworkByID, i.Network6)
		}
		interfaces[i.Name] = w
	}
	d.Interfaces = Given(interfaces)
	return d
}

func (s *Switch) doc(inv *Inventory) SwitchDoc {
	return SwitchDoc{
		Network: Given(nameOf(inv.NetworkByID, s.Network)), IP: Given(s.Addr), Read: Given(s.Read), RW: Given(s.RW),
		OID: Given(s.OID), Comment: Given(s.Comment),
	}
}

func (o *OtherDev) doc(inv *Inventory) OtherDevDoc {
	connected := map[string]netip.Addr{}
	for id, a := range o.Connected {
		connected[nameOf(inv.NetworkByID, id)] = a
	}
	return OtherDevDoc{Connected: Given(connected), Comment: Given(o.Comment)}
}

func (n *Node) doc(inv *Inventory) NodeDoc {
	g, found := inv.GroupByID(n.Group)
	d := NodeDoc{
		Group: Given(nameOf(inv.GroupByID, n.Group)), MAC: Given[*MAC](nil), Interfaces: map[string]AddressesDoc{},
		Switch: Given(ref(inv.SwitchByID, n.Switch)), Port: Given(n.Port), LocalBoot: Given(n.LocalBoot),
		SetupBMC: Given(n.SetupBMC), Service: Given(n.Service), Tags: Given(append([]string{}, n.Tags...)), Comment: Given(n.Comment),
	}
	if n.MAC != "" {
		mac := n.MAC
		d.MAC.Value = &mac
	}
	for id, a := range n.Interfaces {
		name := fmt.Sprintf("#%d", id)
		if found {
			for _, i := range g.Interfaces {
				if i.ID == id {
					name = i.Name
				}
			}
		}
		d.Interfaces[name] = AddressesDoc(a)
	}
	return d
}

// named are the objects that others refer to.
type named interface {
	*Network | *OSImage | *BMCSetup | *Group | *Switch
	name() string
}

func (n *Network) name() string  { return n.Name }
func (o *OSImage) name() string  { return o.Name }
func (b *BMCSetup) name() string { return b.Name }
func (g *Group) name() string    { return g.Name }
func (s *Switch) name() string   { return s.Name }

// nameOf gives the name of a referred object; of one that is gone (the log
// remembers such) its ID.
func nameOf[T named](lookup func(ID) (T, bool), id ID) string {
	if o, ok := lookup(id); ok {
		return o.name()
	}
	return fmt.Sprintf("#%d", id)
}

// ref gives a reference that may be unset.
func ref[T named](lookup func(ID) (T, bool), id ID) *string {
	if id == 0 {
		return nil
	}
	s := nameOf(lookup, id)
	return &s
}
