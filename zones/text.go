package zones

import (
	"encoding/hex"
	"fmt"
	"strings"

	"github.com/miekg/dns"
)

// FromWire mends what miekg/dns unpacked, from a message or from RFC 3597's form of a record, before it is packed again.
// Data of CAA and URI is unpacked as it stands, but packed as if it were escaped; and a TTL with the most significant bit set
// is one of zero (RFC 2181, section 8). A record that was parsed from its own type's text has no length yet, and is left as it is.
func FromWire(rr dns.RR) {
	h := rr.Header()
	if h.Rdlength == 0 {
		return
	}
	h.Rdlength = 0 // once is enough
	if h.Ttl > maxTTL {
		h.Ttl = 0
	}
	switch rr := rr.(type) {
	case *dns.CAA:
		rr.Value = strings.ReplaceAll(rr.Value, `\`, `\\`)
	case *dns.URI:
		rr.Target = strings.ReplaceAll(rr.Target, `\`, `\\`)
	}
}

// plain are the types that Text writes in their own form, so that people can read a copy: those that zones mostly have, and whose
// text reads back as the same octets. All others are written as RFC 3597 has it, since the text of some does not.
var plain = map[uint16]bool{
	dns.TypeA: true, dns.TypeAAAA: true, dns.TypeNS: true, dns.TypeCNAME: true, dns.TypeDNAME: true, dns.TypeSOA: true, dns.TypePTR: true,
	dns.TypeMX: true, dns.TypeSRV: true, dns.TypeTXT: true, dns.TypeDS: true,
}

// Text is records in the form of a zone file, which reads back as the same octets.
func Text(rrs []dns.RR) (string, error) {
	var b strings.Builder
	for _, rr := range rrs {
		h := rr.Header()
		if strings.HasPrefix(h.Name, "$") { // it would be a directive
			b.WriteByte('\\')
		}
		if plain[h.Rrtype] {
			b.WriteString(rr.String())
			b.WriteByte('\n')
			continue
		}
		raw := make([]byte, dns.Len(rr)+1)
		n, err := dns.PackRR(rr, raw, 0, nil, false)
		if err != nil {
			return "", fmt.Errorf("packing %s: %w", h.Name, err)
		}
		rdata := raw[n-int(h.Rdlength) : n]
		fmt.Fprintf(&b, "%s\t%d\tIN\tTYPE%d\t\\# %d %s\n", h.Name, h.Ttl, h.Rrtype, len(rdata), hex.EncodeToString(rdata))
	}
	return b.String(), nil
}

// Read is the reverse of Text: the records of the copy at path of the zone origin.
func Read(path, origin string) (rrs []dns.RR, err error) {
	c := ReadContent(path, origin)
	for _, r := range c.records {
		rrs = append(rrs, r.rr)
	}
	return rrs, c.err()
}
