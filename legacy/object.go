package legacy

import (
	"net/netip"
	"path"
	"strings"

	"github.com/clustervision/luna/inventory"
)

// osimages takes over the settings of the images. Their trees stay where they
// are: on the disks of the 1.2 head.
func (c *converter) osimages() {
	names := c.renamed("osimage", titles(c.db.OSImages, func(o *OSImage) Text { return o.Name }))
	owner := map[string]string{} // of a path
	for i := range c.db.OSImages {
		old, name := &c.db.OSImages[i], names[i]
		title := old.Name.Value
		if _, twice := c.images[old.ID]; !twice {
			c.images[old.ID] = name
		}
		doc := inventory.OSImageDoc{
			Path:            inventory.Given(c.imagePath(old, name, owner)),
			KernVer:         c.plain("osimage", title, "kernver", old.KernVer),
			KernOpts:        c.plain("osimage", title, "kernopts", old.KernOpts),
			KernModules:     c.plain("osimage", title, "kernmodules", old.KernModules),
			DracutModules:   c.plain("osimage", title, "dracutmodules", old.DracutModules),
			GrabExcludeList: c.plain("osimage", title, "grab_exclude_list", old.GrabExcludeList),
			GrabFilesystems: c.plain("osimage", title, "grab_filesystems", old.GrabFilesystems),
			Comment:         c.text("osimage", title, "comment", old.Comment),
		}
		if opts := doc.KernOpts.Value; strings.ContainsAny(opts, "\n\r\x00") {
			doc.KernOpts.Value = strings.Join(strings.FieldsFunc(opts, func(r rune) bool { return strings.ContainsRune("\n\r\x00", r) }), " ")
			c.find("osimage", title, Adjusted, "its kernel options were more than one line: they are one now")
		}
		packed := ""
		if old.Tarball.Value != "" {
			packed = " (the tarball and the torrent of 1.2 are not used)"
		}
		c.find("osimage", title, Warning, "bring its tree to %s on a head, then run `luna osimage pack %s` there%s", printable(doc.Path.Value), name, packed)
		c.doc.OSImages[name] = doc
	}
}

// imagePath gives a path that is absolute and no other image's.
func (c *converter) imagePath(old *OSImage, name string, owner map[string]string) string {
	title := old.Name.Value
	p := c.clean("osimage", title, "path", old.Path)
	if !path.IsAbs(p) {
		p = path.Join("/", p)
		if p == "/" {
			p = path.Join("/opt/luna/os", name)
		}
		c.find("osimage", title, Adjusted, "its path '%s' is not absolute: it is %s now", printable(old.Path.Value), printable(p))
	}
	if other, taken := owner[p]; taken {
		link := p + "-" + name
		for ; owner[link] != ""; link += "_" {
		}
		c.find("osimage", title, Adjusted, "its path %s is that of osimage '%s' too: it is %s now, which may be a symbolic link to it", printable(p), other, printable(link))
		p = link
	}
	owner[p] = name
	return p
}

// bmcsetups takes over the bmcsetups. What is unset or refused gets the default,
// as in 1.2.
func (c *converter) bmcsetups() {
	names := c.renamed("bmcsetup", titles(c.db.BMCSetups, func(o *BMCSetup) Text { return o.Name }))
	for i := range c.db.BMCSetups {
		old, name := &c.db.BMCSetups[i], names[i]
		title := old.Name.Value
		if _, twice := c.setups[old.ID]; !twice {
			c.setups[old.ID] = name
		}
		doc := inventory.BMCSetupDoc{
			User:        inventory.Given(inventory.DefaultBMCUser),
			Password:    inventory.Given(inventory.DefaultBMCPassword),
			UserID:      inventory.Given(inventory.DefaultBMCUserID),
			NetChannel:  inventory.Given(inventory.DefaultBMCChannel),
			MgmtChannel: inventory.Given(inventory.DefaultBMCChannel),
			Comment:     c.text("bmcsetup", title, "comment", old.Comment),
		}
		take := func(field string, set bool, to func(*inventory.BMCSetupDoc)) {
			if !set {
				return
			}
			probe := doc
			to(&probe)
			if err := probe.Change(name).Validate(); err != nil {
				c.find("bmcsetup", title, Adjusted, "%s has its default now: %s. Set it with `luna bmcsetup change %s`", field, oneLine(err.Error()), name)
				return
			}
			doc = probe
		}
		take("user", old.User.Value != "", func(d *inventory.BMCSetupDoc) { d.User.Value = old.User.Value })
		take("password", old.Password.Value != "", func(d *inventory.BMCSetupDoc) { d.Password.Value = old.Password.Value })
		take("userid", old.UserID.Or(1) != 0, func(d *inventory.BMCSetupDoc) { d.UserID.Value = old.UserID.Or(inventory.DefaultBMCUserID) })
		take("netchannel", old.NetChannel.Or(1) != 0, func(d *inventory.BMCSetupDoc) { d.NetChannel.Value = old.NetChannel.Or(inventory.DefaultBMCChannel) })
		take("mgmtchannel", old.MgmtChannel.Or(1) != 0, func(d *inventory.BMCSetupDoc) { d.MgmtChannel.Value = old.MgmtChannel.Or(inventory.DefaultBMCChannel) })
		c.doc.BMCSetups[name] = doc
	}
}

// makeSwitches takes over the switches that still have their network.
func (c *converter) makeSwitches() {
	var kept []*Switch
	for i := range c.db.Switches {
		old := &c.db.Switches[i]
		if c.network(old.Network) == nil {
			c.find("switch", old.Name.Value, Dropped, "its network is not there")
			continue
		}
		kept = append(kept, old)
	}
	names := c.renamed("switch", titlesOf(kept, func(o *Switch) Text { return o.Name }))
	for i, old := range kept {
		title, name, n := old.Name.Value, names[i], c.network(old.Network)
		if _, twice := c.switches[old.ID]; !twice {
			c.switches[old.ID] = name
		}
		doc := inventory.SwitchDoc{
			Network: inventory.Given(n.name),
			Read:    inventory.Given(inventory.DefaultSwitchRead),
			RW:      inventory.Given(inventory.DefaultSwitchRW),
			OID:     inventory.Given(inventory.DefaultSwitchOID),
			Comment: c.text("switch", title, "comment", old.Comment),
		}
		if doc.IP = c.switchAddress(old, name, n); !doc.IP.Given {
			n.in.needs++
		}
		c.snmp(old, &doc)
		c.doc.Switches[name] = doc
	}
}

// switchAddress gives the switch's address, or none so that it gets a free one.
func (c *converter) switchAddress(old *Switch, name string, n *network) (none inventory.Maybe[netip.Addr]) {
	next := func(format string, args ...any) inventory.Maybe[netip.Addr] {
		c.find("switch", old.Name.Value, Adjusted, format+": it gets the next free one. Set the one that it has with `luna switch change %s -i IP`", append(args, name)...)
		return none
	}
	if old.IP.unset() {
		return next("it has no address")
	}
	a, ok := n.address(old.IP)
	if !ok {
		return next("its address %s is none of %s", n.shown(old.IP), n)
	}
	if has, free := c.claim(a, "switch '"+name+"'"); !free {
		return next("its address %s is that of %s", a, has)
	}
	return inventory.Given(a)
}

// snmp takes over how the switch is asked.
func (c *converter) snmp(old *Switch, doc *inventory.SwitchDoc) {
	for _, f := range []struct {
		field string
		old   Text
		of    func(*inventory.SwitchDoc) *inventory.Maybe[string]
	}{
		{"read", old.Read, func(d *inventory.SwitchDoc) *inventory.Maybe[string] { return &d.Read }},
		{"rw", old.RW, func(d *inventory.SwitchDoc) *inventory.Maybe[string] { return &d.RW }},
		{"oid", old.OID, func(d *inventory.SwitchDoc) *inventory.Maybe[string] { return &d.OID }},
	} {
		if f.old.Value == "" {
			continue
		}
		probe := inventory.SwitchDoc{}
		*f.of(&probe) = inventory.Given(f.old.Value)
		whole := inventory.Document{Luna: inventory.DocumentVersion, Switches: map[string]inventory.SwitchDoc{"x": probe}}
		if err := whole.Validate(); err != nil {
			c.find("switch", old.Name.Value, Adjusted, "%s has its default now: %s", f.field, oneLine(err.Error()))
			continue
		}
		*f.of(doc) = *f.of(&probe)
	}
}

// otherdevs takes over the other devices and what of their connections stands.
func (c *converter) otherdevs() {
	names := c.renamed("otherdev", titles(c.db.OtherDevs, func(o *OtherDev) Text { return o.Name }))
	for i := range c.db.OtherDevs {
		old, name := &c.db.OtherDevs[i], names[i]
		c.doc.OtherDevs[name] = inventory.OtherDevDoc{
			Connected: inventory.Given(c.connections(old, name)),
			Comment:   c.text("otherdev", old.Name.Value, "comment", old.Comment),
		}
	}
}

func titles[T any](list []T, name func(*T) Text) []string {
	all := make([]*T, len(list))
	for i := range list {
		all[i] = &list[i]
	}
	return titlesOf(all, name)
}

func titlesOf[T any](list []*T, name func(*T) Text) []string {
	names := make([]string, len(list))
	for i, o := range list {
		names[i] = name(o).Value
	}
	return names
}
