package agent

import (
	"context"
	"net"
	"os"
	"os/user"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

type peerKey struct{}

// withPeer keeps with a connection over the socket which process is at its other
// end.
func withPeer(ctx context.Context, c net.Conn) context.Context {
	s, ok := c.(*net.UnixConn)
	if !ok {
		return ctx
	}
	raw, err := s.SyscallConn()
	if err != nil {
		return ctx
	}
	_ = raw.Control(func(fd uintptr) {
		if cred, err := unix.GetsockoptUcred(int(fd), unix.SOL_SOCKET, unix.SO_PEERCRED); err == nil {
			ctx = context.WithValue(ctx, peerKey{}, loginName(cred))
		}
	})
	return ctx
}

// loginName tells who is at the other end: the one who logged in, where the
// kernel's audit knows it, for behind sudo everybody is root.
func loginName(cred *unix.Ucred) string {
	uid := strconv.FormatUint(uint64(cred.Uid), 10)
	const unset = "4294967295"
	if b, err := os.ReadFile("/proc/" + strconv.Itoa(int(cred.Pid)) + "/loginuid"); err == nil {
		if login := strings.TrimSpace(string(b)); login != unset && login != "" {
			uid = login
		}
	}
	if u, err := user.LookupId(uid); err == nil {
		return u.Username
	}
	return "uid " + uid
}

// peerName gives what withPeer found.
func peerName(ctx context.Context) string {
	if name, ok := ctx.Value(peerKey{}).(string); ok {
		return name
	}
	return "root"
}
