package cli

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"regexp"
	"strconv"
	"strings"
	"unicode"
)

// writeYAML writes the fields of v's JSON, under the same names and in the same
// order. It is not yaml.v3 that writes: that takes seconds for a site of 10,000
// nodes, and its quoting is that of YAML 1.2 alone.
func writeYAML(w io.Writer, v any) error {
	b, err := json.Marshal(v)
	if err != nil {
		return err
	}
	y := yamlWriter{dec: json.NewDecoder(bytes.NewReader(b))}
	y.dec.UseNumber()
	if err := y.value(atTop, 0); err != nil {
		return err
	}
	_, err = y.out.WriteTo(w)
	return err
}

// place is what stands before a value on its line.
type place int

const (
	atTop     place = iota
	afterKey        // "key:"
	afterDash       // "-" of a list
)

// yamlWriter turns JSON into YAML.
type yamlWriter struct {
	dec *json.Decoder
	out bytes.Buffer
}

// value writes the next JSON value; a block is indented by two blanks for each
// level of depth.
func (y *yamlWriter) value(at place, depth int) error {
	tok, err := y.dec.Token()
	if err != nil {
		return err
	}
	if open, ok := tok.(json.Delim); ok && y.dec.More() {
		return y.block(open, at, depth)
	}
	if at != atTop {
		y.out.WriteByte(' ')
	}
	switch tok := tok.(type) {
	case json.Delim: // empty
		y.out.WriteString(map[json.Delim]string{'{': "{}\n", '[': "[]\n"}[tok])
		_, err := y.dec.Token()
		return err
	case string:
		y.text(tok, max(1, depth))
	case nil:
		y.out.WriteString("null\n")
	case json.Number:
		y.out.WriteString(tok.String() + "\n")
	case bool:
		y.out.WriteString(strconv.FormatBool(tok) + "\n")
	}
	return nil
}

// block writes the fields of an object or the items of a list. After a dash the
// first of them stands on the same line.
func (y *yamlWriter) block(open json.Delim, at place, depth int) error {
	if at == afterKey {
		y.out.WriteByte('\n')
	}
	for first := true; y.dec.More(); first = false {
		if first && at == afterDash {
			y.out.WriteByte(' ')
		} else {
			y.indent(depth)
		}
		next := afterDash
		if open == '[' {
			y.out.WriteByte('-')
		} else {
			key, err := y.dec.Token()
			if err != nil {
				return err
			}
			y.scalar(key.(string))
			y.out.WriteByte(':')
			next = afterKey
		}
		if err := y.value(next, depth+1); err != nil {
			return err
		}
	}
	_, err := y.dec.Token() // the closing delimiter
	return err
}

func (y *yamlWriter) indent(depth int) {
	for range depth {
		y.out.WriteString("  ")
	}
}

// text writes a string as a value: of several lines it makes a literal block,
// which people can read and a diff can show, if the block would be read back
// as the same.
func (y *yamlWriter) text(s string, depth int) {
	body := strings.TrimRight(s, "\n")
	if !strings.Contains(s, "\n") || body == "" || strings.ContainsFunc(s, func(r rune) bool { return r != '\n' && r != '\t' && !printableYAML(r) }) {
		y.scalar(s)
		y.out.WriteByte('\n')
		return
	}
	y.out.WriteByte('|')
	if strings.ContainsRune(" \t\n", rune(body[0])) {
		y.out.WriteByte('2') // the indentation cannot be seen from the first line
	}
	switch ends := len(s) - len(body); {
	case ends == 0:
		y.out.WriteByte('-')
	case ends > 1:
		y.out.WriteByte('+')
	}
	y.out.WriteByte('\n')
	for line := range strings.Lines(s) {
		if line != "\n" {
			y.indent(depth)
		}
		y.out.WriteString(line)
	}
	if !strings.HasSuffix(s, "\n") {
		y.out.WriteByte('\n')
	}
}

// scalar writes a string on one line, in quotes where it needs them.
func (y *yamlWriter) scalar(s string) {
	if isPlainYAML(s) {
		y.out.WriteString(s)
		return
	}
	y.out.WriteByte('"')
	for _, r := range s {
		switch {
		case r == '"' || r == '\\':
			y.out.WriteByte('\\')
			y.out.WriteRune(r)
		case r == '\n':
			y.out.WriteString(`\n`)
		case r == '\t':
			y.out.WriteString(`\t`)
		case printableYAML(r):
			y.out.WriteRune(r)
		case r < 0x100:
			fmt.Fprintf(&y.out, `\x%02x`, r)
		case r < 0x10000:
			fmt.Fprintf(&y.out, `\u%04x`, r)
		default:
			fmt.Fprintf(&y.out, `\U%08x`, r)
		}
	}
	y.out.WriteByte('"')
}

// printableYAML tells whether a rune may stand in YAML as it is, on one line.
func printableYAML(r rune) bool {
	return r >= ' ' && r < 0x7f || r > 0xa0 && r != 0xfeff && unicode.IsPrint(r)
}

// numbers matches what may be a number or a time, in YAML 1.1 also to the base
// of 60, as some MAC addresses look. It matches much that is none: quotes do not
// hurt.
var numbers = regexp.MustCompile(`^[+]?\.?[0-9][-+0-9_.:eEtTzZ ]*$|^[+]?0[xXbBoO]|^[+]?\.(?i:inf|nan)$`)

// addressLike matches what numbers matches too but nobody takes for a number:
// IPv4 addresses.
var addressLike = regexp.MustCompile(`^[0-9]+\.[0-9]+\.[0-9]+\.[0-9]+$`)

// isPlainYAML tells whether the string can stand without quotes.
func isPlainYAML(s string) bool {
	if s == "" || strings.HasSuffix(s, ":") || strings.HasSuffix(s, " ") || strings.Contains(s, ": ") || strings.Contains(s, " #") {
		return false
	}
	for _, r := range s {
		if !printableYAML(r) {
			return false
		}
	}
	switch first := s[0]; {
	case strings.IndexByte("-?:,[]{}#&*!|>'\"%@` =<~", first) >= 0:
		return false
	case first == '+' || first == '.' || '0' <= first && first <= '9':
		return addressLike.MatchString(s) || !numbers.MatchString(s)
	}
	switch strings.ToLower(s[:min(len(s), len("false")+1)]) {
	case "y", "n", "yes", "no", "on", "off", "true", "false", "null": // in YAML 1.1 or 1.2
		return false
	}
	return true
}
