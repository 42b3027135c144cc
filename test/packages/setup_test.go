package packages

import (
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/clustervision/luna/test/lab"
	"github.com/clustervision/luna/test/lab/labtest"
)

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// shell runs a script, and gives what it prints.
func shell(t *testing.T, script string, args ...string) string {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), "sh", append([]string{"-euc", script, "sh"}, args...)...)
	out, err := cmd.Output()
	var failed *exec.ExitError
	if errors.As(err, &failed) {
		t.Fatalf("%s: %v: %s", script, err, failed.Stderr)
	}
	must(t, err)
	return strings.TrimSpace(string(out))
}

// source is the root of the module.
const source = "../.."

// build builds packages of this machine's architecture, of that version.
func build(t *testing.T, dist, version, formats string) {
	t.Helper()
	start := time.Now()
	shell(t, `make -s -C "$1" packages DIST="$2" VERSION="$3" FORMAT="$4" ARCH=`+runtime.GOARCH, source, dist, version, formats)
	t.Logf("built %s as %s in %.1f s", version, formats, time.Since(start).Seconds())
}

// head is a container with an address in the lab's network, 10.30.0.0/16.
type head struct {
	*lab.Container
	t *testing.T
}

// run runs a program of the container, which must not fail, and gives what it prints.
func (h head) run(argv ...string) string {
	h.t.Helper()
	out, err := h.Run(labtest.Context(h.t, 2*time.Minute), argv...)
	must(h.t, err)
	return out
}

// says runs a program of the container and gives all that it prints, whether it fails or not.
func (h head) says(argv ...string) string {
	h.t.Helper()
	out, _ := h.Command(labtest.Context(h.t, 2*time.Minute), argv...).CombinedOutput() // its word counts
	return strings.TrimSpace(string(out))
}

// unit is one property of the service.
func (h head) unit(property string) string {
	h.t.Helper()
	return h.run("systemctl", "show", "--value", "--property="+property, "luna.service")
}

// dpkg installs or removes packages and gives what that says.
func (h head) dpkg(args ...string) string {
	h.t.Helper()
	out, err := h.Command(labtest.Context(h.t, 2*time.Minute), append([]string{"dpkg"}, args...)...).CombinedOutput()
	if err != nil {
		h.t.Fatalf("dpkg %s: %v: %s\n%s", strings.Join(args, " "), err, out, h.says("journalctl", "--no-pager", "-n", "30", "-u", "luna"))
	}
	return string(out)
}

// one is the only file that a pattern matches.
func one(t *testing.T, pattern string) string {
	t.Helper()
	files, err := filepath.Glob(pattern)
	must(t, err)
	if len(files) != 1 {
		t.Fatalf("%s: want one file, have %q", pattern, files)
	}
	return files[0]
}

// need fails the test where the programs are missing that make deps installs.
func need(t *testing.T, programs ...string) {
	t.Helper()
	for _, p := range programs {
		if _, err := exec.LookPath(p); err != nil {
			t.Fatalf("%v: run make deps", err)
		}
	}
}

func read(t *testing.T, path string) string {
	t.Helper()
	b, err := os.ReadFile(path)
	must(t, err)
	return string(b)
}
