package steer

import (
	"net/netip"
	"slices"

	"github.com/nearcast/nearcast/healthmesh"
	"github.com/nearcast/nearcast/zones"
)

// State is what a region is good for in one service: evidence and orders in one word.
type State uint8

const (
	Unknown  State = iota // no evidence: stands in only while no region is up
	Up                    // may answer
	Draining              // an operator drains it: out of the answers
	Down                  // evidence says that it cannot answer
)

func (s State) String() string { return [...]string{"unknown", "up", "draining", "down"}[s] }

// A family is the kind of endpoint that a query asks for. A service of host names
// answers every type with its CNAME.
type family uint8

const (
	ipv4 family = iota
	ipv6
	host
	families
)

// belief is what Build takes from a view for one member of a service: everything
// that its answers depend on, and nothing that ages. Comparable.
type belief struct {
	state     [families]State
	endpoints [maxEndpoints]healthmesh.State // by position in Member.Addrs, or 0 for CNAME
	weight    float64
}

// maxEndpoints is the most addresses that the configuration accepts for one member.
const maxEndpoints = 32

// believe reads what a view says of one member. The first line that applies decides:
//
//	evidence and orders                         state
//	an operator drains the region               Draining
//	the region is down (silent, left)           Down
//	the region was never heard of               Unknown
//	one endpoint of the family is up            Up
//	one endpoint of the family is unknown       Unknown
//	all endpoints of the family are down        Down
//
// A member that has no endpoint of a family is judged by its others, so that it
// answers with NODATA rather than send IPv6 clients to a farther region than IPv4
// ones. An endpoint of a service without a check is up while its region is heard.
func believe(svc *zones.Service, m zones.Member, region zones.Region, v *healthmesh.View) belief {
	b := belief{weight: m.Weight}
	r := v.Regions[region.Name]
	if r != nil {
		b.weight *= liveShare(r.Capacity, region.Capacity)
	}
	ids := endpoints(m)
	for i, e := range ids {
		b.endpoints[i] = endpointState(svc, region.Name, e.name, r)
	}
	for f := range families {
		b.state[f] = familyState(ids, b.endpoints[:len(ids)], f)
	}
	for f := range families {
		if s, over := overrule(r); over {
			b.state[f] = s
		}
	}
	return b
}

// liveShare is the part of its configured capacity that a region reports as live: 0 to 1, since no report is believed
// beyond what is configured. A region that reports none has all of it.
func liveShare(live, configured float64) float64 {
	if live <= 0 || live >= configured {
		return 1
	}
	return live / configured
}

// overrule is the state that holds for the whole region, whatever its endpoints are.
func overrule(r *healthmesh.Region) (State, bool) {
	switch {
	case r == nil:
		return Unknown, false
	case r.Order != nil && r.Order.Kind == healthmesh.Drain:
		return Draining, true
	case r.State == healthmesh.Down:
		return Down, true
	}
	return Unknown, false
}

func endpointState(svc *zones.Service, region, name string, r *healthmesh.Region) healthmesh.State {
	switch {
	case r == nil || r.State == healthmesh.Unknown:
		return healthmesh.Unknown
	case !svc.Checked:
		return healthmesh.Up
	}
	return r.Endpoints[healthmesh.ID(svc.Name, region, name)].State
}

// familyState is the best state among a family's endpoints, or among all endpoints
// if there are none of the family.
func familyState(all []endpoint, states []healthmesh.State, f family) State {
	own := slices.ContainsFunc(all, func(e endpoint) bool { return e.family == f })
	best := Down
	for i, e := range all {
		switch {
		case own && e.family != f:
		case states[i] == healthmesh.Up:
			return Up
		case states[i] == healthmesh.Unknown:
			best = Unknown
		}
	}
	return best
}

// endpoint is one endpoint of a member as the mesh names it.
type endpoint struct {
	name   string
	addr   netip.Addr
	family family
}

func endpoints(m zones.Member) []endpoint {
	all := make([]endpoint, 0, max(1, len(m.Addrs)))
	for i, name := range m.Endpoints() {
		e := endpoint{name: name, family: host}
		if m.CNAME == "" {
			e.addr, e.family = m.Addrs[i], familyOfAddr(m.Addrs[i])
		}
		all = append(all, e)
	}
	return all
}

func familyOfAddr(a netip.Addr) family {
	if a.Is4() {
		return ipv4
	}
	return ipv6
}
