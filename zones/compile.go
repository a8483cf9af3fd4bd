package zones

import (
	"cmp"
	"fmt"
	"slices"

	"github.com/miekg/dns"
)

// maxMembers is the most records of one name and type: a record takes at least 12
// octets, so more do not fit a message.
const maxMembers = maxPacked / 12

// A draft is a zone while it is compiled: its records by name, before it is known
// which of them are nodes.
type draft struct {
	zone    *Zone
	apex    string // in wire format, as every name here
	names   map[string][]record
	zones   map[string]*Zone // all of the set by apex, this one too
	fed     bool             // it has primaries
	problem func(file string, line int, found, accepted string)
}

// add takes the records of the zone file.
func (d *draft) add(records []record) {
	var last, key string
	for _, r := range records {
		if name := r.rr.Header().Name; name != last {
			last = name
			var err error
			if key, err = wireName(name); err != nil {
				d.problem(r.file, r.line, fmt.Sprintf("owner name %s: %v", name, err), "a domain name")
				last = ""
				continue
			}
		}
		if !isWithin(key, d.apex) {
			d.problem(r.file, r.line, last+" is outside the zone", "names in "+d.zone.Name)
			continue
		}
		d.names[key] = append(d.names[key], r)
	}
}

// check tells what is wrong with the records of the zone, name by name.
func (d *draft) check() {
	keys := make([]string, 0, len(d.names))
	for key := range d.names {
		keys = append(keys, key)
	}
	slices.Sort(keys)
	d.checkUnsigned(keys)
	for _, key := range keys {
		d.tidy(key)
		d.checkName(key)
	}
	soa, ns := d.find(d.apex, dns.TypeSOA), d.find(d.apex, dns.TypeNS)
	if soa == nil {
		d.problem("", 0, "no SOA record", "one SOA at "+d.zone.Name)
	}
	if ns == nil {
		d.problem("", 0, "no NS record at the apex", "at least one NS at "+d.zone.Name)
	}
}

// checkUnsigned tells if the zone is signed: served without its signatures, it would be bogus to whoever validates.
func (d *draft) checkUnsigned(keys []string) {
	for _, key := range keys {
		for _, r := range d.names[key] {
			switch t := r.rr.Header().Rrtype; t {
			case dns.TypeRRSIG, dns.TypeNSEC, dns.TypeNSEC3, dns.TypeNSEC3PARAM:
				d.problem(r.file, r.line, fmt.Sprintf("%s at %s: nearcast serves no signatures yet", dns.Type(t), r.rr.Header().Name), "a zone that is not signed")
				return
			}
		}
	}
}

// tidy brings a name's records into the order of types, takes duplicates away, and
// gives the records of a type their lowest TTL (RFC 2181, section 5).
func (d *draft) tidy(key string) {
	recs := d.names[key]
	slices.SortStableFunc(recs, func(a, b record) int { return cmp.Compare(a.rr.Header().Rrtype, b.rr.Header().Rrtype) })
	kept := recs[:0]
	for set := range sets(recs) {
		if len(set) > maxMembers {
			d.problem(set[0].file, set[0].line, fmt.Sprintf("%d records of one name and type", len(set)), fmt.Sprintf("at most %d", maxMembers))
			continue
		}
		ttl := set[0].rr.Header().Ttl
		start := len(kept)
		for _, r := range set {
			ttl = min(ttl, r.rr.Header().Ttl)
			if !slices.ContainsFunc(kept[start:], func(k record) bool { return dns.IsDuplicate(k.rr, r.rr) }) {
				kept = append(kept, r)
			}
		}
		name := textName(key)
		for i := range kept[start:] {
			kept[start+i].rr = as(kept[start+i].rr, name, ttl)
		}
	}
	d.names[key] = kept
}

// as is a record with that name and TTL: itself, if it has them, and otherwise a copy, since other sets may have the record, too.
func as(rr dns.RR, name string, ttl uint32) dns.RR {
	if h := rr.Header(); h.Name == name && h.Ttl == ttl {
		return rr
	}
	rr = dns.Copy(rr)
	rr.Header().Name, rr.Header().Ttl = name, ttl
	return rr
}

// sets yields the runs of records of one type.
func sets(recs []record) func(yield func([]record) bool) {
	return func(yield func([]record) bool) {
		for i, j := 0, 0; i < len(recs); i = j {
			for j = i; j < len(recs) && recs[j].rr.Header().Rrtype == recs[i].rr.Header().Rrtype; j++ {
			}
			if !yield(recs[i:j]) {
				return
			}
		}
	}
}

// checkName tells what is wrong with one name's records.
func (d *draft) checkName(key string) {
	recs := d.names[key]
	cname := d.find(key, dns.TypeCNAME)
	for set := range sets(recs) {
		r := set[len(set)-1]
		t := r.rr.Header().Rrtype
		name := r.rr.Header().Name
		switch {
		case t == dns.TypeSOA && key != d.apex:
			d.problem(r.file, r.line, "SOA at "+name, "SOA only at "+d.zone.Name)
		case len(set) > 1 && (t == dns.TypeSOA || t == dns.TypeCNAME || t == dns.TypeDNAME):
			d.problem(r.file, r.line, fmt.Sprintf("%d %s records at %s", len(set), dns.Type(t), name), "one")
		case t == dns.TypeNS && isWildcard(key):
			d.problem(r.file, r.line, "NS at the wildcard "+name, "NS at names without \"*\" (RFC 4592, section 4.2)")
		case (t == dns.TypeSVCB || t == dns.TypeHTTPS) && !d.fed: // else the primaries' to mend
			d.checkMandatory(set)
		}
	}
	if cname == nil {
		return
	}
	for _, r := range recs {
		switch r.rr.Header().Rrtype {
		case dns.TypeCNAME, dns.TypeRRSIG, dns.TypeNSEC, dns.TypeKEY: // RFC 2181, section 10.1; RFC 4034
		default:
			d.problem(r.file, r.line, fmt.Sprintf("%s beside the CNAME at %s", dns.Type(r.rr.Header().Rrtype), r.rr.Header().Name), "a CNAME and no other data")
			return
		}
	}
}

// checkMandatory tells which records of SVCB or HTTPS are malformed (RFC 9460, section 8).
func (d *draft) checkMandatory(set []record) {
	for _, r := range set {
		if key, ok := lacks(SVCB(r.rr)); ok {
			d.problem(r.file, r.line, fmt.Sprintf("%s at %s without its mandatory %v", dns.Type(r.rr.Header().Rrtype), r.rr.Header().Name, key), "each mandatory key with a value")
		}
	}
}

// find returns the records of a name and type, as the file states them.
func (d *draft) find(key string, t uint16) []record {
	for set := range sets(d.names[key]) {
		if set[0].rr.Header().Rrtype == t {
			return set
		}
	}
	return nil
}

// above returns what stands at or above a name and hides it from this zone, "" if nothing does: the highest of the
// delegations and of the apexes of other zones of the set at or above it, and of the DNAMEs above it.
func (d *draft) above(key string) (hider string) {
	for at := key; ; at = parent(at) {
		below := at != key && d.find(at, dns.TypeDNAME) != nil
		if at == d.apex {
			if below {
				hider = at
			}
			return hider
		}
		if below || d.zones[at] != nil || d.find(at, dns.TypeNS) != nil {
			hider = at
		}
	}
}

// build makes the zone's nodes. The draft has been checked.
func (d *draft) build(s *Set) {
	for key, recs := range d.names {
		switch above := d.above(key); {
		case above == "":
			d.records(s.node(key, d.zone), key, recs)
		case d.zones[above] != nil && above != d.apex:
			s.node(parent(above), d.zone) // the names above the inner zone exist
			if above == key {
				d.zones[above].Above = d.at(key, recs)
			}
		case above == key:
			n := s.node(key, d.zone)
			n.Cut = d.cut(key, n.Name)
		}
	}
	d.finish(s.names[d.apex])
}

// at is what the zone has at the apex of a zone inside it.
func (d *draft) at(key string, recs []record) Match {
	n := &Node{Name: textName(key), Zone: d.zone}
	if d.find(key, dns.TypeNS) != nil {
		n.Cut = d.cut(key, n.Name)
	} else {
		d.records(n, key, recs)
	}
	return n.match(true)
}

// records gives a node the records of its name.
func (d *draft) records(n *Node, key string, recs []record) {
	for set := range sets(recs) {
		rrset := d.pack(d.packer(n.Name, ""), set)
		if rrset == nil {
			continue
		}
		if n.Sets = append(n.Sets, rrset); rrset.Type == dns.TypeDNAME {
			n.DNAME = rrset
		}
	}
}

// finish makes what the zone itself carries.
func (d *draft) finish(apex *Node) {
	d.zone.SOA = apex.RRset(dns.TypeSOA)
	soa := dns.Copy(d.zone.SOA.RRs[0]).(*dns.SOA)
	soa.Hdr.Ttl = min(soa.Hdr.Ttl, soa.Minttl)
	d.zone.Negative = d.pack(d.packer("", ""), []record{{rr: soa}})
}

// cut makes the delegation at a name.
func (d *draft) cut(key, name string) *Cut {
	ns := d.find(key, dns.TypeNS)
	k := d.packer("", name)
	c := &Cut{Name: name, NS: d.pack(k, ns)}
	if ds := d.find(key, dns.TypeDS); ds != nil {
		c.DS = d.pack(d.packer("", name), ds)
	}
	var glue []record
	var beside [][]record
	for _, r := range ns {
		host, err := wireName(r.rr.(*dns.NS).Ns)
		if err != nil || !isWithin(host, d.apex) {
			continue // it was packed before, so there is no error
		}
		for _, t := range []uint16{dns.TypeA, dns.TypeAAAA} {
			addresses := d.find(host, t)
			if isWithin(host, key) {
				glue = append(glue, addresses...)
			} else if addresses != nil && len(beside) < maxExtra {
				beside = append(beside, addresses)
			}
		}
	}
	if len(glue) > 0 {
		c.Glue = d.pack(k, glue)
	}
	for _, addresses := range beside {
		if set := d.pack(k, addresses); set != nil {
			c.Beside = append(c.Beside, set)
		}
	}
	return c
}

// packer packs for questions as Pack says.
func (d *draft) packer(owner, cut string) *packer {
	k, err := newPacker(owner, cut, d.zone.Name)
	if err != nil {
		panic("zones: names that were checked: " + err.Error())
	}
	return k
}

// pack makes an RRset, nil if the records do not fit a message.
func (d *draft) pack(k *packer, recs []record) *RRset {
	rrs := make([]dns.RR, len(recs))
	for i, r := range recs {
		rrs[i] = r.rr
	}
	set, err := k.rrset(rrs)
	if err != nil {
		d.problem(recs[0].file, recs[0].line, err.Error(), "records that fit a message")
		return nil
	}
	return set
}

// node returns the node of a name, made with all above it (RFC 4592, section 2.2.2).
func (s *Set) node(key string, z *Zone) *Node {
	if n := s.names[key]; n != nil {
		return n
	}
	n := &Node{Name: textName(key), Zone: z}
	s.names[key] = n
	s.labels = max(s.labels, dns.CountLabel(n.Name))
	if key != string(z.Wire) {
		if up := s.node(parent(key), z); isWildcard(key) {
			up.star = n
		}
	}
	return n
}
