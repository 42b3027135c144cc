package cli

import (
	"context"

	"github.com/spf13/cobra"

	"github.com/clustervision/luna/api"
	"github.com/clustervision/luna/inventory"
)

func switchCommand(a *app) *cobra.Command {
	return noun("switch", "The switches that tell which node is on which port", "  luna switch list",
		switchList(a), switchShow(a), switchAdd(a), switchChange(a), switchDelete(a), renameCommand(a, "switch"))
}

func switchList(a *app) *cobra.Command {
	var out output
	c := &cobra.Command{
		Use:     "list",
		Short:   "List the switches",
		Example: "  luna switch list",
		Args:    noArgs,
		RunE: a.do(func(ctx context.Context, s *session) error {
			all, err := s.Switches(ctx)
			if err != nil {
				return err
			}
			return out.print(s.stdout(), nonNil(all), func() *table {
				t := &table{header: []string{"Name", "IP"}}
				for _, w := range all {
					t.add(w.Name, w.IP)
				}
				return t
			})
		}),
	}
	out.list(c)
	return c
}

func switchShow(a *app) *cobra.Command {
	var out output
	var comment bool
	c := named(&cobra.Command{
		Use:   "show NAME",
		Short: "Show switches",
		Long: `Show switches. NAME may be a hostlist; for one plain name -o json gives one object,
for a hostlist an array.`,
		Example: "  luna switch show switch[01-02]",
		RunE: a.do(func(ctx context.Context, s *session) error {
			chosen, err := switchesNamed(ctx, s)
			if err != nil {
				return err
			}
			if comment {
				for _, w := range chosen {
					if err := writeText(s.stdout(), deref(w.Comment)); err != nil {
						return err
					}
				}
				return nil
			}
			return printChosen(s, &out, chosen, switchTable)
		}),
	})
	out.show(c)
	c.Flags().BoolVarP(&comment, "comment", "C", false, "print the comment")
	c.MarkFlagsMutuallyExclusive("output", "raw", "comment")
	return c
}

func switchesNamed(ctx context.Context, s *session) ([]api.Switch, error) {
	all, err := s.Switches(ctx)
	if err != nil {
		return nil, err
	}
	return pick(s, "switch", all, func(w api.Switch) string { return w.Name })
}

func switchTable(w api.Switch) *table {
	return showTable(w.Name, map[string]any{
		"ip": w.IP, "network": ref(w.Network), "oid": w.OID, "read": w.Read, "rw": w.RW,
	}, w.Comment)
}

func switchAdd(a *app) *cobra.Command {
	var r api.AddSwitches
	c := &cobra.Command{
		Use:   "add -n NAME -N NETWORK -i IP",
		Short: "Add switches",
		Long: `Add switches, all or none. NAME may be a hostlist: the IP of its first switch then
has a + behind it, and each further switch gets the next one.`,
		Example: `  luna switch add -n switch01 -N ipmi -i 10.31.253.21
  luna switch add -n switch[01-04] -N ipmi -i 10.31.253.21+`,
		Args: noArgs,
		RunE: a.do(func(ctx context.Context, s *session) error {
			if r.Names = s.name; r.IP == "" {
				return inventory.Errorf(inventory.KindInvalid, "switch", s.name, "IP needs to be specified")
			}
			return s.done(s.AddSwitches(ctx, r))
		}),
	}
	f := c.Flags()
	f.StringP("name", "n", "", "names of the switches, a hostlist")
	f.StringVarP(&r.Network, "network", "N", "", "network that they are in")
	f.StringVarP(&r.IP, "ip", "i", "", "address; with a + behind it that of the first one")
	f.VarP(textOption{&r.Read}, "read", "r", "SNMP community to read with (default public)")
	f.VarP(textOption{&r.RW}, "rw", "w", "SNMP community to write with (default private)")
	f.VarP(textOption{&r.OID}, "oid", "o", "OID of the table of hardware addresses (default "+inventory.DefaultSwitchOID+")")
	required(c, "name", "network", "ip")
	return c
}

func switchChange(a *app) *cobra.Command {
	var r api.ChangeSwitches
	var comment bool
	var ed editor
	c := named(&cobra.Command{
		Use:   "change NAME",
		Short: "Change switches, all or none",
		Long: `Change switches, all or none. NAME may be a hostlist. In another network a switch
keeps its place, unless an IP is given too.`,
		Example: `  luna switch change switch01 -i 10.31.253.22
  luna switch change switch[01-04] -r secret`,
		RunE: a.do(func(ctx context.Context, s *session) error {
			if comment {
				now, err := switchesNamed(ctx, s)
				if err != nil {
					return err
				}
				if r.Comment, err = ed.comment(ctx, s, now[0].Comment); err != nil {
					return err
				}
			}
			return s.done(s.ChangeSwitches(ctx, s.name, r))
		}),
	})
	f := c.Flags()
	f.VarP(textOption{&r.Network}, "network", "N", "network that they are in")
	f.VarP(textOption{&r.IP}, "ip", "i", "address; with a + behind it that of the first one")
	f.VarP(textOption{&r.Read}, "read", "r", "SNMP community to read with")
	f.VarP(textOption{&r.RW}, "rw", "w", "SNMP community to write with")
	f.VarP(textOption{&r.OID}, "oid", "o", "OID of the table of hardware addresses")
	f.BoolVarP(&comment, "comment", "C", false, "edit the comment")
	ed.declare(c)
	return c
}

func switchDelete(a *app) *cobra.Command {
	return named(&cobra.Command{
		Use:     "delete NAME",
		Short:   "Delete switches that no node is on, all or none",
		Example: "  luna switch delete switch[01-02]",
		RunE:    a.do(func(ctx context.Context, s *session) error { return s.done(s.DeleteSwitches(ctx, s.name)) }),
	})
}

// sighting is a hardware address that a switch saw on a port.
type sighting struct {
	Switch   string `json:"switch"`
	Port     int    `json:"port"`
	PortName string `json:"portname"`
	MAC      string `json:"mac"`
	ConfPort bool   `json:"confport"` // the node with that address is configured for that port
	Node     string `json:"node"`
}

func clusterListMACs(a *app) *cobra.Command {
	var out output
	c := &cobra.Command{
		Use:     "listmacs",
		Short:   "List the hardware addresses that the switches saw, by switch and port",
		Example: "  luna cluster listmacs",
		Args:    noArgs,
		RunE: a.do(func(ctx context.Context, s *session) error {
			switches, err := s.Switches(ctx)
			if err != nil {
				return err
			}
			if len(switches) == 0 {
				return refusef("cluster", "general", "no switch is configured: add one with luna switch add")
			}
			notices(s, []string{"no head polls switches yet: there is nothing to list"})
			seen := []sighting{}
			return out.print(s.stdout(), seen, func() *table { return sightingsTable(seen) })
		}),
	}
	out.list(c)
	return c
}

func sightingsTable(seen []sighting) *table {
	t := &table{header: []string{"Switch", "Port", "Portname", "MAC", "Confport", "Node"}}
	for _, m := range seen {
		t.add(m.Switch, m.Port, m.PortName, m.MAC, m.ConfPort, dash(m.Node))
	}
	return t
}
