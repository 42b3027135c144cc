// Package bootkill kills heads under nodes that boot: at each named step of a
// boot the head that serves the node at that moment dies by kill -9, and heads
// are taken down in turn while nodes boot in a loop. A node must end booted
// each time, and nobody touches it.
//
// What a head sends and gets is watched on its own card, so that it dies at the
// packet that a step is about and not some time later. Steps of the firmware are
// run by emulated machines; those of the installer by luna-install on a simulated
// node, where neither firmware nor kernel has a part in them.
//
// make test kills heads under the installer; LUNA_SOAK=1 runs all steps.
package bootkill
