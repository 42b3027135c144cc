package conformance

import (
	"fmt"
	"slices"
	"testing"
)

// What there is before a check. A number above 0 is as many nodes.
const (
	empty   = -2 // an agent of no cluster
	bare    = -1 // a cluster, and nothing in it
	fixture = 0  // network, image, group: everything but nodes
)

// check is one promise: what must hold with that much in the store.
type check struct {
	name  string
	nodes int // or empty, bare, fixture
	hold  func(d *desk)
}

// desks is how many agents the checks share; each check has one for itself.
const desks = 2

// TestConformance: every promise that needs neither hardware nor a service still to come. Those that
// wait are listed in docs/from-1.2.md.
func TestConformance(t *testing.T) {
	holdAll(t, "conf", slices.Concat(clusterChecks, networkChecks, imageChecks, groupChecks, interfaceChecks, nodeChecks,
		deviceChecks, serveChecks, bootChecks, formChecks, errorChecks, wordChecks, bugChecks, moreBugChecks, nameChecks, textChecks))
}

// holdAll runs checks, as many at a time as there are desks.
func holdAll(t *testing.T, labName string, checks []check) {
	t.Helper()
	free := make(chan *desk, desks)
	for i := range desks {
		free <- newDesk(t, fmt.Sprintf("%s%d", labName, i+1))
	}
	for _, c := range checks {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			d := <-free
			t.Cleanup(func() { free <- d }) // after what the check itself cleans up
			d.with(t).prepare(c.nodes)
			c.hold(d.with(t))
		})
	}
}

// prepare makes the store that a check begins with.
func (d *desk) prepare(nodes int) {
	d.Helper()
	d.again()
	if nodes == empty {
		return
	}
	d.ok("luna cluster init --frontend_address " + frontend + " --path $P --user root")
	if nodes == bare {
		return
	}
	d.ok("luna network add -n cluster -N 10.30.0.0 -P 16 --ns_hostname master",
		"luna network add -n ipmi -N 10.31.0.0 -P 24 --ns_hostname master",
		"luna osimage add -n compute -p $IMG",
		"luna bmcsetup add -n base",
		"luna group add -n compute -o compute -N cluster -b base -bn ipmi")
	for range nodes {
		d.ok("luna node add -g compute")
	}
}

// pack packs the image; the initrd is the one that lies in the tree, so that it is quick. That one of
// dracut's boots machines is for package test.
func (d *desk) pack() {
	d.Helper()
	d.ok("luna osimage pack compute -c")
}
