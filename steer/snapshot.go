// Package steer owns who should answer: it joins what is asked (zones), where the
// asker is (geo) and who can answer (healthmesh) into snapshots, and picks regions
// from them. It knows nothing of sockets or packets.
//
// This use, therefore this structure: a query must not decide anything, so Build
// decides for every place at once, a change of health costs one pass over the
// rankings, and what a query does is one look-up of its network and one of the choice.
package steer

import (
	"github.com/miekg/dns"

	"github.com/nearcast/nearcast/zones"
)

// A Snapshot is zones, geography and choices compiled for one view: all that a
// query reads. Immutable.
type Snapshot struct {
	Generation uint64
	Set        *zones.Set
	Survey     *Survey
	Stale      bool             // the mesh fell silent, and the last view is held
	beliefs    [][]belief       // by Service.Index and position in Service.Members
	faces      [][families]face // by Service.Index
	merged     merges           // the partitions in use, for the next Build to take over
	history    *history         // of what was answered; the keeper's, nil of a snapshot that none made
}

// familyOf is the family of endpoints that a query for a type asks for. Of a service
// of addresses only A and AAAA are steered.
func familyOf(svc *zones.Service, qtype uint16) family {
	switch {
	case svc.CNAME:
		return host
	case qtype == dns.TypeAAAA:
		return ipv6
	}
	return ipv4
}
