package cli

import (
	"context"
	"fmt"

	"github.com/spf13/cobra"

	"github.com/clustervision/luna/api"
)

func osimageGrab(a *app) *cobra.Command {
	var r api.GrabRequest
	c := named(&cobra.Command{
		Use:   "grab NAME --host HOST",
		Short: "Take a running host into an osimage's tree",
		Long: `Take a running host into an osimage's tree, on the head that is asked: that head
copies the file systems of grab_filesystems from HOST by rsync over ssh, as root,
but for what grab_exclude_list names. What the host does not have is deleted from
the tree. Pack the osimage afterwards. What would come and go is printed by
--dry_run, what does by --verbose.`,
		Example: `  luna osimage grab compute --host node001 --dry_run
  luna osimage grab compute --host node001`,
		RunE: a.do(func(ctx context.Context, s *session) error {
			r.DryRun = r.DryRun || s.DryRun
			head := s.within(0)
			head.DryRun = false // it is the job that is asked to run dry
			p := newProgress(s.cmd.ErrOrStderr(), "grab "+s.name)
			err := head.Grab(ctx, s.name, r, func(e api.JobEvent) {
				if (r.DryRun || r.Verbose) && e.Message != "" {
					fmt.Fprintln(s.stdout(), printable(e.Message))
					return
				}
				p.show(e)
			})
			p.end()
			return err
		}),
	})
	f := c.Flags()
	f.StringVarP(&r.Host, "host", "H", "", "the host to take")
	f.BoolVarP(&r.DryRun, "dry_run", "d", false, "change nothing, and print what would come and go")
	f.BoolVarP(&r.Verbose, "verbose", "v", false, "print what comes and goes")
	required(c, "host")
	return c
}

func osimageClone(a *app) *cobra.Command {
	var r api.CloneRequest
	c := named(&cobra.Command{
		Use:   "clone NAME --to NEW --path PATH",
		Short: "Copy an osimage and its tree",
		Long: `Copy an osimage and its tree, on the head that is asked. The copy has the settings
of the first one, and is to be packed before nodes can boot it.`,
		Example: "  luna osimage clone compute --to test --path /opt/luna/os/test",
		RunE: a.do(func(ctx context.Context, s *session) error {
			err := mustNotBeDry(s)
			if err != nil {
				return err
			}
			if r.Path, err = a.treePath(r.Path); err != nil {
				return err
			}
			p := newProgress(s.cmd.ErrOrStderr(), "clone "+s.name)
			err = s.within(0).Clone(ctx, s.name, r, p.show)
			p.end()
			return err
		}),
	})
	f := c.Flags()
	f.StringVarP(&r.To, "to", "t", "", "name of the copy")
	f.StringVarP(&r.Path, "path", "p", "", "where the tree of the copy goes, on the head")
	required(c, "to", "path")
	return c
}
