package cli

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/clustervision/luna/api"
	"github.com/clustervision/luna/inventory"
)

// loggedTypes are the types of objects whose changes the log has.
var loggedTypes = []string{"cluster", "network", "osimage", "version", "bmcsetup", "group", "switch", "otherdev", "node", "head"}

func logCommand(a *app) *cobra.Command {
	var out output
	var limit int
	var differences bool
	c := &cobra.Command{
		Use:   "log [TYPE | TYPE/NAME | NAME]",
		Short: "List who changed what, from where and when, the newest change first",
		Long: `List who changed what, from where and when, the newest change first: all changes,
or those of objects of a type, of one object, or of all objects of a name. With
--diff each is followed by what it did. Luna keeps the last 10,000 changes, but of
the older ones not always what they did.`,
		Example: `  luna log
  luna log node/node001 --diff
  luna log group -n 5`,
		Args: func(cmd *cobra.Command, args []string) error { return noArgs(cmd, args[min(1, len(args)):]) },
		RunE: a.do(func(ctx context.Context, s *session) error {
			if limit < 0 {
				return usagef("argument --limit/-n: it cannot be less than 0")
			}
			object, name, err := logged(s.name)
			if err != nil {
				return err
			}
			entries, err := s.Log(ctx, object, name, limit)
			if err != nil {
				return err
			}
			if differences {
				return printDifferences(ctx, s, &out, entries)
			}
			return out.print(s.stdout(), nonNil(entries), func() *table { return logTable(entries) })
		}),
	}
	out.list(c)
	c.Flags().IntVarP(&limit, "limit", "n", 50, "how many changes; 0 for all")
	c.Flags().BoolVar(&differences, "diff", false, "show what each changed")
	return c
}

// logged reads which objects are meant: TYPE, TYPE/NAME or NAME.
func logged(s string) (object, name string, err error) {
	object, name, both := strings.Cut(s, "/")
	if !both && !slices.Contains(loggedTypes, object) {
		return "", object, nil
	}
	if !slices.Contains(loggedTypes, object) {
		return "", "", inventory.Errorf(inventory.KindInvalid, "log", s, "'%s' is no type of object: choose from %s", object, strings.Join(loggedTypes, ", "))
	}
	return object, name, nil
}

func logTable(entries []api.Entry) *table {
	t := &table{header: []string{"ID", "Time", "Who", "From", "What", "Objects"}}
	for _, e := range entries {
		t.add(e.ID, e.At.Local().Format(time.DateTime), dash(e.By), dash(e.From), inWords(e), strings.Join(e.Objects, "\n"))
	}
	return t
}

// inWords says what an entry did, and if it stands.
func inWords(e api.Entry) string {
	words := strings.ReplaceAll(e.Verb, "-", " ")
	if e.UndoneBy != 0 {
		words += fmt.Sprintf(" (undone by %d)", e.UndoneBy)
	}
	return words
}

// printDifferences shows each entry with what it did.
func printDifferences(ctx context.Context, s *session, out *output, entries []api.Entry) error {
	for i := range entries {
		e, err := s.Entry(ctx, entries[i].ID, false)
		if err != nil {
			return err
		}
		entries[i] = e
		if !out.isTable() {
			continue
		}
		fmt.Fprintf(s.stdout(), "entry %d, %s, %s from %s: %s\n", e.ID, e.At.Local().Format(time.DateTime), dash(e.By), dash(e.From), inWords(e))
		if e.Forgotten {
			fmt.Fprintf(s.stdout(), "(what it changed is not kept any more: %s)\n", strings.Join(e.Objects, ", "))
		} else if err := s.showChanges(formatTable, e.Changes); err != nil {
			return err
		}
		fmt.Fprintln(s.stdout())
	}
	if out.isTable() {
		return nil
	}
	return out.print(s.stdout(), nonNil(entries), nil)
}

func undoCommand(a *app) *cobra.Command {
	var out output
	c := &cobra.Command{
		Use:   "undo ID",
		Short: "Take back what a change did",
		Long: `Take back what the change with that ID in luna log did, as one change more; its ID
is printed. It is refused where something that it changed has been changed again:
undo the later one first.`,
		Example: `  luna undo 17
  luna undo 17 --dry-run`,
		Args: func(cmd *cobra.Command, args []string) error {
			if len(args) == 0 {
				return errors.New("the following arguments are required: ID")
			}
			return noArgs(cmd, args[1:])
		},
		RunE: a.do(func(ctx context.Context, s *session) error {
			id, err := entryID(s.name)
			if err != nil {
				return err
			}
			w, err := s.Undo(ctx, id)
			switch {
			case err != nil:
				return err
			case s.DryRun:
				return s.showChanges(out.format, w.Changes)
			case !out.isTable():
				return out.print(s.stdout(), w, nil)
			}
			fmt.Fprintln(s.stdout(), w.Entry)
			s.note("entry %d is undone; `luna undo %d` does it again", id, w.Entry)
			return nil
		}),
	}
	out.list(c)
	return c
}

// entryID reads the number of an entry of the log.
func entryID(s string) (uint64, error) {
	id, err := strconv.ParseUint(s, 10, 64)
	if err != nil || id == 0 {
		return 0, inventory.Errorf(inventory.KindInvalid, "log", s, "'%s' is no ID of a change: luna log lists them", s)
	}
	return id, nil
}
