package swarm

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"
	"sync"
	"time"
)

const (
	// A source must send leastBytes, or the rest of the piece, in bodyPause: slow enough for a head
	// that serves thousands at once, fast enough that one that hangs or trickles is soon left.
	bodyPause  = 4 * time.Second
	leastBytes = 128 << 10
	// badRest is how long a source is left alone after it delivered what is not the artifact.
	badRest = 30 * time.Second
)

// sources are the URLs of the whole artifact, best first. A failing one goes to the end of the list.
type sources struct {
	mu   sync.Mutex
	list []source
}

type source struct {
	url      string
	failures int       // since the last piece
	rest     time.Time // not asked before
}

// set replaces the URLs; what is known of those that stay is kept, and those that failed stay last.
func (s *sources) set(urls []string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	var list []source
	for _, u := range urls {
		i := slices.IndexFunc(s.list, func(o source) bool { return o.url == u })
		if i >= 0 {
			list = append(list, s.list[i])
		} else {
			list = append(list, source{url: u})
		}
	}
	slices.SortStableFunc(list, func(a, b source) int { return min(a.failures, 1) - min(b.failures, 1) })
	s.list = list
}

// next is the first source that does not rest, or "".
func (s *sources) next() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, o := range s.list {
		if !o.rest.After(time.Now()) {
			return o.url
		}
	}
	return ""
}

// result notes how a source did.
func (s *sources) result(url string, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	i := slices.IndexFunc(s.list, func(o source) bool { return o.url == url })
	switch {
	case i < 0:
	case err == nil:
		s.list[i].failures, s.list[i].rest = 0, time.Time{}
	default:
		o := s.list[i]
		o.failures++
		o.rest = time.Now().Add(min(time.Second*time.Duration(o.failures), 10*time.Second))
		if errors.Is(err, errNotPiece) {
			o.rest = time.Now().Add(badRest)
		}
		s.list = append(slices.Delete(s.list, i, i+1), o)
	}
}

// fetchPiece takes piece i from url by an HTTP range request and puts it into the content. data is
// a buffer of at least the piece length.
func (d *Download) fetchPiece(ctx context.Context, url string, i int, data []byte) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	// One clock for connecting, for the header, and for each part of the body.
	slow := fmt.Errorf("it sent less than %d KiB in %s", leastBytes>>10, bodyPause)
	idle := time.AfterFunc(bodyPause, func() { cancel(slow) })
	defer idle.Stop()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return err
	}
	first, size := d.desc.offset(i), d.desc.pieceSize(i)
	want := fmt.Sprintf("bytes %d-%d/%d", first, first+size-1, d.desc.Size)
	req.Header.Set("Range", fmt.Sprintf("bytes=%d-%d", first, first+size-1))
	resp, err := d.swarm.http.Do(req)
	if err != nil {
		return causeOr(ctx, bareError(err))
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusPartialContent && (resp.StatusCode != http.StatusOK || size != d.desc.Size) {
		return fmt.Errorf("the server answers %s to a range request", resp.Status)
	}
	if got := resp.Header.Get("Content-Range"); resp.StatusCode == http.StatusPartialContent && got != want {
		return fmt.Errorf("the server sends %q in place of %q", got, want)
	}
	data = data[:size]
	for part := range slices.Chunk(data, leastBytes) {
		if _, err := io.ReadFull(resp.Body, part); err != nil {
			return causeOr(ctx, err)
		}
		idle.Reset(bodyPause)
	}
	return d.content.put(i, data)
}

// causeOr is the reason for which ctx was cancelled, if it was, or else err.
func causeOr(ctx context.Context, err error) error {
	if c := context.Cause(ctx); c != nil {
		return c
	}
	return err
}
