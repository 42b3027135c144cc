package boot

import (
	"encoding/binary"
	"net/netip"
	"strings"

	"github.com/clustervision/luna/inventory"
)

// Firmware says how far a machine has come, and so what it can do with an
// answer.
type Firmware int

// The kinds of firmware.
const (
	NoFirmware Firmware = iota // an operating system, or the installer: it wants an address and no more
	PXE                        // a PXE ROM or UEFI PXE: loads one file by TFTP (option 60 "PXEClient")
	HTTPBoot                   // UEFI HTTP boot: loads one file from a URL (option 60 "HTTPClient")
	IPXE                       // iPXE, from a ROM or loaded before: runs a script from a URL (option 77 "iPXE")
)

// Machine is a machine that asks to boot, as far as its request tells.
type Machine struct {
	MAC      inventory.MAC // its identity: a client identifier differs between firmware, iPXE and OS
	Network  inventory.ID  // the network on which it asks
	Firmware Firmware
	Arch     Arch
	// Reached tells that a broadcast of the machine reaches the heads, as no
	// relay stands between, and that they answer TFTP by broadcast there: see
	// Site.FirstScript.
	Reached bool
}

// Spec is what a machine is offered.
type Spec struct {
	Node    *inventory.Node // nil: no node claims the machine
	Address netip.Addr      // the node's address on that network; zero: the machine is unknown there
	Server  netip.Addr      // this head, as that network reaches it
	File    string          // a loader's name for TFTP, or a URL; "": nothing to load
}

// Decide tells what to offer to a machine. It is the answer of DHCP, computed
// from the inventory alone, so that every head gives the same address, and the
// same one to PXE, iPXE and the operating system of a node.
//
// A node that has no address on the network is unknown there: it gets what a
// stranger gets, and must not be kept out of the network for that.
func Decide(inv *inventory.Inventory, self *inventory.Head, loaders Loaders, m Machine) Spec {
	spec := Spec{Server: self.Address}
	if network, ok := inv.NetworkByID(m.Network); ok {
		spec.Server = addressOf(self, network.Prefix)
	}
	if n, ok := inv.NodeByMAC(m.MAC); ok {
		if a, ok := inv.BootAddress(n, m.Network); ok {
			spec.Node, spec.Address = n, a
		}
	}
	base := Scheme(inv) + "://" + hostPort(spec.Server, self)
	switch m.Firmware {
	case IPXE:
		spec.File = base + menuPath(m.MAC)
		if network, ok := inv.NetworkByID(m.Network); ok && m.Reached {
			if all := Broadcast(network.Prefix); all.IsValid() {
				spec.File = "tftp://" + all.String() + "/" + firstName(m.MAC)
			}
		}
	case HTTPBoot:
		if name, ok := loaders.For(m.Arch); ok {
			spec.File = base + "/boot/" + name
		}
	case PXE:
		spec.File, _ = loaders.For(m.Arch)
	case NoFirmware:
	}
	return spec
}

// menuPath is where a machine finds the menu that is made for it.
func menuPath(mac inventory.MAC) string {
	if mac == "" {
		return "/luna?step=boot"
	}
	return "/luna?step=boot&mac=" + string(mac)
}

// Broadcast gives the address by which everybody on an IPv4 network is reached
// (RFC 919); zero where the network has none.
func Broadcast(network netip.Prefix) netip.Addr {
	if !network.IsValid() || !network.Addr().Is4() || network.Bits() > 30 {
		return netip.Addr{}
	}
	a := network.Masked().Addr().As4()
	return netip.AddrFrom4([4]byte(binary.BigEndian.AppendUint32(nil, binary.BigEndian.Uint32(a[:])|(1<<(32-network.Bits())-1))))
}

// firstPrefix begins the name by which TFTP gives the first script of a machine.
const firstPrefix = "first/"

// firstName is under what name TFTP gives the machine its first script.
func firstName(mac inventory.MAC) string {
	return firstPrefix + strings.ReplaceAll(string(mac), ":", "-")
}

// addressOf gives the head's address on the network, or the one by which
// other heads reach it where it has none there: a router may know the way.
func addressOf(h *inventory.Head, network netip.Prefix) netip.Addr {
	if a, ok := h.AddressIn(network); network.IsValid() && ok {
		return a
	}
	return h.Address
}

func hostPort(a netip.Addr, h *inventory.Head) string {
	return netip.AddrPortFrom(a, uint16(h.HTTPPort)).String()
}
