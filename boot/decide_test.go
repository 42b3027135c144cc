package boot

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/clustervision/luna/inventory"
)

func TestDecide(t *testing.T) {
	inv := fixture()
	self, _ := inv.Head("h2")
	all := Loaders{"undionly.kpxe": "u", "ipxe.efi": "i", "snponly.efi": "s", "snponly-arm64.efi": "a"}
	const network = inventory.ID(10)
	for name, test := range map[string]struct {
		machine Machine
		loaders Loaders
		node    string
		address string
		file    string
	}{
		"BIOS":                          {Machine{macOne, network, PXE, ArchBIOS, false}, all, "node001", "10.30.0.1", "undionly.kpxe"},
		"UEFI":                          {Machine{macOne, network, PXE, ArchX64, false}, all, "node001", "10.30.0.1", "snponly.efi"},
		"UEFI by the other number":      {Machine{macOne, network, PXE, ArchX64Alt, false}, all, "node001", "10.30.0.1", "snponly.efi"},
		"UEFI, one loader":              {Machine{macOne, network, PXE, ArchX64, false}, Loaders{"ipxe.efi": "i"}, "node001", "10.30.0.1", "ipxe.efi"},
		"UEFI, no loader":               {Machine{macOne, network, PXE, ArchX64, false}, Loaders{}, "node001", "10.30.0.1", ""},
		"UEFI HTTP":                     {Machine{macOne, network, HTTPBoot, ArchX64HTTP, false}, all, "node001", "10.30.0.1", "http://10.30.0.252:7050/boot/snponly.efi"},
		"arm64":                         {Machine{macOne, network, PXE, ArchARM64, false}, all, "node001", "10.30.0.1", "snponly-arm64.efi"},
		"arm64 HTTP":                    {Machine{macOne, network, HTTPBoot, ArchARM64HTTP, false}, all, "node001", "10.30.0.1", "http://10.30.0.252:7050/boot/snponly-arm64.efi"},
		"OpenPOWER":                     {Machine{macOne, network, PXE, ArchOPAL, false}, all, "node001", "10.30.0.1", ""},
		"iPXE":                          {Machine{macOne, network, IPXE, ArchBIOS, false}, all, "node001", "10.30.0.1", "http://10.30.0.252:7050/luna?step=boot&mac=52:54:00:00:00:01"},
		"iPXE that broadcasts reach":    {Machine{macOne, network, IPXE, ArchBIOS, true}, all, "node001", "10.30.0.1", "tftp://10.30.255.255/first/52-54-00-00-00-01"},
		"OS":                            {Machine{macOne, network, NoFirmware, 0, false}, all, "node001", "10.30.0.1", ""},
		"unknown iPXE":                  {Machine{"52:54:00:00:00:99", network, IPXE, ArchBIOS, false}, all, "", "invalid IP", "http://10.30.0.252:7050/luna?step=boot&mac=52:54:00:00:00:99"},
		"unknown BIOS":                  {Machine{"52:54:00:00:00:99", network, PXE, ArchBIOS, false}, all, "", "invalid IP", "undionly.kpxe"},
		"IPv6 node":                     {Machine{macSix, network, NoFirmware, 0, false}, all, "", "invalid IP", ""},
		"on its other network, not BMC": {Machine{macOne, 11, NoFirmware, 0, false}, all, "node001", "10.31.0.1", ""},
	} {
		t.Run(name, func(t *testing.T) {
			spec := Decide(inv, self, test.loaders, test.machine)
			node := ""
			if spec.Node != nil {
				node = spec.Node.Name
			}
			if node != test.node || spec.Address.String() != test.address || spec.File != test.file {
				t.Errorf("got %s %s %q, want %s %s %q", node, spec.Address, spec.File, test.node, test.address, test.file)
			}
			if spec.Server.String() != "10.30.0.252" {
				t.Errorf("the server is %s", spec.Server)
			}
		})
	}
}

func TestBroadcast(t *testing.T) {
	for network, want := range map[string]string{
		"10.30.0.0/16": "10.30.255.255", "10.30.4.17/22": "10.30.7.255", "192.168.1.0/30": "192.168.1.3",
		"192.168.1.0/31": "invalid IP", "10.0.0.1/32": "invalid IP", "fd00::/64": "invalid IP",
	} {
		if got := Broadcast(netip.MustParsePrefix(network)).String(); got != want {
			t.Errorf("%s: %s, want %s", network, got, want)
		}
	}
	if got := Broadcast(netip.Prefix{}); got.IsValid() {
		t.Errorf("no network has %s", got)
	}
}

// writePE writes the smallest file that looks like an EFI program.
func writePE(t *testing.T, path string, machine uint16) {
	t.Helper()
	b := make([]byte, 0x46)
	copy(b, "MZ")
	b[0x3c] = 0x40
	copy(b[0x40:], "PE\x00\x00")
	binary.LittleEndian.PutUint16(b[0x44:], machine)
	writeFile(t, path, b)
}

func writeFile(t *testing.T, path string, b []byte) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, b, 0o644); err != nil {
		t.Fatal(err)
	}
}

func TestFindLoaders(t *testing.T) {
	debian, redhat := t.TempDir(), t.TempDir()
	writeFile(t, debian+"/undionly.kpxe", []byte("x"))
	writePE(t, debian+"/snponly.efi", peX64)
	writePE(t, debian+"/ipxe-arm64.efi", peARM64)
	writePE(t, debian+"/ipxe.efi", peARM64) // of an arm64 head
	writePE(t, redhat+"/ipxe-snponly-x86_64.efi", peX64)
	writePE(t, redhat+"/arm64-efi/snponly.efi", peARM64)
	writeFile(t, redhat+"/ipxe-x86_64.efi", []byte("MZ, but no program"))

	got := FindLoaders(t.TempDir(), debian, redhat)
	want := Loaders{
		"undionly.kpxe": debian + "/undionly.kpxe", "snponly.efi": debian + "/snponly.efi",
		"ipxe-arm64.efi": debian + "/ipxe-arm64.efi", "snponly-arm64.efi": redhat + "/arm64-efi/snponly.efi",
	}
	if fmt.Sprint(got) != fmt.Sprint(want) {
		t.Errorf("got  %v\nwant %v", got, want)
	}
	if got := FindLoaders(redhat)["snponly.efi"]; got != redhat+"/ipxe-snponly-x86_64.efi" {
		t.Errorf("the RHEL family's name is not found: %q", got)
	}
	for name, want := range map[string]string{
		"undionly.kpxe": debian + "/undionly.kpxe", "luna_undionly.kpxe": debian + "/undionly.kpxe",
		"luna_ipxe.efi": debian + "/snponly.efi", "ipxe.efi": "", "": "", "../etc/passwd": "",
	} {
		if path, ok := got.lookup(name); path != want || ok != (want != "") {
			t.Errorf("lookup %q: got %q, %v, want %q", name, path, ok, want)
		}
	}
}

func TestOrderIsStableSpreadsAndMovesLittle(t *testing.T) {
	var heads []*inventory.Head
	for id := range inventory.ID(5) {
		heads = append(heads, &inventory.Head{ID: id + 1})
	}
	const machines = 5000
	first := map[inventory.ID]int{}
	second := map[inventory.ID]int{} // of those whose first is head 1
	for i := range machines {
		mac := inventory.MAC(fmt.Sprintf("52:54:00:00:%02x:%02x", i>>8, i&0xff))
		order := Order(mac, heads)
		shuffled := slices.Clone(heads)
		slices.Reverse(shuffled)
		if !slices.Equal(order, Order(mac, shuffled)) {
			t.Fatal("the order depends on the order of the list")
		}
		without := slices.DeleteFunc(slices.Clone(order), func(h *inventory.Head) bool { return h.ID == 1 })
		if !slices.Equal(without, Order(mac, heads[1:])) {
			t.Fatal("a head's death changes the order of the others")
		}
		first[order[0].ID]++
		if order[0].ID == 1 {
			second[order[1].ID]++
		}
	}
	for id, n := range first {
		if math.Abs(float64(n)-machines/5) > machines/5*0.15 {
			t.Errorf("head %d is first for %d of %d machines", id, n, machines)
		}
	}
	for id, n := range second {
		if math.Abs(float64(n)-machines/20) > machines/20*0.3 {
			t.Errorf("head %d takes over %d of the dead head's machines: %v", id, n, second)
		}
	}
}

func TestToken(t *testing.T) {
	now := time.Date(2026, 9, 1, 12, 0, 0, 0, time.UTC)
	token := NewToken(bootKey, 51, now)
	if len(token) != 66 {
		t.Errorf("a token has %d characters", len(token))
	}
	for name, test := range map[string]struct {
		key   []byte
		token string
		node  inventory.ID
		now   time.Time
		want  error
	}{
		"fresh":              {bootKey, token, 51, now, nil},
		"almost too old":     {bootKey, token, 51, now.Add(TokenLife), nil},
		"clock went back":    {bootKey, token, 51, now.Add(-TokenLife), nil},
		"too old":            {bootKey, token, 51, now.Add(TokenLife + time.Second), ErrTokenExpired},
		"too far back":       {bootKey, token, 51, now.Add(-TokenLife - time.Second), ErrTokenExpired},
		"another node":       {bootKey, token, 52, now, ErrTokenWrong},
		"another cluster":    {[]byte("fedcba9876543210fedcba9876543210"), token, 51, now, ErrTokenWrong},
		"no key":             {nil, NewToken(nil, 51, now), 51, now, ErrTokenWrong},
		"none":               {bootKey, "", 51, now, ErrTokenMissing},
		"not base64":         {bootKey, "?", 51, now, ErrTokenWrong},
		"cut off":            {bootKey, token[:60], 51, now, ErrTokenWrong},
		"another version":    {bootKey, "Ag" + token[2:], 51, now, ErrTokenWrong},
		"another node's ID":  {bootKey, token[:11] + "A" + token[12:], 51, now, ErrTokenWrong},
		"the word for masks": {bootKey, masked, 51, now, ErrTokenWrong},
	} {
		if err := CheckToken(test.key, test.token, test.node, test.now); !errors.Is(err, test.want) {
			t.Errorf("%s: got %v, want %v", name, err, test.want)
		}
	}
}
