// Package image turns an operating system's tree into an artifact and back, and makes of the
// same tree the kernel and initrd that a node boots.
//
// # The artifact
//
// An artifact is one file, named by the SHA-256 of its bytes. The same tree gives the same
// artifact on every head, whatever its number of CPUs: heads can compare, and share, by hash.
// It is a PAX tar in the order of its paths, cut into chunks of 4 MiB, each compressed by
// itself into a zstd frame. Independent chunks are what lets all CPUs pack and unpack one
// stream while its bytes stay the same. Before each frame stands a skippable frame of 4 bytes
// with the frame's length (as pzstd writes them), so that a reader can hand frames to its CPUs
// without decoding them; after the last stands a skippable frame with the length of the tar.
// A stream without that end is truncated, and refused. Any zstd decoder skips these, so
//
//	zstd -dc ARTIFACT | tar -x --numeric-owner --acls --xattrs --xattrs-include='*'
//
// restores an artifact without Luna.
//
// # What is kept
//
// Modes, numeric owners, modification times in nanoseconds, hard links (of every type of file),
// symbolic links, devices, FIFOs, and the extended attributes user.*, security.capability,
// security.selinux, security.ima and POSIX ACLs. An ACL is written twice, as the kernel's bytes
// for Unpack and as SCHILY.acl text, which is what GNU tar and bsdtar read. Sockets are left
// out: they mean nothing without the process that bound them.
//
// Holes are written as GNU sparse 1.0 entries. archive/tar writes none, so this package lays out
// these entries by hand; plain zeros would compress to nothing, but a lastlog of a site with
// large user ids has an apparent size of a terabyte, and somebody would have to produce, hash
// and compress it. Which blocks are data is decided by content (a block of 4 KiB with a byte that
// is not zero), because file systems report different holes for the same file and the artifact
// must not depend on them; the file system is asked only whether there is a hole at all. A file
// without holes, such as a swap file, comes back without holes.
//
// # A consistent tree
//
// Pack first notes the state of every file, then reads. A file whose inode changed in between is
// an error that names it, so an artifact holds the tree as it was when packing began, or there is
// no artifact. Mounts below the tree are left out and the directories under them kept: where the
// kernel allows it (5.2, as root) Pack walks a private clone of the tree's mount, in which there
// are no others.
//
// # The initrd
//
// BuildInitrd runs the dracut of the tree inside the tree, below an overlay that catches every
// write, in a mount namespace that ends with it: the tree is never touched and nothing is left
// mounted, even by kill -9. The dracut module 95luna and the installer come from outside, so an
// image needs nothing but a kernel and dracut.
//
// # Work on a tree
//
// Clone copies a tree by the scan that Pack has and the writer that Unpack has, without a tar between
// them, so all that is said above of an artifact is true of a clone. It takes the processor time of
// cp -a and, as that, shares blocks where the file system can.
//
// Grab makes a tree as a running host is. That is rsync's work: it alone sends only what differs.
//
// Chroot runs a command in a tree, in a namespace of mounts and processes that ends with it. The lock
// on the tree is the kernel's, so a crash leaves neither mounts nor a lock. uname(2), which build
// scripts ask for the kernel to build for, is answered through a seccomp filter: nothing need be in the
// image for that, and static and setuid programs hear the same.
package image
