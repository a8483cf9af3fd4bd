package dnsserver

import (
	"net/netip"

	"github.com/miekg/dns"

	"github.com/nearcast/nearcast/steer"
	"github.com/nearcast/nearcast/zones"
)

// A result is what the zones have for one name and type: what goes into which section. Both ways write replies from
// results, so that they cannot differ in what they answer.
type result struct {
	rcode     int
	aa        bool
	zone      *zones.Zone // nil if the name is in none
	answer    [steer.MaxAnswers]*zones.RRset
	answers   int            // how many of answer hold
	authority *zones.RRset   // nil if there is none
	glue      *zones.RRset   // what the reply must carry as well; nil if there is none
	extra     []*zones.RRset // what it may carry as well
	alias     bool           // answer is a CNAME that stands for the records asked for
	renamed   bool           // answer is a DNAME above the name
	service   *zones.Service // nil if the answer does not depend on the client; pick holds if not
	pick      steer.Pick
	scope     int       // of the client subnet, in bits
	ede       *extended // nil if there is none
	slipped   bool      // over the client's rate: there are no records
}

// resolve finds what goes into a reply for name, which is that of the query v or the end of its aliases so far.
func (r *result) resolve(s *steer.Snapshot, name []byte, v *query, source netip.Addr) {
	m := s.Set.Find(name)
	if v.qtype == dns.TypeDS && m.Kind == zones.Exact && m.Zone.Above.Zone != nil && len(name) == len(m.Zone.Wire) {
		m = m.Zone.Above // the parent side has the DS (RFC 4035, section 3.1.4.1)
	}
	r.zone, r.aa = m.Zone, true
	switch m.Kind {
	case zones.NotAuth:
		r.rcode, r.aa, r.ede = dns.RcodeRefused, false, notAuth
	case zones.Unserved:
		r.rcode, r.aa, r.ede = dns.RcodeServerFailure, false, notReady
	case zones.Missing:
		r.rcode = dns.RcodeNameError
		r.authority = m.Zone.Negative
	case zones.Referral:
		r.refer(m.Node.Cut, name, v)
	case zones.Renamed:
		r.add(m.Node.DNAME)
		r.renamed = true
	default:
		r.node(s, m.Node, v, source)
		if r.answers == 0 {
			r.authority = m.Zone.Negative
		}
		if r.answers == 0 && r.pick.Negative != nil {
			r.authority = r.pick.Negative
		}
	}
}

// refer answers at or below a delegation: the parent owns the DS at the cut (RFC 4035, section 3.1.4.1), all else is
// referred.
func (r *result) refer(cut *zones.Cut, name []byte, v *query) {
	if v.qtype == dns.TypeDS && labels(name) == dns.CountLabel(cut.Name) {
		if r.add(cut.DS); cut.DS == nil {
			r.authority = r.zone.Negative
		}
		return
	}
	r.aa = false
	r.authority = cut.NS // the DS goes along where the zone is signed (RFC 4035, section 3.1.4); none is
	r.glue, r.extra = cut.Glue, cut.Beside
}

func labels(name []byte) (n int) {
	for i := 0; name[i] != 0; i += 1 + int(name[i]) {
		n++
	}
	return n
}

// node answers from the records and the service at a node.
func (r *result) node(s *steer.Snapshot, n *zones.Node, v *query, source netip.Addr) {
	t := v.qtype
	svc := n.Service
	switch {
	case svc != nil && (svc.CNAME || t == dns.TypeA || t == dns.TypeAAAA):
		r.steer(s, svc, t, v, source)
	case t != dns.TypeANY:
		if r.add(n.RRset(t)); r.answers == 0 {
			r.add(n.RRset(dns.TypeCNAME))
		}
	default: // one RRset is enough (RFC 8482, section 4.1)
		if svc != nil {
			r.steer(s, svc, dns.TypeA, v, source)
		}
		if svc != nil && r.answers == 0 {
			r.steer(s, svc, dns.TypeAAAA, v, source)
		}
		if r.answers == 0 && len(n.Sets) > 0 {
			r.add(n.Sets[0])
		}
	}
	r.alias = r.answers > 0 && r.answer[0].Type == dns.TypeCNAME && t != dns.TypeCNAME && t != dns.TypeANY
}

// steer adds what a service answers to the client. A name has one CNAME at most, so of such a service the first
// region holds.
func (r *result) steer(s *steer.Snapshot, svc *zones.Service, qtype uint16, v *query, source netip.Addr) {
	r.service = svc
	var scope int
	r.pick, scope, r.ede = v.pick(s, svc, qtype, source)
	r.scope = max(r.scope, scope)
	if svc.CNAME {
		r.pick.N = 1
	}
	for _, set := range r.pick.Sets[:r.pick.N] {
		r.add(set)
	}
}

// pick is what a service answers to the client, for which scope, and what is to be said of that.
func (v *query) pick(s *steer.Snapshot, svc *zones.Service, qtype uint16, source netip.Addr) (p steer.Pick, scope int, ede *extended) {
	c := v.asker(source).For(svc)
	p = s.Pick(svc, qtype, c.Client)
	switch {
	case p.FailOpen:
		ede = failOpen
	case s.Stale:
		ede = stale
	}
	return p, c.Scope(p.Scope), ede
}

func (r *result) add(set *zones.RRset) {
	if set != nil {
		r.answer[r.answers] = set
		r.answers++
		r.extra = set.Extra
	}
}

// hinted tells if the records have hints that depend on the client.
func (r *result) hinted() bool { return r.answers > 0 && r.answer[0].Hints != nil }

// target is where the alias leads.
func (r *result) target() string { return r.answer[0].RRs[0].(*dns.CNAME).Target }
