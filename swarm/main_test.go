package swarm

import (
	"bytes"
	"context"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"net"
	"net/http"
	"net/netip"
	"os"
	"path/filepath"
	"sync/atomic"
	"testing"
	"time"

	"go.uber.org/goleak"
)

var update = flag.Bool("update", false, "write the golden files anew")

func TestMain(m *testing.M) {
	goleak.VerifyTestMain(m)
}

// ip is the address of a machine of the test: 127.0.0.n.
func ip(n int) netip.Addr { return netip.AddrFrom4([4]byte{127, 0, 0, byte(n)}) }

// randomBytes makes size bytes that are the same for the same seed.
func randomBytes(size int, seed byte) []byte {
	b := make([]byte, size)
	_, _ = rand.NewChaCha8([32]byte{seed}).Read(b)
	return b
}

// artifactFile writes data to a file and describes it.
func artifactFile(t *testing.T, data []byte) (Descriptor, string) {
	t.Helper()
	path := filepath.Join(t.TempDir(), "image.tar.zst")
	if err := os.WriteFile(path, data, 0o644); err != nil {
		t.Fatal(err)
	}
	d, err := Describe(t.Context(), path, "image.tar.zst")
	if err != nil {
		t.Fatal(err)
	}
	return d, path
}

// machine is a swarm on its own loopback address.
type machine struct {
	*Swarm
	addr netip.Addr
	stop func() // ends it, as often as one likes
}

func newMachine(t *testing.T, n int, change ...func(*Config)) *machine {
	t.Helper()
	cfg := Config{Listen: ip(n), MaxPeers: 30}
	if testing.Verbose() && os.Getenv("SWARM_LOG") != "" {
		cfg.Logger = slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: slog.LevelDebug})).With("machine", n)
	}
	for _, f := range change {
		f(&cfg)
	}
	s, err := New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- s.Run(ctx) }()
	m := &machine{Swarm: s, addr: ip(n)}
	m.stop = func() {
		cancel()
		select {
		case err, ok := <-done:
			if ok && err != nil {
				t.Errorf("swarm %d: %v", n, err)
			}
			if ok {
				close(done)
			}
		case <-time.After(10 * time.Second):
			t.Errorf("swarm %d does not end", n)
		}
	}
	t.Cleanup(m.stop)
	return m
}

// head is a machine with a tracker and a file server, as each head of Luna is one.
type head struct {
	*machine
	tracker *Tracker
	server  *http.Server
	url     string       // of the file
	ranges  atomic.Int64 // requests for the file
}

// newHead starts head n, which serves file, if it is not nil, at /image.
func newHead(t *testing.T, n int, file http.Handler) *head {
	t.Helper()
	h := &head{machine: newMachine(t, n)}
	h.tracker = NewTracker(TrackerConfig{Swarm: h.Swarm, Interval: 2 * time.Second})
	mux := http.NewServeMux()
	mux.Handle("/announce", h.tracker)
	mux.Handle("/scrape", h.tracker)
	if file != nil {
		mux.HandleFunc("/image", func(w http.ResponseWriter, r *http.Request) {
			h.ranges.Add(1)
			file.ServeHTTP(w, r)
		})
	}
	l, err := net.Listen("tcp", netip.AddrPortFrom(ip(n), 0).String())
	if err != nil {
		t.Fatal(err)
	}
	h.server = &http.Server{Handler: mux}
	go func() { _ = h.server.Serve(l) }()
	h.url = "http://" + l.Addr().String()
	t.Cleanup(func() { _ = h.server.Close() })
	return h
}

// kill ends the head as a power cut would, as far as others can tell.
func (h *head) kill() {
	_ = h.server.Close()
	h.stop()
}

// sourceOf is where nodes look for what these heads have.
func sourceOf(heads ...*head) (s Source) {
	for _, h := range heads {
		s.Trackers = append(s.Trackers, h.url+"/announce")
		s.HTTP = append(s.HTTP, h.url+"/image")
	}
	return s
}

// files serves data with ranges.
func files(data []byte) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		http.ServeContent(w, r, "image", time.Time{}, bytes.NewReader(data))
	})
}

// fetch begins a download into a fresh file.
func fetch(t *testing.T, m *machine, d Descriptor, src Source) *Download {
	t.Helper()
	dl, err := m.Fetch(context.Background(), d, filepath.Join(t.TempDir(), "got"), src)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(dl.Close)
	return dl
}

// deadline bounds a wait of a test.
func deadline(t *testing.T, d time.Duration) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), d)
	t.Cleanup(cancel)
	return ctx
}

// mustArrive waits for a download and holds what is in the file against data.
func mustArrive(t *testing.T, dl *Download, data []byte, within time.Duration) {
	t.Helper()
	if err := dl.Wait(deadline(t, within)); err != nil {
		t.Fatalf("%v (%+v)", err, dl.Progress())
	}
	got, err := os.ReadFile(dl.content.file.Name())
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(got, data) {
		t.Fatal("the file differs from the artifact")
	}
}

// mustRead reads a download to its end and holds it against data.
func mustRead(dl *Download, data []byte) error {
	r := dl.Reader()
	defer r.Close()
	got, err := io.ReadAll(r)
	if err != nil {
		return err
	}
	if !bytes.Equal(got, data) {
		return fmt.Errorf("what was read differs from the artifact")
	}
	return nil
}

// eventually waits until met is true.
func eventually(t *testing.T, what string, met func() bool) {
	t.Helper()
	end := time.Now().Add(20 * time.Second)
	for !met() {
		if time.Now().After(end) {
			t.Fatalf("never: %s", what)
		}
		<-time.After(10 * time.Millisecond)
	}
}

func itoa(n int) string { return fmt.Sprint(n) }
