package chaos

import (
	"context"
	"net/netip"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/clustervision/luna/test/lab"
	"github.com/clustervision/luna/test/lab/labtest"
	"github.com/clustervision/luna/test/site"
)

// must ends the test at an error.
func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// soak is how long something goes on: for make test, for LUNA_SOAK (make soak),
// or as long as that says: LUNA_SOAK=5m.
func soak(short, long time.Duration) time.Duration {
	set := os.Getenv("LUNA_SOAK")
	if given, err := time.ParseDuration(set); err == nil {
		return given
	}
	if set != "" {
		return long
	}
	return short
}

// newMesh makes three heads that are one cluster, with a group that nodes can be
// put into.
func newMesh(t *testing.T, name string) *site.Site {
	t.Helper()
	l := labtest.New(t, name)
	bin := os.Getenv("LUNA_PROGRAMS")
	if bin == "" {
		var err error
		bin, err = site.Bin()
		must(t, err)
	}
	s, err := site.New(t.Context(), l, bin, 3)
	must(t, err)
	must(t, s.Mesh(t.Context()))
	must(t, settle(t.Context(), s))
	tree := filepath.Join(l.Dir(), "tree") // of an osimage, as far as it is looked at before it is packed
	for _, dir := range []string{"boot", "lib/modules/6.1.0"} {
		must(t, os.MkdirAll(filepath.Join(tree, dir), 0o755))
	}
	for _, file := range []string{"boot/vmlinuz-6.1.0", "lib/modules/6.1.0/modules.dep"} {
		must(t, os.WriteFile(filepath.Join(tree, file), nil, 0o644))
	}
	for _, args := range [][]string{
		{"network", "add", "-n", "cluster", "-N", site.Network.Addr().String(), "-P", "16"},
		{"osimage", "add", "-n", "compute", "-p", tree},
		{"group", "add", "-n", group, "-o", "compute", "-N", "cluster"},
	} {
		_, err := s.Heads[0].Luna(t.Context(), args...)
		must(t, err)
	}
	return s
}

// settle waits until all heads are well, with the patience that heads deserve
// which catch up on a busy machine.
func settle(ctx context.Context, s *site.Site) error {
	return site.Until(ctx, 2*time.Minute, "the mesh is whole", func() error { return s.Settle(ctx) })
}

// pause waits, unless the context ends before.
func pause(ctx context.Context, d time.Duration) {
	select {
	case <-ctx.Done():
	case <-time.After(d):
	}
}

// sockets are the doors of all heads.
func sockets(s *site.Site) (doors []*door) {
	for _, h := range s.Heads {
		doors = append(doors, socket(h))
	}
	return doors
}

// pc is a machine that is no head.
func pc(t *testing.T, s *site.Site) *lab.Host {
	t.Helper()
	host, err := s.Lab.Host(t.Context(), "pc", netip.MustParsePrefix("10.30.254.1/16"))
	must(t, err)
	return host
}
