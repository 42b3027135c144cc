package cli

import (
	"os"
	"regexp"
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
			words := split(ownPart(line))
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

// ownPart cuts off a line what a shell does with the command, or after it.
func ownPart(line string) string {
	line = strings.TrimSpace(line)
	for _, end := range []string{" < ", " > ", " | ", " && ", " #"} {
		line, _, _ = strings.Cut(line, end)
	}
	return line
}

// TestPagesNameWhatThereIs: the commands in the pages that no test types are well-formed.
func TestPagesNameWhatThereIs(t *testing.T) {
	inline := regexp.MustCompile("`(l(?:una|power|chroot) [^`]+)`")
	for _, page := range []string{"../docs/operating.md", "../docs/from-1.2.md", "../README.md"} {
		text, err := os.ReadFile(page)
		if err != nil {
			t.Fatal(err)
		}
		var lines []string
		for line := range strings.Lines(string(text)) {
			if code, ok := strings.CutPrefix(line, "    "); ok {
				lines = append(lines, strings.Split(code, " && ")...)
			}
		}
		// What is written in a sentence names an action, and may leave its arguments out.
		for _, code := range inline.FindAllStringSubmatch(strings.ReplaceAll(string(text), "\n", " "), -1) {
			words := split(ownPart(code[1]))
			if words[0] == "luna" && words[1] != "agent" {
				if _, _, err := programOf("luna").Find(words[1:]); err != nil {
					t.Errorf("%s: '%s': %v", page, code[1], err)
				}
			}
		}
		for _, line := range lines {
			words := split(ownPart(line))
			if len(words) < 2 || !slices.Contains(programs, words[0]) || words[1] == "agent" {
				continue
			}
			if err := parses(words); err != nil {
				t.Errorf("%s: '%s': %v", page, strings.TrimSpace(line), err)
			}
		}
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
