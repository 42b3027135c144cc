package main

import (
	"cmp"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"os"
	"os/signal"
	"path/filepath"
	"slices"
	"strings"
	"syscall"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
	"gopkg.in/yaml.v3"

	"github.com/clustervision/luna/agent"
	"github.com/clustervision/luna/cli"
)

// agentCommand is `luna agent`. Every setting is a flag, a variable LUNA_* and a
// key of the configuration file, under one name; the first of these that is
// given counts.
func agentCommand(version string) *cobra.Command {
	c := agent.Defaults()
	c.Version = version
	var file, bind, level, format string
	cmd := &cobra.Command{
		Use:   "agent",
		Short: "Run the agent of this head",
		Long: `Run the agent of this head, in the foreground, until SIGTERM or SIGINT.

Every flag is also a key of the configuration file and an environment variable:
data-dir is "data-dir: /path" in the file and LUNA_DATA_DIR. A flag counts over
the variable, the variable over the file.

The configuration file is /etc/luna/agent.yaml if it is there and --config does
not name another one.`,
		Example: `  luna agent
  luna agent --name h1 --data-dir /var/lib/luna --bind 10.30.255.254`,
		Args:          cobra.NoArgs,
		SilenceUsage:  true,
		SilenceErrors: true,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := settle(cmd.LocalNonPersistentFlags(), file); err != nil {
				return err
			}
			log, err := logger(level, format)
			if err != nil {
				return err
			}
			if bind != "" {
				if c.Bind, err = netip.ParseAddr(bind); err != nil {
					return fmt.Errorf("bind: '%s' is no IP address", bind)
				}
			}
			if c.DataDir, err = filepath.Abs(c.DataDir); err != nil {
				return err
			}
			if c.Socket, err = filepath.Abs(c.Socket); err != nil {
				return err
			}
			c.Name = cmp.Or(c.Name, shortHostname())
			c.Installer = cmp.Or(c.Installer, installer(agent.Defaults().Installer))
			c.Logger = log
			return runAgent(cmd, c)
		},
	}
	f := cmd.Flags()
	f.StringVar(&file, "config", "", "configuration file (default /etc/luna/agent.yaml, if it is there)")
	f.StringVar(&c.Name, "name", "", "name of this head, unique and for ever (default the machine's, up to the first dot)")
	f.StringVar(&c.DataDir, "data-dir", c.DataDir, "directory of all that the agent keeps")
	f.StringVar(&c.Socket, "socket", c.Socket, "unix socket of the local CLI")
	f.StringVar(&bind, "bind", "", "address to listen on, by which others reach this head (default all)")
	f.IntVar(&c.APIPort, "api-port", c.APIPort, "TCP port for people and heads (TLS)")
	f.IntVar(&c.HTTPPort, "http-port", c.HTTPPort, "TCP port for nodes (HTTP)")
	f.IntVar(&c.RaftPort, "raft-port", c.RaftPort, "TCP port of raft")
	f.IntVar(&c.GossipPort, "gossip-port", c.GossipPort, "TCP and UDP port of gossip")
	f.IntVar(&c.TFTPPort, "tftp-port", c.TFTPPort, "UDP port of TFTP, -1 for none")
	f.IntVar(&c.DHCPPort, "dhcp-port", c.DHCPPort, "UDP port of DHCP, -1 for none")
	f.IntVar(&c.SwarmPortMin, "swarm-port-min", c.SwarmPortMin, "first TCP port of the swarm")
	f.IntVar(&c.SwarmPortMax, "swarm-port-max", c.SwarmPortMax, "last TCP port of the swarm")
	f.StringSliceVar(&c.IPXEDirs, "ipxe-dir", nil, "directories of iPXE's loaders (default where distributions put them)")
	f.StringVar(&c.Installer, "installer", "", "the static luna-install that goes into initrds (default the one beside this program, or "+c.Installer+")")
	f.BoolVar(&c.Witness, "witness", false, "only vote: hold no images and serve no nodes; the third vote of a site with two heads")
	f.StringVar(&level, "log-level", "info", "debug, info, warn or error")
	f.StringVar(&format, "log-format", "text", "text or json")
	return cmd
}

func shortHostname() string {
	host, _ := os.Hostname() // none: then the name must be given, which Validate says
	short, _, _ := strings.Cut(host, ".")
	return short
}

// installer is the one beside this program, as `make build` leaves it, or the
// packaged one.
func installer(packaged string) string {
	if self, err := os.Executable(); err == nil {
		beside := filepath.Join(filepath.Dir(self), "luna-install")
		if _, err := os.Stat(beside); err == nil {
			return beside
		}
	}
	return packaged
}

// settle gives each flag that the command line does not set the value of its
// variable, or of its key in the file.
func settle(flags *pflag.FlagSet, file string) error {
	values, err := readConfig(flags, file)
	if err != nil {
		return err
	}
	var errs []error
	flags.VisitAll(func(f *pflag.Flag) {
		if f.Changed || f.Name == "config" || f.Name == "help" {
			return
		}
		variable := "LUNA_" + strings.ToUpper(strings.ReplaceAll(f.Name, "-", "_"))
		if v, ok := os.LookupEnv(variable); ok {
			if err := flags.Set(f.Name, v); err != nil {
				errs = append(errs, fmt.Errorf("variable %s: %w", variable, err))
			}
			return
		}
		if v, ok := values[f.Name]; ok {
			if err := flags.Set(f.Name, v.text); err != nil {
				errs = append(errs, fmt.Errorf("%s: %w", v.where, err))
			}
		}
	})
	return errors.Join(errs...)
}

// setting is the value of a key, and where it stands.
type setting struct{ text, where string }

func readConfig(flags *pflag.FlagSet, file string) (map[string]setting, error) {
	if file == "" {
		file = os.Getenv("LUNA_CONFIG")
	}
	asked := file != ""
	if !asked {
		file = "/etc/luna/agent.yaml"
	}
	b, err := os.ReadFile(file)
	if errors.Is(err, os.ErrNotExist) && !asked {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("read the configuration: %w", err)
	}
	var doc yaml.Node
	if err := yaml.Unmarshal(b, &doc); err != nil {
		return nil, fmt.Errorf("%s: %w", file, err)
	}
	values := map[string]setting{}
	if len(doc.Content) == 0 {
		return values, nil
	}
	root := doc.Content[0]
	if root.Kind != yaml.MappingNode {
		return nil, fmt.Errorf("%s:%d: expected lines of the form \"key: value\"", file, root.Line)
	}
	var errs []error
	for i := 0; i+1 < len(root.Content); i += 2 {
		key, value := root.Content[i], root.Content[i+1]
		where := fmt.Sprintf("%s:%d", file, key.Line)
		switch {
		case key.Value == "config" || flags.Lookup(key.Value) == nil:
			errs = append(errs, fmt.Errorf("%s: unknown key '%s'", where, key.Value))
		case value.Kind == yaml.ScalarNode:
			values[key.Value] = setting{value.Value, where}
		case value.Kind == yaml.SequenceNode:
			var items []string
			for _, item := range value.Content {
				items = append(items, item.Value)
			}
			values[key.Value] = setting{strings.Join(items, ","), where}
		default:
			errs = append(errs, fmt.Errorf("%s: '%s' needs a plain value", where, key.Value))
		}
	}
	return values, errors.Join(errs...)
}

func logger(level, format string) (*slog.Logger, error) {
	var l slog.Level
	if !slices.Contains([]string{"debug", "info", "warn", "error"}, level) || l.UnmarshalText([]byte(level)) != nil {
		return nil, fmt.Errorf("log-level: '%s' is none of debug, info, warn, error", level)
	}
	o := &slog.HandlerOptions{Level: l}
	switch format {
	case "text":
		return slog.New(slog.NewTextHandler(os.Stderr, o)), nil
	case "json":
		return slog.New(slog.NewJSONHandler(os.Stderr, o)), nil
	}
	return nil, fmt.Errorf("log-format: '%s' is none of text, json", format)
}

// exitConfig says that the agent will not start until a person has acted
// (EX_CONFIG of sysexits.h): starting it again and again would only hide that.
const exitConfig = 78

func runAgent(cmd *cobra.Command, c agent.Config) error {
	ctx, stop := signal.NotifyContext(cmd.Context(), syscall.SIGTERM, syscall.SIGINT)
	defer stop()
	a, err := agent.New(c)
	if errors.Is(err, agent.ErrDamaged) {
		return cli.Exit(exitConfig, err)
	}
	if err != nil {
		return err
	}
	return a.Run(ctx)
}
