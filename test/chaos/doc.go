// Package chaos breaks a mesh of real heads and holds it to its promises: heads
// are killed, paused, stopped and cut off, from all others or in one direction,
// while clients read and write through all of them.
//
// What the clients saw is a history, and the history must be linearizable: as if
// each request had been done at one moment between its start and its end, on one
// inventory that nothing ever happens to. porcupine searches for that order
// (history_test.go has the model). The clients speak HTTP, as docs/openapi.yaml
// has it, over the heads' sockets and over TLS; nothing here knows what is inside.
//
// make test gives each test as long as it can spare. LUNA_SOAK=1 (make soak) gives
// them what the promise is about; LUNA_SOAK=5m does, but for the time that the
// clients of TestLinearizable have. LUNA_PROGRAMS names
// a directory of other programs to judge than those in bin. The faults come in an
// order that is drawn anew in each run; the test says which came when.
package chaos
