package zones

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/miekg/dns"
	"pgregory.net/rapid"
)

// rfc4592 is the zone of RFC 4592, section 2.2.1.
const rfc4592 = `$ORIGIN example.
example.                 3600 IN  SOA   ns.example.com. host 1 3600 600 604800 30
example.                 3600     NS    ns.example.com.
example.                 3600     NS    ns.example.net.
*.example.               3600     TXT   "this is a wildcard"
*.example.               3600     MX    10 host1.example.
sub.*.example.           3600     TXT   "this is not a wildcard"
host1.example.           3600     A     192.0.2.1
_ssh._tcp.host1.example. 3600     SRV   0 0 22 host1.example.
_ssh._tcp.host2.example. 3600     SRV   0 0 22 host2.example.
subdel.example.          3600     NS    ns.example.com.
subdel.example.          3600     NS    ns.example.net.
`

func TestFindAsRFC4592Says(t *testing.T) {
	s := mustLoad(t, [2]string{"example", rfc4592})
	for _, c := range []struct {
		name  string
		want  string
		qtype uint16 // 0: not asked
		data  bool
	}{
		{"host3.example.", "wildcard *.example.", dns.TypeMX, true},
		{"host3.example.", "wildcard *.example.", dns.TypeA, false},
		{"foo.bar.example.", "wildcard *.example.", dns.TypeTXT, true},
		{"host1.example.", "exact host1.example.", dns.TypeMX, false},
		{"sub.*.example.", "exact sub.*.example.", dns.TypeMX, false},
		{"*.example.", "exact *.example.", dns.TypeTXT, true},
		{"_telnet._tcp.host1.example.", "missing", 0, false},
		{"host.subdel.example.", "referral subdel.example.", 0, false},
		{"subdel.example.", "referral subdel.example.", 0, false},
		{"ghost.*.example.", "missing", 0, false},
		{"_tcp.host1.example.", "exact _tcp.host1.example.", dns.TypeSRV, false},
		{"host2.example.", "exact host2.example.", dns.TypeA, false},
		{"x.host2.example.", "missing", 0, false},
		{"example.", "exact example.", dns.TypeSOA, true},
		{"com.", "not authoritative", 0, false},
		{".", "not authoritative", 0, false},
	} {
		m := s.Find(wire(c.name))
		if got := m.brief(); got != c.want {
			t.Errorf("%s: %s, want %s", c.name, got, c.want)
		} else if c.qtype != 0 && (m.Node.RRset(c.qtype) != nil) != c.data {
			t.Errorf("%s %s: data is %v, want %v", c.name, dns.Type(c.qtype), !c.data, c.data)
		}
	}
}

func TestFind(t *testing.T) {
	s := mustLoad(t,
		[2]string{"example", head + `
www     A 192.0.2.1
a.b.c   A 192.0.2.2
*.wild  A 192.0.2.3
x.wild  A 192.0.2.4
y.z.wild A 192.0.2.5
*.*.deep A 192.0.2.6
cut     NS ns.cut
cut     TXT "below the cut, or at it: the child's"
ns.cut  A 192.0.2.7
*.cut   A 192.0.2.8
low.cut NS ns.low.cut
in.side NS ns.example.net.
old.in.side A 192.0.2.9
moved   DNAME new.example.net.
moved   A 192.0.2.12
old.moved A 192.0.2.13
*.moved A 192.0.2.14
*.in.side A 192.0.2.10
`},
		[2]string{"in.side.example", head + "own A 192.0.2.11\n"})
	for _, c := range []struct{ name, want, zone string }{
		{"www.example.", "exact www.example.", "example."},
		{"b.c.example.", "exact b.c.example.", "example."},
		{"c.example.", "exact c.example.", "example."},
		{"x.b.c.example.", "missing", "example."},
		{"any.wild.example.", "wildcard *.wild.example.", "example."},
		{"a.any.wild.example.", "wildcard *.wild.example.", "example."},
		{"a.x.wild.example.", "missing", "example."},                    // a name stops the wildcard
		{"z.wild.example.", "exact z.wild.example.", "example."},        // so does an empty non-terminal
		{"a.z.wild.example.", "missing", "example."},                    //
		{"q.deep.example.", "wildcard *.deep.example.", "example."},     // an empty one: no data
		{"p.q.deep.example.", "wildcard *.deep.example.", "example."},   // not *.*.deep: q.deep is not there
		{"q.*.deep.example.", "wildcard *.*.deep.example.", "example."}, //
		{"cut.example.", "referral cut.example.", "example."},
		{"ns.cut.example.", "referral cut.example.", "example."},
		{"any.cut.example.", "referral cut.example.", "example."},
		{"a.low.cut.example.", "referral cut.example.", "example."}, // the highest cut
		{"side.example.", "exact side.example.", "example."},        // above an inner zone
		{"in.side.example.", "exact in.side.example.", "in.side.example."},
		{"own.in.side.example.", "exact own.in.side.example.", "in.side.example."},
		{"old.in.side.example.", "missing", "in.side.example."}, // the outer zone has no say
		{"1.2.3.4.5.6.7.8.9.www.example.", "missing", "example."},
		{"1.2.3.4.5.6.7.8.9.wild.example.", "wildcard *.wild.example.", "example."},
		{"moved.example.", "exact moved.example.", "example."}, // a DNAME renames what is below it
		{"old.moved.example.", "renamed moved.example.", "example."},
		{"a.b.moved.example.", "renamed moved.example.", "example."},
		{"xample.", "not authoritative", ""},
		{"wwwexample.", "not authoritative", ""},
	} {
		m := s.Find(wire(c.name))
		if got := m.brief(); got != c.want {
			t.Errorf("%s: %s, want %s", c.name, got, c.want)
		}
		if (m.Zone == nil) != (c.zone == "") || m.Zone != nil && m.Zone.Name != c.zone {
			t.Errorf("%s: zone %v, want %q", c.name, m.Zone, c.zone)
		}
	}
}

func TestFindInTheRootZone(t *testing.T) {
	s := mustLoad(t, [2]string{".", head + "www A 192.0.2.1\ncom NS ns.example.net.\nns.example.net A 192.0.2.1\n"})
	for name, want := range map[string]string{".": "exact .", "www.": "exact www.", "a.com.": "referral com.", "no.": "missing"} {
		if got := s.Find(wire(name)).brief(); got != want {
			t.Errorf("%s: %s, want %s", name, got, want)
		}
	}
}

func TestFindBelowADNAMEOfTheApex(t *testing.T) {
	s := mustLoad(t,
		[2]string{"example", head + "@ DNAME example.net.\nwww A 192.0.2.1\nkept NS ns.example.net.\n"},
		[2]string{"kept.example", head + "www A 192.0.2.2\n"})
	for name, want := range map[string]string{"example.": "exact example.", "www.example.": "renamed example.", "www.kept.example.": "exact www.kept.example."} {
		if got := s.Find(wire(name)).brief(); got != want {
			t.Errorf("%s: %s, want %s", name, got, want)
		}
	}
}

// A slowZone looks names up as RFC 6672, section 3.2 with RFC 4592 tell it, over the
// list of owner names.
type slowZone struct {
	apex   string
	owners map[string]string // name to type
}

func slowFind(zones []slowZone, name string) string {
	var z *slowZone
	for i := range zones {
		if dns.IsSubDomain(zones[i].apex, name) && (z == nil || len(zones[i].apex) > len(z.apex)) {
			z = &zones[i]
		}
	}
	if z == nil {
		return "not authoritative"
	}
	exists := func(name string) bool {
		for owner := range z.owners {
			if dns.IsSubDomain(name, owner) {
				return true
			}
		}
		return name == z.apex
	}
	labels := dns.SplitDomainName(name)
	for n := dns.CountLabel(z.apex) + 1; n <= len(labels); n++ {
		here := dns.Fqdn(strings.Join(labels[len(labels)-n:], "."))
		if z.owners[here] == "NS" {
			return "referral " + here
		}
		if !exists(here) {
			star := "*." + strings.Join(labels[len(labels)-n+1:], ".") + "."
			if exists(star) {
				return "wildcard " + star
			}
			return "missing"
		}
		if z.owners[here] == "DNAME" && n < len(labels) {
			return "renamed " + here
		}
	}
	return "exact " + name
}

func TestFindIsWhatTheRFCsSayOnAnyZone(t *testing.T) {
	label := rapid.SampledFrom([]string{"a", "b", "c", "*"})
	under := func(apex string) *rapid.Generator[string] {
		return rapid.Custom(func(t *rapid.T) string {
			return strings.Join(append(rapid.SliceOfN(label, 1, 4).Draw(t, "labels"), apex), ".")
		})
	}
	rapid.Check(t, func(rt *rapid.T) {
		var texts [][2]string
		var slow []slowZone
		for _, apex := range []string{"example.", "a.example.", "c.b.example."} {
			if rapid.IntRange(0, 3).Draw(rt, "leave out "+apex) == 0 {
				continue
			}
			z := slowZone{apex: apex, owners: map[string]string{}}
			text := head
			for _, owner := range rapid.SliceOfNDistinct(under(apex), 0, 8, rapid.ID).Draw(rt, apex) {
				kind := rapid.SampledFrom([]string{"A", "A", "CNAME", "NS", "DNAME"}).Draw(rt, owner)
				if kind == "NS" && owner[0] == '*' {
					kind = "A"
				}
				z.owners[owner] = kind
				text += owner + " " + kind + " " + map[string]string{"A": "192.0.2.1", "CNAME": "w.example.", "NS": "w.example.net.", "DNAME": "w.example.net."}[kind] + "\n"
			}
			slow = append(slow, z)
			texts = append(texts, [2]string{apex, text})
		}
		s := mustLoad(t, texts...)
		for _, name := range rapid.SliceOfN(under("example."), 1, 20).Draw(rt, "queries") {
			if got, want := s.Find(wire(name)).brief(), slowFind(slow, name); got != want {
				rt.Fatalf("%s: %s, want %s", name, got, want)
			}
		}
	})
}

func TestFindDoesNotAllocate(t *testing.T) {
	s := mustLoad(t, [2]string{"example", rfc4592})
	names := [][]byte{wire("host1.example."), wire("a.b.c.d.e.f.example."), wire("a.subdel.example."), wire("x.host1.example."), wire("com.")}
	if n := testing.AllocsPerRun(100, func() {
		for _, name := range names {
			s.Find(name)
		}
	}); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

// bigZone is a zone of n names, each with an address.
func bigZone(n int) string {
	var b strings.Builder
	b.WriteString(head)
	for i := range n {
		fmt.Fprintf(&b, "host-%d 300 IN A 10.%d.%d.%d\n", i, i>>16, i>>8&255, i&255)
	}
	return b.String()
}

func BenchmarkFind(b *testing.B) {
	s := mustLoad(b, [2]string{"geo.example.com", bigZone(100_000) + "*.wild A 192.0.2.1\ncut NS ns.example.net.\n"})
	for _, name := range []string{"host-77777.geo.example.com.", "any.wild.geo.example.com.", "any.cut.geo.example.com.",
		"missing.geo.example.com.", "a.b.c.d.e.f.g.h.missing.geo.example.com.", "example.org."} {
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			w := wire(name)
			for b.Loop() {
				s.Find(w)
			}
		})
	}
}

func BenchmarkLoad(b *testing.B) {
	dir := writeFiles(b, map[string]string{"big": bigZone(100_000)})
	b.ReportAllocs()
	for b.Loop() {
		if Load(dir, nil, []ZoneConfig{{Name: "example", File: "big"}}, func(key string, value any, _ string) { b.Fatal(key, value) }) == nil {
			b.Fatal("refused")
		}
	}
}

func TestDelegationCarriesWhatAReferralNeeds(t *testing.T) {
	s := mustLoad(t, [2]string{"example", head + `
cut     NS ns.cut
cut     NS ns.other
cut     NS ns.example.net.
cut     NS ns.plain
cut     600 NS ns.cut
cut     DS 1 8 2 0000000000000000000000000000000000000000000000000000000000000000
ns.plain A 192.0.2.1
ns.other AAAA 2001:db8::1
other   NS ns.other
ns.cut  A 192.0.2.2
ns.cut  AAAA 2001:db8::2
bare    NS ns.example.net.
`})
	cut := s.Find(wire("www.cut.example.")).Node.Cut
	if cut.NS.TTL != 300 || len(cut.NS.RRs) != 4 || cut.DS == nil {
		t.Errorf("NS %v, DS %v", cut.NS, cut.DS)
	}
	if got, want := texts(cut.Glue), []string{"ns.cut.example. 300 IN A 192.0.2.2", "ns.cut.example. 300 IN AAAA 2001:db8::2"}; !slices.Equal(got, want) {
		t.Errorf("glue %q, want %q", got, want)
	}
	if got, want := texts(cut.Beside...), []string{"ns.other.example. 300 IN AAAA 2001:db8::1", "ns.plain.example. 300 IN A 192.0.2.1"}; !slices.Equal(got, want) {
		t.Errorf("beside %q, want %q", got, want)
	}
	if bare := s.Find(wire("bare.example.")).Node.Cut; bare.Glue != nil || bare.DS != nil {
		t.Errorf("glue %v, DS %v for a server elsewhere", bare.Glue, bare.DS)
	}
}

// texts is the records of sets, each as its text.
func texts(sets ...*RRset) (texts []string) {
	for _, set := range sets {
		for _, rr := range set.RRs {
			texts = append(texts, strings.Join(strings.Fields(rr.String()), " "))
		}
	}
	return texts
}

func TestAnswersBringTheAddressesOfTheirHosts(t *testing.T) {
	s := mustLoad(t, [2]string{"example", head + `
mail    MX 10 a.host
mail    MX 10 b.host
mail    MX 20 a.host
mail    MX 30 elsewhere.example.net.
mail    MX 40 mail
mail    A 192.0.2.1
a.host  A 192.0.2.2
a.host  A 192.0.2.3
b.host  AAAA 2001:db8::2
*.wild  SRV 0 0 22 a.host
web     HTTPS 1 b.host.example. alpn=h2
self    HTTPS 1 . alpn=h2
self    A 192.0.2.4
cut     NS ns.cut
ns.cut  A 192.0.2.5
low     MX 10 ns.cut
alias   CNAME a.host
`})
	for _, c := range []struct {
		name  string
		qtype uint16
		want  []string
	}{
		{"mail.example.", dns.TypeMX, []string{"a.host.example. 300 IN A 192.0.2.2", "a.host.example. 300 IN A 192.0.2.3",
			"b.host.example. 300 IN AAAA 2001:db8::2", "mail.example. 300 IN A 192.0.2.1"}},
		{"x.wild.example.", dns.TypeSRV, []string{"a.host.example. 300 IN A 192.0.2.2", "a.host.example. 300 IN A 192.0.2.3"}},
		{"web.example.", dns.TypeHTTPS, []string{"b.host.example. 300 IN AAAA 2001:db8::2"}},
		{"self.example.", dns.TypeHTTPS, []string{"self.example. 300 IN A 192.0.2.4"}},
		{"low.example.", dns.TypeMX, nil}, // the child's, which is not ours to tell
		{"alias.example.", dns.TypeCNAME, nil},
		{"mail.example.", dns.TypeA, nil},
	} {
		if got := texts(s.Find(wire(c.name)).Node.RRset(c.qtype).Extra...); !slices.Equal(got, c.want) {
			t.Errorf("%s %s: %q, want %q", c.name, dns.Type(c.qtype), got, c.want)
		}
	}
}

// Of a zone inside a zone, the outer one has the delegation, or what it has at any name.
func TestAnInnerZoneKnowsWhatIsAbove(t *testing.T) {
	s := mustLoad(t,
		[2]string{"example", head + `
in     NS ns.example.net.
in     DS 1 8 2 0000000000000000000000000000000000000000000000000000000000000000
cut    NS ns.example.net.
in.cut NS ns.example.net.
text   TXT "no delegation"
*.wild A 192.0.2.1
`},
		[2]string{"in.example", head}, [2]string{"in.cut.example", head}, [2]string{"text.example", head},
		[2]string{"in.wild.example", head}, [2]string{"not.example", head}, [2]string{"a.not.example", head})
	for zone, want := range map[string]string{
		"in.example.":      "referral in.example. of example.",
		"in.cut.example.":  "referral cut.example. of example.",
		"text.example.":    "exact text.example. of example.",
		"in.wild.example.": "wildcard *.wild.example. of example.",
		"not.example.":     "missing of example.",
		"a.not.example.":   "missing of not.example.",
	} {
		m := s.Find(wire(zone)).Zone.Above
		if m.Zone == nil {
			t.Errorf("%s: nothing above, want %s", zone, want)
		} else if got := m.brief() + " of " + m.Zone.Name; got != want {
			t.Errorf("%s: %s, want %s", zone, got, want)
		}
	}
	if m := s.Find(wire("in.example.")).Zone.Above; m.Node.Cut.DS == nil {
		t.Error("in.example.: no DS above")
	}
	if m := s.Find(wire("example.")).Zone.Above; m.Zone != nil {
		t.Errorf("example.: %+v above", m)
	}
}

func TestNegativeTTLIsTheLowerOfSOAAndMinimum(t *testing.T) {
	for _, c := range []struct{ ttl, minimum, want uint32 }{{300, 30, 30}, {30, 300, 30}, {0, 300, 0}} {
		z := mustLoad(t, [2]string{"example", fmt.Sprintf("@ %d SOA ns.example.net. host 1 2 3 4 %d\n@ 300 NS ns.example.net.\n", c.ttl, c.minimum)}).Zones[0]
		if got := z.Negative.TTL; got != c.want || z.Negative.RRs[0].Header().Ttl != c.want || z.SOA.TTL != c.ttl {
			t.Errorf("SOA %d, minimum %d: negative %d, want %d", c.ttl, c.minimum, got, c.want)
		}
	}
}
