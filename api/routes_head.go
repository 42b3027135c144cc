package api

import (
	"context"
	"encoding/json"
)

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
		r, err := s.b.Invite(ctx, caller(ctx).asker(), in.Body)
		return &body[InviteReply]{r}, err
	})
	on(s, RoleAdmin, "DELETE", "/v1/heads/{name}", "Remove a head for good", func(ctx context.Context, in *named) (*none, error) {
		return nil, s.b.RemoveHead(ctx, caller(ctx).asker(), in.Name)
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
