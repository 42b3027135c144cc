package inventory

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
)

// MaxHostlist is how many names one hostlist may stand for: ten times the
// largest cluster that is planned for, and little enough that a slip of the
// finger costs no memory.
const MaxHostlist = 100_000

// ExpandHostlist gives the names that a hostlist stands for, in its order and
// each once. The syntax is that of python-hostlist, which 1.2 used:
// node[001-003,007] and a,b[01-02]; several brackets give every combination,
// the last one varying fastest; the zeros before a range's first number are
// kept. It checks the syntax and the number of the names, not the names.
func ExpandHostlist(list string) ([]string, error) {
	bad := func(format string, args ...any) ([]string, error) {
		return nil, fmt.Errorf("bad hostlist '%s': %s", shorten(list), fmt.Sprintf(format, args...))
	}
	elements, err := splitTerms(list, ",")
	if err != nil {
		return bad("%v", err)
	}
	var names []string
	seen, total := map[string]bool{}, 0
	for _, e := range elements {
		parts, err := parseElement(e.text)
		if err != nil {
			return bad("%v", err)
		}
		more := combine(parts, MaxHostlist+1-total)
		if total += len(more); total > MaxHostlist {
			return bad("it stands for more than %d names: use a shorter range", MaxHostlist)
		}
		for _, name := range more {
			if !seen[name] {
				seen[name] = true
				names = append(names, name)
			}
		}
	}
	return names, nil
}

// shorten keeps a message readable when the list is not.
func shorten(list string) string {
	if len(list) <= 80 {
		return list
	}
	return list[:77] + "..."
}

// term is a piece of a list and the operator before it; ',' before the first.
type term struct {
	op   byte
	text string
}

// splitTerms cuts the list at the operators that stand outside of brackets.
// Where '!' is one, ",-" and ",!" are other spellings of it, at the beginning
// too.
func splitTerms(list, operators string) ([]term, error) {
	terms, start, open := []term{{op: ','}}, 0, -1
	cut := func(end int) { terms[len(terms)-1].text = list[start:end] }
	for i := range len(list) {
		switch c := list[i]; {
		case c == '[' && open >= 0:
			return nil, fmt.Errorf("brackets within brackets at character %d", i+1)
		case c == '[':
			open = i
		case c == ']' && open < 0:
			return nil, fmt.Errorf("']' at character %d closes no bracket", i+1)
		case c == ']':
			open = -1
		case open < 0 && strings.IndexByte(operators, c) >= 0:
			if c == '!' && start == i && terms[len(terms)-1].op == ',' {
				terms[len(terms)-1].op = '!' // of "," and "!" the latter counts
			} else {
				cut(i)
				terms = append(terms, term{op: c})
			}
			start = i + 1
		case c == '-' && start == i && terms[len(terms)-1].op == ',' && strings.Contains(operators, "!"):
			terms[len(terms)-1].op = '!'
			start = i + 1
		}
	}
	if open >= 0 {
		return nil, fmt.Errorf("the bracket at character %d is not closed", open+1)
	}
	cut(len(list))
	for _, t := range terms {
		if t.text == "" {
			return nil, fmt.Errorf("a name is missing at a comma or another operator, or the list is empty")
		}
	}
	return terms, nil
}

// numbers is one range of a bracket, in decimal. Numbers stay texts, for their
// zeros count and their length has no bound.
type numbers struct{ first, last string }

// part is a piece of an element: a text, or what stands in a bracket.
type part struct {
	text   string
	ranges []numbers // nil for a text
}

func parseElement(e string) ([]part, error) {
	var parts []part
	for e != "" {
		text, rest, bracket := strings.Cut(e, "[")
		if text != "" {
			parts = append(parts, part{text: text})
		}
		if !bracket {
			break
		}
		inside, after, _ := strings.Cut(rest, "]")
		var p part
		for _, r := range strings.Split(inside, ",") {
			n, err := parseRange(r)
			if err != nil {
				return nil, err
			}
			p.ranges = append(p.ranges, n)
		}
		parts = append(parts, p)
		e = after
	}
	return parts, nil
}

func parseRange(r string) (numbers, error) {
	first, last, ok := strings.Cut(r, "-")
	if !ok {
		last = first
	}
	switch {
	case !isNumber(first) || !isNumber(last):
		return numbers{}, fmt.Errorf("'%s' is no number and no range of numbers", r)
	case compareNumbers(last, first) < 0:
		return numbers{}, fmt.Errorf("the range '%s' runs backwards", r)
	}
	return numbers{first, last}, nil
}

func isNumber(s string) bool { return s != "" && strings.Trim(s, "0123456789") == "" }

// combine gives the names that the parts stand for, but no more than limit.
func combine(parts []part, limit int) []string {
	names := []string{""}
	for _, p := range parts {
		if p.ranges == nil {
			for i := range names {
				names[i] += p.text
			}
			continue
		}
		longer := make([]string, 0, len(names))
		for _, name := range names {
			for _, r := range p.ranges {
				for n := r.first; len(longer) < limit; n = successor(n) {
					longer = append(longer, name+n)
					if compareNumbers(n, r.last) == 0 {
						break
					}
				}
			}
		}
		names = longer
	}
	return names
}

// CompressHostlist gives the hostlist of the names: short, without doubles, and
// the same for the same names in whatever order. The names must be such as
// [CheckName] takes.
func CompressHostlist(names []string) string {
	items := make([]folding, 0, len(names))
	for _, name := range slices.Compact(slices.Sorted(slices.Values(names))) {
		items = append(items, folding{left: name})
	}
	for again := true; again; {
		items, again = fold(items)
	}
	slices.SortFunc(items, func(a, b folding) int { return cmp.Or(natural(a.left, b.left), natural(a.right, b.right)) })
	out := make([]string, len(items))
	for i, item := range items {
		out[i] = item.left + item.right
	}
	return strings.Join(out, ",")
}

// folding is names on their way into a hostlist: what is right of the cut is
// in its final form and the same for all of them.
type folding struct{ left, right string }

// fold moves the last number of each left side over the cut, and makes one
// item of those that differ in this number only. It tells whether any had one.
func fold(items []folding) (folded []folding, any bool) {
	type key struct{ left, right string }
	digits := map[key][]string{}
	var order []key
	for _, item := range items {
		end := strings.LastIndexAny(item.left, "0123456789") + 1
		if end == 0 {
			folded = append(folded, item)
			continue
		}
		start := end
		for start > 0 && item.left[start-1] >= '0' && item.left[start-1] <= '9' {
			start--
		}
		k := key{item.left[:start], item.left[end:] + item.right}
		if digits[k] == nil {
			order = append(order, k)
		}
		digits[k] = append(digits[k], item.left[start:end])
	}
	for _, k := range order {
		folded = append(folded, folding{k.left, ranges(digits[k]) + k.right})
	}
	return folded, len(order) > 0
}

// ranges writes numbers as they stand in a bracket, or the one alone without.
func ranges(digits []string) string {
	slices.SortFunc(digits, func(a, b string) int { return cmp.Or(cmp.Compare(len(a), len(b)), strings.Compare(a, b)) })
	var out []string
	for i := 0; i < len(digits); {
		last := i
		for last+1 < len(digits) && digits[last+1] == successor(digits[last]) {
			last++
		}
		r := digits[i]
		if last > i {
			r += "-" + digits[last]
		}
		out = append(out, r)
		i = last + 1
	}
	if len(out) == 1 && len(digits) == 1 {
		return out[0]
	}
	return "[" + strings.Join(out, ",") + "]"
}

// successor counts one up in decimal, with as many digits where they suffice.
func successor(digits string) string {
	b := []byte(digits)
	for i := len(b) - 1; i >= 0; i-- {
		if b[i] < '9' {
			b[i]++
			return string(b)
		}
		b[i] = '0'
	}
	return "1" + string(b)
}

// natural orders names as people do: by the numbers in them, so that node9
// comes before node10.
func natural(a, b string) int {
	for a != "" && b != "" {
		x, y := chunk(a), chunk(b)
		c := strings.Compare(x, y)
		if isDigit(x[0]) && isDigit(y[0]) {
			c = cmp.Or(compareNumbers(x, y), c)
		}
		if c != 0 {
			return c
		}
		a, b = a[len(x):], b[len(y):]
	}
	return cmp.Compare(len(a), len(b))
}

func isDigit(c byte) bool { return c >= '0' && c <= '9' }

// chunk gives the longest beginning that is all digits or has none.
func chunk(s string) string {
	for i := 1; i < len(s); i++ {
		if isDigit(s[i]) != isDigit(s[0]) {
			return s[:i]
		}
	}
	return s
}

func compareNumbers(x, y string) int {
	x, y = strings.TrimLeft(x, "0"), strings.TrimLeft(y, "0")
	return cmp.Or(cmp.Compare(len(x), len(y)), strings.Compare(x, y))
}
