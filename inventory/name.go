package inventory

import (
	"encoding/json"
	"net"
	"net/netip"
	"regexp"
	"strings"
)

// nameRE is stricter than 1.2, which took anything: names end up in host
// names, file names, shell and iPXE scripts.
var nameRE = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9._-]*$`)

// MaxName is the longest name, the limit of a DNS label (RFC 1035 §2.3.4).
const MaxName = 63

// CheckName refuses what cannot name an object of the given type.
func CheckName(object, name string) error {
	switch {
	case name == "":
		return invalid(object, name, "a name for the %s is needed", object)
	case len(name) > MaxName:
		return invalid(object, name, "'%s' is too long for a %s name: at most %d characters", name, object, MaxName)
	case !nameRE.MatchString(name):
		return invalid(object, name, "'%s' cannot name a %s: use letters, digits, '.', '_' and '-', and begin with a letter or digit", name, object)
	}
	return nil
}

// MAC is a hardware address in lower case with colons, or empty.
type MAC string

// ParseMAC reads six octets in any of the usual spellings.
func ParseMAC(s string) (MAC, error) {
	hw, err := net.ParseMAC(strings.TrimSpace(s))
	if err != nil || len(hw) != 6 {
		return "", invalid("node", "", "Invalid MAC address '%s'", s)
	}
	return MAC(hw.String()), nil
}

// UnmarshalJSON accepts any spelling, so that a MAC in the inventory is always
// the canonical one.
func (m *MAC) UnmarshalJSON(b []byte) error {
	var s string
	if err := json.Unmarshal(b, &s); err != nil {
		return err
	}
	if s == "" {
		*m = ""
		return nil
	}
	p, err := ParseMAC(s)
	*m = p
	return err
}

// Hosts gives the first and the last assignable address of a network: all but
// the base and the last one, as in 1.2 (also for IPv6).
func Hosts(p netip.Prefix) (first, last netip.Addr) {
	first = p.Masked().Addr().Next()
	b := p.Masked().Addr().AsSlice()
	for i := p.Bits(); i < len(b)*8; i++ {
		b[i/8] |= 1 << (7 - i%8)
	}
	top, _ := netip.AddrFromSlice(b)
	return first, top.Prev()
}

// Move gives the address that has in the network "to" the offset that a has in
// the network "from". ok is false where it does not fit.
func Move(a netip.Addr, from, to netip.Prefix) (_ netip.Addr, ok bool) {
	if !a.IsValid() || a.BitLen() != to.Addr().BitLen() {
		return netip.Addr{}, false
	}
	b, base, dst := a.AsSlice(), from.Masked().Addr().AsSlice(), to.Masked().Addr().AsSlice()
	borrow, carry := 0, 0
	for i := len(b) - 1; i >= 0; i-- {
		off := int(b[i]) - int(base[i]) - borrow
		borrow = 0
		if off < 0 {
			off, borrow = off+256, 1
		}
		sum := int(dst[i]) + off + carry
		dst[i], carry = byte(sum), sum>>8
	}
	r, _ := netip.AddrFromSlice(dst)
	first, last := Hosts(to)
	return r, borrow == 0 && carry == 0 && first.Compare(r) <= 0 && r.Compare(last) <= 0
}
