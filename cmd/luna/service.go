package main

import (
	"context"
	"errors"
	"log/slog"
	"os"
	"strings"
	"time"

	"github.com/coreos/go-systemd/v22/daemon"
	"github.com/spf13/pflag"

	"github.com/clustervision/luna/agent"
)

// notify tells the service manager, where there is one, when this head serves, how
// it stands, and that it is alive (sd_notify(3)).
func notify(ctx context.Context, a *agent.Agent, log *slog.Logger) {
	const beat = time.Second
	tell := func(state string) bool {
		known, err := daemon.SdNotify(false, state)
		if err != nil {
			log.Warn("the service manager is not told how this head is", "err", err)
		}
		return known
	}
	watched, err := daemon.SdWatchdogEnabled(false)
	if err != nil {
		log.Warn("the service manager's watchdog is not served", "err", err)
	}
	ready, said, fed := false, "", time.Time{}
	for {
		serves, words := a.Standing()
		if words != said && !tell("STATUS="+words) {
			return // nobody listens
		}
		said = words
		switch {
		case serves && !ready:
			ready = tell(daemon.SdNotifyReady)
		case !ready:
			tell("EXTEND_TIMEOUT_USEC=30000000") // it reads what it has, or hears what it lacks
		}
		if watched > 0 && time.Since(fed) > watched/3 && a.Alive() {
			fed = time.Now()
			tell(daemon.SdNotifyWatchdog)
		}
		select {
		case <-ctx.Done():
			tell(daemon.SdNotifyStopping)
			return
		case <-time.After(beat):
		}
	}
}

// follow reads the configuration again at each hangup. What is wrong with it then is
// said, and the agent goes on as it is.
func follow(ctx context.Context, hangup <-chan os.Signal, given *pflag.FlagSet, was *settings, loud *slog.LevelVar) {
	log := was.agent.Logger
	for {
		select {
		case <-ctx.Done():
			return
		case <-hangup:
		}
		now, flags, err := again(given, was)
		if err != nil {
			log.Error("the configuration is not taken over", "err", err)
			continue
		}
		loud.Set(*level(now.level))
		log.Info("configuration read again", "log-level", now.level)
		if waits := differing(given, flags); len(waits) > 0 {
			log.Warn("these settings count when the agent is started anew", "settings", waits)
		}
	}
}

// again reads the configuration anew, with what the command line said.
func again(given *pflag.FlagSet, was *settings) (*settings, *pflag.FlagSet, error) {
	s, flags := newSettings(was.agent.Version), pflag.NewFlagSet("agent", pflag.ContinueOnError)
	s.flags(flags)
	var errs []error
	given.VisitAll(func(f *pflag.Flag) {
		if was.source[f.Name] == byFlag {
			errs = append(errs, flags.Set(f.Name, plain(f.Value)))
		}
	})
	return s, flags, errors.Join(append(errs, s.settle(flags))...)
}

// plain gives a value in the form in which it is set.
func plain(v pflag.Value) string {
	if list, ok := v.(pflag.SliceValue); ok {
		return strings.Join(list.GetSlice(), ",")
	}
	return v.String()
}

// differing names the settings that are not the same in both.
func differing(a, b *pflag.FlagSet) (names []string) {
	b.VisitAll(func(f *pflag.Flag) {
		if f.Name != "log-level" && a.Lookup(f.Name).Value.String() != f.Value.String() {
			names = append(names, f.Name)
		}
	})
	return names
}
