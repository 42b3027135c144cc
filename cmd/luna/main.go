// Command luna is the agent of a head and the commands that talk to it.
package main

import (
	"context"
	"os"
	"os/signal"
	"syscall"

	"github.com/clustervision/luna/cli"
)

// version is set by the linker: -X main.version=...
var version = "dev"

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	context.AfterFunc(ctx, stop) // a second Ctrl-C ends it at once
	root := cli.Root(agentCommand(version))
	root.Version = version
	os.Exit(cli.Run(ctx, root, os.Args[1:]))
}
