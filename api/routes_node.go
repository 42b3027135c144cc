package api

import (
	"context"

	"github.com/clustervision/luna/inventory"
)

// selection is an input whose path names nodes.
type selection struct {
	Name string `path:"name" doc:"a name, a hostlist as node[001-003,007], @tag or %group"`
}

func (s *server) nodes() {
	on(s, RoleAdmin, "GET", "/v1/nodes", "List nodes", func(ctx context.Context, in *struct {
		Group string `query:"group" doc:"only nodes of this group"`
		Names string `query:"names" doc:"only these: a hostlist, @tag, %group"`
	},
	) (*body[[]Node], error) {
		inv := s.b.View()
		nodes, err := selectNodes(inv, in.Group, in.Names)
		if err != nil {
			return nil, err
		}
		out := &body[[]Node]{Body: make([]Node, 0, len(nodes))}
		render := newNodeRenderer(inv)
		for _, n := range nodes {
			out.Body = append(out.Body, render.node(n))
		}
		s.fillProgress(ctx, out.Body)
		return out, nil
	})
	on(s, RoleAdmin, "GET", "/v1/nodes/{name}", "Show a node", func(ctx context.Context, in *named) (*body[Node], error) {
		inv := s.b.View()
		n, ok := inv.Node(in.Name)
		if !ok {
			return nil, inventory.NotFound("node", in.Name)
		}
		one := []Node{NodeOf(inv, n)}
		s.fillProgress(ctx, one)
		return &body[Node]{one[0]}, nil
	})
	on(s, RoleAdmin, "GET", "/v1/nodes/{name}/script/{step}", "Show what a node gets at a step: boot or install", func(_ context.Context, in *struct {
		Name string `path:"name"`
		Step string `path:"step" enum:"boot,install"`
	},
	) (*body[string], error) {
		n, ok := s.b.View().Node(in.Name)
		if !ok {
			return nil, inventory.NotFound("node", in.Name)
		}
		text, err := s.b.Script(n, in.Step)
		return &body[string]{text}, err
	})
	s.writeNodes()
}

// selectNodes gives the nodes of a group, the named ones, or all.
func selectNodes(inv *inventory.Inventory, group, names string) ([]*inventory.Node, error) {
	var of inventory.ID
	if group != "" {
		g, ok := inv.Group(group)
		if !ok {
			return nil, inventory.NotFound("group", group)
		}
		of = g.ID
	}
	var list []*inventory.Node
	if names != "" {
		chosen, err := inv.SelectNodes(names)
		if err != nil {
			return nil, err
		}
		for _, name := range chosen {
			n, ok := inv.Node(name)
			if !ok {
				return nil, inventory.NotFound("node", name)
			}
			if of == 0 || n.Group == of {
				list = append(list, n)
			}
		}
		return list, nil
	}
	for n := range inv.Nodes() {
		if of == 0 || n.Group == of {
			list = append(list, n)
		}
	}
	return list, nil
}

func (s *server) writeNodes() {
	on(s, RoleAdmin, "POST", "/v1/nodes", "Add nodes, all or none", func(ctx context.Context, in *body[AddNodes]) (*body[Written], error) {
		c := inventory.AddNodes{Group: in.Body.Group, MAC: in.Body.MAC, Tags: in.Body.Tags}
		var err error
		if in.Body.Names != "" {
			if c.Names, err = inventory.ExpandNames("node", in.Body.Names); err != nil {
				return nil, err
			}
		}
		return s.write(ctx, c)
	})
	on(s, RoleAdmin, "PATCH", "/v1/nodes/{name}", "Change nodes, all or none", func(ctx context.Context, in *change[ChangeNodes]) (*body[Written], error) {
		names, err := s.b.View().SelectNodes(in.Name)
		if err != nil {
			return nil, err
		}
		return s.write(ctx, in.Body.command(names))
	})
	on(s, RoleAdmin, "DELETE", "/v1/nodes/{name}", "Delete nodes, all or none", func(ctx context.Context, in *selection) (*body[Written], error) {
		names, err := s.b.View().SelectNodes(in.Name)
		if err != nil {
			return nil, err
		}
		return s.write(ctx, inventory.DeleteNodes{Names: names})
	})
}

// fillProgress sets the percentage on nodes in the middle of a download.
func (s *server) fillProgress(ctx context.Context, nodes []Node) {
	var names []string
	at := map[string]int{}
	for i, n := range nodes {
		if n.Status != nil && n.Status.Stage == "install.download" {
			names, at[n.Name] = append(names, n.Name), i
		}
	}
	if len(names) == 0 {
		return
	}
	for name, p := range s.b.Progress(ctx, names) {
		if i, ok := at[name]; ok {
			nodes[i].Status.Percent, nodes[i].Status.Age = p.Percent, p.Age
		}
	}
}
