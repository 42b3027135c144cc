package inventory

import (
	"net/netip"
	"path/filepath"
	"regexp"
	"strings"
	"unicode"
)

// MaxScript bounds a script and any other long text, in bytes: state is held in
// memory by every head.
const MaxScript = 4 << 20

func checkNaming(prefix string, digits int) error {
	if err := CheckName("node", prefix+"1"); err != nil {
		return err
	}
	if digits < 1 || digits > 9 {
		return invalid("cluster", "general", "nodedigits should be in the range [1..9], not %d", digits)
	}
	return nil
}

// CheckPrefix refuses a network that has no room for two addresses or none for
// its name server: 1..30 for IPv4, 1..126 for IPv6, as in 1.2.
func CheckPrefix(name string, p netip.Prefix) error {
	top := 30
	if p.Addr().Is6() {
		top = 126
	}
	switch {
	case !p.IsValid():
		return invalid("network", name, "the network needs an address and a prefix, as in 10.30.0.0/16")
	case p.Addr().Is4In6() || p.Addr().Zone() != "":
		return invalid("network", name, "'%s' is no network address", p.Addr())
	case p.Bits() < 1 || p.Bits() > top:
		return invalid("network", name, "Prefix should be in the range [1..%d]", top)
	}
	return nil
}

func checkPath(image, path string) error {
	if !filepath.IsAbs(path) {
		return invalid("osimage", image, "the path of the osimage must be absolute, not '%s'", path)
	}
	return nil
}

// checkKernopts keeps the kernel command line one line: it stands in scripts.
func checkKernopts(image, opts string) error {
	if strings.ContainsAny(opts, "\n\r\x00") {
		return invalid("osimage", image, "the kernel options must be one line")
	}
	return nil
}

// checkNameServer refuses what cannot name the name server of a network.
func checkNameServer(network, name string) error {
	if err := CheckName("name server", name); err != nil {
		return invalid("network", network, "%v", err)
	}
	return nil
}

// checkPort refuses what cannot be the name or the number of a switch's port:
// it is compared with what the switch says, and stands in one cell of a table.
func checkPort(node string, port *string) error {
	if port != nil && (len(*port) > 255 || strings.ContainsFunc(*port, func(r rune) bool { return !unicode.IsPrint(r) })) {
		return invalid("node", node, "%q cannot be a switch's port: it is one line of at most 255 characters", *port)
	}
	return nil
}

// checkTexts refuses what is too long to keep.
func checkTexts(object, name string, texts ...*string) error {
	for _, s := range texts {
		if s != nil && len(*s) > MaxScript {
			return invalid(object, name, "the text is %d bytes long: at most %d are kept", len(*s), MaxScript)
		}
	}
	return nil
}

// checkNames refuses a list of names in which one is malformed or there twice.
func checkNames(object string, names []string) error {
	if len(names) == 0 {
		return invalid(object, "", "no %s is named", object)
	}
	seen := make(map[string]bool, len(names))
	for _, n := range names {
		if err := CheckName(object, n); err != nil {
			return err
		}
		if seen[n] {
			return Exists(object, n)
		}
		seen[n] = true
	}
	return nil
}

// checkDoubles refuses a list in which a name stands twice: what is done to the
// object then would be done to it twice, the second time as to another one.
func checkDoubles(object string, names []string) error {
	seen := make(map[string]bool, len(names))
	for _, n := range names {
		if seen[n] {
			return invalid(object, n, "%s '%s' is named twice", object, n)
		}
		seen[n] = true
	}
	return nil
}

// tagRE is stricter than a name: a tag stands in selections.
var tagRE = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9._-]*$`)

// CheckTag refuses what cannot be a node's tag.
func CheckTag(node, tag string) error {
	if len(tag) > MaxName || !tagRE.MatchString(tag) {
		return invalid("node", node, "'%s' cannot be a tag: use letters, digits, '.', '_' and '-', at most %d, and begin with a letter or digit", tag, MaxName)
	}
	return nil
}
