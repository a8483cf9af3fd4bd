package steer

import (
	"cmp"
	"fmt"
	"math"
	"net/netip"
	"slices"
	"strings"

	"github.com/miekg/dns"

	"github.com/nearcast/nearcast/geo"
	"github.com/nearcast/nearcast/healthmesh"
	"github.com/nearcast/nearcast/zones"
)

// MaxAliases is the most names in a chain of aliases that is followed: more than a sound zone has, and than resolvers
// follow (Unbound and BIND 11).
const MaxAliases = 12

// An Explanation is one decision, stage by stage, as the server would take it now.
type Explanation struct {
	Name       string      `json:"name"`
	Type       string      `json:"type"`
	Client     string      `json:"client"`
	Network    string      `json:"network"` // the widest around the client with this answer
	Scope      int         `json:"scope"`   // its length, as an ECS reply states it
	Generation uint64      `json:"generation"`
	Service    string      `json:"service,omitempty"`
	Policy     string      `json:"policy,omitempty"`
	Place      Place       `json:"place"`
	Region     string      `json:"region"` // the first that answers; "" for a name that is not steered
	FailOpen   bool        `json:"fail_open"`
	Answers    []string    `json:"answers"`
	Candidates []Candidate `json:"candidates"`
	Stages     []Stage     `json:"stages"`
}

// Place is where geography sees the client.
type Place struct {
	Known       bool    `json:"known"`
	Latitude    float64 `json:"latitude"`
	Longitude   float64 `json:"longitude"`
	Country     string  `json:"country,omitempty"`
	Continent   string  `json:"continent,omitempty"`
	Subdivision string  `json:"subdivision,omitempty"`
	Override    string  `json:"override,omitempty"` // the region that an override names
	Network     string  `json:"network"`            // that shares the place
}

// A Candidate is one region of the service, in rank order.
type Candidate struct {
	Region     string   `json:"region"`
	DistanceKM *float64 `json:"distance_km"` // null if the client's place is unknown
	State      string   `json:"state"`
	Share      float64  `json:"share"` // of the clients with this order of regions, 0 to 1
	Reason     string   `json:"reason"`
}

// A Stage says what one stage of steering did.
type Stage struct {
	Name   string `json:"name"`
	Effect string `json:"effect"`
}

// Explain says how a query of a name (absolute, any case) and type is answered to whom it comes from, by the same
// look-ups that answer it. The view, the newest there is, tells why regions are in
// their states. A name in no zone is an error.
func (s *Snapshot) Explain(v *healthmesh.View, name string, qtype uint16, asker Asker) (*Explanation, error) {
	wire := make([]byte, 255)
	n, err := dns.PackDomainName(dns.CanonicalName(name), wire, 0, nil, false)
	if err != nil {
		return nil, fmt.Errorf("%q is not a domain name: %w", name, err)
	}
	e := &Explanation{
		Name: dns.CanonicalName(name), Type: dns.TypeToString[qtype],
		Generation: s.Generation, Answers: []string{}, Candidates: []Candidate{}, Stages: []Stage{},
	}
	var svc *zones.Service
	for range MaxAliases {
		m := s.Set.Find(wire[:n])
		if m.Kind == zones.NotAuth && len(e.Stages) == 0 {
			return nil, fmt.Errorf("%s is in none of the zones served here", e.Name)
		}
		if steered(m, qtype) {
			svc = m.Node.Service
			break
		}
		name, _, err := dns.UnpackDomainName(wire[:n], 0)
		if err != nil {
			return nil, err
		}
		target := e.static(m, name, qtype)
		if target == "" {
			break
		}
		if n, err = dns.PackDomainName(target, wire, 0, nil, false); err != nil {
			return nil, err
		}
	}
	c := asker.For(cmp.Or(svc, new(zones.Service)))
	e.Client = c.asked.String()
	location := e.place(s.Survey.Table, c.Client)
	bits := 0 // what is not steered holds for all
	if svc != nil {
		if asker.Subnet.IsValid() && c.scope >= 0 {
			e.Stages = append(e.Stages, Stage{"client", passedOver(svc, asker.Subnet)})
		}
		bits = e.service(s, v, svc, qtype, c, location)
	}
	prefix, err := c.Addr.Prefix(bits)
	if err != nil {
		return nil, err
	}
	e.Network = prefix.String()
	return e, nil
}

// passedOver says why the choice is by the source address although there is a client subnet.
func passedOver(svc *zones.Service, subnet netip.Prefix) string {
	switch {
	case svc.NoECS:
		return "by the source's address: the service goes by no client subnet"
	case subnet.Bits() == 0:
		return "by the source's address: a client subnet of no bits"
	}
	return fmt.Sprintf("by the source's address: %v is in a special-purpose block, no place", subnet)
}

func steered(m zones.Match, qtype uint16) bool {
	return (m.Kind == zones.Exact || m.Kind == zones.Wildcard) && m.Node.Service != nil &&
		(m.Node.Service.CNAME || qtype == dns.TypeA || qtype == dns.TypeAAAA)
}

func (e *Explanation) place(t *geo.Table, c geo.Client) geo.Location {
	l, network := t.Locate(c.Addr)
	e.Place = Place{
		Known: l.Known, Latitude: l.Lat, Longitude: l.Lon, Country: l.Country, Continent: l.Continent,
		Subdivision: l.Subdivision, Override: l.Region, Network: network.String(),
	}
	return l
}

// static explains a name that no service owns; it returns the target if the name is an alias.
func (e *Explanation) static(m zones.Match, name string, qtype uint16) (target string) {
	effect := "the zone has no such name"
	switch {
	case m.Kind == zones.NotAuth:
		effect = "in none of the zones served here: the asker goes on elsewhere"
	case m.Kind == zones.Unserved:
		effect = "the zone has no records: " + m.Zone.Absent
	case m.Kind == zones.Referral:
		effect = "delegated at " + m.Node.Cut.Name
	case m.Kind == zones.Renamed:
		e.answer(m.Node.DNAME)
		target = zones.Rename(m.Node.DNAME.RRs[0].(*dns.DNAME), name)
		effect = "renamed by the DNAME at " + m.Node.Name + " to " + cmp.Or(target, "a name of more than 255 octets")
	case m.Kind != zones.Missing:
		effect, target = e.records(m.Node, qtype)
	}
	e.Stages = append(e.Stages, Stage{"zone", effect})
	return target
}

// records explains what the zone file has at a name.
func (e *Explanation) records(n *zones.Node, qtype uint16) (effect, target string) {
	if set := n.RRset(qtype); set != nil {
		e.answer(set)
		return "answered from the zone file", ""
	}
	if set := n.RRset(dns.TypeCNAME); set != nil {
		e.answer(set)
		target = set.RRs[0].(*dns.CNAME).Target
		return "an alias of " + target, dns.CanonicalName(target)
	}
	return "the name has no " + e.Type + " records", ""
}

func (e *Explanation) answer(set *zones.RRset) {
	for _, rr := range set.RRs {
		e.Answers = append(e.Answers, strings.TrimPrefix(rr.String(), rr.Header().String()))
	}
}

// service explains a service's decision. Ranks and distances are computed as the survey
// computed them; the states are the snapshot's, and the answer is Pick's own. It returns the length of the widest network
// around the client with this answer.
func (e *Explanation) service(s *Snapshot, v *healthmesh.View, svc *zones.Service, qtype uint16, c Client, l geo.Location) (bits int) {
	p := s.Pick(svc, qtype, c.Client)
	f := familyOf(svc, qtype)
	e.Service, e.Policy, e.FailOpen, e.Scope = svc.Name, svc.Policy.String(), p.FailOpen, c.Scope(p.Scope)
	e.Region = s.regionName(svc, p.Members[0])
	picked := p.Members[:p.N]
	for _, set := range p.Sets[:p.N] {
		if set != nil {
			e.answer(set)
		}
	}

	sites := s.Survey.ranked[svc.Index].sites
	ranking, km := geo.RankLocation(l, sites, svc.BandKM)
	if svc.Policy != zones.Nearest {
		ranking = fixedRanking(svc.Policy, len(svc.Members))
	}
	all := s.beliefs[svc.Index]
	g := choose(ranking, all, f)
	shares := g.shares(all)
	for _, j := range ranking.Order {
		state := all[j].state[f]
		cand := Candidate{Region: sites[j].Name, State: state.String(), Reason: s.reason(v, svc, j, state, g, picked, c.Client)}
		if !math.IsNaN(km[j]) {
			d := math.Round(km[j]*10) / 10
			cand.DistanceKM = &d
		}
		if at := slices.Index(g.members, j); at >= 0 {
			cand.Share = shares[at]
		}
		e.Candidates = append(e.Candidates, cand)
	}
	e.stages(s, svc, g, f, picked, l, c.Client)
	return p.Scope
}

// reason says why a member is or is not in the answer.
func (s *Snapshot) reason(v *healthmesh.View, svc *zones.Service, j uint16, state State, g chain, picked []uint16, c geo.Client) string {
	why := s.cause(v, svc, int(j))
	switch {
	case slices.Contains(picked, j) && g.failOpen:
		return "no region can answer: stands in although " + state.String() + " (" + why + ")"
	case slices.Contains(picked, j) && s.refuses(svc, g, j, c):
		return "answers: all regions refuse this network, so the nearest group takes it as if none did: " + why
	case slices.Contains(picked, j):
		return "answers: " + why
	case slices.Contains(g.members, j) && s.refuses(svc, g, j, c):
		return "refuses this network: " + why
	case slices.Contains(g.nearest(), j):
		return "shares the group; other networks hash to it: " + why
	case slices.Contains(g.members, j):
		return "takes what regions before it in rank refuse: " + why
	case state == Down || state == Draining || state == PinnedDown:
		return why
	case state == Unknown:
		return "no evidence, and others have: " + why
	}
	return "a region before it in rank answers: " + why
}

// refuses tells if a member of the chain refuses a client, by what Pick goes by.
func (s *Snapshot) refuses(svc *zones.Service, g chain, j uint16, c geo.Client) bool {
	network, _ := shareNetwork(c.Addr)
	return len(g.members) > 1 && refuses(network, seed(svc.Name, s.regionName(svc, j)), g.admits(&s.beliefs[svc.Index][j]))
}

func (s *Snapshot) regionName(svc *zones.Service, j uint16) string {
	return s.Set.Regions[svc.Members[j].Region].Name
}
