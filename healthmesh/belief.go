package healthmesh

import (
	"cmp"
	"fmt"
	"maps"
	"math"
	"slices"
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
	cutOff   time.Time          // when it last found itself cut off, or woke after it was stopped; zero if never
	isolated bool               // it is cut off now
}

// believe is the rules of belief. It is pure: what it believes at now depends on the reports, what it believed before, the plan
// and the lease. For each region the first row that applies decides:
//
//	reports of the region's agents             regions besides    believed before   believed now
//	one is fresh, and its agent did not leave  any                not down          up, "heard"
//	the same                                   any                down              up, once it was heard for as long as it is held down
//	none fresh, and the last to come says      any                any               down, "left"
//	  that its agent leaves
//	none fresh                                 any                down              down, as it was
//	none fresh, silence shorter than the lease any                up or unknown     as it was, held
//	none fresh, silence as long as the lease   most are heard     up or unknown     down, "silent for 5s"
//	none fresh, silence as long as the lease   most are not heard up or unknown     as it was, held; isolated
//	none ever                                  any                nothing           nothing
//
// A report is fresh while it is younger than the lease. The regions besides are those not believed down; of them, most
// (more than half, so at least one) must have been heard when this one's lease ran out: within half the lease before, or at any time
// since. So a node that was down meanwhile, and has it all from others at once, judges as those that saw the regions fall one after the
// other. Half, because beats are not in phase: when a node is cut off from all regions in one moment, the first lease runs out up to a
// beat before the last, and that first region must not fall for it. A lease of at least three beats keeps half of it longer than a
// living region's beat and shorter than a lease less a beat.
//
// Silence counts from the last report, but not from before the node was last cut off or woke (a process that was stopped), nor, while it
// remembers an agent of which nothing came yet, from before it began: what one could not have heard is no evidence. So the regions of a
// partition that heals come back one after the other, and none falls meanwhile. A node that is isolated stays so until most are heard.
//
// Only regions are counted, not the other directors that a node hears: directors often stand side by side and are cut off
// together, and would keep each other believing that all regions failed. It follows that the only region of a mesh, and
// the last of several that is not down, is held when it falls silent, with what was known of its endpoints. That costs
// nothing: to take the last region out is to fail open to the same region, without knowing its endpoints. A region
// whose agents leave is down even so. Of two regions, one that falls silent alone is down; both at once are held.
//
// A region that is up has the endpoints that its fresh reports name; judgeEndpoint decides on each.
//
// Capacity and load are the medians of those that fresh agents report, so that one agent of three cannot move them; both are
// believed up to the plan's bound, a load up to maxOverload times that.
func believe(t *table, base belief, plan *Plan, lease time.Duration, now time.Time) belief {
	evidence := gather(t, base, lease, now)
	witness := testimony(t, plan, lease, now)
	var heard []time.Time // when each region was last, of those not believed down
	for _, e := range evidence {
		if len(e.fresh) > 0 && now.Sub(e.last) <= lease/2 || !e.left() && (e.before == nil || e.before.State != Down) {
			heard = append(heard, e.last)
		}
	}
	slices.SortFunc(heard, time.Time.Compare)
	// A region whose silence is judged is itself counted and not heard.
	mostHeard := func(since time.Time) bool {
		earlier, _ := slices.BinarySearchFunc(heard, since, time.Time.Compare)
		return 2*(len(heard)-earlier) > len(heard)-1
	}
	next := belief{regions: make(map[string]*Region, len(evidence)), start: base.start, cutOff: base.cutOff}
	for name, e := range evidence {
		e.name, e.plan, e.witness = name, plan, witness
		region, isolated := e.judge(lease, mostHeard, base, now)
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
	name    string
	plan    *Plan                  // nil: there is none
	witness map[EndpointID]*ballot // the votes of regions, of all endpoints
	before  *Region                // the belief until now; nil if there is none
	fresh   []*agent               // heard within the lease and not leaving, by name
	said    Stamp                  // of the newest report, by its own account: alike at all nodes that have it; 0 if none is in the table
	last    time.Time              // when the last report came; zero if none is in the table
	leaves  bool                   // it says that its agent leaves, and none is awaited
	awaited bool                   // nothing came yet of an agent whose number is remembered: who lives says more soon
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
			e.said = max(e.said, p.stamp(p.Elapsed))
		}
		all[name] = e
	}
	for _, a := range t.agents {
		if e, ok := all[a.region]; ok && len(a.parts) == 0 && now.Sub(a.at) < lease {
			e.awaited, e.leaves = true, false
			all[a.region] = e
		}
	}
	return all
}

// judge is the table of believe, row by row.
func (e evidence) judge(lease time.Duration, heardSince func(time.Time) bool, base belief, now time.Time) (r *Region, isolated bool) {
	if len(e.fresh) > 0 {
		if e.before != nil && e.before.State == Down && !e.before.Held {
			if held := e.before.heldDown(now); held != nil {
				return held, false
			}
		}
		return e.up(lease, now), false
	}
	next := Region{Since: now}
	if e.before != nil {
		next = *e.before
	}
	returned := !next.returning.IsZero()
	next.returning = time.Time{}
	silentFrom := base.start
	switch {
	case e.awaited:
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
	ranOut := silentFrom.Add(lease)
	if ranOut.After(now) {
		ranOut = now
	}
	mostHeard := heardSince(ranOut.Add(-lease / 2))
	switch {
	case e.leaves:
		next.fall(causeLeft, now)
	case next.State == Down:
		if returned { // and fell silent before it was believed
			next.Cause = causeSilent + lease.String()
		}
	case now.Sub(silentFrom) < lease:
		next.Held = true
		return &next, base.isolated && !mostHeard
	case mostHeard:
		next.fall(causeSilent+lease.String(), now)
	default:
		next.Held, next.Cause = true, causeHeld
		return &next, true
	}
	if e.said != 0 { // what came late, or was not there after a restart, dates the fault alike at all nodes
		next.Fault, next.FaultAt = e.said, e.last
	}
	return &next, false
}

// fall makes the region down by evidence.
func (r *Region) fall(cause string, now time.Time) {
	if r.State != Down {
		r.Since = now
		r.falls.add(now)
		r.Fault, r.FaultAt = 0, r.Heard
	}
	r.State, r.Held, r.Cause, r.Source = Down, false, cause, sourceReport
	r.Load, r.HasLoad, r.LoadStale = 0, false, false // nobody reports it any more
}

const (
	sourceReport = "report"
	sourceDisk   = "disk"
)

// How long a region that fell is held down when it is heard again: not at all after the first fall, so that a restart costs
// nothing, then for 1, 2, 4 and 8 s. The last is short enough that a partition, however often it comes and goes, heals within 10 s.
const (
	holdFirst  = time.Second
	holdLast   = 8 * time.Second
	fallMemory = 5 * time.Minute // without a fall, after which none is counted
)

// falls counts how often a region fell of late.
type falls struct {
	n    int
	last time.Time
}

func (f *falls) add(now time.Time) { f.n, f.last = f.since(now)+1, now }

func (f falls) since(now time.Time) int {
	if now.Sub(f.last) > fallMemory {
		return 0
	}
	return f.n
}

// hold is how long the region is held down when it is heard again.
func (f falls) hold(now time.Time) time.Duration {
	hold := time.Duration(0)
	for n := 1; n < f.since(now) && hold < holdLast; n++ {
		hold = max(holdFirst, 2*hold)
	}
	return hold
}

// heldDown is the region still down although it is heard, nil once it was heard for long enough.
func (r *Region) heldDown(now time.Time) *Region {
	hold := r.falls.hold(now)
	from := r.returning
	if from.IsZero() {
		from = now
	}
	if now.Sub(from) >= hold {
		return nil
	}
	next := *r
	next.returning, next.Heard = from, now
	next.Cause = fmt.Sprintf("heard again, held down for %v: it fell %d times of late", hold, r.falls.n)
	return &next
}

// up is the belief in a region with fresh reports.
func (e evidence) up(lease time.Duration, now time.Time) *Region {
	r := &Region{State: Up, Cause: causeHeard, Since: now, Heard: e.last, Source: sourceReport}
	var before map[EndpointID]Endpoint
	if e.before != nil {
		before, r.falls = e.before.Endpoints, e.before.falls
		if e.before.State == Up {
			r.Since = e.before.Since
		}
	}
	var capacities, loads []float64
	var reports []*part
	for _, a := range e.fresh {
		p := a.heard()
		r.Agents = append(r.Agents, a.name)
		r.Suppressed += p.Suppressed
		if p.Capacity > 0 {
			capacities = append(capacities, p.Capacity)
		}
		if p.HasLoad {
			loads = append(loads, p.Load)
			r.LoadStale = r.LoadStale || p.LoadStale
		}
		for _, p := range a.parts {
			if p != nil && now.Sub(p.at) < lease {
				reports = append(reports, p)
			}
		}
	}
	r.Capacity, r.Load, r.HasLoad = e.plan.bound(e.name, median(capacities)), median(loads), len(loads) > 0
	r.Load = boundedLoad(r.Load, cmp.Or(r.Capacity, e.plan.bound(e.name, math.Inf(1)))) // who reports no capacity has a bound, too
	r.Endpoints = e.endpoints(reports, before)
	if maps.Equal(r.Endpoints, before) {
		r.Endpoints = before // immutable, so one copy serves all views
	}
	return r
}

// median is the middle, of two the lower; 0 of none.
func median(all []float64) float64 {
	if len(all) == 0 {
		return 0
	}
	slices.Sort(all)
	return all[(len(all)-1)/2]
}
