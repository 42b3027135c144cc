package fsm_test

import (
	"fmt"
	"iter"
	"net/netip"
	"slices"
	"strings"
	"time"

	"pgregory.net/rapid"

	"github.com/clustervision/luna/inventory"
)

// generator draws commands over a few names and addresses, and those of the
// state, so that they meet.
type generator struct {
	t   *rapid.T
	inv *inventory.Inventory
}

// tenBits is a number below 1024, each as likely as the other: rapid's own
// numbers are small ones most of the time, and then nothing much happens.
var tenBits = rapid.Map(rapid.SliceOfN(rapid.Bool(), 10, 10), func(bits []bool) (n int) {
	for _, b := range bits {
		n *= 2
		if b {
			n++
		}
	}
	return n
})

func (g generator) between(low, high int) int {
	return low + tenBits.Draw(g.t, "number")%(high-low+1)
}

func pick[T any](g generator, of []T) T { return of[g.between(0, len(of)-1)] }

func (g generator) yes() bool { return rapid.Bool().Draw(g.t, "yes") }

func (g generator) one(of ...string) string { return pick(g, of) }

// known prefers a name that there is.
func known[T any](g generator, all iter.Seq[*T], name func(*T) string, of ...string) string {
	if there := slices.Collect(all); len(there) > 0 && g.between(0, 3) > 0 {
		return name(pick(g, there))
	}
	return g.one(of...)
}

func (g generator) netName() string {
	return known(g, g.inv.Networks(), func(o *inventory.Network) string { return o.Name }, "a", "b", "c", "six")
}

func (g generator) imageName() string {
	return known(g, g.inv.OSImages(), func(o *inventory.OSImage) string { return o.Name }, "i", "j")
}

func (g generator) setupName() string {
	return known(g, g.inv.BMCSetups(), func(o *inventory.BMCSetup) string { return o.Name }, "x", "y")
}

func (g generator) groupName() string {
	return known(g, g.inv.Groups(), func(o *inventory.Group) string { return o.Name }, "g", "h")
}

func (g generator) switchName() string {
	return known(g, g.inv.Switches(), func(o *inventory.Switch) string { return o.Name }, "s1", "s2", "s3")
}

func (g generator) devName() string {
	return known(g, g.inv.OtherDevs(), func(o *inventory.OtherDev) string { return o.Name }, "d1", "d2")
}

func (g generator) nodeName() string {
	return known(g, g.inv.Nodes(), func(o *inventory.Node) string { return o.Name }, "n1", "n2", "n3", "node001", "node002")
}

func (g generator) iface() string { return g.one("BOOTIF", "BMC", "eth0") }

// several draws names, each once.
func (g generator) several(name func() string) []string {
	var names []string
	for range g.between(1, 3) {
		if n := name(); !slices.Contains(names, n) {
			names = append(names, n)
		}
	}
	return names
}

func (g generator) names(of ...string) []string {
	return g.several(func() string { return g.one(of...) })
}

func (g generator) nodeNames() []string   { return g.several(g.nodeName) }
func (g generator) switchNames() []string { return g.several(g.switchName) }
func (g generator) devNames() []string    { return g.several(g.devName) }

// addrIn prefers an address of the network.
func (g generator) addrIn(network string) netip.Addr {
	n, ok := g.inv.Network(network)
	if !ok || g.between(0, 3) == 0 {
		return g.addr()
	}
	a := n.Prefix.Addr()
	for range g.between(0, 15) {
		a = a.Next()
	}
	return a
}

// addrOf prefers an address in the network of one of the interfaces of the node.
func (g generator) addrOf(node, iface string) netip.Addr {
	if n, ok := g.inv.Node(node); ok {
		group, _ := g.inv.GroupByID(n.Group)
		i, _ := group.Interface(iface)
		if network, ok := g.inv.NetworkByID(i.Network4); ok {
			return g.addrIn(network.Name)
		}
		if network, ok := g.inv.NetworkByID(i.Network6); ok {
			return g.addrIn(network.Name)
		}
	}
	return g.addr()
}

// text is sometimes not given, sometimes empty.
func (g generator) text() *string {
	return pick(g, []*string{nil, nil, ptr(""), ptr("x"), ptr("two\nlines\n")})
}

func (g generator) addr() netip.Addr {
	if owners := slices.Collect(g.inv.Owners(netip.Addr{})); len(owners) > 0 && g.between(0, 3) == 0 {
		return pick(g, owners).Addr
	}
	host := g.between(0, 15)
	if g.between(0, 4) == 0 {
		return addr(fmt.Sprintf("fd00:%d::%x", g.between(1, 2), host))
	}
	return netip.AddrFrom4([4]byte{10, byte(g.between(1, 3)), 0, byte(host)})
}

// pool is a range that is sometimes a good one.
func (g generator) pool() inventory.AddrRange {
	start := addr("10.1.0.0")
	for range g.between(0, 63) {
		start = start.Next()
	}
	end := start
	for range g.between(0, 3) {
		end = end.Next()
	}
	if g.between(0, 5) == 0 {
		end = g.addr()
	}
	return inventory.AddrRange{Start: start, End: end}
}

func (g generator) prefix() netip.Prefix {
	a := g.addr()
	if a.Is6() {
		return netip.PrefixFrom(a, g.between(122, 126))
	}
	return netip.PrefixFrom(a, g.between(26, 30))
}

func (g generator) network() inventory.Command {
	c := inventory.AddNetwork{Name: g.netName(), Prefix: g.prefix(), NSHostname: g.one("", "ns")}
	if g.between(0, 3) == 0 {
		c.NSIP = g.addr()
	}
	return c
}

func (g generator) changeNetwork() inventory.Command {
	c := inventory.ChangeNetwork{Name: g.netName(), Comment: g.text(), Include: g.text()}
	switch g.between(0, 6) {
	case 0:
		c.Prefix = ptr(g.prefix())
	case 1:
		c.NSIP = ptr(g.addrIn(c.Name))
	case 2:
		c.Prefix, c.NSIP = ptr(g.prefix()), ptr(g.addr())
	case 3:
		c.Reserve = []netip.Addr{g.addrIn(c.Name)}
	case 4:
		c.Release, c.Force = []netip.Addr{g.addrIn(c.Name)}, g.yes()
	case 5:
		return inventory.SetRange{Network: c.Name}
	default:
		return inventory.SetRange{Network: g.one("a", "a", "b"), Range: g.pool()}
	}
	return c
}

func (g generator) osimage() inventory.Command {
	name, path := g.imageName(), g.one("/i", "/j", "/k")
	switch g.between(0, 2) {
	case 0:
		return inventory.ChangeOSImage{Name: name, Path: &path, KernOpts: g.text2("quiet"), Comment: g.text()}
	case 1:
		return inventory.AddOSImage{Name: name, Path: path, KernVer: "6", From: g.one("", "i")}
	}
	return inventory.AddOSImage{Name: name, Path: path, KernVer: "5"}
}

// text2 is that text, or nothing.
func (g generator) text2(s string) *string {
	return pick(g, []*string{nil, ptr(s)})
}

func (g generator) version() inventory.Command {
	id := g.one("0000000000000001", "0000000000000002", "0000000000000003")
	switch g.between(0, 4) {
	case 0:
		return inventory.DeleteVersion{Version: id}
	case 1:
		return inventory.RecordHolder{Version: id, Head: g.one("h1", "h2"), Held: g.yes()}
	}
	return g.publish(id, g.imageName(), epoch.Add(time.Duration(g.between(0, 9))*time.Minute))
}

func (generator) publish(id, image string, at time.Time) inventory.Command {
	f := inventory.Artifact{SHA256: strings.Repeat("0", 64), Size: 1, Descriptor: []byte("{}")}
	return inventory.PublishVersion{OSImage: image, Head: "h1", Version: inventory.ImageVersion{ID: id, Created: at, Root: f, Kernel: f, Initrd: f}}
}

func (g generator) bmcsetup() inventory.Command {
	name := g.setupName()
	if g.yes() {
		return inventory.AddBMCSetup{Name: name, User: g.text()}
	}
	return inventory.ChangeBMCSetup{Name: name, Password: g.text(), UserID: ptr(g.between(0, 5)), Comment: g.text()}
}

func (g generator) group() inventory.Command {
	if g.between(0, 3) == 0 {
		return inventory.CloneGroup{Name: g.groupName(), To: g.one("g", "h", "k")}
	}
	return inventory.AddGroup{Name: g.groupName(), OSImage: g.imageName(), Network: g.netName(), BMCSetup: g.one("", "", "x"), BMCNetwork: g.one("", "a", "b")}
}

func (g generator) changeGroup() inventory.Command {
	c := inventory.ChangeGroup{Name: g.groupName(), PreScript: g.text(), Comment: g.text()}
	actions := []inventory.InterfaceAction{
		inventory.InterfaceAdd, inventory.InterfaceDelete, inventory.InterfaceSetNet, inventory.InterfaceSetNet,
		inventory.InterfaceSetNet, inventory.InterfaceDelNet, inventory.InterfaceRename, inventory.InterfaceParams,
	}
	for range g.between(0, 2) {
		c.Interfaces = append(c.Interfaces, inventory.InterfaceChange{
			Interface: g.iface(), Action: pick(g, actions), Network: g.netName(),
			NewName: g.iface(), Params: "MTU=9000", Implicit: g.yes(),
		})
	}
	switch g.between(0, 6) {
	case 0:
		c.OSImage = ptr(g.imageName())
	case 1:
		c.BMCSetup = ptr(g.one("", "x", "y"))
	case 2:
		c.Domain = ptr(g.one("", "a", "b"))
	case 3:
		c.TorrentIF = ptr(g.one("", "BOOTIF", "eth0"))
	}
	return c
}

func (g generator) mac() inventory.MAC {
	return inventory.MAC(g.one("", "52:54:00:00:00:01", "52:54:00:00:00:02"))
}

func (g generator) nodes() inventory.Command {
	c := inventory.AddNodes{Group: g.groupName()}
	if g.yes() {
		c.Names = g.nodeNames()
	}
	if g.yes() {
		c.Tags = g.names("new", "gpu")
	}
	if g.between(0, 4) == 0 {
		c.MAC = g.mac()
	}
	return c
}

func (g generator) changeNodes() inventory.Command {
	c := inventory.ChangeNodes{Names: g.nodeNames(), Comment: g.text(), Port: g.text()}
	switch g.between(0, 5) {
	case 0:
		c.Group = ptr(g.groupName())
	case 1:
		iface := g.iface()
		c.Addresses = []inventory.SetAddress{{Interface: iface, Addr: g.addrOf(c.Names[0], iface), Increment: g.yes()}}
	case 2:
		c.Names, c.MAC = c.Names[:1], ptr(g.mac())
	case 3:
		c.Switch = ptr(g.one("", g.switchName()))
	case 4:
		c.Tag, c.Untag = g.names("new", "gpu"), g.names("gpu", "old")
	default:
		c.LocalBoot, c.Service = ptr(g.yes()), ptr(g.yes())
	}
	return c
}

func (g generator) switches() inventory.Command {
	names := g.switchNames()
	if g.between(0, 2) > 0 {
		c := inventory.AddSwitches{Names: names, Network: g.netName(), Read: g.text()}
		if g.yes() {
			c.Addr, c.Increment = g.addrIn(c.Network), g.yes()
		}
		return c
	}
	network := g.netName()
	c := inventory.ChangeSwitches{Names: names, Network: g.text2(network), RW: g.text(), Comment: g.text()}
	if g.yes() {
		c.Addr, c.Increment = ptr(g.addrIn(network)), true
	}
	return c
}

func (g generator) otherdevs() inventory.Command {
	if g.yes() {
		network := g.netName()
		return inventory.AddOtherDevs{Names: g.devNames(), Network: network, Addr: g.addrIn(network), Increment: g.yes()}
	}
	c := inventory.ChangeOtherDevs{Names: g.devNames(), Network: g.netName(), Detach: g.yes(), Comment: g.text()}
	if g.yes() {
		c.Addr, c.Increment, c.Detach = g.addrIn(c.Network), true, false
	}
	return c
}

func (g generator) rename() inventory.Command {
	object := g.one("network", "osimage", "bmcsetup", "group", "node", "switch", "otherdev")
	name := map[string]func() string{
		"network": g.netName, "osimage": g.imageName, "bmcsetup": g.setupName, "group": g.groupName,
		"node": g.nodeName, "switch": g.switchName, "otherdev": g.devName,
	}[object]
	return inventory.Rename{Object: object, Name: name(), NewName: g.one(name(), "new", "z")}
}

func (g generator) remove() inventory.Command {
	switch g.between(0, 7) {
	case 0:
		return inventory.DeleteNetwork{Name: g.netName()}
	case 1:
		return inventory.DeleteOSImage{Name: g.imageName()}
	case 2:
		return inventory.DeleteBMCSetup{Name: g.setupName()}
	case 3:
		return inventory.DeleteGroup{Name: g.groupName()}
	case 4:
		return inventory.DeleteSwitches{Names: g.switchNames()}
	case 5:
		return inventory.DeleteOtherDevs{Names: g.devNames()}
	}
	return inventory.DeleteNodes{Names: g.nodeNames()}
}

// secret is the hash of the token of invite.
var secret = strings.Repeat("ab", 32)

func (generator) invite() inventory.Command {
	return inventory.CreateInvite{Invite: inventory.Invite{ID: "t", Hash: secret, Created: epoch, Expires: epoch.Add(time.Hour)}}
}

// head draws what heads do by themselves or as their mesh changes.
func (g generator) head() inventory.Command {
	switch g.between(0, 6) {
	case 0:
		return g.invite()
	case 1, 2:
		return inventory.AdmitHead{Invite: "t", Secret: secret, At: epoch, Head: inventory.Head{Name: "h2", Key: "k", Address: g.addr()}}
	case 3:
		return inventory.RemoveHead{Name: g.one("h1", "h2")}
	case 4:
		return inventory.AssignDuties{DHCP: map[string]string{g.netName(): g.one("", "h1", "h2"), g.netName(): "h1"}}
	case 5:
		return inventory.RecordStatus{Statuses: []inventory.NodeStatus{{Name: g.nodeNames()[0], Status: inventory.Status{Stage: "install.success", Time: epoch, Head: "h1"}}}}
	}
	return inventory.UpdateHead{Name: g.one("h1", "h2"), Address: addr("10.30.255.254"), Addresses: []netip.Prefix{prefix("10.30.255.254/16"), netip.PrefixFrom(g.addr(), 24)}}
}

func (g generator) lease() inventory.Command {
	mac := inventory.MAC(g.one("52:54:00:00:00:01", "52:54:00:00:00:07", "52:54:00:00:00:08"))
	network := g.netName()
	for n := range g.inv.Networks() {
		if !n.Range.IsZero() {
			network = n.Name
		}
	}
	return inventory.LeaseAddress{Network: network, MAC: mac, At: epoch.Add(time.Duration(g.between(-9, 9)) * 20 * time.Second), TTL: time.Minute}
}

func (g generator) cluster() inventory.Command {
	switch g.between(0, 9) {
	case 0:
		return inventory.DeleteCluster{Force: g.yes()}
	case 1:
		return g.setUp()
	case 2, 3:
		return inventory.ChangeCluster{FrontendAddress: ptr(g.addr())}
	}
	return inventory.ChangeCluster{Comment: g.text(), NodePrefix: g.text2("n"), TrackerInterval: ptr(g.between(1, 9)), NamedZoneDir: g.text()}
}

func (g generator) setUp() inventory.Command {
	return inventory.SetUpCluster{Cluster: inventory.Cluster{NodePrefix: "node", NodeDigits: 3, FrontendAddress: addr("10.30.255.254"), Comment: g.text()}}
}

// part leaves much of a document out.
func (g generator) part(d inventory.Document) inventory.Document {
	return inventory.Document{
		Luna: inventory.DocumentVersion, Networks: some(g, d.Networks), OSImages: some(g, d.OSImages), BMCSetups: some(g, d.BMCSetups),
		Groups: some(g, d.Groups), Switches: some(g, d.Switches), OtherDevs: some(g, d.OtherDevs), Nodes: some(g, d.Nodes),
	}
}

func some[D any](g generator, all map[string]D) map[string]D {
	m := map[string]D{}
	for _, name := range sorted(all) {
		if g.yes() {
			m[name] = all[name]
		}
	}
	return m
}

// maybe is a value that is given or not.
func maybe[T any](g generator, v T) inventory.Maybe[T] {
	if g.yes() {
		return inventory.Given(v)
	}
	return inventory.Maybe[T]{}
}

// document makes one up, over the names that the commands use.
func (g generator) document() inventory.Document {
	d := inventory.Document{
		Luna: inventory.DocumentVersion, Networks: map[string]inventory.NetworkDoc{}, OSImages: map[string]inventory.OSImageDoc{},
		BMCSetups: map[string]inventory.BMCSetupDoc{}, Groups: map[string]inventory.GroupDoc{}, Switches: map[string]inventory.SwitchDoc{},
		OtherDevs: map[string]inventory.OtherDevDoc{}, Nodes: map[string]inventory.NodeDoc{},
	}
	count := func() int { return g.between(0, 2) }
	for range count() {
		name := g.netName()
		n := inventory.NetworkDoc{Network: maybe(g, g.prefix()), Comment: maybe(g, g.text())}
		switch g.between(0, 4) {
		case 0:
			n.NSIP = given(g.addrIn(name))
		case 1:
			n.Reserved = given([]netip.Addr{g.addrIn(name)})
		case 2:
			n.DHCPRange = given(ptr(g.pool()))
		case 3:
			n.DHCPRange = given[*inventory.AddrRange](nil)
		}
		d.Networks[name] = n
	}
	for range count() {
		d.OSImages[g.imageName()] = inventory.OSImageDoc{Path: maybe(g, g.one("/i", "/j", "/k")), Comment: maybe(g, g.text())}
	}
	if g.yes() {
		d.BMCSetups[g.setupName()] = inventory.BMCSetupDoc{User: maybe(g, "root"), Password: maybe(g, g.one("secret", inventory.Masked))}
	}
	for range count() {
		d.Groups[g.groupName()] = g.groupDoc()
	}
	if g.yes() {
		network := g.netName()
		d.Switches[g.switchName()] = inventory.SwitchDoc{Network: maybe(g, network), IP: maybe(g, g.addrIn(network)), Comment: maybe(g, g.text())}
	}
	if g.yes() {
		network := g.netName()
		d.OtherDevs[g.devName()] = inventory.OtherDevDoc{Connected: maybe(g, map[string]netip.Addr{network: g.addrIn(network)})}
	}
	for range count() {
		name := g.nodeName()
		d.Nodes[name] = g.nodeDoc(name)
	}
	return d
}

func (g generator) groupDoc() inventory.GroupDoc {
	interfaces := map[string]inventory.InterfaceDoc{}
	for range g.between(0, 2) {
		interfaces[g.iface()] = inventory.InterfaceDoc{Network4: g.one("", "a", "b", "c"), Network6: g.one("", "", "six")}
	}
	return inventory.GroupDoc{
		OSImage: maybe(g, g.imageName()), BMCSetup: maybe(g, ptr("x")), Domain: maybe(g, ptr("a")),
		Interfaces: maybe(g, interfaces), PreScript: maybe(g, g.text()),
	}
}

func (g generator) nodeDoc(name string) inventory.NodeDoc {
	n := inventory.NodeDoc{
		Group: maybe(g, g.groupName()), MAC: maybe(g, ptr(g.mac())), Switch: maybe(g, ptr("s1")), Port: maybe(g, g.text()),
		LocalBoot: maybe(g, g.yes()), Tags: maybe(g, g.names("new", "gpu")),
	}
	if g.yes() {
		iface := g.iface()
		a := g.addrOf(name, iface)
		if a.Is6() {
			n.Interfaces = map[string]inventory.AddressesDoc{iface: {V6: a}}
		} else {
			n.Interfaces = map[string]inventory.AddressesDoc{iface: {V4: a}}
		}
	}
	return n
}
