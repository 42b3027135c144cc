package cli

import (
	"cmp"
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/clustervision/luna/api"
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
	fmt.Fprintf(&b, "Cluster  %s, as head '%s' sees it; format %d\n", s.Cluster, s.Asked, s.Format)
	fmt.Fprintf(&b, "Quorum   %d of %d voters are there, %d are needed; %s\n", s.Alive, s.Voters, s.Quorum, decide)
	newest := uint64(0)
	for _, h := range s.Heads {
		newest = max(newest, h.AppliedIndex)
	}
	section := func(title string, t *table) {
		if len(t.rows) > 0 {
			fmt.Fprintf(&b, "\n%s\n", title)
			_ = t.write(&b) // a Builder takes everything
		}
	}
	heads := &table{header: []string{"Name", "Address", "State", "Since", "Role", "Behind", "Version"}}
	for _, h := range s.Heads {
		role := h.Role
		if h.Witness {
			role += ", witness"
		}
		if h.Leader {
			role += ", leads"
		}
		behind := "?"
		if h.AppliedIndex > 0 {
			behind = fmt.Sprint(newest - h.AppliedIndex)
		}
		heads.add(h.Name, h.Address, headState(h), shortTime(h.Since), role, behind, h.Version)
	}
	section("Heads", heads)
	duties := &table{header: []string{"Duty", "On", "Holder"}}
	for _, d := range s.Duties {
		duties.add(d.Duty, d.On, cmp.Or(d.Holder, "NOBODY"))
	}
	section("Duties", duties)
	images := &table{header: []string{"Osimage", "Version", "Held by", "Missing on"}}
	for _, i := range s.Images {
		images.add(i.Name, cmp.Or(i.Version, "none"), strings.Join(i.Heads, ","), strings.Join(i.Missing, ","))
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

func shortTime(t time.Time) string {
	if t.IsZero() {
		return ""
	}
	return t.Local().Format("2006-01-02 15:04:05")
}
