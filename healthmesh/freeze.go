package healthmesh

// hold returns the regions of evidence with the states of before: what had a state keeps it, with its cause and its time, and what had
// none takes the evidence. Loads, capacities and who was heard when are the evidence's. Both maps stay as they are.
func hold(evidence, before map[string]*Region) map[string]*Region {
	held := make(map[string]*Region, len(evidence))
	for name, now := range evidence {
		held[name] = now
		if was := before[name]; was != nil && was.State != Unknown {
			held[name] = now.as(was)
		}
	}
	return held
}

// as is r in the states of was; Held if one of them differs.
func (r *Region) as(was *Region) *Region {
	held := *r
	held.Held = r.Held || r.State != was.State
	held.State, held.Cause, held.Since, held.Fault, held.FaultAt = was.State, was.Cause, was.Since, was.Fault, was.FaultAt
	held.Endpoints = make(map[EndpointID]Endpoint, len(r.Endpoints))
	for id, e := range r.Endpoints {
		if e0, ok := was.Endpoints[id]; ok && e0.State != Unknown {
			held.Held = held.Held || e.State != e0.State
			e = e0
		}
		held.Endpoints[id] = e
	}
	return &held
}
