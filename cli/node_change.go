package cli

import (
	"context"
	"strings"

	"github.com/spf13/cobra"

	"github.com/clustervision/luna/api"
	"github.com/clustervision/luna/inventory"
)

func nodeAdd(a *app) *cobra.Command {
	var r api.AddNodes
	var mac string
	c := &cobra.Command{
		Use:   "add -g GROUP [-n NAME]",
		Short: "Add nodes",
		Long: `Add nodes, all or none. NAME may be a hostlist; without it one node is added under
the next free name. Each gets the next free address on each interface of its
group. The names are printed, one a line.`,
		Example: `  luna node add -g compute -n node[001-100]
  luna node add -g compute --tag gpu,rack7`,
		Args: noArgs,
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
	f.Var(listOption{&r.Tags}, "tag", "tags for the nodes, comma separated")
	modern(c, "mac", "tag")
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
		first, increment := strings.CutSuffix(ip, "+")
		addr, err := parseAddr("node", node, first)
		if err != nil {
			return nil, err
		}
		list = append(list, inventory.SetAddress{Interface: name, Addr: addr, Increment: increment})
	}
	return list, nil
}

// listOption is a list of words, comma separated, which may be given in pieces.
type listOption struct{ to *[]string }

func (listOption) String() string { return "" }
func (listOption) Type() string   { return "strings" }

// Set adds words. Which will do is the head's to say.
func (o listOption) Set(v string) error {
	*o.to = append(*o.to, strings.Split(v, ",")...)
	return nil
}

// nodeChanges are the options of luna node change.
type nodeChanges struct {
	api.ChangeNodes // what only has to be passed on

	editor    editor
	addresses interfaceAddresses

	mac                          string
	localboot, setupbmc, service bool
	comment                      bool // is to be edited
}

func nodeChange(a *app) *cobra.Command {
	var n nodeChanges
	c := named(&cobra.Command{
		Use:   "change NAME",
		Short: "Change nodes, all or none",
		Long: `Change nodes, all or none. In another group a node keeps each address for which
that group has an interface in the same network. An address with a '+' behind it
is that of the first node; each further one gets the next.
` + aboutSelections,
		Example: `  luna node change node001 --mac 52:54:00:12:34:56
  luna node change node001 --switch switch01 --port 7
  luna node change node[001-100] -i BOOTIF 10.30.1.1+
  luna node change %compute --tag gpu --untag spare`,
		RunE: a.do(func(ctx context.Context, s *session) error { return n.do(ctx, s) }),
	})
	f := c.Flags()
	f.VarP(textOption{&n.Group}, "group", "g", "group of the nodes")
	f.VarP(&n.addresses, "interface", "i", "give the interface another address: -i BOOTIF 10.30.0.77")
	f.StringVar(&n.mac, "mac", "", "hardware address; whoever had it loses it; '' erases")
	f.VarP(textOption{&n.Switch}, "switch", "s", "switch that the nodes are connected to; '' clears")
	f.VarP(textOption{&n.Port}, "port", "p", "name or number of the switch's port; '' clears")
	f.VarP(yesNo{&n.localboot}, "localboot", "l", "boot from the disk")
	f.Var(yesNo{&n.setupbmc}, "setupbmc", "set up the BMC when installing (--sb in short)")
	f.Var(yesNo{&n.service}, "service", "stop at a shell instead of installing (--sv in short)")
	f.Var(listOption{&n.Tag}, "tag", "give the nodes these tags, comma separated")
	f.Var(listOption{&n.Untag}, "untag", "take these tags from the nodes, comma separated")
	f.BoolVarP(&n.comment, "comment", "C", false, "edit the comment")
	modern(c, "tag", "untag")
	c.MarkFlagsMutuallyExclusive("group", "interface")
	n.editor.declare(c)
	return c
}

func (n *nodeChanges) do(ctx context.Context, s *session) error {
	if n.editor.clear && !n.comment {
		return usagef("argument --clear: it needs the text to erase: --comment")
	}
	r := n.ChangeNodes
	r.LocalBoot, r.SetupBMC, r.Service = ifGiven(s, "localboot", n.localboot), ifGiven(s, "setupbmc", n.setupbmc), ifGiven(s, "service", n.service)
	var err error
	if r.Addresses, err = n.addresses.parse(s.name); err != nil {
		return err
	}
	if s.given("mac") {
		var m inventory.MAC
		if n.mac != "" {
			if m, err = inventory.ParseMAC(n.mac); err != nil {
				return err
			}
		}
		r.MAC = &m
	}
	if n.comment {
		now, err := s.NodesNamed(ctx, s.name)
		if err != nil {
			return err
		}
		text, err := n.editor.edit(ctx, s, deref(now[0].Comment), "comment")
		if err != nil {
			return err
		}
		r.Comment = &text
	}
	return s.done(s.ChangeNodes(ctx, s.name, r))
}

func nodeDelete(a *app) *cobra.Command {
	return named(&cobra.Command{
		Use:   "delete NAME",
		Short: "Delete nodes, all or none, and free their addresses",
		Long:  "Delete nodes, all or none, and free their addresses.\n" + aboutSelections,
		Example: `  luna node delete node[001-003]
  luna node delete @old`,
		RunE: a.do(func(ctx context.Context, s *session) error { return s.done(s.DeleteNodes(ctx, s.name)) }),
	})
}
