package upgrade

import (
	"context"
	"fmt"
	"slices"
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
	step("heads of both releases come and go", func(t *testing.T) { m.grows(ctx, t, h1, h2) })
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

// refuses asks a mesh of both releases for what only the new one knows. Nothing
// changes, and who asks learns what to do.
func (m *mesh) refuses(ctx context.Context, t *testing.T, upgraded, old *site.Head) {
	t.Helper()
	before := m.agree(ctx, t)
	for _, args := range []string{"head drain h3", "head undrain h3", "head change h3 --weight 2"} {
		_, err := upgraded.Luna(ctx, strings.Fields(args)...)
		refused(t, err, "upgrade luna on all heads first")
		if _, err = m.ask(ctx, old, strings.Fields(args)...); err == nil || !strings.Contains(err.Error(), "upgrade luna") {
			t.Errorf("luna %s on a head of the last release: %v: want a refusal that says what to do", args, err)
		}
	}
	must(t, differ(before, m.agree(ctx, t)))

	witness := m.add(ctx, t)
	must(t, witness.StartAs(ctx, "--name", witness.Name, "--data-dir", witness.Dir(), "--bind", witness.Addr.String(), "--socket", witness.Socket(), "--witness"))
	for _, through := range []*site.Head{upgraded, old} {
		refused(t, m.join(ctx, t, witness, through), "upgrade luna on all heads first")
	}
	m.dismiss(t, witness)
	for _, h := range m.Heads {
		if out := luna(ctx, t, h, "head", "list"); strings.Contains(out, witness.Name) {
			t.Errorf("%s lists a witness that was refused:\n%s", h.Name, out)
		}
	}
}

// grows has a head of this release and one of the last join a mesh of both, each
// through one of the other release, which takes it out again.
func (m *mesh) grows(ctx context.Context, t *testing.T, upgraded, old *site.Head) {
	t.Helper()
	for _, through := range []*site.Head{upgraded, old} {
		h := m.add(ctx, t)
		if through == upgraded {
			h.Bin = m.old
		}
		must(t, h.Start(ctx))
		must(t, m.join(ctx, t, h, through))
		must(t, m.Settle(ctx))
		m.write(ctx, t)
		luna(ctx, t, through, "head", "remove", h.Name)
		must(t, site.Until(ctx, 20*time.Second, h.Name+" has no vote", func() error {
			s, err := socket(upgraded).Self(ctx)
			if err == nil && slices.Contains(s.Voters, h.Name) {
				err = fmt.Errorf("those who have one: %q", s.Voters)
			}
			return err
		}))
		m.dismiss(t, h)
	}
}

// keepsOut has heads of the last release try to be in a mesh whose log they cannot
// read: a new one, and one of the mesh's own that somebody turned back.
func (m *mesh) keepsOut(ctx context.Context, t *testing.T, back *site.Head) {
	t.Helper()
	late := m.add(ctx, t)
	late.Bin = m.old
	must(t, late.Start(ctx))
	refused(t, m.join(ctx, t, late, m.Heads[0]), "install luna")
	m.dismiss(t, late)

	must(t, back.Agent.Stop(syscall.SIGTERM, 20*time.Second))
	back.Bin = m.old
	must(t, back.Launch())
	ended, cancel := context.WithTimeout(ctx, 30*time.Second)
	defer cancel()
	err := back.Agent.Wait(ended)
	t.Log(err)
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
