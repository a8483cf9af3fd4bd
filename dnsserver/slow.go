package dnsserver

import (
	"encoding/binary"
	"net/netip"
	"slices"
	"strings"

	"github.com/miekg/dns"

	"github.com/nearcast/nearcast/steer"
	"github.com/nearcast/nearcast/zones"
)

// slow answers what is not plain, or not in one piece: broken and unusual packets, other classes and opcodes, and
// aliases that are followed. It decides with the same look-ups as the fast way, and writes with miekg/dns.
func slow(out, q []byte, source netip.Addr, t Transport, s *Scene, meter *Meter) []byte {
	c := newConversation(q, source, t, s, meter)
	zone := c.answer(q)
	if c.parts != nil { // there is one message here, and a transfer has many
		c.refuse(notForIt)
	}
	switch s.limit(t, &c.v, source, classOf(c.reply.Rcode, len(c.reply.Answer) > 0, c.reply.Authoritative)) {
	case drop:
		return nil
	case slip:
		c.slip()
	}
	reply := c.write(out, c.v.limit(t))
	meter.query(s.Snapshot.Set, zone, c.v.qtype, c.reply.Rcode, t)
	return reply
}

func newConversation(q []byte, source netip.Addr, t Transport, s *Scene, meter *Meter) *conversation {
	c := &conversation{source: source, transport: t, scene: s, snapshot: s.Snapshot, meter: meter}
	c.read(q)
	c.v.admit(s, source, t)
	return c
}

// slip leaves nothing of the reply but what makes an honest asker come back. To no question, the reply has nothing else.
func (c *conversation) slip() {
	if !c.asked {
		return
	}
	m := &c.reply
	m.Rcode, m.Answer, m.Ns, m.Extra = c.v.slipRcode(), nil, nil, nil
	m.Truncated = m.Rcode == dns.RcodeSuccess
	c.extra, c.ede, c.scope = nil, nil, 0
}

// A conversation is one query of the slow way and its reply as it grows.
type conversation struct {
	source    netip.Addr
	transport Transport
	scene     *Scene
	snapshot  *steer.Snapshot // the scene's
	meter     *Meter

	v         query
	class     uint16
	serial    *dns.SOA  // the asker's version of a zone; nil if none came
	tsig      *dns.TSIG // the query's, nil if it is not signed
	tsigError uint16    // why it is not to be trusted, 0 if it is
	key       *key      // that signed it
	mac       string    // that the reply's signature covers: the query's, then the message before
	asked     bool      // there is a question
	broken    bool      // not a message, or not as RFC 6891, RFC 7871 and RFC 7873 want it

	reply dns.Msg    // without OPT and TSIG
	extra [][]dns.RR // what goes into the reply's additional section where it fits, by RRset
	scope int
	ede   *extended

	parts   [][]dns.RR // of a transfer, to be sent in many messages
	streams bool       // the first of them is on its way
}

// answer decides what the reply is. It returns the zone of the question, nil if it is in none.
func (c *conversation) answer(q []byte) *zones.Zone {
	c.reply.Id = binary.BigEndian.Uint16(q)
	c.reply.Response = true
	c.reply.Opcode = int(q[2]&maskOpcode) >> 3
	c.reply.RecursionDesired = q[2]&flagRD != 0
	c.reply.CheckingDisabled = q[3]&flagCD != 0
	known := c.reply.Opcode == dns.OpcodeQuery || c.reply.Opcode == dns.OpcodeNotify
	if !known || c.broken {
		c.tsig = nil // nobody's signature is checked for nothing
	}
	switch {
	case c.tsig != nil && !c.trusts(q):
		if c.reply.Rcode = dns.RcodeNotAuth; c.tsigError == dns.RcodeFormatError {
			c.tsig, c.reply.Rcode = nil, dns.RcodeFormatError
		}
	case c.v.version != 0 && !c.broken: // of whichever opcode (RFC 6891, section 6.1.3)
		c.reply.Rcode = dns.RcodeBadVers
	case !known:
		c.reply.Rcode = dns.RcodeNotImplemented
	case c.broken || !c.asked && (c.v.cookie == nil || c.reply.Opcode != dns.OpcodeQuery):
		c.reply.Rcode = dns.RcodeFormatError
	case !c.asked: // for a cookie, or to know if one is good (RFC 7873, section 5.4)
		if len(c.v.cookie) > clientCookie && !c.v.vouched {
			c.reply.Rcode = dns.RcodeBadCookie
		}
	case c.reply.Opcode == dns.OpcodeNotify && c.v.qtype == dns.TypeSOA && c.class == dns.ClassINET:
		return c.notified()
	case c.reply.Opcode == dns.OpcodeNotify:
		c.reply.Rcode = dns.RcodeNotImplemented
	case c.class == dns.ClassCHAOS:
		c.identify()
	case c.class != dns.ClassINET:
		c.refuse(onlyIN)
	case c.v.qtype == dns.TypeAXFR || c.v.qtype == dns.TypeIXFR:
		return c.transfer()
	case c.explains():
		return c.explain()
	default:
		if zone := c.snapshot.Set.Find(c.v.name()).Zone; c.hides(zone) {
			c.refuse(notForIt)
			return zone
		}
		return c.follow()
	}
	return nil
}

// hides tells if a zone is a catalog that the asker may not have (RFC 9432, section 7).
func (c *conversation) hides(zone *zones.Zone) bool {
	return zone != nil && zone.Catalog && !c.scene.Settings.transfers[zone.Name].allows(c)
}

// trusts tells if one of our keys signed the query q.
func (c *conversation) trusts(q []byte) bool {
	c.mac = c.tsig.MAC
	c.key, c.tsigError = c.scene.Settings.verify(q, c.tsig)
	return c.tsigError == 0
}

// refuse refuses to answer, and tells why.
func (c *conversation) refuse(why *extended) {
	c.reply.Rcode, c.ede = dns.RcodeRefused, why
}

// follow answers from the zones, along aliases as far as they stay in these. The rcode and the authority section are
// the last name's (RFC 6604, section 3), AA is the first's (RFC 1035, section 4.1.1).
func (c *conversation) follow() (first *zones.Zone) {
	owner, name := c.reply.Question[0].Name, c.v.low
	n := c.v.nameLen
	for step := 0; ; step++ {
		var r result
		r.resolve(c.snapshot, name[:n], &c.v, c.source)
		if step == 0 {
			first, c.reply.Authoritative = r.zone, r.aa
		} else if r.zone == nil || c.hides(r.zone) || r.answers > 0 && c.owns(owner) {
			return first
		}
		c.add(&r, owner)
		target := ""
		switch {
		case r.renamed:
			if target = c.rename(&r, owner); c.v.qtype == dns.TypeCNAME || c.v.qtype == dns.TypeANY {
				return first // the one just made is what was asked for
			}
		case r.alias:
			target = r.target()
		}
		if target == "" || step+1 == steer.MaxAliases {
			return first
		}
		owner = target
		n = wireName(name[:], owner)
	}
}

// rename adds the CNAME that the DNAME of r makes of owner, a name below it, and returns the new name; "" if that has
// more than 255 octets: the rcode tells (RFC 6672, sections 2.2 and 3.1).
func (c *conversation) rename(r *result, owner string) (target string) {
	dname := r.answer[0].RRs[0].(*dns.DNAME)
	if target = zones.Rename(dname, owner); target == "" {
		c.reply.Rcode = dns.RcodeYXDomain
		return ""
	}
	c.reply.Answer = append(c.reply.Answer, &dns.CNAME{
		Hdr: dns.RR_Header{Name: owner, Rrtype: dns.TypeCNAME, Class: dns.ClassINET, Ttl: dname.Hdr.Ttl}, Target: target,
	})
	return target
}

// owns tells if the answer has a CNAME of that name: the aliases go round in a circle.
func (c *conversation) owns(name string) bool {
	return slices.ContainsFunc(c.reply.Answer, func(rr dns.RR) bool {
		return rr.Header().Rrtype == dns.TypeCNAME && strings.EqualFold(rr.Header().Name, name)
	})
}

// add adds what one name of the chain has.
func (c *conversation) add(r *result, owner string) {
	c.reply.Rcode = r.rcode
	c.scope = max(c.scope, r.scope)
	if c.ede == nil {
		c.ede = r.ede
	}
	c.meter.answer(c.snapshot.Set, r)
	c.scene.note(r.service, &r.pick)
	before := c.reply.Answer
	for _, set := range r.answer[:r.answers] {
		rrs := make([]dns.RR, len(set.RRs))
		for i, rr := range set.RRs {
			rrs[i] = dns.Copy(rr)
		}
		c.hint(set, rrs)
		for _, rr := range rrs {
			if !r.renamed {
				rr.Header().Name = owner // of a wildcard's record it is the name that was asked for
			}
			if !has(before, rr) { // a DNAME may rename twice, and be what it leads to
				c.reply.Answer = append(c.reply.Answer, rr)
			}
		}
	}
	if r.authority != nil {
		c.reply.Ns = append(c.reply.Ns, r.authority.RRs...)
	}
	if r.glue != nil {
		c.reply.Extra = append(c.reply.Extra, r.glue.RRs...)
	}
	for _, set := range r.extra {
		rrs := set.RRs
		if own := rrs[0].Header().Name; r.answers > 0 && own == r.answer[0].RRs[0].Header().Name { // it may be a wildcard
			rrs = slices.Clone(rrs)
			for i := range rrs {
				rrs[i] = dns.Copy(rrs[i])
				rrs[i].Header().Name = owner
			}
		}
		c.extra = append(c.extra, rrs)
	}
}

// hint gives copies of a set's records the hints of this client's region, so that they never disagree with what it is
// answered for A and AAAA, and are kept no longer.
func (c *conversation) hint(set *zones.RRset, rrs []dns.RR) {
	ttl := set.TTL
	for i, svc := range set.Hints {
		if svc == nil {
			continue
		}
		var addresses []*zones.RRset
		for _, qtype := range []uint16{dns.TypeA, dns.TypeAAAA} {
			p, scope, ede := c.v.pick(c.snapshot, svc, qtype, c.source)
			c.scene.note(svc, &p)
			c.scope = max(c.scope, scope)
			if c.ede == nil {
				c.ede = ede
			}
			if p.Negative != nil {
				ttl = min(ttl, p.Negative.TTL)
			}
			for _, a := range p.Sets[:p.N] {
				if a != nil {
					addresses = append(addresses, a)
					ttl = min(ttl, a.TTL)
				}
			}
		}
		zones.FillHints(zones.SVCB(rrs[i]), addresses...)
	}
	for _, rr := range rrs {
		rr.Header().Ttl = ttl
	}
}

// has tells if a record is among others.
func has(rrs []dns.RR, rr dns.RR) bool {
	return slices.ContainsFunc(rrs, func(have dns.RR) bool { return dns.IsDuplicate(have, rr) })
}

// write appends the reply, of at most limit octets; what is left out is as on the fast way.
func (c *conversation) write(out []byte, limit int) []byte {
	m := &c.reply
	m.Compress = true
	rcode := m.Rcode
	m.Rcode &= 0xF // the rest stands in the OPT record (RFC 6891, section 6.1.3)
	defer func() { m.Rcode = rcode }()
	asked := c.lower()
	glue := m.Extra
	signature := 0
	if c.tsig != nil {
		signature = dns.Len(c.tsig) - int(c.tsig.MACSize) + maxMAC
	}
	for {
		room := limit - c.v.optSize(c.ede) - signature
		m.Extra = slices.Concat(glue, slices.Concat(c.extra...))
		if b, err := m.Pack(); err == nil && len(b) <= room {
			if asked != "" {
				if _, err := dns.PackDomainName(asked, b, headerLen, nil, false); err != nil {
					return c.failed(out)
				}
			}
			start := len(out)
			out = append(out, b...)
			if c.v.opt {
				out = c.v.appendOPT(out, start, limit-signature, rcode, c.scope, c.ede)
				binary.BigEndian.PutUint16(out[start+10:], binary.BigEndian.Uint16(out[start+10:])+1)
			}
			if c.tsig == nil {
				return out
			}
			if b, err = c.sign(out[start:]); err != nil {
				return c.failed(out[:start])
			}
			return append(out[:start], b...)
		}
		switch {
		case c.v.opt && c.ede != nil:
			c.ede = nil
		case len(c.extra) > 0:
			c.extra = c.extra[:len(c.extra)-1]
		case !m.Truncated:
			m.Truncated, glue = true, nil
		case len(m.Answer)+len(m.Ns) > 0:
			m.Answer, m.Ns = nil, nil
		default:
			return c.failed(out)
		}
	}
}

// lower puts the question's name into lower case, also where it owns records of the answer, and returns it as it was, "" if there is
// no question. The library compresses only names of one case; once packed, the name gets its case back, and with it what points to it.
func (c *conversation) lower() (asked string) {
	if len(c.reply.Question) == 0 {
		return ""
	}
	q := &c.reply.Question[0]
	asked, q.Name = q.Name, dns.CanonicalName(q.Name)
	for _, rr := range c.reply.Answer {
		if rr.Header().Name == asked && asked != q.Name { // a copy: in the zones, names are in lower case
			rr.Header().Name = q.Name
		}
	}
	return asked
}

// failed is the reply if none can be packed. What was read from a packet or a zone file packs, and a question with OPT
// fits; should it not, the asker is told.
func (c *conversation) failed(out []byte) []byte {
	m := &c.reply
	return append(out, byte(m.Id>>8), byte(m.Id), flagQR|byte(m.Opcode)<<3, dns.RcodeServerFailure, 0, 0, 0, 0, 0, 0, 0, 0)
}
