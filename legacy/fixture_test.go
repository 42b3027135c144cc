package legacy

import (
	"bytes"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"hash/crc64"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"go.mongodb.org/mongo-driver/v2/bson"
)

// No MongoDB is to be had where the tests run, so the stores of testdata are
// written here, by the facts of how 1.2 wrote its documents: offsets for
// addresses, DBRefs, long and int as Python had them, decimal strings for IPv6,
// use counters.

// store is a database as 1.2 left it: documents by collection, in the order in
// which they were made.
type store struct {
	docs map[string][]bson.D
	made int
}

func newStore() *store { return &store{docs: map[string][]bson.D{}} }

// id gives the next ObjectId; they grow with time, as MongoDB's do.
func (s *store) id() bson.ObjectID {
	s.made++
	id := bson.ObjectID{0x5a, 0xdd, 0x81, 0x00, 0x6c, 0x75, 0x6e, 0x61}
	binary.BigEndian.PutUint32(id[8:], uint32(s.made))
	return id
}

// add stores a document, linked to the cluster as 1.2 linked what it finished.
func (s *store) add(collection, name string, fields bson.D) bson.ObjectID {
	return s.put(collection, append(bson.D{{Key: "name", Value: name}}, fields...), true)
}

func (s *store) put(collection string, fields bson.D, linked bool) bson.ObjectID {
	id := s.id()
	doc := append(bson.D{{Key: "_id", Value: id}}, fields...)
	doc = append(doc, bson.E{Key: "_usedby_", Value: bson.D{}})
	if linked && collection != "cluster" && collection != "mac" {
		use := bson.D{{Key: "cluster", Value: bson.D{{Key: hex.EncodeToString(id[:]), Value: int32(1)}}}}
		doc = append(doc, bson.E{Key: "_use_", Value: use})
	}
	s.docs[collection] = append(s.docs[collection], doc)
	return id
}

// ref is a DBRef.
func ref(collection string, id bson.ObjectID) bson.D {
	return bson.D{{Key: "$ref", Value: collection}, {Key: "$id", Value: id}}
}

// free is a freelist of IPv4: pairs of first and last free offset.
func free(pairs ...int64) bson.A {
	list := bson.A{}
	for p := range slices.Chunk(pairs, 2) {
		list = append(list, bson.D{{Key: "start", Value: p[0]}, {Key: "end", Value: int32(p[1])}})
	}
	return list
}

// free6 is a freelist of IPv6: the same in decimal strings.
func free6(pairs ...string) bson.A {
	list := bson.A{}
	for p := range slices.Chunk(pairs, 2) {
		list = append(list, bson.D{{Key: "start", Value: p[0]}, {Key: "end", Value: p[1]}})
	}
	return list
}

func ip(a, b, c, d int64) int64 { return a<<24 | b<<16 | c<<8 | d }

// set changes a field of the last document of the collection.
func (s *store) set(collection, field string, value any) {
	doc := s.docs[collection][len(s.docs[collection])-1]
	for i := range doc {
		if doc[i].Key == field {
			doc[i].Value = value
			return
		}
	}
	s.docs[collection][len(s.docs[collection])-1] = append(doc, bson.E{Key: field, Value: value})
}

// cluster is the document of a cluster after init, changed by then.
func (s *store) cluster() {
	s.add("cluster", "general", bson.D{
		{Key: "nodeprefix", Value: "node"},
		{Key: "nodedigits", Value: int32(3)},
		{Key: "user", Value: "luna"},
		{Key: "debug", Value: int32(0)},
		{Key: "path", Value: "/opt/luna"},
		{Key: "cluster_ips", Value: nil},
		{Key: "frontend_address", Value: "10.30.255.254"},
		{Key: "frontend_port", Value: "7050"},
		{Key: "server_port", Value: int32(7051)},
		{Key: "torrent_listen_port_min", Value: int32(7052)},
		{Key: "torrent_listen_port_max", Value: int32(7200)},
		{Key: "torrent_pidfile", Value: "/run/luna/ltorrent.pid"},
		{Key: "tracker_interval", Value: int32(10)},
		{Key: "tracker_min_interval", Value: int32(5)},
		{Key: "tracker_maxpeers", Value: int32(200)},
		{Key: "lweb_num_proc", Value: int32(0)},
		{Key: "lweb_pidfile", Value: "/run/luna/lweb.pid"},
		{Key: "named_include_file", Value: "/etc/named.luna.zones"},
		{Key: "named_zone_dir", Value: "/var/named"},
		{Key: "dhcp_range_start", Value: nil},
		{Key: "dhcp_range_end", Value: nil},
		{Key: "dhcp_net", Value: nil},
		{Key: "db_version", Value: 1.2},
		{Key: "comment", Value: nil},
		{Key: "frontend_https", Value: false},
	})
}

func (s *store) network(name string, base any, prefix int32, list bson.A, ns any, version int32) bson.ObjectID {
	return s.add("network", name, bson.D{
		{Key: "NETWORK", Value: base},
		{Key: "PREFIX", Value: prefix},
		{Key: "freelist", Value: list},
		{Key: "ns_hostname", Value: "master"},
		{Key: "ns_ip", Value: ns},
		{Key: "version", Value: version},
		{Key: "include", Value: nil},
		{Key: "rev_include", Value: nil},
		{Key: "comment", Value: ""},
	})
}

func (s *store) osimage(name, path string) bson.ObjectID {
	return s.add("osimage", name, bson.D{
		{Key: "path", Value: path},
		{Key: "kernver", Value: "3.10.0-862.el7.x86_64"},
		{Key: "kernopts", Value: ""},
		{Key: "kernfile", Value: ""},
		{Key: "initrdfile", Value: ""},
		{Key: "dracutmodules", Value: "luna,-i18n,-plymouth"},
		{Key: "kernmodules", Value: "ipmi_devintf,ipmi_si,ipmi_msghandler"},
		{Key: "grab_exclude_list", Value: "/proc/\n/sys/\n"},
		{Key: "grab_filesystems", Value: "/,/boot"},
		{Key: "comment", Value: ""},
	})
}

func (s *store) bmcsetup(name string) bson.ObjectID {
	return s.add("bmcsetup", name, bson.D{
		{Key: "userid", Value: int32(3)},
		{Key: "user", Value: "ladmin"},
		{Key: "password", Value: "ladmin"},
		{Key: "netchannel", Value: int32(1)},
		{Key: "mgmtchannel", Value: int32(1)},
		{Key: "comment", Value: ""},
	})
}

// iface is an interface of a group; its key is made of its name.
type iface struct {
	key, name string
	net4      any
	net6      any
	params    string
}

func key(group, name string) string {
	return hex.EncodeToString([]byte(fmt.Sprintf("%-8.8s%-8.8s", group, name)))
}

func interfaces(list ...iface) bson.D {
	doc := bson.D{}
	for _, i := range list {
		doc = append(doc, bson.E{Key: i.key, Value: bson.D{
			{Key: "name", Value: i.name},
			{Key: "network", Value: bson.D{{Key: "4", Value: i.net4}, {Key: "6", Value: i.net6}}},
			{Key: "params", Value: i.params},
		}})
	}
	return doc
}

func (s *store) group(name string, osimage any, setup any, domain any, ifs bson.D) bson.ObjectID {
	return s.add("group", name, bson.D{
		{Key: "prescript", Value: ""},
		{Key: "bmcsetup", Value: setup},
		{Key: "partscript", Value: "mount -t tmpfs tmpfs /sysroot"},
		{Key: "osimage", Value: osimage},
		{Key: "interfaces", Value: ifs},
		{Key: "postscript", Value: "cat << EOF >> /sysroot/etc/fstab\ntmpfs   /       tmpfs    defaults        0 0\nEOF"},
		{Key: "domain", Value: domain},
		{Key: "torrent_if", Value: nil},
		{Key: "comment", Value: ""},
	})
}

// addrs are a node's offsets on an interface.
type addrs struct {
	key       string
	four, six any
}

func offsets(list ...addrs) bson.D {
	doc := bson.D{}
	for _, a := range list {
		doc = append(doc, bson.E{Key: a.key, Value: bson.D{{Key: "4", Value: a.four}, {Key: "6", Value: a.six}}})
	}
	return doc
}

func (s *store) node(name string, group bson.ObjectID, offs bson.D) bson.ObjectID {
	return s.add("node", name, s.nodeFields(group, offs))
}

func (s *store) nodeFields(group bson.ObjectID, offs bson.D) bson.D {
	return bson.D{
		{Key: "group", Value: ref("group", group)},
		{Key: "interfaces", Value: offs},
		{Key: "mac", Value: nil},
		{Key: "switch", Value: nil},
		{Key: "port", Value: nil},
		{Key: "localboot", Value: false},
		{Key: "setupbmc", Value: true},
		{Key: "service", Value: false},
		{Key: "comment", Value: ""},
	}
}

func (s *store) sw(name string, net bson.ObjectID, ip any) bson.ObjectID {
	return s.add("switch", name, bson.D{
		{Key: "network", Value: ref("network", net)},
		{Key: "ip", Value: ip},
		{Key: "read", Value: "public"},
		{Key: "rw", Value: "private"},
		{Key: "oid", Value: ".1.3.6.1.2.1.17.7.1.2.2.1.2"},
		{Key: "comment", Value: ""},
	})
}

func (s *store) otherdev(name string, connected bson.D) bson.ObjectID {
	return s.add("otherdev", name, bson.D{{Key: "connected", Value: connected}, {Key: "comment", Value: ""}})
}

func (s *store) mac(mac string, node bson.ObjectID) {
	s.put("mac", bson.D{{Key: "mac", Value: mac}, {Key: "node", Value: ref("node", node)}}, false)
}

// names lists the collections, sorted, as the tools meet them.
func (s *store) names() []string {
	var names []string
	for n := range s.docs {
		names = append(names, n)
	}
	slices.Sort(names)
	return names
}

// writeDump writes what "mongodump -d luna -o DIR" writes.
func (s *store) writeDump(t *testing.T, dir string) {
	t.Helper()
	for _, name := range s.names() {
		var b []byte
		for _, d := range s.docs[name] {
			b = append(b, marshal(t, d)...)
		}
		write(t, filepath.Join(dir, "luna", name+".bson"), b)
		meta := fmt.Sprintf(`{"options":{},"indexes":[{"v":1,"key":{"_id":1},"name":"_id_","ns":"luna.%s"}]}`, name)
		write(t, filepath.Join(dir, "luna", name+".metadata.json"), []byte(meta))
	}
}

// archiveBytes gives what "mongodump --archive" writes of two databases, with
// the blocks of the collections mixed as two threads would mix them.
func (s *store) archiveBytes(t *testing.T) []byte {
	t.Helper()
	var b bytes.Buffer
	end := func() { b.Write([]byte{0xff, 0xff, 0xff, 0xff}) }
	doc := func(d bson.D) { b.Write(marshal(t, d)) }
	b.Write([]byte{0x6d, 0xe2, 0x99, 0x81})
	doc(bson.D{{Key: "concurrent_collections", Value: int32(4)}, {Key: "version", Value: "0.1"}, {Key: "server_version", Value: "2.6.12"}, {Key: "tool_version", Value: "r3.4.3"}})
	announce := func(db, name string) {
		doc(bson.D{{Key: "db", Value: db}, {Key: "collection", Value: name}, {Key: "metadata", Value: "{}"}, {Key: "size", Value: int32(0)}, {Key: "type", Value: ""}})
	}
	header := func(db, name string, eof bool, crc uint64) {
		doc(bson.D{{Key: "db", Value: db}, {Key: "collection", Value: name}, {Key: "EOF", Value: eof}, {Key: "CRC", Value: int64(crc)}})
	}
	announce("admin", "system.version")
	for _, name := range s.names() {
		announce("luna", name)
	}
	end()
	version := bson.D{{Key: "_id", Value: "authSchema"}, {Key: "currentVersion", Value: int32(3)}}
	header("admin", "system.version", false, 0)
	doc(version)
	end()
	sums := map[string]uint64{}
	table := crc64.MakeTable(crc64.ECMA)
	for half := range 2 {
		for _, name := range s.names() {
			docs := s.docs[name]
			if middle := len(docs) / 2; half == 0 {
				docs = docs[:middle]
			} else {
				docs = docs[middle:]
			}
			if len(docs) == 0 {
				continue
			}
			header("luna", name, false, 0)
			for _, d := range docs {
				sums[name] = crc64.Update(sums[name], table, marshal(t, d))
				doc(d)
			}
			end()
		}
	}
	header("admin", "system.version", true, crc64.Checksum(marshal(t, version), table))
	end()
	for _, name := range s.names() {
		header("luna", name, true, sums[name])
		end()
	}
	return b.Bytes()
}

// writeExport writes what "mongoexport -c NAME" writes for each collection, in
// extended JSON version 1 as in the days of 1.2, or in version 2, canonical.
func (s *store) writeExport(t *testing.T, dir string, canonical bool) {
	t.Helper()
	for _, name := range s.names() {
		write(t, filepath.Join(dir, name+".json"), s.exportBytes(t, name, canonical))
	}
}

func (s *store) exportBytes(t *testing.T, name string, canonical bool) []byte {
	t.Helper()
	var b []byte
	for _, d := range s.docs[name] {
		if !canonical {
			b = append(append(b, version1(t, d)...), '\n')
			continue
		}
		line, err := bson.MarshalExtJSON(d, true, false)
		if err != nil {
			t.Fatal(err)
		}
		b = append(append(b, line...), '\n')
	}
	return b
}

// version1 writes a value as mongoexport 2.6 did.
func version1(t *testing.T, v any) string {
	t.Helper()
	switch v := v.(type) {
	case bson.D:
		var parts []string
		for _, e := range v {
			parts = append(parts, fmt.Sprintf("%q : %s", e.Key, version1(t, e.Value)))
		}
		return "{ " + strings.Join(parts, ", ") + " }"
	case bson.A:
		var parts []string
		for _, e := range v {
			parts = append(parts, version1(t, e))
		}
		return "[ " + strings.Join(parts, ", ") + " ]"
	case bson.ObjectID:
		return fmt.Sprintf(`{ "$oid" : "%s" }`, v.Hex())
	case int64:
		return fmt.Sprintf(`{ "$numberLong" : "%d" }`, v)
	case bson.DateTime:
		return fmt.Sprintf(`{ "$date" : %d }`, int64(v))
	}
	b, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

func marshal(t *testing.T, d bson.D) []byte {
	t.Helper()
	b, err := bson.Marshal(d)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func write(t *testing.T, path string, b []byte) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, b, 0o644); err != nil {
		t.Fatal(err)
	}
}
