package cli

import (
	"context"
	"fmt"
	"io"
	"time"

	"github.com/spf13/cobra"

	"github.com/clustervision/luna/api"
	"github.com/clustervision/luna/inventory"
)

// How luna osimage pack waits for the other heads: the time is that of 20 GiB
// over a link of 1 Gb/s, three times over.
const (
	replicateDeadline = 10 * time.Minute
	replicatePoll     = 500 * time.Millisecond
)

func osimagePack(a *app) *cobra.Command {
	var wait bool
	c := named(&cobra.Command{
		Use:   "pack NAME",
		Short: "Pack an osimage's tree into a new version",
		Long: `Pack an osimage's tree, on the head that is asked, into a new version and wait
until enough heads hold it for nodes to boot it. Nodes that boot meanwhile get
the version before, undisturbed. The new version's ID is printed on stdout.
Ctrl-C while packing gives up; while waiting, it only ends the wait.`,
		Example: "  luna osimage pack compute",
		RunE: a.do(func(ctx context.Context, s *session) error {
			p := newProgress(s.cmd.ErrOrStderr(), s.name)
			version, err := s.within(0).Pack(ctx, s.name, api.PackRequest{}, p.show)
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
	c.Flags().BoolVar(&wait, "wait", true, "wait until nodes can boot the version")
	modern(c, "wait")
	return c
}

// waitReplicated returns when the version can be booted.
func waitReplicated(ctx context.Context, s *session, version string) error {
	waiting, cancel := context.WithTimeout(ctx, replicateDeadline)
	defer cancel()
	tick := time.NewTicker(replicatePoll)
	defer tick.Stop()
	told := ""
	for {
		state, err := replication(waiting, s, version)
		switch {
		case waiting.Err() != nil:
		case err != nil:
			return err
		case state == "":
			return nil
		case state != told:
			s.note("version %s is %s", version, state)
			told = state
		}
		select {
		case <-tick.C:
		case <-waiting.Done():
			if ctx.Err() != nil {
				s.note("version %s is packed; the other heads fetch it by themselves", version)
				return ctx.Err()
			}
			return inventory.Errorf(inventory.KindUnavailable, "osimage", s.name,
				"version %s of '%s' is packed, but %s: it can be booted as soon as enough heads hold it, see `luna osimage show %s` and `luna head list`", version, s.name, told, s.name)
		}
	}
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
	for _, v := range o.Versions {
		if v.ID == version && v.State != api.VersionReplicating {
			return "", nil
		}
		if v.ID == version {
			return fmt.Sprintf("held by %d of %d heads", len(v.Heads), max(1, min(cluster.Replicas, len(heads)))), nil
		}
	}
	return "", inventory.NotFound("version", version)
}

// progress shows how a pack goes on: as one line that changes on a terminal,
// as a few lines in a log.
type progress struct {
	w        io.Writer
	image    string
	terminal bool
	now      func() time.Time

	phase string    // of the last line
	tenth int64     // of the last line: how many tenths were done
	at    time.Time // of the last line
}

// logEvery is how often a log gets a line at most.
const logEvery = 5 * time.Second

func newProgress(w io.Writer, image string) *progress {
	return &progress{w: w, image: image, terminal: isTerminal(w), now: time.Now}
}

func (p *progress) show(e api.JobEvent) {
	line := fmt.Sprintf("pack %s: %s", p.image, e.Phase)
	switch {
	case e.Total > 0:
		line += fmt.Sprintf(" %d%% (%s of %s)", e.Done*100/e.Total, size(e.Done), size(e.Total))
	case e.Done > 0:
		line += fmt.Sprintf(" (%s)", size(e.Done))
	}
	if e.Message != "" {
		line += ": " + printable(e.Message)
	}
	switch {
	case e.Phase == "done":
	case p.terminal && e.Message == "":
		fmt.Fprintf(p.w, "\r%s\x1b[K", line)
		p.phase = e.Phase
	case p.terminal:
		fmt.Fprintf(p.w, "\r%s\x1b[K\n", line)
		p.phase = ""
	case p.due(e):
		fmt.Fprintln(p.w, line)
	}
}

// due tells whether a log wants a line: for a new phase and for words at once,
// else when a tenth more is done, and not too often.
func (p *progress) due(e api.JobEvent) bool {
	tenth, now := int64(0), p.now()
	if e.Total > 0 {
		tenth = e.Done * 10 / e.Total
	}
	more := (tenth != p.tenth || e.Total == 0) && now.Sub(p.at) >= logEvery
	if e.Message == "" && e.Phase == p.phase && !more {
		return false
	}
	p.phase, p.tenth, p.at = e.Phase, tenth, now
	return true
}

// end leaves the line that changes.
func (p *progress) end() {
	if p.terminal && p.phase != "" {
		fmt.Fprintln(p.w)
	}
}
