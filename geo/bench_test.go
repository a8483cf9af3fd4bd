package geo

import (
	"math/rand/v2"
	"net/netip"
	"testing"
	"time"
)

// The bounds that a city-size database is held to, of 5.7 million networks.
const (
	cityNetworks  = 5_700_000
	cityTableSize = 64 << 20
)

// BenchmarkCity compiles a database of city size and looks random clients up.
func BenchmarkCity(b *testing.B) {
	table := syntheticTable(cityNetworks)
	rng := rand.New(rand.NewPCG(1, 1))
	m := table.Rank(someSites(rng, 8), 250)
	class := make([]uint32, len(m.Rankings))
	for i, r := range m.Rankings {
		class[i] = uint32(r.Order[0])
	}
	p := m.Merge(class)
	var v4, v6 [1 << 18]netip.Addr
	for i := range v4 {
		a, c := rng.Uint32(), rng.Uint64()
		v4[i] = netip.AddrFrom4([4]byte{byte(a >> 24), byte(a >> 16), byte(a >> 8), byte(a)})
		v6[i] = netip.AddrFrom16([16]byte{0x20 | byte(c>>56)&0x1f, byte(c >> 48), byte(c >> 40), byte(c >> 32), byte(c >> 24), byte(c >> 16)})
	}
	for _, c := range []struct {
		name   string
		lookup func(netip.Addr)
		addrs  []netip.Addr
	}{
		{"place and scope/IPv4", func(a netip.Addr) { lookup(table.net4, table.net6, a) }, v4[:]},
		{"place and scope/IPv6", func(a netip.Addr) { lookup(table.net4, table.net6, a) }, v6[:]},
		{"ranking's class and scope/IPv4", func(a netip.Addr) { p.Lookup(a) }, v4[:]},
		{"ranking's class and scope/IPv6", func(a netip.Addr) { p.Lookup(a) }, v6[:]},
	} {
		b.Run(c.name, func(b *testing.B) {
			b.ReportAllocs()
			i := 0
			for b.Loop() {
				c.lookup(c.addrs[i&(len(c.addrs)-1)])
				i++
			}
			b.ReportMetric(float64(table.Size()+p.Size())/(1<<20), "MiB")
		})
	}
	b.Run("build", func(b *testing.B) {
		for b.Loop() {
			rebuild(table)
		}
	})
	b.Run("rank", func(b *testing.B) {
		for b.Loop() {
			table.Rank(someSites(rng, 8), 250)
		}
	})
	b.Run("merge", func(b *testing.B) {
		for b.Loop() {
			m.Merge(class)
		}
	})
}

// rebuild makes a table anew from its networks, as a load does once it has read them.
func rebuild(t *Table) *Table {
	top := &compiled{net4: &runs[uint32]{}, net6: &runs[uint64]{}}
	for i, first := range t.net4.starts {
		last := ^uint32(0)
		if i+1 < len(t.net4.starts) {
			last = t.net4.starts[i+1] - 1
		}
		top.net4.add(first, last, t.net4.values[i])
	}
	for i, first := range t.net6.starts {
		last := ^uint64(0)
		if i+1 < len(t.net6.starts) {
			last = t.net6.starts[i+1] - 1
		}
		top.net6.add(first, last, t.net6.values[i])
	}
	return &Table{places: t.places, net4: top.net4.finish(), net6: top.net6.finish()}
}

// A city-size database fits its bounds of memory and time to build; how long a look-up takes is for the benchmark to say.
func TestCitySize(t *testing.T) {
	if testing.Short() {
		t.Skip("a database of city size takes some seconds")
	}
	table := syntheticTable(cityNetworks)
	start := time.Now()
	again := rebuild(table)
	if d := time.Since(start); d > 20*time.Second { // 2 s on a quiet machine
		t.Errorf("built in %v", d)
	}
	networks := len(again.net4.starts) + len(again.net6.starts)
	m := again.Rank(someSites(rand.New(rand.NewPCG(1, 1)), 8), 250)
	class := make([]uint32, len(m.Rankings))
	for i, r := range m.Rankings {
		class[i] = uint32(r.Order[0])
	}
	p := m.Merge(class)
	if size := again.Size() + p.Size(); size > cityTableSize {
		t.Errorf("%d bytes of tables for %d networks, more than %d", size, networks, cityTableSize)
	}
	if networks < cityNetworks*9/10 {
		t.Errorf("%d networks, too few to say so", networks)
	}
}
