package conformance

import "strings"

const (
	defaultPart = "mount -t tmpfs tmpfs /sysroot"
	defaultPost = "tmpfs"
)

var groupChecks = []check{
	{"23 bmcsetup add has 1.2's defaults", fixture, func(d *desk) {
		d.ok("luna bmcsetup add -n two")
		d.rows("luna bmcsetup show two", "userid", "3", "user", "ladmin", "password", "ladmin", "netchannel", "1", "mgmtchannel", "1")
	}},
	{"24 bmcsetup show has its rows in order", fixture, func(d *desk) {
		d.ok("luna bmcsetup change base -u root -p calvin -I 2 -N 8 -M 9")
		d.okIn("for iDRAC\n", "luna bmcsetup change base --comment")
		d.prints(show("name", "base", "mgmtchannel", "9", "netchannel", "8", "password", "calvin", "user", "root", "userid", "2", "comment", "for iDRAC"),
			"luna bmcsetup show base")
		d.ok("luna group change compute -b ''", "luna bmcsetup delete base")
		d.prints(table([]string{"Name", "User", "Password"}), "luna bmcsetup list")
	}},
	{"24 secrets: list and JSON mask the password", fixture, func(d *desk) {
		d.ok("luna bmcsetup change base -p Xcalvin")
		for _, line := range []string{"luna bmcsetup list", "luna bmcsetup show base --raw", "luna bmcsetup show base -o yaml", "luna bmcsetup list -o json"} {
			d.lacks(line, "Xcalvin")
			d.has(line+" --secrets", "Xcalvin")
		}
		d.has("luna bmcsetup show base", "Xcalvin")
		d.lacks("luna export --no-secrets", "Xcalvin")
		d.lacks("luna log --diff", "Xcalvin")
	}},
	{"25 group add has 1.2's defaults", fixture, func(d *desk) {
		d.fields("luna group show compute", "name bmcsetup domain interfaces osimage partscript postscript prescript torrent_if comment")
		d.rows("luna group show compute", "name", "compute", "bmcsetup", "[base]", "domain", "[cluster]", "osimage", "[compute]",
			"interfaces", "[BMC]:   [ipmi]:10.31.0.0/24\n[BOOTIF]:[cluster]:10.30.0.0/16", "prescript", "", "torrent_if", "-", "comment", "-")
		d.has("luna group show compute --part", defaultPart)
		d.has("luna group show compute --post", defaultPost, "/sysroot/etc/fstab")
		d.ok("luna group add -n two -o compute -N cluster")
		d.rows("luna group show two", "interfaces", "[BOOTIF]:[cluster]:10.30.0.0/16", "bmcsetup", "-", "domain", "[cluster]")
		d.prints(table([]string{"Name", "Osimage", "Interfaces"},
			[]string{"compute", "[compute]", "[BMC]:   [ipmi]:10.31.0.0/24\n[BOOTIF]:[cluster]:10.30.0.0/16"},
			[]string{"two", "[compute]", "[BOOTIF]:[cluster]:10.30.0.0/16"}), "luna group list")
	}},
	{"26 group add needs what it names", fixture, func(d *desk) {
		for _, c := range [][2]string{
			{"-o nosuch -N cluster", "osimage"},
			{"-o compute -N nosuch", "network"},
			{"-o compute -N cluster -b nosuch", "bmcsetup"},
			{"-o compute -N cluster -bn nosuch", "network"},
		} {
			d.fails(255, "ERROR:luna."+c[1]+":Object 'nosuch' of type '"+c[1]+"' does not exist\n", "luna group add -n two "+c[0])
		}
		d.fails(255, "Object 'two' of type 'group' does not exist", "luna group show two")
	}},
	{"33 osimage and bmcsetup of a group change", fixture, func(d *desk) {
		d.ok("ln -s $IMG $D/link", "luna osimage add -n two -p $D/link", "luna bmcsetup add -n two")
		d.ok("luna group change compute -o two", "luna group change compute -b two")
		d.rows("luna group show compute", "osimage", "[two]", "bmcsetup", "[two]")
		d.prints("[two]\n", "luna group show compute -o")
		d.prints("[two]\n", "luna group show compute -b")
		d.ok("luna group change compute -o compute", "luna group change compute -b ''")
		d.rows("luna group show compute", "osimage", "[compute]", "bmcsetup", "-")
		d.ok("luna group change compute -b base")
		d.rows("luna group show compute", "bmcsetup", "[base]")
	}},
	{"34 the host name follows the group's domain", 1, func(d *desk) {
		d.pack()
		hostname := func(want string) {
			d.Helper()
			d.has("luna node show node001 --script boot", " luna.hostname="+want+" ")
		}
		hostname("node001.cluster")
		d.ok("luna group change compute -d ipmi")
		hostname("node001.ipmi")
		d.rows("luna group show compute", "domain", "[ipmi]")
		d.ok("luna group change compute -d ''")
		hostname("node001")
		d.rows("luna group show compute", "domain", "-")
	}},
	{"35 -i needs an action, and no option is no change", fixture, func(d *desk) {
		d.fails(1, "Action for interfaces should be specified.", "luna group change compute -i eth0")
		before := d.ok("luna group show compute -o json")
		d.ok("luna group change compute")
		d.prints(before, "luna group show compute -o json")
	}},
	{"36 scripts come from stdin without their last newlines", fixture, func(d *desk) {
		d.ok(`printf 'echo hi\n\n' | luna group change compute --partscript -e`)
		d.prints("echo hi\n", "luna group show compute --part")
		d.ok(`printf 'echo pre\n' | luna group change compute --pre`, `printf 'echo post\n' | luna group change compute --post`)
		d.prints("echo pre\n", "luna group show compute --prescript")
		d.prints("echo post\n", "luna group show compute --postscript")
	}},
	{"2.6 one text at a time", fixture, func(d *desk) {
		d.fails(1, "Only one element can be edited", "echo x | luna group change compute --pre --post")
		d.fails(1, "Only one element can be edited", "echo x | luna group change compute --part --comment")
		d.fails(1, "Only one element can be edited", "echo x | luna network change cluster --include --comment")
	}},
	{"2.6 clone copies all but the nodes", 1, func(d *desk) {
		d.okIn("echo part\n", "luna group change compute --part")
		d.okIn("the one\n", "luna group change compute -C")
		d.okIn("MTU=9000\n", "luna group change compute -i BOOTIF -e")
		d.ok("luna group clone compute -t two")
		strip := " | sed -e /\\\"name\\\"/d -e /\\\"nodes\\\"/d"
		d.prints(d.ok("luna group show compute -o json"+strip), "luna group show two -o json"+strip)
		d.lacks("luna node list -g two", "node001")
		d.fails(255, "'two' is already created", "luna group clone compute -t two")
	}},
	{"49 a rename shows everywhere at once", 1, func(d *desk) {
		d.ok("luna network rename cluster --newname prov", "luna osimage rename compute --newname centos", "luna group rename compute --newname workers",
			"luna bmcsetup rename base --newname ilo")
		d.rows("luna group show workers", "interfaces", "[BMC]:   [ipmi]:10.31.0.0/24\n[BOOTIF]:[prov]:10.30.0.0/16", "osimage", "[centos]",
			"domain", "[prov]", "bmcsetup", "[ilo]")
		d.rows("luna node show node001", "group", "[workers]")
		d.ok("luna network add -n b -N 10.99.0.0 -P 24", "luna group clone workers -t b", "luna bmcsetup add -n b", "luna switch add -n a,b -N ipmi -i 10.31.0.100+",
			"luna otherdev add -n a,b -N ipmi -i 10.31.0.110+", "luna node add -g workers -n b", "ln -s $IMG $D/link", "luna osimage add -n b -p $D/link")
		for _, c := range []string{"network prov", "osimage centos", "group workers", "bmcsetup ilo", "switch a", "otherdev a", "node node001"} {
			d.fails(1, "Object 'b' exists already", "luna "+strings.Replace(c, " ", " rename ", 1)+" --newname b")
		}
		d.ok("luna switch rename a --nn c", "luna otherdev rename a --nn c", "luna node rename node001 --nn c", "luna node show c", "luna switch show c", "luna otherdev show c")
	}},
	{"50 what is in use stays", 1, func(d *desk) {
		d.ok("luna switch add -n sw -N ipmi -i 10.31.0.100", "luna node change node001 -s sw")
		for _, c := range [][3]string{
			{"network", "cluster", "[group/compute]"},
			{"network", "ipmi", "[switch/sw]"},
			{"osimage", "compute", "[group/compute]"},
			{"bmcsetup", "base", "[group/compute]"},
			{"group", "compute", "[node/node001]"},
			{"switch", "sw", "[node/node001]"},
		} {
			line := "luna " + c[0] + " delete " + c[1]
			d.fails(1, ":"+c[1]+" is a dependency for the objects:\n", line)
			d.fails(1, ":"+c[2]+"\n", line)
			d.ok("luna " + c[0] + " show " + c[1])
		}
		for line := range strings.Lines(d.run("", "luna network delete cluster").errs) {
			if !strings.HasPrefix(line, "ERROR:luna.network") {
				d.Errorf("a line without its logger: %s", line)
			}
		}
	}},
}

var interfaceChecks = []check{
	{"27 an interface is added once", fixture, func(d *desk) {
		d.ok("luna group change compute -i eth1 -A")
		d.fails(1, "Interface 'eth1' already exists", "luna group change compute -i eth1 -A")
	}},
	{"28 setnet needs the interface", fixture, func(d *desk) {
		before := d.ok("luna group show compute -o json")
		d.fails(1, "No such interface 'nope'", "luna group change compute -i nope --setnet cluster")
		d.prints(before, "luna group show compute -o json")
	}},
	{"29 one network of each family", 1, func(d *desk) {
		d.ok("luna network add -n six -N fd00:1:: -P 64", "luna network add -n other -N 10.60.0.0 -P 24")
		d.fails(1, "Network IPv4 is already defined for interface 'BOOTIF'", "luna group change compute -i BOOTIF --setnet other")
		d.rows("luna group show compute", "interfaces", "[BMC]:   [ipmi]:10.31.0.0/24\n[BOOTIF]:[cluster]:10.30.0.0/16")
		d.ok("luna group change compute -i BOOTIF --setnet six")
		d.rows("luna group show compute", "interfaces", "[BMC]:   [ipmi]:10.31.0.0/24\n[BOOTIF]:[cluster]:10.30.0.0/16\n         [six]:fd00:1::/64")
		d.rows("luna node show node001", "interfaces", "BMC:   10.31.0.1\nBOOTIF:10.30.0.1\n       fd00:1::1")
		d.fails(1, "Both IPv4 and IPv6 networks are configured for group. Need to specify network name.", "luna group change compute -i BOOTIF --delnet")
		d.ok("luna group change compute -i BOOTIF --delnet six")
		d.rows("luna node show node001", "interfaces", "BMC:   10.31.0.1\nBOOTIF:10.30.0.1")
	}},
	{"30 setnet gives each node the next address, in the order of names", fixture, func(d *desk) {
		d.ok("luna node add -g compute -n node[003,001,002]", "luna network add -n n -N 172.16.1.0 -P 24", "luna network change n --reserve 172.16.1.2",
			"luna group change compute -i eth1 -A", "luna group change compute -i eth1 --setnet n")
		for name, want := range map[string]string{"node001": "172.16.1.1", "node002": "172.16.1.3", "node003": "172.16.1.4"} {
			if got := d.v4(name, "eth1"); got != want {
				d.Errorf("%s has %s, want %s", name, got, want)
			}
		}
	}},
	{"31 delnet gives them back", 3, func(d *desk) {
		d.ok("luna network add -n n -N 172.16.1.0 -P 24 --ns_hostname ns", "luna group change compute -i eth1 -A")
		before := d.ok("luna network show n -r")
		for _, delnet := range []string{"--delnet n", "--dn", "-D"} {
			if delnet == "--dn" {
				d.ok("luna group change compute -i eth1 --sn n")
			} else {
				d.ok("luna group change compute -i eth1 --setnet n")
			}
			d.ok("luna group change compute -i eth1 " + delnet)
			d.prints(before, "luna network show n -r")
		}
		d.rows("luna node show node002", "interfaces", "BMC:   10.31.0.2\nBOOTIF:10.30.0.2")
		d.ok("luna network delete n")
	}},
	{"32 an interface's rename keeps the addresses", 1, func(d *desk) {
		d.ok("luna group change compute -i BMC --rename ilo")
		d.rows("luna node show node001", "interfaces", "BOOTIF:10.30.0.1\nilo:   10.31.0.1")
		d.fails(1, "Interface 'BOOTIF' already exists", "luna group change compute -i ilo --nn BOOTIF")
		d.fails(1, "No such interface 'BMC'", "luna group change compute -i BMC --rename x")
		d.ok("luna group change compute -i ilo --nn BMC")
		d.rows("luna node show node001", "interfaces", "BMC:   10.31.0.1\nBOOTIF:10.30.0.1")
	}},
}
