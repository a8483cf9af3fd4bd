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

// failOpenTTL is the longest TTL, in seconds, of an answer that fails open: clients
// ask again soon, and find the regions that came back.
const failOpenTTL = 10

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
		s.beliefs[i] = make([]belief, len(svc.Members))
		for j, m := range svc.Members {
			s.beliefs[i][j] = believe(svc, m, set.Regions[m.Region], in.View)
		}
		for f := range families {
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
		return face{choices: []choice{{group: group{members: []uint16{0}, tier: Up}, sets: []*zones.RRset{nil}}}}
	}
	states := make([]State, len(svc.Members))
	for j, b := range s.beliefs[svc.Index] {
		states[j] = b.state[f]
	}
	r := &s.Survey.ranked[svc.Index]
	class, groups := classify(r.rankings, states)
	out := face{choices: make([]choice, len(groups))}
	if len(groups) > 1 {
		out.network = s.merged.merge(r.network, class, previous)
	}
	for c, g := range groups {
		out.choices[c] = s.choice(svc, g, f)
	}
	return out
}

func has(m zones.Member, f family) bool {
	return slices.ContainsFunc(endpoints(m), func(e endpoint) bool { return e.family == f })
}

// choice makes ready what a pick in this group needs.
func (s *Snapshot) choice(svc *zones.Service, g group, f family) choice {
	ch := choice{group: g}
	for _, j := range g.members {
		m := svc.Members[j]
		ch.seeds = append(ch.seeds, seed(svc.Name, s.Set.Regions[m.Region].Name))
		ch.weights = append(ch.weights, s.beliefs[svc.Index][j].weight)
		ch.sets = append(ch.sets, s.records(svc, m, s.beliefs[svc.Index][j], g, f))
	}
	if slices.Contains(ch.sets, nil) {
		ch.negative = denial(svc, g)
	}
	return ch
}

// ttl is how long an answer of the group's regions lives.
func (g group) ttl(svc *zones.Service) uint32 {
	if g.failOpen {
		return min(svc.TTL, failOpenTTL)
	}
	return svc.TTL
}

// denial denies a type that the group's regions have not, but others may: it lives no longer than their answers would. Nil if the
// zone has no records.
func denial(svc *zones.Service, g group) *zones.RRset {
	static := svc.Zone.Negative
	if static == nil || static.TTL <= g.ttl(svc) {
		return static
	}
	soa := dns.Copy(static.RRs[0])
	soa.Header().Ttl = g.ttl(svc)
	set, err := zones.NewRRset([]dns.RR{soa}, "", "", svc.Zone.Name)
	if err != nil {
		panic(fmt.Sprintf("the SOA of %s that was packed before does not pack: %v", svc.Zone.Name, err))
	}
	return set
}

// records are one member's records of one family: those of its endpoints that are in
// the group's tier or better, all of them if the group fails open. Nil if it has none.
func (s *Snapshot) records(svc *zones.Service, m zones.Member, b belief, g group, f family) *zones.RRset {
	var rrs []dns.RR
	for i, e := range endpoints(m) {
		if e.family != f {
			continue
		}
		if b.endpoints[i] == healthmesh.Up || g.failOpen || g.tier == Unknown && b.endpoints[i] == healthmesh.Unknown {
			rrs = append(rrs, record(svc.Name, g.ttl(svc), e))
		}
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
