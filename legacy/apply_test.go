package legacy

import (
	"encoding/json"
	"fmt"
	"net/netip"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/hashicorp/raft"
	"go.mongodb.org/mongo-driver/v2/bson"
	"pgregory.net/rapid"

	"github.com/clustervision/luna/fsm"
	"github.com/clustervision/luna/inventory"
)

// head is the one head of the sites into which these tests import.
var head = netip.MustParsePrefix("10.30.255.254/16")

// applied gives the state of a fresh site after the import, or its refusal.
func applied(tb testing.TB, doc inventory.Document) (*inventory.Inventory, error) {
	tb.Helper()
	m := fsm.New()
	for i, c := range []inventory.Command{
		inventory.InitCluster{
			Cluster: inventory.Cluster{
				UUID: "0123456789abcdef", NodePrefix: "node", NodeDigits: 3, Replicas: 2, FrontendAddress: head.Addr(),
				Secrets: inventory.Secrets{CACert: "c", CAKey: "k", GossipKey: make([]byte, 32), BootKey: make([]byte, 32)},
			},
			Head: inventory.Head{Name: "h1", Address: head.Addr(), Addresses: []netip.Prefix{head}},
		},
		inventory.ApplyDocument{Document: doc},
	} {
		e := inventory.Envelope{At: time.Unix(1, 0), Asker: inventory.Asker{By: "test"}, Command: c}
		b, err := e.Encode()
		if err != nil {
			tb.Fatal(err)
		}
		if r := m.Apply(&raft.Log{Index: uint64(i + 1), Data: b}).(inventory.Result); r.Error != nil {
			return nil, r.Error
		}
	}
	return m.View(), nil
}

// TestCleanStoreStays: what a site says of itself after the import of a database
// without faults is what the database said.
func TestCleanStoreStays(t *testing.T) {
	doc, _ := Convert(mustRead(t, filepath.Join(storeDir(t, "clean"), "dump")), head.Addr())
	inv, err := applied(t, doc)
	if err != nil {
		t.Fatal(err)
	}
	now := inventory.DocumentOf(inv)
	now.Cluster.Replicas, now.Cluster.SeedSeconds = inventory.Maybe[int]{}, inventory.Maybe[int]{} // 1.2 had none
	for name, n := range now.Nodes {
		n.Tags = inventory.Maybe[[]string]{} // likewise
		if name[:4] == "node" {
			delete(n.Interfaces, "eth1") // without a network it has no address
		}
		now.Nodes[name] = n
	}
	// The state holds an empty comment as none.
	folded := strings.ReplaceAll(indented(t, doc), `"comment": ""`, `"comment": null`)
	if diff := cmp.Diff(folded, indented(t, now)); diff != "" {
		t.Errorf("(-imported +the site):\n%s", diff)
	}
}

// TestDirtyStoreIsTaken: every fault is out of the way before the site sees it.
func TestDirtyStoreIsTaken(t *testing.T) {
	doc, _ := Convert(mustRead(t, filepath.Join(storeDir(t, "dirty"), "dump")), head.Addr())
	inv, err := applied(t, doc)
	if err != nil {
		t.Fatal(err)
	}
	if err := fsm.Check(inv); err != nil {
		t.Error(err)
	}
}

// TestHeadsKeepTheirAddresses: a database that gives a head's address to
// somebody else, as 1.2 had to for its own head to have a name, is taken.
func TestHeadsKeepTheirAddresses(t *testing.T) {
	db := mustRead(t, filepath.Join(storeDir(t, "clean"), "dump"))
	taken := netip.MustParseAddr("10.30.0.19") // pdu01's
	doc, report := Convert(db, taken, netip.MustParseAddr("10.30.0.100"), head.Addr())
	if _, ok := doc.OtherDevs["pdu01"].Connected.Value["cluster"]; ok {
		t.Error("pdu01 has the address of a head")
	}
	if got := doc.Networks["cluster"].Reserved.Value; len(got) != 0 {
		t.Errorf("the address of a head is reserved: %v", got)
	}
	if !slices.ContainsFunc(report, func(f Finding) bool { return f.Object == "otherdev" && f.Name == "pdu01" && f.Severity == Dropped }) {
		t.Errorf("nothing is said of pdu01:\n%s", report)
	}
	if doc, _ := Convert(db, netip.MustParseAddr("192.168.1.1")); doc.Networks["cluster"].DHCPRange.Value != nil {
		t.Error("DHCP is to be served where no head is")
	}
}

func indented(t *testing.T, v any) string {
	t.Helper()
	b, err := json.MarshalIndent(v, "", " ")
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

// TestAnyDatabaseIsTaken: whatever objects a database holds and however they
// contradict each other, the import is accepted, and twice it is the same.
func TestAnyDatabaseIsTaken(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		s := randomStore(rt)
		b := newBuilder()
		for collection, docs := range s.docs {
			for _, d := range docs {
				raw, err := bson.Marshal(d)
				if err != nil {
					rt.Fatal(err)
				}
				if err := b.add(collection, raw); err != nil {
					rt.Fatal(err)
				}
			}
		}
		db, err := b.finish()
		if err != nil {
			rt.Fatal(err)
		}
		doc, report := Convert(db, head.Addr())
		if err := doc.Validate(); err != nil {
			rt.Fatalf("malformed: %v\n%s", err, report)
		}
		again, same := Convert(db, head.Addr())
		if indented(t, doc) != indented(t, again) || !slices.Equal(report, same) {
			rt.Fatal("the same database gave another result")
		}
		if _, err := applied(t, doc); err != nil {
			rt.Fatalf("refused: %v\n%s\n%s", err, report, indented(t, doc))
		}
	})
}

// randomStore draws from few names, addresses and references, so that they meet.
func randomStore(rt *rapid.T) *store {
	s := newStore()
	ids := map[string][]bson.ObjectID{"": {s.id()}}
	name := rapid.SampledFrom([]string{"a", "b", "c", "a-2", "", "x y", "x;y", "ä"})
	offset := rapid.SampledFrom([]any{nil, int32(0), int32(1), int64(2), 3.0, "4", int32(5), int32(254), int32(65534), int64(70000), int64(-1)})
	pick := func(collection string) any {
		from := append(slices.Clone(ids[collection]), ids[""]...)
		if rapid.IntRange(0, 9).Draw(rt, "none") == 0 {
			return nil
		}
		return ref(collection, rapid.SampledFrom(from).Draw(rt, collection))
	}
	some := func(collection string, most int, make func(i int) bson.ObjectID) {
		for i := range rapid.IntRange(0, most).Draw(rt, "how many "+collection) {
			ids[collection] = append(ids[collection], make(i))
		}
	}
	s.cluster()
	some("network", 5, func(int) bson.ObjectID {
		if rapid.IntRange(0, 4).Draw(rt, "family") == 0 {
			base := rapid.SampledFrom([]string{"336294683012811878358927523844471128064", "1"}).Draw(rt, "base6")
			return s.network(name.Draw(rt, "network"), base, int32(rapid.SampledFrom([]int{64, 112, 127}).Draw(rt, "prefix6")), free6("9", "100"), offset.Draw(rt, "ns"), 6)
		}
		base := rapid.SampledFrom([]int64{ip(10, 30, 0, 0), ip(10, 30, 0, 0), ip(10, 30, 0, 0) + 512, ip(10, 31, 0, 0), ip(10, 32, 0, 77), -1}).Draw(rt, "base")
		id := s.network(name.Draw(rt, "network"), base, int32(rapid.SampledFrom([]int{16, 16, 23, 24, 31}).Draw(rt, "prefix")), free(rapid.Int64Range(0, 300).Draw(rt, "free"), 253), offset.Draw(rt, "ns"), 4)
		if rapid.IntRange(0, 5).Draw(rt, "listless") == 0 {
			s.set("network", "freelist", bson.A{})
		}
		return id
	})
	if networks := ids["network"]; len(networks) > 0 {
		s.set("cluster", "dhcp_net", rapid.SampledFrom(networks).Draw(rt, "dhcp").Hex())
		s.set("cluster", "dhcp_range_start", offset.Draw(rt, "start"))
		s.set("cluster", "dhcp_range_end", offset.Draw(rt, "end"))
	}
	some("osimage", 3, func(i int) bson.ObjectID {
		return s.osimage(name.Draw(rt, "osimage"), rapid.SampledFrom([]string{"/a", "/a-a", "a", ""}).Draw(rt, "path"))
	})
	some("bmcsetup", 2, func(int) bson.ObjectID { return s.bmcsetup(name.Draw(rt, "bmcsetup")) })
	some("group", 3, func(i int) bson.ObjectID {
		ifs := bson.D{}
		for k := range rapid.IntRange(0, 3).Draw(rt, "interfaces") {
			ifs = append(ifs, interfaces(iface{fmt.Sprint("if", k), rapid.SampledFrom([]string{"BOOTIF", "BMC", "eth0", "eth0:1"}).Draw(rt, "if"), pick("network"), pick("network"), ""})...)
		}
		id := s.group(name.Draw(rt, "group"), pick("osimage"), pick("bmcsetup"), pick("network"), ifs)
		s.set("group", "torrent_if", rapid.SampledFrom([]any{nil, "", "eth0", "eth0:1"}).Draw(rt, "torrent_if"))
		return id
	})
	some("switch", 3, func(int) bson.ObjectID {
		id := s.sw(name.Draw(rt, "switch"), ids[""][0], offset.Draw(rt, "ip"))
		s.set("switch", "network", pick("network"))
		return id
	})
	some("otherdev", 3, func(int) bson.ObjectID {
		connected := bson.D{}
		for _, n := range append(slices.Clone(ids["network"]), ids[""]...) {
			if rapid.Bool().Draw(rt, "connected") {
				connected = append(connected, bson.E{Key: n.Hex(), Value: offset.Draw(rt, "ip")})
			}
		}
		return s.otherdev(name.Draw(rt, "otherdev"), connected)
	})
	some("node", 6, func(int) bson.ObjectID {
		offs := bson.D{}
		for k := range rapid.IntRange(0, 4).Draw(rt, "addresses") {
			offs = append(offs, offsets(addrs{fmt.Sprint("if", k), offset.Draw(rt, "four"), offset.Draw(rt, "six")})...)
		}
		fields := append(bson.D{{Key: "name", Value: name.Draw(rt, "node")}}, s.nodeFields(ids[""][0], offs)...)
		id := s.put("node", fields, rapid.IntRange(0, 5).Draw(rt, "linked") > 0)
		s.set("node", "group", pick("group"))
		s.set("node", "switch", pick("switch"))
		return id
	})
	for range rapid.IntRange(0, 4).Draw(rt, "macs") {
		if to, ok := pick("node").(bson.D); ok {
			s.mac(rapid.SampledFrom([]string{"52:54:00:00:00:01", "52:54:00:aa:00:02", "52:54:00:AA:00:02", "x"}).Draw(rt, "mac"), to[1].Value.(bson.ObjectID))
		}
	}
	return s
}
