package image

import (
	"cmp"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	securejoin "github.com/cyphar/filepath-securejoin"
)

// ErrNoKernel is what errors.Is finds where a tree has no kernel that a node could boot.
var ErrNoKernel = errors.New("no kernels installed")

// Kernel is a kernel that a tree has with its modules.
type Kernel struct {
	Version string // as uname -r tells it: "6.1.0-50-amd64", "5.14.0-427.13.1.el9_4.x86_64"
	Image   string // path of its bootable file on this machine, a regular file inside the tree
	Modules string // path of its modules' directory on this machine
}

// Kernels lists the kernels of a tree, the newest first. A kernel is a directory of modules,
// lib/modules/VERSION or usr/lib/modules/VERSION, and an image, boot/vmlinuz-VERSION (Debian, and
// the RHEL family after kernel-install has run) or vmlinuz among the modules (the RHEL family's
// package). Symbolic links are followed as a chroot would, never out of the tree.
func Kernels(tree string) ([]Kernel, error) {
	if info, err := os.Stat(tree); err != nil {
		return nil, fmt.Errorf("look for kernels: %w", err)
	} else if !info.IsDir() {
		return nil, fmt.Errorf("look for kernels: '%s' is not a directory", tree)
	}
	var kernels []Kernel
	for _, parent := range []string{"lib/modules", "usr/lib/modules"} {
		dir, err := securejoin.SecureJoin(tree, parent)
		if err != nil {
			return nil, fmt.Errorf("look for kernels in '%s': %w", tree, err)
		}
		versions, err := os.ReadDir(dir)
		if err != nil && !errors.Is(err, os.ErrNotExist) {
			return nil, fmt.Errorf("look for kernels: %w", err)
		}
		for _, v := range versions {
			if k, ok := kernelIn(tree, parent, v.Name()); ok {
				kernels = append(kernels, k)
			}
		}
	}
	if len(kernels) == 0 {
		return nil, fmt.Errorf("%w in '%s': install linux-image-amd64 (Debian) or kernel (RHEL family) in the image", ErrNoKernel, tree)
	}
	slices.SortStableFunc(kernels, func(a, b Kernel) int { return compareVersions(b.Version, a.Version) })
	// Where /lib is a link to /usr/lib, both directories are one.
	return slices.CompactFunc(kernels, func(a, b Kernel) bool { return a.Version == b.Version }), nil
}

func kernelIn(tree, parent, version string) (Kernel, bool) {
	modules, err := securejoin.SecureJoin(tree, filepath.Join(parent, version))
	if err != nil {
		return Kernel{}, false
	}
	if info, err := os.Lstat(modules); err != nil || !info.IsDir() {
		return Kernel{}, false
	}
	for _, image := range []string{"boot/vmlinuz-" + version, filepath.Join(parent, version, "vmlinuz")} {
		if file, ok := fileIn(tree, image); ok {
			return Kernel{Version: version, Image: file, Modules: modules}, true
		}
	}
	return Kernel{}, false
}

// fileIn resolves a path inside the tree and tells whether a regular file is there.
func fileIn(tree, path string) (file string, ok bool) {
	file, err := securejoin.SecureJoin(tree, path)
	if err != nil {
		return "", false
	}
	info, err := os.Lstat(file)
	return file, err == nil && info.Mode().IsRegular()
}

// compareVersions orders kernel versions as their packagers mean them: runs of digits by number,
// other runs by letter, digits after letters (6.1.0-rc3 before 6.1.0-1), and a release candidate
// before what it is a candidate of. Of two that differ only behind a '+' the plain one counts as
// newer: 5.14.0-427.el9.x86_64+debug is there to be chosen by name, not by default.
func compareVersions(a, b string) int {
	baseA, variantA, _ := strings.Cut(a, "+")
	baseB, variantB, _ := strings.Cut(b, "+")
	if c := compareRuns(versionRuns(baseA), versionRuns(baseB)); c != 0 {
		return c
	}
	if variantA == "" || variantB == "" {
		return cmp.Compare(len(variantB), len(variantA))
	}
	return cmp.Or(compareRuns(versionRuns(variantA), versionRuns(variantB)), cmp.Compare(a, b))
}

func compareRuns(a, b []string) int {
	isNumber := func(s string) bool { return s[0] >= '0' && s[0] <= '9' }
	for i := range min(len(a), len(b)) {
		x, y := a[i], b[i]
		switch {
		case isNumber(x) && isNumber(y):
			x, y = strings.TrimLeft(x, "0"), strings.TrimLeft(y, "0")
			if c := cmp.Or(cmp.Compare(len(x), len(y)), cmp.Compare(x, y)); c != 0 {
				return c
			}
		case isNumber(x):
			return 1
		case isNumber(y):
			return -1
		default:
			if c := cmp.Compare(x, y); c != 0 {
				return c
			}
		}
	}
	switch {
	case len(a) > len(b) && a[len(b)] == "rc":
		return -1
	case len(b) > len(a) && b[len(a)] == "rc":
		return 1
	}
	return cmp.Compare(len(a), len(b))
}

// versionRuns splits a version into its runs of digits and of letters; what is neither separates.
func versionRuns(v string) []string {
	var runs []string
	class := func(c rune) int {
		switch {
		case c >= '0' && c <= '9':
			return 1
		case c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z':
			return 2
		}
		return 0
	}
	last := 0
	for _, c := range v {
		now := class(c)
		if now != 0 && now == last {
			runs[len(runs)-1] += string(c)
		} else if now != 0 {
			runs = append(runs, string(c))
		}
		last = now
	}
	return runs
}
