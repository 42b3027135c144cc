package api

import (
	"context"
	"encoding/json"
)

// Fresh is what a leader tells a head that wants to read.
type Fresh struct {
	Index uint64 `json:"index"`
}

// raw is an output that is no JSON.
type raw struct {
	ContentType string `header:"Content-Type"`
	Body        []byte
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
		r, err := s.b.Invite(ctx, caller(ctx).asker(), in.Body)
		return &body[InviteReply]{r}, err
	})
	on(s, RoleAdmin, "DELETE", "/v1/heads/{name}", "Remove a head for good", func(ctx context.Context, in *struct {
		Name  string `path:"name"`
		Force bool   `query:"force" doc:"even where that costs the quorum or the only copy of an image"`
	},
	) (*none, error) {
		return nil, s.b.RemoveHead(ctx, caller(ctx).asker(), in.Name, in.Force)
	})
	on(s, RoleAdmin, "PATCH", "/v1/heads/{name}", "Change a head", func(ctx context.Context, in *change[HeadChange]) (*none, error) {
		return nil, s.b.ChangeHead(ctx, caller(ctx).asker(), in.Name, in.Body)
	})
	on(s, RoleAdmin, "POST", "/v1/heads/{name}/replace", "Remove a head that is lost, and make a join token for another", func(ctx context.Context, in *change[ReplaceRequest]) (*body[InviteReply], error) {
		r, err := s.b.ReplaceHead(ctx, caller(ctx).asker(), in.Name, in.Body)
		return &body[InviteReply]{r}, err
	})
	on(s, RoleAdmin, "POST", "/v1/heads/{name}/undrain", "Let a head work again", func(ctx context.Context, in *named) (*none, error) {
		return nil, s.b.Undrain(ctx, caller(ctx).asker(), in.Name)
	})
	on(s, RoleAdmin, "GET", "/v1/heads/{name}/safe", "Tell whether a head may go down now", func(ctx context.Context, in *named) (*body[Safety], error) {
		r, err := s.b.Safe(ctx, in.Name)
		return &body[Safety]{r}, err
	})
	on(s, RoleAdmin, "GET", "/v1/status", "Show how the whole cluster is", func(ctx context.Context, _ *none) (*body[ClusterStatus], error) {
		r, err := s.b.Status(ctx)
		return &body[ClusterStatus]{r}, err
	})
	on(s, RoleLocal, "GET", "/v1/backup", "Give the whole state, secrets too, but for the images", func(ctx context.Context, _ *none) (*raw, error) {
		b, err := s.b.Backup(ctx)
		return &raw{"application/octet-stream", b}, err
	})
	on(s, RoleLocal, "POST", "/v1/restore", "Begin a cluster on this head with a backup", func(ctx context.Context, in *struct{ RawBody []byte }) (*body[RestoreReply], error) {
		r, err := s.b.Restore(ctx, in.RawBody)
		return &body[RestoreReply]{r}, err
	})
	on(s, RoleLocal, "POST", "/v1/recover", "Go on with this head alone, where the others are lost for good", func(ctx context.Context, _ *none) (*none, error) {
		return nil, s.b.Recover(ctx, caller(ctx).asker())
	})
	on(s, RoleLocal, "POST", "/v1/join", "Make this head a member of a mesh", func(ctx context.Context, in *body[JoinRequest]) (*none, error) {
		return nil, s.b.Join(ctx, in.Body)
	})
	on(s, RoleNobody, "POST", admissions, "Ask to become a member, with a join token", func(ctx context.Context, in *body[AdmitRequest]) (*body[AdmitReply], error) {
		r, err := s.b.Admit(ctx, in.Body)
		return &body[AdmitReply]{r}, err
	})
	on(s, RoleHead, "POST", "/v1/commands", "Apply a command that another head took", func(ctx context.Context, in *body[json.RawMessage]) (*body[Applied], error) {
		r, err := s.b.Forwarded(ctx, in.Body)
		return &body[Applied]{r}, err
	})
	on(s, RoleHead, "GET", "/v1/commands/read-index", "Tell another head what it must have applied to be fresh", func(ctx context.Context, _ *none) (*body[Fresh], error) {
		i, err := s.b.ReadIndex(ctx)
		return &body[Fresh]{Fresh{i}}, err
	})
}
