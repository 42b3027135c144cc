package conformance

import (
	"errors"
	"regexp"
	"strings"
	"time"

	"github.com/clustervision/luna/test/site"
)

const (
	at  = "http://" + frontend + ":7050"
	mac = "52:54:00:aa:bb:01"
)

// curl prints what a request is answered, code its status.
func curl(path string) string { return "curl -sf '" + at + path + "'" }

func (d *desk) code(want, path string) {
	d.Helper()
	if got := d.ok("curl -s -o /dev/null -w '%{http_code}' '" + at + path + "'"); got != want {
		d.Errorf("GET %s is answered %s, want %s", path, got, want)
	}
}

// What nodes are answered. A head asks here, so that secrets are masked; with a token, and from the
// node, it is asked in package test.
var bootChecks = []check{
	{"63 the boot menu", 3, func(d *desk) {
		menu := d.ok(curl("/luna?step=boot"))
		if !strings.HasPrefix(menu, "#!ipxe\n") {
			d.Errorf("the menu begins with %.20q", menu)
		}
		for _, want := range []string{"node001", "node002", "node003"} {
			if !strings.Contains(menu, want) {
				d.Errorf("the menu has no %s", want)
			}
		}
		for _, key := range strings.Fields("a l e s c r x") {
			if !regexp.MustCompile(`(?m)^item .*--key ` + key + ` `).MatchString(menu) {
				d.Errorf("the menu has no item with the key %s:\n%s", key, menu)
			}
		}
	}},
	{"64 what is missing or unknown is a bad request", 1, func(d *desk) {
		d.code("400", "/luna")
		d.code("400", "/luna?step=discovery")
		d.code("400", "/luna?step=nosuch")
	}},
	{"65 a known MAC among the fields gets the kernel arguments", 1, func(d *desk) {
		d.pack()
		d.ok("luna osimage change compute -o 'console=ttyS0 quiet'", "luna node change node001 --mac "+mac)
		script := d.ok(curl("/luna?step=discovery&hwdata=asset|52:54:00:00:00:99||" + mac + "|"))
		args(d, script, "root=luna", "luna.bootproto=static", "luna.mac="+mac, "luna.ip=10.30.0.1/16",
			"luna.node=node001", "luna.hostname=node001.cluster", "luna.service=0", "console=ttyS0", "quiet")
		d.reported("boot.request")
	}},
	{"66 unknown MACs and nodes, and syslinux", 1, func(d *desk) {
		d.pack()
		d.ok("luna node change node001 --mac " + mac)
		d.code("404", "/luna?step=discovery&hwdata=52:54:00:00:00:99")
		d.code("400", "/luna?step=discovery&hwdata=52:54:00:00:00:99&node=nosuch")
		d.code("404", "/luna?step=discovery&hwdata="+mac+"&type=other")
		script := d.ok(curl("/luna?step=discovery&type=syslinux&hwdata=" + mac))
		at := regexp.MustCompile(`(?m)^\s*APPEND .*$`).FindString(script)
		args(d, at, "root=luna", "luna.bootproto=static", "luna.ip=10.30.0.1/16", "luna.node=node001", "luna.service=0")
		if !strings.Contains(script, "luna_node001") {
			d.Errorf("no label luna_node001 in\n%s", script)
		}
	}},
	{"67 a name chosen in the menu binds the MAC", 2, func(d *desk) {
		d.pack()
		d.ok(curl("/luna?step=discovery&node=node002&hwdata=asset|52:54:00:AA:BB:07|"))
		d.rows("luna node show node002", "mac", "52:54:00:aa:bb:07")
	}},
	{"68 a node without a MAC asks by DHCP", 1, func(d *desk) {
		d.pack()
		script := d.ok("luna node show node001 --script boot")
		args(d, script, "root=luna", "luna.bootproto=dhcp", "luna.node=node001")
		if strings.Contains(script, "luna.ip=") {
			d.Errorf("luna.ip is in\n%s", script)
		}
	}},
	{"69 localboot is from the disk, without a kernel", 1, func(d *desk) {
		d.pack()
		d.ok("luna node change node001 --localboot y --mac " + mac)
		script := d.ok(curl("/luna?step=discovery&hwdata=" + mac))
		if !strings.Contains(script, "sanboot") || strings.Contains(script, "root=luna") || strings.Contains(script, "kernel") {
			d.Errorf("localboot is\n%s", script)
		}
	}},
	{"70 the install script", 1, func(d *desk) {
		d.code("400", "/luna?step=install")
		d.code("400", "/luna?step=install&node=nosuch")
		d.code("404", "/luna?step=install&node=node001")
		d.pack()
		d.ok("luna bmcsetup change base -p Xcalvin")
		d.code("200", "/luna?step=install&node=node001")
		for _, line := range []string{curl("/luna?step=install&node=node001"), "luna node show node001 --script install"} {
			if out := d.ok(line); !strings.HasPrefix(out, "#!/bin/bash\n") {
				d.Errorf("%s begins with %.30q", line, out)
			}
			d.lacks(line, "Xcalvin")
			d.ok(line + " | bash -n")
		}
	}},
	{"71 a reported stage shows in the status", 1, func(d *desk) {
		d.fields("luna node show node001", "name group interfaces localboot mac port service setupbmc switch comment")
		d.code("200", "/luna?step=install&node=node001&status=install.download")
		d.reported("install.download")
		d.fields("luna node show node001", "name group interfaces localboot mac port service setupbmc status switch comment")
		d.code("200", "/luna?step=install&node=node001&status=bad%3Bstage")
		d.code("200", "/luna?step=install&node=node001&status=install.unpack")
		d.reported("install.unpack")
	}},
}

// reported waits until node001's status is that stage: heads put such news together for a moment.
func (d *desk) reported(stage string) {
	d.Helper()
	if err := site.Until(d.Context(), 5*time.Second, "the stage shows", func() error {
		if out := d.ok("luna node show node001"); !strings.Contains(out, "| "+stage+" - 0:00:0") {
			return errors.New(out)
		}
		return nil
	}); err != nil {
		d.Error(err)
	}
}

// args makes sure that the words stand in one line, in this order.
func args(d *desk, text string, words ...string) {
	d.Helper()
	for line := range strings.Lines(text) {
		rest, all := line, true
		for _, w := range words {
			_, after, found := strings.Cut(" "+strings.TrimSpace(rest)+" ", " "+w+" ")
			rest, all = after, all && found
		}
		if all {
			return
		}
	}
	d.Errorf("no line has, in this order, %q:\n%s", words, text)
}
