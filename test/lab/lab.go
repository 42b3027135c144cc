package lab

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"
)

const (
	locks      = "/run/luna-lab" // one file per lab, locked while the lab lives
	namespaces = "/run/netns"    // where ip(8) keeps the names of network namespaces
	groups     = "/sys/fs/cgroup"
	closeTime  = 30 * time.Second
)

// name is what a lab, a host, a machine or a network may be called: it becomes part of interface
// names, which the kernel limits to 15 bytes.
var name = regexp.MustCompile(`^[a-z][a-z0-9-]{0,10}$`)

// Lab is one set of networks with what hangs on them. Its methods may be called from several
// goroutines.
type Lab struct {
	dir    string
	prefix string   // begins the name of everything that the kernel knows of this lab
	lock   *os.File // held as long as the lab lives

	making sync.Mutex       // one machine is switched on at a time
	taps   map[string]*link // of machines, on and off; guarded by making

	mu        sync.Mutex
	networks  map[string]bool
	hosts     map[string]*Host
	machines  map[string]*Machine
	processes []*Process
	files     []*os.File // of nodes' consoles
	trunks    int        // how many were made
	closed    bool
}

// Check returns nil if a lab can be made here, and otherwise an error that tells everything that
// is missing and how it is had.
func Check() error {
	if os.Geteuid() != 0 {
		return errors.New("lab: network namespaces need root: run as root")
	}
	var missing []string
	for _, program := range []string{"ip", "tc", "nsenter", "qemu-system-x86_64", "dnsmasq", "mmdebstrap", "aria2c", "systemd-nspawn"} {
		if _, err := exec.LookPath(program); err != nil {
			missing = append(missing, program)
		}
	}
	for _, file := range []string{ovmfCode, ovmfVars, "/usr/lib/ipxe/undionly.kpxe"} {
		if _, err := os.Stat(file); err != nil {
			missing = append(missing, file)
		}
	}
	if missing != nil {
		return fmt.Errorf("lab: not found: %s: run make deps", strings.Join(missing, ", "))
	}
	return nil
}

// New makes a lab with no hosts and one network, "lan". Logs, consoles and disks go to the
// directory dir, which must exist and is not removed. The name tells labs of one process apart.
//
// It removes first whatever dead labs left on this machine.
func New(ctx context.Context, dir, labName string) (*Lab, error) {
	if !name.MatchString(labName) {
		return nil, fmt.Errorf("lab: name %q: want 1 to 11 lower-case letters, digits and dashes", labName)
	}
	if err := Check(); err != nil {
		return nil, err
	}
	dir, err := filepath.Abs(dir)
	if err != nil {
		return nil, fmt.Errorf("lab: %w", err)
	}
	if err := sweep(ctx); err != nil {
		return nil, err
	}
	l := &Lab{
		dir:      dir,
		prefix:   "luna-" + labName + "-" + strconv.Itoa(os.Getpid()),
		networks: map[string]bool{},
		hosts:    map[string]*Host{},
		machines: map[string]*Machine{},
		taps:     map[string]*link{},
	}
	if l.lock, err = takeLock(l.prefix); err != nil {
		return nil, err
	}
	err = ip(ctx, "", "netns add "+l.bridges())
	if err == nil {
		_, err = l.network(ctx, "")
	}
	if err != nil {
		return nil, errors.Join(err, l.Close())
	}
	return l, nil
}

// Dir is the directory of the lab's logs, consoles and disks.
func (l *Lab) Dir() string { return l.dir }

// bridges is the namespace that holds the bridges, the hosts' ports and the machines' taps: the
// switches of the data centre.
func (l *Lab) bridges() string { return l.prefix + ".switch" }

// network returns the name of the bridge that is the named network, "lan" if it has no name, and
// makes it at first mention.
func (l *Lab) network(ctx context.Context, network string) (bridge string, err error) {
	if network == "" {
		network = "lan"
	}
	if !name.MatchString(network) {
		return "", fmt.Errorf("lab: network %q: want 1 to 11 lower-case letters, digits and dashes", network)
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.closed {
		return "", errClosed
	}
	bridge = "br-" + network
	if l.networks[network] {
		return bridge, nil
	}
	// Without forward_delay 0 a port is deaf for 15 seconds after it comes up.
	if err := ip(ctx, l.bridges(), "link add "+bridge+" type bridge forward_delay 0", "link set "+bridge+" up"); err != nil {
		return "", fmt.Errorf("lab: make network %s: %w", network, err)
	}
	l.networks[network] = true
	return bridge, nil
}

var errClosed = errors.New("lab: closed already")

// Close kills every process of the lab, whether it was started through the lab or by one of its
// programs, and removes the namespaces with all that is in them. The files in the directory stay.
// Closing again does nothing.
func (l *Lab) Close() error {
	l.mu.Lock()
	if l.closed {
		l.mu.Unlock()
		return nil
	}
	l.closed = true
	processes, files := l.processes, l.files
	l.mu.Unlock()

	// Not the caller's context: this must be done above all when that one has ended.
	ctx, cancel := context.WithTimeout(context.Background(), closeTime)
	defer cancel()
	for _, p := range processes {
		p.Kill9()
	}
	for _, f := range files {
		f.Close()
	}
	err := remove(ctx, l.prefix)
	if err == nil {
		err = os.Remove(l.lock.Name())
	}
	return errors.Join(err, l.lock.Close())
}

// takeLock makes and locks the file that says that a lab lives. A lock file may be swept away
// between its making and its locking, then it is made anew.
func takeLock(prefix string) (*os.File, error) {
	if err := os.MkdirAll(locks, 0o750); err != nil {
		return nil, fmt.Errorf("lab: %w", err)
	}
	path := filepath.Join(locks, prefix)
	for {
		f, err := os.OpenFile(path, os.O_CREATE|os.O_RDWR, 0o600)
		if err != nil {
			return nil, fmt.Errorf("lab: %w", err)
		}
		if err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
			f.Close()
			return nil, fmt.Errorf("lab: %s is in use by a living lab: choose another name", prefix)
		}
		locked, err1 := f.Stat()
		named, err2 := os.Stat(path)
		if err1 == nil && err2 == nil && os.SameFile(locked, named) {
			return f, nil
		}
		f.Close()
	}
}

// sweep removes what dead labs left.
func sweep(ctx context.Context) error {
	entries, err := os.ReadDir(locks)
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return fmt.Errorf("lab: %w", err)
	}
	for _, entry := range entries {
		f, err := os.OpenFile(filepath.Join(locks, entry.Name()), os.O_RDWR, 0)
		if err != nil {
			continue // somebody else swept it
		}
		if syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB) == nil {
			if err = remove(ctx, entry.Name()); err == nil {
				err = os.Remove(f.Name())
			}
		}
		f.Close()
		if err != nil && !errors.Is(err, os.ErrNotExist) {
			return fmt.Errorf("lab: remove what %s left: %w", entry.Name(), err)
		}
	}
	return nil
}

// remove kills whatever runs in the namespaces of a lab, and removes these.
func remove(ctx context.Context, prefix string) error {
	entries, err := os.ReadDir(namespaces)
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	var errs []error
	for _, entry := range entries {
		if !strings.HasPrefix(entry.Name(), prefix+".") {
			continue
		}
		err := killAll(ctx, entry.Name())
		if err == nil {
			err = ip(ctx, "", "netns del "+entry.Name())
		}
		errs = append(errs, err)
	}
	errs = append(errs, removeGroups(ctx, prefix))
	return errors.Join(errs...)
}

// removeGroups removes the control groups of a lab's containers, and kills whoever is left in one:
// a process that has lost its network is no longer found by that, and the last one leaves its group a
// moment after its network.
func removeGroups(ctx context.Context, prefix string) error {
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	var roots []string
	for _, hierarchy := range []string{"", "unified", "systemd"} {
		some, err := filepath.Glob(filepath.Join(groups, hierarchy, prefix+".*"))
		if err != nil {
			return err
		}
		roots = append(roots, some...)
	}
	for _, root := range roots {
		for {
			killGroup(root)
			err := removeDirs(root)
			if err == nil {
				break
			}
			select {
			case <-ctx.Done():
				return fmt.Errorf("remove the control group %s: %w", root, err)
			case <-time.After(20 * time.Millisecond):
			}
		}
	}
	return nil
}

// killGroup kills the processes of a control group and of those in it.
func killGroup(root string) {
	_ = filepath.WalkDir(root, func(path string, _ fs.DirEntry, err error) error { // what is left is tried again
		if err != nil || filepath.Base(path) != "cgroup.procs" {
			return nil //nolint:nilerr // a group that has gone
		}
		text, _ := os.ReadFile(path)
		for pid := range strings.FieldsSeq(string(text)) {
			if n, err := strconv.Atoi(pid); err == nil && n > 1 {
				_ = syscall.Kill(n, syscall.SIGKILL)
			}
		}
		return nil
	})
}

// removeDirs removes the directories of a tree that has only such, as far as rmdir(2) is concerned.
func removeDirs(root string) error {
	var dirs []string
	err := filepath.WalkDir(root, func(path string, entry fs.DirEntry, err error) error {
		if err == nil && entry.IsDir() {
			dirs = append(dirs, path)
		}
		return err
	})
	for _, dir := range slices.Backward(dirs) { // the inner ones first
		err = errors.Join(err, os.Remove(dir))
	}
	return err
}

// killAll kills the processes in a namespace, and those that they start meanwhile, until none
// is left.
func killAll(ctx context.Context, namespace string) error {
	for {
		out, err := exec.CommandContext(ctx, "ip", "netns", "pids", namespace).Output()
		if err != nil {
			return fmt.Errorf("list the processes in %s: %w", namespace, err)
		}
		pids := strings.Fields(string(out))
		if len(pids) == 0 {
			return nil
		}
		for _, field := range pids {
			// Never ourselves: a thread of this process may be inside for a moment.
			if pid, err := strconv.Atoi(field); err == nil && pid != os.Getpid() {
				_ = syscall.Kill(pid, syscall.SIGKILL) // gone already is as good
			}
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("processes %s in %s do not die: %w", strings.Join(pids, " "), namespace, ctx.Err())
		case <-time.After(20 * time.Millisecond):
		}
	}
}

// ip runs lines of ip(8) in a namespace, "" being the one that we are in.
func ip(ctx context.Context, namespace string, lines ...string) error {
	return batch(ctx, "ip", namespace, lines)
}

// tc runs lines of tc(8) in a namespace.
func tc(ctx context.Context, namespace string, lines ...string) error {
	return batch(ctx, "tc", namespace, lines)
}

// batch runs the lines in one go; the first that fails ends it.
func batch(ctx context.Context, program, namespace string, lines []string) error {
	args := []string{"-batch", "-"}
	if namespace != "" {
		args = append([]string{"-netns", namespace}, args...)
	}
	cmd := exec.CommandContext(ctx, program, args...)
	cmd.Stdin = strings.NewReader(strings.Join(lines, "\n") + "\n")
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	if err := cmd.Run(); err != nil {
		return fmt.Errorf("%s: %s: %s: %w", program, strings.Join(lines, "; "),
			strings.Join(strings.Fields(stderr.String()), " "), err)
	}
	return nil
}
