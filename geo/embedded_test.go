package geo

import (
	"bytes"
	"crypto/sha256"
	"encoding/csv"
	"encoding/hex"
	"encoding/json"
	"math"
	"net/netip"
	"os"
	"strconv"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/nearcast/nearcast/geo/compact"
)

// The manifest is true of the file beside it.
func TestManifest(t *testing.T) {
	text, err := os.ReadFile("data/manifest.json")
	if err != nil {
		t.Fatal(err)
	}
	var m struct {
		SHA256 string
		Size   int
		Built  time.Time
		Labels int
		Runs4  int `json:"ipv4_runs"`
		Runs6  int `json:"ipv6_runs"`
	}
	if err := json.Unmarshal(text, &m); err != nil {
		t.Fatal(err)
	}
	sum := sha256.Sum256(embeddedData)
	d, err := compact.Decode(bytes.NewReader(embeddedData))
	if err != nil {
		t.Fatal(err)
	}
	if m.SHA256 != hex.EncodeToString(sum[:]) || m.Size != len(embeddedData) || !m.Built.Equal(d.Built) ||
		m.Labels != len(d.Labels) || m.Runs4 != len(d.V4) || m.Runs6 != len(d.V6) {
		t.Errorf("the manifest says %+v; the file has %d octets, sha256 %x, %v, %d labels, %d and %d runs",
			m, len(embeddedData), sum, d.Built, len(d.Labels), len(d.V4), len(d.V6))
	}
	if len(embeddedData) > 4<<20 {
		t.Errorf("%d octets, more than 4 MiB", len(embeddedData))
	}
}

// Addresses of all continents are where the database that the embedded one was made from has them: in the same
// country, and nearest to the same of eleven sites, but for a few where a /24 or a province is divided.
func TestGolden(t *testing.T) {
	f, err := os.Open("testdata/golden.csv")
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	rows, err := csv.NewReader(f).ReadAll()
	if err != nil {
		t.Fatal(err)
	}
	if len(rows) < 190 {
		t.Fatalf("%d golden addresses", len(rows))
	}
	table := mustLoad(t, Config{}, "")
	sites := []Site{
		{Name: "virginia", Point: Point{38.95, -77.45}}, {Name: "oregon", Point: Point{45.60, -121.18}}, {Name: "sao-paulo", Point: Point{-23.55, -46.63}},
		{Name: "dublin", Point: Point{53.35, -6.26}}, {Name: "frankfurt", Point: Point{50.11, 8.68}}, {Name: "cape-town", Point: Point{-33.92, 18.42}},
		{Name: "dubai", Point: Point{25.20, 55.27}}, {Name: "mumbai", Point: Point{19.08, 72.88}}, {Name: "singapore", Point: Point{1.35, 103.82}},
		{Name: "tokyo", Point: Point{35.68, 139.69}}, {Name: "sydney", Point: Point{-33.87, 151.21}},
	}
	country, subdivision, nearest := 0, 0, 0
	for _, row := range rows {
		l, _ := table.Locate(netip.MustParseAddr(row[0]))
		lat, errLat := strconv.ParseFloat(row[4], 64)
		lon, errLon := strconv.ParseFloat(row[5], 64)
		if errLat != nil || errLon != nil {
			t.Fatalf("golden address %v", row)
		}
		want := Location{Point: Point{lat, lon}, Known: true}
		got, _ := RankLocation(l, sites, 0)
		best, _ := RankLocation(want, sites, 0)
		if l.Country == row[2] && l.Continent == row[1] {
			country++
		} else {
			t.Logf("%s: %s %s, in the source %s %s", row[0], l.Continent, l.Country, row[1], row[2])
		}
		if l.Subdivision == row[3] {
			subdivision++
		}
		if got.Order[0] == best.Order[0] {
			nearest++
		} else {
			t.Logf("%s, %s %s: %s, in the source %s", row[0], l.Country, l.Subdivision, sites[got.Order[0]].Name, sites[best.Order[0]].Name)
		}
	}
	n := float64(len(rows))
	if float64(country)/n < 0.99 || float64(subdivision)/n < 0.98 || float64(nearest)/n < 0.98 {
		t.Errorf("of %d addresses %d have the source's country, %d its subdivision, %d its nearest site", len(rows), country, subdivision, nearest)
	}
}

// The embedded database loads in under 0.3 s on a quiet machine; the bound here is one that a busy one keeps.
func TestEmbeddedLoads(t *testing.T) {
	best := time.Hour
	for range 3 {
		start := time.Now()
		mustLoad(t, Config{}, "")
		best = min(best, time.Since(start))
	}
	t.Logf("loaded in %v", best)
	if best > 5*time.Second {
		t.Errorf("loaded in %v", best)
	}
}

func BenchmarkLoadEmbedded(b *testing.B) {
	for b.Loop() {
		mustLoad(b, Config{}, "")
	}
}

// Each /24 has the label of most of its addresses, by counting them all.
func TestAggregate(t *testing.T) {
	labelOf := []uint32{0, 1, 2, 3}
	rapid.Check(t, func(t *rapid.T) {
		r := someRuns[uint32](t, 4).finish()
		label := map[uint64]uint32{}
		covered := uint64(0)
		for _, run := range aggregate(r, labelOf, unit4) {
			if run.Start != covered {
				t.Fatalf("a run at %x, want %x", run.Start, covered)
			}
			covered += run.Count
			for _, unit := range []uint64{run.Start, run.Start + run.Count - 1} {
				label[unit] = run.Label
			}
			for _, a := range probes(r) {
				if u := uint64(a >> unit4); u >= run.Start && u < run.Start+run.Count {
					label[u] = run.Label
				}
			}
		}
		if covered != compact.Units4 {
			t.Fatalf("covered up to %x", covered)
		}
		for unit, got := range label {
			var votes [4]int
			for a := range uint32(1 << unit4) {
				votes[r.at(uint32(unit)<<unit4|a)]++
			}
			for l, n := range votes {
				if n > votes[got] {
					t.Fatalf("/24 number %x has label %d with %d addresses, and %d with %d", unit, got, votes[got], l, n)
				}
			}
		}
	})
}

// What is compacted and compiled again has the same places, where nothing is finer than /24, /48 and a province.
func TestCompactRoundTrip(t *testing.T) {
	dir := t.TempDir()
	writeDatabase(t, dir+"/a.mmdb", "City",
		row{"198.51.100.0/24", nested("FR", "X", 48, 2)}, row{"203.0.113.0/24", nested("DE", "Y", 50, 8)}, row{"0.0.0.0/8", nested("DE", "Y", 50, 8)},
		row{"2001:db8:5::/48", nested("DE", "Y", 50, 8)}, row{"2001:db8:8::/45", nested("NZ", "", 1, 1)}, row{"ffff::/16", nested("FR", "X", 48, 2)})
	whole := mustLoad(t, Config{Database: []string{"a.mmdb"}}, dir)
	small := FromCompact(whole.Compact())
	for _, a := range []string{"198.51.100.1", "203.0.113.255", "0.0.0.0", "9.9.9.9", "2001:db8:5::1", "2001:db8:f::1", "2001:db8:10::", "ffff:ffff::", "255.255.255.255"} {
		if got, want := place(small, a), place(whole, a); got != want {
			t.Errorf("%s: %s, want %s", a, got, want)
		}
	}
}

func TestMeanAcrossTheDateLine(t *testing.T) {
	var m mean
	m.add(Point{-18, 179}, 1)
	m.add(Point{-18, -179}, 1)
	if p := m.point(); math.Abs(math.Abs(p.Lon)-180) > 1e-9 || math.Abs(p.Lat+18) > 0.01 {
		t.Errorf("%v", p)
	}
}

func TestCountries(t *testing.T) {
	for country, want := range map[string]string{"US": "NA", "BR": "SA", "DE": "EU", "IN": "AS", "ZA": "AF", "AU": "OC", "AQ": "AN", "ZZ": ""} {
		if got := continentOf(country); got != want {
			t.Errorf("%s is in %q, want %q", country, got, want)
		}
	}
	for country := range centres() {
		if continentOf(country) == "" {
			t.Errorf("%s has a centre and no continent", country)
		}
	}
	total := 0
	for _, all := range continents {
		total += len(strings.Fields(all))
	}
	if total != len(continentByCountry()) {
		t.Errorf("%d countries in %d continents' lists: one is in two", len(continentByCountry()), total)
	}
	if p, ok := countryCentre("US"); !ok || haversine(p, Point{39, -92.5}) > 200 {
		t.Errorf("the centre of the US: %v, %v", p, ok)
	}
}

func TestWriteCentres(t *testing.T) {
	city := func(country, lat, lon, people string) string {
		f := make([]string, cityColumns)
		f[cityCountry], f[cityLat], f[cityLon], f[cityPopulation] = country, lat, lon, people
		return strings.Join(f, "\t") + "\n"
	}
	var b bytes.Buffer
	if err := WriteCentres(&b, strings.NewReader(city("BB", "0", "0", "300")+city("AA", "1", "2", "5")+city("BB", "0", "4", "100"))); err != nil || b.String() != "AA,1.00,2.00\nBB,0.00,1.00\n" {
		t.Errorf("%q, %v", b.String(), err)
	}
	for _, bad := range []string{"x\n", city("AA", "91", "0", "1"), city("AA", "1", "x", "1")} {
		if err := WriteCentres(&b, strings.NewReader(bad)); err == nil || !strings.Contains(err.Error(), "line 1") {
			t.Errorf("%q: %v", bad, err)
		}
	}
}
