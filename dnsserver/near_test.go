package dnsserver

import (
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"sync"
	"testing"

	"github.com/miekg/dns"
	"pgregory.net/rapid"

	"github.com/nearcast/nearcast/geo"
	"github.com/nearcast/nearcast/zones"
)

// places gives every network a region, so that no database decides in these tests.
const places = `0.0.0.0/0,us
::/0,us
203.0.113.0/24,eu
203.0.113.64/26,us
2a00::/12,eu
`

// table is the places, compiled once for all tests.
var table = sync.OnceValue(func() *geo.Table {
	dir, err := os.MkdirTemp("", "nearcast")
	if err != nil {
		panic(err)
	}
	defer os.RemoveAll(dir)
	if err := os.WriteFile(filepath.Join(dir, "places.csv"), []byte(places), 0o600); err != nil {
		panic(err)
	}
	var sites []geo.Site
	for _, r := range regions {
		sites = append(sites, geo.Site{Name: r.Name, Point: geo.Point{Lat: r.Location[0], Lon: r.Location[1]}})
	}
	return geo.Load(geo.Config{Overrides: "places.csv"}, dir, sites, nil, func(key string, value any, accepted string) {
		panic(fmt.Sprint(key, value, accepted))
	})
})

// buildNear makes a scene of services that are steered by place: near, and here, by the source's.
func buildNear(t testing.TB) *Scene {
	t.Helper()
	return build(t, []zones.ServiceConfig{
		{Name: "near", Regions: []zones.MemberConfig{{Region: "us", Addresses: []string{"192.0.2.1"}}, {Region: "eu", Addresses: []string{"192.0.2.2"}}}},
		{Name: "here", ECS: "off", Regions: []zones.MemberConfig{{Region: "us", Addresses: []string{"192.0.2.1"}}, {Region: "eu", Addresses: []string{"192.0.2.2"}}}},
		{Name: "hop", Steer: "failover", Regions: []zones.MemberConfig{{Region: "us", CNAME: "near.geo.example.com"}}},
	}, table())
}

// The client subnet decides, else the source; the scope is the widest prefix with the same answer.
func TestClient(t *testing.T) {
	const us, eu = "192.0.2.1", "192.0.2.2"
	cases := []struct{ query, source, address, edns string }{
		{"near A", "8.8.8.8", us, ""},
		{"near A", "203.0.113.7", eu, ""},
		{"near A", "203.0.113.70", us, ""},
		{"near A", "::ffff:203.0.113.7", eu, ""},
		{"near A", "2a01::1", eu, ""},
		{"near A +edns", "203.0.113.7", eu, "opt 1232"},
		{"near A +ecs=203.0.113.0/26", "8.8.8.8", eu, "opt 1232 ecs 203.0.113.0/26/26"},
		{"near A +ecs=203.0.113.0/24", "8.8.8.8", eu, "opt 1232 ecs 203.0.113.0/24/26"},
		{"near A +ecs=203.0.113.128/32", "8.8.8.8", eu, "opt 1232 ecs 203.0.113.128/32/25"},
		{"near A +ecs=203.0.112.0/24", "203.0.113.7", us, "opt 1232 ecs 203.0.112.0/24/24"},
		{"near A +ecs=1.2.3.0/24", "203.0.113.7", us, "opt 1232 ecs 1.2.3.0/24/8"},
		{"hop A +ecs=1.2.3.0/24", "203.0.113.7", us, "opt 1232 ecs 1.2.3.0/24/8"},
		{"near AAAA +ecs=1.2.3.0/24", "203.0.113.7", "", "opt 1232 ecs 1.2.3.0/24/0"},
		{"near A +ecs=2a00:1::/48", "8.8.8.8", eu, "opt 1232 ecs 2a00:1::/48/12"},
		{"near A +ecs=64:ff9b::cb00:7100/120", "8.8.8.8", eu, "opt 1232 ecs 64:ff9b::cb00:7100/120/122"},
		{"near A +ecs=2002:cb00:7180::/48", "8.8.8.8", eu, "opt 1232 ecs 2002:cb00:7180::/48/41"},
		// Subnets that say of no place: the source decides.
		{"near A +ecs=0.0.0.0/0", "203.0.113.7", eu, "opt 1232 ecs 0.0.0.0/0/0"},
		{"near A +ecs=10.2.3.0/24", "203.0.113.7", eu, "opt 1232 ecs 10.2.3.0/24/8"},
		{"near A +ecs=10.2.3.0/24", "8.8.8.8", us, "opt 1232 ecs 10.2.3.0/24/8"},
		{"near A +ecs=192.168.0.0/16", "203.0.113.7", eu, "opt 1232 ecs 192.168.0.0/16/16"},
		{"near A +ecs=fd00::/48", "203.0.113.7", eu, "opt 1232 ecs fd00::/48/7"},
		{"near A +ecs=::ffff:10.2.3.0/120", "203.0.113.7", eu, "opt 1232 ecs 10.2.3.0/120/104"},
		// Wider than the special block, it is not in it.
		{"near A +ecs=10.0.0.0/7", "203.0.113.7", us, "opt 1232 ecs 10.0.0.0/7/8"},
	}
	s := buildNear(t)
	for _, c := range cases {
		for name, way := range ways {
			b := way(nil, ask(t, c.query), netip.MustParseAddr(c.source), UDP, s, nil)
			if b == nil && name == "fast" {
				continue
			}
			m := parse(t, b)
			address, edns := lastAddress(m), ""
			if len(m.Extra) > 0 {
				edns = section(m.Extra)
			}
			if address != c.address || edns != c.edns {
				t.Errorf("%s from %s, %s: %s, %s, want %s, %s", c.query, c.source, name, address, edns, c.address, c.edns)
			}
		}
	}
}

// Steering by place does not allocate.
func TestSteeringDoesNotAllocate(t *testing.T) {
	s := buildNear(t)
	out := make([]byte, 0, 2048)
	for _, query := range []string{"near A", "near A +ecs=203.0.113.0/24", "near A +ecs=2a00:1::/48", "near A +ecs=10.2.3.0/24"} {
		q := ask(t, query)
		if n := testing.AllocsPerRun(100, func() { Answer(out, q, resolver, UDP, s, nil) }); n != 0 {
			t.Errorf("%s: %v allocations", query, n)
		}
	}
}

// lastAddress is the address at the end of the answer, "" if there is none.
func lastAddress(m *dns.Msg) string {
	if len(m.Answer) == 0 {
		return ""
	}
	return m.Answer[len(m.Answer)-1].(*dns.A).A.String()
}

// Whoever is within the scope of an answer gets that answer.
func TestScopeHolds(t *testing.T) {
	s := buildNear(t)
	rapid.Check(t, func(t *rapid.T) {
		start := netip.MustParseAddr(rapid.SampledFrom([]string{
			"203.0.113.0", "203.0.112.0", "203.0.113.64", "1.2.3.4", "2a00::", "2a10::", "2a00:1:2::", "64:ff9b::203.0.113.0", "2002:cb00:7140::", "10.1.2.3", "2001::1",
		}).Draw(t, "near"))
		first := change(start, rapid.IntRange(0, start.BitLen()).Draw(t, "keep"), rapid.Uint64().Draw(t, "bits"))
		address, scope := askFor(t, s, first)
		second := change(first, scope, rapid.Uint64().Draw(t, "other bits"))
		if other, _ := askFor(t, s, second); other != address {
			t.Fatalf("%s gets %s with scope %d, %s within gets %s", first, address, scope, second, other)
		}
	})
}

// change sets the bits after the first keep to those of a seed.
func change(a netip.Addr, keep int, seed uint64) netip.Addr {
	b := a.AsSlice()
	for i := keep; i < a.BitLen(); i++ {
		b[i/8] &^= 0x80 >> (i % 8)
		if seed>>(i%64)&1 != 0 {
			b[i/8] |= 0x80 >> (i % 8)
		}
	}
	out, _ := netip.AddrFromSlice(b)
	return out
}

// askFor asks with the whole address as client subnet.
func askFor(t *rapid.T, s *Scene, a netip.Addr) (address string, scope int) {
	m := &dns.Msg{}
	m.SetQuestion("near.geo.example.com.", dns.TypeA)
	m.SetEdns0(maxUDP, false)
	family := uint16(1)
	if a.Is6() {
		family = 2
	}
	opt := m.IsEdns0()
	opt.Option = append(opt.Option, &dns.EDNS0_SUBNET{Code: dns.EDNS0SUBNET, Family: family, SourceNetmask: uint8(a.BitLen()), Address: a.AsSlice()})
	q, err := m.Pack()
	if err != nil {
		t.Fatal(err)
	}
	r := &dns.Msg{}
	if err := r.Unpack(Answer(nil, q, resolver, UDP, s, nil)); err != nil {
		t.Fatal(err)
	}
	return lastAddress(r), int(r.IsEdns0().Option[0].(*dns.EDNS0_SUBNET).SourceScope)
}
