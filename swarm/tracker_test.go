package swarm

import (
	"encoding/hex"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"net/url"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/anacrolix/torrent/bencode"
	"github.com/google/go-cmp/cmp"
)

// testHash is the info hash of the tests, in hex.
const testHash = "000102030405060708090a0b0c0d0e0ff0fff2f3"

// announceQuery is an announce of a peer, with more parameters, or others, in name=value pairs.
func announceQuery(port int, more ...string) url.Values {
	raw, _ := hex.DecodeString(testHash)
	q := url.Values{
		"info_hash": {string(raw)}, "peer_id": {fmt.Sprintf("-XX0000-%012d", port)}, "port": {strconv.Itoa(port)},
		"uploaded": {"0"}, "downloaded": {"0"}, "left": {"100"}, "compact": {"1"},
	}
	for _, m := range more {
		k, v, ok := strings.Cut(m, "=")
		q.Set(k, v)
		if !ok {
			q.Del(k)
		}
	}
	return q
}

// ask sends a request of a peer at addr through the handler and decodes the answer.
func ask(t *testing.T, tr *Tracker, addr, path string, q url.Values) map[string]any {
	t.Helper()
	r := httptest.NewRequest(http.MethodGet, path+"?"+q.Encode(), nil)
	r.RemoteAddr = addr
	w := httptest.NewRecorder()
	tr.ServeHTTP(w, r)
	if w.Code != http.StatusOK || w.Header().Get("Content-Type") != "text/plain" {
		t.Fatalf("status %d, type %s", w.Code, w.Header().Get("Content-Type"))
	}
	var m map[string]any
	if err := bencode.Unmarshal(w.Body.Bytes(), &m); err != nil {
		t.Fatalf("%v in %q", err, w.Body)
	}
	return m
}

func TestTrackerRefuses(t *testing.T) {
	tr := NewTracker(TrackerConfig{Known: func(h string) bool { return h == testHash }})
	for _, c := range []struct{ change, want string }{
		{"info_hash", "info_hash has 0 bytes, not 20"},
		{"info_hash=short", "info_hash has 5 bytes, not 20"},
		{"info_hash=01234567890123456789", "this artifact is not known here"},
		{"peer_id", "peer_id has 0 bytes, not 20"},
		{"peer_id=node001", "peer_id has 7 bytes, not 20"},
		{"port", `port "" is not a port`},
		{"port=0", `port "0" is not a port`},
		{"port=65536", `port "65536" is not a port`},
		{"left=-1", `left "-1" is not a number of bytes`},
		{"uploaded=x", `uploaded "x" is not a number of bytes`},
	} {
		m := ask(t, tr, "10.0.0.1:5000", "/announce", announceQuery(1000, c.change))
		if diff := cmp.Diff(map[string]any{"failure reason": c.want}, m); diff != "" {
			t.Errorf("%s (-want +got):\n%s", c.change, diff)
		}
	}
	if p := tr.Peers(testHash); len(p) != 0 {
		t.Errorf("refused peers are remembered: %v", p)
	}
	w := httptest.NewRecorder()
	tr.ServeHTTP(w, httptest.NewRequest(http.MethodPost, "/announce", nil))
	if w.Code != http.StatusMethodNotAllowed {
		t.Errorf("POST: %d", w.Code)
	}
	w = httptest.NewRecorder()
	tr.ServeHTTP(w, httptest.NewRequest(http.MethodGet, "/other", nil))
	if w.Code != http.StatusNotFound {
		t.Errorf("another path: %d", w.Code)
	}
}

// What one peer is told after another has announced itself.
func TestTrackerAnswers(t *testing.T) {
	const v4, v6 = "10.0.0.1:5000", "[fd00::1]:5000"
	base := map[string]any{"interval": int64(8), "min interval": int64(1), "complete": int64(0), "incomplete": int64(2)}
	with := func(more map[string]any) map[string]any {
		out := map[string]any{}
		for _, m := range []map[string]any{base, more} {
			for k, v := range m {
				out[k] = v
			}
		}
		return out
	}
	for _, c := range []struct {
		name, first, firstQ, secondQ string
		want                         map[string]any
	}{
		{"compact", v4, "", "", with(map[string]any{"peers": "\x0a\x00\x00\x01\x03\xe8"})},
		{"compact, version 6", v6, "", "", with(map[string]any{"peers": "", "peers6": "\xfd\x00" + strings.Repeat("\x00", 13) + "\x01\x03\xe8"})},
		{"version 4 in 6", "[::ffff:10.0.0.1]:5000", "", "", with(map[string]any{"peers": "\x0a\x00\x00\x01\x03\xe8"})},
		{"dictionaries", v4, "", "compact=0", with(map[string]any{"peers": []any{map[string]any{"ip": "10.0.0.1", "port": int64(1000), "peer id": "-XX0000-000000001000"}}})},
		{"dictionaries by default", v6, "", "compact", with(map[string]any{"peers": []any{map[string]any{"ip": "fd00::1", "port": int64(1000), "peer id": "-XX0000-000000001000"}}})},
		{"a forged address", v4, "ip=10.9.9.9", "", with(map[string]any{"peers": "\x0a\x00\x00\x01\x03\xe8"})},
		{"an address from this machine", "127.0.0.1:5000", "ip=10.9.9.9", "", with(map[string]any{"peers": "\x0a\x09\x09\x09\x03\xe8"})},
		{"this machine", "127.0.0.1:5000", "", "", with(map[string]any{"peers": "\x7f\x00\x00\x01\x03\xe8"})},
		{"a bad address from this machine", "127.0.0.1:5000", "ip=0.0.0.0", "", with(map[string]any{"peers": "\x7f\x00\x00\x01\x03\xe8"})},
		{"nobody wanted", v4, "", "numwant=0", with(map[string]any{"peers": ""})},
		{"too many wanted", v4, "", "numwant=100000", with(map[string]any{"peers": "\x0a\x00\x00\x01\x03\xe8"})},
		{"a seeder", v4, "left=0", "", with(map[string]any{"peers": "\x0a\x00\x00\x01\x03\xe8", "complete": int64(1), "incomplete": int64(1)})},
		{"a seeder to a seeder", v4, "left=0", "left=0", with(map[string]any{"peers": "", "complete": int64(2), "incomplete": int64(0)})},
	} {
		t.Run(c.name, func(t *testing.T) {
			tr := NewTracker(TrackerConfig{})
			ask(t, tr, c.first, "/announce", announceQuery(1000, strings.Fields(c.firstQ)...))
			got := ask(t, tr, "10.0.0.2:6000", "/announce", announceQuery(2000, strings.Fields(c.secondQ)...))
			if diff := cmp.Diff(c.want, got); diff != "" {
				t.Errorf("answer (-want +got):\n%s", diff)
			}
		})
	}
}

// The very query that aria2 1.36 sends, through a real server.
func TestTrackerAria2Query(t *testing.T) {
	tr := NewTracker(TrackerConfig{})
	srv := httptest.NewServer(tr)
	defer srv.Close()
	var hash strings.Builder
	for i := 0; i < len(testHash); i += 2 {
		hash.WriteString("%" + strings.ToUpper(testHash[i:i+2]))
	}
	resp, err := http.Get(srv.URL + "/announce?info_hash=" + hash.String() + "&peer_id=A2-1-36-0-%F9%2E%8B%00%C4%9F%E2%0A%BB%7C" +
		"&uploaded=0&downloaded=0&left=12582912&compact=1&key=%F9%2E%8B%00%C4%9F%E2%0A&numwant=50&no_peer_id=1&port=6946&event=started&supportcrypto=1")
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil || string(body) != "d8:completei0e10:incompletei1e8:intervali8e12:min intervali1e5:peers0:e" {
		t.Errorf("answer %q %v", body, err)
	}
	want := []PeerStatus{{Addr: netip.MustParseAddrPort("127.0.0.1:6946"), ID: "A2-1-36-0-\xf9\x2e\x8b\x00\xc4\x9f\xe2\x0a\xbb\x7c", Left: 12582912}}
	got := tr.Peers(testHash)
	for i := range got {
		got[i].Age = 0
	}
	if diff := cmp.Diff(want, got, cmp.Comparer(func(a, b netip.AddrPort) bool { return a == b })); diff != "" {
		t.Errorf("peers (-want +got):\n%s", diff)
	}
}

// A peer goes at once when it says so, and after three intervals when it does not.
func TestTrackerForgets(t *testing.T) {
	tr := NewTracker(TrackerConfig{Interval: 8 * time.Second})
	now := time.Now()
	tr.now = func() time.Time { return now }
	announce := func(port int, more ...string) map[string]any {
		return ask(t, tr, fmt.Sprintf("10.0.0.%d:5000", port), "/announce", announceQuery(port, more...))
	}
	announce(1)
	announce(2, "downloaded=60", "left=40", "uploaded=7")
	now = now.Add(20 * time.Second)
	got := tr.Peers(testHash)
	if len(got) != 2 || got[1].Left != 40 || got[1].Downloaded != 60 || got[1].Uploaded != 7 || got[1].Age != 20*time.Second {
		t.Fatalf("peers %+v", got)
	}
	announce(2)
	now = now.Add(20 * time.Second)
	if got := tr.Peers(testHash); len(got) != 1 || got[0].Addr.Port() != 2 {
		t.Fatalf("after 40 s of silence of one: %+v", got)
	}
	if m := announce(2, "event=stopped"); m["peers"] != "" || m["incomplete"] != int64(0) {
		t.Errorf("answer to the one that stops: %v", m)
	}
	announce(3, "event=stopped") // was never there
	if got := tr.Peers(testHash); len(got) != 0 {
		t.Errorf("after both are gone: %+v", got)
	}
	if got := tr.Peers("unknown"); got != nil {
		t.Errorf("peers of an unknown artifact: %v", got)
	}
}

// A thousand peers: everybody is told a few, not always the same, never itself.
func TestTrackerDegree(t *testing.T) {
	tr := NewTracker(TrackerConfig{Neighbours: 9})
	seen := map[netip.AddrPort]int{}
	for round := range 2 {
		for n := range 1000 {
			self := netip.AddrPortFrom(netip.AddrFrom4([4]byte{10, 1, byte(n >> 8), byte(n)}), 1000)
			m := ask(t, tr, netip.AddrPortFrom(self.Addr(), 5).String(), "/announce", announceQuery(1000))
			peers := compact([]byte(m["peers"].(string)), 4)
			if len(peers) != min(9, n+1000*round) {
				t.Fatalf("peer %d was told %d peers", n, len(peers))
			}
			once := map[netip.AddrPort]bool{}
			for _, p := range peers {
				if p == self || once[p] {
					t.Fatalf("peer %d was told %v", n, peers)
				}
				once[p] = true
				seen[p]++
			}
		}
	}
	if len(seen) < 990 {
		t.Errorf("only %d peers were ever named", len(seen))
	}
}

func TestTrackerBounds(t *testing.T) {
	tr := NewTracker(TrackerConfig{MaxTorrents: 2, MaxPeers: 2})
	now := time.Now()
	tr.now = func() time.Time { return now }
	hashes := []string{strings.Repeat("a", 20), strings.Repeat("b", 20), strings.Repeat("c", 20)}
	for i, c := range []struct {
		port, hash int
		want       any
	}{
		{1, 0, nil},
		{2, 0, nil},
		{2, 0, nil},
		{3, 0, nil}, // told of the others, and not listed
		{1, 1, nil},
		{1, 2, "the tracker is full"},
	} {
		m := ask(t, tr, "10.0.0.1:5", "/announce", announceQuery(c.port, "info_hash="+hashes[c.hash]))
		if m["failure reason"] != c.want {
			t.Errorf("%d: %v", i, m)
		}
	}
	now = now.Add(time.Minute)
	if m := ask(t, tr, "10.0.0.1:5", "/announce", announceQuery(1, "info_hash="+hashes[2])); m["failure reason"] != nil {
		t.Errorf("after the others have gone: %v", m)
	}
}

// TestTrackerOfOneAddress: one machine does not take the places of all.
func TestTrackerOfOneAddress(t *testing.T) {
	tr := NewTracker(TrackerConfig{MaxPeers: 64})
	for port := range 100 {
		ask(t, tr, "10.0.0.1:5", "/announce", announceQuery(1000+port, "event=started"))
	}
	if m := ask(t, tr, "10.0.0.2:5", "/announce", announceQuery(1, "event=started")); m["incomplete"] != int64(64/shareOfOne+1) {
		t.Errorf("another one is told of %v peers, want the share of one address and itself", m["incomplete"])
	}
	for port := range 10 {
		ask(t, tr, "10.0.0.1:5", "/announce", announceQuery(1000+port, "event=stopped"))
	}
	ask(t, tr, "10.0.0.1:5", "/announce", announceQuery(7, "event=started"))
	if m := ask(t, tr, "10.0.0.2:5", "/announce", announceQuery(1)); m["incomplete"] != int64(2) {
		t.Errorf("after these have gone there are %v peers, want a new one of theirs and itself", m["incomplete"])
	}
}

func TestScrape(t *testing.T) {
	tr := NewTracker(TrackerConfig{})
	raw, _ := hex.DecodeString(testHash)
	for _, port := range []int{1, 2, 3} {
		ask(t, tr, "10.0.0.1:5", "/announce", announceQuery(port, "event=started"))
	}
	for range 2 { // counts once
		ask(t, tr, "10.0.0.1:5", "/announce", announceQuery(1, "event=completed", "left=0"))
	}
	want := map[string]any{"files": map[string]any{string(raw): map[string]any{"complete": int64(1), "incomplete": int64(2), "downloaded": int64(1)}}}
	for _, q := range []url.Values{{"info_hash": {string(raw)}}, {"info_hash": {string(raw), strings.Repeat("x", 20)}}} {
		if diff := cmp.Diff(want, ask(t, tr, "10.0.0.1:5", "/scrape", q)); diff != "" {
			t.Errorf("%v (-want +got):\n%s", q, diff)
		}
	}
	for _, q := range []url.Values{{"info_hash": {strings.Repeat("x", 20)}}, {}} {
		if diff := cmp.Diff(map[string]any{"files": map[string]any{}}, ask(t, tr, "10.0.0.1:5", "/scrape", q)); diff != "" {
			t.Errorf("of %v (-want +got):\n%s", q, diff)
		}
	}
	if m := ask(t, tr, "10.0.0.1:5", "/scrape", url.Values{"info_hash": {"x"}}); m["failure reason"] != "info_hash has 1 bytes, not 20" {
		t.Errorf("of a bad hash: %v", m)
	}
}

// The head's own seeder comes first, at the address on which the peer reached the tracker.
func TestTrackerNamesItsHead(t *testing.T) {
	d, path := artifactFile(t, randomBytes(minPiece, 50))
	h := newHead(t, 1, nil)
	raw, _ := hex.DecodeString(d.InfoHash)
	get := func() []netip.AddrPort {
		t.Helper()
		resp, err := http.Get(h.url + "/announce?" + announceQuery(1000, "info_hash="+string(raw)).Encode())
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		var r announceReply
		if err := bencode.NewDecoder(resp.Body).Decode(&r); err != nil {
			t.Fatal(err)
		}
		return r.addresses()
	}
	if got := get(); len(got) != 0 {
		t.Errorf("before it has the artifact: %v", got)
	}
	mustSeed(t, h.machine, d, path)
	if got := get(); len(got) != 1 || got[0] != netip.AddrPortFrom(h.addr, uint16(h.Port())) {
		t.Errorf("with the artifact: %v", got)
	}
	h.Drop(d.InfoHash)
	if got := get(); len(got) != 0 {
		t.Errorf("after it was dropped: %v", got)
	}
}

// Peer lists that are cut off or senseless do no harm.
func TestCompact(t *testing.T) {
	for _, c := range []struct {
		in   string
		size int
		want int
	}{{"", 4, 0}, {"\x0a\x00\x00\x01\x03\xe8", 4, 1}, {"\x0a\x00\x00\x01\x03\xe8\x0a", 4, 1}, {"\x0a\x00", 16, 0}} {
		if got := compact([]byte(c.in), c.size); len(got) != c.want {
			t.Errorf("%q: %v", c.in, got)
		}
	}
}

func TestAcquaintances(t *testing.T) {
	a := acquaintances{peers: map[netip.AddrPort]acquaintance{}}
	addr := func(n int) netip.AddrPort { return netip.AddrPortFrom(ip(n), 7052) }
	for h := range 3 {
		reply := []netip.AddrPort{addr(1 + h)}
		for n := range 20 {
			reply = append(reply, addr(100+n))
		}
		a.learn(reply)
	}
	friend := func(p netip.AddrPort) bool { return p == addr(119) }
	first := a.choose(8, friend)
	heads := 0
	for _, p := range first {
		if p.Addr().Compare(ip(4)) < 0 {
			heads++
		}
	}
	if len(first) != 8 || heads != 2 {
		t.Errorf("%d peers chosen, %d heads: %v", len(first), heads, first)
	}
	if rest := a.choose(100, friend); len(rest) != 23-8-1 {
		t.Errorf("%d peers chosen after that", len(rest))
	}
	if none := a.choose(8, friend); len(none) != 0 {
		t.Errorf("tried again at once: %v", none)
	}
	a.learn([]netip.AddrPort{{}, netip.AddrPortFrom(ip(9), 0)})
	for n := range 2 * remembered {
		a.learn([]netip.AddrPort{netip.AddrPortFrom(ip(9), uint16(1+n))})
	}
	if len(a.peers) != remembered {
		t.Errorf("%d addresses remembered", len(a.peers))
	}
}
