package cli

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"

	"github.com/spf13/cobra"

	"github.com/clustervision/luna/image"
	"github.com/clustervision/luna/inventory"
)

// The exit codes of lchroot, those of 1.2. Any other is that of the command, or
// of chroot(1): 127 no such command, 126 not runnable, 125 all else.
const (
	exitNoImage = 7
	exitInUse   = 8
)

// Chroot gives lchroot, a program of its own. Run it with [Run]; the main
// function calls [image.ChrootChild] first.
func Chroot() *cobra.Command {
	a := &app{}
	return a.program(chrootCommand(a))
}

func chrootCommand(a *app) *cobra.Command {
	c := &cobra.Command{
		Use:   "lchroot IMAGE [COMMAND ARG...]",
		Short: "Run a command, or a shell, in the tree of an osimage",
		Long: `Run a command, or a shell, in the tree of an osimage, as root on a head where
that tree is. Options of lchroot stand before IMAGE; all that follows IMAGE is
the command.

The command finds the machine's /dev and /etc/resolv.conf and a /proc of its own,
and the kernel looks to it as the one that the osimage is set to: uname -r prints
its kernver, which the variable FAKE_KERN has too. What it mounts and leaves
running ends with it. One lchroot at a time can be in a tree.

Exit status: that of the command; 7 there is no such osimage, 8 somebody is in its
tree, 125 the tree could not be entered, 126 the command cannot be run, 127 there
is no such command; 1 the head could not be asked.`,
		Example: `  lchroot compute
  lchroot compute dnf -y install htop
  lchroot compute uname -r`,
		Args:        cobra.ArbitraryArgs,
		Annotations: map[string]string{annotationRuns: "IMAGE"},
		RunE: a.do(func(ctx context.Context, s *session) error {
			args := s.cmd.Flags().Args()
			if len(args) == 0 {
				return &exitError{exitNoImage, errors.New("an osimage must be named: luna osimage list lists them, lchroot -h tells more")}
			}
			return enter(ctx, s, args[0], args[1:])
		}),
	}
	c.Flags().SetInterspersed(false)
	return c
}

// annotationRuns marks a command whose arguments are another program's behind
// the first.
const annotationRuns = "runs"

// enter runs a command in an osimage's tree.
func enter(ctx context.Context, s *session, name string, command []string) error {
	img, err := s.OSImage(ctx, name)
	switch {
	case errors.Is(err, inventory.ErrNotFound):
		return &exitError{exitNoImage, err}
	case err != nil:
		return err
	}
	if _, err := os.Stat(img.Path); errors.Is(err, fs.ErrNotExist) {
		return refusef("osimage", name, "its tree %s is not on this machine: run lchroot on the head that has it", img.Path)
	}
	fmt.Fprintf(s.stdout(), "IMAGE PATH: %s\n", img.Path)
	if s.DryRun {
		return nil
	}
	// Ctrl-C is the command's, which may want to live on.
	code, err := image.Chroot(context.WithoutCancel(ctx), image.ChrootSpec{
		Tree: img.Path, Name: img.Name, KernelVersion: img.KernVer, Command: command,
		Stdin: s.cmd.InOrStdin(), Stdout: s.stdout(), Stderr: s.cmd.ErrOrStderr(),
		User: os.Getenv("SUDO_USER"),
		Warn: func(m string) { s.warn("%s", m) },
	})
	var locked *image.LockedError
	switch {
	case errors.As(err, &locked):
		return &exitError{exitInUse, err}
	case err != nil || code != exitOK:
		return &exitError{code, err}
	}
	return nil
}
