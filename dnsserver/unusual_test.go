package dnsserver

import (
	"bytes"
	"encoding/binary"
	"encoding/hex"
	"regexp"
	"strings"
	"testing"

	"github.com/miekg/dns"
)

// Packets that are not plain, as octets after the header "abcd" flags counts.
func TestUnusualPackets(t *testing.T) {
	const (
		head     = "abcd0000" + "0001000000000000"
		headOPT  = "abcd0000" + "0001000000000001"
		question = "036e73310367656f076578616d706c6503636f6d0000010001" // ns1.geo.example.com. A
		opt      = "00002904d0000000000000"
		answer   = "ns1 300 a 192.0.2.53"
	)
	cases := []struct{ name, packet, want string }{
		{"no header", "abcd000000010000000000", ""},
		{"a reply", "abcd8000" + "0001000000000000" + question, ""},
		{"NOTIFY of an address", "abcd2000" + "0001000000000000" + question, "NOTIMP"},
		{"NOTIFY without a question", "abcd2000" + "0000000000000000", "FORMERR"},
		{"NOTIFY with a cookie and no question", "abcd2000" + "0000000000000001" + "00002904d000000000000c" + "000a00080102030405060708", "FORMERR | - | - | opt 1232 cookie 0102030405060708COOKIE"},
		{"NOTIFY cut short", "abcd2000" + "0001000000000000" + question[:10], "FORMERR"},
		{"NOTIFY of version 1", "abcd2000" + "0001000000000001" + question + "00002904d00001000000" + "00", "BADVERS | - | - | opt 1232"},
		{"UPDATE of version 1", "abcd2800" + "0001000000000001" + question + "00002904d00001000000" + "00", "BADVERS | - | - | opt 1232"},
		{"UPDATE cut short", "abcd2800" + "0001000000000001" + question, "NOTIMP"},
		{"UPDATE, signed by whomever", "abcd2800" + "0001000000000001" + question + "0000fa00ff00000000001d" + "0b686d61632d73686132353600" + "00006553f100012c" + "0000" + "abcd" + "00000000", "NOTIMP"},
		{"UPDATE with nothing", "abcd2800" + "0000000000000000", "NOTIMP"},
		{"no question", "abcd0000" + "0000000000000000", "FORMERR"},
		{"two questions", "abcd0000" + "0002000000000000" + question + question, "FORMERR"},
		{"a question cut short", head + question[:len(question)-2], "FORMERR"},
		{"a name cut short", head + question[:10], "FORMERR"},
		{"a label too long", head + "40" + question, "FORMERR"},
		{"a label of 64 octets", head + "40" + strings.Repeat("61", 64) + "0000010001", "FORMERR"},
		{"a name of 255 octets", head + strings.Repeat("3f"+strings.Repeat("61", 63), 3) + "3d" + strings.Repeat("61", 61) + "0000010001", "REFUSED"},
		{"a name of 256 octets", head + strings.Repeat("3f"+strings.Repeat("61", 63), 3) + "3e" + strings.Repeat("61", 62) + "0000010001", "FORMERR"},
		{"a pointer to itself", head + "c00c00010001", "FORMERR"},
		{"a name that points into the header", head + "c00300010001", "FORMERR"},
		{"a name that points forward", head + "c01200010001" + "00", "FORMERR"},
		{"a record's name that points forward", "abcd0000" + "0001000100000000" + question + "c0300001000100000000" + "000401020304", "FORMERR"},
		{"a record's name that points into the header", "abcd0000" + "0001000100000000" + question + "c0030001000100000000" + "000401020304", "FORMERR"},
		{"a record's name that points back after a label", "abcd0000" + "0001000100000000" + question + "0161c00c0001000100000000" + "000401020304", "NOERROR aa | " + answer},
		{"a record's name without end", "abcd0000" + "0001000100000000" + question + strings.Repeat("3f"+strings.Repeat("61", 63), 5), "FORMERR"},
		{"octets after the message", head + question + "00", "NOERROR aa | " + answer},
		{"all header bits but QR", "abcd07ff" + "0001000000000000" + question, "NOERROR aa rd cd | " + answer},
		{"a record in the answer section", "abcd0000" + "0001000100000000" + question + "c00c0001000100000000" + "000401020304", "NOERROR aa | " + answer},
		{"IXFR, a SOA with names that point back", "abcd0000" + "0001000000010000" + question[:42] + "00fb0001" + "c00c0006000100000000" + "0018" + "c00cc00c" + strings.Repeat("00000001", 5), "NOTAUTH"},
		{"IXFR, a SOA with a name that points forward", "abcd0000" + "0001000000010000" + question[:42] + "00fb0001" + "c00c0006000100000000" + "0017" + "c03300" + strings.Repeat("00000001", 5), "FORMERR"},
		{"IXFR, a SOA with something behind", "abcd0000" + "0001000000010000" + question[:42] + "00fb0001" + "c00c0006000100000000" + "0019" + "c00cc00c" + strings.Repeat("00000001", 5) + "00", "FORMERR"},
		{"TSIG without data", headOPT + question + "0000fa00ff000000000000", "FORMERR"},
		{"TSIG that ends after its algorithm", headOPT + question + "0000fa00ff00000000000100", "FORMERR"},
		{"a record cut short", "abcd0000" + "0001000100000000" + question + "c00c0001000100000000" + "0004010203", "FORMERR"},
		{"a missing record", headOPT + question, "FORMERR"},
		{"an additional record beside OPT", "abcd0000" + "0001000000000002" + question + opt + "c00c0001000100000000" + "000401020304", "NOERROR aa | " + answer + " | - | opt 1232"},
		{"two OPT", "abcd0000" + "0001000000000002" + question + opt + opt, "FORMERR | - | - | opt 1232"},
		{"OPT not at the root", headOPT + question + "c00c002904d0000000000000", "FORMERR"},
		{"OPT at a name that has its type within", headOPT + question + "01002904d0000000000000", "FORMERR"},
		{"an option after the message", headOPT + question + opt + "0008" + "0007" + "00011800cb0071", "NOERROR aa | " + answer + " | - | opt 1232"},
		{"OPT in the answer section", "abcd0000" + "0001000100000000" + question + opt, "FORMERR"},
		{"OPT in the authority section, too", "abcd0000" + "0001000000010001" + question + opt + opt, "FORMERR | - | - | opt 1232"},
		{"an option cut short", headOPT + question + "00002904d00000000000030003ff", "FORMERR | - | - | opt 1232"},
		{"an option longer than its record", headOPT + question + "00002904d0000000000005" + "0003000200", "FORMERR | - | - | opt 1232"},
		{"options of version 1", headOPT + question + "00002904d0000100000001" + "ff", "BADVERS | - | - | opt 1232"},
		{"unknown options, NSID, cookie, padding", headOPT + question + "00002904d000000000001c" + "fde90001ff" + "00030000" + "000a00080102030405060708" + "000c0003000000", "NOERROR aa | " + answer + " | - | opt 1232 nsid test-1 cookie 0102030405060708COOKIE"},
		{"a cookie of 7 octets", headOPT + question + "00002904d000000000000b" + "000a000701020304050607", "FORMERR | - | - | opt 1232"},
		{"a cookie of 15 octets", headOPT + question + "00002904d0000000000013" + "000a000f010203040506070809101112131415", "FORMERR | - | - | opt 1232"},
		{"a cookie of 41 octets", headOPT + question + "00002904d000000000002d" + "000a0029" + strings.Repeat("01", 41), "FORMERR | - | - | opt 1232"},
		{"no question, a cookie", "abcd0000" + "0000000000000001" + "00002904d000000000000c" + "000a00080102030405060708", "NOERROR | - | - | opt 1232 cookie 0102030405060708COOKIE"},
		{"no question, a cookie of others", "abcd0000" + "0000000000000001" + "00002904d0000000000014" + "000a0010" + "01020304050607080102030405060708", "BADCOOKIE | - | - | opt 1232 cookie 0102030405060708COOKIE"},
		{"a cookie, then one of 7 octets", headOPT + question + "00002904d0000000000017" + "000a00080102030405060708" + "000a000701020304050607", "NOERROR aa | " + answer + " | - | opt 1232 cookie 0102030405060708COOKIE"},
		{"no question, OPT", "abcd0000" + "0000000000000001" + opt, "FORMERR | - | - | opt 1232"},
	}
	cookie := regexp.MustCompile(`(cookie 0102030405060708)[0-9a-f]{32}`)
	s := build(t, services(), nil)
	for _, c := range cases {
		q, err := hex.DecodeString(c.packet)
		if err != nil {
			t.Fatalf("%s: %v", c.name, err)
		}
		b := Answer(nil, q, resolver, UDP, s, nil)
		got := ""
		if b != nil {
			if f, done := fast(nil, q, resolver, UDP, s, nil); done && !bytes.Equal(f, slow(nil, q, resolver, UDP, s, nil)) {
				t.Errorf("%s: the fast way replies %x", c.name, f)
			}
			m := parse(t, b)
			if got = cookie.ReplaceAllString(brief(m), "${1}COOKIE"); m.Id != 0xABCD || !m.Response {
				t.Errorf("%s: id %x, response %v", c.name, m.Id, m.Response)
			}
		}
		if got != c.want {
			t.Errorf("%s:\n got %s\nwant %s", c.name, got, c.want)
		}
	}
}

// Every client subnet is answered, or refused as malformed (RFC 7871, sections 6 and 7.1.2).
func TestSubnetOption(t *testing.T) {
	cases := []struct{ name, option, want string }{
		{"IPv4", "00011800010203", "1.2.3.0/24/24"},
		{"IPv4 of 20 bits", "00011400010230", "1.2.48.0/20/24"},
		{"IPv4 of 32 bits", "0001200001020304", "1.2.3.4/32/24"},
		{"IPv6", "0002380020010db8000100", "2001:db8:1::/56/48"},
		{"IPv4 of no bits", "00010000", "0.0.0.0/0/0"},
		{"IPv6 of no bits", "00020000", "::/0/0"},
		{"no family, no bits", "00000000", "0.0.0.0/0/0"},
		{"IPv4-mapped", "00028000" + "00000000000000000000ffff01020304", "1.2.3.4/128/120"},
		{"empty", "", "FORMERR"},
		{"cut short", "000118", "FORMERR"},
		{"no family, some bits", "0000080001", "FORMERR"},
		{"no family, an octet", "0000000001", "FORMERR"},
		{"unknown family", "0003080001", "FORMERR"},
		{"unknown family, no bits", "00030000", "FORMERR"},
		{"IPv4 of 33 bits", "000121000102030400", "FORMERR"},
		{"IPv6 of 129 bits", "0002810020010db800000000000000000000000100", "FORMERR"},
		{"IPv4 of 255 bits", "0001ff00" + strings.Repeat("00", 32), "FORMERR"},
		{"an octet less", "000118000102", "FORMERR"},
		{"an octet more", "0001180001020300", "FORMERR"},
		{"bits beyond the prefix", "00011400010231", "FORMERR"},
		{"a scope", "00011818010203", "FORMERR"},
	}
	s := build(t, services(), nil)
	for _, c := range cases {
		b, err := hex.DecodeString(c.option)
		if err != nil {
			t.Fatal(err)
		}
		q := withOption(ask(t, "one A +edns"), dns.EDNS0SUBNET, b)
		for name, way := range ways {
			reply := way(nil, q, resolver, UDP, s, nil)
			if c.want == "FORMERR" && name == "fast" {
				if reply != nil {
					t.Errorf("%s: the fast way answers", c.name)
				}
				continue
			}
			m := parse(t, reply)
			want := "FORMERR | - | - | opt 1232"
			got := brief(m)
			if c.want != "FORMERR" {
				want = "opt 1232 ecs " + c.want
				got = section(m.Extra)
			}
			if got != want {
				t.Errorf("%s, %s:\n got %s\nwant %s", c.name, name, got, want)
			}
		}
	}
	twice := withOption(withOption(ask(t, "one A +edns"), dns.EDNS0SUBNET, []byte{0, 1, 0, 0}), dns.EDNS0SUBNET, []byte{0, 1, 0, 0})
	if m := parse(t, Answer(nil, twice, resolver, UDP, s, nil)); m.Rcode != dns.RcodeFormatError {
		t.Errorf("two client subnets: %s", brief(m))
	}
}

// withOption adds an option to the OPT record at the end of q.
func withOption(q []byte, code uint16, data []byte) []byte {
	var v query
	n := len(q)
	if !v.read(q) || !v.opt {
		panic("a query without OPT at its end")
	}
	length := v.end + 9
	q = binary.BigEndian.AppendUint16(q, code)
	q = binary.BigEndian.AppendUint16(q, uint16(len(data)))
	q = append(q, data...)
	binary.BigEndian.PutUint16(q[length:], binary.BigEndian.Uint16(q[length:])+uint16(len(q)-n))
	return q
}
