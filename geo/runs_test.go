package geo

import (
	"math/rand/v2"
	"net/netip"
	"slices"
	"testing"

	"pgregory.net/rapid"
)

// someRuns draws a partition whose bounds cluster, so that neighbours and short runs occur.
func someRuns[K key](t *rapid.T, values uint32) *runs[K] {
	bound := rapid.Custom(func(t *rapid.T) K {
		top := K(rapid.SampledFrom([]uint64{0, 0x20, 0x2001, 0x3fff, 0x7f, 0xff, 0xffff}).Draw(t, "top"))
		return top<<(keyBits[K]()-16) + K(rapid.Uint64Range(0, 300).Draw(t, "low"))
	})
	r := &runs[K]{}
	r.put(0, rapid.Uint32Range(0, values-1).Draw(t, "first"))
	starts := rapid.SliceOfN(bound, 0, 60).Draw(t, "starts")
	slices.Sort(starts)
	for _, s := range starts {
		r.put(s, rapid.Uint32Range(0, values-1).Draw(t, "value"))
	}
	return r
}

// at is the oracle of lookup: the value by going through all runs.
func (r *runs[K]) at(a K) uint32 {
	v := r.values[0]
	for i, s := range r.starts {
		if s <= a {
			v = r.values[i]
		}
	}
	return v
}

// probes are the addresses around every bound of the partitions.
func probes[K key](rs ...*runs[K]) []K {
	all := []K{0, ^K(0)}
	for _, r := range rs {
		for _, s := range r.starts {
			all = append(all, s-1, s, s+1)
		}
	}
	return all
}

func testRuns[K key](t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		r := someRuns[K](t, 3)
		for i := range r.starts[1:] {
			if r.starts[i] >= r.starts[i+1] || r.values[i] == r.values[i+1] {
				t.Fatalf("runs %d and %d are not ascending and different: %v", i, i+1, r)
			}
		}
		under := someRuns[K](t, 3)
		over := r.over(under)
		to := []uint32{5, 6, 5}
		mapped := r.mapped(to)
		for _, p := range []*runs[K]{r, over, mapped} {
			p.finish()
		}
		for _, a := range probes(r, under) {
			want := r.at(a)
			if want == 0 {
				want = under.at(a)
			}
			if got, _ := over.lookup(a); got != want {
				t.Fatalf("over at %x: %d, want %d", a, got, want)
			}
			if got, _ := mapped.lookup(a); got != to[r.at(a)] {
				t.Fatalf("mapped at %x: %d, want %d", a, got, to[r.at(a)])
			}
			checkWidest(t, r, a)
		}
	})
}

// checkWidest holds that the prefix has one value in it, and that the prefix one bit shorter has not.
func checkWidest[K key](t *rapid.T, r *runs[K], a K) {
	v, bits := r.lookup(a)
	if v != r.at(a) {
		t.Fatalf("at %x: %d, want %d", a, v, r.at(a))
	}
	uniform := func(bits int) bool {
		host := ^K(0)
		if bits > 0 {
			host = K(1)<<(keyBits[K]()-bits) - 1
		}
		first, last := a&^host, a|host
		for _, p := range append(probes(r), first, last) {
			if p >= first && p <= last && r.at(p) != v {
				return false
			}
		}
		return true
	}
	if !uniform(bits) || bits > 0 && uniform(bits-1) {
		t.Fatalf("at %x: prefix of %d bits is not the widest of one value: %v", a, bits, r)
	}
}

func TestRuns4(t *testing.T) { testRuns[uint32](t) }
func TestRuns6(t *testing.T) { testRuns[uint64](t) }

func TestIndexOfManyRuns(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 1))
	r4, r6 := &runs[uint32]{}, &runs[uint64]{}
	for i := range uint32(1 << 18) {
		r4.put(i<<14|rng.Uint32N(1<<14), i)
		r6.put(uint64(i)<<46|rng.Uint64N(1<<46), i)
	}
	r4.finish()
	r6.finish()
	if cells := len(r4.index) - 1; cells < len(r4.starts)/runsPerCell || cells > 1<<indexBits4 || r6.size() < len(r6.starts)*12 {
		t.Fatalf("index of %d cells", len(r4.index))
	}
	for range 100_000 {
		a4, a6 := rng.Uint32(), rng.Uint64()
		i, _ := slices.BinarySearch(r4.starts, a4+1)
		j, _ := slices.BinarySearch(r6.starts, a6+1)
		if got, _ := r4.lookup(a4); a4 != ^uint32(0) && got != r4.values[max(i-1, 0)] {
			t.Fatalf("at %x: %d, want %d", a4, got, i-1)
		}
		if got, _ := r6.lookup(a6); got != r6.values[max(j-1, 0)] {
			t.Fatalf("at %x: %d, want %d", a6, got, j-1)
		}
	}
}

func TestLookupDoesNotAllocate(t *testing.T) {
	table := syntheticTable(5000)
	m := table.Rank(someSites(rand.New(rand.NewPCG(1, 1)), 8), 250)
	p := m.Merge(make([]uint32, len(m.Rankings)))
	a4, a6 := netip.MustParseAddr("9.9.9.9"), netip.MustParseAddr("2620:fe::9")
	if n := testing.AllocsPerRun(1000, func() {
		p.Lookup(a4)
		p.Lookup(a6)
		table.Locate(a4)
		NewClient(a6, 56)
	}); n != 0 {
		t.Errorf("%v allocations", n)
	}
}
