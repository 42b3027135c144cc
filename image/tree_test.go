package image_test

import (
	"bytes"
	"net"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/pkg/xattr"
	"golang.org/x/sys/unix"
)

// everyKind makes a tree with every kind of file that an operating system, or its users, may have.
func everyKind(t testing.TB) string {
	t.Helper()
	needRoot(t, "setcap", "setfacl")
	root := filepath.Join(t.TempDir(), "tree")
	p := func(rel string) string { return filepath.Join(root, rel) }
	for _, d := range []string{"", "a", "a/b", "a-b", "locked", "acl", "old", "empty", "shared", "usr", "usr/bin"} {
		must(t, os.Mkdir(p(d), 0o755))
	}
	write := func(rel string, content []byte, mode os.FileMode) {
		must(t, os.WriteFile(p(rel), content, mode))
	}
	write("a/file", []byte("hello\n"), 0o644)
	write("a/empty", nil, 0o600)
	write("a/b/big", bytes.Repeat([]byte("0123456789abcdef"), 600_000), 0o644)
	write("a/zeros", make([]byte, 1<<20), 0o644)
	write("usr/bin/su", []byte("#!"), 0o755)
	write("locked/none", []byte("x"), 0)
	write("a-b/latin\xe9\xff", []byte("not utf-8"), 0o644)
	write("a-b/grüße–日本語", []byte("utf-8"), 0o644)
	write("a-b/line\nbreak = %3D \\", []byte("odd"), 0o644)
	write("a-b/"+strings.Repeat("n", 255), []byte("long"), 0o644)
	deep := "a/" + strings.Repeat(strings.Repeat("d", 200)+"/", 5)
	must(t, os.MkdirAll(p(deep), 0o750))
	write(deep+"deep", []byte("deep"), 0o644)
	must(t, os.Link(p(deep+"deep"), p(deep+"twin")))
	must(t, os.Symlink(strings.Repeat("../", 60)+"far", p("a/longlink")))
	must(t, os.Symlink("/etc/passwd", p("a/abslink")))
	must(t, os.Symlink("nowhere", p("a/dangling")))
	must(t, os.Link(p("a/file"), p("shared/hard")))
	must(t, os.Link(p("a/file"), p("a/b/hard")))
	must(t, os.Link(p("a/dangling"), p("shared/hardlink-to-symlink")))
	must(t, unix.Mknod(p("shared/null"), unix.S_IFCHR|0o666, int(unix.Mkdev(1, 3))))
	must(t, unix.Mknod(p("shared/disk"), unix.S_IFBLK|0o660, int(unix.Mkdev(259, 1_000_000))))
	must(t, unix.Mknod(p("shared/fifo"), unix.S_IFIFO|0o622, 0))
	must(t, os.Link(p("shared/fifo"), p("shared/fifo2")))
	for _, rel := range []string{"shared/null", "shared/disk", "shared/fifo"} { // past the umask
		must(t, os.Chmod(p(rel), 0o664))
	}

	sparse(t, p("a/sparse"), 100<<20, map[int64]string{0: "start", 50 << 20: "middle", 100<<20 - 3: "end"})
	sparse(t, p("a/hole-at-both-ends"), 10<<20+77, map[int64]string{5 << 20: "only"})
	sparse(t, p("a/all-hole"), 3<<20, nil)
	sparse(t, p("a/small-hole"), 12288, map[int64]string{8192: "x"})
	sparse(t, p("a/lastlog"), 20<<30, map[int64]string{292 * 1000: "root", 292 * 60_000_000: "uid sixty million"})
	must(t, os.Link(p("a/sparse"), p("shared/sparse-hard")))
	must(t, os.Chown(p("a/lastlog"), 3_000_000, 4_000_000_000))
	attributes(t, p)
	return root
}

// attributes gives files of everyKind what an inode may have beside its content.
func attributes(t testing.TB, p func(string) string) {
	t.Helper()
	must(t, os.Chown(p("a/empty"), 1234, 5678))
	must(t, os.Chown(p("a/b"), 4_294_967_290, 3_000_000_000))
	must(t, os.Lchown(p("a/abslink"), 77, 88))
	must(t, unix.Chmod(p("usr/bin/su"), 0o4755))
	must(t, unix.Chmod(p("shared"), 0o3775))
	must(t, unix.Chmod(p("empty"), 0o1777))
	must(t, unix.Chmod(p("locked"), 0o500))

	run(t, "setcap", "cap_net_raw,cap_sys_admin+ep", p("a/file"))
	run(t, "setfacl", "-m", "u:1001:rwx,g:2002:r--,m::rx", p("a/empty"))
	run(t, "setfacl", "-m", "u:1001:rwx", "-d", "-m", "u:3003:r-x", p("acl"))
	must(t, os.WriteFile(p("acl/inherits-nothing"), []byte("x"), 0o644))
	must(t, os.MkdirAll(p("acl/sub"), 0o700))
	run(t, "setfacl", "-R", "-b", p("acl/sub"), p("acl/inherits-nothing"))
	must(t, xattr.Set(p("a/b"), "user.dir", []byte("on a directory")))
	must(t, xattr.Set(p("a/sparse"), "user.binary\xc3\xa9=%3D", []byte("a\x00b\nc=d")))
	must(t, xattr.Set(p("a/zeros"), "user.large", bytes.Repeat([]byte("L"), 3000)))
	must(t, xattr.Set(p("usr/bin/su"), "user.empty", nil))
	must(t, xattr.LSet(p("a/dangling"), "security.selinux", []byte("system_u:object_r:etc_t:s0\x00")))
	must(t, xattr.LSet(p("a/file"), "security.selinux", []byte("system_u:object_r:bin_t:s0\x00")))
	must(t, xattr.LSet(p("shared/null"), "security.selinux", []byte("system_u:object_r:null_device_t:s0\x00")))

	mtime := func(rel string, sec, nsec int64) {
		ts := []unix.Timespec{{Nsec: unix.UTIME_OMIT}, {Sec: sec, Nsec: nsec}}
		must(t, unix.UtimesNanoAt(unix.AT_FDCWD, p(rel), ts, unix.AT_SYMLINK_NOFOLLOW))
	}
	mtime("a/empty", 0, 0)
	mtime("a/zeros", -1, 500_000_000)
	mtime("a/b/big", -86_400*365, 0)
	mtime("a/sparse", -1_000_000_000, 123_456_789)
	mtime("a/all-hole", 1_700_000_000, 0)
	mtime("a/abslink", 1, 1)
	mtime("shared/fifo", 4_000_000_000, 999_999_999)
	mtime("shared/null", 1_600_000_000, 1)
	mtime("old", 86_400, 7)
	mtime("a", 1_234_567_890, 987_654_321)
	mtime("", 1_500_000_000, 100)
}

// sparse makes a file of the given size with nothing but the pieces in it.
func sparse(t testing.TB, path string, size int64, pieces map[int64]string) {
	t.Helper()
	f, err := os.Create(path)
	must(t, err)
	must(t, f.Truncate(size))
	for off, s := range pieces {
		_, err := f.WriteAt([]byte(s), off)
		must(t, err)
	}
	must(t, f.Close())
}

// addSocket makes what no tar can hold.
func addSocket(t testing.TB, path string) {
	t.Helper()
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: path, Net: "unix"})
	must(t, err)
	l.SetUnlinkOnClose(false)
	must(t, l.Close())
	var st syscall.Stat_t
	must(t, syscall.Lstat(path, &st))
}
