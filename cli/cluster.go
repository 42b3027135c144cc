package cli

import (
	"context"
	"fmt"
	"net/netip"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/clustervision/luna/api"
	"github.com/clustervision/luna/inventory"
)

func clusterCommand(a *app) *cobra.Command {
	return noun("cluster", "Make the cluster, and change what stands for all of it", "  luna cluster show",
		clusterInit(a), clusterShow(a), clusterChange(a), clusterMakeDHCP(a), clusterCredential(a))
}

// parseAddr reads an address that an option gave for an object.
func parseAddr(object, name, s string) (netip.Addr, error) {
	a, err := netip.ParseAddr(s)
	if err != nil || a.Zone() != "" {
		return a, inventory.Errorf(inventory.KindInvalid, object, name, "'%s' is no IP address", s)
	}
	return a.Unmap(), nil
}

func clusterInit(a *app) *cobra.Command {
	var r api.InitRequest
	var frontend string
	c := &cobra.Command{
		Use:   "init --frontend_address ADDRESS",
		Short: "Make a cluster of this one head",
		Long: `Make a cluster of this one head: its certificate authority, its keys and the
credential of its first administrator, which is stored in ~/.luna. More heads
join with luna head invite and luna join; one alone does everything but survive
its own death.`,
		Example: "  luna cluster init --frontend_address 10.30.255.254",
		Args:    noArgs,
		RunE: a.do(func(ctx context.Context, s *session) error {
			var err error
			if r.FrontendAddress, err = parseAddr("cluster", "general", frontend); err != nil {
				return err
			}
			made, err := s.Init(ctx, r)
			if err != nil {
				return err
			}
			s.note("head '%s' is now the first of cluster %s", made.Head, made.UUID)
			file, err := keepCredential(made.UUID, made.Credential)
			if err != nil {
				s.warn("the admin credential could not be stored: %v; make another with `luna cluster credential`", err)
				return nil
			}
			s.note("the admin credential, for luna on any machine, is in %s", file)
			return nil
		}),
	}
	f := c.Flags()
	f.StringVar(&frontend, "frontend_address", "", "the address that administrators call the site by")
	f.StringVarP(&r.NodePrefix, "nodeprefix", "p", "", "how the names of nodes begin (default node)")
	f.IntVarP(&r.NodeDigits, "nodedigits", "d", 0, "how many digits the names of nodes have (default 3)")
	f.StringVar(&r.User, "user", "", "the user that owns the path (default luna)")
	f.StringVar(&r.Path, "path", "", "the cluster's directory on every head (default /opt/luna)")
	required(c, "frontend_address")
	return c
}

func clusterShow(a *app) *cobra.Command {
	var out output
	var comment bool
	c := &cobra.Command{
		Use:     "show",
		Short:   "Show the cluster's settings",
		Example: "  luna cluster show",
		Args:    noArgs,
		RunE: a.do(func(ctx context.Context, s *session) error {
			cluster, err := s.Cluster(ctx)
			if err != nil {
				return err
			}
			if comment {
				return writeText(s.stdout(), deref(cluster.Comment))
			}
			var networks []api.Network
			if out.isTable() {
				if networks, err = s.Networks(ctx); err != nil {
					return err
				}
			}
			return out.print(s.stdout(), cluster, func() *table { return clusterTable(cluster, networks) })
		}),
	}
	out.show(c)
	c.Flags().BoolVarP(&comment, "comment", "C", false, "print the comment")
	c.MarkFlagsMutuallyExclusive("raw", "comment")
	return c
}

func clusterTable(c api.Cluster, networks []api.Network) *table {
	var nets, starts, ends []string
	for _, n := range served(networks) {
		nets, starts, ends = append(nets, "["+n.Name+"]"), append(starts, n.RangeStart), append(ends, n.RangeEnd)
	}
	lines := func(l []string) any { return orNil(strings.Join(l, "\n")) }
	return showTable(nil, map[string]any{
		"dhcp_net": lines(nets), "dhcp_range_start": lines(starts), "dhcp_range_end": lines(ends),
		"frontend_address": c.FrontendAddress, "frontend_port": c.FrontendPort,
		"nodedigits": c.NodeDigits, "nodeprefix": c.NodePrefix, "path": c.Path, "user": c.User,
		"replicas": c.Replicas, "seed_seconds": c.SeedSeconds, "uuid": c.UUID,
	}, c.Comment)
}

// served gives the networks that have DHCP.
func served(networks []api.Network) []api.Network {
	var with []api.Network
	for _, n := range networks {
		if n.RangeStart != "" {
			with = append(with, n)
		}
	}
	return with
}

func clusterChange(a *app) *cobra.Command {
	var prefix, user, path, frontend string
	var digits, port, replicas, seed int
	var comment bool
	var ed editor
	c := &cobra.Command{
		Use:     "change",
		Short:   "Change the cluster's settings",
		Example: "  luna cluster change --nodeprefix gpu --nodedigits 4",
		Args:    noArgs,
		RunE: a.do(func(ctx context.Context, s *session) error {
			change := inventory.ChangeCluster{
				NodePrefix: ifGiven(s, "nodeprefix", prefix), NodeDigits: ifGiven(s, "nodedigits", digits),
				User: ifGiven(s, "user", user), Path: ifGiven(s, "path", path),
				FrontendPort: ifGiven(s, "frontend_port", port),
				Replicas:     ifGiven(s, "replicas", replicas), SeedSeconds: ifGiven(s, "seed_seconds", seed),
			}
			if s.given("frontend_address") {
				addr, err := parseAddr("cluster", "general", frontend)
				if err != nil {
					return err
				}
				change.FrontendAddress = &addr
			}
			if comment {
				now, err := s.Cluster(ctx)
				if err != nil {
					return err
				}
				text, err := ed.edit(ctx, s, deref(now.Comment), "comment")
				if err != nil {
					return err
				}
				change.Comment = &text
			}
			return s.change(ctx, change)
		}),
	}
	f := c.Flags()
	f.StringVarP(&prefix, "nodeprefix", "p", "", "how the names of nodes begin")
	f.IntVarP(&digits, "nodedigits", "d", 0, "how many digits the names of nodes have")
	f.StringVar(&user, "user", "", "the user that owns the path")
	f.StringVar(&path, "path", "", "the cluster's directory on every head")
	f.StringVar(&frontend, "frontend_address", "", "the address that administrators call the site by")
	f.IntVar(&port, "frontend_port", 0, "TCP port on which the heads serve nodes")
	f.IntVar(&replicas, "replicas", 0, "how many heads must hold an image version before nodes boot it")
	f.IntVar(&seed, "seed_seconds", 0, "how long a node goes on seeding before it hands over to its system")
	f.BoolVarP(&comment, "comment", "C", false, "edit the comment")
	modern(c, "replicas", "seed_seconds")
	ed.declare(c)
	return c
}

func clusterMakeDHCP(a *app) *cobra.Command {
	var network, start, end string
	var off bool
	var out output
	c := &cobra.Command{
		Use:   "makedhcp [-N NETWORK -s FIRST -e LAST]",
		Short: "Serve DHCP on a network, with a range for unknown machines",
		Long: `Serve DHCP on a network, with a range from which unknown machines get their
addresses. It takes effect at once; there is nothing to regenerate. Without a
range it reports what is served. A network has one range at most, and any number
of networks may have one.`,
		Example: `  luna cluster makedhcp -N cluster -s 10.30.128.1 -e 10.30.140.255
  luna cluster makedhcp --off -N cluster`,
		Args: noArgs,
		RunE: a.do(func(ctx context.Context, s *session) error {
			if err := setRange(ctx, s, network, start, end, off); err != nil {
				return err
			}
			all, err := s.Networks(ctx)
			if err != nil {
				return err
			}
			with := served(all)
			if len(with) == 0 && !off {
				return refusef("cluster", "general", "Network range should be specified: no network has DHCP yet; give --network, --start_ip and --end_ip")
			}
			return out.print(s.stdout(), nonNil(with), func() *table { return dhcpTable(with) })
		}),
	}
	f := c.Flags()
	f.StringVarP(&network, "network", "N", "", "name of the network")
	f.StringVarP(&start, "start_ip", "s", "", "first address of the range")
	f.StringVarP(&end, "end_ip", "e", "", "last address of the range")
	f.BoolVar(&off, "off", false, "serve DHCP on the network no more")
	modern(c, "off")
	out.list(c)
	c.MarkFlagsMutuallyExclusive("off", "start_ip")
	c.MarkFlagsMutuallyExclusive("off", "end_ip")
	return c
}

func setRange(ctx context.Context, s *session, network, start, end string, off bool) error {
	ranged := s.given("start_ip") || s.given("end_ip")
	switch {
	case off && network == "", ranged && network == "":
		return refusef("cluster", "general", "Network should be specified: give --network")
	case off:
		return s.change(ctx, inventory.SetRange{Network: network})
	case network == "":
		return nil
	case start == "" || end == "":
		return refusef("cluster", "general", "Network range should be specified: give --start_ip and --end_ip")
	}
	first, err := parseAddr("cluster", "general", start)
	if err != nil {
		return err
	}
	last, err := parseAddr("cluster", "general", end)
	if err != nil {
		return err
	}
	if last.Less(first) {
		return refusef("cluster", "general", "Wrong range definition: %s comes after %s", first, last)
	}
	if err := s.change(ctx, inventory.SetRange{Network: network, Range: inventory.AddrRange{Start: first, End: last}}); err != nil {
		return err
	}
	return awaitHolder(ctx, s, network)
}

// awaitHolder gives the heads a moment to agree who answers DHCP, so that the
// report that follows says it.
func awaitHolder(ctx context.Context, s *session, network string) error {
	ctx, cancel := context.WithTimeout(ctx, 2*time.Second)
	defer cancel()
	again := time.NewTicker(50 * time.Millisecond)
	defer again.Stop()
	for {
		if n, err := s.Network(ctx, network); ctx.Err() == nil && (err != nil || n.DHCPHolder != "") {
			return err
		}
		select {
		case <-ctx.Done():
			return nil // the report shows that nobody does
		case <-again.C:
		}
	}
}

func dhcpTable(networks []api.Network) *table {
	t := &table{header: []string{"Network", "Range", "Holder", "Leases"}}
	for _, n := range networks {
		holder := n.DHCPHolder
		if holder == "" {
			holder = "-"
		}
		t.add(n.Name, n.RangeStart+"-"+n.RangeEnd, holder, n.Leases)
	}
	return t
}

func clusterCredential(a *app) *cobra.Command {
	c := named(&cobra.Command{
		Use:   "credential [NAME]",
		Short: "Print a new admin credential",
		Long: `Print a new admin credential, by which luna on another machine talks to the heads
over https. It is for NAME, as logs shall call its owner. The private key is in
it: keep it in ~/.luna, mode 0600. Only root on a head may make one.`,
		Example: "  luna cluster credential alice > alice.pem",
		RunE: a.do(func(ctx context.Context, s *session) error {
			name := s.name
			if name == "" {
				name = "admin"
			}
			credential, err := s.Credential(ctx, name)
			if err != nil {
				return err
			}
			_, err = fmt.Fprint(s.stdout(), credential)
			return err
		}),
	})
	c.Args = cobra.MaximumNArgs(1)
	return c
}
