package main

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"os"
	"os/signal"
	"syscall"

	"github.com/coreos/go-systemd/v22/journal"
	"github.com/spf13/cobra"

	"github.com/clustervision/luna/agent"
	"github.com/clustervision/luna/cli"
)

// agentCommand is `luna agent`.
func agentCommand(version string) *cobra.Command {
	s := newSettings(version)
	var check bool
	cmd := &cobra.Command{
		Use:   "agent",
		Short: "Run the agent of this head",
		Long: `Run the agent of this head, in the foreground, until SIGTERM or SIGINT.

Every flag is also a key of the configuration file and an environment variable:
data-dir is "data-dir: /path" in the file and LUNA_DATA_DIR. A flag counts over
the variable, the variable over the file.

The configuration file is /etc/luna/agent.yaml if it is there and --config does
not name another one. --check says what is wrong with all that, and runs nothing.

SIGHUP has the agent read its configuration again: a new log-level counts at once,
all else when it is started anew, which it says. Under systemd it tells when it
serves, and how it stands (systemctl status luna).

Exit status 78 says that it will not start until somebody acts: the configuration
is wrong, or its data is damaged.`,
		Example: `  luna agent
  luna agent --name h1 --data-dir /var/lib/luna --bind 10.30.255.254
  luna agent --check`,
		Args:          cobra.NoArgs,
		SilenceUsage:  true,
		SilenceErrors: true,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := s.settle(cmd.LocalNonPersistentFlags()); err != nil {
				return cli.Exit(exitConfig, err)
			}
			if check {
				return nil
			}
			return runAgent(cmd, s)
		},
	}
	s.flags(cmd.Flags())
	cmd.Flags().BoolVar(&check, "check", false, "only tell what is wrong with the configuration")
	return cmd
}

// exitConfig says that the agent will not start until a person has acted
// (EX_CONFIG of sysexits.h): starting it again and again would only hide that.
const exitConfig = 78

func runAgent(cmd *cobra.Command, s *settings) error {
	ctx, stop := signal.NotifyContext(cmd.Context(), syscall.SIGTERM, syscall.SIGINT)
	defer stop()
	hangup := make(chan os.Signal, 1)
	signal.Notify(hangup, syscall.SIGHUP)
	loud := &slog.LevelVar{}
	loud.Set(*level(s.level))
	s.agent.Logger = logger(s.format, loud)
	a, err := agent.New(s.agent)
	if errors.Is(err, agent.ErrDamaged) || errors.Is(err, agent.ErrMismatch) {
		return cli.Exit(exitConfig, err)
	}
	if err != nil {
		return err
	}
	told, end := context.WithCancel(ctx)
	defer end()
	go follow(told, hangup, cmd.LocalNonPersistentFlags(), s, loud)
	go notify(told, a, s.agent.Logger)
	return a.Run(ctx)
}

// logger writes to stderr, and for the journal where that is it.
func logger(format string, loud *slog.LevelVar) *slog.Logger {
	lines := func(w io.Writer, o *slog.HandlerOptions) slog.Handler { return slog.NewTextHandler(w, o) }
	if format == "json" {
		lines = func(w io.Writer, o *slog.HandlerOptions) slog.Handler { return slog.NewJSONHandler(w, o) }
	}
	if is, err := journal.StderrIsJournalStream(); err == nil && is {
		return slog.New(journaled(os.Stderr, lines, loud))
	}
	return slog.New(lines(os.Stderr, &slog.HandlerOptions{Level: loud}))
}
