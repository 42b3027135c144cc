package cli

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"regexp"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/spf13/cobra"
	"gopkg.in/yaml.v3"
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

// isTable tells whether people read the answer.
func (o *output) isTable() bool { return !o.raw && o.format == formatTable }

func writeJSON(w io.Writer, v any) error {
	enc := json.NewEncoder(w)
	enc.SetEscapeHTML(false)
	enc.SetIndent("", "    ")
	return enc.Encode(v)
}

// writeYAML writes the fields of the JSON, under the same names and in the same
// order: it is made of the JSON.
func writeYAML(w io.Writer, v any) error {
	b, err := json.Marshal(v)
	if err != nil {
		return err
	}
	dec := json.NewDecoder(bytes.NewReader(b))
	dec.UseNumber()
	n, err := yamlNode(dec)
	if err != nil {
		return err
	}
	enc := yaml.NewEncoder(w)
	enc.SetIndent(2)
	if err := enc.Encode(n); err != nil {
		return err
	}
	return enc.Close()
}

// lineBreaks are what YAML takes for the end of a line, the usual one first.
const lineBreaks = "\n\r\u0085\u2028\u2029"

// yaml11 matches what YAML 1.1, which many still read, takes for booleans and for
// numbers to the base of 60, as some MAC addresses look.
var yaml11 = regexp.MustCompile(`^([yY]|[nN]|[yY]es|YES|[nN]o|NO|[oO]n|ON|[oO]ff|OFF|[-+]?[0-9][0-9_]*(:[0-5]?[0-9])+(\.[0-9_]*)?)$`)

// stringStyle is how to write a string where yaml.v3 would not do by itself.
func stringStyle(s string) yaml.Style {
	first, _ := utf8.DecodeRuneInString(s)
	switch {
	case !strings.ContainsAny(s, lineBreaks):
		if yaml11.MatchString(s) {
			return yaml.DoubleQuotedStyle
		}
		return 0
	case unicode.IsSpace(first), strings.ContainsAny(s, lineBreaks[1:]): // yaml.v3 writes wrong blocks of such
		return yaml.DoubleQuotedStyle
	}
	return yaml.LiteralStyle
}

// yamlNode reads the next JSON value.
func yamlNode(dec *json.Decoder) (*yaml.Node, error) {
	tok, err := dec.Token()
	if err != nil {
		return nil, err
	}
	n := &yaml.Node{}
	switch tok := tok.(type) {
	case json.Delim:
		n.Kind = yaml.MappingNode
		if tok == '[' {
			n.Kind = yaml.SequenceNode
		}
		for dec.More() { // of a mapping the keys and the values in turn
			item, err := yamlNode(dec)
			if err != nil {
				return nil, err
			}
			n.Content = append(n.Content, item)
		}
		if len(n.Content) == 0 {
			n.Style = yaml.FlowStyle
		}
		_, err = dec.Token() // the closing delimiter
		return n, err
	case string:
		n.Kind, n.Tag, n.Value, n.Style = yaml.ScalarNode, "!!str", tok, stringStyle(tok)
	case nil:
		n.Kind, n.Value = yaml.ScalarNode, "null"
	default: // a number or a boolean, which look the same in both
		n.Kind, n.Value = yaml.ScalarNode, fmt.Sprint(tok)
	}
	return n, nil
}
