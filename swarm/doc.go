// Package swarm brings one artifact, a single file named by its hash, to every machine of a cluster
// at the speed of its links. It has four words:
//
//   - [Describe] a file: the [Descriptor] is all that a peer needs to fetch and to prove it, and small
//     enough to be replicated in the inventory.
//   - [Swarm.Seed] it from the heads that hold it.
//   - [Swarm.Fetch] it on the others and on the nodes, reading it while it arrives and passing it on
//     to the neighbours meanwhile.
//   - [Tracker], of which each head runs one, makes the neighbours known to each other.
//
// It speaks BitTorrent (BEP 3), so that aria2 and every other client can take part with the standard
// file that [Descriptor.Torrent] writes. What does the transport is an engine behind engine.go; none
// of its types appear in the exported API, and nobody outside may notice when it changes.
//
// # What must hold
//
// A byte reaches the reader only after its piece was held against the SHA-1 in the descriptor, and
// [Download.Wait] returns nil only after the whole file was held against its SHA-256. A peer or a
// head that delivers something else is not asked again before all others.
//
// Nothing hangs for long while somebody can deliver: a fetch announces itself to the trackers of all
// heads at once, and takes missing pieces by HTTP from the heads, in the order that it was given,
// after a few seconds without progress, until peers deliver again.
//
// # Why it is so
//
//   - The content of a file is ours ([content]), not the engine's: which pieces are there, who waits
//     for them, what broke. Engine, HTTP fall-back, reader, and SHA-256 meet there and nowhere else.
//   - A fetch finds its neighbours itself rather than through the engine, because the engine asks one
//     tracker at a time and waits for minutes after a dead one.
//   - Neighbours are few (about eight): a mesh of that degree spreads as fast as a full one, at a
//     fraction of the messages. Uploads go to few of them at a time: a chunk that arrives whole can
//     be passed on, eight that arrive at an eighth of the speed cannot.
//   - A reader moves a window over the file, within which rare pieces come first. In strict order
//     every node would want the same piece of the same head; without order nothing could be unpacked
//     before the end.
package swarm
