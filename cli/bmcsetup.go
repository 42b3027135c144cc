package cli

import (
	"context"

	"github.com/spf13/cobra"

	"github.com/clustervision/luna/api"
	"github.com/clustervision/luna/inventory"
)

func bmcsetupCommand(a *app) *cobra.Command {
	return noun("bmcsetup", "How management controllers are set up", "  luna bmcsetup list",
		bmcsetupList(a), bmcsetupShow(a), bmcsetupAdd(a), bmcsetupChange(a), deleteCommand(a, "bmcsetup"), renameCommand(a, "bmcsetup"))
}

func bmcsetupList(a *app) *cobra.Command {
	var out output
	var secrets bool
	c := &cobra.Command{
		Use:     "list",
		Short:   "List the bmcsetups, their passwords masked",
		Example: "  luna bmcsetup list --secrets",
		Args:    noArgs,
		RunE: a.do(func(ctx context.Context, s *session) error {
			all, err := s.BMCSetups(ctx, secrets)
			if err != nil {
				return err
			}
			return out.print(s.stdout(), nonNil(all), func() *table {
				t := &table{header: []string{"Name", "User", "Password"}}
				for _, b := range all {
					t.add(b.Name, b.User, b.Password)
				}
				return t
			})
		}),
	}
	out.list(c)
	c.Flags().BoolVar(&secrets, "secrets", false, "print passwords in the clear")
	modern(c, "secrets")
	return c
}

func bmcsetupShow(a *app) *cobra.Command {
	var out output
	var secrets, comment bool
	c := named(&cobra.Command{
		Use:   "show NAME",
		Short: "Show a bmcsetup",
		Long: `Show a bmcsetup. The table has the password; JSON and YAML, which travel, have it
masked unless --secrets is given.`,
		Example: "  luna bmcsetup show base",
		RunE: a.do(func(ctx context.Context, s *session) error {
			b, err := s.BMCSetup(ctx, s.name, secrets || out.isTable() && !comment)
			if err != nil {
				return err
			}
			if comment {
				return writeText(s.stdout(), deref(b.Comment))
			}
			return out.print(s.stdout(), b, func() *table { return bmcsetupTable(b) })
		}),
	})
	out.show(c)
	f := c.Flags()
	f.BoolVar(&secrets, "secrets", false, "print the password in JSON and YAML too")
	f.BoolVarP(&comment, "comment", "C", false, "print the comment")
	modern(c, "secrets")
	c.MarkFlagsMutuallyExclusive("output", "raw", "comment")
	return c
}

func bmcsetupTable(b api.BMCSetup) *table {
	return showTable(b.Name, map[string]any{
		"mgmtchannel": b.MgmtChannel, "netchannel": b.NetChannel, "password": b.Password, "user": b.User, "userid": b.UserID,
	}, b.Comment)
}

func bmcsetupAdd(a *app) *cobra.Command {
	var add inventory.AddBMCSetup
	c := &cobra.Command{
		Use:     "add -n NAME",
		Short:   "Add a bmcsetup",
		Example: "  luna bmcsetup add -n base -u admin -p 'a password'",
		Args:    noArgs,
		RunE: a.do(func(ctx context.Context, s *session) error {
			add.Name = s.name
			if err := s.change(ctx, add); err != nil {
				return err
			}
			if add.Password == nil || *add.Password == inventory.DefaultBMCPassword {
				s.warn("the password of bmcsetup '%s' is the default one, which everybody knows: set another with luna bmcsetup change %s --password", s.name, s.name)
			}
			return nil
		}),
	}
	f := c.Flags()
	f.StringP("name", "n", "", "name of the bmcsetup")
	f.VarP(textOption{&add.User}, "user", "u", "user that is set up in the BMC (default ladmin)")
	f.VarP(textOption{&add.Password}, "password", "p", "its password (default ladmin)")
	f.VarP(numberOption{&add.UserID}, "userid", "I", "its number in the BMC (default 3)")
	f.VarP(numberOption{&add.NetChannel}, "netchannel", "N", "channel of the BMC's address (default 1)")
	f.VarP(numberOption{&add.MgmtChannel}, "mgmtchannel", "M", "channel of the user's rights (default 1)")
	required(c, "name")
	return c
}

func bmcsetupChange(a *app) *cobra.Command {
	var change inventory.ChangeBMCSetup
	var comment bool
	var ed editor
	c := named(&cobra.Command{
		Use:   "change NAME",
		Short: "Change a bmcsetup",
		Long: `Change a bmcsetup. All that is given is changed together, or nothing is; '' makes a
text empty. Nodes set their BMC up with it when they install the next time.`,
		Example: "  luna bmcsetup change base --password 'a password'",
		RunE: a.do(func(ctx context.Context, s *session) error {
			change.Name = s.name
			if comment {
				now, err := s.BMCSetup(ctx, s.name, false)
				if err != nil {
					return err
				}
				if change.Comment, err = ed.comment(ctx, s, now.Comment); err != nil {
					return err
				}
			}
			return s.change(ctx, change)
		}),
	})
	f := c.Flags()
	f.VarP(textOption{&change.User}, "user", "u", "user that is set up in the BMC")
	f.VarP(textOption{&change.Password}, "password", "p", "its password")
	f.VarP(numberOption{&change.UserID}, "userid", "I", "its number in the BMC")
	f.VarP(numberOption{&change.NetChannel}, "netchannel", "N", "channel of the BMC's address")
	f.VarP(numberOption{&change.MgmtChannel}, "mgmtchannel", "M", "channel of the user's rights")
	f.BoolVarP(&comment, "comment", "C", false, "edit the comment")
	ed.declare(c)
	return c
}
