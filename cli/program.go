package cli

import (
	"errors"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

// This file holds what is the same for luna, lpower and lchroot, which are one
// program under three names.

// program makes a command the top of a tree: it gets the options of every
// command, and all below it completes its words.
func (a *app) program(c *cobra.Command) *cobra.Command {
	p := c.PersistentFlags()
	p.StringVar(&a.server, "server", "", "the head to talk to: unix:///PATH or https://HOST[:7051],... (default $LUNA_SERVER, or $LUNA_SOCKET, or "+DefaultServer+")")
	p.StringVar(&a.credential, "credential", "", "file with an admin credential for https (default $LUNA_CREDENTIAL, or all of ~/.luna/*.pem and /etc/luna/admin.pem)")
	p.DurationVar(&a.timeout, "timeout", 30*time.Second, "how long to wait for each answer; 0 waits for ever")
	p.BoolVar(&a.dryRun, "dry-run", false, "change nothing, and tell what would change")
	// As in 1.2, --debug stands before OBJECT: behind it -d means other things.
	debug := "show on stderr what is asked of the head"
	if c.HasSubCommands() {
		debug += " (before OBJECT)"
	}
	c.Flags().BoolVarP(&a.debug, "debug", "d", false, debug)
	c.TraverseChildren = true
	c.SilenceErrors, c.SilenceUsage = true, true
	c.DisableFlagsInUseLine = true
	c.CompletionOptions.DisableDefaultCmd = true
	c.SetUsageTemplate(usageTemplate)
	c.SetFlagErrorFunc(explainFlag)
	completeAll(a, c)
	markRuns(c)
	return c
}

// explainFlag says what the value of an option is not, where the library has but a
// programmer's words for that.
func explainFlag(_ *cobra.Command, err error) error {
	var wrong *pflag.InvalidValueError
	if !errors.As(err, &wrong) {
		return err
	}
	not := map[string]string{"int": "it is no whole number", "duration": "it is no time: give one such as 90s, 10m or 1h"}
	words, ok := not[wrong.GetFlag().Value.Type()]
	if !ok || wrong.Unwrap() == nil {
		return err
	}
	return errors.New(strings.Replace(err.Error(), wrong.Unwrap().Error(), words, 1))
}

// hidden is a command that is rather called by another name.
func hidden(c *cobra.Command) *cobra.Command {
	c.Hidden = true
	return c
}
