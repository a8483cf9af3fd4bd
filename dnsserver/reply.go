package dnsserver

import (
	"encoding/binary"

	"github.com/miekg/dns"

	"github.com/nearcast/nearcast/zones"
)

// A writer appends a reply to what is in b already: TCP puts the length before it.
type writer struct {
	b      []byte
	start  int // of the message in b
	end    int // where records must end, in b
	origin int // where the zone's name starts, in the message
}

// write appends the reply to the plain query v, read from q, of at most limit octets.
//
// Records that do not fit are left out as a whole, with TC set, and then the sections stay empty: half a section could
// be taken for the whole. Glue alone may lack, with TC as well, since without the addresses of servers below the
// cut a referral leads nowhere (RFC 9471). Of the other additional records, those stand that fit, up to the first RRset
// that does not, and TC tells nothing of them (RFC 2181, section 9). The extended error goes before any record does
// (RFC 8914, section 3).
func (r *result) write(out, q []byte, v *query, limit int) []byte {
	w := writer{start: len(out)}
	if r.zone != nil {
		w.origin = headerLen + v.nameLen - len(r.zone.Wire)
	}
	for {
		w.b = append(out, q[:v.end]...)
		w.end = w.start + limit - v.optSize(r.ede)
		w.header(r.aa, r.rcode)
		if w.sections(r) || r.ede == nil {
			break
		}
		r.ede = nil
	}
	if r.slipped && r.rcode == dns.RcodeSuccess {
		w.b[w.start+2] |= flagTC
	}
	if v.opt {
		w.b = v.appendOPT(w.b, w.start, limit, r.rcode, r.scope, r.ede)
		w.count(10, 1)
	}
	return w.b
}

// reach is the most octets up to the end of the records of a reply to the query v.
func (r *result) reach(v *query) int {
	n := v.end
	for _, set := range r.answer[:r.answers] {
		n += len(set.Packed.Wire)
	}
	for _, set := range [...]*zones.RRset{r.authority, r.glue} {
		if set != nil {
			n += len(set.Packed.Wire)
		}
	}
	for _, set := range r.extra {
		n += len(set.Packed.Wire)
	}
	return n
}

// sections appends the records and counts them in the header. It reports false if one had to be left out.
func (w *writer) sections(r *result) (all bool) {
	first := len(w.b)
	an, fits := w.section(r.answer[:r.answers])
	ns := 0
	if fits {
		ns, fits = w.append(r.authority)
	}
	if !fits {
		w.b, an, ns = w.b[:first], 0, 0
	}
	ar := 0
	if fits {
		ar, fits = w.append(r.glue)
	}
	if all = fits; !fits {
		w.b[w.start+2] |= flagTC
	} else {
		for _, set := range r.extra {
			n, fits := w.append(set)
			if all = fits; !fits {
				break
			}
			ar += n
		}
	}
	w.count(6, an)
	w.count(8, ns)
	w.count(10, ar)
	return all
}

// count adds to the number of records in the header at octet at.
func (w *writer) count(at, records int) {
	h := w.b[w.start+at:]
	binary.BigEndian.PutUint16(h, binary.BigEndian.Uint16(h)+uint16(records))
}

// header turns the query's header into the reply's, with no records yet: RD and CD are copied (RFC 1035, section
// 4.1.1; RFC 4035, section 3.2.2), RA, Z and AD are clear.
func (w *writer) header(aa bool, rcode int) {
	h := w.b[w.start:]
	h[2] = flagQR | h[2]&(maskOpcode|flagRD)
	if aa {
		h[2] |= flagAA
	}
	h[3] = h[3]&flagCD | byte(rcode)&0xF
	clear(h[6:headerLen])
}

// section appends RRsets; it reports how many records, and false if they do not all fit.
func (w *writer) section(sets []*zones.RRset) (records int, ok bool) {
	for _, set := range sets {
		n, ok := w.append(set)
		if !ok {
			return 0, false
		}
		records += n
	}
	return records, true
}

// append appends an RRset, or nothing if it does not fit. There is always room for none.
func (w *writer) append(set *zones.RRset) (records int, ok bool) {
	if set == nil {
		return 0, true
	}
	if len(w.b)+len(set.Packed.Wire) > w.end {
		return 0, false
	}
	w.b = set.Packed.Append(w.b, w.start, w.origin)
	return int(set.Packed.Count), true
}
