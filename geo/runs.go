package geo

import (
	"math/bits"
	"slices"
	"unsafe"
)

// A key is an address as a number: all of an IPv4 address, or the first 64 bits of an
// IPv6 address, which is as narrow as networks of sites are (RFC 4291, section 2.5.4).
type key interface{ uint32 | uint64 }

// keyBits is the length of a key in bits.
func keyBits[K key]() int { return int(unsafe.Sizeof(K(0))) * 8 }

// runs is a partition of one address family into consecutive networks' worth of
// addresses: run i begins at starts[i], ends before starts[i+1], and has values[i].
// The first begins at 0; neighbours have different values; so a run is as wide as
// addresses of its value go.
type runs[K key] struct {
	starts []K
	values []uint32
	index  []uint32 // index[i] is the run that holds the address base + i<<shift
	base   K
	shift  uint
}

// newRuns has room for n runs.
func newRuns[K key](n int) *runs[K] {
	return &runs[K]{starts: make([]K, 0, n), values: make([]uint32, 0, n)}
}

// none tells if the value is 0 everywhere.
func (r *runs[K]) none() bool {
	return len(r.starts) == 0 || len(r.starts) == 1 && r.values[0] == 0
}

// put says that from start on the value is value; starts come in ascending order, the first is 0.
func (r *runs[K]) put(start K, value uint32) {
	n := len(r.starts)
	if n > 0 && r.starts[n-1] == start {
		r.values[n-1] = value // the run that began here is empty
		if n > 1 && r.values[n-2] == value {
			r.starts, r.values = r.starts[:n-1], r.values[:n-1]
		}
		return
	}
	if n > 0 && r.values[n-1] == value {
		return
	}
	r.starts, r.values = append(r.starts, start), append(r.values, value)
}

// add gives the addresses from first to last a value; what lies between the calls'
// ranges, which come in ascending order, gets the value 0.
func (r *runs[K]) add(first, last K, value uint32) {
	if len(r.starts) == 0 {
		r.put(0, 0)
	}
	r.put(first, value)
	if last+1 != 0 {
		r.put(last+1, 0)
	}
}

// over lays r over under: where r has the value 0, under's value shows.
func (r *runs[K]) over(under *runs[K]) *runs[K] {
	switch {
	case r.none():
		return under
	case under.none():
		return r
	}
	return combine(r, under, func(a, b uint32) uint32 {
		if a == 0 {
			return b
		}
		return a
	})
}

// combine makes runs of what value makes of the values of both.
func combine[K key](a, b *runs[K], value func(a, b uint32) uint32) *runs[K] {
	out := newRuns[K](len(a.starts) + len(b.starts))
	for i, j := 0, 0; ; {
		out.put(max(a.starts[i], b.starts[j]), value(a.values[i], b.values[j]))
		nextI, nextJ := i+1 < len(a.starts), j+1 < len(b.starts)
		switch {
		case !nextI && !nextJ:
			return out
		case !nextJ || nextI && a.starts[i+1] < b.starts[j+1]:
			i++
		case !nextI || b.starts[j+1] < a.starts[i+1]:
			j++
		default:
			i, j = i+1, j+1
		}
	}
}

// mapped is r with each value v replaced by to[v], neighbours that became equal merged.
func (r *runs[K]) mapped(to []uint32) *runs[K] {
	last := ^uint32(0)
	n := 0
	for i, v := range r.values { // count first: the result is kept, so it has no room to spare
		if c := to[v]; i == 0 || c != last {
			n, last = n+1, c
		}
	}
	out := newRuns[K](n)
	for i, v := range r.values {
		if c := to[v]; i == 0 || c != last {
			out.starts, out.values = append(out.starts, r.starts[i]), append(out.values, c)
			last = c
		}
	}
	return out
}

// Where indices lie: all of IPv4, and the global unicast addresses of IPv6, 2000::/3
// (RFC 4291, section 2.4). An address elsewhere is found by search alone.
const (
	indexBase6  = 0x2000 << 48
	indexSpan6  = 61 // bits
	indexSpan4  = 32
	indexBits4  = 18 // at most: 1 MiB
	indexBits6  = 20 // at most: 4 MiB
	spareShare  = 16 // one of so many may be room to spare
	runsPerCell = 4  // fewer cells than this makes of the runs gain nothing
)

// finish makes the index. Small partitions have small indices: a director holds one for each distinct choice.
func (r *runs[K]) finish() *runs[K] {
	if len(r.starts) == 0 {
		r.put(0, 0)
	}
	if cap(r.starts) > len(r.starts)+len(r.starts)/spareShare { // it is kept for long
		r.starts, r.values = slices.Clone(r.starts), slices.Clone(r.values)
	}
	base, span, most := K(0), indexSpan4, indexBits4
	if keyBits[K]() == 64 {
		b := uint64(indexBase6)
		base, span, most = K(b), indexSpan6, indexBits6
	}
	n := min(most, bits.Len(uint(len(r.starts)/runsPerCell)))
	r.base, r.shift = base, uint(span-n)
	r.index = make([]uint32, 1<<n+1)
	at := 0
	for i := range r.index {
		cell := base + K(i)<<r.shift
		if i == len(r.index)-1 { // beyond the span, maybe beyond the address space: its last address
			cell--
		}
		for at+1 < len(r.starts) && r.starts[at+1] <= cell {
			at++
		}
		r.index[i] = uint32(at)
	}
	return r
}

// lookup returns the value at a and the length of the widest prefix around a with this value. It is the inner
// loop of every query, so it is one piece.
func (r *runs[K]) lookup(a K) (value uint32, length int) {
	starts := r.starts
	lo, hi := uint32(0), uint32(len(starts)-1)
	if i := uint64(a-r.base) >> (r.shift & 63); i < uint64(len(r.index)-1) {
		lo, hi = r.index[i], r.index[i+1]
	}
	for lo < hi { // the run that holds a is in lo..hi
		mid := (lo + hi + 1) >> 1
		if starts[mid] <= a {
			lo = mid
		} else {
			hi = mid - 1
		}
	}
	// The addresses just before and just after the run are outside: the prefix is one bit longer than what a has in
	// common with the nearer one, in bits.
	differ := ^K(0)
	if lo > 0 {
		differ = a ^ (starts[lo] - 1)
	}
	if int(lo)+1 < len(starts) {
		differ = min(differ, a^starts[lo+1])
	} else if lo == 0 {
		return r.values[0], 0
	}
	return r.values[lo], keyBits[K]() - bits.Len64(uint64(differ)) + 1
}

// size is the memory that r takes, in bytes.
func (r *runs[K]) size() int {
	return len(r.starts)*keyBits[K]()/8 + 4*len(r.values) + 4*len(r.index)
}
