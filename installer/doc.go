// Package installer makes a node of the machine that it runs on. It is what
// luna-install does in the initrd, between the kernel and the operating system:
// it brings up the network interface that booted, asks the heads for the plan,
// runs the group's scripts, fetches the image through the swarm and unpacks it
// while it arrives, writes the node's own name and network into the tree, tells
// the heads how it goes, and hands over.
//
// Three things must hold:
//
//   - It ends in success only when the tree is whole, proven against the hash in
//     the plan, configured, and on disk where there is a disk. Any stage that
//     fails is reported with its last lines and the installation starts again
//     from the plan; the BMC's alone is reported and passed over. Nobody sits in
//     front of a node.
//   - No single head is needed at any moment. Every request walks the list of
//     heads with short timeouts, and reports are sent beside the installation,
//     which never waits for them.
//   - Nothing of the node survives in the tree from an earlier installation, and
//     nothing of it is doubled: files are written anew, never appended to.
//
// The tree belongs to an administrator and its links may point anywhere: the
// installer writes into it through os.Root alone, so that an absolute link in
// an image never leads to a file of the initrd.
package installer
