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
	cluster := s.network("cluster", v4(10, 30, 0, 0), 16, free(22, 99, 101, 32768, 33279, 65533), int64(65534), 4)
	s.set("network", "include", "@ IN MX 10 mail.cluster.\n")
	s.set("network", "comment", "Zürich, Keller")
	// 10.31.0.0/24: 20 BMCs, a switch, a PDU, the name server.
	ipmi := s.network("ipmi", v4(10, 31, 0, 0), 24, free(21, 199, 201, 249, 251, 253), int64(254), 4)
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
