package installer

import (
	"crypto/sha256"
	"fmt"
	"net"
	"net/netip"
	"strconv"
	"strings"

	"github.com/clustervision/luna/boot"
)

// renderNetworkd writes one .network file per interface: systemd.network(5).
// Params follow the [Network] section, so that lines without a section of their
// own belong to it.
func renderNetworkd(_ tree, p boot.Plan, booted nic) []file {
	var files []file
	for _, i := range p.Interfaces {
		var b strings.Builder
		b.WriteString(header(p) + "[Match]\n")
		if byMAC(i, booted) {
			fmt.Fprintf(&b, "MACAddress=%s\n", i.MAC)
		} else {
			fmt.Fprintf(&b, "Name=%s\n", realName(i, booted))
		}
		b.WriteString("\n[Network]\n")
		if wantsDHCP(i) {
			b.WriteString("DHCP=yes\n")
		}
		for _, a := range i.Addresses {
			fmt.Fprintf(&b, "Address=%s\n", a)
		}
		if i.Gateway.IsValid() {
			fmt.Fprintf(&b, "Gateway=%s\n", i.Gateway)
		}
		for _, s := range i.DNS {
			fmt.Fprintf(&b, "DNS=%s\n", s)
		}
		if i.Domain != "" {
			fmt.Fprintf(&b, "Domains=%s\n", i.Domain)
		}
		b.WriteString(lines(i.Params))
		files = append(files, file{"etc/systemd/network/10-luna-" + i.Name + ".network", b.String(), 0o644})
	}
	return files
}

// wantsDHCP: the interface that booted got its address by DHCP where its group
// gives it no network, and goes on so. Others without addresses are only there
// for their params.
func wantsDHCP(i boot.PlanInterface) bool { return i.Name == bootif && len(i.Addresses) == 0 }

// renderKeyfiles writes one profile per interface: nm-settings-keyfile(5).
// NetworkManager ignores a profile that others may read.
func renderKeyfiles(_ tree, p boot.Plan, booted nic) []file {
	var files []file
	for _, i := range p.Interfaces {
		kind := "ethernet"
		if isInfiniBand(i, booted) {
			kind = "infiniband"
		}
		var b strings.Builder
		fmt.Fprintf(&b, "%s[connection]\nid=luna-%s\nuuid=%s\ntype=%s\nautoconnect=true\nautoconnect-priority=100\n",
			header(p), i.Name, profileID(p.Node, i.Name), kind)
		if !byMAC(i, booted) {
			fmt.Fprintf(&b, "interface-name=%s\n", realName(i, booted))
		}
		fmt.Fprintf(&b, "\n[%s]\n", kind)
		if kind == "infiniband" {
			b.WriteString("transport-mode=datagram\n") // there is no default, and datagram works everywhere
		}
		if byMAC(i, booted) {
			fmt.Fprintf(&b, "mac-address=%s\n", strings.ToUpper(i.MAC))
		}
		for _, family := range []struct {
			section, without string
			is               func(netip.Addr) bool
		}{
			{"ipv4", "disabled", netip.Addr.Is4},
			{"ipv6", "auto", netip.Addr.Is6},
		} {
			if wantsDHCP(i) {
				family.without = "auto"
			}
			b.WriteString(keyfileIP(i, family.section, family.without, family.is))
		}
		b.WriteString(lines(i.Params))
		path := "etc/NetworkManager/system-connections/luna-" + i.Name + ".nmconnection"
		files = append(files, file{path, b.String(), 0o600})
	}
	return files
}

// keyfileIP writes the section of one address family.
func keyfileIP(i boot.PlanInterface, section, without string, is func(netip.Addr) bool) string {
	var b strings.Builder
	fmt.Fprintf(&b, "\n[%s]\n", section)
	n := 0
	for _, a := range i.Addresses {
		if is(a.Addr()) {
			n++
			fmt.Fprintf(&b, "address%d=%s\n", n, a)
		}
	}
	if n == 0 {
		fmt.Fprintf(&b, "method=%s\n", without)
		return b.String()
	}
	b.WriteString("method=manual\n")
	if i.Gateway.IsValid() && is(i.Gateway) {
		fmt.Fprintf(&b, "gateway=%s\n", i.Gateway)
	}
	var servers []string
	for _, s := range i.DNS {
		if is(s) {
			servers = append(servers, s.String()+";")
		}
	}
	if servers != nil {
		fmt.Fprintf(&b, "dns=%s\n", strings.Join(servers, ""))
	}
	if i.Domain != "" {
		fmt.Fprintf(&b, "dns-search=%s;\n", i.Domain)
	}
	return b.String()
}

// profileID is a UUID that stays the same through all installations: version 8
// of RFC 9562, of a hash of what the profile is about.
func profileID(node, iface string) string {
	sum := sha256.Sum256([]byte("luna/" + node + "/" + iface))
	id := sum[:16]
	id[6] = id[6]&0x0f | 0x80
	id[8] = id[8]&0x3f | 0x80
	return fmt.Sprintf("%x-%x-%x-%x-%x", id[:4], id[4:6], id[6:8], id[8:10], id[10:])
}

// renderIfcfg writes ifcfg files, under the names of 1.2: ifcfg-NIC with the
// real name of the interface that booted. In these files the last line of a name
// counts, so params may say everything otherwise.
func renderIfcfg(_ tree, p boot.Plan, booted nic) []file {
	var files []file
	for _, i := range p.Interfaces {
		name := realName(i, booted)
		if name == "" {
			continue
		}
		kind, proto := "Ethernet", "none"
		if isInfiniBand(i, booted) {
			kind = "InfiniBand"
		}
		if wantsDHCP(i) {
			proto = "dhcp"
		}
		var b strings.Builder
		fmt.Fprintf(&b, "%sDEVICE=%s\nNAME=%s\nTYPE=%s\nONBOOT=yes\nBOOTPROTO=%s\n", header(p), name, name, kind, proto)
		b.WriteString(ifcfgAddresses(i))
		if i.Gateway.Is4() {
			fmt.Fprintf(&b, "GATEWAY=%s\n", i.Gateway)
		} else if i.Gateway.IsValid() {
			fmt.Fprintf(&b, "IPV6_DEFAULTGW=%s\n", i.Gateway)
		}
		for n, s := range i.DNS {
			fmt.Fprintf(&b, "DNS%d=%s\n", n+1, s)
		}
		if i.Domain != "" {
			fmt.Fprintf(&b, "DOMAIN=%s\n", i.Domain)
		}
		b.WriteString(lines(i.Params))
		files = append(files, file{"etc/sysconfig/network-scripts/ifcfg-" + name, b.String(), 0o644})
	}
	return files
}

// ifcfgAddresses writes the first address of IPv4 without a number, the others
// with, and all of IPv6 but the first into one line.
func ifcfgAddresses(i boot.PlanInterface) string {
	var b strings.Builder
	var six []string
	var four int
	for _, a := range i.Addresses {
		if a.Addr().Is6() {
			six = append(six, a.String())
			continue
		}
		number := ""
		if four > 0 {
			number = strconv.Itoa(four)
		}
		four++
		mask := net.IP(net.CIDRMask(a.Bits(), 32))
		fmt.Fprintf(&b, "IPADDR%s=%s\nPREFIX%s=%d\nNETMASK%s=%s\n", number, a.Addr(), number, a.Bits(), number, mask)
	}
	if six != nil {
		fmt.Fprintf(&b, "IPV6INIT=yes\nIPV6ADDR=%s\n", six[0])
		if len(six) > 1 {
			fmt.Fprintf(&b, "IPV6ADDR_SECONDARIES=\"%s\"\n", strings.Join(six[1:], " "))
		}
	}
	return b.String()
}

// renderInterfaces writes one file for ifupdown: interfaces(5).
func renderInterfaces(t tree, p boot.Plan, booted nic) []file {
	var b strings.Builder
	b.WriteString(header(p))
	for _, i := range p.Interfaces {
		name := realName(i, booted)
		if name == "" {
			continue
		}
		fmt.Fprintf(&b, "\nauto %s\n", name)
		options := interfacesOptions(i)
		switch {
		case wantsDHCP(i):
			fmt.Fprintf(&b, "iface %s inet dhcp\n%s", name, options)
		case len(i.Addresses) == 0:
			fmt.Fprintf(&b, "iface %s inet manual\n%s", name, options)
		}
		for n, a := range i.Addresses {
			family := "inet"
			if a.Addr().Is6() {
				family = "inet6"
			}
			fmt.Fprintf(&b, "iface %s %s static\n\taddress %s\n", name, family, a)
			if i.Gateway.IsValid() && i.Gateway.Is4() == a.Addr().Is4() {
				fmt.Fprintf(&b, "\tgateway %s\n", i.Gateway)
				i.Gateway = netip.Addr{} // a second default route would be refused
			}
			if n == 0 {
				b.WriteString(options)
			}
		}
	}
	const main = "etc/network/interfaces"
	files := []file{{main + ".d/luna", b.String(), 0o644}}
	// Without this line the file is not read. Debian's own has it.
	text, err := t.root.ReadFile(main)
	if err != nil {
		text = []byte("auto lo\niface lo inet loopback\n")
	}
	if !strings.Contains(string(text), "/etc/network/interfaces.d") {
		files = append(files, file{main, strings.TrimRight(string(text), "\n") + "\n\nsource /etc/network/interfaces.d/*\n", 0o644})
	}
	return files
}

// interfacesOptions are the lines of a stanza that are not addresses.
func interfacesOptions(i boot.PlanInterface) string {
	var b strings.Builder
	if len(i.DNS) > 0 {
		b.WriteString("\tdns-nameservers")
		for _, s := range i.DNS {
			b.WriteString(" " + s.String())
		}
		b.WriteString("\n")
	}
	if i.Domain != "" {
		fmt.Fprintf(&b, "\tdns-search %s\n", i.Domain)
	}
	for line := range strings.Lines(lines(i.Params)) {
		b.WriteString("\t" + strings.TrimLeft(line, " \t"))
	}
	return b.String()
}

// isInfiniBand tells what the kernel would say of the interface, by what is
// known of the one that booted and by the kernel's names for the others.
func isInfiniBand(i boot.PlanInterface, booted nic) bool {
	if i.Name == bootif {
		return booted.infiniband
	}
	return strings.HasPrefix(i.Name, "ib")
}
