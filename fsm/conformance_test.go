package fsm_test

import (
	"encoding/json"
	"fmt"
	"net/netip"
	"strings"
	"testing"

	"github.com/clustervision/luna/inventory"
)

// fixture is the site of the conformance list of Luna 1.2, with n nodes.
func fixture(t *testing.T, n int) *site {
	t.Helper()
	s := begun(t)
	s.must(t,
		inventory.AddNetwork{Name: "cluster", Prefix: prefix("10.30.0.0/16"), NSHostname: "master"},
		inventory.AddNetwork{Name: "ipmi", Prefix: prefix("10.31.0.0/24"), NSHostname: "master"},
		inventory.AddOSImage{Name: "compute", Path: "/images/compute", KernVer: "6.1"},
		inventory.AddBMCSetup{Name: "base"},
		inventory.AddGroup{Name: "compute", OSImage: "compute", Network: "cluster", BMCSetup: "base", BMCNetwork: "ipmi"},
	)
	for range n {
		s.must(t, inventory.AddNodes{Group: "compute"})
	}
	return s
}

type commands []inventory.Command

// check is one line of the conformance list, as far as the machine decides it.
type check struct {
	name    string // begins with the number in the list
	nodes   int
	do      commands // all accepted, but for the last where refused is set
	refused string   // "kind: a part of the text"
	is      string   // afterwards, in the document: "path=JSON path=JSON"
}

// What the table says in short.
func network(name, p string) inventory.Command {
	return inventory.AddNetwork{Name: name, Prefix: prefix(p)}
}

func nodes(names ...string) inventory.Command {
	return inventory.AddNodes{Group: "compute", Names: names}
}

func address(node, iface, a string) inventory.Command {
	return inventory.ChangeNodes{Names: []string{node}, Addresses: []inventory.SetAddress{{Interface: iface, Addr: addr(a)}}}
}

func mac(node, m string) inventory.Command {
	return inventory.ChangeNodes{Names: []string{node}, MAC: ptr(inventory.MAC(m))}
}

func iface(name string, action inventory.InterfaceAction, arg ...string) inventory.Command {
	c := inventory.InterfaceChange{Interface: name, Action: action}
	if len(arg) > 0 {
		c.Network, c.NewName = arg[0], arg[0]
	}
	return inventory.ChangeGroup{Name: "compute", Interfaces: []inventory.InterfaceChange{c}}
}

func device(name, network, a string) inventory.Command {
	return inventory.AddOtherDevs{Names: []string{name}, Network: network, Addr: addr(a)}
}

func toSwitch(name, network, a string) inventory.Command {
	return inventory.AddSwitches{Names: []string{name}, Network: network, Addr: addr(a)}
}

func makedhcp(network, first, last string) inventory.Command {
	return inventory.SetRange{Network: network, Range: addrRange(first, last)}
}

func reserve(a string) inventory.Command {
	return inventory.ChangeNetwork{Name: "cluster", Reserve: []netip.Addr{addr(a)}}
}

func release(a string) inventory.Command {
	return inventory.ChangeNetwork{Name: "cluster", Release: []netip.Addr{addr(a)}}
}

// numbered gives switches sw1 to swN with free addresses.
func numbered(n int, network string) inventory.Command {
	c := inventory.AddSwitches{Network: network}
	for i := range n {
		c.Names = append(c.Names, fmt.Sprintf("sw%d", i+1))
	}
	return c
}

const (
	add    = inventory.InterfaceAdd
	setnet = inventory.InterfaceSetNet
	delnet = inventory.InterfaceDelNet
)

var conformance = []check{
	{name: "07 the name server has the last address", do: commands{network("n", "172.16.1.0/24"), numbered(253, "n")}, is: `networks.n.ns_ip="172.16.1.254" switches.sw253.ip="172.16.1.253"`},
	{name: "07 and there is no 254th", do: commands{network("n", "172.16.1.0/24"), numbered(254, "n")}, refused: "invalid: no free address"},
	{name: "08 the same network again", do: commands{network("n", "172.16.1.0/24"), network("m", "172.16.1.1/24")}, refused: "exists: is defined already"},
	{name: "08 the same IPv6 network again", do: commands{network("n", "fd00:1::/64"), network("m", "fd00:1::1/64")}, refused: "exists: is defined already"},
	{name: "09 the base of an address", do: commands{network("n", "10.50.4.1/16")}, is: `networks.n.network="10.50.0.0/16"`},
	{name: "10 prefix 31", do: commands{network("n", "10.50.0.0/31")}, refused: "invalid: [1..30]"},
	{name: "10 prefix 0", do: commands{network("n", "10.50.0.0/0")}, refused: "invalid: [1..30]"},
	{name: "10 IPv6 prefix 127", do: commands{network("n", "fd00:1::/127")}, refused: "invalid: [1..126]"},
	{name: "11 another name server frees the address", do: commands{network("n", "172.16.1.0/24"), inventory.ChangeNetwork{Name: "n", NSIP: ptr(addr("172.16.1.253"))}, toSwitch("s", "n", "172.16.1.254")}, is: `networks.n.ns_ip="172.16.1.253" switches.s.ip="172.16.1.254"`},
	{name: "11 and takes its own", do: commands{network("n", "172.16.1.0/24"), inventory.ChangeNetwork{Name: "n", NSIP: ptr(addr("172.16.1.253"))}, toSwitch("s", "n", "172.16.1.253")}, refused: "invalid: the name server of network 'n'"},
	{name: "12 a reserved address is skipped", do: commands{reserve("10.30.0.3"), nodes("a", "b", "c")}, is: `nodes.c.interfaces.BOOTIF.4="10.30.0.4" nodes.c.interfaces.BMC.4="10.31.0.3"`},
	{name: "12 released, it is used again", do: commands{reserve("10.30.0.1"), nodes("a"), release("10.30.0.1"), nodes("b")}, is: `nodes.a.interfaces.BOOTIF.4="10.30.0.2" nodes.b.interfaces.BOOTIF.4="10.30.0.1"`},
	{name: "12 reserved twice", do: commands{reserve("10.30.0.3"), reserve("10.30.0.3")}, refused: "refused: taken by a reservation"},
	{name: "12 released, but not reserved", do: commands{release("10.30.0.3")}, refused: "refused: is not reserved"},
	{name: "12 B7 released, but in use", nodes: 1, do: commands{release("10.30.0.1")}, refused: "refused: --force"},
	{name: "15 a network with a device", do: commands{device("pdu", "ipmi", "10.31.0.9"), network("n", "10.50.0.0/16"), device("box", "n", "10.50.0.1"), inventory.DeleteNetwork{Name: "n"}}, refused: "in-use: [otherdev/box]"},
	{name: "15 and without", do: commands{network("n", "10.50.0.0/16"), device("box", "n", "10.50.0.1"), inventory.DeleteOtherDevs{Names: []string{"box"}}, inventory.DeleteNetwork{Name: "n"}}, is: `networks.n=`},
	{name: "16 an IPv6 network with a device", do: commands{network("n", "fd00:1::/64"), device("box", "n", "fd00:1::1"), inventory.DeleteNetwork{Name: "n"}}, refused: "in-use: [otherdev/box]"},
	{name: "16 and without", do: commands{network("n", "fd00:1::/64"), device("box", "n", "fd00:1::1"), inventory.DeleteOtherDevs{Names: []string{"box"}}, inventory.DeleteNetwork{Name: "n"}}, is: `networks.n=`},
	{name: "17 the defaults of an osimage", is: `osimages.compute.kernmodules="ipmi_devintf,ipmi_si,ipmi_msghandler" osimages.compute.dracutmodules="luna,-i18n,-plymouth" osimages.compute.grab_filesystems="/,/boot" osimages.compute.kernopts=""`},
	{name: "18 the same path", do: commands{inventory.AddOSImage{Name: "o", Path: "/images/compute"}}, refused: "invalid: Path belongs to osimage 'compute'"},
	{name: "18 the same path, changed to", do: commands{inventory.AddOSImage{Name: "o", Path: "/images/o"}, inventory.ChangeOSImage{Name: "o", Path: ptr("/images/compute")}}, refused: "invalid: Path belongs to osimage 'compute'"},
	{name: "18 a link to it", do: commands{inventory.AddOSImage{Name: "o", Path: "/images/link"}}, is: `osimages.o.path="/images/link"`},
	{name: "23 the defaults of a bmcsetup", is: `bmcsetups.base={"user":"ladmin","password":"ladmin","userid":3,"netchannel":1,"mgmtchannel":1,"comment":null}`},
	{name: "25 the defaults of a group", is: `groups.compute.domain="cluster" groups.compute.prescript="" groups.compute.partscript="mount\u0020-t\u0020tmpfs\u0020tmpfs\u0020/sysroot" groups.compute.interfaces.BOOTIF={"4":"cluster"} groups.compute.torrent_if=null`},
	{name: "26 no such osimage", do: commands{inventory.AddGroup{Name: "g", OSImage: "x", Network: "cluster"}}, refused: "not-found: Object 'x' of type 'osimage'"},
	{name: "26 no such network", do: commands{inventory.AddGroup{Name: "g", OSImage: "compute", Network: "x"}}, refused: "not-found: Object 'x' of type 'network'"},
	{name: "26 no such bmcsetup", do: commands{inventory.AddGroup{Name: "g", OSImage: "compute", Network: "cluster", BMCSetup: "x"}}, refused: "not-found: Object 'x' of type 'bmcsetup'"},
	{name: "26 no such network of BMCs", do: commands{inventory.AddGroup{Name: "g", OSImage: "compute", Network: "cluster", BMCNetwork: "x"}}, refused: "not-found: Object 'x' of type 'network'"},
	{name: "27 an interface twice", do: commands{iface("eth1", add), iface("eth1", add)}, refused: "refused: already exists"},
	{name: "27 the implicit one once", do: commands{iface("BMC", add), iface("BMC", add)}, refused: "refused: already exists"},
	{name: "28 a network on no interface", do: commands{iface("eth1", setnet, "ipmi")}, refused: "refused: No such interface 'eth1'"},
	{name: "29 a second IPv4 network", do: commands{iface("BOOTIF", setnet, "ipmi")}, refused: "refused: Network IPv4 is already defined for interface 'BOOTIF'"},
	{name: "29 an IPv6 network too", do: commands{network("six", "fd00:1::/64"), iface("BOOTIF", setnet, "six")}, is: `groups.compute.interfaces.BOOTIF={"4":"cluster","6":"six"}`},
	{name: "29 the same network again", do: commands{iface("BOOTIF", setnet, "cluster")}, is: `groups.compute.interfaces.BOOTIF={"4":"cluster"}`},
	{name: "30 nodes get addresses by name", do: commands{nodes("c", "a", "b"), iface("eth1", add), iface("eth1", setnet, "ipmi")}, is: `nodes.a.interfaces.eth1.4="10.31.0.4" nodes.b.interfaces.eth1.4="10.31.0.5" nodes.c.interfaces.eth1.4="10.31.0.6"`},
	{name: "31 and give them back", nodes: 2, do: commands{iface("BMC", delnet), toSwitch("s", "ipmi", "10.31.0.1")}, is: `nodes.node001.interfaces={"BOOTIF":{"4":"10.30.0.1"}}`},
	{name: "31 B19 without a network", do: commands{iface("eth1", add), iface("eth1", delnet)}, refused: "refused: has no network"},
	{name: "31 of two networks one must be named", do: commands{network("six", "fd00:1::/64"), iface("BOOTIF", setnet, "six"), iface("BOOTIF", delnet)}, refused: "refused: Need to specify network name"},
	{name: "32 an interface's name", nodes: 1, do: commands{iface("BMC", inventory.InterfaceRename, "ipmi0")}, is: `nodes.node001.interfaces.ipmi0.4="10.31.0.1"`},
	{name: "32 to one that is there", do: commands{iface("BMC", inventory.InterfaceRename, "BOOTIF")}, refused: "refused: Interface 'BOOTIF' already exists"},
	{name: "32 from one that is not", do: commands{iface("eth1", inventory.InterfaceRename, "eth2")}, refused: "refused: No such interface 'eth1'"},
	{name: "33 another osimage", do: commands{inventory.AddOSImage{Name: "o", Path: "/o"}, inventory.ChangeGroup{Name: "compute", OSImage: ptr("o")}}, is: `groups.compute.osimage="o"`},
	{name: "33 no bmcsetup", do: commands{inventory.ChangeGroup{Name: "compute", BMCSetup: ptr("")}}, is: `groups.compute.bmcsetup=null`},
	{name: "34 the domain", nodes: 1, do: commands{inventory.ChangeGroup{Name: "compute", Domain: ptr("ipmi")}}, is: `hostname.node001="node001.ipmi"`},
	{name: "34 and none", nodes: 1, do: commands{inventory.ChangeGroup{Name: "compute", Domain: ptr("")}}, is: `hostname.node001="node001"`},
	{name: "35 an interface and no action", do: commands{iface("BOOTIF", "")}, refused: "invalid: is no action"},
	{name: "35 nothing", do: commands{inventory.ChangeGroup{Name: "compute"}}},
	{name: "38 the first node", do: commands{inventory.AddNodes{Group: "compute"}}, is: `nodes.node001={"group":"compute","mac":null,"interfaces":{"BMC":{"4":"10.31.0.1"},"BOOTIF":{"4":"10.30.0.1"}},"switch":null,"port":null,"localboot":false,"setupbmc":true,"service":false,"tags":[],"comment":null}`},
	{name: "39 three nodes", do: commands{nodes("node001", "node002", "node003")}, is: `nodes.node003.interfaces.BOOTIF.4="10.30.0.3"`},
	{name: "39 one of them again", nodes: 2, do: commands{nodes("node003", "node002")}, refused: "exists: 'node002' is already created"},
	{name: "40 the next name and the freed address", do: commands{nodes("node001", "node002", "node003"), inventory.AddNodes{Group: "compute"}, inventory.DeleteNodes{Names: []string{"node002"}}, inventory.AddNodes{Group: "compute"}}, is: `nodes.node005.interfaces.BOOTIF.4="10.30.0.2"`},
	{name: "40 B13 a name that looks alike", do: commands{nodes("done77", "nodes9", "node0x"), inventory.AddNodes{Group: "compute"}}, is: `nodes.node001.interfaces.BOOTIF.4="10.30.0.4"`},
	{name: "40 beyond the digits", do: commands{nodes("node999"), inventory.AddNodes{Group: "compute"}, inventory.AddNodes{Group: "compute"}}, is: `nodes.node1001.interfaces.BOOTIF.4="10.30.0.3"`},
	{name: "41 B4 no address left", do: commands{network("small", "10.50.0.0/30"), iface("eth1", add), iface("eth1", setnet, "small"), nodes("a"), nodes("b")}, refused: "invalid: Unable to allocate IP address for interface 'eth1'"},
	{name: "42 another address", nodes: 1, do: commands{address("node001", "BOOTIF", "10.30.0.77")}, is: `nodes.node001.interfaces.BOOTIF.4="10.30.0.77"`},
	{name: "42 a used one", nodes: 2, do: commands{address("node001", "BOOTIF", "10.30.0.2")}, refused: "refused: taken by node 'node002'"},
	{name: "42 a foreign one", nodes: 1, do: commands{address("node001", "BOOTIF", "10.31.0.9")}, refused: "refused: is no address of network 'cluster'"},
	{name: "42 on no interface", nodes: 1, do: commands{address("node001", "eth1", "10.30.0.9")}, refused: "refused: No such interface 'eth1'"},
	{name: "42 of the other family", nodes: 1, do: commands{address("node001", "BOOTIF", "fd00::1")}, refused: "refused: has no address of the family"},
	{name: "43 a MAC address", nodes: 1, do: commands{mac("node001", "52:54:00:00:00:01")}, is: `nodes.node001.mac="52:54:00:00:00:01"`},
	{name: "43 moves", nodes: 2, do: commands{mac("node001", "52:54:00:00:00:01"), mac("node002", "52:54:00:00:00:01")}, is: `nodes.node001.mac=null nodes.node002.mac="52:54:00:00:00:01"`},
	{name: "43 is cleared", nodes: 1, do: commands{mac("node001", "52:54:00:00:00:01"), mac("node001", "")}, is: `nodes.node001.mac=null`},
	{name: "46 a group with the same network", nodes: 2, do: commands{inventory.CloneGroup{Name: "compute", To: "g"}, inventory.ChangeNodes{Names: []string{"node002"}, Group: ptr("g")}}, is: `nodes.node002.group="g" nodes.node002.interfaces={"BMC":{"4":"10.31.0.2"},"BOOTIF":{"4":"10.30.0.2"}}`},
	{name: "46 the same network on another interface", nodes: 2, do: commands{inventory.AddGroup{Name: "g", OSImage: "compute", Network: "ipmi"}, inventory.ChangeNodes{Names: []string{"node002"}, Group: ptr("g")}}, is: `nodes.node002.interfaces={"BOOTIF":{"4":"10.31.0.2"}}`},
	{name: "48 a group and an address", nodes: 1, do: commands{inventory.ChangeNodes{Names: []string{"node001"}, Group: ptr("compute"), Addresses: []inventory.SetAddress{{Interface: "BOOTIF", Addr: addr("10.30.0.9")}}}}, refused: "invalid: change the group first"},
	{name: "49 new names are seen", nodes: 1, do: commands{inventory.Rename{Object: "network", Name: "cluster", NewName: "lan"}, inventory.Rename{Object: "osimage", Name: "compute", NewName: "os"}, inventory.Rename{Object: "group", Name: "compute", NewName: "g"}}, is: `groups.g.osimage="os" groups.g.domain="lan" nodes.node001.group="g" hostname.node001="node001.lan"`},
	{name: "49 a name that is there", do: commands{inventory.Rename{Object: "network", Name: "cluster", NewName: "ipmi"}}, refused: "refused: Object 'ipmi' exists already"},
	{name: "50 a network in use", do: commands{inventory.DeleteNetwork{Name: "ipmi"}}, refused: "in-use: [group/compute]"},
	{name: "50 a network with a range", do: commands{inventory.ChangeGroup{Name: "compute", Domain: ptr("")}, iface("BOOTIF", delnet), makedhcp("cluster", "10.30.128.1", "10.30.128.9"), inventory.DeleteNetwork{Name: "cluster"}}, refused: "in-use: [cluster/general]"},
	{name: "50 an osimage in use", do: commands{inventory.DeleteOSImage{Name: "compute"}}, refused: "in-use: [group/compute]"},
	{name: "50 a bmcsetup in use", do: commands{inventory.DeleteBMCSetup{Name: "base"}}, refused: "in-use: [group/compute]"},
	{name: "50 a group in use", nodes: 1, do: commands{inventory.DeleteGroup{Name: "compute"}}, refused: "in-use: [node/node001]"},
	{name: "50 a switch in use", nodes: 1, do: commands{toSwitch("s", "ipmi", "10.31.0.9"), inventory.ChangeNodes{Names: []string{"node001"}, Switch: ptr("s")}, inventory.DeleteSwitches{Names: []string{"s"}}}, refused: "in-use: [node/node001]"},
	{name: "50 B2 a group whose interfaces shared a network", do: commands{iface("eth1", add), iface("eth1", setnet, "ipmi"), inventory.DeleteGroup{Name: "compute"}, inventory.DeleteNetwork{Name: "ipmi"}}, is: `networks.ipmi=`},
	{name: "51 a switch outside the network", do: commands{toSwitch("s", "ipmi", "10.30.0.9")}, refused: "invalid: is no address of network 'ipmi'"},
	{name: "51 a switch at a used address", nodes: 1, do: commands{toSwitch("s", "ipmi", "10.31.0.1")}, refused: "invalid: taken by node 'node001'"},
	{name: "51 the defaults of a switch", do: commands{toSwitch("s", "ipmi", "10.31.0.9")}, is: `switches.s={"network":"ipmi","ip":"10.31.0.9","read":"public","rw":"private","oid":".1.3.6.1.2.1.17.7.1.2.2.1.2","comment":null}`},
	{name: "51 B6 a switch changed to a used address", nodes: 1, do: commands{toSwitch("s", "ipmi", "10.31.0.9"), inventory.ChangeSwitches{Names: []string{"s"}, Addr: ptr(addr("10.31.0.1"))}}, refused: "refused: taken by node 'node001'"},
	{name: "51 B18 two switches at one address", do: commands{inventory.AddSwitches{Names: []string{"s", "t"}, Network: "ipmi", Addr: addr("10.31.0.9")}}, refused: "invalid: cannot be that of 2"},
	{name: "52 a switch keeps its place", do: commands{toSwitch("s", "ipmi", "10.31.0.11"), inventory.ChangeSwitches{Names: []string{"s"}, Network: ptr("cluster")}}, is: `switches.s.network="cluster" switches.s.ip="10.30.0.11"`},
	{name: "52 network and address", do: commands{toSwitch("s", "ipmi", "10.31.0.11"), inventory.ChangeSwitches{Names: []string{"s"}, Network: ptr("cluster"), Addr: ptr(addr("10.30.7.7"))}}, is: `switches.s.network="cluster" switches.s.ip="10.30.7.7"`},
	{name: "52 a network without that address", do: commands{toSwitch("s", "ipmi", "10.31.0.11"), inventory.ChangeSwitches{Names: []string{"s"}, Network: ptr("cluster"), Addr: ptr(addr("10.31.0.11"))}}, refused: "refused: is no address of network 'cluster'"},
	{name: "52 the same network again", do: commands{toSwitch("s", "ipmi", "10.31.0.11"), inventory.ChangeSwitches{Names: []string{"s"}, Network: ptr("ipmi")}}, refused: "refused: in network 'ipmi' already"},
	{name: "53 a device in two networks", do: commands{device("box", "ipmi", "10.31.0.9"), inventory.ChangeOtherDevs{Names: []string{"box"}, Network: "cluster", Addr: addr("10.30.0.9")}}, is: `otherdevs.box.connected={"cluster":"10.30.0.9","ipmi":"10.31.0.9"}`},
	{name: "53 and in one", do: commands{device("box", "ipmi", "10.31.0.9"), inventory.ChangeOtherDevs{Names: []string{"box"}, Network: "cluster", Addr: addr("10.30.0.9")}, inventory.ChangeOtherDevs{Names: []string{"box"}, Network: "ipmi", Detach: true}}, is: `otherdevs.box.connected={"cluster":"10.30.0.9"}`},
	{name: "53 B6 a device at a used address", nodes: 1, do: commands{device("box", "ipmi", "10.31.0.9"), inventory.ChangeOtherDevs{Names: []string{"box"}, Network: "ipmi", Addr: addr("10.31.0.1")}}, refused: "refused: taken by node 'node001'"},
	{name: "54 a network alone", do: commands{device("box", "ipmi", "10.31.0.9"), inventory.ChangeOtherDevs{Names: []string{"box"}, Network: "ipmi"}}, is: `otherdevs.box.connected={"ipmi":"10.31.0.9"}`},
	{name: "55 no head there", do: commands{makedhcp("ipmi", "10.31.0.100", "10.31.0.110")}, refused: "refused: neither a head nor the frontend has an address"},
	{name: "55 reversed", do: commands{makedhcp("cluster", "10.30.128.9", "10.30.128.1")}, refused: "refused: Wrong range definition"},
	{name: "55 the first outside", do: commands{makedhcp("cluster", "10.29.128.1", "10.30.128.9")}, refused: "refused: is no address of network 'cluster'"},
	{name: "55 the last outside", do: commands{makedhcp("cluster", "10.30.128.1", "10.31.0.9")}, refused: "refused: is no address of network 'cluster'"},
	{name: "55 over a node", nodes: 2, do: commands{makedhcp("cluster", "10.30.0.2", "10.30.0.9")}, refused: "refused: taken by node 'node002'"},
	{name: "55 IPv6", do: commands{network("six", "fd00:1::/64"), makedhcp("six", "fd00:1::1", "fd00:1::9")}, refused: "refused: IPv4 networks only"},
	{name: "55 the old range stays", do: commands{makedhcp("cluster", "10.30.0.1", "10.30.0.9"), nodes("a"), makedhcp("cluster", "10.30.0.10", "10.30.0.19")}, refused: "refused: taken by node 'a'"},
	{name: "56 the pool is given to nobody", do: commands{makedhcp("cluster", "10.30.0.1", "10.30.0.9"), nodes("a")}, is: `nodes.a.interfaces.BOOTIF.4="10.30.0.10" networks.cluster.dhcp_range={"start":"10.30.0.1","end":"10.30.0.9"}`},
	{name: "56 not by hand either", nodes: 1, do: commands{makedhcp("cluster", "10.30.128.1", "10.30.129.254"), address("node001", "BOOTIF", "10.30.129.1")}, refused: "refused: the DHCP range of network 'cluster'"},
	{name: "57 the same range again", do: commands{makedhcp("cluster", "10.30.128.1", "10.30.129.254"), makedhcp("cluster", "10.30.128.1", "10.30.129.254")}, is: `networks.cluster.dhcp_range={"start":"10.30.128.1","end":"10.30.129.254"}`},
	{name: "80 a cluster with objects", nodes: 1, do: commands{inventory.DeleteCluster{}}, refused: "in-use: [network/cluster] [network/ipmi] [osimage/compute] [bmcsetup/base] [group/compute] [node/node001]"},
	{name: "80 forced", nodes: 1, do: commands{inventory.DeleteCluster{Force: true}}, is: `networks= osimages= bmcsetups= groups= nodes= cluster=`},
	{name: "80 and then there is none", do: commands{inventory.DeleteCluster{Force: true}, network("n", "10.50.0.0/16")}, refused: "not-found: Object 'general' of type 'cluster' does not exist"},
	{name: "B3 a network grows", nodes: 1, do: commands{inventory.ChangeNetwork{Name: "ipmi", Prefix: ptr(prefix("10.31.0.0/16"))}}, is: `networks.ipmi.ns_ip="10.31.0.254"`},
	{name: "B3 its name server keeps its address", do: commands{inventory.ChangeNetwork{Name: "ipmi", Prefix: ptr(prefix("10.31.0.0/16"))}, toSwitch("s", "ipmi", "10.31.0.254")}, refused: "invalid: the name server of network 'ipmi'"},
	{name: "B5 a name server at a used address", nodes: 1, do: commands{inventory.ChangeNetwork{Name: "ipmi", NSIP: ptr(addr("10.31.0.1"))}}, refused: "invalid: taken by node 'node001'"},
	{name: "B5 a name server outside", do: commands{inventory.AddNetwork{Name: "n", Prefix: prefix("10.50.0.0/16"), NSIP: addr("10.51.0.1")}}, refused: "invalid: is no address of network 'n'"},
	{name: "B16 a clone has the parameters", do: commands{inventory.ChangeGroup{Name: "compute", Interfaces: []inventory.InterfaceChange{{Interface: "BOOTIF", Action: inventory.InterfaceParams, Params: "MTU=9000"}}}, inventory.CloneGroup{Name: "compute", To: "g"}}, is: `groups.g.interfaces.BOOTIF={"4":"cluster","params":"MTU=9000"}`},
	{name: "B17 a network within another", do: commands{network("n", "10.30.128.0/24")}, refused: "invalid: overlaps network 'cluster'"},
	{name: "B18 half a hostlist", nodes: 1, do: commands{inventory.ChangeNodes{Names: []string{"node001", "node002"}, Service: ptr(true)}}, refused: "not-found: Object 'node002'"},
	{name: "2.2 offsets stay", nodes: 1, do: commands{device("box", "ipmi", "10.31.0.9"), inventory.ChangeNetwork{Name: "ipmi", Prefix: ptr(prefix("10.41.0.0/24"))}}, is: `nodes.node001.interfaces.BMC.4="10.41.0.1" otherdevs.box.connected={"ipmi":"10.41.0.9"} networks.ipmi.ns_ip="10.41.0.254"`},
	{name: "2.2 an occupied offset falls outside", do: commands{device("box", "ipmi", "10.31.0.200"), inventory.ChangeNetwork{Name: "ipmi", Prefix: ptr(prefix("10.31.0.0/25")), NSIP: ptr(addr("10.31.0.126"))}}, refused: "invalid: has no place in 10.31.0.0/25"},
	{name: "2.2 an IPv4 network in use becomes IPv6", do: commands{inventory.ChangeNetwork{Name: "ipmi", Prefix: ptr(prefix("fd00:1::/64")), NSIP: ptr(addr("fd00:1::1"))}}, refused: "refused: group 'compute'"},
	{name: "2.2 and one that nobody uses", do: commands{network("n", "10.50.0.0/24"), inventory.ChangeNetwork{Name: "n", Prefix: ptr(prefix("fd00:1::/64")), NSIP: ptr(addr("fd00:1::1"))}}, is: `networks.n.network="fd00:1::/64"`},
	{name: "4.1 a lease where there is no range", do: commands{inventory.LeaseAddress{Network: "ipmi", MAC: "52:54:00:00:00:01", At: epoch, TTL: 1}}, refused: "refused: no DHCP range"},
	{name: "2.7 an IPv6 node", do: commands{network("six", "fd00:1::/64"), inventory.AddGroup{Name: "g", OSImage: "compute", Network: "six"}, inventory.AddNodes{Group: "g", Names: []string{"a"}}}, is: `nodes.a.interfaces={"BOOTIF":{"6":"fd00:1::1"}}`},
}

// TestConformance goes through the part of the conformance list of Luna 1.2 that
// the machine decides. Check 22 is the command line's: a command may set an
// osimage's kernel and its options at once.
func TestConformance(t *testing.T) {
	for _, c := range conformance {
		t.Run(c.name, func(t *testing.T) {
			s := fixture(t, c.nodes)
			last := len(c.do)
			if c.refused != "" {
				last--
			}
			s.must(t, c.do[:last]...)
			if c.refused != "" {
				before := dump(t, s.View())
				kind, part, _ := strings.Cut(c.refused, ": ")
				if r := s.do(c.do[last]); r.Error == nil || string(r.Error.Kind) != kind || !strings.Contains(r.Error.Error(), part) {
					t.Errorf("got %#v, want %s", r.Error, c.refused)
				}
				if dump(t, s.View()) != before {
					t.Error("a refused command changed the state")
				}
			}
			s.sound(t)
			for _, want := range strings.Fields(c.is) {
				path, value, _ := strings.Cut(want, "=")
				value = strings.ReplaceAll(value, `\u0020`, " ")
				if got := s.at(t, path); got != value {
					t.Errorf("%s is %s, want %s", path, got, value)
				}
			}
		})
	}
}

// at gives what the document has at a path, as JSON; nothing where it has
// nothing. "hostname.NODE" is the node's full name.
func (s *site) at(t *testing.T, path string) string {
	t.Helper()
	if node, ok := strings.CutPrefix(path, "hostname."); ok {
		n, _ := s.View().Node(node)
		return `"` + s.View().Hostname(n) + `"`
	}
	d := inventory.DocumentOf(s.View())
	raw, err := json.Marshal(d)
	if err != nil {
		t.Fatal(err)
	}
	for _, step := range strings.Split(path, ".") {
		var parts map[string]json.RawMessage
		if err := json.Unmarshal(raw, &parts); err != nil {
			t.Fatalf("%s at %s: %v", path, raw, err)
		}
		raw = parts[step]
	}
	return string(raw)
}
