package boot

import (
	"encoding/json"
	"net/netip"
	"slices"

	"github.com/clustervision/luna/inventory"
)

// Plan gives all that luna-install needs to make the node. The error is an
// *inventory.Error that says why there is nothing to install. A node that runs the
// kernel of a version of its osimage asks for that, which may be an older one by now;
// "" asks for the newest.
func (s Site) Plan(n *inventory.Node, asked string) (Plan, error) {
	image, version, err := s.version(n)
	if err != nil {
		return Plan{}, err
	}
	if v, ok := s.Inventory.Version(asked); ok && v.Image == image.ID && v.Ready {
		version = v
	}
	g, _ := s.Inventory.GroupByID(n.Group) // version found it
	plan := Plan{
		Version:      PlanVersion,
		Node:         n.Name,
		Hostname:     s.Inventory.Hostname(n),
		Group:        g.Name,
		OSImage:      image.Name,
		ImageVersion: version.ID,
		KernVer:      version.KernVer,
		Root: PlanArtifact{
			SHA256:       version.Root.SHA256,
			Size:         version.Root.Size,
			UnpackedSize: version.UnpackedSize,
			Descriptor:   version.Root.Descriptor,
		},
		Heads:      s.headsForLong(n.MAC, s.where(n), version),
		Interfaces: s.planInterfaces(n, g),
		PreScript:  text(g.PreScript),
		PartScript: text(g.PartScript),
		PostScript: text(g.PostScript),
		HTTPS:      Scheme(s.Inventory) == "https",
	}
	if c, ok := s.Inventory.Cluster(); ok {
		plan.SeedSeconds = c.SeedSeconds
	}
	plan.BMC = s.planBMC(n, g)
	return plan, nil
}

// planBMC tells the node how to set up its management controller, or nothing
// where the group or the node does not ask for it.
func (s Site) planBMC(n *inventory.Node, g *inventory.Group) *PlanBMC {
	b, ok := s.Inventory.BMCSetupByID(g.BMCSetup)
	if !ok || !n.SetupBMC {
		return nil
	}
	p := &PlanBMC{NetChannel: b.NetChannel, MgmtChannel: b.MgmtChannel, UserID: b.UserID, User: b.User, Password: b.Password}
	i, _ := g.Interface(inventory.BMC)
	if network, ok := s.Inventory.NetworkByID(i.Network4); ok && n.Interfaces[i.ID].V4.IsValid() {
		p.Address = netip.PrefixFrom(n.Interfaces[i.ID].V4, network.Prefix.Bits())
	}
	return p
}

// planInterfaces gives every interface of the group but the BMC's, which the
// operating system never sees.
func (s Site) planInterfaces(n *inventory.Node, g *inventory.Group) []PlanInterface {
	interfaces := []PlanInterface{}
	for _, i := range g.Interfaces {
		if i.Name == inventory.BMC {
			continue
		}
		p := PlanInterface{Name: i.Name, Addresses: s.prefixes(n, i), Params: i.Params}
		for _, id := range []inventory.ID{i.Network6, i.Network4} {
			if network, ok := s.Inventory.NetworkByID(id); ok {
				p.Domain = network.Name // of the IPv4 network where there are both
			}
		}
		if i.Name == inventory.BootIF {
			p.MAC = string(n.MAC)
			p.Gateway = Gateway(s.Inventory, p.Addresses)
		}
		interfaces = append(interfaces, p)
	}
	return interfaces
}

// Gateway gives the router for a machine with these addresses: the cluster's
// frontend address, as in Luna 1.2, where it lies in one of their networks and
// is not the machine's own. Zero: none.
func Gateway(inv *inventory.Inventory, own []netip.Prefix) netip.Addr {
	c, ok := inv.Cluster()
	if !ok {
		return netip.Addr{}
	}
	for _, p := range own {
		if p.Contains(c.FrontendAddress) && p.Addr() != c.FrontendAddress {
			return c.FrontendAddress
		}
	}
	return netip.Addr{}
}

func text(s *string) string {
	if s == nil {
		return ""
	}
	return *s
}

// Detail is how much of a plan InstallScript shows.
type Detail int

// The amounts of detail, each with what the one before it has.
const (
	Masked  Detail = iota // to anybody: neither scripts nor hashes
	Scripts               // to an administrator on a head: the group's scripts too
	Full                  // to the node's present boot: also the root's hash, which opens /artifacts
)

// masked stands in an install script in the place of what is not shown.
const masked = "masked"

// InstallScript renders a plan as the bash script that Luna 1.2 would have run,
// for people to read.
func InstallScript(plan Plan, detail Detail) string {
	if detail < Full {
		plan.Root.SHA256, plan.Root.Descriptor = masked, json.RawMessage(`null`)
		if plan.BMC != nil {
			bmc := *plan.BMC
			bmc.Password = masked
			plan.BMC = &bmc
		}
	}
	if detail < Scripts {
		for _, script := range []*string{&plan.PreScript, &plan.PartScript, &plan.PostScript} {
			if *script != "" {
				*script = "# " + masked
			}
		}
		plan.Interfaces = slices.Clone(plan.Interfaces)
		for i := range plan.Interfaces {
			if plan.Interfaces[i].Params != "" {
				plan.Interfaces[i].Params = masked
			}
		}
	}
	return render("install.sh", struct {
		Plan
		Masked bool
		Mask   string
	}{plan, detail < Full, masked})
}
