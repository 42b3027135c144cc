package ansible

import (
	"flag"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/clustervision/luna/test/site"
)

var update = flag.Bool("update", false, "write the goldens of testdata anew")

// makeTree makes a tree that has a kernel as far as packing with -c looks.
func makeTree(t testing.TB, tree string) {
	t.Helper()
	const kernel = "5.14.0-362.el9.x86_64"
	for _, file := range []string{"boot/vmlinuz-" + kernel, "boot/initramfs-" + kernel + ".img", "lib/modules/" + kernel + "/modules.dep"} {
		path := filepath.Join(tree, file)
		must(t, os.MkdirAll(filepath.Dir(path), 0o755))
		must(t, os.WriteFile(path, []byte("for "+kernel+"\n"), 0o644))
	}
}

// TestSite: a playbook of 1.2 makes a cluster as it stands; two more heads join, and it changes nothing
// there. Then a head dies, and all the modules and both inventories go on with the others.
func TestSite(t *testing.T) {
	s, p := newSite(t, "ansmod", 3)
	h1, h2, h3 := s.Heads[0], s.Heads[1], s.Heads[2]
	path, tree := filepath.Join(s.Lab.Dir(), "p"), filepath.Join(s.Lab.Dir(), "tree")
	must(t, os.Mkdir(path, 0o755))
	makeTree(t, tree)
	site12, err := filepath.Abs("testdata/site12.yml")
	must(t, err)
	vars := []string{"-e", "luna_path=" + path, "-e", "luna_tree=" + tree, "-e", "bmc_password=s3cret"}

	results := p.play(site12, vars...)
	if got, all := changed(results), len(results); len(got) != all {
		t.Errorf("on a new head only these of %d tasks changed something: %v", all, got)
	}
	for _, h := range s.Heads[1:] {
		token, err := h1.Luna(t.Context(), "head", "invite")
		must(t, err)
		_, err = h.Luna(t.Context(), "join", h1.Addr.String(), "--token", token)
		must(t, err)
	}
	must(t, s.Settle(t.Context()))
	if got := changed(p.play(site12, vars...)); got != nil {
		t.Errorf("played again, these tasks changed something: %v", got)
	}
	t.Run("tables", func(t *testing.T) { tables(t, h3, s.Lab.Dir()) })

	// From another head, over TLS, with the first of the list dead.
	h1.Agent.Kill9()
	credentials, err := filepath.Glob(filepath.Join(s.Lab.Dir(), ".luna", "*.pem"))
	must(t, err)
	if len(credentials) != 1 {
		t.Fatalf("luna_cluster left the credentials %v", credentials)
	}
	var servers []string
	for _, h := range s.Heads {
		servers = append(servers, "https://"+h.Addr.String())
	}
	q := newPlayer(t, s, h2).with(t, "LUNA_SERVER="+strings.Join(servers, ","), "LUNA_CREDENTIAL="+credentials[0])
	must(t, site.Until(t.Context(), playTime, "the others elect a leader", func() error {
		_, err := h2.Luna(t.Context(), "cluster", "change", "--nodeprefix", "node")
		return err
	}))
	results = q.play(site12, append(vars, "--check", "--diff")...)
	if got := changed(results); got != nil {
		t.Errorf("checked without a head, these tasks would change something: %v", got)
	}
	for _, r := range results {
		if len(r.Diff) > 0 && string(r.Diff) != "[]" {
			t.Errorf("%s: a diff of nothing: %s", r.Task, r.Diff)
		}
	}
	t.Run("two heads", func(t *testing.T) {
		t.Run("modules", func(t *testing.T) {
			t.Parallel()
			modules(t, q.with(t), filepath.Join(s.Lab.Dir(), "other"))
		})
		t.Run("galaxy", func(t *testing.T) {
			t.Parallel()
			fromGalaxy(t, p.with(t), h2)
		})
		t.Run("answers", func(t *testing.T) {
			t.Parallel() // it mostly waits
			lostAnswers(t, q.with(t), h2)
		})
	})
	t.Run("inventory", func(t *testing.T) { inventories(t, newPlayer(t, s, h3).with(t), h3) })
	t.Run("cluster", func(t *testing.T) { clusterIsDeleted(t, q.with(t), h2) })
}

// tables holds what luna shows of the site to what 1.2 showed, but for the width of columns, which
// depends on where the test keeps its files.
func tables(t *testing.T, h *site.Head, dir string) {
	var got strings.Builder
	for _, line := range []string{
		"cluster show", "network list", "network show cluster", "osimage list", "bmcsetup list", "bmcsetup show base",
		"switch list", "switch show switch01", "otherdev list", "otherdev show pdu01", "group list", "group show compute",
		"node list", "node show node001", "node show node003",
	} {
		out, err := h.Luna(t.Context(), strings.Fields(line)...)
		must(t, err)
		got.WriteString("luna " + line + "\n" + out + "\n\n")
	}
	text := strings.ReplaceAll(got.String(), dir, "DIR")
	text = regexp.MustCompile(` +`).ReplaceAllString(text, " ")
	text = regexp.MustCompile(`-{3,}`).ReplaceAllString(text, "---")
	golden := "testdata/tables.golden"
	if *update {
		must(t, os.WriteFile(golden, []byte(text), 0o644))
	}
	want, err := os.ReadFile(golden)
	must(t, err)
	if d := cmp.Diff(string(want), text); d != "" {
		t.Error(d)
	}
}

// fromGalaxy: a playbook of 1.2 runs as docs/ansible.md says, where no package has put anything anywhere.
func fromGalaxy(t *testing.T, p *player, h *site.Head) {
	collection := p.collection()
	dir := strings.TrimSuffix(collection, inCollections)
	config := filepath.Join(p.dir, "ansible.cfg")
	must(t, os.WriteFile(config, []byte("[defaults]\ncollections_path = "+dir+
		"\nlibrary = "+collection+"/plugins/modules\nconnection_plugins = "+collection+"/plugins/connection\n"), 0o644))
	cmd := h.Command(t.Context(), "ansible", "localhost", "-m", "luna_node", "-a", "name=node001 group=compute mac=52:54:00:00:00:0A")
	cmd.Env = append(p.env, "ANSIBLE_CONFIG="+config, "LUNA_SERVER=unix://"+h.Socket())
	out, err := cmd.CombinedOutput()
	if err != nil || !strings.Contains(string(out), `"changed": false`) {
		t.Errorf("%v: %s", err, out)
	}
}

// clusterIsDeleted: no cluster of several heads is deleted by one word, and one that is deleted is
// absent already.
func clusterIsDeleted(t *testing.T, p *player, h *site.Head) {
	absent := func(args ...string) map[string]any {
		m := map[string]any{"state": "absent"}
		for _, a := range args {
			m[a] = true
		}
		return map[string]any{"luna_cluster": m}
	}
	tasks := []map[string]any{absent(), absent("force"), absent("force"), absent("force")}
	tasks[1]["check_mode"] = true
	r := p.playTasks(tasks)
	switch {
	case !r[0].Failed || !strings.Contains(r[0].Msg, "force: true"):
		t.Errorf("without force: %+v", r[0])
	case r[1].Failed || !r[1].Changed || r[2].Failed || !r[2].Changed:
		t.Errorf("with force, first in check mode: %+v, %+v", r[1], r[2])
	case r[3].Failed || r[3].Changed:
		t.Errorf("a second time: %+v", r[3])
	}
	out, err := h.Luna(t.Context(), "node", "list", "-o", "json")
	if must(t, err); out != "[]" {
		t.Errorf("there are nodes still: %s", out)
	}
	if !slices.ContainsFunc(r[2].Warnings, func(w string) bool { return strings.Contains(w, "asked https://") }) {
		t.Errorf("the dead head is not told of: %v", r[2].Warnings)
	}
}
