package cli

import (
	"encoding/json"
	"io"

	"github.com/spf13/cobra"
)

// The formats of every list and show.
const (
	formatTable = "table"
	formatJSON  = "json"
	formatYAML  = "yaml"
)

var formats = []string{formatTable, formatJSON, formatYAML}

// output is how a list or a show prints what it found.
type output struct {
	format string
	raw    bool
}

// list declares the option of a list.
func (o *output) list(c *cobra.Command) {
	o.format = formatTable
	c.Flags().VarP(choice{&o.format, formats}, "output", "o", "format of the answer")
	modern(c, "output")
}

// show declares the options of a show.
func (o *output) show(c *cobra.Command) {
	o.list(c)
	c.Flags().BoolVarP(&o.raw, "raw", "R", false, "the same as -o json")
	c.MarkFlagsMutuallyExclusive("output", "raw")
}

// print writes v: as a table, or as the API gives it.
func (o *output) print(w io.Writer, v any, asTable func() *table) error {
	switch {
	case o.raw || o.format == formatJSON:
		return writeJSON(w, v)
	case o.format == formatYAML:
		return writeYAML(w, v)
	}
	return asTable().write(w)
}

// text writes v: in words for people, or as the API gives it.
func (o *output) text(w io.Writer, v any, words string) error {
	if !o.isTable() {
		return o.print(w, v, nil)
	}
	_, err := io.WriteString(w, words)
	return err
}

// isTable tells whether people read the answer.
func (o *output) isTable() bool { return !o.raw && o.format == formatTable }

func writeJSON(w io.Writer, v any) error {
	enc := json.NewEncoder(w)
	enc.SetEscapeHTML(false)
	enc.SetIndent("", "    ")
	return enc.Encode(v)
}
