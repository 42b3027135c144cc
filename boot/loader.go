package boot

import (
	"encoding/binary"
	"io"
	"os"
	"path/filepath"
	"slices"
)

// Arch is a machine's processor and firmware, as it says itself in DHCP option
// 93 (RFC 4578 §2.1, RFC 5970 §3.3, and IANA's registry after them).
type Arch uint16

// The architectures that Luna tells apart.
const (
	ArchBIOS      Arch = 0  // x86 with a BIOS
	ArchX64       Arch = 7  // x86-64 with UEFI, as firmware uses the number
	ArchX64Alt    Arch = 9  // x86-64 with UEFI, as RFC 4578 printed it before its erratum: some firmware believed it
	ArchARM64     Arch = 11 // arm64 with UEFI
	ArchOPAL      Arch = 14 // OpenPOWER: petitboot, which asks TFTP for pxelinux.cfg/01-<mac> and must get no file name
	ArchX64HTTP   Arch = 16 // x86-64, UEFI HTTP boot
	ArchARM64HTTP Arch = 19 // arm64, UEFI HTTP boot
)

// A loader is a build of iPXE under the name by which heads serve it.
type loader struct {
	name    string
	arches  []Arch
	machine uint16   // the processor in its PE header; 0: it has none
	files   []string // its names in the distributions, relative to their directories
}

// Processors in a PE header (Microsoft PE and COFF specification, "Machine Types").
const (
	peX64   = 0x8664
	peARM64 = 0xaa64
)

// loaderTable lists the loaders, for each architecture the preferred one first.
//
// Those that drive the NIC through the firmware's own driver (undionly,
// snponly) come first: the firmware has just proved that this driver works on
// this NIC, while the drivers inside ipxe.efi are as old as the distribution's
// build (2019 in Debian 12). They open only the NIC that the machine booted
// from, so ${netX} cannot be another one, and they are a fifth of the size,
// which counts where the transport is TFTP. ipxe.efi and ipxe.pxe are there
// for a head whose distribution ships nothing else.
//
// The names differ by distribution: Debian and Ubuntu have snponly.efi and
// ipxe-arm64.efi in /usr/lib/ipxe, the RHEL family ipxe-snponly-x86_64.efi and
// arm64-efi/snponly.efi in /usr/share/ipxe.
var loaderTable = []loader{
	{"undionly.kpxe", []Arch{ArchBIOS}, 0, []string{"undionly.kpxe"}},
	{"ipxe.pxe", []Arch{ArchBIOS}, 0, []string{"ipxe.pxe"}},
	{"snponly.efi", []Arch{ArchX64, ArchX64Alt, ArchX64HTTP}, peX64, []string{"snponly.efi", "ipxe-snponly-x86_64.efi", "snponly-x86_64.efi"}},
	{"ipxe.efi", []Arch{ArchX64, ArchX64Alt, ArchX64HTTP}, peX64, []string{"ipxe.efi", "ipxe-x86_64.efi", "ipxe-amd64.efi"}},
	{"snponly-arm64.efi", []Arch{ArchARM64, ArchARM64HTTP}, peARM64, []string{"snponly-arm64.efi", "arm64-efi/snponly.efi", "ipxe-snponly-aarch64.efi", "snponly.efi"}},
	{"ipxe-arm64.efi", []Arch{ArchARM64, ArchARM64HTTP}, peARM64, []string{"ipxe-arm64.efi", "arm64-efi/ipxe.efi", "ipxe-aarch64.efi", "ipxe.efi"}},
}

// LoaderDirs are the directories in which distributions keep iPXE.
func LoaderDirs() []string { return []string{"/usr/lib/ipxe", "/usr/share/ipxe", "/boot"} }

// Loaders are the loaders that are installed on this head: the name by which
// they are served, and the path of the file.
type Loaders map[string]string

// FindLoaders looks what is there; the first directory that has a loader wins.
// An EFI program for another processor is passed over, for the same name means
// another one on another head: /boot/ipxe.efi of an arm64 head is for arm64.
func FindLoaders(dirs ...string) Loaders {
	found := Loaders{}
	for _, l := range loaderTable {
		if path, ok := l.find(dirs); ok {
			found[l.name] = path
		}
	}
	return found
}

func (l loader) find(dirs []string) (path string, ok bool) {
	for _, dir := range dirs {
		for _, file := range l.files {
			path := filepath.Join(dir, file)
			if l.fits(path) {
				return path, true
			}
		}
	}
	return "", false
}

// fits tells whether the file is there, can be read, and is for the loader's
// processor.
func (l loader) fits(path string) bool {
	f, err := os.Open(path)
	if err != nil {
		return false
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil || !info.Mode().IsRegular() {
		return false
	}
	return l.machine == 0 || l.machine == peMachine(f)
}

// peMachine gives the processor that an EFI program is for, 0 if it is none:
// "MZ", at 0x3c the offset of "PE\0\0", and after that the number.
func peMachine(r io.ReaderAt) uint16 {
	var dos [0x40]byte
	var pe [6]byte
	if _, err := r.ReadAt(dos[:], 0); err != nil || string(dos[:2]) != "MZ" {
		return 0
	}
	at := binary.LittleEndian.Uint32(dos[0x3c:])
	if _, err := r.ReadAt(pe[:], int64(at)); err != nil || string(pe[:4]) != "PE\x00\x00" {
		return 0
	}
	return binary.LittleEndian.Uint16(pe[4:])
}

// For gives the name of the best installed loader for the architecture, and
// false where there is none, or the architecture is none that loads iPXE.
func (l Loaders) For(arch Arch) (name string, ok bool) {
	for _, k := range loaderTable {
		if slices.Contains(k.arches, arch) && l[k.name] != "" {
			return k.name, true
		}
	}
	return "", false
}

// lookup gives the path of what is served under the name. luna_undionly.kpxe
// and luna_ipxe.efi are the names of Luna 1.2, which stand in the dhcpd.conf of
// sites that keep their own DHCP server.
func (l Loaders) lookup(name string) (path string, ok bool) {
	switch name {
	case "luna_undionly.kpxe":
		name, ok = l.For(ArchBIOS)
	case "luna_ipxe.efi":
		name, ok = l.For(ArchX64)
	default:
		ok = true
	}
	path = l[name]
	return path, ok && path != ""
}
