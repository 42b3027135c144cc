package conformance

import (
	"encoding/json"
	"regexp"
	"strings"
	"unicode/utf8"
)

// table is 1.2's table, written from its description: a column is its longest line and 4 more; a
// border has a '+' and one dash more than that for each column.
func table(header []string, rows ...[]string) string {
	widths := make([]int, len(header))
	all := append([][]string{header}, rows...)
	for _, row := range all {
		for i, cell := range row {
			for line := range strings.SplitSeq(cell, "\n") {
				widths[i] = max(widths[i], utf8.RuneCountInString(line)+4)
			}
		}
	}
	border := ""
	for _, w := range widths {
		border += "+" + strings.Repeat("-", w+1)
	}
	border += "+\n"
	text := border
	for r, row := range all {
		for y := 0; ; y++ {
			line, more := "", false
			for i, cell := range row {
				lines := strings.Split(cell, "\n")
				part := ""
				if y < len(lines) {
					part = lines[y]
				}
				more = more || y+1 < len(lines)
				line += "| " + part + strings.Repeat(" ", widths[i]-utf8.RuneCountInString(part))
			}
			text += line + "|\n"
			if !more {
				break
			}
		}
		if r == 0 {
			text += border
		}
	}
	return text + border
}

// show is the table of one object: pairs of a field and its value.
func show(pairs ...string) string {
	var rows [][]string
	for i := 0; i < len(pairs); i += 2 {
		rows = append(rows, []string{pairs[i], pairs[i+1]})
	}
	return table([]string{"Parameter", "Value"}, rows...)
}

// readTable gives the rows of a table without its header. A row whose first cell is blank goes on
// from the one before.
func readTable(d *desk, text string) [][]string {
	d.Helper()
	lines := strings.Split(strings.TrimSuffix(text, "\n"), "\n")
	if len(lines) < 4 || !strings.HasPrefix(lines[0], "+--") {
		d.Fatalf("this is no table:\n%s", text)
	}
	var starts []int
	for i, r := range []rune(lines[0]) {
		if r == '+' {
			starts = append(starts, i)
		}
	}
	var rows [][]string
	for _, line := range lines[3 : len(lines)-1] {
		runes := []rune(line)
		var row []string
		for i := range len(starts) - 1 {
			if starts[i+1] > len(runes) {
				d.Fatalf("the line %q is too short in\n%s", line, text)
			}
			row = append(row, strings.TrimRight(string(runes[starts[i]+2:starts[i+1]]), " "))
		}
		if row[0] != "" || len(rows) == 0 {
			rows = append(rows, row)
			continue
		}
		last := rows[len(rows)-1]
		for i := 1; i < len(row); i++ {
			last[i] += "\n" + row[i]
		}
	}
	for _, row := range rows {
		for i := 1; i < len(row); i++ {
			row[i] = strings.TrimRight(row[i], "\n")
		}
	}
	return rows
}

// decode reads what a line prints as JSON.
func decode[T any](d *desk, line string) T {
	d.Helper()
	var v T
	out := d.ok(line)
	if err := json.Unmarshal([]byte(out), &v); err != nil {
		d.Fatalf("%s: %v in %s", line, err, out)
	}
	return v
}

// nodeName finds the automatic name of a node.
var nodeName = regexp.MustCompile(`node[0-9]+`)

// node is what a node's JSON must have for the checks.
type node struct {
	Name       string
	Group      string
	MAC        string
	Interfaces map[string]map[string]string // by name, then by family, "4" or "6"
	Comment    *string
}

// v4 is the IPv4 address of a node's interface.
func (d *desk) v4(name, iface string) string {
	d.Helper()
	for _, n := range decodeNodes(d, "luna node show "+name+" -o json") {
		return n.Interfaces[iface]["4"]
	}
	return ""
}

// decodeNodes reads one node or a list of them.
func decodeNodes(d *desk, line string) []node {
	d.Helper()
	if out := strings.TrimSpace(d.ok(line)); strings.HasPrefix(out, "[") {
		return decode[[]node](d, line)
	}
	return []node{decode[node](d, line)}
}

// readTableOrNone is readTable for a list that may be empty: border, header, border, border.
func readTableOrNone(d *desk, text string) [][]string {
	d.Helper()
	if lines := strings.Split(strings.TrimSuffix(text, "\n"), "\n"); len(lines) == 4 && lines[2] == lines[3] {
		return nil
	}
	return readTable(d, text)
}
