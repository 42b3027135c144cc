package image_test

import (
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/clustervision/luna/image"
)

// plant makes files (and, with "-> target" behind the name, links; with "/", directories) in a tree.
func plant(t testing.TB, names ...string) string {
	t.Helper()
	tree := t.TempDir()
	for _, name := range names {
		name, target, link := strings.Cut(name, " -> ")
		path := filepath.Join(tree, name)
		must(t, os.MkdirAll(filepath.Dir(path), 0o755))
		switch {
		case link:
			must(t, os.Symlink(target, path))
		case strings.HasSuffix(name, "/"):
			must(t, os.MkdirAll(path, 0o755))
		default:
			must(t, os.WriteFile(path, []byte(name), 0o755))
		}
	}
	return tree
}

func TestKernels(t *testing.T) {
	tests := map[string]struct {
		files []string
		want  []string // version and image, below the tree
	}{
		"Debian": {
			[]string{"boot/vmlinuz-6.1.0-9-amd64", "boot/vmlinuz-6.1.0-10-amd64", "usr/lib/modules/6.1.0-9-amd64/", "usr/lib/modules/6.1.0-10-amd64/", "lib -> usr/lib"},
			[]string{"6.1.0-10-amd64 boot/vmlinuz-6.1.0-10-amd64", "6.1.0-9-amd64 boot/vmlinuz-6.1.0-9-amd64"},
		},
		"RHEL family": {
			[]string{"usr/lib/modules/5.14.0-70.13.1.el9_0.x86_64/vmlinuz", "usr/lib/modules/5.14.0-427.el9.x86_64/vmlinuz", "lib -> usr/lib", "boot/vmlinuz-0-rescue-abc"},
			[]string{
				"5.14.0-427.el9.x86_64 usr/lib/modules/5.14.0-427.el9.x86_64/vmlinuz",
				"5.14.0-70.13.1.el9_0.x86_64 usr/lib/modules/5.14.0-70.13.1.el9_0.x86_64/vmlinuz",
			},
		},
		"links are of the tree": {
			[]string{"lib -> /usr/lib", "boot/vmlinuz-1 -> /usr/lib/modules/1/vmlinuz", "usr/lib/modules/1/vmlinuz -> ../../../../../../store/k", "store/k"},
			[]string{"1 store/k"},
		},
		"modules without a kernel, a kernel without modules": {
			[]string{"boot/vmlinuz-1", "lib/modules/2/", "boot/vmlinuz-3", "lib/modules/3/", "lib/modules/4/vmlinuz -> /etc/passwd", "lib/modules/file"},
			[]string{"3 boot/vmlinuz-3"},
		},
		"no merged usr, both": {
			[]string{"lib/modules/1/vmlinuz", "usr/lib/modules/2/vmlinuz"},
			[]string{"2 usr/lib/modules/2/vmlinuz", "1 lib/modules/1/vmlinuz"},
		},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			tree := plant(t, tt.files...)
			kernels, err := image.Kernels(tree)
			must(t, err)
			var got []string
			for _, k := range kernels {
				rel, err := filepath.Rel(tree, k.Image)
				must(t, err)
				got = append(got, k.Version+" "+rel)
				if info, err := os.Stat(k.Modules); err != nil || !info.IsDir() {
					t.Errorf("the modules of %s: %v", k.Version, err)
				}
			}
			if diff := cmp.Diff(tt.want, got); diff != "" {
				t.Error(diff)
			}
		})
	}
}

func TestNoKernels(t *testing.T) {
	tree := plant(t, "lib/modules/2/", "boot/vmlinuz-1")
	_, err := image.Kernels(tree)
	want := "no kernels installed in '" + tree + "': install linux-image-amd64 (Debian) or kernel (RHEL family) in the image"
	if !errors.Is(err, image.ErrNoKernel) || err.Error() != want {
		t.Errorf("got %v, want %s", err, want)
	}
	for _, tree := range []string{"/nonexistent", "/etc/passwd"} {
		if _, err := image.Kernels(tree); err == nil || !strings.Contains(err.Error(), tree) {
			t.Errorf("%s: got %v", tree, err)
		}
	}
}

func TestKernelsNewestFirst(t *testing.T) {
	newest := []string{
		"6.12.12+deb13-amd64",
		"6.12.9+bpo-amd64",
		"6.10.0-1-amd64",
		"6.10.0-rc1-amd64",
		"6.9.0",
		"6.9.0-rc7",
		"6.1.0-0010-amd64",
		"6.1.0-9-cloud-amd64",
		"6.1.0-9-amd64",
		"6.1.0-0.deb11.5-amd64",
		"5.14.0-427.13.1.el9_4.x86_64",
		"5.14.0-427.el9.x86_64",
		"5.14.0-427.el9.x86_64+debug",
		"5.14.0-427.el9.x86_64+rt",
		"5.14.0-70.30.1.el9_0.x86_64",
		"4.18.0-553.el8_10.x86_64",
		"4.18.0-80.el8.x86_64",
	}
	// The two +variants of one kernel are in the order of their letters, the later the newer.
	newest[12], newest[13] = newest[13], newest[12]
	var files []string
	for _, v := range slices.Sorted(slices.Values(newest)) {
		files = append(files, "lib/modules/"+v+"/vmlinuz")
	}
	kernels, err := image.Kernels(plant(t, files...))
	must(t, err)
	var got []string
	for _, k := range kernels {
		got = append(got, k.Version)
	}
	if diff := cmp.Diff(newest, got); diff != "" {
		t.Error(diff)
	}
}
