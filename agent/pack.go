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
	"github.com/clustervision/luna/image"
	"github.com/clustervision/luna/inventory"
	"github.com/clustervision/luna/swarm"
)

// Pack makes a new version of an osimage from its tree on this head. What is
// booting meanwhile is not disturbed: nothing that is published ever changes.
func (a *Agent) Pack(ctx context.Context, by inventory.Asker, name string, r api.PackRequest, progress func(api.JobEvent)) error {
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
	p := packer{m: m, o: o, kernel: k, progress: progress, copyBoot: r.CopyBoot}
	if r.Tree || r.Boot {
		if err := p.reuse(r); err != nil {
			return err
		}
	}
	had, err := m.store.List()
	if err != nil {
		return fmt.Errorf("pack osimage '%s': %w", name, err)
	}
	v, err := p.pack(ctx)
	if err != nil {
		m.discard(v, had)
		return fmt.Errorf("pack osimage '%s': %w", name, err)
	}
	progress(api.JobEvent{Phase: "publish", Message: "publishing version " + v.ID})
	res, err := m.propose(ctx, by, inventory.PublishVersion{OSImage: name, Version: v, Head: m.cfg.Name})
	if err == nil {
		err = res.Into(nil)
	}
	if errors.Is(err, inventory.ErrUnknown) {
		return err // it may be published, or may yet
	}
	if err != nil {
		m.discard(v, had)
		return err
	}
	progress(api.JobEvent{Phase: api.JobDone, Version: v.ID})
	return nil
}

// discard removes what was packed in vain, and was not there before: on a disk that it
// has filled nothing could be decided that makes it superfluous.
func (m *member) discard(v inventory.ImageVersion, had []string) {
	for _, a := range artifacts(&v) {
		if a.SHA256 == "" || slices.Contains(had, a.SHA256) {
			continue
		}
		if err := m.store.Remove(a.SHA256); err != nil {
			m.log.Warn("cannot remove an artifact that was packed in vain", "err", err)
		}
	}
}

// packer packs one osimage once.
type packer struct {
	m        *member
	o        *inventory.OSImage
	kernel   image.Kernel
	progress func(api.JobEvent)
	copyBoot bool // take the initrd that the tree has
	// oldTree and oldBoot are the version whose root file system, or whose kernel
	// and initrd, the new one shares; else nil.
	oldTree, oldBoot *inventory.ImageVersion
}

// reuse finds the version of which the new one shares what is not packed.
func (p *packer) reuse(r api.PackRequest) error {
	refuse := func(format string, args ...any) error {
		return inventory.Errorf(inventory.KindRefused, "osimage", p.o.Name, format, args...)
	}
	if r.Tree && r.Boot {
		return inventory.Errorf(inventory.KindInvalid, "osimage", p.o.Name, "pack only the image or only the boot files, not only both")
	}
	inv := p.m.machine.View()
	self, _ := inv.Head(p.m.cfg.Name)
	var newest *inventory.ImageVersion
	for v := range inv.VersionsOf(p.o.ID) {
		if newest == nil || v.Created.After(newest.Created) {
			newest = v
		}
	}
	switch {
	case newest == nil:
		return refuse("osimage '%s' was never packed: pack all of it first", p.o.Name)
	case self == nil || !slices.Contains(newest.Holders, self.ID):
		return refuse("this head does not hold version %s of osimage '%s' yet: wait for it, or pack where it was packed", newest.ID, p.o.Name)
	case r.Tree && newest.KernVer != p.kernel.Version:
		return refuse("version %s of osimage '%s' boots kernel %s and the osimage says %s: pack the boot files too", newest.ID, p.o.Name, newest.KernVer, p.kernel.Version)
	case r.Tree:
		p.oldBoot = newest
	default:
		p.oldTree = newest
	}
	return nil
}

func (p *packer) pack(ctx context.Context) (inventory.ImageVersion, error) {
	v := inventory.ImageVersion{Created: time.Now().UTC(), KernVer: p.kernel.Version}
	if old := p.oldBoot; old != nil {
		v.Kernel, v.Initrd = old.Kernel, old.Initrd
	} else if err := p.packBoot(ctx, &v); err != nil {
		return v, err
	}
	if old := p.oldTree; old != nil {
		v.Root, v.UnpackedSize = old.Root, old.UnpackedSize
	} else if err := p.packTree(ctx, &v); err != nil {
		return v, err
	}
	id := sha256.Sum256([]byte(strings.Join([]string{p.o.Name, v.KernVer, v.Kernel.SHA256, v.Initrd.SHA256, v.Root.SHA256}, "\n")))
	v.ID = hex.EncodeToString(id[:8])
	return v, nil
}

func (p *packer) packBoot(ctx context.Context, v *inventory.ImageVersion) (err error) {
	kernel, initrd := v.BootFiles(p.o.Name)
	if v.Kernel, err = p.file(ctx, p.kernel.Image, kernel); err != nil {
		return err
	}
	if p.copyBoot {
		v.Initrd, err = p.treeInitrd(ctx, initrd)
		return err
	}
	p.progress(api.JobEvent{Phase: "initrd", Message: "building the initrd for kernel " + p.kernel.Version})
	v.Initrd, err = p.initrd(ctx, initrd)
	return err
}

func (p *packer) packTree(ctx context.Context, v *inventory.ImageVersion) error {
	p.progress(api.JobEvent{Phase: "tree", Message: "packing " + p.o.Path})
	s, err := p.m.store.Pack(ctx, p.o.Name, p.o.Path, image.PackOptions{Progress: func(done, total int64, _ string) {
		p.progress(api.JobEvent{Phase: "tree", Done: done, Total: total})
	}})
	if err != nil {
		return err
	}
	v.UnpackedSize = s.Unpacked
	p.progress(api.JobEvent{Phase: "describe", Message: fmt.Sprintf("describing %d MiB for the swarm", s.Packed>>20)})
	v.Root, err = p.describe(ctx, s.SHA256, p.o.Name+".tar.zst")
	return err
}

// initrdWork begins the names of directories in DataDir where initrds are built.
const initrdWork = "initrd-"

// initrd builds the initrd and puts it into the store.
func (p *packer) initrd(ctx context.Context, name string) (inventory.Artifact, error) {
	work, err := os.MkdirTemp(p.m.cfg.DataDir, initrdWork)
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
		Tree: p.o.Path, KernelVersion: p.kernel.Version, Installer: p.m.cfg.Installer, CA: p.m.id.CA, Out: out, WorkDir: work,
		AddModules: slices.DeleteFunc(addModules, func(m string) bool { return m == "luna" }), OmitModules: omitModules,
		AddDrivers: addDrivers, OmitDrivers: omitDrivers,
		Log: &lineWriter{line: func(l string) { p.progress(api.JobEvent{Phase: "initrd", Message: l}) }},
	})
	if err != nil {
		return inventory.Artifact{}, err
	}
	return p.file(ctx, out, name)
}

// treeInitrd takes the initrd that the tree's own system made.
func (p *packer) treeInitrd(ctx context.Context, name string) (inventory.Artifact, error) {
	path, err := image.OwnInitrd(p.o.Path, p.kernel.Version)
	if err != nil {
		return inventory.Artifact{}, err
	}
	switch has, err := image.HasInstaller(ctx, path); {
	case err != nil:
		p.progress(api.JobEvent{Phase: "initrd", Message: "warning: " + err.Error()})
	case !has:
		p.progress(api.JobEvent{Phase: "initrd", Message: "warning: the luna module is not in " + path + ": nodes that boot it are not installed"})
	}
	return p.file(ctx, path, name)
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
