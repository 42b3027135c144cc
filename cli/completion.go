package cli

import (
	"bytes"
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/spf13/cobra"
)

// This file prints the scripts by which shells ask for words, and reads the
// command lines that these scripts ask about.

// programs are the names of this program.
var programs = []string{"luna", "lpower", "lchroot"}

func completionCommand() *cobra.Command {
	shells := []string{"bash", "zsh", "fish"}
	return &cobra.Command{
		Use:   "completion bash|zsh|fish [luna|lpower|lchroot]",
		Short: "Print a script that makes a shell complete the words of luna, lpower and lchroot",
		Long: `Print a script that makes a shell complete the words of luna, lpower and lchroot:
commands, options, and the names that the asked head knows now. Packages of Luna
install it; to have it without, load it where the shell starts:

  source <(luna completion bash)      in ~/.bashrc, after bash-completion
  source <(luna completion zsh)       in ~/.zshrc, after compinit
  luna completion fish | source       in ~/.config/fish/config.fish

A shell that loads the script of a program when it is first used wants one file
for each: name the program.`,
		Example: `  luna completion bash
  luna completion zsh lpower`,
		Args: func(_ *cobra.Command, args []string) error {
			switch {
			case len(args) == 0 || !slices.Contains(shells, args[0]):
				return fmt.Errorf("choose a shell from %s", strings.Join(shells, ", "))
			case len(args) > 1 && !slices.Contains(programs, args[1]):
				return fmt.Errorf("choose a program from %s", strings.Join(programs, ", "))
			}
			return noArgs(nil, args[min(2, len(args)):])
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			wanted := programs
			if len(args) > 1 {
				wanted = args[1:]
			}
			for _, program := range wanted {
				if err := writeCompletion(cmd.OutOrStdout(), args[0], program); err != nil {
					return err
				}
			}
			return nil
		},
	}
}

func writeCompletion(w io.Writer, shell, program string) error {
	c := &cobra.Command{Use: program} // all that the script depends on
	switch shell {
	case "zsh":
		return c.GenZshCompletion(w)
	case "fish":
		return c.GenFishCompletion(w, true)
	}
	var script bytes.Buffer
	if err := c.GenBashCompletionV2(&script, true); err != nil {
		return err
	}
	text := script.String()
	for _, change := range [][2]string{
		// Bash ends a word at '@' as it does at '=' and ':', and @TAG would be two words.
		{`-n =:`, `-n =:@`},
		{`__PROGRAM_handle_special_char "$cur" =`, "__PROGRAM_handle_special_char \"$cur\" =\n    __PROGRAM_handle_special_char \"$cur\" @"},
		// The words of Luna need no quotes, and node001\,node002 is not what anybody writes.
		{`$(printf "%q" "${COMPREPLY[0]}")`, `${COMPREPLY[0]}`},
	} {
		was, is := strings.ReplaceAll(change[0], "PROGRAM", program), strings.ReplaceAll(change[1], "PROGRAM", program)
		if !strings.Contains(text, was) {
			return fmt.Errorf("the script for bash lacks `%s`", was)
		}
		text = strings.ReplaceAll(text, was, is)
	}
	_, err := io.WriteString(w, text)
	return err
}

// isTyped tells whether a shell asks for the words of a command line.
func isTyped(args []string) bool {
	return len(args) > 1 && (args[0] == cobra.ShellCompRequestCmd || args[0] == cobra.ShellCompNoDescRequestCmd)
}

// translateTyped is translate for a command line whose last word is being typed.
func translateTyped(root *cobra.Command, args []string) []string {
	request, words, typed := args[0], slices.Clone(args[1:len(args)-1]), args[len(args)-1]
	last := len(words) - 1
	if last >= 0 && words[last] == "-o" {
		// Where -o has two senses, a word behind it can only be a format.
		if cmd, _, err := translate(root, words[:last]); err == nil && outputOr[cmd.CommandPath()] != "" {
			words[last] = "--output"
		}
	}
	cmd, out, err := translate(root, words)
	if err != nil {
		// -i IF lacks the address that is being typed.
		if _, out, err = translate(root, append(words, typed)); err == nil && len(out) > 0 {
			return append([]string{request}, out...)
		}
		return args
	}
	if n := len(out) - 1; n >= 0 && !strings.HasPrefix(typed, "-") {
		// The value of an option that may have none.
		f := cmd.Flags().Lookup(strings.TrimPrefix(out[n], "--"))
		if strings.HasPrefix(out[n], "--") && f != nil && f.NoOptDefVal != "" && !isBool(f) {
			return append(append([]string{request}, out[:n]...), out[n]+"="+typed)
		}
	}
	return append(append([]string{request}, out...), typed)
}
