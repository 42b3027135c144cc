package cli

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/netip"
	"os"

	"github.com/spf13/cobra"

	"github.com/clustervision/luna/inventory"
	"github.com/clustervision/luna/legacy"
)

func clusterImport(a *app) *cobra.Command {
	var file string
	c := &cobra.Command{
		Use:   "import FILE",
		Short: "Import a database of Luna 1.2",
		Long: `Import a database of Luna 1.2: a directory or an archive of mongodump (gzipped or
not), or files of mongoexport. It is read on this machine and put into the cluster
in one step: all of it or nothing. What had to be adjusted or could not be kept is
told, an object a line. Images come without their trees: copy those, then pack.

With --dry-run nothing is changed: read the report, and what would change.`,
		Example: `  luna cluster import --dry-run /root/dump
  luna cluster import /root/dump`,
		Args: func(_ *cobra.Command, args []string) error {
			if len(args) == 0 {
				return errors.New("the following arguments are required: FILE")
			}
			file = args[0]
			return noArgs(nil, args[1:])
		},
		RunE: a.do(func(ctx context.Context, s *session) error {
			db, err := legacy.Read(file)
			if err != nil {
				if errors.Is(err, os.ErrNotExist) {
					return inventory.Errorf(inventory.KindNotFound, "cluster", "general", "'%s' does not exist", file)
				}
				return inventory.Errorf(inventory.KindInvalid, "cluster", "general", "%v", err)
			}
			heads, err := s.Heads(ctx)
			if err != nil {
				return err
			}
			var own []netip.Addr // which no imported object may have
			for _, h := range heads {
				own = append(own, h.Address)
				for _, p := range h.Addresses {
					own = append(own, p.Addr())
				}
			}
			d, report := legacy.Convert(db, own...)
			if _, err := fmt.Fprint(s.stdout(), report.String()); err != nil {
				return err
			}
			b, err := json.Marshal(d)
			if err != nil {
				return err
			}
			if err := s.done(s.Apply(ctx, b, false)); err != nil || s.DryRun {
				return err
			}
			s.note("imported %d networks, %d osimages, %d bmcsetups, %d groups, %d switches, %d otherdevs and %d nodes",
				len(d.Networks), len(d.OSImages), len(d.BMCSetups), len(d.Groups), len(d.Switches), len(d.OtherDevs), len(d.Nodes))
			return nil
		}),
	}
	return c
}
