package agent_test

import (
	"fmt"
	"net/netip"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/clustervision/luna/agent/agenttest"
	"github.com/clustervision/luna/api"
	"github.com/clustervision/luna/inventory"
)

func network(i int) inventory.AddNetwork {
	return inventory.AddNetwork{Name: fmt.Sprintf("net%d", i), Prefix: netip.PrefixFrom(netip.AddrFrom4([4]byte{10, byte(i), 0, 0}), 16)}
}

func TestAMeshOfThree(t *testing.T) {
	heads := agenttest.Mesh(t, 3)
	for i, h := range heads {
		h.Do(t, network(i))
		if _, ok := h.View().Network(fmt.Sprintf("net%d", i)); !ok {
			t.Errorf("%s does not read its own write", h.Name)
		}
	}
	for _, h := range heads {
		agenttest.Eventually(t, 5*time.Second, h.Name+" has all networks", func() bool {
			list, err := h.Networks(t.Context())
			return err == nil && len(list) == 3
		})
		list, err := h.Client.Heads(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		for _, w := range list {
			if w.State != "alive" || w.Role != "voter" || w.AppliedIndex == 0 {
				t.Errorf("%s sees %s as %+v", h.Name, w.Name, w)
			}
		}
	}
}

func TestAnyHeadMayDie(t *testing.T) {
	for dead := range 3 {
		t.Run(fmt.Sprintf("h%d", dead+1), func(t *testing.T) {
			heads := agenttest.Mesh(t, 3)
			heads[0].Do(t, network(0))
			heads[dead].Kill(t)
			start := time.Now()
			for i, h := range heads {
				if i != dead {
					h.Do(t, network(10+i))
				}
			}
			t.Logf("writes went on after %s", time.Since(start))
			heads[dead].Run(t)
			agenttest.Eventually(t, 10*time.Second, "the dead head is back with all it missed", func() bool {
				n := 0
				for range heads[dead].View().Networks() {
					n++
				}
				return n == 3
			})
		})
	}
}

func TestAllHeadsDieAtOnce(t *testing.T) {
	heads := agenttest.Mesh(t, 3)
	heads[1].Do(t, network(1))
	for _, h := range heads {
		h.Kill(t)
	}
	for _, h := range heads {
		h.Run(t)
	}
	heads[2].Do(t, network(2))
	agenttest.Eventually(t, 5*time.Second, "everything is there on h1", func() bool {
		_, a := heads[0].View().Network("net1")
		_, b := heads[0].View().Network("net2")
		return a && b
	})
}

func TestOneHeadAlone(t *testing.T) {
	h := agenttest.Start(t, "only")
	if _, err := h.Client.Cluster(t.Context()); err == nil || !strings.Contains(err.Error(), "Object 'general' of type 'cluster' does not exist") {
		t.Errorf("before init: %v", err)
	}
	if _, err := h.Client.Nodes(t.Context(), ""); err == nil || !strings.Contains(err.Error(), "belongs to no cluster yet") {
		t.Errorf("the nodes before init: %v", err)
	}
	agenttest.Init(t, h)
	h.Do(t, network(1))
	h.Stop(t)
	h.Run(t)
	h.Do(t, network(2))
	if _, ok := h.View().Network("net1"); !ok {
		t.Error("a restart lost a network")
	}
	if _, err := h.Client.Init(t.Context(), api.InitRequest{FrontendAddress: netip.MustParseAddr("127.0.0.1")}); err == nil || !strings.Contains(err.Error(), "'general' is already created") {
		t.Errorf("second init: %v", err)
	}
}

func TestTokens(t *testing.T) {
	heads := agenttest.Mesh(t, 2)
	other := agenttest.Start(t, "other")
	agenttest.Init(t, other)
	ctx := t.Context()
	token := func(h *agenttest.Head, ttl time.Duration) string {
		r, err := h.Client.Invite(ctx, api.InviteRequest{TTL: ttl})
		if err != nil {
			t.Fatal(err)
		}
		return r.Token
	}
	fresh := agenttest.Start(t, "h3")
	refuse := func(name string, h *agenttest.Head, token, want string) {
		t.Helper()
		err := h.Client.Join(ctx, api.JoinRequest{Address: heads[1].API(), Token: token})
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: got %v, want %q", name, err, want)
		}
	}
	refuse("another cluster's", fresh, token(other, 0), "another cluster")
	refuse("no token", fresh, "hello", "no join token")
	refuse("cut off", fresh, token(heads[0], 0)[:90], "damaged")
	refuse("a member", heads[0], token(heads[0], 0), "already a member")

	short := token(heads[0], time.Second)
	agenttest.Eventually(t, 10*time.Second, "an expired token is refused as such", func() bool {
		err := fresh.Client.Join(ctx, api.JoinRequest{Address: "127.0.0.1:1", Token: short})
		if err == nil || !strings.Contains(err.Error(), "cannot join at") {
			t.Fatalf("a closed port: %v", err)
		}
		time.Sleep(1100 * time.Millisecond)
		err = fresh.Client.Join(ctx, api.JoinRequest{Address: heads[0].API(), Token: short})
		return err != nil && strings.Contains(err.Error(), "expired")
	})

	taken := agenttest.Start(t, "h1")
	refuse("a name taken", taken, token(heads[0], 0), "'h1' is taken")

	good := token(heads[0], 0)
	if err := fresh.Client.Join(ctx, api.JoinRequest{Address: heads[1].API(), Token: good}); err != nil {
		t.Fatalf("join at a follower: %v", err)
	}
	late := agenttest.Start(t, "h4")
	refuse("used", late, good, "used already, by head 'h3'")
	if _, err := os.Stat(late.Config.DataDir + "/identity.json"); err == nil {
		t.Error("a refused head has an identity")
	}
}

func TestWithoutQuorumEditsAreRefusedWithTheReason(t *testing.T) {
	heads := agenttest.Mesh(t, 3)
	heads[0].Do(t, network(1))
	heads[1].Kill(t)
	heads[2].Kill(t)
	_, err := heads[0].TryDo(network(2))
	if err == nil || !strings.Contains(err.Error(), "2 of 3 heads unreachable: h2 since") {
		t.Errorf("got %v", err)
	}
	if _, ok := heads[0].View().Network("net1"); !ok {
		t.Error("what is known is not read any more")
	}
}
