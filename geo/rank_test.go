package geo

import (
	"fmt"
	"math"
	"math/rand/v2"
	"net/netip"
	"slices"
	"testing"
)

// syntheticTable is a table of about n networks, IPv4 and IPv6, as a city database has them: neighbours are
// mostly of one country, and a country has many places.
func syntheticTable(n int) *Table {
	rng := rand.New(rand.NewPCG(7, 7))
	g := newGazetteer()
	countries := make([][]uint32, 240)
	for i := range countries {
		centre := Point{rng.Float64()*110 - 50, rng.Float64()*340 - 170}
		for range 1 + rng.IntN(800) {
			p := Point{centre.Lat + rng.NormFloat64()*2, centre.Lon + rng.NormFloat64()*3}
			countries[i] = append(countries[i], g.number(Location{Point: p, Known: true, Country: fmt.Sprintf("%02d", i%100)}))
		}
	}
	n4 := n * 64 / 100 // as in DB-IP's City Lite
	t := &Table{places: g.places, net4: &runs[uint32]{}, net6: &runs[uint64]{}}
	country := 0
	place := func() uint32 {
		if rng.IntN(40) == 0 {
			country = rng.IntN(len(countries))
		}
		return countries[country][rng.IntN(len(countries[country]))]
	}
	t.net4.starts, t.net4.values = make([]uint32, 0, n4), make([]uint32, 0, n4)
	t.net6.starts, t.net6.values = make([]uint64, 0, n-n4), make([]uint32, 0, n-n4)
	step4, step6 := (1<<32)/uint64(n4), uint64(1)<<61/uint64(n-n4)
	t.net4.put(0, 0)
	for i := range uint64(n4) {
		t.net4.put(uint32(i*step4+rng.Uint64N(step4)), place())
	}
	t.net6.put(0, 0)
	for i := range uint64(n - n4) {
		t.net6.put(indexBase6+i*step6+rng.Uint64N(step6), place())
	}
	t.net4.finish()
	t.net6.finish()
	return t
}

func someSites(rng *rand.Rand, n int) []Site {
	sites := make([]Site, n)
	for i := range sites {
		sites[i] = Site{Name: fmt.Sprint("site-", i), Point: Point{rng.Float64()*130 - 60, rng.Float64()*360 - 180}}
	}
	return sites
}

// haversine is the oracle of distance (Sinnott, 1984), in km.
func haversine(a, b Point) float64 {
	const rad = math.Pi / 180
	dLat, dLon := (b.Lat-a.Lat)*rad, (b.Lon-a.Lon)*rad
	h := math.Pow(math.Sin(dLat/2), 2) + math.Cos(a.Lat*rad)*math.Cos(b.Lat*rad)*math.Pow(math.Sin(dLon/2), 2)
	return 2 * earthKM * math.Asin(math.Sqrt(min(h, 1)))
}

// For 10,000 sampled clients and sets of 3 to 40 sites of which some are down, the class
// of the client is the nearest live site by great circle, by brute force.
func TestNearestLiveSite(t *testing.T) {
	rng := rand.New(rand.NewPCG(3, 40))
	table := syntheticTable(20_000)
	const clients = 10_000
	for n := 3; n <= 40; n++ {
		sites := someSites(rng, n)
		live := make([]bool, n)
		for i := range live {
			live[i] = rng.IntN(4) > 0
		}
		live[rng.IntN(n)] = true
		m := table.Rank(sites, 0)
		class := make([]uint32, len(m.Rankings))
		for i, r := range m.Rankings {
			class[i] = uint32(r.Order[slices.IndexFunc(r.Order, func(s uint16) bool { return live[s] })])
		}
		p := m.Merge(class)
		for range clients {
			client := randomAddr(rng)
			l, _ := table.Locate(client)
			if !l.Known {
				continue
			}
			got, _ := p.Lookup(client)
			best := math.Inf(1)
			for i, s := range sites {
				if live[i] {
					best = min(best, haversine(l.Point, s.Point))
				}
			}
			if d := haversine(l.Point, sites[got].Point); !live[got] || d > best+1e-6 {
				t.Fatalf("%d sites: %s at %v goes to %s, %.6f km (live %v), the nearest is at %.6f km", n, client, l.Point, sites[got].Name, d, live[got], best)
			}
		}
	}
}

func randomAddr(rng *rand.Rand) netip.Addr {
	if rng.IntN(3) > 0 {
		v := rng.Uint32()
		return netip.AddrFrom4([4]byte{byte(v >> 24), byte(v >> 16), byte(v >> 8), byte(v)})
	}
	var b [16]byte
	for i := range b {
		b[i] = byte(rng.Uint32())
	}
	b[0] = 0x20 | b[0]&0x1f
	return netip.AddrFrom16(b)
}

func TestRankLocation(t *testing.T) {
	sites := []Site{
		{Name: "dublin", Point: Point{53.35, -6.26}}, {Name: "london", Point: Point{51.5, -0.12}},
		{Name: "paris", Point: Point{48.86, 2.35}}, {Name: "virginia", Point: Point{38.95, -77.45}},
	}
	biased := slices.Clone(sites)
	biased[3].BiasKM = 6000
	for name, c := range map[string]struct {
		l            Location
		sites        []Site
		band         float64
		order, reach []uint16
	}{
		"by distance":                    {Location{Point: Point{51, 0}, Known: true}, sites, 0, []uint16{1, 2, 0, 3}, []uint16{0, 1, 2, 3}},
		"a band of 300 km":               {Location{Point: Point{51, 0}, Known: true}, sites, 300, []uint16{1, 2, 0, 3}, []uint16{1, 2, 2, 3}},
		"a bias brings one near":         {Location{Point: Point{51, 0}, Known: true}, biased, 0, []uint16{3, 1, 2, 0}, []uint16{0, 1, 2, 3}},
		"named by an override":           {Location{Point: sites[3].Point, Known: true, Region: "virginia"}, sites, 20000, []uint16{3, 0, 1, 2}, []uint16{0, 3, 3, 3}},
		"named, but not a site of these": {Location{Point: Point{51, 0}, Known: true, Region: "elsewhere"}, sites, 0, []uint16{1, 2, 0, 3}, []uint16{0, 1, 2, 3}},
		"unknown place":                  {Location{}, sites, 250, []uint16{0, 1, 2, 3}, []uint16{3, 3, 3, 3}},
	} {
		r, km := RankLocation(c.l, c.sites, c.band)
		if !slices.Equal(r.Order, c.order) || !slices.Equal(r.Reach, c.reach) {
			t.Errorf("%s: order %v reach %v, want %v and %v", name, r.Order, r.Reach, c.order, c.reach)
		}
		for i, s := range c.sites {
			if c.l.Known && math.Abs(km[i]-haversine(c.l.Point, s.Point)) > 1e-6 || !c.l.Known && !math.IsNaN(km[i]) {
				t.Errorf("%s: %s at %v km", name, s.Name, km[i])
			}
		}
	}
}

// The numbers of rankings do not depend on how the work was split.
func TestRankIsDeterministic(t *testing.T) {
	table := syntheticTable(3000)
	sites := someSites(rand.New(rand.NewPCG(1, 2)), 9)
	m := table.Rank(sites, 250)
	for range 3 {
		again := table.Rank(sites, 250)
		if !slices.Equal(again.byPlace, m.byPlace) || len(again.Rankings) != len(m.Rankings) {
			t.Fatal("the same table and sites were ranked unlike")
		}
	}
	for place, n := range m.byPlace {
		want, _ := RankLocation(table.places.location(uint32(place)), sites, 250)
		if got := m.Rankings[n]; !slices.Equal(got.Order, want.Order) || !slices.Equal(got.Reach, want.Reach) {
			t.Fatalf("place %d: %v, want %v", place, got, want)
		}
	}
}
