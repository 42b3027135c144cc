// Package upgrade tests that a mesh goes from the last release to this one head by
// head, while it works: heads of both releases are in one mesh, with the log in the
// form that the older one understands, until the last head is upgraded.
//
// Both are real programs in network namespaces, as in package test. That of the
// last release is built from this repository's own history, once for a machine:
// see old_test.go.
package upgrade
