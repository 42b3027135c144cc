package cli

import (
	"fmt"
	"net/netip"
	"strings"

	"github.com/rogpeppe/go-internal/diff"

	"github.com/clustervision/luna/inventory"
)

// changePrinter writes blocks.
type changePrinter struct {
	out    strings.Builder
	colour bool
}

// The colours of a terminal, as other tools that show differences have them.
const (
	red   = "31"
	green = "32"
	bold  = "1"
)

func (p *changePrinter) line(colour, format string, args ...any) {
	line := fmt.Sprintf(format, args...)
	if p.colour && colour != "" {
		line = "\x1b[" + colour + "m" + line + "\x1b[0m"
	}
	p.out.WriteString(line + "\n")
}

func (p *changePrinter) block(b block) {
	what := b.object + " " + inventory.CompressHostlist(namesOf(b.changes))
	if b.object == "cluster" {
		what = b.object
	}
	switch b.deed {
	case deedCreated:
		p.line(green, "+ %s", what)
	case deedDeleted:
		p.line(red, "- %s", what)
	default:
		p.line(bold, "%s", what)
	}
	for i, d := range b.changes[0].deltas {
		switch {
		case !b.common[i]:
			p.each(b, i)
		case d.longText:
			p.longText(b.deed, d)
		default:
			p.line("", "    %s: %s", d.path, d.arrow(b.deed))
		}
	}
}

// arrow gives the field's values on one line.
func (d delta) arrow(deed deed) string {
	was, is := printable(d.was), printable(d.is)
	switch {
	case deed == deedCreated:
		return is
	case d.isList:
		return strings.TrimSpace(signed("-", was) + " " + signed("+", is))
	}
	return was + " -> " + is
}

func signed(sign, list string) string {
	if list == "" {
		return ""
	}
	return sign + strings.ReplaceAll(list, ",", " "+sign)
}

// linesShown is how many lines stand for values that the objects of a block do
// not share.
const linesShown = 10

// each prints a field of which the objects have their own values: as one range
// where those follow the names, else a line each, but not more than a screen
// takes.
func (p *changePrinter) each(b block, field int) {
	path := b.changes[0].deltas[field].path
	stretches := stretchesOf(b.changes, field)
	if len(stretches) == 1 && !stretches[0].first.longText {
		p.line("", "    %s: %s", path, stretches[0].arrow(b.deed))
		return
	}
	p.line("", "    %s:", path)
	left := len(b.changes)
	for i, r := range stretches {
		if i == linesShown && len(stretches) > linesShown+1 {
			p.line("", "        ... %d more", left)
			return
		}
		left -= len(r.names)
		p.line("", "        %s: %s", inventory.CompressHostlist(r.names), r.arrow(b.deed))
	}
}

// stretch is objects one after another whose values follow one another too: each
// is the address after the one before, or stays.
type stretch struct {
	names       []string
	first, last delta
}

func stretchesOf(all []oneChange, field int) []stretch {
	var stretches []stretch
	for _, c := range all {
		d := c.deltas[field]
		if n := len(stretches); n > 0 && stretches[n-1].goesOn(d) {
			stretches[n-1].names, stretches[n-1].last = append(stretches[n-1].names, c.name), d
			continue
		}
		stretches = append(stretches, stretch{[]string{c.name}, d, d})
	}
	return stretches
}

// goesOn tells whether d is what comes next. From its second object on, a stretch
// is known to count up or to stay, on either side of the arrow.
func (r stretch) goesOn(d delta) bool {
	next := func(first, last, value string) bool {
		stays := last == value
		if len(r.names) > 1 {
			stays = stays && first == last
		}
		if stays {
			return true
		}
		if len(r.names) > 1 && first == last {
			return false
		}
		before, err := netip.ParseAddr(last)
		return err == nil && before.Next().String() == value
	}
	return !d.isList && !d.longText && next(r.first.was, r.last.was, d.was) && next(r.first.is, r.last.is, d.is)
}

func (r stretch) arrow(deed deed) string {
	if r.first.longText {
		return fmt.Sprintf("(%s)", countLines(r.first.is))
	}
	d := r.first
	if r.first.was != r.last.was {
		d.was += "-" + r.last.was
	}
	if r.first.is != r.last.is {
		d.is += "-" + r.last.is
	}
	return d.arrow(deed)
}

func countLines(text string) string {
	return counted(strings.Count(strings.TrimRight(text, "\n"), "\n")+1, "line", "lines")
}

// longText prints how a text of several lines differs, with some lines around.
func (p *changePrinter) longText(deed deed, d delta) {
	if deed == deedCreated {
		p.line("", "    %s: (%s)", d.path, countLines(d.is))
		return
	}
	p.line("", "    %s:", d.path)
	for i, line := range strings.Split(textDiff(d.was, d.is), "\n") {
		colour := ""
		switch {
		case i < 3 || line == "":
			continue // the names of files
		case line[0] == '+':
			colour = green
		case line[0] == '-':
			colour = red
		}
		p.line(colour, "        %s", printable(line))
	}
}

// textDiff gives a unified diff. That one text ends in a newline and the other
// does not is told only where they differ in nothing else.
func textDiff(was, is string) string {
	whole := func(s string) []byte {
		if s == unset || s == "''" {
			return nil
		}
		return []byte(strings.TrimRight(s, "\n") + "\n")
	}
	if d := diff.Diff("before", whole(was), "after", whole(is)); d != nil {
		return string(d)
	}
	return string(diff.Diff("before", []byte(was), "after", []byte(is)))
}
