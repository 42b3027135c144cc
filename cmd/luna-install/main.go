// Command luna-install makes a node of the machine on which it runs. dracut calls
// it in the initrd with the kernel command line that a head wrote; its exit status
// 0 means that the operating system stands in the root and may be started, and
// short of a signal it does not end before.
//
// Everything is in package installer; here are only the flags.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/signal"
	"strconv"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/clustervision/luna/installer"
)

const usage = `usage: luna-install [flags]

Make a node of this machine: ask the heads on the kernel command line for the plan,
run the group's scripts, fetch the image and unpack it, configure it, hand over.
Exit status: 0 the node is installed, 1 it is not, 2 wrong flags or command line.

flags:
`

func main() {
	os.Exit(run(os.Args[1:], os.Stderr))
}

// run is main with its world as arguments. It returns the exit status.
func run(args []string, stderr io.Writer) int {
	flags := flag.NewFlagSet("luna-install", flag.ContinueOnError)
	flags.SetOutput(stderr)
	flags.Usage = func() {
		fmt.Fprint(stderr, usage)
		flags.PrintDefaults()
	}
	var (
		cmdline   = flags.String("cmdline", "/proc/cmdline", "read the kernel command line from `FILE`")
		root      = flags.String("root", defaultRoot(), "install to `DIR`, which the partscript mounts")
		simulated = flags.Bool("no-network", false, "be a simulated node: use the network as it is, take any DIR as root, change nothing outside of it, run no scripts")
		runAll    = flags.Bool("scripts", false, "run the group's scripts even with --no-network; they know DIR as $SYSROOT")
		once      = flags.Bool("once", false, "end at the first failure instead of beginning again")
		seed      = new(time.Duration)
	)
	flags.Func("seed", "seed for at most so many `SECONDS` instead of what the plan says", func(s string) error {
		n, err := strconv.ParseUint(s, 10, 31)
		*seed = time.Duration(n) * time.Second
		if n == 0 {
			*seed = -1 // not at all; zero would leave it to the plan
		}
		return err
	})
	switch err := flags.Parse(args); {
	case errors.Is(err, flag.ErrHelp):
		return 0
	case err != nil:
		return 2
	case flags.NArg() > 0:
		fmt.Fprintf(stderr, "luna-install: unexpected argument %q, see --help\n", flags.Arg(0))
		return 2
	}
	text, err := os.ReadFile(*cmdline)
	if err != nil {
		fmt.Fprintln(stderr, "luna-install:", err)
		return 2
	}
	b, err := installer.ParseCmdline(string(text))
	if err != nil {
		fmt.Fprintln(stderr, "luna-install:", err)
		return 2
	}
	if _, err := os.Stat(initrdRelease); err != nil && !*simulated {
		fmt.Fprintf(stderr, "luna-install: this is no initrd (there is no %s): it would install over this machine; for a simulated node use --no-network\n", initrdRelease)
		return 2
	}
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
	defer stop()
	in, err := installer.New(installer.Config{
		Boot: b, Root: *root, Simulated: *simulated, NoScripts: *simulated && !*runAll, Once: *once,
		Seed: *seed, Console: stderr, Logger: logger(stderr),
	})
	if err == nil {
		err = in.Run(ctx)
	}
	if err != nil {
		fmt.Fprintln(stderr, "luna-install:", err)
		return 1
	}
	return 0
}

// initrdRelease is in every initrd, and only there: os-release(5). The kernel
// command line says root=luna on the running node too.
const initrdRelease = "/etc/initrd-release"

// defaultRoot is what dracut tells its hooks.
func defaultRoot() string {
	if root := os.Getenv("NEWROOT"); root != "" {
		return root
	}
	return "/sysroot"
}

// logger writes for the console of a machine without a clock that anybody has
// set yet: the seconds since boot take the place of the time, as in the lines of
// the kernel between which these stand.
func logger(w io.Writer) *slog.Logger {
	return slog.New(slog.NewTextHandler(w, &slog.HandlerOptions{
		ReplaceAttr: func(groups []string, a slog.Attr) slog.Attr {
			switch {
			case len(groups) > 0:
			case a.Key == slog.TimeKey:
				return slog.String("luna", uptime())
			case a.Key == slog.LevelKey && a.Value.Any() == slog.LevelInfo:
				return slog.Attr{}
			}
			return a
		},
	}))
}

// uptime is the time since the kernel started, in seconds.
func uptime() string {
	var now unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_BOOTTIME, &now); err != nil {
		return "?"
	}
	return fmt.Sprintf("%.1f", float64(now.Nano())/1e9)
}
