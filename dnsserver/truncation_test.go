package dnsserver

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/nearcast/nearcast/zones"
)

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
