package agent_test

import (
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/clustervision/luna/agent/agenttest"
	"github.com/clustervision/luna/api"
	"github.com/clustervision/luna/inventory"
)

// admits asks the head's API with a credential.
func admits(t *testing.T, h *agenttest.Head, credential string) (bool, error) {
	t.Helper()
	if _, ok := h.View().Cluster(); !ok {
		return false, nil
	}
	_, err := byTLS(t, h, credential).Cluster(t.Context())
	return err == nil, err
}

// TestReadsAreFresh: what is written at one head is read at any other at once.
func TestReadsAreFresh(t *testing.T) {
	heads := agenttest.Mesh(t, 3)
	for i := range 60 {
		writer, reader := heads[i%3], heads[(i+1+i/3%2)%3]
		writer.Do(t, network(i))
		if _, err := reader.Network(t.Context(), network(i).Name); err != nil {
			t.Errorf("%s does not know yet what %s wrote: %v", reader.Name, writer.Name, err)
		}
	}
}

func TestReadsOfOneThatIsCutOff(t *testing.T) {
	heads := agenttest.Mesh(t, 3)
	heads[0].Do(t, network(1))
	stale := ""
	heads[0].Client.Stale = func(reason string) { stale = reason }
	if _, err := heads[0].Networks(t.Context()); err != nil || stale != "" {
		t.Errorf("while all are there: %q, %v", stale, err)
	}
	heads[1].Kill(t)
	heads[2].Kill(t)
	begin := time.Now()
	list, err := heads[0].Networks(t.Context())
	if err != nil || len(list) != 1 {
		t.Errorf("what it knows: %v, %v", list, err)
	}
	t.Logf("after %s: %s", time.Since(begin), stale)
	for _, want := range []string{"this is what head 'h1' knew at", "may be old", "2 of 3 heads unreachable", "h2 since", "h3 since"} {
		if !strings.Contains(stale, want) {
			t.Errorf("the answer says %q, want %q", stale, want)
		}
	}
	if s, err := heads[0].Client.Self(t.Context()); err != nil || s.CutOff < 1 {
		t.Errorf("it says of itself %+v, %v", s, err)
	}
	begin = time.Now()
	_, err = heads[0].Networks(t.Context())
	noError(t, err)
	if took := time.Since(begin); took > 2*time.Second {
		t.Errorf("the next answer, when that is known, took %s", took)
	}
	heads[1].Run(t)
	agenttest.Eventually(t, soon, "reads are fresh again", func() bool {
		stale = ""
		_, err := heads[0].Networks(t.Context())
		return err == nil && stale == ""
	})
}

func TestSafeAndStatus(t *testing.T) {
	heads := agenttest.Mesh(t, 3)
	addDHCP(t, heads[0])
	agenttest.Eventually(t, soon, "a head answers DHCP", func() bool { return holder(t, heads[0]) != "" })
	reasons := func(name string) string {
		t.Helper()
		s, err := heads[0].Client.Safe(t.Context(), name)
		noError(t, err)
		if s.Safe != (len(s.Reasons) == 0) {
			t.Errorf("%s: %+v", name, s)
		}
		return strings.Join(s.Reasons, "\n")
	}
	for _, h := range heads {
		if why := reasons(h.Name); why != "" {
			t.Errorf("%s is not safe: %s", h.Name, why)
		}
	}
	_, err := heads[0].Client.Safe(t.Context(), "h9")
	refused(t, "one that does not exist", err, "'h9'")

	heads[2].Kill(t)
	p := publish(t, heads[0])
	for _, h := range heads[:2] {
		agenttest.Eventually(t, soon, "h3 is seen to be away", func() bool { return row(t, h, "h3").State == "failed" })
	}
	for _, want := range []string{"without it 1 of 3 voters are there, and changes need 2", "h3 is away"} {
		if why := reasons("h2"); !strings.Contains(why, want) {
			t.Errorf("h2: %q, want %q", why, want)
		}
	}
	s, err := heads[0].Client.Safe(t.Context(), "h3")
	if err != nil || !s.Safe || !strings.Contains(strings.Join(s.Notes, "\n"), "does not answer") {
		t.Errorf("one that is down: %+v, %v", s, err)
	}
	agenttest.Eventually(t, soon, "h3 has no duty", func() bool { return holder(t, heads[1]) != "h3" && holder(t, heads[1]) != "" })
	status, err := heads[1].Client.Status(t.Context())
	noError(t, err)
	text := strings.Join(status.Warnings, "\n")
	if status.Voters != 3 || status.Alive != 2 || status.Quorum != 2 || status.Asked != "h2" || status.Leader == "" || !strings.Contains(text, "h3: does not answer since") {
		t.Errorf("status: %+v", status)
	}
	if len(status.Duties) != 1 || status.Duties[0].Holder == "" || status.Duties[0].Holder == "h3" || status.Duties[0].On != "cluster" {
		t.Errorf("duties: %+v", status.Duties)
	}

	p.heldBy(t, heads[0], heads[0], heads[1])
	heads[1].Kill(t)
	agenttest.Eventually(t, soon, "h2 is seen to be away", func() bool { return row(t, heads[0], "h2").State == "failed" })
	if why := reasons("h1"); !strings.Contains(why, "no other head that is there can answer DHCP on network 'cluster'") {
		t.Errorf("the last one: %q", why)
	}
	if s, err := heads[0].Client.Safe(t.Context(), "h2"); err != nil || s.Safe || !strings.Contains(strings.Join(s.Reasons, "\n"), "no head leads") {
		t.Errorf("safe without a quorum: %+v, %v", s, err)
	}
	status, err = heads[0].Client.Status(t.Context())
	if err != nil || status.Alive != 1 {
		t.Errorf("status without a quorum: %+v, %v", status, err)
	}
}

func TestTheOnlyCopyIsNotSafeToLose(t *testing.T) {
	heads := agenttest.Mesh(t, 2)
	w := agenttest.Start(t, "w", agenttest.Witness)
	w.JoinAt(t, heads[0])
	heads[1].Kill(t)
	p := publish(t, heads[0])
	s, err := w.Client.Safe(t.Context(), "h1")
	noError(t, err)
	want := "no other head holds version " + p.ID + " of osimage 'compute'"
	if !strings.Contains(strings.Join(s.Reasons, "\n"), want) {
		t.Errorf("safe: %+v, want %q", s, want)
	}
	refused(t, "remove", w.Client.RemoveHead(t.Context(), "h1", false), want, "--force")
	_, err = leave(t, heads[0], false)
	refused(t, "leave", err, want)
	heads[1].Run(t)
	p.heldBy(t, w, heads...)
	if s, err := w.Client.Safe(t.Context(), "h1"); err != nil || !s.Safe {
		t.Errorf("with a second copy: %+v, %v", s, err)
	}
	heads[1].Kill(t)
	agenttest.Eventually(t, soon, "a copy on a head that is away does not count", func() bool {
		s, err := w.Client.Safe(t.Context(), "h1")
		return err == nil && strings.Contains(strings.Join(s.Reasons, "\n"), "is else only on h2, which cannot give it now")
	})
	refused(t, "remove", w.Client.RemoveHead(t.Context(), "h1", false), "is else only on h2, which cannot give it now", "--force")
}

// TestTokensEndByTheMeshsClock: which runs as long as there is one.
func TestTokensEndByTheMeshsClock(t *testing.T) {
	heads := agenttest.Mesh(t, 2)
	begin, started := heads[1].View().Clock(), time.Now()
	r, err := heads[0].Client.Invite(t.Context(), api.InviteRequest{TTL: 2 * time.Second})
	noError(t, err)
	agenttest.Eventually(t, soon, "time passes", func() bool { return heads[1].View().Clock().Sub(begin) >= 2*time.Second })
	passed, took := heads[1].View().Clock().Sub(begin), time.Since(started)
	t.Logf("%s by the mesh's clock in %s", passed, took)
	if passed > took {
		t.Error("the mesh's clock runs faster than time does")
	}
	h := agenttest.Start(t, "h3")
	agenttest.Eventually(t, soon, "the token is of no use any more", func() bool {
		err = h.Client.Join(t.Context(), api.JoinRequest{Address: heads[1].API(), Token: r.Token})
		return err != nil && strings.Contains(err.Error(), "expired")
	})
	nobody(t, h)
}

// TestPromise5: an address that was given up is nobody's until every head has heard.
func TestPromise5(t *testing.T) {
	heads := agenttest.Mesh(t, 3)
	addNodes(t, heads[0], "node001", "node002", "node003")
	addr := func(name string) (a netip.Addr) {
		n, ok := heads[0].View().Node(name)
		if !ok {
			t.Fatalf("%s is not there", name)
		}
		for _, on := range n.Interfaces {
			a = on.V4
		}
		return a
	}
	retired := func() (n int) {
		for range heads[0].View().RetiredAddresses() {
			n++
		}
		return n
	}
	first := addr("node001")
	heads[1].Do(t, inventory.DeleteNodes{Names: []string{"node001"}})
	heads[0].Do(t, inventory.AddNodes{Group: "compute", Names: []string{"again"}, MAC: mac(7)})
	if got := addr("again"); got != first {
		t.Errorf("the lowest free address is %s, not %s", got, first)
	}
	agenttest.Eventually(t, soon, "all have heard", func() bool { return retired() == 0 })

	second := addr("node002")
	heads[2].Kill(t)
	heads[0].Do(t, inventory.DeleteNodes{Names: []string{"node002"}})
	agenttest.Eventually(t, soon, "a head is away", func() bool { return heads[0].View().Held() })
	heads[0].Do(t, inventory.AddNodes{Group: "compute", Names: []string{"other"}, MAC: mac(8)})
	if got := addr("other"); got == second {
		t.Errorf("%s is given to another while h3 may offer it to the first", got)
	}
	if _, ok := heads[1].View().RetiredFrom(second, mac(8)); !ok {
		t.Errorf("%s is anybody's while h3 is away", second)
	}
	if s, err := heads[1].Client.Status(t.Context()); err != nil || s.Waiting != 1 {
		t.Errorf("status: %d wait, %v", s.Waiting, err)
	}
	heads[2].Run(t)
	agenttest.Eventually(t, soon, "the one that was away has heard", func() bool { return retired() == 0 && !heads[0].View().Held() })

	heads[2].Kill(t)
	heads[0].Do(t, inventory.DeleteNodes{Names: []string{"node003"}})
	agenttest.Eventually(t, soon, "a head is away", func() bool { return heads[0].View().Held() && retired() == 1 })
	noError(t, heads[0].Client.RemoveHead(t.Context(), "h3", true))
	agenttest.Eventually(t, soon, "nobody is left who has not heard", func() bool { return retired() == 0 && !heads[0].View().Held() })
}
