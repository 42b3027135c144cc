package agent

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/clustervision/luna/api"
	"github.com/clustervision/luna/boot"
	"github.com/clustervision/luna/image"
	"github.com/clustervision/luna/inventory"
	"github.com/clustervision/luna/swarm"
)

// anyKernel, given as a kernel version, means the newest, as in 1.2.
const anyKernel = "ANY"

// AddOSImage makes an osimage of a tree on this head, once it has looked at it.
func (a *Agent) AddOSImage(ctx context.Context, by string, c inventory.AddOSImage) error {
	if err := c.Validate(); err != nil {
		return err
	}
	k, err := kernelOf(c.Name, c.Path, c.KernVer)
	if err != nil {
		return err
	}
	c.KernVer = k.Version
	res, err := a.Propose(ctx, by, c)
	if err == nil {
		err = res.Into(nil)
	}
	return err
}

// kernelOf finds the kernel of that version in a tree; the newest for "".
func kernelOf(name, tree, version string) (image.Kernel, error) {
	bad := func(format string, args ...any) (image.Kernel, error) {
		return image.Kernel{}, inventory.Errorf(inventory.KindInvalid, "osimage", name, format, args...)
	}
	if st, err := os.Stat(tree); err != nil || !st.IsDir() {
		return bad("'%s' is not a valid directory", tree)
	}
	kernels, err := image.Kernels(tree)
	if errors.Is(err, image.ErrNoKernel) {
		return bad("No kernels installed in '%s': install linux-image-amd64 (Debian) or kernel (RHEL family) there", tree)
	}
	if err != nil {
		return bad("%v", err)
	}
	if version == "" || version == anyKernel {
		return kernels[0], nil
	}
	var have []string
	for _, k := range kernels {
		if k.Version == version {
			return k, nil
		}
		have = append(have, "'"+k.Version+"'")
	}
	return bad("Available kernels are [%s], not '%s'", strings.Join(have, ", "), version)
}

// Pack makes a new version of an osimage from its tree on this head. What is
// booting meanwhile is not disturbed: nothing that is published ever changes.
func (a *Agent) Pack(ctx context.Context, by, name string, progress func(api.PackEvent)) error {
	m, err := a.self()
	if err != nil {
		return err
	}
	o, ok := m.machine.View().OSImage(name)
	if !ok {
		return inventory.NotFound("osimage", name)
	}
	k, err := kernelOf(name, o.Path, o.KernVer)
	if err != nil {
		return err
	}
	if !m.packing.TryLock() {
		return inventory.Errorf(inventory.KindRefused, "osimage", name, "head '%s' is packing an image already: wait until it is done", m.cfg.Name)
	}
	defer m.packing.Unlock()
	p := packer{m: m, o: o, kernel: k, progress: progress}
	v, err := p.pack(ctx)
	if err != nil {
		return fmt.Errorf("pack osimage '%s': %w", name, err)
	}
	progress(api.PackEvent{Phase: "publish", Message: "publishing version " + v.ID})
	res, err := m.propose(ctx, by, inventory.PublishVersion{OSImage: name, Version: v, Head: m.cfg.Name})
	if err == nil {
		err = res.Into(nil)
	}
	if err != nil {
		return err
	}
	progress(api.PackEvent{Phase: "done", Version: v.ID})
	return nil
}

// packer packs one osimage once.
type packer struct {
	m        *member
	o        *inventory.OSImage
	kernel   image.Kernel
	progress func(api.PackEvent)
}

func (p *packer) pack(ctx context.Context) (inventory.ImageVersion, error) {
	v := inventory.ImageVersion{Created: time.Now().UTC(), KernVer: p.kernel.Version}
	var err error
	if v.Kernel, err = p.file(ctx, p.kernel.Image, p.o.Name+"-vmlinuz-"+p.kernel.Version); err != nil {
		return v, err
	}
	p.progress(api.PackEvent{Phase: "initrd", Message: "building the initrd for kernel " + p.kernel.Version})
	if v.Initrd, err = p.initrd(ctx); err != nil {
		return v, err
	}
	p.progress(api.PackEvent{Phase: "tree", Message: "packing " + p.o.Path})
	s, err := p.m.store.Pack(ctx, p.o.Name, p.o.Path, image.PackOptions{Progress: func(done, total int64, _ string) {
		p.progress(api.PackEvent{Phase: "tree", Done: done, Total: total})
	}})
	if err != nil {
		return v, err
	}
	v.UnpackedSize = s.Unpacked
	p.progress(api.PackEvent{Phase: "describe", Message: fmt.Sprintf("describing %d MiB for the swarm", s.Packed>>20)})
	if v.Root, err = p.describe(ctx, s.SHA256, p.o.Name+".tar.zst"); err != nil {
		return v, err
	}
	id := sha256.Sum256([]byte(strings.Join([]string{p.o.Name, v.KernVer, v.Kernel.SHA256, v.Initrd.SHA256, v.Root.SHA256}, "\n")))
	v.ID = hex.EncodeToString(id[:8])
	return v, nil
}

// initrd builds the initrd and puts it into the store.
func (p *packer) initrd(ctx context.Context) (inventory.Artifact, error) {
	work, err := os.MkdirTemp(p.m.cfg.DataDir, "initrd-")
	if err != nil {
		return inventory.Artifact{}, err
	}
	defer os.RemoveAll(work)
	if _, err := os.Stat(p.m.cfg.Installer); err != nil {
		return inventory.Artifact{}, fmt.Errorf("the installer for the initrd is missing (%w): install luna whole, or name it with --installer", err)
	}
	addModules, omitModules := split(p.o.DracutModules)
	addDrivers, omitDrivers := split(p.o.KernModules)
	out := filepath.Join(work, "initrd")
	err = image.BuildInitrd(ctx, image.InitrdSpec{
		Tree: p.o.Path, KernelVersion: p.kernel.Version, Installer: p.m.cfg.Installer, Out: out, WorkDir: work,
		AddModules: slices.DeleteFunc(addModules, func(m string) bool { return m == "luna" }), OmitModules: omitModules,
		AddDrivers: addDrivers, OmitDrivers: omitDrivers,
		Log: &lineWriter{line: func(l string) { p.progress(api.PackEvent{Phase: "initrd", Message: l}) }},
	})
	if err != nil {
		return inventory.Artifact{}, err
	}
	return p.file(ctx, out, p.o.Name+"-initramfs-"+p.kernel.Version)
}

// split reads a comma separated list in which a leading '-' means to omit.
func split(list string) (add, omit []string) {
	for _, item := range strings.Split(list, ",") {
		switch item = strings.TrimSpace(item); {
		case item == "":
		case item[0] == '-':
			omit = append(omit, item[1:])
		default:
			add = append(add, item)
		}
	}
	return add, omit
}

// file puts a copy of a file into the store and describes it.
func (p *packer) file(ctx context.Context, path, name string) (inventory.Artifact, error) {
	from, err := os.Open(path)
	if err != nil {
		return inventory.Artifact{}, err
	}
	defer from.Close()
	draft, err := p.m.store.Create()
	if err != nil {
		return inventory.Artifact{}, err
	}
	defer p.m.store.Discard(draft) //nolint:errcheck // does nothing after Commit; before it, the first error counts
	if _, err := io.Copy(draft, from); err != nil {
		return inventory.Artifact{}, fmt.Errorf("keep %s: %w", name, err)
	}
	sum, err := p.m.store.Commit(ctx, draft)
	if err != nil {
		return inventory.Artifact{}, fmt.Errorf("keep %s: %w", name, err)
	}
	return p.describe(ctx, sum, name)
}

func (p *packer) describe(ctx context.Context, sum, name string) (inventory.Artifact, error) {
	d, err := swarm.Describe(ctx, p.m.store.Path(sum), name)
	if err != nil {
		return inventory.Artifact{}, err
	}
	text, err := json.Marshal(d)
	return inventory.Artifact{SHA256: d.SHA256, Size: d.Size, Descriptor: text}, err
}

// lineWriter hands on what is written to it, line by line.
type lineWriter struct {
	mu   sync.Mutex
	rest string
	line func(string)
}

func (w *lineWriter) Write(b []byte) (int, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.rest += string(b)
	for {
		l, rest, ok := strings.Cut(w.rest, "\n")
		if !ok {
			return len(b), nil
		}
		w.rest = rest
		if l = strings.TrimSpace(l); l != "" {
			w.line(l)
		}
	}
}

// Script renders what a node gets at a step, as an administrator may see it.
func (a *Agent) Script(n *inventory.Node, step string) (string, error) {
	m, err := a.self()
	if err != nil {
		return "", err
	}
	site := boot.Site{Inventory: m.machine.View(), Live: m.live}
	if step == "boot" {
		return site.BootScript(n, "masked"), nil
	}
	plan, err := site.Plan(n)
	if err != nil {
		return "", inventory.Errorf(inventory.KindRefused, "node", n.Name, "%v", err)
	}
	return boot.InstallScript(plan, boot.Scripts), nil
}
