package zones

import (
	"maps"
	"net"
	"slices"

	"github.com/miekg/dns"
)

// acceptedHints tells how hints are asked for.
const acceptedHints = "ipv4hint and ipv6hint with addresses, or 0.0.0.0 and :: alone to have those of a target in the zones served here"

// hints gives SVCB and HTTPS records whose hints are 0.0.0.0 or :: the addresses of their targets (RFC 9460, section 7.3):
// at once where these stand in a zone file; where a service has them, the record's RRset names it, so that the
// hints are those of the client's region.
func (l *loader) hints(d *draft) {
	for _, key := range slices.Sorted(maps.Keys(d.names)) {
		n := l.set.names[key]
		if n == nil || n.Zone != d.zone || n.Cut != nil {
			continue
		}
		for _, t := range []uint16{dns.TypeSVCB, dns.TypeHTTPS} {
			set := n.RRset(t)
			if set == nil {
				continue
			}
			filled := false
			recs := d.find(key, t)
			for i, r := range recs {
				svc, with := l.hint(d, r, n)
				if svc != nil && set.Hints == nil {
					set.Hints = make([]*Service, len(set.RRs))
				}
				if svc != nil {
					set.Hints[i] = svc
				}
				if with != nil {
					recs[i].rr, set.RRs[i], filled = with, with, true
				}
			}
			if !filled {
				continue
			}
			if p, err := Pack(set.RRs, n.Name, "", d.zone.Name); err == nil {
				set.Packed = p
			} else {
				d.problem("", 0, n.Name+": "+err.Error(), "records that fit a message")
			}
		}
	}
}

// hint returns the service that has one record's hints, or the record with its hints filled in; neither if it asks for none.
func (l *loader) hint(d *draft, r record, n *Node) (svc *Service, with dns.RR) {
	rr := SVCB(r.rr)
	if rr == nil || !Hinted(rr) {
		return nil, nil
	}
	target := rr.Target
	if target == "." {
		target = n.Name
	}
	var m Match
	if wire, err := wireName(target); err == nil {
		m = l.set.Find([]byte(wire))
	}
	at := m.Node
	none := m.Kind != Exact && m.Kind != Wildcard || at.Service == nil && at.RRset(dns.TypeA) == nil && at.RRset(dns.TypeAAAA) == nil || at.Service != nil && at.Service.CNAME
	switch {
	case !d.fed && (isMandatory(rr, dns.SVCB_IPV4HINT) || isMandatory(rr, dns.SVCB_IPV6HINT)): // there may be none
		d.problem(r.file, r.line, "hints of "+target+" that are mandatory", "hints that may be left out, where they are asked for")
		return nil, nil
	case none && !d.fed && !(m.Zone != nil && l.drafts[m.Zone.Index].fed): // what primaries have is theirs to mend
		d.problem(r.file, r.line, "hints of "+target+", which has no addresses here", acceptedHints)
		return nil, nil
	case !none && at.Service != nil:
		return at.Service, nil
	}
	with = dns.Copy(r.rr)
	if none {
		FillHints(SVCB(with))
	} else {
		FillHints(SVCB(with), at.RRset(dns.TypeA), at.RRset(dns.TypeAAAA))
	}
	return nil, with
}

// SVCB is what a SVCB or HTTPS record says, nil if rr is neither.
func SVCB(rr dns.RR) *dns.SVCB {
	switch rr := rr.(type) {
	case *dns.SVCB:
		return rr
	case *dns.HTTPS:
		return &rr.SVCB
	}
	return nil
}

// Hinted tells if a record asks for the hints of its target.
func Hinted(rr *dns.SVCB) bool {
	return slices.ContainsFunc(rr.Value, func(v dns.SVCBKeyValue) bool {
		switch v := v.(type) {
		case *dns.SVCBIPv4Hint:
			return asksForHints(v.Hint)
		case *dns.SVCBIPv6Hint:
			return asksForHints(v.Hint)
		}
		return false
	})
}

func asksForHints(hint []net.IP) bool { return len(hint) == 1 && hint[0].IsUnspecified() }

// mandatory are the keys that a record's askers must know (RFC 9460, section 8).
func mandatory(rr *dns.SVCB) []dns.SVCBKey {
	for _, v := range rr.Value {
		if m, ok := v.(*dns.SVCBMandatory); ok {
			return m.Code
		}
	}
	return nil
}

func isMandatory(rr *dns.SVCB, key dns.SVCBKey) bool { return slices.Contains(mandatory(rr), key) }

// lacks is a mandatory key that a record has not, which makes it malformed; ok is false if there is none.
func lacks(rr *dns.SVCB) (key dns.SVCBKey, ok bool) {
	for _, key := range mandatory(rr) {
		if !slices.ContainsFunc(rr.Value, func(v dns.SVCBKeyValue) bool { return v.Key() == key }) {
			return key, true
		}
	}
	return 0, false
}

// FillHints gives a record that asks for hints the addresses of RRsets of A and AAAA; what it asks for and there is none of
// is left out, and mandatory no longer.
func FillHints(rr *dns.SVCB, sets ...*RRset) {
	var v4, v6 []net.IP
	for _, set := range sets {
		if set == nil {
			continue
		}
		for _, a := range set.RRs {
			switch a := a.(type) {
			case *dns.A:
				v4 = append(v4, a.A)
			case *dns.AAAA:
				v6 = append(v6, a.AAAA)
			}
		}
	}
	var values []dns.SVCBKeyValue
	left := map[dns.SVCBKey]bool{} // out
	for _, v := range rr.Value {
		switch hint := v.(type) {
		case *dns.SVCBIPv4Hint:
			if asksForHints(hint.Hint) {
				v, left[v.Key()] = &dns.SVCBIPv4Hint{Hint: v4}, v4 == nil
			}
		case *dns.SVCBIPv6Hint:
			if asksForHints(hint.Hint) {
				v, left[v.Key()] = &dns.SVCBIPv6Hint{Hint: v6}, v6 == nil
			}
		}
		if !left[v.Key()] {
			values = append(values, v)
		}
	}
	rr.Value = nil
	for _, v := range values { // those of copies are shared
		if m, ok := v.(*dns.SVCBMandatory); ok {
			keys := slices.DeleteFunc(slices.Clone(m.Code), func(key dns.SVCBKey) bool { return left[key] })
			if len(keys) == 0 {
				continue
			}
			v = &dns.SVCBMandatory{Code: keys}
		}
		rr.Value = append(rr.Value, v)
	}
}
