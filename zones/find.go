package zones

import (
	"slices"

	"github.com/miekg/dns"
)

// Find looks up a name in wire format, lower case, uncompressed, with the root's zero
// (RFC 6672, section 3.2, which replaces RFC 1034, section 4.3.2; RFC 4592). It does not allocate.
//
// The longest suffix of the name that is a node decides: it is the name, or the cut or
// the DNAME above it, or the closest encloser, whose child "*" stands for what is missing.
// No node is below a cut or a DNAME, and the nodes of a zone inside a zone are the inner zone's.
func (s *Set) Find(name []byte) Match {
	labels := 0
	for i := 0; name[i] != 0; i += 1 + int(name[i]) {
		labels++
	}
	at := 0
	for ; labels > s.labels; labels-- {
		at += 1 + int(name[at])
	}
	for {
		if n := s.names[string(name[at:])]; n != nil {
			return n.match(at == 0)
		}
		if name[at] == 0 {
			return Match{}
		}
		at += 1 + int(name[at])
	}
}

// match is what looking up a name finds whose longest suffix among the nodes is n.
func (n *Node) match(exact bool) Match {
	switch {
	case n.Zone.Absent != "":
		return Match{Kind: Unserved, Zone: n.Zone}
	case n.Cut != nil:
		return Match{Referral, n.Zone, n}
	case exact:
		return Match{Exact, n.Zone, n}
	case n.DNAME != nil:
		return Match{Renamed, n.Zone, n}
	case n.star != nil:
		return Match{Wildcard, n.Zone, n.star}
	}
	return Match{Kind: Missing, Zone: n.Zone}
}

// undelegated is what the zone above has at an apex where it has no records: what it has at any such name.
func (s *Set) undelegated(apex string) Match {
	m := s.Find([]byte(parent(apex)))
	if m.Kind == Exact {
		return m.Node.match(false)
	}
	return m
}

// RRset returns the node's records of one type, nil if it has none.
func (n *Node) RRset(qtype uint16) *RRset {
	for _, set := range n.Sets {
		if set.Type == qtype {
			return set
		}
	}
	return nil
}

// Types are those that the name has, ascending: what is steered and what is static (RFC 4034, section 4.1.2). At a cut they are the parent's.
func (n *Node) Types() (types []uint16) {
	for _, set := range n.Sets {
		types = append(types, set.Type)
	}
	if n.Cut != nil {
		types = append(types, dns.TypeNS)
		if n.Cut.DS != nil {
			types = append(types, dns.TypeDS)
		}
	}
	if n.Service != nil {
		for _, m := range n.Service.Members {
			types = append(types, m.types()...)
		}
	}
	slices.Sort(types)
	return slices.Compact(types)
}

func (m *Member) types() (types []uint16) {
	if m.CNAME != "" {
		return []uint16{dns.TypeCNAME}
	}
	for _, a := range m.Addrs {
		if a.Is4() {
			types = append(types, dns.TypeA)
		} else {
			types = append(types, dns.TypeAAAA)
		}
	}
	return types
}
