package healthmesh

import (
	"net/netip"
	"slices"
)

// A Plan is what the configuration says of the regions that nodes speak of: who may speak for which, within which bounds, and
// of which endpoints. Immutable; Mesh.Adopt swaps it.
type Plan struct {
	Regions   []PlanRegion
	Directors []PublicKey // who may give orders; empty: every member
	Targets   []Target    // the endpoints of all regions
	Witnesses int         // other regions that probe each endpoint; 0: none

	regions map[string]*planned
	targets map[EndpointID]*Target
	orders  keys // of Directors
}

// A PlanRegion is one region of a Plan.
type PlanRegion struct {
	Name     string
	Capacity float64     // the most that is believed of it
	Keys     []PublicKey // of its agents; empty: no report of it needs a signature
}

// KeysOf are the keys of a region's agents, none if its reports need no signature.
func (p *Plan) KeysOf(region string) []PublicKey {
	for _, r := range p.Regions {
		if r.Name == region {
			return r.Keys
		}
	}
	return nil
}

// planned is a region as it is looked up.
type planned struct {
	PlanRegion
	keys keys
}

// index is the plan ready for look-ups; p itself may be of several nodes.
func (p *Plan) index() *Plan {
	copied := *p
	p = &copied
	p.Targets = slices.Clone(p.Targets)
	p.regions, p.targets = make(map[string]*planned, len(p.Regions)), make(map[EndpointID]*Target, len(p.Targets))
	for _, r := range p.Regions {
		p.regions[r.Name] = &planned{r, keysOf(r.Keys)}
	}
	for i := range p.Targets {
		t := &p.Targets[i]
		t.addr, _ = netip.ParseAddr(t.Endpoint) // a host name has none
		p.targets[t.ID] = t
	}
	p.orders = keysOf(p.Directors)
	return p
}

// region is the region of an endpoint; of one that the plan has not, or without a plan, the region of who speaks of it.
func (p *Plan) region(id EndpointID, speaker string) string {
	if p != nil && p.targets[id] != nil {
		return p.targets[id].Region
	}
	return speaker
}

// bound is the capacity that is believed of a region that reports some.
func (p *Plan) bound(region string, capacity float64) float64 {
	if p == nil || p.regions[region] == nil || p.regions[region].Capacity == 0 {
		return capacity
	}
	return min(capacity, p.regions[region].Capacity)
}

// genuineOfDirector says whether a message is signed by a listed director, where the plan lists any.
func (p *Plan) genuineOfDirector(context string, body, signature []byte) bool {
	return p == nil || len(p.orders) == 0 || p.orders.verify(context, body, signature)
}

// genuine says whether a report is of a region that the plan has, and signed by a key of it, where the plan binds the region to keys. Who
// could speak for a region of its own invention would be a witness of all others.
func (p *Plan) genuine(r *part) bool {
	return p == nil || p.has(r.Region) && (!p.keyed(r.Region) || p.regions[r.Region].keys.verify(signReport, r.body, r.signature))
}

func (p *Plan) has(region string) bool { return p.regions[region] != nil }

// keyed says whether a region is bound to keys.
func (p *Plan) keyed(region string) bool {
	return p.has(region) && len(p.regions[region].keys) > 0
}

func keysOf(list []PublicKey) keys {
	all := make(keys, len(list))
	for _, k := range list {
		all[k.id()] = k
	}
	return all
}
