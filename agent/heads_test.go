package agent_test

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/clustervision/luna/agent/agenttest"
	"github.com/clustervision/luna/api"
)

// soon is what a wait may take on a machine that has much else to do.
const soon = 30 * time.Second

// refused fails the test unless an error says all of that.
func refused(t *testing.T, what string, err error, says ...string) {
	t.Helper()
	if err == nil {
		t.Errorf("%s: it was done", what)
		return
	}
	for _, s := range says {
		if !strings.Contains(err.Error(), s) {
			t.Errorf("%s: got %q, want %q", what, err, s)
		}
	}
	t.Logf("%s: %v", what, err)
}

// voters waits until each of the heads knows that these have a vote.
func voters(t *testing.T, heads []*agenttest.Head, names ...string) {
	t.Helper()
	for _, h := range heads {
		var have []string
		deadline := time.Now().Add(soon)
		for {
			s, err := h.Client.Self(t.Context())
			have = slices.Sorted(slices.Values(s.Voters))
			if err == nil && slices.Equal(have, names) {
				break
			}
			if time.Now().After(deadline) {
				t.Fatalf("%s takes %v for the voters, not %v (%v)", h.Name, have, names, err)
			}
			time.Sleep(20 * time.Millisecond)
		}
	}
}

// leaderOf waits until one of the heads leads, and gives it and the others.
func leaderOf(t *testing.T, heads []*agenttest.Head) (leader *agenttest.Head, others []*agenttest.Head) {
	t.Helper()
	agenttest.Eventually(t, soon, "a head leads", func() bool {
		s, err := heads[0].Client.Self(t.Context())
		leader, others = nil, nil
		for _, h := range heads {
			if err == nil && h.Name == s.Leader {
				leader = h
			} else {
				others = append(others, h)
			}
		}
		return leader != nil
	})
	return leader, others
}

// row gives what a head's list says of a head; nil where it is not in it.
func row(t *testing.T, asked *agenttest.Head, name string) *api.Head {
	t.Helper()
	list, err := asked.Client.Heads(t.Context())
	noError(t, err)
	for i := range list {
		if list[i].Name == name {
			return &list[i]
		}
	}
	return nil
}

// nobody fails the test unless the head is in no cluster, and says so.
func nobody(t *testing.T, h *agenttest.Head) {
	t.Helper()
	s, err := h.Client.Self(t.Context())
	noError(t, err)
	if s.Member {
		t.Errorf("%s is still a member", h.Name)
	}
	_, err = h.Client.Cluster(t.Context())
	refused(t, "the cluster of one that is in none", err, "does not exist")
}

// without gives the heads but one.
func without(heads []*agenttest.Head, h *agenttest.Head) []*agenttest.Head {
	return slices.DeleteFunc(slices.Clone(heads), func(o *agenttest.Head) bool { return o == h })
}

func names(heads []*agenttest.Head) (list []string) {
	for _, h := range heads {
		list = append(list, h.Name)
	}
	slices.Sort(list)
	return list
}

// leave lets a head leave, and gives what it said.
func leave(t *testing.T, h *agenttest.Head, force bool) (said []string, err error) {
	t.Helper()
	err = h.Client.Leave(t.Context(), h.Name, api.LeaveRequest{Force: force, Wait: soon}, func(e api.JobEvent) {
		said = append(said, e.Message)
	})
	return said, err
}

func TestLeave(t *testing.T) {
	heads := agenttest.Mesh(t, 3)
	heads[0].Do(t, network(1))
	err := heads[0].Client.Leave(t.Context(), "h2", api.LeaveRequest{}, func(api.JobEvent) {})
	refused(t, "leaving in the name of another", err, "this is head 'h1'", "luna head remove h2")

	leader, others := leaderOf(t, heads)
	for i, h := range []*agenttest.Head{others[0], leader} {
		said, err := leave(t, h, false)
		noError(t, err)
		if last := said[len(said)-1]; !strings.Contains(last, "head '"+h.Name+"' has left the cluster") {
			t.Errorf("said: %q", said)
		}
		nobody(t, h)
		rest := without(heads, h)
		voters(t, rest, names(rest)...)
		rest[0].Do(t, network(10+i))
		if row(t, rest[0], h.Name) != nil {
			t.Errorf("%s is still in the list", h.Name)
		}
		h.JoinAt(t, rest[1])
		voters(t, heads, names(heads)...)
		h.Do(t, network(20+i)) // all that there is, it knows again
		if _, ok := h.View().Network("net1"); !ok {
			t.Error("what was there before is not known")
		}
	}
}

// TestLeaveAndStop: a head that has left is nobody after a restart too.
func TestLeaveAndStop(t *testing.T) {
	heads := agenttest.Mesh(t, 2)
	heads[0].Do(t, network(1))
	_, err := leave(t, heads[1], false)
	noError(t, err)
	heads[1].Stop(t)
	heads[1].Run(t)
	nobody(t, heads[1])
	voters(t, heads[:1], "h1")
	heads[0].Do(t, network(2))
	_, err = leave(t, heads[0], false)
	refused(t, "the only head leaves", err, "the only head")
	heads[0].Do(t, network(3))
}

func TestLeaveIsRefusedWhereItCostsTheQuorum(t *testing.T) {
	heads := agenttest.Mesh(t, 3)
	heads[2].Kill(t)
	agenttest.Eventually(t, soon, "h3 is seen to be away", func() bool {
		return row(t, heads[1], "h3").State == "failed"
	})
	_, err := leave(t, heads[1], false)
	refused(t, "leave", err, "h3 is away", "--force")
	if row(t, heads[0], "h2").Drained {
		t.Error("it was refused, and is drained all the same")
	}
	heads[1].Do(t, network(1))
}

func TestRemoveALiveHead(t *testing.T) {
	for _, which := range []string{"a follower", "the leader"} {
		t.Run(which, func(t *testing.T) {
			heads := agenttest.Mesh(t, 3)
			leader, others := leaderOf(t, heads)
			gone := leader
			if which == "a follower" {
				gone = others[0]
			}
			rest := without(heads, gone)
			noError(t, rest[0].Client.RemoveHead(t.Context(), gone.Name, false))
			voters(t, rest, names(rest)...)
			rest[1].Do(t, network(1))
			agenttest.Eventually(t, soon, "it knows that it was removed", func() bool {
				s, err := gone.Client.Self(t.Context())
				return err == nil && strings.Contains(strings.Join(s.Warnings, "\n"), "was removed from the cluster")
			})
			time.Sleep(time.Second) // a time in which it does not disturb the others
			_, err := gone.TryDo(network(2))
			refused(t, "a change at one that was removed", err)
			rest[0].Do(t, network(3))
			if _, ok := rest[0].View().Network("net2"); ok {
				t.Error("the change of a head that was removed was made")
			}
			refused(t, "a join before it has forgotten", gone.Client.Join(t.Context(), api.JoinRequest{Address: rest[0].API(), Token: "T"}), "head '"+gone.Name+"' was removed", "luna leave")
			said, err := leave(t, gone, false)
			noError(t, err)
			if last := said[len(said)-1]; !strings.Contains(last, "has forgotten it") {
				t.Errorf("said: %q", said)
			}
			nobody(t, gone)
			gone.JoinAt(t, rest[0])
			voters(t, heads, names(heads)...)
		})
	}
}

func TestReplaceALostHead(t *testing.T) {
	heads := agenttest.Mesh(t, 3)
	_, err := heads[0].Client.ReplaceHead(t.Context(), "h3", api.ReplaceRequest{})
	refused(t, "to replace one that is there", err, "head 'h3' is there", "luna leave")
	heads[2].Kill(t)
	agenttest.Eventually(t, soon, "h3 is seen to be away", func() bool {
		return row(t, heads[0], "h3").State == "failed"
	})
	err = heads[0].Client.RemoveHead(t.Context(), "h3", false)
	refused(t, "to remove one that is away", err, "does not answer", "--force")
	_, err = heads[0].Client.ReplaceHead(t.Context(), "h3", api.ReplaceRequest{Force: true, TTL: time.Millisecond})
	refused(t, "replace with a token of no time, before the head is removed", err, "a token may live from one second")
	_, err = heads[0].Client.ReplaceHead(t.Context(), "h3", api.ReplaceRequest{})
	refused(t, "to replace one that may be cut off only", err, "does not answer", "--force")

	r, err := heads[0].Client.ReplaceHead(t.Context(), "h3", api.ReplaceRequest{Force: true})
	noError(t, err)
	voters(t, heads[:2], "h1", "h2")
	fresh := agenttest.Start(t, "h3")
	noError(t, fresh.Client.Join(t.Context(), api.JoinRequest{Address: heads[1].API(), Token: r.Token}))
	voters(t, []*agenttest.Head{heads[0], heads[1], fresh}, "h1", "h2", "h3")
	fresh.Do(t, network(1))
	heads[0].Kill(t) // its vote counts
	heads[1].Do(t, network(2))
}

func TestRemoveALostHeadByForce(t *testing.T) {
	heads := agenttest.Mesh(t, 3)
	heads[2].Kill(t)
	noError(t, heads[0].Client.RemoveHead(t.Context(), "h3", true))
	voters(t, heads[:2], "h1", "h2")
	heads[2].Run(t) // it was cut off only
	agenttest.Eventually(t, soon, "the one that came back says what it is", func() bool {
		s, err := heads[2].Client.Self(t.Context())
		return err == nil && (strings.Contains(strings.Join(s.Warnings, "\n"), "was removed") || s.CutOff > 0)
	})
	s, err := heads[2].Client.Self(t.Context())
	noError(t, err)
	t.Logf("it says: %+v", s)
	_, err = heads[2].TryDo(network(5))
	refused(t, "a change at one that was removed while it was away", err)
	heads[0].Do(t, network(6))
}

// TestATokenThatACutOffHeadDoesNotKnow: it may be good, and is not called unknown.
func TestATokenThatACutOffHeadDoesNotKnow(t *testing.T) {
	heads := agenttest.Mesh(t, 3)
	heads[2].Stop(t)
	i, err := heads[0].Client.Invite(t.Context(), api.InviteRequest{})
	noError(t, err)
	heads[0].Kill(t)
	heads[1].Kill(t)
	heads[2].Run(t)
	err = agenttest.Start(t, "h4").Client.Join(t.Context(), api.JoinRequest{Address: heads[2].API(), Token: i.Token})
	refused(t, "join at a head that is cut off", err, "head 'h3' cannot tell whether the token is good", "2 of 3 heads unreachable")
}

// TestOneOfTwoIsLost: nothing can be decided until the other one recovers alone.
func TestOneOfTwoIsLost(t *testing.T) {
	heads := agenttest.Mesh(t, 2)
	heads[0].Do(t, network(1))
	heads[1].Kill(t)
	err := heads[0].Client.RemoveHead(t.Context(), "h2", true)
	refused(t, "remove", err, "1 of 2 heads unreachable: h2 since")
	noError(t, heads[0].Client.Recover(t.Context()))
	voters(t, heads[:1], "h1")
	heads[0].Do(t, network(2))
	agenttest.Start(t, "h2").JoinAt(t, heads[0])
	voters(t, heads[:1], "h1", "h2")
}

// TestFiveOfSevenVote: and the others take the place of those who go.
func TestFiveOfSevenVote(t *testing.T) {
	heads := agenttest.Mesh(t, 7)
	role := func() map[string]string {
		roles := map[string]string{}
		list, err := heads[0].Client.Heads(t.Context())
		noError(t, err)
		for _, h := range list {
			roles[h.Name] = h.Role
		}
		return roles
	}
	voters(t, heads, "h1", "h2", "h3", "h4", "h5")
	if r := role(); r["h6"] != "nonvoter" || r["h7"] != "nonvoter" {
		t.Errorf("roles: %v", r)
	}
	heads[6].Do(t, network(1)) // a head without a vote takes changes
	if _, err := heads[5].Network(t.Context(), "net1"); err != nil {
		t.Errorf("and gives what is newest: %v", err)
	}
	if s, err := heads[0].Client.Safe(t.Context(), "h6"); err != nil || len(s.Reasons) > 0 {
		t.Errorf("one without a vote may go down: %+v, %v", s, err)
	}

	noError(t, heads[0].Client.RemoveHead(t.Context(), "h2", false))
	rest := without(heads, heads[1])
	agenttest.Eventually(t, soon, "one of the others votes in its place", func() bool {
		return fmt.Sprint(slices.Sorted(maps.Values(role()))) == "[nonvoter voter voter voter voter voter]"
	})
	_, err := leave(t, heads[2], false)
	noError(t, err)
	rest = without(rest, heads[2])
	voters(t, rest, "h1", "h4", "h5", "h6", "h7")
	rest[4].Do(t, network(2))
}
