package dnsserver

import (
	"encoding/binary"
	"net/netip"

	"github.com/miekg/dns"

	"github.com/nearcast/nearcast/geo"
)

const optLen = 11 // of an OPT record without options

// An Extended DNS Error (RFC 8914) goes with an answer that fails open. None of the registered codes means it, so
// it is 0, "Other Error".
const (
	failOpenCode = 0
	failOpenText = "all regions down: failing open"
)

// readOPT reads an OPT record's fixed part from its type on (RFC 6891, section 6.1.3).
func (v *query) readOPT(b []byte) {
	v.opt = true
	v.size = int(binary.BigEndian.Uint16(b[2:]))
	v.version = b[5]
	v.do = b[6]&0x80 != 0
}

// readOptions reads the options of an OPT record; all but the client subnet are ignored. It reports false if they
// are malformed.
func (v *query) readOptions(b []byte) bool {
	for len(b) > 0 {
		if len(b) < 4 {
			return false
		}
		code, n := binary.BigEndian.Uint16(b), 4+int(binary.BigEndian.Uint16(b[2:]))
		if len(b) < n {
			return false
		}
		if code == dns.EDNS0SUBNET && (v.ecs.sent || !v.ecs.read(b[4:n])) {
			return false
		}
		b = b[n:]
	}
	return true
}

// limit is the most octets of the reply.
func (v *query) limit(t Transport) int {
	switch {
	case t == TCP:
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

// An asker is the network that a steered answer is chosen for.
type asker struct {
	client geo.Client
	// scope is the one to reply where the choice is by the source address, -1 where it is by the client subnet:
	// then it is the choice's.
	scope int
}

// asker is the client subnet if it says of a place, else the source address. A subnet of length 0 says of none
// (RFC 7871, section 7.1.2), one in a special-purpose block neither: the source's answer then holds for that block.
func (v *query) asker(source netip.Addr) asker {
	a := asker{}
	if v.ecs.source > 0 {
		c := geo.NewClient(v.ecs.addr, int(v.ecs.source))
		block, special := geo.Special(c.Addr)
		if !special || c.Bits < block {
			return asker{client: c, scope: -1}
		}
		a.scope = block + c.Wrap
	}
	a.client = geo.NewClient(source, source.BitLen())
	return a
}

// scopeOf is the scope to reply with a choice that holds for the widest prefix of bits bits. It may exceed the
// source prefix: more bits would have given a better answer (RFC 7871, section 7.2.1).
func (v *query) scopeOf(a asker, bits int) int {
	if a.scope >= 0 {
		return a.scope
	}
	return min(bits+a.client.Wrap, v.ecs.addr.BitLen())
}

// optSize is the length of the reply's OPT record, 0 if it has none (RFC 6891, section 6.1.1).
func (v *query) optSize(failOpen bool) int {
	if !v.opt {
		return 0
	}
	n := optLen
	if v.ecs.sent {
		n += 8 + v.ecs.octets()
	}
	if failOpen {
		n += 6 + len(failOpenText)
	}
	return n
}

// appendOPT appends the reply's OPT record of optSize octets.
func (v *query) appendOPT(b []byte, scope int, failOpen bool) []byte {
	var do byte
	if v.do {
		do = 0x80
	}
	n := v.optSize(failOpen) - optLen
	b = append(b, 0, 0, byte(dns.TypeOPT), maxUDP>>8, maxUDP&0xFF, 0, 0, do, 0, byte(n>>8), byte(n))
	if v.ecs.sent {
		octets := v.ecs.octets()
		b = append(b, 0, byte(dns.EDNS0SUBNET), 0, byte(4+octets), byte(v.ecs.family>>8), byte(v.ecs.family), v.ecs.source, byte(scope))
		if v.ecs.family == 1 {
			a := v.ecs.addr.As4()
			b = append(b, a[:octets]...)
		} else {
			a := v.ecs.addr.As16()
			b = append(b, a[:octets]...)
		}
	}
	if failOpen {
		n := 2 + len(failOpenText)
		b = append(b, 0, byte(dns.EDNS0EDE), byte(n>>8), byte(n), failOpenCode>>8, failOpenCode&0xFF)
		b = append(b, failOpenText...)
	}
	return b
}
