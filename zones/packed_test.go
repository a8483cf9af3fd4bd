package zones

import (
	"bytes"
	"strings"
	"testing"

	"github.com/miekg/dns"
	"pgregory.net/rapid"
)

// message is a question and sets behind it, as a server sends it.
func message(t interface{ Fatal(...any) }, qname, origin string, sets ...*RRset) []byte {
	b := make([]byte, 12, 1<<16)
	b[5] = 1
	n, err := dns.PackDomainName(qname, b[:cap(b)], 12, nil, false)
	if err != nil {
		t.Fatal(err)
	}
	b = append(b[:n], 0, 1, 0, 1)
	records := 0
	for _, set := range sets {
		if set != nil {
			b = set.Packed.Append(b, 0, n-len(wire(origin)))
			records += int(set.Packed.Count)
		}
	}
	b[6], b[7] = byte(records>>8), byte(records)
	return b
}

// sameRecords tells if the message holds rrs, owner names that are star being qname.
func sameRecords(t interface {
	Fatal(...any)
	Fatalf(string, ...any)
}, b []byte, rrs []dns.RR, star, qname string) {
	var m dns.Msg
	if err := m.Unpack(b); err != nil {
		t.Fatalf("%v in % x", err, b)
	}
	if len(m.Answer) != len(rrs) {
		t.Fatalf("%d records, want %d", len(m.Answer), len(rrs))
	}
	for i, got := range m.Answer {
		want := dns.Copy(rrs[i])
		if strings.EqualFold(want.Header().Name, star) {
			want.Header().Name = qname
		}
		if !dns.IsDuplicate(got, want) || got.Header().Ttl != want.Header().Ttl {
			t.Fatalf("%v, want %v", got, want)
		}
	}
	if pad := len(b); pad > 0 {
		if _, off, err := unpackAll(b, len(rrs)); err != nil || off != pad {
			t.Fatalf("the message ends at %d, its records at %d: %v", pad, off, err)
		}
	}
}

// unpackAll returns the records of a message and where they end.
func unpackAll(b []byte, n int) (rrs []dns.RR, off int, err error) {
	_, off, err = dns.UnpackDomainName(b, 12)
	off += 4
	for i := 0; i < n && err == nil; i++ {
		var rr dns.RR
		rr, off, err = dns.UnpackRR(b, off)
		rrs = append(rrs, rr)
	}
	return rrs, off, err
}

// rdata has a form for every shape of rdata; NAME is a name.
var rdata = []string{
	"A 192.0.2.1", "AAAA 2001:db8::1", "NS NAME", "CNAME NAME", "DNAME NAME", "PTR NAME", "MX 10 NAME", "SOA NAME NAME 1 2 3 4 5", "MINFO NAME NAME",
	"MB NAME", "MG NAME", "MR NAME", "MD NAME", "MF NAME", "TXT \"a\" \"b c\"", "SRV 1 2 3 NAME", "RP NAME NAME", "AFSDB 1 NAME", "RT 1 NAME", "KX 1 NAME", "PX 1 NAME NAME",
	"NAPTR 1 2 \"u\" \"s\" \"\" NAME", "NSEC NAME A MX", "RRSIG A 8 2 300 20300101000000 20200101000000 1 NAME AAAA", "CAA 0 issue \"ca.example\"",
	"SVCB 1 NAME alpn=h2", "HTTPS 0 NAME", "LOC 52 22 23.000 N 4 53 32.000 E -2.00m 0.00m 10000m 10m", "HINFO \"a\" \"b\"", "TLSA 3 1 1 00",
	"DS 1 8 2 00", "SSHFP 1 1 00", "TYPE65280 \\# 3 010203", "APL 1:192.0.2.0/24", "LP 1 NAME", "TALINK NAME NAME", "NSAP-PTR NAME", "IPSECKEY 10 3 2 NAME AQNRU3mG",
}

func TestPackedRecordsAreTheRecords(t *testing.T) {
	label := rapid.SampledFrom([]string{"a", "b", "WWW", "x-1", "com", "\\003com", "*", strings.Repeat("l", 63)})
	labels := func(lo, hi int) *rapid.Generator[string] {
		return rapid.Map(rapid.SliceOfN(label, lo, hi), func(ls []string) string { return strings.Join(append(ls, ""), ".") })
	}
	rapid.Check(t, func(t *rapid.T) {
		origin := strings.ToLower(rapid.OneOf(rapid.Just(""), rapid.Just("geo.example.com."), labels(1, 2)).Draw(t, "origin"))
		if origin = dns.Fqdn(origin); strings.HasPrefix(origin, "*.") {
			t.Skip("no zone is a wildcard")
		}
		join := func(rel string) string { return strings.TrimSuffix(rel+origin, ".") + "." }
		if origin == "." {
			join = func(rel string) string { return dns.Fqdn(rel) }
		}
		below := strings.ToLower(join(labels(0, 2).Draw(t, "name below the origin")))
		if len(below) > 120 {
			t.Skip("too long to go on")
		}
		owner, cut, qname := "", "", ""
		deeper := strings.TrimSuffix(labels(0, 2).Draw(t, "deeper")+below, ".") + "."
		switch rapid.SampledFrom([]string{"exact", "wildcard", "referral", "denial"}).Draw(t, "kind") {
		case "exact":
			owner, qname = below, below
		case "wildcard":
			owner, qname = "*."+strings.TrimPrefix(below, "."), "q."+strings.TrimPrefix(deeper, ".")
		case "referral":
			cut, qname = below, deeper
		case "denial":
			qname = deeper
		}
		if _, ok := dns.IsDomainName(qname); !ok {
			t.Skip("too long")
		}
		suffixes := []string{".", origin, below, owner, "ns." + strings.TrimPrefix(below, "."), "other.example.", "com.", strings.ToUpper(origin)}
		name := rapid.OneOf(rapid.SampledFrom(suffixes), labels(1, 3)).Filter(func(s string) bool { return s != "" })
		var rrs []dns.RR
		for range rapid.IntRange(1, 5).Draw(t, "records") {
			o := rapid.OneOf(rapid.Just(owner), name).Filter(func(s string) bool { return s != "" }).Draw(t, "owner")
			text := rapid.SampledFrom(rdata).Draw(t, "rdata")
			for strings.Contains(text, " NAME") {
				text = strings.Replace(text, " NAME", " "+name.Draw(t, "name"), 1)
			}
			rr, err := dns.NewRR(o + " 300 IN " + text)
			if err != nil {
				t.Fatal(text, err)
			}
			rrs = append(rrs, rr)
		}
		k, err := newPacker(owner, cut, origin)
		if err != nil {
			t.Fatal(err)
		}
		var runs []*RRset // that stand one behind the other
		for rest := rrs; len(rest) > 0; {
			n := rapid.IntRange(1, len(rest)).Draw(t, "records in a run")
			set, err := k.rrset(rest[:n])
			if err != nil {
				t.Fatal(err)
			}
			for i, f := range set.Packed.Fixes {
				if i > 0 && f.At <= set.Packed.Fixes[i-1].At {
					t.Fatal("fixes are not in order")
				}
			}
			runs, rest = append(runs, set), rest[n:]
		}
		sameRecords(t, message(t, qname, origin, runs...), rrs, owner, qname)
	})
}

func TestPackCompresses(t *testing.T) {
	for _, c := range []struct {
		why, rr, owner, cut string
		size                int // of owner and rdata
	}{
		{"owner is the query name", "www.a.example. A 192.0.2.1", "www.a.example.", "", 2 + 4},
		{"a name in the zone", "www.a.example. CNAME x.a.example.", "www.a.example.", "", 2 + 4},
		{"the owner itself in rdata", "www.a.example. NS www.a.example.", "www.a.example.", "", 2 + 2},
		{"a name above the zone", "www.a.example. CNAME x.example.", "www.a.example.", "", 2 + 4},
		{"a name elsewhere", "www.a.example. CNAME x.test.", "www.a.example.", "", 2 + 8},
		{"the root", "www.a.example. CNAME .", "www.a.example.", "", 2 + 1},
		{"a wildcard's owner", "*.w.a.example. MX 1 mx.w.a.example.", "*.w.a.example.", "", 2 + 2 + 5},
		{"a wildcard in rdata is not the query name", "*.w.a.example. CNAME *.w.a.example.", "*.w.a.example.", "", 2 + 4},
		{"not in SRV (RFC 2782)", "www.a.example. SRV 1 2 3 www.a.example.", "www.a.example.", "", 2 + 6 + 15},
		{"not in DNAME (RFC 6672)", "www.a.example. DNAME a.example.", "www.a.example.", "", 2 + 11},
		{"at a cut", "c.a.example. NS ns.c.a.example.", "", "c.a.example.", 2 + 5},
		{"in a denial", "a.example. SOA ns.a.example. h.a.example. 1 2 3 4 5", "", "", 2 + 5 + 4 + 20},
	} {
		rr, err := dns.NewRR(c.rr)
		if err != nil {
			t.Fatal(err)
		}
		p, err := Pack([]dns.RR{rr}, c.owner, c.cut, "a.example.")
		if err != nil || len(p.Wire) != c.size+10 {
			t.Errorf("%s: %d octets, want %d (%v)", c.why, len(p.Wire), c.size+10, err)
		}
	}
}

// Names compress against those before them, in their own case, as far back as a pointer reaches.
func TestPackCompressesAgainstItself(t *testing.T) {
	far := "\"" + strings.Repeat("x", 255) + "\""
	for _, c := range []struct {
		why, zone string
		size      int // of the last record's owner and rdata
	}{
		{"one provider", "@ MX 1 mx1.mail.example.net.\n@ MX 2 mx2.mail.example.net.\n", 2 + 2 + 4 + 2},
		{"the same name", "@ MX 1 mx.example.net.\n@ MX 2 mx.example.net.\n", 2 + 2 + 2},
		{"another case", "@ MX 1 mx.example.net.\n@ MX 2 MX.example.net.\n", 2 + 2 + 3 + 2},
		{"within one record", "@ SOA ns.example.net. ns.example.net. 1 2 3 4 5\n", 2 + 16 + 2 + 20},
		{"an owner", "ns.example.net. A 192.0.2.1\nns.example.net. A 192.0.2.2\n", 2 + 4},
		{"not in types that came later", "@ MX 1 mx.example.net.\n@ SRV 1 1 1 mx.example.net.\n", 2 + 6 + 16},
		{"too far back", "@ TXT " + strings.Repeat(far, 63) + "\n@ TXT " + far + "\n@ MX 1 mx.example.net.\n@ MX 1 mx.example.net.\n", 2 + 2 + 16},
	} {
		var rrs []dns.RR
		z := dns.NewZoneParser(strings.NewReader("$TTL 60\n"+c.zone), "a.example.", "")
		for rr, ok := z.Next(); ok; rr, ok = z.Next() {
			rrs = append(rrs, rr)
		}
		all, err := NewRRset(rrs, "a.example.", "", "a.example.")
		if err != nil {
			t.Fatalf("%s: %v", c.why, err)
		}
		before, err := Pack(rrs[:len(rrs)-1], "a.example.", "", "a.example.")
		if got := len(all.Packed.Wire) - len(before.Wire) - 10; err != nil || got != c.size {
			t.Errorf("%s: %d octets, want %d (%v)", c.why, got, c.size, err)
		}
		sameRecords(t, message(t, "a.example.", "a.example.", all), rrs, "", "")
	}
}

func TestPackRefuses(t *testing.T) {
	rr, _ := dns.NewRR("www.example. A 192.0.2.1")
	long, _ := dns.NewRR("www.example. TXT " + strings.Repeat("\""+strings.Repeat("x", 255)+"\" ", 250))
	for why, err := range map[string]error{
		"an owner outside the zone": errOf(Pack([]dns.RR{rr}, "www.example.", "", "test.")),
		"a cut outside the zone":    errOf(Pack([]dns.RR{rr}, "", "example.", "www.example.")),
		"a relative owner":          errOf(Pack([]dns.RR{rr}, "www", "", "example.")),
		"an origin that is empty":   errOf(Pack([]dns.RR{rr}, "", "", "")),
		"more than a message holds": errOf(Pack([]dns.RR{long, long}, "www.example.", "", "example.")),
		"an RRset without records":  errOf(NewRRset(nil, "www.example.", "", "example.")),
	} {
		if err == nil {
			t.Errorf("%s is accepted", why)
		}
	}
}

func errOf[T any](_ T, err error) error { return err }

func TestAppendDoesNotAllocateNorChangeThePacked(t *testing.T) {
	s := mustLoad(t, [2]string{"geo.example.com", head})
	p := &s.Find(wire("geo.example.com.")).Node.RRset(dns.TypeSOA).Packed
	before := bytes.Clone(p.Wire)
	b := make([]byte, 0, 512)
	if n := testing.AllocsPerRun(100, func() { p.Append(b, 0, 12) }); n != 0 {
		t.Errorf("%v allocations", n)
	}
	if !bytes.Equal(before, p.Wire) {
		t.Error("the packed records changed")
	}
}
