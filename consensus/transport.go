package consensus

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"strings"
	"sync"
	"time"

	"github.com/hashicorp/go-hclog"
	"github.com/hashicorp/raft"
)

const (
	// rpcTimeout bounds one raft message and its answer, a write to the follower's
	// disk included. A snapshot gets more, by its size.
	rpcTimeout = 5 * time.Second

	// patience bounds how long replication to a head that is away waits for it to
	// answer, before raft counts another failure.
	patience = 30 * time.Second

	// refusalPause is how long replication to a head that cannot write what it is
	// sent waits before it tries the same again.
	refusalPause = 200 * time.Millisecond
)

// errSilent says that this head says nothing to others, as it cannot write.
var errSilent = errors.New("the raft log of this head cannot be written")

// transport is raft's network transport, with three differences.
//
// It dials heads by name: each address that it hands to the stream layer is
// "name@address:port", so that the certificate can be held against the name.
//
// And it takes up replication at once when a head comes back. Raft waits between
// attempts, twice as long each time, up to ten seconds, and is not woken: but its
// heartbeats to the same head go on several times a second, so they can tell. The
// same holds for a head that is there and has a full disk: what it could not write
// is sent again until it can.
//
// And it says nothing as a leader or a candidate while this head's own disk fails.
type transport struct {
	*raft.NetworkTransport
	stream *stream

	// ready is closed when address may be called; raft starts to dial before New
	// has everything in place.
	ready   chan struct{}
	address func(name string) (netip.AddrPort, bool)
	disk    func() error

	answers answers // of the followers, while this head leads

	mu   sync.Mutex
	away map[raft.ServerID]chan struct{} // closed when a heartbeat gets through
}

var _ raft.WithPreVote = (*transport)(nil)

func newTransport(s *stream, logger hclog.Logger) *transport {
	t := &transport{stream: s, ready: make(chan struct{}), away: make(map[raft.ServerID]chan struct{})}
	t.NetworkTransport = raft.NewNetworkTransportWithConfig(&raft.NetworkTransportConfig{
		ServerAddressProvider: t,
		Logger:                logger,
		Stream:                s,
		MaxPool:               3,
		Timeout:               rpcTimeout,
		// No pipelining. In v1.7.3 it can lock up for ever, and the end of raft with
		// it, when a follower turns down a message while the next one is being sent:
		// netPipeline.AppendEntries and decodeResponses then both wait for
		// pipelineDecode, which has gone (hashicorp/raft issue 612; seen here too).
		// Entries go in batches all the same.
		MaxRPCsInFlight: 1,
	})
	return t
}

// open lets raft dial, from now on.
func (t *transport) open(address func(name string) (netip.AddrPort, bool), disk func() error) {
	t.address, t.disk = address, disk
	close(t.ready)
}

func (t *transport) isOpen() bool {
	select {
	case <-t.ready:
		return true
	default:
		return false
	}
}

// silent reports whether this head must neither lead nor stand for election.
func (t *transport) silent() bool { return t.isOpen() && t.disk() != nil }

// RequestVote implements raft.Transport.
func (t *transport) RequestVote(id raft.ServerID, target raft.ServerAddress, req *raft.RequestVoteRequest, resp *raft.RequestVoteResponse) error {
	if t.silent() {
		return errSilent
	}
	return t.NetworkTransport.RequestVote(id, target, req, resp)
}

// RequestPreVote implements raft.WithPreVote.
func (t *transport) RequestPreVote(id raft.ServerID, target raft.ServerAddress, req *raft.RequestPreVoteRequest, resp *raft.RequestPreVoteResponse) error {
	if t.silent() {
		return errSilent
	}
	return t.NetworkTransport.RequestPreVote(id, target, req, resp)
}

// ServerAddr implements raft.ServerAddressProvider.
func (t *transport) ServerAddr(id raft.ServerID) (raft.ServerAddress, error) {
	select {
	case <-t.ready:
	case <-t.stream.ctx.Done():
		return "", ErrClosed
	}
	addr, ok := t.address(string(id))
	if !ok {
		return "", fmt.Errorf("the address of head %s is not known", id)
	}
	return raft.ServerAddress(string(id) + "@" + addr.String()), nil
}

// splitServer takes apart what ServerAddr has put together.
func splitServer(server raft.ServerAddress) (name, addr string, err error) {
	i := strings.LastIndexByte(string(server), '@')
	if i <= 0 {
		return "", "", fmt.Errorf("not dialing %s: the name of the head there is not known", server)
	}
	return string(server[:i]), string(server[i+1:]), nil
}

// EncodePeer gives the address without a name: this is what goes into messages
// and to disk, and is compared there.
func (t *transport) EncodePeer(_ raft.ServerID, addr raft.ServerAddress) []byte {
	return []byte(addr)
}

// AppendEntries implements raft.Transport.
func (t *transport) AppendEntries(id raft.ServerID, target raft.ServerAddress, req *raft.AppendEntriesRequest, resp *raft.AppendEntriesResponse) error {
	err := t.ask(id, target, req, resp)
	heartbeat := req.PrevLogEntry == 0 && req.PrevLogTerm == 0 && len(req.Entries) == 0 && req.LeaderCommitIndex == 0
	switch {
	case heartbeat && err == nil:
		t.answered(id)
		return nil
	case heartbeat || err != nil && !t.untilAnswered(id):
		return err
	case err != nil:
		err = t.ask(id, target, req, resp)
	}
	// Raft would wait longer and longer, and each time go back by an entry, until
	// there is none that far back.
	for end := time.Now().Add(patience); err == nil && notWritten(req, resp) && time.Now().Before(end); {
		select {
		case <-time.After(refusalPause):
			err = t.ask(id, target, req, resp)
		case <-t.stream.ctx.Done():
			return ErrClosed
		}
	}
	return err
}

// notWritten reports whether a follower has turned entries down for no other reason
// than that it could not write them.
func notWritten(req *raft.AppendEntriesRequest, resp *raft.AppendEntriesResponse) bool {
	return !resp.Success && !resp.NoRetryBackoff && resp.Term <= req.Term && len(req.Entries) > 0
}

// ask sends a message to a follower, and notes that it obeys, if it does.
func (t *transport) ask(id raft.ServerID, target raft.ServerAddress, req *raft.AppendEntriesRequest, resp *raft.AppendEntriesResponse) error {
	if t.silent() {
		return errSilent
	}
	sent := time.Now()
	err := t.NetworkTransport.AppendEntries(id, target, req, resp)
	if err == nil && resp.Term <= req.Term {
		var matched uint64
		if resp.Success {
			matched = req.PrevLogEntry + uint64(len(req.Entries))
		}
		t.answers.note(string(id), answer{term: req.Term, sent: sent, matched: matched})
	}
	return err
}

func (t *transport) answered(id raft.ServerID) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if ch, ok := t.away[id]; ok {
		close(ch)
		delete(t.away, id)
	}
}

// untilAnswered waits for a heartbeat of that head and reports whether one came.
func (t *transport) untilAnswered(id raft.ServerID) bool {
	t.mu.Lock()
	ch, ok := t.away[id]
	if !ok {
		ch = make(chan struct{})
		t.away[id] = ch
	}
	t.mu.Unlock()
	ctx, cancel := context.WithTimeout(t.stream.ctx, patience)
	defer cancel()
	select {
	case <-ch:
		return true
	case <-ctx.Done():
		return false
	}
}

// Close ends the transport and all its connections: raft's own would leave those
// that others have opened until they close them.
func (t *transport) Close() error {
	err := t.NetworkTransport.Close() // closes the stream layer too
	t.CloseStreams()
	return err
}
