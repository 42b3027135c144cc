// Package bmcsim runs BMCs without machines, for tests: OpenIPMI's ipmi_sim,
// which speaks IPMI on the network as a BMC does. It knows cipher suite 3, and
// not 17.
//
// What hangs on the BMC is a file that says whether the machine is on, and a log
// of what the BMC did to it.
package bmcsim

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

// UserID is the number of the BMC's user; an administrator. Higher numbers are
// free.
const UserID = 2

// Channel is the number of the BMC's LAN channel.
const Channel = 1

const startTime = 10 * time.Second

// Sim is a BMC that runs until the test ends.
type Sim struct {
	tb   testing.TB
	addr netip.AddrPort
	dir  string
	cmd  *exec.Cmd
	done chan struct{} // closed when it has ended
}

// Commander makes the command that runs a program in another place, such as a
// [github.com/clustervision/luna/test/lab.Host].
type Commander interface {
	Command(ctx context.Context, argv ...string) *exec.Cmd
}

// Start starts a BMC of a machine that is off. With port 0 it gets a free one. It
// fails the test if that cannot be done.
func Start(tb testing.TB, addr netip.AddrPort, user, password string) *Sim {
	tb.Helper()
	return StartOn(tb, here{}, addr, user, password)
}

// StartOn is Start on a host of a lab.
func StartOn(tb testing.TB, host Commander, addr netip.AddrPort, user, password string) *Sim {
	tb.Helper()
	if _, err := exec.LookPath("ipmi_sim"); err != nil {
		tb.Fatal("ipmi_sim is missing: run make deps")
	}
	if strings.ContainsAny(user+password, "\"\\, \t\n") || max(len(user), len(password)) > 16 {
		tb.Fatal("bmcsim: ipmi_sim takes users and passwords of 16 bytes at most, without spaces and quotes")
	}
	if addr.Port() == 0 {
		addr = free(tb, addr.Addr())
	}
	s := &Sim{tb: tb, addr: addr, dir: tb.TempDir(), done: make(chan struct{})}
	for name, text := range map[string]string{
		"lan.conf": fmt.Sprintf(lanConf, addr.Addr(), addr.Port(), filepath.Join(s.dir, "chassis"), UserID, user, password),
		"sim.emu":  simEmu,
		"chassis":  fmt.Sprintf(chassis, s.dir),
		"power":    "0\n",
		"calls":    "",
	} {
		if err := os.WriteFile(filepath.Join(s.dir, name), []byte(text), 0o700); err != nil {
			tb.Fatal(err)
		}
	}
	if err := os.Mkdir(filepath.Join(s.dir, "state"), 0o700); err != nil {
		tb.Fatal(err)
	}
	s.start(host)
	return s
}

// here runs programs where the test runs.
type here struct{}

func (here) Command(ctx context.Context, argv ...string) *exec.Cmd {
	return exec.CommandContext(ctx, argv[0], argv[1:]...)
}

// start starts the program and waits until it listens.
func (s *Sim) start(host Commander) {
	s.tb.Helper()
	var output bytes.Buffer // read when it has ended
	// The life of the program is the test's.
	s.cmd = host.Command(context.Background(), "ipmi_sim", "-n", // no console on stdin
		"-c", filepath.Join(s.dir, "lan.conf"), "-f", filepath.Join(s.dir, "sim.emu"), "-s", filepath.Join(s.dir, "state"))
	s.cmd.Stdout, s.cmd.Stderr = &output, &output
	if err := s.cmd.Start(); err != nil {
		s.tb.Fatalf("bmcsim: %v", err)
	}
	go func() {
		_ = s.cmd.Wait() // it is killed in the end
		close(s.done)
	}()
	s.tb.Cleanup(s.Stop)
	for deadline := time.Now().Add(startTime); !s.listens(); time.Sleep(5 * time.Millisecond) { // between two looks
		select {
		case <-s.done:
			s.tb.Fatalf("bmcsim: ipmi_sim ended: %s", &output)
		default:
		}
		if time.Now().After(deadline) {
			s.tb.Fatalf("bmcsim: ipmi_sim does not listen on %s after %s", s.addr, startTime)
		}
	}
}

// listens looks in the table of sockets of the network that the program is on.
func (s *Sim) listens() bool {
	name, table := "", "udp"
	if s.addr.Addr().Is6() {
		table = "udp6"
	}
	// Each 32 bits of the address are in the order of the machine.
	for b := s.addr.Addr().AsSlice(); len(b) > 0; b = b[4:] {
		name += fmt.Sprintf("%02X%02X%02X%02X", b[3], b[2], b[1], b[0])
	}
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/net/%s", s.cmd.Process.Pid, table))
	return err == nil && strings.Contains(string(text), fmt.Sprintf(" %s:%04X ", name, s.addr.Port()))
}

// free finds a UDP port that nobody uses.
func free(tb testing.TB, addr netip.Addr) netip.AddrPort {
	tb.Helper()
	c, err := net.ListenUDP("udp", net.UDPAddrFromAddrPort(netip.AddrPortFrom(addr, 0)))
	if err != nil {
		tb.Fatalf("bmcsim: %v", err)
	}
	defer c.Close()
	return c.LocalAddr().(*net.UDPAddr).AddrPort()
}

// Addr is where the BMC listens.
func (s *Sim) Addr() netip.AddrPort { return s.addr }

// Power tells whether the machine is on.
func (s *Sim) Power() bool {
	s.tb.Helper()
	return strings.TrimSpace(s.read("power")) == "1"
}

// SetPower switches the machine as its own button would.
func (s *Sim) SetPower(on bool) {
	s.tb.Helper()
	text := "0\n"
	if on {
		text = "1\n"
	}
	// In one step, so that the BMC never reads half of it.
	name := filepath.Join(s.dir, "power")
	err := os.WriteFile(name+".test", []byte(text), 0o600)
	if err == nil {
		err = os.Rename(name+".test", name)
	}
	if err != nil {
		s.tb.Fatalf("bmcsim: %v", err)
	}
}

// Calls are what the BMC did to the machine, in order: "power 1", "power 0",
// "reset 1", "identify SECONDS 0".
func (s *Sim) Calls() []string {
	s.tb.Helper()
	return strings.FieldsFunc(s.read("calls"), func(r rune) bool { return r == '\n' })
}

func (s *Sim) read(name string) string {
	s.tb.Helper()
	text, err := os.ReadFile(filepath.Join(s.dir, name))
	if err != nil {
		s.tb.Fatalf("bmcsim: %v", err)
	}
	return string(text)
}

// Pause makes the BMC hang: it is there and does not answer, until [Sim.Continue].
func (s *Sim) Pause() { s.signal(syscall.SIGSTOP) }

// Continue ends a pause.
func (s *Sim) Continue() { s.signal(syscall.SIGCONT) }

// Stop pulls the BMC's cable for good.
func (s *Sim) Stop() {
	s.signal(syscall.SIGKILL)
	<-s.done
}

func (s *Sim) signal(sig syscall.Signal) {
	if err := s.cmd.Process.Signal(sig); err != nil && !errors.Is(err, os.ErrProcessDone) {
		s.tb.Errorf("bmcsim: %v", err)
	}
}

const lanConf = `name "bmcsim"
set_working_mc 0x20
startlan 1
  addr %[1]s %[2]d
  priv_limit admin
  allowed_auths_callback none md2 md5 straight
  allowed_auths_user none md2 md5 straight
  allowed_auths_operator none md2 md5 straight
  allowed_auths_admin none md2 md5 straight
  guid a123456789abcdefa123456789abcdef
endlan
chassis_control "%[3]s 0x20"
user %[4]d true "%[5]s" "%[6]s" admin 10 none md2 md5 straight
`

const simEmu = `mc_setbmc 0x20
mc_add 0x20 0 no-device-sdrs 0x23 9 8 0x9f 0x1291 0xf02 persist_sdr
sel_enable 0x20 1000 0x0a
mc_enable 0x20
`

// chassis is called as "chassis 0x20 get power" or "chassis 0x20 set WHAT VALUE...".
const chassis = `#!/bin/sh
cd '%s' || exit 1
shift
case "$1 $2" in
"get power") echo "power:$(cat power)" ;;
"set power") echo "power $3" >>calls; echo "$3" >power.new; mv power.new power ;;
set*) shift; echo "$*" >>calls ;;
esac
`
