package cli

import (
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/mattn/go-runewidth"
)

// table is what lists and shows are printed as, in the shape of 1.2 to the
// byte: scripts cut it.
type table struct {
	header []string
	rows   [][]any
	// bars are offsets within the last column's text at which it has a '|'; the
	// borders show them as columns of their own (luna node list -1).
	bars []int
	// tight is for what 1.2 did not have: it fits a terminal of 80 columns rather.
	tight bool
}

// padding is what a column is wider than its longest line.
const padding = 4

// showTable gives the table of one object: its name, its fields by their names
// in byte order, its comment. An object without a name gives name as nil.
func showTable(name any, fields map[string]any, comment *string) *table {
	t := &table{header: []string{"Parameter", "Value"}}
	if name != nil {
		t.add("name", name)
	}
	for _, f := range slices.Sorted(maps.Keys(fields)) {
		t.add(f, fields[f])
	}
	t.add("comment", comment)
	return t
}

func (t *table) add(cells ...any) { t.rows = append(t.rows, cells) }

// write prints the table.
func (t *table) write(w io.Writer) error {
	rows := make([][][]string, 0, len(t.rows)+1) // row, column, line
	header := make([][]string, len(t.header))
	for i, h := range t.header {
		header[i] = []string{h}
	}
	rows = append(rows, header)
	for _, r := range t.rows {
		cells := make([][]string, len(r))
		for i, v := range r {
			cells[i] = strings.Split(printable(text(v, i)), "\n")
		}
		rows = append(rows, cells)
	}
	widths, padding := make([]int, len(t.header)), padding
	if t.tight {
		padding = 1
	}
	for _, r := range rows {
		for i, lines := range r {
			for _, line := range lines {
				widths[i] = max(widths[i], width(line)+padding)
			}
		}
	}
	border := t.border(widths)
	var b strings.Builder
	b.WriteString(border)
	writeRow(&b, rows[0], widths)
	b.WriteString(border)
	for _, r := range rows[1:] {
		writeRow(&b, r, widths)
	}
	b.WriteString(border)
	_, err := io.WriteString(w, b.String())
	return err
}

func (t *table) border(widths []int) string {
	var b strings.Builder
	for i, w := range widths {
		line := []byte("+" + strings.Repeat("-", w+1))
		if i == len(widths)-1 {
			for _, at := range t.bars {
				line[at+2] = '+' // behind the '+' and the blank before the text
			}
		}
		b.Write(line)
	}
	return b.String() + "+\n"
}

func writeRow(b *strings.Builder, cells [][]string, widths []int) {
	height := 1
	for _, lines := range cells {
		height = max(height, len(lines))
	}
	for y := range height {
		for i, lines := range cells {
			line := ""
			if y < len(lines) {
				line = lines[y]
			}
			b.WriteString("| " + line + strings.Repeat(" ", widths[i]-width(line)))
		}
		b.WriteString("|\n")
	}
}

// text gives a cell's text. What is unset is a dash in the second column and
// None elsewhere, as 1.2 had it; what is empty is blank.
func text(v any, column int) string {
	switch v := v.(type) {
	case nil:
		if column == 1 {
			return "-"
		}
		return "None"
	case *string:
		if v == nil {
			return text(nil, column)
		}
		return *v
	case bool:
		if v {
			return "yes"
		}
		return "no"
	}
	return fmt.Sprint(v)
}

// printable keeps control characters from the terminal: a node's last words
// come from the node.
func printable(s string) string {
	return strings.Map(func(r rune) rune {
		if r != '\n' && unicode.IsControl(r) && r != '\t' {
			return unicode.ReplacementChar
		}
		return r
	}, s)
}

// width is how many columns of a terminal the line takes; a tab counts one, as
// in 1.2. It is the same in every locale.
func width(line string) int {
	for i := range len(line) {
		if line[i] >= utf8.RuneSelf {
			c := runewidth.Condition{}
			return c.StringWidth(line) + strings.Count(line, "\t")
		}
	}
	return len(line) // which is nearly always so, and a hundred times faster
}

// orNil makes what is empty unset.
func orNil(s string) any {
	if s == "" {
		return nil
	}
	return s
}

// ref is how a reference to another object prints.
func ref(name string) any {
	if name == "" {
		return nil
	}
	return "[" + name + "]"
}
