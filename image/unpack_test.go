package image_test

import (
	"archive/tar"
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/iotest"

	"github.com/klauspost/compress/zstd"
	"golang.org/x/sys/unix"
	"pgregory.net/rapid"

	"github.com/clustervision/luna/image"
)

// artifactOf frames what Pack would never write, by the description in the package comment.
func artifactOf(t testing.TB, tarBytes []byte) []byte {
	t.Helper()
	enc, err := zstd.NewWriter(nil)
	must(t, err)
	var out []byte
	for rest := tarBytes; len(rest) > 0; {
		n := min(len(rest), 4<<20)
		frame := enc.EncodeAll(rest[:n], nil)
		for _, word := range []int{0x184D2A50, 4, len(frame)} {
			out = binary.LittleEndian.AppendUint32(out, uint32(word))
		}
		out, rest = append(out, frame...), rest[n:]
	}
	for _, word := range []int{0x184D2A5E, 8, len(tarBytes), 0} {
		out = binary.LittleEndian.AppendUint32(out, uint32(word))
	}
	return out
}

func tarOf(t testing.TB, headers ...tar.Header) []byte {
	t.Helper()
	var b bytes.Buffer
	tw := tar.NewWriter(&b)
	for _, h := range headers {
		h.Mode = 0o644
		content := "content"
		if h.Typeflag == tar.TypeReg {
			h.Size = int64(len(content))
		}
		must(t, tw.WriteHeader(&h))
		if h.Typeflag == tar.TypeReg {
			_, err := tw.Write([]byte(content))
			must(t, err)
		}
	}
	must(t, tw.Close())
	return b.Bytes()
}

func TestUnpackNeverLeavesItsDestination(t *testing.T) {
	dir := func(name string) tar.Header { return tar.Header{Typeflag: tar.TypeDir, Name: name} }
	reg := func(name string) tar.Header { return tar.Header{Typeflag: tar.TypeReg, Name: name} }
	sym := func(name, to string) tar.Header {
		return tar.Header{Typeflag: tar.TypeSymlink, Name: name, Linkname: to}
	}
	hard := func(name, to string) tar.Header {
		return tar.Header{Typeflag: tar.TypeLink, Name: name, Linkname: to}
	}
	tests := map[string]struct {
		entries []tar.Header
		want    string
	}{
		"parent":                      {[]tar.Header{reg("../evil")}, "leads out"},
		"parent in the middle":        {[]tar.Header{dir("a/"), reg("a/../../evil")}, "leads out"},
		"absolute":                    {[]tar.Header{reg("/OUTSIDE/evil")}, "leads out"},
		"parent directory":            {[]tar.Header{dir("../")}, "leads out"},
		"through an absolute link":    {[]tar.Header{sym("a", "/OUTSIDE"), reg("a/evil")}, "'a' on the way to it is not a directory"},
		"through a relative link":     {[]tar.Header{sym("a", "../outside"), reg("a/evil")}, "'a' on the way to it is not a directory"},
		"a large file through a link": {[]tar.Header{sym("a", "../outside"), sym("a/evil", "x")}, "'a' on the way to it is not a directory"},
		"a directory over a link":     {[]tar.Header{sym("a", "../outside"), dir("a/"), reg("a/evil")}, "a/: something that is not a directory"},
		"a link over a directory":     {[]tar.Header{dir("a/"), sym("a", "../outside"), reg("a/evil")}, "a: replace what is in its place"},
		"a file over a link":          {[]tar.Header{sym("evil", "../outside/evil"), reg("evil")}, ""},
		"a hard link from outside":    {[]tar.Header{hard("a", "../outside/secret")}, "leads out"},
		"a hard link by a link":       {[]tar.Header{sym("l", "../outside"), hard("a", "l/secret")}, "'l' on the way to it is not a directory"},
		"a hard link to a link":       {[]tar.Header{sym("l", "../outside/secret"), hard("a", "l")}, ""},
		"a hard link out":             {[]tar.Header{reg("a"), hard("../outside/evil", "a")}, "leads out"},
		"the top as a file":           {[]tar.Header{reg(".")}, "replace what is in its place"},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			base := t.TempDir()
			outside, dest := filepath.Join(base, "outside"), filepath.Join(base, "dest")
			must(t, os.Mkdir(outside, 0o755))
			must(t, os.Mkdir(dest, 0o755))
			must(t, os.WriteFile(filepath.Join(outside, "secret"), []byte("secret"), 0o600))
			for i := range tt.entries {
				tt.entries[i].Name = strings.Replace(tt.entries[i].Name, "/OUTSIDE", outside, 1)
				tt.entries[i].Linkname = strings.Replace(tt.entries[i].Linkname, "/OUTSIDE", outside, 1)
			}
			before := look(t, outside)
			_, err := image.Unpack(t.Context(), bytes.NewReader(artifactOf(t, tarOf(t, tt.entries...))), dest,
				image.UnpackOptions{Unprivileged: true})
			if tt.want == "" && err != nil || tt.want != "" && (err == nil || !strings.Contains(err.Error(), tt.want)) {
				t.Errorf("got %v, want %q", err, tt.want)
			}
			if after := look(t, outside); fmt.Sprint(after) != fmt.Sprint(before) {
				t.Errorf("outside changed:\n%v\n%v", before, after)
			}
			if _, err := os.Lstat(filepath.Join(base, "evil")); err == nil {
				t.Error("a file was made beside the destination")
			}
		})
	}
}

// randomTree holds some chunks of bytes that do not compress, so that the artifact has several frames.
func randomTree(t testing.TB) string {
	tree := t.TempDir()
	rng := rand.New(rand.NewPCG(1, 2))
	for i := range 40 {
		b := make([]byte, rng.IntN(800_000))
		for j := range b {
			b[j] = byte(rng.Uint32())
		}
		must(t, os.WriteFile(filepath.Join(tree, fmt.Sprint("f", i)), b, 0o644))
	}
	return tree
}

func TestUnpackRefusesTruncatedAndCorrupt(t *testing.T) {
	artifact, _ := pack(t, randomTree(t), image.PackOptions{})
	opts := image.UnpackOptions{Unprivileged: true}
	refuse := func(what string, b []byte, want string) {
		t.Helper()
		_, err := image.Unpack(t.Context(), bytes.NewReader(b), t.TempDir(), opts)
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: got %v, want %q", what, err, want)
		}
	}
	lengths := []int{0, 1, 11, 12, 13, len(artifact) / 2, len(artifact) - 17, len(artifact) - 16, len(artifact) - 1}
	for at := 0; binary.LittleEndian.Uint32(artifact[at:]) == 0x184D2A50; { // every border between frames
		lengths = append(lengths, at)
		at += 12 + int(binary.LittleEndian.Uint32(artifact[at+8:]))
	}
	for _, n := range lengths {
		refuse(fmt.Sprintf("cut to %d of %d bytes", n, len(artifact)), artifact[:n], "truncated")
	}
	refuse("longer", append(bytes.Clone(artifact), 0), "bytes after its end")
	refuse("no artifact", []byte("#!/bin/sh -- surely not an artifact"), "no frame starts with")
	rng := rand.New(rand.NewPCG(3, 4))
	for range 25 {
		b := bytes.Clone(artifact)
		at := rng.IntN(len(b))
		b[at] ^= byte(1 << rng.IntN(8))
		if at >= 4 && at < 8 {
			continue
		}
		refuse(fmt.Sprintf("a bit flipped at %d", at), b, "artifact is")
	}
	// A frame left out: each frame is sound, the stream is not.
	second := 12 + int(binary.LittleEndian.Uint32(artifact[8:]))
	third := second + 12 + int(binary.LittleEndian.Uint32(artifact[second+8:]))
	refuse("a frame left out", append(bytes.Clone(artifact[:second]), artifact[third:]...), "artifact is")

	broken := errors.New("the network is down")
	_, err := image.Unpack(t.Context(), iotest.ErrReader(broken), t.TempDir(), opts)
	if !errors.Is(err, broken) {
		t.Errorf("got %v, want the reader's error", err)
	}
	if _, err := image.Unpack(t.Context(), iotest.HalfReader(bytes.NewReader(artifact)), t.TempDir(), opts); err != nil {
		t.Errorf("in small pieces: %v", err)
	}
}

// A tar that ends without its two empty blocks, or in the middle of a file, inside sound frames.
func TestUnpackRefusesATarCutInside(t *testing.T) {
	whole := tarOf(t, tar.Header{Typeflag: tar.TypeReg, Name: "a"}, tar.Header{Typeflag: tar.TypeReg, Name: "b"})
	for _, n := range []int{100, 512, 515, 1024 + 512, 1024 + 515} {
		_, err := image.Unpack(t.Context(), bytes.NewReader(artifactOf(t, whole[:n])), t.TempDir(), image.UnpackOptions{Unprivileged: true})
		if err == nil {
			t.Errorf("a tar cut to %d bytes was taken", n)
		}
	}
}

func TestUnpackToAFullDisk(t *testing.T) {
	needRoot(t)
	artifact, _ := pack(t, randomTree(t), image.PackOptions{})
	dest := t.TempDir()
	must(t, unix.Mount("tmpfs", dest, "tmpfs", 0, "size=2m"))
	t.Cleanup(func() { must(t, unix.Unmount(dest, 0)) })
	_, err := image.Unpack(t.Context(), bytes.NewReader(artifact), dest, image.UnpackOptions{})
	if !errors.Is(err, unix.ENOSPC) || !strings.Contains(err.Error(), dest) || !strings.Contains(err.Error(), "bytes fitted") {
		t.Errorf("got %v, want: no space, where, how much fitted", err)
	}
}

// A reader that waits for more must not keep a failure back.
func TestUnpackFailsWhileItsReaderWaits(t *testing.T) {
	needRoot(t)
	artifact, _ := pack(t, randomTree(t), image.PackOptions{})
	full := t.TempDir()
	must(t, unix.Mount("tmpfs", full, "tmpfs", 0, "size=1m"))
	t.Cleanup(func() { must(t, unix.Unmount(full, 0)) })
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	for _, c := range []struct {
		dest string
		want error
	}{{full, unix.ENOSPC}, {t.TempDir(), context.Canceled}} {
		r, w := io.Pipe()
		go func() {
			_, err := w.Write(artifact[:len(artifact)-20])
			if err == nil {
				cancel() // all is read, and the reader waits for the rest
			}
		}()
		if _, err := image.Unpack(ctx, r, c.dest, image.UnpackOptions{}); !errors.Is(err, c.want) {
			t.Errorf("got %v, want %v", err, c.want)
		}
	}
}

// What a file system cannot hold is counted, not fatal: ramfs has no extended attributes.
func TestUnpackCountsLostAttributes(t *testing.T) {
	tree := everyKind(t)
	artifact, _ := pack(t, tree, image.PackOptions{Exclude: []string{"lastlog"}})
	dest := t.TempDir()
	must(t, unix.Mount("ramfs", dest, "ramfs", 0, ""))
	t.Cleanup(func() { must(t, unix.Unmount(dest, 0)) })
	sum, err := image.Unpack(t.Context(), bytes.NewReader(artifact), dest, image.UnpackOptions{})
	if err != nil || sum.LostXattrs == 0 {
		t.Errorf("got %v and %d lost attributes", err, sum.LostXattrs)
	}
}

func TestRandomTreesComeBack(t *testing.T) {
	needRoot(t)
	name := rapid.StringMatching(`[-a-zA-Z0-9._ =%\\\n\x80-\xff]{1,60}`).Filter(func(s string) bool { return s != "." && s != ".." })
	rapid.Check(t, func(rt *rapid.T) {
		base, err := os.MkdirTemp(t.TempDir(), "")
		must(t, err)
		defer os.RemoveAll(base)
		tree, dest := filepath.Join(base, "tree"), filepath.Join(base, "dest")
		must(t, os.Mkdir(tree, 0o755))
		must(t, os.Mkdir(dest, 0o755))
		dirs, files := []string{tree}, []string{}
		for range rapid.IntRange(0, 40).Draw(rt, "entries") {
			path := filepath.Join(rapid.SampledFrom(dirs).Draw(rt, "in"), name.Draw(rt, "name"))
			if _, err := os.Lstat(path); err == nil {
				continue
			}
			switch kind := rapid.IntRange(0, 5).Draw(rt, "kind"); {
			case kind == 0:
				must(t, os.Mkdir(path, 0o755))
				dirs = append(dirs, path)
			case kind == 1:
				must(t, os.Symlink(name.Draw(rt, "target"), path))
			case kind == 2 && len(files) > 0:
				must(t, os.Link(rapid.SampledFrom(files).Draw(rt, "twin"), path))
				continue
			case kind == 3:
				size := rapid.Int64Range(0, 1<<20).Draw(rt, "size")
				pieces := map[int64]string{}
				for range rapid.IntRange(0, 4).Draw(rt, "pieces") {
					if size > 1 {
						pieces[rapid.Int64Range(0, size-1).Draw(rt, "at")] = "!"
					}
				}
				sparse(t, path, size, pieces)
			default:
				b := bytes.Repeat(rapid.SliceOfN(rapid.Byte(), 0, 2000).Draw(rt, "content"), rapid.IntRange(1, 300).Draw(rt, "times"))
				must(t, os.WriteFile(path, b, 0o644))
				files = append(files, path)
				must(t, unix.Chmod(path, rapid.Uint32Range(0, 0o7777).Draw(rt, "mode")))
			}
			times := []unix.Timespec{{Nsec: unix.UTIME_OMIT}, {
				Sec:  rapid.Int64Range(-1<<31, 1<<33).Draw(rt, "sec"),
				Nsec: rapid.Int64Range(0, 999_999_999).Draw(rt, "nsec"),
			}}
			must(t, unix.UtimesNanoAt(unix.AT_FDCWD, path, times, unix.AT_SYMLINK_NOFOLLOW))
		}
		artifact, packed := pack(t, tree, image.PackOptions{})
		unpacked, err := image.Unpack(t.Context(), bytes.NewReader(artifact), dest, image.UnpackOptions{})
		if err != nil || packed != unpacked {
			rt.Fatalf("%v: %+v and %+v", err, packed, unpacked)
		}
		sameTree(t, tree, dest)
		if t.Failed() {
			rt.FailNow()
		}
	})
}
