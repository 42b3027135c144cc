package installer

import (
	"fmt"
	"io/fs"
	"log/slog"
	"slices"
	"strings"

	"github.com/clustervision/luna/boot"
)

// file is one to be written into the tree.
type file struct {
	path string
	text string
	mode fs.FileMode
}

// manager is what configures the network of the installed system, and how it
// wants to be told.
type manager struct {
	name string
	// unit is what systemd starts when the manager is in use; "" if its being
	// there is enough.
	unit string
	// there tells whether the tree has it.
	there func(tree) bool
	// own is a pattern of the files that an earlier installation wrote, such as
	// that of the node from which the image was grabbed; "" if only files of
	// given names are written.
	own string
	// render writes the files for all interfaces.
	render func(tree, boot.Plan, nic) []file
	// resolv tells that /etc/resolv.conf is ours to write.
	resolv bool
}

// managers in the order in which one is chosen if none is enabled.
func managers() []manager {
	return []manager{
		{
			name: "ifcfg", there: legacyIfcfg, render: renderIfcfg,
		},
		{
			name: "NetworkManager", unit: "NetworkManager.service",
			there: func(t tree) bool {
				// Until RHEL 8 it reads ifcfg files first; two profiles of one interface would fight.
				return t.has("usr/sbin/NetworkManager", "usr/bin/NetworkManager") && !legacyIfcfg(t)
			},
			own: "etc/NetworkManager/system-connections/luna-*.nmconnection", render: renderKeyfiles,
		},
		{
			name: "ifupdown", unit: "networking.service",
			// ifup alone is also on RHEL.
			there:  func(t tree) bool { return t.has("usr/sbin/ifup", "sbin/ifup") && t.has("etc/network") },
			render: renderInterfaces, resolv: true,
		},
		{
			name: "systemd-networkd", unit: "systemd-networkd.service",
			there: func(t tree) bool {
				return t.has("usr/lib/systemd/systemd-networkd", "lib/systemd/systemd-networkd")
			},
			own: "etc/systemd/network/10-luna-*.network", render: renderNetworkd, resolv: true,
		},
	}
}

// legacyIfcfg tells whether ifcfg files are what the tree's network is made of:
// RHEL up to 8. RHEL 9 still has the folder, and a file in it that says to write
// keyfiles.
func legacyIfcfg(t tree) bool {
	const dir = "etc/sysconfig/network-scripts"
	return t.has(dir) && !t.has(dir+"/readme-ifcfg-rh.txt")
}

// setnet writes hostname and network of the node into the tree. It writes the
// same whenever it is called, and leaves /etc/machine-id alone: an empty one is
// systemd's sign to make one.
func setnet(t tree, p boot.Plan, booted nic, log *slog.Logger) error {
	if err := t.write("etc/hostname", p.Hostname+"\n", 0o644); err != nil {
		return err
	}
	p.Interfaces = configurable(p.Interfaces, booted)
	used, err := inUse(t, log)
	if err != nil {
		return err
	}
	if len(used) == 0 {
		log.Warn("the image has no network manager that is known, its network is not configured",
			"known", "NetworkManager, systemd-networkd, ifcfg, ifupdown")
	}
	for _, m := range used {
		if err := m.write(t, p, booted); err != nil {
			return err
		}
		log.Info("network written", "manager", m.name)
	}
	return nil
}

// write writes the manager's files and removes those of an earlier installation.
func (m manager) write(t tree, p boot.Plan, booted nic) error {
	files := m.render(t, p, booted)
	if m.resolv {
		files = append(files, renderResolv(t, p)...)
	}
	if m.own != "" {
		var keep []string
		for _, f := range files {
			keep = append(keep, f.path)
		}
		if err := t.removeOthers(m.own, keep); err != nil {
			return err
		}
	}
	for _, f := range files {
		if err := t.write(f.path, f.text, f.mode); err != nil {
			return err
		}
	}
	return nil
}

// configurable leaves out what is not the operating system's: the BMC has its
// own network, and BOOTIF is nobody when it is not known which interface booted.
func configurable(all []boot.PlanInterface, booted nic) []boot.PlanInterface {
	return slices.DeleteFunc(slices.Clone(all), func(i boot.PlanInterface) bool {
		return i.Name == "BMC" || i.Name == bootif && i.MAC == "" && booted.name == ""
	})
}

// inUse returns the managers that the tree starts at boot. When it starts none,
// as a tree fresh from debootstrap, the first that it has is enabled: a node
// without network is never what was meant.
func inUse(t tree, log *slog.Logger) ([]manager, error) {
	var there, used []manager
	for _, m := range managers() {
		if !m.there(t) {
			continue
		}
		there = append(there, m)
		if m.unit == "" || t.enabled(m.unit) {
			used = append(used, m)
		}
	}
	if len(used) > 0 || len(there) == 0 {
		return used, nil
	}
	log.Info("the image enables no network manager, it is enabled", "manager", there[0].name)
	return there[:1], t.enable(there[0].unit)
}

// bootif is the name in the inventory of the interface that booted.
const bootif = "BOOTIF"

// realName is what the kernel calls the interface.
func realName(i boot.PlanInterface, booted nic) string {
	if i.Name == bootif {
		return booted.name
	}
	return i.Name
}

// byMAC tells whether the interface is best found by its MAC, which it keeps
// whatever the installed system calls it. That of an InfiniBand port is not the
// one in the plan.
func byMAC(i boot.PlanInterface, booted nic) bool {
	return i.Name == bootif && i.MAC != "" && !booted.infiniband
}

// header begins every file.
func header(p boot.Plan) string {
	return fmt.Sprintf("# Written by luna-install for node %s. The next installation writes it anew.\n", p.Node)
}

// lines is the administrator's text, ending in a newline unless it is empty.
func lines(params string) string {
	params = strings.TrimSpace(strings.ReplaceAll(params, "\r\n", "\n"))
	if params == "" {
		return ""
	}
	return params + "\n"
}

// renderResolv gives name servers to systems whose network manager writes none,
// unless resolv.conf is a link: then somebody else, such as systemd-resolved,
// writes it. What stands there otherwise is from where the image was made.
func renderResolv(t tree, p boot.Plan) []file {
	const path = "etc/resolv.conf"
	if st, err := t.root.Lstat(path); err == nil && !st.Mode().IsRegular() {
		return nil
	}
	var search, servers []string
	for _, i := range p.Interfaces {
		if i.Domain != "" && !slices.Contains(search, i.Domain) {
			search = append(search, i.Domain)
		}
		for _, s := range i.DNS {
			if line := "nameserver " + s.String() + "\n"; !slices.Contains(servers, line) {
				servers = append(servers, line)
			}
		}
	}
	if servers == nil {
		return nil
	}
	text := header(p)
	if search != nil {
		text += "search " + strings.Join(search, " ") + "\n"
	}
	return []file{{path, text + strings.Join(servers, ""), 0o644}}
}
