// Package labtest gives tests a lab: it skips or fails in plain words where none can be made,
// closes it when the test ends, and shows the ends of its logs when the test has failed.
//
// It is apart from package lab because the demo, which is no test, uses that one too.
package labtest

import (
	"context"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/clustervision/luna/test/lab"
)

// New makes a lab for one test. Who is not root sees the test skipped; root, without the programs
// that it needs, sees it fail.
func New(t testing.TB, name string) *lab.Lab {
	t.Helper()
	RequireRoot(t)
	l, err := lab.New(t.Context(), t.TempDir(), name)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := l.Close(); err != nil {
			t.Error(err)
		}
		if t.Failed() {
			showLogs(t, l.Dir())
		}
	})
	return l
}

// RequireRoot skips the test for all but root.
func RequireRoot(t testing.TB) {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("needs root: makes network namespaces and starts emulated machines in them")
	}
}

// Context is the test's context with a deadline.
func Context(t testing.TB, patience time.Duration) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	t.Cleanup(cancel)
	return ctx
}

// Log writes to the test's own log.
func Log(t testing.TB) *slog.Logger {
	return slog.New(slog.NewTextHandler(t.Output(), nil))
}

// showLogs prints the end of every log and console in the directory.
func showLogs(t testing.TB, dir string) {
	t.Helper()
	for _, pattern := range []string{"*.log", "*.console"} {
		paths, err := filepath.Glob(filepath.Join(dir, pattern))
		if err != nil {
			t.Error(err)
		}
		for _, path := range paths {
			text, err := os.ReadFile(path)
			if err != nil {
				t.Error(err)
				continue
			}
			lines := strings.Split(strings.TrimRight(string(text), "\n"), "\n")
			t.Logf("end of %s:\n%s", filepath.Base(path), strings.Join(lines[max(0, len(lines)-30):], "\n"))
		}
	}
}

// Tree is the Debian tree, see [lab.DebianTree].
func Tree(t testing.TB) string {
	t.Helper()
	RequireRoot(t)
	root, err := lab.DebianTree(t.Context(), Log(t))
	if err != nil {
		t.Fatal(err)
	}
	return root
}
