package inventory

import (
	"maps"
	"slices"
)

// Validate refuses a document that is malformed whatever the state is. The
// rules are those of the commands that do the same by hand.
func (d Document) Validate() error {
	if d.Luna != DocumentVersion {
		return invalid("document", "", "the document's format is %d: this agent reads %d (a line `luna: %d` must be in it)", d.Luna, DocumentVersion, DocumentVersion)
	}
	if d.Cluster != nil {
		if err := d.Cluster.Change().Validate(); err != nil {
			return err
		}
	}
	for _, check := range []func() error{
		func() error { return checkDocs("network", d.Networks, NetworkDoc.validate) },
		func() error { return checkDocs("osimage", d.OSImages, OSImageDoc.validate) },
		func() error { return checkDocs("bmcsetup", d.BMCSetups, BMCSetupDoc.validate) },
		func() error { return checkDocs("group", d.Groups, GroupDoc.validate) },
		func() error { return checkDocs("switch", d.Switches, SwitchDoc.validate) },
		func() error { return checkDocs("otherdev", d.OtherDevs, OtherDevDoc.validate) },
		func() error { return checkDocs("node", d.Nodes, NodeDoc.validate) },
	} {
		if err := check(); err != nil {
			return err
		}
	}
	return nil
}

func checkDocs[D any](object string, docs map[string]D, validate func(D, string) error) error {
	for _, name := range slices.Sorted(maps.Keys(docs)) {
		if err := CheckName(object, name); err != nil {
			return err
		}
		if err := validate(docs[name], name); err != nil {
			return err
		}
	}
	return nil
}

// pointer gives the value as a command wants it: nil where it is not given.
func pointer[T any](m Maybe[T]) *T {
	if !m.Given {
		return nil
	}
	return &m.Value
}

// textOf gives a text as a command wants it: nil where it is not given, ""
// where it is unset.
func textOf(m Maybe[*string]) *string {
	if !m.Given {
		return nil
	}
	if m.Value == nil {
		return new(string)
	}
	return m.Value
}

// Change gives the command that does what the document says of the cluster.
func (d ClusterDoc) Change() ChangeCluster {
	return ChangeCluster{
		NodePrefix: pointer(d.NodePrefix), NodeDigits: pointer(d.NodeDigits), User: pointer(d.User), Path: pointer(d.Path),
		FrontendAddress: pointer(d.FrontendAddress), FrontendPort: pointer(d.FrontendPort), FrontendHTTPS: pointer(d.FrontendHTTPS),
		Replicas: pointer(d.Replicas), SeedSeconds: pointer(d.SeedSeconds), ServerPort: pointer(d.ServerPort),
		TrackerInterval: pointer(d.TrackerInterval), TrackerMinInterval: pointer(d.TrackerMinInterval), TrackerMaxPeers: pointer(d.TrackerMaxPeers),
		TorrentListenPortMin: pointer(d.TorrentListenPortMin), TorrentListenPortMax: pointer(d.TorrentListenPortMax),
		TorrentPidfile: textOf(d.TorrentPidfile), LwebPidfile: textOf(d.LwebPidfile), LwebNumProc: pointer(d.LwebNumProc),
		ClusterIPs: textOf(d.ClusterIPs), NamedIncludeFile: textOf(d.NamedIncludeFile), NamedZoneDir: textOf(d.NamedZoneDir),
		Comment: textOf(d.Comment),
	}
}

// Change gives the command that does what the document says of the network,
// but for its range and its reservations.
func (d NetworkDoc) Change(name string) ChangeNetwork {
	return ChangeNetwork{
		Name: name, Prefix: pointer(d.Network), NSHostname: pointer(d.NSHostname), NSIP: pointer(d.NSIP),
		Include: textOf(d.Include), RevInclude: textOf(d.RevInclude), Comment: textOf(d.Comment),
	}
}

func (d NetworkDoc) validate(name string) error {
	if r := d.DHCPRange.Value; r != nil {
		if err := (SetRange{Network: name, Range: *r}).Validate(); err != nil {
			return err
		}
	}
	return d.Change(name).Validate()
}

// Change gives the command that does what the document says of the osimage.
func (d OSImageDoc) Change(name string) ChangeOSImage {
	return ChangeOSImage{
		Name: name, Path: pointer(d.Path), KernVer: pointer(d.KernVer), KernOpts: pointer(d.KernOpts), KernModules: pointer(d.KernModules),
		DracutModules: pointer(d.DracutModules), GrabExcludeList: pointer(d.GrabExcludeList), GrabFilesystems: pointer(d.GrabFilesystems),
		Comment: textOf(d.Comment),
	}
}

func (d OSImageDoc) validate(name string) error { return d.Change(name).Validate() }

// Change gives the command that does what the document says of the bmcsetup.
func (d BMCSetupDoc) Change(name string) ChangeBMCSetup {
	return ChangeBMCSetup{
		Name: name, User: pointer(d.User), Password: pointer(d.Password), UserID: pointer(d.UserID),
		NetChannel: pointer(d.NetChannel), MgmtChannel: pointer(d.MgmtChannel), Comment: textOf(d.Comment),
	}
}

func (d BMCSetupDoc) validate(name string) error { return d.Change(name).Validate() }

// Change gives the command that does what the document says of the group, but
// for its interfaces.
func (d GroupDoc) Change(name string) ChangeGroup {
	return ChangeGroup{
		Name: name, OSImage: pointer(d.OSImage), BMCSetup: textOf(d.BMCSetup), Domain: textOf(d.Domain), TorrentIF: textOf(d.TorrentIF),
		PreScript: textOf(d.PreScript), PartScript: textOf(d.PartScript), PostScript: textOf(d.PostScript), Comment: textOf(d.Comment),
	}
}

func (d GroupDoc) validate(name string) error {
	for _, i := range slices.Sorted(maps.Keys(d.Interfaces.Value)) {
		if err := CheckName("interface", i); err != nil {
			return err
		}
		params := d.Interfaces.Value[i].Params
		if err := checkTexts("group", name, &params); err != nil {
			return err
		}
	}
	return d.Change(name).Validate()
}

func (d SwitchDoc) validate(name string) error {
	if d.IP.Given && !d.IP.Value.IsValid() {
		return invalid("switch", name, "a switch needs an IP address")
	}
	if err := checkSwitch(name, pointer(d.Read), pointer(d.RW), pointer(d.OID)); err != nil {
		return err
	}
	return checkTexts("switch", name, d.Comment.Value)
}

func (d OtherDevDoc) validate(name string) error {
	for _, network := range slices.Sorted(maps.Keys(d.Connected.Value)) {
		if !d.Connected.Value[network].IsValid() {
			return invalid("otherdev", name, "the address in network '%s' is missing", network)
		}
	}
	return checkTexts("otherdev", name, d.Comment.Value)
}

func (d NodeDoc) validate(name string) error {
	for _, t := range d.Tags.Value {
		if err := CheckTag(name, t); err != nil {
			return err
		}
	}
	if err := checkPort(name, d.Port.Value); err != nil {
		return err
	}
	return checkTexts("node", name, d.Comment.Value)
}
