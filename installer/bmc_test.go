package installer

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/clustervision/luna/boot"
	"github.com/clustervision/luna/test/lab/bmcsim"
)

// fakeIPMItool is a BMC in files, for what a real one cannot be made to do. It
// writes down its arguments and its input, and obeys to the hook of the test.
const fakeIPMItool = `#!/bin/bash
cd '%s' || exit 1
echo "$*" >>calls
[ ! -e hook ] || . ./hook
get() { cat "$1" 2>/dev/null || echo "$2"; }
case "$*" in
"lan print 1")
	echo "Set in Progress         : Set Complete"
	echo "Auth Type Enable        : Callback : MD5"
	echo "                        : User     : MD5"
	echo "IP Address Source       : $(get ipsrc 'DHCP Address')"
	echo "IP Address              : $(get ipaddr 192.168.0.120)"
	echo "Subnet Mask             : $(get netmask 255.255.255.0)"
	echo "MAC Address             : 52:54:00:00:00:99"
	echo "Default Gateway IP      : $(get defgw 192.168.0.1)" ;;
"lan set 1 ipsrc static") echo "Static Address" >ipsrc ;;
"lan set 1 defgw ipaddr "*) echo "$6" >defgw ;;
"lan set 1 "*) echo "$5" >"$4" ;;
"channel getaccess 1 3")
	echo "Maximum User IDs     : 15"
	echo
	echo "User ID              : 3"
	echo "User Name            : $(get name '')"
	echo "IPMI Messaging       : $(get ipmi disabled)"
	echo "Privilege Level      : $(get privilege 'NO ACCESS')" ;;
"user set name 3 "*) echo "$5" >name ;;
"channel setaccess 1 3 link=on ipmi=on callin=on privilege=4") echo enabled >ipmi; echo ADMINISTRATOR >privilege ;;
"exec "*) cat >>input ;;
"user enable 3") ;;
"mc reset cold") ;;
*) echo "Invalid command: $*" >&2; exit 1 ;;
esac
`

// fakeBMC makes the programs, and a setup that uses them. The device is there when
// ipmi_si is loaded.
func fakeBMC(t *testing.T) (setup bmcSetup, dir string) {
	t.Helper()
	dir = t.TempDir()
	for name, text := range map[string]string{
		"ipmitool": fmt.Sprintf(fakeIPMItool, dir),
		"modprobe": fmt.Sprintf("#!/bin/sh\ncd '%s' && echo modprobe \"$@\" >>calls && [ \"$1\" != ipmi_si ] || : >ipmi0\n", dir),
		"calls":    "",
	} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	return bmcSetup{
		modprobe: filepath.Join(dir, "modprobe"), ipmitool: filepath.Join(dir, "ipmitool"),
		devices: []string{filepath.Join(dir, "nothing"), filepath.Join(dir, "ipmi0")}, patience: 10 * time.Second, pause: 10 * time.Millisecond,
		log: slog.New(slog.NewTextHandler(testWriter{t}, nil)),
	}, dir
}

// told returns what the programs were called with since it was asked last.
func told(t *testing.T, dir string) []string {
	t.Helper()
	name := filepath.Join(dir, "calls")
	text, err := os.ReadFile(name)
	if err == nil {
		err = os.Truncate(name, 0)
	}
	if err != nil {
		t.Fatal(err)
	}
	return strings.FieldsFunc(string(text), func(r rune) bool { return r == '\n' })
}

func planBMC() boot.PlanBMC {
	return boot.PlanBMC{
		NetChannel: 1, MgmtChannel: 1, UserID: 3, User: "ladmin", Password: "it's \"S3cret\"",
		Address: netip.MustParsePrefix("10.148.0.1/16"), Gateway: netip.MustParseAddr("10.148.255.254"),
	}
}

// TestSetupBMC: what is as it should be is not written, and a BMC of which all is,
// is not reset.
func TestSetupBMC(t *testing.T) {
	t.Parallel()
	b, dir := fakeBMC(t)
	p := planBMC()
	const password = "exec /proc/self/fd/0"
	load := []string{"modprobe ipmi_msghandler", "modprobe ipmi_devintf", "modprobe ipmi_si", "modprobe ipmi_ssif"}
	for _, step := range []struct {
		name   string
		change func()
		want   []string
	}{
		{"a new machine", func() {}, append(load,
			"lan print 1", "lan set 1 ipsrc static", "lan set 1 ipaddr 10.148.0.1", "lan set 1 netmask 255.255.0.0", "lan set 1 defgw ipaddr 10.148.255.254",
			"channel getaccess 1 3", "user set name 3 ladmin", password, "channel setaccess 1 3 link=on ipmi=on callin=on privilege=4", "user enable 3",
			"mc reset cold")},
		{"again", func() {}, []string{"lan print 1", "channel getaccess 1 3", password, "user enable 3"}},
		{"another password", func() { p.Password = "20 bytes of password" }, []string{"lan print 1", "channel getaccess 1 3", password, "user enable 3"}},
		{"no gateway", func() { p.Gateway = netip.Addr{} }, []string{
			"lan print 1", "lan set 1 defgw ipaddr 0.0.0.0", "channel getaccess 1 3", password, "user enable 3", "mc reset cold",
		}},
		{"another name", func() { p.User = "root" }, []string{
			"lan print 1", "channel getaccess 1 3", "user set name 3 root", password, "user enable 3", "mc reset cold",
		}},
		{"no BMC interface", func() { p.Address = netip.Prefix{} }, []string{"channel getaccess 1 3", password, "user enable 3"}},
	} {
		step.change()
		if err := b.run(t.Context(), p); err != nil {
			t.Errorf("%s: %v", step.name, err)
		}
		if diff := cmp.Diff(step.want, told(t, dir)); diff != "" {
			t.Errorf("%s: calls (-want +got):\n%s", step.name, diff)
		}
	}
	input, err := os.ReadFile(filepath.Join(dir, "input"))
	if err != nil {
		t.Fatal(err)
	}
	want := "raw 0x06 0x47 0x03 0x02 0x69 0x74 0x27 0x73 0x20 0x22 0x53 0x33 0x63 0x72 0x65 0x74 0x22 0x00 0x00 0x00\n"
	long := "raw 0x06 0x47 0x83 0x02 0x32 0x30 0x20 0x62 0x79 0x74 0x65 0x73 0x20 0x6f 0x66 0x20 0x70 0x61 0x73 0x73 0x77 0x6f 0x72 0x64\n"
	if diff := cmp.Diff(want+want+strings.Repeat(long, 4), string(input)); diff != "" {
		t.Errorf("secret input (-want +got):\n%s", diff)
	}
}

// TestSetupBMCFails: the reason is told, what can be done is, and the password is
// in no error.
func TestSetupBMCFails(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name   string
		hook   string // in ipmitool
		change func(*bmcSetup, *boot.PlanBMC)
		want   []string // in the error
		calls  []string // among them
	}{
		{
			name: "no BMC",
			change: func(b *bmcSetup, _ *boot.PlanBMC) {
				b.devices, b.modprobe = []string{"/dev/nothing"}, "/nonexistent/modprobe"
			},
			want: []string{"this machine has no BMC that its kernel knows: there is no /dev/nothing: modprobe ipmi_msghandler: ", "no such file"},
		},
		{
			name:   "drivers find no BMC",
			change: func(b *bmcSetup, _ *boot.PlanBMC) { b.devices = []string{"/dev/nothing"} },
			want:   []string{"there is no /dev/nothing: but all drivers are loaded"},
		},
		{
			name:   "no ipmitool",
			change: func(b *bmcSetup, _ *boot.PlanBMC) { b.ipmitool = "no-such-ipmitool" },
			want:   []string{"ipmitool is not in the initrd: install it in the osimage"},
		},
		{
			name:  "another channel",
			hook:  `[ "$1" != lan ] || { echo "Invalid channel: 8" >&2; exit 1; }`,
			want:  []string{"ipmitool lan print 1: Invalid channel: 8 (exit status 1)"},
			calls: []string{"user set name 3 ladmin", "user enable 3", "mc reset cold"}, // the user is made all the same
		},
		{
			name:  "does not take the password",
			hook:  `[ "$1" != exec ] || { cat >>input; echo "Unable to send RAW command (rsp=0xcc)" >&2; exit 1; }`,
			want:  []string{"set the password of the BMC's user 3: ipmitool exec /proc/self/fd/0: Unable to send RAW command (rsp=0xcc) (exit status 1)"},
			calls: []string{"lan set 1 ipaddr 10.148.0.1", "mc reset cold"},
		},
		{
			name:   "hangs",
			hook:   "exec sleep 60",
			change: func(b *bmcSetup, _ *boot.PlanBMC) { b.patience = 50 * time.Millisecond },
			want:   []string{"ipmitool lan print 1: no answer within 50ms", "ipmitool channel getaccess 1 3: no answer within 50ms"},
		},
		{
			name:   "IPv6",
			change: func(_ *bmcSetup, p *boot.PlanBMC) { p.Address = netip.MustParsePrefix("fd00::1/64") },
			want:   []string{"the BMC's address fd00::1/64 is not IPv4"},
			calls:  []string{"user enable 3"},
		},
		{
			name:   "long password",
			change: func(_ *bmcSetup, p *boot.PlanBMC) { p.Password = strings.Repeat("S3cret", 4) },
			want:   []string{`the password of the BMC's user "ladmin" has 24 characters, IPMI takes 20`},
		},
		{
			name:  "busy at first",
			hook:  `n=$(cat n 2>/dev/null || echo 0); echo $((n + 1)) >n; [ $((n % 3)) = 2 ] || exit 1`,
			calls: []string{"mc reset cold"},
		},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			b, dir := fakeBMC(t)
			if err := os.WriteFile(filepath.Join(dir, "hook"), []byte(tt.hook), 0o600); err != nil {
				t.Fatal(err)
			}
			p := planBMC()
			if tt.change != nil {
				tt.change(&b, &p)
			}
			err := b.run(t.Context(), p)
			if (err != nil) != (tt.want != nil) {
				t.Fatalf("got error %v", err)
			}
			for _, want := range tt.want {
				if !strings.Contains(err.Error(), want) {
					t.Errorf("the error says nothing of %q:\n%v", want, err)
				}
			}
			if err != nil && strings.Contains(err.Error(), "S3cret") {
				t.Errorf("the error shows the password:\n%v", err)
			}
			calls := told(t, dir)
			for _, want := range tt.calls {
				if !slices.Contains(calls, want) {
					t.Errorf("no %q among the calls %q", want, calls)
				}
			}
		})
	}
}

// TestSetupRealBMC: the real ipmitool understands it, and a BMC obeys. It is
// reached over the network by an administrator that it has already.
func TestSetupRealBMC(t *testing.T) {
	t.Parallel()
	needs(t, "ipmitool", "ipmi_sim")
	sim := bmcsim.Start(t, netip.MustParseAddrPort("127.0.0.1:0"), "factory", "default")
	dir := t.TempDir()
	remote := func(user, password string) string {
		return fmt.Sprintf("IPMI_PASSWORD='%s' exec ipmitool -I lanplus -C 3 -H %s -p %d -U %s -E",
			strings.ReplaceAll(password, "'", `'\''`), sim.Addr().Addr(), sim.Addr().Port(), user)
	}
	script := fmt.Sprintf("#!/bin/sh\necho \"$*\" >>%s/calls\n%s \"$@\"\n", dir, remote("factory", "default"))
	if err := os.WriteFile(filepath.Join(dir, "ipmitool"), []byte(script), 0o755); err != nil {
		t.Fatal(err)
	}
	b := newBMCSetup(slog.New(slog.NewTextHandler(testWriter{t}, nil)))
	b.ipmitool, b.devices = filepath.Join(dir, "ipmitool"), []string{"/dev/null"}
	p := planBMC()
	p.NetChannel, p.MgmtChannel, p.UserID = bmcsim.Channel, bmcsim.Channel, bmcsim.UserID+1
	// ask logs in as the new user.
	ask := func(args string) (string, error) {
		out, err := exec.CommandContext(t.Context(), "sh", "-c", remote(p.User, p.Password)+" "+args).Output()
		return string(out), err
	}
	if out, err := ask("power status"); err == nil {
		t.Fatalf("the user is there already, and is told %q", out)
	}
	for _, password := range []string{p.Password, "another one"} {
		p.Password = password
		if err := b.run(t.Context(), p); err != nil {
			t.Fatal(err)
		}
		out, err := ask("lan print 1")
		if err != nil {
			t.Errorf("the user cannot log in: %v", err)
		}
		for _, want := range []string{"IP Address Source       : Static Address\n", "IP Address              : 10.148.0.1\n", "Subnet Mask             : 255.255.0.0\n", "Default Gateway IP      : 10.148.255.254\n"} {
			if !strings.Contains(out, want) {
				t.Errorf("no %q in:\n%s", want, out)
			}
		}
		if out, err := ask("power on"); err != nil || !sim.Power() {
			t.Errorf("the user may not switch on: %q, %v", out, err)
		}
	}
	calls := told(t, dir)
	resets := 0
	for _, c := range calls {
		if strings.Contains(c, "another") || strings.Contains(c, "S3cret") {
			t.Errorf("a password is on the command line: %q", c)
		}
		if c == "mc reset cold" {
			resets++
		}
	}
	if resets != 1 {
		t.Errorf("the BMC was reset %d times in two setups, of which the second changed nothing but the password:\n%s", resets, strings.Join(calls, "\n"))
	}
}

// TestInstallSetsUpBMC: between prescript and partscript, reported where it fails,
// and never the end of an installation.
func TestInstallSetsUpBMC(t *testing.T) {
	t.Parallel()
	s := newSite(t, 1)
	p := planBMC()
	s.plan.BMC = &p
	// The partscript fails once, so that there are two attempts.
	flag := filepath.Join(t.TempDir(), "flag")
	s.plan.PartScript = fmt.Sprintf("test -e %s || { touch %s; false; }", flag, flag)
	for _, tt := range []struct {
		name string
		err  error
		sets int // of the BMC
		want []string
	}{
		{"good", nil, 1, []string{"request", "prescript", "setupbmc", "partscript!", "request", "prescript", "setupbmc", "partscript"}},
		{"bad", errors.New("there is no /dev/ipmi0"), 2, []string{"request", "prescript", "setupbmc!", "partscript!", "request", "prescript", "setupbmc!", "partscript"}},
	} {
		_ = os.Remove(flag) // it is there but for the first
		s.mu.Lock()
		s.reports = nil
		s.mu.Unlock()
		in, err := New(s.config(t))
		if err != nil {
			t.Fatal(err)
		}
		sets := 0
		in.makeBMC = func(_ context.Context, got boot.PlanBMC) error {
			if got != p {
				t.Errorf("%s: got %+v, want %+v", tt.name, got, p)
			}
			sets++
			return tt.err
		}
		ctx, cancel := context.WithTimeout(t.Context(), 60*time.Second)
		if err := in.Run(ctx); err != nil {
			t.Fatalf("%s: %v", tt.name, err)
		}
		cancel()
		got := s.stages()
		for i := 0; i+1 < len(got); i++ {
			if got[i]+"!" == got[i+1] { // sent before the failure came, or not
				got = slices.Delete(got, i, i+1)
			}
		}
		if diff := cmp.Diff(append(tt.want, goodStages[3:]...), got); diff != "" || sets != tt.sets {
			t.Errorf("%s: the BMC was set up %d times, want %d; stages (-want +got):\n%s", tt.name, sets, tt.sets, diff)
		}
		if tt.err != nil && s.failure() != tt.err.Error() {
			t.Errorf("%s: reported %q, want %q", tt.name, s.failure(), tt.err)
		}
	}
}

// TestInstallLeavesBMC: a simulated node says that it is at the stage, and leaves
// the BMC of the machine that it runs on alone.
func TestInstallLeavesBMC(t *testing.T) {
	t.Parallel()
	s := newSite(t, 1)
	p := planBMC()
	s.plan.BMC = &p
	cfg := s.config(t)
	in, err := New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	if in.makeBMC != nil {
		t.Fatal("a simulated node has a BMC")
	}
	if err := install(t, cfg); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(slices.Insert(slices.Clone(goodStages), 2, "setupbmc"), s.stages()); diff != "" {
		t.Errorf("stages (-want +got):\n%s", diff)
	}
}
