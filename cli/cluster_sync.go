package cli

import (
	"context"
	"time"

	"github.com/spf13/cobra"

	"github.com/clustervision/luna/api"
	"github.com/clustervision/luna/inventory"
)

// syncPoll is how often luna cluster sync and luna osimage sync look.
const syncPoll = 200 * time.Millisecond

// headAlive is the state of a head that others hear of.
const headAlive = "alive"

// headSync is how far a head is.
type headSync struct {
	Name    string  `json:"name"`
	State   string  `json:"state"`
	Applied uint64  `json:"applied_index"`
	Behind  *uint64 `json:"behind"` // nil if it does not answer
}

func clusterSync(a *app) *cobra.Command {
	var out output
	c := &cobra.Command{
		Use:   "sync",
		Short: "Wait until every live head has what is committed, and show how far each is",
		Long: `Wait until every head that is alive has the inventory as it is committed now, and
show how far each is. Nothing has to be started for that: the heads do it by
themselves, and one that was away catches up when it is back. --timeout says how
long to wait.`,
		Example: "  luna cluster sync --timeout 2m",
		Args:    noArgs,
		RunE: a.do(func(ctx context.Context, s *session) error {
			self, err := s.Self(ctx)
			if err != nil {
				return err
			}
			committed := self.CommitIndex
			var heads []headSync
			var late []string
			done, err := await(ctx, a.timeout, syncPoll, func(ctx context.Context) (bool, error) {
				all, err := s.Heads(ctx)
				if err != nil {
					return false, err
				}
				if heads == nil { // one that follows knows less than the one that leads
					committed = max(committed, furthest(all))
				}
				heads, late = howFar(all, committed)
				return len(late) == 0, nil
			})
			if err != nil {
				return err
			}
			notices(s, []string{"the heads keep one another in step by themselves: there is nothing to copy"})
			if err := out.print(s.stdout(), nonNil(heads), func() *table { return syncTable(heads) }); err != nil {
				return err
			}
			if !done {
				return inventory.Errorf(inventory.KindUnavailable, "cluster", "general",
					"after %v not every head has what is committed (%s): they go on by themselves, see `luna head list`", a.timeout, inventory.CompressHostlist(late))
			}
			return nil
		}),
	}
	out.list(c)
	return c
}

func furthest(all []api.Head) uint64 {
	var index uint64
	for _, h := range all {
		index = max(index, h.AppliedIndex)
	}
	return index
}

// howFar tells of each head how far it is, and which live ones do not have the
// committed index yet.
func howFar(all []api.Head, committed uint64) (heads []headSync, late []string) {
	for _, h := range all {
		w := headSync{Name: h.Name, State: h.State, Applied: h.AppliedIndex}
		if h.AppliedIndex > 0 {
			behind := committed - min(committed, h.AppliedIndex)
			w.Behind = &behind
		}
		if h.State == headAlive && h.AppliedIndex < committed {
			late = append(late, h.Name)
		}
		heads = append(heads, w)
	}
	return heads, late
}

func syncTable(heads []headSync) *table {
	t := &table{header: []string{"Name", "State", "Applied", "Behind"}}
	for _, h := range heads {
		var applied, behind any = "-", "-"
		if h.Behind != nil {
			applied, behind = h.Applied, *h.Behind
		}
		t.add(h.Name, h.State, applied, behind)
	}
	return t
}
