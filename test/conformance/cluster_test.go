package conformance

import "strings"

var clusterChecks = []check{
	{"01 an empty store has no cluster to show", empty, func(d *desk) {
		d.fails(255, "ERROR:luna.cluster:Object 'general' of type 'cluster' does not exist\n", "luna cluster show")
	}},
	{"02 cluster show has the 24 rows with their defaults", bare, func(d *desk) {
		d.prints(show("cluster_ips", "-", "debug", "0", "dhcp_net", "-", "dhcp_range_end", "-", "dhcp_range_start", "-",
			"frontend_address", frontend, "frontend_https", "no", "frontend_port", "7050", "lweb_num_proc", "0",
			"lweb_pidfile", "/run/luna/lweb.pid", "named_include_file", "/etc/named.luna.zones", "named_zone_dir", "/var/named",
			"nodedigits", "3", "nodeprefix", "node", "path", d.path("P"), "server_port", "7051",
			"torrent_listen_port_max", "7200", "torrent_listen_port_min", "7052", "torrent_pidfile", "/run/luna/ltorrent.pid",
			"tracker_interval", "10", "tracker_maxpeers", "200", "tracker_min_interval", "5", "user", "root", "comment", "-"),
			"luna cluster show")
	}},
	{"03 a second init is refused", bare, func(d *desk) {
		d.fails(255, "ERROR:luna.cluster:'general' is already created\n", "luna cluster init --frontend_address 10.30.255.254 --path $P --user root")
	}},
	{"04 init with a path that is not there makes nothing", empty, func(d *desk) {
		r := d.run("", "luna cluster init --frontend_address 10.30.255.254 --path /nonexist/dir --user root")
		if r.code == 0 {
			d.Error("init took a path that is not there")
		}
		d.fails(255, "does not exist", "luna cluster show")
	}},
	{"05 cluster change of user and path needs them to exist", bare, func(d *desk) {
		d.fails(1, "No such user exists", "luna cluster change --user nosuch")
		d.fails(1, "/nonexist", "luna cluster change --path /nonexist")
		d.rows("luna cluster show", "user", "root", "path", d.path("P"))
	}},
	{"06 frontend_https makes the URLs https", 1, func(d *desk) {
		d.fails(2, "frontend_https", "luna cluster change --frontend_https maybe")
		d.ok("luna cluster change --frontend_https yes")
		d.rows("luna cluster show", "frontend_https", "yes")
		d.pack()
		d.has("luna node show node001 --script boot", "https://"+frontend)
	}},
	{"55 makedhcp refuses what cannot be, and keeps what was", 3, func(d *desk) {
		d.ok("luna cluster makedhcp -N cluster -s 10.30.128.1 -e 10.30.129.254")
		for _, bad := range []string{
			"-N ipmi -s 10.31.0.100 -e 10.31.0.120", // the frontend address is in another network
			"-N cluster -s 10.30.129.1 -e 10.30.128.1",
			"-N cluster -s 10.29.0.1 -e 10.30.128.1",
			"-N cluster -s 10.30.128.1 -e 10.31.0.1",
			"-N cluster -s 10.30.0.2 -e 10.30.0.200", // node002 has the first one
		} {
			if r := d.run("", "luna cluster makedhcp "+bad); r.code != 1 {
				d.Errorf("makedhcp %s: exit code %d, want 1: %s", bad, r.code, r.errs)
			}
			d.rows("luna cluster show", "dhcp_net", "[cluster]", "dhcp_range_start", "10.30.128.1", "dhcp_range_end", "10.30.129.254")
		}
		d.fails(1, "Network range should be specified", "luna cluster makedhcp -N cluster")
		d.fails(1, "Network should be specified", "luna cluster makedhcp -s 10.30.128.1 -e 10.30.128.9")
	}},
	{"56 no node gets an address of the range", 1, func(d *desk) {
		d.ok("luna cluster makedhcp -N cluster -s 10.30.128.1 -e 10.30.129.254")
		d.rows("luna cluster show", "dhcp_net", "[cluster]", "dhcp_range_start", "10.30.128.1", "dhcp_range_end", "10.30.129.254")
		d.fails(1, "10.30.128.5", "luna node change node001 -i BOOTIF 10.30.128.5")
		d.fails(1, "10.30.129.254", "luna network change cluster --reserve 10.30.129.254")
		d.ok("luna network change cluster --reserve 10.30.130.1", "luna network change cluster --reserve 10.30.127.255")
		d.fails(1, "[cluster/general]", "luna network delete cluster")
	}},
	{"57 makedhcp again, and without a range", fixture, func(d *desk) {
		line := "luna cluster makedhcp -N cluster -s 10.30.128.1 -e 10.30.129.254"
		d.fails(1, "Network range should be specified", "luna cluster makedhcp")
		d.ok(line, line, "luna cluster makedhcp", "luna cluster makedhcp --network cluster --start_ip 10.30.128.1 --end_ip 10.30.130.254")
		d.rows("luna cluster show", "dhcp_range_end", "10.30.130.254")
	}},
	{"80 cluster delete needs it empty, or --force", 1, func(d *desk) {
		d.fails(1, "general is a dependency for the objects:\n", "luna cluster delete")
		d.fails(1, "[network/cluster]\n", "luna cluster delete")
		d.ok("luna node show node001", "luna cluster delete --force")
		d.fails(255, "ERROR:luna.cluster:Object 'general' of type 'cluster' does not exist\n", "luna cluster show")
		d.ok("luna cluster init --frontend_address 10.30.255.254 --path $P --user root")
		for _, object := range strings.Fields("network osimage bmcsetup group node switch otherdev") {
			if rows := readTableOrNone(d, d.ok("luna "+object+" list")); len(rows) > 0 {
				d.Errorf("there are still %ss: %q", object, rows)
			}
		}
		d.ok("luna cluster delete") // of nothing but itself
	}},
}
