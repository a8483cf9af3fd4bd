// Package geo owns where the asker is: the databases, the operator's overrides, and
// the way from a network to its place, to the ranking of sites, and to the widest
// prefix that shares them. It knows nothing of DNS, health or services.
//
// This use, therefore this structure: the database changes seldom and is large, the
// sites change seldom and are few, health changes often. So the address space is
// partitioned in three steps: network -> location once per database (Table), location ->
// ranking once per set of sites (Map), ranking -> class once per change of health
// (Partition). Each step merges neighbours that became equal, so the last one is
// small, and a run's bounds give the ECS scope.
package geo

import (
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
	Name     string    // path, or "embedded"
	Type     string    // the database's own word
	Built    time.Time // the database's date
	Networks int       // distinct runs of IPv4 and IPv6 networks
	Located  float64   // share of networks with a position, 0 to 1
}

// A Site is a region as geography sees it.
type Site struct {
	Name string
	Point
	BiasKM float64
}

// A Ranking is an order of sites that holds for a set of places.
type Ranking struct {
	// Order has the sites' positions, nearest first.
	Order []uint16
	// Reach[i] is the last position j >= i in Order whose site is at most the band
	// farther than Order[i]: if Order[i] is the first live one, the live ones among
	// Order[i..Reach[i]] form its group.
	Reach []uint16
}

// Load compiles the configured databases and overrides; sites are the regions that
// overrides may name. prev is the table in use, nil at start: a database with less
// than half of the networks that the file had in prev is refused. Problems go to
// report; the table is nil if there was one.
func Load(cfg Config, dir string, sites []Site, prev *Table, report Reporter) *Table {
	panic("contract")
}

// Table is network -> location for the whole address space, immutable.
type Table struct{}

// Sources returns the files that the table was made from.
func (t *Table) Sources() []Source { panic("contract") }

// Locate returns the location of an address and the widest network around it that shares it.
func (t *Table) Locate(addr netip.Addr) (Location, netip.Prefix) { panic("contract") }

// Rank compiles network -> ranking of the sites (at most 1024). An override that names a site puts
// it first and alone (Reach[0] = 0), then the others by distance from it. A network
// with no known position has the sites in the given order as one group.
func (t *Table) Rank(sites []Site, bandKM float64) *Map { panic("contract") }

// RankLocation returns the ranking for one location, and each site's distance in km,
// by position in sites (NaN if the location is unknown): what Rank did, for explaining.
func RankLocation(l Location, sites []Site, bandKM float64) (Ranking, []float64) { panic("contract") }

// Map is network -> ranking, immutable.
type Map struct {
	Rankings []Ranking
}

// Lookup returns the ranking's position in Rankings, and the widest prefix around addr, in
// bits of addr's family, that shares it.
func (m *Map) Lookup(addr netip.Addr) (ranking uint32, bits int) { panic("contract") }

// Merge compiles network -> class, where class[r] is the class of ranking r.
func (m *Map) Merge(class []uint32) *Partition { panic("contract") }

// Partition is network -> class, immutable. The zero Partition has class 0 everywhere.
type Partition struct{}

// Lookup returns the class of an address (IPv4, or IPv6 by its first 64 bits) and the widest prefix around it, in bits
// of addr's family, that shares it: 0 if the whole family does. It does not allocate.
func (p *Partition) Lookup(addr netip.Addr) (class uint32, bits int) { panic("contract") }

// A Client is the network that asks, unwrapped: the IPv4 address inside an IPv4-mapped, NAT64
// (64:ff9b::/96), 6to4 (2002::/16) or Teredo (2001::/32) address.
type Client struct {
	Addr netip.Addr // masked to Bits
	Bits int        // length of the network in bits of Addr's family
	Wrap int        // bits that the wrapping adds: a scope of n bits is n+Wrap to the asker
}

// NewClient unwraps a network of bits bits. Where bits do not reach the wrapped address, it stays as it is.
func NewClient(addr netip.Addr, bits int) Client { panic("contract") }

// Special reports the length of the special-purpose block (private, loopback, link-local, shared, documentation
// is not one) that holds addr, false if it is a global address: a client subnet in it says nothing of a place.
func Special(addr netip.Addr) (bits int, ok bool) { panic("contract") }
