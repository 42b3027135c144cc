package cli

import (
	"context"
	"time"

	"github.com/spf13/cobra"

	"github.com/clustervision/luna/api"
	"github.com/clustervision/luna/inventory"
)

// How long makedhcp waits for the heads to agree who answers DHCP, so that its
// report says it.
const (
	holderDeadline = 2 * time.Second
	holderPoll     = 50 * time.Millisecond
)

// dhcpRange is the range that luna cluster makedhcp is given.
type dhcpRange struct {
	network, start, end string
	off                 bool
}

func clusterMakeDHCP(a *app) *cobra.Command {
	var r dhcpRange
	var export string
	var failover bool
	var out output
	c := &cobra.Command{
		Use:   "makedhcp [-N NETWORK -s FIRST -e LAST]",
		Short: "Serve DHCP on a network, with a range for unknown machines",
		Long: `Serve DHCP on a network, with a range from which unknown machines get their
addresses. It takes effect at once; there is nothing to regenerate. Without a
range it reports what is served. A network has one range at most, and any number
of networks may have one.

For a site that keeps ISC dhcpd, --export writes its dhcpd.conf into DIR on this
machine; with --native_dhcp_ha that of a failover pair, one file for each.`,
		Example: `  luna cluster makedhcp -N cluster -s 10.30.128.1 -e 10.30.140.255
  luna cluster makedhcp --off -N cluster
  luna cluster makedhcp --export /etc/dhcp`,
		Args: noArgs,
		RunE: a.do(func(ctx context.Context, s *session) error {
			changed, err := r.set(ctx, s)
			if err != nil {
				return err
			}
			if s.DryRun && changed {
				return nil // what was printed is what would change
			}
			if s.given("export") {
				conf, err := s.DHCPConfig(ctx, failover)
				if err != nil {
					return err
				}
				return saveExported(s, export, conf, 0o600) // there is a key in it
			}
			if failover {
				notices(s, []string{"there is nothing to do for --native_dhcp_ha: when the head that answers DHCP dies, another one takes over"})
			}
			return reportDHCP(ctx, s, &out, r.off)
		}),
	}
	f := c.Flags()
	f.StringVarP(&r.network, "network", "N", "", "name of the network")
	f.StringVarP(&r.start, "start_ip", "s", "", "first address of the range")
	f.StringVarP(&r.end, "end_ip", "e", "", "last address of the range")
	f.BoolVar(&failover, "native_dhcp_ha", false, "of 1.2: the heads take over from one another by themselves")
	f.BoolVar(&r.off, "off", false, "serve DHCP on the network no more")
	f.StringVar(&export, "export", "", "write dhcpd.conf into this directory, for ISC dhcpd")
	modern(c, "off", "export")
	out.list(c)
	c.MarkFlagsMutuallyExclusive("off", "start_ip")
	c.MarkFlagsMutuallyExclusive("off", "end_ip")
	c.MarkFlagsMutuallyExclusive("off", "export")
	c.MarkFlagsMutuallyExclusive("output", "export")
	return c
}

// set changes the range, if one is given, and tells whether one was.
func (r dhcpRange) set(ctx context.Context, s *session) (changed bool, err error) {
	ranged := s.given("start_ip") || s.given("end_ip")
	switch {
	case r.off && r.network == "", ranged && r.network == "":
		return false, refusef("cluster", "general", "Network should be specified: give --network")
	case r.off:
		return true, s.change(ctx, inventory.SetRange{Network: r.network})
	case r.network == "":
		return false, nil
	case r.start == "" || r.end == "":
		return false, refusef("cluster", "general", "Network range should be specified: give --start_ip and --end_ip")
	}
	first, err := parseAddr("cluster", "general", r.start)
	if err != nil {
		return false, err
	}
	last, err := parseAddr("cluster", "general", r.end)
	if err != nil {
		return false, err
	}
	if last.Less(first) {
		return false, refusef("cluster", "general", "Wrong range definition: %s comes after %s", first, last)
	}
	err = s.change(ctx, inventory.SetRange{Network: r.network, Range: inventory.AddrRange{Start: first, End: last}})
	if err != nil || s.DryRun {
		return true, err
	}
	// If they do not agree in time, the report shows that nobody answers.
	_, err = await(ctx, holderDeadline, holderPoll, func(ctx context.Context) (bool, error) {
		n, err := s.Network(ctx, r.network)
		return n.DHCPHolder != "", err
	})
	return true, err
}

// reportDHCP prints on which networks DHCP is served.
func reportDHCP(ctx context.Context, s *session, out *output, off bool) error {
	all, err := s.Networks(ctx)
	if err != nil {
		return err
	}
	with := []api.Network{}
	for _, n := range all {
		if n.RangeStart != "" {
			with = append(with, n)
		}
	}
	if len(with) == 0 && !off {
		return refusef("cluster", "general", "Network range should be specified: no network has DHCP yet; give --network, --start_ip and --end_ip")
	}
	for _, n := range with {
		if n.DHCPHolder == "" && !s.DryRun {
			s.warn("no head answers DHCP on network '%s' now: none that is alive has an address in it", n.Name)
		}
	}
	return out.print(s.stdout(), with, func() *table { return dhcpTable(with) })
}

func dhcpTable(networks []api.Network) *table {
	t := &table{header: []string{"Network", "Range", "Holder", "Leases"}}
	for _, n := range networks {
		t.add(n.Name, n.RangeStart+"-"+n.RangeEnd, dash(n.DHCPHolder), n.Leases)
	}
	return t
}
