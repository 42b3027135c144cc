package image

import (
	"errors"
	"fmt"
	"os"
	"runtime"
	"strconv"
	"strings"
	"unsafe"

	"golang.org/x/sys/unix"
)

// unameCall is a system call that waits for an answer: struct seccomp_notif of linux/seccomp.h.
type unameCall struct {
	id    uint64
	pid   uint32 // the thread's, in the namespace of this process
	flags uint32
	nr    int32
	arch  uint32
	ip    uint64
	args  [6]uint64
}

// unameAnswer is struct seccomp_notif_resp.
type unameAnswer struct {
	id    uint64
	value int64
	errno int32
	flags uint32
}

var (
	// nativeArch is what the kernel calls the system calls of an architecture (linux/audit.h).
	nativeArch = map[string]uint32{"amd64": unix.AUDIT_ARCH_X86_64, "arm64": unix.AUDIT_ARCH_AARCH64}
	// compatMachine is what uname tells there to a process whose personality is PER_LINUX32.
	compatMachine = map[string]string{"amd64": "i686", "arm64": "armv8l"}
)

// fakeUname makes uname(2) tell a kernel release to what this thread starts from now on. A seccomp
// filter hands these calls, and no others, to a goroutine of this process, which must have the callers
// in its /proc. 32-bit programs have other calls, which pass.
//
// Luna 1.2 had a library inside the image for this, which static programs and setuid ones do not load.
func fakeUname(release string, warn func(format string, args ...any)) error {
	arch, ok := nativeArch[runtime.GOARCH]
	if !ok {
		return fmt.Errorf("not known how on %s", runtime.GOARCH)
	}
	// In another namespace's /proc, the callers' numbers are those of strangers.
	if self, err := os.Readlink("/proc/self"); err != nil || self != strconv.Itoa(os.Getpid()) {
		return errors.New("there is no /proc of the callers")
	}
	listener, err := filterUname(arch)
	if err != nil {
		return err
	}
	go func() { // until the process ends: it owns all callers
		warned := false
		for {
			call, err := nextUname(listener)
			if err != nil {
				warn("programs are told from now on that there is no uname: %v", err)
				unix.Close(listener)
				return
			}
			if err := answerUname(listener, call, release); err != nil && !warned {
				warn("a program was told the release of this machine's kernel: %v", err)
				warned = true
			}
		}
	}()
	return nil
}

// filterUname installs the filter on this thread and returns the descriptor by which calls come.
func filterUname(arch uint32) (listener int, err error) {
	const archOffset, nrOffset = 4, 0 // in struct seccomp_data
	filter := []unix.SockFilter{
		{Code: unix.BPF_LD | unix.BPF_W | unix.BPF_ABS, K: archOffset},
		{Code: unix.BPF_JMP | unix.BPF_JEQ | unix.BPF_K, K: arch, Jf: 3},
		{Code: unix.BPF_LD | unix.BPF_W | unix.BPF_ABS, K: nrOffset},
		{Code: unix.BPF_JMP | unix.BPF_JEQ | unix.BPF_K, K: unix.SYS_UNAME, Jf: 1},
		{Code: unix.BPF_RET | unix.BPF_K, K: unix.SECCOMP_RET_USER_NOTIF},
		{Code: unix.BPF_RET | unix.BPF_K, K: unix.SECCOMP_RET_ALLOW},
	}
	program := unix.SockFprog{Len: uint16(len(filter)), Filter: &filter[0]}
	const flags = unix.SECCOMP_FILTER_FLAG_NEW_LISTENER | unix.SECCOMP_FILTER_FLAG_SPEC_ALLOW
	var errno unix.Errno
	// WAIT_KILLABLE_RECV, of Linux 5.19: no signal handler runs in the caller while it is answered.
	for _, more := range []uintptr{unix.SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV, 0} {
		var fd uintptr
		fd, _, errno = unix.Syscall(unix.SYS_SECCOMP, unix.SECCOMP_SET_MODE_FILTER, flags|more, uintptr(unsafe.Pointer(&program))) //nolint:gosec // G103: seccomp(2) takes a pointer
		if errno == 0 {
			return int(fd), nil
		}
		if errno != unix.EINVAL {
			break
		}
	}
	return -1, fmt.Errorf("filter system calls: %w", errno)
}

// nextUname waits for a call.
func nextUname(listener int) (*unameCall, error) {
	for {
		call := &unameCall{}
		err := seccompIoctl(listener, unix.SECCOMP_IOCTL_NOTIF_RECV, unsafe.Pointer(call)) //nolint:gosec // G103: an ioctl
		switch {
		case err == nil:
			return call, nil
		case !errors.Is(err, unix.EINTR) && !errors.Is(err, unix.ENOENT): // a signal to this process; a caller that was killed
			return nil, fmt.Errorf("wait for a call of uname: %w", err)
		}
	}
}

// answerUname answers a call, or else lets the kernel answer and says why.
func answerUname(listener int, call *unameCall, release string) error {
	answer := unameAnswer{id: call.id}
	failed := writeUname(listener, call, release)
	if failed != nil {
		answer.flags = unix.SECCOMP_USER_NOTIF_FLAG_CONTINUE
	}
	err := seccompIoctl(listener, unix.SECCOMP_IOCTL_NOTIF_SEND, unsafe.Pointer(&answer)) //nolint:gosec // G103: an ioctl
	if errors.Is(err, unix.EINVAL) && failed != nil {                                     // before Linux 5.5
		answer.flags, answer.errno = 0, -int32(unix.EFAULT)
		err = seccompIoctl(listener, unix.SECCOMP_IOCTL_NOTIF_SEND, unsafe.Pointer(&answer)) //nolint:gosec // G103: an ioctl
	}
	if errors.Is(err, unix.ENOENT) {
		return nil // killed meanwhile
	}
	return errors.Join(failed, err)
}

// writeUname writes struct utsname, with the release, where the caller wants to have it.
func writeUname(listener int, call *unameCall, release string) error {
	var name unix.Utsname
	if err := unix.Uname(&name); err != nil {
		return err
	}
	clear(name.Release[:])
	copy(name.Release[:len(name.Release)-1], release)

	proc := "/proc/" + strconv.Itoa(int(call.pid))
	if text, err := os.ReadFile(proc + "/personality"); err == nil {
		const linux32, mask = 0x8, 0xff // linux/personality.h
		if p, err := strconv.ParseUint(strings.TrimSpace(string(text)), 16, 32); err == nil && p&mask == linux32 {
			clear(name.Machine[:])
			copy(name.Machine[:], compatMachine[runtime.GOARCH])
		}
	}
	memory, err := os.OpenFile(proc+"/mem", os.O_WRONLY, 0)
	if err != nil {
		return err
	}
	defer memory.Close()
	// What was opened is the caller's only if it still waits: else its number may be another's now.
	id := call.id
	if err := seccompIoctl(listener, unix.SECCOMP_IOCTL_NOTIF_ID_VALID, unsafe.Pointer(&id)); err != nil { //nolint:gosec // G103: an ioctl
		return nil //nolint:nilerr // it was killed, and nobody waits for an answer
	}
	_, err = memory.WriteAt(unsafe.Slice((*byte)(unsafe.Pointer(&name)), unsafe.Sizeof(name)), int64(call.args[0])) //nolint:gosec // G103: as the kernel lays it out
	return err
}

func seccompIoctl(listener int, request uintptr, arg unsafe.Pointer) error {
	if _, _, errno := unix.Syscall(unix.SYS_IOCTL, uintptr(listener), request, uintptr(arg)); errno != 0 {
		return errno
	}
	return nil
}
