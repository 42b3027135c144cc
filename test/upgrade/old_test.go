package upgrade

import (
	"bytes"
	"cmp"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/clustervision/luna/test/lab/labtest"
)

// lastRelease is the commit of the release before this one: the last whose log has
// format 1 only. Move it on with each release.
const lastRelease = "eeae842c3f97"

// oldBin is a directory with the luna of the last release: that of LUNA_OLD, the
// path of a program, or one built from history. Building takes a minute once; the
// program is kept beside the lab's other things, in LUNA_LAB_CACHE or
// /var/cache/luna-lab.
func oldBin(t *testing.T) string {
	t.Helper()
	labtest.RequireRoot(t)
	if program := os.Getenv("LUNA_OLD"); program != "" {
		dir := t.TempDir()
		program, err := filepath.Abs(program)
		must(t, err)
		must(t, os.Symlink(program, filepath.Join(dir, "luna")))
		return dir
	}
	dir := filepath.Join(cmp.Or(os.Getenv("LUNA_LAB_CACHE"), "/var/cache/luna-lab"), "release-"+lastRelease)
	if _, err := os.Stat(filepath.Join(dir, "luna")); err == nil {
		return dir
	}
	must(t, os.MkdirAll(filepath.Dir(dir), 0o755))
	building, err := os.MkdirTemp(filepath.Dir(dir), "building-")
	must(t, err)
	defer os.RemoveAll(building)
	must(t, buildOld(labtest.Context(t, 10*time.Minute), t.TempDir(), filepath.Join(building, "luna")))
	must(t, os.Chmod(building, 0o755))
	if err := os.Rename(building, dir); err != nil {
		if _, other := os.Stat(filepath.Join(dir, "luna")); other != nil { // nor has another process built it
			t.Fatal(err)
		}
	}
	return dir
}

// buildOld builds the program of the last release; src is an empty directory.
func buildOld(ctx context.Context, src, program string) error {
	top, err := output(ctx, ".", "git", "rev-parse", "--show-toplevel")
	if err != nil {
		return fmt.Errorf("%w; to test an upgrade, the last release is built from history: test in a git checkout, or set LUNA_OLD to a luna program of that release", err)
	}
	if _, err := output(ctx, top, "git", "cat-file", "-e", lastRelease+"^{commit}"); err != nil {
		return fmt.Errorf("the last release, commit %s, is not in the history of %s: `git fetch --unshallow` gets a shallow clone all of it; or set LUNA_OLD to a luna program of that release (%w)", lastRelease, top, err)
	}
	tar := filepath.Join(src, "src.tar")
	for _, command := range [][]string{
		{"git", "-C", top, "archive", "-o", tar, lastRelease},
		{"tar", "-xf", tar},
		{"env", "CGO_ENABLED=0", "go", "build", "-trimpath", "-ldflags", "-s -w -X main.version=" + lastRelease, "-o", program, "./cmd/luna"},
	} {
		if _, err := output(ctx, src, command...); err != nil {
			return fmt.Errorf("build the last release: %w", err)
		}
	}
	return nil
}

// output runs a command in a directory and gives what it prints; its error has what
// it says on stderr.
func output(ctx context.Context, dir string, argv ...string) (string, error) {
	cmd := exec.CommandContext(ctx, argv[0], argv[1:]...)
	var errs bytes.Buffer
	cmd.Dir, cmd.Stderr = dir, &errs
	out, err := cmd.Output()
	if err != nil {
		err = fmt.Errorf("%s: %w: %s", strings.Join(argv, " "), err, strings.TrimSpace(errs.String()))
	}
	return strings.TrimSpace(string(out)), err
}
