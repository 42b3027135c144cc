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
func New(tb testing.TB, name string) *lab.Lab {
	tb.Helper()
	RequireRoot(tb)
	l, err := lab.New(tb.Context(), tb.TempDir(), name)
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() {
		if err := l.Close(); err != nil {
			tb.Error(err)
		}
		if tb.Failed() {
			showLogs(tb, l.Dir())
		}
	})
	return l
}

// RequireRoot skips the test for all but root.
func RequireRoot(tb testing.TB) {
	tb.Helper()
	if os.Geteuid() != 0 {
		tb.Skip("needs root: makes network namespaces and starts emulated machines in them")
	}
}

// Context is the test's context with a deadline.
func Context(tb testing.TB, patience time.Duration) context.Context {
	tb.Helper()
	ctx, cancel := context.WithTimeout(tb.Context(), patience)
	tb.Cleanup(cancel)
	return ctx
}

// Log writes to the test's own log.
func Log(tb testing.TB) *slog.Logger {
	tb.Helper()
	return slog.New(slog.NewTextHandler(tb.Output(), nil))
}

// showLogs prints the end of every log and console in the directory.
func showLogs(tb testing.TB, dir string) {
	tb.Helper()
	for _, pattern := range []string{"*.log", "*.console"} {
		paths, err := filepath.Glob(filepath.Join(dir, pattern))
		if err != nil {
			tb.Error(err)
		}
		for _, path := range paths {
			text, err := os.ReadFile(path)
			if err != nil {
				tb.Error(err)
				continue
			}
			lines := strings.Split(strings.TrimRight(string(text), "\n"), "\n")
			tb.Logf("end of %s:\n%s", filepath.Base(path), strings.Join(lines[max(0, len(lines)-30):], "\n"))
		}
	}
}

// Tree is the Debian tree, see [lab.DebianTree].
func Tree(tb testing.TB) string {
	tb.Helper()
	RequireRoot(tb)
	root, err := lab.DebianTree(tb.Context(), Log(tb))
	if err != nil {
		tb.Fatal(err)
	}
	return root
}

// HeadTree is the tree that containers boot from, see [lab.HeadTree].
func HeadTree(tb testing.TB) string {
	tb.Helper()
	RequireRoot(tb)
	root, err := lab.HeadTree(tb.Context(), Log(tb))
	if err != nil {
		tb.Fatal(err)
	}
	return root
}
