package image

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"time"

	securejoin "github.com/cyphar/filepath-securejoin"
	"golang.org/x/sys/unix"
)

// lockName is where Luna 1.2 had its lock, in the tree.
const lockName = "lchroot.lock"

// LockedError is the error of Chroot where somebody is in the tree already.
type LockedError struct {
	Tree  string    `json:"-"`
	PID   int       `json:"pid"`   // of the process that holds the lock; 0 is unknown
	User  string    `json:"user"`  // who runs it
	Host  string    `json:"host"`  // the machine it runs on, as trees may be on a shared file system
	Since time.Time `json:"since"` // when it took the lock
}

func (e *LockedError) Error() string {
	if e.PID == 0 {
		return "another process is in it: wait until it has ended"
	}
	return fmt.Sprintf("%s is in it since %s, with process %d on %s: wait until that has ended",
		e.User, e.Since.Local().Format(time.DateTime), e.PID, e.Host)
}

// guest is an empty file that stands in a directory of a tree for a time and leaves no trace: the
// artifact of a tree must be the same before and after, and the times of directories are in it.
type guest struct {
	dir, file     *os.File
	name          string
	before, since unix.Timespec // the directory's modification times
}

// newGuest makes a file where there is none.
func newGuest(dir, name string) (*guest, error) {
	return openGuest(dir, name, unix.O_EXCL)
}

// openGuest opens or makes a file.
func openGuest(dir, name string, flags int) (*guest, error) {
	d, err := os.OpenFile(dir, unix.O_DIRECTORY, 0)
	if err != nil {
		return nil, err
	}
	g := &guest{dir: d, name: name}
	var before, since unix.Stat_t
	err = unix.Fstat(int(d.Fd()), &before)
	fd := -1
	if err == nil {
		fd, err = unix.Openat(int(d.Fd()), name, flags|unix.O_RDWR|unix.O_CREAT|unix.O_NOFOLLOW|unix.O_NONBLOCK|unix.O_CLOEXEC, 0o644)
	}
	if err == nil {
		g.file = os.NewFile(uintptr(fd), d.Name()+"/"+name)
		err = unix.Fstat(int(d.Fd()), &since)
	}
	if err != nil {
		return nil, errors.Join(&os.PathError{Op: "open", Path: dir + "/" + name, Err: err}, g.close())
	}
	g.before, g.since = before.Mtim, since.Mtim
	return g, nil
}

// leave removes the file and, if nothing else happened in the directory, the trace of it.
func (g *guest) leave() error {
	var now unix.Stat_t
	err := unix.Fstat(int(g.dir.Fd()), &now)
	if err == nil {
		err = unix.Unlinkat(int(g.dir.Fd()), g.name, 0)
	}
	if err == nil && now.Mtim == g.since {
		err = unix.UtimesNanoAt(int(g.dir.Fd()), ".", []unix.Timespec{{Nsec: unix.UTIME_OMIT}, g.before}, 0)
	}
	if err != nil {
		err = fmt.Errorf("remove %s from the tree: %w", g.name, err)
	}
	return errors.Join(err, g.close())
}

func (g *guest) close() error {
	err := g.dir.Close()
	if g.file != nil {
		err = errors.Join(err, g.file.Close())
	}
	return err
}

// lockTree takes the lock of a tree or says who has it. What counts is the lock on the file, which
// the kernel takes from a process that dies, and not the file.
func lockTree(tree, user string) (*guest, error) {
	tmp, err := securejoin.SecureJoin(tree, "tmp")
	if err != nil {
		return nil, err
	}
	for {
		g, err := openGuest(tmp, lockName, 0)
		if err != nil {
			return nil, fmt.Errorf("lock the tree: %w", err)
		}
		err = g.lock(user)
		if err == nil {
			return g, nil
		}
		err = errors.Join(err, g.close())
		if locked := (*LockedError)(nil); errors.As(err, &locked) {
			locked.Tree = tree
		}
		if !errors.Is(err, errLockGone) {
			return nil, err
		}
	}
}

// errLockGone tells that the file was removed by its last holder before it could be locked.
var errLockGone = errors.New("the lock is gone")

func (g *guest) lock(user string) error {
	fd := int(g.file.Fd())
	var mine, named unix.Stat_t
	if err := unix.Fstat(fd, &mine); err != nil {
		return fmt.Errorf("lock the tree: %w", err)
	}
	// /tmp is for everybody, and so somebody may have put anything there.
	if mine.Mode&unix.S_IFMT != unix.S_IFREG || int(mine.Uid) != os.Geteuid() || mine.Nlink > 1 {
		return fmt.Errorf("%s is no lock of luna's: remove it", g.file.Name())
	}
	err := unix.Flock(fd, unix.LOCK_EX|unix.LOCK_NB)
	if errors.Is(err, unix.EWOULDBLOCK) {
		locked := &LockedError{}
		// Where it has not been written yet, the holder has just come, and stays unknown.
		_ = json.NewDecoder(io.LimitReader(g.file, 4096)).Decode(locked)
		return locked
	}
	if err != nil {
		return fmt.Errorf("lock %s: %w", g.file.Name(), err)
	}
	err = unix.Fstatat(int(g.dir.Fd()), g.name, &named, unix.AT_SYMLINK_NOFOLLOW)
	if errors.Is(err, unix.ENOENT) || err == nil && named.Ino != mine.Ino {
		return errLockGone
	}
	if err != nil {
		return fmt.Errorf("lock %s: %w", g.file.Name(), err)
	}
	if user == "" {
		user = "root"
	}
	host, _ := os.Hostname() // for people to read; a machine without a name has none
	text, err := json.Marshal(LockedError{PID: os.Getpid(), User: user, Host: host, Since: time.Now().UTC().Truncate(time.Second)})
	if err == nil {
		err = errors.Join(g.file.Truncate(0), unix.Fchmod(fd, 0o644))
	}
	if err == nil {
		_, err = g.file.Write(append(text, '\n'))
	}
	if err != nil {
		return fmt.Errorf("write %s: %w", g.file.Name(), err)
	}
	return nil
}
