package legacy

import (
	"fmt"
	"time"

	"go.mongodb.org/mongo-driver/v2/bson"
)

// cleanStore is a site as its administrator would want it: everything in it can
// be kept.
func cleanStore() *store {
	s := newStore()
	s.cluster()
	// 10.30.0.0/16: 20 nodes and a PDU, a reservation, the DHCP range, the name server.
	cluster := s.network("cluster", ip(10, 30, 0, 0), 16, free(22, 99, 101, 32768, 33279, 65533), int64(65534), 4)
	s.set("network", "include", "@ IN MX 10 mail.cluster.\n")
	s.set("network", "comment", "Zürich, Keller")
	// 10.31.0.0/24: 20 BMCs, a switch, a PDU, the name server.
	ipmi := s.network("ipmi", ip(10, 31, 0, 0), 24, free(21, 199, 201, 249, 251, 253), int64(254), 4)
	// fd00:1::/64, in decimal strings: 16 nodes and the name server.
	v6 := s.network("cluster6", "336294683012811878358927523844471128064", 64, free6("17", "18446744073709551613"), "18446744073709551614", 6)
	s.set("cluster", "dhcp_net", cluster.Hex())
	s.set("cluster", "dhcp_range_start", int64(32769))
	s.set("cluster", "dhcp_range_end", int64(33278))

	compute := s.osimage("compute", "/opt/luna/os/compute")
	s.set("osimage", "tarball", "0e5d7c1c-6f1c-4a4c-a8b7-5a5b7b6f6f10")
	s.set("osimage", "torrent", "b0d7dd6e-cd39-4b1f-9a2f-0d3a7b9d5b32")
	s.set("osimage", "kernfile", "compute-vmlinuz-3.10.0-862.el7.x86_64")
	login := s.osimage("login", "/opt/luna/os/login")
	s.set("osimage", "kernopts", "console=ttyS0,115200")
	s.set("osimage", "comment", nil)
	base := s.bmcsetup("base")
	s.set("bmcsetup", "password", "s3cret-of-1.2")

	nodes := s.group("compute", ref("osimage", compute), ref("bmcsetup", base), ref("network", cluster), interfaces(
		iface{key("compute", "BOOTIF"), "BOOTIF", ref("network", cluster), ref("network", v6), ""},
		iface{key("compute", "BMC"), "BMC", ref("network", ipmi), nil, ""},
		iface{key("compute", "eth1"), "eth1", nil, nil, "ONBOOT=no\nMTU=9000"},
	))
	logins := s.group("login", ref("osimage", login), nil, nil, interfaces(
		iface{key("login", "BOOTIF"), "BOOTIF", ref("network", cluster), nil, ""},
		iface{key("login", "BMC"), "BMC", ref("network", ipmi), nil, ""},
	))
	s.set("group", "postscript", nil)
	sw := s.sw("sw01", ipmi, int32(200))
	s.otherdev("pdu01", bson.D{{Key: ipmi.Hex(), Value: int32(250)}, {Key: cluster.Hex(), Value: int64(19)}})
	s.otherdev("spare", bson.D{})

	for i := range int32(16) {
		node := s.node(fmt.Sprintf("node%03d", i+1), nodes, offsets(
			addrs{key("compute", "BOOTIF"), i + 1, i + 1},
			addrs{key("compute", "BMC"), i + 1, nil},
			addrs{key("compute", "eth1"), nil, nil},
		))
		if i < 15 {
			s.mac(fmt.Sprintf("52:54:00:00:1e:%02x", i+1), node)
		}
		s.set("node", "switch", ref("switch", sw))
		s.set("node", "port", fmt.Sprint(i+1))
	}
	s.set("node", "localboot", true)
	s.set("node", "setupbmc", false)
	s.set("node", "service", true)
	s.set("node", "status", bson.D{{Key: "step", Value: "install.success"}, {Key: "time", Value: bson.NewDateTimeFromTime(time.Date(2018, 4, 23, 15, 0, 0, 0, time.UTC))}})
	for i := range int32(4) {
		s.node(fmt.Sprintf("login%02d", i+1), logins, offsets(
			addrs{key("login", "BOOTIF"), i + 17 + i/2, nil}, // 17, 18, 20, 21
			addrs{key("login", "BMC"), i + 17, nil},
		))
	}
	return s
}

// dirtyStore has every fault that a database of 1.2 is known to get, by its
// bugs (B1 to B35 of the list) and by what it never checked.
func dirtyStore() *store {
	s := newStore()
	gone := s.id() // of what was deleted
	s.cluster()
	for field, value := range map[string]any{
		"frontend_port": int32(7050), "nodeprefix": "no de", "nodedigits": int32(12), "user": "hpc", "path": "/srv/luna",
		"cluster_ips": "10.30.255.252,10.30.255.253", "frontend_https": true, "lweb_num_proc": int32(4), "lweb_pidfile": "/tmp/lweb.pid",
		"tracker_interval": 0.0, "torrent_pidfile": nil, "comment": "",
	} {
		s.set("cluster", field, value)
	}
	n := dirtyNetworks(s)
	s.set("cluster", "dhcp_net", n.inner.Hex())
	s.set("cluster", "dhcp_range_start", int64(100))
	s.set("cluster", "dhcp_range_end", int64(199))
	g := dirtyGroups(s, n, gone)
	dirtyDevices(s, n, gone)
	dirtyNodes(s, g, gone)
	s.docs["switch_mac"] = []bson.D{{{Key: "_id", Value: s.id()}, {Key: "mac", Value: "52:54:00:00:00:01"}, {Key: "portname", Value: "ge-0/0/1"}}}
	return s
}

// dirtyIDs are the networks of the dirty store.
type dirtyIDs struct{ cluster, inner, weird, ipmi, ipmi2, v6 bson.ObjectID }

func dirtyNetworks(s *store) (n dirtyIDs) {
	// Its prefix was 24 once, and when it grew its name server's address became
	// free for nodes (B3).
	n.cluster = s.network("cluster", ip(10, 30, 0, 0), 16, free(50, 65533), int64(254), 4)
	// Inside the first one (B17), with the DHCP range at 100-199.
	n.inner = s.network("inner", ip(10, 30, 128, 0), 24, free(2, 9, 11, 99, 200, 253), int64(254), 4)
	s.set("network", "include", "mail IN A 10.30.128.10\n")
	n.weird = s.network("we ird;$(id)", ip(10, 32, 0, 0), 24, free(1, 253), int64(254), 4)
	s.set("network", "ns_hostname", "ma ster")
	// Two of one name (B1); the first one's name server got the address of a
	// switch (B5).
	n.ipmi = s.network("ipmi", ip(10, 31, 0, 0), 24, free(30, 199, 201, 253), int64(200), 4)
	n.ipmi2 = s.network("ipmi", ip(10, 33, 0, 0), 24, free(1, 253), int64(254), 4)
	// Made half: `network add --ns_ip` outside of it (B5).
	s.network("half", ip(10, 34, 0, 0), 25, free(1, 126), nil, 4)
	s.network("lost", ip(10, 35, 0, 0), 16, free(1, 9, 5000, 65533), int64(65534), 4)
	s.network("broken", ip(10, 36, 0, 0), 24, free(9, 3), int64(254), 4)
	s.network("listless", ip(10, 37, 0, 0), 24, nil, int64(254), 4)
	s.set("network", "freelist", nil)
	s.network("tiny", ip(10, 38, 0, 0), 31, free(), int64(1), 4)
	s.network("unaligned", ip(10, 39, 0, 77), 24, free(1, 100), int64(3), 4)
	n.v6 = s.network("cluster6", "336294683012811878358927523844471128064", 64, free6("9", "18446744073709551613"), "18446744073709551614", 6)
	return n
}

// dirtyGroupIDs are the groups of the dirty store.
type dirtyGroupIDs struct{ compute, orphans bson.ObjectID }

func dirtyGroups(s *store, n dirtyIDs, gone bson.ObjectID) (g dirtyGroupIDs) {
	image := s.osimage("compute", "/opt/luna/os/compute")
	s.osimage("copy", "/opt/luna/os/compute")
	s.osimage("relative", "os/relative")
	s.set("osimage", "kernopts", "quiet\nconsole=ttyS0\n")
	s.osimage("-zürich-", "")
	base := s.bmcsetup("base")
	s.set("bmcsetup", "user", nil)
	s.bmcsetup("long")
	s.set("bmcsetup", "user", "administrator-of-everything")
	s.set("bmcsetup", "password", "more-than-twenty-characters")
	s.set("bmcsetup", "userid", int32(99))
	g.compute = s.group("compute", ref("osimage", image), ref("bmcsetup", base), ref("network", n.inner), interfaces(
		iface{key("compute", "BOOTIF"), "BOOTIF", ref("network", n.cluster), ref("network", n.v6), ""},
		iface{key("compute", "BMC"), "BMC", ref("network", n.ipmi), nil, ""},
		iface{key("compute", "eth0"), "eth0", ref("network", n.inner), nil, ""},
		iface{key("compute", "eth0:1"), "eth0:1", ref("network", gone), nil, "MTU=9000"}, // B2
		iface{key("compute", "eth2"), "eth2", nil, ref("network", n.weird), ""},
		iface{key("compute", "eth2b"), "eth2", nil, nil, ""},
	))
	s.set("group", "torrent_if", "eth9")
	s.group("dangling", ref("osimage", image), ref("bmcsetup", gone), ref("network", gone), interfaces())
	s.set("group", "torrent_if", "")
	g.orphans = s.group("orphans", ref("osimage", gone), nil, nil, interfaces())
	return g
}

func dirtyDevices(s *store, n dirtyIDs, gone bson.ObjectID) {
	s.sw("sw01", n.ipmi, int32(200)) // the name server's
	s.sw("sw02", n.ipmi, nil)        // B6
	s.sw("sw03", n.ipmi, int32(300))
	s.set("switch", "oid", "BRIDGE-MIB::dot1dTpFdbPort")
	s.sw("sw04", gone, int32(1))
	s.sw("sw05", n.inner, int32(10))
	s.otherdev("pdu01", bson.D{{Key: n.ipmi.Hex(), Value: int32(20)}})
	s.otherdev("pdu02", bson.D{{Key: n.ipmi.Hex(), Value: int32(20)}}) // B6
	s.otherdev("pdu03", bson.D{{Key: gone.Hex(), Value: int32(20)}, {Key: n.ipmi.Hex(), Value: nil}, {Key: n.ipmi2.Hex(), Value: int32(256)}})
	s.otherdev("pdu04", bson.D{{Key: n.inner.Hex(), Value: int32(11)}, {Key: n.cluster.Hex(), Value: int32(40)}})
}

func dirtyNodes(s *store, g dirtyGroupIDs, gone bson.ObjectID) {
	node := func(name string, boot, bmc, eth0 any) bson.ObjectID {
		return s.node(name, g.compute, offsets(
			addrs{key("compute", "BOOTIF"), boot, boot},
			addrs{key("compute", "BMC"), bmc, nil},
			addrs{key("compute", "eth0"), eth0, nil},
		))
	}
	one := node("node001", int32(1), int32(1), int32(1))
	two := node("node002", int32(1), int32(2), int32(2)) // B7
	three := node("node003", int32(3), int32(3), int32(3))
	again := node("node003", int32(4), int32(4), int32(4)) // B4
	node("node003-2", int32(5), int32(5), int32(5))
	node("node006", int32(254), int32(6), int32(6))   // the name server's (B3)
	node("node007", int32(65534), int32(7), int32(7)) // the frontend's
	node("node008", int32(8), int32(256), int32(150)) // outside; in the DHCP range
	node("node009", nil, int32(0), int32(9))
	s.set("node", "switch", ref("switch", gone))
	node("we ird;$(reboot)", int32(10), int32(10), int32(12))
	node("long"+fmt.Sprintf("%070d", 1), int32(11), int32(11), int32(13))
	s.node("unknown-interface", g.compute, offsets(addrs{key("compute", "BOOTIF"), int32(12), int64(12)}, addrs{key("compute", "BMC"), int32(12), nil},
		addrs{key("compute", "eth0"), int32(14), nil}, addrs{key("compute", "eth7"), int32(1), nil}, addrs{key("compute", "eth2"), int32(9), nil}))
	ghost := s.put("node", append(bson.D{{Key: "name", Value: "node021"}}, s.nodeFields(g.compute, offsets(addrs{key("compute", "BOOTIF"), nil, nil}))...), false)
	orphan := s.node("orphan", g.orphans, offsets())
	s.node("groupless", gone, offsets())
	s.mac("52:54:00:00:00:01", one)
	s.mac("52:54:00:00:00:02", one)
	s.mac("52:54:00:00:00:03", two)
	s.mac("52:54:00:AA:00:03", three)
	s.mac("52:54:00:aa:00:03", again)
	s.mac("0123", again)
	s.mac("52:54:00:00:00:21", ghost)
	s.mac("52:54:00:00:00:22", orphan)
	s.mac("52:54:00:00:00:23", gone)
	s.docs["notes"] = []bson.D{{{Key: "_id", Value: s.id()}, {Key: "text", Value: "of an administrator"}}}
}
