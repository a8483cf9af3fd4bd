package dnsserver

import (
	"encoding/binary"

	"github.com/miekg/dns"
)

// read reads the packet as far as it can: of a broken one what stands before the fault, so that the reply can name
// the question and carry an OPT record.
func (c *conversation) read(q []byte) {
	at := headerLen
	switch binary.BigEndian.Uint16(q[4:]) { // RFC 9619
	case 0:
	case 1:
		if at = c.readQuestion(q); at == 0 {
			c.broken = true
			return
		}
		c.asked = true
	default:
		c.broken = true
		return
	}
	records := int(binary.BigEndian.Uint16(q[6:])) + int(binary.BigEndian.Uint16(q[8:]))
	additional := int(binary.BigEndian.Uint16(q[10:]))
	// A record takes 11 octets at least, so the packet's length bounds the loop.
	for i := range records + additional {
		head := skipName(q, at)
		if head == 0 || len(q) < head+10 {
			c.broken = true
			return
		}
		end := head + 10 + int(binary.BigEndian.Uint16(q[head+8:]))
		if len(q) < end {
			c.broken = true
			return
		}
		if i < records {
			c.readRecord(q, at, head, end)
		} else {
			c.readAdditional(q, at, head, end, i == records+additional-1)
		}
		at = end
	}
}

// skipName returns where the name at at ends, 0 if it is broken. A pointer leads back, to what was read, so that there is
// no way round (RFC 1035, section 4.1.4); before the question is nothing that it could lead to.
func skipName(q []byte, at int) int {
	for start := at; at < len(q) && at-start < maxName; at += 1 + int(q[at]) {
		switch label := q[at]; {
		case label == 0:
			return at + 1
		case label < 1<<6:
		case label < 3<<6 || len(q) < at+2:
			return 0
		default:
			if to := int(binary.BigEndian.Uint16(q[at:]) &^ (3 << 14)); to < headerLen || to >= start {
				return 0
			}
			return at + 2
		}
	}
	return 0
}

// readQuestion reads the question; it returns where it ends, 0 if it is broken.
func (c *conversation) readQuestion(q []byte) int {
	if skipName(q, headerLen) == 0 {
		return 0
	}
	name, at, err := dns.UnpackDomainName(q, headerLen)
	if err != nil || len(q) < at+4 {
		return 0
	}
	n := wireName(c.v.low[:], name)
	if n == 0 || !c.v.readName(c.v.low[:n]) {
		return 0
	}
	c.v.qtype, c.class = binary.BigEndian.Uint16(q[at:]), binary.BigEndian.Uint16(q[at+2:])
	c.reply.Question = []dns.Question{{Name: name, Qtype: c.v.qtype, Qclass: c.class}}
	return at + 4
}

// readAdditional reads a record of the additional section, which starts at at, has its type at head and ends at end.
// An OPT record comes once, at the root (RFC 6891, section 6.1.1); a TSIG comes last (RFC 8945, section 5.1).
func (c *conversation) readAdditional(q []byte, at, head, end int, last bool) {
	switch binary.BigEndian.Uint16(q[head:]) {
	case dns.TypeOPT:
		if c.v.opt || q[at] != 0 {
			c.broken = true
			return
		}
		c.v.readOPT(q[head:])
		// Options of another version may be of another form.
		if c.v.version == 0 && !c.v.options.read(q[head+10:end]) {
			c.v.options = options{}
			c.broken = true
		}
	case dns.TypeTSIG:
		rr, _, err := dns.UnpackRR(q[:end], at)
		tsig, ok := rr.(*dns.TSIG)
		if err != nil || !ok || !last || skipName(q, head+10) == 0 || !isComplete(tsig) {
			c.broken = true
			return
		}
		c.tsig = tsig
	}
}

// readRecord reads a record of the answer or authority section. An OPT record has no place there (RFC 6891, section
// 6.1.1). An asker for a transfer tells by a SOA which version it has (RFC 1995, section 3).
func (c *conversation) readRecord(q []byte, at, head, end int) {
	switch binary.BigEndian.Uint16(q[head:]) {
	case dns.TypeOPT:
		c.broken = true
	case dns.TypeSOA:
		if c.v.qtype != dns.TypeIXFR {
			return
		}
		rr, _, err := dns.UnpackRR(q[:end], at)
		soa, ok := rr.(*dns.SOA)
		if owner := skipName(q, head+10); err != nil || !ok || owner == 0 || skipName(q, owner) != end-soaTail {
			c.broken = true
			return
		}
		c.serial = soa
	}
}

// soaTail is what comes after a SOA's names, in octets (RFC 1035, section 3.3.13).
const soaTail = 5 * 4

// isComplete tells if no field is missing; miekg/dns takes a record that ends between two (RFC 8945, section 4.2).
func isComplete(t *dns.TSIG) bool {
	var algorithm [maxName]byte
	return int(t.Hdr.Rdlength) == wireName(algorithm[:], t.Algorithm)+16+int(t.MACSize)+int(t.OtherLen)
}
