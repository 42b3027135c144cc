// Command luna is the agent of a head and the commands that talk to it. Under the
// names lpower and lchroot it is these programs of Luna 1.2.
package main

import (
	"context"
	"os"
	"os/signal"
	"path/filepath"
	"syscall"

	"github.com/spf13/cobra"

	"github.com/clustervision/luna/cli"
	"github.com/clustervision/luna/image"
)

// version is set by the linker: -X main.version=...
var version = "dev"

func main() {
	image.ChrootChild() // lchroot runs this program once more
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	context.AfterFunc(ctx, stop) // a second Ctrl-C ends it at once
	os.Exit(cli.Run(ctx, program(filepath.Base(os.Args[0])), os.Args[1:]))
}

// program gives the commands of the name by which this program was called.
func program(name string) *cobra.Command {
	root := cli.Root(agentCommand(version))
	switch name {
	case "lpower":
		root = cli.Power()
	case "lchroot":
		root = cli.Chroot()
	}
	root.Version = version
	return root
}
