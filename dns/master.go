package dns

import (
	"fmt"
	"strings"

	miekg "github.com/miekg/dns"
)

// Master gives the zone as the text of a zone file (RFC 1035 §5).
func (z Zone) Master() string {
	var text strings.Builder
	fmt.Fprintf(&text, "; Made by luna from its inventory and written anew each time: change the inventory instead.\n$ORIGIN %s\n$TTL %d\n", z.Name, ttl)
	for _, rr := range z.Records {
		h := rr.Header()
		text.WriteString(z.relative(h.Name))
		if h.Ttl != ttl {
			fmt.Fprintf(&text, "\t%d", h.Ttl)
		}
		fmt.Fprintf(&text, "\tIN\t%s\t%s\n", miekg.Type(h.Rrtype), data(rr))
	}
	return text.String()
}

// data gives what a record says, as text: all after its name, TTL, class and type.
func data(rr miekg.RR) string { return strings.SplitN(rr.String(), "\t", 5)[4] }

// relative gives an owner as it is written below $ORIGIN. Owners are plain, so
// none looks like a directive or a comment.
func (z Zone) relative(owner string) string {
	inside := len(owner) - len(z.Name)
	switch {
	case strings.EqualFold(owner, z.Name):
		return "@"
	case inside > 0 && owner[inside-1] == '.' && strings.EqualFold(owner[inside:], z.Name):
		return owner[:inside-1]
	}
	return owner
}
