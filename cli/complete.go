package cli

import (
	"context"
	"io"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/clustervision/luna/api"
	"github.com/clustervision/luna/bmc"
)

// This file finds the words that complete a command line, for the shells'
// scripts that completion.go prints. What an option or an argument takes follows
// from its name, so that commands need not say so.

// completionTime is how long a person who has pressed the key is kept waiting
// for a head.
const completionTime = 2 * time.Second

// What an option or an argument takes, besides the types of objects and words
// that are written a|b|c.
const (
	takesNothing    = "" // that could be listed
	takesFile       = "file"
	takesDirectory  = "directory"
	takesInterface  = "interface"
	takesKernel     = "kernel"
	takesSelection  = "selection" // of nodes
	takesGroups     = "groups"    // a hostlist of them
	takesTag        = "tag"
	takesLogSubject = "subject" // TYPE, TYPE/NAME or the NAME of a node
)

// completeAll has a command and all below it complete their words.
func completeAll(a *app, c *cobra.Command) {
	for _, sub := range c.Commands() {
		completeAll(a, sub)
	}
	option := func(f *pflag.Flag) {
		if !isBool(f) {
			takes := optionTakes(c, f)
			// It fails for an option that has a function of its own already.
			_ = c.RegisterFlagCompletionFunc(f.Name, func(cmd *cobra.Command, args []string, typed string) ([]string, cobra.ShellCompDirective) {
				return a.complete(cmd, args, takes, typed)
			})
		}
	}
	c.Flags().VisitAll(option)
	c.PersistentFlags().VisitAll(option)
	if c.ValidArgsFunction == nil && !c.HasSubCommands() {
		c.ValidArgsFunction = func(cmd *cobra.Command, args []string, typed string) ([]string, cobra.ShellCompDirective) {
			return a.complete(cmd, args, argumentTakes(cmd, args), typed)
		}
	}
}

// optionTakes tells what the value of an option is.
func optionTakes(c *cobra.Command, f *pflag.Flag) string {
	if words := f.Value.Type(); strings.Contains(words, "|") {
		return words
	}
	noun := nounOf(c)
	switch f.Name {
	case "name":
		if c.Name() == "add" {
			return takesNothing // a new one
		}
		return objectTakes(noun)
	case "network":
		if noun == "network" {
			return takesNothing // an address
		}
		return "network"
	case "bmcnetwork", "setnet", "delnet", "domain":
		return "network"
	case "osimage", "bmcsetup", "group", "switch":
		return f.Name
	case "groups":
		return takesGroups
	case "host":
		return "node"
	case "interface", "torrent_if":
		return takesInterface
	case "kernver":
		return takesKernel
	case "tag", "untag":
		return takesTag
	case "path", "named_zone_dir", "export", "data-dir", "ipxe-dir", "man":
		return takesDirectory
	case "file", "credential", "named_include_file", "config", "socket", "installer", "markdown", "passphrase-file":
		return takesFile
	}
	return takesNothing
}

// argumentTakes tells what the next argument of a command is.
func argumentTakes(c *cobra.Command, args []string) string {
	_, use, _ := strings.Cut(c.Use, " ")
	switch {
	case c.Name() == "lpower":
		if len(args) == 1 || len(args) == 0 && c.Flags().Changed("groups") {
			return string(bmc.Status + "|" + bmc.On + "|" + bmc.Off + "|" + bmc.Reset + "|" + bmc.Cycle + "|" + bmc.Identify + "|" + bmc.NoIdentify)
		}
		if len(args) == 0 {
			return takesSelection
		}
	case c.Name() == "completion" && len(args) < 2:
		return strings.Trim(strings.Fields(use)[len(args)], "[]")
	case len(args) > 0 || c.Flags().Changed("name"):
	case c.Name() == "lchroot":
		return "osimage"
	case c.Name() == "log":
		return takesLogSubject
	case strings.Contains(use, "FILE"):
		return takesFile
	case strings.HasPrefix(use, "[HEAD]"):
		return "head"
	case strings.HasPrefix(strings.Trim(use, "["), "NAME"):
		return objectTakes(nounOf(c))
	}
	return takesNothing
}

func nounOf(c *cobra.Command) string {
	if c.HasParent() && c.Parent().HasParent() {
		return c.Parent().Name()
	}
	return ""
}

// objectTakes tells how objects of a type are named.
func objectTakes(object string) string {
	switch object {
	case "node":
		return takesSelection
	case "cluster": // cluster credential NAME
		return takesNothing
	}
	return object
}

// complete gives the words that go on from what is typed. When no head can be
// asked in time there are none, without a word about it.
func (a *app) complete(cmd *cobra.Command, args []string, takes, typed string) ([]string, cobra.ShellCompDirective) {
	switch takes {
	case takesNothing:
		return nil, cobra.ShellCompDirectiveNoFileComp
	case takesFile:
		return nil, cobra.ShellCompDirectiveDefault
	case takesDirectory:
		return nil, cobra.ShellCompDirectiveFilterDirs
	}
	before, term := lastTerm(typed)
	var words []string
	if strings.Contains(takes, "|") {
		words = strings.Split(takes, "|")
	} else if !strings.Contains(term, "[") { // the numbers of a range are the user's to know
		client, err := a.connect(io.Discard)
		if err != nil {
			return nil, cobra.ShellCompDirectiveNoFileComp
		}
		client.Local = true // names do not get fresher by waiting
		ctx, cancel := context.WithTimeout(cmd.Context(), completionTime)
		defer cancel()
		words, _ = wordsOf(ctx, client, cmd, args, takes, term)
	}
	words = slices.DeleteFunc(words, func(w string) bool { return !strings.HasPrefix(w, term) })
	slices.Sort(words)
	words = slices.Compact(words)
	for i := range words {
		words[i] = before + words[i]
	}
	return words, cobra.ShellCompDirectiveNoFileComp
}

// lastTerm cuts a selection before the term that is being typed.
func lastTerm(typed string) (before, term string) {
	if strings.Count(typed, "[") > strings.Count(typed, "]") {
		return "", typed // a comma within brackets parts no terms
	}
	at := strings.LastIndexAny(typed, ",!&") + 1
	if at > 0 && typed[at-1] == ',' && strings.HasPrefix(typed[at:], "-") {
		at++
	}
	return typed[:at], typed[at:]
}

// wordsOf asks the head, once, for what can stand there. term is what is typed of
// it.
func wordsOf(ctx context.Context, c *api.Client, cmd *cobra.Command, args []string, takes, term string) ([]string, error) {
	name := strings.Join(args, "")
	if f := cmd.Flags().Lookup("name"); f != nil && f.Changed {
		name = f.Value.String()
	}
	switch takes {
	case takesSelection:
		switch sign := term[:min(1, len(term))]; sign {
		case "%":
			return prefixed(sign)(objectNames(ctx, c, "group"))
		case "@":
			return prefixed(sign)(tagNames(ctx, c))
		}
		return objectNames(ctx, c, "node")
	case takesGroups:
		return objectNames(ctx, c, "group")
	case takesTag:
		return tagNames(ctx, c)
	case takesKernel:
		return c.Kernels(ctx, name)
	case takesInterface:
		return interfaceNames(ctx, c, nounOf(cmd), name)
	case takesLogSubject:
		object, _, named := strings.Cut(term, "/")
		if named {
			return prefixed(object + "/")(objectNames(ctx, c, object))
		}
		nodes, err := objectNames(ctx, c, "node")
		return append(nodes, loggedTypes...), err
	}
	return objectNames(ctx, c, takes)
}

// prefixed puts a prefix before each word.
func prefixed(prefix string) func([]string, error) ([]string, error) {
	return func(words []string, err error) ([]string, error) {
		for i := range words {
			words[i] = prefix + words[i]
		}
		return words, err
	}
}

// objectNames gives the names of the objects of a type.
func objectNames(ctx context.Context, c *api.Client, object string) ([]string, error) {
	switch object {
	case "network":
		return names(func(n api.Network) string { return n.Name })(c.Networks(ctx))
	case "osimage":
		return names(func(o api.OSImage) string { return o.Name })(c.OSImages(ctx))
	case "bmcsetup":
		return names(func(b api.BMCSetup) string { return b.Name })(c.BMCSetups(ctx, false))
	case "group":
		return names(func(g api.Group) string { return g.Name })(c.Groups(ctx))
	case "node":
		return names(func(n api.Node) string { return n.Name })(c.Nodes(ctx, ""))
	case "switch":
		return names(func(s api.Switch) string { return s.Name })(c.Switches(ctx))
	case "otherdev":
		return names(func(o api.OtherDev) string { return o.Name })(c.OtherDevs(ctx))
	case "head":
		return names(func(h api.Head) string { return h.Name })(c.Heads(ctx))
	}
	return nil, nil
}

// names gives the name of each object.
func names[T any](name func(T) string) func([]T, error) ([]string, error) {
	return func(list []T, err error) ([]string, error) {
		all := make([]string, len(list))
		for i, o := range list {
			all[i] = name(o)
		}
		return all, err
	}
}

// tagNames gives the tags that nodes have.
func tagNames(ctx context.Context, c *api.Client) ([]string, error) {
	nodes, err := c.Nodes(ctx, "")
	var tags []string
	for _, n := range nodes {
		tags = append(tags, n.Tags...)
	}
	return tags, err
}

// interfaceNames gives the interfaces of the named nodes or group, or those of
// all groups where none is named.
func interfaceNames(ctx context.Context, c *api.Client, noun, name string) ([]string, error) {
	var all []string
	switch {
	case noun == "node" && name != "":
		nodes, err := c.NodesNamed(ctx, name)
		for _, n := range nodes {
			all = slices.AppendSeq(all, maps.Keys(n.Interfaces))
		}
		return all, err
	case noun == "group" && name != "":
		g, err := c.Group(ctx, name)
		return slices.AppendSeq(all, maps.Keys(g.Interfaces)), err
	}
	groups, err := c.Groups(ctx)
	for _, g := range groups {
		all = slices.AppendSeq(all, maps.Keys(g.Interfaces))
	}
	return all, err
}
