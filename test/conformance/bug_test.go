package conformance

import (
	"strings"
	"sync"
)

// bugChecks are the bugs of 1.2 that can be seen from outside, by the numbers of their list: none may
// be met again.
var bugChecks = []check{
	{"B1 concurrent adds get names and addresses of their own", fixture, func(d *desk) {
		const clients, each = 8, 4
		var wg sync.WaitGroup
		for range clients {
			wg.Go(func() {
				for range each {
					if r := d.run("", "luna node add -g compute"); r.code != 0 {
						d.Errorf("node add: exit code %d: %s", r.code, r.errs)
					}
				}
			})
		}
		wg.Wait()
		names, addresses := map[string]bool{}, map[string]bool{}
		for _, n := range decodeNodes(d, "luna node list -o json") {
			names[n.Name], addresses[n.Interfaces["BOOTIF"]["4"]] = true, true
		}
		if len(names) != clients*each || len(addresses) != clients*each {
			d.Errorf("%d names and %d addresses of %d nodes", len(names), len(addresses), clients*each)
		}
	}},
	{"B2 a group with two interfaces in one network lets go of it", fixture, func(d *desk) {
		d.ok("luna network add -n n -N 10.60.0.0 -P 24", "luna group add -n two -o compute -N n -bn n", "luna group change two -i eth1 -A",
			"luna group change two -i eth1 --setnet n", "luna group delete two", "luna network delete n")
		d.lacks("luna cluster makedhcp 2>&1 || true", "[group/")
	}},
	{"B3 a grown network keeps its name server's address", bare, func(d *desk) {
		d.ok("luna network add -n n -N 172.20.0.0 -P 24", "luna network change n -P 16")
		d.rows("luna network show n", "NETWORK", "172.20.0.0", "PREFIX", "16", "ns_ip", "172.20.0.254")
		d.fails(1, "172.20.0.254", "luna network change n --reserve 172.20.0.254")
		d.ok("luna network change n --reserve 172.20.255.254")
	}},
	{"B4 a failed add leaves nothing behind", fixture, func(d *desk) {
		d.ok("luna network add -n tiny -N 10.50.0.0 -P 30", "luna group add -n tiny -o compute -N cluster -bn tiny", "luna node add -g tiny -n only")
		before := d.ok("luna export")
		for range 2 {
			d.fails(255, "Unable to allocate", "luna node add -g tiny")
			d.fails(255, "Unable to allocate", "luna node add -g tiny -n named")
			d.fails(255, "Unable to allocate", "luna node add -g tiny -n many[1-3]")
		}
		d.prints(before, "luna export")
		d.ok("luna node delete only", "luna node add -g tiny -n named", "luna node add -g compute", "luna node show node001")
	}},
	{"B5 a name server's address is free or refused", 1, func(d *desk) {
		if r := d.run("", "luna network change cluster --ns_ip 10.30.0.1"); r.code == 0 || !strings.Contains(r.errs, "10.30.0.1") {
			d.Errorf("ns_ip of node001: exit code %d: %s", r.code, r.errs)
		}
		d.rows("luna network show cluster", "ns_ip", "10.30.255.254")
		d.fails(255, "10.70.1.1", "luna network add -n n -N 10.70.0.0 -P 24 --ns_ip 10.70.1.1")
		d.fails(255, "does not exist", "luna network show n")
	}},
	{"B6 a device that cannot have an address keeps its own", 1, func(d *desk) {
		d.ok("luna switch add -n sw -N ipmi -i 10.31.0.100", "luna otherdev add -n pdu -N ipmi -i 10.31.0.101")
		for _, line := range []string{"luna switch change sw -i 10.31.0.1", "luna otherdev change pdu -N ipmi -i 10.31.0.1", "luna switch change sw -i 10.31.0.101"} {
			if r := d.run("", line); r.code == 0 || !strings.Contains(r.errs, "ERROR:") {
				d.Errorf("%s: exit code %d: %s", line, r.code, r.errs)
			}
		}
		d.rows("luna switch show sw", "ip", "10.31.0.100")
		d.rows("luna otherdev show pdu", "connected", "[ipmi]:10.31.0.101")
		d.ok("luna switch list", "luna otherdev list")
		d.fails(255, "10.31.0.101", "luna otherdev add -n two -N ipmi -i 10.31.0.101")
	}},
	{"B7 an address in use is not released without --force", 2, func(d *desk) {
		d.fails(1, "10.30.0.1", "luna network change cluster --release 10.30.0.1")
		d.rows("luna node show node001", "interfaces", "BMC:   10.31.0.1\nBOOTIF:10.30.0.1")
		d.ok("luna network change cluster --release 10.30.0.1 --force", "luna node add -g compute")
		if a, b := d.v4("node001", "BOOTIF"), d.v4("node003", "BOOTIF"); a == b {
			d.Errorf("node001 and node003 have %s both", a)
		}
	}},
	{"B9 torrent_if does not break the install script", 1, func(d *desk) {
		d.pack()
		d.ok("luna group change compute --torrent_if BOOTIF")
		d.code("200", "/luna?step=install&node=node001")
		d.ok("luna node show node001 --script install | bash -n")
	}},
	{"B11 a BOOTIF with IPv6 alone boots", fixture, func(d *desk) {
		d.ok("luna network add -n six -N fd00:1:: -P 64", "luna group add -n six -o compute -N six", "luna node add -g six -n v6",
			"luna node change v6 --mac "+mac)
		d.pack()
		args(d, d.ok("luna node show v6 --script boot"), "root=luna", "luna.node=v6")
		d.code("200", "/luna?step=discovery&hwdata="+mac)
		d.code("200", "/luna?step=install&node=v6")
	}},
	{"B12 makedns knows IPv6 addresses without ::", fixture, func(d *desk) {
		d.ok("luna network add -n six -N 2001:db8:5:: -P 64 --ns_hostname ns", "luna network add -n small -N 2001:db8:6::100:0 -P 112 --ns_hostname ns",
			"luna group change compute -i BOOTIF --setnet six", "luna node add -g compute")
		z := d.zones()
		z.want(d, "node001.six.", 28, "2001:db8:5::1")
		z.want(d, "ns.six.", 28, "2001:db8:5:0:ffff:ffff:ffff:fffe")
		z.want(d, "e.f.f.f.f.f.f.f.f.f.f.f.f.f.f.f.0.0.0.0.5.0.0.0.8.b.d.0.1.0.0.2.ip6.arpa.", 12, "ns.six.")
	}},
	{"B13 done77 is not node 77", fixture, func(d *desk) {
		d.ok("luna node add -g compute -n done77", "luna node add -g compute -n node5x", "luna node add -g compute")
		d.has("luna node list", "| node001 ")
		d.lacks("luna node list", "node078", "node78")
	}},
	{"B16 a cloned group keeps its interfaces' params", fixture, func(d *desk) {
		d.okIn("MTU=9000\n", "luna group change compute -i BOOTIF --edit")
		d.ok("luna group clone compute -t two")
		d.has("luna group show two -i BOOTIF", "MTU=9000")
	}},
	{"B17 overlapping networks are refused", fixture, func(d *desk) {
		d.fails(255, "overlaps", "luna network add -n n -N 10.30.128.0 -P 24")
		d.fails(255, "overlaps", "luna network add -n n -N 10.0.0.0 -P 8")
		d.fails(255, "overlaps", "luna network change ipmi -N 10.30.128.0")
	}},
	{"B18 a hostlist is all or nothing", fixture, func(d *desk) {
		d.ok("luna node add -g compute -n node[001,003]")
		before := d.ok("luna export")
		d.fails(255, "Object 'node002' of type 'node' does not exist", "luna node change node[001-003] -l y")
		d.fails(255, "'node003' is already created", "luna node add -g compute -n node[002-004]")
		d.fails(255, "Object 'node002' of type 'node' does not exist", "luna node delete node[001-003]")
		d.fails(255, "", "luna switch add -n sw[1-2] -N ipmi -i 10.31.0.100")
		d.fails(255, "", "luna otherdev add -n pdu[1-2] -N ipmi -i 10.31.0.100")
		d.prints(before, "luna export")
	}},
}

var moreBugChecks = []check{
	{"B19 no Python, no traceback", fixture, func(d *desk) {
		d.okIn("MTU=9000\n", "luna group change compute -i BOOTIF -e")
		got := decode[map[string]any](d, "luna group show compute -i BOOTIF")
		if !strings.Contains(d.ok("luna group show compute -i BOOTIF"), "cluster") || len(got) == 0 {
			d.Errorf("group show -i is %v", got)
		}
		d.ok("luna group change compute -i eth1 -A")
		d.fails(1, "eth1", "luna group change compute -i eth1 --delnet")
		d.fails(1, "eth1", "luna group change compute -i eth1 --delnet cluster")
	}},
	{"B20 scrape works, and who has stopped is not handed out", 1, func(d *desk) {
		d.packTorrent()
		d.code("200", "/scrape")
		peers := func() int {
			return strings.Count(d.ok("curl -sf '"+announce(d, "&left=5&compact=0")+"'"), "2:ip")
		}
		other := strings.NewReplacer(strings.Repeat("x", 20), strings.Repeat("y", 20), "port=6881", "port=6882").Replace(announce(d, "&left=5"))
		before := peers()
		d.ok("curl -sf '" + other + "' -o /dev/null")
		if got := peers(); got != before+1 {
			d.Errorf("%d peers after one more came, %d before", got, before)
		}
		d.ok("curl -sf '" + other + "&event=stopped' -o /dev/null")
		if got := peers(); got != before {
			d.Errorf("%d peers after it has stopped, want %d", got, before)
		}
		if before != 1 {
			d.Errorf("the head is %d times among the peers", before)
		}
	}},
	{"B21 the tracker refuses in words, and clamps numwant", 1, func(d *desk) {
		d.packTorrent()
		for _, path := range []string{"/announce", "/announce?info_hash=short&peer_id=" + strings.Repeat("x", 20) + "&port=1"} {
			d.code("200", path)
			d.has(curl(path), "14:failure reason")
		}
		d.lacks("curl -sf '"+announce(d, "&left=1&numwant=100000")+"'", "failure reason")
	}},
	{"B22 an unknown step is answered", bare, func(d *desk) { d.code("400", "/luna?step=nosuch") }},
	{"B23 the NIC that boots is the one that is bound", 1, func(d *desk) {
		for i := range 4 {
			boots := "52:54:00:00:00:0" + itoa(9-i)
			d.ok("curl -s -o /dev/null '" + at + "/luna?step=discovery&node=node001&hwdata=asset|" + boots + "|52:54:00:00:00:01|" + boots + "|52:54:00:00:00:02'")
			d.rows("luna node show node001", "mac", boots)
		}
	}},
	{"B24 MACs in upper case are known too", 1, func(d *desk) {
		d.pack()
		d.ok("luna node change node001 --mac " + mac)
		d.code("200", "/luna?step=discovery&hwdata="+strings.ToUpper(mac))
	}},
	{"B29 editors with arguments, and that save by rename; nothing on stdin", fixture, func(d *desk) {
		d.okIn("old text\n", "luna group change compute --part")
		d.ok(`printf '#!/bin/sh\n[ "$1" = --wait ] || exit 9\nsed s/old/new/ "$2" > "$2.x" && mv "$2.x" "$2"\n' > $D/ed; chmod +x $D/ed`)
		d.ok(`EDITOR="$D/ed --wait" script -qec 'luna group change compute --part -e' /dev/null </dev/null`)
		d.prints("new text\n", "luna group show compute --part")
		d.fails(1, "stdin is empty", "luna group change compute --part </dev/null")
		d.fails(1, "stdin is empty", "luna group change compute --part -e </dev/null")
		d.prints("new text\n", "luna group show compute --part")
		d.ok("luna group change compute --part --clear")
		d.rows("luna group show compute", "partscript", "-")
		r := d.run("if true; then\n", "luna group change compute --part")
		if r.code != 0 || !strings.Contains(r.errs, "WARNING") {
			d.Errorf("a script with an error: exit code %d, want 0 and a warning: %s", r.code, r.errs)
		}
		d.prints("if true; then\n", "luna group show compute --part")
	}},
	{"B31 lpower does not lie", 2, func(d *desk) {
		d.ok("luna bmcsetup change base -p Xsecret")
		r := d.run("", "timeout 60 lpower node[001-002] on & p=$!; sleep 0.3; cat /proc/*/cmdline 2>/dev/null | tr '\\0' ' ' | grep -c Xsecre[t]; wait $p")
		if strings.HasPrefix(r.out, "0\n") && r.code != 0 && strings.Contains(r.out+r.errs, "node001: Error") || strings.Contains(r.out+r.errs, "node001: error") && r.code != 0 {
			return
		}
		d.Errorf("lpower of BMCs that do not answer: exit code %d, %s%s", r.code, r.out, r.errs)
	}},
	{"B31 lpower names whom it does not know", 1, func(d *desk) {
		r := d.run("", "lpower nosuch status")
		if r.code == 0 || !strings.Contains(r.out+r.errs, "nosuch") {
			d.Errorf("lpower nosuch: exit code %d, %s%s", r.code, r.out, r.errs)
		}
	}},
	{"B32 a zone's serial grows, and short prefixes have zones", bare, func(d *desk) {
		d.ok("luna network add -n n -N 12.0.0.0 -P 7 --ns_hostname ns", "luna otherdev add -n a -N n -i 12.0.0.9")
		serial := func() string {
			for _, rr := range d.zones() {
				if f := strings.Fields(rr.String()); f[0] == "n." && f[3] == "SOA" {
					return f[6]
				}
			}
			d.Fatal("zone n has no SOA")
			return ""
		}
		before := serial()
		d.ok("luna otherdev add -n b -N n -i 12.0.0.10")
		if after := serial(); len(after) < len(before) || len(after) == len(before) && after <= before {
			d.Errorf("the serial is %s after %s", after, before)
		}
		d.ok("! ls $D/zones | grep -q '^\\.'")
		d.zones().want(d, "9.0.0.12.in-addr.arpa.", 12, "a.n.")
	}},
	{"B33 --lweb_pidfile takes a path", bare, func(d *desk) {
		d.ok("luna cluster change --lweb_pidfile /run/other.pid")
		d.rows("luna cluster show", "lweb_pidfile", "/run/other.pid")
	}},
	{"B35 '' clears", 1, func(d *desk) {
		d.ok("luna switch add -n sw -N ipmi -i 10.31.0.100 -r secret", "luna node change node001 --port 12", "luna osimage change compute --kernopts quiet",
			"luna osimage change compute -m x", "luna osimage change compute -d luna,x")
		d.ok("luna node change node001 --port ''", "luna osimage change compute --kernopts ''", "luna osimage change compute -m ''",
			"luna osimage change compute -f ''", "luna switch change sw -r ''", "luna bmcsetup change base -u ''", "luna cluster change --named_zone_dir ''")
		d.rows("luna node show node001", "port", "-")
		d.rows("luna osimage show compute", "kernopts", "", "kernmodules", "", "grab_filesystems", "")
		d.rows("luna switch show sw", "read", "")
		d.rows("luna bmcsetup show base", "user", "")
		d.rows("luna cluster show", "named_zone_dir", "-")
	}},
}

// packTorrent packs the image and fetches its torrent to $D/t.
func (d *desk) packTorrent() {
	d.Helper()
	d.pack()
	sha := decode[struct{ Versions []struct{ SHA256 string } }](d, "luna osimage show compute -o json").Versions[0].SHA256
	d.ok("curl -sf " + at + "/torrents/" + sha + ".torrent -o $D/t")
}
