// Command demo shows Luna's main job from end to end, with nothing but the real
// programs: three heads join into a mesh, a small Debian is packed, a machine
// boots from it by PXE while four simulated nodes boot beside it, and the head
// that holds DHCP is killed in the middle of the download. It exits 0 only if
// all five have the image and the machine reaches its login prompt under its
// name and address.
package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"os/signal"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/clustervision/luna/test/lab"
	"github.com/clustervision/luna/test/site"
)

const (
	simulated = 4  // nodes beside the machine
	rate      = 20 // Mbit/s of each simulated node's link, so that a download takes a while
	patience  = 10 * time.Minute
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := run(ctx); err != nil {
		fmt.Fprintln(os.Stderr, "demo:", err)
		os.Exit(1)
	}
}

// demo is the site and the clock of the story.
type demo struct {
	*site.Site
	start   time.Time
	tree    string
	machine *lab.Machine
}

// say tells what happens, with the time since the start.
func (d *demo) say(format string, args ...any) {
	fmt.Printf("%6.1f s  %s\n", time.Since(d.start).Seconds(), fmt.Sprintf(format, args...))
}

func run(ctx context.Context) (err error) {
	ctx, cancel := context.WithTimeout(ctx, 20*time.Minute)
	defer cancel()
	d := &demo{start: time.Now()}
	bin, err := site.Bin()
	if err != nil {
		return err
	}
	d.say("the operating system: a small Debian 12 (built once, then cached)")
	log := slog.New(slog.NewTextHandler(os.Stdout, &slog.HandlerOptions{ReplaceAttr: func(_ []string, a slog.Attr) slog.Attr {
		if a.Key == slog.TimeKey || a.Key == slog.LevelKey {
			return slog.Attr{}
		}
		return a
	}}))
	if d.tree, err = lab.DebianTree(ctx, log); err != nil {
		return err
	}
	dir, err := os.MkdirTemp("/var/tmp", "luna-demo-")
	if err != nil {
		return err
	}
	l, err := lab.New(ctx, dir, "demo")
	if err != nil {
		return err
	}
	defer func() {
		err = errors.Join(err, l.Close())
		if err != nil {
			fmt.Printf("logs and consoles are in %s\n", dir)
			return
		}
		os.RemoveAll(dir)
	}()
	if d.Site, err = site.New(ctx, l, bin, 3); err != nil {
		return err
	}
	for _, chapter := range []func(context.Context) error{d.mesh, d.image, d.inventory, d.boot} {
		if err := chapter(ctx); err != nil {
			return err
		}
	}
	d.say("done: five nodes have the image, and a head died on the way")
	return nil
}

func (d *demo) mesh(ctx context.Context) error {
	d.say("three heads, h1 h2 h3: luna cluster init, then luna head invite and luna join")
	if err := d.Mesh(ctx); err != nil {
		return err
	}
	holder, err := d.ServeDHCP(ctx)
	if err != nil {
		return err
	}
	d.say("the mesh is one; %s answers DHCP on network cluster", holder.Name)
	return d.show(ctx, d.Heads[2], "head", "list")
}

// show prints what a luna command prints.
func (d *demo) show(ctx context.Context, h *site.Head, args ...string) error {
	out, err := h.Luna(ctx, args...)
	if err != nil {
		return err
	}
	fmt.Printf("\n%s# luna %s\n%s\n\n", h.Name, strings.Join(args, " "), out)
	return nil
}

func (d *demo) image(ctx context.Context) error {
	h := d.Heads[0]
	if _, err := h.Luna(ctx, "osimage", "add", "-n", "compute", "-p", d.tree); err != nil {
		return err
	}
	if _, err := h.Luna(ctx, "osimage", "change", "compute", "--kernopts", "console=ttyS0"); err != nil {
		return err
	}
	d.say("h1 packs the image")
	version, err := h.Luna(ctx, "osimage", "pack", "compute")
	if err != nil {
		return err
	}
	var o struct {
		Versions []struct {
			ID    string   `json:"id"`
			Size  int64    `json:"size"`
			Heads []string `json:"heads"`
		} `json:"versions"`
	}
	err = site.Until(ctx, time.Minute, "all heads hold the image", func() error {
		if err := d.Heads[1].JSON(ctx, &o, "osimage", "show", "compute"); err != nil {
			return err
		}
		if len(o.Versions) != 1 || len(o.Versions[0].Heads) != len(d.Heads) {
			return fmt.Errorf("held by %v", o.Versions)
		}
		return nil
	})
	if err != nil {
		return err
	}
	d.say("version %s, %d MiB, is on %s", version, o.Versions[0].Size>>20, strings.Join(o.Versions[0].Heads, ", "))
	return nil
}

func (d *demo) inventory(ctx context.Context) error {
	if _, err := d.Heads[1].Luna(ctx, "group", "add", "-n", "compute", "-o", "compute", "-N", "cluster"); err != nil {
		return err
	}
	if _, err := d.Heads[2].Luna(ctx, "node", "add", "-g", "compute", "-n", fmt.Sprintf("node[001-%03d]", simulated+1)); err != nil {
		return err
	}
	for i := range simulated + 1 {
		if _, err := d.Heads[i%3].Luna(ctx, "node", "change", nodeName(i), "--mac", macOf(i).String()); err != nil {
			return err
		}
	}
	return d.show(ctx, d.Heads[0], "node", "list")
}

func nodeName(i int) string { return fmt.Sprintf("node%03d", i+1) }

func macOf(i int) net.HardwareAddr { return net.HardwareAddr{0x52, 0x54, 0, 0, 0, byte(i + 1)} }

// boot is the story's height: everybody boots, and a head dies.
func (d *demo) boot(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	var err error
	d.machine, err = d.Lab.Machine(ctx, lab.MachineConfig{Name: nodeName(0), MAC: macOf(0)})
	if err != nil {
		return err
	}
	d.say("node001, a machine in QEMU with a BIOS, is switched on")
	story, each := errgroup.WithContext(ctx)
	installing := make(chan struct{})
	story.Go(func() error { return d.watchMachine(each, installing) })
	story.Go(func() error {
		select {
		case <-each.Done():
			return each.Err()
		case <-installing:
		}
		for i := 1; i <= simulated; i++ {
			story.Go(func() error { return d.bootSimulated(each, i) })
		}
		return d.killHolder(each)
	})
	if err := story.Wait(); err != nil {
		return err
	}
	asked := d.Heads[0]
	if !asked.Agent.Running() {
		asked = d.Other(asked)
	}
	return d.show(ctx, asked, "head", "list")
}

// watchMachine follows the machine's console to its login prompt.
func (d *demo) watchMachine(ctx context.Context, installing chan struct{}) error {
	for _, step := range []struct {
		pattern, text string
	}{
		{`Linux version`, "node001: iPXE has fetched kernel and initrd; Linux starts"},
		{`the plan is here`, "node001: the installer has its plan and joins the swarm"},
		{`install.success`, "node001: the image is unpacked; the OS starts"},
	} {
		if _, err := d.machine.WaitFor(ctx, regexp.MustCompile(step.pattern)); err != nil {
			return fmt.Errorf("node001: %w", err)
		}
		d.say("%s", step.text)
		if step.pattern == `the plan is here` {
			close(installing)
		}
	}
	line, err := d.machine.WaitFor(ctx, regexp.MustCompile(`OS-READY.*\n`))
	if err != nil {
		return fmt.Errorf("node001: %w", err)
	}
	if !strings.Contains(line, "hostname=node001") || !strings.Contains(line, "addr=10.30.0.1/16") {
		return fmt.Errorf("node001 has the wrong name or address: %s", line)
	}
	prompt := regexp.MustCompile(`node001\S* login:`)
	if !prompt.MatchString(d.machine.Console()) { // it may come before the system says that it is ready
		if _, err := d.machine.WaitFor(ctx, prompt); err != nil {
			return fmt.Errorf("node001: %w", err)
		}
	}
	d.say("node001: at its login prompt: %s", prompt.FindString(d.machine.Console()))
	return nil
}

// bootSimulated boots a node that is real on the wire, up to its unpacked image.
func (d *demo) bootSimulated(ctx context.Context, i int) error {
	name := nodeName(i)
	fail := func(err error) error { return fmt.Errorf("%s: %w", name, err) }
	n, err := d.Lab.Node(ctx, lab.NodeConfig{Name: name, MAC: macOf(i), RateMbit: rate})
	if err != nil {
		return fail(err)
	}
	booted, err := n.Boot(ctx)
	if err != nil {
		return fail(err)
	}
	d.say("%s: %s from %s, %s, kernel and initrd are there", name, booted.Lease.Address, booted.Lease.Server, booted.Loader)
	root := filepath.Join(d.Lab.Dir(), name+"-root")
	if err := os.Mkdir(root, 0o755); err != nil {
		return fail(err)
	}
	p, err := n.Install(booted, filepath.Join(d.Bin, "luna-install"), root, "--once")
	if err != nil {
		return fail(err)
	}
	if err := p.Wait(ctx); err != nil {
		return fail(fmt.Errorf("%w: see %s", err, p.Log()))
	}
	if err := site.SameTree(d.tree, root, writtenByInstaller...); err != nil {
		return fail(err)
	}
	d.say("%s: has the whole image, equal to the tree", name)
	return nil
}

// writtenByInstaller differs from the image on purpose.
var writtenByInstaller = []string{"etc/hostname", "etc/fstab"}

// killHolder kills the head that holds DHCP once nodes are in the middle of
// their download, and tells what follows.
func (d *demo) killHolder(ctx context.Context) error {
	err := site.Until(ctx, patience, "a node is in the middle of its download", func() error {
		for i := range simulated {
			stage, percent, err := d.Heads[0].Stage(ctx, nodeName(i+1))
			if err != nil {
				return err
			}
			if stage == "install.download" && percent > 15 {
				return nil
			}
		}
		return errors.New("not yet")
	})
	if err != nil {
		return err
	}
	holder, err := d.Holder(ctx, d.Heads[0])
	if err != nil {
		return err
	}
	d.say("kill -9 of %s, which holds DHCP", holder.Name)
	killed := time.Now()
	holder.Agent.Kill9()
	asked := d.Other(holder)
	var next *site.Head
	err = site.Until(ctx, 30*time.Second, "another head holds DHCP", func() error {
		if next, err = d.Holder(ctx, asked); err == nil && next == holder {
			err = errors.New("still the dead one")
		}
		return err
	})
	if err != nil {
		return err
	}
	d.say("%s answers DHCP now, %.1f s after the kill", next.Name, time.Since(killed).Seconds())
	fresh, err := d.Lab.Node(ctx, lab.NodeConfig{Name: "stranger"})
	if err != nil {
		return err
	}
	lease, err := fresh.DHCP(ctx, true)
	if err != nil {
		return fmt.Errorf("a new machine gets no address after the kill: %w", err)
	}
	d.say("a machine that nobody knows gets %s from %s", lease.Address, lease.Server)
	return nil
}
