package steer

import (
	"encoding/binary"
	"fmt"
	"slices"

	"github.com/miekg/dns"

	"github.com/nearcast/nearcast/geo"
	"github.com/nearcast/nearcast/healthmesh"
	"github.com/nearcast/nearcast/zones"
)

// doubtTTL is the longest TTL, in seconds, of an answer against the evidence, one that fails open or may have a region that the
// guard holds: clients ask again soon, and find the regions that came back.
const doubtTTL = 10

// Input is all that a snapshot depends on.
type Input struct {
	Generation uint64
	Survey     *Survey
	View       *healthmesh.View
	// Previous is the snapshot in use, nil at first. What did not change is taken
	// over from it; the result is the same without.
	Previous *Snapshot
}

// Build compiles a snapshot. It is pure: the same zones, geography and view give the
// same answers on every director.
func Build(in Input) *Snapshot {
	set := in.Survey.Set
	s := &Snapshot{
		Generation: in.Generation, Set: set, Survey: in.Survey, Stale: in.View.Isolated,
		beliefs: make([][]belief, len(set.Services)),
		faces:   make([][families]face, len(set.Services)),
		merged:  merges{},
	}
	for i, svc := range set.Services {
		s.beliefs[i] = believeAll(svc, set.Regions, in.View)
		for _, f := range asked(svc) {
			s.faces[i][f] = s.face(svc, f, in.Previous)
		}
	}
	return s
}

// SameAnswers reports whether two snapshots answer every query alike.
func (s *Snapshot) SameAnswers(o *Snapshot) bool {
	return s.Survey == o.Survey && s.Stale == o.Stale && slices.EqualFunc(s.beliefs, o.beliefs, slices.Equal)
}

// face compiles one service's answers for one family.
func (s *Snapshot) face(svc *zones.Service, f family, previous *Snapshot) face {
	if !slices.ContainsFunc(svc.Members, func(m zones.Member) bool { return has(m, f) }) {
		// Every client gets the same NODATA, which lives as long as the zone's others.
		return face{choices: []choice{{chain: chain{members: []uint16{0}, ends: []int{1}, tier: Up}, sets: []*zones.RRset{nil}}}}
	}
	r := &s.Survey.ranked[svc.Index]
	class, chains := classify(r.rankings, s.beliefs[svc.Index], f)
	out := face{choices: make([]choice, len(chains))}
	if len(chains) > 1 {
		out.network = s.merged.merge(r.network, class, previous)
	}
	for i, c := range chains {
		out.choices[i] = s.choice(svc, c, f)
	}
	return out
}

func has(m zones.Member, f family) bool {
	return slices.ContainsFunc(endpoints(m), func(e endpoint) bool { return e.family == f })
}

// choice makes ready what a pick in this chain needs.
func (s *Snapshot) choice(svc *zones.Service, c chain, f family) choice {
	ch := choice{chain: c}
	for _, j := range c.members {
		m, b := svc.Members[j], &s.beliefs[svc.Index][j]
		ch.seeds = append(ch.seeds, seed(svc.Name, s.Set.Regions[m.Region].Name))
		ch.weights = append(ch.weights, b.weight)
		ch.admits = append(ch.admits, c.admits(b))
		ch.sets = append(ch.sets, s.records(svc, m, b, c, f))
	}
	if slices.Contains(ch.sets, nil) {
		ch.negative = denial(svc, c)
	}
	return ch
}

// admits is the part of its networks that a member of the chain takes.
func (c chain) admits(b *belief) float64 {
	if c.failOpen {
		return 1
	}
	return b.admit
}

// ttl is how long an answer of the chain's regions lives: one TTL for all, since several may be in one answer (RFC 2181, section 5.2).
func (c chain) ttl(svc *zones.Service) uint32 {
	if c.doubtful {
		return min(svc.TTL, doubtTTL)
	}
	return svc.TTL
}

// denial denies a type that the chain's regions have not, but others may: it lives no longer than their answers would. Nil if the
// zone has no records.
func denial(svc *zones.Service, c chain) *zones.RRset {
	static := svc.Zone.Negative
	if static == nil || static.TTL <= c.ttl(svc) {
		return static
	}
	soa := dns.Copy(static.RRs[0])
	soa.Header().Ttl = c.ttl(svc)
	set, err := zones.NewRRset([]dns.RR{soa}, "", "", svc.Zone.Name)
	if err != nil {
		panic(fmt.Sprintf("the SOA of %s that was packed before does not pack: %v", svc.Zone.Name, err))
	}
	return set
}

// records are one member's records of one family: those of its endpoints that are in the chain's tier or better; all of them if none
// is, or if evidence does not count. Nil if it has none.
func (s *Snapshot) records(svc *zones.Service, m zones.Member, b *belief, c chain, f family) *zones.RRset {
	own, good := []dns.RR(nil), []dns.RR(nil)
	for i, e := range endpoints(m) {
		if e.family != f {
			continue
		}
		rr := record(svc.Name, c.ttl(svc), e)
		own = append(own, rr)
		if b.endpoints[i] == healthmesh.Up || c.tier == Unknown && b.endpoints[i] == healthmesh.Unknown {
			good = append(good, rr)
		}
	}
	rrs := good
	if good == nil || c.failOpen || b.state[f] == Held {
		rrs = own
	}
	if rrs == nil {
		return nil
	}
	set, err := zones.NewRRset(rrs, svc.Name, "", svc.Zone.Name)
	if err != nil {
		panic(fmt.Sprintf("an endpoint of %s that was checked at load does not pack: %v", svc.Name, err))
	}
	return set
}

func record(name string, ttl uint32, e endpoint) dns.RR {
	h := dns.RR_Header{Name: name, Class: dns.ClassINET, Ttl: ttl}
	switch e.family {
	case ipv4:
		h.Rrtype = dns.TypeA
		return &dns.A{Hdr: h, A: e.addr.AsSlice()}
	case ipv6:
		h.Rrtype = dns.TypeAAAA
		return &dns.AAAA{Hdr: h, AAAA: e.addr.AsSlice()}
	}
	h.Rrtype = dns.TypeCNAME
	return &dns.CNAME{Hdr: h, Target: e.name}
}

// merges are the partitions in use by what they were made from: services that choose
// alike share one, and a snapshot takes over those of the one before.
type merges map[mergeKey]*geo.Partition

type mergeKey struct {
	network *geo.Map
	class   string
}

func (m merges) merge(network *geo.Map, class []uint32, previous *Snapshot) *geo.Partition {
	b := make([]byte, 0, 4*len(class))
	for _, c := range class {
		b = binary.LittleEndian.AppendUint32(b, c)
	}
	key := mergeKey{network, string(b)}
	p := m[key]
	if p == nil && previous != nil {
		p = previous.merged[key]
	}
	if p == nil {
		p = network.Merge(class)
	}
	m[key] = p
	return p
}
