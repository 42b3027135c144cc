package cli

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/clustervision/luna/api"
	"github.com/clustervision/luna/inventory"
)

func headCommand(a *app) *cobra.Command {
	return noun("head", "The machines that run the agent", "  luna head list",
		headList(a), headShow(a), headInvite(a), headRemove(a))
}

func headList(a *app) *cobra.Command {
	var out output
	c := &cobra.Command{
		Use:   "list",
		Short: "List the heads, as the asked one sees them",
		Long: `List the heads, as the asked one sees them: who is there, who leads, how far each
has applied the inventory, and the networks on which it answers DHCP.`,
		Example: "  luna head list",
		Args:    noArgs,
		RunE: a.do(func(ctx context.Context, s *session) error {
			all, err := s.Heads(ctx)
			if err != nil {
				return err
			}
			if self, err := s.Self(ctx); err == nil {
				for _, w := range self.Warnings {
					s.warn("%s", w)
				}
			}
			return out.print(s.stdout(), nonNil(all), func() *table {
				t := &table{header: []string{"Name", "Address", "State", "Role", "Leader", "Applied", "Networks"}}
				for _, h := range all {
					t.add(h.Name, h.Address, h.State, h.Role, h.Leader, h.AppliedIndex, strings.Join(h.Networks, ","))
				}
				return t
			})
		}),
	}
	out.list(c)
	return c
}

func headShow(a *app) *cobra.Command {
	var out output
	c := named(&cobra.Command{
		Use:     "show NAME",
		Short:   "Show a head, as the asked one sees it",
		Example: "  luna head show h1",
		RunE: a.do(func(ctx context.Context, s *session) error {
			all, err := s.Heads(ctx)
			if err != nil {
				return err
			}
			for _, h := range all {
				if h.Name == s.name {
					return out.print(s.stdout(), h, func() *table { return headTable(h) })
				}
			}
			return inventory.NotFound("head", s.name)
		}),
	})
	out.show(c)
	return c
}

func headTable(h api.Head) *table {
	at := func(t time.Time) any {
		if t.IsZero() {
			return nil
		}
		return t.UTC().Format(time.RFC3339)
	}
	t := &table{header: []string{"Parameter", "Value"}}
	t.add("name", h.Name)
	t.add("address", h.Address)
	t.add("applied_index", h.AppliedIndex)
	t.add("joined", at(h.Joined))
	t.add("leader", h.Leader)
	t.add("networks", strings.Join(h.Networks, ","))
	t.add("role", h.Role)
	t.add("since", at(h.Since))
	t.add("state", h.State)
	t.add("version", h.Version)
	t.add("warnings", strings.Join(h.Warnings, "\n"))
	return t
}

func headInvite(a *app) *cobra.Command {
	var ttl time.Duration
	c := &cobra.Command{
		Use:   "invite",
		Short: "Print a token with which one head may join",
		Long: `Print a token with which one head may join: on that head, as root, luna join. It
is good for one head and for the time given, and lets that head know this
cluster. Whoever has it can become a head: hand it on as you would a password.`,
		Example: "  luna head invite --ttl 10m",
		Args:    noArgs,
		RunE: a.do(func(ctx context.Context, s *session) error {
			i, err := s.Invite(ctx, api.InviteRequest{TTL: ttl})
			if err != nil {
				return err
			}
			s.note("good for one head until %s; on it: luna join ADDRESS --token TOKEN", i.Expires.Local().Format(time.RFC3339))
			_, err = fmt.Fprintln(s.stdout(), i.Token)
			return err
		}),
	}
	c.Flags().DurationVar(&ttl, "ttl", time.Hour, "how long the token is good")
	return c
}

func headRemove(a *app) *cobra.Command {
	return named(&cobra.Command{
		Use:   "remove NAME",
		Short: "Remove a head for good",
		Long: `Remove a head for good: it counts no more when the heads decide, and may come
back only by a new invitation. One that is merely down needs no removal.`,
		Example: "  luna head remove h3",
		RunE: a.do(func(ctx context.Context, s *session) error {
			return s.RemoveHead(ctx, s.name)
		}),
	})
}
