package geo

import (
	"bufio"
	"fmt"
	"io"
	"maps"
	"math"
	"slices"
	"strconv"
	"strings"
)

// The columns of GeoNames' tables of places that are used here.
const (
	cityLat, cityLon = 4, 5
	cityCountry      = 8
	cityPopulation   = 14
	cityColumns      = 19
	maxCityLine      = 1 << 20 // octets: names in all languages are in it
)

// WriteCentres reads GeoNames' table of places (tab-separated, cities500.txt) and writes each country's
// population-weighted centre as "country,latitude,longitude" lines, in 0.01 degrees, by country.
func WriteCentres(w io.Writer, cities io.Reader) error {
	sums := map[string]*mean{}
	lines := bufio.NewScanner(cities)
	lines.Buffer(nil, maxCityLine)
	for n := 1; lines.Scan(); n++ {
		f := strings.Split(lines.Text(), "\t")
		if len(f) != cityColumns {
			return fmt.Errorf("line %d: %d columns; accepted: the %d of GeoNames", n, len(f), cityColumns)
		}
		lat, errLat := strconv.ParseFloat(f[cityLat], 64)
		lon, errLon := strconv.ParseFloat(f[cityLon], 64)
		people, errPeople := strconv.ParseFloat(f[cityPopulation], 64)
		if errLat != nil || errLon != nil || errPeople != nil || !valid(Point{lat, lon}) {
			return fmt.Errorf("line %d: latitude %q, longitude %q, population %q", n, f[cityLat], f[cityLon], f[cityPopulation])
		}
		m := sums[f[cityCountry]]
		if m == nil {
			m = &mean{}
			sums[f[cityCountry]] = m
		}
		m.add(Point{lat, lon}, max(people, 1)) // a place with no count has people, too
	}
	if err := lines.Err(); err != nil {
		return err
	}
	for _, country := range slices.Sorted(maps.Keys(sums)) {
		p := sums[country].point()
		if _, err := fmt.Fprintf(w, "%s,%.2f,%.2f\n", country, p.Lat, p.Lon); err != nil {
			return err
		}
	}
	return nil
}

// A mean is the weighted mean of points on the sphere: the direction of the sum of their vectors, so that it is
// right across the date line.
type mean struct {
	sum    vector
	weight float64
}

func (m *mean) add(p Point, weight float64) {
	u := unit(p)
	for i := range m.sum {
		m.sum[i] += u[i] * weight
	}
	m.weight += weight
}

func (m *mean) point() Point {
	x, y, z := m.sum[0], m.sum[1], m.sum[2]
	return Point{math.Atan2(z, math.Hypot(x, y)) * 180 / math.Pi, math.Atan2(y, x) * 180 / math.Pi}
}
