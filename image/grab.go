package image

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"regexp"
	"runtime"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// Exit statuses of rsync, from its manual.
const (
	rsyncVanished = 24 // files went away between being listed and being read
	rsyncNoTalk   = 12 // the other side says nothing, or nothing that rsync would
	rsyncNoShell  = 255
)

// GrabSpec tells Grab what to take from where.
type GrabSpec struct {
	// Host is a name or an address that root of this machine can log in to as root with a key.
	Host string
	// Tree is the directory that becomes as the host is. It exists.
	Tree string
	// Filesystems are the mount points on the host whose file systems are taken: "/", "/boot". What is
	// mounted below one of them comes only if it is listed too.
	Filesystems []string
	// Exclude is a list in the form of rsync's --exclude-from. A pattern that begins with a slash
	// begins at the host's root, whichever file system it is on. What is left out stays in the tree
	// as it is there.
	Exclude string
	// DryRun changes nothing and writes to Log what would be done.
	DryRun bool
	// Verbose writes to Log the path of every file that comes or goes.
	Verbose bool
	// SSH is what ssh is told beside what Grab tells it, and before that, so that it counts: "-p", "2222".
	SSH []string
	// Log, if not nil, gets what rsync and ssh say, warnings too.
	Log io.Writer
}

// Grab makes a tree as a running host is, by rsync over ssh: content, owners by number, hard links,
// ACLs, extended attributes. What the host does not have goes from the tree, but for what is excluded. It
// needs rsync on both sides and, to set owners, root on this one.
//
// The host's key is held against the known hosts of the user who runs this; that of an unknown host is
// taken and kept. Nobody is asked for anything, so a login that wants a password fails.
//
// A file that went away on the host meanwhile is a warning in Log. After any other error, and when ctx
// has ended, the tree may hold a part of what is new: grab again before packing it.
func Grab(ctx context.Context, spec GrabSpec) error {
	if err := spec.check(); err != nil {
		return fmt.Errorf("grab host '%s': %w", spec.Host, err)
	}
	if spec.Log != nil {
		spec.Log = &lockedWriter{w: spec.Log}
	}
	for _, fs := range spec.Filesystems {
		if err := spec.grab(ctx, fs); err != nil {
			return fmt.Errorf("grab %s of host '%s' into %s: %w", fs, spec.Host, spec.Tree, err)
		}
	}
	return nil
}

// grabHost is what may be a host's name or address: nothing that ssh or rsync would take for an
// option, a user, a path or several words.
var grabHost = regexp.MustCompile(`^[A-Za-z0-9:][A-Za-z0-9._:%-]*$`)

// check refuses what would be misunderstood on the way, and makes paths clean.
func (spec *GrabSpec) check() error {
	if !grabHost.MatchString(spec.Host) {
		return errors.New("this is no name or address of a host")
	}
	tree, err := filepath.EvalSymlinks(spec.Tree)
	if err != nil {
		return fmt.Errorf("the tree: %w", err)
	}
	var st, root unix.Stat_t
	if err := errors.Join(unix.Stat(tree, &st), unix.Stat("/", &root)); err != nil {
		return fmt.Errorf("the tree: %w", err)
	}
	switch {
	case st.Mode&unix.S_IFMT != unix.S_IFDIR || !filepath.IsAbs(tree):
		return fmt.Errorf("the tree '%s' is not the absolute path of a directory", spec.Tree)
	case st.Ino == root.Ino && st.Dev == root.Dev:
		return errors.New("the tree is '/', the system of this machine, which would be lost")
	case len(spec.Filesystems) == 0:
		return errors.New("no file systems to take: name some, such as / and /boot")
	}
	spec.Tree = tree
	spec.Filesystems = slices.Clone(spec.Filesystems)
	for i, fs := range spec.Filesystems {
		if !path.IsAbs(fs) || strings.ContainsFunc(fs, func(r rune) bool { return r < ' ' || strings.ContainsRune(`*?[]\`, r) }) {
			return fmt.Errorf("the file system '%s' is not an absolute path without wildcards", fs)
		}
		spec.Filesystems[i] = path.Clean(fs)
	}
	return nil
}

// grab runs rsync once.
func (spec *GrabSpec) grab(ctx context.Context, fs string) error {
	cmd := exec.CommandContext(ctx, "rsync", spec.arguments(fs)...)
	cmd.Stdin = strings.NewReader(strings.ReplaceAll(spec.Exclude, "\r\n", "\n"))
	cmd.Env = append(os.Environ(), "LC_ALL=C")
	var said lastLines
	cmd.Stderr = &said
	if spec.Log != nil {
		cmd.Stdout, cmd.Stderr = spec.Log, io.MultiWriter(&said, spec.Log)
		fmt.Fprintf(spec.Log, "%s from %s\n", fs, spec.Host)
	}
	// The signal comes when the thread that started rsync ends, so that one has to stay.
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGTERM}
	// SIGTERM, on which rsync removes the file that it has half of; ssh is in the same group.
	cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGTERM) }
	cmd.WaitDelay = 5 * time.Second
	err := run(cmd)
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	var exit *exec.ExitError
	switch {
	case err == nil:
		return nil
	case errors.Is(err, exec.ErrNotFound):
		return errors.New("rsync is missing on this machine: install it")
	case !errors.As(err, &exit):
		return err
	case exit.ExitCode() == rsyncVanished:
		if spec.Log != nil {
			fmt.Fprintf(spec.Log, "warning: files went away on %s while they were read\n", spec.Host)
		}
		return nil
	}
	hint := ""
	switch {
	case said.has("command not found") || said.has("rsync: not found"):
		hint = fmt.Sprintf(": install rsync on %s", spec.Host)
	// Which of the two it is depends on whether rsync or ssh was quicker to end.
	case exit.ExitCode() == rsyncNoShell, exit.ExitCode() == rsyncNoTalk && said.has("(0 bytes received so far)"):
		hint = fmt.Sprintf(": see to it that 'ssh root@%s true' works from here without a password", spec.Host)
	}
	return fmt.Errorf("rsync ended with status %d%s: %s", exit.ExitCode(), hint, said.String())
}

func (spec *GrabSpec) arguments(fs string) []string {
	args := []string{
		"-axzHAX", "--delete",
		"--numeric-ids", // the host's users are not this machine's
		"--sparse",
		"--relative",       // patterns begin at the host's root; no link of the tree is followed
		"--protect-args",   // no shell on the host reads the paths
		"-e", spec.shell(), // ssh and what it is told
		"--exclude=" + literal(spec.Tree), // a head that grabs itself would never come to an end
	}
	if spec.Verbose || spec.DryRun {
		args = append(args, "-v")
	}
	if spec.DryRun {
		args = append(args, "-n")
	}
	// Else the turn of / would empty the tree's /boot, for that of /boot to fetch it all again.
	for _, other := range spec.Filesystems {
		if other != fs && strings.HasPrefix(other, strings.TrimSuffix(fs, "/")+"/") {
			args = append(args, "--exclude="+other+"/*")
		}
	}
	host := spec.Host
	if strings.Contains(host, ":") {
		host = "[" + host + "]"
	}
	from := "root@" + host + ":" + strings.TrimSuffix(fs, "/") + "/"
	return append(args, "--exclude-from=-", "--", from, spec.Tree+"/")
}

// literal makes of a path a pattern of rsync that matches it alone. Where a pattern has no wildcard, a
// backslash in it is a backslash.
func literal(path string) string {
	if !strings.ContainsAny(path, "*?[") {
		return path
	}
	return strings.NewReplacer(`\`, `\\`, `*`, `\*`, `?`, `\?`, `[`, `\[`).Replace(path)
}

// shell is the command line of ssh in the quotes that rsync's -e understands.
func (spec *GrabSpec) shell() string {
	words := append(append([]string{"ssh"}, spec.SSH...),
		"-o", "BatchMode=yes", // an agent has nobody to ask
		"-o", "StrictHostKeyChecking=accept-new",
		"-o", "ConnectTimeout=15",
		"-o", "ServerAliveInterval=15", "-o", "ServerAliveCountMax=4") // a minute for a host that died
	for i, w := range words {
		words[i] = "'" + strings.ReplaceAll(w, "'", "''") + "'"
	}
	return strings.Join(words, " ")
}

// lockedWriter lets rsync's two streams go to one place.
type lockedWriter struct {
	mu sync.Mutex
	w  io.Writer
}

func (l *lockedWriter) Write(b []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.w.Write(b)
}

// lastLines keeps the end of what is written to it.
type lastLines struct{ b []byte }

func (l *lastLines) Write(b []byte) (int, error) {
	const most = 16 << 10
	l.b = append(l.b, b...)
	l.b = l.b[max(0, len(l.b)-most):]
	return len(b), nil
}

func (l *lastLines) has(what string) bool { return strings.Contains(string(l.b), what) }

// String is the last lines as one, for an error.
func (l *lastLines) String() string {
	const most = 6
	lines := strings.FieldsFunc(string(l.b), func(r rune) bool { return r == '\n' || r == '\r' })
	return strings.Join(lines[max(0, len(lines)-most):], "; ")
}
