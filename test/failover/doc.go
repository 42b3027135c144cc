// Package failover tests what a cluster's machines see of DHCP while heads die,
// hang, are cut off from one another, or are asked for too much: how long nobody
// answers, and that no address ever becomes two machines'.
//
// The heads are the real program in network namespaces, as in package test. The
// machines are many to a namespace: each has a hardware address of its own, in its
// packets and on the frames that carry them, so that bridges, heads and other DHCP
// servers see a machine (wire, client). Whatever any server says is written into a
// book, and the book tells who was ever offered what. Real clients that are not
// ours ask beside them, and a pair of ISC's dhcpd, with the configuration that Luna
// exports, dies in the same way under the same load in the same run.
//
// make test runs each of these for some seconds. With LUNA_SOAK=1 (make soak) they
// run at the length that is promised to people, with a duration, LUNA_SOAK=2m,
// about as long as that, and then the figures that are promised are held too: a
// machine that has other things to do cannot hold them for one kill in eight.
package failover
