// Package test tests Luna from outside: the real programs, as make build leaves
// them, on heads and nodes that are namespaces and emulated machines of a lab
// (test/lab), driven as an administrator drives them, by the luna program alone
// (test/site). It knows nothing of what is inside; what it asks for stands in the
// README, in docs/DESIGN.md and in the help of the commands.
//
// Each test makes its own site, and shares it only among its own subtests, which
// run in their order. Times that are promised to people are measured, logged and
// held; nothing is slept for, everything is waited for.
package test
