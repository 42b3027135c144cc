package main

import (
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/spf13/pflag"
	"gopkg.in/yaml.v3"

	"github.com/clustervision/luna/agent"
)

// settings is the agent's configuration as people write it: each is a flag, a
// variable LUNA_* and a key of the configuration file, under one name.
type settings struct {
	agent               agent.Config
	file                string // "" is packagedFile, if it is there
	bind, level, format string
	// source tells where a setting comes from, for what is wrong with it.
	source map[string]string
}

// packagedFile is read where no other is named.
const packagedFile = "/etc/luna/agent.yaml"

func newSettings(version string) *settings {
	s := &settings{agent: agent.Defaults(), source: map[string]string{}}
	s.agent.Version = version
	return s
}

// flags makes the flags, which are the list of all settings.
func (s *settings) flags(f *pflag.FlagSet) {
	c := &s.agent
	f.StringVar(&s.file, "config", "", "configuration file (default "+packagedFile+", if it is there)")
	f.StringVar(&c.Name, "name", "", "name of this head, unique and for ever (default the machine's, up to the first dot)")
	f.StringVar(&c.DataDir, "data-dir", c.DataDir, "directory of all that the agent keeps")
	f.StringVar(&c.Socket, "socket", c.Socket, "unix socket of the local CLI")
	f.StringVar(&s.bind, "bind", "", "address to listen on, by which others reach this head (default all)")
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
	f.StringVar(&s.level, "log-level", "info", "debug, info, warn or error")
	f.StringVar(&s.format, "log-format", "text", "text or json")
}

// settle gives each flag that the command line does not set the value of its
// variable, or of its key in the file, and says all that is wrong with any of them,
// and where it stands.
func (s *settings) settle(flags *pflag.FlagSet) error {
	values, err := readConfig(flags, s.file)
	errs := []error{err}
	flags.VisitAll(func(f *pflag.Flag) {
		variable := "LUNA_" + strings.ToUpper(strings.ReplaceAll(f.Name, "-", "_"))
		v := setting{where: "variable " + variable}
		var given bool
		if v.text, given = os.LookupEnv(variable); !given {
			v, given = values[f.Name]
		}
		switch {
		case f.Changed:
			s.source[f.Name] = byFlag
		case f.Name == "config": // readConfig looks
		case given:
			s.source[f.Name] = v.where
			if flags.Set(f.Name, v.text) != nil {
				errs = append(errs, fmt.Errorf("%s: %s: '%s' is %s", v.where, f.Name, v.text, notOf[f.Value.Type()]))
				_ = f.Value.Set(f.DefValue) // it may have kept a part of it, which would be wrong again
			}
		}
	})
	return errors.Join(append(errs, s.complete())...)
}

// byFlag is the source of what the command line says.
const byFlag = "command line"

// notOf says what the value of a flag of that type is not.
var notOf = map[string]string{"int": "no number", "bool": "neither true nor false"}

// complete turns what was written into what an agent takes, and looks at it.
func (s *settings) complete() error {
	var errs []error
	c := &s.agent
	if s.bind != "" {
		var err error
		if c.Bind, err = netip.ParseAddr(s.bind); err != nil {
			errs = append(errs, s.wrong("bind", fmt.Errorf("'%s' is no IP address", s.bind)))
		}
	}
	if level(s.level) == nil {
		errs = append(errs, s.wrong("log-level", fmt.Errorf("'%s' is none of debug, info, warn, error", s.level)))
	}
	if s.format != "text" && s.format != "json" {
		errs = append(errs, s.wrong("log-format", fmt.Errorf("'%s' is none of text, json", s.format)))
	}
	for key, path := range map[string]*string{"data-dir": &c.DataDir, "socket": &c.Socket} {
		// Of a file or a variable it would mean what systemd's directory makes of it.
		if abs, err := filepath.Abs(*path); err == nil && *path != "" && s.source[key] == byFlag {
			*path = abs
		}
	}
	c.Name = cmp.Or(c.Name, shortHostname())
	c.Installer = cmp.Or(c.Installer, installer(agent.Defaults().Installer))
	for _, wrong := range c.Check() {
		errs = append(errs, s.wrong(wrong.Key, wrong.Err, wrong.Beside))
	}
	return errors.Join(errs...)
}

// wrong says where the setting stands, or where that is a default, the one that it does
// not fit.
func (s *settings) wrong(key string, err error, beside ...string) error {
	for _, written := range append([]string{key}, beside...) {
		if where := s.source[written]; where != "" {
			return fmt.Errorf("%s: %s: %w", where, key, err)
		}
	}
	return fmt.Errorf("%s: %w", key, err)
}

func shortHostname() string {
	host, _ := os.Hostname() // none: then the name must be given, which Check says
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

// setting is the value of a key, and where it stands.
type setting struct{ text, where string }

func readConfig(flags *pflag.FlagSet, file string) (map[string]setting, error) {
	file = cmp.Or(file, os.Getenv("LUNA_CONFIG"))
	asked := file != ""
	file = cmp.Or(file, packagedFile)
	b, err := os.ReadFile(file)
	if errors.Is(err, os.ErrNotExist) && !asked {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("read the configuration: %w", err)
	}
	var doc, more yaml.Node
	documents := yaml.NewDecoder(bytes.NewReader(b))
	if err := documents.Decode(&doc); err != nil && !errors.Is(err, io.EOF) {
		return nil, fmt.Errorf("%s: %w", file, err)
	}
	if err := documents.Decode(&more); err == nil {
		return nil, fmt.Errorf("%s:%d: a second document begins here, which nobody would read: take the line --- away", file, more.Line)
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
		first, twice := values[key.Value]
		switch {
		case slices.Contains([]string{"config", "check", "help"}, key.Value) || flags.Lookup(key.Value) == nil:
			errs = append(errs, fmt.Errorf("%s: unknown key '%s'", where, key.Value))
		case twice:
			errs = append(errs, fmt.Errorf("%s: '%s' was given before, in %s", where, key.Value, first.where))
		case value.Kind == yaml.ScalarNode && value.Tag != "!!null":
			values[key.Value] = setting{value.Value, where}
		case value.Kind == yaml.SequenceNode && !slices.ContainsFunc(value.Content, func(item *yaml.Node) bool { return item.Kind != yaml.ScalarNode }):
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

// level gives the level of that name, or nil.
func level(name string) *slog.Level {
	var l slog.Level
	if !slices.Contains([]string{"debug", "info", "warn", "error"}, name) || l.UnmarshalText([]byte(name)) != nil {
		return nil
	}
	return &l
}
