package cli

import (
	"context"
	"fmt"
	"net/netip"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/clustervision/luna/api"
	"github.com/clustervision/luna/inventory"
)

func clusterCommand(a *app) *cobra.Command {
	return noun("cluster", "Make the cluster, and change what stands for all of it", "  luna cluster show",
		clusterInit(a), clusterShow(a), clusterChange(a), clusterSync(a), clusterMakeDHCP(a), clusterMakeDNS(a),
		clusterListMACs(a), clusterImport(a), clusterDelete(a), clusterCredential(a),
		clusterStatus(a), clusterSafe(a), clusterBackup(a), clusterRestore(a), clusterRecover(a))
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
			// The request calls a default by the zero value, so a zero is refused here.
			given := inventory.ChangeCluster{
				NodePrefix: ifGiven(s, "nodeprefix", r.NodePrefix), NodeDigits: ifGiven(s, "nodedigits", r.NodeDigits), Path: ifGiven(s, "path", r.Path),
			}
			if err := given.Validate(); err != nil {
				return err
			}
			made, err := s.Init(ctx, r)
			if err != nil {
				return err
			}
			s.note("head '%s' is now the first of cluster %s", made.Head, made.UUID)
			s.keepCredential(made.UUID, made.Credential)
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
			return out.print(s.stdout(), cluster, func() *table { return clusterTable(cluster) })
		}),
	}
	out.show(c)
	c.Flags().BoolVarP(&comment, "comment", "C", false, "print the comment")
	c.MarkFlagsMutuallyExclusive("output", "raw", "comment")
	return c
}

// What a cluster has unless it was told otherwise. 1.2 had no such settings, so
// they have rows of their own only where they say something.
const (
	usualReplicas    = 2
	usualSeedSeconds = 10
)

// clusterTable has the rows of 1.2. Of several networks with DHCP each has its
// line.
func clusterTable(c api.Cluster) *table {
	var nets, starts, ends []string
	for _, d := range c.DHCP {
		nets, starts, ends = append(nets, "["+d.Network+"]"), append(starts, d.Start.String()), append(ends, d.End.String())
	}
	lines := func(l []string) any { return orNil(strings.Join(l, "\n")) }
	fields := map[string]any{
		"debug":      0, // of 1.2's daemons; an agent's is its own
		"nodeprefix": c.NodePrefix, "nodedigits": c.NodeDigits, "user": c.User, "path": c.Path,
		"frontend_address": c.FrontendAddress, "frontend_port": c.FrontendPort, "frontend_https": c.FrontendHTTPS,
		"server_port": c.ServerPort, "tracker_interval": c.TrackerInterval, "tracker_min_interval": c.TrackerMinInterval,
		"tracker_maxpeers": c.TrackerMaxPeers, "torrent_listen_port_min": c.TorrentListenPortMin,
		"torrent_listen_port_max": c.TorrentListenPortMax, "torrent_pidfile": c.TorrentPidfile,
		"lweb_pidfile": c.LwebPidfile, "lweb_num_proc": c.LwebNumProc, "cluster_ips": c.ClusterIPs,
		"named_include_file": c.NamedIncludeFile, "named_zone_dir": c.NamedZoneDir,
		"dhcp_net": lines(nets), "dhcp_range_start": lines(starts), "dhcp_range_end": lines(ends),
	}
	if c.Replicas != usualReplicas {
		fields["replicas"] = c.Replicas
	}
	if c.SeedSeconds != usualSeedSeconds {
		fields["seed_seconds"] = c.SeedSeconds
	}
	return showTable(nil, fields, c.Comment)
}

func clusterChange(a *app) *cobra.Command {
	var change inventory.ChangeCluster
	var frontend string
	var https, comment bool
	var ed editor
	c := &cobra.Command{
		Use:   "change",
		Short: "Change the cluster's settings",
		Long: `Change the cluster's settings. All that is given is changed together, or nothing
is. '' unsets a text that may be unset.`,
		Example: "  luna cluster change --nodeprefix gpu --nodedigits 4",
		Args:    noArgs,
		RunE: a.do(func(ctx context.Context, s *session) error {
			if s.given("frontend_address") {
				addr, err := parseAddr("cluster", "general", frontend)
				if err != nil {
					return err
				}
				change.FrontendAddress = &addr
			}
			change.FrontendHTTPS = ifGiven(s, "frontend_https", https)
			if comment {
				now, err := s.Cluster(ctx)
				if err != nil {
					return err
				}
				if change.Comment, err = ed.comment(ctx, s, now.Comment); err != nil {
					return err
				}
			}
			return s.change(ctx, change)
		}),
	}
	f := c.Flags()
	f.StringVar(&frontend, "frontend_address", "", "the address that administrators call the site by")
	f.Var(yesNo{&https}, "frontend_https", "nodes fetch what they boot over https")
	f.BoolVarP(&comment, "comment", "C", false, "edit the comment")
	clusterSettings(f, &change)
	modern(c, "replicas", "seed_seconds")
	ed.declare(c)
	return c
}

// clusterSettings declares the settings that are taken as they stand.
func clusterSettings(f *pflag.FlagSet, c *inventory.ChangeCluster) {
	f.VarP(textOption{&c.NodePrefix}, "nodeprefix", "p", "how the names of nodes begin")
	f.VarP(numberOption{&c.NodeDigits}, "nodedigits", "d", "how many digits the names of nodes have")
	f.Var(textOption{&c.User}, "user", "the user that owns the path")
	f.Var(textOption{&c.Path}, "path", "the cluster's directory on every head")
	f.Var(numberOption{&c.FrontendPort}, "frontend_port", "TCP port on which the heads serve nodes")
	f.Var(numberOption{&c.ServerPort}, "server_port", "of 1.2's lweb: kept; an agent's is in its own configuration")
	f.Var(numberOption{&c.TrackerInterval}, "tracker_interval", "seconds between two announces of a peer")
	f.Var(numberOption{&c.TrackerMinInterval}, "tracker_min_interval", "seconds that a peer waits at least")
	f.Var(numberOption{&c.TrackerMaxPeers}, "tracker_maxpeers", "how many peers one answer names at most")
	f.Var(numberOption{&c.TorrentListenPortMin}, "torrent_listen_port_min", "of 1.2's ltorrent: kept; an agent's is in its own configuration")
	f.Var(numberOption{&c.TorrentListenPortMax}, "torrent_listen_port_max", "of 1.2's ltorrent: kept; an agent's is in its own configuration")
	f.Var(textOption{&c.TorrentPidfile}, "torrent_pidfile", "of 1.2's ltorrent: kept, and obeyed by nobody")
	f.Var(numberOption{&c.LwebNumProc}, "lweb_num_proc", "of 1.2's lweb: kept, and obeyed by nobody")
	f.Var(textOption{&c.LwebPidfile}, "lweb_pidfile", "of 1.2's lweb: kept, and obeyed by nobody")
	f.Var(textOption{&c.ClusterIPs}, "cluster_ips", "of 1.2's two heads, A,B: read by makedhcp --export --native_dhcp_ha alone")
	f.Var(textOption{&c.NamedIncludeFile}, "named_include_file", "where makedns writes what named.conf includes")
	f.Var(textOption{&c.NamedZoneDir}, "named_zone_dir", "where makedns writes the zones")
	f.Var(numberOption{&c.Replicas}, "replicas", "how many heads must hold an image version before nodes boot it")
	f.Var(numberOption{&c.SeedSeconds}, "seed_seconds", "how long a node goes on seeding before it hands over to its system")
}

func clusterDelete(a *app) *cobra.Command {
	var force bool
	c := &cobra.Command{
		Use:   "delete",
		Short: "Delete the cluster, if nothing is left in it",
		Long: `Delete the cluster, if nothing is left in it, or with all that is in it. The heads
stay a mesh: luna cluster init on any of them makes a cluster anew. Trees of
osimages stay where they are.`,
		Example: "  luna cluster delete --force",
		Args:    noArgs,
		RunE: a.do(func(ctx context.Context, s *session) error {
			return s.change(ctx, inventory.DeleteCluster{Force: force})
		}),
	}
	c.Flags().BoolVar(&force, "force", false, "delete all that is in it too")
	return c
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
