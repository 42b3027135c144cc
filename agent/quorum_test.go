package agent_test

import (
	"bytes"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"encoding/hex"
	"encoding/json"
	"errors"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/klauspost/compress/zstd"

	"github.com/clustervision/luna/agent"
	"github.com/clustervision/luna/agent/agenttest"
	"github.com/clustervision/luna/api"
	"github.com/clustervision/luna/inventory"
)

// TestAVoterThatCannotWrite: the vote of a head whose disk is full counts for nothing, so
// no other head may go, and what cannot be done says for want of what.
func TestAVoterThatCannotWrite(t *testing.T) {
	h1 := agenttest.Start(t, "h1", onSmallDisk(t))
	agenttest.Init(t, h1)
	h2, h3 := agenttest.Start(t, "h2"), agenttest.Start(t, "h3")
	h2.JoinAt(t, h1)
	h3.JoinAt(t, h1)
	heads := []*agenttest.Head{h1, h2, h3}
	voters(t, heads, "h1", "h2", "h3")
	addDHCP(t, h2)
	h2.Do(t, network(1))
	free := fillDisk(t, h1)
	untilDiskFails(t, h1, func() {
		comment := strings.Repeat("x", 8<<10)
		h2.Do(t, inventory.ChangeNetwork{Name: "net1", Comment: &comment})
	})
	for _, h := range []*agenttest.Head{h2, h3} {
		agenttest.Eventually(t, soon, h.Name+" knows that h1 cannot write", func() bool {
			s, err := h.Client.Safe(t.Context(), "h3")
			return err == nil && !s.Safe
		})
	}
	s, err := h2.Client.Safe(t.Context(), "h3")
	noError(t, err)
	if words := strings.Join(s.Reasons, "\n"); !strings.Contains(words, "without it 1 of 3 voters are there, and changes need 2 (h1 cannot write to disk)") {
		t.Errorf("h3 may not go because of %q", words)
	}
	_, err = leave(t, h3, false)
	refused(t, "leave", err, "h1 cannot write to disk")
	status, err := h2.Client.Status(t.Context())
	noError(t, err)
	if status.Alive != 2 || status.Voters != 3 {
		t.Errorf("%d of %d voters are there", status.Alive, status.Voters)
	}
	refused(t, "recover where two can decide", h1.Client.Recover(t.Context()), "nothing needs to be recovered")

	_, err = drain(t, h2, "h2") // h3 does all of it then, and so it may not rest
	noError(t, err)
	_, err = drain(t, h2, "h3")
	refused(t, "drain of the last that works", err, "no other head is there that could take over")

	h3.Kill(t)
	_, err = h2.TryDo(network(2))
	refused(t, "a change", err, "1 of 3 heads unreachable: h3 since", "head 'h1' cannot write its disk")
	free()
	agenttest.Eventually(t, time.Minute, "h1 writes again", func() bool {
		_, err := h2.TryDo(network(3))
		return err == nil || errors.Is(err, inventory.ErrExists)
	})
}

// TestLeadershipRests: of a drained head and a witness neither hands leadership to the
// other, again and again, while the head that could lead cannot write.
func TestLeadershipRests(t *testing.T) {
	h1 := agenttest.Start(t, "h1", onSmallDisk(t))
	agenttest.Init(t, h1)
	h2, w := agenttest.Start(t, "h2"), agenttest.Start(t, "w", agenttest.Witness)
	h2.JoinAt(t, h1)
	w.JoinAt(t, h1)
	voters(t, []*agenttest.Head{h1, h2, w}, "h1", "h2", "w")
	_, err := drain(t, h1, "h2")
	noError(t, err)
	h2.Do(t, network(1))
	fillDisk(t, h1)
	untilDiskFails(t, h1, func() {
		comment := strings.Repeat("x", 8<<10)
		_, _ = h2.TryDo(inventory.ChangeNetwork{Name: "net1", Comment: &comment}) // leadership may just move
	})
	leader := ""
	agenttest.Eventually(t, soon, "another head leads", func() bool {
		s, err := h2.Client.Self(t.Context())
		leader = s.Leader
		return err == nil && leader != "" && leader != "h1"
	})
	for end := time.Now().Add(3 * time.Second); time.Now().Before(end); time.Sleep(20 * time.Millisecond) {
		if s, err := h2.Client.Self(t.Context()); err != nil || s.Leader != leader {
			t.Fatalf("leadership went from %s to %q (%v)", leader, s.Leader, err)
		}
	}
}

// TestRecoverJustAfterAStart: a head that was started just now has not heard yet of the
// heads that decide, and must not take them for lost.
func TestRecoverJustAfterAStart(t *testing.T) {
	heads := agenttest.Mesh(t, 3)
	heads[2].Stop(t)
	heads[2].Run(t)
	refused(t, "recover", heads[2].Client.Recover(t.Context()), "nothing needs to be recovered")
	heads[0].Do(t, network(1))
	if g := generation(heads[2]); g != 0 {
		t.Errorf("generation %d", g)
	}
}

// identityOf changes what a head, whose agent is stopped, keeps of itself.
func identityOf(t *testing.T, h *agenttest.Head, change func(id map[string]any)) {
	t.Helper()
	path := filepath.Join(h.Config.DataDir, "identity.json")
	b, err := os.ReadFile(path)
	noError(t, err)
	id := map[string]any{}
	noError(t, json.Unmarshal(b, &id))
	delete(id, "sum") // identities of before it have none
	change(id)
	b, err = json.Marshal(id)
	noError(t, err)
	noError(t, os.WriteFile(path, b, 0o600))
}

// TestRecoverIsBrokenOff: the power fails just when a head has been told to go on alone.
// When it is back it does, and those that were lost get at nothing.
func TestRecoverIsBrokenOff(t *testing.T) {
	heads := agenttest.Mesh(t, 3)
	heads[0].Do(t, network(1))
	for _, h := range heads {
		h.Kill(t)
	}
	identityOf(t, heads[0], func(id map[string]any) {
		id["generation"], id["adopt"] = 1, map[string]any{"alone": true}
	})
	for range 2 { // and again, before it is done
		heads[0].Run(t)
		heads[0].Kill(t)
	}
	heads[0].Run(t)
	agenttest.Eventually(t, soon, "h1 goes on alone", func() bool { return generation(heads[0]) == 1 })
	voters(t, heads[:1], "h1")
	heads[1].Run(t)
	heads[2].Run(t)
	heads[0].Do(t, network(2))
	for _, h := range heads[1:] {
		agenttest.Eventually(t, soon, h.Name+" knows that it is of the past", func() bool {
			s, err := h.Client.Self(t.Context())
			return err == nil && strings.Contains(strings.Join(s.Warnings, "\n"), "without this head")
		})
		_, err := h.TryDo(network(3))
		refused(t, "a change on "+h.Name, err)
	}
	voters(t, heads[:1], "h1")
}

// TestRestoreOfTheFormatBefore: a backup that a mesh made before all its heads knew the
// newest format is restored, while none of those heads is there.
func TestRestoreOfTheFormatBefore(t *testing.T) {
	heads := agenttest.Mesh(t, 2)
	heads[0].Do(t, network(1))
	backup, err := heads[0].Client.Backup(t.Context())
	noError(t, err)
	for _, h := range heads {
		h.Kill(t)
	}
	fresh := agenttest.Start(t, "new")
	_, err = fresh.Client.Restore(t.Context(), ofFormat1(t, backup))
	noError(t, err)
	if _, ok := fresh.View().Network("net1"); !ok || fresh.View().Format() != inventory.FormatVersion {
		t.Errorf("format %d, with the network: %v", fresh.View().Format(), ok)
	}
	fresh.Do(t, network(2))
}

// ofFormat1 makes a backup one of a mesh of format 1.
func ofFormat1(t *testing.T, backup []byte) []byte {
	t.Helper()
	line, content, _ := bytes.Cut(backup, []byte("\n"))
	z, err := zstd.NewReader(bytes.NewReader(content))
	noError(t, err)
	defer z.Close()
	snapshot, err := io.ReadAll(z)
	noError(t, err)
	for _, it := range [][2]string{{`"v":2,`, `"v":1,`}, {`"format":2,`, ``}, {`"format":2`, `"format":1`}} {
		snapshot = bytes.Replace(snapshot, []byte(it[0]), []byte(it[1]), 1)
	}
	inv, err := inventory.Read(bytes.NewReader(snapshot))
	noError(t, err)
	if inv.Format() != 1 {
		t.Fatalf("it is of format %d", inv.Format())
	}
	var packed bytes.Buffer
	w, err := zstd.NewWriter(&packed)
	noError(t, err)
	_, err = w.Write(snapshot)
	noError(t, err)
	noError(t, w.Close())
	header := map[string]any{}
	noError(t, json.Unmarshal(line, &header))
	sum := sha256.Sum256(packed.Bytes())
	header["sha256"] = hex.EncodeToString(sum[:])
	line, err = json.Marshal(header)
	noError(t, err)
	return append(append(line, '\n'), packed.Bytes()...)
}

// TestStateOfBeforeIsSetAside: a head that has lost its identity and not its state does not
// bring that into another cluster.
func TestStateOfBeforeIsSetAside(t *testing.T) {
	old := agenttest.Mesh(t, 2)
	old[0].Do(t, network(1))
	stray := old[1]
	stray.Stop(t)
	noError(t, os.Remove(filepath.Join(stray.Config.DataDir, "identity.json")))
	stray.Run(t)
	nobody(t, stray)
	other := agenttest.Start(t, "b1")
	agenttest.Init(t, other)
	other.Do(t, network(2))
	stray.JoinAt(t, other)
	voters(t, []*agenttest.Head{other, stray}, "b1", "h2")
	if _, ok := stray.View().Network("net1"); ok {
		t.Error("it knows what the other cluster knew")
	}
	stray.Do(t, network(3))
	if _, err := os.Stat(filepath.Join(stray.Config.DataDir, "raft.before")); err != nil {
		t.Error(err)
	}
}

// TestAWitnessStaysOne: what a head is to the others does not change by its configuration.
func TestAWitnessStaysOne(t *testing.T) {
	heads := agenttest.Mesh(t, 2)
	w := agenttest.Start(t, "w", agenttest.Witness)
	_, err := w.Client.Init(t.Context(), api.InitRequest{FrontendAddress: w.Config.Bind})
	refused(t, "init of a witness", err, "is to be a witness")
	w.JoinAt(t, heads[0])
	for _, h := range []*agenttest.Head{heads[1], w} {
		h.Stop(t)
		c := h.Config
		c.Witness = !c.Witness
		if _, err := agent.New(c); !errors.Is(err, agent.ErrMismatch) {
			t.Errorf("%s starts as another: %v", h.Name, err)
		}
		h.Run(t)
	}
}

// TestLeaveFromAfar: who sends a head away through its API is told so, though that ends
// with it.
func TestLeaveFromAfar(t *testing.T) {
	h1 := agenttest.Start(t, "h1")
	credential := agenttest.Init(t, h1)
	h2, h3 := agenttest.Start(t, "h2"), agenttest.Start(t, "h3")
	h2.JoinAt(t, h1)
	h3.JoinAt(t, h1)
	voters(t, []*agenttest.Head{h1, h2, h3}, "h1", "h2", "h3")
	noError(t, byTLS(t, h3, credential).Leave(t.Context(), "h3", api.LeaveRequest{}, func(api.JobEvent) {}))
	agenttest.Eventually(t, soon, "h3 is nobody", func() bool {
		s, err := h3.Client.Self(t.Context())
		return err == nil && !s.Member
	})
	voters(t, []*agenttest.Head{h1, h2}, "h1", "h2")
}

// TestAHeadOfThePastTellsNodesNothing: one that was removed gives no machine a script.
func TestAHeadOfThePastTellsNodesNothing(t *testing.T) {
	heads := agenttest.Mesh(t, 3)
	addNodes(t, heads[0], "node001")
	script := func() int {
		resp, err := http.Get("http://" + net.JoinHostPort(heads[2].Config.Bind.String(), "7050") + "/luna?step=boot&mac=02:00:00:00:00:00")
		noError(t, err)
		resp.Body.Close()
		return resp.StatusCode
	}
	agenttest.Eventually(t, soon, "it tells", func() bool { return script() == http.StatusOK })
	noError(t, heads[0].Client.RemoveHead(t.Context(), "h3", false))
	agenttest.Eventually(t, soon, "it tells no more", func() bool { return script() >= 500 })
}

// TestStrangersAtTheAPI: who has no certificate and does not end what he begins is not
// waited for, and keeps nobody out.
func TestStrangersAtTheAPI(t *testing.T) {
	h := agenttest.Start(t, "h1")
	agenttest.Init(t, h)
	conf := &tls.Config{InsecureSkipVerify: true} // a stranger trusts anybody
	began := time.Now()
	conn, err := tls.Dial("tcp", h.API(), conf)
	noError(t, err)
	defer conn.Close()
	_, err = io.WriteString(conn, "POST /v1/admissions HTTP/1.1\r\nHost: h\r\nContent-Type: application/json\r\nContent-Length: 1000\r\n\r\n{")
	noError(t, err)
	answer, _ := io.ReadAll(conn)
	if took := time.Since(began); took > 20*time.Second {
		t.Errorf("it was waited for, for %s", took)
	}
	t.Logf("%.80q", answer)
	resp, err := (&http.Client{Transport: &http.Transport{TLSClientConfig: conf}}).Post("https://"+h.API()+"/v1/admissions",
		"application/json", strings.NewReader(`{"name":"`+strings.Repeat("x", 1<<20)+`"}`))
	if err == nil {
		resp.Body.Close()
		if resp.StatusCode != http.StatusRequestEntityTooLarge || !resp.Close {
			t.Errorf("a megabyte: %s, and the connection is closed: %v", resp.Status, resp.Close)
		}
	}
}

// byTLS gives a client of the head's API that has a credential.
func byTLS(t *testing.T, h *agenttest.Head, credential string) *api.Client {
	t.Helper()
	pair, err := tls.X509KeyPair([]byte(credential), []byte(credential))
	noError(t, err)
	c, _ := h.View().Cluster()
	pool := x509.NewCertPool()
	pool.AppendCertsFromPEM([]byte(c.Secrets.CACert))
	conf := &tls.Config{MinVersion: tls.VersionTLS13, RootCAs: pool, Certificates: []tls.Certificate{pair}, ServerName: h.Name}
	return &api.Client{Base: "https://" + h.API(), HTTP: &http.Client{Transport: &http.Transport{TLSClientConfig: conf}}}
}
