package dns

import (
	"fmt"
	"strings"

	miekg "github.com/miekg/dns"
)

// maxIncluded bounds the records of one include: $GENERATE makes many of a line.
const maxIncluded = 1 << 16

// include adds the records that the administrator wrote, read as BIND reads a
// zone file: names are relative to the zone, $ORIGIN, $TTL and $GENERATE work,
// $INCLUDE does not. A line without a name at the start is about the zone itself.
func (b *builder) include(s served, zone string, text *string, field string) {
	if text == nil {
		return
	}
	d, _ := b.open(zone, s)
	from := source{network: s.Name, what: "the " + field + " of network '" + s.Name + "'"}
	// As a directive, the TTL stands for all records that give none. The line
	// goes before the text and does not count as one of it.
	whole := fmt.Sprintf("$TTL %d\n%s\n", ttl, *text)
	rest := strings.NewReader(whole)
	parser := miekg.NewZoneParser(rest, d.name, "")
	line := func() int { // of what was read last
		return strings.Count(strings.TrimSpace(whole[:len(whole)-rest.Len()]), "\n")
	}
	records := 0
	for rr, ok := parser.Next(); ok; rr, ok = parser.Next() {
		from.line = line()
		if rr.Header().Name == "" {
			rr.Header().Name = d.name
		}
		if records++; records > maxIncluded {
			b.fault(from, "there are more than %d records", maxIncluded)
			return
		}
		if why := unfit(rr, d.name); why != "" {
			b.fault(from, "%s", why)
		} else if !d.has(rr) {
			b.add(d, rr, from)
		}
	}
	if err := parser.Err(); err != nil {
		from.line = line()
		why, _, _ := strings.Cut(strings.TrimPrefix(err.Error(), "dns: "), " at line: ")
		b.fault(from, "%s", why)
	}
}

// has tells whether the zone has the record already, and expects it from now on.
func (d *draft) has(rr miekg.RR) bool {
	text := func(rr miekg.RR) string {
		k := keyOf(rr)
		return fmt.Sprint(k.name, k.rrtype, data(rr))
	}
	if d.texts == nil {
		d.texts = map[string]bool{}
		for _, r := range d.records {
			d.texts[text(r.rr)] = true
		}
	}
	known := d.texts[text(rr)]
	d.texts[text(rr)] = true
	return known
}

// types are the types of records that an administrator may write. Others make
// no sense in a zone that is not signed, or are read by some name servers and
// refused by others.
var types = map[uint16]bool{
	miekg.TypeA: true, miekg.TypeAAAA: true, miekg.TypeAFSDB: true, miekg.TypeCNAME: true,
	miekg.TypeHINFO: true, miekg.TypeLOC: true, miekg.TypeMX: true, miekg.TypeNS: true, miekg.TypePTR: true,
	miekg.TypeRP: true, miekg.TypeSRV: true, miekg.TypeSSHFP: true, miekg.TypeTXT: true, miekg.TypeURI: true,
}

// unfit tells why a record that reads well cannot be in the zone.
func unfit(rr miekg.RR, zone string) string {
	h := rr.Header()
	owner, rrtype := h.Name, h.Rrtype
	switch {
	case !ownerRE.MatchString(owner):
		return fmt.Sprintf("'%s' is no name for a record: use letters, digits, '-', '_', '/' and '*'", owner)
	case !miekg.IsSubDomain(zone, owner):
		return fmt.Sprintf("'%s' is not in zone %s", owner, zone)
	case h.Class != miekg.ClassINET:
		return fmt.Sprintf("the class of '%s' is not IN", owner)
	case rrtype == miekg.TypeSOA:
		return "the SOA is made by Luna"
	case !types[rrtype]:
		return fmt.Sprintf("records of type %s are not served", miekg.Type(rrtype))
	case rrtype == miekg.TypeNS && strings.HasPrefix(owner, "*"): // RFC 4592 §4.2
		return fmt.Sprintf("'%s' cannot be delegated", owner)
	case h.Ttl > 1<<31-1: // RFC 2181 §8
		return fmt.Sprintf("the TTL of '%s' is too large", owner)
	}
	if f, ok := rr.(*miekg.SSHFP); ok && len(f.FingerPrint) != map[uint8]int{1: 40, 2: 64}[f.Type] { // RFC 4255, RFC 6594
		return fmt.Sprintf("the fingerprint of '%s' must be type 1 with 40 hexadecimal digits or type 2 with 64", owner)
	}
	switch rr.(type) {
	case *miekg.TXT, *miekg.HINFO, *miekg.URI: // quoted strings
	default:
		if strings.Contains(data(rr), `\`) {
			return fmt.Sprintf("'%s' leads to a name with escaped characters", owner)
		}
	}
	// On the wire shows what text hides: a line without data, a string too long.
	wire := make([]byte, miekg.Len(rr))
	end, err := miekg.PackRR(rr, wire, 0, nil, false)
	if err != nil {
		return fmt.Sprintf("'%s' %s: %v", owner, miekg.Type(rrtype), err)
	}
	back, _, err := miekg.UnpackRR(wire[:end], 0)
	if err != nil || back.Header().Rdlength == 0 {
		return fmt.Sprintf("'%s' %s has no data", owner, miekg.Type(rrtype))
	}
	return ""
}

// check takes records out of the zone that cannot stand beside the others, so
// that what is left loads, and tells of names that another zone hides.
func (b *builder) check(d *draft) {
	records := map[string]int{}
	addresses := map[string]bool{}
	for _, r := range d.records {
		k := keyOf(r.rr)
		records[k.name]++
		if k.rrtype == miekg.TypeA || k.rrtype == miekg.TypeAAAA {
			addresses[k.name] = true
		}
	}
	kept := d.records[:0]
	for _, r := range d.records {
		k := keyOf(r.rr)
		why := ""
		switch rr := r.rr.(type) {
		case *miekg.CNAME:
			if records[k.name] > 1 { // RFC 1034 §3.6.2
				why = fmt.Sprintf("'%s' is an alias (CNAME) and has other records too", rr.Hdr.Name)
			}
		case *miekg.NS:
			if miekg.IsSubDomain(d.name, rr.Ns) && !addresses[miekg.CanonicalName(rr.Ns)] {
				why = fmt.Sprintf("name server '%s' has no address in zone %s", rr.Ns, d.name)
			}
		}
		if why != "" {
			b.fault(r.from, "%s", why)
			continue
		}
		kept = append(kept, r)
		if by := b.hides(d, k.name); by != "" && r.from.line == 0 {
			b.notices = append(b.notices, Notice{Network: r.from.network, Text: fmt.Sprintf("%s is not found as %s, for that name belongs to zone %s: rename one", r.from, r.rr.Header().Name, by)})
		}
	}
	d.records = kept
}

// hides gives another zone inside d to which the name belongs.
func (b *builder) hides(d *draft, name string) string {
	apex := miekg.CanonicalName(d.name)
	for name != apex && name != "" {
		if inner, ok := b.named[name]; ok {
			return inner.name
		}
		_, name, _ = strings.Cut(name, ".")
	}
	return ""
}

func (b *builder) fault(from source, format string, args ...any) {
	b.notices = append(b.notices, Notice{Network: from.network, Text: from.String() + ": " + fmt.Sprintf(format, args...), Fault: true})
}
