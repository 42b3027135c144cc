package boot

import (
	"net/netip"

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
