package consensus

import (
	"context"
	"errors"
	"log/slog"
	"sync"
	"time"

	"github.com/hashicorp/raft"
	"golang.org/x/sync/errgroup"
)

// handOverTimeout bounds how long a leader that stops looks for a successor.
const handOverTimeout = 2 * time.Second

// Peer is this head among the others: a member of gossip and a replica of the
// state. Its methods may be called from any goroutine, from New to Close.
type Peer struct {
	*gossip  // Join, Members, MembersChanged, GossipAddr
	*replica // Apply, Verify, Barrier, WaitApplied, Leader, Servers, AddVoter and the rest

	log      *slog.Logger
	duty     []func(context.Context) error
	closing  chan struct{}
	close    sync.Once
	closeErr error
}

// New opens the ports, restores the machine from disk and begins to take part:
// it answers other heads, and as soon as a majority is there it may come to lead.
// Every Peer must be ended by the end of Run or by Close.
//
// From here on the machine is raft's: entries are applied to it in raft's
// goroutine.
func New(cfg Config, machine raft.FSM) (_ *Peer, err error) {
	if err := cfg.prepare(); err != nil {
		return nil, err
	}
	limit := new(limiter)
	stream, err := listenStream(&cfg, limit)
	if err != nil {
		return nil, err
	}
	logger := newRaftLog(stream.ctx, cfg.Logger, limit)
	trans := newTransport(stream, logger)
	p := &Peer{log: cfg.Logger, closing: make(chan struct{})}
	if p.replica, err = openReplica(&cfg, machine, trans, logger); err != nil {
		_ = trans.Close()
		return nil, err
	}
	if p.gossip, err = openGossip(&cfg, stream.advertise, limit); err != nil {
		return nil, errors.Join(err, p.replica.close())
	}
	p.replica.members = p.gossip
	trans.open(p.replica.address, p.DiskError)
	return p, nil
}

// WhileLeader registers a function, before Run, to be run each time that this head
// comes to lead, when its state holds everything that was committed before. Its
// context ends with leadership and it must then return; no other term's begins
// before. If it returns an error earlier, it is run again after a while; if it
// returns nil, it is done for this term.
func (p *Peer) WhileLeader(f func(ctx context.Context) error) { p.duty = append(p.duty, f) }

// Run takes part until ctx ends, and then goes politely: it hands over leadership,
// tells gossip that it leaves, and closes everything. Each step has its deadline,
// a few seconds in all, and none but the closing can make Run fail: it is normal
// that the last head finds nobody to hand over to. It returns nil then, and also
// after Close.
func (p *Peer) Run(ctx context.Context) error {
	running, cancel := context.WithCancel(ctx)
	defer cancel()
	parts, running := errgroup.WithContext(running)
	parts.Go(func() error {
		p.keepJoined(running)
		return nil
	})
	parts.Go(func() error {
		p.keepFitness(running, p.disk)
		return nil
	})
	parts.Go(func() error {
		office := leadership{replica: p.replica, log: p.log, duty: p.duty}
		return office.run(running)
	})
	select {
	case <-running.Done(): // or a part failed
	case <-p.closing:
	}
	cancel()
	err := parts.Wait()
	select {
	case <-p.closing:
	default:
		p.HandOver()
		p.leave()
	}
	return errors.Join(err, p.Close())
}

// HandOver hands leadership, if this head leads, to whoever takes it within two
// seconds. It is worth doing before anything that takes time: Run does so in the
// end at the latest.
func (p *Peer) HandOver() {
	if !p.IsLeader() {
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), handOverTimeout)
	defer cancel()
	if err := p.TransferLeadership(ctx); err != nil {
		p.log.Info("leadership not handed over", "reason", err)
	}
}

// Close ends the peer at once and without a word to the others, who will see it as
// failed. It is for a peer that was never run, and for tests of sudden death.
func (p *Peer) Close() error {
	p.close.Do(func() {
		close(p.closing)
		p.closeErr = errors.Join(p.gossip.close(), p.replica.close())
	})
	return p.closeErr
}
