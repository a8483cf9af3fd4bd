package geo

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"net/netip"
	"os"
	"strconv"
	"strings"

	"github.com/oschwald/geoip2-golang/v2"
	"github.com/oschwald/maxminddb-golang/v2"
)

const (
	// maxDatabase bounds a database file; the largest known, with every company and
	// privacy field, has some 2 GiB.
	maxDatabase = 4 << 30
	// maxSpots bounds the distinct locations; a city-size database has some 100,000.
	maxSpots = 1 << 24
)

// A compiled database: its partition of both address spaces, 0 where it has nothing.
type compiled struct {
	source Source
	net4   *runs[uint32]
	net6   *runs[uint64]
}

// readDatabase reads and checks a .mmdb file (MaxMind DB format 2.0) and compiles it. The
// file is not kept mapped: whoever rewrites it in place would change it under the reader.
func readDatabase(path string, g *gazetteer) (*compiled, error) {
	if info, err := os.Stat(path); err != nil {
		return nil, err
	} else if info.Size() > maxDatabase {
		return nil, fmt.Errorf("%d bytes, more than %d", info.Size(), maxDatabase)
	}
	data, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	db, err := maxminddb.OpenBytes(data)
	if err != nil {
		return nil, fmt.Errorf("not a MaxMind DB: %w", err)
	}
	defer db.Close()
	if err := verify(db); err != nil {
		return nil, fmt.Errorf("corrupt: %w", err)
	}
	read, err := layoutOf(db)
	if err != nil {
		return nil, err
	}
	c, err := compile(db, g, read)
	if err != nil {
		return nil, err
	}
	c.source.Type, c.source.Built = db.Metadata.DatabaseType, db.Metadata.BuildTime().UTC()
	return c, nil
}

// verify walks the whole file. Some vendors leave the description out, which is no
// fault of the data: it is checked as if there were one.
func verify(db *maxminddb.Reader) error {
	if len(db.Metadata.Description) == 0 {
		db.Metadata.Description = map[string]string{"en": "none"}
	}
	return db.Verify()
}

// A layout reads a location from a record of one vendor's form.
type layout func(maxminddb.Result) (Location, error)

// layoutOf tells a database's layout by its first record that has a country or a position.
func layoutOf(db *maxminddb.Reader) (layout, error) {
	tried := 0
	for r := range db.Networks(maxminddb.SkipEmptyValues()) {
		var record map[string]any
		if err := r.Decode(&record); err != nil {
			return nil, fmt.Errorf("a record that is not a map: %w", err)
		}
		for _, field := range []string{"country", "registered_country", "location"} {
			if _, nested := record[field].(map[string]any); nested {
				return nestedLayout, nil
			}
		}
		for _, field := range []string{"country", "country_code", "latitude", "lat"} {
			if record[field] != nil {
				return flatLayout, nil
			}
		}
		if tried++; tried == 1000 {
			break
		}
	}
	return nil, fmt.Errorf("a database of type %q without countries and positions", db.Metadata.DatabaseType)
}

// nestedLayout reads MaxMind's City and Country, and DB-IP's own files.
func nestedLayout(r maxminddb.Result) (Location, error) {
	var c geoip2.City
	if err := r.Decode(&c); err != nil {
		return Location{}, err
	}
	l := Location{Country: c.Country.ISOCode, Continent: c.Continent.Code}
	if l.Country == "" {
		l.Country, l.Continent = c.RegisteredCountry.ISOCode, "" // the continent is then of another country, or absent
	}
	if len(c.Subdivisions) > 0 {
		l.Subdivision = c.Subdivisions[0].Names.English
		if l.Subdivision == "" {
			l.Subdivision = c.Subdivisions[0].ISOCode
		}
	}
	// A position without subdivision and city is the middle of the country's area.
	exact := l.Subdivision != "" || c.City.Names.English != ""
	if lat, lon := c.Location.Latitude, c.Location.Longitude; lat != nil && lon != nil {
		l.Known, l.Point = true, Point{*lat, *lon}
	}
	return complete(l, exact), nil
}

// flat is a record of IPinfo or ip-location-db. Numbers may be text.
type flat struct {
	Country       string `maxminddb:"country"` // code or name
	CountryCode   string `maxminddb:"country_code"`
	Continent     string `maxminddb:"continent"` // code or name
	ContinentCode string `maxminddb:"continent_code"`
	State         string `maxminddb:"state1"`
	Region        string `maxminddb:"region"` // name, or code beside RegionName
	RegionName    string `maxminddb:"region_name"`
	City          string `maxminddb:"city"`
	Latitude      any    `maxminddb:"latitude"`
	Longitude     any    `maxminddb:"longitude"`
	Lat           any    `maxminddb:"lat"`
	Lng           any    `maxminddb:"lng"`
}

func flatLayout(r maxminddb.Result) (Location, error) {
	var f flat
	if err := r.Decode(&f); err != nil {
		return Location{}, err
	}
	l := Location{
		Country:     code(f.CountryCode, f.Country),
		Continent:   code(f.ContinentCode, f.Continent),
		Subdivision: firstOf(f.State, f.RegionName, f.Region),
	}
	lat, okLat := number(f.Latitude, f.Lat)
	lon, okLon := number(f.Longitude, f.Lng)
	if okLat && okLon {
		l.Known, l.Point = true, Point{lat, lon}
	}
	return complete(l, l.Subdivision != "" || f.City != ""), nil
}

// complete gives a location what its country tells: the continent, and where no better position is
// known the place where its people are.
func complete(l Location, exact bool) Location {
	if l.Known && !valid(l.Point) {
		l.Known, l.Point = false, Point{}
	}
	if l.Continent == "" {
		l.Continent = continentOf(l.Country)
	}
	if !l.Known || !exact {
		if p, ok := countryCentre(l.Country); ok {
			l.Known, l.Point = true, p
		}
	}
	return l
}

func valid(p Point) bool { return math.Abs(p.Lat) <= 90 && math.Abs(p.Lon) <= 180 }

// code is the first of the texts that is a two-letter code.
func code(texts ...string) string {
	for _, t := range texts {
		if len(t) == 2 {
			return strings.ToUpper(t)
		}
	}
	return ""
}

func firstOf(texts ...string) string {
	for _, t := range texts {
		if t != "" {
			return t
		}
	}
	return ""
}

// number is the first of the values that is a number or the text of one.
func number(values ...any) (float64, bool) {
	for _, v := range values {
		switch v := v.(type) {
		case float64:
			return v, true
		case float32:
			return float64(v), true
		case string:
			if f, err := strconv.ParseFloat(v, 64); err == nil {
				return f, true
			}
		}
	}
	return 0, false
}

// compile turns the database's networks, which come in order, into runs. Each distinct
// record is decoded once.
func compile(db *maxminddb.Reader, g *gazetteer, read layout) (*compiled, error) {
	c := &compiled{net4: &runs[uint32]{}, net6: &runs[uint64]{}}
	numbers := map[uintptr]uint32{}
	located := 0
	for r := range db.Networks(maxminddb.SkipEmptyValues()) {
		n, ok := numbers[r.Offset()]
		if !ok {
			l, err := read(r)
			if err != nil {
				return nil, fmt.Errorf("the record of %s: %w", r.Prefix(), err)
			}
			n = g.number(l)
			numbers[r.Offset()] = n
			if len(g.spots) > maxSpots {
				return nil, fmt.Errorf("more than %d different locations", maxSpots)
			}
		}
		c.source.Networks++
		if g.spots[n].lat != spotNoIdea {
			located++
		}
		if err := c.add(r.Prefix(), n); err != nil {
			return nil, err
		}
	}
	if c.source.Networks == 0 {
		return nil, errors.New("no networks in it")
	}
	if located == 0 {
		return nil, fmt.Errorf("none of its %d networks has a position or a known country", c.source.Networks)
	}
	c.source.Located = float64(located) / float64(c.source.Networks)
	return c, nil
}

// add adds a network, behind those before it.
func (c *compiled) add(p netip.Prefix, value uint32) error {
	if p.Addr().Is4() {
		first, last := range4(p)
		c.net4.add(first, last, value)
		return nil
	}
	if n := len(c.net6.starts); n > 0 && p.Bits() > 64 && key6(p.Addr()) <= c.net6.starts[n-1] {
		return nil // narrower than is kept: the first of its /64 stands for all
	}
	first, last := range6(p)
	c.net6.add(first, last, value)
	return nil
}

// range4 and range6 are a network's first and last key.
func range4(p netip.Prefix) (first, last uint32) {
	first = key4(p.Masked().Addr())
	return first, first | uint32(uint64(math.MaxUint32)>>p.Bits())
}

func range6(p netip.Prefix) (first, last uint64) {
	b := p.Masked().Addr().As16()
	first = binary.BigEndian.Uint64(b[:])
	return first, first | math.MaxUint64>>min(p.Bits(), 64)
}
