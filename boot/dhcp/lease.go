package dhcp

import (
	"context"
	"net/netip"
	"sync"
	"time"

	"github.com/insomniacslk/dhcp/dhcpv4"

	"github.com/clustervision/luna/inventory"
)

const (
	// leaseWorkers is how many leases are being committed at once: as many as
	// fill the batches of a replicated log, and so few that a flood of made-up
	// machines leaves room in it for administrators.
	leaseWorkers = 64
	// leaseQueue is how many machines may wait for a lease, some seconds' worth
	// of commits. More are dropped: they ask again.
	leaseQueue = 4096
	// leaseTimeout is how long a commit may take. Firmware asks again after 4 s
	// at most, and by then it has a new transaction.
	leaseTimeout = 2 * time.Second
	// leaseStale is how old a request may be and still be worth an answer.
	leaseStale = 4 * time.Second
)

// claim is a machine that wants a lease on a network.
type claim struct {
	network string
	mac     inventory.MAC
}

// leaser gets pool leases, for many machines at once and once for each: a
// machine that asks again while it waits only replaces its question.
type leaser struct {
	commit func(ctx context.Context, network string, mac inventory.MAC, declined netip.Addr) (netip.Addr, time.Duration, error)
	now    func() time.Time
	// answer is given the newest request of a machine and its lease. It must
	// not block.
	answer func(request, grant)
	// failed is told why there is no lease.
	failed func(claim, error)

	queue chan claim // holds every claim in waiting that no worker has taken yet

	mu      sync.Mutex
	waiting map[claim]question
}

type question struct {
	request  request
	at       time.Time
	declined netip.Addr // what the machine has declined since it has waited
}

func newLeaser() *leaser {
	return &leaser{queue: make(chan claim, leaseQueue), waiting: map[claim]question{}, now: time.Now}
}

// ask queues the request. It is false where too many wait already.
func (l *leaser) ask(network *inventory.Network, r request) bool {
	c := claim{network.Name, r.machine.MAC}
	l.mu.Lock()
	defer l.mu.Unlock()
	if _, waits := l.waiting[c]; !waits {
		select {
		case l.queue <- c:
		default:
			return false
		}
	}
	declined := l.waiting[c].declined
	if r.kind == dhcpv4.MessageTypeDecline {
		declined = r.wants
	}
	l.waiting[c] = question{r, l.now(), declined}
	return true
}

// newest gives the machine's last request, if it is fresh enough.
func (l *leaser) newest(c claim, remove bool) (question, bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	q := l.waiting[c]
	fresh := l.now().Sub(q.at) < leaseStale
	if remove || !fresh {
		delete(l.waiting, c)
	}
	return q, fresh
}

// work commits one lease after the other until ctx ends.
func (l *leaser) work(ctx context.Context) {
	for {
		select {
		case <-ctx.Done():
			return
		case c := <-l.queue:
			l.serve(ctx, c)
		}
	}
}

func (l *leaser) serve(ctx context.Context, c claim) {
	asked, fresh := l.newest(c, false)
	if !fresh {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, leaseTimeout)
	defer cancel()
	addr, ttl, err := l.commit(ctx, c.network, c.mac, asked.declined)
	q, fresh := l.newest(c, true)
	switch {
	case err != nil:
		l.failed(c, err)
	case fresh:
		l.answer(q.request, grant{addr, ttl})
	}
}
