package bootkill

import (
	"bytes"
	"context"
	"fmt"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/insomniacslk/dhcp/dhcpv4"

	"github.com/clustervision/luna/test/lab"
	"github.com/clustervision/luna/test/lab/labtest"
	"github.com/clustervision/luna/test/site"
)

// patience is for an emulated machine, from power-on to the login prompt, with a
// boot that fails on the way.
const patience = 12 * time.Minute

// step is a moment of a node's boot.
type step struct {
	name string
	// at gives what names, at the moment, the head that serves the node; a new one
	// for each boot, for it may count.
	at func(node int) func(frame) *site.Head
	// silent cuts the head off before it dies, as when its machine loses power: its
	// kernel then tells nobody that the connections are gone.
	silent bool
}

func (s step) silently() step {
	s.name, s.silent = s.name+" (power)", true
	return s
}

// when makes a step of what can be seen in one packet.
func when(name string, seen func(f frame, node int) bool) step {
	return step{name: name, at: func(node int) func(frame) *site.Head {
		return func(f frame) *site.Head {
			if seen(f, node) {
				return f.head
			}
			return nil
		}
	}}
}

// The steps that firmware, loader and kernel take.
var (
	// dhcp: iPXE has been told where its script is, and has not asked for it yet.
	dhcp = when("dhcp", func(f frame, node int) bool { return acked(f, node, "://") })
	// tftp: the firmware loads iPXE and has some blocks of it.
	tftp = when("tftp", func(f frame, node int) bool {
		data := []byte{0, 3, 0, 40} // opcode and number of the block (RFC 1350)
		return !f.tcp && f.sent() && f.to.Addr() == nodeAddr(node) && bytes.HasPrefix(f.payload, data)
	})
	// ipxe: iPXE asks for its boot script.
	ipxe = when("ipxe", func(f frame, node int) bool { return f.gets(node, "GET", "/luna?step=discovery") })
	// kernel and initrd: the file is on its way.
	kernel = step{name: "kernel", at: func(node int) func(frame) *site.Head { return middle(node, "vmlinuz", 2<<20) }}
	initrd = step{name: "initrd", at: func(node int) func(frame) *site.Head { return middle(node, "initrd", 8<<20) }}
)

// acked tells whether the head has just given the node's machine its address, with
// a file to load whose name has these letters in it.
func acked(f frame, node int, file string) bool {
	if f.tcp || !f.sent() || f.to.Port() != dhcpv4.ClientPort {
		return false
	}
	p, err := dhcpv4.FromBytes(f.payload)
	return err == nil && p.MessageType() == dhcpv4.MessageTypeAck && bytes.Equal(p.ClientHWAddr, nodeMAC(node)) &&
		strings.Contains(p.BootFileName, file)
}

// middle names the head that has sent the node so much of a file of the image.
func middle(node int, file string, enough int) func(frame) *site.Head {
	request := regexp.MustCompile(`^GET /boot/[^/ ]+/` + file + ` `)
	var by *site.Head // who sends it
	sent := 0
	return func(f frame) *site.Head {
		switch {
		case !f.tcp:
		case f.from.Addr() == nodeAddr(node) && request.Match(f.payload):
			by, sent = f.head, 0
		case f.head == by && f.sent() && f.to.Addr() == nodeAddr(node):
			sent += len(f.payload)
		}
		if f.head == by && sent >= enough {
			return by
		}
		return nil
	}
}

// powerCycle boots a machine once and kills heads on its way, one at each step.
// Each comes back when the machine has gone on without it.
type powerCycle struct {
	firmware lab.Firmware
	steps    []step
}

func (p powerCycle) name() string {
	var names []string
	for _, s := range p.steps {
		names = append(names, s.name)
	}
	return p.firmware.String() + " " + strings.Join(names, "+")
}

// bootMachine makes sure that the machine is at its login prompt in the end, with
// its name and address, and that a head knows it.
func bootMachine(t *testing.T, s *site.Site, w *wire, p powerCycle, number int) {
	ctx := labtest.Context(t, patience)
	must(t, bind(ctx, s, number))
	start := time.Now()
	since := func() string { return fmt.Sprintf("%6.1f s", time.Since(start).Seconds()) }
	killed := make(chan error, 1)
	go func() { killed <- p.kill(ctx, t, s, w, number, since) }()
	node := nodeName(number)
	machine, err := s.Lab.Machine(ctx, lab.MachineConfig{Name: node, MAC: nodeMAC(number), Firmware: p.firmware})
	must(t, err)
	defer machine.Kill()
	for _, pattern := range []string{`Luna: ` + node + ` boots compute`, `Linux version`, `OS-READY.*\n`} {
		line, err := machine.WaitFor(ctx, regexp.MustCompile(pattern))
		must(t, err)
		t.Logf("%s %s", since(), line)
		if want := fmt.Sprintf("hostname=%s.cluster addr=%s/16", node, nodeAddr(number)); strings.Contains(line, "OS-READY") && !strings.Contains(line, want) {
			t.Errorf("it says %q, want %s", line, want)
		}
	}
	must(t, <-killed)
	must(t, succeeds(ctx, s, nil, node))
	if n := strings.Count(machine.Console(), "iPXE initialising devices"); n > 1 {
		t.Logf("iPXE had to be started %d times", n)
	}
}

// kill kills a head at each step, and starts it again.
func (p powerCycle) kill(ctx context.Context, t *testing.T, s *site.Site, w *wire, number int, since func() string) error {
	defer w.watch(nil)
	for _, step := range p.steps {
		select {
		case d := <-w.killAt(ctx, t, step, number):
			t.Logf("%s kill -9 of %s at %s", since(), d.head.Name, step.name)
			if err := w.goesOn(ctx, d, number); err != nil {
				return err
			}
			t.Logf("%s another head serves it", since())
			if err := revive(ctx, s, d.head); err != nil {
				return err
			}
		case <-ctx.Done():
			return fmt.Errorf("step %s was never seen: %w", step.name, context.Cause(ctx))
		}
	}
	return nil
}

// goesOn waits until another head than the dead one sends something to the node.
func (w *wire) goesOn(ctx context.Context, d death, node int) error {
	on := make(chan struct{}, 1)
	w.watch(func(f frame) {
		offer := f.to.Port() == dhcpv4.ClientPort && bytes.Contains(f.payload, nodeMAC(node))
		if f.head != d.head && f.sent() && len(f.payload) > 0 && (offer || f.to.Addr() == nodeAddr(node)) {
			select {
			case on <- struct{}{}:
			default:
			}
		}
	})
	defer w.watch(nil)
	select {
	case <-on:
		return nil
	case <-ctx.Done():
		return fmt.Errorf("no other head serves %s: %w", nodeName(node), context.Cause(ctx))
	}
}

// machines boots a machine for each row, whichever head dies under it.
func machines(t *testing.T, s *site.Site, w *wire) {
	cycles := []powerCycle{
		{lab.BIOS, []step{dhcp}},
		{lab.UEFI, []step{dhcp}},
		{lab.UEFI, []step{tftp}},
		{lab.BIOS, []step{ipxe}},
		{lab.UEFI, []step{ipxe}},
		{lab.BIOS, []step{kernel}},
		{lab.UEFI, []step{initrd}},
		{lab.BIOS, []step{dhcp.silently(), kernel.silently()}},
		{lab.UEFI, []step{tftp.silently(), ipxe.silently(), initrd.silently()}},
	}
	for i, p := range cycles {
		t.Run(p.name(), func(t *testing.T) { bootMachine(t, s, w, p, firstMachine+i) })
	}
}
