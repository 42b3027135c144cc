package api

import (
	"context"

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
	on(s, RoleAdmin, "PATCH", "/v1/cluster", "Change the cluster", func(ctx context.Context, in *body[inventory.ChangeCluster]) (*body[Written], error) {
		return s.write(ctx, in.Body)
	})
	on(s, RoleAdmin, "DELETE", "/v1/cluster", "Delete the cluster; the heads stay a mesh", func(ctx context.Context, in *struct {
		Force bool `query:"force" doc:"with all that is in it"`
	},
	) (*body[Written], error) {
		return s.write(ctx, inventory.DeleteCluster{Force: in.Force})
	})
	on(s, RoleLocal, "POST", "/v1/credentials/{name}", "Make an admin credential", func(ctx context.Context, in *named) (*body[string], error) {
		c, err := s.b.Credential(ctx, in.Name)
		return &body[string]{string(c)}, err
	})
	on(s, RoleAdmin, "POST", "/v1/rename", "Rename an object", func(ctx context.Context, in *body[inventory.Rename]) (*body[Written], error) {
		return s.write(ctx, in.Body)
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
	on(s, RoleAdmin, "POST", "/v1/networks", "Add a network", func(ctx context.Context, in *body[inventory.AddNetwork]) (*body[Written], error) {
		return s.write(ctx, in.Body)
	})
	on(s, RoleAdmin, "PATCH", "/v1/networks/{name}", "Change a network", func(ctx context.Context, in *change[inventory.ChangeNetwork]) (*body[Written], error) {
		in.Body.Name = in.Name
		return s.write(ctx, in.Body)
	})
	on(s, RoleAdmin, "PUT", "/v1/networks/{name}/range", "Serve DHCP on a network, with a pool for unknown machines", func(ctx context.Context, in *change[inventory.AddrRange]) (*body[Written], error) {
		return s.write(ctx, inventory.SetRange{Network: in.Name, Range: in.Body})
	})
	on(s, RoleAdmin, "DELETE", "/v1/networks/{name}/range", "Serve DHCP on a network no more", func(ctx context.Context, in *named) (*body[Written], error) {
		return s.write(ctx, inventory.SetRange{Network: in.Name})
	})
	on(s, RoleAdmin, "DELETE", "/v1/networks/{name}", "Delete a network", func(ctx context.Context, in *named) (*body[Written], error) {
		return s.write(ctx, inventory.DeleteNetwork{Name: in.Name})
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
	on(s, RoleAdmin, "POST", "/v1/osimages", "Add an osimage whose tree lies on this head", func(ctx context.Context, in *body[inventory.AddOSImage]) (*body[Written], error) {
		return s.write(ctx, in.Body)
	})
	on(s, RoleAdmin, "PATCH", "/v1/osimages/{name}", "Change an osimage", func(ctx context.Context, in *change[inventory.ChangeOSImage]) (*body[Written], error) {
		in.Body.Name = in.Name
		return s.write(ctx, in.Body)
	})
	on(s, RoleAdmin, "DELETE", "/v1/osimages/{name}", "Delete an osimage and its versions; the tree stays", func(ctx context.Context, in *named) (*body[Written], error) {
		return s.write(ctx, inventory.DeleteOSImage{Name: in.Name})
	})
	on(s, RoleAdmin, "GET", "/v1/osimages/{name}/kernels", "List the kernels in an osimage's tree on this head", func(_ context.Context, in *named) (*body[[]string], error) {
		k, err := s.b.Kernels(in.Name)
		return &body[[]string]{k}, err
	})
	on(s, RoleAdmin, "DELETE", "/v1/versions/{name}", "Delete a version that nodes do not boot", func(ctx context.Context, in *named) (*body[Written], error) {
		return s.write(ctx, inventory.DeleteVersion{Version: in.Name})
	})
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
	on(s, RoleAdmin, "POST", "/v1/groups", "Add a group", func(ctx context.Context, in *body[inventory.AddGroup]) (*body[Written], error) {
		return s.write(ctx, in.Body)
	})
	on(s, RoleAdmin, "PATCH", "/v1/groups/{name}", "Change a group", func(ctx context.Context, in *change[inventory.ChangeGroup]) (*body[Written], error) {
		in.Body.Name = in.Name
		return s.write(ctx, in.Body)
	})
	on(s, RoleAdmin, "POST", "/v1/groups/{name}/clone", "Make a group like another one", func(ctx context.Context, in *change[inventory.CloneGroup]) (*body[Written], error) {
		in.Body.Name = in.Name
		return s.write(ctx, in.Body)
	})
	on(s, RoleAdmin, "DELETE", "/v1/groups/{name}", "Delete a group without nodes", func(ctx context.Context, in *named) (*body[Written], error) {
		return s.write(ctx, inventory.DeleteGroup{Name: in.Name})
	})
}
