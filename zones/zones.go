// Package zones owns what is asked: the configured zones and services, the zone
// files, and the look-up of a name among them. It knows nothing of clients,
// places, health or sockets.
//
// This use, therefore this structure: a set is read by every query and changed
// only by a reload, so it is immutable, one map finds a name in any zone, and each
// RRset stands ready in wire format.
package zones

import (
	"net/netip"

	"github.com/miekg/dns"
)

// A Set is all that a director serves: zones, services and the regions that these
// name. It is immutable after Load.
type Set struct {
	Zones    []*Zone          // in the configuration's order
	Services []*Service       // Service.Index is the position
	Regions  []Region         // in the configuration's order
	names    map[string]*Node // by name in wire format, lower case
	labels   int              // the most labels of any name in names; deeper names are cut to it
	files    []string         // zone files and what they include, sorted
}

// A Region is a named place with coordinates in degrees and a capacity.
type Region struct {
	Name        string
	Lat, Lon    float64
	Capacity    float64
	MaxCapacity float64 // that is believed of it, at least Capacity
	BiasKM      float64
}

// A Zone is one zone, authoritative here.
type Zone struct {
	Index    int
	Name     string   // absolute, lower case: "geo.example.com."
	Wire     []byte   // the same in wire format, with the root's zero
	Catalog  bool     // a list of zones, for other servers alone
	Absent   string   // why a fed zone has no records, "" if it has them; then the fields below are not set
	SOA      *RRset   // as in the file
	Records  []dns.RR // all that a transfer carries, the SOA first; of services what a server that steers nothing can answer
	Negative *RRset   // the SOA with the negative TTL (RFC 2308, section 5)
	Above    Match    // what the next zone of the set above has at this one's apex: its delegation, if all is well; no Zone if none is above
}

// Policy is how a service's regions are ranked.
type Policy uint8

const (
	Nearest  Policy = iota // by great-circle distance, less the region's bias
	Failover               // by the order in the configuration
	Weighted               // no order: one group, shared by capacity
)

// String is the policy as the configuration names it.
func (p Policy) String() string { return [...]string{"nearest", "failover", "weighted"}[p] }

// A Service is a steered name.
type Service struct {
	Index   int
	Name    string // absolute, lower case; "*.apps.geo.example.com." for a wildcard
	Zone    *Zone
	TTL     uint32 // seconds
	Policy  Policy
	BandKM  float64
	Answers int      // regions in one answer
	Checked bool     // endpoints are believed only by evidence
	Removal int      // percent of the members' weight that automation may take out of the answers, 1 to 100
	Active  int      // members that orders leave, 1 to len(Members)
	NoECS   bool     // regions are chosen by the resolver's address, whatever client subnet it sends
	CNAME   bool     // every member has CNAME, none has Addrs
	Members []Member // in the configuration's order
}

// A Member is one region's part in a service.
type Member struct {
	Region int          // position in Set.Regions
	Addrs  []netip.Addr // IPv4 first, each family in the configuration's order
	CNAME  string       // absolute, lower case; "" if there are Addrs
	Weight float64      // capacity in this service's shares, above 0
}

// Endpoints are the names that evidence of the member's endpoints goes by: the addresses as text, or the CNAME.
func (m *Member) Endpoints() []string {
	if m.CNAME != "" {
		return []string{m.CNAME}
	}
	names := make([]string, len(m.Addrs))
	for i, a := range m.Addrs {
		names[i] = a.String()
	}
	return names
}

// A Node is a name that exists: it owns records or a service, or is an empty
// non-terminal (RFC 4592, section 2.2.2).
type Node struct {
	Name    string // absolute, lower case
	Zone    *Zone
	Service *Service // nil if not steered
	Sets    []*RRset // by ascending type; beside a service those that it leaves alone; none at a cut
	Cut     *Cut     // the delegation at this name, nil if none; no node is below a cut
	DNAME   *RRset   // the one of Sets, nil if none; no node of the zone is below it (RFC 6672, section 2.4)
	star    *Node    // the child "*", nil if none
}

// A Cut is a delegation: what a referral carries.
type Cut struct {
	Name   string   // absolute, lower case
	NS     *RRset   // packed for a query name at or below the cut, as all here are
	DS     *RRset   // nil if none
	Glue   *RRset   // addresses of the servers at or below the cut, which a referral must carry (RFC 9471), right behind NS; nil if none; names and types mixed
	Beside []*RRset // addresses that the zone has of the other servers, which a referral may carry, right behind these
}

// An RRset is the records of one name and type, parsed and packed.
type RRset struct {
	Type   uint16
	TTL    uint32
	RRs    []dns.RR   // owner names absolute
	Packed Packed     // ready to be copied behind a question for this name
	Sigs   Packed     // its RRSIGs, copied when DO is set; empty while unsigned
	Hints  []*Service // by position in RRs: whose addresses the record's hints are; nil if none of the records has such
	Extra  []*RRset   // addresses that the zone has of the names in RRs, packed to stand, as far as they fit, right behind these
}

// Kind says how a name was found.
type Kind uint8

const (
	NotAuth  Kind = iota // in none of the zones
	Exact                // Node is the name
	Wildcard             // Node is the wildcard that stands for the name
	Referral             // the name is at or below Node.Cut
	Renamed              // the name is below Node.DNAME
	Missing              // the zone has no such name: NXDOMAIN
	Unserved             // the zone has no records at all: SERVFAIL
)

// A Match is the result of looking up a name.
type Match struct {
	Kind Kind
	Zone *Zone // nil for NotAuth
	Node *Node // nil for NotAuth, Missing and Unserved; for Referral the node of the cut, for Renamed that of the DNAME
}
