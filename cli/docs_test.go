package cli

import (
	"slices"
	"strings"
	"testing"

	"github.com/spf13/cobra"
)

// programOf gives the commands of a program by its name.
func programOf(name string) *cobra.Command {
	switch name {
	case "lpower":
		return Power()
	case "lchroot":
		return Chroot()
	}
	return Root()
}

func TestEveryCommandExplainsItself(t *testing.T) {
	var visit func(c *cobra.Command)
	visit = func(c *cobra.Command) {
		for _, sub := range c.Commands() {
			visit(sub)
		}
		if c.Short == "" || c.Example == "" {
			t.Errorf("%s has no description or no example", c.CommandPath())
		}
		for line := range strings.Lines(c.Example) {
			line, _, _ = strings.Cut(strings.TrimSpace(line), " < ")
			line, _, _ = strings.Cut(line, " > ")
			words := split(line)
			if len(words) == 0 || !slices.Contains(programs, words[0]) {
				t.Errorf("%s: the example '%s' is not of luna", c.CommandPath(), line)
				continue
			}
			if err := parses(words); err != nil {
				t.Errorf("%s: the example '%s': %v", c.CommandPath(), line, err)
			}
		}
	}
	for _, name := range programs {
		visit(programOf(name))
	}
}

// parses tells whether a command line is well-formed.
func parses(words []string) error {
	root := programOf(words[0])
	_, args, err := translate(root, words[1:])
	if err != nil {
		return err
	}
	cmd, rest, err := root.Traverse(args)
	if err != nil {
		return err
	}
	if err := cmd.ParseFlags(rest); err != nil {
		return err
	}
	if cmd.HasSubCommands() {
		return chooseCommand(cmd, cmd.Flags().Args())
	}
	for _, check := range []func() error{
		func() error { return cmd.ValidateArgs(cmd.Flags().Args()) }, cmd.ValidateRequiredFlags, cmd.ValidateFlagGroups,
	} {
		if err := check(); err != nil {
			return err
		}
	}
	return nil
}
