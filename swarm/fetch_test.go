package swarm

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net/http"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sync/errgroup"
)

func mustSeed(t *testing.T, m *machine, d Descriptor, path string) {
	t.Helper()
	if err := m.Seed(d, path); err != nil {
		t.Fatal(err)
	}
}

func TestSeedAndFetch(t *testing.T) {
	data := randomBytes(10<<20+12345, 1)
	d, path := artifactFile(t, data)
	h := newHead(t, 1, nil)
	mustSeed(t, h.machine, d, path)
	mustSeed(t, h.machine, d, path) // again: nothing changes
	dl := fetch(t, newMachine(t, 2), d, sourceOf(h))
	mustArrive(t, dl, data, 20*time.Second)
	p := dl.Progress()
	if p.Done != d.Size || p.FromPeers < d.Size || p.FromHTTP != 0 || p.Trouble != "" {
		t.Errorf("progress at the end: %+v", p)
	}
}

// Less than one piece, less than one chunk, and exactly one piece.
func TestSmallArtifacts(t *testing.T) {
	h := newHead(t, 1, nil)
	m := newMachine(t, 2)
	for _, size := range []int{1, minPiece - 1, minPiece, minPiece + 1} {
		data := randomBytes(size, 3)
		d, path := artifactFile(t, data)
		mustSeed(t, h.machine, d, path)
		dl := fetch(t, m, d, sourceOf(h))
		if err := mustRead(dl, data); err != nil {
			t.Errorf("%d bytes: %v", size, err)
		}
	}
}

// Six nodes read while they fetch, from one head that need not feed them all because they feed each
// other.
func TestManyReadWhileFetching(t *testing.T) {
	data := randomBytes(24<<20, 2)
	d, path := artifactFile(t, data)
	h := newHead(t, 1, files(data))
	mustSeed(t, h.machine, d, path)
	var g errgroup.Group
	var dls []*Download
	for n := range 6 {
		dl := fetch(t, newMachine(t, 10+n), d, sourceOf(h))
		dls = append(dls, dl)
		g.Go(func() error { return mustRead(dl, data) })
	}
	start := time.Now()
	if err := g.Wait(); err != nil {
		t.Fatal(err)
	}
	var up int64
	for _, dl := range dls {
		mustArrive(t, dl, data, time.Second)
		up += dl.Progress().Uploaded
	}
	t.Logf("took %s; the nodes sent %.1f copies; http requests: %d", time.Since(start), float64(up)/float64(d.Size), h.ranges.Load())
	if up == 0 {
		t.Error("no node passed anything on")
	}
	eventually(t, "the tracker knows that all are complete", func() bool {
		n := 0
		for _, p := range h.tracker.Peers(d.InfoHash) {
			if p.Left == 0 {
				n++
			}
		}
		return n == 6
	})
}

// A head dies in the middle, with its tracker and its file server; two others carry on.
func TestHeadDiesMidway(t *testing.T) {
	data := randomBytes(64<<20, 4)
	d, path := artifactFile(t, data)
	heads := []*head{newHead(t, 1, files(data)), newHead(t, 2, files(data)), newHead(t, 3, files(data))}
	for _, h := range heads {
		mustSeed(t, h.machine, d, path)
	}
	var dls []*Download
	for n := range 3 {
		dls = append(dls, fetch(t, newMachine(t, 10+n), d, sourceOf(heads...)))
	}
	eventually(t, "some of it is there", func() bool { return dls[0].Progress().Done > 0 })
	heads[0].kill()
	at := dls[0].Progress()
	if at.Done == at.Total {
		t.Log("the transfer was over before the head died")
	}
	for _, dl := range dls {
		mustArrive(t, dl, data, 20*time.Second)
	}
}

// A peer alone in the world gets everything by HTTP, and says meanwhile what is missing.
func TestHTTPOnly(t *testing.T) {
	data := randomBytes(5<<20, 5)
	d, _ := artifactFile(t, data)
	h := newHead(t, 1, files(data))
	src := Source{Trackers: []string{"http://127.0.0.1:1/announce"}, HTTP: []string{h.url + "/image"}}
	dl := fetch(t, newMachine(t, 2), d, src)
	eventually(t, "the dead tracker is named", func() bool {
		return strings.Contains(dl.Progress().Trouble, "announce to http://127.0.0.1:1/announce") || dl.Progress().Done > 0
	})
	start := time.Now()
	if err := mustRead(dl, data); err != nil {
		t.Fatal(err)
	}
	mustArrive(t, dl, data, time.Second)
	if took := time.Since(start); took > 10*time.Second {
		t.Errorf("took %s", took)
	}
	if p := dl.Progress(); p.FromHTTP != d.Size || p.FromPeers != 0 {
		t.Errorf("progress at the end: %+v", p)
	}
}

// What every kind of bad HTTP source costs, before a good one.
func TestBadHTTPSources(t *testing.T) {
	data := randomBytes(3<<20, 6)
	d, _ := artifactFile(t, data)
	garbage := bytes.Clone(data)
	for i := 0; i < len(garbage); i += 1000 {
		garbage[i] ^= 1
	}
	hang := make(chan struct{})
	t.Cleanup(func() { close(hang) })
	var served atomic.Int64
	for _, c := range []struct {
		name string
		bad  http.HandlerFunc
	}{
		{"garbage", files(garbage).ServeHTTP},
		{"not found", http.NotFound},
		{"ignores ranges", func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write(data) }},
		{"another range", func(w http.ResponseWriter, r *http.Request) {
			r.Header.Set("Range", "bytes=1-65536")
			files(data).ServeHTTP(w, r)
		}},
		{"another file", files(data[:len(data)-1]).ServeHTTP},
		{"breaks off", func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Content-Length", "65536")
			w.WriteHeader(http.StatusPartialContent)
			_, _ = w.Write(data[:1000])
		}},
		{"dies after a while", func(w http.ResponseWriter, r *http.Request) {
			if served.Add(1) > 10 {
				panic(http.ErrAbortHandler)
			}
			files(data).ServeHTTP(w, r)
		}},
		{"hangs", func(w http.ResponseWriter, r *http.Request) {
			select {
			case <-hang:
			case <-r.Context().Done():
			}
		}},
		{"trickles", func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Content-Range", "bytes 0-65535/"+itoa(len(data)))
			w.WriteHeader(http.StatusPartialContent)
			tick := time.NewTicker(50 * time.Millisecond)
			defer tick.Stop()
			for i := 0; r.Context().Err() == nil && i < len(data); i++ {
				_, _ = w.Write(data[i : i+1])
				_ = http.NewResponseController(w).Flush()
				<-tick.C
			}
		}},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel() // each waits for seconds until http is tried
			bad, good := newHead(t, 1, c.bad), newHead(t, 2, files(data))
			dl := fetch(t, newMachine(t, 3), d, Source{HTTP: []string{bad.url + "/image", good.url + "/image"}})
			if err := mustRead(dl, data); err != nil {
				t.Fatal(err)
			}
			mustArrive(t, dl, data, time.Second)
			if bad.ranges.Load() == 0 || good.ranges.Load() == 0 {
				t.Errorf("requests: %d to the bad one, %d to the good one", bad.ranges.Load(), good.ranges.Load())
			}
		})
	}
}

// Peers come back while HTTP delivers, and take over.
func TestPeersTakeOverFromHTTP(t *testing.T) {
	data := randomBytes(8<<20, 7)
	d, path := artifactFile(t, data)
	gate := make(chan struct{}, 1000)
	for range 3 {
		gate <- struct{}{}
	}
	slow := newHead(t, 1, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		select {
		case <-gate:
			files(data).ServeHTTP(w, r)
		case <-r.Context().Done():
		}
	}))
	dl := fetch(t, newMachine(t, 3), d, sourceOf(slow))
	eventually(t, "something came by http", func() bool { return dl.Progress().FromHTTP > 0 })
	h := newHead(t, 2, nil)
	mustSeed(t, h.machine, d, path)
	dl.SetSource(sourceOf(slow, h))
	mustArrive(t, dl, data, 20*time.Second)
	if p := dl.Progress(); p.FromPeers == 0 || p.FromHTTP > d.Size/2 {
		t.Errorf("progress at the end: %+v", p)
	}
}

// One of two seeders has an altered file. Nothing of it gets through.
func TestCorruptSeeder(t *testing.T) {
	data := randomBytes(16<<20, 8)
	d, path := artifactFile(t, data)
	altered := bytes.Clone(data)
	for i := 0; i < len(altered); i += int(d.PieceLength) {
		altered[i] ^= 1
	}
	badPath := filepath.Join(t.TempDir(), "altered")
	if err := os.WriteFile(badPath, altered, 0o644); err != nil {
		t.Fatal(err)
	}
	t.Run("beside a good seeder", func(t *testing.T) {
		bad, good := newHead(t, 1, nil), newHead(t, 2, nil)
		mustSeed(t, bad.machine, d, badPath)
		mustSeed(t, good.machine, d, path)
		dl := fetch(t, newMachine(t, 3), d, sourceOf(bad, good))
		if err := mustRead(dl, data); err != nil {
			t.Fatal(err)
		}
		mustArrive(t, dl, data, time.Second)
	})
	t.Run("beside a good file server", func(t *testing.T) {
		bad, good := newHead(t, 1, files(altered)), newHead(t, 2, files(data))
		mustSeed(t, bad.machine, d, badPath)
		dl := fetch(t, newMachine(t, 3), d, sourceOf(bad, good))
		if err := mustRead(dl, data); err != nil {
			t.Fatal(err)
		}
		mustArrive(t, dl, data, time.Second)
		if p := dl.Progress(); p.FromHTTP == 0 {
			t.Errorf("progress at the end: %+v", p)
		}
	})
}

// An agent that was restarted keeps what is right of what it has.
func TestResume(t *testing.T) {
	data := randomBytes(8<<20, 9)
	d, path := artifactFile(t, data)
	h := newHead(t, 1, nil)
	mustSeed(t, h.machine, d, path)

	part := bytes.Clone(data[:6<<20])
	part[3<<20] ^= 1 // one damaged piece
	into := filepath.Join(t.TempDir(), "part")
	if err := os.WriteFile(into, part, 0o644); err != nil {
		t.Fatal(err)
	}
	m := newMachine(t, 2)
	dl, err := m.Fetch(context.Background(), d, into, sourceOf(h))
	if err != nil {
		t.Fatal(err)
	}
	mustArrive(t, dl, data, 20*time.Second)
	if p, want := dl.Progress(), int64(2<<20)+d.PieceLength; p.FromPeers < want || p.FromPeers > want+1<<20 {
		t.Errorf("fetched %d bytes, wanted %d", p.FromPeers, want)
	}
	dl.Close()

	// Complete: it is proven without any source.
	again, err := m.Fetch(context.Background(), d, into, Source{})
	if err != nil {
		t.Fatal(err)
	}
	defer again.Close()
	mustArrive(t, again, data, 5*time.Second)
	if _, err := m.Fetch(context.Background(), d, into+"2", Source{}); err == nil {
		t.Error("a second fetch of the same artifact was accepted")
	}
}

// Nodes that are complete serve the next one when all heads are gone, and a rename does not matter.
func TestNodesServeOn(t *testing.T) {
	data := randomBytes(8<<20, 10)
	d, path := artifactFile(t, data)
	h, tracker := newHead(t, 1, nil), newHead(t, 2, nil)
	mustSeed(t, h.machine, d, path)
	first := fetch(t, newMachine(t, 3), d, sourceOf(h, tracker))
	mustArrive(t, first, data, 20*time.Second)
	if err := os.Rename(first.content.file.Name(), filepath.Join(t.TempDir(), "elsewhere")); err != nil {
		t.Fatal(err)
	}
	h.kill()
	second := fetch(t, newMachine(t, 4), d, sourceOf(tracker))
	mustArrive(t, second, data, 20*time.Second)
}

func TestFullDisk(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("only root can mount the small disk")
	}
	data := randomBytes(8<<20, 11)
	d, path := artifactFile(t, data)
	for _, c := range []struct {
		name string
		http http.Handler
	}{{"from peers", nil}, {"from http", files(data)}} {
		t.Run(c.name, func(t *testing.T) {
			disk := t.TempDir()
			if err := syscall.Mount("swarm-test", disk, "tmpfs", 0, "size=2m"); err != nil {
				t.Fatalf("mount a small tmpfs: %v", err)
			}
			t.Cleanup(func() { _ = syscall.Unmount(disk, syscall.MNT_DETACH) })
			h := newHead(t, 1, c.http)
			if c.http == nil {
				mustSeed(t, h.machine, d, path)
			}
			dl, err := newMachine(t, 2).Fetch(context.Background(), d, filepath.Join(disk, "got"), sourceOf(h))
			if err != nil {
				t.Fatal(err)
			}
			defer dl.Close()
			r := dl.Reader()
			defer r.Close()
			_, readErr := io.Copy(io.Discard, r)
			for _, err := range []error{dl.Wait(deadline(t, 10*time.Second)), readErr} {
				if !errors.Is(err, syscall.ENOSPC) || !strings.Contains(err.Error(), "fetch image.tar.zst: write "+disk) {
					t.Errorf("error: %v", err)
				}
			}
		})
	}
}

// Close, the end of ctx, and the end of the swarm each end everything that waits, soon.
func TestEndings(t *testing.T) {
	d, _ := artifactFile(t, randomBytes(1<<20, 12))
	for _, c := range []struct {
		name string
		want error
		end  func(m *machine, dl *Download, cancel func())
	}{
		{"close", errClosed, func(_ *machine, dl *Download, _ func()) { dl.Close() }},
		{"context", context.Canceled, func(_ *machine, _ *Download, cancel func()) { cancel() }},
		{"swarm", errClosed, func(m *machine, _ *Download, _ func()) { m.stop() }},
		{"drop", errClosed, func(m *machine, _ *Download, _ func()) { m.Drop(d.InfoHash) }},
	} {
		t.Run(c.name, func(t *testing.T) {
			m := newMachine(t, 2)
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			src := Source{Trackers: []string{"http://127.0.0.1:1/announce"}, HTTP: []string{"http://127.0.0.1:1/image"}}
			dl, err := m.Fetch(ctx, d, filepath.Join(t.TempDir(), "got"), src)
			if err != nil {
				t.Fatal(err)
			}
			r := dl.Reader()
			var g errgroup.Group
			var readErr, waitErr error
			g.Go(func() error { _, readErr = r.Read(make([]byte, 10)); return nil })
			g.Go(func() error { waitErr = dl.Wait(context.Background()); return nil })
			start := time.Now()
			c.end(m, dl, cancel)
			_ = g.Wait()
			for _, err := range []error{readErr, waitErr} {
				if !errors.Is(err, c.want) {
					t.Errorf("error: %v", err)
				}
			}
			dl.Close()
			if took := time.Since(start); took > 2*time.Second {
				t.Errorf("took %s", took)
			}
		})
	}
}

// Wait and Reader have their own ends, which leave the download alone.
func TestWaitAndReaderEndAlone(t *testing.T) {
	data := randomBytes(1<<20, 13)
	d, path := artifactFile(t, data)
	dl := fetch(t, newMachine(t, 2), d, Source{})
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := dl.Wait(ctx); !errors.Is(err, context.Canceled) {
		t.Errorf("wait: %v", err)
	}
	r := dl.Reader()
	r.Close()
	if _, err := r.Read(make([]byte, 1)); !errors.Is(err, context.Canceled) {
		t.Errorf("read: %v", err)
	}
	h := newMachine(t, 1)
	mustSeed(t, h, d, path)
	dl.SetSource(Source{Peers: []netip.AddrPort{netip.AddrPortFrom(h.addr, uint16(h.Port()))}})
	mustArrive(t, dl, data, 20*time.Second)
}

func TestRefusals(t *testing.T) {
	data := randomBytes(1<<20, 14)
	d, path := artifactFile(t, data)
	m := newMachine(t, 1)
	other := filepath.Join(t.TempDir(), "other")
	if err := os.WriteFile(other, data[1:], 0o644); err != nil {
		t.Fatal(err)
	}
	damaged := d
	damaged.Size--
	for _, c := range []struct {
		name string
		err  error
		want string
	}{
		{"seed a file of another size", m.Seed(d, other), "is not a file of 1048576 bytes"},
		{"seed a missing file", m.Seed(d, other+"x"), "no such file"},
		{"seed a directory", m.Seed(d, t.TempDir()), "is not a file of"},
		{"seed with a damaged descriptor", m.Seed(damaged, path), "damaged"},
		{"fetch with a damaged descriptor", second(m.Fetch(t.Context(), damaged, other, Source{})), "damaged"},
		{"fetch into a directory", second(m.Fetch(t.Context(), d, t.TempDir(), Source{})), "is a directory"},
		{"fetch into nowhere", second(m.Fetch(t.Context(), d, other+"/x", Source{})), "not a directory"},
	} {
		if c.err == nil || !strings.Contains(c.err.Error(), c.want) {
			t.Errorf("%s: %v", c.name, c.err)
		}
	}
	m.stop()
	if err := m.Seed(d, path); !errors.Is(err, errEnded) {
		t.Errorf("seed after the end: %v", err)
	}
}

func second[T any](_ T, err error) error { return err }
