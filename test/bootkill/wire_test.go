package bootkill

import (
	"bytes"
	"context"
	"encoding/binary"
	"net"
	"net/netip"
	"sync"
	"testing"
	"time"

	"github.com/mdlayher/packet"

	"github.com/clustervision/luna/test/site"
)

// frame is a packet that a head sent or got, as far as it is looked at.
type frame struct {
	head     *site.Head
	from, to netip.AddrPort
	tcp      bool
	payload  []byte // of UDP or TCP; valid during the call only
}

// sent tells whether the head sent it.
func (f frame) sent() bool { return f.from.Addr() == f.head.Addr }

// gets tells whether it is a request of the node to the head for that URL.
func (f frame) gets(node int, method, url string) bool {
	return f.tcp && f.from.Addr() == nodeAddr(node) && bytes.HasPrefix(f.payload, []byte(method+" "+url))
}

// wire watches what goes in and out at the cards of all heads.
type wire struct {
	mu   sync.Mutex
	seen func(frame) // nil: nobody looks
}

// newWire begins to watch, until the test ends.
func newWire(t *testing.T, s *site.Site) *wire {
	t.Helper()
	w := &wire{}
	var reading sync.WaitGroup
	var all []*packet.Conn
	t.Cleanup(func() {
		for _, c := range all {
			c.Close()
		}
		reading.Wait()
	})
	for _, h := range s.Heads {
		must(t, h.Do(func() error {
			card, err := net.InterfaceByName("eth0")
			if err != nil {
				return err
			}
			const everything = 0x0003 // ETH_P_ALL: also what this card sends
			c, err := packet.Listen(card, packet.Raw, everything, nil)
			if err == nil {
				all = append(all, c)
				reading.Go(func() { w.read(t, h, c) })
			}
			return err
		}))
	}
	return w
}

func (w *wire) read(t *testing.T, h *site.Head, c *packet.Conn) {
	buffer := make([]byte, 1<<17) // a segment may be as long as an IP packet, before the card cuts it up
	for {
		n, _, err := c.ReadFrom(buffer)
		switch {
		case t.Context().Err() != nil: // the test is over and the socket closed
			return
		case err != nil:
			t.Errorf("watch %s: %v", h.Name, err)
			return
		}
		f, ok := parseFrame(buffer[:n])
		if !ok {
			continue
		}
		f.head = h
		w.mu.Lock()
		if w.seen != nil {
			w.seen(f)
		}
		w.mu.Unlock()
	}
}

// watch calls seen for every packet from now on, one at a time; nil ends it. What
// seen does happens while the packet's sender goes on.
func (w *wire) watch(seen func(frame)) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.seen = seen
}

// parseFrame reads Ethernet, IPv4, and UDP or TCP (RFC 894, 791, 768, 793); others
// are passed over.
func parseFrame(b []byte) (f frame, ok bool) {
	const ethernet, udp, tcp = 14, 17, 6
	if len(b) < ethernet+20 || binary.BigEndian.Uint16(b[12:]) != 0x0800 {
		return f, false
	}
	ip := b[ethernet:]
	header, total, protocol := int(ip[0]&15)*4, int(binary.BigEndian.Uint16(ip[2:])), ip[9]
	if total == 0 || total > len(ip) { // zero: longer than the field can say
		total = len(ip)
	}
	if header < 20 || total < header+8 {
		return f, false
	}
	segment := ip[header:total]
	at := func(i int) netip.AddrPort {
		a, _ := netip.AddrFromSlice(ip[12+4*i : 16+4*i])
		return netip.AddrPortFrom(a, binary.BigEndian.Uint16(segment[2*i:]))
	}
	f.from, f.to = at(0), at(1)
	switch {
	case protocol == udp:
		f.payload = segment[8:]
	case protocol == tcp && len(segment) >= 20 && len(segment) >= int(segment[12]>>4)*4:
		f.tcp, f.payload = true, segment[int(segment[12]>>4)*4:]
	default:
		return f, false
	}
	return f, true
}

// death is a kill -9 of a head.
type death struct {
	head *site.Head
	at   time.Time
}

// killAt kills the head that the step names, at the first packet at which it names
// one, and tells of it.
func (w *wire) killAt(ctx context.Context, t *testing.T, at step, node int) <-chan death {
	done := make(chan death, 1)
	victim, once := at.at(node), false
	w.watch(func(f frame) {
		if once {
			return
		}
		h := victim(f)
		if h == nil {
			return
		}
		once = true
		if at.silent {
			if err := h.Cut(ctx); err != nil {
				t.Error(err)
			}
		}
		h.Agent.Kill9()
		done <- death{h, time.Now()}
	})
	return done
}

// revive starts a killed head again and waits until all heads agree.
func revive(ctx context.Context, s *site.Site, h *site.Head) error {
	if err := h.Heal(ctx); err != nil {
		return err
	}
	if err := h.Start(ctx); err != nil {
		return err
	}
	return s.Settle(ctx)
}
