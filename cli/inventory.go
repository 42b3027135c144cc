package cli

import (
	"context"
	"fmt"

	"github.com/spf13/cobra"
)

// The names by which playbooks of 1.2 know what is in Luna.
const (
	ansibleImages = "osimages.luna" // hosts IMAGE.osimages.luna
	ansibleGroups = "groups.luna"   // all nodes; those of a group are in GROUP.groups.luna
)

// ansibleInventory is what a dynamic inventory of Ansible prints: groups by
// their names, and "_meta".
type ansibleInventory map[string]any

type ansibleGroup struct {
	Hosts    []string       `json:"hosts"`
	Children []string       `json:"children,omitempty"`
	Vars     map[string]any `json:"vars,omitempty"`
}

func newAnsibleInventory(hostvars map[string]map[string]any) ansibleInventory {
	return ansibleInventory{"_meta": map[string]any{"hostvars": hostvars}}
}

func inventoryCommand(a *app) *cobra.Command {
	var list bool
	var host string
	c := &cobra.Command{
		Use:   "inventory --list | --host NAME",
		Short: "Print nodes and osimages as a dynamic inventory for Ansible",
		Long: `Print nodes and osimages as a dynamic inventory for Ansible, in the form of 1.2: the
nodes in groups.luna and GROUP.groups.luna, each with its bmc_ip, and the osimages
in osimages.luna, to be entered by the connection plugin lchroot. The script
/usr/share/luna/inventory is this command, for ansible -i.

Whatever goes wrong is a warning on stderr, and an inventory that is empty: a
playbook that is not about nodes runs on. The inventory plugin clustervision.luna.luna
tells more and stops instead.`,
		Example: "  luna inventory --list",
		Args:    noArgs,
	}
	show := a.do(func(ctx context.Context, s *session) error {
		if !list { // all variables of hosts are in the list
			return writeJSON(s.stdout(), struct{}{})
		}
		all, err := ansibleList(ctx, s)
		if err != nil {
			return err
		}
		return writeJSON(s.stdout(), all)
	})
	c.RunE = func(cmd *cobra.Command, args []string) error {
		if list == cmd.Flags().Changed("host") {
			return usagef("one of the arguments --list --host is required")
		}
		if err := show(cmd, args); err != nil {
			fmt.Fprintf(cmd.ErrOrStderr(), "WARNING:%s:the inventory is empty: %v\n", logger(cmd, ""), err)
			return writeJSON(cmd.OutOrStdout(), newAnsibleInventory(map[string]map[string]any{}))
		}
		return nil
	}
	c.Flags().BoolVar(&list, "list", false, "print the whole inventory")
	c.Flags().StringVar(&host, "host", "", "print the variables of this host: none beside those in the list")
	return c
}

// ansibleList makes the whole inventory.
func ansibleList(ctx context.Context, s *session) (ansibleInventory, error) {
	nodes, err := s.Nodes(ctx, "")
	if err != nil {
		return nil, err
	}
	groups, err := s.Groups(ctx)
	if err != nil {
		return nil, err
	}
	images, err := s.OSImages(ctx)
	if err != nil {
		return nil, err
	}
	hostvars := map[string]map[string]any{}
	all := newAnsibleInventory(hostvars)
	every := &ansibleGroup{Hosts: []string{}}
	all[ansibleGroups] = every
	for _, g := range groups {
		name := g.Name + "." + ansibleGroups
		all[name] = &ansibleGroup{Hosts: []string{}}
		every.Children = append(every.Children, name)
	}
	for _, n := range nodes {
		every.Hosts = append(every.Hosts, n.Name)
		if g, ok := all[n.Group+"."+ansibleGroups].(*ansibleGroup); ok { // or it came since the groups were asked for
			g.Hosts = append(g.Hosts, n.Name)
		}
		hostvars[n.Name] = map[string]any{"bmc_ip": false}
		if ip := n.Interfaces["BMC"].V4; ip != "" {
			hostvars[n.Name]["bmc_ip"] = ip
		}
	}
	trees := &ansibleGroup{Hosts: []string{}, Vars: map[string]any{"ansible_connection": "lchroot"}}
	all[ansibleImages] = trees
	for _, o := range images {
		host := o.Name + "." + ansibleImages
		trees.Hosts = append(trees.Hosts, host)
		hostvars[host] = map[string]any{"ansible_host": o.Name}
	}
	return all, nil
}
