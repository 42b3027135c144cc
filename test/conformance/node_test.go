package conformance

import (
	"fmt"
	"strings"
)

var nodeChecks = []check{
	{"38 the first node is node001 and has the first addresses", 1, func(d *desk) {
		d.rows("luna node show node001", "name", "node001", "localboot", "no", "setupbmc", "yes", "service", "no",
			"interfaces", "BMC:   10.31.0.1\nBOOTIF:10.30.0.1")
	}},
	{"39 a hostlist of new nodes", fixture, func(d *desk) {
		d.ok("luna node add -g compute -n node[001-003]")
		d.fails(255, "ERROR:luna.node:'node002' is already created\n", "luna node add -g compute -n node[002,004]")
		d.fails(255, "'node001' is already created", "luna node add -g compute -n node001")
		d.fails(255, "does not exist", "luna node show node004")
	}},
	{"40 automatic names go on from the highest, addresses from the lowest free", 3, func(d *desk) {
		d.ok("luna node add -g compute", "luna node show node004", "luna node delete node002", "luna node add -g compute")
		d.rows("luna node show node005", "interfaces", "BMC:   10.31.0.2\nBOOTIF:10.30.0.2")
		d.fails(255, "does not exist", "luna node show node002")
	}},
	{"41 a pool that is used up leaves no ghost", fixture, func(d *desk) {
		d.ok("luna network add -n tiny -N 10.50.0.0 -P 30", "luna group add -n tiny -o compute -N cluster -bn tiny", "luna node add -g tiny")
		d.fails(255, "Unable to allocate IP address for interface 'BMC'", "luna node add -g tiny")
		d.fails(255, "Unable to allocate IP address for interface 'BMC'", "luna node add -g tiny -n ghost")
		d.fails(255, "does not exist", "luna node show ghost")
		d.lacks("curl -sf 'http://"+frontend+":7050/luna?step=boot'", "ghost", "node002")
		d.ok("luna node add -g compute")
		d.rows("luna node show node002", "interfaces", "BMC:   10.31.0.1\nBOOTIF:10.30.0.2")
	}},
	{"42 another address, or the old one stays", 2, func(d *desk) {
		d.ok("luna node change node001 -i BOOTIF 10.30.0.77")
		for _, bad := range []string{"BOOTIF 10.30.0.2", "BOOTIF 10.99.0.1", "BOOTIF 10.30.255.254", "NOIF 10.30.0.9", "BOOTIF fd00::1"} {
			if r := d.run("", "luna node change node001 -i "+bad); r.code != 1 {
				d.Errorf("node change -i %s: exit code %d, want 1: %s", bad, r.code, r.errs)
			}
		}
		d.fails(1, "No such interface 'NOIF'", "luna node change node001 -i NOIF 10.30.0.9")
		d.rows("luna node show node001", "interfaces", "BMC:   10.31.0.1\nBOOTIF:10.30.0.77")
		d.ok("luna node add -g compute")
		d.rows("luna node show node003", "interfaces", "BMC:   10.31.0.3\nBOOTIF:10.30.0.1")
	}},
	{"43 a MAC is set, moves, is erased", 2, func(d *desk) {
		d.ok("luna node change node001 --mac 52:54:00:AA:BB:01")
		d.rows("luna node show node001", "mac", "52:54:00:aa:bb:01")
		d.ok("luna node change node002 --mac 52:54:00:aa:bb:01")
		d.rows("luna node show node001", "mac", "-")
		d.rows("luna node show node002", "mac", "52:54:00:aa:bb:01")
		for _, bad := range []string{"xyz", "52:54:00", "52:54:00:aa:bb:0g", "52:54:00:aa:bb:01:02"} {
			d.fails(255, "Invalid MAC address '"+bad+"'", "luna node change node001 --mac "+bad)
		}
		d.ok("luna node change node002 --mac ''")
		d.rows("luna node show node002", "mac", "-")
	}},
	{"44 node show has its rows", 1, func(d *desk) {
		d.ok("luna switch add -n sw -N ipmi -i 10.31.0.100", "luna node change node001 --mac 52:54:00:aa:bb:01 -s sw -p 12 -l y --sb n --sv yes")
		d.okIn("the first\n", "luna node change node001 -C")
		d.prints(show("name", "node001", "group", "[compute]", "interfaces", "BMC:   10.31.0.1\nBOOTIF:10.30.0.1", "localboot", "yes",
			"mac", "52:54:00:aa:bb:01", "port", "12", "service", "yes", "setupbmc", "no", "switch", "[sw]", "comment", "the first"),
			"luna node show node001")
		d.ok("luna node change node001 -s '' --mac '' --localboot n")
		d.rows("luna node show node001", "switch", "-", "mac", "-", "localboot", "no")
	}},
	{"1.4 node list", 2, func(d *desk) {
		d.ok("luna group clone compute -t admin", "luna node add -g admin -n zeta", "luna node change node002 --mac 52:54:00:aa:bb:02")
		header := []string{"Name", "Group", "MAC", "IPs"}
		n1 := []string{"node001", "[compute]", "None", "BMC:   10.31.0.1\nBOOTIF:10.30.0.1"}
		n2 := []string{"node002", "[compute]", "52:54:00:aa:bb:02", "BMC:   10.31.0.2\nBOOTIF:10.30.0.2"}
		zeta := []string{"zeta", "[admin]", "None", "BMC:   10.31.0.3\nBOOTIF:10.30.0.3"}
		d.prints(table(header, zeta, n1, n2), "luna node list")
		d.prints(table(header, n1, n2), "luna node list -g compute")
		d.prints(table(header, n1, n2), "luna node list --group compute")
		d.fails(255, "Object 'nosuch' of type 'group' does not exist", "luna node list -g nosuch")
	}},
	{"45 node list -1 has a row for each node", 3, func(d *desk) {
		d.ok("luna node change node002 -i BOOTIF 10.30.100.200")
		out := d.ok("luna node list -1")
		rows := readTable(d, out)
		for i, want := range []string{"BMC: 10.31.0.1 | BOOTIF: 10.30.0.1", "BMC: 10.31.0.2 | BOOTIF: 10.30.100.200", "BMC: 10.31.0.3 | BOOTIF: 10.30.0.3"} {
			// The table is read by its border, in which each '|' is a '+'.
			if got := strings.Join(strings.Fields(strings.Join(rows[i][3:], " | ")), " "); got != want {
				d.Errorf("the IPs of row %d are %q, want %q", i+1, got, want)
			}
		}
		lines := strings.Split(strings.TrimSuffix(out, "\n"), "\n")
		for _, line := range lines[3 : len(lines)-1] {
			for i := range line {
				if line[i] == '|' && lines[0][i] != '+' {
					d.Errorf("the border has no '+' over the '|' at %d:\n%s", i, out)
				}
			}
		}
	}},
	{"46 another group with the same network leaves the address", 2, func(d *desk) {
		d.ok("luna group add -n two -o compute -N cluster", "luna node change node002 -g two")
		d.rows("luna node show node002", "group", "[two]", "interfaces", "BOOTIF:10.30.0.2")
		d.ok("luna node add -g compute")
		d.rows("luna node show node003", "interfaces", "BMC:   10.31.0.2\nBOOTIF:10.30.0.3")
	}},
	{"47 another group and back is as before", 3, func(d *desk) {
		d.ok("luna group clone compute -t two", "luna switch add -n sw -N ipmi -i 10.31.0.100",
			"luna node change node002 --mac 52:54:00:aa:bb:01 -s sw -p 12 -l y --sb n")
		before := d.ok("luna node show node002 --raw")
		d.ok("luna node change node002 -g two", "luna node change node002 -g compute")
		d.prints(before, "luna node show node002 --raw")
	}},
	{"48 group and address not in one call", 1, func(d *desk) {
		d.fails(2, "error:", "luna node change node001 -g compute -i BOOTIF 10.30.0.9")
	}},
	{"2.7 several changes of many nodes", fixture, func(d *desk) {
		d.ok("luna node add -g compute -n node[001-005]", "luna node change node[001-003,005] -l y -p 7", "luna node delete node[001-002]")
		for name, want := range map[string]string{"node003": "yes", "node004": "no", "node005": "yes"} {
			d.rows("luna node show "+name, "localboot", want)
		}
		names := ""
		for _, row := range readTable(d, d.ok("luna node list")) {
			names += " " + row[0]
		}
		if names != " node003 node004 node005" {
			d.Errorf("the nodes are%s", names)
		}
	}},
	{"3 hostlists: several brackets, padding, exclusion, groups and tags", fixture, func(d *desk) {
		d.ok("luna node add -g compute -n r[1-2]n[08-10]", "luna node change r1n[08-10] --tag gpu")
		count := func(selection string, want int) {
			d.Helper()
			if got := len(decodeNodes(d, "luna node show '"+selection+"' -o json")); got != want {
				d.Errorf("%s are %d nodes, want %d", selection, got, want)
			}
		}
		count("r[1-2]n[08-10]", 6)
		count("r[1-2]n[08-10],-r1n09", 5)
		count("%compute", 6)
		count("%compute!@gpu", 3)
		count("@gpu,r2n08", 4)
		d.ok("luna node change '@gpu' --localboot y")
		d.rows("luna node show r1n10", "localboot", "yes")
		d.rows("luna node show r2n10", "localboot", "no")
	}},
	{"6 addresses increment over a hostlist", fixture, func(d *desk) {
		d.ok("luna node add -g compute -n node[001-003]", "luna node change node[001-003] -i BOOTIF 10.30.7.9+")
		for i := range 3 {
			if got, want := d.v4(fmt.Sprintf("node%03d", i+1), "BOOTIF"), fmt.Sprintf("10.30.7.%d", 9+i); got != want {
				d.Errorf("node%03d has %s, want %s", i+1, got, want)
			}
		}
		d.fails(255, "", "luna node change node[001-003] -i BOOTIF 10.30.8.9")
	}},
}

var deviceChecks = []check{
	{"51 switch add has its address from its network, and nobody else's", 1, func(d *desk) {
		d.fails(255, "10.99.0.1", "luna switch add -n sw -N ipmi -i 10.99.0.1")
		d.fails(255, "10.31.0.1", "luna switch add -n sw -N ipmi --ip 10.31.0.1")
		d.fails(255, "Object 'sw' of type 'switch' does not exist", "luna switch show sw")
		d.fails(2, "error:", "luna switch add -n sw -N ipmi")
		d.ok("luna switch add -n sw -N ipmi -i 10.31.0.100")
		d.prints(show("name", "sw", "ip", "10.31.0.100", "network", "[ipmi]", "oid", ".1.3.6.1.2.1.17.7.1.2.2.1.2", "read", "public", "rw", "private", "comment", "-"),
			"luna switch show sw")
		d.prints(table([]string{"Name", "IP"}, []string{"sw", "10.31.0.100"}), "luna switch list")
	}},
	{"52 a switch moves to another network and address", fixture, func(d *desk) {
		d.ok("luna switch add -n sw -N ipmi -i 10.31.0.11", "luna switch change sw -N cluster")
		d.rows("luna switch show sw", "network", "[cluster]", "ip", "10.30.0.11")
		if r := d.run("", "luna switch change sw -N cluster"); r.code != 1 {
			d.Errorf("the same network again: exit code %d, want 1", r.code)
		}
		d.ok("luna switch change sw -N ipmi -i 10.31.0.99", "luna switch change sw -r secret -w more -o .1.3.6.1.2.1.17.4")
		d.rows("luna switch show sw", "network", "[ipmi]", "ip", "10.31.0.99", "read", "secret", "rw", "more", "oid", ".1.3.6.1.2.1.17.4")
	}},
	{"53 an otherdev in two networks", fixture, func(d *desk) {
		d.ok("luna otherdev add -n pdu -N ipmi -i 10.31.0.9", "luna otherdev change pdu -N cluster -i 10.30.3.9")
		d.rows("luna otherdev show pdu", "connected", "[cluster]:10.30.3.9\n[ipmi]:10.31.0.9")
		d.fields("luna otherdev show pdu", "name connected comment")
		d.prints(table([]string{"Name", "IPs"}, []string{"pdu", "[cluster]:10.30.3.9\n[ipmi]:10.31.0.9"}), "luna otherdev list")
		d.ok("luna otherdev change pdu -N ipmi -i ''")
		d.rows("luna otherdev show pdu", "connected", "[cluster]:10.30.3.9")
		d.fails(255, "IP needs to be specified", "luna otherdev add -n two -N ipmi")
	}},
	{"54 otherdev change without an address changes nothing", fixture, func(d *desk) {
		d.ok("luna otherdev add -n pdu -N ipmi -i 10.31.0.9")
		before := d.ok("luna otherdev show pdu --raw")
		d.ok("luna otherdev change pdu -N ipmi", "luna otherdev change pdu -N cluster", "luna otherdev change pdu")
		d.prints(before, "luna otherdev show pdu --raw")
	}},
	{"2.8 hostlists of devices", fixture, func(d *desk) {
		d.ok("luna switch add -n sw[01-03] -N ipmi -i 10.31.0.21+", "luna otherdev add -n pdu[1-2] -N ipmi -i 10.31.0.31+")
		d.rows("luna switch show sw03", "ip", "10.31.0.23")
		d.rows("luna otherdev show pdu2", "connected", "[ipmi]:10.31.0.32")
		d.ok("luna switch change sw[01-02] -r secret", "luna switch delete sw[02-03]", "luna otherdev delete pdu[1-2]")
		d.prints(table([]string{"Name", "IP"}, []string{"sw01", "10.31.0.21"}), "luna switch list")
		d.rows("luna switch show sw01", "read", "secret")
	}},
	{"75 listmacs has its columns", fixture, func(d *desk) {
		d.ok("luna switch add -n sw -N ipmi -i 10.31.0.100")
		d.prints(table([]string{"Switch", "Port", "Portname", "MAC", "Confport", "Node"}), "luna cluster listmacs")
	}},
}
