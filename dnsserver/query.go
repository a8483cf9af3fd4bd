package dnsserver

import (
	"encoding/binary"

	"github.com/miekg/dns"
)

// The fixed parts of a message (RFC 1035, sections 4.1.1 and 4.1.2).
const (
	headerLen = 12
	maxName   = 255

	flagQR     = 0x80 // in octet 2
	maskOpcode = 0x78
	flagAA     = 0x04
	flagTC     = 0x02
	flagRD     = 0x01
	flagCD     = 0x10 // in octet 3
)

// A query is what a reply depends on.
type query struct {
	low     [maxName]byte // the name in wire format, lower case
	nameLen int
	end     int // where the question ends in the packet
	qtype   uint16
	opt     bool // an OPT record came (RFC 6891); the fields below are from it
	do      bool
	version uint8
	size    int // octets that the asker takes over UDP
	options
	// What the reply's OPT record has, once the query is admitted.
	id      []byte          // NSID
	fresh   [cookieLen]byte // both parts of the cookie, if one came
	vouched bool            // the cookie that came is one of ours: the source is not forged
}

func (v *query) name() []byte { return v.low[:v.nameLen] }

// read reads a plain query in place: a header, one question of class IN with its name in full, at most an OPT record
// of version 0, and nothing else. It reports false for everything else.
func (v *query) read(q []byte) bool {
	if q[2]&maskOpcode != 0 || binary.BigEndian.Uint16(q[4:]) != 1 ||
		binary.BigEndian.Uint32(q[6:]) != 0 || binary.BigEndian.Uint16(q[10:]) > 1 {
		return false
	}
	if !v.readName(q[headerLen:]) {
		return false
	}
	at := headerLen + v.nameLen
	if len(q) < at+4 || binary.BigEndian.Uint16(q[at+2:]) != dns.ClassINET {
		return false
	}
	v.qtype, v.end = binary.BigEndian.Uint16(q[at:]), at+4
	rest := q[v.end:]
	if q[11] == 0 {
		return len(rest) == 0
	}
	// The root's name, type, size, extended rcode with version and flags, length.
	if len(rest) < optLen || rest[0] != 0 || binary.BigEndian.Uint16(rest[1:]) != dns.TypeOPT {
		return false
	}
	if int(binary.BigEndian.Uint16(rest[9:])) != len(rest)-optLen {
		return false
	}
	v.readOPT(rest[1:])
	return v.version == 0 && v.options.read(rest[optLen:])
}

// readName copies the uncompressed name at the start of b in lower case.
func (v *query) readName(b []byte) bool {
	left := 0 // octets of the label
	for i, c := range b {
		if i == maxName {
			return false
		}
		if left > 0 {
			left--
			if 'A' <= c && c <= 'Z' {
				c += 'a' - 'A'
			}
			v.low[i] = c
			continue
		}
		v.low[i] = c
		if c == 0 {
			v.nameLen = i + 1
			return true
		}
		if c > 63 {
			return false
		}
		left = int(c)
	}
	return false
}
