package cli

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/clustervision/luna/api"
	"github.com/clustervision/luna/bmc"
	"github.com/clustervision/luna/test/lab/bmcsim"
)

// invoke does a command line of a program and gives what it printed.
func invoke(t *testing.T, args ...string) (code int, stdout, stderr string) {
	t.Helper()
	var out, errs bytes.Buffer
	root := Root()
	switch args[0] {
	case "lpower":
		root = Power()
	case "lchroot":
		root = Chroot()
	}
	root.SetOut(&out)
	root.SetErr(&errs)
	code = Run(t.Context(), root, args[1:])
	return code, out.String(), errs.String()
}

// powerSite is a head with two groups, of which one has BMCs that are there.
func powerSite(t *testing.T) (one, two *bmcsim.Sim) {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("BMCs listen on port 623, which is root's to give")
	}
	if _, err := exec.LookPath("ipmi_sim"); err != nil {
		t.Fatal("ipmi_sim is missing: run make deps")
	}
	h := newTestHead()
	if _, err := h.Init(t.Context(), api.InitRequest{FrontendAddress: netip.MustParseAddr("127.77.255.254")}); err != nil {
		t.Fatal(err)
	}
	t.Setenv("LUNA_SERVER", "unix://"+h.serve(t))
	for _, line := range []string{
		"network add -n bmcs -N 127.77.0.0 -P 24",
		"osimage add -n compute -p /tmp",
		"bmcsetup add -n base -u admin -p secret",
		"group add -n compute -o compute -N bmcs -b base",
		"group change compute -i BOOTIF --rename BMC",
		"group add -n bare -o compute -N bmcs -bn bmcs",
		"group add -n deaf -o compute -N bmcs",
		"node add -g compute -n node[001-003]",
		"node add -g bare -n bare1",
		"node add -g deaf -n deaf1",
	} {
		if code, _, errs := invoke(t, append([]string{"luna"}, strings.Fields(line)...)...); code != exitOK {
			t.Fatalf("luna %s: exit code %d\n%s", line, code, errs)
		}
	}
	one = bmcsim.Start(t, netip.MustParseAddrPort("127.77.0.1:623"), "admin", "secret")
	two = bmcsim.Start(t, netip.MustParseAddrPort("127.77.0.2:623"), "admin", "secret")
	return one, two
}

func TestPower(t *testing.T) {
	one, two := powerSite(t)
	two.SetPower(true)
	for _, tc := range []struct {
		line   string
		code   int
		stdout string
		stderr []string // pieces
	}{
		{"node[001-002] status", 0, "node001: off\nnode002: on\n", nil},
		{"node002,node001 status", 0, "node002: on\nnode001: off\n", nil},
		{"-g compute status --dry-run", 0, "node001: would ask 127.77.0.1 for status\nnode002: would ask 127.77.0.2 for status\nnode003: would ask 127.77.0.3 for status\n", nil},
		{"node001 on", 0, "node001: on\n", nil},
		{"node[001-002] identify", 0, "node001: identify\nnode002: identify\n", nil},
		{"node[001-002] noidentify", 0, "node001: noidentify\nnode002: noidentify\n", nil},
		{"node002 reset -w 1", 0, "node002: reset\n", nil},
		{"node001 cycle", 0, "node001: cycle\n", nil},
		{"--inter=BMC node[001-002] off", 0, "node001: off\nnode002: off\n", nil},
		// node003's BMC is not there; it does not keep the others, and its turn is its own.
		{"-g compute --timeout 1s status", 1, "node001: off\nnode002: off\n", []string{
			"node003: Error the BMC does not answer", "ERROR:luna.lpower:1 of 3 nodes failed", "BMCs are asked from this machine",
		}},
		{"bare1,deaf1,node001 status", 1, "node001: off\n", []string{
			"bare1: Error its group bare has no bmcsetup", "deaf1: Error it has no interface BMC", "2 of 3 nodes failed",
		}},
		{"-i eth7 node001 on", 1, "", []string{"node001: Error it has no interface eth7"}},
		// Nothing is switched for a selection that is not whole.
		{"node001,node004 on", 255, "", []string{"Object 'node004' of type 'node' does not exist"}},
		{"node001 -g compute,nope on", 255, "", []string{"Object 'nope' of type 'group' does not exist"}},
		{"-g compute[ on", 255, "", []string{"bad hostlist"}},
		{"%compute,-node003 status", 0, "node001: off\nnode002: off\n", nil},
		{"node002 -g compute,-node003 status", 255, "", []string{"does not exist"}},
		{"", 2, "", []string{"NAME or -g GROUPS"}},
		{"on", 2, "", []string{"NAME, or -g GROUPS"}},
		{"node001", 2, "", []string{"\"node001\" is not an operation: choose from status, on"}},
		{"node001 on -w 0", 2, "", []string{"it cannot be less than 1"}},
		{"node001 node002 on", 2, "", []string{"unrecognized arguments: node002"}},
	} {
		code, stdout, stderr := invoke(t, append([]string{"lpower"}, strings.Fields(tc.line)...)...)
		if code != tc.code || stdout != tc.stdout {
			t.Errorf("lpower %s: exit code %d, want %d\n%s%s\nwant\n%s", tc.line, code, tc.code, stdout, stderr, tc.stdout)
		}
		for _, piece := range tc.stderr {
			if !strings.Contains(stderr, piece) {
				t.Errorf("lpower %s: stderr lacks %q:\n%s", tc.line, piece, stderr)
			}
		}
		if strings.Contains(stdout+stderr, "secret") {
			t.Errorf("lpower %s tells the password", tc.line)
		}
	}
	if calls := strings.Join(one.Calls(), ", "); calls != "power 1, identify 255 0, identify 0 0, power 0, power 1, power 0" {
		t.Errorf("node001 was told: %s", calls)
	}
	if code, stdout, stderr := invoke(t, "luna", "lpower", "node001", "on"); code != 0 || stdout != "node001: on\n" {
		t.Errorf("luna lpower: exit code %d\n%s%s", code, stdout, stderr)
	}
}

// What was not seen is not told as done, and each waits for its turn.
func TestPowerTells(t *testing.T) {
	var out, errs bytes.Buffer
	cmd := Power()
	cmd.SetOut(&out)
	cmd.SetErr(&errs)
	s := &session{cmd: cmd, Client: &api.Client{}}
	bays := make([]bay, 3)
	for i := range bays {
		bays[i].bmc.Name = fmt.Sprintf("node%d", i)
	}
	p := power{op: bmc.Cycle}
	bays[1].done, bays[1].said.Verified = true, true
	if told := p.tell(s, bays, 0); told != 0 || out.Len() > 0 {
		t.Errorf("node1 was told before node0: %q", &out)
	}
	bays[0].done = true
	if told := p.tell(s, bays, 0); told != 2 || out.String() != "node0: cycle accepted\nnode1: cycle\n" {
		t.Errorf("%d told: %q", told, &out)
	}
	bays[2].done, bays[2].said.Err = true, errors.New("why")
	if told := p.tell(s, bays, 2); told != 3 || errs.String() != "node2: Error why\n" {
		t.Errorf("%d told: %q", told, &errs)
	}
}

func TestPowerWrongPassword(t *testing.T) {
	powerSite(t)
	if code, _, stderr := invoke(t, "luna", "bmcsetup", "change", "base", "-p", "other"); code != 0 {
		t.Fatal(stderr)
	}
	code, stdout, stderr := invoke(t, "lpower", "node001", "on")
	if code != 1 || stdout != "" || !strings.Contains(stderr, "node001: Error the BMC refuses user and password") {
		t.Errorf("exit code %d\n%s%s", code, stdout, stderr)
	}
}

// A person who is tired of waiting for a BMC hears what has not been done.
func TestPowerInterrupted(t *testing.T) {
	one, _ := powerSite(t)
	one.Pause()
	ctx, cancel := context.WithCancel(t.Context())
	time.AfterFunc(500*time.Millisecond, cancel) // the person's patience
	var stdout, stderr bytes.Buffer
	root := Power()
	root.SetOut(&stdout)
	root.SetErr(&stderr)
	code := Run(ctx, root, []string{"node[001-002]", "on", "-w", "1"})
	if code != exitInterrupted || stdout.Len() > 0 || strings.Count(stderr.String(), ": Error") != 2 {
		t.Errorf("exit code %d\n%s%s", code, stdout.String(), stderr.String())
	}
}
