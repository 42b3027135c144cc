package image_test

import (
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/clustervision/luna/image"
)

// benchTree is what the benchmarks pack: LUNA_BENCH_TREE, or the Debian tree of the other tests.
func benchTree(b *testing.B) string {
	b.Helper()
	needRoot(b, "tar", "zstd")
	if tree := os.Getenv("LUNA_BENCH_TREE"); tree != "" {
		return tree
	}
	tree, _ := debianTree(b)
	return tree
}

// cpu is the processor time in seconds of this process and of the children that it waited for.
func cpu(b *testing.B) float64 {
	var sum float64
	for _, who := range []int{unix.RUSAGE_SELF, unix.RUSAGE_CHILDREN} {
		var u unix.Rusage
		must(b, unix.Getrusage(who, &u))
		sum += float64(u.Utime.Nano()+u.Stime.Nano()) / 1e9
	}
	return sum
}

// measure runs ours and the peer's in turns, so that both meet the same machine, and reports the
// processor time of each, and their ratio (below 1: ours takes less).
func measure(b *testing.B, ours, peer func()) {
	b.Helper()
	var oursCPU, peerCPU float64
	for b.Loop() {
		start := cpu(b)
		peer()
		middle := cpu(b)
		ours()
		peerCPU += middle - start
		oursCPU += cpu(b) - middle
	}
	n := float64(b.N)
	b.ReportMetric(oursCPU/n, "cpu-s/op")
	b.ReportMetric(peerCPU/n, "peer-cpu-s/op")
	b.ReportMetric(oursCPU/peerCPU, "cpu-ratio")
}

func shell(b *testing.B, command string, args ...string) {
	b.Helper()
	if out, err := exec.Command("sh", append([]string{"-c", command, "sh"}, args...)...).CombinedOutput(); err != nil {
		b.Fatalf("%s: %v\n%s", command, err, out)
	}
}

func BenchmarkPack(b *testing.B) {
	tree := benchTree(b)
	out := filepath.Join(b.TempDir(), "peer")
	var sum image.Summary
	measure(b, func() {
		f, err := os.Create(out + ".ours")
		must(b, err)
		sum, err = image.Pack(b.Context(), tree, f, image.PackOptions{})
		must(b, err)
		must(b, f.Close())
	}, func() {
		shell(b, `tar -c -C "$1" --one-file-system --numeric-owner --xattrs --acls --sort=name . | zstd -q -3 -T0 -o "$2" -f`, tree, out)
	})
	info, err := os.Stat(out)
	must(b, err)
	b.ReportMetric(float64(sum.Packed)/float64(info.Size()), "size-ratio")
}

func BenchmarkUnpack(b *testing.B) {
	artifact := filepath.Join(b.TempDir(), "artifact")
	f, err := os.Create(artifact)
	must(b, err)
	_, err = image.Pack(b.Context(), benchTree(b), f, image.PackOptions{})
	must(b, err)
	dest := b.TempDir()
	must(b, unix.Mount("tmpfs", dest, "tmpfs", 0, ""))
	b.Cleanup(func() { must(b, unix.Unmount(dest, 0)) })
	fresh := func() string {
		dir := filepath.Join(dest, "tree")
		must(b, os.RemoveAll(dir)) // in the time of both
		must(b, os.Mkdir(dir, 0o755))
		return dir
	}
	measure(b, func() {
		_, err := f.Seek(0, io.SeekStart)
		must(b, err)
		_, err = image.Unpack(b.Context(), f, fresh(), image.UnpackOptions{})
		must(b, err)
	}, func() {
		shell(b, `zstd -dcq "$1" | tar -x -C "$2" --numeric-owner --xattrs --acls`, artifact, fresh())
	})
	must(b, f.Close())
}
