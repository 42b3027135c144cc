package installer

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/clustervision/luna/boot"
	"github.com/clustervision/luna/swarm"
)

var goodStages = []string{"request", "prescript", "partscript", "download", "unpack", "setnet", "postscript", "success"}

func TestInstall(t *testing.T) {
	t.Parallel()
	s := newSite(t, 1)
	s.plan.PartScript = `echo "$NODE $GROUP $OSIMAGE $LUNA_VERSION [$LUNA_OSIMAGE]" >$SYSROOT.part`
	s.plan.PostScript = `echo "[$LUNA_OSIMAGE] $NEWROOT" >>$SYSROOT/etc/fstab`
	cfg := s.config(t)
	if err := install(t, cfg); err != nil {
		t.Fatal(err)
	}
	checkTree(t, cfg.Root)
	for path, want := range map[string]string{
		cfg.Root + ".part":      "node001 compute compute v1 []\n",
		cfg.Root + "/etc/fstab": "[yes] " + cfg.Root + "\n",
	} {
		if got, err := os.ReadFile(path); err != nil || string(got) != want {
			t.Errorf("%s is %q (%v), want %q", path, got, err, want)
		}
	}
	if diff := cmp.Diff(goodStages, s.stages()); diff != "" {
		t.Errorf("stages (-want +got):\n%s", diff)
	}
	for _, r := range s.reports[1:] {
		if r.Version != "v1" {
			t.Errorf("report %+v does not name the version", r)
		}
	}
}

// TestInstallNoScripts: a simulated node leaves the disks of its machine alone.
func TestInstallNoScripts(t *testing.T) {
	t.Parallel()
	s := newSite(t, 1)
	s.plan.PreScript, s.plan.PartScript, s.plan.PostScript = "false", "false", "false"
	cfg := s.config(t)
	cfg.NoScripts = true
	if err := install(t, cfg); err != nil {
		t.Fatal(err)
	}
	checkTree(t, cfg.Root)
}

// TestBadPlans: what is wrong with a plan is said, and the next head has a good
// one.
func TestBadPlans(t *testing.T) {
	t.Parallel()
	s := newSite(t, 5)
	other := s.plan
	other.Node = "node002"
	s.heads[0].set("plan", cutting(s.planJSON()))
	s.heads[1].set("plan", serving(200, s.planJSON()[:100]))
	s.heads[2].set("plan", serving(404, []byte("osimage 'compute' is not packed\n")))
	s.heads[3].Close()
	cfg := s.config(t)

	once := cfg
	once.Once, once.Patience, once.Boot.Heads = true, time.Millisecond, s.plan.Heads[:4]
	err := install(t, once)
	if err == nil {
		t.Fatal("installed without a plan")
	}
	for _, want := range []string{
		"install.request: no head has a plan",
		"the answer broke off after", "is damaged: unexpected end of JSON input",
		"404 Not Found: osimage 'compute' is not packed", "connection refused",
	} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("the error says nothing of %q:\n%v", want, err)
		}
	}
	if left, _ := os.ReadDir(cfg.Root); len(left) > 0 {
		t.Errorf("something was changed without a plan: %v", left)
	}

	if err := install(t, cfg); err != nil {
		t.Fatal(err)
	}
	checkTree(t, cfg.Root)
}

// TestPlanForEver: heads that have no plan, and heads that are not there, are
// asked until one has.
func TestPlanForEver(t *testing.T) {
	t.Parallel()
	s := newSite(t, 1)
	s.heads[0].set("plan", serving(503, []byte("no quorum\n")))
	cfg := s.config(t)
	cfg.Patience = 100 * time.Millisecond // several attempts
	done := make(chan error, 1)
	go func() { done <- install(t, cfg) }()
	eventually(t, func() bool { return s.heads[0].times("plan") > 8 && slices.Contains(s.stages(), "request!") })
	s.heads[0].set("plan", nil)
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	checkTree(t, cfg.Root)
}

// TestABootThatIsRefused: a token that is too old, say, is not good again by being sent
// again: the machine starts anew. It does not where no head answers.
func TestABootThatIsRefused(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		name     string
		answer   http.HandlerFunc
		restarts bool
	}{
		{"too old", serving(401, []byte("node 'node001': the token is of 26h ago\n")), true},
		{"renamed", serving(400, []byte("Object 'node001' of type 'node' does not exist\n")), true},
		{"not packed", serving(404, nil), false},
		{"no head", nil, false},
	} {
		s := newSite(t, 2)
		for _, h := range s.heads {
			if h.set("plan", tc.answer); tc.answer == nil {
				h.Close()
			}
		}
		cfg := s.config(t)
		cfg.Patience = 50 * time.Millisecond
		ctx, cancel := context.WithTimeout(t.Context(), 2*time.Second)
		defer cancel()
		restarts := 0
		cfg.Restart = func() error {
			restarts++
			cancel()
			return nil
		}
		in, err := New(cfg)
		if err != nil {
			t.Fatal(err)
		}
		if err := in.Run(ctx); err == nil || restarts > 0 != tc.restarts {
			t.Errorf("%s: it started anew %d times (%v)", tc.name, restarts, err)
		}
	}
}

// TestAKernelOfAnotherVersion: the tree must have modules for the kernel that runs.
func TestAKernelOfAnotherVersion(t *testing.T) {
	plan := goodPlan()
	plan.ImageVersion, plan.KernVer = "new", "6.2"
	for _, tc := range []struct {
		running, release string
		good             bool
	}{
		{"new", "6.2", true},
		{"old", "6.2", true},  // the same kernel is in both
		{"old", "6.1", false}, // it was loaded before the image was changed
		{"", "6.1", true},     // by a head of the last release
	} {
		if err := fits(plan, Boot{Version: tc.running}, tc.release); (err == nil) != tc.good || err != nil && !errors.Is(err, errStale) {
			t.Errorf("version %q, kernel %s: %v", tc.running, tc.release, err)
		}
	}
}

// TestAHeadHangs: it takes up connections, as the kernel of a stopped program does, and
// says nothing.
func TestAHeadHangs(t *testing.T) {
	t.Parallel()
	s := newSite(t, 2)
	end := make(chan struct{})
	t.Cleanup(func() { close(end) })
	s.heads[0].set("plan", func(http.ResponseWriter, *http.Request) { <-end })
	h := newHeads(s.boot())
	began := time.Now()
	if _, err := h.plan(t.Context()); err != nil {
		t.Fatal(err)
	}
	if took := time.Since(began); took > planTimeout/3 {
		t.Errorf("the plan took %s", took)
	}
}

// TestFailingScript: the failure is reported with its last lines, the installation
// begins again from the plan, and a cured script makes it succeed.
func TestFailingScript(t *testing.T) {
	t.Parallel()
	s := newSite(t, 1)
	flag := filepath.Join(t.TempDir(), "flag")
	s.plan.PartScript = fmt.Sprintf("seq 30; if [ ! -e %s ]; then touch %s; echo no disk >&2; exit 4; fi", flag, flag)
	cfg := s.config(t)
	if err := install(t, cfg); err != nil {
		t.Fatal(err)
	}
	checkTree(t, cfg.Root)
	want := append([]string{"request", "prescript", "partscript!"}, goodStages...)
	if diff := cmp.Diff(want, s.stages()); diff != "" {
		t.Errorf("stages (-want +got):\n%s", diff)
	}
	message := strings.Split(s.failure(), "\n")
	if len(message) != 21 || message[0] != "12" || message[19] != "no disk" || message[20] != "the partscript failed: exit status 4" {
		t.Errorf("the failure was reported as %q", message)
	}

	// The same, where the first failure is the last.
	if err := os.Remove(flag); err != nil {
		t.Fatal(err)
	}
	cfg.Root += "2"
	cfg.Once = true
	if err := install(t, cfg); err == nil || err.Error() != "install.partscript: the partscript failed: exit status 4" {
		t.Errorf("got error %v", err)
	}
}

// TestFailingPostScript: after a failure that late nothing is left of the
// attempt, not even in the swarm, whose ports the next one needs.
func TestFailingPostScript(t *testing.T) {
	t.Parallel()
	s := newSite(t, 1)
	flag := filepath.Join(t.TempDir(), "flag")
	s.plan.PostScript = fmt.Sprintf("test -e %s || { touch %s; false; }", flag, flag)
	cfg := s.config(t)
	if err := install(t, cfg); err != nil {
		t.Fatal(err)
	}
	checkTree(t, cfg.Root)
	want := append(append(slices.Clone(goodStages[:6]), "postscript!"), goodStages...)
	if diff := cmp.Diff(want, s.stages()); diff != "" {
		t.Errorf("stages (-want +got):\n%s", diff)
	}
}

// TestHeadsDie: one head after the other dies, each at another step, and comes
// not back.
func TestHeadsDie(t *testing.T) {
	t.Parallel()
	s := newSite(t, 3)
	// Dead before the plan: a closed port. Dead after the plan: head 1 gives the
	// plan, and then nothing any more; not even a refusal, for a while.
	s.heads[0].Close()
	hang := make(chan struct{})
	t.Cleanup(func() { close(hang) })
	die := func(http.ResponseWriter, *http.Request) {
		select {
		case <-hang:
		case <-time.After(5 * time.Second):
		}
		panic(http.ErrAbortHandler)
	}
	s.heads[1].set("plan", func(w http.ResponseWriter, r *http.Request) {
		s.heads[1].set("status", die)
		s.heads[1].set("artifacts", die)
		s.heads[1].set("announce", die)
		w.Write(s.planJSON())
	})
	cfg := s.config(t)
	begin := time.Now()
	if err := install(t, cfg); err != nil {
		t.Fatal(err)
	}
	checkTree(t, cfg.Root)
	if s.heads[2].times("artifacts") == 0 || s.stages()[len(s.stages())-1] != "success" {
		t.Errorf("the last head was asked %d times for the artifact, and heard of %v", s.heads[2].times("artifacts"), s.stages())
	}
	if took := time.Since(begin); took > 40*time.Second {
		t.Errorf("two dead heads of three made it take %s", took)
	}
}

// TestHeadDiesInDownload: the head from which the artifact comes breaks off in
// the middle of a piece, for ever.
func TestHeadDiesInDownload(t *testing.T) {
	t.Parallel()
	s := newSite(t, 2)
	var served atomic.Int32
	s.heads[0].set("artifacts", func(w http.ResponseWriter, r *http.Request) {
		if served.Add(1) > 3 {
			cutting(make([]byte, 1000))(w, r)
		}
		http.ServeFile(w, r, s.artifact)
	})
	cfg := s.config(t)
	if err := install(t, cfg); err != nil {
		t.Fatal(err)
	}
	checkTree(t, cfg.Root)
	if s.heads[1].times("artifacts") == 0 {
		t.Error("the other head was not asked")
	}
}

// TestCorruptArtifact: a head whose disk lies is passed over; if the cluster's
// only copy is corrupt, the node waits for a good one and installs nothing.
func TestCorruptArtifact(t *testing.T) {
	t.Parallel()
	s := newSite(t, 2)
	data, err := os.ReadFile(s.artifact)
	if err != nil {
		t.Fatal(err)
	}
	data[len(data)/2] ^= 1
	corrupt := filepath.Join(t.TempDir(), "corrupt")
	if err := os.WriteFile(corrupt, data, 0o644); err != nil {
		t.Fatal(err)
	}
	lie := func(w http.ResponseWriter, r *http.Request) { http.ServeFile(w, r, corrupt) }
	s.heads[0].set("artifacts", lie)
	cfg := s.config(t)
	if err := install(t, cfg); err != nil {
		t.Fatal(err)
	}
	checkTree(t, cfg.Root)

	s.heads[1].set("artifacts", lie)
	cfg.Root += "2"
	in, err := New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancelCause(t.Context())
	defer cancel(nil)
	reason := errors.New("seen enough")
	asked := s.heads[1].times("artifacts")
	var watching sync.WaitGroup
	defer watching.Wait()
	watching.Go(func() {
		// It is asked for the piece that the other head has no good one of.
		for s.heads[1].times("artifacts") == asked && sleep(ctx, 5*time.Millisecond) == nil {
			continue
		}
		_ = sleep(ctx, 500*time.Millisecond) // time to do something wrong
		cancel(reason)
	})
	if err := in.Run(ctx); !errors.Is(err, reason) {
		t.Errorf("got %v, want the interruption", err)
	}
	if _, err := os.Stat(filepath.Join(cfg.Root, "etc/hostname")); err == nil {
		t.Error("a node was made of a corrupt artifact")
	}
}

// TestWrongArtifact: plan and descriptor agree with each other, and the content
// with neither a tar nor the image: whole, proven, and no good.
func TestWrongArtifact(t *testing.T) {
	t.Parallel()
	s := newSite(t, 1)
	if err := os.WriteFile(s.artifact, []byte(strings.Repeat("this is no artifact ", 10000)), 0o644); err != nil {
		t.Fatal(err)
	}
	desc, err := swarm.Describe(t.Context(), s.artifact, "test")
	if err != nil {
		t.Fatal(err)
	}
	good := s.plan.Root
	s.describe(t, desc)
	cfg := s.config(t)
	cfg.Once = true
	if err := install(t, cfg); err == nil || !strings.HasPrefix(err.Error(), "install.unpack: unpack to ") {
		t.Errorf("got error %v", err)
	}
	if got := s.stages(); got[len(got)-1] != "unpack!" {
		t.Errorf("stages %v, want the last one to be a failed unpack", got)
	}

	s.plan.Root.SHA256 = good.SHA256
	if err := install(t, cfg); err == nil || !strings.Contains(err.Error(), "install.download: the plan contradicts itself") {
		t.Errorf("got error %v", err)
	}
	s.plan.Root.Descriptor = []byte(`{"name":"x","sha256":"` + good.SHA256 + `","size":` + fmt.Sprint(s.plan.Root.Size) + `}`)
	if err := install(t, cfg); err == nil || !strings.Contains(err.Error(), "bad descriptor") {
		t.Errorf("got error %v", err)
	}
}

// TestSwarm: nodes that install at the same time have the artifact from a head
// that seeds it and from each other, and go on seeding.
func TestSwarm(t *testing.T) {
	t.Parallel()
	s := newSite(t, 1)
	seeder, err := swarm.New(swarm.Config{})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	var running sync.WaitGroup
	defer running.Wait()
	defer cancel()
	running.Go(func() { _ = seeder.Run(ctx) })
	var desc swarm.Descriptor
	unmarshal(t, s.plan.Root.Descriptor, &desc)
	if err := seeder.Seed(desc, s.artifact); err != nil {
		t.Fatal(err)
	}
	tracker := swarm.NewTracker(swarm.TrackerConfig{Swarm: seeder})
	s.heads[0].set("announce", tracker.ServeHTTP)
	s.heads[0].set("artifacts", serving(500, nil)) // there is no other way
	s.plan.SeedSeconds = 2

	var nodes sync.WaitGroup
	for range 3 {
		cfg := s.config(t)
		nodes.Go(func() {
			if err := install(t, cfg); err != nil {
				t.Error(err)
			}
			checkTree(t, cfg.Root)
		})
	}
	nodes.Wait()
	if s.heads[0].times("artifacts") > 0 {
		t.Errorf("a node turned to HTTP %d times", s.heads[0].times("artifacts"))
	}
}

// TestInterrupted: a signal is never a success.
func TestInterrupted(t *testing.T) {
	t.Parallel()
	s := newSite(t, 1)
	ctx, cancel := context.WithCancel(t.Context())
	s.plan.PreScript = "sleep 60"
	s.heads[0].set("status", func(http.ResponseWriter, *http.Request) { cancel() })
	in, err := New(s.config(t))
	if err != nil {
		t.Fatal(err)
	}
	if err := in.Run(ctx); !errors.Is(err, context.Canceled) || !strings.Contains(err.Error(), "interrupted") {
		t.Errorf("got %v", err)
	}
}

// TestPrepareFails: the partscript ends well and leaves no room.
func TestPrepareFails(t *testing.T) {
	t.Parallel()
	s := newSite(t, 1)
	s.plan.Root.UnpackedSize = 1 << 60
	cfg := s.config(t)
	cfg.Once = true
	err := install(t, cfg)
	if err == nil || !strings.HasPrefix(err.Error(), boot.StagePartScript+": ") {
		t.Errorf("got error %v", err)
	}
	t.Log(err)
}

// TestConfigDefaults: the root must be a folder that can be made.
func TestConfigDefaults(t *testing.T) {
	file := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, nil, 0o644); err != nil {
		t.Fatal(err)
	}
	if _, err := New(Config{Root: filepath.Join(file, "root"), Logger: slog.New(slog.DiscardHandler)}); err == nil {
		t.Error("a folder in a file is taken for a root")
	}
}
