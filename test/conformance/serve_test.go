package conformance

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/miekg/dns"

	"github.com/clustervision/luna/test/lab"
	"github.com/clustervision/luna/test/lab/bmcsim"
	"github.com/clustervision/luna/test/lab/labtest"
	"github.com/clustervision/luna/test/site"
)

// What is made for other servers and by other programs than luna.
var serveChecks = []check{
	{"58 dhcpd.conf reserves a node's address for its MAC", 2, func(d *desk) {
		d.ok("luna node change node001 --mac 52:54:00:AA:BB:01", "luna cluster makedhcp -N cluster -s 10.30.128.1 -e 10.30.129.254",
			"luna cluster makedhcp --export $D")
		conf := d.ok("cat $D/dhcpd.conf")
		for _, want := range []string{
			`host\s+node001\s*\{\s*hardware\s+ethernet\s+52:54:00:aa:bb:01;\s*fixed-address\s+10\.30\.0\.1;`,
			`subnet\s+10\.30\.0\.0\s+netmask\s+255\.255\.0\.0`, `range\s+10\.30\.128\.1\s+10\.30\.129\.254;`,
			`option\s+domain-name-servers\s+10\.30\.255\.254;`, `option\s+routers\s+10\.30\.255\.254;`, `next-server\s+10\.30\.255\.254;`,
		} {
			if !regexp.MustCompile(want).MatchString(conf) {
				d.Errorf("dhcpd.conf has nothing like %s:\n%s", want, conf)
			}
		}
		for _, never := range []string{"10.31.0.", "node002"} {
			if strings.Contains(conf, never) {
				d.Errorf("dhcpd.conf has %s:\n%s", never, conf)
			}
		}
	}},
	{"59 makedns writes names and addresses, both ways", 2, func(d *desk) {
		d.ok("luna switch add -n sw -N ipmi -i 10.31.0.100", "luna otherdev add -n pdu -N cluster -i 10.30.3.9")
		z := d.zones()
		z.want(d, "node001.cluster.", dns.TypeA, "10.30.0.1")
		z.want(d, "node002.cluster.", dns.TypeA, "10.30.0.2")
		z.want(d, "node001.ipmi.", dns.TypeA, "10.31.0.1")
		z.want(d, "sw.ipmi.", dns.TypeA, "10.31.0.100")
		z.want(d, "pdu.cluster.", dns.TypeA, "10.30.3.9")
		z.want(d, "master.cluster.", dns.TypeA, "10.30.255.254")
		z.want(d, "cluster.", dns.TypeA, "10.30.255.254")
		z.want(d, "cluster.", dns.TypeNS, "master.cluster.")
		z.want(d, "1.0.30.10.in-addr.arpa.", dns.TypePTR, "node001.cluster.")
		z.want(d, "1.0.31.10.in-addr.arpa.", dns.TypePTR, "node001.ipmi.")
		z.want(d, "100.0.31.10.in-addr.arpa.", dns.TypePTR, "sw.ipmi.")
		z.want(d, "9.3.30.10.in-addr.arpa.", dns.TypePTR, "pdu.cluster.")
		d.has("cat $D/zones.conf", `zone "cluster"`, "cluster.luna.zone", `zone "30.10.in-addr.arpa"`, "master")
		d.fails(0, "", "luna cluster makedns -h >/dev/null")
	}},
	{"59 makedns needs a network", bare, func(d *desk) {
		d.fails(1, "No networks configured in this cluster", "luna cluster makedns")
	}},
	{"60 include and rev_include are in the zones", 1, func(d *desk) {
		d.okIn("@ MX 10 mail.example.org.\nmail A 10.30.9.9\n", "luna network change cluster --include")
		d.okIn("9.9 PTR mail.cluster.\n", "luna network change cluster --rev_include")
		z := d.zones()
		z.want(d, "cluster.", dns.TypeMX, "10 mail.example.org.")
		z.want(d, "mail.cluster.", dns.TypeA, "10.30.9.9")
		z.want(d, "9.9.30.10.in-addr.arpa.", dns.TypePTR, "mail.cluster.")
	}},
	{"61 two interfaces in one network have two names", 1, func(d *desk) {
		d.ok("luna group change compute -i eth1 -A", "luna group change compute -i eth1 --setnet cluster")
		z := d.zones()
		z.want(d, "node001-bootif.cluster.", dns.TypeA, "10.30.0.1")
		z.want(d, "node001-eth1.cluster.", dns.TypeA, "10.30.0.2")
		z.want(d, "node001.cluster.", dns.TypeA)
		z.want(d, "node001.ipmi.", dns.TypeA, "10.31.0.1")
	}},
	{"61 interface names keep their case where they would be the same", fixture, func(d *desk) {
		for _, name := range []string{"Eth0", "eth0"} {
			d.ok("luna group change compute -i "+name+" -A", "luna group change compute -i "+name+" --setnet cluster")
		}
		d.ok("luna node add -g compute")
		d.zones()
		d.has("cat $D/zones/cluster.luna.zone", "node001-Eth0", "node001-eth0", "node001-BOOTIF")
	}},
	{"62 the reverse zone of a /16", bare, func(d *desk) {
		d.ok("luna network add -n n -N 10.50.0.0 -P 16 --ns_hostname ns", "luna osimage add -n compute -p $IMG", "luna group add -n g -o compute -N n",
			"luna node add -g g -n node[001-010]")
		z := d.zones()
		for i := 1; i <= 10; i++ {
			z.want(d, fmt.Sprintf("%d.0.50.10.in-addr.arpa.", i), dns.TypePTR, fmt.Sprintf("node%03d.n.", i))
		}
		z.want(d, "254.255.50.10.in-addr.arpa.", dns.TypePTR, "ns.n.")
		file := d.ok("cat $D/zones/50.10.in-addr.arpa.luna.zone")
		for _, owner := range []string{"1.0", "10.0", "254.255"} {
			if !regexp.MustCompile(`(?m)^` + regexp.QuoteMeta(owner) + `\s`).MatchString(file) {
				d.Errorf("no owner %s in\n%s", owner, file)
			}
		}
	}},
	{"76 lchroot lets one in at a time, and says the image's kernel", fixture, func(d *desk) {
		tree := labtest.Tree(d)
		d.ok("cp -a "+tree+" $D/deb", "luna osimage add -n deb -p $D/deb", "luna osimage change deb -k 1.0-custom")
		if got := strings.TrimSpace(lastLine(d.ok("lchroot deb uname -r"))); got != "1.0-custom" {
			d.Errorf("in the image, uname -r is %q", got)
		}
		d.fails(7, "", "lchroot")
		d.fails(3, "", "lchroot deb sh -c 'exit 3' >/dev/null")
		script := `lchroot deb sh -c 'touch /entered; while [ ! -e /leave ]; do sleep 0.02; done' >/dev/null & first=$!
until [ -e $D/deb/entered ]; do kill -0 $first || exit 99; sleep 0.02; done
lchroot deb true; second=$?
touch $D/deb/leave; wait $first || exit 98
exit $second`
		if r := d.run("", script); r.code != 8 {
			d.Errorf("the second lchroot ends with %d, want 8: %s", r.code, r.errs)
		}
		d.ok("lchroot deb true", "! grep -q $D/deb /proc/mounts", "test ! -e $D/deb/tmp/lchroot.lock")
	}},
	{"77 lpower tells and switches machines", 2, func(d *desk) {
		sims := d.bmcs("10.31.0.1", "10.31.0.2")
		d.prints("node001: off\nnode002: off\n", "lpower node[001-002] status")
		d.prints("node001: on\n", "lpower node001 on")
		if !sims[0].Power() || sims[1].Power() {
			d.Error("the wrong machine was switched on")
		}
		d.prints("node001: on\nnode002: off\n", "lpower -g compute status")
		d.prints("node001: on\nnode002: off\n", "luna node power status node[001-002] 2>/dev/null || lpower node[001-002] status")
	}},
	{"79 completion knows objects, actions and live names", 2, func(d *desk) {
		words := func(line string) []string {
			var all []string
			for l := range strings.Lines(d.ok("luna __complete " + line + " 2>/dev/null")) {
				word, _, _ := strings.Cut(strings.TrimSuffix(l, "\n"), "\t")
				all = append(all, word)
			}
			return all
		}
		offers := func(line string, want ...string) {
			d.Helper()
			got := words(line)
			for _, w := range want {
				if !slices.Contains(got, w) {
					d.Errorf("luna %s<tab> does not offer %s but %q", line, w, got)
				}
			}
		}
		offers("''", "cluster", "osimage", "bmcsetup", "network", "group", "node", "switch", "otherdev")
		offers("node ''", "list", "show", "add", "change", "rename", "delete")
		offers("node show ''", "node001", "node002")
		offers("node show -n ''", "node001")
		offers("node add -g ''", "compute")
		offers("group change compute -o ''", "compute")
		offers("group change compute -i BMC --setnet ''", "cluster", "ipmi")
		offers("group add -n x -b ''", "base")
		offers("network delete ''", "cluster", "ipmi")
		offers("node change node001 --localboot ''", "y", "n")
		for _, shell := range []string{"bash", "zsh", "fish"} {
			d.has("luna completion "+shell, "luna")
		}
		d.ok("luna completion bash | bash -n", "bash -c 'source <(luna completion bash) && complete -p luna'")
	}},
}

func lastLine(text string) string {
	lines := strings.Split(strings.TrimRight(text, "\n"), "\n")
	return lines[len(lines)-1]
}

// bmcs starts a BMC at each address, on a host of its own that the head can reach.
func (d *desk) bmcs(addresses ...string) []*bmcsim.Sim {
	d.Helper()
	var prefixes []netip.Prefix
	for _, a := range addresses {
		prefixes = append(prefixes, netip.PrefixFrom(netip.MustParseAddr(a), 24))
	}
	host, err := d.lab.HostWith(d.Context(), "bmc", lab.NIC{Addresses: prefixes})
	d.must(err)
	d.ok("ip address add 10.31.0.253/24 dev eth0")
	d.Cleanup(func() { // for the next check the head is in one network again, and knows it
		ctx, cancel := context.WithTimeout(context.WithoutCancel(d.Context()), time.Minute)
		defer cancel()
		d.must(d.head.Command(ctx, "ip", "address", "del", "10.31.0.253/24", "dev", "eth0").Run())
		d.must(site.Until(ctx, time.Minute, "the head says that it has left network ipmi", func() error {
			heads, err := d.head.Luna(ctx, "head", "list", "-o", "json")
			if err == nil && strings.Contains(heads, "10.31.0.253") {
				err = errors.New(heads)
			}
			return err
		}))
	})
	var sims []*bmcsim.Sim
	for _, a := range addresses {
		sims = append(sims, bmcsim.StartOn(d, host, netip.AddrPortFrom(netip.MustParseAddr(a), 623), "ladmin", "ladmin"))
	}
	return sims
}

// zones is what makedns wrote: the records of all zones.
type zones []dns.RR

// zones runs makedns with its files under $D: zones/ and zones.conf.
func (d *desk) zones() zones {
	d.Helper()
	d.ok("mkdir -p $D/zones", "luna cluster change --named_zone_dir $D/zones --named_include_file $D/zones.conf", "luna cluster makedns")
	dir := filepath.Join(d.path("D"), "zones")
	files, err := filepath.Glob(filepath.Join(dir, "*.luna.zone"))
	d.must(err)
	var all zones
	for _, file := range files {
		text, err := os.ReadFile(file)
		d.must(err)
		origin := strings.TrimSuffix(filepath.Base(file), ".luna.zone") + "."
		p := dns.NewZoneParser(strings.NewReader(string(text)), origin, file)
		for rr, ok := p.Next(); ok; rr, ok = p.Next() {
			all = append(all, rr)
		}
		if err := p.Err(); err != nil {
			d.Errorf("%s is no zone file: %v\n%s", file, err, text)
		}
	}
	return all
}

// want makes sure that the zones have these records of the name and type, and no others.
func (z zones) want(d *desk, name string, kind uint16, values ...string) {
	d.Helper()
	var got []string
	for _, rr := range z {
		if h := rr.Header(); strings.EqualFold(h.Name, name) && h.Rrtype == kind {
			got = append(got, strings.TrimPrefix(rr.String(), h.String()))
		}
	}
	slices.Sort(got)
	slices.Sort(values)
	if !slices.Equal(got, values) {
		d.Errorf("%s %s is %q, want %q", dns.TypeToString[kind], name, got, values)
	}
}
