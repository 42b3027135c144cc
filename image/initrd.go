package image

import (
	"bytes"
	"context"
	"debug/elf"
	"embed"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"

	securejoin "github.com/cyphar/filepath-securejoin"
	"golang.org/x/sys/unix"
)

//go:embed dracut/95luna
var dracutFiles embed.FS

const (
	moduleDir = "usr/lib/dracut/modules.d/95luna" // where dracut finds the module, in the tree
	buildDir  = ".luna"                           // where the build leaves its results, in the overlay
)

// Modules of dracut that Luna asks for, and that it keeps out unless an image asks for them:
// without systemd the initrd is half as large and the same on all distributions, and ifcfg is
// asked for by dracut-network's own configuration although nothing that it needs is there.
var (
	baseModules    = []string{"bash", "base", "udev-rules", "fs-lib", "luna"}
	omittedModules = []string{"systemd", "systemd-initrd", "systemd-networkd", "dracut-systemd", "ifcfg", "plymouth", "dbus"}
	// omittedDrivers are those of switch chips, with tens of megabytes of firmware.
	omittedDrivers = []string{"mlxsw", "prestera"}
)

// InitrdSpec tells BuildInitrd what to build.
type InitrdSpec struct {
	Tree          string // the image's tree; it is not written to
	KernelVersion string // one that Kernels finds in the tree
	Installer     string // the luna-install binary, static, of the tree's architecture
	// CA is what the installer trusts besides the authorities that the image knows: certificates as PEM.
	CA  string
	Out string // the file to make or replace; its directory exists; not in the tree
	// WorkDir is where some hundred megabytes go while building; not in the tree. Empty is [os.TempDir].
	WorkDir string
	// AddModules and OmitModules are modules of dracut. One that is added must be in the tree.
	AddModules, OmitModules []string
	// AddDrivers and OmitDrivers are kernel modules. One that is added and that this kernel does
	// not have is no error. One that is omitted is a regular expression, as dracut has it.
	AddDrivers, OmitDrivers []string
	// Log, if not nil, gets what dracut says.
	Log io.Writer
}

// BuildInitrd builds, with the dracut of the tree, an initrd that runs luna-install where the kernel
// is started with root=luna. It takes seconds. The same tree, installer and specification give the
// same bytes. It needs root and overlayfs.
//
// Where the tree lacks something the error tells which package has it.
func BuildInitrd(ctx context.Context, spec InitrdSpec) error {
	if err := buildInitrd(ctx, spec); err != nil {
		return fmt.Errorf("build the initrd of '%s': %w", spec.Tree, err)
	}
	return nil
}

func buildInitrd(ctx context.Context, spec InitrdSpec) error {
	kernel, err := spec.kernel()
	if err != nil {
		return err
	}
	if err := isStatic(spec.Installer); err != nil {
		return err
	}
	dracut, compress, err := findTools(spec.Tree, kernel)
	if err != nil {
		return err
	}
	work, err := spec.makeWork()
	if err != nil {
		return err
	}
	defer os.RemoveAll(work)
	upper := filepath.Join(work, "upper")
	if err := spec.placeModule(upper); err != nil {
		return err
	}

	var said bytes.Buffer
	log := io.Writer(&said)
	if spec.Log != nil {
		log = io.MultiWriter(&said, spec.Log)
	}
	err = runOver(ctx, spec.Tree, work, spec.command(dracut, compress), log)
	if noSpace.MatchString(said.String()) { // dracut goes on, and may end well
		return fmt.Errorf("no space left in %s, where dracut works: make room there, for the initrd unpacked: %w", filepath.Dir(work), unix.ENOSPC)
	}
	if err != nil {
		return fmt.Errorf("%w%s", err, lastWords(said.String()))
	}
	missing, err := os.ReadFile(filepath.Join(upper, buildDir, "missing"))
	if errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("dracut left Luna's module out%s", lastWords(said.String()))
	} else if err != nil {
		return err
	}
	if m := strings.Fields(string(missing)); len(m) > 0 {
		return fmt.Errorf("dracut has no module '%s', or it lacks something in the image: install its package, or take it off the list of the osimage%s",
			strings.Join(m, "', '"), lastWords(said.String()))
	}
	return moveFile(filepath.Join(upper, buildDir, "initrd"), spec.Out)
}

// kernel finds the kernel that the initrd is for.
func (spec InitrdSpec) kernel() (Kernel, error) {
	kernels, err := Kernels(spec.Tree)
	if err != nil {
		return Kernel{}, err
	}
	var versions []string
	for _, k := range kernels {
		if k.Version == spec.KernelVersion {
			if _, err := os.Stat(filepath.Join(k.Modules, "modules.dep")); err != nil {
				return k, fmt.Errorf("kernel %s has no modules.dep: run 'depmod %s' in the image", k.Version, k.Version)
			}
			return k, nil
		}
		versions = append(versions, k.Version)
	}
	return Kernel{}, fmt.Errorf("kernel '%s' is not installed: available are '%s'", spec.KernelVersion, strings.Join(versions, "', '"))
}

// makeWork makes the directory that holds the overlay's upper side, outside the tree.
func (spec InitrdSpec) makeWork() (string, error) {
	tree, err := filepath.EvalSymlinks(spec.Tree)
	if err != nil {
		return "", err
	}
	parent := spec.WorkDir
	if parent == "" {
		parent = os.TempDir()
	}
	for _, path := range []string{parent, filepath.Dir(spec.Out)} {
		real, err := filepath.EvalSymlinks(path)
		if err != nil {
			return "", err
		}
		if rel, err := filepath.Rel(tree, real); err == nil && filepath.IsLocal(rel) {
			return "", fmt.Errorf("'%s' is inside the tree: choose another place", path)
		}
	}
	return os.MkdirTemp(parent, "luna-initrd-")
}

// placeModule lays dracut's module and its neighbours where the overlay will show them.
func (spec InitrdSpec) placeModule(upper string) error {
	module := filepath.Join(upper, moduleDir)
	for _, dir := range []string{module, filepath.Join(upper, buildDir)} {
		if err := os.MkdirAll(dir, 0o755); err != nil {
			return err
		}
	}
	embedded, err := fs.Sub(dracutFiles, "dracut/95luna")
	if err != nil {
		return err
	}
	if err := os.CopyFS(module, embedded); err != nil {
		return fmt.Errorf("place dracut's module: %w", err)
	}
	for name, words := range map[string][]string{"drivers.added": spec.AddDrivers, "modules.added": spec.AddModules} {
		if err := os.WriteFile(filepath.Join(module, name), []byte(strings.Join(words, "\n")+"\n"), 0o644); err != nil {
			return err
		}
	}
	if err := os.WriteFile(filepath.Join(module, "ca.pem"), []byte(spec.CA), 0o644); err != nil {
		return err
	}
	installer := filepath.Join(module, "luna-install")
	if err := copyFile(spec.Installer, installer, 0o755); err != nil {
		return fmt.Errorf("place the installer: %w", err)
	}
	// CopyFS and the initrd keep times; those of this moment would be in no second build.
	return filepath.WalkDir(module, func(path string, _ fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if strings.HasSuffix(path, ".sh") {
			if err := os.Chmod(path, 0o755); err != nil {
				return err
			}
		}
		return os.Chtimes(path, epoch, epoch)
	})
}

// command is the command line of dracut. It goes into the initrd, so it must not change by chance.
func (spec InitrdSpec) command(dracut, compress string) []string {
	omit := slices.DeleteFunc(slices.Clone(omittedModules), func(m string) bool { return slices.Contains(spec.AddModules, m) })
	drivers := slices.DeleteFunc(slices.Clone(omittedDrivers), func(d string) bool {
		return slices.ContainsFunc(spec.AddDrivers, func(added string) bool { return strings.Contains(added, d) })
	})
	return []string{
		dracut, "--force", "--no-hostonly", "--no-hostonly-cmdline", "--nomdadmconf", "--nolvmconf", "--reproducible",
		"--kver", spec.KernelVersion,
		"--modules", strings.Join(slices.Concat(baseModules, spec.AddModules), " "),
		"--omit", strings.Join(slices.Concat(omit, spec.OmitModules), " "),
		"--omit-drivers", strings.Join(slices.Concat(drivers, spec.OmitDrivers), " "),
		"--compress", compress,
		"/" + buildDir + "/initrd",
	}
}

// isStatic refuses an installer that would not start in an initrd, where no libraries of its are.
func isStatic(path string) error {
	f, err := elf.Open(path)
	if err != nil {
		return fmt.Errorf("the installer '%s' is not a program: %w", path, err)
	}
	defer f.Close()
	if slices.ContainsFunc(f.Progs, func(p *elf.Prog) bool { return p.Type == elf.PT_INTERP }) {
		return fmt.Errorf("the installer '%s' is not static: build it with CGO_ENABLED=0", path)
	}
	return nil
}

// tool is a command that dracut runs, or puts into the initrd, and the packages that have it.
type tool struct{ command, debian, rhel string }

var tools = []tool{
	{"dracut", "dracut", "dracut"},
	{"bash", "bash", "bash"},
	{"cpio", "cpio", "cpio"},
	{"find", "findutils", "findutils"},
	{"sed", "sed", "sed"},
	{"modprobe", "kmod", "kmod"},
	{"udevadm", "udev", "systemd-udev"},
	{"mount", "mount", "util-linux"},
	{"switch_root", "util-linux", "util-linux"},
}

// findTools checks that all is in the tree that the build needs, and returns the path of dracut and
// the compressor: zstd where kernel and tree have it, else gzip, which every kernel has.
func findTools(tree string, kernel Kernel) (dracut, compress string, err error) {
	var missing []string
	need := func(t tool) {
		packages := t.debian
		if t.rhel != t.debian {
			packages = fmt.Sprintf("%s (Debian) or %s (RHEL family)", t.debian, t.rhel)
		}
		missing = append(missing, fmt.Sprintf("%s is missing: install %s in the image", t.command, packages))
	}
	for _, t := range tools {
		path, ok := commandIn(tree, buildPath, t.command)
		if !ok {
			need(t)
		}
		if t.command == "dracut" {
			dracut = path
		}
	}
	if _, ok := commandIn(tree, buildPath, "zstd"); ok && readsZstd(tree, kernel) {
		compress = "zstd -q -9 -T2" // -T2: the bytes are those of any number of threads but none
	} else if _, ok := commandIn(tree, buildPath, "gzip"); ok {
		compress = "gzip -n -6"
	} else {
		need(tool{"gzip", "gzip", "gzip"})
	}
	if len(missing) > 0 {
		return "", "", errors.New(strings.Join(missing, "; "))
	}
	return dracut, compress, nil
}

// commandIn finds a command in a tree, in the directories of a PATH, and returns its path as a process
// in the tree would see it.
func commandIn(tree, dirs, command string) (path string, ok bool) {
	for _, dir := range filepath.SplitList(dirs) {
		path := filepath.Join(dir, command)
		if _, ok := fileIn(tree, path); ok {
			return path, true
		}
	}
	return "", false
}

// readsZstd tells whether a kernel can read an initrd in zstd, by its packaged configuration.
func readsZstd(tree string, kernel Kernel) bool {
	for _, config := range []string{"boot/config-" + kernel.Version, "lib/modules/" + kernel.Version + "/config"} {
		path, err := securejoin.SecureJoin(tree, config)
		if err != nil {
			continue
		}
		if b, err := os.ReadFile(path); err == nil {
			return bytes.Contains(b, []byte("\nCONFIG_RD_ZSTD=y\n"))
		}
	}
	return false
}

// complaint matches what dracut says of failures; the letters in brackets are of newer versions.
var complaint = regexp.MustCompile(`dracut\[[EF]\]|FAILED|ERROR|cannot |can't `)

// noSpace matches what the programs that dracut runs say of a full disk, in the C locale. Some twenty
// other complaints follow from it.
var noSpace = regexp.MustCompile(`No space left on device|Disk quota exceeded`)

// lastWords is the end of an error: what dracut complained of, or else what it said last.
func lastWords(said string) string {
	const most = 5
	lines := strings.Split(strings.TrimSpace(said), "\n")
	complaints := slices.DeleteFunc(slices.Clone(lines), func(line string) bool { return !complaint.MatchString(line) })
	if len(complaints) > 0 {
		lines = complaints
	}
	lines = lines[max(0, len(lines)-most):]
	if said = strings.Join(lines, "; "); said == "" {
		return ""
	}
	return ": dracut said: " + said
}
