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
