package conformance

import (
	"fmt"
	"strings"
)

var networkChecks = []check{
	{"07 a network keeps its last address for the name server", bare, func(d *desk) {
		d.ok("luna network add -n n -N 172.16.1.0 -P 24")
		d.rows("luna network show n", "ns_ip", "172.16.1.254")
		var all []string
		for i := 1; i <= 253; i++ {
			all = append(all, fmt.Sprintf("172.16.1.%d", i))
		}
		d.ok("luna network change n --reserve " + strings.Join(all, ","))
		d.fails(1, "172.16.1.254", "luna network change n --reserve 172.16.1.254")
		d.fails(1, "172.16.1.255", "luna network change n --reserve 172.16.1.255")
		d.fails(1, "172.16.1.0", "luna network change n --reserve 172.16.1.0")
	}},
	{"08 a second network of the same base is refused", bare, func(d *desk) {
		d.ok("luna network add -n n -N 172.16.1.0 -P 24", "luna network add -n six -N fd00:1:: -P 64")
		d.fails(255, "Network 172.16.1.0/24 is defined already", "luna network add -n m -N 172.16.1.1 -P 24")
		d.fails(255, "Network fd00:1::/64 is defined already", "luna network add -n m -N fd00:1::7 -P 64")
		d.prints(table([]string{"Name", "Network"}, []string{"n", "172.16.1.0/24"}, []string{"six", "fd00:1::/64"}), "luna network list")
	}},
	{"09 the base is computed from any address", bare, func(d *desk) {
		d.ok("luna network add -n n -N 10.30.4.1 -P 16")
		d.rows("luna network show n", "NETWORK", "10.30.0.0", "PREFIX", "16")
	}},
	{"10 a bad prefix or address is refused", bare, func(d *desk) {
		d.fails(255, "Prefix should be in the range [1..30]", "luna network add -n n -N 10.30.0.0 -P 31")
		d.fails(255, "Prefix should be in the range [1..30]", "luna network add -n n -N 10.30.0.0 -P 0")
		d.fails(255, "Prefix should be in the range [1..126]", "luna network add -n n -N fd00:: -P 127")
		d.fails(2, "luna network add: error:", "luna network add -n n -N 10.30.0.0 -P x")
		d.fails(255, "10.30.300.0", "luna network add -n n -N 10.30.300.0 -P 16")
		d.prints(table([]string{"Name", "Network"}), "luna network list")
	}},
	{"11 another ns_ip frees the old one", bare, func(d *desk) {
		d.ok("luna network add -n n -N 172.16.1.0 -P 24", "luna network change n --ns_ip 172.16.1.253")
		d.rows("luna network show n", "ns_ip", "172.16.1.253")
		d.fails(1, "172.16.1.253", "luna network change n --reserve 172.16.1.253")
		d.ok("luna network change n --reserve 172.16.1.254")
	}},
	{"12 nodes pass over a reserved address until it is released", fixture, func(d *desk) {
		d.ok("luna network change cluster --reserve 10.30.0.3", "luna node add -g compute -n node[001-004]")
		for i, want := range []string{"10.30.0.1", "10.30.0.2", "10.30.0.4", "10.30.0.5"} {
			if got := d.v4(fmt.Sprintf("node%03d", i+1), "BOOTIF"); got != want {
				d.Errorf("node%03d has %s, want %s", i+1, got, want)
			}
		}
		d.ok("luna network change cluster --release 10.30.0.3", "luna node add -g compute")
		if got := d.v4("node005", "BOOTIF"); got != "10.30.0.3" {
			d.Errorf("the released address was not used again: node005 has %s", got)
		}
	}},
	{"13 network show has its rows in order", fixture, func(d *desk) {
		d.prints(show("name", "cluster", "NETWORK", "10.30.0.0", "PREFIX", "16", "include", "-", "ns_hostname", "master",
			"ns_ip", "10.30.255.254", "rev_include", "-", "version", "4", "comment", "-"), "luna network show cluster")
	}},
	{"14 an include of several lines takes several lines of the table", fixture, func(d *desk) {
		d.okIn("mail A 10.30.1.1\nwww A 10.30.1.2\n\n", "luna network change cluster --include")
		want := func(include string) string {
			return show("name", "cluster", "NETWORK", "10.30.0.0", "PREFIX", "16", "include", include, "ns_hostname", "master",
				"ns_ip", "10.30.255.254", "rev_include", "-", "version", "4", "comment", "-")
		}
		d.prints(want("mail A 10.30.1.1\nwww A 10.30.1.2"), "luna network show cluster")
		d.ok(`curl -sf --unix-socket $SOCK -X PATCH -H 'Content-Type: application/json' -d '{"include": "www A 10.30.1.2\n"}' http://localhost/v1/networks/cluster`)
		d.prints(want("www A 10.30.1.2\n"), "luna network show cluster")
	}},
	{"15 a network with an otherdev on it stays", fixture, func(d *desk) {
		d.ok("luna network add -n other -N 10.60.0.0 -P 24", "luna otherdev add -n pdu -N other -i 10.60.0.9")
		d.fails(1, "other is a dependency for the objects:\n", "luna network delete other")
		d.fails(1, "[otherdev/pdu]\n", "luna network delete other")
		d.ok("luna otherdev delete pdu", "luna network delete other")
		d.fails(255, "ERROR:luna.network:Object 'other' of type 'network' does not exist\n", "luna network show other")
	}},
	{"16 IPv6 networks are as good", fixture, func(d *desk) {
		d.ok("luna network add -n six -N fd00:1:: -P 64 --ns_hostname master", "luna otherdev add -n pdu -N six -i fd00:1::9")
		d.prints(table([]string{"Name", "Network"}, []string{"cluster", "10.30.0.0/16"}, []string{"ipmi", "10.31.0.0/24"}, []string{"six", "fd00:1::/64"}),
			"luna network list")
		d.rows("luna network show six", "ns_ip", "fd00:1::ffff:ffff:ffff:fffe", "version", "6", "PREFIX", "64")
		d.fails(1, "[otherdev/pdu]\n", "luna network delete six")
		d.ok("luna otherdev delete pdu", "luna network delete six")
		d.fails(255, "does not exist", "luna network show six")
	}},
	{"2.2 changing the base moves every address with it", 2, func(d *desk) {
		d.ok("luna switch add -n sw -N ipmi -i 10.31.0.200", "luna otherdev add -n pdu -N ipmi -i 10.31.0.201",
			"luna network change ipmi -N 10.44.0.0")
		d.rows("luna network show ipmi", "NETWORK", "10.44.0.0", "ns_ip", "10.44.0.254")
		d.rows("luna switch show sw", "ip", "10.44.0.200")
		d.rows("luna otherdev show pdu", "connected", "[ipmi]:10.44.0.201")
		d.rows("luna node show node002", "interfaces", "BMC:   10.44.0.2\nBOOTIF:10.30.0.2")
		d.fails(255, "", "luna network change ipmi -P 28") // no place for .200
		d.rows("luna network show ipmi", "PREFIX", "24")
	}},
	{"2.2 show -r tells who has what", 1, func(d *desk) {
		d.ok("luna switch add -n sw -N cluster -i 10.30.0.9", "luna otherdev add -n pdu -N cluster -i 10.30.0.8")
		want := "10.30.0.1:node001\n10.30.0.8:pdu\n10.30.0.9:sw\n10.30.255.254:master\n"
		d.prints(want, "luna network show cluster -r")
		d.prints(want, "luna network show cluster --reservedips")
	}},
}
