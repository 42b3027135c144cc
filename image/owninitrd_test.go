package image_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/clustervision/luna/image"
)

func TestOwnInitrd(t *testing.T) {
	tests := map[string]struct {
		files []string
		want  string // below the tree
	}{
		"RHEL family":         {[]string{"boot/initramfs-5.14.img", "boot/initramfs-5.14kdump.img"}, "boot/initramfs-5.14.img"},
		"Debian":              {[]string{"boot/initrd.img-5.14", "boot/initrd.img-5.15"}, "boot/initrd.img-5.14"},
		"SUSE":                {[]string{"boot/initrd-5.14 -> /usr/lib/initrd", "usr/lib/initrd"}, "usr/lib/initrd"},
		"none":                {[]string{"boot/initramfs-5.15.img"}, ""},
		"a link out of it":    {[]string{"boot/initramfs-5.14.img -> ../../../../../../../../etc/passwd"}, ""},
		"a directory with it": {[]string{"boot/initramfs-5.14.img/"}, ""},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			tree := plant(t, tt.files...)
			got, err := image.OwnInitrd(tree, "5.14")
			if tt.want != "" && (err != nil || got != filepath.Join(tree, tt.want)) {
				t.Errorf("got %s, %v", got, err)
			}
			if want := "there is no initrd for kernel '5.14' in " + tree + ": make /boot/initramfs-5.14.img in the image"; tt.want == "" && (err == nil || !strings.Contains(err.Error(), want)) {
				t.Errorf("got %s, %v", got, err)
			}
		})
	}
}

// The archives are made by cpio and compressed by the tools that dracut uses.
func TestHasInstaller(t *testing.T) {
	needRoot(t, "cpio", "gzip", "zstd", "bzip2", "xz", "lz4")
	with := plant(t, "usr/bin/luna-install", "init", "usr/lib/firmware/large")
	must(t, os.WriteFile(filepath.Join(with, "usr/lib/firmware/large"), make([]byte, 3<<20), 0o644))
	without := plant(t, "usr/bin/luna", "init", "usr/share/doc/usr/bin/luna-install")
	microcode := plant(t, "early_cpio", "kernel/x86/microcode/GenuineIntel.bin")
	dir := t.TempDir()
	archive := func(name, tree, command string) string {
		file := filepath.Join(dir, name)
		run(t, "sh", "-c", "cd "+tree+" && find . | cpio -o -H newc --quiet "+command+" >"+file)
		return file
	}
	early := archive("early", microcode, "")
	for name, command := range map[string]string{
		"plain": "", "gzip": "| gzip -9", "pigz": "| { gzip; printf '\\0\\0\\0\\0'; }", "zstd": "| zstd -q -15", "bzip2": "| bzip2",
		"xz": "| xz --check=crc32", "lzma": "| xz --format=lzma", "lz4": "| lz4 -l -9 -q", "lz4 of users": "| lz4 -q",
	} {
		for tree, want := range map[string]bool{with: true, without: false} {
			t.Run(fmt.Sprint(name, " ", want), func(t *testing.T) {
				bare := archive("bare", tree, command)
				whole := filepath.Join(dir, "whole")
				run(t, "sh", "-c", "cat "+early+" "+bare+" >"+whole)
				for _, initrd := range []string{bare, whole} {
					if got, err := image.HasInstaller(t.Context(), initrd); err != nil || got != want {
						t.Errorf("%s: got %v, %v", filepath.Base(initrd), got, err)
					}
				}
			})
		}
	}

	tests := map[string]struct{ command, want string }{
		"truncated":            {"| head -c 300", "it is truncated"},
		"truncated, xz":        {"| xz | head -c 100", "it is truncated"},
		"truncated, zstd":      {"| zstd -q | head -c 100", "unexpected EOF"},
		"corrupt":              {"| sed 's/070701/07x701/2'", "it is corrupt"},
		"of an unknown format": {"| tr 0-9 a-j", "compressed in a way that is not known ("},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			initrd := archive("bad", without, tt.command)
			if got, err := image.HasInstaller(t.Context(), initrd); got || err == nil || !strings.Contains(err.Error(), tt.want) || !strings.Contains(err.Error(), initrd) {
				t.Errorf("got %v, %v, want %q", got, err, tt.want)
			}
		})
	}
	t.Run("no tool", func(t *testing.T) {
		initrd := archive("xz", with, "| xz")
		t.Setenv("PATH", t.TempDir())
		if _, err := image.HasInstaller(t.Context(), initrd); err == nil || !strings.Contains(err.Error(), "xz is missing on this machine: install it") {
			t.Error(err)
		}
	})
	t.Run("stopped", func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		if _, err := image.HasInstaller(ctx, early); !errors.Is(err, context.Canceled) {
			t.Error(err)
		}
	})
}
