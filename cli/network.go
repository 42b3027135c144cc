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
	var comment, reserved, all bool
	c := named(&cobra.Command{
		Use:   "show NAME",
		Short: "Show a network, or who has its addresses",
		Example: `  luna network show cluster
  luna network show cluster --all
  luna network show cluster -r`,
		RunE: a.do(func(ctx context.Context, s *session) error {
			n, err := s.Network(ctx, s.name)
			switch {
			case err != nil:
				return err
			case comment:
				return writeText(s.stdout(), deref(n.Comment))
			case reserved:
				return printOwners(ctx, s, n)
			}
			return out.print(s.stdout(), n, func() *table { return networkTable(n, all) })
		}),
	})
	out.show(c)
	f := c.Flags()
	f.BoolVarP(&all, "all", "a", false, "also what 1.2 did not have: the DHCP range, who answers there, how many leases are out")
	modern(c, "all")
	f.BoolVarP(&reserved, "reservedips", "r", false, "print who has which address, as IP:name; a reserved address has no name")
	f.BoolVarP(&comment, "comment", "C", false, "print the comment")
	c.MarkFlagsMutuallyExclusive("output", "raw", "reservedips", "comment")
	return c
}

// networkTable has the rows of 1.2; with all, those of DHCP too.
func networkTable(n api.Network, all bool) *table {
	fields := map[string]any{
		"NETWORK": n.Network, "PREFIX": n.Prefix, "version": n.Version,
		"ns_hostname": orNil(n.NSHostname), "ns_ip": orNil(n.NSIP), "include": n.Include, "rev_include": n.RevInclude,
	}
	if all {
		fields["dhcp_range_start"], fields["dhcp_range_end"] = orNil(n.RangeStart), orNil(n.RangeEnd)
		fields["dhcp_holder"], fields["dhcp_leases"] = orNil(n.DHCPHolder), n.Leases
	}
	return showTable(n.Name, fields, n.Comment)
}

// printOwners prints who has which address of the network, in the order of the
// addresses.
func printOwners(ctx context.Context, s *session, n api.Network) error {
	owners, err := addressOwners(ctx, s, n)
	if err != nil {
		return err
	}
	var b strings.Builder
	for _, a := range slices.SortedFunc(maps.Keys(owners), netip.Addr.Compare) {
		fmt.Fprintf(&b, "%s:%s\n", a, owners[a])
	}
	_, err = io.WriteString(s.stdout(), b.String())
	return err
}

// addressOwners gives the name of whoever has an address in the network, "" for
// a reservation.
func addressOwners(ctx context.Context, s *session, n api.Network) (map[netip.Addr]string, error) {
	base, err := netip.ParseAddr(n.Network)
	if err != nil {
		return nil, fmt.Errorf("the head calls network '%s' %s: %w", n.Name, n.Network, err)
	}
	nodes, err := s.Nodes(ctx, "")
	if err != nil {
		return nil, err
	}
	switches, err := s.Switches(ctx)
	if err != nil {
		return nil, err
	}
	devices, err := s.OtherDevs(ctx)
	if err != nil {
		return nil, err
	}
	prefix := netip.PrefixFrom(base, n.Prefix)
	owners := map[netip.Addr]string{}
	put := func(address, name string) {
		if a, err := netip.ParseAddr(address); err == nil && prefix.Contains(a) {
			owners[a] = name
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
	for _, w := range switches {
		put(w.IP, w.Name)
	}
	for _, d := range devices {
		put(d.Connected[n.Name], d.Name)
	}
	put(n.NSIP, n.NSHostname)
	return owners, nil
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
	var change inventory.ChangeNetwork
	var base, nsIP string
	var prefix int
	var reserve, release []string
	var ed editor
	c := named(&cobra.Command{
		Use:   "change NAME",
		Short: "Change a network",
		Long: `Change a network. All that is given is changed together, or nothing is. A new
ADDRESS or PREFIX moves every address of the network with it. --release gives a
reserved address back; with --force that of a node too, which then gets the next
free one.`,
		Example: `  luna network change cluster --reserve 10.30.0.250
  luna network change cluster --include < mx-records`,
		RunE: a.do(func(ctx context.Context, s *session) error {
			change.Name = s.name
			edited, err := oneElement(s, "include", "rev_include", "comment")
			if err != nil {
				return err
			}
			if edited != "" || s.given("network") || s.given("prefix") {
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
				if err := editNetwork(ctx, s, &ed, now, edited, &change); err != nil {
					return err
				}
			}
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
	f.StringSliceVarP(&reserve, "reserve", "R", nil, "addresses that nobody shall get")
	f.StringSliceVar(&release, "release", nil, "addresses that may be given again")
	f.BoolVar(&change.Force, "force", false, "release an address that a node has")
	f.Var(textOption{&change.NSHostname}, "ns_hostname", "name of its name server")
	f.StringVar(&nsIP, "ns_ip", "", "address of its name server")
	f.Bool("include", false, "edit further lines of its forward zone")
	f.Bool("rev_include", false, "edit further lines of its reverse zone")
	f.BoolP("comment", "C", false, "edit the comment")
	modern(c, "force")
	ed.declare(c)
	return c
}

// oneElement gives the one of the options that is given, "" if none is: stdin
// holds one text.
func oneElement(s *session, options ...string) (string, error) {
	var given string
	for _, o := range options {
		switch {
		case !s.given(o):
		case given != "":
			return "", refusef("", s.name, "Only one element can be edited")
		default:
			given = o
		}
	}
	return given, nil
}

func editNetwork(ctx context.Context, s *session, ed *editor, now api.Network, element string, c *inventory.ChangeNetwork) error {
	var old *string
	var to **string
	switch element {
	case "include":
		old, to = now.Include, &c.Include
	case "rev_include":
		old, to = now.RevInclude, &c.RevInclude
	case "comment":
		old, to = now.Comment, &c.Comment
	default:
		return nil
	}
	text, err := ed.edit(ctx, s, deref(old), element)
	*to = &text
	return err
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
