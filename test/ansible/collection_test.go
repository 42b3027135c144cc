package ansible

import (
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// TestCollection: the collection can be built and installed, its documentation is shown, it names all of
// its modules as a group for module_defaults, and the playbooks of docs/ansible.md are such.
func TestCollection(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("needs what make deps installs, which only root is sure to have")
	}
	requireAnsible(t)
	dir := t.TempDir()
	env := append(os.Environ(), "HOME="+dir, "LC_ALL=C.UTF-8", "ANSIBLE_COLLECTIONS_PATH="+dir, "ANSIBLE_NOCOLOR=1")
	install(t, dir, env)
	run := func(argv ...string) string {
		t.Helper()
		cmd := exec.CommandContext(t.Context(), argv[0], argv[1:]...)
		cmd.Env = env
		var errs strings.Builder
		cmd.Stderr = &errs
		out, err := cmd.Output()
		if err != nil {
			t.Errorf("%v: %v\n%s%s", argv, err, out, errs.String())
		}
		return string(out)
	}

	modules, err := filepath.Glob(filepath.Join(dir, inCollections, "plugins/modules/*.py"))
	must(t, err)
	names := []string{"ansible-doc", "--json", "-t", "module"}
	for _, m := range modules {
		names = append(names, "clustervision.luna."+strings.TrimSuffix(filepath.Base(m), ".py"))
	}
	var docs map[string]struct {
		Doc      struct{ Options map[string]any }
		Examples string
		Return   map[string]any
	}
	must(t, json.Unmarshal([]byte(run(names...)), &docs))
	if len(docs) != 8 {
		t.Errorf("there are %d modules: %v", len(docs), names[4:])
	}
	group, err := os.ReadFile(filepath.Join(dir, inCollections, "meta/runtime.yml"))
	must(t, err)
	for name, d := range docs {
		if d.Doc.Options["server"] == nil || d.Doc.Options["state"] == nil || d.Return["meta"] == nil || !strings.Contains(d.Examples, name+":") {
			t.Errorf("%s: its documentation lacks something: %+v", name, d)
		}
		if !slices.Contains(strings.Fields(string(group)), strings.TrimPrefix(name, "clustervision.luna.")) {
			t.Errorf("%s is not in the group of meta/runtime.yml", name)
		}
	}
	run("ansible-doc", "-t", "inventory", "clustervision.luna.luna")
	run("ansible-doc", "-t", "connection", "clustervision.luna.lchroot")

	playbook := filepath.Join(dir, "docs.yml")
	must(t, os.WriteFile(playbook, []byte(playbooks(t, "../../docs/ansible.md")), 0o644))
	run("ansible-playbook", "--syntax-check", "-i", "head1,compute.osimages.luna,", playbook)
}

// playbooks gives the plays in a text in Markdown, as one playbook.
func playbooks(t *testing.T, file string) string {
	t.Helper()
	text, err := os.ReadFile(file)
	must(t, err)
	var all strings.Builder
	inPlay := false
	for line := range strings.Lines(string(text)) {
		code, isCode := strings.CutPrefix(line, "    ")
		switch {
		case isCode && strings.HasPrefix(code, "- hosts:"):
			inPlay = true
		case !isCode && strings.TrimSpace(line) != "":
			inPlay = false
		}
		if inPlay {
			all.WriteString(code)
		}
	}
	if strings.Count(all.String(), "- hosts:") < 3 {
		t.Errorf("%s has hardly a play: %s", file, all.String())
	}
	return all.String()
}
