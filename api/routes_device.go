package api

import (
	"context"
	"net/netip"
	"strings"

	"github.com/clustervision/luna/inventory"
)

func (s *server) bmcsetups() {
	on(s, RoleAdmin, "GET", "/v1/bmcsetups", "List bmcsetups", func(_ context.Context, in *secrecy) (*body[[]BMCSetup], error) {
		inv := s.b.View()
		return collect(inv, inv.BMCSetups(), func(_ *inventory.Inventory, b *inventory.BMCSetup) BMCSetup { return BMCSetupOf(b, in.Secrets) }), nil
	})
	on(s, RoleAdmin, "GET", "/v1/bmcsetups/{name}", "Show a bmcsetup", func(_ context.Context, in *struct {
		Name    string `path:"name"`
		Secrets bool   `query:"secrets" doc:"passwords in the clear"`
	},
	) (*body[BMCSetup], error) {
		b, ok := s.b.View().BMCSetup(in.Name)
		if !ok {
			return nil, inventory.NotFound("bmcsetup", in.Name)
		}
		return &body[BMCSetup]{BMCSetupOf(b, in.Secrets)}, nil
	})
	on(s, RoleAdmin, "POST", "/v1/bmcsetups", "Add a bmcsetup", func(ctx context.Context, in *body[inventory.AddBMCSetup]) (*body[Written], error) {
		return s.write(ctx, in.Body)
	})
	on(s, RoleAdmin, "PATCH", "/v1/bmcsetups/{name}", "Change a bmcsetup", func(ctx context.Context, in *change[inventory.ChangeBMCSetup]) (*body[Written], error) {
		in.Body.Name = in.Name
		return s.write(ctx, in.Body)
	})
	on(s, RoleAdmin, "DELETE", "/v1/bmcsetups/{name}", "Delete a bmcsetup", func(ctx context.Context, in *named) (*body[Written], error) {
		return s.write(ctx, inventory.DeleteBMCSetup{Name: in.Name})
	})
}

// secrecy is an input that may ask for passwords in the clear.
type secrecy struct {
	Secrets bool `query:"secrets" doc:"passwords in the clear"`
}

// several is an input whose path names objects by a hostlist.
type several struct {
	Name string `path:"name" doc:"a name, or a hostlist as switch[01-03]"`
}

// parseIP reads an address that may have a '+' behind it: one more for each
// further object.
func parseIP(object, name, s string) (addr netip.Addr, increment bool, err error) {
	text, increment := strings.CutSuffix(s, "+")
	a, err := netip.ParseAddr(text)
	if err != nil || a.Zone() != "" {
		return a, false, inventory.Errorf(inventory.KindInvalid, object, name, "'%s' is no IP address", s)
	}
	return a.Unmap(), increment, nil
}

func (s *server) switches() {
	on(s, RoleAdmin, "GET", "/v1/switches", "List switches", func(context.Context, *none) (*body[[]Switch], error) {
		inv := s.b.View()
		return collect(inv, inv.Switches(), SwitchOf), nil
	})
	on(s, RoleAdmin, "GET", "/v1/switches/{name}", "Show a switch", func(_ context.Context, in *named) (*body[Switch], error) {
		inv := s.b.View()
		o, ok := inv.Switch(in.Name)
		if !ok {
			return nil, inventory.NotFound("switch", in.Name)
		}
		return &body[Switch]{SwitchOf(inv, o)}, nil
	})
	on(s, RoleAdmin, "POST", "/v1/switches", "Add switches, all or none", func(ctx context.Context, in *body[AddSwitches]) (*body[Written], error) {
		names, err := inventory.ExpandNames("switch", in.Body.Names)
		if err != nil {
			return nil, err
		}
		c := inventory.AddSwitches{Names: names, Network: in.Body.Network, Read: in.Body.Read, RW: in.Body.RW, OID: in.Body.OID}
		if in.Body.IP != "" {
			if c.Addr, c.Increment, err = parseIP("switch", in.Body.Names, in.Body.IP); err != nil {
				return nil, err
			}
		}
		return s.write(ctx, c)
	})
	on(s, RoleAdmin, "PATCH", "/v1/switches/{name}", "Change switches, all or none", func(ctx context.Context, in *change[ChangeSwitches]) (*body[Written], error) {
		names, err := inventory.ExpandNames("switch", in.Name)
		if err != nil {
			return nil, err
		}
		c := inventory.ChangeSwitches{Names: names, Network: in.Body.Network, Read: in.Body.Read, RW: in.Body.RW, OID: in.Body.OID, Comment: in.Body.Comment}
		if in.Body.IP != nil {
			a, increment, err := parseIP("switch", in.Name, *in.Body.IP)
			if err != nil {
				return nil, err
			}
			c.Addr, c.Increment = &a, increment
		}
		return s.write(ctx, c)
	})
	on(s, RoleAdmin, "DELETE", "/v1/switches/{name}", "Delete switches, all or none", func(ctx context.Context, in *several) (*body[Written], error) {
		names, err := inventory.ExpandNames("switch", in.Name)
		if err != nil {
			return nil, err
		}
		return s.write(ctx, inventory.DeleteSwitches{Names: names})
	})
}

func (s *server) otherdevs() {
	on(s, RoleAdmin, "GET", "/v1/otherdevs", "List other devices", func(context.Context, *none) (*body[[]OtherDev], error) {
		inv := s.b.View()
		return collect(inv, inv.OtherDevs(), OtherDevOf), nil
	})
	on(s, RoleAdmin, "GET", "/v1/otherdevs/{name}", "Show another device", func(_ context.Context, in *named) (*body[OtherDev], error) {
		inv := s.b.View()
		o, ok := inv.OtherDev(in.Name)
		if !ok {
			return nil, inventory.NotFound("otherdev", in.Name)
		}
		return &body[OtherDev]{OtherDevOf(inv, o)}, nil
	})
	on(s, RoleAdmin, "POST", "/v1/otherdevs", "Add other devices, all or none", func(ctx context.Context, in *body[AddOtherDevs]) (*body[Written], error) {
		names, err := inventory.ExpandNames("otherdev", in.Body.Names)
		if err != nil {
			return nil, err
		}
		c := inventory.AddOtherDevs{Names: names, Network: in.Body.Network}
		if in.Body.IP != "" {
			if c.Addr, c.Increment, err = parseIP("otherdev", in.Body.Names, in.Body.IP); err != nil {
				return nil, err
			}
		}
		return s.write(ctx, c)
	})
	on(s, RoleAdmin, "PATCH", "/v1/otherdevs/{name}", "Change other devices, all or none", func(ctx context.Context, in *change[ChangeOtherDevs]) (*body[Written], error) {
		names, err := inventory.ExpandNames("otherdev", in.Name)
		if err != nil {
			return nil, err
		}
		c := inventory.ChangeOtherDevs{Names: names, Network: in.Body.Network, Comment: in.Body.Comment}
		switch ip := in.Body.IP; {
		case ip == nil:
		case *ip == "":
			c.Detach = true
		default:
			if c.Addr, c.Increment, err = parseIP("otherdev", in.Name, *ip); err != nil {
				return nil, err
			}
		}
		return s.write(ctx, c)
	})
	on(s, RoleAdmin, "DELETE", "/v1/otherdevs/{name}", "Delete other devices, all or none", func(ctx context.Context, in *several) (*body[Written], error) {
		names, err := inventory.ExpandNames("otherdev", in.Name)
		if err != nil {
			return nil, err
		}
		return s.write(ctx, inventory.DeleteOtherDevs{Names: names})
	})
}
