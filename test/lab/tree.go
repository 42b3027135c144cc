package lab

import (
	"bufio"
	"context"
	"crypto/sha256"
	_ "embed" // mkimage.sh
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"
)

//go:embed mkimage.sh
var mkimage string

//go:embed mkhead.sh
var mkhead string

const (
	treeCache = "/var/cache/luna-lab"
	treeTime  = 15 * time.Minute // to build a tree in, over a slow line too
)

// DebianTree returns the root of a small real Debian 12, to be packed and booted: systemd,
// systemd-networkd, the cloud kernel, dracut, and root without a password. When it has booted, it
// prints on the console
//
//	OS-READY hostname=NAME addr=ADDRESS/LENGTH[,ADDRESS/LENGTH...]
//
// The first call takes a minute or so: it builds the tree from Debian's mirrors, by mkimage.sh.
// Later calls, by any process, find it in the cache, until the script changes. The cache is
// /var/cache/luna-lab, or the directory named by LUNA_LAB_CACHE. The tree belongs to everybody:
// copy it (cp -a) to change it. Progress goes to log.
func DebianTree(ctx context.Context, log *slog.Logger) (root string, err error) {
	return cachedTree(ctx, "debian12", mkimage, log)
}

// HeadTree returns the root of a Debian 12 server without Luna, for [Host.Boot]: systemd, dbus, sshd,
// python3 for Ansible, and the packages that Luna's depend on, since a lab cannot reach Debian's
// mirrors. Root comes in by the key that [Container.SSHKey] names. It is built by mkhead.sh and
// cached as the tree of [DebianTree] is.
func HeadTree(ctx context.Context, log *slog.Logger) (root string, err error) {
	return cachedTree(ctx, "head12", mkhead, log)
}

// cachedTree is the tree of that name that the script makes, from the cache if it is there.
func cachedTree(ctx context.Context, treeName, script string, log *slog.Logger) (root string, err error) {
	cache := os.Getenv("LUNA_LAB_CACHE")
	if cache == "" {
		cache = treeCache
	}
	if cache, err = filepath.Abs(cache); err != nil {
		return "", fmt.Errorf("lab: debian tree: %w", err)
	}
	// apt's unprivileged user passes through here
	if err := os.MkdirAll(cache, 0o755); err != nil {
		return "", fmt.Errorf("lab: debian tree: %w", err)
	}
	sum := sha256.Sum256([]byte(script))
	root = filepath.Join(cache, treeName+"-"+hex.EncodeToString(sum[:6]))
	unlock, err := lockCache(ctx, cache, log)
	if err != nil {
		return "", err
	}
	defer unlock()
	if _, err := os.Stat(root); err == nil {
		return root, nil
	}
	if err := Check(); err != nil {
		return "", err
	}
	ctx, cancel := context.WithTimeout(ctx, treeTime)
	defer cancel()
	building := root + ".building"
	if err := removeTree(building); err != nil { // of a build that was killed
		return "", err
	}
	start := time.Now()
	log.Info("building the Debian tree, once for all later runs", "path", root)
	if err := buildTree(ctx, script, building, log); err != nil {
		return "", errors.Join(err, removeTree(building))
	}
	if err := os.Rename(building, root); err != nil {
		return "", fmt.Errorf("lab: debian tree: %w", err)
	}
	log.Info("built the Debian tree", "took", time.Since(start).Round(time.Second))
	return root, nil
}

// lockCache makes one process at a time look into the cache and build.
func lockCache(ctx context.Context, cache string, log *slog.Logger) (unlock func(), err error) {
	f, err := os.OpenFile(filepath.Join(cache, "lock"), os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, fmt.Errorf("lab: debian tree: %w", err)
	}
	told := false
	for {
		err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB)
		if err == nil {
			return func() { f.Close() }, nil
		}
		if !told {
			log.Info("waiting for another process that builds the Debian tree", "lock", f.Name())
			told = true
		}
		select {
		case <-ctx.Done():
			f.Close()
			return nil, fmt.Errorf("lab: debian tree: lock %s: %w", f.Name(), ctx.Err())
		case <-time.After(200 * time.Millisecond):
		}
	}
}

// buildTree runs a script that makes a tree. Its steps are logged; the error has its last lines.
func buildTree(ctx context.Context, script, root string, log *slog.Logger) error {
	cmd := exec.CommandContext(ctx, "sh", "-c", script, "mktree", root)
	// A mount namespace of its own: what the build mounts in the tree goes away with it, even if
	// it is killed, and cannot be mistaken for the tree by who removes that.
	cmd.SysProcAttr = &syscall.SysProcAttr{
		Setpgid: true, Pdeathsig: syscall.SIGKILL, Unshareflags: syscall.CLONE_NEWNS,
	}
	cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) }
	cmd.WaitDelay = 5 * time.Second
	output, err := cmd.StderrPipe()
	if err != nil {
		return fmt.Errorf("lab: debian tree: %w", err)
	}
	if err := cmd.Start(); err != nil {
		return fmt.Errorf("lab: debian tree: %w", err)
	}
	last := logSteps(output, log)
	if err := cmd.Wait(); err != nil {
		if ctx.Err() != nil {
			err = ctx.Err()
		}
		return fmt.Errorf("lab: debian tree: %w; its last lines:\n%s", err, strings.Join(last, "\n"))
	}
	return nil
}

// logSteps logs those lines of the output that tell a step, and returns the last lines of all.
func logSteps(output io.Reader, log *slog.Logger) (last []string) {
	scanner := bufio.NewScanner(output)
	for scanner.Scan() {
		line := strings.TrimSpace(scanner.Text())
		if line == "" {
			continue
		}
		last = append(last[max(0, len(last)-14):], line)
		for _, prefix := range []string{"I: ", "mkimage: ", "mkhead: "} { // of mmdebstrap, and our own
			if step, ok := strings.CutPrefix(line, prefix); ok {
				log.Info("building the Debian tree", "step", step)
			}
		}
	}
	return last
}

// removeTree removes a tree that was not finished.
func removeTree(root string) error {
	mounts, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		return fmt.Errorf("lab: debian tree: %w", err)
	}
	// To remove through a mounted /dev would ruin the machine.
	if strings.Contains(string(mounts), " "+root+"/") {
		return fmt.Errorf("lab: debian tree: something is mounted below %s: unmount and remove it", root)
	}
	if err := os.RemoveAll(root); err != nil {
		return fmt.Errorf("lab: debian tree: %w", err)
	}
	return nil
}
