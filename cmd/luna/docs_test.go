package main

import (
	"flag"
	"io/fs"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/clustervision/luna/cli"
)

var update = flag.Bool("update", false, "write docs/cli.md and docs/man anew")

// TestManualIsOfTheCommands holds the manual in docs to the commands.
func TestManualIsOfTheCommands(t *testing.T) {
	const docs = "../../docs"
	dir := t.TempDir()
	write := func(dir string) {
		t.Helper()
		args := []string{"docs", "--man", filepath.Join(dir, "man"), "--markdown", filepath.Join(dir, "cli.md")}
		if code := cli.Run(t.Context(), program("luna"), args); code != 0 {
			t.Fatalf("luna docs: exit code %d", code)
		}
	}
	if *update {
		write(docs)
	}
	write(dir)
	for _, part := range []string{"cli.md", "man"} {
		want, got := contents(t, filepath.Join(dir, part)), contents(t, filepath.Join(docs, part))
		for _, file := range slices.Sorted(maps.Keys(want)) {
			if diff := cmp.Diff(want[file], got[file]); diff != "" {
				t.Errorf("docs/%s%s is not what the commands say: run make generate (-commands +docs)\n%s", part, file, diff)
			}
			delete(got, file)
		}
		for file := range got {
			t.Errorf("docs/%s%s is of no command: run make generate", part, file)
		}
	}
}

// contents gives the files below a path, by their names there.
func contents(t *testing.T, root string) map[string]string {
	t.Helper()
	all := map[string]string{}
	err := filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		b, err := os.ReadFile(path)
		all[path[len(root):]] = string(b)
		return err
	})
	if err != nil {
		t.Fatalf("%v: run make generate", err)
	}
	return all
}

// TestManPagesAreWellFormed has groff look for what it does not understand.
func TestManPagesAreWellFormed(t *testing.T) {
	if _, err := exec.LookPath("groff"); err != nil {
		if os.Geteuid() != 0 {
			t.Skip("groff is missing: run make deps as root")
		}
		t.Fatal("groff is missing: run make deps")
	}
	pages, err := filepath.Glob("../../docs/man/*.1")
	if err != nil || len(pages) < 10 {
		t.Fatalf("%d pages, %v", len(pages), err)
	}
	out, err := exec.CommandContext(t.Context(), "groff", append([]string{"-man", "-Tutf8", "-ww", "-z"}, pages...)...).CombinedOutput()
	if err != nil || len(out) > 0 {
		t.Errorf("groff: %v\n%s", err, out)
	}
}
