// Package vagrant holds the Vagrant site to what it says, as far as that can be told
// without virtual machines: the Vagrantfile is one that Vagrant and its libvirt
// provider take, and the scripts are sound. That its scenario runs is shown in
// package ansible's tests, on heads that the same role installs in containers.
package vagrant

import (
	"os"
	"os/exec"
	"path/filepath"
	"testing"
)

// run runs a program that make deps installs.
func run(t *testing.T, name string, args ...string) {
	t.Helper()
	program, err := exec.LookPath(name)
	if err != nil {
		t.Fatalf("%s is not installed: run make deps", name)
	}
	cmd := exec.CommandContext(t.Context(), program, args...)
	cmd.Env = append(os.Environ(), "VAGRANT_HOME="+t.TempDir(), "VAGRANT_DOTFILE_PATH="+t.TempDir())
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Errorf("%s: %v\n%s", name, err, out)
	}
}

// TestVagrantfile: it is one for people, and for the scenario, whose variables it sees.
func TestVagrantfile(t *testing.T) {
	t.Setenv("HEADS", "head1 head2 head3")
	run(t, "vagrant", "validate")
}

func TestScripts(t *testing.T) {
	scripts, err := filepath.Glob("*.sh")
	if err != nil || len(scripts) == 0 {
		t.Fatalf("found %v: %v", scripts, err)
	}
	run(t, "shellcheck", scripts...)
}
