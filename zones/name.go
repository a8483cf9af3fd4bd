package zones

import (
	"strings"

	"github.com/miekg/dns"
)

// Names are looked up by their wire format in lower case, with the root's zero: one
// form for each name, and the one in which a query brings it. As a string it is a
// map's key; the root is "\x00".

// maxName is the most octets of a name (RFC 1035, section 3.1).
const maxName = 255

// wireName turns an absolute name of a file or of Go into wire format, lower case.
func wireName(name string) (string, error) {
	var buf [maxName]byte // no longer: the library takes the room for the limit
	n, err := dns.PackDomainName(name, buf[:], 0, nil, false)
	if err != nil {
		return "", err
	}
	if n == 0 {
		return "", dns.ErrFqdn
	}
	lower(buf[:n])
	return string(buf[:n]), nil
}

// textName is the reverse of wireName.
func textName(wire string) string {
	name, _, err := dns.UnpackDomainName([]byte(wire), 0)
	if err != nil {
		panic("zones: a name in wire format that does not unpack: " + err.Error())
	}
	return name
}

// lower puts a name in wire format into lower case. Label lengths are below 'A'.
func lower(wire []byte) {
	for i, c := range wire {
		if 'A' <= c && c <= 'Z' {
			wire[i] = c + 'a' - 'A'
		}
	}
}

// equalNames compares a name in any case with one in lower case.
func equalNames(name []byte, low string) bool {
	if len(name) != len(low) {
		return false
	}
	for i, c := range name {
		if 'A' <= c && c <= 'Z' {
			c += 'a' - 'A'
		}
		if c != low[i] {
			return false
		}
	}
	return true
}

// nameLen is the length of the uncompressed name at the start of b, 0 if there is none.
func nameLen(b []byte) int {
	for i := 0; i < len(b); i += 1 + int(b[i]) {
		if b[i] == 0 {
			return i + 1
		}
		if b[i] > 63 {
			return 0
		}
	}
	return 0
}

// Rename puts a DNAME's target in place of its owner at the end of an absolute name below that (RFC 6672, section 2.2).
// It returns "" if that has more than 255 octets.
func Rename(dname *dns.DNAME, name string) (target string) {
	starts := dns.Split(name)
	target = name[:starts[len(starts)-dns.CountLabel(dname.Hdr.Name)]]
	if dname.Target != "." {
		target += dname.Target
	}
	if _, err := wireName(target); err != nil {
		return ""
	}
	return target
}

func parent(wire string) string { return wire[1+int(wire[0]):] }

func isWildcard(wire string) bool { return strings.HasPrefix(wire, "\x01*") }

// isWithin tells if a name is zone or below it.
func isWithin(wire, zone string) bool {
	for len(wire) > len(zone) {
		wire = parent(wire)
	}
	return wire == zone
}
