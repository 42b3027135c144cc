package cli

import (
	"context"
	"io"
	"strings"

	"github.com/spf13/cobra"

	"github.com/clustervision/luna/inventory"
)

// This file holds the commands that are the same for several nouns, and how
// their values print.

func deleteCommand(a *app, object string) *cobra.Command {
	short := map[string]string{
		"network": "Delete a network that nothing uses",
		"osimage": "Delete an osimage that no group uses, and its versions; its tree stays",
		"group":   "Delete a group that has no nodes",
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

// writeText prints a text such that redirecting it to a file and giving that
// back on stdin changes nothing.
func writeText(w io.Writer, text string) error {
	if text != "" && !strings.HasSuffix(text, "\n") {
		text += "\n"
	}
	_, err := io.WriteString(w, text)
	return err
}

// nonNil makes an empty list print as one.
func nonNil[T any](list []T) []T {
	if list == nil {
		return []T{}
	}
	return list
}
