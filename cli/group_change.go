package cli

import (
	"context"
	"slices"

	"github.com/spf13/cobra"

	"github.com/clustervision/luna/inventory"
)

// whichever is what --delnet says when it names no network.
const whichever = "*"

// groupChanges are the options of luna group change.
type groupChanges struct {
	editor editor

	osimage, domain, bmcsetup, torrentIF string

	pre, part, post, comment, params bool // what to edit

	iface    string
	bmc      bool
	add, del bool
	setnet   string
	delnet   string
	rename   string
}

func groupChange(a *app) *cobra.Command {
	var g groupChanges
	c := named(&cobra.Command{
		Use:   "change NAME",
		Short: "Change a group, its interfaces or its scripts",
		Long: `Change a group. Several things in one call are one change: all of them or none.
What is to happen to an interface happens in this order: add, delete, setnet,
delnet, rename, edit. setnet gives every node of the group an address at once,
delnet takes it.

One text can be edited in a call. It is read from stdin where that is no
terminal, else edited with $EDITOR; --clear erases it.`,
		Example: `  luna group change compute -i BMC --setnet ipmi
  luna group change compute -b base --torrent_if ib0
  luna group change compute --partscript < partscript.sh`,
		RunE: a.do(func(ctx context.Context, s *session) error { return g.do(ctx, s) }),
	})
	f := c.Flags()
	f.StringVarP(&g.osimage, "osimage", "o", "", "osimage that its nodes boot")
	f.StringVarP(&g.domain, "domain", "d", "", "network whose name is the nodes' domain; '' for none")
	f.StringVarP(&g.bmcsetup, "bmcsetup", "b", "", "bmcsetup for the management controllers of its nodes; '' for none")
	f.StringVar(&g.torrentIF, "torrent_if", "", "interface over which the nodes share the image; '' for the one they boot from (--ti or -ti in short)")
	f.BoolVar(&g.pre, "prescript", false, "edit the script that runs first")
	f.BoolVar(&g.part, "partscript", false, "edit the script that makes the file systems")
	f.BoolVar(&g.post, "postscript", false, "edit the script that runs last")
	f.BoolVarP(&g.comment, "comment", "C", false, "edit the comment")
	f.StringVarP(&g.iface, "interface", "i", "", "the interface to change")
	f.BoolVar(&g.bmc, "bmcnetwork", false, "the same as -i BMC, which is made if it is missing")
	f.BoolVarP(&g.add, "add", "A", false, "add the interface")
	f.BoolVarP(&g.del, "delete", "D", false, "delete the interface")
	f.StringVar(&g.setnet, "setnet", "", "give the interface a network (--sn in short)")
	f.StringVar(&g.delnet, "delnet", "", "take its network from the interface; name it if it has two (--dn in short)")
	f.Lookup("delnet").NoOptDefVal = whichever
	f.StringVar(&g.rename, "rename", "", "give the interface another name (--nn in short)")
	f.BoolVarP(&g.params, "edit", "e", false, "edit the interface's parameters; of no effect on a script, which is edited anyway")
	c.MarkFlagsMutuallyExclusive("interface", "bmcnetwork")
	g.editor.declare(c)
	return c
}

func (g *groupChanges) do(ctx context.Context, s *session) error {
	if g.bmc {
		g.iface = inventory.BMC
	}
	edits := 0
	for _, on := range []bool{g.pre, g.part, g.post, g.comment, g.params && g.iface != ""} {
		if on {
			edits++
		}
	}
	switch {
	case edits > 1:
		return refusef("group", s.name, "Only one element can be edited")
	case edits == 0 && g.editor.clear:
		return usagef("argument --clear: it needs the text to erase, such as --partscript")
	}
	actions, err := g.actions(s)
	if err != nil {
		return err
	}
	change := inventory.ChangeGroup{
		Name: s.name, Interfaces: actions,
		OSImage: ifGiven(s, "osimage", g.osimage), Domain: ifGiven(s, "domain", g.domain),
		BMCSetup: ifGiven(s, "bmcsetup", g.bmcsetup), TorrentIF: ifGiven(s, "torrent_if", g.torrentIF),
	}
	if err := g.editText(ctx, s, &change); err != nil {
		return err
	}
	if err := g.editParams(ctx, s, change.Interfaces); err != nil {
		return err
	}
	return s.change(ctx, change)
}

// editsText tells whether a script or the comment is to be edited.
func (g *groupChanges) editsText() bool { return g.pre || g.part || g.post || g.comment }

// actions lists what to do to the interface, in 1.2's order.
func (g *groupChanges) actions(s *session) ([]inventory.InterfaceChange, error) {
	var list []inventory.InterfaceChange
	put := func(on bool, c inventory.InterfaceChange) {
		if on {
			c.Interface = g.iface
			list = append(list, c)
		}
	}
	network := g.delnet
	if network == whichever {
		network = ""
	}
	put(g.add, inventory.InterfaceChange{Action: inventory.InterfaceAdd})
	put(g.del, inventory.InterfaceChange{Action: inventory.InterfaceDelete})
	put(s.given("setnet"), inventory.InterfaceChange{Action: inventory.InterfaceSetNet, Network: g.setnet, Implicit: g.bmc})
	put(s.given("delnet"), inventory.InterfaceChange{Action: inventory.InterfaceDelNet, Network: network})
	put(s.given("rename"), inventory.InterfaceChange{Action: inventory.InterfaceRename, NewName: g.rename})
	put(g.params && g.iface != "", inventory.InterfaceChange{Action: inventory.InterfaceParams})
	switch {
	case g.iface == "" && len(list) > 0:
		return nil, usagef("argument --%s: an interface is needed: --interface/-i", list[0].Action)
	case g.iface != "" && len(list) == 0:
		return nil, refusef("group", s.name, "Action for interfaces should be specified.")
	}
	return list, nil
}

// editText lets the user edit the one script or comment that is asked for.
func (g *groupChanges) editText(ctx context.Context, s *session, change *inventory.ChangeGroup) error {
	if !g.editsText() {
		return nil
	}
	now, err := s.Group(ctx, s.name)
	if err != nil {
		return err
	}
	switch {
	case g.pre:
		change.PreScript, err = g.editor.script(ctx, s, now.PreScript, "prescript.sh")
	case g.part:
		change.PartScript, err = g.editor.script(ctx, s, now.PartScript, "partscript.sh")
	case g.post:
		change.PostScript, err = g.editor.script(ctx, s, now.PostScript, "postscript.sh")
	default:
		var text string
		text, err = g.editor.edit(ctx, s, deref(now.Comment), "comment")
		change.Comment = &text
	}
	return err
}

// editParams lets the user edit the parameters of the interface.
func (g *groupChanges) editParams(ctx context.Context, s *session, actions []inventory.InterfaceChange) error {
	at := slices.IndexFunc(actions, func(c inventory.InterfaceChange) bool { return c.Action == inventory.InterfaceParams })
	if at < 0 {
		return nil
	}
	now, err := s.Group(ctx, s.name)
	if err != nil {
		return err
	}
	i, has := now.Interfaces[g.iface]
	if !has && !g.add {
		return refusef("group", s.name, "No such interface '%s'", g.iface)
	}
	actions[at].Params, err = g.editor.edit(ctx, s, i.Params, g.iface+".conf")
	return err
}
