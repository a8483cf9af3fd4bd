package geo

import (
	"net/netip"
	"testing"
)

func TestNewClient(t *testing.T) {
	for _, c := range []struct {
		asker  string
		client string
		wrap   int
	}{
		{"192.0.2.77/32", "192.0.2.77/32", 0},
		{"192.0.2.77/24", "192.0.2.0/24", 0},
		{"192.0.2.77/0", "0.0.0.0/0", 0},
		{"2a00::1/56", "2a00::/56", 0},
		{"::ffff:192.0.2.77/128", "192.0.2.77/32", 96},
		{"::ffff:192.0.2.77/120", "192.0.2.0/24", 96},
		{"::ffff:192.0.2.77/96", "::ffff:0.0.0.0/96", 0},
		{"64:ff9b::192.0.2.77/128", "192.0.2.77/32", 96},
		{"64:ff9b::192.0.2.77/64", "64:ff9b::/64", 0},
		{"64:ff9b:1::192.0.2.77/128", "64:ff9b:1::192.0.2.77/128", 0},
		{"2002:c000:024d::1/48", "192.0.2.77/32", 16},
		{"2002:c000:024d::1/128", "192.0.2.77/32", 16},
		{"2002:c000:024d::1/40", "192.0.2.0/24", 16},
		{"2001:0:4136:e378:8000:63bf:3fff:fdb2/128", "192.0.2.77/32", 96}, // RFC 4380, section 4
		{"2001:0:4136:e378:8000:63bf:3fff:fdb2/64", "2001:0:4136:e378::/64", 0},
	} {
		in := netip.MustParsePrefix(c.asker)
		want := netip.MustParsePrefix(c.client)
		if got := NewClient(in.Addr(), in.Bits()); got.Addr != want.Addr() || got.Bits != want.Bits() || got.Wrap != c.wrap {
			t.Errorf("%s: %s/%d and %d, want %s and %d", c.asker, got.Addr, got.Bits, got.Wrap, c.client, c.wrap)
		}
	}
}

func TestSpecial(t *testing.T) {
	for addr, want := range map[string]int{
		"10.1.2.3": 8, "172.31.0.1": 12, "192.168.1.1": 16, "127.0.0.1": 8, "100.64.0.1": 10, "169.254.1.1": 16, "0.0.0.1": 8,
		"::1": 127, "fd00::1": 7, "fe80::1": 10,
		"8.8.8.8": -1, "172.32.0.1": -1, "203.0.113.1": -1, "2001:db8::1": -1, "2a00::1": -1, "100.128.0.1": -1,
	} {
		bits, ok := Special(netip.MustParseAddr(addr))
		if ok != (want >= 0) || ok && bits != want {
			t.Errorf("%s: %d, %v; want %d", addr, bits, ok, want)
		}
	}
}

// A prefix with one class never reaches over networks that are answered otherwise, unless all is answered alike.
func TestFences(t *testing.T) {
	table := &Table{places: newGazetteer().places, net4: (&runs[uint32]{}).finish(), net6: (&runs[uint64]{}).finish()}
	one := &Map{table: table, byPlace: []uint32{0}}
	p := one.Merge([]uint32{5})
	for _, a := range []string{"8.8.8.8", "2a00::1", "10.1.1.1", "2002::1"} {
		if class, bits := p.Lookup(netip.MustParseAddr(a)); class != 5 || bits != 0 {
			t.Errorf("one class for all: %s has class %d, /%d", a, class, bits)
		}
	}
	g := newGazetteer()
	g.number(Location{Country: "FR"})
	table = &Table{places: g.places, net4: (&runs[uint32]{}).finish(), net6: (&runs[uint64]{}).finish()}
	table.net6 = &runs[uint64]{}
	table.net6.put(0, 1)
	table.net6.finish()
	p = (&Map{table: table, byPlace: []uint32{0, 1}}).Merge([]uint32{5, 6})
	for _, c := range []struct {
		addr  string
		class uint32
		bits  int
	}{
		{"8.8.8.8", 5, 7}, {"10.1.1.1", 5, 8}, {"11.0.0.1", 5, 8}, {"200.1.1.1", 5, 5}, {"192.168.1.1", 5, 16}, {"192.169.0.1", 5, 16}, {"172.32.0.1", 5, 11},
		{"2a00::1", 6, 5}, {"2002:808::1", 6, 16}, {"2003::1", 6, 16}, {"2001::1", 6, 32}, {"2001:1::1", 6, 32}, {"64:ff9b::1", 6, 64}, {"fe80::1", 6, 10},
		{"fec0::1", 6, 10}, {"8000::1", 6, 2},
	} {
		if class, bits := p.Lookup(netip.MustParseAddr(c.addr)); class != c.class || bits != c.bits {
			t.Errorf("%s has class %d, /%d; want %d, /%d", c.addr, class, bits, c.class, c.bits)
		}
	}
}
