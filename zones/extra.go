package zones

import "github.com/miekg/dns"

// maxExtra is the most RRsets beside an answer; more hosts than half of these have no place in 1232 octets.
const maxExtra = 32

var addressTypes = []uint16{dns.TypeA, dns.TypeAAAA}

// extras gives the zone's RRsets those that the asker will want next. The set has its nodes, and hints are filled in.
func (d *draft) extras(s *Set) {
	for key := range d.names {
		n := s.names[key]
		if n == nil || n.Zone != d.zone {
			continue
		}
		for _, set := range n.Sets {
			switch set.Type {
			case dns.TypeNS, dns.TypeMX, dns.TypeSRV, dns.TypeSVCB, dns.TypeHTTPS:
				d.extra(s, n, set)
			}
		}
	}
}

// extra adds what the zone has for the names in a node's RRset, each once, under that name, also where a wildcard stands for it.
// What depends on the client is left out.
func (d *draft) extra(s *Set, n *Node, set *RRset) {
	k := d.packer(n.Name, "")
	seen := map[string]bool{}
	for _, rr := range set.RRs {
		name, types := wanted(rr)
		own := name == "."
		if own {
			name = n.Name
		}
		host, err := wireName(name)
		if types == nil || err != nil || seen[host] || isWildcard(host) && !own {
			continue
		}
		seen[host] = true
		m := s.Find([]byte(host))
		if m.Zone != d.zone || m.Kind != Exact && m.Kind != Wildcard {
			continue
		}
		for _, t := range types {
			found := m.Node.RRset(t)
			if found == nil || found == set || found.Hints != nil || len(set.Extra) == maxExtra {
				continue
			}
			if k.out.Count == 0 {
				if _, err := k.pack(set.RRs); err != nil {
					return // it was packed before
				}
			}
			extra, err := k.rrset(named(found.RRs, m.Node.Name, textName(host)))
			if err != nil {
				return // too much under that name, and nothing that has to be there
			}
			set.Extra = append(set.Extra, extra)
		}
	}
}

// wanted is the name, and its types, that the asker of a record will want next (RFC 1035, section 3.3; RFC 2782; RFC 9460,
// section 4.1), "." the record's own; no types if there is none.
func wanted(rr dns.RR) (name string, types []uint16) {
	switch rr := rr.(type) {
	case *dns.NS:
		name = rr.Ns
	case *dns.MX:
		name = rr.Mx
	case *dns.SRV:
		name = rr.Target
	}
	switch svcb := SVCB(rr); {
	case svcb != nil && svcb.Priority > 0:
		return svcb.Target, addressTypes
	case svcb != nil && svcb.Target != ".": // the name that stands for this one
		return svcb.Target, append([]uint16{rr.Header().Rrtype}, addressTypes...)
	case name == "" || name == ".":
		return "", nil
	}
	return name, addressTypes
}

// named is records of owner under another name.
func named(rrs []dns.RR, owner, name string) []dns.RR {
	if name == owner {
		return rrs
	}
	other := make([]dns.RR, len(rrs))
	for i, rr := range rrs {
		other[i] = dns.Copy(rr)
		other[i].Header().Name = name
	}
	return other
}
