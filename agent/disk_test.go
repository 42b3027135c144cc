package agent_test

import (
	"bytes"
	"errors"
	"io"
	"net/http"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/clustervision/luna/agent"
	"github.com/clustervision/luna/agent/agenttest"
	"github.com/clustervision/luna/api"
	"github.com/clustervision/luna/inventory"
)

// onSmallDisk gives a head a disk of its own with not much room on it.
func onSmallDisk(t *testing.T) func(*agent.Config) {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("mounting a small file system takes root")
	}
	return func(c *agent.Config) {
		noError(t, os.MkdirAll(c.DataDir, 0o700))
		noError(t, unix.Mount("tmpfs", c.DataDir, "tmpfs", 0, "size=12m,mode=0700"))
		t.Cleanup(func() { noError(t, unix.Unmount(c.DataDir, unix.MNT_DETACH)) })
	}
}

// fillDisk takes all the room that a head has, until free.
func fillDisk(t *testing.T, h *agenttest.Head) (free func()) {
	t.Helper()
	path := filepath.Join(h.Config.DataDir, "ballast")
	file, err := os.Create(path)
	noError(t, err)
	defer file.Close()
	for _, size := range []int{1 << 20, 4 << 10, 1} {
		_, err := io.Copy(file, bytes.NewReader(make([]byte, size)))
		for err == nil {
			_, err = file.Write(make([]byte, size))
		}
		if !errors.Is(err, syscall.ENOSPC) {
			t.Fatal(err)
		}
	}
	return func() { noError(t, os.Remove(path)) }
}

// told gives what a head says with an answer of it being old.
func told(h *agenttest.Head) (said *[]string) {
	said = new([]string)
	h.Stale = func(reason string) { *said = append(*said, reason) }
	return said
}

// untilDiskFails writes with do until the head's disk has failed of it.
func untilDiskFails(t *testing.T, h *agenttest.Head, do func()) {
	t.Helper()
	agenttest.Eventually(t, time.Minute, "the disk of "+h.Name+" fails", func() bool {
		do()
		s, err := h.Client.Self(t.Context())
		return err == nil && strings.Contains(strings.Join(s.Warnings, "\n"), "no space left")
	})
}

// commentOn gives the comment of network 1, as a head knows it.
func commentOn(t *testing.T, h *agenttest.Head) string {
	t.Helper()
	n, err := h.Client.Network(t.Context(), network(1).Name)
	noError(t, err)
	if n.Comment == nil {
		return ""
	}
	return *n.Comment
}

// TestWriteOnFullDisk: a head whose disk is full passes changes on, and says that it
// does not know them itself.
func TestWriteOnFullDisk(t *testing.T) {
	bad := agenttest.Start(t, "h1", onSmallDisk(t))
	agenttest.Init(t, bad)
	heads := []*agenttest.Head{bad, agenttest.Start(t, "h2"), agenttest.Start(t, "h3")}
	for _, h := range heads[1:] {
		h.JoinAt(t, bad)
	}
	heads[0].Do(t, network(1))
	agenttest.Eventually(t, time.Minute, "three heads vote", func() bool {
		s, err := bad.Client.Self(t.Context())
		return err == nil && len(s.Voters) == 3
	})
	free := fillDisk(t, bad)
	comment := func(text string) inventory.Command {
		return inventory.ChangeNetwork{Name: network(1).Name, Comment: &text}
	}
	untilDiskFails(t, bad, func() { heads[1].Do(t, comment(strings.Repeat("x", 20000))) })

	said := told(bad)
	if _, err := bad.Write(t.Context(), comment("passed on")); err != nil {
		t.Fatal(err)
	}
	if len(*said) != 1 || !strings.Contains((*said)[0], "the change is made, but head 'h1' does not know it yet: its disk fails") {
		t.Errorf("said %q", *said)
	}
	*said = nil
	old := commentOn(t, bad)
	if len(*said) != 1 || !strings.Contains((*said)[0], "may be old: its disk fails") || old == "passed on" {
		t.Errorf("a read has the comment %.20q, and says %q", old, *said)
	}
	if now := commentOn(t, heads[1]); now != "passed on" {
		t.Errorf("the comment is %.20q on another head", now)
	}
	weight := 2
	noError(t, bad.Client.ChangeHead(t.Context(), "h2", api.HeadChange{Weight: &weight}))
	err := bad.Client.Drain(t.Context(), "h3", api.DrainRequest{}, func(api.JobEvent) {})
	refused(t, "a drain that cannot be watched", err, "head 'h3' is drained and takes nothing new, but head 'h1' cannot see how far that is")
	if got := row(t, heads[1], "h3"); !got.Drained {
		t.Error("h3 is not drained")
	}

	free()
	agenttest.Eventually(t, time.Minute, "h1 knows it", func() bool { return commentOn(t, bad) == "passed on" })
	bad.Do(t, comment("well"))
}

// TestStartOnFullDisk: a head alone that starts with no room serves what it knows,
// refuses changes with the reason, and goes on when there is room.
func TestStartOnFullDisk(t *testing.T) {
	h := agenttest.Start(t, "h1", onSmallDisk(t))
	agenttest.Init(t, h)
	h.Do(t, network(1))
	text := strings.Repeat("x", 20000)
	h.Do(t, inventory.ChangeNetwork{Name: network(1).Name, Comment: &text})
	h.Stop(t)
	free := fillDisk(t, h)
	h.Run(t)
	var words string
	agenttest.Eventually(t, time.Minute, "it goes by what it knew", func() bool {
		_, words = h.Standing()
		return strings.Contains(words, "cut off")
	})
	if got := row(t, h, "h1"); !strings.Contains(strings.Join(got.Warnings, "\n"), "no space left") || got.Leader {
		t.Errorf("in its list it is %+v", got)
	}
	said := told(h)
	if got := commentOn(t, h); got != text || len(*said) == 0 {
		t.Errorf("the network has the comment %.20q; said %q", got, *said)
	}
	self, _ := h.View().Head("h1")
	resp, err := http.Get("http://" + netip.AddrPortFrom(self.Address, uint16(self.HTTPPort)).String() + "/luna?step=boot")
	noError(t, err)
	resp.Body.Close()
	if resp.StatusCode == http.StatusServiceUnavailable {
		t.Errorf("a node gets %s", resp.Status)
	}
	_, err = h.TryDo(inventory.ChangeNetwork{Name: network(1).Name, Comment: new(string)})
	refused(t, "a change", err, "no change can be made now: the raft log", "no space left on device (make room, or mend the disk of 'h1')")
	free()
	agenttest.Eventually(t, time.Minute, "it takes changes", func() bool {
		_, err := h.TryDo(inventory.ChangeNetwork{Name: network(1).Name, Comment: new(string)})
		return err == nil
	})
	agenttest.Eventually(t, time.Minute, "nothing is wrong", func() bool { return len(row(t, h, "h1").Warnings) == 0 })
}
