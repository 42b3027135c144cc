package cli

import (
	"context"
	"maps"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/clustervision/luna/api"
)

func otherdevCommand(a *app) *cobra.Command {
	return noun("otherdev", "Whatever else has addresses: storage, PDUs, gateways", "  luna otherdev list",
		otherdevList(a), otherdevShow(a), otherdevAdd(a), otherdevChange(a), otherdevDelete(a), renameCommand(a, "otherdev"))
}

func otherdevList(a *app) *cobra.Command {
	var out output
	c := &cobra.Command{
		Use:     "list",
		Short:   "List the other devices",
		Example: "  luna otherdev list",
		Args:    noArgs,
		RunE: a.do(func(ctx context.Context, s *session) error {
			all, err := s.OtherDevs(ctx)
			if err != nil {
				return err
			}
			return out.print(s.stdout(), nonNil(all), func() *table {
				t := &table{header: []string{"Name", "IPs"}}
				for _, d := range all {
					t.add(d.Name, connectedCell(d))
				}
				return t
			})
		}),
	}
	out.list(c)
	return c
}

// connectedCell has [net]:ip for each network, in the order of their names.
func connectedCell(d api.OtherDev) any {
	var lines []string
	for _, net := range slices.Sorted(maps.Keys(d.Connected)) {
		lines = append(lines, "["+net+"]:"+d.Connected[net])
	}
	return orNil(strings.Join(lines, "\n"))
}

func otherdevShow(a *app) *cobra.Command {
	var out output
	var comment bool
	c := named(&cobra.Command{
		Use:   "show NAME",
		Short: "Show other devices",
		Long: `Show other devices. NAME may be a hostlist; for one plain name -o json gives one
object, for a hostlist an array.`,
		Example: "  luna otherdev show pdu[1-2]",
		RunE: a.do(func(ctx context.Context, s *session) error {
			chosen, err := otherdevsNamed(ctx, s)
			if err != nil {
				return err
			}
			if comment {
				for _, d := range chosen {
					if err := writeText(s.stdout(), deref(d.Comment)); err != nil {
						return err
					}
				}
				return nil
			}
			return printChosen(s, &out, chosen, otherdevTable)
		}),
	})
	out.show(c)
	c.Flags().BoolVarP(&comment, "comment", "C", false, "print the comment")
	c.MarkFlagsMutuallyExclusive("output", "raw", "comment")
	return c
}

func otherdevsNamed(ctx context.Context, s *session) ([]api.OtherDev, error) {
	all, err := s.OtherDevs(ctx)
	if err != nil {
		return nil, err
	}
	return pick(s, "otherdev", all, func(d api.OtherDev) string { return d.Name })
}

func otherdevTable(d api.OtherDev) *table {
	return showTable(d.Name, map[string]any{"connected": connectedCell(d)}, d.Comment)
}

func otherdevAdd(a *app) *cobra.Command {
	var r api.AddOtherDevs
	c := &cobra.Command{
		Use:   "add -n NAME -N NETWORK -i IP",
		Short: "Add other devices",
		Long: `Add other devices, all or none. NAME may be a hostlist: the IP of its first device
then has a + behind it, and each further one gets the next.`,
		Example: `  luna otherdev add -n storage -N cluster -i 10.30.250.1
  luna otherdev add -n pdu[1-8] -N ipmi -i 10.31.250.1+`,
		Args: noArgs,
		RunE: a.do(func(ctx context.Context, s *session) error {
			r.Names = s.name
			return s.done(s.AddOtherDevs(ctx, r))
		}),
	}
	f := c.Flags()
	f.StringP("name", "n", "", "names of the devices, a hostlist")
	f.StringVarP(&r.Network, "network", "N", "", "network that they are in")
	f.StringVarP(&r.IP, "ip", "i", "", "address there; with a + behind it that of the first one")
	required(c, "name", "network")
	return c
}

func otherdevChange(a *app) *cobra.Command {
	var r api.ChangeOtherDevs
	var comment bool
	var ed editor
	c := named(&cobra.Command{
		Use:   "change NAME",
		Short: "Change other devices, all or none",
		Long: `Change other devices, all or none. NAME may be a hostlist. A device may have one
address in each network: an IP adds it there or moves it, '' takes it away.`,
		Example: `  luna otherdev change storage -N ib -i 10.32.250.1
  luna otherdev change storage -N ib -i ''`,
		RunE: a.do(func(ctx context.Context, s *session) error {
			if comment {
				now, err := otherdevsNamed(ctx, s)
				if err != nil {
					return err
				}
				if r.Comment, err = ed.comment(ctx, s, now[0].Comment); err != nil {
					return err
				}
			}
			return s.done(s.ChangeOtherDevs(ctx, s.name, r))
		}),
	})
	f := c.Flags()
	f.StringVarP(&r.Network, "network", "N", "", "the network that the IP is of")
	f.VarP(textOption{&r.IP}, "ip", "i", "address there; with a + behind it that of the first one; '' for none any more")
	f.BoolVarP(&comment, "comment", "C", false, "edit the comment")
	ed.declare(c)
	return c
}

func otherdevDelete(a *app) *cobra.Command {
	return named(&cobra.Command{
		Use:     "delete NAME",
		Short:   "Delete other devices, all or none, and free their addresses",
		Example: "  luna otherdev delete pdu[1-2]",
		RunE:    a.do(func(ctx context.Context, s *session) error { return s.done(s.DeleteOtherDevs(ctx, s.name)) }),
	})
}
