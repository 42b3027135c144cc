package inventory

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
)

// SelectNodes gives the names that a selection of nodes stands for, in the
// order in which they first appear and each once. A selection is terms and
// what joins them, evaluated from left to right:
//
//	node[001-003,007]   names, as a hostlist: see ExpandHostlist
//	%GROUP              the nodes of the group, by name; %rack[1-4] of all four
//	@TAG                the nodes that have the tag, by name
//	A,B                 those of A and those of B
//	A,-B  A!B           those of A without those of B
//	A&B                 those of A that are also in B
//
// So %compute,-node007 is the group without one node, and %compute&@gpu,login1
// what of the group has the tag, and login1. In a shell, '!' and '&' need
// quotes.
//
// A plain name need not exist: the command it is for says so itself. An unknown
// group is ErrNotFound; a malformed selection, a tag that no node has and a
// selection that leaves nothing are ErrInvalid.
func (inv *Inventory) SelectNodes(list string) ([]string, error) {
	return selectNames("node", list, inv)
}

// ExpandNames gives the names that a list of objects of that type stands for,
// where they are not nodes that exist: a hostlist, with the operators of
// [Inventory.SelectNodes] and without its groups and tags. Every error is
// ErrInvalid.
func ExpandNames(object, list string) ([]string, error) {
	return selectNames(object, list, nil)
}

// selectNames evaluates a selection; without an inventory there are no groups
// and tags.
func selectNames(object, list string, inv *Inventory) ([]string, error) {
	bad := func(format string, args ...any) ([]string, error) {
		return nil, invalid(object, shorten(list), "bad selection '%s': %s", shorten(list), fmt.Sprintf(format, args...))
	}
	terms, err := splitTerms(list, ",!&")
	if err != nil {
		return bad("%v", err)
	}
	if op := terms[0].op; op != ',' {
		return bad("nothing stands before the '%c' that it could be taken from", op)
	}
	chosen, total := map[string]int{}, 0 // the names, and where they appeared
	for _, t := range terms {
		names, err := termNames(t.text, MaxHostlist+1-total, inv)
		switch {
		case errors.Is(err, ErrNotFound):
			return nil, err
		case err != nil:
			return bad("%v", err)
		}
		if total += len(names); total > MaxHostlist {
			return bad("it stands for more than %d names: use a shorter range", MaxHostlist)
		}
		choose(chosen, t.op, names, total)
	}
	if len(chosen) == 0 {
		return bad("it leaves no %s", object)
	}
	return slices.SortedFunc(maps.Keys(chosen), func(a, b string) int { return chosen[a] - chosen[b] }), nil
}

// choose joins a term's names to those chosen so far. end is a number above all
// that were given to a name yet.
func choose(chosen map[string]int, op byte, names []string, end int) {
	switch op {
	case ',':
		for i, name := range names {
			if _, ok := chosen[name]; !ok {
				chosen[name] = end - len(names) + i
			}
		}
	case '!':
		for _, name := range names {
			delete(chosen, name)
		}
	case '&':
		also := make(map[string]bool, len(names))
		for _, name := range names {
			also[name] = true
		}
		maps.DeleteFunc(chosen, func(name string, _ int) bool { return !also[name] })
	}
}

// termNames gives the names of one term, a few more than limit at the most.
func termNames(text string, limit int, inv *Inventory) ([]string, error) {
	if text[0] == '-' {
		return nil, fmt.Errorf("the name '%s' begins with '-', which takes away only after a comma", text)
	}
	sigil := text[0]
	if sigil != '%' && sigil != '@' {
		if at := strings.IndexAny(text, "%@"); at >= 0 {
			return nil, fmt.Errorf("'%c' stands before the name of a group or a tag, not within '%s'", text[at], text)
		}
		parts, err := parseElement(text)
		if err != nil {
			return nil, err
		}
		return combine(parts, limit), nil
	}
	if inv == nil {
		return nil, fmt.Errorf("'%s': groups and tags select nodes, where nodes are named that exist", text)
	}
	if len(text) == 1 || strings.ContainsAny(text[1:], "%@") {
		return nil, fmt.Errorf("'%s' names no group and no tag", text)
	}
	parts, err := parseElement(text[1:])
	if err != nil {
		return nil, err
	}
	var nodes []string
	for _, of := range combine(parts, limit) {
		more, err := inv.nodesNamed(sigil, of)
		if err != nil {
			return nil, err
		}
		if nodes = append(nodes, more...); len(nodes) > limit {
			break
		}
	}
	return nodes, nil
}

// nodesNamed gives the names of the nodes of the group, or with the tag.
func (inv *Inventory) nodesNamed(sigil byte, of string) ([]string, error) {
	var names []string
	if sigil == '%' {
		g, ok := inv.Group(of)
		if !ok {
			return nil, NotFound("group", of)
		}
		for n := range inv.NodesOf(g.ID) {
			names = append(names, n.Name)
		}
		slices.Sort(names)
		return names, nil
	}
	for n := range inv.Nodes() {
		if slices.Contains(n.Tags, of) {
			names = append(names, n.Name)
		}
	}
	if len(names) == 0 {
		return nil, fmt.Errorf("no node has the tag '%s'", of)
	}
	return names, nil
}
