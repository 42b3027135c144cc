package image

import (
	"bytes"
	"os"
	"os/exec"
	"runtime"
	"testing"

	"golang.org/x/sys/unix"
)

// What an agent of high rank starts has none.
func TestRank(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("only root may raise a rank")
	}
	runtime.LockOSThread() // nice is a thread's, in Linux; this one ends with the test
	if err := unix.Setpriority(unix.PRIO_PROCESS, 0, -5); err != nil {
		t.Fatal(err)
	}
	before, err := os.ReadFile("/proc/self/oom_score_adj")
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile("/proc/self/oom_score_adj", []byte("-100"), 0); err != nil {
		t.Logf("no adjustment to give up, in this container: %v", err)
	}
	t.Cleanup(func() { _ = os.WriteFile("/proc/self/oom_score_adj", before, 0) })

	var out bytes.Buffer
	cmd := exec.CommandContext(t.Context(), "sh", "-c", "read -r go; nice; cat /proc/self/oom_score_adj")
	cmd.Stdout = &out
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := start(cmd); err != nil {
		t.Fatal(err)
	}
	if _, err := in.Write([]byte("\n")); err != nil {
		t.Fatal(err)
	}
	if err := cmd.Wait(); err != nil || out.String() != "0\n0\n" {
		t.Errorf("nice and adjustment are %q, %v, want 0 and 0", out.String(), err)
	}
}
