package installer

import (
	"encoding/hex"
	"encoding/json"
	"fmt"
	"strings"

	"github.com/clustervision/luna/boot"
)

// parsePlan reads a plan and refuses one that is damaged, of another format, of
// another node, or without what an installation cannot do without. A field
// that is not known is passed over: a head may be newer than the initrd.
func parsePlan(data []byte, node string) (boot.Plan, error) {
	var p boot.Plan
	if err := json.Unmarshal(data, &p); err != nil {
		return p, fmt.Errorf("the plan of %d bytes is damaged: %w", len(data), err)
	}
	if p.Version != boot.PlanVersion {
		return p, fmt.Errorf("the plan has version %d, this luna-install knows version %d: pack the image again, so that its initrd is of the heads' release", p.Version, boot.PlanVersion)
	}
	if p.Node != node {
		return p, fmt.Errorf("the plan is for node %q, this is node %q", p.Node, node)
	}
	var missing []string
	for _, field := range []struct {
		name  string
		there bool
	}{
		{"hostname", p.Hostname != ""},
		{"osimage", p.OSImage != ""},
		{"image_version", p.ImageVersion != ""},
		{"heads", len(p.Heads) > 0},
		{"root.size", p.Root.Size > 0},
		{"root.unpacked_size", p.Root.UnpackedSize > 0},
		{"root.descriptor", len(p.Root.Descriptor) > 0 && string(p.Root.Descriptor) != "null"},
	} {
		if !field.there {
			missing = append(missing, field.name)
		}
	}
	if missing != nil {
		return p, fmt.Errorf("the plan has no %s", strings.Join(missing, ", no "))
	}
	if sum, err := hex.DecodeString(p.Root.SHA256); err != nil || len(sum) != 32 {
		return p, fmt.Errorf("the plan's root.sha256 %q is not a SHA-256 in hex", p.Root.SHA256)
	}
	if strings.ContainsAny(p.Hostname, " \t\r\n/") {
		return p, fmt.Errorf("the plan's hostname %q is not one", p.Hostname)
	}
	for _, i := range p.Interfaces {
		// The name becomes part of file names and of lines in the tree.
		if i.Name == "" || i.Name == "." || i.Name == ".." || strings.ContainsAny(i.Name, " \t\r\n/") {
			return p, fmt.Errorf("the plan's interface %q has no name that the kernel would take", i.Name)
		}
	}
	return p, nil
}
