package agent

import (
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"path/filepath"

	"github.com/clustervision/luna/consensus"
	"github.com/clustervision/luna/inventory"
)

// Config is what an agent must know about its machine. What is true of the
// whole cluster is in the inventory instead. Two agents share a machine when
// their Name, DataDir, Bind and Socket differ.
type Config struct {
	// Name is the head's name in the mesh: unique, and the same for ever.
	Name string
	// DataDir holds all that the agent keeps: identity, Raft, artifacts. Mode 0700.
	DataDir string
	// Socket is the path of the unix socket that the local CLI talks to, open to
	// root alone.
	Socket string
	// Bind is the address to listen on, and by which others reach this head. The
	// zero address means all of the machine's; others then reach the head at the
	// frontend address, or at the one from which it joined.
	Bind netip.Addr

	// APIPort is for people and heads (TLS), HTTPPort for nodes. 0 is any free port.
	APIPort, HTTPPort int
	// RaftPort and GossipPort are for heads. 0 is any free port.
	RaftPort, GossipPort int
	// TFTPPort and DHCPPort are 69 and 67 wherever firmware is to find them; -1
	// turns the service off.
	TFTPPort, DHCPPort int
	// SwarmPortMin and SwarmPortMax bound the ports of the swarm. 0 is any free port.
	SwarmPortMin, SwarmPortMax int

	// IPXEDirs is where the distribution keeps iPXE's loaders; empty means the
	// usual places.
	IPXEDirs []string
	// Installer is the static luna-install that goes into initrds.
	Installer string

	// Witness makes this head a voter only: it holds no images, serves no nodes and
	// has no duties. It is the third vote of a site with two heads.
	Witness bool

	// Version is what the agent says it is.
	Version string
	// Timing is that of package consensus; zero is its default.
	Timing consensus.Timing
	// Logger is slog.Default() if nil.
	Logger *slog.Logger
}

// Defaults gives the configuration of an agent that has its machine to itself.
func Defaults() Config {
	return Config{
		DataDir: "/var/lib/luna", Socket: "/run/luna/luna.sock",
		APIPort: 7051, HTTPPort: 7050, RaftPort: 8300, GossipPort: 7946,
		TFTPPort: 69, DHCPPort: 67, SwarmPortMin: 7052, SwarmPortMax: 7200,
		Installer: "/usr/lib/luna/luna-install",
	}
}

// Wrong is what is wrong with a setting, by its name in the configuration file.
type Wrong struct {
	Key string
	// Beside is another setting that does not fit it, "" where it is wrong by itself:
	// either may be what was written.
	Beside string
	Err    error
}

// Validate tells everything that is wrong with the configuration.
func (c *Config) Validate() error {
	var errs []error
	for _, w := range c.Check() {
		errs = append(errs, fmt.Errorf("%s: %w", w.Key, w.Err))
	}
	return errors.Join(errs...)
}

// Check gives everything that is wrong with the configuration.
func (c *Config) Check() (all []Wrong) {
	conflict := func(key, beside, format string, args ...any) {
		all = append(all, Wrong{key, beside, fmt.Errorf(format, args...)})
	}
	wrong := func(key, format string, args ...any) { conflict(key, "", format, args...) }
	if err := inventory.CheckName("head", c.Name); err != nil {
		wrong("name", "%v", err) // in words: it is no refusal of an object
	}
	paths := []struct{ key, path string }{{"data-dir", c.DataDir}, {"socket", c.Socket}}
	for _, p := range paths {
		if !filepath.IsAbs(p.path) {
			wrong(p.key, "must be an absolute path, not '%s'", p.path)
		}
	}
	if len(c.Socket) > 107 {
		wrong("socket", "'%s' is longer than the 107 bytes that the kernel allows", c.Socket)
	}
	taken := map[int]string{}
	for _, p := range []struct {
		key         string
		least, port int
	}{
		{"api-port", 0, c.APIPort},
		{"http-port", 0, c.HTTPPort},
		{"raft-port", 0, c.RaftPort},
		{"gossip-port", 0, c.GossipPort},
		{"tftp-port", -1, c.TFTPPort},
		{"dhcp-port", -1, c.DHCPPort},
		{"swarm-port-min", 0, c.SwarmPortMin},
		{"swarm-port-max", 0, c.SwarmPortMax},
	} {
		switch other := taken[p.port]; {
		case p.port < p.least || p.port > 65535:
			wrong(p.key, "%d is no port", p.port)
		case other != "" && p.port > 0 && p.key != "swarm-port-max":
			conflict(p.key, other, "%d is %s already", p.port, other)
		default:
			taken[p.port] = p.key
		}
	}
	if c.SwarmPortMax < c.SwarmPortMin {
		conflict("swarm-port-max", "swarm-port-min", "%d is below swarm-port-min %d", c.SwarmPortMax, c.SwarmPortMin)
	}
	return all
}
