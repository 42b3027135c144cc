// Package inventory holds the nouns and the verbs of Luna.
//
// The nouns are the objects an administrator knows from Luna 1.2 (cluster,
// network, osimage, group, node) and those the mesh needs for itself (head,
// invite, lease, image version). The verbs are the closed set of commands that
// change them. Everyone speaks this vocabulary; the package imports nobody.
//
// An [Inventory] is an immutable value: a reader takes one and holds no lock.
// Only package fsm makes the next one, through a [Tx]. What makes one object
// well-formed is checked here ([Command].Validate); what keeps the whole
// consistent (unique addresses, nothing dangling) is checked there.
//
// References between objects are by [ID], so a rename breaks none of them.
// Addresses are kept absolute, each in one table with its owner: that table is
// what makes an address belong to one owner only.
package inventory
