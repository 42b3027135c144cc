package test

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io/fs"
	"net/netip"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/clustervision/luna/test/lab/labtest"
	"github.com/clustervision/luna/test/site"
)

// ownDisk is a file system that one head alone has its data on.
type ownDisk struct {
	dir, file string
	device    string // loop0
}

// newDisk gives the head, which does not run yet, a disk of some MiB. It is ext4 on a
// device of its own, so that it fills and fails as a real one does.
func newDisk(t *testing.T, s *site.Site, h *site.Head, mib int) *ownDisk {
	t.Helper()
	d := &ownDisk{dir: h.Dir(), file: filepath.Join(s.Lab.Dir(), h.Name+".disk")}
	must(t, os.MkdirAll(d.dir, 0o700))
	shell(t, "", `truncate -s "$1"M "$2" && mkfs.ext4 -q -m 0 "$2"`, strconv.Itoa(mib), d.file)
	d.mount(t)
	t.Cleanup(func() {
		if err := unix.Unmount(d.dir, unix.MNT_DETACH); err != nil {
			t.Error(err)
		}
	})
	return d
}

func (d *ownDisk) mount(t *testing.T) {
	t.Helper()
	d.device = filepath.Base(strings.TrimSpace(shell(t, "", `mount -o loop,errors=remount-ro "$1" "$2" && findmnt -no SOURCE "$2"`, d.file, d.dir)))
}

// fill leaves no room, but for some KiB, until free or the end of the test.
func (d *ownDisk) fill(t *testing.T, leave int) {
	t.Helper()
	t.Cleanup(func() { d.free(t) })
	shell(t, d.dir, `dd if=/dev/zero of=ballast bs=1M 2>/dev/null || true
dd if=/dev/zero of=ballast bs=4k oflag=append conv=notrunc 2>/dev/null || true
truncate -s -"$1"K ballast; sync -f .`, strconv.Itoa(leave))
}

func (d *ownDisk) free(t *testing.T) {
	t.Helper()
	if err := os.Remove(filepath.Join(d.dir, "ballast")); !errors.Is(err, fs.ErrNotExist) {
		must(t, err)
	}
}

// breakDown makes the kernel see an error in the file system, which is read-only from
// then on, with all its files open.
func (d *ownDisk) breakDown(t *testing.T) {
	t.Helper()
	must(t, os.WriteFile("/sys/fs/ext4/"+d.device+"/trigger_fs_error", []byte("1"), 0))
}

// repair is what an administrator does about it; nothing may use the disk.
func (d *ownDisk) repair(t *testing.T) {
	t.Helper()
	must(t, site.Until(t.Context(), 10*time.Second, "the disk is not used", func() error { return unix.Unmount(d.dir, 0) }))
	shell(t, "", `e2fsck -fy "$1" >/dev/null || [ $? -le 1 ]`, d.file)
	d.mount(t)
}

// writing changes a node through a head, again and again, and measures the longest
// time from one that was acknowledged to the next, less what the machine stood still.
type writing struct {
	done  chan struct{}
	stop  context.CancelFunc
	acked int
	worst time.Duration
	err   error // of the last try
}

func write(t *testing.T, h *site.Head) *writing {
	t.Helper()
	ctx, stop := context.WithCancel(t.Context())
	w := &writing{done: make(chan struct{}), stop: stop}
	t.Cleanup(stop)
	stood := standstill(t)
	go func() {
		defer close(w.done)
		last, lost := time.Now(), stood()
		for n := 0; ctx.Err() == nil; n++ {
			// The last one is let end.
			_, err := h.Luna(context.WithoutCancel(ctx), "node", "change", "node001", "--port", strconv.Itoa(n))
			now, lostNow := time.Now(), stood()
			w.worst = max(w.worst, now.Sub(last)-(lostNow-lost))
			if w.err = err; err == nil {
				w.acked++
				last, lost = now, lostNow
			}
		}
	}()
	return w
}

// end stops writing, and holds it to what is promised.
func (w *writing) end(t *testing.T, during string) {
	t.Helper()
	w.stop()
	<-w.done
	t.Logf("%s: %d writes, at most %.2f s from one to the next", during, w.acked, w.worst.Seconds())
	if w.worst > promised || w.acked == 0 {
		t.Errorf("%s: %d writes, and %s from one to the next where %s are promised (last error: %v)", during, w.acked, w.worst, promised, w.err)
	}
}

// leads makes a head lead, by stopping those that do in its place.
func leads(t *testing.T, s *site.Site, h *site.Head) {
	t.Helper()
	for range 20 {
		leader := leaderOf(t, s, h)
		if leader == h {
			return
		}
		if leader != nil {
			must(t, leader.Agent.Stop(syscall.SIGTERM, 20*time.Second))
			must(t, leader.Start(t.Context()))
		}
		settled(t, s)
	}
	t.Fatalf("%s does not come to lead", h.Name)
}

func leaderOf(t *testing.T, s *site.Site, asked *site.Head) *site.Head {
	t.Helper()
	var list []site.HeadStatus
	must(t, asked.JSON(t.Context(), &list, "head", "list"))
	for _, seen := range list {
		if seen.Leader {
			return s.Head(seen.Name)
		}
	}
	return nil
}

// settled waits until all heads are well, with the patience of a busy machine.
func settled(t *testing.T, s *site.Site) {
	t.Helper()
	must(t, site.Until(t.Context(), 2*time.Minute, "the mesh is whole", func() error { return s.Settle(t.Context()) }))
}

// warning waits until a head's line in the list of heads has one of these words, as a head
// sees it; with no words, until it has no warnings.
func warning(t *testing.T, asked, about *site.Head, words ...string) {
	t.Helper()
	must(t, site.Until(t.Context(), time.Minute, fmt.Sprintf("%s warns of %s: %q", asked.Name, about.Name, words), func() error {
		var list []struct {
			Name     string
			Warnings []string
		}
		if err := asked.JSON(t.Context(), &list, "head", "list"); err != nil {
			return err
		}
		for _, h := range list {
			if h.Name != about.Name {
				continue
			}
			all := strings.Join(h.Warnings, "\n")
			if len(words) == 0 && all == "" {
				return nil
			}
			for _, w := range words {
				if strings.Contains(all, w) {
					return nil
				}
			}
			return fmt.Errorf("it says %q", all)
		}
		return errors.New("it is not in the list")
	}))
}

// same waits until all heads know the same.
func same(t *testing.T, s *site.Site) {
	t.Helper()
	must(t, site.Until(t.Context(), time.Minute, "all heads know the same", func() error {
		want, err := everything(t.Context(), s.Heads[0])
		if err != nil {
			return err
		}
		for _, h := range s.Heads[1:] {
			if got, err := everything(t.Context(), h); err != nil || got != want {
				return fmt.Errorf("%s: %w\n%s\n%s:\n%s", h.Name, err, got, s.Heads[0].Name, want)
			}
		}
		return nil
	}))
}

// TestDisk: a head whose disk is full, or has become read-only, says so, does not stop
// the others, and is one of them again when it can write.
func TestDisk(t *testing.T) {
	s := newSite(t, "disk", 0)
	labtest.Context(t, 20*time.Minute)
	var d *ownDisk
	for i := range 3 {
		h, err := s.Add(t.Context(), fmt.Sprintf("h%d", i+1), netip.AddrFrom4([4]byte{10, 30, 255, byte(254 - i)}))
		must(t, err)
		if i == 0 {
			d = newDisk(t, s, h, 192)
		}
		must(t, h.Start(t.Context()))
	}
	must(t, s.Mesh(t.Context()))
	settled(t, s)
	bad := s.Heads[0]
	luna(t, bad, "network", "add", "-n", "cluster", "-N", "10.30.0.0", "-P", "16")
	tree := kernelTree(t, s.Lab)
	shell(t, tree, "head -c 1M /dev/urandom >boot/initrd.img-6.1.0; head -c 64M /dev/urandom >incompressible")
	addGroup(t, bad, tree)
	luna(t, bad, "node", "add", "-g", "compute", "-n", "node001")

	t.Run("FullDuringAPack", func(t *testing.T) { fullDuringAPack(t, s, d, bad) })
	t.Run("FullWhileItLeads", func(t *testing.T) { fullWhileItLeads(t, s, d, bad) })
	t.Run("FullAtTheStart", func(t *testing.T) { fullAtTheStart(t, s, d, bad) })
	t.Run("ReadOnlyWhileItLeads", func(t *testing.T) { readOnly(t, s, d, bad) })
}

// alive makes sure that the agent has not ended, nor begun anew, since it had this pid.
func alive(t *testing.T, h *site.Head, pid int) {
	t.Helper()
	if !h.Agent.Running() || h.Agent.Pid() != pid {
		t.Errorf("the agent of %s has ended", h.Name)
	}
}

// fullDuringAPack: there is room when the pack begins, and none in the middle of it.
func fullDuringAPack(t *testing.T, s *site.Site, d *ownDisk, bad *site.Head) {
	leads(t, s, bad)
	pid := bad.Agent.Pid()
	d.fill(t, 24<<10)
	w := write(t, s.Heads[1])
	_, err := bad.Luna(t.Context(), "osimage", "pack", "compute", "--copy_boot")
	refused(t, err, 1, "while packing compute: needs about")
	alive(t, bad, pid)
	w.end(t, "while a pack fills the disk")
	if left := shell(t, d.dir, `find . -name 'draft-*' -o -name 'initrd-*'`); left != "" {
		t.Errorf("there is still\n%s", left)
	}
	d.free(t)
	luna(t, bad, "osimage", "pack", "compute", "--copy_boot")
	warning(t, s.Heads[1], bad)
	settled(t, s)
	same(t, s)
	must(t, wholeArtifacts(bad))
}

// wholeArtifacts tells whether what has a hash for a name has that hash.
func wholeArtifacts(h *site.Head) error {
	all, err := filepath.Glob(filepath.Join(h.Dir(), "artifacts", strings.Repeat("[0-9a-f]", 64)))
	for _, path := range all {
		b, read := os.ReadFile(path)
		if got := fmt.Sprintf("%x", sha256.Sum256(b)); read != nil || got != filepath.Base(path) {
			err = errors.Join(err, read, fmt.Errorf("%s is not whole", path))
		}
	}
	return err
}

func fullWhileItLeads(t *testing.T, s *site.Site, d *ownDisk, bad *site.Head) {
	leads(t, s, bad)
	pid := bad.Agent.Pid()
	w := write(t, s.Heads[1])
	d.fill(t, 0)
	// The log grows; else there would be room for a while in what was deleted of it.
	luna(t, s.Heads[2], "node", "add", "-g", "compute", "-n", "node[1000-2999]")
	luna(t, s.Heads[2], "node", "delete", "node[1000-2999]")
	warning(t, bad, bad, "no space left")
	warning(t, s.Heads[2], bad, "no space left")
	w.end(t, "while the disk is full")
	alive(t, bad, pid)
	if leaderOf(t, s, s.Heads[2]) == bad {
		t.Errorf("%s leads and cannot write", bad.Name)
	}
	w = write(t, s.Heads[2])
	luna(t, s.Heads[2], "node", "add", "-g", "compute", "-n", "node002")
	d.free(t)
	warning(t, s.Heads[2], bad)
	settled(t, s)
	w.end(t, "while it comes back")
	alive(t, bad, pid)
	same(t, s)
	luna(t, bad, "node", "delete", "node002")
}

// begins starts a head that may not be able to: nil once it answers as a member does, or
// how its agent ended.
func begins(t *testing.T, h *site.Head) error {
	t.Helper()
	must(t, h.Launch())
	must(t, site.Until(t.Context(), 2*time.Minute, h.Name+" is a member, or has ended", func() error {
		if !h.Agent.Running() {
			return nil
		}
		_, err := h.Luna(t.Context(), "head", "list")
		return err
	}))
	if h.Agent.Running() {
		return nil
	}
	return h.Agent.Wait(t.Context())
}

// fullAtTheStart: a head begins with what it knows, takes no part until there is room,
// and then does by itself.
func fullAtTheStart(t *testing.T, s *site.Site, d *ownDisk, bad *site.Head) {
	must(t, bad.Agent.Stop(syscall.SIGTERM, 20*time.Second))
	d.fill(t, 0)
	w := write(t, s.Heads[1])
	luna(t, s.Heads[2], "node", "add", "-g", "compute", "-n", "node[1000-2999]")
	luna(t, s.Heads[2], "node", "delete", "node[1000-2999]")
	must(t, begins(t, bad))
	pid := bad.Agent.Pid()
	warning(t, bad, bad, "no space left")
	warning(t, s.Heads[2], bad, "no space left")
	w.end(t, "while a head starts with a full disk")
	luna(t, bad, "node", "add", "-g", "compute", "-n", "node004")
	seen(t, s.Heads[2], "node004")
	alive(t, bad, pid)
	d.free(t)
	warning(t, s.Heads[2], bad)
	settled(t, s)
	same(t, s)
	alive(t, bad, pid)
}

func readOnly(t *testing.T, s *site.Site, d *ownDisk, bad *site.Head) {
	leads(t, s, bad)
	pid := bad.Agent.Pid()
	w := write(t, s.Heads[1])
	d.breakDown(t)
	luna(t, s.Heads[2], "node", "add", "-g", "compute", "-n", "node002")
	warning(t, s.Heads[2], bad, "read-only file system", "input/output error")
	// Any head takes any request, though this one will not know what came of it.
	luna(t, bad, "node", "add", "-g", "compute", "-n", "node003")
	seen(t, s.Heads[2], "node003")
	w.end(t, "while the disk is read-only")
	alive(t, bad, pid)
	if leaderOf(t, s, s.Heads[2]) == bad {
		t.Errorf("%s leads and cannot write", bad.Name)
	}
	must(t, bad.Agent.Stop(syscall.SIGTERM, 30*time.Second))
	d.repair(t)
	must(t, bad.Start(t.Context()))
	settled(t, s)
	same(t, s)
	must(t, wholeArtifacts(bad))
}

// TestFullDuringASnapshot: the disk is full when raft's log has become so long that its
// state is to be written, whichever of the two fails first; with room, the state is
// written. This takes thousands of entries and some minutes. (A snapshot for which there
// is no room is also what fullAtTheStart meets, each time.)
func TestFullDuringASnapshot(t *testing.T) {
	if os.Getenv("LUNA_SOAK") == "" {
		t.Skip("takes some minutes: make soak")
	}
	s := newSite(t, "disksnap", 0)
	var d *ownDisk
	for i := range 3 {
		h, err := s.Add(t.Context(), fmt.Sprintf("h%d", i+1), netip.AddrFrom4([4]byte{10, 30, 255, byte(254 - i)}))
		must(t, err)
		if i == 2 {
			d = newDisk(t, s, h, 192)
		}
		must(t, h.Start(t.Context()))
	}
	must(t, s.Mesh(t.Context()))
	settled(t, s)
	bad := s.Heads[2]
	pid := bad.Agent.Pid()
	luna(t, s.Heads[0], "network", "add", "-n", "cluster", "-N", "10.30.0.0", "-P", "16")
	addGroup(t, s.Heads[0], kernelTree(t, s.Lab))
	luna(t, s.Heads[0], "node", "add", "-g", "compute", "-n", "node[001-999]")

	const entries = 8500 // some more than consensus' snapshotThreshold
	var writers []*writing
	for i := range 6 {
		writers = append(writers, write(t, s.Heads[i%2]))
	}
	applied := func() (index uint64) {
		var list []site.HeadStatus
		must(t, bad.JSON(t.Context(), &list, "head", "list"))
		for _, h := range list {
			index = max(index, h.Applied)
		}
		return index
	}
	must(t, site.Until(t.Context(), 10*time.Minute, "the log is long", func() error {
		if n := applied(); n < entries {
			return fmt.Errorf("%d entries", n)
		}
		return nil
	}))
	for _, w := range writers {
		w.end(t, "while the log grows")
	}
	snapshots := func() []string {
		all, err := filepath.Glob(filepath.Join(d.dir, "raft/snapshots/*[0-9]"))
		must(t, err)
		return all
	}
	before := len(snapshots())
	d.fill(t, 64) // less than the state takes
	w := write(t, s.Heads[0])
	must(t, site.Until(t.Context(), 6*time.Minute, "something cannot be written", func() error {
		text, err := os.ReadFile(bad.Agent.Log())
		if err != nil || !strings.Contains(string(text), "no space left") {
			return fmt.Errorf("%v, %w", snapshots(), err)
		}
		return nil
	}))
	w.end(t, "while a snapshot is due and the disk is full")
	alive(t, bad, pid)
	d.free(t)
	warning(t, s.Heads[0], bad)
	settled(t, s)
	must(t, site.Until(t.Context(), 6*time.Minute, "a snapshot succeeds", func() error {
		if len(snapshots()) <= before {
			return fmt.Errorf("%v", snapshots())
		}
		return nil
	}))
	same(t, s)
	alive(t, bad, pid)
}
