package tftp

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"math/rand/v2"
	"net"
	"net/netip"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/pin/tftp/v3"
	"go.uber.org/goleak"
	"golang.org/x/sync/errgroup"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// content is what a test server serves. It counts what is open.
type content struct {
	files map[string][]byte
	mu    sync.Mutex
	open  int
	asked []string
}

func (c *content) Open(name string, from netip.Addr) (io.ReadSeekCloser, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.asked = append(c.asked, name+" from "+from.String())
	b, ok := c.files[name]
	if name == "broken" {
		return nil, errors.New("disk on fire")
	}
	if !ok {
		return nil, fs.ErrNotExist
	}
	c.open++
	return &file{bytes.NewReader(b), c}, nil
}

type file struct {
	*bytes.Reader
	c *content
}

func (f *file) Close() error {
	f.c.mu.Lock()
	defer f.c.mu.Unlock()
	f.c.open--
	return nil
}

// start runs a server on the loopback until the test ends.
func start(tb testing.TB, c *content) *Server {
	tb.Helper()
	return startWith(tb, c, Config{Addr: "127.0.0.1:0"})
}

func startWith(tb testing.TB, c *content, config Config) *Server {
	tb.Helper()
	config.Open, config.Logger = c.Open, slog.New(slog.DiscardHandler)
	s, err := New(config)
	if err != nil {
		tb.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- s.Run(ctx) }()
	tb.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			tb.Errorf("Run: %v", err)
		}
		c.mu.Lock()
		defer c.mu.Unlock()
		if c.open != 0 {
			tb.Errorf("%d files are still open", c.open)
		}
	})
	return s
}

// fetch loads a file as firmware does: blocks of 1468 bytes, the size asked for.
func fetch(s *Server, name string) (b []byte, size int64, err error) {
	client, err := tftp.NewClient(s.Addr().String())
	if err != nil {
		return nil, 0, err
	}
	client.SetBlockSize(1468)
	client.RequestTSize(true)
	from, err := client.Receive(name, "octet")
	if err != nil {
		return nil, 0, err
	}
	size, _ = from.(tftp.IncomingTransfer).Size()
	var buf bytes.Buffer
	_, err = from.WriteTo(&buf)
	return buf.Bytes(), size, err
}

func random(n int) []byte {
	b := make([]byte, n)
	r := rand.NewChaCha8([32]byte{1})
	r.Read(b)
	return b
}

func TestFetch(t *testing.T) {
	// Lengths around a block.
	for _, n := range []int{0, 1, 1467, 1468, 1469, 70_000} {
		t.Run(fmt.Sprint(n), func(t *testing.T) {
			c := &content{files: map[string][]byte{"snponly.efi": random(n)}}
			s := start(t, c)
			for _, name := range []string{"snponly.efi", "/snponly.efi", "//snponly.efi"} {
				got, size, err := fetch(s, name)
				if err != nil || !bytes.Equal(got, c.files["snponly.efi"]) {
					t.Fatalf("%s: got %d bytes, %v", name, len(got), err)
				}
				if size != int64(n) {
					t.Errorf("%s: the size was given as %d, want %d", name, size, n)
				}
			}
		})
	}
}

func TestNames(t *testing.T) {
	c := &content{files: map[string][]byte{"pxelinux.cfg/01-52-54-00-00-00-01": []byte("UI menu.c32")}}
	s := start(t, c)
	if got, _, err := fetch(s, "/pxelinux.cfg/01-52-54-00-00-00-01"); err != nil || string(got) != "UI menu.c32" {
		t.Errorf("got %q, %v", got, err)
	}
	for _, name := range []string{"nothing", "", "../../etc/passwd", "/etc/passwd", "broken", strings.Repeat("x", 400)} {
		got, _, err := fetch(s, name)
		if err == nil || !strings.Contains(err.Error(), "file not found") {
			t.Errorf("%q: got %q, %v, want the refusal that tells nothing", name, got, err)
		}
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if want := "../../etc/passwd from 127.0.0.1"; !strings.Contains(strings.Join(c.asked, "\n"), want) {
		t.Errorf("Open was asked for %q, want %q as it came", c.asked, want)
	}
	if strings.Contains(strings.Join(c.asked, ""), "xxx") {
		t.Error("a name of 400 characters was looked up")
	}
}

func TestWritingIsRefused(t *testing.T) {
	s := start(t, &content{})
	client, err := tftp.NewClient(s.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	to, err := client.Send("snponly.efi", "octet")
	if err == nil {
		_, err = to.ReadFrom(strings.NewReader("evil"))
	}
	if err == nil {
		t.Error("a file was written")
	}
}

// TestBroadcast: while a server that hears what is sent to all may not answer it
// says nothing, not even no; then it answers the same client, from an address at
// which that can reach it.
func TestBroadcast(t *testing.T) {
	c := &content{files: map[string][]byte{"first": random(300)}}
	asked := make(chan bool, 2) // what Answers said
	var may atomic.Bool
	s := startWith(t, c, Config{Addr: "127.255.255.255:0", Answers: func() bool {
		answer := may.Load()
		asked <- answer
		return answer
	}})
	client, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	for _, answer := range []bool{false, true} {
		may.Store(answer)
		if _, err := client.WriteTo([]byte("\x00\x01first\x00octet\x00"), s.Addr()); err != nil {
			t.Fatal(err)
		}
		if got := <-asked; got != answer {
			t.Fatalf("asked whether it may answer: %v, want %v", got, answer)
		}
	}
	if err := client.SetReadDeadline(time.Now().Add(5 * time.Second)); err != nil {
		t.Fatal(err)
	}
	buf := make([]byte, 600)
	n, from, err := client.ReadFrom(buf)
	if err != nil || !bytes.Equal(buf[:n], append([]byte{0, 3, 0, 1}, c.files["first"]...)) {
		t.Fatalf("got %q, %v", buf[:n], err)
	}
	if _, err := client.WriteTo([]byte{0, 4, 0, 1}, from); err != nil { // who is not heard would be sent it again
		t.Fatal(err)
	}
	if strings.HasPrefix(from.String(), "127.255.") {
		t.Errorf("it answers from %s", from)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(c.asked) != 1 {
		t.Errorf("the file was looked up for %q", c.asked)
	}
}

// UEFI asks for the size, breaks off, and asks again.
func TestSizeFirst(t *testing.T) {
	c := &content{files: map[string][]byte{"snponly.efi": random(5000)}}
	s := start(t, c)
	pc, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer pc.Close()
	if _, err := pc.WriteTo([]byte("\x00\x01snponly.efi\x00octet\x00tsize\x000\x00"), s.Addr()); err != nil {
		t.Fatal(err)
	}
	if err := pc.SetReadDeadline(time.Now().Add(5 * time.Second)); err != nil {
		t.Fatal(err)
	}
	buf := make([]byte, 600)
	n, from, err := pc.ReadFrom(buf)
	if err != nil || string(buf[:n]) != "\x00\x06tsize\x005000\x00" {
		t.Fatalf("got %q, %v", buf[:n], err)
	}
	if _, err := pc.WriteTo([]byte("\x00\x05\x00\x00User aborted the transfer\x00"), from); err != nil {
		t.Fatal(err)
	}
	if got, _, err := fetch(s, "snponly.efi"); err != nil || len(got) != 5000 {
		t.Errorf("after the question: got %d bytes, %v", len(got), err)
	}
}

// A machine room that is switched on.
func TestManyAtOnce(t *testing.T) {
	c := &content{files: map[string][]byte{"undionly.kpxe": random(70_000)}}
	s := start(t, c)
	var g errgroup.Group
	for range 64 {
		g.Go(func() error {
			got, _, err := fetch(s, "undionly.kpxe")
			if err == nil && !bytes.Equal(got, c.files["undionly.kpxe"]) {
				err = fmt.Errorf("got %d bytes, or others", len(got))
			}
			return err
		})
	}
	if err := g.Wait(); err != nil {
		t.Error(err)
	}
}

// Who asks and never listens gets no more than his share.
func TestTooManyOfOne(t *testing.T) {
	c := &content{files: map[string][]byte{"f": random(5000)}}
	s := startWith(t, c, Config{Addr: "127.0.0.1:0", Timeout: time.Minute}) // no block comes twice
	pc, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer pc.Close()
	if err := pc.SetReadDeadline(time.Now().Add(20 * time.Second)); err != nil {
		t.Fatal(err)
	}
	begun := map[net.Addr]bool{}
	buf := make([]byte, 600)
	for {
		if _, err := pc.WriteTo([]byte("\x00\x01f\x00octet\x00"), s.Addr()); err != nil {
			t.Fatal(err)
		}
		n, from, err := pc.ReadFrom(buf)
		if err != nil {
			t.Fatal(err)
		}
		if buf[1] == 5 {
			if !strings.Contains(string(buf[:n]), errBusy.Error()) {
				t.Fatalf("got %q", buf[:n])
			}
			break
		}
		begun[from] = true
	}
	if len(begun) != ofOne {
		t.Errorf("%d transfers were begun, %d is the bound", len(begun), ofOne)
	}
	for transfer := range begun {
		if _, err := pc.WriteTo([]byte("\x00\x05\x00\x00enough\x00"), transfer); err != nil {
			t.Fatal(err)
		}
	}
}

// What is no request does not come as far as the server.
func TestGarbageIsNotRead(t *testing.T) {
	s, err := New(Config{Addr: "127.0.0.1:0"})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	client, err := net.Dial("udp", s.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	requests := []string{"\x00\x01f\x00octet\x00", "\x00\x02f\x00octet\x00"}
	for _, packet := range append([]string{"", "\x00", "\x01\x01f\x00octet\x00", "\x00\x03\x00\x01data", "\x00\x04\x00\x01", "\x00\x07", string(random(1400))}, requests...) {
		if _, err := client.Write([]byte(packet)); err != nil {
			t.Fatal(err)
		}
	}
	if err := s.conn.SetReadDeadline(time.Now().Add(5 * time.Second)); err != nil {
		t.Fatal(err)
	}
	buf := make([]byte, 2000)
	for _, want := range requests {
		if n, _, err := s.conn.ReadFrom(buf); err != nil || string(buf[:n]) != want {
			t.Errorf("got %q, %v, want %q", buf[:n], err, want)
		}
	}
}

// A machine that is switched off in the middle keeps nobody.
func TestStopWithATransferUnderWay(t *testing.T) {
	c := &content{files: map[string][]byte{"f": random(5000)}}
	s, err := New(Config{Addr: "127.0.0.1:0", Open: c.Open, Timeout: 100 * time.Millisecond, Retries: 2, Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- s.Run(ctx) }()
	pc, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer pc.Close()
	if _, err := pc.WriteTo([]byte("\x00\x01f\x00octet\x00"), s.Addr()); err != nil {
		t.Fatal(err)
	}
	buf := make([]byte, 600)
	if err := pc.SetReadDeadline(time.Now().Add(5 * time.Second)); err != nil {
		t.Fatal(err)
	}
	for range 2 { // the first block, and again
		if n, _, err := pc.ReadFrom(buf); err != nil || n != 516 || !bytes.Equal(buf[4:n], c.files["f"][:512]) {
			t.Fatalf("got %d bytes, %v", n, err)
		}
	}
	cancel()
	select {
	case err := <-done:
		if err != nil {
			t.Error(err)
		}
	case <-time.After(grace + 3*time.Second):
		t.Error("Run waits for a machine that is gone")
	}
}

func TestPortTaken(t *testing.T) {
	s, err := New(Config{Addr: "127.0.0.1:0"})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	if _, err := New(Config{Addr: s.Addr().String()}); err == nil || !strings.Contains(err.Error(), "another TFTP server runs there") {
		t.Errorf("got error %v", err)
	}
}

// BenchmarkFetch is one client that loads 1 MiB, and 32.
func BenchmarkFetch(b *testing.B) {
	const size = 1 << 20
	s := start(b, &content{files: map[string][]byte{"f": random(size)}})
	for _, clients := range []int{1, 32} {
		b.Run(fmt.Sprint(clients), func(b *testing.B) {
			b.SetBytes(int64(size * clients))
			for b.Loop() {
				var g errgroup.Group
				for range clients {
					g.Go(func() error {
						_, _, err := fetch(s, "f")
						return err
					})
				}
				if err := g.Wait(); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
