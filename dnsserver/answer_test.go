package dnsserver

import (
	"bytes"
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"net/netip"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/miekg/dns"

	"github.com/nearcast/nearcast/steer"
	"github.com/nearcast/nearcast/zones"
)

var negative = negativeFor(60)

func negativeFor(ttl int) string {
	return fmt.Sprintf("@ %d soa ns1 hostmaster 1 3600 600 604800 60", ttl)
}

// Both ways give these replies.
func TestAnswer(t *testing.T) {
	cases := []struct{ query, want string }{
		// records
		{"ns1 A", "NOERROR aa | ns1 300 a 192.0.2.53"},
		{"NS1.geo.EXAMPLE.com. A", "NOERROR aa | ns1 300 a 192.0.2.53"},
		{"@ MX +rd +cd", "NOERROR aa rd cd | @ 300 mx 10 mail | - | mail 300 a 192.0.2.25, mail 300 aaaa 2001:db8::25"},
		{"@ NS", "NOERROR aa | @ 300 ns ns1, @ 300 ns ns2.example.net. | - | ns1 300 a 192.0.2.53"},
		{"mixed A", "NOERROR aa | mixed 60 a 192.0.2.31, mixed 60 a 192.0.2.32"}, // RFC 2181, section 5.2
		{"@ SOA", "NOERROR aa | @ 300 soa ns1 hostmaster 1 3600 600 604800 60"},
		{"www.example.org. A", "NOERROR aa | www.example.org. 300 a 192.0.2.9"},
		// denials
		{"ns1 AAAA", "NOERROR aa | - | " + negative},
		{"gone A", "NXDOMAIN aa | - | " + negative},
		{"below.ns1 A", "NXDOMAIN aa | - | " + negative},
		{"b.deep A", "NOERROR aa | - | " + negative}, // an empty non-terminal
		{"x.b.deep A", "NXDOMAIN aa | - | " + negative},
		{"example.com. A", "REFUSED"},
		{". NS", "REFUSED"},
		{"ns1 A +class=3", "REFUSED"},
		{"ns1 A +class=255", "REFUSED"},
		{"@ AXFR", "REFUSED"},
		{"@ IXFR", "REFUSED"},
		{"@ TSIG", "NOERROR aa | - | " + negative},
		{"gone MAILB", "NXDOMAIN aa | - | " + negative},
		{"x.child OPT", "NOERROR | - | child 300 ns ns.child, child 300 ns ns1 | ns.child 300 a 192.0.2.4, ns1 300 a 192.0.2.53"},
		{"ns1 TYPE65280", "NOERROR aa | - | " + negative},
		// wildcards
		{"x.wild A", "NOERROR aa | x.wild 300 a 192.0.2.8"},
		{"x.y.wild MX", "NOERROR aa | x.y.wild 300 mx 5 mail | - | mail 300 a 192.0.2.25, mail 300 aaaa 2001:db8::25"},
		{"*.wild A", "NOERROR aa | *.wild 300 a 192.0.2.8"},
		{"x.wild TXT", "NOERROR aa | - | " + negative},
		{"near.wild A", "NOERROR aa | - | " + negative},
		{"below.near.wild A", "NXDOMAIN aa | - | " + negative},
		// aliases
		{"alias CNAME", "NOERROR aa | alias 300 cname mail"},
		{"alias A", "NOERROR aa | alias 300 cname mail, mail 300 a 192.0.2.25"},
		{"ALias A", "NOERROR aa | alias 300 cname mail, mail 300 a 192.0.2.25"},
		{"alias3 AAAA", "NOERROR aa | alias 300 cname mail, alias2 300 cname alias, alias3 300 cname alias2, mail 300 aaaa 2001:db8::25"},
		{"x.walias A", "NOERROR aa | mail 300 a 192.0.2.25, x.walias 300 cname mail"},
		{"aliasout A", "NOERROR aa | aliasout 300 cname www.example.net."},
		{"aliasother A", "NOERROR aa | aliasother 300 cname www.example.org., www.example.org. 300 a 192.0.2.9"},
		{"aliasgone A", "NXDOMAIN aa | aliasgone 300 cname gone | " + negative},
		{"aliasnodata A", "NOERROR aa | aliasnodata 300 cname info | " + negative},
		{"aliasother TXT", "NOERROR aa | aliasother 300 cname www.example.org. | example.org. 300 soa ns.example.org. hostmaster.example.org. 1 3600 600 604800 3600"},
		{"aliaschild A", "NOERROR aa | aliaschild 300 cname host.child | child 300 ns ns.child, child 300 ns ns1 | ns.child 300 a 192.0.2.4, ns1 300 a 192.0.2.53"},
		{"aliaswww A", "NOERROR aa | aliaswww 300 cname www, www 30 a 192.0.2.101"},
		{"loop A", "NOERROR aa | loop 300 cname loop2, loop2 300 cname loop"},
		{"long1 A", "NOERROR aa | " + section(parseZone(chain(steer.MaxAliases)))},
		{"alias ANY", "NOERROR aa | alias 300 cname mail"},
		// delegations
		{"child A", "NOERROR | - | child 300 ns ns.child, child 300 ns ns1 | ns.child 300 a 192.0.2.4, ns1 300 a 192.0.2.53"},
		{"child NS", "NOERROR | - | child 300 ns ns.child, child 300 ns ns1 | ns.child 300 a 192.0.2.4, ns1 300 a 192.0.2.53"},
		{"x.y.child A", "NOERROR | - | child 300 ns ns.child, child 300 ns ns1 | ns.child 300 a 192.0.2.4, ns1 300 a 192.0.2.53"},
		{"child DS", "NOERROR aa | - | " + negative},
		{"x.child DS", "NOERROR | - | child 300 ns ns.child, child 300 ns ns1 | ns.child 300 a 192.0.2.4, ns1 300 a 192.0.2.53"},
		{"x.safe A", "NOERROR | - | safe 300 ns ns.safe | ns.safe 300 a 192.0.2.5"},
		{"x.safe A +do", "NOERROR | - | safe 300 ns ns.safe | ns.safe 300 a 192.0.2.5, opt 1232 do"},
		{"safe DS", "NOERROR aa | safe 300 ds 12345 13 2 0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef"},
		// a zone inside a zone: the DS is the outer one's
		{"in NS", "NOERROR aa | in 300 ns ns.in | - | ns.in 300 a 192.0.2.55"},
		{"in DS", "NOERROR aa | in 300 ds 12345 13 2 0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef"},
		{"ns.in DS", "NOERROR aa | - | in 300 soa ns.in hostmaster.in 1 3600 600 604800 3600"},
		// renaming (RFC 6672)
		{"moved TXT", "NOERROR aa | moved 300 txt \"not renamed itself\""},
		{"moved A", "NOERROR aa | - | " + negative},
		{"moved DNAME", "NOERROR aa | moved 300 dname deep"},
		{"a.b.moved A", "NOERROR aa | a.b.deep 300 a 192.0.2.7, a.b.moved 300 cname a.b.deep, moved 300 dname deep"},
		{"A.b.MoVed A", "NOERROR aa | a.b.deep 300 a 192.0.2.7, a.b.moved 300 cname a.b.deep, moved 300 dname deep"},
		{"b.moved A", "NOERROR aa | b.moved 300 cname b.deep, moved 300 dname deep | " + negative},
		{"z.moved A", "NXDOMAIN aa | moved 300 dname deep, z.moved 300 cname z.deep | " + negative},
		{"z.moved CNAME", "NOERROR aa | moved 300 dname deep, z.moved 300 cname z.deep"},
		{"up.up MX", "NOERROR aa | up 300 dname @, up 300 mx 1 ns1, up.up 300 cname up | - | ns1 300 a 192.0.2.53"},
		{"www.home A", "NOERROR aa | home 300 dname example.org., www.example.org. 300 a 192.0.2.9, www.home 300 cname www.example.org."},
		{"www.root A", "NOERROR aa | root 300 dname ., www.root 300 cname www."},
		{strings.Repeat(strings.Repeat("x", 50)+".", 1) + "long A", "NXDOMAIN aa | long 300 dname LLL, XXX.long 300 cname XXX.LLL | " + negative},
		{strings.Repeat(strings.Repeat("x", 50)+".", 2) + "long A", "YXDOMAIN aa | long 300 dname LLL"},
		// ANY (RFC 8482)
		{"mail ANY", "NOERROR aa | mail 300 a 192.0.2.25"},
		{"www ANY", "NOERROR aa | www 30 a 192.0.2.101"},
		{"six ANY", "NOERROR aa | six 30 aaaa 2001:db8::121"},
		{"b.deep ANY", "NOERROR aa | - | " + negative},
		// services
		{"www A", "NOERROR aa | www 30 a 192.0.2.101"},
		{"WWW AAAA", "NOERROR aa | www 30 aaaa 2001:db8::101"},
		{"www TXT", "NOERROR aa | - | " + negative},
		{"four A", "NOERROR aa | four 30 a 192.0.2.111, four 30 a 192.0.2.112"},
		{"four AAAA", "NOERROR aa | - | " + negative},
		{"half AAAA", "NOERROR aa | - | " + negativeFor(30)}, // another region has some
		{"half TXT", "NOERROR aa | - | " + negative},
		{"half AAAA +edns=512", "NOERROR aa | - | " + negativeFor(30) + " | opt 1232"},
		{"tohalf HTTPS", "NOERROR aa | tohalf 30 https 1 half"},
		{"downhalf AAAA +edns", "NOERROR aa | - | " + negativeFor(10) + " | opt 1232 ede 0 all regions down: failing open"},
		{"both A", "NOERROR aa | both 30 a 192.0.2.131, both 30 a 192.0.2.132"},
		{"x.apps A", "NOERROR aa | x.apps 30 a 192.0.2.141"},
		{"x.apps AAAA", "NOERROR aa | - | " + negative},
		{"extra A", "NOERROR aa | extra 30 a 192.0.2.151"},
		{"extra TXT", "NOERROR aa | extra 300 txt \"beside the service\""},
		{"cdn A", "NOERROR aa | cdn 30 cname us.cdn.example.net."},
		{"cdn TXT", "NOERROR aa | cdn 30 cname us.cdn.example.net."},
		{"cdn CNAME", "NOERROR aa | cdn 30 cname us.cdn.example.net."},
		{"hop CNAME", "NOERROR aa | hop 30 cname www"},
		{"hop A", "NOERROR aa | hop 30 cname www, www 30 a 192.0.2.101"},
		{"hop TXT", "NOERROR aa | hop 30 cname www | " + negative},
		// hints (RFC 9460): those that are asked for are what A and AAAA are answered
		{"dual HTTPS", `NOERROR aa | dual 30 https 1 . alpn="h2" ipv4hint="192.0.2.103" ipv6hint="2001:db8::103"`},
		{"lost HTTPS +edns", `NOERROR aa | lost 10 https 1 down ipv4hint="192.0.2.161" | - | opt 1232 ede 0 all regions down: failing open`},
		{"both HTTPS +ecs=203.0.113.0/24", `NOERROR aa | both 30 https 1 . ipv4hint="192.0.2.132,192.0.2.131" | - | opt 1232 ecs 203.0.113.0/24/24`},
		{"web HTTPS", `NOERROR aa | web 30 https 1 four ipv4hint="192.0.2.111,192.0.2.112", web 30 https 2 mail ipv4hint="192.0.2.25" ipv6hint="2001:db8::25" | - | mail 300 a 192.0.2.25, mail 300 aaaa 2001:db8::25`},
		{"_dns SVCB", `NOERROR aa | _dns 300 svcb 1 mail alpn="dot" ipv4hint="192.0.2.25" ipv6hint="2001:db8::25" | - | mail 300 a 192.0.2.25, mail 300 aaaa 2001:db8::25`},
		{"fixed HTTPS", `NOERROR aa | fixed 300 https 1 mail ipv4hint="192.0.2.99" | - | mail 300 a 192.0.2.25, mail 300 aaaa 2001:db8::25`},
		// beside an answer: what is asked next
		{"towild MX", "NOERROR aa | towild 300 mx 5 host.wild | - | host.wild 300 a 192.0.2.8"},
		{"_t._tcp SRV", "NOERROR aa | _t._tcp 300 srv 1 1 53 host.wild, _t._tcp 300 srv 2 1 53 host.child, _t._tcp 300 srv 3 1 53 host.moved, _t._tcp 300 srv 4 1 53 x.apps, _t._tcp 300 srv 5 1 53 . | - | host.wild 300 a 192.0.2.8"},
		{"mail HTTPS", `NOERROR aa | mail 300 https 1 . alpn="h2" | - | mail 300 a 192.0.2.25, mail 300 aaaa 2001:db8::25`},
		{"x.oWn HTTPS", `NOERROR aa | x.own 300 https 1 . alpn="h2" | - | x.own 300 a 192.0.2.41`},
		{"stands HTTPS", `NOERROR aa | stands 300 https 0 mail | - | mail 300 a 192.0.2.25, mail 300 aaaa 2001:db8::25, mail 300 https 1 . alpn="h2"`},
		{"none HTTPS", "NOERROR aa | none 300 https 0 ."},
		{"nomail MX", "NOERROR aa | nomail 300 mx 0 ."},
		// failing open
		{"down A", "NOERROR aa | down 10 a 192.0.2.161"},
		{"down A +edns", "NOERROR aa | down 10 a 192.0.2.161 | - | opt 1232 ede 0 all regions down: failing open"},
		{"downhop A +edns", "NOERROR aa | down 10 a 192.0.2.161, downhop 30 cname down | - | opt 1232 ede 0 all regions down: failing open"},
		{"downwww A +edns", "NOERROR aa | downwww 10 cname www, www 30 a 192.0.2.101 | - | opt 1232 ede 0 all regions down: failing open"},
		// EDNS
		{"ns1 A +edns", "NOERROR aa | ns1 300 a 192.0.2.53 | - | opt 1232"},
		{"ns1 A +do", "NOERROR aa | ns1 300 a 192.0.2.53 | - | opt 1232 do"},
		{"ns1 A +version=1", "BADVERS | - | - | opt 1232"},
		{"ns1 A +version=1 +do", "BADVERS | - | - | opt 1232 do"},
		{"gone A +edns=100", "NXDOMAIN aa | - | " + negative + " | opt 1232"},
		{"gone A +class=4 +edns", "REFUSED | - | - | opt 1232 ede 21 only class IN"},
		{"ns1 A +class=255 +edns", "REFUSED | - | - | opt 1232 ede 21 only class IN"},
		{"example.com. A +edns", "REFUSED | - | - | opt 1232 ede 20 in no zone of this server"},
		{"ns1 A +nsid", "NOERROR aa | ns1 300 a 192.0.2.53 | - | opt 1232 nsid test-1"},
		{"ns1 A +padding=20", "NOERROR aa | ns1 300 a 192.0.2.53 | - | opt 1232"},
		{"ns1 A +nsid +version=1", "BADVERS | - | - | opt 1232"},
		// class CHAOS
		{"id.server. TXT +class=3", "NOERROR aa | id.server. 0 ch txt \"chaos-1\""},
		{"hostname.BIND. TXT +class=3", "NOERROR aa | hostname.bind. 0 ch txt \"chaos-1\""},
		{"id.server. A +class=3", "NOERROR aa"},
		{"id.server. TXT", "REFUSED"},
		{"version.bind. TXT +class=3", "REFUSED"},
		{"authors.bind. TXT +class=3 +edns", "REFUSED | - | - | opt 1232 ede 20 in no zone of this server"},
		// client subnets: answers that do not depend on the client hold for all (RFC 7871, section 7.2.1)
		{"ns1 A +ecs=203.0.113.0/24", "NOERROR aa | ns1 300 a 192.0.2.53 | - | opt 1232 ecs 203.0.113.0/24/0"},
		{"ns1 A +ecs=2001:db8:1::/48", "NOERROR aa | ns1 300 a 192.0.2.53 | - | opt 1232 ecs 2001:db8:1::/48/0"},
		{"gone A +ecs=203.0.113.0/24", "NXDOMAIN aa | - | " + negative + " | opt 1232 ecs 203.0.113.0/24/0"},
		{"www A +ecs=203.0.113.0/24", "NOERROR aa | www 30 a 192.0.2.101 | - | opt 1232 ecs 203.0.113.0/24/0"},
		{"both A +ecs=203.0.0.0/16", "NOERROR aa | both 30 a 192.0.2.131, both 30 a 192.0.2.132 | - | opt 1232 ecs 203.0.0.0/16/24"},
		{"both A +ecs=2001:db8::/32", "NOERROR aa | both 30 a 192.0.2.131, both 30 a 192.0.2.132 | - | opt 1232 ecs 2001:db8::/32/48"},
		{"both A +ecs=64:ff9b::cb00:7100/120", "NOERROR aa | both 30 a 192.0.2.131, both 30 a 192.0.2.132 | - | opt 1232 ecs 64:ff9b::cb00:7100/120/120"},
		{"bound A +ecs=203.0.113.0/24", "NOERROR aa | bound 30 a 192.0.2.135, bound 30 a 192.0.2.136 | - | opt 1232 ecs 203.0.113.0/24/0"},
		{"both A +ecs=0.0.0.0/0", "NOERROR aa | both 30 a 192.0.2.131, both 30 a 192.0.2.132 | - | opt 1232 ecs 0.0.0.0/0/0"},
		{"both A +ecs=10.1.2.0/24", "NOERROR aa | both 30 a 192.0.2.131, both 30 a 192.0.2.132 | - | opt 1232 ecs 10.1.2.0/24/8"},
		{"both A +ecs=fd00:1::/32", "NOERROR aa | both 30 a 192.0.2.131, both 30 a 192.0.2.132 | - | opt 1232 ecs fd00:1::/32/7"},
		{"both A +ecs=64:ff9b::a01:200/120", "NOERROR aa | both 30 a 192.0.2.131, both 30 a 192.0.2.132 | - | opt 1232 ecs 64:ff9b::a01:200/120/104"},
		{"towww A +ecs=203.0.113.0/24", "NOERROR aa | towww 30 cname www, www 30 a 192.0.2.101 | - | opt 1232 ecs 203.0.113.0/24/24"},
		{"both TXT +ecs=203.0.113.0/24", "NOERROR aa | - | " + negative + " | opt 1232 ecs 203.0.113.0/24/0"},
	}
	s := build(t, services(), nil)
	for _, c := range cases {
		q := ask(t, c.query)
		for name, way := range ways {
			b := way(nil, q, resolver, TCP, s, nil)
			if b == nil && name == "fast" {
				continue
			}
			m := parse(t, b)
			got := strings.NewReplacer(strings.Repeat("x", 50), "XXX", strings.TrimSuffix(strings.Repeat(strings.Repeat("l", 60)+".", 3), "."), "LLL").Replace(brief(m))
			if asked := parse(t, q).Question[0]; m.Question[0] != asked {
				t.Errorf("%s, %s: the question is %v", c.query, name, m.Question[0])
			}
			for _, rr := range m.Answer {
				if owner, asked := rr.Header().Name, m.Question[0].Name; strings.EqualFold(owner, asked) && owner != asked {
					t.Errorf("%s, %s: the owner is %s", c.query, name, owner)
				}
			}
			if got != c.want {
				t.Errorf("%s, %s:\n got %s\nwant %s", c.query, name, got, c.want)
			}
		}
	}
}

// A DNAME that names its own descendants is followed as far as aliases are.
func TestEndlessRenaming(t *testing.T) {
	s := build(t, services(), nil)
	m := parse(t, Answer(nil, ask(t, "a.round A"), resolver, TCP, s, nil))
	if len(m.Answer) != 1+steer.MaxAliases || m.Rcode != dns.RcodeSuccess {
		t.Errorf("%s", brief(m))
	}
}

// Addresses beside an answer stand where they fit, in the answer's order, and TC does not tell of them.
func TestExtraFits(t *testing.T) {
	s := build(t, services(), nil)
	for name, way := range ways {
		last := 0
		for size := plainUDP; size <= maxUDP; size++ {
			b := way(nil, ask(t, fmt.Sprint("hosts MX +edns=", size)), resolver, UDP, s, nil)
			m := parse(t, b)
			n := len(m.Extra) - 1
			if len(b) > size || m.Truncated || len(m.Answer) != 20 || n < last || n < 20 && len(b)+44 <= size {
				t.Fatalf("%s: %d octets with room for %d: %d hosts, %d addresses, truncated: %v", name, len(b), size, len(m.Answer), n, m.Truncated)
			}
			last = n
		}
		if last < 10 {
			t.Errorf("%s: %d addresses", name, last)
		}
	}
}

// An extended error that has no room beside the records is left out, and no record for it (RFC 8914, section 3).
func TestExtendedErrorGoesFirst(t *testing.T) {
	var addresses []string
	for i := range 32 {
		addresses = append(addresses, fmt.Sprint("192.0.2.", 1+i))
	}
	s := build(t, []zones.ServiceConfig{
		{Name: "down", Steer: "failover", Checked: true, Regions: []zones.MemberConfig{{Region: "us", Addresses: addresses}}},
		{Name: "hop", Steer: "failover", Regions: []zones.MemberConfig{{Region: "us", CNAME: "down.geo.example.com"}}},
	}, nil)
	for _, query := range []string{"down A", "hop A"} {
		for name, way := range ways {
			if name == "fast" && query == "hop A" {
				continue // an alias that is followed
			}
			whole := len(way(nil, ask(t, query+" +edns"), resolver, TCP, s, nil))
			told := optionHead + 2 + len(failOpen.text)
			if whole-told <= plainUDP {
				t.Fatalf("%d octets fit anyhow", whole)
			}
			for size := plainUDP; size <= whole+1; size++ {
				b := way(nil, ask(t, fmt.Sprint(query, " +edns=", size)), resolver, UDP, s, nil)
				m := parse(t, b)
				fits, ede := size >= whole-told, len(m.IsEdns0().Option) > 0
				if len(b) > size || m.Truncated == fits || ede != (size >= whole) && fits || fits != (len(m.Answer) > 0) {
					t.Fatalf("%s, %s: %d octets of %d with room for %d, truncated: %v, told: %v", query, name, len(b), whole, size, m.Truncated, ede)
				}
			}
		}
	}
}

// parseZone parses lines of the zone file.
func parseZone(text string) (rrs []dns.RR) {
	z := dns.NewZoneParser(strings.NewReader(text), "geo.example.com.", "")
	z.SetDefaultTTL(300)
	for rr, ok := z.Next(); ok; rr, ok = z.Next() {
		rrs = append(rrs, rr)
	}
	return rrs
}

type way = func(out, q []byte, source netip.Addr, t Transport, s *Scene, meter *Meter) []byte

var ways = map[string]way{
	"fast": func(out, q []byte, source netip.Addr, t Transport, s *Scene, meter *Meter) []byte {
		reply, _ := fast(out, q, source, t, s, meter)
		return reply
	},
	"slow":      slow,
	"whichever": Answer,
}

// Plain queries go the fast way; those that it refuses are what the slow way is for.
func TestFastWayTakesWhatIsPlain(t *testing.T) {
	s := build(t, services(), nil)
	for query, plain := range map[string]bool{
		"ns1 A": true, "gone A": true, "x.child A": true, "x.wild A": true, "www A": true, "example.com. A": true,
		"www AAAA +do +ecs=203.0.113.0/24": true, "aliasout A": true, "cdn A": true, "alias CNAME": true, "down A +edns": true,
		"alias A": false, "hop A": false, "ns1 A +class=3": false, "ns1 A +version=1": false,
	} {
		if _, got := fast(nil, ask(t, query), resolver, UDP, s, nil); got != plain {
			t.Errorf("%s: the fast way answers: %v, want %v", query, got, plain)
		}
	}
}

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

func TestTruncation(t *testing.T) {
	cases := []struct {
		query string
		over  Transport
		want  string // before the records, and the sections with any
		limit int
	}{
		{"big TXT", UDP, "NOERROR aa tc", 512},
		{"big TXT +edns=4096", UDP, "NOERROR aa tc ar", 1232},
		{"big TXT", TCP, "NOERROR aa an", 65535},
		{"middle TXT", UDP, "NOERROR aa tc", 512},
		{"middle TXT +edns", UDP, "NOERROR aa an ar", 1232},
		{"middle TXT +edns=600", UDP, "NOERROR aa tc ar", 600},
		{"middle TXT +edns=100", UDP, "NOERROR aa tc ar", 512},
		{"x.wide A", UDP, "NOERROR tc ns", 512},
		{"x.wide A +edns=4096", UDP, "NOERROR tc ns ar", 1232},
		{"x.wide A", TCP, "NOERROR ns ar", 65535},
		{"x.broad A", UDP, "NOERROR tc", 512},
		{"x.broad A", TCP, "NOERROR ns ar", 65535},
		// names that end alike
		{"provided MX", UDP, "NOERROR aa an", 512},
		{"PrOvIdEd.gEo.ExAmPlE.cOm. MX", UDP, "NOERROR aa an", 512},
		{"x.elsewhere A", UDP, "NOERROR ns", 512},
		{"x.glued A", UDP, "NOERROR ns ar", 512},
		{"vast MX", UDP, "NOERROR aa tc", 512},
		{"vast MX", TCP, "NOERROR aa an", 65535}, // over more than pointers reach
	}
	s := build(t, services(), nil)
	for _, c := range cases {
		for name, way := range ways {
			b := way(nil, ask(t, c.query), resolver, c.over, s, nil)
			if b == nil && name == "fast" {
				continue
			}
			m := parse(t, b)
			got := strings.Fields(strings.SplitN(brief(m), " |", 2)[0])
			for section, n := range map[string]int{"an": len(m.Answer), "ns": len(m.Ns), "ar": len(m.Extra)} {
				if n > 0 {
					got = append(got, section)
				}
			}
			slices.Sort(got)
			want := strings.Fields(c.want)
			slices.Sort(want)
			if !slices.Equal(got, want) || len(b) > c.limit {
				t.Errorf("%s over %v, %s: %v in %d octets, want %v in %d", c.query, c.over, name, got, len(b), want, c.limit)
			}
		}
	}
}

// A reply takes the room that it has, and no more.
func TestEveryLimit(t *testing.T) {
	s := build(t, services(), nil)
	for name, way := range ways {
		whole := len(way(nil, ask(t, "middle TXT +ecs=203.0.113.0/24"), resolver, TCP, s, nil))
		for size := plainUDP; size <= maxUDP; size++ {
			b := way(nil, ask(t, fmt.Sprint("middle TXT +ecs=203.0.113.0/24 +edns=", size)), resolver, UDP, s, nil)
			if m := parse(t, b); len(b) > size || m.Truncated != (whole > size) {
				t.Errorf("%s: %d octets with room for %d, truncated: %v; the whole has %d", name, len(b), size, m.Truncated, whole)
			}
		}
	}
}

// A name has one CNAME, however many regions an answer may have.
func TestOneCNAME(t *testing.T) {
	s := build(t, services(), nil)
	m := &Meter{}
	b := Answer(nil, ask(t, "cdns A"), resolver, UDP, s, m)
	answers := 0
	m.Each(func(_, _ string, _ Transport, _ uint64) {}, func(_, _ string, _ uint64) {}, func(_, _ string, n uint64) { answers += int(n) }, nil)
	if r := parse(t, b); len(r.Answer) != 1 || answers != 1 {
		t.Errorf("%d regions counted for %s", answers, brief(r))
	}
}

// A reply stands behind what is in the buffer already, as the length before a message over TCP.
func TestAnswerAppends(t *testing.T) {
	s := build(t, services(), nil)
	for _, query := range []string{"x.wild MX", "alias A", "x.child A", "gone A +version=1"} {
		q := ask(t, query)
		alone := Answer(nil, q, resolver, TCP, s, nil)
		behind := Answer([]byte{1, 2}, q, resolver, TCP, s, nil)
		if !bytes.Equal(behind[:2], []byte{1, 2}) || !bytes.Equal(behind[2:], alone) {
			t.Errorf("%s: %x behind two octets, alone %x", query, behind, alone)
		}
	}
}

func TestTSIGIsRefused(t *testing.T) {
	m := &dns.Msg{}
	m.SetQuestion("ns1.geo.example.com.", dns.TypeA)
	m.SetTsig("key.", dns.HmacSHA256, 300, 1700000000)
	q, _, err := dns.TsigGenerate(m, "c2VjcmV0", "", false)
	if err != nil {
		t.Fatal(err)
	}
	s := build(t, services(), nil)
	r := parse(t, Answer(nil, q, resolver, UDP, s, nil))
	tsig := r.IsTsig()
	if r.Rcode != dns.RcodeNotAuth || tsig == nil || tsig.Error != dns.RcodeBadKey || tsig.MACSize != 0 || tsig.Hdr.Name != "key." {
		t.Errorf("the reply to a signed query: %v", r)
	}
	q = append(q, 0, 0, 1, 0, 1, 0, 0, 0, 0, 0, 0) // a record after the TSIG
	q[11]++
	if r := parse(t, Answer(nil, q, resolver, UDP, s, nil)); r.Rcode != dns.RcodeFormatError {
		t.Errorf("a TSIG that is not last: %v", r)
	}
}

// What a catalog has goes to those who may transfer it, also by an alias in another zone (RFC 9432, section 7).
func TestCatalogIsHidden(t *testing.T) {
	hidden := []struct{ query, all, some string }{
		{"www.example.org. A", "NOERROR aa | www.example.org. 300 a 192.0.2.9", "REFUSED"},
		{"aliasother A", "NOERROR aa | aliasother 300 cname www.example.org., www.example.org. 300 a 192.0.2.9", "NOERROR aa | aliasother 300 cname www.example.org."},
		{"aliasother TXT", "NOERROR aa | aliasother 300 cname www.example.org. | example.org. 300 soa ns.example.org. hostmaster.example.org. 1 3600 600 604800 3600", "NOERROR aa | aliasother 300 cname www.example.org."},
		{"www.home A", "NOERROR aa | home 300 dname example.org., www.example.org. 300 a 192.0.2.9, www.home 300 cname www.example.org.", "NOERROR aa | home 300 dname example.org., www.home 300 cname www.example.org."},
		{"none.home A", "NXDOMAIN aa | home 300 dname example.org., none.home 300 cname none.example.org. | example.org. 300 soa ns.example.org. hostmaster.example.org. 1 3600 600 604800 3600", "NOERROR aa | home 300 dname example.org., none.home 300 cname none.example.org."},
		{"ns1 A", "NOERROR aa | ns1 300 a 192.0.2.53", "NOERROR aa | ns1 300 a 192.0.2.53"},
	}
	s := build(t, services(), nil)
	for _, z := range s.Snapshot.Set.Zones {
		z.Catalog = z.Name == "example.org."
	}
	s.Settings.transfers = map[string]*transferRule{"example.org.": {allow: networks("", []string{"198.51.100.0/24"}, nil)}}
	for _, c := range hidden {
		for from, want := range map[string]string{"198.51.100.7": c.all, "203.0.113.7": c.some} {
			if got := brief(parse(t, Answer(nil, ask(t, c.query), netip.MustParseAddr(from), UDP, s, nil))); got != want {
				t.Errorf("%s from %s: %s, want %s", c.query, from, got, want)
			}
		}
	}
}
