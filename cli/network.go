package cli

import (
	"context"
	"fmt"
	"io"
	"maps"
	"net/netip"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/clustervision/luna/api"
	"github.com/clustervision/luna/inventory"
)

func networkCommand(a *app) *cobra.Command {
	return noun("network", "The networks that nodes are in", "  luna network list",
		networkList(a), networkShow(a), networkAdd(a), networkChange(a), deleteCommand(a, "network"), renameCommand(a, "network"))
}

func networkList(a *app) *cobra.Command {
	var out output
	c := &cobra.Command{
		Use:     "list",
		Short:   "List the networks",
		Example: "  luna network list",
		Args:    noArgs,
		RunE: a.do(func(ctx context.Context, s *session) error {
			all, err := s.Networks(ctx)
			if err != nil {
				return err
			}
			return out.print(s.stdout(), nonNil(all), func() *table {
				t := &table{header: []string{"Name", "Network"}}
				for _, n := range all {
					t.add(n.Name, fmt.Sprintf("%s/%d", n.Network, n.Prefix))
				}
				return t
			})
		}),
	}
	out.list(c)
	return c
}

func networkShow(a *app) *cobra.Command {
	var out output
	var comment, reserved bool
	c := named(&cobra.Command{
		Use:     "show NAME",
		Short:   "Show a network",
		Example: "  luna network show cluster",
		RunE: a.do(func(ctx context.Context, s *session) error {
			n, err := s.Network(ctx, s.name)
			switch {
			case err != nil:
				return err
			case comment:
				return writeText(s.stdout(), deref(n.Comment))
			case reserved:
				return printAddresses(ctx, s, n)
			}
			return out.print(s.stdout(), n, func() *table { return networkTable(n) })
		}),
	})
	out.show(c)
	f := c.Flags()
	f.BoolVarP(&reserved, "reservedips", "r", false, "print who has which address, as IP:name; a reserved address has no name")
	f.BoolVarP(&comment, "comment", "C", false, "print the comment")
	c.MarkFlagsMutuallyExclusive("raw", "reservedips", "comment")
	return c
}

// networkTable has the rows of 1.2, and more where the network has DHCP.
func networkTable(n api.Network) *table {
	fields := map[string]any{
		"NETWORK": n.Network, "PREFIX": n.Prefix, "version": n.Version,
		"ns_hostname": n.NSHostname, "ns_ip": n.NSIP, "include": nil, "rev_include": nil,
	}
	if n.RangeStart != "" {
		fields["dhcp_range_start"], fields["dhcp_range_end"] = n.RangeStart, n.RangeEnd
		fields["dhcp_holder"], fields["dhcp_leases"] = orNil(n.DHCPHolder), n.Leases
	}
	return showTable(n.Name, fields, n.Comment)
}

// printAddresses prints who has which address of the network, in the order of
// the addresses.
func printAddresses(ctx context.Context, s *session, n api.Network) error {
	nodes, err := s.Nodes(ctx, "")
	if err != nil {
		return err
	}
	base, err := netip.ParseAddr(n.Network)
	if err != nil {
		return fmt.Errorf("the head calls network '%s' %s: %w", n.Name, n.Network, err)
	}
	prefix := netip.PrefixFrom(base, n.Prefix)
	names := map[netip.Addr]string{}
	put := func(address, name string) {
		if a, err := netip.ParseAddr(address); err == nil && prefix.Contains(a) {
			names[a] = name
		}
	}
	for _, a := range n.Reserved {
		put(a, "")
	}
	for _, node := range nodes {
		for _, a := range node.Interfaces {
			put(a.V4, node.Name)
			put(a.V6, node.Name)
		}
	}
	put(n.NSIP, n.NSHostname)
	var b strings.Builder
	for _, a := range slices.SortedFunc(maps.Keys(names), netip.Addr.Compare) {
		fmt.Fprintf(&b, "%s:%s\n", a, names[a])
	}
	_, err = io.WriteString(s.stdout(), b.String())
	return err
}

func networkAdd(a *app) *cobra.Command {
	var add inventory.AddNetwork
	var base, nsIP string
	var prefix int
	c := &cobra.Command{
		Use:     "add -n NAME -N ADDRESS -P PREFIX",
		Short:   "Add a network",
		Example: "  luna network add -n cluster -N 10.30.0.0 -P 16",
		Args:    noArgs,
		RunE: a.do(func(ctx context.Context, s *session) error {
			add.Name = s.name
			addr, err := parseAddr("network", s.name, base)
			if err != nil {
				return err
			}
			if add.Prefix, err = makePrefix(s.name, addr, prefix); err != nil {
				return err
			}
			if nsIP != "" {
				if add.NSIP, err = parseAddr("network", s.name, nsIP); err != nil {
					return err
				}
			}
			return s.change(ctx, add)
		}),
	}
	f := c.Flags()
	f.StringP("name", "n", "", "name of the network; it is also the name of its DNS zone")
	f.StringVarP(&base, "network", "N", "", "any address of the network")
	f.IntVarP(&prefix, "prefix", "P", 0, "length of the network's prefix")
	f.StringVar(&add.NSHostname, "ns_hostname", "", "name of its name server")
	f.StringVar(&nsIP, "ns_ip", "", "address of its name server (default the last of the network)")
	required(c, "name", "network", "prefix")
	return c
}

// makePrefix refuses what is no network before it is a netip.Prefix, which
// cannot hold a wrong length.
func makePrefix(name string, a netip.Addr, bits int) (netip.Prefix, error) {
	top := 30
	if a.Is6() {
		top = 126
	}
	if bits < 1 || bits > top {
		return netip.Prefix{}, inventory.Errorf(inventory.KindInvalid, "network", name, "Prefix should be in the range [1..%d]", top)
	}
	return netip.PrefixFrom(a, bits).Masked(), nil
}

func networkChange(a *app) *cobra.Command {
	var base, hostname, nsIP string
	var prefix int
	var reserve, release []string
	var comment bool
	var ed editor
	c := named(&cobra.Command{
		Use:   "change NAME",
		Short: "Change a network",
		Long: `Change a network. All that is given is changed together, or nothing is. A new
ADDRESS or PREFIX moves every address of the network with it.`,
		Example: "  luna network change cluster --reserve 10.30.0.250",
		RunE: a.do(func(ctx context.Context, s *session) error {
			change := inventory.ChangeNetwork{Name: s.name, NSHostname: ifGiven(s, "ns_hostname", hostname)}
			if s.given("network") || s.given("prefix") || comment {
				now, err := s.Network(ctx, s.name)
				if err != nil {
					return err
				}
				if s.given("network") || s.given("prefix") {
					moved, err := movedPrefix(s, now, base, prefix)
					if err != nil {
						return err
					}
					change.Prefix = &moved
				}
				if comment {
					text, err := ed.edit(ctx, s, deref(now.Comment), "comment")
					if err != nil {
						return err
					}
					change.Comment = &text
				}
			}
			var err error
			if s.given("ns_ip") {
				addr, err := parseAddr("network", s.name, nsIP)
				if err != nil {
					return err
				}
				change.NSIP = &addr
			}
			if change.Reserve, err = parseAddrs(s.name, reserve); err != nil {
				return err
			}
			if change.Release, err = parseAddrs(s.name, release); err != nil {
				return err
			}
			return s.change(ctx, change)
		}),
	})
	f := c.Flags()
	f.StringVarP(&base, "network", "N", "", "any address of the network")
	f.IntVarP(&prefix, "prefix", "P", 0, "length of the network's prefix")
	f.StringSliceVarP(&reserve, "reserve", "R", nil, "addresses that no node shall get")
	f.StringSliceVar(&release, "release", nil, "addresses that nodes may get again")
	f.StringVar(&hostname, "ns_hostname", "", "name of its name server")
	f.StringVar(&nsIP, "ns_ip", "", "address of its name server")
	f.BoolVarP(&comment, "comment", "C", false, "edit the comment")
	ed.declare(c)
	return c
}

// movedPrefix combines what is given with what is.
func movedPrefix(s *session, now api.Network, base string, bits int) (netip.Prefix, error) {
	if !s.given("network") {
		base = now.Network
	}
	if !s.given("prefix") {
		bits = now.Prefix
	}
	addr, err := parseAddr("network", s.name, base)
	if err != nil {
		return netip.Prefix{}, err
	}
	return makePrefix(s.name, addr, bits)
}

func parseAddrs(network string, list []string) ([]netip.Addr, error) {
	var addrs []netip.Addr
	for _, l := range list {
		a, err := parseAddr("network", network, l)
		if err != nil {
			return nil, err
		}
		addrs = append(addrs, a)
	}
	return addrs, nil
}
