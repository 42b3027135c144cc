// Package site is a mesh of heads in a lab, driven as an administrator drives
// it: by the luna program alone. The black-box tests and the demo are written
// with it.
package site

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/clustervision/luna/test/lab"
)

// Network is the site's provisioning network; heads have its last addresses.
var Network = netip.MustParsePrefix("10.30.0.0/16")

// Site is a number of heads with running agents.
type Site struct {
	Lab   *lab.Lab
	Bin   string // the directory of luna and luna-install
	Heads []*Head
}

// Head is a host with an agent.
type Head struct {
	*lab.Host
	Name  string
	Addr  netip.Addr
	Agent *lab.Process
	// Bin is the directory of its programs; "" is the site's. With another one it
	// runs another release.
	Bin string
	// Around is put before the agent's command line: what changes its world, such
	// as unshare(1).
	Around []string
	site   *Site
}

// Bin is where make build leaves the programs, seen from a package below the
// root of the module.
func Bin() (string, error) {
	dir, err := os.Getwd()
	for err == nil {
		if _, err := os.Stat(filepath.Join(dir, "go.mod")); err == nil {
			break
		}
		if dir == filepath.Dir(dir) {
			return "", errors.New("this is not inside Luna's source")
		}
		dir = filepath.Dir(dir)
	}
	bin := filepath.Join(dir, "bin")
	for _, program := range []string{"luna", "luna-install"} {
		if _, err := os.Stat(filepath.Join(bin, program)); err != nil {
			return "", fmt.Errorf("%w: run make build first", err)
		}
	}
	return bin, err
}

// New makes n heads, h1 to hn, and starts their agents, which are no members yet.
func New(ctx context.Context, l *lab.Lab, bin string, n int) (*Site, error) {
	s := &Site{Lab: l, Bin: bin}
	for i := range n {
		h, err := s.Add(ctx, fmt.Sprintf("h%d", i+1), netip.AddrFrom4([4]byte{10, 30, 255, byte(254 - i)}))
		if err != nil {
			return nil, err
		}
		if err := h.Start(ctx); err != nil {
			return nil, err
		}
	}
	return s, nil
}

// Add makes one more head, whose agent is to be started.
func (s *Site) Add(ctx context.Context, name string, addr netip.Addr) (*Head, error) {
	return s.AddOn(ctx, "", name, addr)
}

// AddOn is Add with the head on another of the lab's networks than "lan".
func (s *Site) AddOn(ctx context.Context, network, name string, addr netip.Addr) (*Head, error) {
	host, err := s.Lab.HostWith(ctx, name, lab.NIC{Network: network, Addresses: []netip.Prefix{netip.PrefixFrom(addr, Network.Bits())}})
	if err != nil {
		return nil, err
	}
	h := &Head{Host: host, Name: name, Addr: addr, site: s}
	s.Heads = append(s.Heads, h)
	return h, nil
}

// Dir is where the head keeps its data.
func (h *Head) Dir() string { return filepath.Join(h.site.Lab.Dir(), h.Name) }

// Socket is where its agent listens.
func (h *Head) Socket() string { return filepath.Join(h.site.Lab.Dir(), h.Name+".sock") }

// Start starts the agent, again too, and waits until it answers.
func (h *Head) Start(ctx context.Context) error { return h.StartAs(ctx, h.settings()...) }

func (h *Head) settings() []string {
	return []string{"--name", h.Name, "--data-dir", h.Dir(), "--bind", h.Addr.String(), "--socket", h.Socket()}
}

// StartAs is Start with other settings, which must come to the same socket.
func (h *Head) StartAs(ctx context.Context, settings ...string) error {
	if err := h.launch(settings); err != nil {
		return err
	}
	return Until(ctx, 20*time.Second, "the agent of "+h.Name+" answers", func() error {
		if !h.Agent.Running() {
			return fmt.Errorf("it has ended: see %s", h.Agent.Log())
		}
		c, err := net.Dial("unix", h.Socket()) // the file of a killed agent stays
		if err == nil {
			err = c.Close()
		}
		return err
	})
}

// Launch is Start without the wait: for who wants to meet the agent while it starts.
func (h *Head) Launch() error { return h.launch(h.settings()) }

func (h *Head) launch(settings []string) (err error) {
	argv := append(slices.Clone(h.Around), h.program(), "agent")
	h.Agent, err = h.Host.Start("agent", append(argv, settings...)...)
	return err
}

func (h *Head) program() string { return filepath.Join(cmp.Or(h.Bin, h.site.Bin), "luna") }

// Failure is a luna command that did not end with 0.
type Failure struct {
	Args   []string
	Code   int
	Stderr string
}

func (f *Failure) Error() string {
	return fmt.Sprintf("luna %s: exit %d: %s", strings.Join(f.Args, " "), f.Code, strings.TrimSpace(f.Stderr))
}

// Luna runs a luna command on the head, over its socket, and gives what it
// prints on stdout. The error of one that fails is a *Failure.
func (h *Head) Luna(ctx context.Context, args ...string) (string, error) {
	return h.LunaIn(ctx, "", args...)
}

// LunaIn is Luna with text on stdin.
func (h *Head) LunaIn(ctx context.Context, stdin string, args ...string) (string, error) {
	return run(h.Host.Command(ctx, append([]string{h.program(), "--server", "unix://" + h.Socket()}, args...)...), h.site.Lab.Dir(), stdin, args)
}

// LunaFrom runs a luna command on any host, over TLS, with the credentials that
// are in the directory home; those that heads make are in the lab's directory.
func (h *Head) LunaFrom(ctx context.Context, from *lab.Host, home string, args ...string) (string, error) {
	return run(from.Command(ctx, append([]string{h.program(), "--server", "https://" + h.Addr.String() + ":7051"}, args...)...), home, "", args)
}

func run(cmd *exec.Cmd, home, stdin string, args []string) (string, error) {
	cmd.Env = append(os.Environ(), "HOME="+home)
	var out, errs bytes.Buffer
	cmd.Stdin, cmd.Stdout, cmd.Stderr = strings.NewReader(stdin), &out, &errs
	err := cmd.Run()
	var exit *exec.ExitError
	if errors.As(err, &exit) {
		err = &Failure{args, exit.ExitCode(), errs.String()}
	}
	return strings.TrimSpace(out.String()), err
}

// JSON runs a luna command with -o json and decodes its answer.
func (h *Head) JSON(ctx context.Context, into any, args ...string) error {
	out, err := h.Luna(ctx, append(args, "-o", "json")...)
	if err != nil {
		return err
	}
	if err := json.Unmarshal([]byte(out), into); err != nil {
		return fmt.Errorf("luna %s: %w in %q", strings.Join(args, " "), err, out)
	}
	return nil
}

// Mesh makes one cluster of all heads: init on the first, invite, and join.
func (s *Site) Mesh(ctx context.Context) error {
	first := s.Heads[0]
	if _, err := first.Luna(ctx, "cluster", "init", "--frontend_address", first.Addr.String(), "--path", s.Lab.Dir()); err != nil {
		return err
	}
	for _, h := range s.Heads[1:] {
		token, err := first.Luna(ctx, "head", "invite")
		if err != nil {
			return err
		}
		if _, err := h.Luna(ctx, "join", first.Addr.String(), "--token", token); err != nil {
			return err
		}
	}
	return nil
}

// ServeDHCP adds the network "cluster" with a pool, and waits until a head
// answers DHCP on it.
func (s *Site) ServeDHCP(ctx context.Context) (holder *Head, err error) {
	h := s.Heads[0]
	for _, args := range [][]string{
		{"network", "add", "-n", "cluster", "-N", Network.Addr().String(), "-P", "16"},
		{"cluster", "makedhcp", "-N", "cluster", "-s", "10.30.128.1", "-e", "10.30.140.255"},
	} {
		if _, err := h.Luna(ctx, args...); err != nil {
			return nil, err
		}
	}
	err = Until(ctx, 10*time.Second, "a head holds DHCP", func() error {
		holder, err = s.Holder(ctx, h)
		return err
	})
	return holder, err
}

// Holder gives the head that holds DHCP, as the asked head sees it.
func (s *Site) Holder(ctx context.Context, asked *Head) (*Head, error) {
	var n struct {
		Holder string `json:"dhcp_holder"`
	}
	if err := asked.JSON(ctx, &n, "network", "show", "cluster"); err != nil {
		return nil, err
	}
	if h := s.Head(n.Holder); h != nil {
		return h, nil
	}
	return nil, errors.New("no head holds DHCP")
}

// Settle waits until each head whose agent runs sees all of these alive, voting
// and answering.
func (s *Site) Settle(ctx context.Context) error {
	return Until(ctx, 20*time.Second, "all heads are alive and agree", func() error {
		for _, asked := range s.Heads {
			if !asked.Agent.Running() {
				continue
			}
			var list []HeadStatus
			if err := asked.JSON(ctx, &list, "head", "list"); err != nil {
				return err
			}
			for _, seen := range list {
				h := s.Head(seen.Name)
				if h != nil && h.Agent.Running() && (seen.State != "alive" || seen.Role != "voter" || seen.Applied == 0) {
					return fmt.Errorf("%s sees %+v", asked.Name, seen)
				}
			}
		}
		return nil
	})
}

// HeadStatus is what `luna head list` says of a head.
type HeadStatus struct {
	Name     string   `json:"name"`
	Address  string   `json:"address"`
	State    string   `json:"state"`
	Role     string   `json:"role"`
	Leader   bool     `json:"leader"`
	Applied  uint64   `json:"applied_index"`
	Networks []string `json:"networks"`
}

// Head gives the head of that name; nil if there is none.
func (s *Site) Head(name string) *Head {
	for _, h := range s.Heads {
		if h.Name == name {
			return h
		}
	}
	return nil
}

// Other gives a head that is not h and whose agent runs.
func (s *Site) Other(h *Head) *Head {
	for _, o := range s.Heads {
		if o != h && o.Agent.Running() {
			return o
		}
	}
	return nil
}

// NodeStatus is what `luna node show` says of a node's boot.
type NodeStatus struct {
	Name    string `json:"name"`
	Version string `json:"osimage_version"`
	Status  *struct {
		Stage   string  `json:"stage"`
		Percent float64 `json:"percent"`
		Head    string  `json:"head"`
	} `json:"status"`
}

// Stage gives the stage that the node last reported, and the percentage of its
// download; "" for none.
func (h *Head) Stage(ctx context.Context, node string) (stage string, percent float64, err error) {
	var n NodeStatus
	if err := h.JSON(ctx, &n, "node", "show", node); err != nil || n.Status == nil {
		return "", 0, err
	}
	return n.Status.Stage, n.Status.Percent, nil
}

// Until waits until ok gives nil; what it gave last is in the error.
func Until(ctx context.Context, within time.Duration, what string, ok func() error) error {
	ctx, cancel := context.WithTimeout(ctx, within)
	defer cancel()
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for {
		err := ok()
		if err == nil {
			return nil
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("not within %s: %s: %w", within, what, err)
		case <-tick.C:
		}
	}
}
