// Package geo owns where the asker is: the databases, the operator's overrides, and
// the way from a network to its place, to the ranking of sites, and to the widest
// prefix that shares them. It knows nothing of DNS, health or services.
//
// This use, therefore this structure: the database changes seldom and is large, the
// sites change seldom and are few, health changes often. So the address space is
// partitioned once per database (Table: network -> location), locations are ranked
// once per set of sites (Map: location -> ranking), and a change of health costs one
// pass (Partition: network -> class). The pass merges neighbours that became equal, so a
// Partition is small, and a run's bounds give the ECS scope.
package geo

import (
	"encoding/binary"
	"net/netip"
	"time"
)

// Config says where places come from.
type Config struct {
	// Database is one .mmdb file or several (MaxMind City or Country, DB-IP, IPinfo),
	// relative to the configuration file; of several, later ones fill what earlier ones
	// do not cover. Optional, default: the embedded database.
	Database []string `mapstructure:"database"`
	// Overrides is a CSV file, "network,region" or "network,latitude,longitude" a line,
	// that goes before the database; of nested networks the narrowest holds. Optional.
	Overrides string `mapstructure:"overrides"`
}

// Reporter takes one problem: key path, value, and what is accepted.
type Reporter = func(key string, value any, accepted string)

// A Point is a position in degrees: latitude -90 to 90, longitude -180 to 180.
type Point struct{ Lat, Lon float64 }

// A Location is what geography knows of a network. The zero Location is "unknown".
type Location struct {
	Point
	Known       bool   // Point holds
	Country     string // ISO 3166-1 alpha-2, "" if unknown
	Continent   string // AF AN AS EU NA OC SA, "" if unknown
	Subdivision string // as the database writes it, "" if unknown
	Region      string // the region an override names, "" if none
}

// A Source is one file that a table was made from.
type Source struct {
	Name     string    `json:"name"`     // path, or "embedded"
	Type     string    `json:"type"`     // the database's own word
	Built    time.Time `json:"built"`    // the database's date
	Networks int       `json:"networks"` // networks of IPv4 and IPv6 that have a record
	Located  float64   `json:"located"`  // share of networks with a position, 0 to 1
}

// A Site is a region as geography sees it.
type Site struct {
	Name string
	Point
	BiasKM float64 // subtracted from every distance to it
}

// A Table is network -> location for the whole address space. Immutable.
type Table struct {
	sources []Source
	places  places
	net4    *runs[uint32]
	net6    *runs[uint64]
}

// Sources returns the files that the table was made from.
func (t *Table) Sources() []Source { return t.sources }

// Locate returns the location of an address and the widest network around it that shares it.
func (t *Table) Locate(addr netip.Addr) (Location, netip.Prefix) {
	place, bits := lookup(t.net4, t.net6, addr)
	network, _ := addr.Prefix(bits) // bits are of addr's family
	return t.places.location(place), network
}

// Size is the memory that the table takes, in bytes.
func (t *Table) Size() int { return t.net4.size() + t.net6.size() + t.places.size() }

// A Map is location -> ranking of some sites, for the networks of its table. Immutable.
type Map struct {
	Rankings []Ranking // each one different
	table    *Table
	byPlace  []uint32 // the ranking of each place of the table
}

// Merge compiles network -> class, where class[r] is the class of ranking r.
func (m *Map) Merge(class []uint32) *Partition {
	of := make([]uint32, len(m.byPlace))
	for place, ranking := range m.byPlace {
		of[place] = class[ranking]
	}
	net4, net6 := m.table.net4.mapped(of), m.table.net6.mapped(of)
	if len(net4.starts) > 1 || len(net6.starts) > 1 || net4.values[0] != net6.values[0] {
		net4, net6 = fence(net4, fences4()), fence(net6, fences6())
	}
	return &Partition{net4.finish(), net6.finish()}
}

// A Partition is network -> class. Immutable.
type Partition struct {
	net4 *runs[uint32]
	net6 *runs[uint64]
}

// Lookup returns the class of an address (IPv4, or IPv6 by its first 64 bits) and the
// widest prefix around it, in bits of addr's family, that shares it: 0 if the whole
// family does. No prefix has networks in it that are not what they seem (see fence). It does not allocate.
func (p *Partition) Lookup(addr netip.Addr) (class uint32, bits int) {
	value, bits := lookup(p.net4, p.net6, addr)
	return value &^ fenced, bits
}

// Size is the memory that the partition takes, in bytes.
func (p *Partition) Size() int { return p.net4.size() + p.net6.size() }

func lookup(net4 *runs[uint32], net6 *runs[uint64], addr netip.Addr) (value uint32, bits int) {
	if addr.Is4() {
		return net4.lookup(key4(addr))
	}
	return net6.lookup(key6(addr))
}

func key4(a netip.Addr) uint32 {
	b := a.As4()
	return binary.BigEndian.Uint32(b[:])
}

func key6(a netip.Addr) uint64 {
	b := a.As16()
	return binary.BigEndian.Uint64(b[:])
}
