package main

import (
	"bytes"
	"context"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/spf13/pflag"

	"github.com/clustervision/luna/agent"
)

// manager is the end of sd_notify(3) that systemd has.
func manager(t *testing.T) (next func() string) {
	t.Helper()
	path := filepath.Join(t.TempDir(), "notify")
	conn, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: path, Net: "unixgram"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	t.Setenv("NOTIFY_SOCKET", path)
	return func() string {
		t.Helper()
		b := make([]byte, 4096)
		_ = conn.SetReadDeadline(time.Now().Add(time.Minute))
		n, err := conn.Read(b)
		if err != nil {
			t.Fatal(err)
		}
		return string(b[:n])
	}
}

// TestNotify: systemd hears that a head serves and how it is, all along, and that
// its agent lives.
func TestNotify(t *testing.T) {
	next := manager(t)
	t.Setenv("WATCHDOG_USEC", "60000000")
	dir := t.TempDir()
	a, err := agent.New(agent.Config{
		Name: "h1", DataDir: dir, Socket: filepath.Join(dir, "s"), TFTPPort: -1, DHCPPort: -1,
		Logger: slog.New(slog.DiscardHandler),
	})
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(t.Context())
	var both sync.WaitGroup
	both.Go(func() {
		if err := a.Run(ctx); err != nil {
			t.Error(err)
		}
	})
	both.Go(func() { notify(ctx, a, slog.New(slog.DiscardHandler)) })
	for _, want := range []string{"STATUS=belongs to no cluster: waits for `luna cluster init` or `luna join`", "READY=1", "WATCHDOG=1"} {
		if got := next(); got != want {
			t.Errorf("heard %q, want %q", got, want)
		}
	}
	stop()
	if got := next(); got != "STOPPING=1" {
		t.Errorf("heard %q in the end", got)
	}
	both.Wait()
}

// lines is what a logger said.
type lines struct {
	mu   sync.Mutex
	text bytes.Buffer
}

func (l *lines) Write(b []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.Write(b)
}

func (l *lines) await(t *testing.T, want string) {
	t.Helper()
	for deadline := time.Now().Add(time.Minute); ; {
		l.mu.Lock()
		text := l.text.String()
		l.mu.Unlock()
		if strings.Contains(text, want) {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("%q was not said:\n%s", want, text)
		}
		time.Sleep(10 * time.Millisecond)
	}
}

// TestHangup: SIGHUP takes over what can be, says what cannot, and refuses what is
// wrong.
func TestHangup(t *testing.T) {
	s, given := newSettings("test"), pflag.NewFlagSet("agent", pflag.ContinueOnError)
	path := filepath.Join(t.TempDir(), "agent.yaml")
	write := func(text string) {
		if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	write("log-level: warn\nipxe-dir: [/a, /b]\n")
	s.flags(given)
	if err := given.Parse([]string{"--config", path, "--name", "h1", "--ipxe-dir", "/c,/d"}); err != nil {
		t.Fatal(err)
	}
	if err := s.settle(given); err != nil {
		t.Fatal(err)
	}
	var said lines
	loud := &slog.LevelVar{}
	s.agent.Logger = slog.New(slog.NewTextHandler(&said, nil))
	ctx, stop := context.WithCancel(t.Context())
	var done sync.WaitGroup
	signals := make(chan os.Signal)
	done.Go(func() { follow(ctx, signals, given, s, loud) })
	defer done.Wait()
	defer stop()
	hangup := func(want string) {
		t.Helper()
		signals <- syscall.SIGHUP
		said.await(t, want)
	}
	write("log-level: debug\nipxe-dir: [/e]\nname: h2\n") // the command line says the last two
	hangup("configuration read again")
	if loud.Level() != slog.LevelDebug {
		t.Errorf("the level is %s", loud.Level())
	}
	write("log-level: error\nhttp-port: 80\nwitness: true\n")
	hangup(`settings="[http-port witness]"`)
	if loud.Level() != slog.LevelError {
		t.Errorf("the level is %s", loud.Level())
	}
	write("log-level: loud\n")
	hangup("agent.yaml:1: log-level: 'loud' is none of")
}
