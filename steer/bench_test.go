package steer_test

import (
	"net/netip"
	"strings"
	"testing"

	"github.com/miekg/dns"

	"github.com/nearcast/nearcast/geo"
)

// BenchmarkPick is what steering costs a query: its network's class, and the pick in the class's choice.
func BenchmarkPick(b *testing.B) {
	five := []string{"us-east", "us-west", "eu-west", "eu-mid", "ap-south"}
	const up = "us-east up, us-west up, eu-west up, eu-mid up, ap-south up"
	var clients [1 << 12]geo.Client
	for i := range clients {
		a := netip.AddrFrom4([4]byte{byte(1 + i*37%220), byte(i * 101), byte(i), 1})
		clients[i] = geo.NewClient(a, a.BitLen())
	}
	for _, c := range []struct{ name, policy, beliefs string }{
		{"nearest", "nearest", up},
		{"nearest, each takes half", "nearest", strings.ReplaceAll(up, "up", "up shed=0.5")},
		{"weighted of 5", "weighted", up},
		{"weighted of 5, each takes half", "weighted", strings.ReplaceAll(up, "up", "up shed=0.5")},
	} {
		b.Run(c.name, func(b *testing.B) {
			s := build(b, load(b, service(c.policy, five...)), c.beliefs)
			svc := s.Set.Services[0]
			b.ReportAllocs()
			i := 0
			for b.Loop() {
				s.Pick(svc, dns.TypeA, clients[i%len(clients)])
				i++
			}
		})
	}
}
