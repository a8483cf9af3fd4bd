package geo

import (
	"cmp"
	"encoding/binary"
	"math"
	"runtime"
	"slices"
	"sync"
)

// maxSites is the most sites of one ranking: more than there are places that one would
// build a region in, and within Ranking's 16 bits.
const maxSites = 1024

// A Ranking is an order of sites that holds for a set of places.
type Ranking struct {
	// Order has the sites' positions, nearest first.
	Order []uint16
	// Reach[i] is the last position j >= i in Order whose site is at most the band
	// farther than Order[i]: if Order[i] is the first live one, the live ones among
	// Order[i..Reach[i]] form its group.
	Reach []uint16
}

// Rank compiles place -> ranking of the sites, at most 1024. Sites are ordered by
// great-circle distance less their bias. An override that names a site puts it first and
// alone (Reach[0] = 0), then the others by distance from it. A network with no known
// position has the sites in the given order as one group.
func (t *Table) Rank(sites []Site, bandKM float64) *Map {
	if len(sites) > maxSites {
		panic("geo: more sites than a ranking holds")
	}
	m := &Map{table: t, byPlace: make([]uint32, len(t.places.spots))}
	workers := runtime.GOMAXPROCS(0)
	parts := make([]ranked, workers)
	var wg sync.WaitGroup
	for w := range workers {
		wg.Go(func() {
			lo, hi := len(m.byPlace)*w/workers, len(m.byPlace)*(w+1)/workers
			parts[w].rank(&t.places, newRanker(sites, bandKM), lo, m.byPlace[lo:hi])
		})
	}
	wg.Wait()
	m.join(parts)
	return m
}

// join numbers the parts' rankings together, in the order of the places, so that the
// numbers do not depend on how the work was split.
func (m *Map) join(parts []ranked) {
	number := map[string]uint32{}
	at := 0
	for _, p := range parts {
		to := make([]uint32, len(p.keys))
		for i, k := range p.keys {
			n, ok := number[k]
			if !ok {
				n = uint32(len(m.Rankings))
				number[k], m.Rankings = n, append(m.Rankings, decodeRanking(k))
			}
			to[i] = n
		}
		for range p.places {
			m.byPlace[at] = to[m.byPlace[at]]
			at++
		}
	}
}

// ranked are the distinct rankings of a part of the places, encoded, in order of appearance.
type ranked struct {
	keys   []string
	places int
}

func (p *ranked) rank(all *places, r *ranker, first int, out []uint32) {
	number := map[string]uint32{}
	p.places = len(out)
	for i := range out {
		key := r.rank(all.location(uint32(first + i)))
		n, ok := number[string(key)]
		if !ok {
			n = uint32(len(p.keys))
			k := string(key)
			number[k], p.keys = n, append(p.keys, k)
		}
		out[i] = n
	}
}

// RankLocation returns the ranking for one location, and each site's distance in km,
// by position in sites (NaN if the location is unknown): what Rank did, for explaining.
func RankLocation(l Location, sites []Site, bandKM float64) (Ranking, []float64) {
	r := newRanker(sites, bandKM)
	ranking := decodeRanking(string(r.rank(l)))
	km := make([]float64, len(sites))
	for i := range km {
		km[i] = math.NaN()
		if l.Known {
			km[i] = distance(unit(l.Point), r.at[i])
		}
	}
	return ranking, km
}

// A ranker ranks locations one after the other.
type ranker struct {
	sites []Site
	at    []vector
	band  float64
	km    []float64 // distance less bias, by site
	order []uint16
	key   []byte
}

func newRanker(sites []Site, bandKM float64) *ranker {
	r := &ranker{
		sites: sites, band: bandKM, at: make([]vector, len(sites)),
		km: make([]float64, len(sites)), order: make([]uint16, len(sites)), key: make([]byte, 4*len(sites)),
	}
	for i, s := range sites {
		r.at[i] = unit(s.Point)
	}
	return r
}

// rank returns the encoded ranking for l; it holds until the next call.
func (r *ranker) rank(l Location) []byte {
	for i := range r.order {
		r.order[i] = uint16(i)
	}
	if !l.Known {
		r.encode(func(int) int { return len(r.order) - 1 })
		return r.key
	}
	from := unit(l.Point)
	named := -1
	for i, s := range r.sites {
		r.km[i] = distance(from, r.at[i]) - s.BiasKM
		if l.Region != "" && s.Name == l.Region {
			r.km[i], named = math.Inf(-1), i
		}
	}
	slices.SortFunc(r.order, func(a, b uint16) int {
		return cmp.Or(cmp.Compare(r.km[a], r.km[b]), cmp.Compare(a, b))
	})
	reach := 0
	r.encode(func(i int) int {
		reach = max(reach, i)
		if named >= 0 && i == 0 {
			return 0
		}
		for reach+1 < len(r.order) && r.km[r.order[reach+1]] <= r.km[r.order[i]]+r.band {
			reach++
		}
		return reach
	})
	return r.key
}

// encode writes the order and each position's reach.
func (r *ranker) encode(reach func(i int) int) {
	for i, site := range r.order {
		binary.LittleEndian.PutUint16(r.key[4*i:], site)
		binary.LittleEndian.PutUint16(r.key[4*i+2:], uint16(reach(i)))
	}
}

func decodeRanking(key string) Ranking {
	n := len(key) / 4
	both := make([]uint16, 2*n)
	r := Ranking{Order: both[:n:n], Reach: both[n:]}
	for i := range n {
		r.Order[i] = uint16(key[4*i]) | uint16(key[4*i+1])<<8
		r.Reach[i] = uint16(key[4*i+2]) | uint16(key[4*i+3])<<8
	}
	return r
}

// earthKM is the mean radius of the Earth (IUGG).
const earthKM = 6371.0088

// A vector is a point on the unit sphere.
type vector [3]float64

func unit(p Point) vector {
	lat, lon := p.Lat*math.Pi/180, p.Lon*math.Pi/180
	return vector{math.Cos(lat) * math.Cos(lon), math.Cos(lat) * math.Sin(lon), math.Sin(lat)}
}

// distance is the great-circle distance in km, from the chord between two points.
func distance(a, b vector) float64 {
	x, y, z := a[0]-b[0], a[1]-b[1], a[2]-b[2]
	half := math.Sqrt(x*x+y*y+z*z) / 2
	return 2 * earthKM * math.Asin(min(half, 1))
}
