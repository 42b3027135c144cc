package conformance

import (
	"net/url"
	"path/filepath"
	"strings"

	"github.com/anacrolix/torrent/metainfo"
)

var imageChecks = []check{
	{"17 osimage add has 1.2's defaults and finds the kernel", fixture, func(d *desk) {
		d.fields("luna osimage show compute", "name dracutmodules grab_exclude_list grab_filesystems initrdfile kernfile kernmodules kernopts kernver path comment")
		d.rows("luna osimage show compute", "name", "compute", "dracutmodules", "luna,-i18n,-plymouth", "grab_filesystems", "/,/boot",
			"initrdfile", "", "kernfile", "", "kernmodules", "ipmi_devintf,ipmi_si,ipmi_msghandler", "kernopts", "",
			"kernver", kernel, "path", d.path("IMG"), "comment", "-")
		if d.ok("luna osimage show compute -e") == "" {
			d.Error("grab_exclude_list is empty")
		}
		d.prints(table([]string{"Name", "Path", "Kernel version"}, []string{"compute", d.path("IMG"), kernel}), "luna osimage list")
	}},
	{"18 a tree belongs to one osimage, a link to it is another path", fixture, func(d *desk) {
		d.fails(255, "Path belongs to osimage 'compute'", "luna osimage add -n two -p $IMG")
		d.ok("ln -s $IMG $D/link", "luna osimage add -n two -p $D/link")
		d.rows("luna osimage show two", "path", d.path("D")+"/link", "kernver", kernel)
	}},
	{"19 osimage add needs a tree with that kernel", fixture, func(d *desk) {
		d.fails(255, "No kernels installed in '"+d.path("D")+"'", "luna osimage add -n two -p $D")
		d.ok("cp -r $IMG $D/tree")
		d.fails(255, "Available kernels are ", "luna osimage add -n two -p $D/tree -k 9.9.9")
		d.fails(255, "'/nonexist' is not a valid directory", "luna osimage add -n two -p /nonexist")
		d.fails(255, "is not a valid directory", "luna osimage add -n two -p $D/tree/boot/vmlinuz-"+kernel)
		d.fails(255, "Object 'two' of type 'osimage' does not exist", "luna osimage show two")
		d.ok("luna osimage add -n two -p $D/tree -k " + oldKernel)
		d.rows("luna osimage show two", "kernver", oldKernel)
	}},
	{"20 any kernel can be configured, and show -k marks it", fixture, func(d *desk) {
		d.prints(kernel+" <=\n"+oldKernel+"\n", "luna osimage show compute -k")
		d.ok("luna osimage change compute -k 1.0-custom")
		d.prints("1.0-custom <=\n"+kernel+"\n"+oldKernel+"\n", "luna osimage show compute -k")
	}},
	{"21 osimage show prints what was set", fixture, func(d *desk) {
		d.ok("luna osimage change compute -o 'console=ttyS0 quiet'", "luna osimage change compute -k 1.0-custom",
			"luna osimage change compute -m 'ixgbe,-nouveau'", "luna osimage change compute -d 'luna,-plymouth'", "luna osimage change compute -f '/,/home'",
			"cp -r $IMG $D/tree", "luna osimage change compute -p $D/tree")
		d.okIn("/var/tmp\n/root\n", "luna osimage change compute -e")
		d.okIn("the one\n", "luna osimage change compute -C")
		d.prints(show("name", "compute", "dracutmodules", "luna,-plymouth", "grab_exclude_list", "/var/tmp\n/root", "grab_filesystems", "/,/home",
			"initrdfile", "", "kernfile", "", "kernmodules", "ixgbe,-nouveau", "kernopts", "console=ttyS0 quiet",
			"kernver", "1.0-custom", "path", d.path("D")+"/tree", "comment", "the one"), "luna osimage show compute")
		d.prints("console=ttyS0 quiet\n", "luna osimage show compute -o")
		d.prints(d.path("D")+"/tree\n", "luna osimage show compute -p")
		d.prints("/,/home\n", "luna osimage show compute -f")
		d.prints("/var/tmp\n/root\n", "luna osimage show compute -e")
		d.prints("the one\n", "luna osimage show compute -C")
	}},
	{"22 osimage change takes one option at a time", fixture, func(d *desk) {
		d.fails(2, "error:", "luna osimage change compute -o a -k b")
		d.rows("luna osimage show compute", "kernopts", "", "kernver", kernel)
	}},
	{"73 packing fills the files in, and they are served", 1, func(d *desk) {
		d.pack()
		row := map[string]string{}
		for _, r := range readTable(d, d.ok("luna osimage show compute")) {
			row[r[0]] = r[1]
		}
		if row["kernfile"] != "compute-vmlinuz-"+kernel || row["initrdfile"] != "compute-initramfs-"+kernel || row["tarball"] == "" || row["torrent"] == "" {
			d.Errorf("kernfile, initrdfile, tarball, torrent are %q, %q, %q, %q", row["kernfile"], row["initrdfile"], row["tarball"], row["torrent"])
		}
		d.prints("for "+kernel+"\n", "curl -sf http://"+frontend+":7050/boot/compute-vmlinuz-"+kernel)
		d.prints("for "+kernel+"\n", "curl -sf http://"+frontend+":7050/boot/compute-initramfs-"+kernel)
	}},
	{"74 the torrent names the tracker, and the tracker the heads", 1, func(d *desk) {
		d.pack()
		sha := decode[struct{ Versions []struct{ SHA256 string } }](d, "luna osimage show compute -o json").Versions[0].SHA256
		d.has("curl -sf http://"+frontend+":7050/torrents/"+sha+".torrent", "http://"+frontend+":7050/announce")
		d.ok("curl -sf http://" + frontend + ":7050/torrents/" + sha + ".torrent -o $D/t")
		answer := d.ok("curl -sf '" + announce(d, "&left=1&compact=1") + "'")
		if !strings.Contains(answer, "5:peers6:") {
			d.Errorf("the tracker names not one peer, the head, but: %q", answer)
		}
	}},
	{"4.4 pack -i and -b take the rest from before", 1, func(d *desk) {
		d.pack()
		before := d.ok("luna osimage show compute -o json")
		d.ok("echo more > $IMG/etc-more", "luna osimage pack compute -i", "rm $IMG/etc-more", "luna osimage pack compute -b -c")
		if d.ok("luna osimage show compute -o json") == before {
			d.Error("nothing was packed")
		}
		d.fails(2, "error:", "luna osimage pack compute -i -b")
	}},
	{"4.4 clone copies tree and settings", fixture, func(d *desk) {
		d.ok("luna osimage change compute -o quiet", "luna osimage clone compute -t two -p $D/two", "cmp $IMG/boot/vmlinuz-"+kernel+" $D/two/boot/vmlinuz-"+kernel)
		d.rows("luna osimage show two", "path", d.path("D")+"/two", "kernopts", "quiet", "kernver", kernel, "kernfile", "")
		d.fails(255, "'two' is already created", "luna osimage clone compute -t two -p $D/three")
		d.fails(255, "Path belongs to osimage 'two'", "luna osimage clone compute -t three -p $D/two")
	}},
	{"4.4 sync reports and ends with 0", 1, func(d *desk) {
		d.pack()
		d.ok("luna osimage sync compute", "luna osimage sync -n compute", "luna cluster sync")
	}},
}

// announce is the URL by which a peer asks the tracker about the torrent in $D/t.
func announce(d *desk, query string) string {
	d.Helper()
	torrent, err := metainfo.LoadFromFile(filepath.Join(d.path("D"), "t"))
	d.must(err)
	hash := url.QueryEscape(torrent.HashInfoBytes().AsString())
	return "http://" + frontend + ":7050/announce?info_hash=" + hash + "&peer_id=" + strings.Repeat("x", 20) + "&port=6881" + query
}
