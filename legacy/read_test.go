package legacy

import (
	"bytes"
	"compress/gzip"
	"encoding/json"
	"flag"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"
	"go.mongodb.org/mongo-driver/v2/bson"
)

var update = flag.Bool("update", false, "write the stores and the goldens of testdata anew")

// stores are the databases of testdata.
var stores = map[string]func() *store{"clean": cleanStore, "dirty": dirtyStore}

// forms are the paths of a store below testdata, by the form.
var forms = map[string]string{
	"dump":              "dump",
	"collections":       "dump/luna",
	"archive":           "luna.archive",
	"export":            "export",
	"canonical export":  "export2",
	"exports in a file": "luna.json",
}

func (s *store) writeAll(t *testing.T, dir string) {
	t.Helper()
	if err := os.RemoveAll(dir); err != nil { // the goldens too: they follow
		t.Fatal(err)
	}
	s.writeDump(t, filepath.Join(dir, "dump"))
	write(t, filepath.Join(dir, "luna.archive"), s.archiveBytes(t))
	s.writeExport(t, filepath.Join(dir, "export"), false)
	s.writeExport(t, filepath.Join(dir, "export2"), true)
	var all []byte
	for _, name := range s.names() {
		if name != "notes" { // in one file only what is Luna's can be told apart
			all = append(all, s.exportBytes(t, name, false)...)
		}
	}
	write(t, filepath.Join(dir, "luna.json"), all)
}

var writeStores sync.Once

// storeDir gives the folder of a store, written anew where that is asked.
func storeDir(t *testing.T, name string) string {
	t.Helper()
	if *update {
		writeStores.Do(func() {
			for name, store := range stores {
				store().writeAll(t, filepath.Join("testdata", name))
			}
		})
	}
	return filepath.Join("testdata", name)
}

func mustRead(t *testing.T, path string) *Database {
	t.Helper()
	db, err := Read(path)
	if err != nil {
		t.Fatal(err)
	}
	return db
}

// asJSON writes a database for comparing: what a value is, not how it was kept.
func asJSON(t *testing.T, db *Database) string {
	t.Helper()
	d := *db
	d.Format = ""
	b, err := json.MarshalIndent(d, "", "  ")
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

// TestEveryFormReadsTheSame is the heart of it: whichever of MongoDB's tools an
// administrator used, the database is the same.
func TestEveryFormReadsTheSame(t *testing.T) {
	for name := range stores {
		dir := storeDir(t, name)
		dump := mustRead(t, filepath.Join(dir, "dump"))
		for form, path := range forms {
			t.Run(name+"/"+form, func(t *testing.T) {
				from := *dump
				if form == "exports in a file" {
					from.Ignored = nil
				}
				want := asJSON(t, &from)
				path := filepath.Join(dir, path)
				if diff := cmp.Diff(want, asJSON(t, mustRead(t, path))); diff != "" {
					t.Errorf("it reads otherwise than the dump (-dump +this):\n%s", diff)
				}
				zipped := filepath.Join(t.TempDir(), "zipped")
				compress(t, path, zipped)
				if diff := cmp.Diff(want, asJSON(t, mustRead(t, zipped))); diff != "" {
					t.Errorf("compressed it reads otherwise (-dump +this):\n%s", diff)
				}
			})
		}
	}
}

// compress copies a file, or each file of a directory with the ending ".gz".
func compress(t *testing.T, from, to string) {
	t.Helper()
	info, err := os.Stat(from)
	if err != nil {
		t.Fatal(err)
	}
	if !info.IsDir() {
		b, err := os.ReadFile(from)
		if err != nil {
			t.Fatal(err)
		}
		write(t, to, zip(t, b))
		return
	}
	entries, err := os.ReadDir(from)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		target := filepath.Join(to, e.Name())
		if !e.IsDir() {
			target += ".gz"
		}
		compress(t, filepath.Join(from, e.Name()), target)
	}
}

func zip(t *testing.T, b []byte) []byte {
	t.Helper()
	var z bytes.Buffer
	w := gzip.NewWriter(&z)
	if _, err := w.Write(b); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return z.Bytes()
}

// TestStoresAreCurrent: the files of testdata are what the store is now.
func TestStoresAreCurrent(t *testing.T) {
	for name, store := range stores {
		dir := t.TempDir()
		store().writeAll(t, dir)
		err := filepath.WalkDir(dir, func(path string, d os.DirEntry, err error) error {
			if err != nil || d.IsDir() {
				return err
			}
			rel, err := filepath.Rel(dir, path)
			if err != nil {
				return err
			}
			want, err := os.ReadFile(path)
			if err != nil {
				return err
			}
			if got, err := os.ReadFile(filepath.Join("testdata", name, rel)); err != nil || !bytes.Equal(got, want) {
				t.Errorf("testdata/%s/%s is not the store of today (%v): run go test -update", name, rel, err)
			}
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
	}
}

func TestReadValues(t *testing.T) {
	db := mustRead(t, "testdata/clean/luna.archive")
	if db.Format != FormatArchive {
		t.Errorf("the form is %q", db.Format)
	}
	if v := db.Cluster.DBVersion; v == nil || *v != 1.2 {
		t.Errorf("db_version is %v", v)
	}
	if got := db.Cluster.FrontendPort.Or(0); got != 7050 {
		t.Errorf("frontend_port, written as a text, is %d", got)
	}
	if db.Cluster.Comment.Set || !db.BMCSetups[0].Comment.Set {
		t.Error("unset and empty are no longer two things")
	}
	var v6 Network
	for _, n := range db.Networks {
		if n.Name.Value == "cluster6" {
			v6 = n
		}
	}
	if got := v6.NSIP.String(); got != "18446744073709551614" {
		t.Errorf("ns_ip of the IPv6 network is %s", got)
	}
	if len(db.Nodes) != 20 || len(db.MACs) != 15 || len(db.Groups) != 2 {
		t.Errorf("%d nodes, %d MACs, %d groups", len(db.Nodes), len(db.MACs), len(db.Groups))
	}
	last := db.Nodes[19]
	if last.Name.Value != "node016" || !last.LocalBoot.On || !last.SetupBMC.Set || last.SetupBMC.On || !last.Service.On || !last.Linked {
		t.Errorf("the last node is %+v", last)
	}
	boot := last.Interfaces[key("compute", "BOOTIF")]
	if boot.V4.String() != "16" || boot.V6.String() != "16" || last.Switch.Collection != "switch" {
		t.Errorf("the last node's addresses are %+v on switch %+v", boot, last.Switch)
	}
}

// TestReadRefuses: what cannot be read is refused with the reason, in words.
func TestReadRefuses(t *testing.T) {
	archive := cleanStore().archiveBytes(t)
	clusterOf := func(version any) []byte {
		s := newStore()
		s.cluster()
		s.set("cluster", "db_version", version)
		return s.archiveBytes(t)
	}
	flipped := bytes.Replace(archive, []byte("node007"), []byte("node077"), 1)
	for _, c := range []struct {
		name  string
		files map[string][]byte // "" is the path itself
		want  string
	}{
		{"empty file", map[string][]byte{"": nil}, "the file is empty"},
		{"a PDF", map[string][]byte{"": []byte("%PDF-1.7\n%\xe2\xe3\xcf\xd3\n1 0 obj\n")}, "neither a mongodump archive nor a mongoexport"},
		{"a text", map[string][]byte{"": []byte("hello\n")}, "neither a mongodump archive nor a mongoexport"},
		{"zeros", map[string][]byte{"": make([]byte, 100)}, "neither a mongodump archive nor a mongoexport"},
		{"one collection", map[string][]byte{"": marshal(t, bson.D{{Key: "name", Value: "x"}})}, "give the directory that holds them all"},
		{"magic alone", map[string][]byte{"": archive[:4]}, "list of collections"},
		{"cut in the list", map[string][]byte{"": archive[:300]}, "cut short"},
		{"cut in a block", map[string][]byte{"": archive[:len(archive)/2]}, "cut short"},
		{"cut between blocks", map[string][]byte{"": archive[:len(archive)-70]}, "cut short"},
		{"a bit flipped", map[string][]byte{"": flipped}, "checksum"},
		{"zip cut short", map[string][]byte{"": zip(t, archive)[:1000]}, "cut short"},
		{"another archive", map[string][]byte{"": bytes.ReplaceAll(archive, []byte("cluster\x00"), []byte("flustre\x00"))}, "no database in it has a collection 'cluster'"},
		{"newer", map[string][]byte{"": clusterOf(1.3)}, "version is 1.3"},
		{"older", map[string][]byte{"": clusterOf(int32(1))}, "version is 1,"},
		{"directory of other things", map[string][]byte{"/a.txt": []byte("x")}, "no cluster.bson or cluster.json"},
		{"no cluster in it", map[string][]byte{"/cluster.bson": nil}, "no cluster 'general'"},
		{"not BSON", map[string][]byte{"/cluster.bson": []byte("\x00\x00\x00\x00hello")}, "cluster.bson: document 1: it is not BSON"},
		{"BSON cut", map[string][]byte{"/cluster.bson": []byte("\xff\x00\x00\x00hello")}, "cut short"},
		{"twice", map[string][]byte{"/cluster.bson": nil, "/cluster.json": nil}, "both the collection cluster"},
		{"two databases", map[string][]byte{"/a/cluster.bson": nil, "/b/cluster.bson": nil}, "more than one database"},
		{"JSON cut", map[string][]byte{"": []byte(`{"name":"general","nodeprefix":"no`)}, "cut short"},
		{"list cut", map[string][]byte{"": []byte(`[{"name":"general","nodeprefix":"no"},`)}, "cut short"},
		{"JSON of numbers", map[string][]byte{"": []byte(`[1,2]`)}, "not JSON"},
		{"JSON of others", map[string][]byte{"": []byte(`{"hello":1}`)}, "no object of Luna 1.2"},
		{"JSON with a bad id", map[string][]byte{"": []byte(`{"_id":{"$oid":"x"},"name":"general","nodeprefix":"n"}`)}, "not extended JSON"},
		{"a date for a text", map[string][]byte{"": []byte(`{"name":"general","nodeprefix":{"$date":"2018-04-23T15:00:00Z"}}`)}, "a UTC datetime stands where a text should"},
		{"half a node", map[string][]byte{"": []byte(`{"name":"node001","localboot":0.5}`)}, "'node001': error decoding key localboot"},
	} {
		t.Run(c.name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "dump")
			for name, b := range c.files {
				write(t, path+name, b)
			}
			_, err := Read(path)
			if err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("got %v, want %q in it", err, c.want)
			}
			if err != nil && !strings.HasPrefix(err.Error(), "read the Luna 1.2 database in "+path) {
				t.Errorf("the error does not say what failed on what: %v", err)
			}
		})
	}
	if _, err := Read("/nonexistent/dump"); err == nil || !strings.HasSuffix(err.Error(), "no such file or directory") {
		t.Errorf("a path that is not there: %v", err)
	}
}

// FuzzRead: whatever a file holds, reading it says what is wrong or gives what
// makes a well-formed document.
func FuzzRead(f *testing.F) {
	for _, path := range []string{"testdata/clean/luna.archive", "testdata/clean/luna.json", "testdata/clean/export2/group.json"} {
		b, err := os.ReadFile(path)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(b)
		f.Add(b[:len(b)/2])
	}
	f.Add([]byte("%PDF-1.7\n"))
	f.Add([]byte(`[{"name":"general","nodeprefix":"n"}]`))
	f.Fuzz(func(t *testing.T, b []byte) {
		made := newBuilder()
		if unpacked(bytes.NewReader(b), made.whole) != nil {
			return
		}
		db, err := made.finish()
		if err != nil {
			return
		}
		if doc, report := Convert(db); doc.Validate() != nil {
			t.Errorf("the document is malformed: %v\n%s", doc.Validate(), report)
		}
	})
}
