package cli

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/clustervision/luna/api"
	"github.com/clustervision/luna/inventory"
)

func headCommand(a *app) *cobra.Command {
	return noun("head", "The machines that run the agent", "  luna head list",
		headList(a), headShow(a), headChange(a), headInvite(a), headDrain(a), headUndrain(a), headReplace(a), headRemove(a))
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
			for _, h := range all {
				for _, w := range h.Warnings {
					s.warn("head '%s': %s", h.Name, w)
				}
			}
			return out.print(s.stdout(), nonNil(all), func() *table {
				t := &table{header: []string{"Name", "Address", "State", "Role", "Leader", "Applied", "Networks"}}
				for _, h := range all {
					t.add(h.Name, h.Address, headState(h), headRole(h), h.Leader, headIndex(h), strings.Join(h.Networks, ","))
				}
				return t
			})
		}),
	}
	out.list(c)
	return c
}

// headState is how a head is, in as few words as a column has room for.
func headState(h api.Head) string {
	state := h.State
	if h.CutOff > 0 {
		state += ", cut off"
	}
	if h.Drained {
		state += ", drained"
	}
	return state
}

// headIndex is how far a head is, if it says so.
func headIndex(h api.Head) any {
	if h.AppliedIndex == 0 {
		return "?"
	}
	return h.AppliedIndex
}

// headRole is what a head is among the others; of a witness too, which votes alike.
func headRole(h api.Head) string {
	if h.Witness {
		return h.Role + ", witness"
	}
	return h.Role
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
	var addresses []string
	for _, p := range h.Addresses {
		addresses = append(addresses, p.String())
	}
	cutOff := "no"
	if h.CutOff > 0 {
		cutOff = fmt.Sprintf("for %.0f s", h.CutOff)
	}
	t := &table{header: []string{"Parameter", "Value"}}
	t.add("name", h.Name)
	t.add("address", h.Address)
	t.add("addresses", strings.Join(addresses, ","))
	t.add("applied_index", h.AppliedIndex)
	t.add("cut_off", cutOff)
	t.add("drained", h.Drained)
	t.add("joined", at(h.Joined))
	t.add("leader", h.Leader)
	t.add("networks", strings.Join(h.Networks, ","))
	t.add("role", h.Role)
	t.add("since", at(h.Since))
	t.add("state", h.State)
	t.add("version", h.Version)
	t.add("warnings", strings.Join(h.Warnings, "\n"))
	t.add("weight", h.Weight)
	t.add("witness", h.Witness)
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

func headChange(a *app) *cobra.Command {
	var r api.HeadChange
	c := named(&cobra.Command{
		Use:   "change NAME --weight N",
		Short: "Change what share of the duties a head takes",
		Long: `Change what share of the duties a head takes: of weight 2, it answers DHCP on
twice as many networks as one of weight 1, which is what heads have. No weight
takes all duties from it: luna head drain does.`,
		Example: "  luna head change h1 --weight 2",
		RunE: a.do(func(ctx context.Context, s *session) error {
			if err := mustNotBeDry(s); err != nil {
				return err
			}
			return s.ChangeHead(ctx, s.name, r)
		}),
	})
	c.Flags().Var(numberOption{&r.Weight}, "weight", "share of the duties, 1 to 100")
	required(c, "weight")
	return c
}

const (
	// drainWait is how long a drain waits for nodes that boot, unless told otherwise.
	drainWait = 10 * time.Minute
	// drainRest is what else a drain or a leave may take: longer than the head itself
	// goes on.
	drainRest = time.Minute
)

// drains gives a client for a drain, and for how long that is to wait: as --wait
// says, or --timeout where that is shorter.
func (s *session) drains(a *app, wait time.Duration) (*api.Client, time.Duration) {
	if s.given("timeout") && a.timeout > 0 {
		wait = min(wait, a.timeout)
	}
	return s.within(max(wait, 0) + drainRest), wait
}

// drained says what to do where a drain has no answer, or nobody waits for it.
func (s *session) drained(ctx context.Context, name string, err error) error {
	if ctx.Err() != nil {
		s.note("head '%s' may be drained, and stays so: `luna head list` tells, `luna head undrain %s` ends it", name, name)
	}
	if errors.Is(err, inventory.ErrUnknown) || errors.Is(err, errNoAnswer) {
		return inventory.Errorf(inventory.KindUnknown, "head", name, "%v: `luna head list` tells whether '%s' is drained, and the same command may be given again", err, name)
	}
	return err
}

func headDrain(a *app) *cobra.Command {
	var wait time.Duration
	c := named(&cobra.Command{
		Use:   "drain NAME",
		Short: "Take from a head all that another one can do",
		Long: `Take from a head all that another one can do, before it is rebooted or repaired:
its duties and leadership go to others, it seeds no images, and no node is sent to
it. The command returns when nothing boots from it any more. The head keeps its
vote and its data, and stays drained, also over a reboot, until luna head undrain.

It waits for ten minutes, or as long as --wait or --timeout says, whichever is
shorter; then it fails, and says what it waited for. The head is drained all the
same, and to drain it again is to wait again.`,
		Example: `  luna head drain h2
  luna cluster safe h2 && ssh h2 reboot
  luna head undrain h2`,
		RunE: a.do(func(ctx context.Context, s *session) error {
			if err := mustNotBeDry(s); err != nil {
				return err
			}
			p := newProgress(s.cmd.ErrOrStderr(), "drain "+s.name)
			client, wait := s.drains(a, wait)
			err := client.Drain(ctx, s.name, api.DrainRequest{Wait: wait, NoWait: wait == 0}, p.show)
			p.end()
			return s.drained(ctx, s.name, err)
		}),
	})
	c.Flags().DurationVar(&wait, "wait", drainWait, "how long to wait for nodes that boot from it; 0 does not wait")
	return c
}

func headUndrain(a *app) *cobra.Command {
	return named(&cobra.Command{
		Use:     "undrain NAME",
		Short:   "Let a head that was drained work again",
		Example: "  luna head undrain h2",
		RunE: a.do(func(ctx context.Context, s *session) error {
			if err := mustNotBeDry(s); err != nil {
				return err
			}
			return s.Undrain(ctx, s.name)
		}),
	})
}

func headReplace(a *app) *cobra.Command {
	var r api.ReplaceRequest
	c := named(&cobra.Command{
		Use:   "replace NAME --force",
		Short: "Remove a head that is lost, and print a token for the one that takes its place",
		Long: `Remove a head that is lost, and print a token with which another may join in its
place, under the same name or another one. A head that does not answer may be cut
off only, and then goes on booting the nodes that it knows: --force says that it
is off and stays so, or was wiped.`,
		Example: "  luna head replace h2 --force",
		RunE: a.do(func(ctx context.Context, s *session) error {
			if err := mustNotBeDry(s); err != nil {
				return err
			}
			i, err := s.ReplaceHead(ctx, s.name, r)
			if err != nil {
				return err
			}
			s.note("head '%s' is removed; on the one in its place: luna join ADDRESS --token TOKEN", s.name)
			_, err = fmt.Fprintln(s.stdout(), i.Token)
			return err
		}),
	})
	f := c.Flags()
	f.DurationVar(&r.TTL, "ttl", time.Hour, "how long the token is good")
	f.BoolVar(&r.Force, "force", false, "it is off for good; also where that costs the only copy of an image")
	return c
}

func headRemove(a *app) *cobra.Command {
	var force bool
	c := named(&cobra.Command{
		Use:   "remove NAME",
		Short: "Remove a head for good",
		Long: `Remove a head for good: it counts no more when the heads decide, and may come
back only by a new invitation. One that is merely down needs no removal.

It is refused where the others could then decide nothing, where the head has the
only copy of an image, and where it does not answer: it may be cut off only, and
then goes on booting the nodes that it knows. --force says that it is off and
stays so, and that the rest is known. One that works is better taken out with luna
leave on it, which waits for the nodes that boot from it.`,
		Example: "  luna head remove h3 --force",
		RunE: a.do(func(ctx context.Context, s *session) error {
			if err := mustNotBeDry(s); err != nil {
				return err
			}
			err := s.RemoveHead(ctx, s.name, force)
			if err == nil {
				s.note("head '%s' is removed, and serves nobody: `luna leave` on it makes it forget the cluster, before it may join anew", s.name)
			}
			return err
		}),
	})
	c.Flags().BoolVar(&force, "force", false, "whatever it costs")
	return c
}

func leaveCommand(a *app) *cobra.Command {
	var r api.LeaveRequest
	c := &cobra.Command{
		Use:   "leave",
		Short: "Take this head out of the mesh, in order",
		Long: `Take this head out of the mesh, in order: it is drained, loses its vote and
forgets the cluster, but for its copies of the images. Its agent goes on and may
join again. It is refused where the others could then decide nothing, or where
this head has the only copy of an image.

It waits for nodes that boot from this head as luna head drain does. When that was
too long, the head has not left, and stays drained. A head that was removed, or
that its cluster went on without, forgets that cluster at once.

This head is the one on this machine, or the one that --server names; LUNA_SERVER
does not suffice.`,
		Example: "  luna leave",
		Args:    noArgs,
		RunE: a.do(func(ctx context.Context, s *session) error {
			if err := mustNotBeDry(s); err != nil {
				return err
			}
			self, err := s.Self(ctx)
			if err != nil {
				return err
			}
			if !a.local() && (!s.given("server") || strings.Contains(a.server, ",")) {
				return refusef("head", self.Name, "'%s' stands for head '%s', which is not on this machine: if that is to leave, name it alone with --server", a.serverName(), self.Name)
			}
			p := newProgress(s.cmd.ErrOrStderr(), "leave")
			client, wait := s.drains(a, r.Wait)
			r.Wait, r.NoWait = wait, wait == 0
			err = client.Leave(ctx, self.Name, r, p.show)
			p.end()
			return s.drained(ctx, self.Name, err)
		}),
	}
	f := c.Flags()
	f.BoolVar(&r.Force, "force", false, "whatever it costs the others, and without waiting")
	f.DurationVar(&r.Wait, "wait", drainWait, "how long to wait for nodes that boot from it; 0 does not wait")
	return c
}
