package image_test

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"testing"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/clustervision/luna/image"
)

// free is a pace that never waits.
func free(context.Context, int) error { return nil }

// keep puts content into a store.
func keep(t *testing.T, s *image.Store, content []byte) string {
	t.Helper()
	f, err := s.Create()
	must(t, err)
	_, err = f.Write(content)
	must(t, err)
	sum, err := s.Commit(t.Context(), f)
	must(t, err)
	return sum
}

func random(t *testing.T, n int) []byte {
	t.Helper()
	b := make([]byte, n)
	_, err := rand.Read(b)
	must(t, err)
	return b
}

// disk makes a file system of some MiB in a file, and mounts it.
func disk(t *testing.T, mib int) (mountpoint, file string) {
	t.Helper()
	needRoot(t, "mkfs.ext4", "mount")
	file = filepath.Join(t.TempDir(), "disk")
	must(t, os.WriteFile(file, nil, 0o600))
	must(t, os.Truncate(file, int64(mib)<<20))
	run(t, "mkfs.ext4", "-q", file)
	return mount(t, file), file
}

func mount(t *testing.T, file string) string {
	t.Helper()
	dir := t.TempDir()
	run(t, "mount", "-o", "loop", file, dir)
	t.Cleanup(func() {
		if err := unix.Unmount(dir, unix.MNT_DETACH); err != nil {
			t.Error(err)
		}
	})
	return dir
}

func TestScrubFinds(t *testing.T) {
	const size = 3<<20 + 12345 // no multiple of a page
	for name, harm := range map[string]func(path string) error{
		"a flipped bit": func(path string) error {
			f, err := os.OpenFile(path, os.O_RDWR, 0)
			if err != nil {
				return err
			}
			b := make([]byte, 1)
			_, err = f.ReadAt(b, size-1)
			b[0] ^= 1
			_, err2 := f.WriteAt(b, size-1)
			return errors.Join(err, err2, f.Close())
		},
		"a cut":    func(path string) error { return os.Truncate(path, 1<<20) },
		"nothing":  func(path string) error { return os.Truncate(path, 0) },
		"a growth": func(path string) error { return os.Truncate(path, size+1) },
		"a hole":   os.Remove,
	} {
		t.Run(name, func(t *testing.T) {
			s, err := image.Open(t.TempDir())
			must(t, err)
			good := random(t, size)
			sum := keep(t, s, good)
			read := 0
			must(t, s.Scrub(t.Context(), sum, func(_ context.Context, n int) error { read += n; return nil }))
			if read < size {
				t.Errorf("%d bytes were announced of %d", read, size)
			}
			must(t, harm(s.Path(sum)))
			if err := s.Scrub(t.Context(), sum, free); !image.IsDamage(err) {
				t.Errorf("got %v", err)
			}
			path, err := s.SetAside(sum)
			must(t, err)
			all, err := s.List()
			must(t, err)
			if s.Has(sum) || len(all) != 0 {
				t.Errorf("set aside, and there: %v", all)
			}
			if _, err := os.Stat(path); err != nil && name != "a hole" {
				t.Errorf("the damaged file is not kept: %v", err)
			}
			// It is still aside for the next process, which removes drafts only.
			next, err := image.Open(filepath.Dir(path))
			must(t, err)
			if aside, err := next.Aside(); err != nil || next.Has(sum) || len(aside) == 0 && name != "a hole" {
				t.Errorf("the next process: aside %v, %v; has it: %t", aside, err, next.Has(sum))
			}
			if keep(t, s, good) != sum || !s.Has(sum) {
				t.Error("committed anew, and not there")
			}
			must(t, s.Scrub(t.Context(), sum, free))
			if left := list(t, filepath.Dir(path)); len(left) != 1 {
				t.Errorf("left behind: %v", left)
			}
		})
	}
}

// TestScrubIsNoDamage: what stops a scrub, or comes in its way, says nothing of the artifact.
func TestScrubIsNoDamage(t *testing.T) {
	s, err := image.Open(t.TempDir())
	must(t, err)
	good := random(t, 3<<20)
	sum := keep(t, s, good)
	stop := errors.New("stop")
	err = s.Scrub(t.Context(), sum, func(context.Context, int) error { return stop })
	if !errors.Is(err, stop) || image.IsDamage(err) {
		t.Errorf("got %v", err)
	}
	if image.IsDamage(fmt.Errorf("open: %w", unix.EMFILE)) || image.IsDamage(nil) {
		t.Error("too many open files are no damage, nor is nothing")
	}
	must(t, os.Truncate(s.Path(sum), 5))
	err = s.Scrub(t.Context(), sum, func(context.Context, int) error {
		if fileSize(t, s.Path(sum)) == 5 {
			keep(t, s, good)
		}
		return nil
	})
	if err != nil || !s.Has(sum) {
		t.Errorf("a file that was replaced while the old one was read: %v", err)
	}
}

func fileSize(t *testing.T, path string) int64 {
	t.Helper()
	st, err := os.Stat(path)
	must(t, err)
	return st.Size()
}

// TestScrubReadsTheDisk: what is in memory is good, what is on the disk cannot be read.
func TestScrubReadsTheDisk(t *testing.T) {
	dir, file := disk(t, 64)
	s, err := image.Open(filepath.Join(dir, "store"))
	must(t, err)
	sum := keep(t, s, random(t, 24<<20))
	must(t, s.Scrub(t.Context(), sum, free))
	must(t, s.Verify(t.Context(), sum)) // all of it is in memory now
	must(t, os.Truncate(file, 8<<20))
	if err := s.Verify(t.Context(), sum); err != nil {
		t.Errorf("not in memory after all, this proves nothing: %v", err)
	}
	if err := s.Scrub(t.Context(), sum, free); !errors.Is(err, unix.EIO) || !image.IsDamage(err) {
		t.Errorf("got %v", err)
	}
	must(t, os.Truncate(file, 64<<20))
}

// TestScrubLeavesThePageCache: who boots is not slowed down by having his image driven out of memory.
func TestScrubLeavesThePageCache(t *testing.T) {
	dir, _ := disk(t, 64)
	s, err := image.Open(filepath.Join(dir, "store"))
	must(t, err)
	hot, cold := keep(t, s, random(t, 16<<20)), keep(t, s, random(t, 16<<20))
	for _, sum := range []string{hot, cold} {
		dropPages(t, s.Path(sum))
	}
	must(t, s.Verify(t.Context(), hot)) // through memory
	before := [2]int{pages(t, s.Path(hot)), pages(t, s.Path(cold))}
	must(t, s.Scrub(t.Context(), hot, free))
	must(t, s.Scrub(t.Context(), cold, free))
	after := [2]int{pages(t, s.Path(hot)), pages(t, s.Path(cold))}
	t.Logf("pages in memory of a hot and of a cold artifact: before %v, after %v", before, after)
	if before[0] != 4096 || after != before {
		t.Errorf("pages of a hot and of a cold artifact: before %v, after %v", before, after)
	}
}

func dropPages(t *testing.T, path string) {
	t.Helper()
	f, err := os.Open(path)
	must(t, err)
	defer f.Close()
	must(t, f.Sync())
	must(t, unix.Fadvise(int(f.Fd()), 0, 0, unix.FADV_DONTNEED))
}

// pages counts the pages of a file that are in memory.
func pages(t *testing.T, path string) (n int) {
	t.Helper()
	f, err := os.Open(path)
	must(t, err)
	defer f.Close()
	size := int(fileSize(t, path))
	m, err := unix.Mmap(int(f.Fd()), 0, size, unix.PROT_READ, unix.MAP_SHARED)
	must(t, err)
	defer unix.Munmap(m)
	in := make([]byte, (size+4095)/4096)
	if _, _, e := unix.Syscall(unix.SYS_MINCORE, uintptr(unsafe.Pointer(&m[0])), uintptr(size), uintptr(unsafe.Pointer(&in[0]))); e != 0 {
		t.Fatal(e)
	}
	for _, b := range in {
		n += int(b & 1)
	}
	return n
}

// TestScrubWithoutDirectReads: the memory is dropped where the disk cannot be read around it, as on an
// overlay or a network file system; tmpfs is one that had no direct reads for long.
func TestScrubWithoutDirectReads(t *testing.T) {
	needRoot(t)
	dir := t.TempDir()
	must(t, unix.Mount("tmpfs", dir, "tmpfs", 0, "size=9m"))
	t.Cleanup(func() { must(t, unix.Unmount(dir, 0)) })
	s, err := image.Open(dir)
	must(t, err)
	sum := keep(t, s, random(t, 2<<20+77))
	must(t, s.Scrub(t.Context(), sum, free))
	must(t, os.Truncate(s.Path(sum), 2<<20))
	if err := s.Scrub(t.Context(), sum, free); !errors.Is(err, image.ErrMismatch) {
		t.Errorf("got %v", err)
	}
}

// TestStoreAfterAPowerCut: the disk as it is at that moment, mounted anew, has what was committed and
// nothing that was not. (Where Commit does not sync the file this fails, and where it does not sync
// the directory.)
func TestStoreAfterAPowerCut(t *testing.T) {
	dir, file := disk(t, 64)
	s, err := image.Open(filepath.Join(dir, "store"))
	must(t, err)
	half, err := s.Create()
	must(t, err)
	_, err = half.Write(random(t, 3<<20))
	must(t, err)
	must(t, half.Sync())
	sum := keep(t, s, random(t, 5<<20+1)) // the last: to sync any file is to sync all names on ext4

	after := filepath.Join(t.TempDir(), "after")
	copyFile(t, file, after)
	next, err := image.Open(filepath.Join(mount(t, after), "store"))
	must(t, err)
	if all, err := next.List(); err != nil || len(all) != 1 {
		t.Errorf("after the power cut there is %v, %v; want %s", all, err, sum)
	}
	must(t, next.Scrub(t.Context(), sum, free))
	if left := list(t, filepath.Dir(next.Path(sum))); len(left) != 1 {
		t.Errorf("after the power cut there is %v", left)
	}
}

func copyFile(t *testing.T, from, to string) {
	t.Helper()
	in, err := os.Open(from)
	must(t, err)
	defer in.Close()
	out, err := os.Create(to)
	must(t, err)
	_, err = io.Copy(out, in)
	must(t, errors.Join(err, out.Close()))
}

// TestSetAsideOnAReadOnlyDisk: the file cannot be moved, and is not held any more all the same.
func TestSetAsideOnAReadOnlyDisk(t *testing.T) {
	dir, _ := disk(t, 16)
	s, err := image.Open(dir)
	must(t, err)
	good := bytes.Repeat([]byte("good"), 1000)
	sum := keep(t, s, good)
	must(t, unix.Mount("", dir, "", unix.MS_REMOUNT|unix.MS_RDONLY, ""))
	if _, err := s.SetAside(sum); !errors.Is(err, unix.EROFS) || s.Has(sum) {
		t.Errorf("got %v; has it: %t", err, s.Has(sum))
	}
	must(t, unix.Mount("", dir, "", unix.MS_REMOUNT, ""))
	keep(t, s, good)
	if !s.Has(sum) {
		t.Error("committed anew, and not there")
	}
}

func TestRemoveAsideBreaksOff(t *testing.T) {
	s, err := image.Open(t.TempDir())
	must(t, err)
	sum := keep(t, s, random(t, 1<<20))
	sending, err := os.Open(s.Path(sum))
	must(t, err)
	defer sending.Close()
	_, err = s.SetAside(sum)
	must(t, err)
	must(t, s.RemoveAside(sum))
	must(t, s.RemoveAside(sum))
	if n, err := io.Copy(io.Discard, sending); n != 0 || err != nil {
		t.Errorf("%d bytes of a damaged artifact are still sent, %v", n, err)
	}
	if _, err := os.Stat(s.AsidePath(sum)); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("got %v", err)
	}
	if path, err := s.SetAside("../x"); err != nil || filepath.Dir(path) != filepath.Dir(s.Path(sum)) {
		t.Errorf("what is no hash: %s, %v", path, err)
	}
}
