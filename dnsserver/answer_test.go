package dnsserver

import (
	"bytes"
	"fmt"
	"net/netip"
	"strings"
	"testing"

	"github.com/miekg/dns"

	"github.com/nearcast/nearcast/steer"
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
		{strings.Repeat(strings.Repeat("x", 50)+".", 1) + "long A", "NXDOMAIN aa | long 300 dname LLL, X50.long 300 cname X50.LLL | " + negative},
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
			got := strings.NewReplacer(strings.Repeat("x", 50), "X50", strings.TrimSuffix(strings.Repeat(strings.Repeat("l", 60)+".", 3), "."), "LLL").Replace(brief(m))
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
