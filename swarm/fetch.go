package swarm

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net/netip"
	"slices"
	"sync"
	"time"
)

const (
	// neighbours is the number of connections at which a download looks for no more; others still
	// connect to it.
	neighbours = 8
	// alone is how long a download without a single peer waits before it turns to HTTP, stuck how long
	// one with peers that deliver nothing. Both are drawn out by up to half, differently on each
	// machine, so that not all of them turn to the heads at once.
	alone = 2 * time.Second
	stuck = 4 * time.Second
	// The pieces that a reader wants soon, one in windowShare of all, are asked for first, the rarest
	// of them before the others. Measured with 12 nodes and one head: half of the artifact costs 5 %
	// of the time to the last byte, and lets an unpacker begin at half time; a third costs 12 %, a
	// fifth 20 %, and to urge the very next piece besides 40 %.
	windowShare = 2
)

// Source tells a fetch where to look. All of it may change while the fetch runs, and be empty.
type Source struct {
	// Trackers are announce URLs. All of them are asked.
	Trackers []string
	// HTTP are URLs of the whole artifact that answer range requests, in the order to be tried.
	HTTP []string
	// Peers are addresses of peers known beforehand.
	Peers []netip.AddrPort
}

// Progress tells how far a download is.
type Progress struct {
	Done  int64 // bytes there and proven
	Total int64 // bytes
	// FromPeers and FromHTTP are the bytes that came from each; what was there before is in neither.
	FromPeers, FromHTTP int64
	Uploaded            int64 // bytes sent to peers
	Rate                int64 // bytes per second that came over the last seconds
	Peers               int   // connections to peers
	Lacking             int   // of these, to peers that do not have everything yet
	// Trouble is the last thing that went wrong and may yet be cured, such as a tracker that does not
	// answer; "" once the download is complete.
	Trouble string
}

// Download is an artifact on its way, and served to others as far as it is there.
type Download struct {
	swarm    *Swarm
	desc     Descriptor
	content  *content
	transfer *transfer
	known    acquaintances
	http     sources

	ctx    context.Context // ends everything below
	cancel context.CancelCauseFunc
	wg     sync.WaitGroup
	closed sync.Once

	mu        sync.Mutex
	followers map[string]context.CancelFunc // by tracker URL
	fromHTTP  int64
	rate      int64
	last      error // for Progress.Trouble
	window    int   // first piece that the reader does not want soon
}

var errClosed = errors.New("the download was closed")

// Fetch begins to bring the artifact to the file at path and to serve to others what is there. It
// does so until ctx ends, [Download.Close] is called, or the swarm ends; being complete does not end
// it. Pieces that an earlier attempt left at path are proven and kept, anything else there is
// overwritten. Fetch returns when that proof is done. The file may be renamed meanwhile, but not
// changed.
func (s *Swarm) Fetch(ctx context.Context, d Descriptor, path string, src Source) (*Download, error) {
	if err := d.Validate(); err != nil {
		return nil, fmt.Errorf("fetch: %w", err)
	}
	c, err := openPartial(ctx, d, path)
	if err != nil {
		return nil, fmt.Errorf("fetch %s: %w", d.Name, err)
	}
	t, err := s.engine.add(c, true)
	if err != nil {
		c.file.Close()
		return nil, fmt.Errorf("fetch %s: %w", d.Name, err)
	}
	dl := &Download{
		swarm: s, desc: d, content: c, transfer: t,
		known:     acquaintances{peers: map[netip.AddrPort]acquaintance{}},
		followers: map[string]context.CancelFunc{},
	}
	dl.ctx, dl.cancel = context.WithCancelCause(ctx)
	if err := s.enter(d.InfoHash, dl); err != nil {
		t.stop()
		c.file.Close()
		return nil, fmt.Errorf("fetch %s: %w", d.Name, err)
	}
	dl.wg.Go(func() { c.prove(dl.ctx) })
	dl.wg.Go(dl.fallBack)
	dl.wg.Go(dl.watch)
	dl.SetSource(src)
	context.AfterFunc(dl.ctx, dl.Close)
	return dl, nil
}

// SetSource replaces where to look, as heads come and go.
func (d *Download) SetSource(src Source) {
	d.http.set(src.HTTP)
	d.known.learn(src.Peers)
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.ctx.Err() != nil {
		return
	}
	for url, stop := range d.followers {
		if !slices.Contains(src.Trackers, url) {
			stop()
			delete(d.followers, url)
		}
	}
	for _, url := range src.Trackers {
		if d.followers[url] == nil {
			ctx, cancel := context.WithCancel(d.ctx)
			d.followers[url] = cancel
			d.wg.Go(func() { d.follow(ctx, url) })
		}
	}
}

// Reader reads the artifact from its first byte while it arrives: a Read blocks until the next piece
// is there and proven, and the end is reported only when the whole is. It must be closed, and fails
// when the download ends. One at a time makes sense: where it reads is what is asked for first.
func (d *Download) Reader() io.ReadCloser {
	ctx, cancel := context.WithCancel(d.ctx)
	return &reader{c: d.content, ctx: ctx, cancel: cancel, moved: d.readAt, explain: d.explain}
}

// readAt moves the window of preferred pieces to the piece that is read next.
func (d *Download) readAt(piece int) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.content.left() == 0 {
		return
	}
	end := piece + max(d.desc.count()/windowShare, 1)
	d.transfer.prefer(max(piece, d.window), end)
	d.window = end
}

// Wait returns nil once the whole artifact is in the file and its SHA-256 was found right. It fails
// when that cannot happen any more, such as on a full disk, or when ctx or the download ends before;
// the error names the artifact and the last trouble.
func (d *Download) Wait(ctx context.Context) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	defer context.AfterFunc(d.ctx, func() { cancel(context.Cause(d.ctx)) })()
	if err := d.content.waitWhole(ctx); err != nil {
		return d.explain(causeOr(ctx, err))
	}
	return nil
}

// explain names the artifact, how far it came, and what went wrong last, beside err.
func (d *Download) explain(err error) error {
	p := d.Progress()
	if f := d.content.failed(); f == nil && p.Trouble != "" {
		return fmt.Errorf("fetch %s: %w after %d of %d bytes (last trouble: %s)", d.desc.Name, err, p.Done, p.Total, p.Trouble)
	}
	return fmt.Errorf("fetch %s: %w after %d of %d bytes", d.desc.Name, err, p.Done, p.Total)
}

// Progress tells how far the download is.
func (d *Download) Progress() Progress {
	tr, left := d.transfer.traffic(), d.content.left()
	d.mu.Lock()
	defer d.mu.Unlock()
	p := Progress{
		Done: d.desc.Size - left, Total: d.desc.Size,
		FromPeers: tr.received, FromHTTP: d.fromHTTP, Uploaded: tr.sent,
		Rate: d.rate, Peers: tr.peers, Lacking: tr.lacking,
	}
	if left > 0 && d.last != nil {
		p.Trouble = d.last.Error()
	}
	return p
}

// Close ends the download and the serving, tells the trackers, and returns when the file is closed;
// that takes no more than about a second. What is in the file can be fetched on later.
func (d *Download) Close() {
	d.closed.Do(func() {
		d.cancel(errClosed)
		d.mu.Lock()
		var trackers []string
		for url := range d.followers {
			trackers = append(trackers, url)
		}
		d.mu.Unlock()
		d.wg.Wait()
		d.leave(trackers)
		d.transfer.stop()
		_ = d.content.file.Close()
		d.swarm.exit(d.desc.InfoHash)
	})
}

// trouble keeps what went wrong for those who ask.
func (d *Download) trouble(err error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.last = err
}

// lonely tells whether more neighbours are wanted.
func (d *Download) lonely() bool { return d.transfer.traffic().peers < neighbours }

// meet connects to as many known peers as are wanted.
func (d *Download) meet() {
	if d.content.left() == 0 {
		return
	}
	if n := neighbours - d.transfer.traffic().peers; n > 0 {
		d.transfer.connect(d.known.choose(n, d.transfer.connected))
	}
}

// watch measures the rate and looks for neighbours between announces, until the artifact is complete.
func (d *Download) watch() {
	const every, over = time.Second, 5
	tick := time.NewTicker(every)
	defer tick.Stop()
	var samples []int64
	for d.content.left() > 0 {
		d.meet()
		samples = append(samples, d.came())
		if len(samples) > over+1 {
			samples = samples[1:]
		}
		if n := len(samples) - 1; n > 0 {
			d.mu.Lock()
			d.rate = (samples[n] - samples[0]) / int64(n)
			d.mu.Unlock()
		}
		select {
		case <-tick.C:
		case <-d.ctx.Done():
			return
		}
	}
	d.mu.Lock()
	d.rate = 0
	d.mu.Unlock()
}

// came is the number of bytes that came by either way.
func (d *Download) came() int64 {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.transfer.traffic().received + d.fromHTTP
}

// fallBack takes pieces by HTTP whenever peers deliver nothing, until the artifact is complete.
func (d *Download) fallBack() {
	spread := 1 + rand.Float64()/2 //nolint:gosec // not a secret
	seen, since := int64(0), time.Now()
	tick := time.NewTicker(alone / 10)
	defer tick.Stop()
	var buf []byte
	for d.content.left() > 0 && d.content.failed() == nil {
		tr, patience := d.transfer.traffic(), stuck
		if tr.peers == 0 && seen == 0 {
			patience = alone
		}
		if tr.received > seen {
			seen, since = tr.received, time.Now()
		}
		if time.Since(since) >= time.Duration(float64(patience)*spread) {
			if buf == nil {
				buf = make([]byte, d.desc.PieceLength)
			}
			if d.takePiece(buf) {
				continue
			}
		}
		select {
		case <-tick.C:
		case <-d.ctx.Done():
			return
		}
	}
}

// takePiece takes the next missing piece from the next source and tells whether there is more to do
// at once.
func (d *Download) takePiece(buf []byte) bool {
	lacks := d.content.lacks()
	url := d.http.next()
	if url == "" || len(lacks) == 0 {
		return false
	}
	// In order, for the reader's sake; but not what peers are in the middle of, until nothing else is
	// left.
	i := lacks[0]
	if k := slices.IndexFunc(lacks, func(i int) bool { return !d.transfer.busy(i) }); k >= 0 {
		i = lacks[k]
	}
	err := d.fetchPiece(d.ctx, url, i, buf)
	d.http.result(url, err)
	if err != nil {
		if d.ctx.Err() == nil {
			d.trouble(fmt.Errorf("piece %d from %s: %w", i, url, err))
		}
		if errors.Is(err, errNotPiece) {
			d.swarm.log.Warn("http source does not hold the artifact", "image", d.desc.Name, "url", url, "piece", i)
		}
		return d.content.failed() == nil
	}
	d.transfer.got(i)
	d.mu.Lock()
	d.fromHTTP += d.desc.pieceSize(i)
	d.mu.Unlock()
	return true
}
