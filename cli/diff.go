package cli

import (
	"io"
	"maps"
	"net/netip"
	"os"
	"reflect"
	"slices"
	"strconv"
	"strings"

	"github.com/clustervision/luna/api"
	"github.com/clustervision/luna/inventory"
)

// showChanges prints the difference that changes make, or would make. Of none
// it says so on stderr.
func (s *session) showChanges(format string, changes []api.Change) error {
	switch {
	case format == formatJSON:
		return writeJSON(s.stdout(), nonNil(changes))
	case format == formatYAML:
		return writeYAML(s.stdout(), nonNil(changes))
	case len(changes) == 0:
		s.note("no difference")
		return nil
	}
	return printChanges(s.stdout(), changes, isTerminal(s.stdout()) && os.Getenv("NO_COLOR") == "")
}

// printChanges writes what changes for people: objects to which the same
// happens stand together, under a hostlist of their names.
func printChanges(w io.Writer, changes []api.Change, colour bool) error {
	p := changePrinter{colour: colour}
	for _, b := range blocksOf(changes) {
		p.block(b)
	}
	_, err := io.WriteString(w, p.out.String())
	return err
}

// deed is what happens to an object.
type deed byte

const (
	deedChanged deed = ' '
	deedCreated deed = '+'
	deedDeleted deed = '-'
)

// delta is a field of one object, before and after.
type delta struct {
	path     string
	was, is  string // of a list: what it has lost and won
	isList   bool
	longText bool // of several lines
}

// oneChange is an object and what changes in it.
type oneChange struct {
	name   string
	deltas []delta
}

// block is objects of one type to which the same happens, in the order of
// their names. Their deltas have the same paths; common are those that have
// the same values too.
type block struct {
	deed    deed
	object  string
	changes []oneChange
	common  []bool // by the index of the delta
}

// blocksOf puts together what can be told together. The order is that of the
// changes: types as references point, names.
func blocksOf(changes []api.Change) []block {
	type kind struct {
		object string
		deed   deed
		shape  string // the paths of the deltas, and which are long texts
	}
	var kinds []kind
	byKind, orders := map[kind][]oneChange{}, map[string][]string{}
	for _, c := range changes {
		k, one := kind{c.Object, deedChanged, ""}, oneChange{name: c.Name}
		switch {
		case c.Before == nil:
			k.deed = deedCreated
		case c.After == nil:
			k.deed = deedDeleted
		}
		if _, ok := orders[c.Object]; !ok {
			orders[c.Object] = fieldOrder(c.Object)
		}
		if k.deed != deedDeleted {
			one.deltas = deltasOf(c, orders[c.Object])
		}
		for _, d := range one.deltas {
			k.shape += d.path + "\n"
			if d.longText {
				k.shape += "\n"
			}
		}
		if byKind[k] == nil {
			kinds = append(kinds, k)
		}
		byKind[k] = append(byKind[k], one)
	}
	var blocks []block
	for _, k := range kinds {
		for _, group := range parted(byKind[k], k.deed) {
			blocks = append(blocks, newBlock(k.object, k.deed, group))
		}
	}
	return blocks
}

// parted parts objects whose deltas have the same paths by the values that many
// of them share, such as the group; values of which nearly every object has its
// own, such as addresses, do not part them. How a long text changes is told of
// each.
func parted(all []oneChange, deed deed) [][]oneChange {
	if len(all) == 1 {
		return [][]oneChange{all}
	}
	var shared []int
	for i := range all[0].deltas {
		values := map[delta]bool{}
		for _, c := range all {
			values[c.deltas[i]] = true
		}
		first := all[0].deltas[i]
		if first.longText && deed == deedChanged || !isAddress(first) && 2*len(values) <= len(all) {
			shared = append(shared, i)
		}
	}
	var keys []string
	byKey := map[string][]oneChange{}
	for _, c := range all {
		var key strings.Builder
		for _, i := range shared {
			key.WriteString(c.deltas[i].was + "\x00" + c.deltas[i].is + "\x00")
		}
		if byKey[key.String()] == nil {
			keys = append(keys, key.String())
		}
		byKey[key.String()] = append(byKey[key.String()], c)
	}
	groups := make([][]oneChange, len(keys))
	for i, key := range keys {
		groups[i] = byKey[key]
	}
	return groups
}

// isAddress tells whether a field is one that no two objects share.
func isAddress(d delta) bool {
	if d.path == "mac" {
		return true
	}
	_, errWas := netip.ParseAddr(d.was)
	_, errIs := netip.ParseAddr(d.is)
	return errWas == nil || errIs == nil
}

func newBlock(object string, deed deed, all []oneChange) block {
	b := block{deed: deed, object: object, changes: all}
	if len(all) > 1 { // as people count: node9 before node10
		at := make(map[string]int, len(all))
		for i, name := range namesInOrder(all) {
			at[name] = i
		}
		slices.SortStableFunc(b.changes, func(x, y oneChange) int { return at[x.name] - at[y.name] })
	}
	for i, d := range all[0].deltas {
		b.common = append(b.common, !slices.ContainsFunc(all, func(c oneChange) bool { return c.deltas[i] != d }))
	}
	return b
}

func namesOf(all []oneChange) []string {
	names := make([]string, len(all))
	for i, c := range all {
		names[i] = c.name
	}
	return names
}

func namesInOrder(all []oneChange) []string {
	names := namesOf(all)
	if ordered, err := inventory.ExpandHostlist(inventory.CompressHostlist(names)); err == nil {
		return ordered
	}
	return names // more than a hostlist may stand for
}

// fieldOrder gives the names of an object's fields as documents have them in
// order; nil for what is in no document.
func fieldOrder(object string) []string {
	doc, ok := map[string]reflect.Type{
		"cluster": reflect.TypeFor[inventory.ClusterDoc](), "network": reflect.TypeFor[inventory.NetworkDoc](),
		"osimage": reflect.TypeFor[inventory.OSImageDoc](), "bmcsetup": reflect.TypeFor[inventory.BMCSetupDoc](),
		"group": reflect.TypeFor[inventory.GroupDoc](), "switch": reflect.TypeFor[inventory.SwitchDoc](),
		"otherdev": reflect.TypeFor[inventory.OtherDevDoc](), "node": reflect.TypeFor[inventory.NodeDoc](),
	}[object]
	if !ok {
		return nil
	}
	names := make([]string, doc.NumField())
	for i := range names {
		names[i], _, _ = strings.Cut(doc.Field(i).Tag.Get("json"), ",")
	}
	return names
}

// deltasOf lists the fields that differ, in order. Of an object that is new
// these are the ones that have a value.
func deltasOf(c api.Change, order []string) []delta {
	was, _ := c.Before.(map[string]any)
	is, _ := c.After.(map[string]any)
	var list []delta
	for _, name := range order {
		list = appendDeltas(list, name, was[name], is[name])
	}
	for _, name := range fieldsOf(was, is) {
		if !slices.Contains(order, name) {
			list = appendDeltas(list, name, was[name], is[name])
		}
	}
	if c.Before != nil && len(list) == 0 {
		// A document does not tell an object's own name, so only that can differ.
		list = append(list, delta{path: "name", was: c.Was, is: c.Name})
	}
	return list
}

func fieldsOf(was, is map[string]any) []string {
	names := slices.AppendSeq(slices.Collect(maps.Keys(was)), maps.Keys(is))
	slices.Sort(names)
	return slices.Compact(names)
}

// appendDeltas goes down into what has fields of its own.
func appendDeltas(list []delta, path string, was, is any) []delta {
	wasMap, wasFields := was.(map[string]any)
	isMap, isFields := is.(map[string]any)
	if isRange(wasMap) || isRange(isMap) {
		was, is, wasFields, isFields = rangeText(was), rangeText(is), false, false
	}
	inside := fieldsOf(wasMap, isMap)
	switch {
	case (wasFields && isFields || wasFields && is == nil || isFields && was == nil) && len(inside) > 0:
		for _, name := range inside {
			list = appendDeltas(list, path+"."+name, wasMap[name], isMap[name])
		}
		return list
	case reflect.DeepEqual(was, is):
		return list
	}
	wasList, wasOne := was.([]any)
	isList, isOne := is.([]any)
	d := delta{path: path, isList: wasOne || isOne}
	if !d.isList {
		return append(list, d.ofTexts(valueText(was), valueText(is)))
	}
	if d.was, d.is = listDelta(wasList, isList); d.was == "" && d.is == "" {
		return list // unset and empty are the same for a list
	}
	return append(list, d)
}

// isRange tells a range of addresses, which is told as one value.
func isRange(m map[string]any) bool { return m["start"] != nil && m["end"] != nil }

func rangeText(v any) any {
	if m, ok := v.(map[string]any); ok {
		return valueText(m["start"]) + "-" + valueText(m["end"])
	}
	return v
}

// ofTexts completes the delta of a field that is no list. A newline at the end
// of a text does not make it one of several lines, unless that is all that
// differs.
func (d delta) ofTexts(was, is string) delta {
	d.was, d.is = strings.TrimRight(was, "\n"), strings.TrimRight(is, "\n")
	if d.longText = d.was == d.is || strings.Contains(d.was+d.is, "\n"); d.longText {
		d.was, d.is = was, is
	}
	return d
}

// listDelta tells what a list has lost and won, which objects whose lists
// differ otherwise may have in common.
func listDelta(was, is []any) (lost, won string) {
	missing := func(of, in []any) string {
		var out []string
		for _, v := range of {
			if !slices.Contains(in, v) {
				out = append(out, valueText(v))
			}
		}
		return strings.Join(out, ",")
	}
	return missing(was, is), missing(is, was)
}

// unset is how no value prints; an empty text is something else.
const unset = "-"

func valueText(v any) string {
	switch v := v.(type) {
	case nil:
		return unset
	case string:
		if v == "" {
			return "''"
		}
		return v
	case float64:
		return strconv.FormatFloat(v, 'f', -1, 64)
	case map[string]any: // an empty one
		return "(nothing set)"
	}
	return text(v, 0)
}
