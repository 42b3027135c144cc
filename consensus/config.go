package consensus

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"strings"
	"time"
)

// Config is what a [Peer] must know. It is read once, by [New].
type Config struct {
	// Name is the unique name of this head: its raft server ID, its name in
	// gossip, and the common name of its certificate. It must never change while
	// Dir is kept.
	Name string

	// Dir holds the raft log (raft.db), the snapshots (snapshots/) and the record
	// of what was applied (applied). It is created with mode 0700.
	Dir string

	// Bind is the address to listen on. The zero value or an unspecified address
	// means all addresses.
	Bind netip.Addr

	// Advertise is the address at which the other heads reach this one.
	Advertise netip.Addr

	// RaftPort (TCP) and GossipPort (TCP and UDP) are the ports to listen on. 0
	// means any free port. Luna's defaults, 8300 and 7946, are the caller's.
	RaftPort, GossipPort int

	// GossipKey encrypts and authenticates gossip with AES-256. 32 bytes; all
	// heads of a cluster have the same.
	GossipKey []byte

	// TLS holds this head's certificate and the authorities that signed the other
	// heads', for both directions: Certificates (or the callbacks in its place),
	// RootCAs and ClientCAs. The rest is set by this package: TLS 1.3, mutual.
	TLS *tls.Config

	// Authorize decides whether the owner of this certificate, which RootCAs or
	// ClientCAs signed, may speak raft: the same authority may sign for people
	// too. It is asked once per connection, by both sides, and must not block.
	Authorize func(*x509.Certificate) error

	// Admit is asked of each connection that somebody opens to this head.
	// It either turns it away, closes it and returns nil, or returns what is told whether
	// the other side was found to be a head; only the first word counts. At the gossip
	// port nobody ever is, as memberlist does not tell who had the key. Admit delays who
	// comes next to the same port. Nil lets everybody come.
	Admit func(net.Conn) (verdict func(good bool))

	// Seeds tells the gossip addresses (host:port) of the other heads, as far as
	// they are known: this head's own address among them does no harm. It is asked
	// again and again, so that it may tell more as the state is learned, and must
	// not block. Nil means none: then other heads must come to this one.
	Seeds func() []string

	// Format is which forms of log entries this head can read and write, and
	// Generation is any number that others should know of it: both mean nothing to
	// this package, which tells them to the other heads: see [Member].
	Format     int
	Generation uint64

	// Timing is [DefaultTiming] if zero.
	Timing Timing

	// Logger is slog.Default() if nil.
	Logger *slog.Logger
}

// Timing is how patient a head is. The values of all heads should be the same.
type Timing struct {
	// Heartbeat is how long a follower waits for its leader before it wants an
	// election, Election how long a candidate waits for votes, Lease how long a
	// leader that hears no majority goes on. Lease <= Heartbeat <= Election.
	Heartbeat, Election, Lease time.Duration

	// Commit is how long an idle leader takes to tell its followers that an entry
	// is committed (up to twice as long, at random): so it is what a write that was
	// asked of a follower waits for, after it is safe. It is also the interval of
	// an empty message to each follower.
	Commit time.Duration

	// Probe is the interval at which each head probes another one, in turns. A
	// head that has not answered to the end of its interval is suspected.
	Probe time.Duration

	// ProbeTimeout is how long a probe waits for the direct answer, before it asks
	// other heads to probe too and tries TCP. An answer that comes later, but in the
	// interval, still counts. At most 0.4 of Probe: what others report must
	// come back in the same interval, or the prober thinks that it is ill itself.
	ProbeTimeout time.Duration

	// Suspicion is for how many probe intervals a suspected head may still object
	// before it has failed.
	Suspicion int

	// Rejoin is the interval at which heads that should be there, but are not, are
	// called by TCP.
	Rejoin time.Duration
}

// DefaultTiming suits heads on one LAN. Measured, by TestMeasure with three heads
// and two cores that others load too: another leader has written 0.9 s after the
// old one was killed, 1.2 s at most; a killed head is seen as failed after 0.9 s,
// 1.2 s at most. Two busy loops beside it add some 0.2 s and raise no false alarm.
//
// Raft's part is as slow as it can be without being later than gossip is, for whom
// duties wait anyway. With a lease of 200 ms, a leader on two cores with eight busy
// processes stepped down after twenty minutes.
func DefaultTiming() Timing {
	return Timing{
		Heartbeat:    400 * time.Millisecond,
		Election:     400 * time.Millisecond,
		Lease:        400 * time.Millisecond,
		Commit:       10 * time.Millisecond,
		Probe:        250 * time.Millisecond,
		ProbeTimeout: 100 * time.Millisecond,
		Suspicion:    2,
		Rejoin:       2 * time.Second,
	}
}

// TestTiming suits several heads in one process on one machine, in tests: about
// twice as fast as [DefaultTiming], and still steady under the race detector.
func TestTiming() Timing {
	return Timing{
		Heartbeat:    150 * time.Millisecond,
		Election:     150 * time.Millisecond,
		Lease:        100 * time.Millisecond,
		Commit:       5 * time.Millisecond,
		Probe:        100 * time.Millisecond,
		ProbeTimeout: 40 * time.Millisecond,
		Suspicion:    4,
		Rejoin:       200 * time.Millisecond,
	}
}

// prepare validates the configuration and fills in what it leaves out.
func (c *Config) prepare() error {
	if err := c.Validate(); err != nil {
		return fmt.Errorf("consensus: %w", err)
	}
	if c.Timing == (Timing{}) {
		c.Timing = DefaultTiming()
	}
	if c.Logger == nil {
		c.Logger = slog.Default()
	}
	if c.Admit == nil {
		c.Admit = func(net.Conn) func(bool) { return func(bool) {} }
	}
	return nil
}

// Validate tells everything that is wrong with the configuration.
func (c *Config) Validate() error {
	var errs []error
	bad := func(format string, args ...any) { errs = append(errs, fmt.Errorf(format, args...)) }
	if c.Name == "" || strings.ContainsAny(c.Name, "@/ \t\n") {
		bad("head name %q: must be non-empty, without @, / and blanks", c.Name)
	}
	if c.Dir == "" {
		bad("no directory for the raft log")
	}
	if !c.Advertise.IsValid() || c.Advertise.IsUnspecified() {
		bad("address %q to advertise: other heads cannot reach it; give one address of this head", c.Advertise)
	}
	for what, port := range map[string]int{"raft": c.RaftPort, "gossip": c.GossipPort} {
		if port < 0 || port > 65535 {
			bad("%s port %d: must be 0 to 65535", what, port)
		}
	}
	if len(c.GossipKey) != 32 {
		bad("gossip key of %d bytes: must be 32", len(c.GossipKey))
	}
	if c.TLS == nil || c.TLS.RootCAs == nil || c.TLS.ClientCAs == nil {
		bad("no TLS certificate authorities: raft needs both RootCAs and ClientCAs")
	}
	if c.Authorize == nil {
		bad("no rule on who may speak raft")
	}
	if t := c.Timing; t != (Timing{}) && (t.Lease > t.Heartbeat || t.Heartbeat > t.Election) {
		bad("timing: lease %s <= heartbeat %s <= election %s does not hold", t.Lease, t.Heartbeat, t.Election)
	}
	return errors.Join(errs...)
}
