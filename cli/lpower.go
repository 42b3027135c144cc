package cli

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/clustervision/luna/api"
	"github.com/clustervision/luna/bmc"
	"github.com/clustervision/luna/inventory"
)

// Power gives lpower, a program of its own. Run it with [Run].
func Power() *cobra.Command {
	a := &app{}
	return a.program(powerCommand(a))
}

func powerCommand(a *app) *cobra.Command {
	var groups string
	var p power
	c := &cobra.Command{
		Use:   "lpower [NAME] status|on|off|reset|cycle|identify|noidentify",
		Short: "Switch nodes on and off through their BMCs, and ask whether they are on",
		Long: `Switch nodes on and off through their BMCs, ask whether they are on, and light
the lamps that identify them (for 255 seconds).

This machine asks the BMCs itself, over IPMI 2.0, so it needs a way to their
network. A node's BMC has the address of the interface BMC, and the user and
password of the bmcsetup of the node's group.

Each node gets a line, in the order of NAME: NODE: on or NODE: off for status;
for the others NODE: and what was done, once that was seen to work. NODE: cycle
accepted is a machine that the BMC said it would cycle, and that is on, but was
not seen to be off in between. What fails is NODE: Error and why, on stderr. An
unknown node or group is found before anything is switched.

Many machines that start at one moment draw much current: see --parallel. A BMC
may take 20 seconds in all, or what --timeout says.

Exit status: 0 all done, 1 at least one node failed, 2 wrong usage, 255 a node or
group is missing.
` + aboutSelections,
		Example: `  lpower node[001-100] status
  lpower -g compute,login on --parallel 16
  lpower %compute,-node007 cycle --dry-run`,
		Args: func(_ *cobra.Command, args []string) error { return powerArgs(args, groups) },
		RunE: a.do(func(ctx context.Context, s *session) error {
			args := s.cmd.Flags().Args()
			if p.parallel < 1 {
				return usagef("argument --parallel/-w: it cannot be less than 1")
			}
			last := len(args) - 1
			p.op = bmc.Op(args[last])
			selection, err := powerSelection(args[:last], groups)
			if err != nil {
				return err
			}
			if s.given("timeout") {
				p.timeout = a.timeout
			}
			return p.run(ctx, s, selection)
		}),
	}
	f := c.Flags()
	f.StringVarP(&groups, "groups", "g", "", "the nodes of these groups, beside those of NAME: a hostlist of groups")
	f.StringVarP(&p.nic, "interface", "i", "BMC", "the interface that is the BMC's")
	f.IntVarP(&p.parallel, "parallel", "w", bmc.DefaultParallel, "how many BMCs to talk to at a time")
	return c
}

func powerArgs(args []string, groups string) error {
	if len(args) == 0 {
		return errors.New("the following arguments are required: NAME or -g GROUPS, and what to do")
	}
	if _, err := bmc.ParseOp(args[len(args)-1]); err != nil {
		return err
	}
	switch {
	case len(args) == 1 && groups == "":
		return errors.New("the following arguments are required: NAME, or -g GROUPS")
	case len(args) > 2:
		return noArgs(nil, args[1:len(args)-1])
	}
	return nil
}

// powerSelection gives the selection of the nodes of NAME, if that is given, and
// of groups.
func powerSelection(name []string, groups string) (string, error) {
	if groups == "" {
		return strings.Join(name, ""), nil
	}
	list, err := inventory.ExpandHostlist(groups)
	if err != nil {
		return "", inventory.Errorf(inventory.KindInvalid, "group", groups, "%v", err)
	}
	terms := slices.Clone(name)
	for _, g := range list {
		terms = append(terms, "%"+g)
	}
	return strings.Join(terms, ","), nil
}

// power is one thing to do to many nodes.
type power struct {
	op       bmc.Op
	nic      string // the interface that is the BMC's
	parallel int
	timeout  time.Duration // for each; 0 is bmc's own
}

// bay is a node with its BMC, and what came of it.
type bay struct {
	bmc  bmc.Target
	done bool
	said bmc.Outcome
}

func (p *power) run(ctx context.Context, s *session, selection string) error {
	bays, err := p.find(ctx, s, selection)
	if err != nil {
		return err
	}
	var targets []bmc.Target
	var bayOf []int // of each target
	for i, b := range bays {
		if !b.done {
			targets, bayOf = append(targets, b.bmc), append(bayOf, i)
		}
	}
	told := p.tell(s, bays, 0)
	switch {
	case s.DryRun:
		for i := range bays {
			bays[i].done = true
		}
		p.tell(s, bays, told)
	default:
		for i, o := range bmc.Each(ctx, targets, p.op, bmc.Options{Parallel: p.parallel, Timeout: p.timeout}) {
			bays[bayOf[i]].said, bays[bayOf[i]].done = o, true
			told = p.tell(s, bays, told)
		}
	}
	return powerFailures(bays)
}

// find gives the nodes of a selection with their BMCs. A node of which the BMC is
// not known is done: it failed.
func (p *power) find(ctx context.Context, s *session, selection string) ([]bay, error) {
	nodes, err := s.NodesNamed(ctx, selection)
	if err != nil {
		return nil, err
	}
	groups, err := s.Groups(ctx)
	if err != nil {
		return nil, err
	}
	setupOf, setups := map[string]string{}, map[string]api.BMCSetup{}
	for _, g := range groups {
		setupOf[g.Name] = g.BMCSetup
	}
	bays := make([]bay, len(nodes))
	for i, n := range nodes {
		name := setupOf[n.Group]
		setup, known := setups[name]
		if name != "" && !known {
			if setup, err = s.BMCSetup(ctx, name, true); err != nil {
				return nil, err
			}
			setups[name] = setup
		}
		b := &bays[i]
		b.bmc = bmc.Target{Name: n.Name, User: setup.User, Password: setup.Password}
		b.bmc.Addr, err = p.address(n)
		if err == nil && name == "" {
			err = fmt.Errorf("its group %s has no bmcsetup: give it one with `luna group change %s --bmcsetup NAME`", n.Group, n.Group)
		}
		b.said.Err, b.done = err, err != nil
	}
	return bays, nil
}

// address gives that of the node's BMC.
func (p *power) address(n api.Node) (netip.AddrPort, error) {
	nic, ok := n.Interfaces[p.nic]
	if !ok {
		return netip.AddrPort{}, fmt.Errorf("it has no interface %s: its group %s needs one, or give --interface", p.nic, n.Group)
	}
	text := cmp.Or(nic.V4, nic.V6)
	if text == "" {
		return netip.AddrPort{}, fmt.Errorf("its interface %s has no address: set a network with `luna group change %s -i %s --setnet NETWORK`", p.nic, n.Group, p.nic)
	}
	ip, err := netip.ParseAddr(text)
	if err != nil {
		return netip.AddrPort{}, fmt.Errorf("its interface %s has the address '%s', which is none", p.nic, text)
	}
	return netip.AddrPortFrom(ip, bmc.DefaultPort), nil
}

// tell prints what came of the nodes whose turn it is: of those that are done and
// have none before them that is not. It gives the first of the others.
func (p *power) tell(s *session, bays []bay, from int) int {
	for ; from < len(bays) && bays[from].done; from++ {
		b := bays[from]
		switch {
		case b.said.Err != nil:
			s.note("%s: Error %v", b.bmc.Name, b.said.Err)
		case s.DryRun:
			fmt.Fprintf(s.stdout(), "%s: would ask %s for %s\n", b.bmc.Name, b.bmc.Addr.Addr(), p.op)
		case p.op == bmc.Status:
			fmt.Fprintf(s.stdout(), "%s: %s\n", b.bmc.Name, b.said.Power)
		case p.op == bmc.Cycle && !b.said.Verified:
			fmt.Fprintf(s.stdout(), "%s: cycle accepted\n", b.bmc.Name)
		default: // for a reset and the lamp, that the BMC took it is all there is to see
			fmt.Fprintf(s.stdout(), "%s: %s\n", b.bmc.Name, p.op)
		}
	}
	return from
}

// powerFailures gives the error of a run in which nodes failed.
func powerFailures(bays []bay) error {
	failed, silent := 0, false
	for _, b := range bays {
		if b.said.Err != nil {
			failed++
			silent = silent || errors.Is(b.said.Err, bmc.ErrNoAnswer)
		}
	}
	if failed == 0 {
		return nil
	}
	text := fmt.Sprintf("%d of %d nodes failed", failed, len(bays))
	if host, err := os.Hostname(); err == nil && silent {
		text += fmt.Sprintf("\nBMCs are asked from this machine (%s), not by a head: it needs a way to their network", host)
	}
	return refusef("lpower", "", "%s", text)
}
