package cli

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/clustervision/luna/api"
	"github.com/clustervision/luna/inventory"
)

// What the head of these tests says of the mesh that it has not.

// Fresh fails as told.
func (h *testHead) Fresh(context.Context) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.stale == "" {
		return nil
	}
	return errors.New(h.stale)
}

func (h *testHead) ReadIndex(context.Context) (uint64, error) {
	return 0, errors.New("not asked in these tests")
}

func (h *testHead) ChangeHead(ctx context.Context, by inventory.Asker, name string, r api.HeadChange) error {
	_, err := h.Propose(ctx, by, inventory.ChangeHead{Name: name, Weight: r.Weight})
	return err
}

func (h *testHead) Drain(ctx context.Context, by inventory.Asker, name string, r api.DrainRequest, progress func(api.JobEvent)) error {
	yes := true
	if _, err := h.Propose(ctx, by, inventory.ChangeHead{Name: name, Drained: &yes}); err != nil {
		return err
	}
	progress(api.JobEvent{Phase: "drain", Message: "head '" + name + "' still serves 1 download"})
	if r.Wait < time.Second {
		return inventory.Errorf(inventory.KindUnavailable, "head", name, "head '%s' is drained and takes nothing new, but still serves 1 download", name)
	}
	progress(api.JobEvent{Phase: api.JobDone, Message: "head '" + name + "' may be rebooted"})
	return nil
}

func (h *testHead) Undrain(ctx context.Context, by inventory.Asker, name string) error {
	no := false
	_, err := h.Propose(ctx, by, inventory.ChangeHead{Name: name, Drained: &no})
	return err
}

// RemoveHead refuses without force when the head is dead.
func (h *testHead) RemoveHead(ctx context.Context, by inventory.Asker, name string, force bool) error {
	_, known := h.View().Head(name)
	h.mu.Lock()
	dead := h.dead && name == "h2"
	h.mu.Unlock()
	if known && dead && !force {
		return inventory.Errorf(inventory.KindRefused, "head", name, "head '%s' does not answer: remove it with --force", name)
	}
	_, err := h.Propose(ctx, by, inventory.RemoveHead{Name: name})
	return err
}

func (h *testHead) ReplaceHead(ctx context.Context, by inventory.Asker, name string, r api.ReplaceRequest) (api.InviteReply, error) {
	if err := h.RemoveHead(ctx, by, name, r.Force); err != nil {
		return api.InviteReply{}, err
	}
	return h.Invite(ctx, by, api.InviteRequest{TTL: r.TTL})
}

func (h *testHead) Leave(_ context.Context, _ inventory.Asker, name string, r api.LeaveRequest, progress func(api.JobEvent)) error {
	if !r.Force {
		return inventory.Errorf(inventory.KindRefused, "head", name, "head '%s' cannot be removed: it is the only head that votes", name)
	}
	progress(api.JobEvent{Phase: api.JobDone, Message: "head '" + name + "' has left the cluster"})
	return nil
}

// Safe finds h1 needed, and no other head.
func (h *testHead) Safe(_ context.Context, name string) (api.Safety, error) {
	head, ok := h.View().Head(name)
	if !ok {
		return api.Safety{}, inventory.NotFound("head", name)
	}
	s := api.Safety{Head: name, Safe: name != "h1", Reasons: []string{}, Notes: []string{}}
	if !s.Safe {
		s.Reasons = []string{"no other head holds version 0123456789abcdef of osimage 'compute'", "node[001-003] boots from it at this moment"}
	}
	if !head.Drained {
		s.Notes = append(s.Notes, fmt.Sprintf("it is not drained: `luna head drain %s` makes it quiet first", name))
	}
	return s, nil
}

// Status is of two heads, and worse when h2 is dead.
func (h *testHead) Status(ctx context.Context) (api.ClusterStatus, error) {
	heads, err := h.Heads(ctx)
	if err != nil {
		return api.ClusterStatus{}, err
	}
	if _, ok := h.View().Cluster(); !ok {
		return api.ClusterStatus{}, inventory.NotFound("cluster", "general")
	}
	s := api.ClusterStatus{
		Cluster: testUUID, Asked: "h1", Leader: "h1", Format: 2, Voters: 2, Alive: 2, Quorum: 2, Heads: heads,
		Duties: []api.DutyStatus{{Duty: "dhcp", On: "cluster", Holder: "h1", Epoch: 3}, {Duty: "poll", On: "switch01", Holder: "h2", Epoch: 1}},
		Images: []api.ImageStatus{
			{Name: "compute", Version: "0123456789abcdef", Heads: []string{"h1", "h2"}, Missing: []string{}, Replicas: 2},
			{Name: "login", Heads: []string{}, Missing: []string{}, Replicas: 2},
		},
		Nodes: api.NodeCounts{Total: 12, Booted: 7, Booting: 3, Failed: 1, Silent: 1}, Warnings: []string{},
	}
	if heads[len(heads)-1].State == "failed" {
		s.Alive, s.Leader, s.Waiting = 1, "", 2
		s.Duties[1].Holder = ""
		s.Heads[0].Leader = false
		s.Images[0].Heads, s.Images[0].Missing = []string{"h1"}, []string{"h2"}
		s.Warnings = []string{"h2: does not answer since 2026-01-02 15:04:05", "h1: the disk \x1b[31mis full"}
	}
	return s, nil
}

// testBackup is what a backup of these tests begins with.
const testBackup = "{\"format\":\"luna-backup\"}\n"

func (h *testHead) Backup(context.Context) ([]byte, error) {
	return []byte(testBackup + "what there is"), nil
}

func (h *testHead) Restore(_ context.Context, backup []byte) (api.RestoreReply, error) {
	if !bytes.HasPrefix(backup, []byte(testBackup)) {
		return api.RestoreReply{}, inventory.Errorf(inventory.KindInvalid, "cluster", "general", "this is no backup of luna")
	}
	return api.RestoreReply{UUID: testUUID, Head: "h1", Taken: created, Nodes: 12, Missing: []string{"compute", "login"}, Credential: "a new credential\n"}, nil
}

func (h *testHead) Recover(context.Context, inventory.Asker) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.stale = ""
	return nil
}
