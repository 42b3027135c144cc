// Package consensus makes a head one of several. It answers two questions and
// keeps them apart:
//
//   - Who is there? Gossip (hashicorp/memberlist) answers within about a second,
//     from probes, and is sometimes wrong. Nothing but what can be undone may
//     hang on it.
//   - What is true? Raft (hashicorp/raft on bbolt) answers, from a majority and
//     from disk, and is never wrong.
//
// A [Peer] is this head in both. It is handed a [raft.FSM] and knows nothing of
// what that holds. It never changes who votes by itself: a head that has failed
// has not left, and a missed probe must not shrink the quorum. The caller
// reconciles, in a function registered with [Peer.WhileLeader].
//
// What this package adds to the two libraries, and why:
//
//   - Raft connections are mutual TLS 1.3, and the dialing head demands the
//     certificate of the very head it wants, by name. Raft counts answers per
//     server and not per connection, so a head that answered at another's address
//     would be counted twice.
//   - Applied means applied. raft.AppliedIndex counts what was handed to the
//     state machine's queue; [Peer.AppliedIndex] and [Peer.WaitApplied] count what
//     the state machine has done, which is what a reader of it needs.
//   - A head that starts without a quorum has the state that it had when it
//     stopped. Raft alone would go back to the last snapshot and wait for a leader
//     to say how much of the log is committed (see record.go).
//   - A head that comes back is caught up at once. Raft alone would back off from
//     it for up to ten seconds (see transport.go).
//   - Replication cannot lock up, as raft's pipeline can (see transport.go).
//   - A read index is only given when a majority of the voters has answered what was
//     asked after it was taken; raft's own check counts older answers, and those of
//     heads without a vote (see reads.go).
//   - What is on disk is known to be what was written, down to the byte, or the head
//     does not start and says why: [DamagedError]. bbolt and raft-boltdb have no
//     checksums, and bbolt does not survive a damaged page (see entry.go, store.go
//     and pages.go). A damaged snapshot that is not needed is passed over.
//   - A disk that is full, broken or hangs costs this head its part in elections and
//     nobody else anything, until it can be written again: [Peer.DiskError]. raft
//     alone would end the process, or lead again and again (see disk.go).
//   - When most heads are lost for good, the last one can go on: [Recover].
//   - Strangers at the ports, however many, take no more than a little of the memory
//     and of the processors (see crowd.go).
//   - Heads find each other again by themselves after any stop, in any order, and
//     at a new address too: see Config.Seeds and gossip.go.
package consensus
