// Package boot decides what a node boots and tells it so over HTTP: the iPXE
// menu and script, kernel and initrd, the install plan, and the reports that
// come back.
//
// Every answer is computed from the inventory alone, so any head gives the same
// one at any step, and a head cut off from the others goes on giving it.
package boot
