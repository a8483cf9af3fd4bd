package geo

import (
	"math"
	"unsafe"
)

// places are the distinct locations of a table, numbered; 0 is the unknown one. A
// city-size database has some 100,000 in a few thousand areas.
type places struct {
	spots []spot
	areas []area
}

// A spot is a location in few bytes. Degrees are in units of 0.01 (1.1 km): finer than databases know
// where a network is, and four times fewer different ones than they write.
type spot struct {
	lat, lon int16
	area     uint32
}

// An area is what many locations share.
type area struct {
	country, continent, subdivision, region string
}

const (
	spotUnits  = 100
	spotNoIdea = math.MinInt16 // lat of a location whose Point does not hold
)

func (p *places) location(i uint32) Location {
	s := p.spots[i]
	a := p.areas[s.area]
	l := Location{Country: a.country, Continent: a.continent, Subdivision: a.subdivision, Region: a.region}
	if s.lat != spotNoIdea {
		l.Known = true
		l.Point = Point{float64(s.lat) / spotUnits, float64(s.lon) / spotUnits}
	}
	return l
}

// size is the memory of the spots in bytes; areas share their text and are few.
func (p *places) size() int { return len(p.spots) * int(unsafe.Sizeof(spot{})) }

// A gazetteer numbers locations as they come.
type gazetteer struct {
	places
	spotNo map[spot]uint32
	areaNo map[area]uint32
}

func newGazetteer() *gazetteer {
	g := &gazetteer{spotNo: map[spot]uint32{}, areaNo: map[area]uint32{}}
	g.number(Location{}) // 0
	return g
}

// number returns the location's number, the same for equal locations.
func (g *gazetteer) number(l Location) uint32 {
	a := area{l.Country, l.Continent, l.Subdivision, l.Region}
	no, ok := g.areaNo[a]
	if !ok {
		no = uint32(len(g.areas))
		g.areaNo[a], g.areas = no, append(g.areas, a)
	}
	s := spot{spotNoIdea, 0, no}
	if l.Known {
		s.lat, s.lon = int16(math.Round(l.Lat*spotUnits)), int16(math.Round(l.Lon*spotUnits))
	}
	n, ok := g.spotNo[s]
	if !ok {
		n = uint32(len(g.spots))
		g.spotNo[s], g.spots = n, append(g.spots, s)
	}
	return n
}
