package site

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"

	"golang.org/x/sync/errgroup"
	"golang.org/x/sys/unix"

	"github.com/clustervision/luna/test/lab"
)

// BootOnce boots a simulated node to its unpacked image, and throws that away. bin is
// where luna-install is.
func BootOnce(ctx context.Context, l *lab.Lab, bin string, n *lab.Node) error {
	booted, err := n.Boot(ctx)
	if err != nil {
		return err
	}
	root := filepath.Join(l.Dir(), n.Name()+"-root")
	defer os.RemoveAll(root)
	if err := os.Mkdir(root, 0o755); err != nil {
		return err
	}
	p, err := n.Install(booted, filepath.Join(bin, "luna-install"), root, "--seed", "0", "--once")
	if err != nil {
		return err
	}
	// A node is another machine: what it computes must not slow down the heads.
	if err := unix.Setpriority(unix.PRIO_PGRP, p.Pid(), 15); err != nil && !errors.Is(err, unix.ESRCH) {
		return err
	}
	if err := p.Wait(ctx); err != nil {
		return fmt.Errorf("%s: %w", n.Name(), err)
	}
	return nil
}

// Fleet is nodes that boot again and again while heads come and go.
type Fleet struct {
	nodes  *errgroup.Group
	over   chan struct{}
	boots  atomic.Int64
	failed atomic.Int64
}

// NewFleet plugs nodes in and has each of them boot in a loop. The context that it gives
// ends when one of them fails for good.
func NewFleet(ctx context.Context, l *lab.Lab, bin string, nodes []lab.NodeConfig) (*Fleet, context.Context) {
	f := &Fleet{over: make(chan struct{})}
	f.nodes, ctx = errgroup.WithContext(ctx)
	for _, config := range nodes {
		f.nodes.Go(func() error { return f.loop(ctx, l, bin, config) })
	}
	return f, ctx
}

func (f *Fleet) loop(ctx context.Context, l *lab.Lab, bin string, config lab.NodeConfig) error {
	n, err := l.Node(ctx, config)
	if err != nil {
		return err
	}
	defer func() { f.failed.Add(int64(strings.Count(n.Console(), "boot failed: "))) }()
	for {
		if err := BootOnce(ctx, l, bin, n); err != nil {
			return err
		}
		f.boots.Add(1)
		select {
		case <-f.over:
			return nil
		default:
		}
	}
}

// Boots is how often a node was booted to its end so far.
func (f *Fleet) Boots() int64 { return f.boots.Load() }

// Stop lets each node end the boot that it is at, and gives how often one had to begin
// again from its firmware.
func (f *Fleet) Stop() (failed int64, err error) {
	close(f.over)
	err = f.nodes.Wait()
	return f.failed.Load(), err
}
