package installer

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"github.com/clustervision/luna/boot"
)

// Config of an [Installer].
type Config struct {
	// Boot is what the kernel command line says.
	Boot Boot
	// Root is where the tree goes. Default: /sysroot, where dracut looks for it.
	Root string
	// Simulated makes a node without a machine, for tests: the network is used as
	// it is, Root may be any folder, and neither the running kernel nor any file
	// outside of Root is changed.
	Simulated bool
	// NoScripts leaves the group's scripts out; a Simulated node has no business
	// with disks.
	NoScripts bool
	// Once makes the first failure the last.
	Once bool
	// Seed is how long to seed at most once the tree is unpacked. Default: what
	// the plan says; below zero: not at all.
	Seed time.Duration
	// Patience is how long a plan is asked for before the attempt fails, and the
	// next one begins with the network. Default: 10 minutes, and with Once 70
	// seconds, which is more than a switch with spanning tree needs.
	Patience time.Duration
	// Backoff is the pause after the first failure; it doubles up to twelve times
	// itself. Default: 5 seconds.
	Backoff time.Duration
	// Restart starts the machine anew, where the boot that it is in leads nowhere any
	// more. Default: reboot(2); Simulated and Once end with the error instead.
	Restart func() error
	// Console is where the output of scripts goes. Default: stderr.
	Console io.Writer
	// Logger says how it goes. Default: nothing is said.
	Logger *slog.Logger
}

// flushTimeout is how long the last reports may take, when nothing else is left
// to be done.
const flushTimeout = 10 * time.Second

// Installer makes a node of this machine.
type Installer struct {
	cfg      Config
	log      *slog.Logger
	heads    *heads
	reporter *reporter
	network  *network
	target   *target
	workDir  string                                    // for scripts
	makeBMC  func(context.Context, boot.PlanBMC) error // nil: this machine's is left alone
	madeBMC  boot.PlanBMC                              // as it was set up, in an earlier attempt; zero before
}

// New prepares an installation. It fails only if there is nothing to install to.
func New(cfg Config) (*Installer, error) {
	if cfg.Root == "" {
		cfg.Root = "/sysroot"
	}
	if cfg.Patience == 0 {
		cfg.Patience = 10 * time.Minute
		if cfg.Once {
			cfg.Patience = 70 * time.Second
		}
	}
	if cfg.Backoff == 0 {
		cfg.Backoff = 5 * time.Second
	}
	if cfg.Restart == nil && !cfg.Simulated && !cfg.Once {
		cfg.Restart = func() error {
			unix.Sync()
			return unix.Reboot(unix.LINUX_REBOOT_CMD_RESTART)
		}
	}
	if cfg.Console == nil {
		cfg.Console = os.Stderr
	}
	if cfg.Logger == nil {
		cfg.Logger = slog.New(slog.DiscardHandler)
	}
	// Not in the target, which a partscript is about to mount over.
	workDir := "/run/luna"
	if cfg.Simulated {
		workDir = filepath.Join(cfg.Root, workName)
	}
	if err := os.MkdirAll(cfg.Root, 0o755); err != nil {
		return nil, fmt.Errorf("install to %s: %w", cfg.Root, err)
	}
	target, err := newTarget(cfg.Root, workDir, cfg.Simulated, cfg.Logger)
	if err != nil {
		return nil, fmt.Errorf("install to %s: %w", cfg.Root, err)
	}
	in := &Installer{
		cfg: cfg, log: cfg.Logger, target: target, workDir: workDir,
		heads:   newHeads(cfg.Boot),
		network: newNetwork(cfg.Boot, cfg.Logger),
	}
	in.reporter = newReporter(in.heads.report, cfg.Logger)
	if !cfg.Simulated {
		in.makeBMC = newBMCSetup(cfg.Logger).run
	}
	return in, nil
}

// Run installs. It returns nil when the operating system may be handed over to,
// and only then: it begins again after every failure, for ever, unless Once is
// set. The end of ctx is an error too.
func (in *Installer) Run(ctx context.Context) error {
	var reporting sync.WaitGroup
	reports, stop := context.WithCancel(ctx)
	reporting.Go(func() { in.reporter.run(reports) })
	defer func() {
		stop()
		reporting.Wait()
		in.heads.client.CloseIdleConnections()
	}()
	in.hostname(in.cfg.Boot.Hostname)
	if in.cfg.Boot.Service && !in.cfg.Simulated {
		in.service(ctx)
	}
	if err := in.target.clear(); err != nil { // of an installer that was killed
		in.log.Error("what is left of an earlier installation is in the way", "error", err)
	}
	pause := in.cfg.Backoff
	for {
		a := &attempt{Installer: in}
		err := a.run(ctx)
		if err == nil {
			return nil
		}
		if ctx.Err() != nil {
			return fmt.Errorf("interrupted: %w", context.Cause(ctx))
		}
		in.failed(a, err)
		if in.cfg.Once {
			in.flush(ctx)
			return err
		}
		if errors.Is(err, errStale) && in.cfg.Restart != nil {
			in.log.Error("the machine starts anew")
			in.flush(ctx)
			if err := in.cfg.Restart(); err != nil {
				in.log.Error("the machine does not start anew: reset it", "error", err)
			}
		}
		in.log.Info("the installation begins again", "in", pause.String())
		if err := sleep(ctx, pause); err != nil {
			return fmt.Errorf("interrupted: %w", err)
		}
		pause = min(2*pause, 12*in.cfg.Backoff)
	}
}

// hostname names the running kernel. Nothing depends on it but what scripts and
// logs show.
func (in *Installer) hostname(name string) {
	if in.cfg.Simulated {
		return
	}
	if err := unix.Sethostname([]byte(name)); err != nil {
		in.log.Warn("the kernel does not take the hostname", "hostname", name, "error", err)
	}
}

// service gives the administrator a shell before anything is touched, with the
// network up if it can be.
func (in *Installer) service(ctx context.Context) {
	a := &attempt{Installer: in}
	if err := a.bringUp(ctx); err != nil {
		in.log.Error("no network for the service shell", "error", err)
	}
	in.log.Info("service: the installation begins when you leave this shell", "console", in.cfg.Boot.Console)
	if err := serviceShell(ctx, in.cfg.Boot.Console, a.environ()); err != nil {
		in.log.Error("no service shell, the installation begins", "error", err)
	}
}

// failed tells console and heads what went wrong.
func (in *Installer) failed(a *attempt, err error) {
	stage := &stageError{stage: boot.StageRequest, err: err}
	errors.As(err, &stage)
	in.log.Error("the stage failed", "stage", stage.stage, "error", stage.err)
	in.reporter.tell(boot.Report{
		Stage: stage.stage, Version: a.plan.ImageVersion, Failed: true,
		Message: strings.Join(append(slices.Clone(stage.tail), stage.err.Error()), "\n"),
	})
}

// flush waits for the last reports, for a while.
func (in *Installer) flush(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, flushTimeout)
	defer cancel()
	in.reporter.flush(ctx)
}

// stageError tells at which stage it happened, and what a script said last.
type stageError struct {
	stage string
	tail  []string
	err   error
}

func (e *stageError) Error() string { return e.stage + ": " + e.err.Error() }
func (e *stageError) Unwrap() error { return e.err }

// attempt is one installation, from the network to handing over.
type attempt struct {
	*Installer
	nic      nic
	plan     boot.Plan
	artifact *delivery // nil until the download begins
	unpacked time.Time // when the tree was complete; zero before
}

// run goes through the stages. After a failure everything is as it was before,
// but for what scripts did outside of the target.
func (a *attempt) run(ctx context.Context) error {
	for _, s := range []struct {
		name string
		do   func(context.Context) error
	}{
		{"", a.bringUp}, // nobody can be told about it
		{boot.StageRequest, a.request},
		{boot.StagePreScript, a.preScript},
		{"", a.setupBMC}, // tells its stage itself: not every node has it
		{boot.StagePartScript, a.partScript},
		{boot.StageDownload, a.fetch}, // and unpack
		{boot.StageSetNet, a.setNet},
		{boot.StagePostScript, a.postScript},
	} {
		if s.name != "" {
			a.stage(s.name)
		}
		err := s.do(ctx)
		if err == nil {
			continue
		}
		a.artifact.close()
		if cerr := a.target.clear(); cerr != nil {
			a.log.Error("the next attempt may fail at what this one leaves", "error", cerr)
		}
		if stage := (*stageError)(nil); errors.As(err, &stage) {
			return err
		}
		return &stageError{stage: cmp.Or(s.name, boot.StageRequest), err: err}
	}
	a.stage(boot.StageSuccess)
	a.handOver(ctx)
	return nil
}

// stage says where the node is.
func (a *attempt) stage(name string) {
	a.log.Info("next", "stage", name)
	a.reporter.tell(boot.Report{Stage: name, Version: a.plan.ImageVersion})
}

// bringUp connects the node.
func (a *attempt) bringUp(ctx context.Context) (err error) {
	if a.cfg.Simulated {
		return nil
	}
	if a.nic, err = a.network.up(ctx); err != nil {
		return fmt.Errorf("network: %w", err)
	}
	return nil
}

// request fetches the plan. It asks until the patience ends, and not for ever:
// the heads may all be down for a while, but the network may also need to be
// brought up anew.
func (a *attempt) request(ctx context.Context) error {
	deadline, refused := time.Now().Add(a.cfg.Patience), false
	for pause := a.cfg.Backoff / 5; ; pause = min(2*pause, 2*a.cfg.Backoff) {
		plan, err := a.heads.plan(ctx)
		if err == nil {
			if err := fits(plan, a.cfg.Boot, kernel()); err != nil && !a.cfg.Simulated {
				return err
			}
			a.plan = plan
			a.heads.learn(plan.Heads)
			a.log.Info("the plan is here", "image", plan.OSImage, "version", plan.ImageVersion, "mib", plan.Root.Size/mib)
			return nil
		}
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		refused = refused || errors.Is(err, errRefused)
		if time.Now().Add(pause).After(deadline) {
			err = fmt.Errorf("no head has a plan: %w", err)
			if refused {
				err = fmt.Errorf("%w: %w", errStale, err)
			}
			return err
		}
		a.log.Warn("no head has a plan, they are asked again", "in", pause.String(), "error", err)
		if err := sleep(ctx, pause); err != nil {
			return err
		}
	}
}

// errStale says that the boot that this machine is in leads nowhere: what firmware and
// iPXE were told is not true any more.
var errStale = errors.New("this boot is out of date")

// fits refuses a plan of another version than the running kernel's, which has no modules
// for that: the osimage of the node was changed, or its version deleted, since the kernel
// was loaded.
func fits(plan boot.Plan, running Boot, release string) error {
	if running.Version == "" || running.Version == plan.ImageVersion || plan.KernVer == "" || plan.KernVer == release {
		return nil
	}
	return fmt.Errorf("%w: the kernel %s of version %s runs, and version %s of '%s' has the modules of %s", errStale, release, running.Version, plan.ImageVersion, plan.OSImage, plan.KernVer)
}

// kernel gives the release of the running kernel, as its modules are named.
func kernel() string {
	var uts unix.Utsname
	if unix.Uname(&uts) != nil {
		return "" // it fails for bad pointers alone
	}
	return unix.ByteSliceToString(uts.Release[:])
}

func (a *attempt) preScript(ctx context.Context) error {
	return a.script(ctx, boot.StagePreScript, "prescript", a.plan.PreScript)
}

// setupBMC sets up the machine's BMC, if the plan says how. It never fails but by
// an interruption: a node computes without its BMC. The heads are told.
func (a *attempt) setupBMC(ctx context.Context) error {
	if a.plan.BMC == nil {
		return nil
	}
	a.stage(boot.StageSetupBMC)
	if a.makeBMC == nil || *a.plan.BMC == a.madeBMC {
		return nil
	}
	err := a.makeBMC(ctx, *a.plan.BMC)
	switch {
	case ctx.Err() != nil:
		return context.Cause(ctx)
	case err != nil:
		a.log.Warn("the BMC is not set up, the installation goes on", "error", err)
		a.reporter.tell(boot.Report{Stage: boot.StageSetupBMC, Version: a.plan.ImageVersion, Failed: true, Message: err.Error()})
	default:
		a.madeBMC = *a.plan.BMC
	}
	return nil
}

func (a *attempt) partScript(ctx context.Context) error {
	return a.script(ctx, boot.StagePartScript, "partscript", a.plan.PartScript)
}

// postScript runs the last script, and then puts on disk what is not yet: what is
// reported as installed has to survive a power cut.
func (a *attempt) postScript(ctx context.Context) error {
	if err := a.script(ctx, boot.StagePostScript, "postscript", a.plan.PostScript); err != nil {
		return err
	}
	return a.target.settle()
}

func (a *attempt) script(ctx context.Context, stage, name, text string) error {
	if a.cfg.NoScripts {
		return nil
	}
	s := scripts{dir: a.workDir, env: a.environ(), console: a.cfg.Console}
	tail, err := s.run(ctx, name, text)
	if err != nil {
		return &stageError{stage: stage, tail: tail, err: err}
	}
	return nil
}

// environ is what scripts know: the first two as in 1.2.
func (a *attempt) environ() []string {
	osimage := "" // 1.2 says by this whether the tree is there
	if !a.unpacked.IsZero() {
		osimage = "yes"
	}
	return []string{
		"LUNA_BOOTIF=" + a.nic.name,
		"LUNA_OSIMAGE=" + osimage,
		"LUNA_VERSION=" + a.plan.ImageVersion,
		"NODE=" + a.cfg.Boot.Node,
		"GROUP=" + a.plan.Group,
		"OSIMAGE=" + a.plan.OSImage,
		"NEWROOT=" + a.target.path,
		"SYSROOT=" + a.target.path,
	}
}

// setNet makes the tree this node's own.
func (a *attempt) setNet(context.Context) error {
	t, err := openTree(a.target.path)
	if err != nil {
		return err
	}
	defer t.close()
	if err := setnet(t, a.plan, a.nic, a.log); err != nil {
		return err
	}
	a.hostname(a.plan.Hostname)
	return nil
}

// handOver serves the neighbours for the grace time, and leaves nothing of the
// installer behind. The node is installed by now; nothing here can make it fail.
func (a *attempt) handOver(ctx context.Context) {
	grace := time.Duration(a.plan.SeedSeconds) * time.Second
	if a.cfg.Seed != 0 {
		grace = a.cfg.Seed
	}
	a.artifact.seed(ctx, a.unpacked.Add(grace), a.log)
	a.flush(ctx)
	a.artifact.close()
	if a.cfg.Simulated {
		return
	}
	if err := a.target.settle(); err != nil {
		a.log.Warn("the disk may have to repeat some writes at its first mount", "error", err)
	}
	if err := a.network.down(); err != nil {
		a.log.Warn("the operating system finds addresses of the installation", "error", err)
	}
	a.log.Info("handing over", "hostname", a.plan.Hostname)
}
