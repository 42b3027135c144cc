package cli

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/clustervision/luna/api"
	"github.com/clustervision/luna/inventory"
)

func groupCommand(a *app) *cobra.Command {
	return noun("group", "What nodes have in common: osimage, interfaces, scripts", "  luna group show compute",
		groupList(a), groupShow(a), groupAdd(a), groupChange(a), groupClone(a),
		deleteCommand(a, "group"), renameCommand(a, "group"))
}

func groupList(a *app) *cobra.Command {
	var out output
	c := &cobra.Command{
		Use:     "list",
		Short:   "List the groups",
		Example: "  luna group list",
		Args:    noArgs,
		RunE: a.do(func(ctx context.Context, s *session) error {
			all, err := s.Groups(ctx)
			if err != nil {
				return err
			}
			return out.print(s.stdout(), nonNil(all), func() *table {
				t := &table{header: []string{"Name", "Osimage", "Interfaces"}}
				for _, g := range all {
					t.add(g.Name, ref(g.OSImage), groupInterfacesCell(g))
				}
				return t
			})
		}),
	}
	out.list(c)
	return c
}

// groupInterfacesCell has [NAME]:[net]:base/prefix for each interface, in the
// order of the names; a second family stands on a line of its own.
func groupInterfacesCell(g api.Group) string {
	names := slices.Sorted(maps.Keys(g.Interfaces))
	longest := 0
	for _, name := range names {
		longest = max(longest, len(name))
	}
	var lines []string
	for _, name := range names {
		i := g.Interfaces[name]
		var nets []string
		if i.Network4 != "" {
			nets = append(nets, "["+i.Network4+"]:"+i.Prefix4)
		}
		if i.Network6 != "" {
			nets = append(nets, "["+i.Network6+"]:"+i.Prefix6)
		}
		if len(nets) == 0 {
			nets = []string{"-"}
		}
		lines = append(lines, labelled("["+name+"]:", longest+3, nets)...)
	}
	return strings.Join(lines, "\n")
}

// labelled puts values below one another behind a label of a width.
func labelled(label string, width int, values []string) []string {
	lines := make([]string, len(values))
	for i, v := range values {
		lines[i] = fmt.Sprintf("%-*s%s", width, label, v)
		label = ""
	}
	return lines
}

func groupShow(a *app) *cobra.Command {
	var out output
	var iface string
	var origin bool
	c := named(&cobra.Command{
		Use:   "show NAME",
		Short: "Show a group, or one thing of it",
		Long: `Show a group, or one thing of it. With --origin also what its nodes get through
it from the osimage, the bmcsetup, networks and the cluster, and from which.`,
		Example: `  luna group show compute --partscript
  luna group show compute --origin`,
		RunE: a.do(func(ctx context.Context, s *session) error {
			g, err := s.Group(ctx, s.name)
			if err != nil {
				return err
			}
			if origin {
				return printGroupOrigins(ctx, s, &out, g)
			}
			if s.given("interface") {
				i, ok := g.Interfaces[iface]
				if !ok {
					return refusef("group", s.name, "No such interface '%s'", iface)
				}
				return writeJSON(s.stdout(), i)
			}
			for option, value := range map[string]string{
				"osimage": text(ref(g.OSImage), 0), "bmcsetup": text(ref(g.BMCSetup), 0), "prescript": deref(g.PreScript), "partscript": deref(g.PartScript),
				"postscript": deref(g.PostScript), "comment": deref(g.Comment),
			} {
				if s.given(option) {
					return writeText(s.stdout(), value)
				}
			}
			return out.print(s.stdout(), g, func() *table { return groupTable(g) })
		}),
	})
	out.show(c)
	f := c.Flags()
	f.Bool("osimage", false, "print the osimage (-o alone does as well)")
	f.BoolP("bmcsetup", "b", false, "print the bmcsetup")
	f.Bool("prescript", false, "print the script that runs first")
	f.Bool("partscript", false, "print the script that makes the file systems")
	f.Bool("postscript", false, "print the script that runs last")
	f.StringVarP(&iface, "interface", "i", "", "print an interface, as JSON")
	f.BoolP("comment", "C", false, "print the comment")
	f.BoolVar(&origin, "origin", false, "show where each value comes from")
	modern(c, "origin")
	c.MarkFlagsMutuallyExclusive("raw", "osimage", "bmcsetup", "prescript", "partscript", "postscript", "interface", "comment")
	for _, one := range []string{"osimage", "bmcsetup", "prescript", "partscript", "postscript", "interface", "comment"} {
		c.MarkFlagsMutuallyExclusive("origin", one)
	}
	return c
}

func groupTable(g api.Group) *table {
	return showTable(g.Name, map[string]any{
		"osimage": ref(g.OSImage), "domain": ref(g.Domain), "interfaces": groupInterfacesCell(g),
		"prescript": g.PreScript, "partscript": g.PartScript, "postscript": g.PostScript,
		"bmcsetup": ref(g.BMCSetup), "torrent_if": g.TorrentIF,
	}, g.Comment)
}

func groupAdd(a *app) *cobra.Command {
	var add inventory.AddGroup
	c := &cobra.Command{
		Use:   "add -n NAME -o OSIMAGE -N NETWORK",
		Short: "Add a group whose nodes boot an osimage from a network",
		Long: `Add a group whose nodes boot an osimage from a network. It gets an interface
BOOTIF in that network, which gives the nodes their domain too, and the scripts
of a node without a disk. With a BMC network it gets an interface BMC as well.`,
		Example: `  luna group add -n compute -o compute -N cluster
  luna group add -n compute -o compute -N cluster -b base -bn ipmi`,
		Args: noArgs,
		RunE: a.do(func(ctx context.Context, s *session) error {
			add.Name = s.name
			return s.change(ctx, add)
		}),
	}
	f := c.Flags()
	f.StringP("name", "n", "", "name of the group")
	f.StringVarP(&add.OSImage, "osimage", "o", "", "osimage that its nodes boot")
	f.StringVarP(&add.Network, "network", "N", "", "network that its nodes boot from, on interface BOOTIF")
	f.StringVarP(&add.BMCSetup, "bmcsetup", "b", "", "bmcsetup for the management controllers of its nodes")
	f.StringVar(&add.BMCNetwork, "bmcnetwork", "", "network of interface BMC (-bn in short)")
	required(c, "name", "osimage", "network")
	return c
}

func groupClone(a *app) *cobra.Command {
	var to string
	c := named(&cobra.Command{
		Use:     "clone NAME --to NEW",
		Short:   "Make a group that has all that another one has but its nodes",
		Example: "  luna group clone compute --to gpu",
		RunE: a.do(func(ctx context.Context, s *session) error {
			return s.change(ctx, inventory.CloneGroup{Name: s.name, To: to})
		}),
	})
	c.Flags().StringVarP(&to, "to", "t", "", "name of the new group")
	required(c, "to")
	return c
}
