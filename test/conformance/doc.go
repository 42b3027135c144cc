// Package conformance is the judge of what administrators of Luna 1.2 were promised: that they type
// what they always typed, get the tables they know, and meet none of the old bugs.
//
// Its tests run the real programs against real agents on hosts of a lab, line by line in a shell, as
// a person would. They are written from what 1.2 did and from what was decided to be done better, and
// not from the code: each check has the number that it has in the list of those promises, each bug
// that of the list of bugs.
//
// What needs more than one head and the programs is elsewhere: that machines boot, in package test;
// what the installer does to a node, in package installer.
package conformance
