// Package packages tests what `make packages` builds: the debs in a container with a systemd of its
// own, from the first install over a mesh that boots a node to purge, and the rpms in a tree of their
// own, as no RHEL family is at hand: there dependencies are read and not resolved.
package packages
