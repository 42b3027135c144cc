package cli

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/spf13/cobra"

	"github.com/clustervision/luna/api"
	"github.com/clustervision/luna/inventory"
)

// How luna osimage pack and sync wait for the other heads: the time is that of
// 20 GiB over a link of 1 Gb/s, three times over.
const (
	replicateDeadline = 10 * time.Minute
	replicatePoll     = 500 * time.Millisecond
)

func osimagePack(a *app) *cobra.Command {
	var r api.PackRequest
	var wait bool
	c := named(&cobra.Command{
		Use:   "pack NAME",
		Short: "Pack an osimage's tree into a new version",
		Long: `Pack an osimage's tree, on the head that is asked, into a new version and wait
until enough heads hold it for nodes to boot it. Nodes that boot meanwhile get
the version before, undisturbed. The new version's ID is printed on stdout. With
--image or --boot the rest of the new version is that of the newest one.
Ctrl-C while packing gives up; while waiting, it only ends the wait.`,
		Example: `  luna osimage pack compute
  luna osimage pack compute --boot`,
		RunE: a.do(func(ctx context.Context, s *session) error {
			if err := mustNotBeDry(s); err != nil {
				return err
			}
			if r.CopyBoot {
				s.warn("the initrd is taken as the tree has it: without luna's installer in it nodes do not install")
			}
			p := newProgress(s.cmd.ErrOrStderr(), "pack "+s.name)
			version, err := s.within(0).Pack(ctx, s.name, r, p.show)
			p.end()
			if err != nil {
				return err
			}
			if wait {
				err = waitReplicated(ctx, s, version)
			}
			fmt.Fprintln(s.stdout(), version)
			return err
		}),
	})
	f := c.Flags()
	f.BoolVarP(&r.Tree, "image", "i", false, "pack the root file system alone")
	f.BoolVarP(&r.Boot, "boot", "b", false, "pack the kernel and the initrd alone")
	f.BoolVarP(&r.CopyBoot, "copy_boot", "c", false, "take the initrd that the tree has instead of building one")
	f.BoolVar(&wait, "wait", true, "wait until nodes can boot the version")
	modern(c, "wait")
	c.MarkFlagsMutuallyExclusive("image", "boot")
	return c
}

// waitReplicated returns when the version can be booted.
func waitReplicated(ctx context.Context, s *session, version string) error {
	told := ""
	done, err := await(ctx, replicateDeadline, replicatePoll, func(ctx context.Context) (bool, error) {
		state, err := replication(ctx, s, version)
		if err == nil && state != "" && state != told {
			s.note("version %s is %s", version, state)
			told = state
		}
		return state == "", err
	})
	switch {
	case ctx.Err() != nil:
		s.note("version %s is packed; the other heads fetch it by themselves", version)
		return ctx.Err()
	case err == nil && !done:
		return inventory.Errorf(inventory.KindUnavailable, "osimage", s.name,
			"version %s of '%s' is packed, but %s: it can be booted as soon as enough heads hold it, see `luna osimage show %s` and `luna head list`", version, s.name, told, s.name)
	}
	return err
}

// replication tells how far a version is from being bootable, in words; "" when
// it is.
func replication(ctx context.Context, s *session, version string) (string, error) {
	o, err := s.OSImage(ctx, s.name)
	if err != nil {
		return "", err
	}
	cluster, err := s.Cluster(ctx)
	if err != nil {
		return "", err
	}
	heads, err := s.Heads(ctx)
	if err != nil {
		return "", err
	}
	hold := 0 // how many heads may hold images
	for _, h := range heads {
		if !h.Witness {
			hold++
		}
	}
	for _, v := range o.Versions {
		if v.ID == version && v.State != api.VersionReplicating {
			return "", nil
		}
		if v.ID == version {
			return fmt.Sprintf("held by %d of %d heads", len(v.Heads), max(1, min(cluster.Replicas, hold))), nil
		}
	}
	return "", inventory.NotFound("version", version)
}

// imageSync is whether a head holds the version of an osimage that nodes get.
type imageSync struct {
	Name    string `json:"name"`
	State   string `json:"state"`
	Version string `json:"version"`
	Held    bool   `json:"held"`
}

func osimageSync(a *app) *cobra.Command {
	var out output
	c := named(&cobra.Command{
		Use:   "sync NAME",
		Short: "Wait until every live head holds the version that nodes get, and show which do",
		Long: `Wait until every head that is alive holds the version of the osimage that nodes
get now, and show which do. Nothing has to be started for that: each head fetches
what it lacks by itself. Without --timeout it waits ten minutes.`,
		Example: "  luna osimage sync compute",
		RunE: a.do(func(ctx context.Context, s *session) error {
			limit := replicateDeadline
			if s.given("timeout") {
				limit = a.timeout
			}
			var heads []imageSync
			var late []string
			done, err := await(ctx, limit, replicatePoll, func(ctx context.Context) (bool, error) {
				var err error
				heads, late, err = whoHolds(ctx, s)
				return len(late) == 0, err
			})
			if err != nil {
				return err
			}
			notices(s, []string{"each head fetches what it lacks by itself: there is nothing to copy"})
			if err := out.print(s.stdout(), nonNil(heads), func() *table { return imageSyncTable(heads) }); err != nil {
				return err
			}
			if !done {
				return inventory.Errorf(inventory.KindUnavailable, "osimage", s.name,
					"after %v not every head holds the version (%s): they go on by themselves, see `luna head list`", limit, inventory.CompressHostlist(late))
			}
			return nil
		}),
	})
	out.list(c)
	return c
}

// whoHolds tells of each head whether it holds the version that nodes get, and
// which live ones do not yet.
func whoHolds(ctx context.Context, s *session) (heads []imageSync, late []string, err error) {
	o, err := s.OSImage(ctx, s.name)
	if err != nil {
		return nil, nil, err
	}
	if len(o.Versions) == 0 {
		return nil, nil, refusef("osimage", s.name, "osimage '%s' was never packed: there is nothing to hold", s.name)
	}
	v := o.Versions[0] // where none can be booted yet, the newest is on its way
	if at := slices.IndexFunc(o.Versions, func(v api.Version) bool { return v.State == api.VersionBoots }); at >= 0 {
		v = o.Versions[at]
	}
	all, err := s.Heads(ctx)
	for _, h := range all {
		w := imageSync{Name: h.Name, State: h.State, Version: v.ID, Held: slices.Contains(v.Heads, h.Name)}
		if h.State == headAlive && !w.Held {
			late = append(late, h.Name)
		}
		heads = append(heads, w)
	}
	return heads, late, err
}

func imageSyncTable(heads []imageSync) *table {
	t := &table{header: []string{"Name", "State", "Version", "Held"}}
	for _, h := range heads {
		t.add(h.Name, h.State, h.Version, h.Held)
	}
	return t
}
