package dnsserver

import (
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/miekg/dns"
	"pgregory.net/rapid"
)

func record(t testing.TB, text string) dns.RR {
	t.Helper()
	rr, err := dns.NewRR(text)
	if err != nil {
		t.Fatal(err)
	}
	return rr
}

func soaOf(serial uint32) dns.RR {
	return &dns.SOA{Hdr: dns.RR_Header{Name: "fed.test.", Rrtype: dns.TypeSOA, Class: dns.ClassINET, Ttl: 60}, Ns: "ns.fed.test.", Mbox: "h.fed.test.", Serial: serial}
}

// Steps from any version to any later one give that version, in one transfer or as a whole zone.
func TestAssembleGivesTheLastVersion(t *testing.T) {
	var pool []dns.RR
	for _, text := range []string{"a.fed.test. A 192.0.2.1", "a.fed.test. A 192.0.2.2", "a.fed.test. 60 A 192.0.2.1", "b.fed.test. TXT \"x y\"", "*.fed.test. CNAME a", "fed.test. NS ns.elsewhere.", "c.fed.test. TYPE65400 \\# 2 0102"} {
		pool = append(pool, record(t, text))
	}
	rapid.Check(t, func(t *rapid.T) {
		serial := rapid.Uint32().Draw(t, "serial") // it may wrap
		version := func() (rrs []dns.RR) {
			mask := rapid.IntRange(0, 1<<len(pool)-1).Draw(t, "records")
			for i, rr := range pool {
				if mask>>i&1 == 1 {
					rrs = append(rrs, rr)
				}
			}
			return rrs
		}
		first := version()
		last := first
		var steps []dns.RR
		for n := rapid.IntRange(1, 4).Draw(t, "steps"); n > 0; n-- {
			next := version()
			steps = append(append(steps, soaOf(serial)), missing(last, next)...)
			serial++
			steps = append(append(steps, soaOf(serial)), missing(next, last)...)
			last = next
		}
		end := []dns.RR{soaOf(serial)}
		have := append([]dns.RR{steps[0]}, first...)
		for name, got := range map[string][]dns.RR{"steps": slices.Concat(end, steps, end), "whole": slices.Concat(end, last, end)} {
			rrs, err := assemble(have, got)
			if err != nil {
				t.Fatalf("%s: %v", name, err)
			}
			if want := slices.Concat(end, last); !slices.Equal(sorted(rrs), sorted(want)) || !sameSOA(rrs[0], end[0]) {
				t.Fatalf("%s: %v, want %v", name, rrs, want)
			}
		}
	})
}

// missing is what of rrs others lack.
func missing(rrs, others []dns.RR) (left []dns.RR) {
	for _, rr := range rrs {
		if !slices.Contains(others, rr) {
			left = append(left, rr)
		}
	}
	return left
}

func sorted(rrs []dns.RR) (texts []string) {
	for _, rr := range rrs {
		texts = append(texts, rr.String())
	}
	slices.Sort(texts)
	return texts
}

// A transfer that is not sound is refused, and says why.
func TestAssembleRefuses(t *testing.T) {
	a, b := record(t, "a.fed.test. A 192.0.2.1"), record(t, "b.fed.test. A 192.0.2.1")
	have := []dns.RR{soaOf(1), a}
	for name, c := range map[string]struct {
		got  []dns.RR
		want string
	}{
		"nothing":                 {nil, "0 records"},
		"a SOA alone":             {[]dns.RR{soaOf(2)}, "1 records"},
		"no SOA at the beginning": {[]dns.RR{a, soaOf(2)}, "does not end"},
		"cut":                     {[]dns.RR{soaOf(2), a, b}, "does not end"},
		"another end":             {[]dns.RR{soaOf(2), a, soaOf(3)}, "does not end"},
		"two zones":               {[]dns.RR{soaOf(2), a, soaOf(1), b, soaOf(2)}, "a SOA within"},
		"from elsewhere":          {[]dns.RR{soaOf(3), soaOf(2), soaOf(3), b, soaOf(3)}, "a step from serial 2, at 1"},
		"not to the end":          {[]dns.RR{soaOf(3), soaOf(1), soaOf(2), b, soaOf(3)}, "end at serial 2"},
		"removes what is not":     {[]dns.RR{soaOf(2), soaOf(1), b, soaOf(2), soaOf(2)}, "was not there"},
	} {
		if rrs, err := assemble(have, c.got); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v, %v; want %s", name, rrs, err, c.want)
		}
	}
	if rrs, err := assemble(nil, []dns.RR{soaOf(2), soaOf(1), soaOf(2), a, soaOf(2)}); err == nil {
		t.Errorf("steps from nothing: %v", rrs)
	}
}

// NOTIFY is taken from a zone's primaries, signed where they have a key, and from nobody else.
func TestNotified(t *testing.T) {
	for name, c := range map[string]struct {
		zone, from, key string
		rcode           int
		told            bool
	}{
		"a primary":                        {"geo.example.com.", "192.0.2.1", "", dns.RcodeSuccess, true},
		"in other case":                    {"GEO.example.com.", "192.0.2.1", "", dns.RcodeSuccess, true},
		"a primary that has a key":         {"geo.example.com.", "192.0.2.2", "good.", dns.RcodeSuccess, true},
		"that primary, unsigned":           {"geo.example.com.", "192.0.2.2", "", dns.RcodeRefused, false},
		"that primary with another key":    {"geo.example.com.", "192.0.2.2", "other.", dns.RcodeRefused, false},
		"someone":                          {"geo.example.com.", "192.0.2.3", "", dns.RcodeRefused, false},
		"someone with the key":             {"geo.example.com.", "192.0.2.3", "good.", dns.RcodeRefused, false},
		"a zone that has no primaries":     {"in.geo.example.com.", "192.0.2.1", "", dns.RcodeRefused, false},
		"a name in a zone":                 {"www.geo.example.com.", "192.0.2.1", "", dns.RcodeNotAuth, false},
		"a zone that is not served at all": {"other.test.", "192.0.2.1", "", dns.RcodeNotAuth, false},
	} {
		s := build(t, services(), nil)
		withTransfers(t, s, TransferConfig{})
		s.Settings.fed = map[string]*fedRule{"geo.example.com.": {primaries: []primary{
			{host: netip.MustParseAddr("192.0.2.1")}, {host: netip.MustParseAddr("192.0.2.2"), key: s.Settings.keys["good."]},
		}}}
		s.Now = time.Now()
		var told []string
		s.Notified = func(zone string, from netip.Addr) {
			if from == netip.MustParseAddr(c.from) {
				told = append(told, zone)
			}
		}
		q := new(dns.Msg).SetNotify(c.zone)
		b, err := q.Pack()
		if err == nil && c.key != "" {
			algorithm := map[string]string{"good.": dns.HmacSHA256, "other.": dns.HmacSHA512}[c.key]
			q.SetTsig(c.key, algorithm, tsigFudge, s.Now.Unix())
			b, _, err = dns.TsigGenerate(q, map[string]string{"good.": goodSecret, "other.": otherSecret}[c.key], "", false)
		}
		if err != nil {
			t.Fatal(err)
		}
		r := parse(t, Answer(nil, b, netip.MustParseAddr(c.from), UDP, s, nil))
		if r.Rcode != c.rcode || r.Opcode != dns.OpcodeNotify || (len(told) == 1 && told[0] == "geo.example.com.") != c.told {
			t.Errorf("%s: %s, told %v", name, dns.RcodeToString[r.Rcode], told)
		}
	}
}
