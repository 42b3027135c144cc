package cli

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/clustervision/luna/api"
	"github.com/clustervision/luna/inventory"
)

func clusterSafe(a *app) *cobra.Command {
	var out output
	c := &cobra.Command{
		Use:   "safe [HEAD]",
		Short: "Tell whether a head may go down now",
		Long: `Tell whether a head may go down now: the one that is asked, unless another is
named. It may where the others can decide without it and have what it has, hold
every image that it holds, and reach every network that it serves, and where no
node boots from it at this moment. Exit status 0 if so, else 1 with the reasons.`,
		Example: `  luna cluster safe h2 && ssh h2 reboot`,
		Args:    func(cmd *cobra.Command, args []string) error { return noArgs(cmd, args[min(1, len(args)):]) },
		RunE: a.do(func(ctx context.Context, s *session) error {
			if s.name == "" {
				self, err := s.Self(ctx)
				if err != nil {
					return err
				}
				s.name = self.Name
			}
			safety, err := s.Safe(ctx, s.name)
			if err != nil {
				return err
			}
			err = out.text(s.stdout(), safety, safetyText(safety))
			if err == nil && !safety.Safe {
				return &exitError{code: exitRefused}
			}
			return err
		}),
	}
	out.show(c)
	return c
}

func safetyText(s api.Safety) string {
	var b strings.Builder
	word := "may go down"
	if !s.Safe {
		word = "must stay"
	}
	fmt.Fprintf(&b, "head '%s' %s\n", s.Head, word)
	for _, r := range s.Reasons {
		fmt.Fprintf(&b, "  no: %s\n", r)
	}
	for _, n := range s.Notes {
		fmt.Fprintf(&b, "  note: %s\n", n)
	}
	return b.String()
}

func clusterStatus(a *app) *cobra.Command {
	var out output
	c := &cobra.Command{
		Use:   "status",
		Short: "Show on one screen how the cluster is",
		Long: `Show on one screen how the cluster is: whether the heads can decide, who is there
and who does what, which images nodes boot and who holds them, what the nodes
said last, and everything that is wrong.`,
		Example: "  luna cluster status",
		Args:    noArgs,
		RunE: a.do(func(ctx context.Context, s *session) error {
			status, err := s.Status(ctx)
			if err != nil {
				return err
			}
			return out.text(s.stdout(), status, statusText(status))
		}),
	}
	out.show(c)
	return c
}

func statusText(s api.ClusterStatus) string {
	var b strings.Builder
	decide := fmt.Sprintf("head '%s' leads", s.Leader)
	if s.Leader == "" {
		decide = "NO HEAD LEADS: nothing can be changed"
	}
	release, mixed := releases(s.Heads)
	fmt.Fprintf(&b, "Cluster  %s, as head '%s' sees it; format %d, %s\n", s.Cluster, s.Asked, s.Format, release)
	fmt.Fprintf(&b, "Quorum   %d of %d voters are there, %d are needed; %s\n", s.Alive, s.Voters, s.Quorum, decide)
	newest := uint64(0)
	for _, h := range s.Heads {
		newest = max(newest, h.AppliedIndex)
	}
	section := func(title string, t *table) {
		if t.tight = true; len(t.rows) > 0 {
			fmt.Fprintf(&b, "\n%s\n", title)
			_ = t.write(&b) // a Builder takes everything
		}
	}
	heads := &table{header: []string{"Name", "Address", "State", "Since", "Role", "Behind"}}
	if mixed {
		heads.header = append(heads.header, "Version")
	}
	for _, h := range s.Heads {
		role := headRole(h)
		if h.Leader {
			role += ", leads"
		}
		behind := "?"
		if h.AppliedIndex > 0 {
			behind = fmt.Sprint(newest - h.AppliedIndex)
		}
		heads.add(append([]any{h.Name, h.Address, headState(h), shortTime(h.Since), role, behind}, h.Version)[:len(heads.header)]...)
	}
	section("Heads", heads)
	duties := &table{header: []string{"Duty", "On", "Holder"}}
	for _, d := range s.Duties {
		holder := cmp.Or(d.Holder, "NOBODY")
		for _, h := range s.Heads {
			if h.Name == d.Holder && h.State != "alive" { // and no head leads that could name another
				holder += ", " + headState(h)
			}
		}
		duties.add(d.Duty, d.On, holder)
	}
	section("Duties", duties)
	images := &table{header: []string{"Osimage", "Version", "Held by", "Missing on"}}
	for _, i := range s.Images {
		images.add(i.Name, cmp.Or(i.Version, "none"), inventory.CompressHostlist(i.Heads), inventory.CompressHostlist(i.Missing))
	}
	section("Images", images)
	n := s.Nodes
	fmt.Fprintf(&b, "\nNodes    %d: %d booted, %d booting, %d failed, %d never reported\n", n.Total, n.Booted, n.Booting, n.Failed, n.Silent)
	if s.Waiting > 0 {
		fmt.Fprintf(&b, "Waiting  %d addresses that were given up, until every head has heard of it\n", s.Waiting)
	}
	if len(s.Warnings) == 0 {
		b.WriteString("\nNothing is wrong.\n")
		return b.String()
	}
	b.WriteString("\nWrong\n")
	for _, w := range s.Warnings {
		fmt.Fprintf(&b, "  %s\n", printable(w))
	}
	return b.String()
}

// releases says which release of luna the heads run, and whether not all the same.
func releases(heads []api.Head) (words string, mixed bool) {
	var all []string
	for _, h := range heads {
		all = append(all, h.Version)
	}
	slices.Sort(all)
	if all = slices.Compact(all); len(all) == 1 {
		return "luna " + all[0], false
	}
	return fmt.Sprintf("%d releases of luna", len(all)), true
}

// shortTime is to the minute: luna head show has the rest.
func shortTime(t time.Time) string {
	if t.IsZero() {
		return ""
	}
	return t.Local().Format("2006-01-02 15:04")
}
