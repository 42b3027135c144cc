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
)

func nodeCommand(a *app) *cobra.Command {
	return noun("node", "The machines that are provisioned", "  luna node list",
		nodeList(a), nodeShow(a), nodeAdd(a), nodeChange(a), nodeDelete(a), renameCommand(a, "node"))
}

// aboutSelections is what the help of every command says that takes nodes which
// exist. It is inventory.SelectNodes in an administrator's words.
const aboutSelections = `
NAME selects nodes. It is one or more of these, evaluated from left to right:
  node001, node[001-003,007]   names, as a hostlist
  %GROUP, %rack[1-4]           the nodes of a group, or of several
  @TAG                         the nodes that have a tag
  A,B                          those of A and those of B
  A,-B or A!B                  those of A without those of B
  A&B                          those of A that are also in B
So %compute,-node007 is a group without one node, and '%compute&@gpu,login1' what
of a group has a tag, and one node more. '!' and '&' need quotes in a shell.`

// isPlainName tells whether a selection can only be the name of one node.
func isPlainName(selection string) bool { return !strings.ContainsAny(selection, "[,%@!&") }

func nodeList(a *app) *cobra.Command {
	var out output
	var group string
	var oneLine bool
	c := &cobra.Command{
		Use:   "list [NAME]",
		Short: "List the nodes, by group and name",
		Long:  "List the nodes, or those that NAME selects, by group and name.\n" + aboutSelections,
		Example: `  luna node list -g compute
  luna node list @gpu,-node007`,
		Args: func(cmd *cobra.Command, args []string) error { return noArgs(cmd, args[min(1, len(args)):]) },
		RunE: a.do(func(ctx context.Context, s *session) error {
			all, err := listNodes(ctx, s, group)
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

// listNodes gives the nodes of the selection that are also in the group, where
// these are given.
func listNodes(ctx context.Context, s *session, group string) ([]api.Node, error) {
	switch {
	case s.name == "":
		return s.Nodes(ctx, group)
	case group == "":
		return s.NodesNamed(ctx, s.name)
	}
	return s.NodesNamed(ctx, s.name+"&%"+group)
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
	var comment, origin bool
	c := named(&cobra.Command{
		Use:   "show NAME",
		Short: "Show nodes, or what they boot",
		Long: `Show nodes. For one plain name -o json gives one object, for any other selection
an array. With --origin also what a node gets from its group, osimage, bmcsetup,
networks and the cluster, and from which.
` + aboutSelections,
		Example: `  luna node show node001
  luna node show node001 --script boot
  luna node show node[001-003] --origin`,
		RunE: a.do(func(ctx context.Context, s *session) error {
			nodes, err := s.NodesNamed(ctx, s.name)
			switch {
			case err != nil:
				return err
			case script != "":
				return printScripts(ctx, s, nodes, script)
			case origin:
				return printNodeOrigins(ctx, s, &out, nodes)
			case !comment:
				return printNodes(s, &out, nodes)
			}
			for _, n := range nodes {
				if err := writeText(s.stdout(), deref(n.Comment)); err != nil {
					return err
				}
			}
			return nil
		}),
	})
	out.show(c)
	f := c.Flags()
	f.VarP(choice{&script, []string{"boot", "install"}}, "script", "s", "print what the node gets at that step")
	f.BoolVarP(&comment, "comment", "C", false, "print the comment")
	f.BoolVar(&origin, "origin", false, "show where each value comes from")
	modern(c, "origin")
	c.MarkFlagsMutuallyExclusive("raw", "script", "comment")
	c.MarkFlagsMutuallyExclusive("origin", "script", "comment")
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
	case isPlainName(s.name):
		return out.print(s.stdout(), nodes[0], nil)
	}
	return out.print(s.stdout(), nodes, nil)
}

func printScripts(ctx context.Context, s *session, nodes []api.Node, step string) error {
	for _, n := range nodes {
		text, err := s.Script(ctx, n.Name, step)
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
	if len(n.Tags) > 0 {
		fields["tags"] = strings.Join(n.Tags, ",")
	}
	if n.Status != nil {
		fields["status"] = statusCell(n.Status, now)
	}
	return showTable(n.Name, fields, n.Comment)
}

// statusCell has the stage and how long the node is in it: install.unpack -
// 0:01:10; of a download also how far it is and when the node said so. A head's
// and this machine's clock may differ, so an age is never negative.
func statusCell(st *api.Status, now time.Time) string {
	stage := st.Stage
	switch {
	case st.Failed:
		stage += " (failed, tried again)"
	case st.Percent > 0:
		stage += fmt.Sprintf(" (%.2f%% / last update %.0fsec)", st.Percent, max(0, st.Age))
	}
	cell := stage + " - " + elapsed(now.Sub(st.Time))
	if st.Message != "" {
		cell += "\n" + strings.TrimRight(st.Message, "\n")
	}
	return cell
}

func elapsed(d time.Duration) string {
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
