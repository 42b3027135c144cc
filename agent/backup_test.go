package agent_test

import (
	"bytes"
	"context"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/klauspost/compress/zstd"

	"github.com/clustervision/luna/agent/agenttest"
	"github.com/clustervision/luna/inventory"
)

// addNodes makes what a cluster has: a network, an osimage, a group, and nodes
// with MAC addresses.
func addNodes(t *testing.T, h *agenttest.Head, names ...string) {
	t.Helper()
	if _, ok := h.View().OSImage("compute"); !ok {
		h.Do(t, inventory.AddOSImage{Name: "compute", Path: "/tree", KernVer: "6.1"})
	}
	h.Do(t, network(9), inventory.AddGroup{Name: "compute", OSImage: "compute", Network: "net9"})
	for i, name := range names {
		h.Do(t, inventory.AddNodes{Group: "compute", Names: []string{name}, MAC: mac(i)})
	}
}

func mac(i int) inventory.MAC { return inventory.MAC("02:00:00:00:00:0" + string(rune('0'+i))) }

// generation gives how often the cluster went on without heads.
func generation(h *agenttest.Head) uint64 {
	c, ok := h.View().Cluster()
	if !ok {
		return 0
	}
	return c.Generation
}

// TestRecover: two of three are gone. The third goes on with all that it has, and
// those who come back all the same do no harm.
func TestRecover(t *testing.T) {
	heads := agenttest.Mesh(t, 3)
	p := publish(t, heads[0])
	p.heldBy(t, heads[0], heads...)
	addNodes(t, heads[1], "node001", "node002")
	refused(t, "recover where nothing is lost", heads[0].Client.Recover(t.Context()), "nothing needs to be recovered")
	heads[1].Kill(t)
	heads[2].Kill(t)
	_, err := heads[0].TryDo(network(2))
	refused(t, "a change", err, "2 of 3 heads unreachable")

	noError(t, heads[0].Client.Recover(t.Context()))
	if g := generation(heads[0]); g != 1 {
		t.Errorf("generation %d", g)
	}
	voters(t, heads[:1], "h1")
	heads[0].Do(t, network(3))
	for _, name := range []string{"node001", "node002"} {
		if _, ok := heads[0].View().Node(name); !ok {
			t.Errorf("%s is lost", name)
		}
	}
	if list, err := heads[0].Client.Heads(t.Context()); err != nil || len(list) != 1 || len(list[0].Warnings) > 0 {
		t.Errorf("heads: %+v, %v", list, err)
	}
	p.heldBy(t, heads[0], heads[0])
	if _, err := heads[0].Client.Backup(t.Context()); err != nil {
		t.Errorf("backup after it: %v", err)
	}

	// Both come back, a majority of what was.
	heads[1].Run(t)
	heads[2].Run(t)
	for _, h := range heads[1:] {
		agenttest.Eventually(t, soon, h.Name+" knows that it is of the past", func() bool {
			s, err := h.Client.Self(t.Context())
			return err == nil && strings.Contains(strings.Join(s.Warnings, "\n"), "recovered or restored on head 'h1' without this head")
		})
		_, err := h.TryDo(network(4))
		refused(t, "a change at a head of the past", err, "recovered or restored on head 'h1'")
	}
	for i := range 10 {
		heads[0].Do(t, network(100+i))
		time.Sleep(100 * time.Millisecond) // a second in all
	}
	voters(t, heads[:1], "h1")
	if g := generation(heads[0]); g != 1 {
		t.Errorf("generation %d: the past came back", g)
	}
	heads[0].Stop(t)
	heads[0].Run(t)
	heads[0].Do(t, network(5))
	for i := range 10 {
		if _, ok := heads[0].View().Network(network(100 + i).Name); !ok {
			t.Errorf("change %d is lost", i)
		}
	}

	// New ones join, under an old name too.
	agenttest.Start(t, "h4").JoinAt(t, heads[0])
	heads[1].Stop(t)
	again := agenttest.Start(t, "h2")
	again.JoinAt(t, heads[0])
	voters(t, []*agenttest.Head{heads[0], again}, "h1", "h2", "h4")
	again.Do(t, network(6))
	if g := generation(again); g != 1 {
		t.Errorf("generation %d", g)
	}
}

// TestRecoverBesideThePast: heads that come back in the moment of the recovery.
func TestRecoverBesideThePast(t *testing.T) {
	heads := agenttest.Mesh(t, 3)
	heads[1].Kill(t)
	heads[2].Kill(t)
	noError(t, heads[0].Client.Recover(t.Context()))
	heads[0].Do(t, network(1))
	heads[0].Kill(t)
	for _, h := range []*agenttest.Head{heads[1], heads[2]} {
		h.Run(t)
	}
	agenttest.Eventually(t, soon, "the two decide by themselves, without the one that they do not see", func() bool {
		s, err := heads[1].Client.Self(t.Context())
		return err == nil && s.Leader != ""
	})
	heads[0].Run(t)
	heads[0].Do(t, network(2))
	agenttest.Eventually(t, soon, "they are quiet", func() bool {
		s, err := heads[1].Client.Self(t.Context())
		return err == nil && strings.Contains(strings.Join(s.Warnings, "\n"), "without this head")
	})
	heads[0].Do(t, network(3))
	for _, n := range []string{"net1", "net2", "net3"} {
		if _, ok := heads[0].View().Network(n); !ok {
			t.Errorf("%s is lost", n)
		}
	}
	voters(t, heads[:1], "h1")
}

func TestBackupAndRestore(t *testing.T) {
	heads := agenttest.Mesh(t, 3)
	p := publish(t, heads[0])
	p.heldBy(t, heads[0], heads...)
	addNodes(t, heads[1], "node001", "node002", "node003")
	credential, err := heads[0].Client.Credential(t.Context(), "me")
	noError(t, err)
	for _, h := range heads { // any of them
		if b, err := h.Client.Backup(t.Context()); err != nil || !bytes.HasPrefix(b, []byte(`{"format":"luna-backup"`)) {
			t.Errorf("backup from %s: %d bytes, %v", h.Name, len(b), err)
		}
	}
	_, others := leaderOf(t, heads)
	backup, err := others[0].Client.Backup(t.Context())
	noError(t, err)
	heads[0].Do(t, network(1)) // which the backup does not know
	before := heads[0].View()
	_, err = heads[1].Client.Restore(t.Context(), backup)
	refused(t, "restore on a member", err, "already a member")
	heads[1].Kill(t)
	heads[2].Kill(t)
	agenttest.Eventually(t, soon, "h1 misses them", func() bool {
		return row(t, heads[0], "h2").State == "failed" && row(t, heads[0], "h3").State == "failed"
	})
	_, err = heads[0].Client.Backup(t.Context())
	refused(t, "backup without a majority", err, "no backup that is sure to be whole", "2 of 3 heads unreachable")
	heads[0].Kill(t)

	fresh := agenttest.Start(t, "new1")
	for what, bad := range map[string][]byte{
		"no backup":   []byte("hello"),
		"one line":    []byte("{}\n"),
		"cut off":     backup[:len(backup)-10],
		"a bit wrong": append(append([]byte{}, backup[:len(backup)-1]...), backup[len(backup)-1]^1),
	} {
		_, err := fresh.Client.Restore(t.Context(), bad)
		refused(t, what, err, "backup")
		nobody(t, fresh)
	}
	reply, err := fresh.Client.Restore(t.Context(), backup)
	noError(t, err)
	if reply.Nodes != 3 || len(reply.Missing) != 1 || reply.Missing[0] != "compute" || reply.Credential == "" {
		t.Errorf("reply: %+v", reply)
	}
	sameNodes(t, before, fresh.View())
	voters(t, []*agenttest.Head{fresh}, "new1")
	if list, err := fresh.Client.Heads(t.Context()); err != nil || len(list) != 1 || list[0].Name != "new1" {
		t.Errorf("heads: %+v, %v", list, err)
	}
	if _, ok := fresh.View().Network("net1"); ok {
		t.Error("it knows what came after the backup")
	}
	if v, ok := fresh.View().Version(p.ID); !ok || v.Ready || len(v.Holders) > 0 {
		t.Errorf("the image is not here, and known as %+v", v)
	}
	ok, err := admits(t, fresh, credential)
	if !ok {
		t.Errorf("a credential of before: %v", err)
	}
	_, err = fresh.Client.Restore(t.Context(), backup)
	refused(t, "restore twice", err, "already a member")
	fresh.Do(t, network(2))
	second := agenttest.Start(t, "h2") // under a name of before
	second.JoinAt(t, fresh)
	voters(t, []*agenttest.Head{fresh, second}, "h2", "new1")
	fresh.Stop(t)
	fresh.Run(t)
	fresh.Do(t, network(3))
	sameNodes(t, before, second.View())
	if g := generation(second); g != 1 {
		t.Errorf("generation %d", g)
	}
}

// TestRestoreWhereImagesAre: a head that has the artifacts still boots nodes from them;
// what it lacks is told.
func TestRestoreWhereImagesAre(t *testing.T) {
	old := agenttest.Start(t, "old")
	agenttest.Init(t, old)
	p := publish(t, old)
	old.Do(t, inventory.AddOSImage{Name: "login", Path: "/other", KernVer: "6.1"})
	backup, err := old.Client.Backup(t.Context())
	noError(t, err)
	old.Stop(t)
	fresh := agenttest.Start(t, "new")
	noError(t, os.CopyFS(filepath.Join(fresh.Config.DataDir, "artifacts"), os.DirFS(filepath.Join(old.Config.DataDir, "artifacts"))))
	p.age(t, fresh)
	reply, err := fresh.Client.Restore(t.Context(), backup)
	noError(t, err)
	if len(reply.Missing) != 1 || reply.Missing[0] != "login" {
		t.Errorf("missing are %q, want login alone", reply.Missing)
	}
	agenttest.Eventually(t, soon, "nodes can boot it", func() bool { v, ok := fresh.View().Version(p.ID); return ok && v.Ready })
}

// TestRestoreIsKilled: whenever that is, it is restored after the next start, or
// the head is nobody.
func TestRestoreIsKilled(t *testing.T) {
	h := agenttest.Start(t, "old")
	agenttest.Init(t, h)
	addNodes(t, h, "node001")
	backup, err := h.Client.Backup(t.Context())
	noError(t, err)
	before := h.View()
	h.Stop(t)
	for _, after := range []time.Duration{0, 20, 50, 100, 150, 200, 300} {
		after *= time.Millisecond
		fresh := agenttest.Start(t, "new")
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error, 1)
		go func() {
			_, err := fresh.Client.Restore(ctx, backup)
			done <- err
		}()
		entered := func() bool {
			s, err := fresh.Agent.Self(t.Context())
			return err == nil && s.Member
		}
		agenttest.Eventually(t, soon, "it is about to restore", entered)
		time.Sleep(after) // wherever it is then
		fresh.Kill(t)
		cancel()
		<-done
		fresh.Run(t)
		agenttest.Eventually(t, soon, "it is restored after a kill in "+after.String(), func() bool { return generation(fresh) == 1 })
		sameNodes(t, before, fresh.View())
		voters(t, []*agenttest.Head{fresh}, "new")
		fresh.Do(t, network(2))
		fresh.Stop(t)
		fresh.Run(t)
		if _, ok := fresh.View().Network("net2"); !ok {
			agenttest.Eventually(t, soon, "a change is kept", func() bool { _, ok := fresh.View().Network("net2"); return ok })
		}
		fresh.Stop(t)
	}
}

// TestRestoreIsCutAtItsEnd: it is done, and only what says so is not on disk yet. What
// was decided since must not go back to the backup, whether that is still there or not.
func TestRestoreIsCutAtItsEnd(t *testing.T) {
	old := agenttest.Start(t, "old")
	agenttest.Init(t, old)
	backup, err := old.Client.Backup(t.Context())
	noError(t, err)
	old.Stop(t)
	_, packed, _ := bytes.Cut(backup, []byte("\n"))
	z, err := zstd.NewReader(bytes.NewReader(packed))
	noError(t, err)
	snapshot, err := io.ReadAll(z)
	noError(t, err)
	for _, there := range []bool{true, false} {
		fresh := agenttest.Start(t, "new")
		_, err = fresh.Client.Restore(t.Context(), backup)
		noError(t, err)
		fresh.Do(t, network(1))
		fresh.Stop(t)
		identityOf(t, fresh, func(id map[string]any) { id["adopt"] = map[string]any{"backup": "restore.snap"} })
		if there {
			noError(t, os.WriteFile(filepath.Join(fresh.Config.DataDir, "restore.snap"), snapshot, 0o600))
		}
		fresh.Run(t)
		agenttest.Eventually(t, soon, "it is written down that it was restored", func() bool {
			b, err := os.ReadFile(filepath.Join(fresh.Config.DataDir, "identity.json"))
			return err == nil && !bytes.Contains(b, []byte("adopt"))
		})
		if _, ok := fresh.View().Network("net1"); !ok || generation(fresh) != 1 {
			t.Errorf("generation %d; the change since is there: %t", generation(fresh), ok)
		}
		if s, err := fresh.Client.Self(t.Context()); err != nil || len(s.Warnings) > 0 {
			t.Errorf("it warns of %q (%v)", s.Warnings, err)
		}
		fresh.Stop(t)
	}
}

// sameNodes compares the nodes of two states.
func sameNodes(t *testing.T, before, after *inventory.Inventory) {
	t.Helper()
	n := 0
	for want := range before.Nodes() {
		n++
		got, ok := after.Node(want.Name)
		if !ok || got.ID != want.ID || got.MAC != want.MAC || len(got.Interfaces) != len(want.Interfaces) {
			t.Errorf("%s was %+v and is %+v", want.Name, want, got)
		}
	}
	for range after.Nodes() {
		n--
	}
	if n != 0 {
		t.Errorf("%d nodes more than after", n)
	}
}
