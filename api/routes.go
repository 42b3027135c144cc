package api

import (
	"context"
	"encoding/json"
	"net/http"

	"github.com/clustervision/luna/inventory"
)

func (s *server) cluster() {
	on(s, RoleAdmin, "GET", "/v1/cluster", "Show the cluster", func(context.Context, *none) (*body[Cluster], error) {
		c, err := ClusterOf(s.b.View())
		return &body[Cluster]{c}, err
	})
	on(s, RoleLocal, "POST", "/v1/cluster", "Make a cluster of this one head", func(ctx context.Context, in *body[InitRequest]) (*body[InitReply], error) {
		r, err := s.b.Init(ctx, in.Body)
		return &body[InitReply]{r}, err
	})
	on(s, RoleAdmin, "PATCH", "/v1/cluster", "Change the cluster", func(ctx context.Context, in *body[inventory.ChangeCluster]) (*none, error) {
		return nil, s.propose(ctx, in.Body)
	})
	on(s, RoleLocal, "POST", "/v1/credentials/{name}", "Make an admin credential", func(ctx context.Context, in *named) (*body[string], error) {
		c, err := s.b.Credential(ctx, in.Name)
		return &body[string]{string(c)}, err
	})
	on(s, RoleAdmin, "POST", "/v1/rename", "Rename an object", func(ctx context.Context, in *body[inventory.Rename]) (*none, error) {
		return nil, s.propose(ctx, in.Body)
	})
}

func (s *server) networks() {
	on(s, RoleAdmin, "GET", "/v1/networks", "List networks", func(context.Context, *none) (*body[[]Network], error) {
		inv := s.b.View()
		return collect(inv, inv.Networks(), NetworkOf), nil
	})
	on(s, RoleAdmin, "GET", "/v1/networks/{name}", "Show a network", func(_ context.Context, in *named) (*body[Network], error) {
		inv := s.b.View()
		n, ok := inv.Network(in.Name)
		if !ok {
			return nil, inventory.NotFound("network", in.Name)
		}
		return &body[Network]{NetworkOf(inv, n)}, nil
	})
	on(s, RoleAdmin, "POST", "/v1/networks", "Add a network", func(ctx context.Context, in *body[inventory.AddNetwork]) (*none, error) {
		if in.Body.NSHostname == "" {
			self, err := s.b.Self(ctx)
			if err != nil {
				return nil, err
			}
			in.Body.NSHostname = self.Name
		}
		return nil, s.propose(ctx, in.Body)
	})
	on(s, RoleAdmin, "PATCH", "/v1/networks/{name}", "Change a network", func(ctx context.Context, in *change[inventory.ChangeNetwork]) (*none, error) {
		in.Body.Name = in.Name
		return nil, s.propose(ctx, in.Body)
	})
	on(s, RoleAdmin, "PUT", "/v1/networks/{name}/range", "Serve DHCP on a network, with a pool for unknown machines", func(ctx context.Context, in *change[inventory.AddrRange]) (*none, error) {
		return nil, s.propose(ctx, inventory.SetRange{Network: in.Name, Range: in.Body})
	})
	on(s, RoleAdmin, "DELETE", "/v1/networks/{name}/range", "Serve DHCP on a network no more", func(ctx context.Context, in *named) (*none, error) {
		return nil, s.propose(ctx, inventory.SetRange{Network: in.Name})
	})
	on(s, RoleAdmin, "DELETE", "/v1/networks/{name}", "Delete a network", func(ctx context.Context, in *named) (*none, error) {
		return nil, s.propose(ctx, inventory.DeleteNetwork{Name: in.Name})
	})
}

func (s *server) osimages() {
	on(s, RoleAdmin, "GET", "/v1/osimages", "List osimages", func(context.Context, *none) (*body[[]OSImage], error) {
		inv := s.b.View()
		return collect(inv, inv.OSImages(), OSImageOf), nil
	})
	on(s, RoleAdmin, "GET", "/v1/osimages/{name}", "Show an osimage and its versions", func(_ context.Context, in *named) (*body[OSImage], error) {
		inv := s.b.View()
		o, ok := inv.OSImage(in.Name)
		if !ok {
			return nil, inventory.NotFound("osimage", in.Name)
		}
		return &body[OSImage]{OSImageOf(inv, o)}, nil
	})
	on(s, RoleAdmin, "POST", "/v1/osimages", "Add an osimage whose tree lies on this head", func(ctx context.Context, in *body[inventory.AddOSImage]) (*none, error) {
		return nil, s.b.AddOSImage(ctx, caller(ctx).Name, in.Body)
	})
	on(s, RoleAdmin, "PATCH", "/v1/osimages/{name}", "Change an osimage", func(ctx context.Context, in *change[inventory.ChangeOSImage]) (*none, error) {
		in.Body.Name = in.Name
		return nil, s.propose(ctx, in.Body)
	})
	on(s, RoleAdmin, "DELETE", "/v1/osimages/{name}", "Delete an osimage and its versions; the tree stays", func(ctx context.Context, in *named) (*none, error) {
		return nil, s.propose(ctx, inventory.DeleteOSImage{Name: in.Name})
	})
	on(s, RoleAdmin, "DELETE", "/v1/versions/{name}", "Delete a version that nodes do not boot", func(ctx context.Context, in *named) (*none, error) {
		return nil, s.propose(ctx, inventory.DeleteVersion{Version: in.Name})
	})
}

// pack streams one PackEvent a line. The status is sent with the first one, so
// a failure later is the last event; a client that sees neither "done" nor an
// error knows that the head died.
func (s *server) pack(w http.ResponseWriter, r *http.Request) {
	if c := caller(r.Context()); c.Role < RoleAdmin {
		writeError(w, inventory.Errorf(inventory.KindDenied, "", "", "'%s' may not do this: %s", c.Name, mayDo(RoleAdmin)))
		return
	}
	enc := json.NewEncoder(w)
	started := false
	emit := func(e PackEvent) {
		if !started {
			w.Header().Set("Content-Type", "application/x-ndjson")
			started = true
		}
		_ = enc.Encode(e)                         // a client that went away stops the pack through the context
		_ = http.NewResponseController(w).Flush() // likewise
	}
	err := s.b.Pack(r.Context(), caller(r.Context()).Name, r.PathValue("name"), emit)
	switch {
	case err == nil:
	case started:
		emit(PackEvent{Error: inventory.AsError(err)})
	default:
		writeError(w, inventory.AsError(err))
	}
}

func (s *server) groups() {
	on(s, RoleAdmin, "GET", "/v1/groups", "List groups", func(context.Context, *none) (*body[[]Group], error) {
		inv := s.b.View()
		return collect(inv, inv.Groups(), GroupOf), nil
	})
	on(s, RoleAdmin, "GET", "/v1/groups/{name}", "Show a group", func(_ context.Context, in *named) (*body[Group], error) {
		inv := s.b.View()
		g, ok := inv.Group(in.Name)
		if !ok {
			return nil, inventory.NotFound("group", in.Name)
		}
		return &body[Group]{GroupOf(inv, g)}, nil
	})
	on(s, RoleAdmin, "POST", "/v1/groups", "Add a group", func(ctx context.Context, in *body[inventory.AddGroup]) (*none, error) {
		return nil, s.propose(ctx, in.Body)
	})
	on(s, RoleAdmin, "PATCH", "/v1/groups/{name}", "Change a group", func(ctx context.Context, in *change[inventory.ChangeGroup]) (*none, error) {
		in.Body.Name = in.Name
		return nil, s.propose(ctx, in.Body)
	})
	on(s, RoleAdmin, "PATCH", "/v1/groups/{name}/interfaces", "Change an interface of a group", func(ctx context.Context, in *change[inventory.ChangeInterface]) (*body[string], error) {
		in.Body.Group = in.Name
		r, err := s.b.Propose(ctx, caller(ctx).Name, in.Body)
		out := &body[string]{}
		if err == nil {
			err = r.Into(&out.Body)
		}
		return out, err
	})
	on(s, RoleAdmin, "DELETE", "/v1/groups/{name}", "Delete a group without nodes", func(ctx context.Context, in *named) (*none, error) {
		return nil, s.propose(ctx, inventory.DeleteGroup{Name: in.Name})
	})
}

// hosts is an input whose path names nodes by a hostlist.
type hosts struct {
	Names string `path:"names" doc:"a hostlist: node[001-003,007]"`
}

func (s *server) nodes() {
	on(s, RoleAdmin, "GET", "/v1/nodes", "List nodes", func(ctx context.Context, in *struct {
		Group string `query:"group" doc:"only nodes of this group"`
	},
	) (*body[[]Node], error) {
		inv := s.b.View()
		if in.Group != "" {
			if _, ok := inv.Group(in.Group); !ok {
				return nil, inventory.NotFound("group", in.Group)
			}
		}
		out := collect(inv, inv.Nodes(), NodeOf)
		if in.Group != "" {
			all := out.Body
			out.Body = []Node{}
			for _, n := range all {
				if n.Group == in.Group {
					out.Body = append(out.Body, n)
				}
			}
		}
		s.fillProgress(ctx, out.Body)
		return out, nil
	})
	on(s, RoleAdmin, "GET", "/v1/nodes/{names}", "Show nodes", func(ctx context.Context, in *hosts) (*body[[]Node], error) {
		names, err := expand("node", in.Names)
		if err != nil {
			return nil, err
		}
		inv, out := s.b.View(), &body[[]Node]{}
		for _, name := range names {
			n, ok := inv.Node(name)
			if !ok {
				return nil, inventory.NotFound("node", name)
			}
			out.Body = append(out.Body, NodeOf(inv, n))
		}
		s.fillProgress(ctx, out.Body)
		return out, nil
	})
	s.writeNodes()
	on(s, RoleAdmin, "GET", "/v1/nodes/{names}/script/{step}", "Show what a node gets at a step: boot or install", func(_ context.Context, in *struct {
		Names string `path:"names"`
		Step  string `path:"step" enum:"boot,install"`
	},
	) (*body[string], error) {
		n, ok := s.b.View().Node(in.Names)
		if !ok {
			return nil, inventory.NotFound("node", in.Names)
		}
		text, err := s.b.Script(n, in.Step)
		return &body[string]{text}, err
	})
}

func (s *server) writeNodes() {
	on(s, RoleAdmin, "POST", "/v1/nodes", "Add nodes", func(ctx context.Context, in *body[AddNodes]) (*body[[]string], error) {
		c := inventory.AddNodes{Group: in.Body.Group, MAC: in.Body.MAC}
		var err error
		if in.Body.Names != "" {
			if c.Names, err = expand("node", in.Body.Names); err != nil {
				return nil, err
			}
		}
		r, err := s.b.Propose(ctx, caller(ctx).Name, c)
		out := &body[[]string]{}
		if err == nil {
			err = r.Into(&out.Body)
		}
		return out, err
	})
	on(s, RoleAdmin, "PATCH", "/v1/nodes/{names}", "Change nodes, all or none", func(ctx context.Context, in *struct {
		Names string `path:"names"`
		Body  ChangeNodes
	},
	) (*none, error) {
		names, err := expand("node", in.Names)
		if err != nil {
			return nil, err
		}
		return nil, s.propose(ctx, in.Body.command(names))
	})
	on(s, RoleAdmin, "DELETE", "/v1/nodes/{names}", "Delete nodes, all or none", func(ctx context.Context, in *hosts) (*none, error) {
		names, err := expand("node", in.Names)
		if err != nil {
			return nil, err
		}
		return nil, s.propose(ctx, inventory.DeleteNodes{Names: names})
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
	for name, percent := range s.b.Progress(ctx, names) {
		if i, ok := at[name]; ok {
			nodes[i].Status.Percent = percent
		}
	}
}

func (s *server) heads() {
	on(s, RoleAdmin, "GET", "/v1/heads", "List heads", func(ctx context.Context, _ *none) (*body[[]Head], error) {
		h, err := s.b.Heads(ctx)
		return &body[[]Head]{h}, err
	})
	on(s, RoleAdmin, "GET", "/v1/head", "Show how the asked head is", func(ctx context.Context, _ *none) (*body[HeadStatus], error) {
		h, err := s.b.Self(ctx)
		return &body[HeadStatus]{h}, err
	})
	on(s, RoleAdmin, "POST", "/v1/heads/invite", "Make a join token", func(ctx context.Context, in *body[InviteRequest]) (*body[InviteReply], error) {
		r, err := s.b.Invite(ctx, caller(ctx).Name, in.Body)
		return &body[InviteReply]{r}, err
	})
	on(s, RoleAdmin, "DELETE", "/v1/heads/{name}", "Remove a head for good", func(ctx context.Context, in *named) (*none, error) {
		return nil, s.b.RemoveHead(ctx, caller(ctx).Name, in.Name)
	})
	on(s, RoleLocal, "POST", "/v1/join", "Make this head a member of a mesh", func(ctx context.Context, in *body[JoinRequest]) (*none, error) {
		return nil, s.b.Join(ctx, in.Body)
	})
	on(s, RoleNobody, "POST", "/v1/admissions", "Ask to become a member, with a join token", func(ctx context.Context, in *body[AdmitRequest]) (*body[AdmitReply], error) {
		r, err := s.b.Admit(ctx, in.Body)
		return &body[AdmitReply]{r}, err
	})
	on(s, RoleHead, "POST", "/v1/commands", "Apply a command that another head took", func(ctx context.Context, in *body[json.RawMessage]) (*body[Applied], error) {
		r, err := s.b.Forwarded(ctx, in.Body)
		return &body[Applied]{r}, err
	})
}
