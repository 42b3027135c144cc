package lab

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// Container is a host with an operating system of its own: files, processes and a systemd that
// booted, as on a real server. It is still the [Host]: its cards and addresses are there when it
// boots, cables are pulled by [Host.Cut], and [Host.Dial] or [Host.Listen] are of its network.
// [Host.Command] and [Host.Start] run programs of the machine outside on that network;
// [Container.Command] and [Container.Run] run its own.
//
// Its root is an overlay over a tree that it does not change, such as that of [HeadTree], on the
// lab's disk: what is written stays over Stop, Kill9 and Start. It has the capabilities of a real
// machine as far as systemd-nspawn(1) gives them: mounts, overlays, raw sockets, low ports.
//
// Within it /var/lib/luna lies on a disk of its own, because no overlay can be written to an overlay,
// as packing does: packages find the directory there already, and cannot remove it.
type Container struct {
	*Host
	tree   string
	shares []string
	nspawn *Process
	leader int // its process 1, as seen from outside
}

const (
	bootTime = 2 * time.Minute // a busy machine takes a quarter of that
	haltTime = time.Minute
)

// ownDisk is the directory of a container that is not on its overlay.
const ownDisk = "/var/lib/luna"

// Boot gives the host an operating system, boots it, and waits until systemd says that all of it
// runs. The container is named as the host. Each of shares is a directory of the machine outside
// that is seen under the same path inside, read-only.
//
// It takes 2 seconds and more; several hosts may boot at once.
func (h *Host) Boot(ctx context.Context, tree string, shares ...string) (*Container, error) {
	c := &Container{Host: h, tree: tree, shares: shares}
	id, err := os.ReadFile("/proc/sys/kernel/random/uuid")
	if err != nil {
		return nil, fmt.Errorf("lab: boot %s: %w", h.name, err)
	}
	for path, text := range map[string]string{
		"etc/hostname":   h.name + "\n",
		"etc/hosts":      "127.0.0.1 localhost\n127.0.1.1 " + h.name + "\n",
		"etc/machine-id": strings.ReplaceAll(string(id), "-", ""),
	} {
		path = filepath.Join(c.disk("changes"), path)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			return nil, fmt.Errorf("lab: boot %s: %w", h.name, err)
		}
		if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
			return nil, fmt.Errorf("lab: boot %s: %w", h.name, err)
		}
	}
	for _, dir := range []string{"work", "root", "own"} {
		if err := os.MkdirAll(c.disk(dir), 0o755); err != nil {
			return nil, fmt.Errorf("lab: boot %s: %w", h.name, err)
		}
	}
	return c, c.Start(ctx)
}

// disk is a directory of the container outside.
func (c *Container) disk(dir string) string {
	return filepath.Join(c.lab.dir, c.name+".disk", dir)
}

// launch becomes systemd-nspawn on an overlay. It is in a mount namespace of its own, so that the
// overlay goes away with it, and in control groups of its own: where systemd is not process 1
// outside, two containers would share theirs, and their systemds meet.
const launch = `
name=$1 tree=$2 disk=$3; shift 3
for groups in /sys/fs/cgroup /sys/fs/cgroup/unified /sys/fs/cgroup/systemd; do
	[ -e "$groups"/cgroup.procs ] || continue
	mkdir -p "$groups/$name"
	echo $$ >"$groups/$name"/cgroup.procs
done
mount -t overlay -o "lowerdir=$tree,upperdir=$disk/changes,workdir=$disk/work" luna-lab "$disk"/root
exec systemd-nspawn "$@"
`

// Start boots a container again that was stopped or killed, and waits as Boot does.
func (c *Container) Start(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, bootTime)
	defer cancel()
	argv := []string{
		"unshare", "--mount", "sh", "-euc", launch, "sh", c.namespace, c.tree, c.disk(""),
		"--boot", "--directory=" + c.disk("root"), "--machine=" + c.namespace, "--hostname=" + c.name,
		"--network-namespace-path=" + filepath.Join(namespaces, c.namespace),
		"--register=no", "--keep-unit", "--settings=no", "--quiet", "--kill-signal=SIGRTMIN+3",
		"--resolv-conf=off", "--timezone=off", "--link-journal=no", "--console=read-only",
		"--bind=" + c.disk("own") + ":" + ownDisk,
	}
	for _, dir := range c.shares {
		argv = append(argv, "--bind-ro="+dir)
	}
	var err error
	if c.nspawn, err = c.Host.Start("container", argv...); err != nil {
		return err
	}
	if err := c.booted(ctx); err != nil {
		return fmt.Errorf("lab: boot %s: %w; its last lines:\n%s", c.name, err, tail(c.nspawn.log, 10))
	}
	return nil
}

// booted waits until systemd runs, and has started everything.
func (c *Container) booted(ctx context.Context) error {
	for {
		leader, state := c.findLeader(), ""
		if leader != 0 {
			c.leader = leader
			out, _ := c.Command(ctx, "systemctl", "is-system-running", "--wait").CombinedOutput() // its word counts
			state = strings.TrimSpace(string(out))
		}
		switch state {
		case "running":
			return nil
		case "degraded", "maintenance":
			failed, err := c.Run(ctx, "systemctl", "--failed", "--no-legend", "--plain")
			return errors.Join(fmt.Errorf("systemd is %s: failed: %s", state, failed), err)
		}
		select {
		case <-c.nspawn.done:
			return errors.New("it ended")
		case <-ctx.Done():
			return fmt.Errorf("not running (%s): %w", state, ctx.Err())
		case <-time.After(100 * time.Millisecond):
		}
	}
}

// findLeader is the child of systemd-nspawn that has become systemd, or 0.
func (c *Container) findLeader() int {
	pid := strconv.Itoa(c.nspawn.Pid())
	children, err := os.ReadFile(filepath.Join("/proc", pid, "task", pid, "children"))
	if err != nil {
		return 0
	}
	for _, child := range strings.Fields(string(children)) {
		program, err := os.Readlink(filepath.Join("/proc", child, "exe"))
		if leader, bad := strconv.Atoi(child); err == nil && bad == nil && filepath.Base(program) == "systemd" {
			return leader
		}
	}
	return 0
}

// Running tells whether the container has not ended.
func (c *Container) Running() bool { return c.nspawn != nil && c.nspawn.Running() }

// Command is an [exec.Cmd] that runs a program of the container in it, as root, with the
// environment of a login that has nothing of the one outside. When the context ends, it is killed
// with its process group.
func (c *Container) Command(ctx context.Context, argv ...string) *exec.Cmd {
	args := append([]string{
		"--target", strconv.Itoa(c.leader), "--mount", "--uts", "--ipc", "--net", "--pid", "--cgroup", "--root", "--wd", "--",
		"env", "-i", "HOME=/root", "USER=root", "LANG=C.UTF-8", "DEBIAN_FRONTEND=noninteractive",
		"PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
	}, argv...)
	cmd := exec.CommandContext(ctx, "nsenter", args...)
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
	cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) }
	cmd.WaitDelay = 5 * time.Second
	return cmd
}

// Run runs a program of the container in it and gives what it prints on stdout, without white space
// around. The error of one that fails is an [exec.ExitError] with what it printed on stderr.
func (c *Container) Run(ctx context.Context, argv ...string) (string, error) {
	var out, said bytes.Buffer
	cmd := c.Command(ctx, argv...)
	cmd.Stdout, cmd.Stderr = &out, &said
	err := cmd.Run()
	if err != nil {
		err = fmt.Errorf("lab: %s: %s: %w: %s", c.name, strings.Join(argv, " "), err, strings.TrimSpace(said.String()))
	}
	return strings.TrimSpace(out.String()), err
}

// Write makes a file of the container, or writes it anew.
func (c *Container) Write(ctx context.Context, path, text string, mode os.FileMode) error {
	return c.fill(ctx, strings.NewReader(text), path, mode)
}

// Copy copies a file of the machine outside into the container.
func (c *Container) Copy(ctx context.Context, from, to string) error {
	f, err := os.Open(from)
	if err != nil {
		return fmt.Errorf("lab: copy to %s: %w", c.name, err)
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return fmt.Errorf("lab: copy to %s: %w", c.name, err)
	}
	return c.fill(ctx, f, to, info.Mode().Perm())
}

func (c *Container) fill(ctx context.Context, from io.Reader, to string, mode os.FileMode) error {
	cmd := c.Command(ctx, "install", "-D", "-m", strconv.FormatUint(uint64(mode), 8), "/dev/stdin", to)
	cmd.Stdin = from
	if said, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("lab: write %s on %s: %w: %s", to, c.name, err, said)
	}
	return nil
}

// SSHKey is the path of the private key by which root comes into the container, and out of it into
// the lab's others.
func (c *Container) SSHKey() string { return filepath.Join(c.tree, "root/.ssh/id_ed25519") }

// SSH is a command that runs on the container by way of its sshd, from another host of its network.
// to is the container's address there.
func (c *Container) SSH(ctx context.Context, from *Host, to string, argv ...string) *exec.Cmd {
	return from.Command(ctx, append([]string{
		"ssh", "-i", c.SSHKey(), "-F", "none", "-o", "BatchMode=yes", "-o", "ConnectTimeout=10",
		"-o", "StrictHostKeyChecking=no", "-o", "UserKnownHostsFile=/dev/null", "-o", "LogLevel=ERROR", "root@" + to, "--",
	}, argv...)...)
}

// Stop shuts the container down as its power button does, and waits until it is off.
func (c *Container) Stop(ctx context.Context) error {
	if !c.Running() {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, haltTime)
	defer cancel()
	const halt = syscall.Signal(34 + 3) // SIGRTMIN+3 of glibc: see systemd(1)
	if err := unix.Kill(c.leader, halt); err != nil {
		return fmt.Errorf("lab: stop %s: %w", c.name, err)
	}
	select {
	case <-c.nspawn.done:
		return nil
	case <-ctx.Done():
		return fmt.Errorf("lab: stop %s: %w; its last lines:\n%s", c.name, ctx.Err(), tail(c.nspawn.log, 10))
	}
}

// Kill9 ends everything in the container at once, as a power cut does, and waits until nothing of it
// is left. What it had written is there when it boots again.
func (c *Container) Kill9() {
	c.nspawn.Kill9()
	if c.leader == 0 {
		return
	}
	_ = unix.Kill(c.leader, unix.SIGKILL) // it may be dead by now
	// It is dead when all its others are. A child of who knows whom, it may then stay a zombie.
	for end := time.Now().Add(closeTime); time.Now().Before(end); time.Sleep(5 * time.Millisecond) {
		stat, err := os.ReadFile(filepath.Join("/proc", strconv.Itoa(c.leader), "stat"))
		_, state, _ := strings.Cut(string(stat), ") ")
		if err != nil || strings.HasPrefix(state, "Z") {
			return
		}
	}
}
