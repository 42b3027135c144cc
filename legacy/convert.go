package legacy

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"unicode/utf8"

	"go.mongodb.org/mongo-driver/v2/bson"

	"github.com/clustervision/luna/inventory"
)

// Convert says what the database means here: the whole of it as a document, and
// everything that could not be kept as it was. The same database always gives
// the same document and the same report, and the document is always well-formed.
//
// Where two want the same address, one that was set by hand on a machine keeps
// it: name servers first, then switches, otherdevs and, last, nodes, which Luna
// itself addresses; of one type the first by name. The other one's is left out,
// so that it gets a free one.
//
// The addresses of this site's heads, where they are given, belong to nobody
// else, and DHCP is only served where one of them lies.
func Convert(db *Database, heads ...netip.Addr) (inventory.Document, Report) {
	c := &converter{
		db: db, heads: heads,
		doc: inventory.Document{
			Luna: inventory.DocumentVersion, Networks: map[string]inventory.NetworkDoc{}, OSImages: map[string]inventory.OSImageDoc{},
			BMCSetups: map[string]inventory.BMCSetupDoc{}, Groups: map[string]inventory.GroupDoc{}, Switches: map[string]inventory.SwitchDoc{},
			OtherDevs: map[string]inventory.OtherDevDoc{}, Nodes: map[string]inventory.NodeDoc{},
		},
		nets: map[bson.ObjectID]*network{}, images: map[bson.ObjectID]string{}, setups: map[bson.ObjectID]string{},
		groups: map[bson.ObjectID]*group{}, switches: map[bson.ObjectID]string{}, owners: map[netip.Addr]string{},
	}
	c.cluster()
	c.networks()
	c.osimages()
	c.bmcsetups()
	c.makeGroups()
	c.makeSwitches()
	c.otherdevs()
	c.dhcp()
	c.nodes()
	c.reservations()
	for _, name := range db.Ignored {
		c.find("collection", name, Dropped, "it is not one of Luna 1.2's")
	}
	c.report.order()
	return c.doc, c.report
}

// converter holds a conversion on its way.
type converter struct {
	db     *Database
	doc    inventory.Document
	report Report
	// What became of the objects that others refer to, by their ids; what is
	// not in them is not kept.
	nets     map[bson.ObjectID]*network
	all      []*network // the wider ones first
	images   map[bson.ObjectID]string
	setups   map[bson.ObjectID]string
	groups   map[bson.ObjectID]*group
	switches map[bson.ObjectID]string
	// owners says who has an address: "node 'node001'".
	owners   map[netip.Addr]string
	frontend netip.Addr
	heads    []netip.Addr
}

func (c *converter) find(object, name string, s Severity, format string, args ...any) {
	c.report = append(c.report, Finding{Object: object, Name: printable(name), Severity: s, Text: fmt.Sprintf(format, args...)})
}

// claim gives the address to whom asks first, or says who has it.
func (c *converter) claim(a netip.Addr, who string) (has string, ok bool) {
	if slices.Contains(c.heads, a) {
		return "a head of this site", false
	}
	if has, taken := c.owners[a]; taken {
		return has, false
	}
	c.owners[a] = who
	return "", true
}

// old tells that the database is of 1.1, where a field that is missing was not
// unset: 1.1 did not know it.
func (c *converter) old() bool { return c.db.Cluster.DBVersion == nil }

// text gives a text that may be unset.
func (c *converter) text(object, name, field string, t Text) inventory.Maybe[*string] {
	if !t.Set {
		return inventory.Maybe[*string]{Given: !c.old()}
	}
	s := c.clean(object, name, field, t)
	return inventory.Given(&s)
}

// plain gives a text that may be empty but not unset.
func (c *converter) plain(object, name, field string, t Text) inventory.Maybe[string] {
	return inventory.Maybe[string]{Given: t.Set || !c.old(), Value: c.clean(object, name, field, t)}
}

// clean gives the text as it can be kept.
func (c *converter) clean(object, name, field string, t Text) string {
	s := t.Value
	if len(s) > inventory.MaxScript {
		c.find(object, name, Dropped, "%s is %d bytes long: at most %d are kept", field, len(s), inventory.MaxScript)
		return ""
	}
	if !utf8.ValidString(s) {
		c.find(object, name, Adjusted, "%s is not UTF-8: what cannot be read in it is '?' now", field)
		s = strings.ToValidUTF8(s, "?")
	}
	return s
}

// cluster takes over the settings of the site.
func (c *converter) cluster() {
	const object, name = "cluster", "general"
	old := &c.db.Cluster
	var doc inventory.ClusterDoc
	// take sets a field, unless the rules of here refuse its value.
	take := func(field string, set bool, to func(*inventory.ClusterDoc)) {
		if !set {
			return
		}
		var probe inventory.ClusterDoc
		to(&probe)
		if err := probe.Change().Validate(); err != nil {
			c.find(object, name, Dropped, "%s is not taken over: %s", field, oneLine(err.Error()))
			return
		}
		to(&doc)
	}
	if c.old() {
		c.find(object, name, Warning, "the database is of Luna 1.1: its interfaces are read as 1.2's migration read them")
	}
	take("nodeprefix", old.NodePrefix.Set, func(d *inventory.ClusterDoc) { d.NodePrefix = inventory.Given(old.NodePrefix.Value) })
	take("user", old.User.Set, func(d *inventory.ClusterDoc) { d.User = inventory.Given(c.clean(object, name, "user", old.User)) })
	take("path", old.Path.Set, func(d *inventory.ClusterDoc) { d.Path = inventory.Given(c.clean(object, name, "path", old.Path)) })
	for _, n := range []struct {
		field string
		value Number
		of    func(*inventory.ClusterDoc) *inventory.Maybe[int]
	}{
		{"nodedigits", old.NodeDigits, func(d *inventory.ClusterDoc) *inventory.Maybe[int] { return &d.NodeDigits }},
		{"frontend_port", old.FrontendPort, func(d *inventory.ClusterDoc) *inventory.Maybe[int] { return &d.FrontendPort }},
		{"server_port", old.ServerPort, func(d *inventory.ClusterDoc) *inventory.Maybe[int] { return &d.ServerPort }},
		{"tracker_interval", old.TrackerInterval, func(d *inventory.ClusterDoc) *inventory.Maybe[int] { return &d.TrackerInterval }},
		{"tracker_min_interval", old.TrackerMin, func(d *inventory.ClusterDoc) *inventory.Maybe[int] { return &d.TrackerMinInterval }},
		{"tracker_maxpeers", old.TrackerMaxPeers, func(d *inventory.ClusterDoc) *inventory.Maybe[int] { return &d.TrackerMaxPeers }},
		{"torrent_listen_port_min", old.TorrentPortMin, func(d *inventory.ClusterDoc) *inventory.Maybe[int] { return &d.TorrentListenPortMin }},
		{"torrent_listen_port_max", old.TorrentPortMax, func(d *inventory.ClusterDoc) *inventory.Maybe[int] { return &d.TorrentListenPortMax }},
		{"lweb_num_proc", old.LwebNumProc, func(d *inventory.ClusterDoc) *inventory.Maybe[int] { return &d.LwebNumProc }},
	} {
		take(n.field, n.value.Int != nil, func(d *inventory.ClusterDoc) { *n.of(d) = inventory.Given(n.value.Or(-1)) })
	}
	doc.FrontendHTTPS = inventory.Maybe[bool]{Given: old.FrontendHTTPS.Set, Value: old.FrontendHTTPS.On}
	doc.TorrentPidfile = c.text(object, name, "torrent_pidfile", old.TorrentPidfile)
	doc.LwebPidfile = c.text(object, name, "lweb_pidfile", old.LwebPidfile)
	doc.NamedIncludeFile = c.text(object, name, "named_include_file", old.NamedIncludeFile)
	doc.NamedZoneDir = c.text(object, name, "named_zone_dir", old.NamedZoneDir)
	doc.Comment = c.text(object, name, "comment", old.Comment)
	ips := c.text(object, name, "cluster_ips", old.ClusterIPs)
	take("cluster_ips", ips.Given, func(d *inventory.ClusterDoc) { d.ClusterIPs = ips })
	c.takeFrontend(&doc)
	c.clusterWarnings(&doc)
	c.doc.Cluster = &doc
}

func (c *converter) takeFrontend(doc *inventory.ClusterDoc) {
	old := strings.TrimSpace(c.db.Cluster.FrontendAddress.Value)
	if old == "" {
		return
	}
	a, err := netip.ParseAddr(old)
	if err != nil || a.Zone() != "" {
		c.find("cluster", "general", Dropped, "frontend_address '%s' is no IP address: the site keeps the one that it has here", printable(old))
		return
	}
	c.frontend = a
	doc.FrontendAddress = inventory.Given(a)
}

// clusterWarnings says which settings have lost their meaning.
func (c *converter) clusterWarnings(doc *inventory.ClusterDoc) {
	warn := func(format string, args ...any) { c.find("cluster", "general", Warning, format, args...) }
	usual := inventory.DefaultServices()
	if ips := doc.ClusterIPs.Value; ips != nil && *ips != "" {
		warn("cluster_ips (%s) is kept and means nothing here: every head is active, and `luna join` makes one more", printable(*ips))
	}
	for _, f := range []struct {
		field      string
		now, usual *string
	}{{"torrent_pidfile", doc.TorrentPidfile.Value, usual.TorrentPidfile}, {"lweb_pidfile", doc.LwebPidfile.Value, usual.LwebPidfile}} {
		if f.now != nil && *f.now != *f.usual {
			warn("%s (%s) is kept and means nothing here: ltorrent and lweb are gone", f.field, printable(*f.now))
		}
	}
	if n := doc.LwebNumProc; n.Given && n.Value != usual.LwebNumProc {
		warn("lweb_num_proc (%d) is kept and means nothing here: lweb is gone", n.Value)
	}
	if doc.FrontendHTTPS.Value {
		warn("frontend_https is on: see that the heads have the certificate that the nodes trust")
	}
	if u := doc.User; u.Given && u.Value != "luna" {
		warn("the user '%s' must exist on every head", printable(u.Value))
	}
	if p := doc.Path; p.Given && p.Value != "/opt/luna" {
		warn("the path '%s' must exist on every head", printable(p.Value))
	}
}
