package dnsserver

import (
	"encoding/binary"
	"net/netip"
	"time"

	"github.com/miekg/dns"

	"github.com/nearcast/nearcast/steer"
)

const (
	optLen     = 11  // octets of an OPT record without options
	optionHead = 4   // octets of an option's code and length
	paddedTo   = 468 // octets: replies over TLS are as long as a multiple of it (RFC 8467, section 4.1)
)

// extended is an Extended DNS Error (RFC 8914), which goes with a reply if the query has an OPT record.
type extended struct {
	code uint16
	text string
}

var (
	failOpen = &extended{dns.ExtendedErrorCodeOther, "all regions down: failing open"} // no registered code means it
	stale    = &extended{dns.ExtendedErrorCodeStaleAnswer, "cut off from the regions: steered by the last view"}
	notAuth  = &extended{dns.ExtendedErrorCodeNotAuthoritative, "in no zone of this server"}
	notReady = &extended{dns.ExtendedErrorCodeNotReady, "the zone is not there, or expired"}
	onlyIN   = &extended{dns.ExtendedErrorCodeNotSupported, "only class IN"}
	notForIt = &extended{dns.ExtendedErrorCodeProhibited, "not for this client"}
)

// readOPT reads an OPT record's fixed part from its type on (RFC 6891, section 6.1.3).
func (v *query) readOPT(b []byte) {
	v.opt = true
	v.size = int(binary.BigEndian.Uint16(b[2:]))
	v.version = b[5]
	v.do = b[6]&0x80 != 0
}

// options are those of a query's OPT record that matter to the reply; all others are ignored.
type options struct {
	ecs       subnet
	cookie    []byte // both parts, in the packet; nil if none came
	nsid      bool
	keepalive bool
	padding   bool
}

// read reads options. It reports false if one is malformed: cut short, a client subnet twice or as read says, or a
// cookie of a length that none has (RFC 7873, section 5.2.2). Of cookies only the first is read.
func (o *options) read(b []byte) bool {
	for len(b) > 0 {
		if len(b) < optionHead {
			return false
		}
		code, n := binary.BigEndian.Uint16(b), optionHead+int(binary.BigEndian.Uint16(b[2:]))
		if len(b) < n {
			return false
		}
		data := b[optionHead:n]
		switch code {
		case dns.EDNS0SUBNET:
			if o.ecs.sent || !o.ecs.read(data) {
				return false
			}
		case dns.EDNS0COOKIE:
			if o.cookie != nil {
				break
			}
			if len(data) != clientCookie && (len(data) < 2*clientCookie || len(data) > maxCookie) {
				return false
			}
			o.cookie = data
		case dns.EDNS0NSID:
			o.nsid = true
		case dns.EDNS0TCPKEEPALIVE:
			o.keepalive = true
		case dns.EDNS0PADDING:
			o.padding = true
		}
		b = b[n:]
	}
	return true
}

// admit drops the options that mean nothing from this source or over this transport, and answers the cookie.
func (v *query) admit(s *Scene, source netip.Addr, t Transport) {
	if !v.opt {
		return
	}
	if v.ecs.sent && s.Settings.ecsFrom != nil && !s.Settings.ecsFrom.Contains(source) {
		v.ecs = subnet{}
	}
	v.keepalive = v.keepalive && t != UDP // RFC 7828, section 3.2.1
	v.padding = v.padding && t == TLS     // RFC 7830, section 6: in the clear it hides nothing
	if v.nsid {
		v.id = s.Settings.nsid
	}
	if v.cookie != nil {
		good, old := s.Settings.cookies.check(v.cookie, source, uint32(s.Now.Unix()))
		if v.vouched = good; old {
			v.fresh = s.Settings.cookies[0].make(v.cookie[:clientCookie], source, uint32(s.Now.Unix()))
		} else {
			v.fresh = [cookieLen]byte(v.cookie)
		}
	}
}

// limit is the most octets of the reply.
func (v *query) limit(t Transport) int {
	switch {
	case t != UDP:
		return maxTCP
	case v.opt:
		return min(max(v.size, plainUDP), maxUDP)
	}
	return plainUDP
}

// A subnet is a client subnet option (RFC 7871, section 6).
type subnet struct {
	sent   bool
	family uint16 // 1 IPv4, 2 IPv6, 0 none (only with source 0)
	source uint8  // bits of addr that the asker reveals
	addr   netip.Addr
}

// octets is how many octets of the address stand in the option.
func (e *subnet) octets() int { return (int(e.source) + 7) / 8 }

// read reads an option of a query. It reports false if it is malformed: an unknown family, a source longer than the
// family's addresses, an address of more or fewer octets than source needs or with bits beyond it, or a scope.
func (e *subnet) read(b []byte) bool {
	if len(b) < 4 {
		return false
	}
	*e = subnet{sent: true, family: binary.BigEndian.Uint16(b), source: b[2]}
	scope, b := b[3], b[4:]
	if scope != 0 || len(b) != e.octets() {
		return false
	}
	switch {
	case e.family == 0 && e.source == 0:
		return true
	case e.family == 1:
		var a [4]byte
		copy(a[:], b)
		e.addr = netip.AddrFrom4(a)
	case e.family == 2:
		var a [16]byte
		copy(a[:], b)
		e.addr = netip.AddrFrom16(a)
	default:
		return false
	}
	p, err := e.addr.Prefix(int(e.source))
	return err == nil && p.Addr() == e.addr
}

// asker is whom the query comes from.
func (v *query) asker(source netip.Addr) steer.Asker {
	a := steer.Asker{Source: source}
	if v.ecs.source > 0 {
		a.Subnet = netip.PrefixFrom(v.ecs.addr, int(v.ecs.source))
	}
	return a
}

// optSize is the length of the reply's OPT record without padding, 0 if it has none (RFC 6891, section 6.1.1).
func (v *query) optSize(ede *extended) int {
	if !v.opt {
		return 0
	}
	n := optLen
	if v.ecs.sent {
		n += optionHead + 4 + v.ecs.octets()
	}
	if ede != nil {
		n += optionHead + 2 + len(ede.text)
	}
	if v.id != nil {
		n += optionHead + len(v.id)
	}
	if v.cookie != nil {
		n += optionHead + cookieLen
	}
	if v.keepalive {
		n += optionHead + 2
	}
	return n
}

// appendOPT appends the reply's OPT record to the reply, which starts at start in b and may have limit octets.
func (v *query) appendOPT(b []byte, start, limit, rcode, scope int, ede *extended) []byte {
	var do byte
	if v.do {
		do = 0x80
	}
	size := v.optSize(ede)
	pad := -1
	if full := len(b) - start + size + optionHead; v.padding && full <= limit {
		pad = min((full+paddedTo-1)/paddedTo*paddedTo, limit) - full
		size += optionHead + pad
	}
	n := size - optLen
	b = append(b, 0, 0, byte(dns.TypeOPT), maxUDP>>8, maxUDP&0xFF, byte(rcode>>4), 0, do, 0, byte(n>>8), byte(n))
	if v.ecs.sent {
		octets := v.ecs.octets()
		b = appendOption(b, dns.EDNS0SUBNET, 4+octets)
		b = append(b, byte(v.ecs.family>>8), byte(v.ecs.family), v.ecs.source, byte(scope))
		if v.ecs.family == 1 {
			a := v.ecs.addr.As4()
			b = append(b, a[:octets]...)
		} else {
			a := v.ecs.addr.As16()
			b = append(b, a[:octets]...)
		}
	}
	if ede != nil {
		b = appendOption(b, dns.EDNS0EDE, 2+len(ede.text))
		b = append(b, byte(ede.code>>8), byte(ede.code))
		b = append(b, ede.text...)
	}
	if v.id != nil {
		b = append(appendOption(b, dns.EDNS0NSID, len(v.id)), v.id...)
	}
	if v.cookie != nil {
		b = append(appendOption(b, dns.EDNS0COOKIE, cookieLen), v.fresh[:]...)
	}
	if v.keepalive {
		const tenths = uint16(idleTime / (100 * time.Millisecond))
		b = binary.BigEndian.AppendUint16(appendOption(b, dns.EDNS0TCPKEEPALIVE, 2), tenths)
	}
	if pad >= 0 {
		b = appendOption(b, dns.EDNS0PADDING, pad)
		b = append(b, padding[:pad]...)
	}
	return b
}

// padding is what a reply is padded with.
var padding [paddedTo]byte

// appendOption appends the head of an option with n octets of data.
func appendOption(b []byte, code uint16, n int) []byte {
	return append(b, byte(code>>8), byte(code), byte(n>>8), byte(n))
}
