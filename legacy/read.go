package legacy

import (
	"bufio"
	"bytes"
	"cmp"
	"compress/gzip"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"go.mongodb.org/mongo-driver/v2/bson"
)

// database is the name that 1.2 gave its database in MongoDB.
const database = "luna"

// version is the db_version that 1.2 wrote and asked for.
const version = 1.2

// maxDocument is the largest document that MongoDB keeps, in bytes, with the
// room that its tools allow for what they add.
const maxDocument = 16<<20 + 16<<10

// forget are the collections that 1.2 kept for the moment: what it saw on the
// switches and who shared an image.
var forget = map[string]bool{"switch_mac": true, "tracker": true}

// Read reads the database of a Luna 1.2 head: a mongodump directory (the one
// that holds luna/, or luna/ itself), a mongodump archive, a directory of
// mongoexport files, or one file with the exports of all collections. Any of
// them may be compressed with gzip. What it is, is told from what it holds.
func Read(path string) (*Database, error) {
	db, err := read(path)
	if err != nil {
		return nil, fmt.Errorf("read the Luna 1.2 database in %s: %w", path, err)
	}
	return db, nil
}

func read(path string) (*Database, error) {
	info, err := os.Stat(path)
	if err != nil {
		return nil, reason(err)
	}
	b := newBuilder()
	if info.IsDir() {
		err = b.directory(path)
	} else {
		err = open(path, b.whole)
	}
	if err != nil {
		return nil, err
	}
	return b.finish()
}

// reason drops the path from an error of the file system: it is named already.
func reason(err error) error {
	if p, ok := errors.AsType[*fs.PathError](err); ok {
		return p.Err
	}
	return err
}

// whole reads a file that holds all collections.
func (b *builder) whole(r *bufio.Reader) error {
	head, err := r.Peek(4)
	switch {
	case len(head) == 0 && errors.Is(err, io.EOF):
		return errors.New("the file is empty")
	case isArchive(head):
		b.db.Format = FormatArchive
		return b.archive(r)
	case isJSON(head):
		b.db.Format = FormatExport
		return b.export(r, "")
	case len(head) == 4 && plausible(binary.LittleEndian.Uint32(head)):
		return errors.New("this is one collection of a dump: give the directory that holds them all")
	}
	return errors.New("this is neither a mongodump archive nor a mongoexport: make one with " +
		"\"mongodump -d luna --archive=FILE\" on the 1.2 head")
}

// plausible tells whether a BSON document can be that long, in bytes.
func plausible(size uint32) bool { return size >= 5 && size <= maxDocument }

// directory reads a directory that holds a file for each collection, or a
// database of which that is true.
func (b *builder) directory(dir string) error {
	at, err := databaseDir(dir)
	if err != nil {
		return err
	}
	files, err := collections(at)
	if err != nil {
		return err
	}
	for _, f := range files {
		err := open(filepath.Join(at, f.file), func(r *bufio.Reader) error {
			head, _ := r.Peek(4)
			if len(head) == 0 {
				b.seen[f.collection] = true
				return nil // a collection without documents
			}
			if isJSON(head) {
				b.db.Format = FormatExport
				return b.export(r, f.collection)
			}
			b.db.Format = FormatDump
			return b.documents(r, f.collection)
		})
		if err != nil {
			return fmt.Errorf("%s: %w", f.file, err)
		}
	}
	return nil
}

// databaseDir finds the directory with the collections: luna/ in it, itself,
// or the only other database in it.
func databaseDir(dir string) (string, error) {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return "", reason(err)
	}
	var found []string
	for _, e := range entries {
		sub := filepath.Join(dir, e.Name())
		if !e.IsDir() || !holdsCluster(sub) {
			continue
		}
		if e.Name() == database {
			return sub, nil
		}
		found = append(found, e.Name())
	}
	switch {
	case holdsCluster(dir):
		return dir, nil
	case len(found) == 1:
		return filepath.Join(dir, found[0]), nil
	case len(found) > 1:
		return "", fmt.Errorf("there is more than one database with a cluster in it (%s): give the directory of one of them", strings.Join(found, ", "))
	}
	return "", errors.New("there is no cluster.bson or cluster.json in it: give the directory that mongodump or mongoexport wrote")
}

func holdsCluster(dir string) bool {
	entries, err := os.ReadDir(dir)
	return err == nil && slices.ContainsFunc(entries, func(e fs.DirEntry) bool {
		name, ok := collectionOf(e.Name())
		return ok && name == "cluster" && !e.IsDir()
	})
}

type collectionFile struct{ file, collection string }

// collections lists the files of a directory that hold a collection.
func collections(dir string) ([]collectionFile, error) {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return nil, reason(err)
	}
	var files []collectionFile
	of := map[string]string{}
	for _, e := range entries {
		name, ok := collectionOf(e.Name())
		if e.IsDir() || !ok {
			continue
		}
		if other, twice := of[name]; twice {
			return nil, fmt.Errorf("%s and %s are both the collection %s: leave one", other, e.Name(), name)
		}
		of[name] = e.Name()
		files = append(files, collectionFile{e.Name(), name})
	}
	return files, nil
}

// collectionOf gives the collection that a file of that name holds. Some tools
// put the name of the database before it.
func collectionOf(file string) (string, bool) {
	name := strings.TrimSuffix(file, ".gz")
	ext := filepath.Ext(name)
	name = strings.TrimSuffix(name, ext)
	if ext != ".bson" && ext != ".json" || strings.HasSuffix(name, ".metadata") || name == "prelude" {
		return "", false
	}
	return strings.TrimPrefix(name, database+"."), true
}

// open reads a file, unpacked where it is compressed.
func open(path string, read func(*bufio.Reader) error) error {
	f, err := os.Open(path)
	if err != nil {
		return reason(err)
	}
	defer f.Close()
	return unpacked(f, read)
}

func unpacked(f io.Reader, read func(*bufio.Reader) error) error {
	r := bufio.NewReaderSize(f, 1<<16)
	if head, _ := r.Peek(2); !bytes.Equal(head, []byte{0x1f, 0x8b}) {
		return cut(read(r))
	}
	z, err := gzip.NewReader(r)
	if err != nil {
		return fmt.Errorf("unpack: %w", cut(err))
	}
	return cut(read(bufio.NewReaderSize(z, 1<<16)))
}

// cut says in words what an early end of the file means.
func cut(err error) error {
	if errors.Is(err, io.ErrUnexpectedEOF) {
		return fmt.Errorf("the file is cut short: copy or dump it again (%w)", err)
	}
	return err
}

// isJSON tells text from BSON: the length that begins a document has a zero in
// its upper bytes, and JSON none.
func isJSON(head []byte) bool {
	head = bytes.TrimPrefix(head, []byte("\xef\xbb\xbf"))
	if bytes.IndexByte(head, 0) >= 0 {
		return false
	}
	head = bytes.TrimLeft(head, " \t\r\n")
	return len(head) == 0 || head[0] == '{' || head[0] == '['
}

// documents reads the documents of one collection, as mongodump writes them:
// one after the other.
func (b *builder) documents(r io.Reader, collection string) error {
	var d documents
	for n := 1; ; n++ {
		doc, err := d.next(r)
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err == nil {
			err = b.add(collection, doc)
		}
		if err != nil {
			return fmt.Errorf("document %d: %w", n, err)
		}
	}
}

// documents reads BSON documents into one buffer, which the next one overwrites.
type documents struct{ buf bytes.Buffer }

// next gives the next document; io.EOF where there is none, and a nil document
// where the end of an archive's block stands in its place.
func (d *documents) next(r io.Reader) (bson.Raw, error) {
	d.buf.Reset()
	if _, err := io.CopyN(&d.buf, r, 4); err != nil {
		if errors.Is(err, io.EOF) && d.buf.Len() > 0 {
			err = io.ErrUnexpectedEOF
		}
		return nil, err
	}
	size := binary.LittleEndian.Uint32(d.buf.Bytes())
	if size == terminator {
		return nil, nil
	}
	if !plausible(size) {
		return nil, fmt.Errorf("it is not BSON: it would be %d bytes long", size)
	}
	if _, err := io.CopyN(&d.buf, r, int64(size)-4); err != nil {
		if errors.Is(err, io.EOF) {
			err = io.ErrUnexpectedEOF
		}
		return nil, err
	}
	if doc := bson.Raw(d.buf.Bytes()); doc[size-1] == 0 {
		return doc, nil
	}
	return nil, errors.New("it is not BSON: it does not end with a zero")
}

// builder takes documents and makes a database of them.
type builder struct {
	db       Database
	clusters []Cluster
	seen     map[string]bool // the collections
}

func newBuilder() *builder { return &builder{seen: map[string]bool{}} }

// add takes one document; its bytes may change afterwards.
func (b *builder) add(collection string, doc bson.Raw) error {
	b.seen[collection] = true
	switch collection {
	case "cluster":
		return decode(doc, &b.clusters)
	case "network":
		return decode(doc, &b.db.Networks)
	case "osimage":
		return decode(doc, &b.db.OSImages)
	case "bmcsetup":
		return decode(doc, &b.db.BMCSetups)
	case "group":
		return b.addGroup(doc)
	case "node":
		return b.addNode(doc)
	case "switch":
		return decode(doc, &b.db.Switches)
	case "otherdev":
		return decode(doc, &b.db.OtherDevs)
	case "mac":
		return decode(doc, &b.db.MACs)
	}
	if doc == nil {
		return errors.New("the document is empty")
	}
	return nil
}

// decode appends the document to its list.
func decode[T any](doc bson.Raw, to *[]T) error {
	var v T
	if err := bson.Unmarshal(doc, &v); err != nil {
		if name, ok := doc.Lookup("name").StringValueOK(); ok {
			return fmt.Errorf("'%.80s': %w", name, err)
		}
		return err
	}
	*to = append(*to, v)
	return nil
}

// addGroup also turns the shape of 1.1 into that of 1.2.
func (b *builder) addGroup(doc bson.Raw) error {
	if err := decode(doc, &b.db.Groups); err != nil {
		return err
	}
	g := &b.db.Groups[len(b.db.Groups)-1]
	for key, i := range g.Interfaces {
		if !i.Name.Set {
			i.Name = Text{Set: true, Value: key}
			g.Interfaces[key] = i
		}
	}
	if _, ok := g.Interfaces["BMC"]; !ok && g.BMCNetwork != (Ref{}) {
		if g.Interfaces == nil {
			g.Interfaces = map[string]Interface{}
		}
		g.Interfaces["BMC"] = Interface{Name: Text{Set: true, Value: "BMC"}, Network: Networks{V4: g.BMCNetwork}}
	}
	return nil
}

func (b *builder) addNode(doc bson.Raw) error {
	if err := decode(doc, &b.db.Nodes); err != nil {
		return err
	}
	n := &b.db.Nodes[len(b.db.Nodes)-1]
	_, err := doc.LookupErr("_use_", "cluster")
	n.Linked = err == nil
	if n.BMCNetwork.Int != nil {
		if n.Interfaces == nil {
			n.Interfaces = map[string]Addresses{}
		}
		n.Interfaces["BMC"] = Addresses{V4: n.BMCNetwork}
	}
	return nil
}

// finish checks that there is a database at all, and puts it in order.
func (b *builder) finish() (*Database, error) {
	general := slices.IndexFunc(b.clusters, func(c Cluster) bool { return c.Name.Value == "general" })
	if general < 0 {
		return nil, errors.New("it holds no cluster 'general': is it a dump of the database 'luna'? Make one with \"mongodump -d luna\" on the 1.2 head")
	}
	db := &b.db
	db.Cluster = b.clusters[general]
	if v := db.Cluster.DBVersion; v != nil && *v != version {
		return nil, fmt.Errorf("its version is %v, and only %v can be read (and 1.1, which wrote none)", *v, version)
	}
	for name := range b.seen {
		if !known[name] && !forget[name] && !strings.HasPrefix(name, "system.") {
			db.Ignored = append(db.Ignored, name)
		}
	}
	slices.Sort(db.Ignored)
	order(db.Networks, func(o *Network) (string, bson.ObjectID) { return o.Name.Value, o.ID })
	order(db.OSImages, func(o *OSImage) (string, bson.ObjectID) { return o.Name.Value, o.ID })
	order(db.BMCSetups, func(o *BMCSetup) (string, bson.ObjectID) { return o.Name.Value, o.ID })
	order(db.Groups, func(o *Group) (string, bson.ObjectID) { return o.Name.Value, o.ID })
	order(db.Nodes, func(o *Node) (string, bson.ObjectID) { return o.Name.Value, o.ID })
	order(db.Switches, func(o *Switch) (string, bson.ObjectID) { return o.Name.Value, o.ID })
	order(db.OtherDevs, func(o *OtherDev) (string, bson.ObjectID) { return o.Name.Value, o.ID })
	order(db.MACs, func(o *MAC) (string, bson.ObjectID) { return o.MAC.Value, o.Node.ID })
	return db, nil
}

// known are the collections that are read.
var known = map[string]bool{
	"cluster": true, "network": true, "osimage": true, "bmcsetup": true, "group": true,
	"node": true, "switch": true, "otherdev": true, "mac": true,
}

func order[T any](list []T, key func(*T) (string, bson.ObjectID)) {
	slices.SortStableFunc(list, func(x, y T) int {
		a, i := key(&x)
		b, j := key(&y)
		return cmp.Or(cmp.Compare(a, b), bytes.Compare(i[:], j[:]))
	})
}
