package consensus

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// smallDisk is a file system of its own with not much room on it.
func smallDisk(t *testing.T, kind string) string {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("mounting a small file system takes root")
	}
	dir := filepath.Join(t.TempDir(), kind)
	if err := os.Mkdir(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	var err error
	switch kind {
	case "tmpfs":
		err = unix.Mount("tmpfs", dir, "tmpfs", 0, "size=12m")
	case "ext4":
		image := dir + ".img"
		for _, cmd := range [][]string{
			{"truncate", "-s", "24M", image},
			{"mkfs.ext4", "-q", "-m", "0", image},
			{"mount", "-o", "loop", image, dir},
		} {
			if out, runErr := exec.Command(cmd[0], cmd[1:]...).CombinedOutput(); runErr != nil {
				err = errors.Join(err, fmt.Errorf("%s: %w: %s", strings.Join(cmd, " "), runErr, out))
			}
		}
	}
	if err != nil {
		t.Fatalf("making a small %s: %v", kind, err)
	}
	t.Cleanup(func() {
		if err := unix.Unmount(dir, 0); err != nil {
			t.Errorf("unmounting %s: %v", dir, err)
		}
	})
	return dir
}

// fillDisk takes all the room there is, and returns what gives it back.
func fillDisk(t *testing.T, dir string) (free func()) {
	t.Helper()
	path := filepath.Join(dir, "ballast")
	file, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_APPEND, 0o600)
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	for _, size := range []int{1 << 20, 4096, 1} {
		for chunk := make([]byte, size); err == nil; {
			_, err = file.Write(chunk)
		}
		if !errors.Is(err, syscall.ENOSPC) {
			t.Fatal(err)
		}
		err = nil
	}
	_ = file.Sync()
	return func() {
		if err := os.Remove(path); err != nil {
			t.Error(err)
		}
	}
}

// formOn forms a cluster of three whose first head has that directory, and leads or
// not.
func (c *cluster) formOn(dir string, leads bool) []*head {
	c.t.Helper()
	cfg := c.config("h1")
	cfg.Dir = filepath.Join(dir, "raft")
	first := c.start(cfg)
	if err := first.Bootstrap(c.ctx()); err != nil {
		c.t.Fatal(err)
	}
	c.until("h1 leads", first.IsLeader)
	heads := []*head{first, c.join(first, "h2"), c.join(first, "h3")}
	c.until("the right head leads", func() bool {
		leader := c.leader()
		if leader == first && !leads || leader != first && leads {
			avoid := "h1"
			if leads {
				avoid = map[string]string{"h2": "h3", "h3": "h2"}[leader.name]
			}
			_ = leader.TransferLeadership(c.ctx(), avoid)
			return false
		}
		return true
	})
	return heads
}

func TestFullDisk(t *testing.T) {
	for _, test := range []struct {
		kind        string
		leads, soak bool
	}{{"tmpfs", true, false}, {"tmpfs", false, true}, {"ext4", true, true}, {"ext4", false, false}} {
		if test.soak && os.Getenv("LUNA_SOAK") == "" {
			continue // the two that are left cover the kinds of both
		}
		t.Run(fmt.Sprintf("%s leads %t", test.kind, test.leads), func(t *testing.T) {
			dir := smallDisk(t, test.kind)
			c := newCalmCluster(t)
			c.timing.Heartbeat, c.timing.Election, c.timing.Lease = 500*time.Millisecond, 500*time.Millisecond, 300*time.Millisecond
			heads := c.formOn(dir, test.leads)
			victim := heads[0]
			free := fillDisk(t, dir)
			var lines []string
			write := func() uint64 {
				lines = append(lines, fmt.Sprint(len(lines), strings.Repeat("x", 3000)))
				return c.write(lines[len(lines)-1])
			}
			began := time.Now()
			changed := victim.DiskChanged()
			for victim.DiskError() == nil {
				began = time.Now()
				write()
			}
			<-changed
			index := write()
			t.Logf("the others wrote again %s after the last write to the full disk was asked for; %v", time.Since(began), victim.DiskError())
			if err := victim.DiskError(); !errors.Is(err, syscall.ENOSPC) || !strings.Contains(err.Error(), "raft.db") {
				t.Errorf("DiskError: %v", err)
			}

			c.undragged(victim, write)
			victim.brokenSnapshot()

			free()
			c.until("h1 can write again", func() bool { return victim.DiskError() == nil })
			began = time.Now()
			index = max(index, write())
			victim.has(index, lines...)
			t.Logf("the head with the full disk had it all %s after there was room", time.Since(began))
			c.takesPart(victim, write)

			free = fillDisk(t, dir)
			for victim.DiskError() == nil {
				write()
			}
			knew := victim.AppliedIndex()
			victim.kill()
			victim.restart() // on the full disk
			if got := victim.AppliedIndex(); got < knew {
				t.Errorf("after a start on a full disk it knows %d entries, %d before", got, knew)
			}
			if err := victim.DiskError(); !errors.Is(err, syscall.ENOSPC) {
				t.Errorf("DiskError after a start on a full disk: %v", err)
			}
			c.undragged(victim, write)
			if held := victim.snaps.held.Load(); held == nil {
				t.Error("no snapshot is held in memory")
			}
			free()
			c.until("h1 can write again", func() bool { return victim.DiskError() == nil })
			victim.has(write(), lines...)
			c.takesPart(victim, write)
			if err := victim.Snapshot(c.ctx()); err != nil || victim.snaps.held.Load() != nil {
				t.Errorf("a snapshot with room: %v", err)
			}
			victim.kill()
			victim.restart()
			victim.has(write(), lines...)
		})
	}
}

// A head that starts alone on a full disk has what it had, leads nobody and takes
// nothing; with room it goes on, without another start. Started again and again
// without room, it has still what it had.
func TestStartOnFullDiskAlone(t *testing.T) {
	for _, kind := range []string{"tmpfs", "ext4"} {
		t.Run(kind, func(t *testing.T) {
			dir := smallDisk(t, kind)
			c := newCluster(t)
			cfg := c.config("h1")
			cfg.Dir = filepath.Join(dir, "raft")
			h := c.start(cfg)
			if err := h.Bootstrap(c.ctx()); err != nil {
				t.Fatal(err)
			}
			var lines []string
			index := uint64(0)
			for i := range 40 { // more than the room that ext4 leaves in what it has given out
				lines = append(lines, fmt.Sprint(i, strings.Repeat("x", 3000)))
				index = c.write(lines[i])
			}
			h.kill()
			free := fillDisk(t, dir)
			for range 2 {
				h.restart()
				h.has(index, lines...)
				if err := h.DiskError(); !errors.Is(err, syscall.ENOSPC) {
					t.Errorf("DiskError: %v", err)
				}
				ctx, cancel := context.WithTimeout(c.ctx(), 3*h.cfg.Timing.Election)
				if _, _, err := h.Apply(ctx, []byte("x")); err == nil {
					t.Error("it takes a write")
				}
				cancel()
				if h.IsLeader() {
					t.Error("it leads")
				}
				h.kill()
			}
			h.restart()
			free()
			lines = append(lines, "room")
			h.has(c.write("room"), lines...)
			h.kill()
			h.restart()
			h.has(index, lines...)
		})
	}
}

// undragged checks that the others go on as if the one with the full disk were not
// there, and that it knows who leads.
func (c *cluster) undragged(victim *head, write func() uint64) {
	c.t.Helper()
	leader := c.leader()
	if leader == victim {
		c.t.Fatal("a head leads whose disk is full")
	}
	term := leader.raft.CurrentTerm()
	for range 100 {
		write()
	}
	if !leader.IsLeader() || leader.raft.CurrentTerm() != term {
		c.t.Errorf("leadership has moved from %s in term %d, to term %d", leader.name, term, leader.raft.CurrentTerm())
	}
	c.until("the head with the full disk follows", func() bool { name, _ := victim.Leader(); return name == leader.name })
	var not *NotLeaderError
	if _, _, err := victim.Apply(c.ctx(), []byte("x")); !errors.As(err, &not) || not.Leader != leader.name {
		c.t.Errorf("Apply on a head with a full disk: %v", err)
	}
}

// brokenSnapshot checks that a snapshot that cannot be written leaves nothing.
func (h *head) brokenSnapshot() {
	h.c.t.Helper()
	if err := h.Snapshot(h.c.ctx()); err == nil {
		h.c.t.Log("there was room for a snapshot")
	} else if strings.Contains(err.Error(), "\n") {
		h.c.t.Errorf("a snapshot that failed once says so twice: %v", err)
	}
	names, err := h.snaps.names(true)
	if err != nil || len(names) > 0 {
		h.c.t.Errorf("a snapshot that failed has left %q, %v", names, err)
	}
}

// takesPart checks that a head can lead again.
func (c *cluster) takesPart(victim *head, write func() uint64) {
	c.t.Helper()
	c.until("h1 leads again", func() bool {
		leader := c.leader()
		if leader != victim {
			_ = leader.TransferLeadership(c.ctx(), map[string]string{"h2": "h3", "h3": "h2"}[leader.name])
		}
		return leader == victim
	})
	write()
}

// instead puts another file in the place of raft.db, as this process has it open,
// and returns what puts it back: so the calls of the system fail, and nothing that
// is ours knows why.
func (h *head) instead(t *testing.T, path string, flags int) (back func()) {
	t.Helper()
	links, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Fatal(err)
	}
	for _, link := range links {
		to, _ := os.Readlink("/proc/self/fd/" + link.Name())
		if to != h.store.path {
			continue
		}
		var fd int
		if _, err := fmt.Sscan(link.Name(), &fd); err != nil {
			t.Fatal(err)
		}
		kept, err := unix.Dup(fd)
		if err != nil {
			t.Fatal(err)
		}
		other, err := unix.Open(path, flags, 0)
		if err == nil {
			err = errors.Join(unix.Dup3(other, fd, unix.O_CLOEXEC), unix.Close(other))
		}
		if err != nil {
			t.Fatal(err)
		}
		return sync.OnceFunc(func() {
			if to, _ := os.Readlink(fmt.Sprint("/proc/self/fd/", fd)); to == path { // else it was closed
				_ = unix.Dup3(kept, fd, unix.O_CLOEXEC)
			}
			_ = unix.Close(kept)
		})
	}
	t.Fatalf("%s is not open", h.store.path)
	return nil
}

// A disk that turns writes down, and one whose sync fails: after that, the file is
// written anew.
func TestBrokenDisk(t *testing.T) {
	for name, test := range map[string]struct {
		file  string // "" is raft.db, opened for reading only
		flags int
		anew  bool
	}{
		"refuses to write": {"", unix.O_RDONLY, false},
		"fails to sync":    {"/dev/zero", unix.O_RDWR, true},
	} {
		t.Run(name, func(t *testing.T) {
			c := newCalmCluster(t)
			heads := c.formOn(t.TempDir(), true)
			victim := heads[0]
			var lines []string
			write := func() uint64 {
				lines = append(lines, fmt.Sprint(len(lines)))
				return c.write(lines[len(lines)-1])
			}
			write()
			file := test.file
			if file == "" {
				file = victim.store.path
			}
			before, err := os.Stat(victim.store.path)
			if err != nil {
				t.Fatal(err)
			}
			back := victim.instead(t, file, test.flags)
			defer back()
			write()
			if !test.anew {
				if err := victim.DiskError(); err == nil {
					t.Error("a disk that cannot be written is well")
				}
				c.undragged(victim, write)
				back()
			}
			c.until("h1 can write again", func() bool { return victim.DiskError() == nil })
			if log := victim.log.loud("raft log cannot be written"); len(log) != 1 {
				t.Errorf("logged %q", log)
			}
			victim.has(write(), lines...)
			after, err := os.Stat(victim.store.path)
			if err != nil || os.SameFile(before, after) == test.anew {
				t.Errorf("written anew %t, want %t, %v", !os.SameFile(before, after), test.anew, err)
			}
			c.takesPart(victim, write)
			victim.kill()
			victim.restart()
			victim.has(write(), lines...)
		})
	}
}

// A leader whose disk hangs does not keep the others waiting.
func TestHangingDisk(t *testing.T) {
	c := newCalmCluster(t)
	heads := c.formOn(t.TempDir(), true)
	victim := heads[0]
	c.write("one")
	hang, err := victim.store.db.Begin(true) // bbolt has one writer at a time
	if err != nil {
		t.Fatal(err)
	}
	changed := victim.DiskChanged()
	late := make(chan error, 1)
	began := time.Now()
	go func() {
		_, _, err := victim.Apply(c.ctx(), []byte("late"))
		late <- err
	}()
	<-changed
	if err := victim.DiskError(); err == nil || !strings.Contains(err.Error(), "does not answer") {
		t.Errorf("DiskError: %v", err)
	}
	c.until("another head leads", func() bool { return heads[1].IsLeader() || heads[2].IsLeader() })
	for _, h := range heads[1:] {
		if h.IsLeader() {
			if _, _, err := h.Apply(c.ctx(), []byte("two")); err != nil {
				t.Error(err)
			}
		}
	}
	t.Logf("the others wrote again after %s", time.Since(began))
	_ = hang.Rollback()
	if err := <-late; err == nil {
		t.Error("a leader of before has written")
	}
	victim.has(c.write("three"), "one", "two", "three")
	if err := victim.DiskError(); err != nil {
		t.Error(err)
	}
}

// Leadership is not given to a head that cannot write, and all are told of it.
func TestNothingIsHandedToAFullDisk(t *testing.T) {
	c := newCalmCluster(t)
	heads := c.formOn(t.TempDir(), false)
	victim, leader := heads[0], c.leader()
	back := victim.instead(t, victim.store.path, unix.O_RDONLY)
	c.write("one")
	c.until("all know that h1 cannot write", func() bool { return heads[1].member("h1").Unfit && heads[2].member("h1").Unfit })
	if err := leader.TransferLeadership(c.ctx(), "h2", "h3"); err == nil {
		t.Error("h1 took it, or one to avoid")
	}
	if err := leader.TransferLeadership(c.ctx()); err != nil {
		t.Fatal(err)
	}
	if next := c.leader(); next == victim || next == leader {
		t.Errorf("%s leads", next.name)
	}
	back()
	c.until("all know that h1 can write", func() bool { return !heads[1].member("h1").Unfit && !heads[2].member("h1").Unfit })
	victim.has(c.write("two"), "one", "two")
}

// A vote that is not on disk is not given, and a term that is not on disk binds to
// nothing.
func TestVoteIsWrittenFirst(t *testing.T) {
	dir := t.TempDir()
	cfg := Config{Dir: dir, Logger: quietLog()}
	disk, err := openStorage(&cfg, newRaftLog(t.Context(), cfg.Logger, new(limiter)))
	if err != nil {
		t.Fatal(err)
	}
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	s := disk.store
	must(s.SetUint64([]byte(keyTerm), 3))
	must(s.SetUint64([]byte(keyVoteTerm), 3))
	must(s.Set([]byte(keyVote), []byte("h2")))

	h := &head{Peer: &Peer{replica: &replica{storage: disk}}}
	back := h.instead(t, s.path, unix.O_RDONLY)
	must(s.SetUint64([]byte(keyTerm), 4)) // raft would end the process else
	must(s.SetUint64([]byte(keyVoteTerm), 4))
	if err := s.Set([]byte(keyVote), []byte("h3")); err == nil {
		t.Error("a vote was taken that cannot be written")
	}
	if vote, err := s.Get([]byte(keyVote)); err != nil || !bytes.Equal(vote, []byte("h2")) {
		t.Errorf("the vote is for %s, %v", vote, err)
	}
	if term, err := s.GetUint64([]byte(keyVoteTerm)); err != nil || term != 3 {
		t.Errorf("the vote is of term %d, %v", term, err)
	}
	if got, err := openContents(copyTree(t, dir), false); err != nil || got.term != 3 || got.vote != "h2" {
		t.Errorf("on disk: term %d, vote %q, %v", got.term, got.vote, err)
	}
	back()
	changed := disk.DiskChanged()
	if disk.DiskError() != nil {
		<-changed
	}
	if err := disk.DiskError(); err != nil {
		t.Error(err)
	}
	if got, err := openContents(copyTree(t, dir), false); err != nil || got.term != 4 || got.vote != "h2" || got.voteTerm != 3 {
		t.Errorf("on disk when it is well: term %d, vote %q in %d, %v", got.term, got.vote, got.voteTerm, err)
	}
	must(s.SetUint64([]byte(keyVoteTerm), 4))
	must(s.Set([]byte(keyVote), []byte("h3")))
	must(disk.close())
	if got, err := openContents(dir, false); err != nil || got.term != 4 || got.vote != "h3" || got.voteTerm != 4 {
		t.Errorf("in the end: term %d, vote %q in %d, %v", got.term, got.vote, got.voteTerm, err)
	}
}
