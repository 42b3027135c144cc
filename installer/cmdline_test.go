package installer

import (
	"net"
	"net/netip"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
)

func TestParseCmdline(t *testing.T) {
	mac := net.HardwareAddr{0x52, 0x54, 0, 0, 0, 1}
	for _, tt := range []struct {
		name, line string
		want       Boot
		refusal    string
	}{
		{
			name: "what a head writes",
			line: "root=luna luna.bootproto=static luna.mac=52:54:00:00:00:01 luna.ip=10.141.0.1/16 luna.url=http://10.141.255.254:7050/luna " +
				"luna.node=node001 luna.hostname=node001.cluster luna.service=0 initrd=initrd luna.version=0123456789abcdef luna.token=T " +
				"luna.heads=10.141.255.254:7050,[fd00::1]:7050 console=ttyS0 quiet\n",
			want: Boot{
				Node: "node001", Hostname: "node001.cluster", MAC: mac, Address: netip.MustParsePrefix("10.141.0.1/16"),
				Heads: []string{"10.141.255.254:7050", "[fd00::1]:7050"}, Version: "0123456789abcdef", Token: "T", Console: "/dev/console",
			},
		},
		{
			name: "dhcp, service, console, head from the url, MAC of petitboot",
			line: "root=luna luna.bootproto=dhcp luna.url=http://10.0.0.1:7050/luna luna.node=n1 luna.service=1 luna.ctty=ttyS1 BOOTIF=01-52-54-00-00-00-01",
			want: Boot{Node: "n1", Hostname: "n1", MAC: mac, Heads: []string{"10.0.0.1:7050"}, Service: true, Console: "/dev/ttyS1"},
		},
		{
			name: "the last of two counts",
			line: "root=/dev/sda1 luna.node=a luna.heads=1.1.1.1:1 root=luna luna.node=b",
			want: Boot{Node: "b", Hostname: "b", Heads: []string{"1.1.1.1:1"}, Console: "/dev/console"},
		},
		{name: "another root", line: "root=/dev/sda1", refusal: "no boot script of Luna"},
		{name: "empty", line: "", refusal: "no boot script of Luna"},
		{name: "no node", line: "root=luna luna.heads=1.1.1.1:1", refusal: "luna.node is missing"},
		{name: "no head", line: "root=luna luna.node=n", refusal: "names a head"},
		{name: "head without port", line: "root=luna luna.node=n luna.heads=1.1.1.1", refusal: `"1.1.1.1" is not ADDRESS:PORT`},
		{name: "static without address", line: "root=luna luna.node=n luna.heads=1.1.1.1:1 luna.bootproto=static luna.mac=52:54:00:00:00:01", refusal: "needs luna.ip"},
		{name: "static without MAC", line: "root=luna luna.node=n luna.heads=1.1.1.1:1 luna.bootproto=static luna.ip=10.0.0.1/8", refusal: "needs luna.mac"},
		{name: "bad MAC", line: "root=luna luna.node=n luna.heads=1.1.1.1:1 luna.mac=52:54", refusal: "six octets"},
		{name: "bad protocol", line: "root=luna luna.node=n luna.heads=1.1.1.1:1 luna.bootproto=bootp", refusal: "neither static nor dhcp"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			got, err := ParseCmdline(tt.line)
			if tt.refusal != "" {
				if err == nil || !strings.Contains(err.Error(), tt.refusal) {
					t.Fatalf("got error %v, want one with %q", err, tt.refusal)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(tt.want, got, cmpopts.EquateComparable(netip.Prefix{})); diff != "" {
				t.Errorf("parsed (-want +got):\n%s", diff)
			}
		})
	}
}
