package chaos

import (
	"bytes"
	"errors"
	"fmt"
	"net/http"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/clustervision/luna/test/site"
)

// TestCutOff: a head that is cut off from the quorum refuses edits and names the
// heads that it misses, goes on answering reads and says that they may be old, on
// the wire and on the screen, and catches up by itself.
func TestCutOff(t *testing.T) {
	t.Parallel()
	s := newMesh(t, "cutoff")
	away, here := s.Heads[0], s.Heads[1] // away has led until now: it made the cluster
	add := func(h *site.Head, node string) error {
		_, err := h.Luna(t.Context(), "node", "add", "-g", group, "-n", node)
		return err
	}
	must(t, add(here, "before"))
	must(t, knows(t, away, "before"))
	must(t, away.Cut(t.Context()))
	must(t, site.Until(t.Context(), time.Minute, "each side misses the other", func() error {
		return errors.Join(misses(t, away, "h2", "h3"), misses(t, here, "h1"))
	}))
	must(t, add(here, "meanwhile"))

	t.Run("edits are refused, and say who is missing", func(t *testing.T) {
		began := time.Now()
		err := add(away, "late")
		t.Logf("after %.1f s: %v", time.Since(began).Seconds(), err)
		var failure *site.Failure
		if !errors.As(err, &failure) || failure.Code == 0 {
			t.Fatalf("%v: want a refusal", err)
		}
		for _, words := range []string{`2 of 3 heads unreachable`, `h2 since \d\d:\d\d`, `h3 since \d\d:\d\d`} {
			if !regexp.MustCompile(words).MatchString(failure.Stderr) {
				t.Errorf("%s: want %q", failure.Stderr, words)
			}
		}
		_, err = socket(away).ask(t.Context(), http.MethodPost, "/v1/nodes", map[string]string{"group": group, "names": "late"}, nil)
		var r *refusal
		if !errors.As(err, &r) || r.status != http.StatusServiceUnavailable {
			t.Errorf("over HTTP: %v, want 503", err)
		}
	})
	t.Run("reads are answered, and say that they may be old", func(t *testing.T) {
		d := socket(away)
		for _, path := range []string{"/v1/nodes", "/v1/nodes/before", "/v1/nodes/meanwhile", "/v1/groups", "/v1/networks/cluster", "/v1/cluster", "/v1/document"} {
			began := time.Now()
			old, err := d.ask(t.Context(), http.MethodGet, path, nil, nil)
			t.Logf("%s after %.2f s: %s: %q, %v", path, time.Since(began).Seconds(), headerStale, old, err)
			if old == "" {
				t.Errorf("%s: there is no header %s", path, headerStale)
			}
			if missing := strings.HasSuffix(path, "meanwhile"); missing != (err != nil) {
				t.Errorf("%s: %v", path, err)
			}
		}
		d.local = true
		if old, err := d.ask(t.Context(), http.MethodGet, "/v1/nodes/before", nil, nil); err != nil || old != "" {
			t.Errorf("with %s: %s: header %q and %v, want neither", headerRead, readLocal, old, err)
		}
	})
	t.Run("luna reads, and warns", func(t *testing.T) {
		out, errs := both(t, s, away, "node", "list")
		t.Logf("on stderr: %s", errs)
		if !strings.Contains(out, "before") || strings.Contains(out, "meanwhile") {
			t.Errorf("want what was there before, and no more:\n%s", out)
		}
		for _, name := range []string{"h2", "h3"} {
			if !strings.Contains(errs, name) {
				t.Errorf("want a warning that names %s", name)
			}
		}
		if out, errs := both(t, s, here, "node", "list"); errs != "" || !strings.Contains(out, "meanwhile") {
			t.Errorf("on the other side want no warning, and all nodes: %s\n%s", errs, out)
		}
		out, errs = both(t, s, away, "head", "list")
		t.Logf("luna head list:\n%s%s", out, errs)
		for _, name := range []string{"h1", "h2", "h3"} {
			if !strings.Contains(out, name) {
				t.Errorf("luna head list does not have %s", name)
			}
		}
	})
	t.Run("it catches up by itself", func(t *testing.T) {
		began := time.Now()
		must(t, away.Heal(t.Context()))
		must(t, knows(t, away, "meanwhile"))
		t.Logf("it has what it missed after %.1f s", time.Since(began).Seconds())
		must(t, settle(t.Context(), s))
		if err := add(away, "after"); err != nil {
			t.Error(err)
		}
		if out, errs := both(t, s, away, "node", "list"); errs != "" || !strings.Contains(out, "after") || strings.Contains(out, "late") {
			t.Errorf("want no warning, and all that was not refused: %s\n%s", errs, out)
		}
	})
}

// knows waits until the head's answer about a node is a fresh one.
func knows(t *testing.T, h *site.Head, name string) error {
	t.Helper()
	return site.Until(t.Context(), time.Minute, h.Name+" knows node "+name, func() error {
		old, err := socket(h).ask(t.Context(), http.MethodGet, "/v1/nodes/"+name, nil, nil)
		if err == nil && old != "" {
			err = fmt.Errorf("the answer may be old: %s", old)
		}
		return err
	})
}

// misses tells whether the head sees those others, and no more, as not alive.
func misses(t *testing.T, h *site.Head, others ...string) error {
	t.Helper()
	var list []site.HeadStatus
	if err := h.JSON(t.Context(), &list, "head", "list"); err != nil {
		return err
	}
	for _, seen := range list {
		alive := !strings.Contains(strings.Join(others, " "), seen.Name)
		if alive != (seen.State == "alive") {
			return fmt.Errorf("%s sees %+v", h.Name, seen)
		}
	}
	return nil
}

// both runs a luna command that must succeed, and gives what it prints on both streams.
func both(t *testing.T, s *site.Site, h *site.Head, args ...string) (out, errs string) {
	t.Helper()
	cmd := h.Command(t.Context(), append([]string{filepath.Join(s.Bin, "luna"), "--server", "unix://" + h.Socket()}, args...)...)
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	if err := cmd.Run(); err != nil {
		t.Errorf("luna %s: %v: %s", strings.Join(args, " "), err, stderr.String())
	}
	return stdout.String(), strings.TrimSpace(stderr.String())
}
