package swarm

import (
	"encoding/binary"
	"encoding/hex"
	"io"
	"net"
	"strings"
	"sync/atomic"
	"testing"
	"time"
)

func pipe(t *testing.T, slots chan struct{}) (*conn, net.Conn) {
	a, b := net.Pipe()
	c := &conn{Conn: a, slots: slots, done: make(chan struct{}), verdict: func(bool) {}}
	t.Cleanup(func() { c.Close(); b.Close() })
	return c, b
}

// A peer that reads nothing gives the slot back after slotTime; messages need no slot; Close ends the
// wait for one.
func TestUploadSlots(t *testing.T) {
	slots := make(chan struct{}, 1)
	dead, _ := pipe(t, slots)
	go func() { _, _ = dead.Write(make([]byte, bulk)) }()
	eventually(t, "the dead peer holds the slot", func() bool { return len(slots) == 1 })

	alive, far := pipe(t, slots)
	wrote := make(chan error, 2)
	go func() { _, err := alive.Write(make([]byte, bulk-1)); wrote <- err }()
	if _, err := far.Read(make([]byte, bulk)); err != nil || <-wrote != nil {
		t.Fatalf("a message waited for the slot: %v", err)
	}
	start := time.Now()
	go func() { _, err := alive.Write(make([]byte, bulk)); wrote <- err }()
	if _, err := far.Read(make([]byte, bulk)); err != nil || <-wrote != nil {
		t.Fatal(err)
	}
	if took := time.Since(start); took > 2*slotTime {
		t.Errorf("the slot came after %s", took)
	}
	eventually(t, "the slot is free once", func() bool { return len(slots) == 0 })

	slots <- struct{}{}
	closing, _ := pipe(t, slots)
	go func() { _, err := closing.Write(make([]byte, bulk)); wrote <- err }()
	closing.Close()
	if err := <-wrote; err == nil {
		t.Error("wrote to a closed connection")
	}
}

// The engine's minutes become seconds, and its own shorter deadlines stay.
func TestReadDeadline(t *testing.T) {
	c, _ := pipe(t, nil)
	if err := c.SetReadDeadline(time.Now().Add(10 * time.Millisecond)); err != nil {
		t.Fatal(err)
	}
	if _, err := c.Read(make([]byte, 1)); err == nil {
		t.Error("read from nobody")
	}
}

func TestPortRange(t *testing.T) {
	first, err := net.Listen("tcp", "127.0.0.9:0")
	if err != nil {
		t.Fatal(err)
	}
	defer first.Close()
	taken := first.Addr().(*net.TCPAddr).Port
	if taken == 65535 {
		t.Skip("the port was the last one")
	}
	if s, err := New(Config{Listen: ip(9), PortMin: taken, PortMax: taken}); err == nil || !strings.Contains(err.Error(), "no swarm port from") {
		t.Errorf("%v %v", s, err)
	}
	for _, c := range []Config{{PortMin: 2, PortMax: 1}, {PortMax: 70000}, {PortMin: -1}, {MaxPeers: -1}} {
		if _, err := New(c); err == nil {
			t.Errorf("%+v was accepted", c)
		}
	}
	l, err := listen(Config{Listen: ip(9), PortMin: taken, PortMax: 65535, UploadSlots: 1})
	if err != nil {
		t.Fatal(err)
	}
	defer l.close()
	if l.port() <= taken {
		t.Errorf("port %d", l.port())
	}
}

// Who is let in is found good once it asks for what is here, and not if it says anything else.
func TestAdmit(t *testing.T) {
	verdicts := make(chan bool, 10)
	var turnAway atomic.Bool
	m := newMachine(t, 1, func(c *Config) {
		c.Admit = func(c net.Conn) func(bool) {
			if turnAway.Load() {
				c.Close()
				return nil
			}
			return func(good bool) { verdicts <- good }
		}
	})
	d, path := artifactFile(t, randomBytes(1<<20, 1))
	mustSeed(t, m, d, path)
	hash, err := hex.DecodeString(d.InfoHash)
	if err != nil {
		t.Fatal(err)
	}
	dial := func(says string) net.Conn {
		conn, err := net.Dial("tcp", net.JoinHostPort(m.addr.String(), itoa(m.Port())))
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { conn.Close() })
		if _, err := io.WriteString(conn, says); err != nil {
			t.Fatal(err)
		}
		return conn
	}
	greet := func(hash string) string {
		return "\x13BitTorrent protocol" + strings.Repeat("\x00", 8) + hash + "-XX0000-abcdefghijkl"
	}
	for _, test := range []struct {
		name, says string
		good       bool
	}{
		{"garbage", strings.Repeat("garbage ", 100), false},
		{"a key, as for obfuscation", string(randomBytes(96, 3)), false},
		{"another artifact", greet(strings.Repeat("h", 20)), false},
		{"this artifact", greet(string(hash)), true},
	} {
		t.Run(test.name, func(t *testing.T) {
			dial(test.says)
			select {
			case good := <-verdicts:
				if good != test.good {
					t.Errorf("found good: %v", good)
				}
			case <-time.After(time.Minute):
				t.Error("no verdict")
			}
		})
	}
	turnAway.Store(true)
	conn := dial("")
	_ = conn.SetReadDeadline(time.Now().Add(time.Minute))
	if _, err := io.ReadAll(conn); err != nil {
		t.Errorf("not closed: %v", err)
	}
}

// TestHostileMessages: what a peer may say that has greeted as it should, and that would
// end the process if the engine listened. It is at others' service afterwards.
func TestHostileMessages(t *testing.T) {
	data := randomBytes(1<<20, 1)
	h := newHead(t, 1, nil)
	m := h.machine
	d, path := artifactFile(t, data)
	mustSeed(t, m, d, path)
	hash, err := hex.DecodeString(d.InfoHash)
	if err != nil {
		t.Fatal(err)
	}
	message := func(kind byte, body string) string {
		return string(binary.BigEndian.AppendUint32(nil, uint32(1+len(body)))) + string(kind) + body
	}
	zero := func(n int) string { return strings.Repeat("\x00", n) }
	for name, says := range map[string]string{
		"hashes":               message(22, zero(48)),
		"a question for those": message(21, zero(48)),
		"none of those":        message(23, zero(48)),
		"metadata":             message(20, "\x01d8:msg_typei0e5:piecei-1ee"),
		"a meeting":            message(20, "\x02"+zero(8)+"\x00\x01"),
		"a long greeting":      message(20, "\x00d1:v8192:"+strings.Repeat("v", 8192)+"e"),
		"a large request":      message(6, "\x00\x00\x00\x00\x00\x00\x00\x00\x7f\xff\xff\xff"),
		"what there is not":    message(99, "x"),
	} {
		t.Run(name, func(t *testing.T) {
			conn, err := net.Dial("tcp", net.JoinHostPort(m.addr.String(), itoa(m.Port())))
			if err != nil {
				t.Fatal(err)
			}
			defer conn.Close()
			greeting := "\x13BitTorrent protocol" + "\x00\x00\x00\x00\x00\x10\x00\x04" + string(hash) + "-XX0000-" + string(randomBytes(12, byte(len(says))))
			if _, err := io.WriteString(conn, greeting+message(20, "\x00d1:md12:ut_holepunchi7e11:ut_metadatai8eee")+says+message(2, "")); err != nil {
				t.Fatal(err)
			}
			_ = conn.SetReadDeadline(time.Now().Add(time.Second))
			_, _ = io.Copy(io.Discard, conn) // until it has had the time to read all
		})
	}
	dl := fetch(t, newMachine(t, 2), d, sourceOf(h))
	mustArrive(t, dl, data, 20*time.Second)
}
