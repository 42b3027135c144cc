package image

import (
	"fmt"
	"os"
	"os/exec"

	"golang.org/x/sys/unix"
)

// start starts a command in the rank of all others on this machine. An agent may be above
// them, so that its heartbeats go out and it lives when memory is short; what it has
// built, an hour's work for all CPUs, must not take from it what it has that for.
func start(cmd *exec.Cmd) error {
	if err := cmd.Start(); err != nil {
		return err
	}
	// It has not been on a CPU for long enough to start others. To give up rank takes no
	// privilege, and where that fails, the work is worth doing all the same.
	const nobodysFavourite = 20 // of the kernel's 1 to 40: nice 0
	if rank, err := unix.Getpriority(unix.PRIO_PROCESS, 0); err == nil && rank > nobodysFavourite {
		_ = unix.Setpriority(unix.PRIO_PROCESS, cmd.Process.Pid, 0)
	}
	var adjustment int
	if b, err := os.ReadFile("/proc/self/oom_score_adj"); err == nil {
		_, _ = fmt.Sscan(string(b), &adjustment)
	}
	if adjustment < 0 {
		_ = os.WriteFile(fmt.Sprintf("/proc/%d/oom_score_adj", cmd.Process.Pid), []byte("0"), 0)
	}
	return nil
}

// run starts a command so and waits for it.
func run(cmd *exec.Cmd) error {
	if err := start(cmd); err != nil {
		return err
	}
	return cmd.Wait()
}
