package upgrade

import (
	"context"
	"fmt"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/clustervision/luna/test/lab/labtest"
	"github.com/clustervision/luna/test/site"
)

// TestRollingUpgrade: a mesh of three heads goes from the last release to this one,
// one head at a time, and does not stand still for that. While a head of the last
// release is there, the log has the old format: all heads agree whoever leads, and
// what is new is refused. When the last one is upgraded, the mesh uses the new
// format by itself, and there is no way back for a single head.
func TestRollingUpgrade(t *testing.T) {
	ctx := labtest.Context(t, 10*time.Minute)
	m := newMesh(ctx, t, "upgrade")
	h1, h2, h3 := m.Heads[0], m.Heads[1], m.Heads[2]
	step := func(what string, do func(t *testing.T)) {
		t.Helper()
		began := time.Now()
		if !t.Run(what, do) {
			t.FailNow()
		}
		t.Logf("%s: %.1f s", what, time.Since(began).Seconds())
	}
	step("all of the last release", func(t *testing.T) {
		m.served(ctx, t)
		m.write(ctx, t)
	})
	step("one of three upgraded", func(t *testing.T) {
		m.upgrade(ctx, t, h1)
		m.mixed(ctx, t)
	})
	step("what is new is refused", func(t *testing.T) { m.refuses(ctx, t, h1, h2) })
	step("the upgraded one loses its power", func(t *testing.T) {
		h1.Agent.Kill9()
		m.write(ctx, t)
		must(t, h1.Start(ctx))
		must(t, m.Settle(ctx))
		m.write(ctx, t)
	})
	step("two of three upgraded", func(t *testing.T) {
		m.upgrade(ctx, t, h2)
		m.mixed(ctx, t)
	})
	step("all upgraded", func(t *testing.T) {
		m.upgrade(ctx, t, h3)
		for _, h := range m.Heads {
			must(t, site.Until(ctx, 20*time.Second, "the mesh uses the new format", func() error { return wantFormat(ctx, h, 2) }))
		}
		m.write(ctx, t)
		m.served(ctx, t)
	})
	step("what is new works", func(t *testing.T) {
		luna(ctx, t, h1, "head", "drain", "h3")
		luna(ctx, t, h3, "head", "undrain", "h3")
		m.served(ctx, t)
	})
	step("the last release is kept out", func(t *testing.T) { m.keepsOut(ctx, t, h3) })
}

// mixed tests a mesh of both releases, led by one and by the other.
func (m *mesh) mixed(ctx context.Context, t *testing.T) {
	t.Helper()
	for _, old := range []bool{true, false} {
		m.lead(ctx, t, old)
		m.write(ctx, t)
		m.served(ctx, t)
		for _, h := range m.Heads {
			if h.Bin == "" {
				must(t, wantFormat(ctx, h, 1))
			}
		}
	}
}

// wantFormat fails where the mesh uses another format of the log.
func wantFormat(ctx context.Context, h *site.Head, want int) error {
	f, err := format(ctx, h)
	if err == nil && f != want {
		err = fmt.Errorf("%s says that the mesh uses format %d, not %d", h.Name, f, want)
	}
	return err
}

// refuses asks a mesh of both releases for what only the new one knows. Nothing
// changes, and who asks learns what to do.
func (m *mesh) refuses(ctx context.Context, t *testing.T, upgraded, old *site.Head) {
	t.Helper()
	before := m.agree(ctx, t)
	for _, args := range []string{"head drain h3", "head undrain h3", "head change h3 --weight 2"} {
		_, err := upgraded.Luna(ctx, strings.Fields(args)...)
		refused(t, err, "upgrade luna on all heads first")
		_, err = m.ask(ctx, old, strings.Fields(args)...)
		if err == nil {
			t.Errorf("luna %s: a head of the last release does as it is told", args)
		}
		t.Log(err)
	}
	must(t, differ(before, m.agree(ctx, t)))

	witness := m.add(ctx, t, 3)
	must(t, witness.StartAs(ctx, "--name", witness.Name, "--data-dir", witness.Dir(), "--bind", witness.Addr.String(), "--socket", witness.Socket(), "--witness"))
	for _, by := range []*site.Head{upgraded, old} {
		_, err := witness.Luna(ctx, "join", by.Addr.String(), "--token", luna(ctx, t, by, "head", "invite"))
		if err == nil {
			t.Fatalf("a witness joined through %s a mesh that does not know what that is", by.Name)
		}
		t.Log(err)
	}
	must(t, witness.Agent.Stop(syscall.SIGTERM, 20*time.Second))
	m.Heads = m.Heads[:3]
	for _, h := range m.Heads {
		if out := luna(ctx, t, h, "head", "list"); strings.Contains(out, witness.Name) {
			t.Errorf("%s lists a witness that was refused:\n%s", h.Name, out)
		}
	}
}

// keepsOut has heads of the last release try to be in a mesh whose log they cannot
// read: a new one, and one of the mesh's own that somebody turned back.
func (m *mesh) keepsOut(ctx context.Context, t *testing.T, back *site.Head) {
	t.Helper()
	late := m.add(ctx, t, 4)
	late.Bin = m.old
	must(t, late.Start(ctx))
	_, err := late.Luna(ctx, "join", m.Heads[0].Addr.String(), "--token", luna(ctx, t, m.Heads[0], "head", "invite"))
	refused(t, err, "install luna")
	must(t, late.Agent.Stop(syscall.SIGTERM, 20*time.Second))
	m.Heads = m.Heads[:3]

	must(t, back.Agent.Stop(syscall.SIGTERM, 20*time.Second))
	back.Bin = m.old
	must(t, back.Launch())
	ended, cancel := context.WithTimeout(ctx, 30*time.Second)
	defer cancel()
	t.Log(back.Agent.Wait(ended))
	if back.Agent.Running() {
		t.Errorf("%s runs the last release in a mesh whose log that cannot read", back.Name)
		back.Agent.Kill9()
	}
	m.write(ctx, t)
	m.served(ctx, t)
	back.Bin = ""
	must(t, back.Start(ctx))
	must(t, m.Settle(ctx))
	m.write(ctx, t)
}
