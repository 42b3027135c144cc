package installer

import (
	"cmp"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"net/url"
	"path"
	"strings"
)

// Boot is what the boot script of a head tells a node on the kernel's command
// line. Under the names of Luna 1.2, and luna.token and luna.heads beside them.
type Boot struct {
	// Node is the node's name in the inventory (luna.node).
	Node string
	// Hostname is the name with its domain (luna.hostname); the node's name
	// where it is missing. The plan's takes its place.
	Hostname string
	// MAC is the hardware address of the interface that booted (luna.mac, or
	// the BOOTIF of a PXELINUX); nil when nobody told it.
	MAC net.HardwareAddr
	// Address is what that interface gets (luna.ip); the zero value asks DHCP.
	Address netip.Prefix
	// Heads are "address:port" of the heads, in this node's order, those that were
	// alive at boot first (luna.heads, or the host of luna.url); never empty.
	Heads []string
	// HTTPS asks the heads over TLS (the scheme of luna.url).
	HTTPS bool
	// Version is the osimage's version whose kernel this is (luna.version); "" where
	// an older head wrote the command line.
	Version string
	// Token proves to the heads that this is the node, in this boot (luna.token).
	Token string
	// Service asks for a shell before the installation (luna.service=1).
	Service bool
	// Console is the terminal of that shell (luna.ctty); /dev/console if missing.
	Console string
}

// ParseCmdline reads the kernel's command line, the content of /proc/cmdline.
// Of a name that is there twice the last one counts, as for the kernel. The
// error names what is missing or malformed.
func ParseCmdline(line string) (Boot, error) {
	args := map[string]string{}
	for _, word := range strings.Fields(line) {
		name, value, _ := strings.Cut(word, "=")
		args[name] = value
	}
	if args["root"] != "luna" {
		return Boot{}, fmt.Errorf("kernel command line: root=%s is not root=luna: no boot script of Luna started this kernel", args["root"])
	}
	b := Boot{
		Node:     args["luna.node"],
		Hostname: args["luna.hostname"],
		Token:    args["luna.token"],
		Version:  args["luna.version"],
		HTTPS:    strings.HasPrefix(args["luna.url"], "https://"),
		Service:  args["luna.service"] == "1",
		Console:  args["luna.ctty"],
	}
	if b.Node == "" {
		return Boot{}, errors.New("kernel command line: luna.node is missing")
	}
	if b.Hostname == "" {
		b.Hostname = b.Node
	}
	b.Console = "/dev/" + path.Base(cmp.Or(b.Console, "console")) // "ttyS1" will do
	var err error
	if b.Heads, err = parseHeads(args["luna.heads"], args["luna.url"]); err != nil {
		return Boot{}, fmt.Errorf("kernel command line: %w", err)
	}
	if b.MAC, err = parseMAC(args["luna.mac"], args["BOOTIF"]); err != nil {
		return Boot{}, fmt.Errorf("kernel command line: %w", err)
	}
	switch proto := args["luna.bootproto"]; proto {
	case "dhcp", "":
	case "static":
		if b.Address, err = netip.ParsePrefix(args["luna.ip"]); err != nil {
			return Boot{}, fmt.Errorf("kernel command line: luna.bootproto=static needs luna.ip=ADDRESS/PREFIX: %w", err)
		}
		if b.MAC == nil {
			return Boot{}, errors.New("kernel command line: luna.bootproto=static needs luna.mac")
		}
	default:
		return Boot{}, fmt.Errorf("kernel command line: luna.bootproto=%s is neither static nor dhcp", proto)
	}
	return b, nil
}

// parseHeads reads luna.heads, or takes the one head that luna.url names: an
// administrator may have written a boot script of 1.2 by hand.
func parseHeads(list, lunaURL string) ([]string, error) {
	if list == "" {
		u, err := url.Parse(lunaURL)
		if err != nil || u.Host == "" {
			return nil, fmt.Errorf("neither luna.heads=ADDRESS:PORT,... nor luna.url names a head (luna.url=%q)", lunaURL)
		}
		list = u.Host
	}
	heads := strings.Split(list, ",")
	for _, head := range heads {
		if host, port, err := net.SplitHostPort(head); err != nil || host == "" || port == "" {
			return nil, fmt.Errorf("head %q is not ADDRESS:PORT", head)
		}
	}
	return heads, nil
}

// parseMAC reads luna.mac, or the BOOTIF=01-aa-bb-cc-dd-ee-ff that PXELINUX and
// petitboot append, whose first octet is the hardware type.
func parseMAC(mac, bootif string) (net.HardwareAddr, error) {
	name := "luna.mac"
	if mac == "" && bootif != "" {
		name = "BOOTIF"
		_, mac, _ = strings.Cut(bootif, "-")
	}
	if mac == "" {
		return nil, nil
	}
	hw, err := net.ParseMAC(mac)
	if err != nil || len(hw) != 6 {
		return nil, fmt.Errorf("%s: %q is not a hardware address of six octets", name, mac)
	}
	return hw, nil
}
