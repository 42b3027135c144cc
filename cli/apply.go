package cli

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"

	"github.com/clustervision/luna/inventory"
)

func exportCommand(a *app) *cobra.Command {
	format, file, masked := formatYAML, "", false
	c := &cobra.Command{
		Use:   "export [-f FILE]",
		Short: "Write the whole inventory as a YAML document",
		Long: `Write the whole inventory as a YAML document: on stdout, or in a file that only its
owner can read, for the passwords of BMCs are in it. The same inventory is always
the same text, so that a version control system can show what changed; luna apply
makes it true again, here or on another cluster. What machines report, such as
the state of a node, is not in it, nor are the trees and versions of osimages.`,
		Example: `  luna export -f inventory.yaml
  luna export --no-secrets`,
		Args: noArgs,
		RunE: a.do(func(ctx context.Context, s *session) error {
			d, err := s.Export(ctx, !masked)
			if err != nil {
				return err
			}
			if file == "" || file == "-" {
				if !masked && readByOthers(s.stdout()) {
					s.warn("others can read this file, and the passwords of the BMCs that it holds: use --file, or --no-secrets")
				}
				return writeDocument(s.stdout(), format, d)
			}
			if err := writeDocumentFile(file, format, d); err != nil {
				return fmt.Errorf("cannot write the inventory to %s: %w", file, err)
			}
			if !masked {
				s.note("%s holds the passwords of the BMCs: it is mode 0600, keep it so", file)
			}
			return nil
		}),
	}
	c.Flags().StringVarP(&file, "file", "f", "", "write it to this file")
	c.Flags().VarP(choice{&format, []string{formatYAML, formatJSON}}, "output", "o", "format of the document")
	c.Flags().BoolVar(&masked, "no-secrets", false, "leave the passwords out; apply then keeps those that there are")
	return c
}

// readByOthers tells whether the output goes to a file that more than its owner
// can read.
func readByOthers(w io.Writer) bool {
	f, ok := w.(*os.File)
	if !ok {
		return false
	}
	st, err := f.Stat()
	return err == nil && st.Mode().IsRegular() && st.Mode().Perm()&0o077 != 0
}

func writeDocument(w io.Writer, format string, d inventory.Document) error {
	if format == formatJSON {
		return writeJSON(w, d)
	}
	return writeYAML(w, d)
}

// writeDocumentFile writes a file whole or not at all, and what is no plain
// file, such as a pipe, as it comes.
func writeDocumentFile(file, format string, d inventory.Document) error {
	if real, err := filepath.EvalSymlinks(file); err == nil {
		file = real
	}
	st, err := os.Stat(file)
	if err == nil && !st.Mode().IsRegular() {
		f, err := os.OpenFile(file, os.O_WRONLY, 0)
		if err != nil {
			return err
		}
		defer f.Close()
		return writeDocument(f, format, d)
	}
	var text bytes.Buffer
	if err := writeDocument(&text, format, d); err != nil {
		return err
	}
	return replaceFile(file, text.String(), 0o600)
}

// applying is how a document is applied, or compared.
type applying struct {
	out   output
	file  string
	prune bool
	yes   bool
}

func (p *applying) declare(c *cobra.Command) {
	p.out.list(c)
	c.Flags().StringVarP(&p.file, "file", "f", "", "the document, in YAML or JSON; - is stdin")
	c.Flags().BoolVar(&p.prune, "prune", false, "delete what is in the cluster and not in the document")
}

func applyCommand(a *app) *cobra.Command {
	var p applying
	c := &cobra.Command{
		Use:   "apply -f FILE",
		Short: "Make a document true, all of it or nothing",
		Long: `Make a document true, all of it or nothing, as one change. First the difference is
shown; on a terminal it is asked whether to go on, elsewhere and with --yes it is
applied at once.

The document has the form of luna export, or is a part of it. What an object
leaves out stays as it is, or gets its default where the object is new; null
unsets. What is in the cluster and not in the document stays, unless --prune
deletes it: all of it, of every type.`,
		Example: `  luna apply -f inventory.yaml
  luna apply -f inventory.yaml --prune --dry-run
  luna apply -f - < inventory.yaml`,
		Args: noArgs,
		RunE: a.do(func(ctx context.Context, s *session) error { return p.apply(ctx, s) }),
	}
	p.declare(c)
	c.Flags().BoolVarP(&p.yes, "yes", "y", false, "do not ask")
	required(c, "file")
	return c
}

func (p *applying) apply(ctx context.Context, s *session) error {
	d, err := readDocument(s, p.file)
	if err != nil {
		return err
	}
	differs, err := p.compare(ctx, s, d)
	if err != nil || !differs || s.DryRun {
		return err
	}
	if !p.yes && p.file != "-" && isTerminal(s.cmd.InOrStdin()) {
		if err := confirm(ctx, s, "Apply this?"); err != nil {
			return err
		}
	}
	w, err := s.Apply(ctx, d.json, p.prune)
	if err != nil {
		return d.explain(err)
	}
	s.note("applied: `luna undo %d` takes it back", w.Entry)
	return nil
}

// compare shows what applying the document would change, and tells whether
// that is anything.
func (p *applying) compare(ctx context.Context, s *session, d *docFile) (differs bool, err error) {
	w, err := s.dry().Apply(ctx, d.json, p.prune)
	if err != nil {
		return false, d.explain(err)
	}
	if err := s.showChanges(p.out.format, w.Changes); err != nil || p.prune {
		return len(w.Changes) > 0, err
	}
	staying, err := stayingObjects(ctx, s, d)
	if staying != "" {
		s.note("%s: not in the document, and staying; --prune deletes", staying)
	}
	return len(w.Changes) > 0, err
}

// stayingObjects counts, in words, what the cluster has and the document has
// not.
func stayingObjects(ctx context.Context, s *session, d *docFile) (string, error) {
	var parts []string
	all, err := s.Export(ctx, false)
	if err != nil {
		return "", err
	}
	for _, of := range sections {
		n := 0
		for _, name := range namesIn(all, of.object) {
			if _, ok := d.lines[of.section+"/"+name]; !ok {
				n++
			}
		}
		if n > 0 {
			parts = append(parts, counted(n, of.object, of.section))
		}
	}
	return strings.Join(parts, ", "), nil
}

func diffCommand(a *app) *cobra.Command {
	var p applying
	var exitCode bool
	c := &cobra.Command{
		Use:   "diff [ID | -f FILE]",
		Short: "Show what a document would change, or what a change did",
		Long: `Show what luna apply would change with the document, or what the entry of the log
with that ID did. Objects to which the same happens stand together: the names as a
hostlist, then each field with its value before and after. '-' is a value that is
unset, a '+' before an object that it is new, a '-' that it is deleted.`,
		Example: `  luna diff -f inventory.yaml
  luna diff 17`,
		RunE: a.do(func(ctx context.Context, s *session) error {
			if !s.given("file") {
				return diffEntry(ctx, s, p.out.format)
			}
			d, err := readDocument(s, p.file)
			if err != nil {
				return err
			}
			differs, err := p.compare(ctx, s, d)
			if err == nil && differs && exitCode {
				return &exitError{code: exitDiffers}
			}
			return err
		}),
	}
	c.Args = func(cmd *cobra.Command, args []string) error {
		switch {
		case len(args) == 0 && !cmd.Flags().Changed("file"):
			return errors.New("the following arguments are required: ID or --file/-f")
		case len(args) == 0 || cmd.Flags().Changed("file"):
			return noArgs(cmd, args)
		}
		return noArgs(cmd, args[1:])
	}
	p.declare(c)
	c.Flags().BoolVar(&exitCode, "exit-code", false, fmt.Sprintf("end with %d where the document differs", exitDiffers))
	return c
}

// diffEntry shows what the entry of the log did that is the command's argument.
func diffEntry(ctx context.Context, s *session, format string) error {
	id, err := entryID(s.name)
	if err != nil {
		return err
	}
	e, err := s.Entry(ctx, id, false)
	if err != nil {
		return err
	}
	if e.Forgotten {
		return refusef("log", s.name, "entry %d is too old: what it changed is not kept any more", id)
	}
	return s.showChanges(format, e.Changes)
}

func counted(n int, one, many string) string {
	if n == 1 {
		return "1 " + one
	}
	return fmt.Sprintf("%d %s", n, many)
}

// confirm asks a question; anything but yes is a refusal.
func confirm(ctx context.Context, s *session, question string) error {
	fmt.Fprintf(s.cmd.ErrOrStderr(), "%s [y/N] ", question)
	answer := make(chan string, 1)
	go func() { // ends with the line, or with the process that Ctrl-C ends
		line, _ := bufio.NewReader(s.cmd.InOrStdin()).ReadString('\n') // no answer is no
		answer <- line
	}()
	select {
	case <-ctx.Done():
		return ctx.Err()
	case line := <-answer:
		if a := strings.ToLower(strings.TrimSpace(line)); a != "y" && a != "yes" {
			return refusef("", "", "nothing was changed")
		}
		return nil
	}
}
