package conformance

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/mattn/go-runewidth"
)

func itoa(n int) string { return strconv.Itoa(n) }

// badNames have what the shell, iPXE, a zone file, dhcpd.conf or a file name would take for more than
// a name.
var badNames = []string{
	"", " ", "a b", "a;b", "$(id)", "`id`", "a|b", "a&b", "a'b", `a"b`, `a\b`, "a/b", "../a", "a#b", "a\nb", "a\tb", "${net0/mac}", "a{b}", "a}b", "a:b",
	"a@b", "a%b", "a*", "a?b", "a=b", "a<b", "a>b", "a(b)", "a^b", "a~b", "-a", ".a", "_a", "é", "a\u200bb", "a\x01b", strings.Repeat("a", 64),
}

var nameChecks = []check{
	{"names with metacharacters are refused for every object", 1, func(d *desk) {
		d.ok("luna switch add -n sw -N ipmi -i 10.31.0.100", "luna otherdev add -n pdu -N ipmi -i 10.31.0.101", "ln -s $IMG $D/link")
		before := d.ok("luna export")
		lines := []string{
			`luna network add --name="$N" -N 10.70.0.0 -P 24`, `luna network rename cluster --newname="$N"`,
			`luna osimage add --name="$N" -p $D/link`, `luna osimage rename compute --newname="$N"`,
			`luna osimage clone compute --to="$N" -p $D/clone`, `luna bmcsetup add --name="$N"`, `luna bmcsetup rename base --newname="$N"`,
			`luna group add --name="$N" -o compute -N cluster`, `luna group rename compute --newname="$N"`, `luna group clone compute --to="$N"`,
			`luna node rename node001 --newname="$N"`, `luna switch rename sw --newname="$N"`, `luna otherdev rename pdu --newname="$N"`,
			`luna group change compute --interface="$N" -A`, `luna group change compute -i BMC --rename="$N"`,
			`luna switch add --name="$N" -N ipmi -i 10.31.0.120`, `luna otherdev add --name="$N" -N ipmi -i 10.31.0.120`,
			`luna node add -g compute --name="$N"`, `luna cluster change --nodeprefix="$N"`, `luna node change node001 --tag="$N"`, // the last two may be left empty
		}
		for _, name := range badNames {
			lines := lines
			if name == "" {
				lines = lines[:len(lines)-2]
			}
			r := d.naming(name).run("", strings.Join(lines, " >/dev/null; echo $?; ")+" >/dev/null; echo $?")
			for i, code := range strings.Fields(r.out) {
				if code != "255" && code != "1" && code != "2" {
					d.Errorf("%s with the name %q: exit code %s, and it should be refused", lines[i], name, code)
				}
			}
		}
		d.prints(before, "luna export")
	}},
}

// naming is the desk where $N is that name.
func (d *desk) naming(name string) *desk {
	n := *d
	n.env = append(n.env[:len(n.env):len(n.env)], "N="+name)
	return &n
}

// comment is text that a byte is not a column of: Latin, Cyrillic, wide and combining characters.
const comment = "Größe 12″ — Узел, 計算ノード, e\u0301 ✓"

var textChecks = []check{
	{"B15 comments of any language show right", 1, func(d *desk) {
		d.ok("luna switch add -n sw -N ipmi -i 10.31.0.100", "luna otherdev add -n pdu -N ipmi -i 10.31.0.101")
		for _, object := range []string{"cluster", "network cluster", "osimage compute", "bmcsetup base", "group compute", "node node001", "switch sw", "otherdev pdu"} {
			kind, name, _ := strings.Cut(object, " ")
			d.okIn(comment+"\nzweite Zeile\n", "luna "+kind+" change "+name+" --comment")
			d.prints(comment+"\nzweite Zeile\n", "luna "+kind+" show "+name+" -C")
			out := d.ok("luna " + kind + " show " + name)
			want := runewidth.StringWidth(strings.SplitN(out, "\n", 2)[0])
			for line := range strings.Lines(out) {
				if got := runewidth.StringWidth(strings.TrimSuffix(line, "\n")); got != want {
					d.Errorf("a line of %s is %d columns wide, not %d: %s", object, got, want, line)
				}
			}
			if !strings.Contains(out, "| "+comment) {
				d.Errorf("the comment is not in\n%s", out)
			}
			got := decode[struct{ Comment string }](d, "luna "+kind+" show "+name+" -o json").Comment
			if got != comment+"\nzweite Zeile" {
				d.Errorf("in JSON the comment of %s is %q", object, got)
			}
		}
	}},
	{"scripts of 1 MB round-trip to the byte", fixture, func(d *desk) {
		text := oddScript(1 << 20)
		file := filepath.Join(d.path("D"), "script")
		d.must(os.WriteFile(file, text, 0o600))
		for _, script := range []string{"prescript", "partscript", "postscript"} {
			d.ok("luna group change compute --"+script+" < $D/script", "luna group show compute --"+script+" > $D/out", "cmp $D/script $D/out")
		}
		d.ok("cat $D/script | luna osimage change compute -e", "luna osimage show compute -e | cmp - $D/script")
		d.ok("luna group clone compute -t two", "luna group show two --part | cmp - $D/script")
		d.okIn("x", "head -c 5000000 /dev/zero | tr '\\0' x > $D/large")
		d.fails(255, "longer than", "luna group change compute --part < $D/large")
		d.ok("luna group show compute --part | cmp - $D/script")
	}},
	{"6 apply of its own export is no difference", 3, func(d *desk) {
		d.rich()
		for _, secrets := range []string{"", " --no-secrets"} {
			d.ok("luna export" + secrets + " > $D/all.yaml")
			d.prints("", "luna diff -f $D/all.yaml")
			d.prints("", "luna apply -f $D/all.yaml --dry-run")
			d.ok("luna apply -f $D/all.yaml", "luna export"+secrets+" | cmp - $D/all.yaml")
		}
	}},
	{"6 export, wipe, apply, export is the same", 3, func(d *desk) {
		d.rich()
		d.ok("luna export > $D/before.yaml", "luna cluster delete --force",
			"luna cluster init --frontend_address 10.30.255.254 --path $P --user root", "luna apply -f $D/before.yaml",
			"luna export > $D/after.yaml", "diff -u $D/before.yaml $D/after.yaml >&2")
	}},
	{"6 apply is all or nothing, and strict", 2, func(d *desk) {
		before := d.ok("luna export")
		for _, bad := range []string{
			"nodes:\n  new:\n    group: nosuch\n", "nodes:\n  node001:\n    colour: red\n", "nodes:\n  'a b':\n    group: compute\n",
			"nodes:\n  node001:\n    interfaces:\n      BOOTIF: {4: 10.30.0.2}\n", "networks:\n  x:\n    network: 10.30.9.0/24\n", ": : :\n",
		} {
			d.must(os.WriteFile(filepath.Join(d.path("D"), "bad.yaml"), []byte("luna: 1\nnodes:\n  fresh:\n    group: compute\n"+bad), 0o600))
			r := d.run("", "luna apply -f $D/bad.yaml")
			if r.code == 0 || !strings.Contains(r.errs, "ERROR:") {
				d.Errorf("apply of %q: exit code %d: %s", bad, r.code, r.errs)
			}
		}
		d.prints(before, "luna export")
	}},
}

// oddScript is a script of that many bytes, with all that may go wrong on the way.
func oddScript(size int) []byte {
	var b bytes.Buffer
	b.WriteString("#!/bin/bash\n\n")
	for i := 0; b.Len() < size; i++ {
		fmt.Fprintf(&b, "# %d \t'\"\\\\ $(x) `y` %%d %%%% <&> \u00e9\u8a08\U0001f40d\u2028 trailing  \r\n", i)
	}
	b.Truncate(size - 1)
	return append(bytes.ToValidUTF8(b.Bytes(), []byte("...")[:0]), '\n')
}

// rich adds of everything something to the store.
func (d *desk) rich() {
	d.Helper()
	d.ok("luna network add -n six -N fd00:1:: -P 64", "luna network change cluster --reserve 10.30.0.50",
		"luna cluster makedhcp -N cluster -s 10.30.128.1 -e 10.30.129.254", "luna group change compute -i BOOTIF --setnet six",
		"luna group change compute -i eth1 -A", "luna switch add -n sw[1-2] -N ipmi -i 10.31.0.100+", "luna otherdev add -n pdu -N ipmi -i 10.31.0.110",
		"luna otherdev change pdu -N cluster -i 10.30.3.9", "luna node change node001 --mac 52:54:00:aa:bb:01 -s sw1 -p 12 --tag gpu",
		"luna node change node002 -i BOOTIF 10.30.77.7", "luna node change node003 -l y --sb n --sv y", "luna group clone compute -t two",
		"luna node add -g two -n zeta", "luna bmcsetup change base -u root -p 'c: \"a\"#'", "luna cluster change --cluster_ips 10.30.255.254,10.30.255.253 --tracker_interval 20")
	d.okIn("MTU=9000\nONBOOT=yes\n", "luna group change compute -i eth1 -e")
	d.okIn("@ MX 10 mail\n", "luna network change cluster --include")
	d.okIn(comment+"\n", "luna node change node001 -C")
	d.okIn(string(oddScript(5000)), "luna group change compute --post")
	d.ok("luna group change two --part --clear")
}
