package installer

import (
	"bufio"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

const mib = 1 << 20

// target is where the tree goes: a folder, and what is mounted on it.
type target struct {
	path   string
	spare  string // takes the artifact when the target has no room for it beside the tree
	log    *slog.Logger
	memory func() (total, available int64, _ error) // bytes

	// unowned: any folder will do, and nothing of the machine is ours to change.
	unowned bool
	// before is what was mounted in an unowned target already. In the initrd
	// whatever is mounted there is of the installer, this one or one that was
	// killed.
	before []mount
}

// mount is one line of /proc/self/mountinfo, as far as it is needed.
type mount struct {
	id     string
	dev    string // major:minor
	point  string
	fstype string
	source string
}

func newTarget(path, spare string, unowned bool, log *slog.Logger) (*target, error) {
	path, err := filepath.Abs(path)
	if err == nil && path == "/" {
		err = errors.New("the root of the running system is not for installing to")
	}
	if err != nil {
		return nil, err
	}
	t := &target{path: path, spare: spare, unowned: unowned, log: log, memory: memory}
	if unowned {
		t.before, err = t.mounts()
	}
	return t, err
}

// mounts returns what is mounted on the target and below it, in the order in
// which it was mounted.
func (t *target) mounts() ([]mount, error) {
	text, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		return nil, fmt.Errorf("list mounts: %w", err)
	}
	var found []mount
	for line := range strings.Lines(string(text)) {
		// proc(5): 36 35 98:0 /root /point options [optional fields] - type source options
		left, right, ok := strings.Cut(line, " - ")
		l, r := strings.Fields(left), strings.Fields(right)
		if !ok || len(l) < 5 || len(r) < 2 {
			continue
		}
		point := unescape(l[4])
		if point == t.path || strings.HasPrefix(point, strings.TrimSuffix(t.path, "/")+"/") {
			found = append(found, mount{id: l[0], dev: l[2], point: point, fstype: r[0], source: unescape(r[1])})
		}
	}
	return found, nil
}

// unescape undoes the octal escapes of mountinfo for blank, tab, newline and
// backslash.
func unescape(s string) string {
	for i := 0; i+3 < len(s); i++ {
		if s[i] == '\\' {
			if c, err := strconv.ParseUint(s[i+1:i+4], 8, 8); err == nil {
				s = s[:i] + string([]byte{byte(c)}) + s[i+4:]
			}
		}
	}
	return s
}

// clear takes down what attempts mounted, so that the next one begins as the
// first did. What cannot be unmounted is detached, and the error says so.
func (t *target) clear() error {
	now, err := t.mounts()
	if err != nil {
		return err
	}
	var errs []error
	for _, m := range slices.Backward(now) {
		if slices.Contains(t.before, m) {
			continue
		}
		err := unix.Unmount(m.point, unix.UMOUNT_NOFOLLOW)
		if errors.Is(err, unix.EBUSY) {
			t.log.Warn("something still uses the mount, it is detached", "mount", m.point)
			err = unix.Unmount(m.point, unix.MNT_DETACH|unix.UMOUNT_NOFOLLOW)
		}
		if err != nil {
			errs = append(errs, fmt.Errorf("unmount %s: %w", m.point, err))
		}
	}
	return errors.Join(errs...)
}

// prepare holds what the partscript left against what the image needs, and
// returns the folder for the artifact. On a diskless node that is memory in any
// case; on a disk it costs none there. A tmpfs that is too small for its tree
// (half of the memory, if the script says nothing) is given more where there
// is more.
func (t *target) prepare(artifact, tree int64) (workDir string, err error) {
	fstype, err := t.mounted()
	if err != nil {
		return "", err
	}
	free, err := room(t.path)
	if err != nil {
		return "", err
	}
	// Beside the content of its files a tree takes the rest of their last blocks,
	// folders, inodes: measured, 8 % for an operating system, 19 % for sources.
	tree += tree/8 + 16*mib
	work := filepath.Join(t.path, workName)
	switch inMemory := fstype == "tmpfs" || fstype == "ramfs" || fstype == "rootfs"; {
	case inMemory:
		if err := t.enoughMemory(artifact + tree); err != nil {
			return "", err
		}
		// Only a limit, which takes nothing from anybody: more than enough is better.
		if limit := artifact + tree + tree/4; fstype == "tmpfs" && free < limit {
			if err := t.grow(limit - free); err != nil {
				return "", err
			}
		}
	case free >= artifact+tree:
	case free >= tree && t.enoughMemory(artifact) == nil:
		t.log.Info("the disk has room for the tree alone, the artifact goes to memory", "path", t.spare)
		work = t.spare
	default:
		return "", fmt.Errorf("%s needs %d MiB for tree and artifact, and has %d MiB free", t.path, (artifact+tree)/mib, free/mib)
	}
	// What is there was left by an attempt on the same file system.
	if err := os.RemoveAll(work); err != nil {
		return "", fmt.Errorf("prepare %s: %w", work, err)
	}
	if err := os.MkdirAll(work, 0o700); err != nil {
		return "", fmt.Errorf("prepare %s: %w", work, err)
	}
	return work, nil
}

// mounted returns the type of the file system that the partscript mounted; ""
// where a plain folder will do.
func (t *target) mounted() (fstype string, err error) {
	all, err := t.mounts()
	if err != nil {
		return "", err
	}
	for _, m := range slices.Backward(all) { // of several in one place the last one shows
		if m.point == t.path {
			return m.fstype, nil
		}
	}
	if t.unowned {
		return "", nil
	}
	return "", fmt.Errorf("nothing is mounted on %s: the partscript must mount the node's root there (diskless: mount -t tmpfs tmpfs %s)", t.path, t.path)
}

// ownMemory is what unpacking and the swarm take beside it, in bytes: measured
// 118 MiB at most, a part of which is there already when it is asked.
const ownMemory = 64 * mib

// enoughMemory refuses to begin what the kernel would end by killing processes.
func (t *target) enoughMemory(need int64) error {
	total, available, err := t.memory()
	if err != nil {
		return err
	}
	if need += ownMemory; available < need {
		return fmt.Errorf("the installation needs %d MiB of memory, the node has %d MiB free of %d MiB", need/mib, available/mib, total/mib)
	}
	return nil
}

// grow gives a tmpfs more bytes. The flags of the mount are said again, for a
// remount that keeps silent about them takes them away.
func (t *target) grow(more int64) error {
	var st unix.Statfs_t
	if err := unix.Statfs(t.path, &st); err != nil {
		return fmt.Errorf("look at %s: %w", t.path, err)
	}
	flags := uintptr(st.Flags) & (unix.MS_NOSUID | unix.MS_NODEV | unix.MS_NOEXEC | unix.MS_NOATIME | unix.MS_NODIRATIME)
	size := int64(st.Blocks)*st.Bsize + more
	t.log.Info("the tmpfs is too small for the image and grows", "mount", t.path, "mib", size/mib)
	if err := unix.Mount("", t.path, "", unix.MS_REMOUNT|flags, fmt.Sprintf("size=%d", size)); err != nil {
		return fmt.Errorf("%s: grow the tmpfs to %d MiB: %w", t.path, size/mib, err)
	}
	return nil
}

// settle puts everything on disk, where a boot loader finds it too. GRUB does
// not replay the journal of ext4 or XFS: after sync alone, and a power cut, it
// may not find the files that were written last. Freezing a file system writes
// the journal's content to its place.
func (t *target) settle() error {
	if t.unowned {
		return nil
	}
	unix.Sync()
	mounted, err := t.mounts()
	if err != nil {
		return err
	}
	var errs []error
	done := map[string]bool{}
	for _, m := range mounted {
		if done[m.dev] || !strings.HasPrefix(m.source, "/dev/") {
			continue
		}
		done[m.dev] = true
		if err := flush(m.point); err != nil {
			errs = append(errs, fmt.Errorf("put %s on disk: %w", m.point, err))
		}
	}
	return errors.Join(errs...)
}

// ioctls of linux/fs.h: _IOWR('X', 119, int) and _IOWR('X', 120, int).
const (
	fiFreeze = 0xc0045877
	fiThaw   = 0xc0045878
)

// flush writes a file system to its disk, freezes it and thaws it. One that cannot be
// frozen, such as FAT, has no journal that would hold anything back. That files were
// not written, which the kernel may have tried long ago, only syncfs tells (Linux 5.8).
func flush(point string) error {
	dir, err := os.Open(point)
	if err != nil {
		return err
	}
	defer dir.Close()
	if err := unix.Syncfs(int(dir.Fd())); err != nil {
		return fmt.Errorf("the disk lost what was written to it, see dmesg: %w", err)
	}
	err = unix.IoctlSetInt(int(dir.Fd()), fiFreeze, 0)
	if errors.Is(err, unix.EOPNOTSUPP) || errors.Is(err, unix.ENOTTY) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("freeze: %w", err)
	}
	if err := unix.IoctlSetInt(int(dir.Fd()), fiThaw, 0); err != nil {
		return fmt.Errorf("thaw: %w", err)
	}
	return nil
}

// room returns the free bytes of the file system that holds path.
func room(path string) (int64, error) {
	var st unix.Statfs_t
	if err := unix.Statfs(path, &st); err != nil {
		return 0, &fs.PathError{Op: "statfs", Path: path, Err: err}
	}
	return int64(st.Bavail) * st.Bsize, nil
}

// memory reads the machine's memory in all, and what may be used of it without
// swapping, in bytes.
func memory() (total, available int64, err error) {
	f, err := os.Open("/proc/meminfo")
	if err != nil {
		return 0, 0, err
	}
	defer f.Close()
	for lines := bufio.NewScanner(f); lines.Scan(); {
		words := strings.Fields(lines.Text())
		if len(words) < 2 {
			continue
		}
		kib, _ := strconv.ParseInt(words[1], 10, 64)
		switch words[0] {
		case "MemTotal:":
			total = kib << 10
		case "MemAvailable:":
			available = kib << 10
		}
	}
	if available == 0 {
		return 0, 0, errors.New("/proc/meminfo has no MemAvailable")
	}
	return total, available, nil
}
