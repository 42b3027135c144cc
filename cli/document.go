package cli

import (
	"bytes"
	"cmp"
	"encoding"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/netip"
	"os"
	"reflect"
	"regexp"
	"slices"
	"strings"

	"gopkg.in/yaml.v3"

	"github.com/clustervision/luna/inventory"
)

// docFile is a document as it stands in a file.
type docFile struct {
	name string // of the file, for people
	json json.RawMessage
	// lines are where objects stand, by section and name: "nodes/node001"; 0 is
	// somewhere.
	lines map[string]int
	// unknown are where fields stand that this luna does not know, addresses
	// where the addresses.
	unknown, addresses map[string]int
}

func newDocFile(name string) *docFile {
	return &docFile{name: name, lines: map[string]int{}, unknown: map[string]int{}, addresses: map[string]int{}}
}

// maxDocument bounds a document, in bytes: that of 10,000 nodes has 4 MB, and a
// head takes 64 MB.
const maxDocument = 64 << 20

// readFile gives what is in a file, or on stdin for "-", and its name for
// people.
func readFile(s *session, file string) (content []byte, name string, err error) {
	in, name := s.cmd.InOrStdin(), "stdin"
	if file != "-" {
		f, err := os.Open(file)
		if err != nil {
			return nil, file, badFile("%v", err)
		}
		defer f.Close()
		in, name = f, file
	}
	b, err := io.ReadAll(io.LimitReader(in, maxDocument+1))
	switch {
	case err != nil:
		return nil, name, badFile("cannot read %s: %v", name, err)
	case len(b) > maxDocument:
		return nil, name, badFile("%s is longer than %d MB", name, maxDocument>>20)
	case len(bytes.TrimSpace(b)) == 0:
		return nil, name, badFile("%s is empty", name)
	}
	return b, name, nil
}

// badFile is the refusal of a file; its text begins with the place.
func badFile(format string, args ...any) error {
	return inventory.Errorf(inventory.KindInvalid, "", "", format, args...)
}

// readDocument reads a document in YAML or JSON.
func readDocument(s *session, file string) (*docFile, error) {
	b, name, err := readFile(s, file)
	if err != nil {
		return nil, err
	}
	return parseDocument(name, b)
}

func parseDocument(name string, b []byte) (*docFile, error) {
	d := newDocFile(name)
	if json.Valid(b) {
		d.json = b
		var sections map[string]map[string]json.RawMessage
		_ = json.Unmarshal(b, &sections) // what has another shape is for the head to refuse
		for section, objects := range sections {
			for name := range objects {
				d.lines[section+"/"+name] = 0
			}
		}
		return d, nil
	}
	root, err := parseYAML(name, b)
	if err != nil {
		return nil, err
	}
	r := documentReader{docFile: d}
	v, err := r.value(root, reflect.TypeFor[inventory.Document]())
	if err != nil {
		return nil, err
	}
	d.findObjects(root)
	if d.json, err = json.Marshal(v); err != nil {
		return nil, badFile("%s: %v", name, err)
	}
	return d, nil
}

// parseYAML reads the one document of a file.
func parseYAML(name string, b []byte) (*yaml.Node, error) {
	dec := yaml.NewDecoder(bytes.NewReader(b))
	var root, more yaml.Node
	err := dec.Decode(&root)
	if errors.Is(err, io.EOF) {
		return nil, badFile("%s is empty", name)
	}
	if err == nil {
		if err = dec.Decode(&more); err == nil {
			return nil, badFile("%s:%d: a second document begins here: a file holds one", name, more.Line)
		}
		if errors.Is(err, io.EOF) {
			return root.Content[0], nil
		}
	}
	if m := yamlLine.FindStringSubmatch(err.Error()); m != nil {
		return nil, badFile("%s:%s: this is no YAML: %s", name, m[1], m[2])
	}
	return nil, badFile("%s: this is no YAML: %s", name, strings.TrimPrefix(err.Error(), "yaml: "))
}

// yamlLine matches how yaml.v3 says where an error is.
var yamlLine = regexp.MustCompile(`(?s)^yaml: line ([0-9]+): (.*)$`)

// findObjects notes where the objects stand.
func (d *docFile) findObjects(root *yaml.Node) {
	for i := 0; i+1 < len(root.Content); i += 2 {
		section, objects := root.Content[i].Value, root.Content[i+1]
		if objects.Kind != yaml.MappingNode || section == "cluster" {
			continue
		}
		for j := 0; j+1 < len(objects.Content); j += 2 {
			d.lines[section+"/"+objects.Content[j].Value] = objects.Content[j].Line
		}
	}
}

// sections are the parts of a document by the type of their objects, in its
// order.
var sections = []struct{ object, section string }{
	{"network", "networks"},
	{"osimage", "osimages"},
	{"bmcsetup", "bmcsetups"},
	{"group", "groups"},
	{"switch", "switches"},
	{"otherdev", "otherdevs"},
	{"node", "nodes"},
}

// namesIn lists the objects of a type in a document.
func namesIn(d inventory.Document, object string) []string {
	switch object {
	case "network":
		return slices.Collect(maps.Keys(d.Networks))
	case "osimage":
		return slices.Collect(maps.Keys(d.OSImages))
	case "bmcsetup":
		return slices.Collect(maps.Keys(d.BMCSetups))
	case "group":
		return slices.Collect(maps.Keys(d.Groups))
	case "switch":
		return slices.Collect(maps.Keys(d.Switches))
	case "otherdev":
		return slices.Collect(maps.Keys(d.OtherDevs))
	}
	return slices.Collect(maps.Keys(d.Nodes))
}

// unknownField matches how encoding/json names a field that it does not know.
var unknownField = regexp.MustCompile(`unknown field "([^"]*)"`)

// explain adds to a refusal where in the file the object, the address or the
// field stands that it is about.
func (d *docFile) explain(err error) error {
	var e *inventory.Error
	if !errors.As(err, &e) {
		return err
	}
	subject, _, _ := strings.Cut(e.Text, " ")
	line := d.addresses[subject]
	if m := unknownField.FindStringSubmatch(e.Text); m != nil {
		line = d.unknown[m[1]]
	}
	for _, s := range sections {
		if s.object == e.Object && e.Name != "" {
			line = cmp.Or(d.lines[s.section+"/"+e.Name], line)
		}
	}
	if line == 0 {
		return err
	}
	placed := *e
	placed.Text = fmt.Sprintf("%s:%d: %s", d.name, line, e.Text)
	return &placed
}

// documentReader makes JSON values of YAML by the types that a document has:
// what stands for a text is one, even if it looks like a number.
type documentReader struct {
	*docFile
	values int // read so far
	depth  int // of the one that is being read
}

// What aliases can make of a small file is bounded in number and depth.
const (
	maxValues = 2_000_000 // 80,000 nodes
	maxDepth  = 50
)

func (r *documentReader) bad(n *yaml.Node, format string, args ...any) (any, error) {
	return nil, badFile("%s:%d: %s", r.name, n.Line, fmt.Sprintf(format, args...))
}

// value reads a value that is to be a t, or anything for nil.
func (r *documentReader) value(n *yaml.Node, t reflect.Type) (any, error) {
	if n.Kind == yaml.AliasNode {
		n = n.Alias
	}
	r.depth++
	defer func() { r.depth-- }()
	if r.values++; r.values > maxValues || r.depth > maxDepth {
		return r.bad(n, "the document is too large or too deep")
	}
	t = plainType(t)
	switch n.Kind {
	case yaml.MappingNode:
		if t != nil && t.Kind() != reflect.Map && (t.Kind() != reflect.Struct || isText(t)) {
			return r.bad(n, "fields stand where %s is needed", typeName(t))
		}
		return r.fields(n, t)
	case yaml.SequenceNode:
		if t != nil && t.Kind() != reflect.Slice {
			return r.bad(n, "a list stands where %s is needed", typeName(t))
		}
		list := make([]any, len(n.Content))
		for i, item := range n.Content {
			var of reflect.Type
			if t != nil {
				of = t.Elem()
			}
			var err error
			if list[i], err = r.value(item, of); err != nil {
				return nil, err
			}
		}
		return list, nil
	}
	return r.scalar(n, t)
}

// fields reads an object: a struct by the names in its JSON, or a map.
func (r *documentReader) fields(n *yaml.Node, t reflect.Type) (any, error) {
	types := func(string) (of reflect.Type, known bool) { return nil, true }
	switch {
	case t != nil && t.Kind() == reflect.Map:
		types = func(string) (reflect.Type, bool) { return t.Elem(), true }
	case t != nil:
		types = func(name string) (reflect.Type, bool) {
			for i := range t.NumField() {
				if tag, _, _ := strings.Cut(t.Field(i).Tag.Get("json"), ","); tag == name {
					return t.Field(i).Type, true
				}
			}
			return nil, false
		}
	}
	object := make(map[string]any, len(n.Content)/2)
	for i := 0; i+1 < len(n.Content); i += 2 {
		key := n.Content[i]
		if key.Kind != yaml.ScalarNode || key.Tag == "!!merge" {
			return r.bad(key, "this cannot be the name of a field")
		}
		if _, twice := object[key.Value]; twice {
			return r.bad(key, "'%s' stands here for the second time", key.Value)
		}
		of, known := types(key.Value)
		if _, noted := r.unknown[key.Value]; !known && !noted {
			r.unknown[key.Value] = key.Line // for the head, which may know it, to refuse
		}
		v, err := r.value(n.Content[i+1], of)
		if err != nil {
			return nil, err
		}
		object[key.Value] = v
	}
	return object, nil
}

func (r *documentReader) scalar(n *yaml.Node, t reflect.Type) (any, error) {
	if n.Tag == "!!null" {
		return nil, nil
	}
	switch {
	case t == nil:
		var v any
		if err := n.Decode(&v); err != nil {
			return r.bad(n, "'%s' cannot be read", n.Value)
		}
		return v, nil
	case t.Kind() == reflect.String, isText(t):
		if t == reflect.TypeFor[netip.Addr]() {
			r.addresses[n.Value] = n.Line
		}
		return n.Value, nil
	case t.Kind() == reflect.Bool:
		for b, words := range map[bool]string{true: " true yes y ", false: " false no n "} {
			if strings.Contains(words, " "+strings.ToLower(n.Value)+" ") {
				return b, nil
			}
		}
	case t.Kind() == reflect.Int:
		var i int64
		if n.Tag == "!!int" && n.Decode(&i) == nil {
			return i, nil
		}
	}
	return r.bad(n, "'%s' stands where %s is needed", n.Value, typeName(t))
}

// plainType gives the type whose JSON is that of t: what a pointer points to,
// what a Maybe may hold.
func plainType(t reflect.Type) reflect.Type {
	for t != nil {
		switch {
		case t.Kind() == reflect.Pointer:
			t = t.Elem()
		case t.Kind() == reflect.Struct && strings.HasPrefix(t.Name(), "Maybe["):
			f, _ := t.FieldByName("Value")
			t = f.Type
		default:
			return t
		}
	}
	return nil
}

// isText tells whether a type is a text in JSON: an address.
func isText(t reflect.Type) bool {
	return reflect.PointerTo(t).Implements(reflect.TypeFor[encoding.TextUnmarshaler]())
}

func typeName(t reflect.Type) string {
	switch {
	case t.Kind() == reflect.String, isText(t):
		return "a text"
	case t.Kind() == reflect.Bool:
		return "yes or no"
	case t.Kind() == reflect.Int:
		return "a number"
	case t.Kind() == reflect.Slice:
		return "a list"
	}
	return "an object with fields"
}
