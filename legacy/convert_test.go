package legacy

import (
	"encoding/json"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"go.mongodb.org/mongo-driver/v2/bson"

	"github.com/clustervision/luna/inventory"
)

// TestConvertGoldens: what becomes of the stores, and what is said of it.
func TestConvertGoldens(t *testing.T) {
	for name := range stores {
		t.Run(name, func(t *testing.T) {
			doc, report := Convert(mustRead(t, filepath.Join(storeDir(t, name), "dump")))
			if err := doc.Validate(); err != nil {
				t.Errorf("the document is malformed: %v", err)
			}
			golden(t, filepath.Join("testdata", name, "report.txt"), report.String())
			b, err := json.MarshalIndent(doc, "", "  ")
			if err != nil {
				t.Fatal(err)
			}
			golden(t, filepath.Join("testdata", name, "document.json"), string(b)+"\n")
		})
	}
}

func golden(t *testing.T, path, got string) {
	t.Helper()
	if *update {
		write(t, path, []byte(got))
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(string(want), got); diff != "" {
		t.Errorf("%s (-want +got):\n%s", path, diff)
	}
}

// TestConvertIsDeterministic: maps have no order, reports have.
func TestConvertIsDeterministic(t *testing.T) {
	db := mustRead(t, filepath.Join(storeDir(t, "dirty"), "dump"))
	doc, report := Convert(db)
	for range 20 {
		again, r := Convert(db)
		if !cmp.Equal(doc, again, cmp.Comparer(func(a, b inventory.Document) bool { return asText(t, a) == asText(t, b) })) || !slices.Equal(report, r) {
			t.Fatal("the same database gave another result")
		}
	}
}

func asText(t *testing.T, v any) string {
	t.Helper()
	b, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

// TestVersion11: a database of 1.1, which 1.2's own migration would have
// rewritten, reads as that would have.
func TestVersion11(t *testing.T) {
	s := newStore()
	image := s.osimage("compute", "/opt/luna/os/compute")
	s.set("osimage", "grab_filesystems", nil)
	s.put("cluster", bson.D{{Key: "name", Value: "general"}, {Key: "nodeprefix", Value: "node"}}, false)
	net := s.put("network", bson.D{{Key: "name", Value: "cluster"}, {Key: "NETWORK", Value: ip(10, 30, 0, 0)}, {Key: "PREFIX", Value: int32(16)}, {Key: "freelist", Value: free(2, 65533)}, {Key: "ns_ip", Value: 65534.0}}, true)
	group := s.put("group", bson.D{{Key: "name", Value: "compute"}, {Key: "osimage", Value: ref("osimage", image)}, {Key: "boot_if", Value: "eth0"}, {Key: "bmcnetwork", Value: ref("network", net)}, {Key: "interfaces", Value: bson.D{
		{Key: "eth0", Value: bson.D{{Key: "network", Value: ref("network", net)}, {Key: "params", Value: "x"}}},
	}}}, true)
	s.put("node", bson.D{{Key: "name", Value: "node001"}, {Key: "group", Value: ref("group", group)}, {Key: "interfaces", Value: bson.D{{Key: "eth0", Value: int64(1)}}}, {Key: "bmcnetwork", Value: int32(7)}}, true)
	path := filepath.Join(t.TempDir(), "old")
	write(t, path, s.archiveBytes(t))
	db := mustRead(t, path)
	g, n := db.Groups[0], db.Nodes[0]
	if db.Cluster.DBVersion != nil {
		t.Error("1.1 wrote no version")
	}
	if i := g.Interfaces["eth0"]; i.Name.Value != "eth0" || i.Network.V4.ID != net || i.Params.Value != "x" {
		t.Errorf("eth0 of the group is %+v", i)
	}
	if i := g.Interfaces["BMC"]; i.Name.Value != "BMC" || i.Network.V4.ID != net {
		t.Errorf("BMC of the group is %+v", i)
	}
	if n.Interfaces["eth0"].V4.String() != "1" || n.Interfaces["BMC"].V4.String() != "7" {
		t.Errorf("the node's addresses are %+v", n.Interfaces)
	}
	doc, report := Convert(db)
	if a := doc.Nodes["node001"].Interfaces; a["eth0"].V4.String() != "10.30.0.1" || a["BMC"].V4.String() != "10.30.0.7" {
		t.Errorf("the node's addresses become %v", a)
	}
	if doc.OSImages["compute"].GrabFilesystems.Given {
		t.Error("what 1.1 did not know is unset, and not the default")
	}
	for _, want := range []string{"of Luna 1.1", "`luna group change compute -i eth0 --rename BOOTIF`"} {
		if !strings.Contains(report.String(), want) {
			t.Errorf("%q is not in the report:\n%s", want, report)
		}
	}
}
