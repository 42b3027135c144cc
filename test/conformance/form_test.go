package conformance

import (
	"os"
	"path/filepath"
	"strings"
)

// formChecks are the spellings that 1.2's README, manual and help promised, whether its parser took
// them or not.
var formChecks = []check{
	{"1.3 group change --bmcnetwork --setnet and --delnet", bare, func(d *desk) {
		d.ok("luna network add -n cluster -N 10.30.0.0 -P 16", "luna network add -n ipmi -N 10.31.0.0 -P 24",
			"luna osimage add -n compute -p $IMG", "luna group add -n compute -o compute -N cluster", "luna node add -g compute",
			"luna group change -n compute --bmcnetwork --setnet ipmi")
		with := "BMC:   10.31.0.1\nBOOTIF:10.30.0.1"
		d.rows("luna node show node001", "interfaces", with)
		d.ok("luna group change compute -i BMC -A", "luna group change compute -i BMC --setnet ipmi") // decision 1
		d.rows("luna node show node001", "interfaces", with)
		d.fails(1, "Interface 'BMC' already exists", "luna group change compute -i BMC -A")
		d.fails(1, "Network IPv4 is already defined for interface 'BMC'", "luna group change compute -i BMC --setnet cluster")
		d.ok("luna group change -n compute --bmcnetwork --delnet ipmi")
		d.lacks("luna node show node001", "10.31.")
		d.ok("luna group change compute --bmcnet --setnet ipmi", "luna group change compute --bmcnetwork --delnet")
		d.lacks("luna node show node001", "10.31.")
	}},
	{"1.3 the same network again is a notice", fixture, func(d *desk) {
		r := d.run("", "luna group change compute -i BMC --setnet ipmi")
		if r.code != 0 || !strings.Contains(r.errs, "ipmi") {
			d.Errorf("exit code %d and %q, want 0 and a notice", r.code, r.errs)
		}
	}},
	{"1.3 scripts with -n and -e", fixture, func(d *desk) {
		d.okIn("echo part\n", "luna group change -n compute --partscript -e")
		d.okIn("echo post\n", "luna group change -n compute --post -e")
		d.okIn("echo pre\n", "luna group change compute --pre -e")
		d.prints("echo part\n", "luna group show -n compute --part")
		d.prints("echo post\n", "luna group show --name compute --post")
		d.prints("echo pre\n", "luna group show compute --pre")
	}},
	{"1.3 node change with -n", 1, func(d *desk) {
		d.ok("luna switch add -n sw -N ipmi -i 10.31.0.100", "luna node change -n node001 -s sw", "luna node change -n node001 -p 1",
			"luna node change -n node001 --service y", "luna node change -n node001 --localboot y", "luna node change -n node001 --setupbmc n")
		d.rows("luna node show -n node001", "switch", "[sw]", "port", "1", "service", "yes", "localboot", "yes", "setupbmc", "no")
	}},
	{"1.3 group change -b, -i -A, -i --setnet", fixture, func(d *desk) {
		d.ok("luna group add -n two -o compute -N cluster", "luna group change two -b base", "luna group change two -i BMC -A", "luna group change two -i BMC --setnet ipmi")
		d.rows("luna group show two", "bmcsetup", "[base]", "interfaces", "[BMC]:   [ipmi]:10.31.0.0/24\n[BOOTIF]:[cluster]:10.30.0.0/16")
	}},
	{"1.3 osimage pack and node show --script, with NAME and -n", 1, func(d *desk) {
		d.ok("luna osimage pack compute -c", "luna osimage pack -n compute --copy_boot")
		d.prints(d.ok("luna node show node001 --script boot"), "luna node show -n node001 -s boot")
	}},
	{"1.3 cluster init and change: -p, -d, --prefix, --digits", empty, func(d *desk) {
		d.ok("luna cluster init --front 10.30.255.254 --path $P --user root -p gpu -d 4")
		d.rows("luna cluster show", "nodeprefix", "gpu", "nodedigits", "4")
		d.ok("luna cluster change --prefix cpu --digits 2")
		d.rows("luna cluster show", "nodeprefix", "cpu", "nodedigits", "2")
		d.ok("luna cluster delete --force", "luna cluster init --frontend_address 10.30.255.254 --path $P --user root --prefix x --digits 5")
		d.rows("luna cluster show", "nodeprefix", "x", "nodedigits", "5")
		d.ok("luna cluster delete --force", "luna cluster init --frontend_address 10.30.255.254 --path $P --user root --nodeprefix y --nodedigits 6")
		d.rows("luna cluster show", "nodeprefix", "y", "nodedigits", "6")
	}},
	{"1.3 group change -ti and --ti", fixture, func(d *desk) {
		for _, form := range []string{"-ti BOOTIF", "--ti BOOTIF", "--torrent_if BOOTIF"} {
			d.ok("luna group change compute " + form)
			d.rows("luna group show compute", "torrent_if", "BOOTIF")
			d.ok("luna group change compute --ti ''")
			d.rows("luna group show compute", "torrent_if", "-")
		}
	}},
	{"1.3 node change --bmcip", 1, func(d *desk) {
		d.ok("luna node change node001 --bmcip 10.31.0.77")
		d.rows("luna node show node001", "interfaces", "BMC:   10.31.0.77\nBOOTIF:10.30.0.1")
	}},
	{"1.3 group add -bn, --bn and --bmcnetwork", fixture, func(d *desk) {
		for i, form := range []string{"-bn", "--bn", "--bmcnetwork"} {
			name := "g" + string(rune('a'+i))
			d.ok("luna group add -n " + name + " -o compute -N cluster " + form + " ipmi")
			d.rows("luna group show "+name, "interfaces", "[BMC]:   [ipmi]:10.31.0.0/24\n[BOOTIF]:[cluster]:10.30.0.0/16")
		}
	}},
	{"1.3 osimage add -k ANY is the newest", fixture, func(d *desk) {
		d.ok("cp -r $IMG $D/tree", "luna osimage add -n two -p $D/tree -k ANY")
		d.rows("luna osimage show two", "kernver", kernel)
	}},
	{"37 -n NAME does as well as NAME, everywhere", fixture, func(d *desk) {
		for object, actions := range map[string]string{
			"network":  "show|delete|rename --newname x|change --ns_hostname x|show -r|show --raw",
			"osimage":  "show|delete|rename --nn x|change -o x|pack|sync|clone -t x -p /tmp/x|show -k|grab -H nobody.example",
			"bmcsetup": "show|delete|rename --nn x|change -u x",
			"group":    "show|delete|rename --nn x|change -b base|clone -t x|show -o",
			"node":     "show|delete|rename --nn x|change -l y|show --raw",
			"switch":   "show|delete|rename --nn x|change -r x",
			"otherdev": "show|delete|rename --nn x|change -N cluster -i 10.30.9.9",
		} {
			for action := range strings.SplitSeq(actions, "|") {
				want := "ERROR:luna." + object + ":Object 'nosuch' of type '" + object + "' does not exist\n"
				for _, name := range []string{"nosuch", "-n nosuch", "--name nosuch", "--name=nosuch", "-nnosuch"} {
					d.fails(255, want, "luna "+object+" "+action+" "+name)
				}
			}
		}
	}},
	{"1.1 prefixes, glued values, any order", 1, func(d *desk) {
		d.ok("luna cluster change --frontend_a 10.30.255.254", "luna node change --serv y node001 --setup n", "luna group change --bmcs base compute",
			"luna group change compute -obase 2>/dev/null || luna group change compute -ocompute", "luna node change node001 --port=12",
			"luna network change --reserve=10.30.0.99 cluster", "luna cluster change --tracker_max 100")
		d.rows("luna node show node001", "service", "yes", "setupbmc", "no", "port", "12")
		d.rows("luna cluster show", "tracker_maxpeers", "100")
		d.fails(2, "ambiguous", "luna cluster change --tracker 100")
		d.fails(2, "error:", "luna node change node001 --nosuch")
	}},
	{"1.1 help at each level, --debug before the object", 1, func(d *desk) {
		d.has("luna -h", "cluster", "otherdev")
		d.has("luna node -h", "change")
		d.has("luna node change -h", "--setupbmc")
		d.has("luna --help", "usage", "osimage")
		d.ok("luna -d node list 2>/dev/null", "luna --debug node list 2>/dev/null")
	}},
}

// errorChecks are the exit codes and the words that scripts look for.
var errorChecks = []check{
	{"1.1 usage errors end with 2 and tell the usage", fixture, func(d *desk) {
		for _, line := range []string{
			"luna", "luna nosuch", "luna node", "luna node nosuch", "luna node add", "luna node change", "luna node show", "luna network add -n x",
			"luna group add -n x -o compute", "luna osimage add -n x", "luna osimage clone compute", "luna switch add -n x", "luna cluster init",
			"luna node change node001 -l maybe", "luna bmcsetup add -n x -I many", "luna group rename compute", "luna node show a b",
			"luna osimage show compute -p -k", "luna group show compute --pre --post",
		} {
			r := d.run("", line)
			if r.code != 2 || !strings.Contains(strings.ToLower(r.errs), "usage:") || !strings.Contains(r.errs, ": error: ") || r.out != "" {
				d.Errorf("%s: exit code %d, want 2 and the usage on stderr: %s%s", line, r.code, r.out, r.errs)
			}
		}
	}},
	{"1.1 the quirks of exit codes are gone", fixture, func(d *desk) {
		d.ok("luna network show cluster --raw", "luna network show cluster -R", "luna cluster sync")
		d.fails(1, "switch", "luna cluster listmacs") // there is none
		d.ok("cp -r $IMG $D/tree", "luna osimage add -n two -p $D/tree")
		d.fails(255, "Path belongs to osimage 'compute'", "luna osimage change two -p $IMG")
		d.fails(1, "No such interface 'nosuch'", "luna group show compute -i nosuch")
	}},
	{"1.6 what is missing or exists already", 1, func(d *desk) {
		d.ok("luna switch add -n sw -N ipmi -i 10.31.0.100", "luna otherdev add -n pdu -N ipmi -i 10.31.0.101")
		d.ok("cp -r $IMG $D/tree")
		for object, add := range map[string]string{
			"network cluster":  "-N 10.70.0.0 -P 24",
			"osimage compute":  "-p $D/tree",
			"bmcsetup base":    "",
			"group compute":    "-o compute -N cluster",
			"node node001":     "-g compute",
			"switch sw":        "-N ipmi -i 10.31.0.120",
			"otherdev pdu":     "-N ipmi -i 10.31.0.121",
			"cluster general-": "",
		} {
			kind, name, _ := strings.Cut(object, " ")
			if kind == "cluster" {
				d.fails(255, "ERROR:luna.cluster:'general' is already created\n", "luna cluster init --frontend_address 10.30.255.254 --path $P")
				continue
			}
			d.fails(255, "ERROR:luna."+kind+":'"+name+"' is already created\n", "luna "+kind+" add -n "+name+" "+add)
			d.fails(255, "ERROR:luna."+kind+":Object 'nosuch' of type '"+kind+"' does not exist\n", "luna "+kind+" show nosuch")
		}
	}},
	{"1.6 nothing but the answer is on stdout", 1, func(d *desk) {
		for _, line := range []string{
			"luna network add -n x -N 10.70.0.0 -P 24", "luna group change compute -i eth1 -A", "luna node change node001 -l y", "luna node delete node001",
			"luna network delete x", "luna group change compute -i BMC --setnet ipmi", "luna cluster change --tracker_interval 11",
		} {
			d.prints("", line)
		}
	}},
	{"3 --raw is JSON as the API gives it, -o yaml the same", 2, func(d *desk) {
		d.ok("luna switch add -n sw -N ipmi -i 10.31.0.100", "luna otherdev add -n pdu -N ipmi -i 10.31.0.101")
		for _, object := range []string{
			"cluster show", "network show cluster", "osimage show compute", "bmcsetup show base", "group show compute",
			"node show node001", "switch show sw", "otherdev show pdu",
		} {
			raw := decode[map[string]any](d, "luna "+object+" --raw")
			if name, ok := raw["name"]; !ok && object != "cluster show" {
				d.Errorf("luna %s --raw has no name: %v", object, name)
			}
			d.prints(d.ok("luna "+object+" --raw"), "luna "+object+" -o json")
			d.prints(d.ok("luna "+object), "luna "+object+" -o table")
			d.has("luna "+object+" -o yaml", "comment: null\n")
		}
		for _, list := range strings.Fields("network osimage bmcsetup group node switch otherdev") {
			if got := decode[[]map[string]any](d, "luna "+list+" list -o json"); len(got) == 0 {
				d.Errorf("luna %s list -o json is empty", list)
			}
			d.ok("luna " + list + " list -o yaml")
		}
		if n := decode[node](d, "luna node show node001 --raw"); n.Group != "compute" || n.Interfaces["BOOTIF"]["4"] != "10.30.0.1" {
			d.Errorf("references are names and addresses are text, but: %+v", n)
		}
		d.has("curl -sf --unix-socket $SOCK http://localhost/v1/nodes/node001", `"name":"node001"`)
	}},
	{"6 --dry-run changes nothing and tells what would change", 3, func(d *desk) {
		before := d.ok("luna export")
		d.has("luna --dry-run node change node[001-003] -l y", "node[001-003]", "localboot")
		d.has("luna node delete node[001-002] --dry-run", "node[001-002]")
		d.has("luna group change compute -o compute -b '' --dry-run", "base")
		d.fails(255, "does not exist", "luna node delete node009 --dry-run")
		d.prints(before, "luna export")
	}},
	{"6 show --origin tells where a value comes from", 1, func(d *desk) {
		d.has("luna node show node001 --origin", "group", "node001")
	}},
	{"6 the log tells who changed what, and undo takes it back", 2, func(d *desk) {
		before := d.ok("luna export")
		d.ok("luna node change node[001-002] -l y -p 12")
		d.has("luna log", "node[001-002]")
		d.has("luna log node001", "node[001-002]")
		entries := decode[[]struct{ ID int }](d, "luna log -n 1 -o json")
		id := itoa(entries[0].ID)
		d.has("luna log --diff -n 1", "localboot")
		d.has("luna diff "+id, "localboot", "node[001-002]")
		d.ok("luna undo " + id)
		d.prints(before, "luna export")
		d.fails(1, "undone already", "luna undo "+id)
	}},
	{"6 nodes from CSV", fixture, func(d *desk) {
		d.ok("luna switch add -n sw -N ipmi -i 10.31.0.100")
		d.okIn("name,mac,BOOTIF,BMC,switch,port\nn1,52:54:00:00:00:01,10.30.5.1,10.31.0.51,sw,1\nn2,52:54:00:00:00:02,,,,\n", "luna import - -g compute")
		d.rows("luna node show n1", "mac", "52:54:00:00:00:01", "interfaces", "BMC:   10.31.0.51\nBOOTIF:10.30.5.1", "switch", "[sw]", "port", "1")
		d.rows("luna node show n2", "mac", "52:54:00:00:00:02", "interfaces", "BMC:   10.31.0.1\nBOOTIF:10.30.0.1")
		before := d.ok("luna export")
		d.must(os.WriteFile(filepath.Join(d.path("D"), "bad.csv"), []byte("name,mac\nn3,52:54:00:00:00:03\nn4,nonsense\n"), 0o600))
		d.fails(255, "nonsense", "luna import $D/bad.csv -g compute")
		d.prints(before, "luna export")
	}},
}
