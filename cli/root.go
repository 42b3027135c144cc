package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/spf13/cobra"

	"github.com/clustervision/luna/api"
	"github.com/clustervision/luna/inventory"
)

// DefaultServer is the head that the commands talk to unless --server or
// LUNA_SERVER name another, or LUNA_SOCKET the socket: the one on this machine.
const DefaultServer = "unix:///run/luna/luna.sock"

// app is what all commands of one tree share: the options that stand for every
// command.
type app struct {
	server     string
	credential string
	timeout    time.Duration
	debug      bool
	dryRun     bool
	format     string // of what a dry run tells
}

// Root gives the tree of all commands, with extra ones of the caller beside
// them. Run it with [Run], which knows the grammar of 1.2 and the exit codes.
func Root(extra ...*cobra.Command) *cobra.Command {
	a := &app{format: formatTable}
	root := &cobra.Command{
		Use:   "luna OBJECT ACTION",
		Short: "Luna provisions the nodes of a cluster from full operating-system images",
		Long: `Luna provisions the nodes of a cluster from full operating-system images.

It has no central server: every head runs the same agent and takes any command.
The commands talk to the agent on this machine, or to the head that --server or
LUNA_SERVER names; of several, as in https://h1,https://h2, to the first that is
there. The answer is on stdout, everything else on stderr.

Where a command takes a NAME, -n NAME or --name NAME does as well. Nodes may be
named by a hostlist, node[001-100,205], by their group, %compute, or by a tag,
@gpu: luna node show --help tells all. A change of several is done whole or not
at all. A long option may be cut short as long as it stays unique.

With --dry-run a command changes nothing and tells what it would change. What was
changed, luna log lists and luna undo takes back.

Exit status: 0 done, 1 refused or failed, 2 wrong usage, 130 interrupted, 255 an
object is missing, exists already, or a value is bad.`,
		Example: `  luna cluster init --frontend_address 10.30.255.254
  luna node list -o json`,
		RunE: chooseCommand,
	}
	root.PersistentFlags().Var(choice{&a.format, formats}, "output", "format of what --dry-run tells")
	root.AddCommand(clusterCommand(a), networkCommand(a), osimageCommand(a), bmcsetupCommand(a), groupCommand(a), nodeCommand(a),
		switchCommand(a), otherdevCommand(a), headCommand(a), joinCommand(a), leaveCommand(a),
		exportCommand(a), applyCommand(a), diffCommand(a), importCommand(a), logCommand(a), undoCommand(a), inventoryCommand(a))
	root.AddCommand(hidden(powerCommand(a)), hidden(chrootCommand(a)), completionCommand(), docsCommand())
	root.AddCommand(extra...)
	return a.program(root)
}

// usageTemplate differs from cobra's in that it names a noun's verbs once.
const usageTemplate = `Usage:
  {{.UseLine}}{{if .HasExample}}

Example:
{{.Example}}{{end}}{{if .HasAvailableSubCommands}}

{{if .HasParent}}Actions{{else}}Objects and commands{{end}}:{{range .Commands}}{{if (or .IsAvailableCommand (eq .Name "help"))}}
  {{rpad .Name .NamePadding }} {{.Short}}{{end}}{{end}}{{end}}{{if .HasAvailableLocalFlags}}

Options:
{{.LocalFlags.FlagUsages | trimTrailingWhitespaces}}{{end}}{{if .HasAvailableInheritedFlags}}

Options of every command:
{{.InheritedFlags.FlagUsages | trimTrailingWhitespaces}}{{end}}{{if .HasAvailableSubCommands}}

"{{.CommandPath}} {{if .HasParent}}ACTION{{else}}OBJECT ACTION{{end}} --help" tells more.{{end}}
`

// markRuns lets [Run] tell an error of a command from cobra's own, which are
// all about the usage.
func markRuns(c *cobra.Command) {
	if run := c.RunE; run != nil {
		c.RunE = func(cmd *cobra.Command, args []string) error {
			if err := run(cmd, args); err != nil {
				return &failure{err}
			}
			return nil
		}
	}
	for _, sub := range c.Commands() {
		markRuns(sub)
	}
}

// noun gives the command of an object, whose verbs do the work.
func noun(use, short, example string, verbs ...*cobra.Command) *cobra.Command {
	c := &cobra.Command{
		Use: use + " ACTION", Short: short, Example: example,
		RunE: chooseCommand, DisableFlagsInUseLine: true,
	}
	c.AddCommand(verbs...)
	return c
}

// chooseCommand is what a command does that only leads to others.
func chooseCommand(cmd *cobra.Command, args []string) error {
	var names []string
	for _, sub := range cmd.Commands() {
		if sub.IsAvailableCommand() && sub.Name() != "completion" {
			names = append(names, sub.Name())
		}
	}
	if len(args) == 0 {
		return usagef("too few arguments: choose from %s", strings.Join(names, ", "))
	}
	if near := cmd.SuggestionsFor(args[0]); len(near) > 0 {
		return usagef("invalid choice: '%s' (did you mean %s?)", args[0], strings.Join(near, " or "))
	}
	return usagef("invalid choice: '%s' (choose from %s)", args[0], strings.Join(names, ", "))
}

// session is one run of a command: the head it asks and where it says what.
type session struct {
	*api.Client
	cmd    *cobra.Command
	name   string // the object it is about: its NAME or --name, where it has one
	format string // of what a dry run tells
}

// do gives the RunE of a command whose work is fn.
func (a *app) do(fn func(ctx context.Context, s *session) error) func(*cobra.Command, []string) error {
	return func(cmd *cobra.Command, args []string) error {
		s := &session{cmd: cmd, name: strings.Join(args, ""), format: a.format}
		named := len(args) > 0
		if f := cmd.Flags().Lookup("name"); f != nil && !named {
			s.name, named = f.Value.String(), f.Changed
		}
		if named && s.name == "" { // a variable of a script that was not set, and never all objects
			return inventory.Errorf(inventory.KindInvalid, "", "", "the name is empty: leave it out, or give one")
		}
		if a.timeout < 0 {
			return usagef("argument --timeout: %v is no time to wait: give one such as 90s, or 0 to wait for ever", a.timeout)
		}
		var err error
		if s.Client, err = a.connect(cmd.ErrOrStderr()); err != nil {
			return err
		}
		s.DryRun = a.dryRun
		var told sync.Once
		s.Stale = func(reason string) { told.Do(func() { s.warn("%s", reason) }) }
		return fn(cmd.Context(), s)
	}
}

// within gives a client of the same head whose calls may take another time, 0
// for no bound.
func (s *session) within(limit time.Duration) *api.Client {
	t := *s.HTTP.Transport.(*transport)
	t.timeout = limit
	return &api.Client{HTTP: &http.Client{Transport: &t}, Base: s.Base, DryRun: s.DryRun, Stale: s.Stale}
}

// dry gives a client of the same head whose changes are only tried.
func (s *session) dry() *api.Client {
	return &api.Client{HTTP: s.HTTP, Base: s.Base, DryRun: true, Stale: s.Stale}
}

// change puts a plain change through.
func (s *session) change(ctx context.Context, c inventory.Command) error {
	return s.done(s.Write(ctx, c))
}

// done tells what a change did, as far as there is something to tell: in a dry
// run what it would do.
func (s *session) done(w api.Written, err error) error {
	if err != nil {
		return err
	}
	if w.Notice != "" {
		for _, line := range strings.Split(w.Notice, "\n") {
			s.note("INFO:%s:%s", logger(s.cmd, ""), line)
		}
	}
	if s.DryRun {
		return s.showChanges(s.format, w.Changes)
	}
	return nil
}

func (s *session) stdout() io.Writer { return s.cmd.OutOrStdout() }

// note tells the user something beside the answer.
func (s *session) note(format string, args ...any) {
	fmt.Fprintf(s.cmd.ErrOrStderr(), format+"\n", args...)
}

// warn is a note that wants attention, in the shape of 1.2's log lines.
func (s *session) warn(format string, args ...any) {
	fmt.Fprintf(s.cmd.ErrOrStderr(), "WARNING:%s:%s\n", logger(s.cmd, ""), fmt.Sprintf(format, args...))
}

// given tells whether the option stands on the command line.
func (s *session) given(option string) bool { return s.cmd.Flags().Changed(option) }

// ifGiven gives v where the option stands on the command line, else nil: a
// change sets only what it is given.
func ifGiven[T any](s *session, option string, v T) *T {
	if s.given(option) {
		return &v
	}
	return nil
}

// named makes a command name its object, by an argument or by --name.
func named(c *cobra.Command) *cobra.Command {
	c.Flags().StringP("name", "n", "", "the NAME, as an option")
	modern(c, "name")
	c.Args = func(cmd *cobra.Command, args []string) error {
		if cmd.Flags().Changed("name") {
			return noArgs(cmd, args)
		}
		if len(args) == 0 {
			return errors.New("the following arguments are required: NAME")
		}
		return noArgs(cmd, args[1:])
	}
	return c
}

func noArgs(_ *cobra.Command, args []string) error {
	if len(args) > 0 {
		return fmt.Errorf("unrecognized arguments: %s", strings.Join(args, " "))
	}
	return nil
}

// required makes options required.
func required(c *cobra.Command, options ...string) {
	for _, o := range options {
		if err := c.MarkFlagRequired(o); err != nil {
			panic(err) // the option was not declared: a bug that every test finds
		}
	}
}

// modern marks options that 1.2 did not have: they never make a prefix
// ambiguous that was unique there.
func modern(c *cobra.Command, options ...string) {
	for _, o := range options {
		if err := c.Flags().SetAnnotation(o, annotationModern, nil); err != nil {
			panic(err) // likewise
		}
	}
}

const annotationModern = "modern"

// choice is an option's value that is one of a few words.
type choice struct {
	value   *string
	options []string
}

func (c choice) String() string { return *c.value }
func (c choice) Type() string   { return strings.Join(c.options, "|") }

// Set takes one of the words.
func (c choice) Set(v string) error {
	if !slices.Contains(c.options, v) {
		return fmt.Errorf("choose from %s", strings.Join(c.options, ", "))
	}
	*c.value = v
	return nil
}

// yesNo is an option's value as 1.2 wrote booleans.
type yesNo struct{ value *bool }

func (yesNo) String() string { return "" }
func (yesNo) Type() string   { return "y|n" }

// Set takes y, yes, n and no.
func (y yesNo) Set(v string) error {
	switch v {
	case "y", "yes":
		*y.value = true
	case "n", "no":
		*y.value = false
	default:
		return errors.New("choose from y, yes, n, no")
	}
	return nil
}
