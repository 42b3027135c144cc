package image

import (
	"bufio"
	"bytes"
	"compress/bzip2"
	"compress/gzip"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"strconv"

	"github.com/klauspost/compress/zstd"
)

// installerPath is where the dracut module puts the installer, in the initrd.
const installerPath = "usr/bin/luna-install"

// OwnInitrd finds the initrd that the image's own tools made for a kernel version, and returns its path
// on this machine, that of a regular file inside the tree. Links are followed as a chroot would. Where
// there is none the error tells what makes one.
//
// A node that boots it is not installed by it unless [HasInstaller] tells so.
func OwnInitrd(tree, version string) (string, error) {
	for _, name := range []string{
		"boot/initramfs-" + version + ".img", // RHEL family
		"boot/initrd.img-" + version,         // Debian
		"boot/initrd-" + version,             // SUSE
	} {
		if file, ok := fileIn(tree, name); ok {
			return file, nil
		}
	}
	return "", fmt.Errorf("there is no initrd for kernel '%[2]s' in %[1]s: make /boot/initramfs-%[2]s.img in the image, with dracut, or have luna build one",
		filepath.Clean(tree), version)
}

// HasInstaller tells whether luna-install is in an initrd. It reads the archives in it as the kernel
// does (Documentation/driver-api/early-userspace/buffer-format.rst): microcode first, uncompressed,
// then the rest, which for xz, lzma, lz4 and lzo takes the tool of that name on this machine. An
// error means that it could not tell.
func HasInstaller(ctx context.Context, initrd string) (bool, error) {
	f, err := os.Open(initrd)
	if err != nil {
		return false, fmt.Errorf("look into an initrd: %w", err)
	}
	defer f.Close()
	found, err := findInArchives(ctx, f)
	if err != nil {
		return false, fmt.Errorf("look into the initrd '%s': %w", initrd, err)
	}
	return found, nil
}

// findInArchives walks a stream of archives, of which the last may be compressed.
func findInArchives(ctx context.Context, r io.Reader) (found bool, err error) {
	in := bufio.NewReaderSize(r, 64<<10)
	for {
		switch b, err := in.Peek(1); {
		case errors.Is(err, io.EOF):
			return false, nil
		case err != nil:
			return false, err
		case b[0] == 0: // between archives
			_, _ = in.Discard(1)
			continue
		}
		magic, err := in.Peek(6)
		if err != nil && !errors.Is(err, io.EOF) {
			return false, err
		}
		if !bytes.HasPrefix(magic, []byte("07070")) {
			return findInCompressed(ctx, magic, in)
		}
		if found, err := findInCPIO(in); found || err != nil {
			return found, err
		}
		if err := context.Cause(ctx); err != nil {
			return false, err
		}
	}
}

// findInCPIO reads one archive in the format "newc", to its end or to the installer.
func findInCPIO(in *bufio.Reader) (found bool, err error) {
	const headerSize, sizeField, nameField, fieldSize, longestName = 110, 6, 11, 8, 4096
	for {
		var header [headerSize]byte
		if _, err := io.ReadFull(in, header[:]); err != nil {
			return false, fmt.Errorf("it is truncated: %w", err)
		}
		field := func(i int) int64 {
			n, ferr := strconv.ParseInt(string(header[6+i*fieldSize:6+(i+1)*fieldSize]), 16, 64)
			err = errors.Join(err, ferr)
			return n
		}
		size, nameSize := field(sizeField), field(nameField)
		if err != nil || nameSize < 1 || nameSize > longestName || !bytes.HasPrefix(header[:], []byte("07070")) {
			return false, errors.New("it is corrupt")
		}
		name := make([]byte, nameSize+-(headerSize+nameSize)&3)
		if _, err := io.ReadFull(in, name); err != nil {
			return false, fmt.Errorf("it is truncated: %w", err)
		}
		switch path.Clean(string(name[:nameSize-1])) {
		case installerPath:
			return true, nil
		case "TRAILER!!!":
			return false, nil
		}
		if _, err := io.CopyN(io.Discard, in, size+-size&3); err != nil {
			return false, fmt.Errorf("it is truncated: %w", err)
		}
	}
}

// findInCompressed reads the compressed part of an initrd, known by how it begins.
func findInCompressed(ctx context.Context, magic []byte, in *bufio.Reader) (found bool, err error) {
	begins := func(with string) bool { return bytes.HasPrefix(magic, []byte(with)) }
	switch {
	case begins("\x1f\x8b"):
		z, err := gzip.NewReader(in)
		if err != nil {
			return false, err
		}
		z.Multistream(false) // what follows a member may be zeros, or anything
		if found, err := findInArchives(ctx, z); found || err != nil {
			return found, err
		}
		return findInArchives(ctx, in)
	case begins("\x28\xb5\x2f\xfd"):
		z, err := zstd.NewReader(in, zstd.WithDecoderConcurrency(1))
		if err != nil {
			return false, err
		}
		defer z.Close()
		return findInArchives(ctx, z)
	case begins("BZh"):
		return findInArchives(ctx, bzip2.NewReader(in))
	case begins("\xfd7zXZ\x00"), begins("\x5d\x00\x00"):
		return findThrough(ctx, in, "xz", "-dc")
	case begins("\x02\x21\x4c\x18"), begins("\x04\x22\x4d\x18"):
		return findThrough(ctx, in, "lz4", "-dc")
	case begins("\x89LZO"):
		return findThrough(ctx, in, "lzop", "-dc")
	}
	return false, fmt.Errorf("it is compressed in a way that is not known (%x)", magic)
}

// findThrough has a tool decompress.
func findThrough(ctx context.Context, in io.Reader, tool string, args ...string) (found bool, err error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	cmd := exec.CommandContext(ctx, tool, args...)
	cmd.Stdin = in
	var said lastLines
	cmd.Stderr = &said
	out, err := cmd.StdoutPipe()
	if err != nil {
		return false, err
	}
	if err := start(cmd); errors.Is(err, exec.ErrNotFound) {
		return false, fmt.Errorf("%s is missing on this machine: install it", tool)
	} else if err != nil {
		return false, err
	}
	found, err = findInArchives(ctx, out)
	if found || err != nil {
		cancel() // it would wait for a reader
	}
	if werr := cmd.Wait(); !found && err == nil && werr != nil {
		return false, fmt.Errorf("%s: %w: %s", tool, werr, said.String())
	}
	return found, err
}
