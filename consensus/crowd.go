package consensus

import (
	queue "container/list"
	"net"
	"sync"
)

// crowdLimit is how many connections of each kind may be open at the same time that
// have not yet shown whose they are. Heads need a dozen, for milliseconds. It is so
// low because each may cost a signature, and heartbeats wait for their turn behind
// them: 64 take two processors some 20 ms.
const crowdLimit = 64

// A crowd holds the connections of those who have not shown who they are, strangers
// for all that is known. When there are too many, the one that has been there for
// longest must go. To turn away who comes last would let a few silent ones keep the
// heads out.
type crowd struct {
	mu      sync.Mutex
	waiting queue.List // of net.Conn, the first to come first
}

// enter lets a connection in, and closes another if need be. What it returns must be
// called when the connection is no longer a stranger's, or closed.
func (c *crowd) enter(conn net.Conn) (leave func()) {
	c.mu.Lock()
	place := c.waiting.PushBack(conn)
	var pushed net.Conn
	if c.waiting.Len() > crowdLimit {
		pushed, _ = c.waiting.Remove(c.waiting.Front()).(net.Conn)
	}
	c.mu.Unlock()
	if pushed != nil {
		_ = pushed.Close()
	}
	return func() {
		c.mu.Lock()
		defer c.mu.Unlock()
		c.waiting.Remove(place) // nothing, if it was pushed out
	}
}

// crowdConn is a connection that is in a crowd until it is closed.
type crowdConn struct {
	net.Conn
	leave func()
}

func (c *crowdConn) Close() error {
	c.leave()
	return c.Conn.Close()
}
