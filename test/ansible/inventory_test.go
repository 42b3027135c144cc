package ansible

import (
	"encoding/json"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/clustervision/luna/test/site"
)

// listed is what ansible-inventory --list tells.
type listed struct {
	groups   map[string][]string // the hosts of each group, its children's too
	hostvars map[string]map[string]any
}

func (p *player) inventory(options ...string) listed {
	p.Helper()
	out, errs, err := p.run(append([]string{"ansible-inventory", "--list"}, options...)...)
	if err != nil {
		p.Fatalf("ansible-inventory: %v\n%s", err, errs)
	}
	var raw map[string]json.RawMessage
	must(p, json.Unmarshal([]byte(out), &raw))
	l := listed{groups: map[string][]string{}}
	var meta struct {
		Hostvars map[string]map[string]any `json:"hostvars"`
	}
	must(p, json.Unmarshal(raw["_meta"], &meta))
	l.hostvars = meta.Hostvars
	delete(raw, "_meta")
	for name, text := range raw {
		var g struct {
			Hosts    []string
			Children []string
		}
		must(p, json.Unmarshal(text, &g))
		l.groups[name] = slices.Sorted(slices.Values(g.Hosts))
	}
	return l
}

// inventories: what the plugin and the script of 1.2 tell is what luna node list tells.
func inventories(t *testing.T, p *player, h *site.Head) {
	_, err := h.Luna(t.Context(), "node", "change", "node001", "--tag", "gpu")
	must(t, err)
	source := filepath.Join(p.dir, "site.luna.yml")
	must(t, os.WriteFile(source, []byte("plugin: clustervision.luna.luna\nkeyed_groups:\n  - {prefix: boots, key: luna.osimage}\n"), 0o644))
	script := p.inventory() // as /etc/ansible/hosts has it
	plugin := p.inventory("-i", source)

	var nodes []struct {
		Name, Group string
		Interfaces  map[string]map[string]string
	}
	must(t, h.JSON(t.Context(), &nodes, "node", "list"))
	want := map[string][]string{"osimages.luna": {"compute.osimages.luna"}}
	for _, n := range nodes {
		want["groups.luna"] = append(want["groups.luna"], n.Name)
		want[n.Group+".groups.luna"] = append(want[n.Group+".groups.luna"], n.Name)
		var bmc any = false
		if ip := n.Interfaces["BMC"]["4"]; ip != "" {
			bmc = ip
		}
		if s, p := script.hostvars[n.Name]["bmc_ip"], plugin.hostvars[n.Name]["bmc_ip"]; s != bmc || p != bmc {
			t.Errorf("the BMC of %s is at %v; the script says %v, the plugin %v", n.Name, bmc, s, p)
		}
		if got := plugin.hostvars[n.Name]["ansible_host"]; got != n.Interfaces["BOOTIF"]["4"] {
			t.Errorf("the plugin has %s at %v, it is at %s", n.Name, got, n.Interfaces["BOOTIF"]["4"])
		}
	}
	for name, hosts := range want {
		slices.Sort(hosts)
		if d := cmp.Diff(hosts, script.groups[name]); d != "" {
			t.Errorf("script, %s: %s", name, d)
		}
		if d := cmp.Diff(hosts, plugin.groups[name]); d != "" {
			t.Errorf("plugin, %s: %s", name, d)
		}
	}
	for _, group := range []string{"gpu.tags.luna", "boots_compute"} {
		if got := plugin.groups[group]; !slices.Contains(got, "node001") {
			t.Errorf("%s has %v", group, got)
		}
	}
	for of, l := range map[string]listed{"lchroot": script, "clustervision.luna.lchroot": plugin} {
		if got := l.hostvars["compute.osimages.luna"]; got["ansible_connection"] != of || got["ansible_host"] != "compute" {
			t.Errorf("the image is reached by %v, want %s", got, of)
		}
	}

	// What a node says of itself is text: it is never played on the machine that runs Ansible.
	remark := "{{ 7 * 191 }}"
	_, err = h.LunaIn(t.Context(), remark, "node", "change", "node001", "--comment")
	must(t, err)
	said, errs, err := p.run("ansible", "-i", source, "node001", "-m", "ansible.builtin.debug", "-a", "msg={{ luna.comment }}")
	if err != nil || !strings.Contains(said, remark) || strings.Contains(said, "1337") {
		t.Errorf("the comment %s is %s (%v %s)", remark, said, err, errs)
	}

	// Where nobody answers, the script is silent and empty, as in 1.2; the plugin says why.
	alone := p.with(t, "LUNA_SERVER=unix:///nosuch", "ANSIBLE_INVENTORY_ANY_UNPARSED_IS_FAILED=1")
	out, errs, err := alone.run("luna", "inventory", "--list")
	if err != nil || strings.Join(strings.Fields(out), "") != `{"_meta":{"hostvars":{}}}` || !strings.Contains(errs, "WARNING:") {
		t.Errorf("the script without a head: %v, %s%s", err, out, errs)
	}
	if _, errs, err := alone.run("ansible-inventory", "--list", "-i", source); exitCode(err) == 0 || !strings.Contains(errs, "nobody listens on") {
		t.Errorf("the plugin without a head: exit code %d, %s", exitCode(err), errs)
	}
}
