package test

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/clustervision/luna/test/lab"
	"github.com/clustervision/luna/test/lab/labtest"
	"github.com/clustervision/luna/test/site"
)

// promised is how long writes, and DHCP, may stand still after a head has died, on
// a machine that runs.
const promised = 3 * time.Second

// standstill begins to measure for how long this machine does not run at all, as a
// virtual one does whose host has other things to do, and gives the sum so far. A
// machine that is merely busy lets a timer come a few hundredths of a second late.
func standstill(t *testing.T) (sum func() time.Duration) {
	t.Helper()
	const beat, late = 10 * time.Millisecond, 100 * time.Millisecond
	var total atomic.Int64
	tick := time.NewTicker(beat)
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		for last := time.Now(); t.Context().Err() == nil; {
			now := <-tick.C
			if gap := now.Sub(last); gap > late {
				total.Add(int64(gap))
			}
			last = now
		}
	}()
	t.Cleanup(func() { <-ended; tick.Stop() })
	return func() time.Duration { return time.Duration(total.Load()) }
}

// newSite makes a lab with n heads whose agents run and are no members yet.
func newSite(t *testing.T, name string, n int) *site.Site {
	t.Helper()
	l := labtest.New(t, name)
	bin, err := site.Bin()
	if err != nil {
		t.Fatal(err)
	}
	s, err := site.New(t.Context(), l, bin, n)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// newMesh makes a lab with n heads that are one cluster.
func newMesh(t *testing.T, name string, n int) *site.Site {
	t.Helper()
	s := newSite(t, name, n)
	must(t, s.Mesh(t.Context()))
	must(t, s.Settle(t.Context()))
	return s
}

// must ends the test at an error.
func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// luna runs a luna command on a head and gives what it prints; the test ends if
// it fails.
func luna(t *testing.T, h *site.Head, args ...string) string {
	t.Helper()
	out, err := h.Luna(t.Context(), args...)
	must(t, err)
	return out
}

// addGroup adds the osimage "compute" of the tree and the group "compute" of it on
// the network "cluster", which must be there.
func addGroup(t *testing.T, h *site.Head, tree string) {
	t.Helper()
	luna(t, h, "osimage", "add", "-n", "compute", "-p", tree)
	luna(t, h, "group", "add", "-n", "compute", "-o", "compute", "-N", "cluster")
}

// kernelTree makes a tree that has a kernel, as far as it is looked at before it
// is packed.
func kernelTree(t *testing.T, l *lab.Lab) string {
	t.Helper()
	tree := filepath.Join(l.Dir(), "tree")
	for _, dir := range []string{"boot", "lib/modules/6.1.0"} {
		must(t, os.MkdirAll(filepath.Join(tree, dir), 0o755))
	}
	for _, file := range []string{"boot/vmlinuz-6.1.0", "lib/modules/6.1.0/modules.dep"} {
		must(t, os.WriteFile(filepath.Join(tree, file), []byte("nothing of this kind\n"), 0o644))
	}
	return tree
}

// everything is all that a head knows of the inventory, as its lists print it.
func everything(ctx context.Context, h *site.Head) (string, error) {
	var all strings.Builder
	for _, list := range []string{"cluster show", "network list", "osimage list", "group list", "node list"} {
		out, err := h.Luna(ctx, append(strings.Fields(list), "-o", "json")...)
		if err != nil {
			return "", err
		}
		all.WriteString(list + "\n" + out + "\n")
	}
	return all.String(), nil
}

// refused makes sure that a luna command was refused with that exit code and one
// line of error that has these words. A line that ends in a colon may be followed
// by a list, as in 1.2.
func refused(t *testing.T, err error, code int, words string) {
	t.Helper()
	var failure *site.Failure
	if !errors.As(err, &failure) {
		t.Errorf("%v: want exit code %d and %q", err, code, words)
		return
	}
	var lines []string
	for line := range strings.Lines(failure.Stderr) {
		if strings.HasPrefix(line, "ERROR:") || strings.Contains(line, ": error: ") {
			lines = append(lines, line)
		}
	}
	one := len(lines) == 1 || len(lines) > 1 && strings.HasSuffix(lines[0], ":\n")
	if failure.Code != code || !one || !strings.Contains(strings.Join(lines, ""), words) {
		t.Errorf("%v: want exit code %d and one line with %q", err, code, words)
	}
}
