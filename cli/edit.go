package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"

	"github.com/mattn/go-isatty"
	"github.com/spf13/cobra"

	"github.com/clustervision/luna/inventory"
)

// editor is how a text is changed: erased by --clear, read from stdin where
// that is no terminal, and edited else.
type editor struct{ clear bool }

func (e *editor) declare(c *cobra.Command) {
	c.Flags().BoolVar(&e.clear, "clear", false, "erase the text instead of editing it")
	modern(c, "clear")
}

// edit gives the text that takes the place of old. file is how the editor shall
// call it.
func (e *editor) edit(ctx context.Context, s *session, old, file string) (string, error) {
	if e.clear {
		return "", nil
	}
	if !isTerminal(s.cmd.InOrStdin()) {
		return readText(s)
	}
	return runEditor(ctx, s, old, file)
}

// script is edit for a shell script: one that bash cannot read is kept all the
// same, for it may be work in progress, but not without a word.
func (e *editor) script(ctx context.Context, s *session, old *string, file string) (*string, error) {
	text, err := e.edit(ctx, s, deref(old), file)
	if err != nil {
		return nil, err
	}
	if complaint := checkSyntax(ctx, text); complaint != "" {
		s.warn("%s is stored, but bash finds an error in it: %s", strings.TrimSuffix(file, ".sh"), complaint)
	}
	return &text, nil
}

// checkSyntax gives what bash says of the script, "" if nothing or if there is
// no bash here.
func checkSyntax(ctx context.Context, script string) string {
	f, err := os.CreateTemp("", "luna-check-") // from a pipe, bash reads byte by byte
	if err != nil {
		return ""
	}
	defer os.Remove(f.Name())
	defer f.Close()
	if _, err := f.WriteString(script); err != nil {
		return ""
	}
	if _, err := f.Seek(0, io.SeekStart); err != nil {
		return ""
	}
	bash := exec.CommandContext(ctx, "bash", "-n")
	bash.Stdin = f
	out, err := bash.CombinedOutput()
	if _, complained := errors.AsType[*exec.ExitError](err); complained {
		return strings.TrimSpace(string(out))
	}
	return ""
}

func readText(s *session) (string, error) {
	b, err := io.ReadAll(io.LimitReader(s.cmd.InOrStdin(), inventory.MaxScript+1))
	if err != nil {
		return "", fmt.Errorf("read the text from stdin: %w", err)
	}
	if len(b) > inventory.MaxScript {
		return "", inventory.Errorf(inventory.KindInvalid, "", "", "the text on stdin is longer than %d bytes", inventory.MaxScript)
	}
	text := strings.TrimRight(string(b), "\n")
	if text == "" {
		return "", refusef("", "", "stdin is empty and nothing was changed: give the text there, or --clear to erase the old one")
	}
	return text, nil
}

// runEditor lets $EDITOR, which may have arguments, change the text. The file
// is read by its name afterwards: some editors replace it. A text has no
// newlines at its end, whichever way it came; an editor wants one.
func runEditor(ctx context.Context, s *session, old, name string) (string, error) {
	dir, err := os.MkdirTemp("", "luna-edit-")
	if err != nil {
		return "", fmt.Errorf("make a place to edit the text: %w", err)
	}
	defer os.RemoveAll(dir)
	file := filepath.Join(dir, name)
	offered := old
	if !strings.HasSuffix(old, "\n") && old != "" {
		offered += "\n"
	}
	if err := os.WriteFile(file, []byte(offered), 0o600); err != nil {
		return "", fmt.Errorf("write the text to edit: %w", err)
	}
	command := os.Getenv("EDITOR")
	if command == "" {
		command = "vi"
	}
	ed := exec.CommandContext(ctx, "sh", "-c", command+` "$1"`, "luna", file)
	ed.Stdin, ed.Stdout, ed.Stderr = s.cmd.InOrStdin(), s.cmd.OutOrStdout(), s.cmd.ErrOrStderr()
	if err := ed.Run(); err != nil {
		return "", refusef("", "", "the editor '%s' failed (%v) and nothing was changed: set EDITOR, or give the text on stdin", command, err)
	}
	b, err := os.ReadFile(file)
	if err != nil {
		return "", fmt.Errorf("read the edited text: %w", err)
	}
	if string(b) == offered {
		return old, nil
	}
	return strings.TrimRight(string(b), "\n"), nil
}

// isTerminal tells whether a person may be at the other end.
func isTerminal(stream any) bool {
	f, ok := stream.(*os.File)
	return ok && isatty.IsTerminal(f.Fd())
}

func deref(s *string) string {
	if s == nil {
		return ""
	}
	return *s
}
