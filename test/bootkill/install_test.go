package bootkill

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/clustervision/luna/test/lab"
	"github.com/clustervision/luna/test/lab/labtest"
	"github.com/clustervision/luna/test/site"
)

// installerRate is the speed of a simulated node's link in Mbit/s: so slow that a
// download has a middle.
const installerRate = 40

// The steps of the installer.
var (
	plan   = when("plan", func(f frame, node int) bool { return f.gets(node, "GET", "/plan") })
	unpack = when("unpack", func(f frame, node int) bool { return reports(f, node, "install.unpack") })
	// status: the last report, after which the node tells nobody anything more.
	status = when("status", func(f frame, node int) bool { return reports(f, node, "install.success") })
)

// reports tells whether the node tells the head of a stage. Header and body of the
// request may come in two packets.
func reports(f frame, node int, stage string) bool {
	return f.tcp && f.from.Addr() == nodeAddr(node) && bytes.Contains(f.payload, []byte(`"stage":"`+stage+`"`))
}

// download names the head that has sent the node most of its image, when the node
// has so much of it from all of them together.
func download(percent, size int64) step {
	return step{name: fmt.Sprintf("download at %d %%", percent), at: func(node int) func(frame) *site.Head {
		began := false
		var all int64
		sent := map[*site.Head]int64{}
		return func(f frame) *site.Head {
			switch {
			case f.gets(node, "GET", "/plan"):
				began = true
			case began && f.sent() && f.to.Addr() == nodeAddr(node):
				all += int64(len(f.payload))
				sent[f.head] += int64(len(f.payload))
			}
			if all < size*percent/100 || !began {
				return nil
			}
			most := f.head
			for h := range sent {
				if sent[h] > sent[most] {
					most = h
				}
			}
			return most
		}
	}}
}

// install boots a simulated node to the end and kills a head at a step. The node
// must have the whole tree, and its success must be known.
func install(t *testing.T, s *site.Site, w *wire, node int, tree string, at step) {
	ctx := labtest.Context(t, 5*time.Minute)
	must(t, bind(ctx, s, node))
	n, err := s.Lab.Node(ctx, lab.NodeConfig{Name: nodeName(node), MAC: nodeMAC(node), RateMbit: installerRate})
	must(t, err)
	booted, err := n.Boot(ctx)
	must(t, err)
	killed := w.killAt(ctx, t, at, node)
	defer w.watch(nil)
	start := time.Now()
	root := filepath.Join(s.Lab.Dir(), n.Name()+"-root")
	must(t, os.Mkdir(root, 0o755))
	p, err := n.Install(booted, filepath.Join(s.Bin, "luna-install"), root, "--seed", "0")
	must(t, err)
	must(t, p.Wait(ctx))
	took := time.Since(start)
	var d death
	select {
	case d = <-killed:
	default:
		t.Fatalf("the step was never seen, in %s", took)
	}
	again := attempts(t, p.Log()) - 1
	t.Logf("kill -9 of %s after %.1f s; installed after %.1f s, having begun again %d times", d.head.Name, d.at.Sub(start).Seconds(), took.Seconds(), again)
	if again > 0 {
		t.Error("the installation began again: it should have gone on")
	}
	must(t, site.SameTree(tree, root, writtenByInstaller...))
	must(t, os.RemoveAll(root))
	known := succeeds(ctx, s, d.head, nodeName(node))
	must(t, revive(ctx, s, d.head))
	must(t, known)
}

// writtenByInstaller is what the installer makes the node's own.
var writtenByInstaller = []string{"etc/hostname", "etc/resolv.conf", "etc/systemd/network/10-luna-BOOTIF.network"}

// attempts counts how often an installer began, by its log.
func attempts(t *testing.T, log string) int {
	t.Helper()
	text, err := os.ReadFile(log)
	must(t, err)
	return 1 + strings.Count(string(text), "the installation begins again")
}

// installs makes sure that a node is installed, and that the mesh knows it,
// whichever head dies under the installer.
func installs(t *testing.T, s *site.Site, w *wire, tree string) {
	steps := []step{status}
	if soak() {
		size := imageSize(t, s)
		steps = []step{
			plan, download(10, size), download(50, size), download(90, size), unpack, status,
			plan.silently(), download(50, size).silently(), status.silently(),
		}
	}
	for i, at := range steps {
		t.Run(at.name, func(t *testing.T) { install(t, s, w, firstInstall+i, tree, at) })
	}
}
