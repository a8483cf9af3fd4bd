// Package dnsserver owns bytes in and bytes out: sockets, parsing, EDNS, limits, and replies made from a
// snapshot. It knows nothing of how a snapshot came about.
package dnsserver

import (
	"net/netip"

	"github.com/miekg/dns"

	"github.com/nearcast/nearcast/healthmesh"
	"github.com/nearcast/nearcast/steer"
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
	View     func() *healthmesh.View // for explanations
	Now      uint32                  // Unix seconds, for cookies; they may wrap
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
// and no clock. Whatever else goes the slow way, over the same look-ups. No reply: packets without a header, and replies,
// as two servers could otherwise answer each other for ever.
func Answer(out, q []byte, source netip.Addr, t Transport, s *Scene, meter *Meter) []byte {
	if len(q) < headerLen || q[2]&flagQR != 0 {
		return nil
	}
	if reply := fast(out, q, source, t, s, meter); reply != nil {
		return reply
	}
	return slow(out, q, source, t, s, meter)
}

// fast answers a plain query, nil if q is none or its answer is not in one piece.
func fast(out, q []byte, source netip.Addr, t Transport, s *Scene, meter *Meter) []byte {
	var v query
	if !v.read(q) || isExplain(v.name()) {
		return nil
	}
	v.admit(s, source, t)
	var r result
	r.resolve(s.Snapshot, v.name(), &v, source)
	if r.renamed || r.alias && r.follows(s.Snapshot) {
		return nil
	}
	set := s.Snapshot.Set
	meter.query(set, r.zone, v.qtype, r.rcode, t)
	meter.answer(set, &r)
	return r.write(out, q, &v, v.limit(t))
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
