package agent

import (
	"crypto/tls"
	"io"
	"net"
	"sync"
)

// eitherListener accepts connections that speak TLS and such that do not, on
// one port: nodes ask over HTTP or, where the cluster says so, over HTTPS, and
// the port that firewalls know stays the same.
type eitherListener struct {
	net.Listener
	config *tls.Config
}

// Accept never waits for what the other side says: that is for the one who
// reads.
func (l eitherListener) Accept() (net.Conn, error) {
	c, err := l.Listener.Accept()
	if err != nil {
		return nil, err
	}
	return &eitherConn{Conn: c, config: l.config}, nil
}

// eitherConn finds out at its first Read which of the two it is.
type eitherConn struct {
	net.Conn
	config *tls.Config

	once sync.Once
	tls  *tls.Conn // nil where the other side does not speak TLS
	err  error
}

// recordHandshake is the first byte of TLS (RFC 8446 §5.1); no HTTP method
// begins with it.
const recordHandshake = 22

func (c *eitherConn) Read(b []byte) (int, error) {
	var first [1]byte
	n := 0
	c.once.Do(func() {
		if n, c.err = c.Conn.Read(first[:]); n == 1 && first[0] == recordHandshake {
			c.tls = tls.Server(&prefixed{Conn: c.Conn, prefix: first[:]}, c.config)
		}
	})
	switch {
	case c.tls != nil:
		return c.tls.Read(b)
	case c.err != nil:
		return 0, c.err
	case n == 1 && len(b) > 0:
		b[0] = first[0]
		return 1, nil
	}
	return c.Conn.Read(b)
}

func (c *eitherConn) Write(b []byte) (int, error) {
	if c.tls != nil {
		return c.tls.Write(b)
	}
	return c.Conn.Write(b)
}

// ReadFrom keeps the kernel's shortcut from a file to a socket for those who do
// not speak TLS: whole images go this way.
func (c *eitherConn) ReadFrom(r io.Reader) (int64, error) {
	if to, ok := c.Conn.(io.ReaderFrom); ok && c.tls == nil {
		return to.ReadFrom(r)
	}
	return io.Copy(struct{ io.Writer }{c}, r)
}

// Close says goodbye in TLS too.
func (c *eitherConn) Close() error {
	if c.tls != nil {
		return c.tls.Close()
	}
	return c.Conn.Close()
}

// prefixed gives back a byte that was read to look at it.
type prefixed struct {
	net.Conn
	prefix []byte
}

func (p *prefixed) Read(b []byte) (int, error) {
	if len(p.prefix) > 0 {
		n := copy(b, p.prefix)
		p.prefix = p.prefix[n:]
		return n, nil
	}
	return p.Conn.Read(b)
}
