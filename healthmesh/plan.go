package healthmesh

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

// planned is a region as it is looked up.
type planned struct {
	PlanRegion
	keys keys
}

// index makes the plan ready for look-ups.
func (p *Plan) index() *Plan {
	p.regions, p.targets = make(map[string]*planned, len(p.Regions)), make(map[EndpointID]*Target, len(p.Targets))
	for _, r := range p.Regions {
		p.regions[r.Name] = &planned{r, keysOf(r.Keys)}
	}
	for i := range p.Targets {
		p.targets[p.Targets[i].ID] = &p.Targets[i]
	}
	p.orders = keysOf(p.Directors)
	return p
}

func keysOf(list []PublicKey) keys {
	all := make(keys, len(list))
	for _, k := range list {
		all[k.id()] = k
	}
	return all
}
