package failover

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/insomniacslk/dhcp/dhcpv4"
)

// answer is what a server said to a machine.
type answer struct {
	at       time.Time
	from     netip.Addr // who sent it: the source of the IP packet, whatever option 54 says
	server   netip.Addr // option 54
	kind     dhcpv4.MessageType
	mac      string // whose answer it is
	address  netip.Addr
	question dhcpv4.TransactionID
}

func (a answer) String() string {
	return fmt.Sprintf("%s %s of %s to %s from %s", a.at.Format("15:04:05.000"), a.kind, a.address, a.mac, a.from)
}

// span is when an address was offered to one machine.
type span struct {
	first, last answer
	count       int
}

// book holds all that was offered: by address, and to whom.
type book struct {
	mu     sync.Mutex
	offers map[netip.Addr]map[string]*span
	all    int
	page   []answer // every answer since turn, where it is kept
	keep   bool
	asked  map[question]time.Time
}

// question is a machine's DISCOVER, or its REQUEST.
type question struct {
	id       dhcpv4.TransactionID
	discover bool
}

func newBook() *book {
	b := &book{}
	b.clear()
	return b
}

// ask writes a question down.
func (b *book) ask(p *dhcpv4.DHCPv4) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.asked[question{p.TransactionID, p.MessageType() == dhcpv4.MessageTypeDiscover}] = time.Now()
}

// askedAt tells when a machine asked what the answer is to.
func (b *book) askedAt(a answer) time.Time {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.asked[question{a.question, a.kind == dhcpv4.MessageTypeOffer}]
}

// note writes an answer down. NAK offers nothing.
func (b *book) note(a answer) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.keep {
		b.page = append(b.page, a)
	}
	if a.kind == dhcpv4.MessageTypeNak || !a.address.IsValid() || a.address.IsUnspecified() {
		return
	}
	b.all++
	to := b.offers[a.address]
	if to == nil {
		to = map[string]*span{}
		b.offers[a.address] = to
	}
	if to[a.mac] == nil {
		to[a.mac] = &span{first: a}
	}
	to[a.mac].last = a
	to[a.mac].count++
}

// clear begins the book anew.
func (b *book) clear() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.offers, b.page, b.all = map[netip.Addr]map[string]*span{}, nil, 0
	b.asked = map[question]time.Time{}
}

// turn begins a page on which every answer stands in full.
func (b *book) turn() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.page, b.keep = nil, true
}

// read gives the page so far.
func (b *book) read() []answer {
	b.mu.Lock()
	defer b.mu.Unlock()
	return slices.Clone(b.page)
}

// count gives how many offers stand in the book, and of how many addresses.
func (b *book) count() (offers, addresses int) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.all, len(b.offers)
}

// inTurns stands in what twice tells of an address that went back and forth; one that
// only moved went once.
const inTurns = ", in turns"

// twice tells of each address that was offered to more than one machine.
func (b *book) twice() (found []string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for address, to := range b.offers {
		if len(to) < 2 {
			continue
		}
		var spans []*span
		for _, s := range to {
			spans = append(spans, s)
		}
		slices.SortFunc(spans, func(a, b *span) int { return a.first.at.Compare(b.first.at) })
		var text strings.Builder
		fmt.Fprintf(&text, "%s was offered to %d machines", address, len(spans))
		for i := range spans[1:] {
			if spans[i].last.at.After(spans[i+1].first.at) {
				text.WriteString(inTurns)
				break
			}
		}
		for _, s := range spans {
			fmt.Fprintf(&text, "\n\t%d times, first %s, last %s", s.count, s.first, s.last)
		}
		found = append(found, text.String())
	}
	slices.Sort(found)
	return found
}

// The book must find what the tests are for.
func TestBook(t *testing.T) {
	b := newBook()
	moment := time.Now()
	say := func(kind dhcpv4.MessageType, mac, address string) {
		moment = moment.Add(time.Second)
		b.note(answer{at: moment, kind: kind, mac: mac, address: netip.MustParseAddr(address)})
	}
	for _, kind := range []dhcpv4.MessageType{dhcpv4.MessageTypeOffer, dhcpv4.MessageTypeAck} {
		say(kind, "a", "10.30.128.1")
		say(kind, "b", "10.30.128.2")
	}
	say(dhcpv4.MessageTypeNak, "a", "0.0.0.0")
	if found := b.twice(); found != nil {
		t.Errorf("found %q where nothing is wrong", found)
	}
	say(dhcpv4.MessageTypeOffer, "b", "10.30.128.1")
	if found := b.twice(); len(found) != 1 || strings.Contains(found[0], "in turns") {
		t.Errorf("an address that moved: found %q", found)
	}
	say(dhcpv4.MessageTypeOffer, "a", "10.30.128.1")
	if found := b.twice(); len(found) != 1 || !strings.Contains(found[0], "10.30.128.1 was offered to 2 machines, in turns") {
		t.Errorf("an address of two machines: found %q", found)
	}
	b.clear()
	if found := b.twice(); found != nil {
		t.Errorf("found %q in an empty book", found)
	}
}
