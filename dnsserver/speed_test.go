package dnsserver

import (
	"testing"
	"time"
)

// The fast way does not allocate.
func TestFastWayDoesNotAllocate(t *testing.T) {
	s := kept(build(t, services(), nil))
	out := make([]byte, 0, 2048)
	meter := &Meter{}
	for _, query := range []string{
		"ns1 A", "gone A +edns", "x.wild MX +do", "x.child A", "example.com. A", "www AAAA", "one A +ecs=203.0.113.0/24",
		"both A +ecs=64:ff9b::cb00:7100/120", "cdn A", "aliasout A", "down A +edns", "big TXT", "half AAAA",
	} {
		q := ask(t, query)
		n := testing.AllocsPerRun(100, func() {
			s.tick += 10 // each goes on record
			if Answer(out, q, resolver, UDP, s, meter) == nil {
				t.Fatal("no reply")
			}
		})
		if n != 0 {
			t.Errorf("%s: %v allocations", query, n)
		}
	}
}

// batch is how many queries come together at a high rate.
const batch = 64

func BenchmarkAnswer(b *testing.B) {
	s := kept(build(b, services(), nil))
	out := make([]byte, 0, 2048)
	for name, query := range map[string]string{
		"static": "ns1 A +edns", "nxdomain": "gone A +edns", "steered": "one A +ecs=203.0.113.0/24", "referral": "x.child A +edns", "slow": "alias A +edns",
	} {
		b.Run(name, func(b *testing.B) {
			q := ask(b, query)
			meter := &Meter{}
			b.ReportAllocs()
			began, n := time.Now(), 0
			for b.Loop() {
				if n++; n%batch == 0 {
					s.tick = s.Snapshot.Tick(began.Add(time.Duration(n/batch) * 100 * time.Microsecond))
				}
				Answer(out, q, resolver, UDP, s, meter)
			}
		})
	}
}
