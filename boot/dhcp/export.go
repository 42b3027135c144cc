package dhcp

import (
	"fmt"
	"net"
	"net/netip"
	"strings"
	"text/template"
	"time"

	"github.com/clustervision/luna/boot"
	"github.com/clustervision/luna/inventory"
)

// The files of ExportDHCPD, under the names that Luna 1.2 gave them.
const (
	PrimaryFile   = "dhcpd.conf"
	SecondaryFile = "dhcpd-secondary.conf"
)

// ExportDHCPD gives the inventory as a configuration of ISC's dhcpd (4.3 and
// later), for a site that keeps that server: it says what a Server says. There
// is a subnet for each network that has a range, and a reservation for each
// node that has a hardware address, and an address on an interface there that
// is not its BMC. The result is the text of PrimaryFile.
//
// Where a head answers for itself, a file must name one: the head that has the
// frontend address, else the first that is on the network. With failover there
// are two files, of a pair that shares the pools, PrimaryFile and
// SecondaryFile. The pair are the first two of cluster_ips, or else the first
// two heads; each names itself where it is a head.
//
// Leases are not exported, and an export is not followed by another when the
// inventory changes.
//
// It is refused (kind refused) where no network has a range, where there is no
// head, and where there are no two addresses for a pair.
func ExportDHCPD(inv *inventory.Inventory, failover bool) (files map[string]string, err error) {
	ranges := false
	for n := range inv.Networks() {
		ranges = ranges || exported(n)
	}
	if !ranges {
		return nil, refused("no network has a range of addresses for DHCP: set one with luna cluster makedhcp -N NETWORK -s FIRST -e LAST")
	}
	peers := map[string]dhcpdPeer{PrimaryFile: {}}
	if failover {
		pair, err := failoverPair(inv)
		if err != nil {
			return nil, err
		}
		peers[PrimaryFile] = dhcpdPeer{Primary: true, Own: pair[0], Other: pair[1]}
		peers[SecondaryFile] = dhcpdPeer{Own: pair[1], Other: pair[0]}
	}
	files = map[string]string{}
	for name, peer := range peers {
		if files[name], err = dhcpdConf(inv, peer); err != nil {
			return nil, err
		}
	}
	return files, nil
}

// exported tells whether DHCP is served on the network.
func exported(n *inventory.Network) bool { return n.Range.Start.Is4() }

func refused(format string, args ...any) error {
	return inventory.Errorf(inventory.KindRefused, "cluster", "general", format, args...)
}

// dhcpdPeer is one of a failover pair; zero: there is none.
type dhcpdPeer struct {
	Primary    bool
	Own, Other netip.Addr
}

// failoverPair gives the addresses of the primary and the secondary.
func failoverPair(inv *inventory.Inventory) (pair [2]netip.Addr, err error) {
	var all []netip.Addr
	if c, ok := inv.Cluster(); ok && c.Services.ClusterIPs != nil {
		for s := range strings.FieldsFuncSeq(*c.Services.ClusterIPs, func(r rune) bool { return r == ',' || r == ' ' }) {
			a, err := netip.ParseAddr(s)
			if err != nil {
				return pair, refused("cluster_ips: '%s' is no address: set them with luna cluster change --cluster_ips A,B", s)
			}
			all = append(all, a)
		}
	}
	if len(all) == 0 {
		for h := range inv.Heads() {
			all = append(all, h.Address)
		}
	}
	if len(all) < 2 || !all[0].Is4() || !all[1].Is4() || all[0] == all[1] {
		return pair, refused("a failover pair needs the IPv4 addresses of two servers: set them with luna cluster change --cluster_ips A,B")
	}
	return [2]netip.Addr(all[:2]), nil
}

// answerer gives the head to which the machines on a network are sent: that of
// the peer's address, else of the frontend address, else the first on the
// network, else the first.
func answerer(inv *inventory.Inventory, n *inventory.Network, own netip.Addr) (*inventory.Head, bool) {
	rank := func(h *inventory.Head) int {
		has := func(p netip.Prefix) bool { _, ok := h.AddressIn(p); return ok }
		c, ok := inv.Cluster()
		switch {
		case own.IsValid() && has(netip.PrefixFrom(own, own.BitLen())):
			return 3
		case ok && c.FrontendAddress.IsValid() && has(netip.PrefixFrom(c.FrontendAddress, c.FrontendAddress.BitLen())):
			return 2
		case has(n.Prefix):
			return 1
		}
		return 0
	}
	var best *inventory.Head
	for h := range inv.Heads() {
		if best == nil || rank(h) > rank(best) {
			best = h
		}
	}
	return best, best != nil
}

// dhcpdSubnet is a network as the configuration has it.
type dhcpdSubnet struct {
	*inventory.Network
	Base, Mask netip.Addr
	Server     netip.Addr // of TFTP and HTTP
	Router     netip.Addr // zero: none
	DNS        netip.Addr // zero: none
	Menu       string     // URL of the iPXE menu
	HTTP       string     // URL before the name of a loader
}

// dhcpdHost is a reservation.
type dhcpdHost struct {
	Declared  string // what the declaration is called
	Name      string
	MAC       inventory.MAC
	Addresses string // comma separated
}

func dhcpdConf(inv *inventory.Inventory, peer dhcpdPeer) (string, error) {
	data := struct {
		Peer                  dhcpdPeer
		PoolLease, KnownLease int
		Subnets               []dhcpdSubnet
		Hosts                 []dhcpdHost
	}{Peer: peer, PoolLease: int(exportedLease / time.Second), KnownLease: int(knownLease / time.Second)}
	for n := range inv.Networks() {
		if !exported(n) {
			continue
		}
		head, ok := answerer(inv, n, peer.Own)
		if !ok {
			return "", refused("no head is a member yet to which the machines on network '%s' could be sent", n.Name)
		}
		data.Subnets = append(data.Subnets, subnetOf(inv, n, head))
	}
	for n := range inv.Nodes() {
		if h, ok := hostOf(inv, n, data.Subnets); ok {
			data.Hosts = append(data.Hosts, h)
		}
	}
	var text strings.Builder
	if err := dhcpdTemplate.Execute(&text, data); err != nil {
		return "", fmt.Errorf("write a configuration for dhcpd: %w", err)
	}
	return text.String(), nil
}

// subnetOf asks boot.Decide what that head would say there.
func subnetOf(inv *inventory.Inventory, n *inventory.Network, head *inventory.Head) dhcpdSubnet {
	spec := boot.Decide(inv, head, nil, boot.Machine{Network: n.ID, Firmware: boot.IPXE})
	s := dhcpdSubnet{
		Network: n, Base: n.Prefix.Masked().Addr(), Server: spec.Server, Menu: spec.File,
		Router: boot.Gateway(inv, []netip.Prefix{netip.PrefixFrom(n.Range.Start, n.Prefix.Bits())}),
	}
	s.Mask, _ = netip.AddrFromSlice(net.CIDRMask(n.Prefix.Bits(), 32))
	if n.NSIP.Is4() {
		s.DNS = n.NSIP
	}
	base, _, _ := strings.Cut(spec.File, "/luna?")
	s.HTTP = base + "/boot/"
	return s
}

// hostOf gives the reservation of a node: one for all networks, for a name may
// be declared once.
func hostOf(inv *inventory.Inventory, n *inventory.Node, subnets []dhcpdSubnet) (dhcpdHost, bool) {
	var addresses []string
	for _, s := range subnets {
		if a, ok := inv.BootAddress(n, s.ID); ok {
			addresses = append(addresses, a.String())
		}
	}
	h := dhcpdHost{Declared: n.Name, Name: n.Name, MAC: n.MAC, Addresses: strings.Join(addresses, ", ")}
	if strings.Contains(n.Name, "..") { // dhcpd reads no such name
		h.Declared = fmt.Sprintf("node-%d", n.ID)
	}
	return h, n.MAC != "" && len(addresses) > 0
}

// exportedLease is the lease of an unknown machine: what Config.LeaseTime is
// where it is not set.
const exportedLease = 10 * time.Minute

var dhcpdTemplate = template.Must(template.New("dhcpd").Funcs(template.FuncMap{
	// mac is the machine's hardware address in an expression: dhcpd prints
	// octets without a leading zero.
	"mac": func() string {
		var octets []string
		for i := 1; i <= 6; i++ {
			octets = append(octets, fmt.Sprintf(`suffix(concat("0", binary-to-ascii(16, 8, "", substring(hardware, %d, 1))), 2)`, i))
		}
		return strings.Join(octets, ", \":\",\n\t\t\t")
	},
	"arch": func(arches ...int) string {
		var tests []string
		for _, a := range arches {
			tests = append(tests, fmt.Sprintf("substring(option luna-arch, 0, 2) = %02x:%02x", a>>8, a&0xff))
		}
		return strings.Join(tests, " or ")
	},
}).Parse(`# Made by luna from its inventory and written anew each time: change the inventory instead.
# For ISC's dhcpd.{{if .Peer.Own.IsValid}} This is the {{if .Peer.Primary}}primary{{else}}secondary{{end}} of a failover pair, {{.Peer.Own}}.{{end}}

authoritative;
ddns-update-style none;
# A machine is its hardware address: firmware, iPXE and its system each send another identifier.
ignore-client-uids true;
default-lease-time {{.PoolLease}};
max-lease-time {{.PoolLease}};

option luna-arch code 93 = string;
option luna-ipxe code 175 = string;
{{- if .Peer.Own.IsValid}}

failover peer "luna" {
	{{if .Peer.Primary}}primary{{else}}secondary{{end}};
	address {{.Peer.Own}};
	port 647;
	peer address {{.Peer.Other}};
	peer port 647;
	max-response-delay 60;
	max-unacked-updates 10;
	load balance max seconds 3;
{{- if .Peer.Primary}}
	mclt {{.PoolLease}};
	split 128;
{{- end}}
}
{{- end}}
{{- range .Subnets}}

# Network {{.Name}}
subnet {{.Base}} netmask {{.Mask}} {
	option domain-name "{{.Name}}";
{{- if .DNS.IsValid}}
	option domain-name-servers {{.DNS}};
{{- end}}
{{- if .Router.IsValid}}
	option routers {{.Router}};
{{- end}}
	next-server {{.Server}};
	pool {
{{- if $.Peer.Own.IsValid}}
		failover peer "luna";
{{- end}}
		range {{.Range.Start}} {{.Range.End}};
	}
	# iPXE names itself as bare bytes, or as the list of RFC 3004.
	if substring(option user-class, 0, 4) = "iPXE" or substring(option user-class, 1, 4) = "iPXE" {
		option luna-ipxe b0:01:01; # no proxy DHCP: do not wait for one
		filename = concat("{{.Menu}}&mac=",
			{{mac}});
	} elsif substring(option vendor-class-identifier, 0, 10) = "HTTPClient" {
		if {{arch 7 9 16}} {
			option vendor-class-identifier "HTTPClient";
			filename "{{.HTTP}}luna_ipxe.efi";
		} elsif {{arch 11 19}} {
			option vendor-class-identifier "HTTPClient";
			filename "{{.HTTP}}snponly-arm64.efi";
		}
	} elsif exists luna-arch or substring(option vendor-class-identifier, 0, 9) = "PXEClient" {
		if not exists luna-arch or {{arch 0}} {
			option vendor-class-identifier "PXEClient";
			option vendor-encapsulated-options 06:01:08:ff; # load the file named here (PXE 2.1)
			filename "luna_undionly.kpxe";
		} elsif {{arch 7 9 16}} {
			option vendor-class-identifier "PXEClient";
			option vendor-encapsulated-options 06:01:08:ff;
			filename "luna_ipxe.efi";
		} elsif {{arch 11 19}} {
			option vendor-class-identifier "PXEClient";
			option vendor-encapsulated-options 06:01:08:ff;
			filename "snponly-arm64.efi";
		}
	}
}
{{- end}}
{{- if .Hosts}}

group {
	default-lease-time {{.KnownLease}};
	max-lease-time {{.KnownLease}};
{{- range .Hosts}}
	host {{.Declared}} { hardware ethernet {{.MAC}}; fixed-address {{.Addresses}}; option host-name "{{.Name}}"; }
{{- end}}
}
{{- end}}
`))
