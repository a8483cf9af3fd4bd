package zones

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/miekg/dns"
)

// A copy of a primary's zone is good for the expire time from when the primary confirmed it last.
func TestExpired(t *testing.T) {
	soa := &dns.SOA{Expire: 3600}
	now := time.Now()
	for name, c := range map[string]struct {
		written, confirmed time.Duration // ago; 0: not at all
		want               string
	}{
		"fresh":                              {time.Second, time.Second, ""},
		"old, and confirmed":                 {48 * time.Hour, time.Minute, ""},
		"confirmed too long ago":             {48 * time.Hour, 2 * time.Hour, "expired: no primary confirmed it for 1h0m0s"},
		"put there":                          {time.Minute, 0, ""},
		"put there too long ago":             {2 * time.Hour, 0, "expired: no primary confirmed it for 1h0m0s"},
		"written after it was confirmed":     {time.Second, 2 * time.Hour, "expired: no primary confirmed it for 1h0m0s"},
		"within the last minute of its life": {48 * time.Hour, 59 * time.Minute, ""},
	} {
		file := filepath.Join(t.TempDir(), "a.zone")
		if got := absent(file); got != "not transferred yet" {
			t.Fatalf("%s: %q without a copy", name, got)
		}
		if err := os.WriteFile(file, nil, 0o600); err != nil {
			t.Fatal(err)
		}
		if err := os.Chtimes(file, now, now.Add(-c.written)); err != nil {
			t.Fatal(err)
		}
		if c.confirmed > 0 {
			for _, at := range []time.Time{now.Add(-time.Hour * 1000), now.Add(-c.confirmed)} { // it may be there already
				if err := Confirm(file, at); err != nil {
					t.Fatal(err)
				}
			}
			if at, err := Confirmed(file); err != nil || at.Sub(now.Add(-c.confirmed)).Abs() > time.Second {
				t.Errorf("%s: confirmed %v, %v", name, at, err)
			}
		} else if at, err := Confirmed(file); err == nil {
			t.Errorf("%s: confirmed %v", name, at)
		}
		if got := expired(file, soa) + absent(file); got != c.want {
			t.Errorf("%s: %q, want %q", name, got, c.want)
		}
	}
}

// Text reads back as the records that it was made of.
func TestTextIsAZoneFile(t *testing.T) {
	var rrs []dns.RR
	for _, text := range []string{
		"a.test. 60 IN SOA ns.a.test. h.a.test. 1 2 3 4 5", `a\\.b.a.test. 60 IN TXT "a \"b\" \200 ;" ""`, `*.a.test. 1 IN TYPE65400 \\# 2 0102`,
		`s.a.test. 1 IN HTTPS 1 . alpn="h2,h3" ipv4hint=192.0.2.1`, `c.a.test. 1 IN CAA 0 issue "ca.example; x=\"y\""`, "l.a.test. 1 IN LOC 52 22 23.000 N 4 53 32.000 E -2.00m 0.00m 10000.00m 10.00m",
	} {
		text = strings.ReplaceAll(text, `\\`, `\`)
		rr, err := dns.NewRR(text)
		if err != nil {
			t.Fatalf("%s: %v", text, err)
		}
		rrs = append(rrs, rr)
	}
	p := dns.NewZoneParser(strings.NewReader(Text(rrs)), "", "")
	for _, rr := range rrs {
		got, ok := p.Next()
		if !ok || !dns.IsDuplicate(got, rr) || got.Header().Ttl != rr.Header().Ttl {
			t.Fatalf("%v, %v; want %v", got, p.Err(), rr)
		}
	}
	if rr, ok := p.Next(); ok {
		t.Errorf("and %v", rr)
	}
}
