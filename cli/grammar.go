package cli

import (
	"fmt"
	"slices"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

// This file is all that knows the grammar of Luna 1.2 where it differs from
// cobra's: unique prefixes of long options, options with two names, -bn and
// -ti, options that take two values or perhaps one, and -o in two senses. It
// rewrites a command line into --option=value and NAME, which the clean command
// tree then parses.

// aliases are spellings of options that are no prefix of the option meant. Of
// several, the first is meant that the command has.
var aliases = map[string][]string{
	"--nn": {"newname", "rename"},
	"--sn": {"setnet"}, "--dn": {"delnet"},
	"--sb": {"setupbmc"}, "--sv": {"service"},
	"--bn": {"bmcnetwork"}, "-bn": {"bmcnetwork"},
	"--ti": {"torrent_if"}, "-ti": {"torrent_if"},
	"--prefix": {"nodeprefix"}, "--digits": {"nodedigits"},
	"--bmcip": {"interface"},
}

// outputOr are the commands where -o was an option of its own before it could
// be --output: it is --output where a format follows, else the old one.
var outputOr = map[string]string{
	"luna osimage show": "kernopts",
	"luna group show":   "osimage",
}

// translator rewrites one command line.
type translator struct {
	cmd *cobra.Command // the command as far as it is known
	in  []string       // what is left
	out []string
}

// translate rewrites a command line and gives the command that it is for, as
// far as it goes. What it does not understand it leaves for cobra to refuse.
func translate(root *cobra.Command, args []string) (*cobra.Command, []string, error) {
	root.InitDefaultVersionFlag()
	if isTyped(args) {
		return root, translateTyped(root, args), nil
	}
	t := &translator{cmd: root, in: args}
	for {
		tok, ok := t.next()
		if !ok {
			return t.cmd, t.out, nil
		}
		var err error
		switch {
		case tok == "--":
			return t.cmd, append(append(t.out, tok), t.in...), nil
		case strings.HasPrefix(tok, "--"):
			err = t.long(tok)
		case len(tok) > 1 && tok[0] == '-':
			err = t.short(tok)
		case t.cmd.HasSubCommands():
			i := slices.IndexFunc(t.cmd.Commands(), func(c *cobra.Command) bool { return c.Name() == tok })
			t.out = append(t.out, tok)
			if i < 0 { // cobra's own commands, or none at all
				return t.cmd, append(t.out, t.in...), nil
			}
			t.cmd = t.cmd.Commands()[i]
		case t.cmd.Annotations[annotationRuns] != "": // what follows is another program's
			return t.cmd, append(append(t.out, tok), t.in...), nil
		default:
			t.out = append(t.out, tok)
		}
		if err != nil {
			return t.cmd, nil, err
		}
	}
}

func (t *translator) next() (tok string, ok bool) {
	if len(t.in) == 0 {
		return "", false
	}
	tok, t.in = t.in[0], t.in[1:]
	return tok, true
}

// long rewrites --option, --option=value or a unique prefix of it.
func (t *translator) long(tok string) error {
	name, value, has := strings.Cut(tok, "=")
	f, err := t.option(name)
	switch {
	case err != nil:
		return err
	case f == nil, name == "--bmcip" && !isPair(f):
		t.out = append(t.out, tok)
		return nil
	case name == "--bmcip":
		if !has {
			value, _ = t.next()
		}
		value, has = "BMC="+value, true
	}
	return t.emit(f, value, has)
}

// option finds the option of a spelling: its name, an alias, or a prefix that
// no other option has. It gives nil where there is none.
func (t *translator) option(spelling string) (*pflag.Flag, error) {
	t.cmd.InitDefaultHelpFlag()
	local, inherited := t.cmd.LocalFlags(), t.cmd.InheritedFlags()
	name := strings.TrimPrefix(spelling, "--")
	if f := local.Lookup(name); f != nil {
		return f, nil
	}
	if f := inherited.Lookup(name); f != nil {
		return f, nil
	}
	for _, known := range aliases[spelling] {
		if f := local.Lookup(known); f != nil {
			return f, nil
		}
	}
	var old, all []*pflag.Flag
	local.VisitAll(func(f *pflag.Flag) {
		if strings.HasPrefix(f.Name, name) {
			all = append(all, f)
			if _, modern := f.Annotations[annotationModern]; !modern {
				old = append(old, f)
			}
		}
	})
	if len(old) > 0 {
		all = old
	} else {
		inherited.VisitAll(func(f *pflag.Flag) {
			if strings.HasPrefix(f.Name, name) {
				all = append(all, f)
			}
		})
	}
	switch len(all) {
	case 0:
		return nil, nil
	case 1:
		return all[0], nil
	}
	var names []string
	for _, f := range all {
		names = append(names, "--"+f.Name)
	}
	return nil, fmt.Errorf("ambiguous option: %s could match %s", spelling, strings.Join(names, ", "))
}

// short rewrites -o, -o value, -ovalue and several options without value in
// one: -eA.
func (t *translator) short(tok string) error {
	if name, value, has := strings.Cut(tok, "="); aliases[name] != nil {
		if f, err := t.option(name); err != nil {
			return err
		} else if f != nil {
			return t.emit(f, value, has)
		}
	}
	for i := 1; i < len(tok); i++ {
		f := t.shorthand(tok[i : i+1])
		if f == nil {
			t.out = append(t.out, "-"+tok[i:])
			return nil
		}
		rest := strings.TrimPrefix(tok[i+1:], "=")
		if old, ok := outputOr[t.cmd.CommandPath()]; ok && f.Name == "output" && !slices.Contains(formats, t.peek(rest)) {
			f = t.cmd.Flags().Lookup(old)
		}
		if !isBool(f) {
			return t.emit(f, rest, rest != "")
		}
		if err := t.emit(f, "", false); err != nil {
			return err
		}
	}
	return nil
}

func (t *translator) shorthand(letter string) *pflag.Flag {
	t.cmd.InitDefaultHelpFlag()
	if f := t.cmd.LocalFlags().ShorthandLookup(letter); f != nil {
		return f
	}
	return t.cmd.InheritedFlags().ShorthandLookup(letter)
}

// peek gives the value that an option would get: what is glued to it, or the
// next word.
func (t *translator) peek(glued string) string {
	if glued == "" && len(t.in) > 0 {
		return t.in[0]
	}
	return glued
}

// emit writes the option as cobra reads it, and takes its value from the words
// that follow where it is not given yet.
func (t *translator) emit(f *pflag.Flag, value string, has bool) error {
	option := "--" + f.Name
	if !has {
		switch {
		case isBool(f):
			t.out = append(t.out, option)
			return nil
		case f.NoOptDefVal != "" && (len(t.in) == 0 || strings.HasPrefix(t.in[0], "-")):
			t.out = append(t.out, option)
			return nil
		}
		if value, has = t.next(); !has {
			t.out = append(t.out, option)
			return nil
		}
	}
	// node change -i IF IP; the tree knows -i IF=IP.
	if isPair(f) && !strings.Contains(value, "=") {
		ip, ok := t.next()
		if !ok {
			return fmt.Errorf("argument --%s/-%s: expected an interface and an address", f.Name, f.Shorthand)
		}
		value += "=" + ip
	}
	t.out = append(t.out, option+"="+value)
	return nil
}

func isBool(f *pflag.Flag) bool { return f.Value.Type() == "bool" }

func isPair(f *pflag.Flag) bool {
	_, pair := f.Value.(*interfaceAddresses)
	return pair
}
