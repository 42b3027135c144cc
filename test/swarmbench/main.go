// Swarmbench runs package swarm alone, as a head or as a node, so that a harness with shaped links
// can measure it beside other ways of delivery. swarmbench.sh beside it holds the shell functions
// that such a harness calls.
package main

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"os"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"github.com/clustervision/luna/swarm"
)

type options struct {
	listen, file, desc string
	trackers, http     string
	ready, start, done string
	read, verbose      bool
	peers, slots, send int
}

func main() {
	var o options
	fs := flag.NewFlagSet("swarmbench describe|head|node", flag.ExitOnError)
	fs.StringVar(&o.listen, "listen", "", "own address")
	fs.StringVar(&o.file, "file", "", "the artifact, or where to put it")
	fs.StringVar(&o.desc, "desc", "", "file of the descriptor")
	fs.StringVar(&o.trackers, "trackers", "", "announce URLs, with commas")
	fs.StringVar(&o.http, "http", "", "URLs of the artifact, with commas")
	fs.StringVar(&o.ready, "ready", "", "file to create when ready")
	fs.StringVar(&o.start, "start", "", "file whose lock is awaited before the fetch")
	fs.StringVar(&o.done, "done", "", "file to write the time of completion to")
	fs.BoolVar(&o.read, "read", true, "read the artifact while it arrives")
	fs.BoolVar(&o.verbose, "v", false, "log the engine")
	fs.IntVar(&o.peers, "peers", 0, "most connections")
	fs.IntVar(&o.slots, "slots", 0, "upload slots")
	fs.IntVar(&o.send, "send", 0, "send buffer, bytes")
	if len(os.Args) < 2 {
		fs.Usage()
		os.Exit(2)
	}
	_ = fs.Parse(os.Args[2:])
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	run := map[string]func(context.Context, options) error{"describe": describe, "head": head, "node": node}[os.Args[1]]
	if run == nil {
		fs.Usage()
		os.Exit(2)
	}
	if err := run(ctx, o); err != nil {
		fmt.Fprintln(os.Stderr, "swarmbench:", err)
		os.Exit(1)
	}
}

// describe writes the descriptor of a file.
func describe(ctx context.Context, o options) error {
	d, err := swarm.Describe(ctx, o.file, filepath.Base(o.file))
	if err != nil {
		return err
	}
	b, err := json.Marshal(d)
	if err != nil {
		return err
	}
	return os.WriteFile(o.desc, b, 0o644)
}

// begin starts a swarm; end stops it and waits.
func begin(o options) (s *swarm.Swarm, d swarm.Descriptor, end func(), err error) {
	b, err := os.ReadFile(o.desc)
	if err != nil {
		return nil, d, nil, err
	}
	if err := json.Unmarshal(b, &d); err != nil {
		return nil, d, nil, err
	}
	addr, err := netip.ParseAddr(o.listen)
	if err != nil {
		return nil, d, nil, err
	}
	cfg := swarm.Config{Listen: addr, PortMin: 7052, PortMax: 7200, MaxPeers: o.peers, UploadSlots: o.slots, SendBuffer: o.send}
	if o.verbose {
		cfg.Logger = slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: slog.LevelDebug}))
	}
	if s, err = swarm.New(cfg); err != nil {
		return nil, d, nil, err
	}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		_ = s.Run(ctx)
	}()
	return s, d, func() { cancel(); <-ended }, nil
}

// head seeds, tracks, and serves the file by HTTP on port 7050.
func head(ctx context.Context, o options) error {
	s, d, end, err := begin(o)
	if err != nil {
		return err
	}
	defer end()
	if err := s.Seed(d, o.file); err != nil {
		return err
	}
	mux := http.NewServeMux()
	mux.Handle("/announce", swarm.NewTracker(swarm.TrackerConfig{Swarm: s}))
	mux.HandleFunc("/image", func(w http.ResponseWriter, r *http.Request) { http.ServeFile(w, r, o.file) })
	l, err := net.Listen("tcp", net.JoinHostPort(o.listen, "7050"))
	if err != nil {
		return err
	}
	srv := &http.Server{Handler: mux, ReadHeaderTimeout: 5 * time.Second}
	defer context.AfterFunc(ctx, func() { _ = srv.Close() })()
	if err := touch(o.ready); err != nil {
		return err
	}
	if err := srv.Serve(l); !errors.Is(err, http.ErrServerClosed) {
		return err
	}
	return nil
}

// node fetches, and goes on serving until it is ended.
func node(ctx context.Context, o options) error {
	s, d, end, err := begin(o)
	if err != nil {
		return err
	}
	defer end()
	if err := touch(o.ready); err != nil {
		return err
	}
	if err := awaitLock(o.start); err != nil {
		return err
	}
	began := time.Now()
	dl, err := s.Fetch(ctx, d, o.file, swarm.Source{Trackers: split(o.trackers), HTTP: split(o.http)})
	if err != nil {
		return err
	}
	defer dl.Close()
	go func() {
		for range time.Tick(time.Second) {
			fmt.Fprintf(os.Stderr, "%.1f %+v\n", time.Since(began).Seconds(), dl.Progress())
		}
	}()
	if o.read {
		r := dl.Reader()
		if err := consume(r, d.Size, began); err != nil {
			return err
		}
		r.Close()
	}
	if err := dl.Wait(ctx); err != nil {
		return err
	}
	now := time.Now()
	if o.done != "" {
		if err := os.WriteFile(o.done+".tmp", fmt.Appendf(nil, "%d.%06d\n", now.Unix(), now.Nanosecond()/1000), 0o644); err != nil {
			return err
		}
		if err := os.Rename(o.done+".tmp", o.done); err != nil {
			return err
		}
	}
	fmt.Fprintf(os.Stderr, "done in %.2f s %+v\n", now.Sub(began).Seconds(), dl.Progress())
	<-ctx.Done()
	return nil
}

// consume reads everything and tells when each quarter was there: what an unpacker could have done.
func consume(r io.Reader, size int64, began time.Time) error {
	for q := range int64(4) {
		n, err := io.CopyN(io.Discard, r, size*(q+1)/4-size*q/4)
		if err != nil {
			return fmt.Errorf("read after %d bytes of a quarter: %w", n, err)
		}
		fmt.Fprintf(os.Stderr, "read %d/4 at %.2f s\n", q+1, time.Since(began).Seconds())
	}
	_, err := io.Copy(io.Discard, r)
	return err
}

// awaitLock blocks while somebody else holds the file locked.
func awaitLock(path string) error {
	if path == "" {
		return nil
	}
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	defer f.Close()
	return syscall.Flock(int(f.Fd()), syscall.LOCK_SH)
}

func touch(path string) error {
	if path == "" {
		return nil
	}
	return os.WriteFile(path, nil, 0o644)
}

func split(s string) []string {
	if s == "" {
		return nil
	}
	return strings.Split(s, ",")
}
