// Package build makes the embedded database from a vendor's, and says how much it lost.
package build

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"encoding/csv"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"math/rand/v2"
	"net/netip"
	"os"
	"path/filepath"
	"time"

	"github.com/nearcast/nearcast/geo"
	"github.com/nearcast/nearcast/geo/compact"
)

const (
	// MaxSize is the most octets of an embedded database: it is in every clone and every binary.
	MaxSize = 4 << 20

	samples       = 1_000_000 // addresses that the two databases are compared at
	goldenEach    = 33        // golden addresses of each continent where people live
	goldenTries   = 1_000_000 // random addresses to find these among
	oneOfSix      = 3         // of so many random addresses one is IPv6
	outEmbedded   = "embedded.gz"
	outManifest   = "manifest.json"
	outGolden     = "golden.csv"
	seed1, seed2  = 20260605, 7
	attributionBy = "DB-IP (https://db-ip.com) and GeoNames (https://www.geonames.org), CC BY 4.0"
	sourceName    = "DB-IP City Lite by province"
)

// Sites are well-known places of data centres, to compare databases by what matters: the nearest.
var Sites = []geo.Site{
	{Name: "virginia", Point: geo.Point{Lat: 38.95, Lon: -77.45}}, {Name: "oregon", Point: geo.Point{Lat: 45.60, Lon: -121.18}},
	{Name: "sao-paulo", Point: geo.Point{Lat: -23.55, Lon: -46.63}}, {Name: "dublin", Point: geo.Point{Lat: 53.35, Lon: -6.26}},
	{Name: "frankfurt", Point: geo.Point{Lat: 50.11, Lon: 8.68}}, {Name: "cape-town", Point: geo.Point{Lat: -33.92, Lon: 18.42}},
	{Name: "dubai", Point: geo.Point{Lat: 25.20, Lon: 55.27}}, {Name: "mumbai", Point: geo.Point{Lat: 19.08, Lon: 72.88}},
	{Name: "singapore", Point: geo.Point{Lat: 1.35, Lon: 103.82}}, {Name: "tokyo", Point: geo.Point{Lat: 35.68, Lon: 139.69}},
	{Name: "sydney", Point: geo.Point{Lat: -33.87, Lon: 151.21}},
}

// A Manifest says what an embedded database was made from and what is in it.
type Manifest struct {
	Attribution string       `json:"attribution"`
	Sources     []SourceFile `json:"sources"`
	SHA256      string       `json:"sha256"` // of embedded.gz
	Size        int          `json:"size"`   // of embedded.gz, in octets
	Built       time.Time    `json:"built"`  // of the first source
	Labels      int          `json:"labels"`
	Runs4       int          `json:"ipv4_runs"`
	Runs6       int          `json:"ipv6_runs"`
	IPv4        Comparison   `json:"ipv4_against_source"`
	IPv6        Comparison   `json:"ipv6_against_source"`
}

// A SourceFile is one file that went in.
type SourceFile struct {
	File     string    `json:"file"`
	Type     string    `json:"type"`
	Built    time.Time `json:"built"`
	Networks int       `json:"networks"`
	SHA256   string    `json:"sha256"`
}

// A Comparison says how often the nearest of Sites is the one that the whole source says is nearest, and
// how much farther the clients go on average.
type Comparison struct {
	Samples     int     `json:"samples"`
	SameNearest float64 `json:"same_nearest"` // share, 0 to 1
	SameCountry float64 `json:"same_country"`
	ExtraKM     float64 `json:"extra_km"`
}

// Build makes embedded.gz and manifest.json in the folder out, and golden.csv in the folder golden, from .mmdb files.
func Build(files []string, out, golden string, report io.Writer) error {
	var problems []error
	whole := geo.Load(geo.Config{Database: files}, "", nil, nil, func(key string, value any, accepted string) {
		problems = append(problems, fmt.Errorf("%v; accepted: %s", value, accepted))
	})
	if whole == nil {
		return errors.Join(problems...)
	}
	d := whole.Compact()
	d.Source = sourceName
	var b bytes.Buffer
	if err := compact.Encode(&b, d); err != nil {
		return err
	}
	if b.Len() > MaxSize {
		return fmt.Errorf("%d octets, more than the %d that an embedded database may have", b.Len(), MaxSize)
	}
	small := geo.FromCompact(d)
	m := Manifest{
		Attribution: attributionBy, SHA256: sum(b.Bytes()), Size: b.Len(), Built: d.Built, Labels: len(d.Labels), Runs4: len(d.V4), Runs6: len(d.V6),
		IPv4: compare(whole, small, func(r *rand.Rand) netip.Addr { return random4(r) }),
		IPv6: compare(whole, small, func(r *rand.Rand) netip.Addr { return random6(r, d) }),
	}
	for i, s := range whole.Sources() {
		f, err := os.ReadFile(files[i])
		if err != nil {
			return err
		}
		m.Sources = append(m.Sources, SourceFile{filepath.Base(s.Name), s.Type, s.Built, s.Networks, sum(f)})
	}
	fmt.Fprintf(report, "%d octets, %d labels, %d IPv4 and %d IPv6 runs\n", m.Size, m.Labels, m.Runs4, m.Runs6)
	m.IPv4.print(report, "IPv4 addresses")
	m.IPv6.print(report, "IPv6 networks")
	text, err := json.MarshalIndent(m, "", "  ")
	if err != nil {
		return err
	}
	return errors.Join(
		os.WriteFile(filepath.Join(out, outEmbedded), b.Bytes(), 0o644),
		os.WriteFile(filepath.Join(out, outManifest), append(text, '\n'), 0o644),
		writeGolden(filepath.Join(golden, outGolden), whole, d),
	)
}

func sum(b []byte) string {
	s := sha256.Sum256(b)
	return hex.EncodeToString(s[:])
}

func (c Comparison) print(w io.Writer, what string) {
	fmt.Fprintf(w, "%d random %s against the source: %.1f %% have the same nearest of %d sites, %.1f %% the same country; %.0f km farther on average\n",
		c.Samples, what, 100*c.SameNearest, len(Sites), 100*c.SameCountry, c.ExtraKM)
}

// compare asks both for addresses that the whole source knows.
func compare(whole, small *geo.Table, next func(*rand.Rand) netip.Addr) Comparison {
	r := rand.New(rand.NewPCG(seed1, seed2))
	c := Comparison{}
	same, country, extra := 0, 0, 0.0
	for range samples {
		a := next(r)
		want, _ := whole.Locate(a)
		if !want.Known {
			continue
		}
		got, _ := small.Locate(a)
		c.Samples++
		best, km := nearest(want)
		chosen, _ := nearest(got)
		if chosen == best {
			same++
		}
		if got.Country == want.Country {
			country++
		}
		extra += km[chosen] - km[best]
	}
	n := float64(max(c.Samples, 1))
	c.SameNearest, c.SameCountry, c.ExtraKM = round(float64(same)/n), round(float64(country)/n), round(extra/n)
	return c
}

func round(f float64) float64 { return math.Round(f*1e4) / 1e4 }

func nearest(l geo.Location) (site int, km []float64) {
	r, km := geo.RankLocation(l, Sites, 0)
	return int(r.Order[0]), km
}

func random4(r *rand.Rand) netip.Addr {
	var b [4]byte
	binary.BigEndian.PutUint32(b[:], r.Uint32())
	return netip.AddrFrom4(b)
}

// random6 is an address of a random run: of all IPv6 addresses, hardly any is in use.
func random6(r *rand.Rand, d *compact.Data) netip.Addr {
	if len(d.V6) == 0 {
		return netip.IPv6Unspecified()
	}
	run := d.V6[r.IntN(len(d.V6))]
	var b [16]byte
	binary.BigEndian.PutUint64(b[:], (run.Start+r.Uint64N(run.Count))<<16|r.Uint64N(1<<16))
	return netip.AddrFrom16(b)
}

// writeGolden writes addresses of all continents with what the whole source says of them.
func writeGolden(path string, whole *geo.Table, d *compact.Data) error {
	var b bytes.Buffer
	w := csv.NewWriter(&b)
	r := rand.New(rand.NewPCG(seed2, seed1))
	have := map[string]int{}
	for range goldenTries {
		a := random4(r)
		if r.IntN(oneOfSix) == 0 {
			a = random6(r, d)
		}
		l, _ := whole.Locate(a)
		if !l.Known || l.Continent == "" || l.Continent == "AN" || have[l.Continent] == goldenEach {
			continue
		}
		have[l.Continent]++
		if err := w.Write([]string{a.String(), l.Continent, l.Country, l.Subdivision, fmt.Sprintf("%.2f", l.Lat), fmt.Sprintf("%.2f", l.Lon)}); err != nil {
			return err
		}
	}
	w.Flush()
	return errors.Join(w.Error(), os.WriteFile(path, b.Bytes(), 0o644))
}
