package geo

import (
	"bytes"
	_ "embed"

	"github.com/nearcast/nearcast/geo/compact"
)

// embeddedData is the embedded database.
//
//go:embed data/embedded.gz
var embeddedData []byte

// DataLicense is the notice that goes with the embedded database and with what is shown from it.
const DataLicense = "Contains IP geolocation data by DB-IP (https://db-ip.com), IP to City Lite, June 2026, CC BY 4.0; " +
	"modified: aggregated to provinces, /24 and /48. Contains data from GeoNames (https://www.geonames.org), CC BY 4.0."

// compileEmbedded compiles the embedded database.
func compileEmbedded(g *gazetteer) (*compiled, error) {
	d, err := compact.Decode(bytes.NewReader(embeddedData))
	if err != nil {
		return nil, err
	}
	return compileCompact(d, g), nil
}

func compileCompact(d *compact.Data, g *gazetteer) *compiled {
	numbers := make([]uint32, len(d.Labels)+1)
	for i, l := range d.Labels {
		numbers[i+1] = g.number(Location{
			Point: Point{float64(l.Lat) / spotUnits, float64(l.Lon) / spotUnits}, Known: true,
			Country: l.Country, Continent: continentOf(l.Country), Subdivision: l.Subdivision,
		})
	}
	gaps := 1 // before the first run of IPv6
	for i := 1; i < len(d.V6); i++ {
		if d.V6[i-1].Start+d.V6[i-1].Count != d.V6[i].Start {
			gaps++
		}
	}
	c := &compiled{net4: newRuns[uint32](len(d.V4) + 1), net6: newRuns[uint64](len(d.V6) + gaps + 1)}
	networks := 0
	for _, r := range d.V4 {
		c.net4.add(uint32(r.Start<<unit4), uint32((r.Start+r.Count)<<unit4-1), numbers[r.Label])
		networks += min(int(r.Label), 1)
	}
	for _, r := range d.V6 {
		c.net6.add(r.Start<<unit6, (r.Start+r.Count)<<unit6-1, numbers[r.Label])
		networks += min(int(r.Label), 1)
	}
	c.source = Source{Name: embeddedName, Type: d.Source, Built: d.Built, Networks: networks, Located: 1}
	return c
}

// The units of the compact form, as bits of keys: /24 and /48.
const (
	unit4 = 8
	unit6 = 16
)

// FromCompact compiles a database of the compact form.
func FromCompact(d *compact.Data) *Table {
	g := newGazetteer()
	c := compileCompact(d, g)
	return &Table{sources: []Source{c.source}, places: g.places, net4: c.net4.finish(), net6: c.net6.finish()}
}
