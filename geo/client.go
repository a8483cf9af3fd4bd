package geo

import (
	"cmp"
	"encoding/binary"
	"net/netip"
	"slices"
	"sync"
)

// A Client is the network that asks, unwrapped: the IPv4 network inside an IPv4-mapped,
// NAT64 (64:ff9b::/96, RFC 6052), 6to4 (2002::/16, RFC 3056) or Teredo (2001::/32, RFC
// 4380) network.
type Client struct {
	Addr netip.Addr // masked to Bits
	Bits int        // length of the network in bits of Addr's family
	Wrap int        // bits that the wrapping adds: a scope of n bits is n+Wrap to the asker
}

// wraps are the networks of IPv6 that hold an IPv4 address. Of Teredo's two it is
// the client's, which is kept inverted.
var wraps = [...]wrap{
	{netip.MustParseAddr("::ffff:0:0"), 96, 96, false},
	{netip.MustParseAddr("64:ff9b::"), 96, 96, false},
	{netip.MustParseAddr("2002::"), 16, 16, false},
	{netip.MustParseAddr("2001::"), 32, 96, true},
}

type wrap struct {
	network netip.Addr
	bits    int  // length of network, whole octets
	at      int  // first bit of the IPv4 address
	flipped bool // every bit is
}

// NewClient unwraps a network of bits bits, at most the address's. Where bits do not reach into the wrapped
// address, the network stays as it is.
func NewClient(addr netip.Addr, bits int) Client {
	addr = addr.WithZone("")
	c := Client{Addr: addr, Bits: bits}
	if addr.Is6() {
		for i := range wraps {
			w := &wraps[i]
			if bits > w.at && w.contains(addr) {
				c = Client{Addr: w.inner(addr), Bits: min(bits-w.at, 32), Wrap: w.at}
				break
			}
		}
	}
	p, err := c.Addr.Prefix(c.Bits)
	if err != nil {
		panic("geo: a client network longer than its address")
	}
	c.Addr = p.Addr()
	return c
}

// contains is netip.Prefix.Contains, which takes no IPv4-mapped addresses.
func (w *wrap) contains(addr netip.Addr) bool {
	a, p := addr.As16(), w.network.As16()
	return string(a[:w.bits/8]) == string(p[:w.bits/8])
}

func (w *wrap) inner(addr netip.Addr) netip.Addr {
	b := addr.As16()
	v := binary.BigEndian.Uint32(b[w.at/8:])
	if w.flipped {
		v = ^v
	}
	var in [4]byte
	binary.BigEndian.PutUint32(in[:], v)
	return netip.AddrFrom4(in)
}

// special are the networks whose addresses are no place in the Internet (RFC 6890): private,
// shared, loopback, link-local and unspecified ones. Networks for documentation are left out: they are what
// examples and overrides are tried with.
var special = []netip.Prefix{
	netip.MustParsePrefix("0.0.0.0/8"), netip.MustParsePrefix("10.0.0.0/8"), netip.MustParsePrefix("100.64.0.0/10"),
	netip.MustParsePrefix("127.0.0.0/8"), netip.MustParsePrefix("169.254.0.0/16"), netip.MustParsePrefix("172.16.0.0/12"),
	netip.MustParsePrefix("192.168.0.0/16"),
	netip.MustParsePrefix("::/127"), netip.MustParsePrefix("fc00::/7"), netip.MustParsePrefix("fe80::/10"),
}

// fenced marks classes of networks behind a fence.
const fenced = 1 << 31

// fence keeps prefixes from reaching over networks whose clients are answered by something else than their class: by the
// IPv4 address that they wrap, or, in special networks, by the address that the query comes from.
func fence[K key](r, fences *runs[K]) *runs[K] {
	return combine(r, fences, func(class, mark uint32) uint32 { return class | mark })
}

var fences4 = sync.OnceValue(func() *runs[uint32] {
	var spans []span[uint32]
	for _, p := range special {
		if p.Addr().Is4() {
			first, last := range4(p)
			spans = append(spans, span[uint32]{first, last, fenced})
		}
	}
	return flattened(spans)
})

var fences6 = sync.OnceValue(func() *runs[uint64] {
	var spans []span[uint64]
	for _, p := range special {
		if p.Addr().Is6() {
			first, last := range6(p)
			spans = append(spans, span[uint64]{first, last, fenced})
		}
	}
	for _, w := range wraps {
		first, last := range6(netip.PrefixFrom(w.network, w.bits))
		spans = append(spans, span[uint64]{first, last, fenced})
	}
	return flattened(spans)
})

func flattened[K key](spans []span[K]) *runs[K] {
	slices.SortFunc(spans, func(a, b span[K]) int { return cmp.Or(cmp.Compare(a.first, b.first), cmp.Compare(b.last, a.last)) })
	return flatten(spans)
}

// Special reports the length of the special-purpose block that holds addr, false if it is
// a global address: a client subnet in it says nothing of a place (RFC 7871, section 11.2).
func Special(addr netip.Addr) (bits int, ok bool) {
	for _, p := range special {
		if p.Contains(addr) {
			return p.Bits(), true
		}
	}
	return 0, false
}
