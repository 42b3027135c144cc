package legacy

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"unicode"
)

// Severity says what became of something that could not be kept as it was.
type Severity string

// The severities.
const (
	Adjusted Severity = "adjusted" // it is kept, otherwise than it was
	Dropped  Severity = "dropped"  // it is not kept
	Warning  Severity = "warning"  // it is kept, and there is something to know or to do
)

// Finding is one thing that an administrator must know of an import.
type Finding struct {
	Object   string   `json:"object"` // type: "network", "node", ..., "mac", "collection"
	Name     string   `json:"name"`   // in 1.2, fit for a terminal
	Severity Severity `json:"severity"`
	Text     string   `json:"text"` // one line
}

// String gives the finding as a line: "dropped [node/node017] ...".
func (f Finding) String() string {
	return fmt.Sprintf("%-8s [%s/%s] %s", f.Severity, f.Object, f.Name, f.Text)
}

// Report is all findings of an import, by the type of the object and its name.
type Report []Finding

// String gives the report as lines.
func (r Report) String() string {
	var b strings.Builder
	for _, f := range r {
		b.WriteString(f.String())
		b.WriteByte('\n')
	}
	return b.String()
}

// reportOrder is the order of the types in a report: as references point.
var reportOrder = []string{"cluster", "network", "osimage", "bmcsetup", "group", "switch", "otherdev", "node", "mac", "collection"}

// order sorts by type and name; what is found of one object stays in the order
// in which it was found.
func (r Report) order() {
	slices.SortStableFunc(r, func(a, b Finding) int {
		return cmp.Or(
			cmp.Compare(slices.Index(reportOrder, a.Object), slices.Index(reportOrder, b.Object)),
			cmp.Compare(a.Name, b.Name),
		)
	})
}

// printable makes a name or a value of 1.2, which checked nothing, fit for a
// line on a terminal.
func printable(s string) string {
	const most = 100
	s = oneLine(s)
	if r := []rune(s); len(r) > most {
		s = string(r[:most]) + "..."
	}
	return s
}

func oneLine(s string) string {
	return strings.Map(func(r rune) rune {
		if !unicode.IsPrint(r) {
			return '?'
		}
		return r
	}, strings.ToValidUTF8(s, "?"))
}
