package healthmesh

import (
	"maps"
	"time"
)

// causeHeard and the others are the texts of Region.Cause; "silent for 5s" has the lease in it.
const (
	causeHeard  = "heard"
	causeLeft   = "left"
	causeHeld   = "most regions are silent, so the last belief is held"
	causeSilent = "silent for "
)

// A belief is what the rules make of the table, and what they build on at the next time.
type belief struct {
	regions  map[string]*Region // immutable, without orders
	start    time.Time          // when this node began to listen
	cutOff   time.Time          // when it last found itself cut off; zero if never
	isolated bool               // it is cut off now
}

// believe is the rules of belief. It is pure: what it believes at now depends on the reports, what it believed before,
// and the lease. For each region the first row that applies decides:
//
//	reports of the region's agents             regions besides    believed before   believed now
//	one is fresh, and its agent did not leave  any                any               up, "heard"
//	none fresh, and the last to come says      any                any               down, "left"
//	  that its agent leaves
//	none fresh                                 any                down              down, as it was
//	none fresh, silence shorter than the lease any                up or unknown     as it was, held
//	none fresh, silence as long as the lease   most are heard     up or unknown     down, "silent for 5s"
//	none fresh, silence as long as the lease   most are not heard up or unknown     as it was, held; isolated
//	none ever                                  any                nothing           nothing
//
// A report is fresh while it is younger than the lease. The regions besides are those not believed down; of them, most
// (more than half, so at least one) must have been heard within half the lease. Half, because beats are not in phase:
// when a node is cut off from all regions in one moment, the first lease runs out up to a beat before the last, and
// that first region must not fall for it. A lease of at least three beats keeps half of it longer than a living
// region's beat and shorter than a lease less a beat.
//
// Silence counts from the last report, but not from before the node was last cut off: what one could not have heard
// is no evidence. So the regions of a partition that heals come back one after the other, and none falls meanwhile. A node
// that is isolated stays so until most are heard.
//
// Only regions are counted, not the other directors that a node hears: directors often stand side by side and are cut off
// together, and would keep each other believing that all regions failed. It follows that the only region of a mesh, and
// the last of several that is not down, is held when it falls silent, with what was known of its endpoints. That costs
// nothing: to take the last region out is to fail open to the same region, without knowing its endpoints. A region
// whose agents leave is down even so. Of two regions, one that falls silent alone is down; both at once are held.
//
// The endpoints of a region that is up are those that fresh reports name. Agents vote:
//
//	votes                      the endpoint is
//	more for up than for down  up
//	as many or fewer           down: a wrong down costs some share, a wrong up costs users
//	none is for either         as it was believed before: an agent that starts has not checked yet
//
// Capacity and load are those of the first fresh agent by name that reports some, so that all nodes take the same one;
// a load is believed up to maxOverload times the capacity.
func believe(t *table, base belief, lease time.Duration, now time.Time) belief {
	evidence := gather(t, base, lease, now)
	counted, heard := 0, 0
	for _, e := range evidence {
		if recent := len(e.fresh) > 0 && now.Sub(e.last) <= lease/2; recent {
			counted++
			heard++
		} else if !e.left() && (e.before == nil || e.before.State != Down) {
			counted++
		}
	}
	next := belief{regions: make(map[string]*Region, len(evidence)), start: base.start, cutOff: base.cutOff}
	for name, e := range evidence {
		// A region whose silence is judged is itself counted and not heard.
		region, isolated := e.judge(lease, 2*heard > counted-1, base, now)
		next.regions[name] = region
		next.isolated = next.isolated || isolated
	}
	if next.isolated {
		next.cutOff = now
	}
	return next
}

// evidence is what there is of one region.
type evidence struct {
	before *Region   // the belief until now; nil if there is none
	fresh  []*agent  // heard within the lease and not leaving, by name
	last   time.Time // when the last report came; zero if none is in the table
	leaves bool      // that report says that its agent leaves
}

func (e evidence) left() bool { return len(e.fresh) == 0 && e.leaves }

// gather groups the table by region, with every region that was believed in before.
func gather(t *table, base belief, lease time.Duration, now time.Time) map[string]evidence {
	all := make(map[string]evidence, len(base.regions))
	for name, r := range base.regions {
		all[name] = evidence{before: r}
	}
	for name, agents := range t.byRegion() {
		e, ok := all[name]
		if !ok && len(all) >= maxRegions {
			continue
		}
		for _, a := range agents {
			p := a.heard()
			if !p.Leaving && now.Sub(p.at) < lease {
				e.fresh = append(e.fresh, a)
			}
			if p.at.After(e.last) {
				e.last, e.leaves = p.at, p.Leaving
			}
		}
		all[name] = e
	}
	return all
}

// judge is the table of believe, row by row.
func (e evidence) judge(lease time.Duration, mostHeard bool, base belief, now time.Time) (r *Region, isolated bool) {
	if len(e.fresh) > 0 {
		return e.up(lease, now), false
	}
	next := Region{Since: now}
	if e.before != nil {
		next = *e.before
	}
	silentFrom := base.start
	switch {
	case !e.last.IsZero():
		silentFrom = e.last
	case !next.Heard.IsZero():
		silentFrom = next.Heard
	}
	if !e.last.IsZero() {
		next.Heard = e.last
	}
	next.Agents = nil
	if base.cutOff.After(silentFrom) {
		silentFrom = base.cutOff
	}
	switch {
	case e.leaves:
		next.fall(causeLeft, now)
	case next.State == Down:
	case now.Sub(silentFrom) < lease:
		next.Held = true
		return &next, base.isolated && !mostHeard
	case mostHeard:
		next.fall(causeSilent+lease.String(), now)
	default:
		next.Held, next.Cause = true, causeHeld
		return &next, true
	}
	return &next, false
}

// fall makes the region down by evidence.
func (r *Region) fall(cause string, now time.Time) {
	if r.State != Down {
		r.Since = now
	}
	r.State, r.Held, r.Cause, r.Source = Down, false, cause, sourceReport
	r.Load, r.HasLoad = 0, false // nobody reports it any more
}

const (
	sourceReport = "report"
	sourceDisk   = "disk"
)

// up is the belief in a region with fresh reports.
func (e evidence) up(lease time.Duration, now time.Time) *Region {
	r := &Region{State: Up, Cause: causeHeard, Since: now, Heard: e.last, Source: sourceReport}
	var before map[EndpointID]Endpoint
	if e.before != nil {
		before = e.before.Endpoints
		if e.before.State == Up {
			r.Since = e.before.Since
		}
	}
	var reports []*part
	for _, a := range e.fresh {
		p := a.heard()
		r.Agents = append(r.Agents, a.name)
		if r.Capacity == 0 {
			r.Capacity = p.Capacity
		}
		if !r.HasLoad {
			r.Load, r.HasLoad = boundedLoad(p.Load, p.Capacity), p.HasLoad
		}
		for _, p := range a.parts {
			if p != nil && now.Sub(p.at) < lease {
				reports = append(reports, p)
			}
		}
	}
	r.Endpoints = vote(reports, before)
	if maps.Equal(r.Endpoints, before) {
		r.Endpoints = before // immutable, so one copy serves all views
	}
	return r
}

// vote combines what the agents of a region report of its endpoints.
func vote(reports []*part, before map[EndpointID]Endpoint) map[EndpointID]Endpoint {
	type ballot struct {
		votes   [Down + 1]int
		reasons [Down + 1]reason // of the first agent that votes so
	}
	ballots := make(map[EndpointID]*ballot)
	for _, p := range reports {
		for _, e := range p.Endpoints {
			b := ballots[e.ID]
			if b == nil {
				b = new(ballot)
				ballots[e.ID] = b
			}
			if b.votes[e.State] == 0 {
				b.reasons[e.State] = e.Reason
			}
			b.votes[e.State]++
		}
	}
	endpoints := make(map[EndpointID]Endpoint, len(ballots))
	for id, b := range ballots {
		switch {
		case b.votes[Up]+b.votes[Down] == 0:
			endpoints[id] = before[id]
		case b.votes[Up] > b.votes[Down]:
			endpoints[id] = Endpoint{State: Up, Reason: b.reasons[Up].String()}
		default:
			endpoints[id] = Endpoint{State: Down, Reason: b.reasons[Down].String()}
		}
	}
	return endpoints
}
