package cli

import (
	"cmp"
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/clustervision/luna/api"
	"github.com/clustervision/luna/inventory"
)

func nodeCommand(a *app) *cobra.Command {
	return noun("node", "The machines that are provisioned", "  luna node list",
		nodeList(a), nodeShow(a), nodeAdd(a), nodeChange(a), nodeDelete(a), renameCommand(a, "node"))
}

func nodeList(a *app) *cobra.Command {
	var out output
	var group string
	var oneLine bool
	c := &cobra.Command{
		Use:     "list",
		Short:   "List the nodes, by group and name",
		Example: "  luna node list -g compute",
		Args:    noArgs,
		RunE: a.do(func(ctx context.Context, s *session) error {
			all, err := s.Nodes(ctx, group)
			if err != nil {
				return err
			}
			slices.SortStableFunc(all, func(a, b api.Node) int {
				return cmp.Or(strings.Compare(a.Group, b.Group), strings.Compare(a.Name, b.Name))
			})
			return out.print(s.stdout(), nonNil(all), func() *table { return nodesTable(all, oneLine) })
		}),
	}
	out.list(c)
	f := c.Flags()
	f.StringVarP(&group, "group", "g", "", "only the nodes of this group")
	f.BoolVarP(&oneLine, "one-line", "1", false, "one line for each node")
	return c
}

func nodesTable(nodes []api.Node, oneLine bool) *table {
	t := &table{header: []string{"Name", "Group", "MAC", "IPs"}}
	var flat []string
	if oneLine {
		flat, t.bars = oneLineCells(nodes)
	}
	for i, n := range nodes {
		ips := nodeInterfacesCell(n)
		if oneLine {
			ips = flat[i]
		}
		t.add(n.Name, ref(n.Group), orNil(string(n.MAC)), ips)
	}
	return t
}

// nodeInterfacesCell has NAME:address for each interface, in the order of the
// names; a second family stands on a line of its own.
func nodeInterfacesCell(n api.Node) string {
	names := slices.Sorted(maps.Keys(n.Interfaces))
	longest := 0
	for _, name := range names {
		longest = max(longest, len(name))
	}
	var lines []string
	for _, name := range names {
		ips := addresses(n.Interfaces[name])
		if len(ips) == 0 {
			ips = []string{""}
		}
		lines = append(lines, labelled(name+":", longest+1, ips)...)
	}
	return strings.Join(lines, "\n")
}

func addresses(a api.Addresses) []string {
	var list []string
	for _, ip := range []string{a.V4, a.V6} {
		if ip != "" {
			list = append(list, ip)
		}
	}
	return list
}

// oneLineCells gives the cells of luna node list -1, in which the interfaces of
// all nodes stand below one another, and the offsets of the bars between them.
func oneLineCells(nodes []api.Node) (cells []string, bars []int) {
	var widths []int
	split := make([][]string, len(nodes))
	for i, n := range nodes {
		for j, name := range slices.Sorted(maps.Keys(n.Interfaces)) {
			cell := strings.TrimSpace(name + ": " + strings.Join(addresses(n.Interfaces[name]), " "))
			split[i] = append(split[i], cell)
			if j == len(widths) {
				widths = append(widths, 0)
			}
			widths[j] = max(widths[j], len(cell))
		}
	}
	at := 0
	for j := 0; j+1 < len(widths); j++ {
		at += widths[j] + 1
		bars = append(bars, at)
		at += 2
	}
	for _, row := range split {
		for j := range row[:max(0, len(row)-1)] {
			row[j] = fmt.Sprintf("%-*s", widths[j], row[j])
		}
		cells = append(cells, strings.Join(row, " | "))
	}
	return cells, bars
}

func nodeShow(a *app) *cobra.Command {
	var out output
	var script string
	var comment bool
	c := named(&cobra.Command{
		Use:   "show NAME",
		Short: "Show nodes, or what they boot",
		Long: `Show nodes. NAME may be a hostlist; for one plain name -o json gives one object,
for a hostlist an array.`,
		Example: `  luna node show node001
  luna node show node001 --script boot`,
		RunE: a.do(func(ctx context.Context, s *session) error {
			if script != "" {
				return printScripts(ctx, s, script)
			}
			nodes, err := s.NodesNamed(ctx, s.name)
			if err != nil {
				return err
			}
			if comment {
				for _, n := range nodes {
					if err := writeText(s.stdout(), deref(n.Comment)); err != nil {
						return err
					}
				}
				return nil
			}
			return printNodes(s, &out, nodes)
		}),
	})
	out.show(c)
	f := c.Flags()
	f.VarP(choice{&script, []string{"boot", "install"}}, "script", "s", "print what the node gets at that step")
	f.BoolVarP(&comment, "comment", "C", false, "print the comment")
	c.MarkFlagsMutuallyExclusive("raw", "script", "comment")
	return c
}

func printNodes(s *session, out *output, nodes []api.Node) error {
	now := time.Now()
	switch {
	case out.isTable():
		for _, n := range nodes {
			if err := nodeTable(n, now).write(s.stdout()); err != nil {
				return err
			}
		}
		return nil
	case len(nodes) == 1 && !strings.ContainsAny(s.name, "[,"):
		return out.print(s.stdout(), nodes[0], nil)
	}
	return out.print(s.stdout(), nodes, nil)
}

func printScripts(ctx context.Context, s *session, step string) error {
	names, err := inventory.ExpandHostlist(s.name)
	if err != nil {
		return inventory.Errorf(inventory.KindInvalid, "node", s.name, "%v", err)
	}
	for _, name := range names {
		text, err := s.Script(ctx, name, step)
		if err != nil {
			return err
		}
		if err := writeText(s.stdout(), text); err != nil {
			return err
		}
	}
	return nil
}

func nodeTable(n api.Node, now time.Time) *table {
	fields := map[string]any{
		"group": ref(n.Group), "mac": orNil(string(n.MAC)), "interfaces": nodeInterfacesCell(n),
		"localboot": n.LocalBoot, "setupbmc": n.SetupBMC, "service": n.Service,
		"switch": ref(n.Switch), "port": n.Port,
	}
	if n.Status != nil {
		fields["status"] = statusCell(n.Status, now)
	}
	return showTable(n.Name, fields, n.Comment)
}

// statusCell has the stage and its age: install.unpack - 0:01:10. A head's and
// this machine's clock may differ, so an age is never negative.
func statusCell(st *api.Status, now time.Time) string {
	stage := st.Stage
	switch {
	case st.Failed:
		stage += " (failed, tried again)"
	case st.Percent > 0:
		stage += fmt.Sprintf(" (%.2f%%)", st.Percent)
	}
	cell := stage + " - " + age(now.Sub(st.Time))
	if st.Message != "" {
		cell += "\n" + strings.TrimRight(st.Message, "\n")
	}
	return cell
}

func age(d time.Duration) string {
	s := int64(max(0, d) / time.Second)
	days := ""
	switch n := s / 86400; {
	case n == 1:
		days = "1 day, "
	case n > 1:
		days = fmt.Sprintf("%d days, ", n)
	}
	return fmt.Sprintf("%s%d:%02d:%02d", days, s%86400/3600, s%3600/60, s%60)
}

func nodeAdd(a *app) *cobra.Command {
	var r api.AddNodes
	var mac string
	c := &cobra.Command{
		Use:   "add -g GROUP [-n NAME]",
		Short: "Add nodes",
		Long: `Add nodes, all or none. NAME may be a hostlist; without it one node is added under
the next free name. Each gets the next free address on each interface of its
group. The names are printed, one a line.`,
		Example: "  luna node add -g compute -n node[001-100]",
		Args:    noArgs,
		RunE: a.do(func(ctx context.Context, s *session) error {
			r.Names = s.name
			var err error
			if mac != "" {
				if r.MAC, err = inventory.ParseMAC(mac); err != nil {
					return err
				}
			}
			w, err := s.AddNodes(ctx, r)
			if err == nil && !s.DryRun {
				return writeText(s.stdout(), strings.Join(w.Names, "\n"))
			}
			return s.done(w, err)
		}),
	}
	f := c.Flags()
	f.StringVarP(&r.Group, "group", "g", "", "group of the nodes")
	f.StringP("name", "n", "", "names of the nodes, a hostlist")
	f.StringVar(&mac, "mac", "", "hardware address, of one node")
	modern(c, "mac")
	required(c, "group")
	return c
}

// interfaceAddresses is the value of node change -i: IF=IP, any number of times.
type interfaceAddresses []string

func (v *interfaceAddresses) String() string { return "" }
func (v *interfaceAddresses) Type() string   { return "IF IP" }

// Set takes anything: a bad address is a bad value, not wrong usage.
func (v *interfaceAddresses) Set(s string) error {
	*v = append(*v, s)
	return nil
}

func (v *interfaceAddresses) parse(node string) ([]inventory.SetAddress, error) {
	var list []inventory.SetAddress
	for _, s := range *v {
		name, ip, _ := strings.Cut(s, "=")
		addr, err := parseAddr("node", node, ip)
		if err != nil {
			return nil, err
		}
		list = append(list, inventory.SetAddress{Interface: name, Addr: addr})
	}
	return list, nil
}

func nodeChange(a *app) *cobra.Command {
	var r api.ChangeNodes
	var group, mac string
	var addrs interfaceAddresses
	var localboot, setupbmc, service, comment bool
	var ed editor
	c := named(&cobra.Command{
		Use:   "change NAME",
		Short: "Change nodes, all or none",
		Long: `Change nodes, all or none. NAME may be a hostlist. In another group a node keeps
each address for which that group has an interface in the same network.`,
		Example: `  luna node change node001 --mac 52:54:00:12:34:56
  luna node change node001 -i BOOTIF 10.30.0.77`,
		RunE: a.do(func(ctx context.Context, s *session) error {
			var err error
			if r.Addresses, err = addrs.parse(s.name); err != nil {
				return err
			}
			r.Group = ifGiven(s, "group", group)
			r.LocalBoot, r.SetupBMC, r.Service = ifGiven(s, "localboot", localboot), ifGiven(s, "setupbmc", setupbmc), ifGiven(s, "service", service)
			if s.given("mac") {
				var m inventory.MAC
				if mac != "" {
					if m, err = inventory.ParseMAC(mac); err != nil {
						return err
					}
				}
				r.MAC = &m
			}
			if comment {
				now, err := s.NodesNamed(ctx, s.name)
				if err != nil {
					return err
				}
				text, err := ed.edit(ctx, s, deref(now[0].Comment), "comment")
				if err != nil {
					return err
				}
				r.Comment = &text
			}
			return s.done(s.ChangeNodes(ctx, s.name, r))
		}),
	})
	f := c.Flags()
	f.StringVarP(&group, "group", "g", "", "group of the nodes")
	f.VarP(&addrs, "interface", "i", "give the interface another address: -i BOOTIF 10.30.0.77")
	f.StringVar(&mac, "mac", "", "hardware address; whoever had it loses it; '' erases")
	f.VarP(yesNo{&localboot}, "localboot", "l", "boot from the disk")
	f.Var(yesNo{&setupbmc}, "setupbmc", "set up the BMC when installing (--sb in short)")
	f.Var(yesNo{&service}, "service", "stop at a shell instead of installing (--sv in short)")
	f.BoolVarP(&comment, "comment", "C", false, "edit the comment")
	c.MarkFlagsMutuallyExclusive("group", "interface")
	ed.declare(c)
	return c
}

func nodeDelete(a *app) *cobra.Command {
	return named(&cobra.Command{
		Use:     "delete NAME",
		Short:   "Delete nodes, all or none, and free their addresses",
		Example: "  luna node delete node[001-003]",
		RunE:    a.do(func(ctx context.Context, s *session) error { return s.done(s.DeleteNodes(ctx, s.name)) }),
	})
}
