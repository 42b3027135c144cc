package dns

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/user"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
)

// Write puts the files of Files in place, each whole or not at all, and then
// removes the zone files in zoneDir that are not among them. It touches nothing
// else, and makes no directory. The zone files come first: whenever BIND reads
// its configuration, the files it names are there.
//
// Where it runs as root and BIND has an account (named, or bind on Debian), the
// zone files are that account's and the include file is root's and its group's,
// and others may not read them.
func Write(files []File, zoneDir string) error {
	return write(files, zoneDir, findAccount())
}

// InPlace tells whether the file is in place and says what it shall say, but for
// the serial of its zone, which grows with changes that are no business of it.
func (f File) InPlace() bool {
	has, err := os.ReadFile(f.Path)
	return err == nil && zoneSerial.ReplaceAllString(string(has), "$1") == zoneSerial.ReplaceAllString(f.Text, "$1")
}

// zoneSerial is that of a zone in the text of [Zone.Master], with what stands before it.
var zoneSerial = regexp.MustCompile(`(?m)^(@\tIN\tSOA\t\S+ \S+ )\d+`)

func write(files []File, zoneDir string, to account) error {
	for _, f := range files {
		if err := replace(f, to); err != nil {
			return err
		}
	}
	entries, err := os.ReadDir(zoneDir)
	if err != nil {
		return fmt.Errorf("look for old zone files: %w", err)
	}
	for _, e := range entries {
		path := filepath.Join(zoneDir, e.Name())
		ours := strings.HasSuffix(e.Name(), zoneSuffix) && !e.IsDir()
		if !ours || slices.ContainsFunc(files, func(f File) bool { return f.Path == path }) {
			continue
		}
		if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return fmt.Errorf("remove an old zone file: %w", err)
		}
	}
	return nil
}

// replace writes the file beside its place and renames it there.
func replace(f File, to account) error {
	dir := filepath.Dir(f.Path)
	temp, err := os.CreateTemp(dir, ".luna-*")
	if errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("write %s: there is no directory %s: install BIND, or name another with luna cluster change --named_zone_dir and --named_include_file: %w", f.Path, dir, err)
	}
	if err != nil {
		return fmt.Errorf("write %s: %w", f.Path, err)
	}
	err = errors.Join(fill(temp, f, to), temp.Close())
	if err == nil {
		err = os.Rename(temp.Name(), f.Path)
	}
	if err != nil {
		return fmt.Errorf("write %s: %w", f.Path, errors.Join(err, os.Remove(temp.Name())))
	}
	return nil
}

func fill(temp *os.File, f File, to account) error {
	if err := to.give(temp, strings.HasSuffix(f.Path, zoneSuffix)); err != nil {
		return err
	}
	if _, err := temp.WriteString(f.Text); err != nil {
		return err
	}
	return temp.Sync()
}

// account is the one under which BIND runs.
type account struct {
	uid, gid int
	known    bool
}

// findAccount looks BIND's account up. It is of use to root only.
func findAccount() account {
	if os.Geteuid() != 0 {
		return account{}
	}
	for _, name := range []string{"named", "bind"} {
		u, err := user.Lookup(name)
		if err != nil {
			continue
		}
		uid, errUID := strconv.Atoi(u.Uid)
		gid, errGID := strconv.Atoi(u.Gid)
		if errUID == nil && errGID == nil {
			return account{uid, gid, true}
		}
	}
	return account{}
}

// give sets a new file's owner and mode.
func (a account) give(f *os.File, zone bool) error {
	if !a.known {
		return f.Chmod(0o644)
	}
	owner := 0
	if zone {
		owner = a.uid
	}
	return errors.Join(f.Chown(owner, a.gid), f.Chmod(0o640))
}
