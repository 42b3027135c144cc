package agent

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/clustervision/luna/pki"
)

// caller is a connection that comes from somewhere.
type caller struct {
	net.Conn
	from   string
	closed bool
}

func (c *caller) RemoteAddr() net.Addr {
	return net.TCPAddrFromAddrPort(netip.AddrPortFrom(netip.MustParseAddr(c.from), 40000))
}

func (c *caller) Close() error {
	c.closed = true
	return nil
}

func guardFor(t *testing.T, heads ...string) *guard {
	t.Helper()
	g, err := newGuard(func(a netip.Addr) bool {
		for _, h := range heads {
			if a == netip.MustParseAddr(h) {
				return true
			}
		}
		return false
	}, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	return g
}

// come lets a connection come from somewhere, and come to nothing unless it is good.
func come(g *guard, from string, good bool) (in bool) {
	c := &caller{from: from}
	verdict := g.admit(c)
	if verdict == nil {
		return !c.closed // which it must be
	}
	verdict(good)
	verdict(!good) // only the first counts
	return true
}

func TestGuardTurnsAwayWhoFails(t *testing.T) {
	for name, test := range map[string]struct {
		fails, comes string
		in           bool
	}{
		"the same":                              {"10.0.0.1", "10.0.0.1", false},
		"another":                               {"10.0.0.1", "10.0.0.2", true},
		"a head":                                {"10.0.0.9", "10.0.0.9", true},
		"IPv4 on a socket of both":              {"10.0.0.1", "::ffff:10.0.0.1", false},
		"another address of a network of IPv6":  {"2001:db8::1", "2001:db8::2", false},
		"an address of another network of IPv6": {"2001:db8::1", "2001:db8:0:1::1", true},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				g := guardFor(t, "10.0.0.9")
				for i := range failuresAtOnce {
					if !come(g, test.fails, false) {
						t.Fatalf("turned away after %d failures", i)
					}
				}
				if in := come(g, test.comes, false); in != test.in {
					t.Fatalf("let in: %v", in)
				}
				time.Sleep(time.Second)
				if !come(g, test.comes, true) {
					t.Fatal("turned away for ever")
				}
			})
		})
	}
}

// TestGuardLetsInWhoSucceeds: as many as like may come from one address.
func TestGuardLetsInWhoSucceeds(t *testing.T) {
	g := guardFor(t)
	var verdicts []func(bool)
	for i := range strangersOfOne { // all at the same time
		verdict := g.admit(&caller{from: "10.0.0.1"})
		if verdict == nil {
			t.Fatalf("turned away after %d", i)
		}
		verdicts = append(verdicts, verdict)
	}
	for _, verdict := range verdicts {
		verdict(true)
	}
	if !come(g, "10.0.0.1", true) {
		t.Fatal("turned away")
	}
}

func TestGuardBoundsStrangers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := guardFor(t, "10.0.0.9")
		var open []*caller
		for i := range strangers {
			c := &caller{from: fmt.Sprintf("10.0.0.%d", 100+i%4)}
			g.admit(c)
			open = append(open, c)
		}
		if come(g, "10.0.0.2", true) {
			t.Error("one more is let in")
		}
		if !come(g, "10.0.0.9", true) {
			t.Error("a head is turned away")
		}
		time.Sleep(showWithin)
		synctest.Wait()
		for _, c := range open {
			if !c.closed {
				t.Fatal("who shows nothing stays")
			}
		}
		if !come(g, "10.0.0.2", true) || come(g, "10.0.0.100", true) {
			t.Error("when they are gone, not the others are let in, or they are")
		}
	})
}

// TestGuardBoundsStrangersOfOne: who opens connections and says nothing keeps nobody else out.
func TestGuardBoundsStrangersOfOne(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := guardFor(t)
		for range strangersOfOne {
			g.admit(&caller{from: "10.0.0.1"})
		}
		if come(g, "10.0.0.1", true) {
			t.Error("one more of the same is let in")
		}
		if !come(g, "10.0.0.2", true) {
			t.Error("another one is turned away")
		}
	})
}

// TestGuardOfHTTP: a server is sent garbage until it resets connections before it says
// a word, and has answered every request with a certificate until then.
func TestGuardOfHTTP(t *testing.T) {
	ca, err := pki.NewAuthority("guard", time.Now())
	if err != nil {
		t.Fatal(err)
	}
	id := &identity{Cluster: "guard", Name: "h1", Address: netip.MustParseAddr("127.0.0.1"), CA: ca.CertPEM()}
	if err := id.signBy(ca); err != nil {
		t.Fatal(err)
	}
	conf, err := id.tls()
	if err != nil {
		t.Fatal(err)
	}
	m := &member{tls: conf}
	l, err := listen(id.Address, 0, "api-port")
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	ok := http.HandlerFunc(func(http.ResponseWriter, *http.Request) {})
	go func() {
		done <- serve(ctx, tls.NewListener(guarded{l, guardFor(t)}, m.serverTLS()), vouch(certified, ok), slog.New(slog.DiscardHandler))
	}()
	defer func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	}()
	trusted := conf.Clone()
	trusted.ServerName = "h1"
	client := &http.Client{Transport: &http.Transport{TLSClientConfig: trusted, DisableKeepAlives: true}}
	ask := func() error {
		resp, err := client.Get("https://" + l.Addr().String() + "/")
		if err == nil {
			err = resp.Body.Close()
		}
		return err
	}
	for i := range 2 * failuresAtOnce {
		if err := ask(); err != nil {
			t.Fatalf("request %d: %v", i, err)
		}
	}
	came, deadline := 0, time.Now().Add(time.Minute)
	for ; !reset(t, l.Addr().String()); came++ {
		if time.Now().After(deadline) {
			t.Fatal("garbage is never turned away")
		}
	}
	if came < failuresAtOnce {
		t.Errorf("the first to be turned away came after %d others", came)
	}
}

// reset sends garbage and tells whether the connection was reset without an answer.
func reset(t *testing.T, addr string) bool {
	t.Helper()
	conn, err := net.DialTimeout("tcp", addr, 10*time.Second)
	if errors.Is(err, syscall.ECONNRESET) {
		return true
	}
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	_, _ = io.WriteString(conn, strings.Repeat("garbage", 10)) // it may be closed already
	answer, err := io.ReadAll(conn)
	return len(answer) == 0 && errors.Is(err, syscall.ECONNRESET)
}

// TestGuardSeats: one source does not take all the connections that a head has for nodes,
// however well it behaves.
func TestGuardSeats(t *testing.T) {
	g, err := newGuard(func(netip.Addr) bool { return false }, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	at := func(ip string) net.Conn { return &caller{from: ip} }
	var leave []func()
	for range guestsOfOne {
		l, ok := g.seat(at("10.30.0.1"))
		if !ok {
			t.Fatalf("turned away after %d", len(leave))
		}
		leave = append(leave, l)
	}
	if _, ok := g.seat(at("10.30.0.1")); ok {
		t.Error("one more of the same source is let in")
	}
	if _, ok := g.seat(at("10.30.0.2")); !ok {
		t.Error("another source is turned away")
	}
	leave[0]()
	leave[0]() // counts once
	if _, ok := g.seat(at("10.30.0.1")); !ok {
		t.Error("turned away, though one has gone")
	}
	if _, ok := g.seat(at("10.30.0.1")); ok {
		t.Error("one that has gone made room for two")
	}
}

// TestGuestIsSentFiles: whole, though it is sent them by parts.
func TestGuestIsSentFiles(t *testing.T) {
	path := filepath.Join(t.TempDir(), "file")
	content := make([]byte, 3<<20+12345)
	for i := range content {
		content[i] = byte(i * i >> 7)
	}
	if err := os.WriteFile(path, content, 0o600); err != nil {
		t.Fatal(err)
	}
	g, err := newGuard(func(netip.Addr) bool { return false }, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s := &http.Server{ConnContext: withGuest, Handler: vouch(wellFormed, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { http.ServeFile(w, r, path) }))}
	go func() { _ = s.Serve(guarded{l, g}) }()
	t.Cleanup(func() { s.Close() })
	for _, part := range []string{"", "bytes=5-1048580", "bytes=1048576-", "bytes=-1"} {
		r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "http://"+l.Addr().String()+"/", nil)
		if err != nil {
			t.Fatal(err)
		}
		want := content
		switch part {
		case "bytes=5-1048580":
			want = content[5:1048581]
		case "bytes=1048576-":
			want = content[1048576:]
		case "bytes=-1":
			want = content[len(content)-1:]
		}
		if part != "" {
			r.Header.Set("Range", part)
		}
		resp, err := http.DefaultClient.Do(r)
		if err != nil {
			t.Fatal(err)
		}
		got, err := io.ReadAll(resp.Body)
		resp.Body.Close()
		if err != nil || !bytes.Equal(got, want) {
			t.Errorf("%q: %d bytes of %d (%v)", part, len(got), len(want), err)
		}
	}
}
