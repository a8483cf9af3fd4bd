package zones

import (
	"strings"
	"testing"

	"github.com/miekg/dns"
)

// Hints that are asked for are those of the target: at once if it is static, by the client if it is steered.
func TestHints(t *testing.T) {
	s := mustLoad(t, [2]string{"example", head + `
web   HTTPS 1 host ipv4hint=0.0.0.0 ipv6hint=:: alpn=h2
own   HTTPS 1 . ipv4hint=0.0.0.0
own   A 192.0.2.3
some  HTTPS 1 host ipv4hint=192.0.2.9
two   HTTPS 1 host ipv4hint=0.0.0.0,192.0.2.9
host  A 192.0.2.1
host  A 192.0.2.2
host  AAAA 2001:db8::1
*.w   A 192.0.2.4
wild  HTTPS 1 x.w ipv4hint=0.0.0.0 ipv6hint=::
`})
	for name, want := range map[string]string{
		"web.example.":  `1 host.example. alpn="h2" ipv4hint="192.0.2.1,192.0.2.2" ipv6hint="2001:db8::1"`,
		"own.example.":  `1 . ipv4hint="192.0.2.3"`,
		"some.example.": `1 host.example. ipv4hint="192.0.2.9"`,
		"two.example.":  `1 host.example. ipv4hint="0.0.0.0,192.0.2.9"`,
		"wild.example.": `1 x.w.example. ipv4hint="192.0.2.4"`,
	} {
		set := s.Find(wire(name)).Node.RRset(dns.TypeHTTPS)
		if got := strings.TrimPrefix(set.RRs[0].String(), set.RRs[0].Header().String()); got != want || set.Hints != nil {
			t.Errorf("%s: %s, %v; want %s", name, got, set.Hints, want)
		}
		question := append(make([]byte, 12), wire(name)...)
		question = append(question, 0, byte(dns.TypeHTTPS), 0, 1)
		rr, _, err := dns.UnpackRR(set.Packed.Append(question, 0, 12+len(wire(name))-len(wire("example."))), len(question))
		if err != nil || rr.String() != set.RRs[0].String() {
			t.Errorf("%s: packed as %v, %v", name, rr, err)
		}
	}
}

// What is left out is not mandatory.
func TestHintsLeftOut(t *testing.T) {
	a, err := dns.NewRR("x. 60 IN A 192.0.2.1")
	if err != nil {
		t.Fatal(err)
	}
	set := &RRset{RRs: []dns.RR{a}}
	for text, want := range map[string]string{
		"mandatory=ipv4hint,ipv6hint ipv4hint=0.0.0.0 ipv6hint=::": `mandatory="ipv4hint" ipv4hint="192.0.2.1"`,
		"mandatory=ipv6hint ipv4hint=0.0.0.0 ipv6hint=::":          `ipv4hint="192.0.2.1"`,
		"mandatory=ipv6hint ipv6hint=2001:db8::1":                  `mandatory="ipv6hint" ipv6hint="2001:db8::1"`,
	} {
		rr, err := dns.NewRR("x. 60 IN HTTPS 1 . " + text)
		if err != nil {
			t.Fatal(err)
		}
		before := rr.String()
		filled := dns.Copy(rr)
		FillHints(SVCB(filled), set)
		if got := strings.TrimPrefix(filled.String(), filled.Header().String()); got != "1 . "+want || rr.String() != before {
			t.Errorf("%s: %s of %s, want %s", text, got, rr, want)
		}
	}
}
