package lab_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/clustervision/luna/test/lab"
	"github.com/clustervision/luna/test/lab/labtest"
)

// eventually waits until the condition holds.
func eventually(t *testing.T, what string, condition func() bool) {
	t.Helper()
	ctx := labtest.Context(t, 20*time.Second)
	for !condition() {
		select {
		case <-ctx.Done():
			t.Fatalf("not within 20 s: %s", what)
		case <-time.After(10 * time.Millisecond):
		}
	}
}

func host(t *testing.T, l *lab.Lab, name, address string) *lab.Host {
	t.Helper()
	h, err := l.Host(t.Context(), name, netip.MustParsePrefix(address))
	if err != nil {
		t.Fatal(err)
	}
	return h
}

// namesOf lists what the kernel holds for a lab: its namespaces.
func namesOf(t *testing.T, l *lab.Lab, h *lab.Host) []string {
	t.Helper()
	prefix, _, _ := strings.Cut(h.Namespace(), ".")
	paths, err := filepath.Glob("/run/netns/" + prefix + ".*")
	if err != nil {
		t.Fatal(err)
	}
	return paths
}

// A discard server on one host, for the others to send to.
func listen(t *testing.T, h *lab.Host, address string) {
	t.Helper()
	listener, err := h.Listen(address)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { listener.Close() })
	go func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			go func() {
				defer conn.Close()
				_, _ = io.Copy(conn, conn)
			}()
		}
	}()
}

// hears tells whether an address answers within half a second.
func hears(from *lab.Host, address string) bool {
	ctx, cancel := context.WithTimeout(context.Background(), 500*time.Millisecond)
	defer cancel()
	conn, err := from.Dial(ctx, "tcp", address)
	if err != nil {
		return false
	}
	conn.Close()
	return true
}

func TestNamespacesComeAndGo(t *testing.T) {
	before := machineLinks(t)
	l := labtest.New(t, "come")
	a := host(t, l, "a", "10.99.0.1/24")
	b, err := l.HostWith(t.Context(), "b",
		lab.NIC{MAC: net.HardwareAddr{2, 0, 0, 0, 0, 9}, Addresses: []netip.Prefix{netip.MustParsePrefix("10.99.0.2/24")}},
		lab.NIC{Network: "mgmt", Addresses: []netip.Prefix{netip.MustParsePrefix("fd99::2/64")}})
	if err != nil {
		t.Fatal(err)
	}
	c, err := l.HostWith(t.Context(), "c", lab.NIC{Network: "mgmt", Addresses: []netip.Prefix{netip.MustParsePrefix("fd99::3/64")}})
	if err != nil {
		t.Fatal(err)
	}
	if got := b.MAC().String(); got != "02:00:00:00:00:09" {
		t.Errorf("MAC is %s", got)
	}
	listen(t, b, ":80")
	if !hears(a, "10.99.0.2:80") || !hears(c, "[fd99::2]:80") {
		t.Error("hosts on one network do not hear each other")
	}
	if hears(c, "10.99.0.2:80") {
		t.Error("hosts on two networks hear each other")
	}
	if _, err := a.Dial(t.Context(), "tcp", "b:80"); err == nil {
		t.Error("a name was resolved outside of the lab")
	}
	if _, err := l.Host(t.Context(), "a"); err == nil {
		t.Error("a second host of the same name was made")
	}
	if got := len(namesOf(t, l, a)); got != 4 {
		t.Errorf("%d namespaces, want 4", got)
	}
	if err := l.Close(); err != nil {
		t.Error(err)
	}
	if left := namesOf(t, l, a); left != nil {
		t.Errorf("left after Close: %v", left)
	}
	if err := l.Close(); err != nil {
		t.Errorf("second Close: %v", err)
	}
	if _, err := l.Host(t.Context(), "d"); err == nil {
		t.Error("a closed lab made a host")
	}
	if after := machineLinks(t); after != before {
		t.Errorf("the machine's own network was touched: before %s, after %s", before, after)
	}
}

// machineLinks is the network of the machine that the test runs on.
func machineLinks(t *testing.T) string {
	t.Helper()
	entries, err := os.ReadDir("/sys/class/net")
	if err != nil {
		t.Fatal(err)
	}
	return fmt.Sprint(entries)
}

func TestNames(t *testing.T) {
	l := labtest.New(t, "names")
	for _, name := range []string{"", "A", "1a", "far-too-long", "switch", "a/b", "a.b"} {
		if _, err := l.Host(t.Context(), name); err == nil {
			t.Errorf("a host %q was made", name)
		}
	}
	if _, err := lab.New(t.Context(), t.TempDir(), "names"); err == nil || !strings.Contains(err.Error(), "in use by a living lab") {
		t.Errorf("a second lab of the same name: %v", err)
	}
	second := labtest.New(t, "names2")
	host(t, l, "a", "10.99.0.1/24")
	host(t, second, "a", "10.99.0.1/24") // two data centres may have the same of everything
}

func TestCutMuteDeafenHeal(t *testing.T) {
	l := labtest.New(t, "cut")
	ctx := labtest.Context(t, time.Minute)
	for name, rate := range map[string]int{"plain": 0, "shaped": 100} {
		t.Run(name, func(t *testing.T) {
			a, err := l.HostWith(ctx, name+"a", lab.NIC{Addresses: []netip.Prefix{netip.MustParsePrefix("10.99.0.1/24")}, RateMbit: rate, Network: name})
			if err != nil {
				t.Fatal(err)
			}
			b, err := l.HostWith(ctx, name+"b", lab.NIC{Addresses: []netip.Prefix{netip.MustParsePrefix("10.99.0.2/24")}, RateMbit: rate, Network: name})
			if err != nil {
				t.Fatal(err)
			}
			listen(t, b, ":80")
			for verb, do := range map[string]func(context.Context) error{"cut": b.Cut, "mute": b.Mute, "deafen": b.Deafen} {
				if !hears(a, "10.99.0.2:80") {
					t.Fatalf("before %s: the host does not answer", verb)
				}
				if err := do(ctx); err != nil {
					t.Fatal(err)
				}
				if hears(a, "10.99.0.2:80") {
					t.Errorf("after %s: the host answers", verb)
				}
				if err := b.Heal(ctx); err != nil {
					t.Fatal(err)
				}
				eventually(t, "answer after heal of "+verb, func() bool { return hears(a, "10.99.0.2:80") })
			}
			oneWay(t, a, b)
		})
	}
}

// oneWay shows that a mute host hears, and a deaf one is heard.
func oneWay(t *testing.T, a, b *lab.Host) {
	t.Helper()
	ctx := labtest.Context(t, 20*time.Second)
	for _, test := range []struct {
		breaks   func(context.Context) error
		from, to *lab.Host
		address  string
	}{{b.Mute, a, b, "10.99.0.2:9"}, {b.Deafen, b, a, "10.99.0.1:9"}} {
		var conn net.PacketConn
		err := test.to.Do(func() (err error) { conn, err = net.ListenPacket("udp", ":9"); return err })
		if err != nil {
			t.Fatal(err)
		}
		sender, err := test.from.Dial(ctx, "udp", test.address)
		if err != nil {
			t.Fatal(err)
		}
		if !hears(test.from, "10.99.0.2:80") && !hears(a, "10.99.0.2:80") { // both know the other's MAC
			t.Fatal("not connected")
		}
		if err := test.breaks(ctx); err != nil {
			t.Fatal(err)
		}
		if _, err := sender.Write([]byte("heard")); err != nil {
			t.Fatal(err)
		}
		buf := make([]byte, 16)
		if err := conn.SetReadDeadline(time.Now().Add(5 * time.Second)); err != nil {
			t.Fatal(err)
		}
		if n, _, err := conn.ReadFrom(buf); err != nil || string(buf[:n]) != "heard" {
			t.Errorf("one way is cut, and the other too: %v", err)
		}
		conn.Close()
		sender.Close()
		if err := b.Heal(ctx); err != nil {
			t.Fatal(err)
		}
	}
}

func TestRate(t *testing.T) {
	l := labtest.New(t, "rate")
	ctx := labtest.Context(t, time.Minute)
	a := host(t, l, "a", "10.99.0.1/24")
	b, err := l.HostWith(ctx, "b", lab.NIC{Addresses: []netip.Prefix{netip.MustParsePrefix("10.99.0.2/24")}, RateMbit: 20})
	if err != nil {
		t.Fatal(err)
	}
	listen(t, b, ":80")
	conn, err := a.Dial(ctx, "tcp", "10.99.0.2:80")
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	const size = 4 << 20 // 1.7 s at 20 Mbit/s, forth and back at the same time
	start := time.Now()
	go conn.Write(make([]byte, size))
	if _, err := io.CopyN(io.Discard, conn, size); err != nil {
		t.Fatal(err)
	}
	took := time.Since(start)
	rate := size * 8 / took.Seconds() / 1e6
	t.Logf("%.1f Mbit/s", rate)
	if rate > 22 {
		t.Errorf("%.1f Mbit/s through a card of 20", rate)
	}
	if rate < 8 { // a busy machine is slow; a tenth of the rate is a broken shaper
		t.Errorf("only %.1f Mbit/s through a card of 20", rate)
	}
}

func TestProcesses(t *testing.T) {
	l := labtest.New(t, "procs")
	a := host(t, l, "a", "10.99.0.1/24")
	ctx := labtest.Context(t, time.Minute)

	out, err := a.Command(ctx, "ip", "-brief", "-4", "address").Output()
	if err != nil || !strings.Contains(string(out), "10.99.0.1/24") {
		t.Errorf("ip address on the host: %q, %v", out, err)
	}

	p, err := a.Start("sayer", "sh", "-c", "echo one; echo two >&2; exit 3")
	if err != nil {
		t.Fatal(err)
	}
	err = p.Wait(ctx)
	var exit *exec.ExitError
	if !errors.As(err, &exit) || exit.ExitCode() != 3 || !strings.Contains(err.Error(), "two") {
		t.Errorf("Wait: %v", err)
	}
	if text, err := os.ReadFile(filepath.Join(l.Dir(), "a-sayer.log")); err != nil || string(text) != "one\ntwo\n" {
		t.Errorf("log: %q, %v", text, err)
	}

	p, err = a.Start("sleeper", "sleep", "600")
	if err != nil {
		t.Fatal(err)
	}
	if err := p.Stop(syscall.SIGTERM, 10*time.Second); err != nil || p.Running() {
		t.Errorf("Stop: %v", err)
	}

	p, err = a.Start("stubborn", "sh", "-c", "trap '' TERM; echo ready; while :; do sleep 0.1; done")
	if err != nil {
		t.Fatal(err)
	}
	eventually(t, "stubborn is ready", func() bool { text, _ := os.ReadFile(p.Log()); return len(text) > 0 })
	if err := p.Stop(syscall.SIGTERM, 100*time.Millisecond); err == nil || p.Running() {
		t.Errorf("Stop of what ignores it: %v", err)
	}

	// Not a loop of sh with sleep: a shell that is stopped in vfork(2) is in state D, not T, until its child is let go on.
	p, err = a.Start("counter", "busybox", "ping", "-i", "0.01", "10.99.0.1")
	if err != nil {
		t.Fatal(err)
	}
	size := func() int { text, _ := os.ReadFile(p.Log()); return len(text) }
	eventually(t, "counter counts", func() bool { return size() > 0 })
	p.Pause()
	eventually(t, "counter pauses", func() bool { return stateOf(p.Pid()) == "T" })
	paused := size()
	p.Continue()
	eventually(t, "counter goes on", func() bool { return size() > paused })
	p.Kill9()
	if p.Running() {
		t.Error("runs after Kill9")
	}
}

// stateOf is the letter of ps(1) for a process.
func stateOf(pid int) string {
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return ""
	}
	_, rest, _ := bytes.Cut(stat, []byte(") "))
	return string(rest[:1])
}

func TestCloseKillsAll(t *testing.T) {
	l := labtest.New(t, "kill")
	a := host(t, l, "a", "10.99.0.1/24")
	// A daemon that has left group, session and parent behind is still on the host's network.
	p, err := a.Start("parent", "sh", "-c", "setsid sleep 601 & echo $!; sleep 602")
	if err != nil {
		t.Fatal(err)
	}
	var pid int
	eventually(t, "the daemon runs", func() bool {
		text, _ := os.ReadFile(p.Log())
		_, err := fmt.Sscan(string(text), &pid)
		return err == nil
	})
	start := time.Now()
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	t.Logf("closed in %s", time.Since(start).Round(time.Millisecond))
	if p.Running() {
		t.Error("the process runs after Close")
	}
	eventually(t, "the daemon is dead", func() bool { s := stateOf(pid); return s == "" || s == "Z" })
}

// A lab whose process was killed leaves nothing: its programs die with it, and the rest is removed
// by the next lab.
func TestCrashedLabIsSwept(t *testing.T) {
	if dir := os.Getenv("LUNA_LAB_CRASH"); dir != "" {
		crash(t, dir)
	}
	labtest.RequireRoot(t)
	cmd := exec.Command(os.Args[0], "-test.run=^TestCrashedLabIsSwept$")
	cmd.Env = append(os.Environ(), "LUNA_LAB_CRASH="+t.TempDir())
	out, err := cmd.Output()
	var exit *exec.ExitError
	if !errors.As(err, &exit) || exit.Sys().(syscall.WaitStatus).Signal() != syscall.SIGKILL {
		t.Fatalf("the other process was to be killed: %v: %s", err, out)
	}
	found := regexp.MustCompile(`namespace=(\S+) pid=(\d+)`).FindStringSubmatch(string(out))
	if found == nil {
		t.Fatalf("the other process said: %s", out)
	}
	var pid int
	if _, err := fmt.Sscan(found[2], &pid); err != nil {
		t.Fatal(err)
	}
	eventually(t, "its program is dead", func() bool { s := stateOf(pid); return s == "" || s == "Z" })
	if _, err := os.Stat("/run/netns/" + found[1]); err != nil {
		t.Fatalf("the namespace should be left over: %v", err)
	}
	labtest.New(t, "sweeper")
	if _, err := os.Stat("/run/netns/" + found[1]); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the namespace is still left over: %v", err)
	}
}

// crash makes a lab, tells what is in it, and kills its own process.
func crash(t *testing.T, dir string) {
	t.Helper()
	l, err := lab.New(t.Context(), dir, "crash")
	if err != nil {
		t.Fatal(err)
	}
	h := host(t, l, "a", "10.99.0.1/24")
	p, err := h.Start("sleeper", "sleep", "603")
	if err != nil {
		t.Fatal(err)
	}
	fmt.Printf("namespace=%s pid=%d\n", h.Namespace(), p.Pid())
	syscall.Kill(os.Getpid(), syscall.SIGKILL)
	select {}
}
