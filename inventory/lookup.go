package inventory

import (
	"fmt"
	"iter"
	"math"
	"net/netip"
	"strconv"
	"strings"
)

// Cluster gives the cluster, and false before init.
func (inv *Inventory) Cluster() (*Cluster, bool) {
	return get[Cluster](inv, tCluster, "id", nameKey("general"))
}

// Network gives the network of that name.
func (inv *Inventory) Network(name string) (*Network, bool) {
	return get[Network](inv, tNetwork, "name", nameKey(name))
}

// NetworkByID gives the network of that ID.
func (inv *Inventory) NetworkByID(id ID) (*Network, bool) {
	return get[Network](inv, tNetwork, "id", idKey(id))
}

// Networks lists all networks by name.
func (inv *Inventory) Networks() iter.Seq[*Network] {
	return each[Network](inv, tNetwork, "name")
}

// HeadAt gives the head that has the address.
func (inv *Inventory) HeadAt(a netip.Addr) (*Head, bool) {
	for h := range inv.Heads() {
		if h.Has(a) {
			return h, true
		}
	}
	return nil, false
}

// NetworkOf gives the network in whose prefix the address lies; networks never
// overlap, so there is one at most.
func (inv *Inventory) NetworkOf(a netip.Addr) (*Network, bool) {
	for n := range inv.Networks() {
		if n.Prefix.Contains(a) {
			return n, true
		}
	}
	return nil, false
}

// OSImage gives the osimage of that name.
func (inv *Inventory) OSImage(name string) (*OSImage, bool) {
	return get[OSImage](inv, tOSImage, "name", nameKey(name))
}

// OSImageByID gives the osimage of that ID.
func (inv *Inventory) OSImageByID(id ID) (*OSImage, bool) {
	return get[OSImage](inv, tOSImage, "id", idKey(id))
}

// OSImages lists all osimages by name.
func (inv *Inventory) OSImages() iter.Seq[*OSImage] {
	return each[OSImage](inv, tOSImage, "name")
}

// Version gives the image version of that ID.
func (inv *Inventory) Version(id string) (*ImageVersion, bool) {
	return get[ImageVersion](inv, tVersion, "id", nameKey(id))
}

// Versions lists every version of every osimage.
func (inv *Inventory) Versions() iter.Seq[*ImageVersion] {
	return each[ImageVersion](inv, tVersion, "id")
}

// VersionsOf lists the versions of one osimage, in no particular order.
func (inv *Inventory) VersionsOf(image ID) iter.Seq[*ImageVersion] {
	return each[ImageVersion](inv, tVersion, "image", idKey(image))
}

// BootVersion gives the version that nodes of the osimage boot: the newest one
// that enough heads hold.
func (inv *Inventory) BootVersion(image ID) (*ImageVersion, bool) {
	var newest *ImageVersion
	for v := range inv.VersionsOf(image) {
		if !v.Ready {
			continue
		}
		if newest == nil || v.Created.After(newest.Created) || (v.Created.Equal(newest.Created) && v.ID > newest.ID) {
			newest = v
		}
	}
	return newest, newest != nil
}

// BMCSetup gives the bmcsetup of that name.
func (inv *Inventory) BMCSetup(name string) (*BMCSetup, bool) {
	return get[BMCSetup](inv, tBMCSetup, "name", nameKey(name))
}

// BMCSetupByID gives the bmcsetup of that ID.
func (inv *Inventory) BMCSetupByID(id ID) (*BMCSetup, bool) {
	return get[BMCSetup](inv, tBMCSetup, "id", idKey(id))
}

// BMCSetups lists all bmcsetups by name.
func (inv *Inventory) BMCSetups() iter.Seq[*BMCSetup] {
	return each[BMCSetup](inv, tBMCSetup, "name")
}

// Switch gives the switch of that name.
func (inv *Inventory) Switch(name string) (*Switch, bool) {
	return get[Switch](inv, tSwitch, "name", nameKey(name))
}

// SwitchByID gives the switch of that ID.
func (inv *Inventory) SwitchByID(id ID) (*Switch, bool) {
	return get[Switch](inv, tSwitch, "id", idKey(id))
}

// Switches lists all switches by name.
func (inv *Inventory) Switches() iter.Seq[*Switch] { return each[Switch](inv, tSwitch, "name") }

// OtherDev gives the other device of that name.
func (inv *Inventory) OtherDev(name string) (*OtherDev, bool) {
	return get[OtherDev](inv, tOtherDev, "name", nameKey(name))
}

// OtherDevByID gives the other device of that ID.
func (inv *Inventory) OtherDevByID(id ID) (*OtherDev, bool) {
	return get[OtherDev](inv, tOtherDev, "id", idKey(id))
}

// OtherDevs lists all other devices by name.
func (inv *Inventory) OtherDevs() iter.Seq[*OtherDev] {
	return each[OtherDev](inv, tOtherDev, "name")
}

// Group gives the group of that name.
func (inv *Inventory) Group(name string) (*Group, bool) {
	return get[Group](inv, tGroup, "name", nameKey(name))
}

// GroupByID gives the group of that ID.
func (inv *Inventory) GroupByID(id ID) (*Group, bool) {
	return get[Group](inv, tGroup, "id", idKey(id))
}

// Groups lists all groups by name.
func (inv *Inventory) Groups() iter.Seq[*Group] { return each[Group](inv, tGroup, "name") }

// Node gives the node of that name.
func (inv *Inventory) Node(name string) (*Node, bool) {
	return get[Node](inv, tNode, "name", nameKey(name))
}

// NodeByID gives the node of that ID.
func (inv *Inventory) NodeByID(id ID) (*Node, bool) { return get[Node](inv, tNode, "id", idKey(id)) }

// NodeByMAC gives the node with that hardware address.
func (inv *Inventory) NodeByMAC(mac MAC) (*Node, bool) {
	return get[Node](inv, tNode, "mac", nameKey(string(mac)))
}

// Nodes lists all nodes by name.
func (inv *Inventory) Nodes() iter.Seq[*Node] { return each[Node](inv, tNode, "name") }

// TopNumber gives the highest number that, behind the prefix, names a node: 12
// for node012 and "node"; 0 where there is none.
func (inv *Inventory) TopNumber(prefix string) uint64 {
	top := uint64(0)
	if strings.TrimRight(prefix, "0123456789") != prefix {
		for n := range inv.Nodes() { // the index cuts the prefix's own number off too
			digits, ok := strings.CutPrefix(n.Name, prefix)
			if number, err := strconv.ParseUint(digits, 10, 63); ok && err == nil {
				top = max(top, number)
			}
		}
		return top
	}
	it, err := inv.txn.ReverseLowerBound(tNode, "number", numberKey(prefix, math.MaxUint64, true))
	if err != nil {
		panic(err)
	}
	if o := it.Next(); o != nil {
		if of, number, ok := splitNumber(o.(*Node).Name); ok && of == prefix {
			top = number
		}
	}
	return top
}

// NodesOf lists the nodes of a group, in no particular order.
func (inv *Inventory) NodesOf(group ID) iter.Seq[*Node] {
	return each[Node](inv, tNode, "group", idKey(group))
}

// Status gives the last stage that the node reported.
func (inv *Inventory) Status(node ID) (*Status, bool) {
	return get[Status](inv, tStatus, "id", idKey(node))
}

// Head gives the head of that name.
func (inv *Inventory) Head(name string) (*Head, bool) {
	return get[Head](inv, tHead, "name", nameKey(name))
}

// HeadByID gives the head of that ID.
func (inv *Inventory) HeadByID(id ID) (*Head, bool) { return get[Head](inv, tHead, "id", idKey(id)) }

// Heads lists all heads by name.
func (inv *Inventory) Heads() iter.Seq[*Head] { return each[Head](inv, tHead, "name") }

// Invite gives the invite of that ID.
func (inv *Inventory) Invite(id string) (*Invite, bool) {
	return get[Invite](inv, tInvite, "id", nameKey(id))
}

// Invites lists all invites.
func (inv *Inventory) Invites() iter.Seq[*Invite] { return each[Invite](inv, tInvite, "id") }

// Lease gives the pool lease of a machine on a network.
func (inv *Inventory) Lease(network ID, mac MAC) (*Lease, bool) {
	return get[Lease](inv, tLease, "id", leaseKey(network, mac))
}

// LeaseAt gives the lease of that address.
func (inv *Inventory) LeaseAt(a netip.Addr) (*Lease, bool) {
	return get[Lease](inv, tLease, "address", addrKey(a))
}

// LeasesFrom lists the leases of that address and of those behind it, in their order.
func (inv *Inventory) LeasesFrom(a netip.Addr) iter.Seq[*Lease] {
	return func(yield func(*Lease) bool) {
		it, err := inv.txn.LowerBound(tLease, "address", addrKey(a))
		if err != nil {
			panic(err)
		}
		for o := it.Next(); o != nil && yield(o.(*Lease)); o = it.Next() {
		}
	}
}

// Leases lists all leases, by network and MAC.
func (inv *Inventory) Leases() iter.Seq[*Lease] { return each[Lease](inv, tLease, "id") }

// Named gives an object by its type and its name, as a *Network, *OSImage,
// *BMCSetup, *Group, *Switch, *OtherDev or *Node; nil where there is none, or no
// such type.
func (inv *Inventory) Named(object, name string) any {
	switch object {
	case tNetwork:
		return found(inv.Network(name))
	case tOSImage:
		return found(inv.OSImage(name))
	case tBMCSetup:
		return found(inv.BMCSetup(name))
	case tGroup:
		return found(inv.Group(name))
	case tSwitch:
		return found(inv.Switch(name))
	case tOtherDev:
		return found(inv.OtherDev(name))
	case tNode:
		return found(inv.Node(name))
	}
	return nil
}

// WithID gives an object by its type and its ID, like Named. The cluster, of
// which there is one, has ID 0.
func (inv *Inventory) WithID(object string, id ID) any {
	switch object {
	case tCluster:
		return found(inv.Cluster())
	case tNetwork:
		return found(inv.NetworkByID(id))
	case tOSImage:
		return found(inv.OSImageByID(id))
	case tBMCSetup:
		return found(inv.BMCSetupByID(id))
	case tGroup:
		return found(inv.GroupByID(id))
	case tSwitch:
		return found(inv.SwitchByID(id))
	case tOtherDev:
		return found(inv.OtherDevByID(id))
	case tNode:
		return found(inv.NodeByID(id))
	}
	return nil
}

// found makes nil of what was not found: a nil *T in an any is not nil.
func found[T any](o *T, ok bool) any {
	if !ok {
		return nil
	}
	return o
}

// Renamed gives a copy of an object that Named gave, under another name.
func Renamed(o any, name string) any {
	switch o := o.(type) {
	case *Network:
		return changed(*o, func(c *Network) { c.Name = name })
	case *OSImage:
		return changed(*o, func(c *OSImage) { c.Name = name })
	case *BMCSetup:
		return changed(*o, func(c *BMCSetup) { c.Name = name })
	case *Group:
		return changed(*o, func(c *Group) { c.Name = name })
	case *Switch:
		return changed(*o, func(c *Switch) { c.Name = name })
	case *OtherDev:
		return changed(*o, func(c *OtherDev) { c.Name = name })
	case *Node:
		return changed(*o, func(c *Node) { c.Name = name })
	}
	panic(fmt.Sprintf("inventory: %T has no name of its own", o))
}

// changed gives a pointer to the copy, changed.
func changed[T any](c T, change func(*T)) *T {
	change(&c)
	return &c
}

// Identify gives type, ID and name of an object of the state.
func Identify(o any) (object string, id ID, name string) {
	id, name, _ = recorded(o)
	return tableOf(o), id, name
}

// Owner tells who has the address.
func (inv *Inventory) Owner(a netip.Addr) (*Owner, bool) {
	return get[Owner](inv, tOwner, "id", addrKey(a))
}

// Owners lists the taken addresses from a on, in address order.
func (inv *Inventory) Owners(from netip.Addr) iter.Seq[*Owner] {
	return func(yield func(*Owner) bool) {
		it, err := inv.txn.LowerBound(tOwner, "id", addrKey(from))
		if err != nil {
			panic(err)
		}
		for o := it.Next(); o != nil; o = it.Next() {
			if !yield(o.(*Owner)) {
				return
			}
		}
	}
}

// BootAddress gives the address that the node has where it boots: on its
// BOOTIF, in the given network. It is the answer of DHCP in PXE, iPXE and OS.
func (inv *Inventory) BootAddress(n *Node, network ID) (netip.Addr, bool) {
	g, ok := inv.GroupByID(n.Group)
	if !ok {
		return netip.Addr{}, false
	}
	var other netip.Addr
	for _, i := range g.Interfaces {
		if i.Network4 != network || i.Name == BMC {
			continue
		}
		a := n.Interfaces[i.ID].V4
		if i.Name == BootIF && a.IsValid() {
			return a, true
		}
		if !other.IsValid() {
			other = a
		}
	}
	return other, other.IsValid()
}

// Hostname gives the node's full name: with the domain of its group, if any.
func (inv *Inventory) Hostname(n *Node) string {
	if g, ok := inv.GroupByID(n.Group); ok {
		if d, ok := inv.NetworkByID(g.Domain); ok {
			return n.Name + "." + d.Name
		}
	}
	return n.Name
}

// Replicas gives how many heads must hold a version before it is booted: what
// the cluster asks for, or all heads that hold images where there are fewer.
func (inv *Inventory) Replicas() int {
	want := 2
	if c, ok := inv.Cluster(); ok && c.Replicas > 0 {
		want = c.Replicas
	}
	heads := 0
	for h := range inv.Heads() {
		if !h.Witness {
			heads++
		}
	}
	return max(1, min(want, heads))
}

// BootFiles gives the names under which nodes fetch the version's kernel and
// initrd, of an osimage of that name.
func (v *ImageVersion) BootFiles(image string) (kernel, initrd string) {
	return image + "-vmlinuz-" + v.KernVer, image + "-initramfs-" + v.KernVer
}
