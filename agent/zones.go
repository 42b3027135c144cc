package agent

import (
	"context"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"slices"
	"strings"
	"time"

	"github.com/clustervision/luna/api"
	"github.com/clustervision/luna/boot/dhcp"
	"github.com/clustervision/luna/dns"
	"github.com/clustervision/luna/inventory"
)

// Zones gives the DNS zones as files for BIND and, if asked to, puts them where
// the cluster's settings say and has BIND read them. A head without that
// directory has no BIND: then it is said, and nothing written.
func (a *Agent) Zones(ctx context.Context, write bool) (api.Exported, error) {
	inv := a.View()
	c, ok := inv.Cluster()
	if !ok || c.Deleted {
		return api.Exported{}, inventory.NotFound("cluster", "general")
	}
	settings := inventory.DefaultServices()
	dir, include := *settings.NamedZoneDir, *settings.NamedIncludeFile
	if c.Services.NamedZoneDir != nil {
		dir = *c.Services.NamedZoneDir
	}
	if c.Services.NamedIncludeFile != nil {
		include = *c.Services.NamedIncludeFile
	}
	files, notices, err := dns.Files(inv, include, dir)
	if err != nil {
		return api.Exported{}, err
	}
	out := api.Exported{Files: []api.ExportedFile{}, Notices: []string{}}
	for _, n := range notices {
		out.Notices = append(out.Notices, "network '"+n.Network+"': "+n.Text)
	}
	st, err := os.Stat(dir)
	there := err == nil && st.IsDir()
	if write && !there {
		out.Notices = append(out.Notices, fmt.Sprintf("nothing is written: this head has no directory %s (named_zone_dir); --export DIR writes the files elsewhere", dir))
		return out, nil
	}
	for _, f := range files {
		out.Files = append(out.Files, api.ExportedFile{Path: f.Path, Content: f.Text, Changed: there && !f.InPlace()})
	}
	if write {
		if err := dns.Write(files, dir); err != nil {
			return api.Exported{}, err
		}
		out.Notices = append(out.Notices, reloadBIND(ctx)...)
	}
	return out, nil
}

// bindUnits are the names of BIND's unit on RHEL, with and without a chroot, and
// on Debian.
var bindUnits = []string{"named.service", "named-chroot.service", "bind9.service"}

// reloadBIND has a BIND that runs on this head read its zones anew; it says so
// where that failed.
func reloadBIND(ctx context.Context) []string {
	if _, err := exec.LookPath("systemctl"); err != nil {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	for _, unit := range bindUnits {
		if exec.CommandContext(ctx, "systemctl", "is-active", "--quiet", unit).Run() != nil {
			continue
		}
		if b, err := exec.CommandContext(ctx, "systemctl", "reload", unit).CombinedOutput(); err != nil {
			return []string{fmt.Sprintf("%s could not be reloaded (%v: %s): see `systemctl status %s`", unit, err, strings.TrimSpace(string(b)), unit)}
		}
		return nil
	}
	return []string{"no BIND runs on this head: start it to serve the zones"}
}

// checkIncludes refuses lines of a zone that no name server would load, while
// the one who wrote them, for these networks, is there.
func (a *Agent) checkIncludes(c inventory.Command, networks ...string) error {
	if len(networks) == 0 {
		return nil
	}
	m, err := a.self()
	if err != nil {
		return err
	}
	r, _, then := m.machine.Preview(inventory.Envelope{Command: c})
	if r.Error != nil {
		return r.Error
	}
	_, notices := dns.Zones(then)
	for _, n := range notices {
		if n.Fault && slices.Contains(networks, n.Network) {
			return inventory.Errorf(inventory.KindInvalid, "network", n.Network, "%s", n.Text)
		}
	}
	return nil
}

// DHCPConfig gives the inventory as a configuration of ISC's dhcpd.
func (a *Agent) DHCPConfig(failover bool) (api.Exported, error) {
	out := api.Exported{Files: []api.ExportedFile{}, Notices: []string{}}
	files, err := dhcp.ExportDHCPD(a.View(), failover)
	for _, name := range slices.Sorted(maps.Keys(files)) {
		out.Files = append(out.Files, api.ExportedFile{Path: name, Content: files[name]})
	}
	return out, err
}
