package cli

import (
	"bytes"
	"context"
	"encoding/csv"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/spf13/cobra"

	"github.com/clustervision/luna/inventory"
)

func importCommand(a *app) *cobra.Command {
	var out output
	var group string
	c := &cobra.Command{
		Use:   "import FILE.csv",
		Short: "Add and change nodes as a table says, all or none",
		Long: `Add and change nodes as a table in CSV says, all or none, as one change. FILE is
the table, or - for stdin. Fields are separated by commas, semicolons or tabs,
and quoted with '"' where need be; blank lines and lines that begin with # do not
count. The first line names the columns, in any order:
  name                            the node; it is added where there is none
  group, mac, switch, port        as in luna node change
  localboot, setupbmc, service    yes or no
  tags                            all that the node is to have, by blanks or commas
  comment
  ip, or BOOTIF                   the address that it boots with
  bmc, bmcip                      the address of its BMC
  anything else                   the address on the interface of that name
An address may be two, of either family, with a blank between. An empty field
leaves a node as it is; one that is new gets the next free address.`,
		Example: `  luna import nodes.csv -g compute
  luna import nodes.csv --dry-run`,
		Args: func(cmd *cobra.Command, args []string) error {
			if len(args) == 0 {
				return errors.New("the following arguments are required: FILE.csv")
			}
			return noArgs(cmd, args[1:])
		},
		RunE: a.do(func(ctx context.Context, s *session) error {
			content, name, err := readFile(s, s.name)
			if err != nil {
				return err
			}
			d, err := readTable(name, content, group)
			if err != nil {
				return err
			}
			w, err := s.Apply(ctx, d.json, false)
			switch {
			case err != nil:
				return d.explain(err)
			case s.DryRun:
				return s.showChanges(out.format, w.Changes)
			case !out.isTable():
				return out.print(s.stdout(), w, nil)
			case w.Entry == 0:
				s.note("nothing was changed: %s already as the table says", counted(len(d.lines), "node", "nodes"))
			default:
				s.note("imported %s: `luna undo %d` takes it back", counted(len(d.lines), "node", "nodes"), w.Entry)
			}
			return nil
		}),
	}
	out.list(c)
	c.Flags().StringVarP(&group, "group", "g", "", "group of the nodes for which the table has none")
	return c
}

// readTable makes a document of a table of nodes.
func readTable(file string, content []byte, group string) (*docFile, error) {
	content = bytes.TrimPrefix(content, []byte("\ufeff"))
	if !utf8.Valid(content) {
		return nil, badFile("%s is not in UTF-8: save it so", file)
	}
	r := csv.NewReader(bytes.NewReader(content))
	r.Comma, r.Comment, r.FieldsPerRecord, r.TrimLeadingSpace = delimiter(content), '#', -1, true
	columns, err := readHeader(r)
	if err != nil {
		return nil, inFile(file, err)
	}
	d := newDocFile(file)
	doc := inventory.Document{Luna: inventory.DocumentVersion, Nodes: map[string]inventory.NodeDoc{}}
	for {
		row, err := r.Read()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return nil, inFile(file, err)
		}
		if blank(row) {
			continue
		}
		name, node, err := readRow(r, row, columns)
		if err != nil {
			return nil, inFile(file, err)
		}
		line, _ := r.FieldPos(0)
		if first, twice := d.lines["nodes/"+name]; twice {
			return nil, badFile("%s:%d: node '%s' stands in line %d already", file, line, name, first)
		}
		if !node.Group.Given && group != "" {
			node.Group = inventory.Given(group)
		}
		d.lines["nodes/"+name], doc.Nodes[name] = line, node
		for _, a := range node.Interfaces {
			d.addresses[a.V4.String()], d.addresses[a.V6.String()] = line, line
		}
	}
	if len(doc.Nodes) == 0 {
		return nil, badFile("%s has no node in it", file)
	}
	d.json, err = json.Marshal(doc)
	return d, err
}

// placedError is an error at a place of a table.
type placedError struct {
	line, column int // from 1; the column in bytes
	text         string
}

func (e *placedError) Error() string { return e.text }

// inFile makes an error of a table a refusal that begins with its place.
func inFile(file string, err error) error {
	var malformed *csv.ParseError
	var placed *placedError
	switch {
	case errors.As(err, &malformed):
		return badFile("%s:%d:%d: this is no CSV: %v", file, malformed.Line, malformed.Column, malformed.Err)
	case errors.As(err, &placed):
		return badFile("%s:%d:%d: %s", file, placed.line, placed.column, placed.text)
	}
	return badFile("%s: %v", file, err)
}

func misplaced(r *csv.Reader, field int, format string, args ...any) error {
	line, column := r.FieldPos(field)
	return &placedError{line, column, fmt.Sprintf(format, args...)}
}

// delimiter is what stands most often in the first line that counts.
func delimiter(content []byte) rune {
	for line := range bytes.Lines(content) {
		if line = bytes.TrimSpace(line); len(line) == 0 || line[0] == '#' {
			continue
		}
		most := ','
		for _, d := range ";\t" {
			if bytes.Count(line, []byte(string(d))) > bytes.Count(line, []byte(string(most))) {
				most = d
			}
		}
		return most
	}
	return ','
}

// blank tells a row without content, as spreadsheets write them.
func blank(row []string) bool {
	return !slices.ContainsFunc(row, func(v string) bool { return strings.TrimSpace(v) != "" })
}

// readHeader reads what the columns mean: their keys.
func readHeader(r *csv.Reader) ([]string, error) {
	row, err := r.Read()
	if errors.Is(err, io.EOF) {
		return nil, errors.New("there is no line in it that names the columns")
	}
	if err != nil {
		return nil, err
	}
	var keys []string
	for i, name := range row {
		key := columnKey(strings.TrimSpace(name))
		switch {
		case key == "" && i == len(row)-1: // the line ends in a delimiter
			continue
		case key == "":
			return nil, misplaced(r, i, "this column has no name")
		case slices.Contains(keys, key):
			return nil, misplaced(r, i, "column '%s' is there for the second time", strings.TrimSpace(name))
		}
		keys = append(keys, key)
	}
	if !slices.Contains(keys, "name") {
		return nil, misplaced(r, 0, "no column is called 'name'")
	}
	return keys, nil
}

// readRow reads the node of a row.
func readRow(r *csv.Reader, row, columns []string) (name string, n inventory.NodeDoc, err error) {
	for i, v := range row {
		v = strings.TrimSpace(v)
		switch {
		case v == "":
			continue
		case i >= len(columns):
			return "", n, misplaced(r, i, "'%s' stands in no column: the first line names %d", v, len(columns))
		case columns[i] == "name":
			name, err = v, inventory.CheckName("node", v)
		default:
			err = setField(&n, columns[i], v)
		}
		if err != nil {
			return "", n, misplaced(r, i, "column '%s': %v", columns[i], err)
		}
	}
	if name == "" {
		return "", n, misplaced(r, 0, "this row has no name")
	}
	return name, n, nil
}

// columnKey gives what columns of the same meaning have in common: the name of a
// field, or else that of an interface.
func columnKey(name string) string {
	switch key := strings.ToLower(name); key {
	case "name", "group", "mac", "switch", "port", "localboot", "setupbmc", "service", "tags", "comment":
		return key
	case "ip", "bootif":
		return inventory.BootIF
	case "bmc", "bmcip", "bmc_ip":
		return inventory.BMC
	}
	return name
}

// setField gives a node what stands in a column.
func setField(n *inventory.NodeDoc, key, v string) (err error) {
	flag := func(to *inventory.Maybe[bool]) error {
		yes, err := parseYesNo(v)
		*to = inventory.Given(yes)
		return err
	}
	switch key {
	case "group":
		n.Group = inventory.Given(v)
	case "mac":
		var mac inventory.MAC
		mac, err = inventory.ParseMAC(v)
		n.MAC = inventory.Given(&mac)
	case "switch":
		n.Switch = inventory.Given(&v)
	case "port":
		n.Port = inventory.Given(&v)
	case "localboot":
		err = flag(&n.LocalBoot)
	case "setupbmc":
		err = flag(&n.SetupBMC)
	case "service":
		err = flag(&n.Service)
	case "tags":
		n.Tags = inventory.Given(strings.FieldsFunc(v, func(r rune) bool { return strings.ContainsRune(" ,;|", r) }))
	case "comment":
		n.Comment = inventory.Given(&v)
	default:
		err = setAddresses(n, key, v)
	}
	return err
}

// setAddresses gives a node the addresses of an interface.
func setAddresses(n *inventory.NodeDoc, iface, value string) error {
	var of inventory.AddressesDoc
	for _, v := range strings.Fields(value) {
		a, err := netip.ParseAddr(v)
		if err != nil || a.Zone() != "" {
			return fmt.Errorf("'%s' is no IP address", v)
		}
		a = a.Unmap()
		to := &of.V4
		if a.Is6() {
			to = &of.V6
		}
		if to.IsValid() {
			return fmt.Errorf("an interface has one address of each family, not %s and %s", to, a)
		}
		*to = a
	}
	if n.Interfaces == nil {
		n.Interfaces = map[string]inventory.AddressesDoc{}
	}
	n.Interfaces[iface] = of
	return nil
}

// parseYesNo reads a yes or a no as people and programs write them.
func parseYesNo(v string) (bool, error) {
	switch strings.ToLower(v) {
	case "y", "yes", "true", "1":
		return true, nil
	case "n", "no", "false", "0":
		return false, nil
	}
	return false, fmt.Errorf("'%s' is neither yes nor no", v)
}
