package cli

import (
	"context"
	"maps"
	"slices"
	"strings"

	"github.com/clustervision/luna/api"
)

// reference is the name of another object, which tables have in brackets.
type reference string

func (r reference) String() string { return "[" + string(r) + "]" }

func referTo(name string) any {
	if name == "" {
		return nil
	}
	return reference(name)
}

// originDefault is where a value comes from that nobody set.
const originDefault = "default"

// parameter is a value that holds for an object, and where it comes from.
type parameter struct {
	Parameter string `json:"parameter"`
	Value     any    `json:"value"`
	Origin    string `json:"origin"` // "node", "group compute", "cluster", ...
}

// origins is what show --origin prints of one object.
type origins struct {
	Name       string      `json:"name"`
	Parameters []parameter `json:"parameters"`
}

func (o *origins) add(name string, value any, origin string) {
	o.Parameters = append(o.Parameters, parameter{name, value, origin})
}

// addOr is add for a value that may be unset, or be as it is from the
// beginning.
func (o *origins) addOr(name string, value any, isSet bool, origin string) {
	if !isSet {
		origin = originDefault
	}
	o.add(name, value, origin)
}

func (o *origins) table() *table {
	t := &table{header: []string{"Parameter", "Value", "Origin"}}
	t.add("name", o.Name, "")
	for _, p := range o.Parameters {
		t.add(p.Parameter, oneLine(p.Value), p.Origin)
	}
	return t
}

// oneLine keeps a script from filling the screen.
func oneLine(v any) any {
	s, ok := v.(*string)
	if !ok || s == nil {
		return v
	}
	if text := strings.TrimRight(*s, "\n"); !strings.Contains(text, "\n") {
		return text
	}
	return "(" + countLines(*s) + ")"
}

// site is what objects get values from, by names.
type site struct {
	cluster   api.Cluster
	osimages  map[string]api.OSImage
	bmcsetups map[string]api.BMCSetup
	groups    map[string]api.Group
}

// getSite asks for everything at once: few questions, however many nodes are
// shown.
func getSite(ctx context.Context, s *session) (*site, error) {
	var t site
	var err error
	if t.cluster, err = s.Cluster(ctx); err != nil {
		return nil, err
	}
	if t.osimages, err = byName(func(o api.OSImage) string { return o.Name })(s.OSImages(ctx)); err != nil {
		return nil, err
	}
	if t.bmcsetups, err = byName(func(b api.BMCSetup) string { return b.Name })(s.BMCSetups(ctx, false)); err != nil {
		return nil, err
	}
	t.groups, err = byName(func(g api.Group) string { return g.Name })(s.Groups(ctx))
	return &t, err
}

func byName[T any](name func(T) string) func([]T, error) (map[string]T, error) {
	return func(list []T, err error) (map[string]T, error) {
		m := make(map[string]T, len(list))
		for _, o := range list {
			m[name(o)] = o
		}
		return m, err
	}
}

func printNodeOrigins(ctx context.Context, s *session, out *output, nodes []api.Node) error {
	t, err := getSite(ctx, s)
	if err != nil {
		return err
	}
	all := make([]origins, len(nodes))
	for i, n := range nodes {
		all[i] = t.ofNode(n)
	}
	switch {
	case !out.isTable() && isPlainName(s.name):
		return out.print(s.stdout(), all[0], nil)
	case !out.isTable():
		return out.print(s.stdout(), all, nil)
	}
	for _, o := range all {
		if err := o.table().write(s.stdout()); err != nil {
			return err
		}
	}
	return nil
}

func printGroupOrigins(ctx context.Context, s *session, out *output, g api.Group) error {
	t, err := getSite(ctx, s)
	if err != nil {
		return err
	}
	o := t.ofGroup(g)
	return out.print(s.stdout(), o, o.table)
}

// ofNode lists what holds for a node: its own first, then what it shares with
// its group.
func (t *site) ofNode(n api.Node) origins {
	o, g := origins{Name: n.Name}, t.groups[n.Group]
	from := "group " + g.Name
	o.add("group", referTo(n.Group), "node")
	domain := "node"
	if g.Domain != "" {
		domain = "node, network " + g.Domain
	}
	o.add("hostname", n.Hostname, domain)
	o.addOr("mac", orNil(string(n.MAC)), n.MAC != "", "node")
	o.addOr("switch", referTo(n.Switch), n.Switch != "", "node")
	o.addOr("port", n.Port, n.Port != nil, "node")
	o.addOr("localboot", n.LocalBoot, n.LocalBoot, "node")
	o.addOr("setupbmc", n.SetupBMC, !n.SetupBMC, "node")
	o.addOr("service", n.Service, n.Service, "node")
	o.addOr("tags", orNil(strings.Join(n.Tags, ",")), len(n.Tags) > 0, "node")
	o.addOr("comment", n.Comment, n.Comment != nil, "node")
	for _, name := range slices.Sorted(maps.Keys(n.Interfaces)) {
		a := n.Interfaces[name]
		if a.V4 != "" {
			o.add("interfaces."+name+".4", a.V4, "node")
		}
		if a.V6 != "" {
			o.add("interfaces."+name+".6", a.V6, "node")
		}
		t.addInterface(&o, name, g.Interfaces[name], from)
	}
	version := "osimage " + n.OSImage
	if boots := t.osimages[n.OSImage].Torrent; boots == nil || *boots != n.OSImageVersion {
		version = "node" // what it has booted
	}
	o.addOr("osimage_version", orNil(n.OSImageVersion), n.OSImageVersion != "", version)
	t.addShared(&o, g, from)
	return o
}

// ofGroup lists what holds for the nodes of a group.
func (t *site) ofGroup(g api.Group) origins {
	o := origins{Name: g.Name}
	o.addOr("comment", g.Comment, g.Comment != nil, "group")
	for _, name := range slices.Sorted(maps.Keys(g.Interfaces)) {
		t.addInterface(&o, name, g.Interfaces[name], "group")
	}
	image := t.osimages[g.OSImage]
	o.addOr("osimage_version", image.Torrent, image.Torrent != nil, "osimage "+g.OSImage)
	t.addShared(&o, g, "group")
	return o
}

func (t *site) addInterface(o *origins, name string, i api.GroupInterface, from string) {
	if i.Network4 != "" {
		o.add("interfaces."+name+".network4", referTo(i.Network4), from)
		o.add("interfaces."+name+".prefix4", i.Prefix4, "network "+i.Network4)
	}
	if i.Network6 != "" {
		o.add("interfaces."+name+".network6", referTo(i.Network6), from)
		o.add("interfaces."+name+".prefix6", i.Prefix6, "network "+i.Network6)
	}
	if i.Params != "" {
		o.add("interfaces."+name+".params", &i.Params, from)
	}
}

// addShared adds what all nodes of the group have from it, and from what it
// refers to.
func (t *site) addShared(o *origins, g api.Group, from string) {
	o.addOr("domain", referTo(g.Domain), g.Domain != "", from)
	o.addOr("torrent_if", g.TorrentIF, g.TorrentIF != nil, from)
	o.addOr("prescript", g.PreScript, g.PreScript != nil, from)
	o.addOr("partscript", g.PartScript, g.PartScript != nil, from)
	o.addOr("postscript", g.PostScript, g.PostScript != nil, from)
	o.add("osimage", referTo(g.OSImage), from)
	image, of := t.osimages[g.OSImage], "osimage "+g.OSImage
	o.add("kernver", image.KernVer, of)
	o.add("kernopts", image.KernOpts, of)
	o.add("kernmodules", image.KernModules, of)
	o.add("dracutmodules", image.DracutModules, of)
	o.addOr("bmcsetup", referTo(g.BMCSetup), g.BMCSetup != "", from)
	if b, ok := t.bmcsetups[g.BMCSetup]; ok {
		of = "bmcsetup " + b.Name
		o.add("bmcsetup.user", b.User, of)
		o.add("bmcsetup.password", b.Password, of)
		o.add("bmcsetup.userid", b.UserID, of)
		o.add("bmcsetup.netchannel", b.NetChannel, of)
		o.add("bmcsetup.mgmtchannel", b.MgmtChannel, of)
	}
	o.add("seed_seconds", t.cluster.SeedSeconds, "cluster")
	o.add("frontend_port", t.cluster.FrontendPort, "cluster")
	o.add("frontend_https", t.cluster.FrontendHTTPS, "cluster")
}
