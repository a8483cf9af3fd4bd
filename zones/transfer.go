package zones

import (
	"maps"
	"slices"

	"github.com/miekg/dns"
)

// records is all of a zone as a transfer carries it.
func (l *loader) records(d *draft) []dns.RR {
	var all []dns.RR
	for _, r := range d.find(d.apex, dns.TypeSOA) {
		all = append(all, r.rr)
	}
	for _, key := range slices.Sorted(maps.Keys(d.names)) {
		n := l.set.names[key]
		for _, r := range d.names[key] {
			switch t := r.rr.Header().Rrtype; {
			case t == dns.TypeSOA:
				continue
			case n != nil && n.Zone == d.zone && (t == dns.TypeSVCB || t == dns.TypeHTTPS):
				all = append(all, n.RRset(t).unsteered(r.rr))
			default:
				all = append(all, r.rr)
			}
		}
	}
	for _, svc := range l.set.Services {
		if svc.Zone == d.zone {
			all = append(all, svc.Unsteered()...)
		}
	}
	return all
}

// Unsteered is what a server that steers nothing can answer for the service: the addresses of all regions, of a service
// of host names the first region's; with policy failover the first region's alone.
func (s *Service) Unsteered() (rrs []dns.RR) {
	members := s.Members
	if s.CNAME || s.Policy == Failover {
		members = members[:1]
	}
	for _, m := range members {
		header := func(t uint16) dns.RR_Header {
			return dns.RR_Header{Name: s.Name, Rrtype: t, Class: dns.ClassINET, Ttl: s.TTL}
		}
		if m.CNAME != "" {
			rrs = append(rrs, &dns.CNAME{Hdr: header(dns.TypeCNAME), Target: m.CNAME})
		}
		for _, a := range m.Addrs {
			if a.Is4() {
				rrs = append(rrs, &dns.A{Hdr: header(dns.TypeA), A: a.AsSlice()})
			} else {
				rrs = append(rrs, &dns.AAAA{Hdr: header(dns.TypeAAAA), AAAA: a.AsSlice()})
			}
		}
	}
	return dns.Dedup(rrs, nil)
}

// unsteered is a record of the set, its hints those of a server that steers nothing.
func (s *RRset) unsteered(rr dns.RR) dns.RR {
	if s == nil || s.Hints == nil {
		return rr
	}
	i := slices.Index(s.RRs, rr)
	if i < 0 || s.Hints[i] == nil {
		return rr
	}
	svc := s.Hints[i]
	rr = dns.Copy(rr)
	FillHints(SVCB(rr), &RRset{RRs: svc.Unsteered()})
	return rr
}

// Serial is the zone's version.
func (z *Zone) Serial() uint32 { return z.SOA.RRs[0].(*dns.SOA).Serial }

// Diff is what changed from one version of a zone to another: the records, their SOAs not among them, that are gone and
// those that are new.
func Diff(before, after *Zone) (removed, added []dns.RR) {
	was, is := before.Records, after.Records
	if len(was) == len(is) { // mostly the same records, taken over: only those that are other values are compared
		was, is = nil, nil
		for i, rr := range after.Records {
			if before.Records[i] != rr {
				was, is = append(was, before.Records[i]), append(is, rr)
			}
		}
	}
	return without(was, is), without(is, was)
}

// without is those of rrs that are not among others.
func without(rrs, others []dns.RR) (left []dns.RR) {
	have := make(map[string]bool, len(others))
	for _, rr := range others {
		have[rr.String()] = true
	}
	for _, rr := range rrs {
		if rr.Header().Rrtype != dns.TypeSOA && !have[rr.String()] {
			left = append(left, rr)
		}
	}
	return left
}
