package inventory

import (
	"net/netip"
	"path/filepath"
	"strings"
)

// MaxScript bounds a script and any other long text, in bytes: state is held in
// memory by every head.
const MaxScript = 4 << 20

func (c InitCluster) Validate() error {
	if err := CheckName("head", c.Head.Name); err != nil {
		return err
	}
	if !c.Cluster.FrontendAddress.IsValid() {
		return invalid("cluster", "general", "a frontend address is needed: --frontend_address")
	}
	if c.Cluster.Secrets.CAKey == "" || len(c.Cluster.Secrets.GossipKey) != 32 || len(c.Cluster.Secrets.BootKey) != 32 {
		return invalid("cluster", "general", "the cluster's secrets are incomplete")
	}
	return checkNaming(c.Cluster.NodePrefix, c.Cluster.NodeDigits)
}

func checkNaming(prefix string, digits int) error {
	if err := CheckName("node", prefix+"1"); err != nil {
		return err
	}
	if digits < 1 || digits > 9 {
		return invalid("cluster", "general", "nodedigits should be in the range [1..9], not %d", digits)
	}
	return nil
}

func (c ChangeCluster) Validate() error {
	if c.NodePrefix != nil {
		if err := checkNaming(*c.NodePrefix, 1); err != nil {
			return err
		}
	}
	if c.NodeDigits != nil {
		if err := checkNaming("node", *c.NodeDigits); err != nil {
			return err
		}
	}
	if c.FrontendAddress != nil && !c.FrontendAddress.IsValid() {
		return invalid("cluster", "general", "the frontend address must be an IP address")
	}
	if c.FrontendPort != nil && (*c.FrontendPort < 1 || *c.FrontendPort > 65535) {
		return invalid("cluster", "general", "frontend_port should be in the range [1..65535], not %d", *c.FrontendPort)
	}
	if c.Replicas != nil && (*c.Replicas < 1 || *c.Replicas > 99) {
		return invalid("cluster", "general", "replicas should be in the range [1..99], not %d", *c.Replicas)
	}
	if c.SeedSeconds != nil && (*c.SeedSeconds < 0 || *c.SeedSeconds > 3600) {
		return invalid("cluster", "general", "seed_seconds should be in the range [0..3600], not %d", *c.SeedSeconds)
	}
	return nil
}

// CheckPrefix refuses a network that has no room for two addresses or none for
// its name server: 1..30 for IPv4, 1..126 for IPv6, as in 1.2.
func CheckPrefix(name string, p netip.Prefix) error {
	top := 30
	if p.Addr().Is6() {
		top = 126
	}
	switch {
	case !p.IsValid():
		return invalid("network", name, "the network needs an address and a prefix, as in 10.30.0.0/16")
	case p.Addr().Is4In6() || p.Addr().Zone() != "":
		return invalid("network", name, "'%s' is no network address", p.Addr())
	case p.Bits() < 1 || p.Bits() > top:
		return invalid("network", name, "Prefix should be in the range [1..%d]", top)
	}
	return nil
}

func (c AddNetwork) Validate() error {
	if err := CheckName("network", c.Name); err != nil {
		return err
	}
	if c.NSHostname != "" {
		if err := CheckName("name server", c.NSHostname); err != nil {
			return err
		}
	}
	return CheckPrefix(c.Name, c.Prefix)
}

func (c ChangeNetwork) Validate() error {
	if c.NSHostname != nil {
		if err := CheckName("name server", *c.NSHostname); err != nil {
			return err
		}
	}
	if c.Prefix != nil {
		return CheckPrefix(c.Name, *c.Prefix)
	}
	return nil
}

func (c DeleteNetwork) Validate() error { return nil }

func (c SetRange) Validate() error {
	if c.Range.IsZero() && !c.Range.End.IsValid() {
		return nil
	}
	if !c.Range.Start.IsValid() || !c.Range.End.IsValid() {
		return invalid("network", c.Network, "Network range should be specified: a first and a last address")
	}
	if c.Range.End.Less(c.Range.Start) {
		return Errorf(KindRefused, "network", c.Network, "Wrong range definition: %s comes after %s", c.Range.Start, c.Range.End)
	}
	return nil
}

func checkPath(image, path string) error {
	if !filepath.IsAbs(path) {
		return invalid("osimage", image, "the path of the osimage must be absolute, not '%s'", path)
	}
	return nil
}

// checkKernopts keeps the kernel command line one line: it stands in scripts.
func checkKernopts(image, opts string) error {
	if strings.ContainsAny(opts, "\n\r\x00") {
		return invalid("osimage", image, "the kernel options must be one line")
	}
	return nil
}

func (c AddOSImage) Validate() error {
	if err := CheckName("osimage", c.Name); err != nil {
		return err
	}
	if err := checkPath(c.Name, c.Path); err != nil {
		return err
	}
	return checkKernopts(c.Name, c.KernOpts)
}

func (c ChangeOSImage) Validate() error {
	if c.Path != nil {
		if err := checkPath(c.Name, *c.Path); err != nil {
			return err
		}
	}
	if c.KernOpts != nil {
		return checkKernopts(c.Name, *c.KernOpts)
	}
	return nil
}

func (c DeleteOSImage) Validate() error { return nil }

func (c PublishVersion) Validate() error {
	if len(c.Version.ID) != 16 {
		return invalid("osimage", c.OSImage, "'%s' is no version ID", c.Version.ID)
	}
	for _, a := range []Artifact{c.Version.Root, c.Version.Kernel, c.Version.Initrd} {
		if len(a.SHA256) != 64 || a.Size <= 0 || len(a.Descriptor) == 0 {
			return invalid("osimage", c.OSImage, "version %s has an incomplete artifact", c.Version.ID)
		}
	}
	return nil
}

func (c RecordHolder) Validate() error  { return nil }
func (c DeleteVersion) Validate() error { return nil }

func (c AddGroup) Validate() error { return CheckName("group", c.Name) }

func (c ChangeGroup) Validate() error {
	for _, s := range []*string{c.PreScript, c.PartScript, c.PostScript, c.Comment} {
		if s != nil && len(*s) > MaxScript {
			return invalid("group", c.Name, "the text is %d bytes long: at most %d are kept", len(*s), MaxScript)
		}
	}
	return nil
}

func (c ChangeInterface) Validate() error {
	switch c.Action {
	case InterfaceAdd:
		return CheckName("interface", c.Interface)
	case InterfaceRename:
		return CheckName("interface", c.NewName)
	case InterfaceSetNet:
		if c.Network == "" {
			return invalid("group", c.Group, "setnet needs a network")
		}
	case InterfaceDelete, InterfaceDelNet, InterfaceParams:
	default:
		return invalid("group", c.Group, "'%s' is no action on an interface", c.Action)
	}
	return nil
}

func (c DeleteGroup) Validate() error { return nil }

func (c AddNodes) Validate() error {
	if c.MAC != "" && len(c.Names) > 1 {
		return invalid("node", c.Names[0], "one MAC address cannot be that of %d nodes", len(c.Names))
	}
	seen := make(map[string]bool, len(c.Names))
	for _, n := range c.Names {
		if err := CheckName("node", n); err != nil {
			return err
		}
		if seen[n] {
			return Exists("node", n)
		}
		seen[n] = true
	}
	return nil
}

func (c ChangeNodes) Validate() error {
	if len(c.Names) == 0 {
		return invalid("node", "", "no node is named")
	}
	if len(c.Names) > 1 && c.MAC != nil && *c.MAC != "" {
		return invalid("node", c.Names[0], "one MAC address cannot be that of %d nodes", len(c.Names))
	}
	if len(c.Names) > 1 && len(c.Addresses) > 0 {
		return invalid("node", c.Names[0], "one address cannot be that of %d nodes", len(c.Names))
	}
	if c.Group != nil && len(c.Addresses) > 0 {
		return invalid("node", c.Names[0], "change the group first, then the address")
	}
	for _, a := range c.Addresses {
		if !a.Addr.IsValid() {
			return invalid("node", c.Names[0], "interface '%s' needs an IP address", a.Interface)
		}
	}
	return nil
}

func (c DeleteNodes) Validate() error {
	if len(c.Names) == 0 {
		return invalid("node", "", "no node is named")
	}
	return nil
}

func (c Rename) Validate() error { return CheckName(c.Object, c.NewName) }

func (c RecordStatus) Validate() error { return nil }

func (c CreateInvite) Validate() error {
	if c.Invite.ID == "" || len(c.Invite.Hash) != 64 || !c.Invite.Created.Before(c.Invite.Expires) {
		return invalid("head", "", "the invite is malformed")
	}
	return nil
}

func (c AdmitHead) Validate() error {
	if !c.Head.Address.IsValid() || c.Head.Key == "" {
		return invalid("head", c.Head.Name, "the head's address or key is missing")
	}
	return CheckName("head", c.Head.Name)
}

func (c UpdateHead) Validate() error {
	if !c.Address.IsValid() {
		return invalid("head", c.Name, "the head's address is missing")
	}
	return nil
}

func (c RemoveHead) Validate() error   { return nil }
func (c AssignDuties) Validate() error { return nil }

func (c LeaseAddress) Validate() error {
	if c.MAC == "" || c.TTL <= 0 {
		return invalid("lease", string(c.MAC), "a lease needs a MAC address and a time")
	}
	return nil
}
