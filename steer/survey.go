package steer

import (
	"fmt"
	"strings"

	"github.com/nearcast/nearcast/geo"
	"github.com/nearcast/nearcast/zones"
)

// A Survey is zones and geography joined: for each service the rankings of its
// regions and the map from networks to them. It changes with the configuration and
// the database, never with health. Immutable.
type Survey struct {
	Set    *zones.Set
	Table  *geo.Table
	ranked []ranked // by Service.Index
}

// ranked is how one service's members are ordered for whom.
type ranked struct {
	sites    []geo.Site    // by position in Service.Members
	rankings []geo.Ranking // of positions in Service.Members; at least one
	network  *geo.Map      // network -> ranking; nil: the first ranking holds for all
}

// NewSurvey ranks the regions of every service. Services with the same regions in
// the same order and the same band share one map.
func NewSurvey(set *zones.Set, table *geo.Table) *Survey {
	s := &Survey{Set: set, Table: table, ranked: make([]ranked, len(set.Services))}
	shared := map[string]*geo.Map{}
	for i, svc := range set.Services {
		s.ranked[i] = rank(svc, set.Regions, table, shared)
	}
	return s
}

func rank(svc *zones.Service, regions []zones.Region, table *geo.Table, shared map[string]*geo.Map) ranked {
	r := ranked{sites: make([]geo.Site, len(svc.Members))}
	var key strings.Builder
	fmt.Fprint(&key, svc.BandKM)
	for i, m := range svc.Members {
		r.sites[i] = Site(regions[m.Region])
		fmt.Fprint(&key, " ", m.Region)
	}
	if svc.Policy != zones.Nearest {
		r.rankings = []geo.Ranking{fixedRanking(svc.Policy, len(svc.Members))}
		return r
	}
	if shared[key.String()] == nil {
		shared[key.String()] = table.Rank(r.sites, svc.BandKM)
	}
	r.network = shared[key.String()]
	r.rankings = r.network.Rankings
	return r
}

// Site is a region as geography sees it.
func Site(r zones.Region) geo.Site {
	return geo.Site{Name: r.Name, Point: geo.Point{Lat: r.Lat, Lon: r.Lon}, BiasKM: r.BiasKM}
}

// fixedRanking is the one ranking of a policy that does not look at the client:
// Failover takes the members one by one as configured, Weighted all as one group.
func fixedRanking(p zones.Policy, members int) geo.Ranking {
	r := geo.Ranking{Order: make([]uint16, members), Reach: make([]uint16, members)}
	for i := range r.Order {
		r.Order[i], r.Reach[i] = uint16(i), uint16(i)
		if p == zones.Weighted {
			r.Reach[i] = uint16(members - 1)
		}
	}
	return r
}
