package zones

import (
	"testing"

	"github.com/miekg/dns"
)

// A record whose TTL alone changed goes, and comes.
func TestDiff(t *testing.T) {
	load := func(text string) *Zone { return mustLoad(t, [2]string{"example", head + text}).Zones[0] }
	text := func(rrs []dns.RR) (all string) {
		for _, rr := range rrs {
			all += rr.String() + "\n"
		}
		return all
	}
	removed, added := Diff(load("a 60 A 192.0.2.1\nb A 192.0.2.2\nd A 192.0.2.4\n"), load("a 61 A 192.0.2.1\nb A 192.0.2.3\nd A 192.0.2.4\n"))
	if got, want := text(removed), "a.example.\t60\tIN\tA\t192.0.2.1\nb.example.\t300\tIN\tA\t192.0.2.2\n"; got != want {
		t.Errorf("removed %s, want %s", got, want)
	}
	if got, want := text(added), "a.example.\t61\tIN\tA\t192.0.2.1\nb.example.\t300\tIN\tA\t192.0.2.3\n"; got != want {
		t.Errorf("added %s, want %s", got, want)
	}
}
