package cli

import (
	"context"
	"io"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/clustervision/luna/inventory"
)

// This file holds what is the same for several nouns: commands, how their
// values print, and how to wait.

func deleteCommand(a *app, object string) *cobra.Command {
	short := map[string]string{
		"network":  "Delete a network that nothing uses",
		"osimage":  "Delete an osimage that no group uses, and its versions; its tree stays",
		"bmcsetup": "Delete a bmcsetup that no group uses",
		"group":    "Delete a group that has no nodes",
	}
	return named(&cobra.Command{
		Use:     "delete NAME",
		Short:   short[object],
		Example: "  luna " + object + " delete old",
		RunE: a.do(func(ctx context.Context, s *session) error {
			switch object {
			case "network":
				return s.change(ctx, inventory.DeleteNetwork{Name: s.name})
			case "osimage":
				return s.change(ctx, inventory.DeleteOSImage{Name: s.name})
			case "bmcsetup":
				return s.change(ctx, inventory.DeleteBMCSetup{Name: s.name})
			default:
				return s.change(ctx, inventory.DeleteGroup{Name: s.name})
			}
		}),
	})
}

func renameCommand(a *app, object string) *cobra.Command {
	var to string
	c := named(&cobra.Command{
		Use:     "rename NAME --newname NEW",
		Short:   "Give the " + object + " another name; whatever refers to it goes on doing so",
		Example: "  luna " + object + " rename old --newname new",
		RunE: a.do(func(ctx context.Context, s *session) error {
			return s.change(ctx, inventory.Rename{Object: object, Name: s.name, NewName: to})
		}),
	})
	c.Flags().StringVar(&to, "newname", "", "the new name (--nn in short)")
	required(c, "newname")
	return c
}

// pick gives those of all objects that the command's hostlist names, in its
// order.
func pick[T any](s *session, object string, all []T, name func(T) string) ([]T, error) {
	names, err := inventory.ExpandNames(object, s.name)
	if err != nil {
		return nil, err
	}
	by := make(map[string]T, len(all))
	for _, o := range all {
		by[name(o)] = o
	}
	chosen := make([]T, 0, len(names))
	for _, n := range names {
		o, ok := by[n]
		if !ok {
			return nil, inventory.NotFound(object, n)
		}
		chosen = append(chosen, o)
	}
	return chosen, nil
}

// printChosen prints what a hostlist named: a table for each; of one plain name
// the object in JSON, of a hostlist an array.
func printChosen[T any](s *session, out *output, chosen []T, asTable func(T) *table) error {
	switch {
	case out.isTable():
		for _, o := range chosen {
			if err := asTable(o).write(s.stdout()); err != nil {
				return err
			}
		}
		return nil
	case len(chosen) == 1 && !strings.ContainsAny(s.name, "[,!&"):
		return out.print(s.stdout(), chosen[0], nil)
	}
	return out.print(s.stdout(), chosen, nil)
}

// writeText prints a text such that redirecting it to a file and giving that
// back on stdin changes nothing.
func writeText(w io.Writer, text string) error {
	if text != "" && !strings.HasSuffix(text, "\n") {
		text += "\n"
	}
	_, err := io.WriteString(w, text)
	return err
}

// comment gives the comment that takes the place of old.
func (e *editor) comment(ctx context.Context, s *session, old *string) (*string, error) {
	text, err := e.edit(ctx, s, deref(old), "comment")
	return &text, err
}

// dash stands for a name that there is none of.
func dash(s string) string {
	if s == "" {
		return "-"
	}
	return s
}

// nonNil makes an empty list print as one.
func nonNil[T any](list []T) []T {
	if list == nil {
		return []T{}
	}
	return list
}

// mustNotBeDry refuses to do what a head cannot try without doing it.
func mustNotBeDry(s *session) error {
	if s.DryRun {
		return inventory.Errorf(inventory.KindInvalid, "", "", "this cannot be tried dry: nothing was done")
	}
	return nil
}

// await asks every so often whether it is so, until it is or the time is up; a
// limit of 0 is none. An error ends it, and so does ctx, with ctx's error.
func await(ctx context.Context, limit, every time.Duration, so func(context.Context) (bool, error)) (bool, error) {
	waiting, cancel := ctx, context.CancelFunc(func() {})
	if limit > 0 {
		waiting, cancel = context.WithTimeout(ctx, limit)
	}
	defer cancel()
	again := time.NewTicker(every)
	defer again.Stop()
	for {
		done, err := so(waiting)
		if done && err == nil {
			return true, nil
		}
		if err != nil && waiting.Err() == nil {
			return false, err
		}
		select {
		case <-again.C:
		case <-waiting.Done():
			return false, ctx.Err()
		}
	}
}

// notices tells what a head said beside its answer.
func notices(s *session, list []string) {
	for _, n := range list {
		s.note("INFO:%s:%s", logger(s.cmd, ""), n)
	}
}
