package bmc_test

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os/exec"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"go.uber.org/goleak"
	"golang.org/x/sync/errgroup"

	"github.com/clustervision/luna/bmc"
	"github.com/clustervision/luna/test/lab/bmcsim"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const (
	user     = "ladmin"
	password = "S3cret-16-bytes!"
)

var loopback = netip.AddrPortFrom(netip.AddrFrom4([4]byte{127, 0, 0, 1}), 0)

func target(s *bmcsim.Sim) bmc.Target {
	return bmc.Target{Name: "node001", Addr: s.Addr(), User: user, Password: password}
}

// ipmitool asks the BMC as somebody else would.
func ipmitool(t *testing.T, s *bmcsim.Sim, args ...string) string {
	t.Helper()
	if _, err := exec.LookPath("ipmitool"); err != nil {
		t.Fatal("ipmitool is missing: run make deps")
	}
	cmd := exec.CommandContext(t.Context(), "ipmitool", append([]string{
		"-I", "lanplus", "-C", "3", "-H", s.Addr().Addr().String(), "-p", fmt.Sprint(s.Addr().Port()), "-U", user, "-E",
	}, args...)...)
	cmd.Env = append(cmd.Environ(), "IPMI_PASSWORD="+password)
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("ipmitool %v: %v\n%s", args, err, out)
	}
	return strings.TrimSpace(string(out))
}

// TestOps does everything to one machine, with ipmitool as the judge.
func TestOps(t *testing.T) {
	t.Parallel()
	s := bmcsim.Start(t, loopback, user, password)
	off, on := bmc.Result{Power: "off", Verified: true}, bmc.Result{Power: "on", Verified: true}
	for _, tt := range []struct {
		op    bmc.Op
		want  bmc.Result
		calls []string // what reached the machine
		then  string   // in ipmitool's words
	}{
		{op: bmc.Status, want: off, then: "off"},
		{op: bmc.On, want: on, calls: []string{"power 1"}, then: "on"},
		{op: bmc.On, want: on, calls: []string{"power 1"}, then: "on"}, // again
		{op: bmc.Status, want: on, then: "on"},
		{op: bmc.Cycle, want: on, calls: []string{"power 0", "power 1"}, then: "on"},
		{op: bmc.Reset, want: bmc.Result{Power: "on"}, calls: []string{"reset 1"}, then: "on"},
		{op: bmc.Identify, calls: []string{"identify 255 0"}, then: "on"},
		{op: bmc.NoIdentify, calls: []string{"identify 0 0"}, then: "on"},
		{op: bmc.Off, want: off, calls: []string{"power 0"}, then: "off"},
		{op: bmc.Off, want: off, calls: []string{"power 0"}, then: "off"},
	} {
		before := len(s.Calls())
		begin := time.Now()
		got, err := bmc.Do(t.Context(), target(s), tt.op)
		if err != nil || got != tt.want {
			t.Errorf("%s: %+v, %v; want %+v", tt.op, got, err, tt.want)
		}
		t.Logf("%s took %s", tt.op, time.Since(begin))
		if diff := cmp.Diff(tt.calls, s.Calls()[before:], cmp.Transformer("empty", func(l []string) string { return strings.Join(l, ", ") })); diff != "" {
			t.Errorf("%s: the machine got (-want +got):\n%s", tt.op, diff)
		}
		if said := ipmitool(t, s, "power", "status"); said != "Chassis Power is "+tt.then || s.Power() != (tt.then == "on") {
			t.Errorf("%s: ipmitool says %q, the machine is on: %v; want %s", tt.op, said, s.Power(), tt.then)
		}
	}

	// And what ipmitool does, we see.
	ipmitool(t, s, "power", "on")
	if got, err := bmc.Do(t.Context(), target(s), bmc.Status); err != nil || got != on {
		t.Errorf("after ipmitool's on: %+v, %v", got, err)
	}
}

// TestResetOff: a reset of a machine that is off is no success.
func TestResetOff(t *testing.T) {
	t.Parallel()
	s := bmcsim.Start(t, loopback, user, password)
	got, err := bmc.Do(t.Context(), target(s), bmc.Reset)
	if err == nil || !strings.Contains(err.Error(), "the machine is off") || got.Power != "off" {
		t.Errorf("%+v, %v", got, err)
	}
}

// TestRefusals: each with its reason, and none with the password.
func TestRefusals(t *testing.T) {
	t.Parallel()
	s := bmcsim.Start(t, loopback, user, password)
	good := target(s)
	for _, tt := range []struct {
		name   string
		change func(*bmc.Target)
		op     bmc.Op
		is     error
		text   string
	}{
		{name: "wrong password", change: func(t *bmc.Target) { t.Password = "wrong" }, is: bmc.ErrLogin, text: `has another password for user "ladmin"`},
		{name: "no password", change: func(t *bmc.Target) { t.Password = "" }, is: bmc.ErrLogin, text: `has another password for user "ladmin"`},
		{name: "unknown user", change: func(t *bmc.Target) { t.User = "somebody" }, is: bmc.ErrLogin, text: `has no user "somebody"`},
		{name: "password too long", change: func(t *bmc.Target) { t.Password += "and 5" }, text: "has 21 characters, IPMI takes 20"},
		{name: "user too long", change: func(t *bmc.Target) { t.User = strings.Repeat("u", 17) }, text: "has 17 characters, IPMI takes 16"},
		{name: "no address", change: func(t *bmc.Target) { t.Addr = netip.AddrPort{} }, text: "the BMC has no address"},
		{name: "no operation", change: func(*bmc.Target) {}, op: "explode", text: `"explode" is not an operation`},
	} {
		to := good
		tt.change(&to)
		op := tt.op
		if op == "" {
			op = bmc.Off
		}
		begin := time.Now()
		_, err := bmc.Do(t.Context(), to, op)
		if err == nil || tt.is != nil && !errors.Is(err, tt.is) || !strings.Contains(err.Error(), tt.text) {
			t.Errorf("%s: got %v, want %q", tt.name, err, tt.text)
			continue
		}
		t.Logf("%s, in %s: %v", tt.name, time.Since(begin), err)
		if strings.Contains(err.Error(), good.Password) || to.Password != "" && strings.Contains(err.Error(), to.Password) {
			t.Errorf("%s: the error shows the password: %v", tt.name, err)
		}
	}
	if len(s.Calls()) > 0 {
		t.Errorf("the machine got %v", s.Calls())
	}
}

// TestNobodyThere: on a machine without a BMC it is known at once, and of silence
// after the time that was given.
func TestNobodyThere(t *testing.T) {
	t.Parallel()
	s := bmcsim.Start(t, loopback, user, password)
	to := target(s)
	s.Stop()
	begin := time.Now()
	_, err := bmc.Do(t.Context(), to, bmc.On)
	if !errors.Is(err, bmc.ErrNoAnswer) || !strings.Contains(err.Error(), "nothing on it that speaks IPMI") || time.Since(begin) > 5*time.Second {
		t.Errorf("after %s: %v", time.Since(begin), err)
	}
	t.Log(err)

	deaf := listen(t)
	to.Addr = deaf.LocalAddr().(*net.UDPAddr).AddrPort()
	ctx, cancel := context.WithTimeout(t.Context(), 3*time.Second)
	defer cancel()
	begin = time.Now()
	_, err = bmc.Do(ctx, to, bmc.On)
	if took := time.Since(begin); !errors.Is(err, bmc.ErrNoAnswer) || took < 2*time.Second || took > 5*time.Second ||
		!strings.Contains(err.Error(), fmt.Sprintf("nothing from %s within 3", to.Addr)) {
		t.Errorf("after %s: %v", took, err)
	}
	t.Log(err)

	ctx, cancel = context.WithCancel(t.Context())
	time.AfterFunc(100*time.Millisecond, cancel)
	begin = time.Now()
	_, err = bmc.Do(ctx, to, bmc.On)
	if !errors.Is(err, context.Canceled) || errors.Is(err, bmc.ErrNoAnswer) || time.Since(begin) > 2*time.Second {
		t.Errorf("interrupted, after %s: %v", time.Since(begin), err)
	}
}

// TestSlowBMC: a BMC that hangs for longer than any one exchange is still heard.
func TestSlowBMC(t *testing.T) {
	t.Parallel()
	s := bmcsim.Start(t, loopback, user, password)
	s.Pause()
	time.AfterFunc(2*time.Second, s.Continue)
	if got, err := bmc.Do(t.Context(), target(s), bmc.On); err != nil || got.Power != "on" || !s.Power() {
		t.Errorf("%+v, %v", got, err)
	}
}

// TestIPv6: the BMC's network may have no other addresses.
func TestIPv6(t *testing.T) {
	t.Parallel()
	s := bmcsim.Start(t, netip.AddrPortFrom(netip.IPv6Loopback(), 0), user, password)
	if got, err := bmc.Do(t.Context(), target(s), bmc.On); err != nil || got.Power != "on" || !s.Power() {
		t.Errorf("%+v, %v", got, err)
	}
}

// TestEach: twenty machines and a dead one, in the order of the caller if he wants.
func TestEach(t *testing.T) {
	t.Parallel()
	const n = 20
	var (
		sims    []*bmcsim.Sim
		targets []bmc.Target
	)
	for i := range n {
		s := bmcsim.Start(t, loopback, user, password)
		sims = append(sims, s)
		to := target(s)
		to.Name = fmt.Sprintf("node%03d", i+1)
		targets = append(targets, to)
	}
	dead := target(sims[0])
	dead.Name, dead.Addr = "node021", listen(t).LocalAddr().(*net.UDPAddr).AddrPort()
	targets = slices.Insert(targets, 3, dead)
	wrong := target(sims[0])
	wrong.Password = "wrong"
	targets = append(targets, wrong)

	for _, parallel := range []int{0, 3} {
		op, state := bmc.On, "on"
		if parallel != 0 {
			op, state = bmc.Off, "off"
		}
		outcomes := make([]*bmc.Outcome, len(targets))
		begin := time.Now()
		for i, o := range bmc.Each(t.Context(), targets, op, bmc.Options{Parallel: parallel, Timeout: 2 * time.Second}) {
			if outcomes[i] != nil {
				t.Errorf("target %d came twice", i)
			}
			outcomes[i] = &o
		}
		t.Logf("%s of %d, %d at a time, took %s", op, len(targets), parallel, time.Since(begin))
		for i, o := range outcomes {
			switch {
			case o == nil:
				t.Errorf("target %d did not come", i)
			case i == 3 && !errors.Is(o.Err, bmc.ErrNoAnswer), i == n+1 && !errors.Is(o.Err, bmc.ErrLogin):
				t.Errorf("target %d: %v", i, o.Err)
			case i != 3 && i != n+1 && (o.Err != nil || o.Power != state || !o.Verified):
				t.Errorf("target %d: %+v", i, o)
			}
		}
		for i, s := range sims {
			if s.Power() != (state == "on") {
				t.Errorf("machine %d is not %s", i, state)
			}
		}
	}
}

// TestEachEnds: an interruption reaches all at once, each is told of, and a loop
// may be left.
func TestEachEnds(t *testing.T) {
	t.Parallel()
	deaf := bmc.Target{Addr: listen(t).LocalAddr().(*net.UDPAddr).AddrPort(), User: user}
	targets := slices.Repeat([]bmc.Target{deaf}, 1000)
	ctx, cancel := context.WithCancel(t.Context())
	time.AfterFunc(100*time.Millisecond, cancel)
	begin, came := time.Now(), 0
	for _, o := range bmc.Each(ctx, targets, bmc.Status, bmc.Options{}) {
		came++
		if !errors.Is(o.Err, context.Canceled) {
			t.Fatalf("got %v, want an interruption", o.Err)
		}
	}
	for range bmc.Each(t.Context(), targets, bmc.Status, bmc.Options{Timeout: 100 * time.Millisecond}) {
		break
	}
	if came != len(targets) || time.Since(begin) > 10*time.Second {
		t.Errorf("%d of %d came, in %s", came, len(targets), time.Since(begin))
	}
	for range bmc.Each(t.Context(), nil, bmc.Status, bmc.Options{}) {
		t.Error("an outcome of nothing")
	}
}

func TestParseOp(t *testing.T) {
	for _, name := range []string{"status", "on", "off", "reset", "cycle", "identify", "noidentify"} {
		if op, err := bmc.ParseOp(name); err != nil || string(op) != name {
			t.Errorf("%s: %q, %v", name, op, err)
		}
	}
	if _, err := bmc.ParseOp("ON"); err == nil || err.Error() != `"ON" is not an operation: choose from status, on, off, reset, cycle, identify, noidentify` {
		t.Error(err)
	}
}

// BenchmarkEach asks twenty BMCs for their status, and has as many ipmitools, one
// for each as lpower of Luna 1.2 had, do it too.
func BenchmarkEach(b *testing.B) {
	var targets []bmc.Target
	for range 20 {
		s := bmcsim.Start(b, loopback, user, password)
		targets = append(targets, target(s))
	}
	b.Run("luna", func(b *testing.B) {
		for b.Loop() {
			for _, o := range bmc.Each(b.Context(), targets, bmc.Status, bmc.Options{}) {
				if o.Err != nil {
					b.Error(o.Err)
				}
			}
		}
	})
	b.Run("ipmitool", func(b *testing.B) {
		for b.Loop() {
			var all errgroup.Group
			for _, to := range targets {
				all.Go(func() error {
					cmd := exec.CommandContext(b.Context(), "ipmitool", "-I", "lanplus", "-C", "3", "-H", to.Addr.Addr().String(),
						"-p", fmt.Sprint(to.Addr.Port()), "-U", to.User, "-E", "power", "status")
					cmd.Env = append(cmd.Environ(), "IPMI_PASSWORD="+to.Password)
					return cmd.Run()
				})
			}
			if err := all.Wait(); err != nil {
				b.Error(err)
			}
		}
	})
}

// listen opens a port that hears and says nothing.
func listen(t *testing.T) net.PacketConn {
	t.Helper()
	c, err := net.ListenUDP("udp", net.UDPAddrFromAddrPort(loopback))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return c
}
