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
	Unknown    State = iota // no evidence: stands in only while no region is up
	Up                      // may answer
	Held                    // evidence says that it cannot answer, and the guard keeps it in the answers
	Draining                // an operator has drained it: out of the answers
	PinnedDown              // an operator has pinned it down: out of the answers
	Down                    // evidence says that it cannot answer
)

func (s State) String() string {
	return [...]string{"unknown", "up", "held", "draining", "pinned-down", "down"}[s]
}

// RegionStates are those that a region as a whole can be in.
var RegionStates = []State{Unknown, Up, Held, Draining, PinnedDown, Down}

// A family is the kind of endpoint that a query asks for. A service of host names
// answers every type with its CNAME.
type family uint8

const (
	ipv4 family = iota
	ipv6
	host
	families
)

// asked are the families that queries of a service ask for.
func asked(svc *zones.Service) []family {
	if svc.CNAME {
		return []family{host}
	}
	return []family{ipv4, ipv6}
}

// belief is what Build takes from a view for one member of a service: everything
// that its answers depend on, and nothing that ages. Comparable.
type belief struct {
	state     [families]State                // of those asked for
	endpoints [maxEndpoints]healthmesh.State // by position in Member.Addrs, or 0 for CNAME
	weight    float64
	admit     float64 // the part that it takes of the client networks that it would get, 0 to 1
}

// maxEndpoints is the most addresses that the configuration accepts for one member.
const maxEndpoints = 32

// believeAll is what a view says of a service's members: each by itself, then together within the service's guards.
func believeAll(svc *zones.Service, regions []zones.Region, v *healthmesh.View) []belief {
	all, orders := make([]belief, len(svc.Members)), honoured(svc, regions, v)
	for j, m := range svc.Members {
		all[j] = believe(svc, m, regions[m.Region], v.Regions[regions[m.Region].Name], orders[j])
	}
	for _, f := range asked(svc) {
		guard(svc, regions, v, f, all)
	}
	return all
}

// believe reads what a view says of one member: orders first, then evidence. The first line that applies decides:
//
//	order                 evidence                                    state
//	pin-down              any                                         PinnedDown
//	drain, complete       any                                         Draining
//	pin-up                any                                         Up
//	none or drain         the region is down (silent, left)           Down
//	none or drain         the region was never heard of               Unknown
//	none or drain         one endpoint of the family is up            Up
//	none or drain         one endpoint of the family is unknown       Unknown
//	none or drain         all endpoints of the family are down        Down
//
// Whatever the state, of the client networks that the member would get it takes the part
//
//	admit = (1 - drained) x (1 - shed)
//
// where drained is how far a drain has come, and shed the share of a shed. A member that is up by a pin answers with its endpoints
// that are up, with all if none is.
//
// Two rules then look at the members together: an order that would leave fewer than min_active is none (honoured), and Down becomes
// Held where evidence would take out more than max_automatic_removal (guard).
//
// A member that has no endpoint of a family is judged by its others, so that it
// answers with NODATA rather than send IPv6 clients to a farther region than IPv4
// ones. An endpoint of a service without a check is up while its region is heard, and
// down only where the region says that its backends carry too little.
func believe(svc *zones.Service, m zones.Member, region zones.Region, r *healthmesh.Region, order *healthmesh.Order) belief {
	b := belief{weight: m.Weight, admit: 1}
	if r != nil {
		b.weight *= liveShare(r.Capacity, region)
		b.admit = admit(r, order)
	}
	ids := endpoints(m)
	for i, e := range ids {
		b.endpoints[i] = endpointState(svc, region.Name, e.name, r)
	}
	whole, over := overrule(r, order)
	for _, f := range asked(svc) {
		b.state[f] = whole
		if !over {
			b.state[f] = familyState(ids, b.endpoints[:len(ids)], f)
		}
	}
	return b
}

// admit is the part of its clients that orders leave to a region.
func admit(r *healthmesh.Region, order *healthmesh.Order) float64 {
	a := 1.0
	if isKind(order, healthmesh.Drain) {
		a -= r.Drained
	}
	return max(a*(1-shed(r)), 0)
}

// shed is the part of its clients that a region is told to shed.
func shed(r *healthmesh.Region) float64 {
	if r.Shed == nil {
		return 0
	}
	return r.Shed.Share
}

func isKind(o *healthmesh.Order, kind string) bool { return o != nil && o.Kind == kind }

// liveShare is the region's live capacity as a part of its configured one, above 1 where it scaled out: no report is believed
// beyond the region's maximum. A region that reports no capacity has all of the configured one.
func liveShare(live float64, region zones.Region) float64 {
	if live <= 0 {
		return 1
	}
	return min(live, max(region.MaxCapacity, region.Capacity)) / region.Capacity
}

// overrule is the state that holds for the whole region, whatever its endpoints are.
func overrule(r *healthmesh.Region, order *healthmesh.Order) (State, bool) {
	switch {
	case isKind(order, healthmesh.PinDown):
		return PinnedDown, true
	case isKind(order, healthmesh.Drain) && r.Drained >= 1:
		return Draining, true
	case isKind(order, healthmesh.PinUp):
		return Up, true
	case r != nil && r.State == healthmesh.Down:
		return Down, true
	}
	return Unknown, false
}

func endpointState(svc *zones.Service, region, name string, r *healthmesh.Region) healthmesh.State {
	if r == nil || r.State == healthmesh.Unknown {
		return healthmesh.Unknown
	}
	s := r.Endpoints[healthmesh.ID(svc.Name, region, name)].State
	if !svc.Checked && s != healthmesh.Down {
		return healthmesh.Up
	}
	return s
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
