package legacy

import "go.mongodb.org/mongo-driver/v2/bson"

// Format is the form in which a database was given.
type Format string

// The forms that [Read] takes.
const (
	FormatDump    Format = "mongodump directory"
	FormatArchive Format = "mongodump archive"
	FormatExport  Format = "mongoexport"
)

// Database is a store of Luna 1.2 as it lay there: nothing is checked, nothing
// resolved. Each list is in the order of names, then of ids, whatever the order
// of the dump, so that the same store always reads the same.
type Database struct {
	Format    Format
	Cluster   Cluster
	Networks  []Network
	OSImages  []OSImage
	BMCSetups []BMCSetup
	Groups    []Group
	Nodes     []Node
	Switches  []Switch
	OtherDevs []OtherDev
	MACs      []MAC
	// Ignored names the collections that are not Luna's, sorted. Those that
	// 1.2 kept for the moment (switch_mac, tracker) are not among them.
	Ignored []string
}

// Cluster is the one document of the collection "cluster", named "general".
type Cluster struct {
	Name             Text     `bson:"name"`
	DBVersion        *float64 `bson:"db_version"` // 1.2; nil in 1.1, which did not write it
	NodePrefix       Text     `bson:"nodeprefix"`
	NodeDigits       Number   `bson:"nodedigits"`
	User             Text     `bson:"user"`
	Path             Text     `bson:"path"`
	FrontendAddress  Text     `bson:"frontend_address"` // any text: 1.2 did not check it
	FrontendPort     Number   `bson:"frontend_port"`    // TCP
	FrontendHTTPS    Flag     `bson:"frontend_https"`
	ServerPort       Number   `bson:"server_port"`          // TCP, on the loopback
	TrackerInterval  Number   `bson:"tracker_interval"`     // s
	TrackerMin       Number   `bson:"tracker_min_interval"` // s
	TrackerMaxPeers  Number   `bson:"tracker_maxpeers"`
	TorrentPortMin   Number   `bson:"torrent_listen_port_min"`
	TorrentPortMax   Number   `bson:"torrent_listen_port_max"`
	TorrentPidfile   Text     `bson:"torrent_pidfile"`
	LwebPidfile      Text     `bson:"lweb_pidfile"`
	LwebNumProc      Number   `bson:"lweb_num_proc"` // 0: as many as there are cores
	ClusterIPs       Text     `bson:"cluster_ips"`   // comma separated; set: the site is highly available
	NamedIncludeFile Text     `bson:"named_include_file"`
	NamedZoneDir     Text     `bson:"named_zone_dir"`
	DHCPNet          Ref      `bson:"dhcp_net"`
	DHCPRangeStart   Number   `bson:"dhcp_range_start"` // offset in DHCPNet
	DHCPRangeEnd     Number   `bson:"dhcp_range_end"`   // offset in DHCPNet
	Debug            Flag     `bson:"debug"`
	Comment          Text     `bson:"comment"`
}

// Network is a document of "network". All addresses of 1.2 are offsets from the
// base of their network.
type Network struct {
	ID         bson.ObjectID `bson:"_id"`
	Name       Text          `bson:"name"`
	Base       Number        `bson:"NETWORK"` // the address as a number
	Prefix     Number        `bson:"PREFIX"`  // bits
	Version    Number        `bson:"version"` // 4 or 6; missing in 1.1, which had only 4
	FreeList   []Range       `bson:"freelist"`
	NSHostname Text          `bson:"ns_hostname"`
	NSIP       Number        `bson:"ns_ip"` // offset
	Include    Text          `bson:"include"`
	RevInclude Text          `bson:"rev_include"`
	Comment    Text          `bson:"comment"`
}

// Range is a run of offsets that nobody has, both ends included.
type Range struct {
	Start Number `bson:"start"`
	End   Number `bson:"end"`
}

// OSImage is a document of "osimage".
type OSImage struct {
	ID              bson.ObjectID `bson:"_id"`
	Name            Text          `bson:"name"`
	Path            Text          `bson:"path"`
	KernVer         Text          `bson:"kernver"`
	KernOpts        Text          `bson:"kernopts"`
	KernModules     Text          `bson:"kernmodules"`
	DracutModules   Text          `bson:"dracutmodules"`
	KernFile        Text          `bson:"kernfile"`   // file name under PATH/boot, "" before the first pack
	InitrdFile      Text          `bson:"initrdfile"` // likewise
	Tarball         Text          `bson:"tarball"`    // uuid, missing before the first pack
	Torrent         Text          `bson:"torrent"`    // likewise
	GrabExcludeList Text          `bson:"grab_exclude_list"`
	GrabFilesystems Text          `bson:"grab_filesystems"`
	Comment         Text          `bson:"comment"`
}

// BMCSetup is a document of "bmcsetup".
type BMCSetup struct {
	ID          bson.ObjectID `bson:"_id"`
	Name        Text          `bson:"name"`
	User        Text          `bson:"user"`
	Password    Text          `bson:"password"` // in the clear
	UserID      Number        `bson:"userid"`
	NetChannel  Number        `bson:"netchannel"`
	MgmtChannel Number        `bson:"mgmtchannel"`
	Comment     Text          `bson:"comment"`
}

// Group is a document of "group".
type Group struct {
	ID         bson.ObjectID        `bson:"_id"`
	Name       Text                 `bson:"name"`
	OSImage    Ref                  `bson:"osimage"`
	BMCSetup   Ref                  `bson:"bmcsetup"`
	Domain     Ref                  `bson:"domain"`     // a network
	Interfaces map[string]Interface `bson:"interfaces"` // by 32 hex digits; in 1.1 by name
	PreScript  Text                 `bson:"prescript"`
	PartScript Text                 `bson:"partscript"`
	PostScript Text                 `bson:"postscript"`
	TorrentIF  Text                 `bson:"torrent_if"`
	Comment    Text                 `bson:"comment"`
	BootIF     Text                 `bson:"boot_if"`    // 1.1 only
	BMCNetwork Ref                  `bson:"bmcnetwork"` // 1.1 only
}

// Interface is an interface of a group.
type Interface struct {
	Name    Text     `bson:"name"` // missing in 1.1: there it is the key
	Network Networks `bson:"network"`
	Params  Text     `bson:"params"`
}

// Networks are the networks of an interface, at most one of each family.
type Networks struct{ V4, V6 Ref }

// UnmarshalBSONValue implements bson.ValueUnmarshaler. 1.1 wrote the reference
// itself, for it knew only IPv4.
func (n *Networks) UnmarshalBSONValue(typ byte, data []byte) error {
	*n = Networks{}
	var both struct {
		V4 Ref `bson:"4"`
		V6 Ref `bson:"6"`
	}
	doc, ok := bson.RawValue{Type: bson.Type(typ), Value: data}.DocumentOK()
	if ok && doc.Lookup("$id").Type == 0 {
		err := bson.Unmarshal(doc, &both)
		n.V4, n.V6 = both.V4, both.V6
		return err
	}
	return n.V4.UnmarshalBSONValue(typ, data)
}

// Node is a document of "node". Its MAC is in a collection of its own: see [MAC].
type Node struct {
	ID         bson.ObjectID        `bson:"_id"`
	Name       Text                 `bson:"name"`
	Group      Ref                  `bson:"group"`
	Interfaces map[string]Addresses `bson:"interfaces"` // by the key of the group's interface
	Switch     Ref                  `bson:"switch"`
	Port       Text                 `bson:"port"`
	LocalBoot  Flag                 `bson:"localboot"`
	SetupBMC   Flag                 `bson:"setupbmc"`
	Service    Flag                 `bson:"service"`
	Comment    Text                 `bson:"comment"`
	BMCNetwork Number               `bson:"bmcnetwork"` // 1.1 only: offset in the group's BMC network
	// Linked tells that the making of the node came to its end. 1.2 stored a
	// node first and linked it to the cluster last, and where it failed between
	// the two (no address left) it left a node behind that no list showed.
	Linked bool `bson:"-"`
}

// Addresses are a node's offsets in the networks of one interface.
type Addresses struct{ V4, V6 Number }

// UnmarshalBSONValue implements bson.ValueUnmarshaler. 1.1 wrote a bare number.
func (a *Addresses) UnmarshalBSONValue(typ byte, data []byte) error {
	*a = Addresses{}
	doc, ok := bson.RawValue{Type: bson.Type(typ), Value: data}.DocumentOK()
	if !ok {
		return a.V4.UnmarshalBSONValue(typ, data)
	}
	var both struct {
		V4 Number `bson:"4"`
		V6 Number `bson:"6"`
	}
	err := bson.Unmarshal(doc, &both)
	a.V4, a.V6 = both.V4, both.V6
	return err
}

// Switch is a document of "switch".
type Switch struct {
	ID      bson.ObjectID `bson:"_id"`
	Name    Text          `bson:"name"`
	Network Ref           `bson:"network"`
	IP      Number        `bson:"ip"` // offset
	Read    Text          `bson:"read"`
	RW      Text          `bson:"rw"`
	OID     Text          `bson:"oid"`
	Comment Text          `bson:"comment"`
}

// OtherDev is a document of "otherdev".
type OtherDev struct {
	ID        bson.ObjectID     `bson:"_id"`
	Name      Text              `bson:"name"`
	Connected map[string]Number `bson:"connected"` // offsets by the id of the network, hex
	Comment   Text              `bson:"comment"`
}

// MAC is a document of "mac": the MAC address of a node.
type MAC struct {
	MAC  Text `bson:"mac"`
	Node Ref  `bson:"node"`
}
