package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/dustin/go-humanize"
	"github.com/spf13/cobra"

	"github.com/clustervision/luna/api"
	"github.com/clustervision/luna/inventory"
)

func osimageCommand(a *app) *cobra.Command {
	return noun("osimage", "The operating systems that nodes boot", "  luna osimage pack compute",
		osimageList(a), osimageShow(a), osimageAdd(a), osimageChange(a), osimagePack(a), osimageGrab(a), osimageClone(a), osimageSync(a),
		deleteCommand(a, "osimage"), renameCommand(a, "osimage"))
}

func osimageList(a *app) *cobra.Command {
	var out output
	c := &cobra.Command{
		Use:     "list",
		Short:   "List the osimages",
		Example: "  luna osimage list",
		Args:    noArgs,
		RunE: a.do(func(ctx context.Context, s *session) error {
			all, err := s.OSImages(ctx)
			if err != nil {
				return err
			}
			return out.print(s.stdout(), nonNil(all), func() *table {
				t := &table{header: []string{"Name", "Path", "Kernel version"}}
				for _, o := range all {
					t.add(o.Name, o.Path, o.KernVer)
				}
				return t
			})
		}),
	}
	out.list(c)
	return c
}

func osimageShow(a *app) *cobra.Command {
	var out output
	var all bool
	c := named(&cobra.Command{
		Use:   "show NAME",
		Short: "Show an osimage, or its packed versions",
		Long: `Show an osimage. With --all its packed versions are there too, newest first. A
version is replicating until enough heads hold it, then ready; the one that nodes
get now boots.`,
		Example: `  luna osimage show compute
  luna osimage show compute --all
  luna osimage show compute --kernver`,
		RunE: a.do(func(ctx context.Context, s *session) error {
			o, err := s.OSImage(ctx, s.name)
			if err != nil {
				return err
			}
			if s.given("kernver") {
				return printKernels(ctx, s, o)
			}
			for option, value := range map[string]string{
				"path": o.Path, "kernopts": o.KernOpts, "grab_exclude_list": o.GrabExcludeList,
				"grab_filesystems": o.GrabFilesystems, "comment": deref(o.Comment),
			} {
				if s.given(option) {
					return writeText(s.stdout(), value)
				}
			}
			return out.print(s.stdout(), o, func() *table { return osimageTable(o, all) })
		}),
	})
	out.show(c)
	f := c.Flags()
	f.BoolVarP(&all, "all", "a", false, "also what 1.2 did not have: the versions")
	modern(c, "all")
	f.BoolP("path", "p", false, "print the path of the tree")
	f.BoolP("kernver", "k", false, "print the kernels of the tree on this head; <= marks the one that is packed")
	f.Bool("kernopts", false, "print the kernel options (-o alone does as well)")
	f.BoolP("grab_exclude_list", "e", false, "print what grab leaves out")
	f.BoolP("grab_filesystems", "f", false, "print what grab takes")
	f.BoolP("comment", "C", false, "print the comment")
	c.MarkFlagsMutuallyExclusive("output", "raw", "path", "kernver", "kernopts", "grab_exclude_list", "grab_filesystems", "comment")
	return c
}

// printKernels prints the kernels that are installed in the tree, and the
// configured one, which may be built by hand.
func printKernels(ctx context.Context, s *session, o api.OSImage) error {
	kernels, err := s.Kernels(ctx, o.Name)
	if errors.Is(err, inventory.ErrInvalid) { // another head has the tree
		notices(s, []string{err.Error() + ": its kernels are not known here"})
	} else if err != nil {
		return err
	}
	kernels = append(slices.Clone(kernels), o.KernVer)
	slices.Sort(kernels)
	var b strings.Builder
	for _, k := range slices.Compact(kernels) {
		b.WriteString(k)
		if k == o.KernVer {
			b.WriteString(" <=")
		}
		b.WriteString("\n")
	}
	_, err = io.WriteString(s.stdout(), b.String())
	return err
}

// osimageTable has the rows of 1.2; with all, the versions too.
func osimageTable(o api.OSImage, all bool) *table {
	fields := map[string]any{
		"path": o.Path, "kernver": o.KernVer, "kernopts": o.KernOpts, "kernmodules": o.KernModules,
		"dracutmodules": o.DracutModules, "grab_exclude_list": o.GrabExcludeList, "grab_filesystems": o.GrabFilesystems,
		"kernfile": o.KernFile, "initrdfile": o.InitrdFile,
	}
	if o.Tarball != nil {
		fields["tarball"], fields["torrent"] = o.Tarball, o.Torrent
	}
	if all {
		fields["versions"] = orNil(versionsCell(o.Versions))
	}
	return showTable(o.Name, fields, o.Comment)
}

// versionsCell has one line per version: id, created, size, state, heads.
func versionsCell(versions []api.Version) string {
	lines := make([]string, len(versions))
	for i, v := range versions {
		lines[i] = fmt.Sprintf("%s  %s  %9s  %-11s  %s", v.ID, v.Created.UTC().Format(time.RFC3339), size(v.Size), v.State, inventory.CompressHostlist(v.Heads))
	}
	return strings.Join(lines, "\n")
}

// size is a number of bytes for people.
func size(bytes int64) string { return humanize.IBytes(uint64(max(0, bytes))) }

func osimageAdd(a *app) *cobra.Command {
	var add inventory.AddOSImage
	c := &cobra.Command{
		Use:   "add -n NAME -p PATH",
		Short: "Add an osimage whose tree lies on this head",
		Long: `Add an osimage whose tree lies on the head that is asked. The tree needs a kernel
and dracut, nothing else. It is not booted before luna osimage pack.`,
		Example: "  luna osimage add -n compute -p /opt/luna/os/compute",
		Args:    noArgs,
		RunE: a.do(func(ctx context.Context, s *session) error {
			add.Name = s.name
			var err error
			if add.Path, err = a.treePath(add.Path); err != nil {
				return err
			}
			return s.change(ctx, add)
		}),
	}
	f := c.Flags()
	f.StringP("name", "n", "", "name of the osimage")
	f.StringVarP(&add.Path, "path", "p", "", "where the tree lies on the head")
	f.StringVarP(&add.KernVer, "kernver", "k", "", "version of the kernel to boot; ANY is the newest in the tree, as is none")
	f.StringVarP(&add.KernOpts, "kernopts", "o", "", "kernel options")
	required(c, "name", "path")
	return c
}

// treePath makes a path absolute where this machine is the head. An empty one
// is for the head to refuse.
func (a *app) treePath(path string) (string, error) {
	if path == "" || !a.local() {
		return path, nil
	}
	return filepath.Abs(path)
}

func osimageChange(a *app) *cobra.Command {
	var change inventory.ChangeOSImage
	var exclude, comment bool
	var ed editor
	c := named(&cobra.Command{
		Use:   "change NAME",
		Short: "Change one thing of an osimage; it takes effect with the next pack",
		Long: `Change one thing of an osimage; it takes effect with the next pack. Any kernel
version is taken, for kernels that were built by hand.`,
		Example: `  luna osimage change compute --kernopts 'console=ttyS0,115200 console=tty0'
  luna osimage change compute --grab_exclude_list < list`,
		RunE: a.do(func(ctx context.Context, s *session) error {
			change.Name = s.name
			if change.Path != nil {
				abs, err := a.treePath(*change.Path)
				if err != nil {
					return err
				}
				change.Path = &abs
			}
			if exclude || comment {
				now, err := s.OSImage(ctx, s.name)
				if err != nil {
					return err
				}
				old, file, to := deref(now.Comment), "comment", &change.Comment
				if exclude {
					old, file, to = now.GrabExcludeList, "grab_exclude_list", &change.GrabExcludeList
				}
				text, err := ed.edit(ctx, s, old, file)
				if err != nil {
					return err
				}
				*to = &text
			}
			return s.change(ctx, change)
		}),
	})
	f := c.Flags()
	f.VarP(textOption{&change.KernVer}, "kernver", "k", "version of the kernel to boot")
	f.VarP(textOption{&change.KernOpts}, "kernopts", "o", "kernel options")
	f.VarP(textOption{&change.DracutModules}, "dracutmodules", "d", "dracut modules of the initrd, comma separated; -x leaves x out")
	f.VarP(textOption{&change.KernModules}, "kernmodules", "m", "kernel modules of the initrd, comma separated; -x leaves x out")
	f.VarP(textOption{&change.Path}, "path", "p", "where the tree lies on the head")
	f.BoolVarP(&exclude, "grab_exclude_list", "e", false, "edit what grab leaves out")
	f.VarP(textOption{&change.GrabFilesystems}, "grab_filesystems", "f", "what grab takes, comma separated")
	f.BoolVarP(&comment, "comment", "C", false, "edit the comment")
	c.MarkFlagsMutuallyExclusive("kernver", "kernopts", "dracutmodules", "kernmodules", "path", "grab_exclude_list", "grab_filesystems", "comment")
	ed.declare(c)
	return c
}
