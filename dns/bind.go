package dns

import (
	"fmt"
	"path/filepath"
	"regexp"
	"strings"

	"github.com/clustervision/luna/inventory"
)

// zoneSuffix ends the names of the zone files that are Luna's.
const zoneSuffix = ".luna.zone"

// File is a file for BIND.
type File struct {
	Path string // absolute
	Text string
}

// Files gives what BIND serves the zones from: for each a file ZONE.luna.zone in
// zoneDir, and last the file that named.conf is to include, with a stanza for
// each zone. Nobody may update or transfer them.
//
// It refuses (kind refused) where there is no network, (kind invalid) a path
// that cannot stand in BIND's configuration, and (kind invalid) a record of an
// include or rev_include that BIND would not load; the error names the network
// and the line of the first such record, the notices all of them.
func Files(inv *inventory.Inventory, includeFile, zoneDir string) ([]File, []Notice, error) {
	for _, p := range []struct{ field, path string }{{"named_include_file", includeFile}, {"named_zone_dir", zoneDir}} {
		if err := checkPath(p.field, p.path); err != nil {
			return nil, nil, err
		}
	}
	if strings.HasSuffix(includeFile, zoneSuffix) {
		return nil, nil, inventory.Errorf(inventory.KindInvalid, "cluster", "general", "named_include_file '%s' has the name of a zone file: it must not end in %s", includeFile, zoneSuffix)
	}
	zones, notices := Zones(inv)
	if _, any := first(inv); !any {
		return nil, nil, inventory.Errorf(inventory.KindRefused, "cluster", "general", "No networks configured in this cluster")
	}
	for _, n := range notices {
		if n.Fault {
			return nil, notices, inventory.Errorf(inventory.KindInvalid, "network", n.Network, "%s", n.Text)
		}
	}
	return bindFiles(zones, includeFile, zoneDir), notices, nil
}

func bindFiles(zones []Zone, includeFile, zoneDir string) []File {
	var files []File
	var stanzas strings.Builder
	stanzas.WriteString("// Made by luna from its inventory and written anew each time: change the inventory instead.\n")
	for _, z := range zones {
		name := strings.TrimSuffix(z.Name, ".")
		path := filepath.Join(zoneDir, name+zoneSuffix)
		files = append(files, File{path, z.Master()})
		// "master" and not "primary", for BIND 9.11. Names that Luna takes and
		// RFC 952 does not (node_1) are no reason to load nothing.
		fmt.Fprintf(&stanzas, "\nzone \"%s\" IN {\n\ttype master;\n\tfile \"%s\";\n\tallow-update { none; };\n\tallow-transfer { none; };\n\tcheck-names ignore;\n};\n", name, path)
	}
	return append(files, File{includeFile, stanzas.String()})
}

func first(inv *inventory.Inventory) (*inventory.Network, bool) {
	for n := range inv.Networks() {
		return n, true
	}
	return nil, false
}

// pathRE keeps out what would end a string in BIND's configuration.
var pathRE = regexp.MustCompile(`^/[^"\\\x00-\x1f\x7f]*$`)

func checkPath(field, path string) error {
	if path == "" {
		return inventory.Errorf(inventory.KindRefused, "cluster", "general", "%s is not set: set it with luna cluster change --%s PATH", field, field)
	}
	if !pathRE.MatchString(path) {
		return inventory.Errorf(inventory.KindInvalid, "cluster", "general", "%s '%s' must be an absolute path without quotes and backslashes", field, path)
	}
	return nil
}
