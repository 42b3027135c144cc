package cli

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

// This file writes the manual from the commands themselves: one page in
// Markdown, and a page for man(1) for each word behind luna. The same commands
// give the same bytes.

func docsCommand() *cobra.Command {
	var man, markdown string
	c := &cobra.Command{
		Use:   "docs [--man DIR] [--markdown FILE]",
		Short: "Write the manual that stands in the commands",
		Long: `Write the manual that stands in the commands, for packages and the web: as pages
for man(1), as one page in Markdown, or both.`,
		Example: `  luna docs --man docs/man --markdown docs/cli.md`,
		Args:    noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			pages := pagesOf(cmd.Root())
			var errs []error
			if markdown != "" {
				errs = append(errs, os.WriteFile(markdown, markdownPage(pages), 0o644))
			}
			if man != "" {
				errs = append(errs, writeManPages(man, pages))
			}
			return errors.Join(errs...)
		},
	}
	c.Flags().StringVar(&man, "man", "", "directory for the pages for man; those in it that Luna no longer has go")
	c.Flags().StringVar(&markdown, "markdown", "", "file for the page in Markdown")
	return hidden(c)
}

// manualPage is a command with its actions.
type manualPage struct {
	*cobra.Command
	actions []*cobra.Command
}

// pagesOf gives the page of luna, one for each command and noun below it, and
// those of lpower and lchroot.
func pagesOf(root *cobra.Command) []manualPage {
	pages := []manualPage{{root, nil}}
	for _, c := range root.Commands() {
		if c.IsAvailableCommand() && c.Name() != "help" {
			pages = append(pages, manualPage{c, c.Commands()})
		}
	}
	return append(pages, manualPage{Power(), nil}, manualPage{Chroot(), nil})
}

// name is the page's, as in man luna-node.
func (p manualPage) name() string { return strings.ReplaceAll(p.CommandPath(), " ", "-") }

// about is what a command's help says before its usage. How nodes are selected
// stands once for all actions of luna node.
func about(c *cobra.Command) string {
	switch short, selects := strings.CutSuffix(c.Long, aboutSelections); {
	case c.Long == "":
		return c.Short + "."
	case selects && nounOf(c) == "node" && c.Name() != "show":
		return short + "\nWhat NAME can be is told at `luna node show`."
	}
	return c.Long
}

// passage is a piece of a help text: paragraphs, or lines that stand as they are.
type passage struct {
	text string
	asIs bool
}

// passages takes a help text apart. Lines that begin with two blanks stand as
// they are.
func passages(text string) []passage {
	var all []passage
	for line := range strings.Lines(strings.Trim(text, "\n") + "\n") {
		asIs := strings.HasPrefix(line, "  ")
		switch n := len(all); {
		case line == "\n": // ends what was before it
			all = append(all, passage{})
		case n > 0 && all[n-1].text != "" && all[n-1].asIs == asIs:
			all[n-1].text += line
		default:
			all = append(all, passage{line, asIs})
		}
	}
	return slices.DeleteFunc(all, func(p passage) bool { return p.text == "" })
}

// fact is a variable or a file with its meaning.
type fact struct{ name, meaning string }

// variables are those of the environment that commands heed.
func variables() []fact {
	return []fact{
		{"LUNA_SERVER", "the head to talk to, where --server does not name one"},
		{"LUNA_SOCKET", "the socket of the agent on this machine, where neither names a head"},
		{"LUNA_CREDENTIAL", "the file with the credential for https, where --credential does not name one"},
		{"EDITOR", "the editor for scripts and comments, with its arguments; else vi"},
		{"NO_COLOR", "if set, differences are printed without colour"},
		{"LUNA_DATA_DIR, ...", "of the agent: every option of luna agent is also a variable"},
	}
}

func files() []fact {
	return []fact{
		{"/run/luna/luna.sock", "the socket of the agent on this machine, for root"},
		{"~/.luna/*.pem, /etc/luna/admin.pem", "credentials for https; those of several clusters live side by side"},
		{"/etc/luna/agent.yaml", "the configuration of the agent"},
	}
}

// exampleLines gives the lines of a command's examples, without their indent.
func exampleLines(c *cobra.Command) string {
	return strings.TrimPrefix(strings.ReplaceAll("\n"+strings.Trim(c.Example, "\n"), "\n  ", "\n"), "\n") + "\n"
}

// usageOf is the line that a command is called by.
func usageOf(c *cobra.Command) string { return strings.TrimSuffix(c.UseLine(), " [flags]") }

// options gives the options of a command alone, without --help.
func options(c *cobra.Command) []*pflag.Flag {
	var all []*pflag.Flag
	c.LocalFlags().VisitAll(func(f *pflag.Flag) {
		if !f.Hidden && f.Name != "help" && f.Name != "version" {
			all = append(all, f)
		}
	})
	return all
}

// optionText gives an option as it is written, and what it does.
func optionText(f *pflag.Flag) (form, meaning string) {
	value, meaning := pflag.UnquoteUsage(f)
	form = "--" + f.Name
	if f.Shorthand != "" {
		form = "-" + f.Shorthand + ", " + form
	}
	switch {
	case value != "" && f.NoOptDefVal != "" && !isBool(f):
		form += " [" + value + "]"
	case value != "":
		form += " " + value
	}
	switch f.DefValue {
	case "", "false", "0", "[]", "0s":
	default:
		meaning += " (default " + f.DefValue + ")"
	}
	return form, meaning
}

// writeManPages fills a directory with the pages and removes those of commands
// that are gone.
func writeManPages(dir string, pages []manualPage) error {
	old, err := filepath.Glob(filepath.Join(dir, "l*.1"))
	if err != nil {
		return err
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	for _, p := range pages {
		file := filepath.Join(dir, p.name()+".1")
		if err := os.WriteFile(file, manPage(p, pages), 0o644); err != nil {
			return err
		}
		old = slices.DeleteFunc(old, func(o string) bool { return o == file })
	}
	for _, file := range old {
		if err := os.Remove(file); err != nil {
			return err
		}
	}
	return nil
}

// markdownPage writes the manual as one page.
func markdownPage(pages []manualPage) []byte {
	var b bytes.Buffer
	b.WriteString("# The commands of Luna\n\n<!-- Written by `make generate` from the commands themselves: change those. -->\n\n")
	for i, p := range pages {
		fmt.Fprintf(&b, "- [%s](#%s) %s\n", p.CommandPath(), p.name(), p.Short)
		if i == len(pages)-1 {
			b.WriteString("\n")
		}
	}
	for _, p := range pages {
		markdownCommand(&b, p.Command, "##")
		for _, c := range p.actions {
			markdownCommand(&b, c, "###")
		}
		if !p.HasParent() && p.HasSubCommands() {
			markdownFacts(&b, "Environment", variables())
			markdownFacts(&b, "Files", files())
		}
	}
	return append(bytes.TrimRight(b.Bytes(), "\n"), '\n')
}

func markdownCommand(b *bytes.Buffer, c *cobra.Command, heading string) {
	fmt.Fprintf(b, "%s %s\n\n", heading, c.CommandPath())
	for _, p := range passages(about(c)) {
		if p.asIs {
			fmt.Fprintf(b, "```\n%s```\n\n", p.text)
		} else {
			fmt.Fprintf(b, "%s\n\n", markdownText(strings.TrimRight(p.text, "\n")))
		}
	}
	fmt.Fprintf(b, "```\n%s\n", usageOf(c))
	if all := options(c); len(all) > 0 {
		b.WriteString("\n")
		width := 0
		for _, f := range all {
			form, _ := optionText(f)
			width = max(width, len(form))
		}
		for _, f := range all {
			form, meaning := optionText(f)
			fmt.Fprintf(b, "  %-*s  %s\n", width, form, meaning)
		}
	}
	fmt.Fprintf(b, "```\n\n")
	if !c.HasSubCommands() || !c.HasParent() {
		fmt.Fprintf(b, "```sh\n%s```\n\n", exampleLines(c))
	}
}

func markdownFacts(b *bytes.Buffer, heading string, facts []fact) {
	fmt.Fprintf(b, "%s:\n\n", heading)
	for _, f := range facts {
		fmt.Fprintf(b, "- `%s` %s\n", f.name, markdownText(f.meaning))
	}
	b.WriteString("\n")
}

// markdownText keeps what means something to Markdown from doing so, but for what
// stands in backquotes.
func markdownText(text string) string {
	parts := strings.Split(text, "`")
	for i := 0; i < len(parts); i += 2 {
		parts[i] = strings.NewReplacer("*", `\*`, "<", `\<`).Replace(parts[i])
	}
	return strings.Join(parts, "`")
}
