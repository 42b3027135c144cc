package agent

import (
	"cmp"
	"context"
	"errors"
	"os"
	"os/user"
	"strings"

	"github.com/clustervision/luna/api"
	"github.com/clustervision/luna/image"
	"github.com/clustervision/luna/inventory"
)

// Prepare completes a command with what only a head can see.
func (a *Agent) Prepare(_ context.Context, c inventory.Command) (inventory.Command, error) {
	if err := c.Validate(); err != nil {
		return c, err
	}
	switch c := c.(type) {
	case inventory.AddNetwork:
		c.NSHostname = cmp.Or(c.NSHostname, hostname())
		return c, nil
	case inventory.AddOSImage:
		k, err := kernelOf(c.Name, c.Path, c.KernVer)
		c.KernVer = k.Version
		c.GrabExcludeList = cmp.Or(c.GrabExcludeList, image.DefaultGrabExclude)
		return c, err
	case inventory.ChangeCluster:
		return c, checkSite(c.User, c.Path)
	case inventory.ChangeNetwork:
		if c.Include != nil || c.RevInclude != nil {
			return c, a.checkIncludes(c, c.Name)
		}
	case inventory.ApplyDocument:
		var written []string
		for name, n := range c.Document.Networks {
			if n.Include.Value != nil || n.RevInclude.Value != nil {
				written = append(written, name)
			}
		}
		return c, a.checkIncludes(c, written...)
	}
	return c, nil
}

// hostname gives this machine's short name, by which its name server is called;
// "" where it cannot be one.
func hostname() string {
	name, err := os.Hostname()
	if err != nil {
		return ""
	}
	name, _, _ = strings.Cut(name, ".")
	if inventory.CheckName("name server", name) != nil {
		return ""
	}
	return name
}

// checkSite refuses a user or a directory that this head does not have.
func checkSite(name, path *string) error {
	bad := func(format string, args ...any) error {
		return inventory.Errorf(inventory.KindRefused, "cluster", "general", format, args...)
	}
	if name != nil {
		if _, err := user.Lookup(*name); err != nil {
			return bad("No such user exists.\nError changing user: '%s' is not known on this head", *name)
		}
	}
	if path != nil {
		if st, err := os.Stat(*path); err != nil || !st.IsDir() {
			return bad("'%s' is not a valid directory", *path)
		}
	}
	return nil
}

// anyKernel, given as a kernel version, means the newest, as in 1.2.
const anyKernel = "ANY"

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
		have = append(have, k.Version)
	}
	return bad("Available kernels are '[%s]', not '%s'", strings.Join(have, ", "), version)
}

// Kernels lists the kernels in the osimage's tree on this head, the newest
// first.
func (a *Agent) Kernels(name string) ([]string, error) {
	o, ok := a.View().OSImage(name)
	if !ok {
		return nil, inventory.NotFound("osimage", name)
	}
	if st, err := os.Stat(o.Path); err != nil || !st.IsDir() {
		return nil, inventory.Errorf(inventory.KindInvalid, "osimage", name, "'%s' is not a valid directory on this head", o.Path)
	}
	kernels, err := image.Kernels(o.Path)
	if err != nil && !errors.Is(err, image.ErrNoKernel) {
		return nil, inventory.Errorf(inventory.KindInternal, "osimage", name, "%v", err)
	}
	list := make([]string, 0, len(kernels))
	for _, k := range kernels {
		list = append(list, k.Version)
	}
	return list, nil
}

// Clone copies the osimage's tree on this head and makes an osimage of the
// copy, with the settings of the first.
func (a *Agent) Clone(ctx context.Context, by inventory.Asker, name string, r api.CloneRequest, progress func(api.JobEvent)) error {
	m, err := a.self()
	if err != nil {
		return err
	}
	from, ok := m.machine.View().OSImage(name)
	if !ok {
		return inventory.NotFound("osimage", name)
	}
	add := inventory.AddOSImage{Name: r.To, Path: r.Path, KernVer: from.KernVer, From: name}
	if err := add.Validate(); err != nil {
		return err
	}
	// What will be refused in the end is refused before hours of copying.
	if refused, _, _ := m.machine.Preview(inventory.Envelope{Asker: by, Command: add}); refused.Error != nil {
		return refused.Error
	}
	if st, err := os.Stat(from.Path); err != nil || !st.IsDir() {
		return inventory.Errorf(inventory.KindInvalid, "osimage", name, "'%s' is not a valid directory on this head: clone on a head that has the tree", from.Path)
	}
	progress(api.JobEvent{Phase: "copy", Message: "copying " + from.Path + " to " + r.Path})
	err = image.Clone(ctx, from.Path, r.Path, func(done, total int64, message string) {
		progress(api.JobEvent{Phase: "copy", Done: done, Total: total, Message: message})
	})
	if err != nil {
		return inventory.Errorf(inventory.KindInternal, "osimage", name, "clone osimage '%s': %v", name, err)
	}
	res, err := m.propose(ctx, by, add)
	if err == nil {
		err = res.Into(nil)
	}
	if err != nil {
		return err
	}
	progress(api.JobEvent{Phase: api.JobDone, Message: "osimage '" + r.To + "' is to be packed before nodes can boot it"})
	return nil
}

// Grab takes a running host's file systems into the osimage's tree on this head.
func (a *Agent) Grab(ctx context.Context, name string, r api.GrabRequest, progress func(api.JobEvent)) error {
	o, ok := a.View().OSImage(name)
	if !ok {
		return inventory.NotFound("osimage", name)
	}
	if st, err := os.Stat(o.Path); err != nil || !st.IsDir() {
		return inventory.Errorf(inventory.KindInvalid, "osimage", name, "'%s' is not a valid directory on this head", o.Path)
	}
	log := &lineWriter{line: func(l string) { progress(api.JobEvent{Phase: "grab", Message: l}) }}
	err := image.Grab(ctx, image.GrabSpec{
		Host: r.Host, Tree: o.Path, Filesystems: strings.FieldsFunc(o.GrabFilesystems, func(c rune) bool { return c == ',' || c == ' ' }),
		Exclude: o.GrabExcludeList, DryRun: r.DryRun, Verbose: r.Verbose || r.DryRun, Log: log,
	})
	if err != nil {
		return inventory.Errorf(inventory.KindRefused, "osimage", name, "%v", err)
	}
	progress(api.JobEvent{Phase: api.JobDone})
	return nil
}
