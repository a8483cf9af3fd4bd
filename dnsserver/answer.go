// Package dnsserver owns bytes in and bytes out: sockets, parsing, EDNS, limits, and replies made from a
// snapshot. It knows nothing of how a snapshot came about.
package dnsserver

import (
	"net/netip"
	"time"

	"github.com/miekg/dns"

	"github.com/nearcast/nearcast/healthmesh"
	"github.com/nearcast/nearcast/steer"
	"github.com/nearcast/nearcast/zones"
)

// Transport is how a query came.
type Transport uint8

const (
	UDP Transport = iota
	TCP
	TLS
	transports int = iota
)

// String is the transport as metrics name it.
func (t Transport) String() string { return [...]string{"udp", "tcp", "tls"}[t] }

// A Scene is what the queries of a batch are answered from. Immutable while they are.
type Scene struct {
	Snapshot *steer.Snapshot
	Settings *Settings
	View     func() *healthmesh.View            // for explanations
	Now      time.Time                          // for cookies and rates
	Limiter  *limiter                           // nil: no rate is limited
	Journals journals                           // what changed in the zones, by name
	Notified func(zone string, from netip.Addr) // told of zones that have a newer version at their primaries; nil: nobody wants to know

	tick int64 // Now for the snapshot's record of answers; 0: none is kept
}

// note puts what a service answered on record.
func (s *Scene) note(svc *zones.Service, p *steer.Pick) {
	if svc != nil {
		s.Snapshot.Answered(svc, p, s.tick)
	}
}

// The limits of a reply's size, in octets.
const (
	plainUDP = 512   // without EDNS (RFC 1035, section 4.2.1); a smaller one in EDNS is read as this (RFC 6891, section 6.2.3)
	maxUDP   = 1232  // fits the smallest IPv6 packet of 1280, so no reply is fragmented
	maxTCP   = 65535 // what the length before the message can state
)

// Answer is the trip of a query: it appends the reply to the query q from source to out and returns it, or nothing if the packet gets no reply.
// Every transport calls it, and it alone. meter may be nil.
//
// A plain query goes the fast way: read in place, answered by copying, with no allocation if out has room, no lock
// and no clock. Whatever else goes the slow way, over the same look-ups. No reply: what is no query, and what is beyond the
// rate of its client.
func Answer(out, q []byte, source netip.Addr, t Transport, s *Scene, meter *Meter) []byte {
	if !isQuery(q) {
		return nil
	}
	if reply, done := fast(out, q, source, t, s, meter); done {
		return reply
	}
	return slow(out, q, source, t, s, meter)
}

// isQuery tells a query from packets without a header, and from replies: two servers could otherwise answer each other for
// ever.
func isQuery(q []byte) bool { return len(q) >= headerLen && q[2]&flagQR == 0 }

// fast answers a plain query; it is not done if q is none, or its answer is not in one piece.
func fast(out, q []byte, source netip.Addr, t Transport, s *Scene, meter *Meter) (reply []byte, done bool) {
	var v query
	if !v.read(q) || isExplain(v.name()) || v.qtype == dns.TypeAXFR || v.qtype == dns.TypeIXFR {
		return nil, false
	}
	v.admit(s, source, t)
	var r result
	r.resolve(s.Snapshot, v.name(), &v, source)
	if r.renamed || r.hinted() || t != UDP && r.reach(&v) > zones.MaxPointer || r.zone != nil && r.zone.Catalog || r.alias && r.follows(s.Snapshot) {
		return nil, false
	}
	switch s.limit(t, &v, source, classOf(r.rcode, r.answers > 0, r.aa)) {
	case drop:
		return nil, true
	case slip:
		r = result{rcode: v.slipRcode(), aa: r.aa, zone: r.zone, slipped: true}
	}
	set := s.Snapshot.Set
	meter.query(set, r.zone, v.qtype, r.rcode, t)
	meter.answer(set, &r)
	s.note(r.service, &r.pick)
	return r.write(out, q, &v, v.limit(t)), true
}

// follows tells if the alias that was found leads to a name in the zones.
func (r *result) follows(s *steer.Snapshot) bool {
	var buf [maxName]byte
	n := wireName(buf[:], r.target())
	return n > 0 && s.Set.Find(buf[:n]).Zone != nil
}

// wireName puts an absolute name into b in wire format, in lower case; it returns its length, 0 if b is too small.
func wireName(b []byte, name string) int {
	n, err := dns.PackDomainName(name, b, 0, nil, false)
	if err != nil {
		return 0
	}
	for i, c := range b[:n] { // lengths of labels are below 'A'
		if 'A' <= c && c <= 'Z' {
			b[i] = c + 'a' - 'A'
		}
	}
	return n
}
