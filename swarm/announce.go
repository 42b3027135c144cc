package swarm

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"net/netip"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/anacrolix/torrent/bencode"
)

const (
	announceTimeout = 3 * time.Second
	// eager is the pause between announces while there are too few neighbours, and after the first
	// failure of a tracker.
	eager = 1500 * time.Millisecond
	// patient bounds what a tracker may ask for; a neighbour that came or went must be heard of soon.
	patient = 30 * time.Second
	// remembered bounds the addresses known for one download.
	remembered = 256
)

// announceReply is what a tracker answers (BEP 3, 7, 23). Compact is all that we ask for.
type announceReply struct {
	Failure  string `bencode:"failure reason,omitempty"`
	Interval int64  `bencode:"interval,omitempty"`
	Peers    []byte `bencode:"peers,omitempty"`
	Peers6   []byte `bencode:"peers6,omitempty"`
}

// announce tells one tracker about a download and asks for neighbours. event is "", "started",
// "completed" or "stopped".
func (d *Download) announce(ctx context.Context, tracker, event string) (announceReply, error) {
	ctx, cancel := context.WithTimeout(ctx, announceTimeout)
	defer cancel()
	hash, err := hex.DecodeString(d.desc.InfoHash)
	if err != nil {
		return announceReply{}, err
	}
	tr := d.transfer.traffic()
	q := url.Values{
		"info_hash":  {string(hash)},
		"peer_id":    {d.swarm.id},
		"port":       {strconv.Itoa(d.swarm.Port())},
		"uploaded":   {strconv.FormatInt(tr.sent, 10)},
		"downloaded": {strconv.FormatInt(tr.received, 10)},
		"left":       {strconv.FormatInt(d.content.left(), 10)},
		"compact":    {"1"},
		"numwant":    {strconv.Itoa(neighbours)},
	}
	if event != "" {
		q.Set("event", event)
	}
	sep := "?"
	if strings.Contains(tracker, "?") {
		sep = "&"
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, tracker+sep+q.Encode(), nil)
	if err != nil {
		return announceReply{}, err
	}
	resp, err := d.swarm.http.Do(req)
	if err != nil {
		return announceReply{}, bareError(err)
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return announceReply{}, fmt.Errorf("the tracker answers %s", resp.Status)
	}
	body, err := io.ReadAll(io.LimitReader(resp.Body, 64<<10))
	if err != nil {
		return announceReply{}, err
	}
	var r announceReply
	if err := bencode.Unmarshal(body, &r); err != nil {
		return announceReply{}, fmt.Errorf("read the tracker's answer: %w", err)
	}
	if r.Failure != "" {
		return announceReply{}, fmt.Errorf("the tracker refuses: %s", r.Failure)
	}
	return r, nil
}

// bareError removes method and URL, which the caller names in fewer words.
func bareError(err error) error {
	if u := (*url.Error)(nil); errors.As(err, &u) {
		return u.Err
	}
	return err
}

// follow announces to one tracker until ctx ends. A dead one costs nobody but itself anything.
func (d *Download) follow(ctx context.Context, tracker string) {
	event, failures := "started", 0
	for {
		r, err := d.announce(ctx, tracker, event)
		if ctx.Err() != nil {
			return
		}
		pause := min(max(time.Duration(r.Interval)*time.Second, eager), patient)
		switch {
		case err != nil:
			failures++
			pause = min(eager*time.Duration(failures), patient)
			d.trouble(fmt.Errorf("announce to %s: %w", tracker, err))
		default:
			event, failures = "", 0
			d.known.learn(r.addresses())
			d.meet()
			if d.content.left() > 0 && d.lonely() {
				pause = eager
			}
		}
		if d.pause(ctx, pause) && event == "" {
			event = "completed"
		}
	}
}

// pause waits for the next announce, and tells whether the download became complete meanwhile.
func (d *Download) pause(ctx context.Context, wait time.Duration) (completed bool) {
	if d.content.left() == 0 {
		select {
		case <-time.After(wait):
		case <-ctx.Done():
		}
		return false
	}
	ctx, cancel := context.WithTimeout(ctx, wait)
	defer cancel()
	return d.content.waitAll(ctx) == nil
}

// leave tells all trackers that this peer is gone, without waiting long.
func (d *Download) leave(trackers []string) {
	ctx, cancel := context.WithTimeout(context.Background(), time.Second)
	defer cancel()
	var wg sync.WaitGroup
	for _, t := range trackers {
		wg.Go(func() { _, _ = d.announce(ctx, t, "stopped") })
	}
	wg.Wait()
}

// addresses are the peers of a reply, in the tracker's order.
func (r announceReply) addresses() []netip.AddrPort {
	return append(compact(r.Peers, 4), compact(r.Peers6, 16)...)
}

// compact decodes a peer list of BEP 23 (addresses of 4 bytes) or BEP 7 (of 16).
func compact(b []byte, size int) []netip.AddrPort {
	var out []netip.AddrPort
	for p := range slices.Chunk(b, size+2) {
		if a, ok := netip.AddrFromSlice(p[:min(size, len(p))]); ok && len(p) == size+2 {
			out = append(out, netip.AddrPortFrom(a, uint16(p[size])<<8|uint16(p[size+1])))
		}
	}
	return out
}

// acquaintances are the peers that a download has heard of. First of all come the heads' own seeders,
// which trackers name first; the others are taken at random, the ones longest untried before.
type acquaintances struct {
	mu    sync.Mutex
	peers map[netip.AddrPort]acquaintance
}

type acquaintance struct {
	head  bool      // a tracker named it first
	heard time.Time // last
	tried time.Time // last; zero: never
}

func (a *acquaintances) learn(addrs []netip.AddrPort) {
	a.mu.Lock()
	defer a.mu.Unlock()
	now := time.Now()
	for i, addr := range addrs {
		if addr.Port() == 0 || !addr.Addr().IsValid() {
			continue
		}
		p := a.peers[addr]
		p.heard, p.head = now, p.head || i == 0
		a.peers[addr] = p
	}
	for len(a.peers) > remembered {
		oldest, when := netip.AddrPort{}, now.Add(time.Second)
		for addr, p := range a.peers {
			if p.heard.Before(when) {
				oldest, when = addr, p.heard
			}
		}
		delete(a.peers, oldest)
	}
}

// choose picks up to n peers to connect to, of which at least one is a head if one is known. Those
// connected are left alone, and those tried in the last moments: they are full, or dead.
func (a *acquaintances) choose(n int, connected func(netip.AddrPort) bool) []netip.AddrPort {
	a.mu.Lock()
	defer a.mu.Unlock()
	now := time.Now()
	var heads, others []netip.AddrPort
	for addr, p := range a.peers {
		switch {
		case now.Sub(p.tried) < 2*eager || connected(addr):
		case p.head:
			heads = append(heads, addr)
		default:
			others = append(others, addr)
		}
	}
	shuffle := func(s []netip.AddrPort) {
		rand.Shuffle(len(s), func(i, j int) { s[i], s[j] = s[j], s[i] })
		slices.SortStableFunc(s, func(x, y netip.AddrPort) int { return a.peers[x].tried.Compare(a.peers[y].tried) })
	}
	shuffle(heads)
	shuffle(others)
	k := min(len(heads), max(n/4, 1))
	order := slices.Concat(heads[:k], others, heads[k:])
	order = order[:min(n, len(order))]
	for _, addr := range order {
		p := a.peers[addr]
		p.tried = now
		a.peers[addr] = p
	}
	return order
}
