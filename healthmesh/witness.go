package healthmesh

import (
	"cmp"
	"slices"
	"sync/atomic"
	"time"

	"github.com/cespare/xxhash/v2"
)

// testimony gathers what regions say of endpoints of others, as most of their agents do: fresh, of agents that are not cut off themselves.
// Of a region that is bound to keys, only regions that are, too, say something: for the others anyone can speak. Without a plan there is
// none: nothing tells of which region an endpoint is.
func testimony(t *table, plan *Plan, lease time.Duration, now time.Time) map[EndpointID]*ballot {
	if plan == nil {
		return nil
	}
	all := make(map[EndpointID]*ballot, len(plan.targets))
	var seen []sighting
	for _, a := range t.agents {
		if p := a.heard(); p == nil || p.Leaving {
			continue
		}
		seen = a.believable(seen[:0], plan, lease, now)
		for _, s := range seen {
			poll(all, s.e.ID, plan.Witnesses).add(s.p, s.e)
		}
	}
	for _, b := range all {
		*b = b.regions()
	}
	return all
}

// A sighting is what an agent says of one endpoint of another region.
type sighting struct {
	vote
	family int
}

// believable appends the agent's fresh sightings of other regions to all, which is empty, without those of families in which it sees
// everything failing.
func (a *agent) believable(all []sighting, plan *Plan, lease time.Duration, now time.Time) []sighting {
	var sees [families]bool
	for _, p := range a.parts {
		if p == nil || now.Sub(p.at) >= lease {
			continue
		}
		for i := range p.Endpoints {
			e := &p.Endpoints[i]
			target := plan.targets[e.ID]
			if target == nil || target.Region == a.region || e.State == Unknown {
				continue
			}
			if plan.keyed(target.Region) && !plan.keyed(a.region) {
				continue
			}
			family := target.family()
			sees[family] = sees[family] || e.State == Up
			all = append(all, sighting{vote{p, e}, family})
		}
	}
	return slices.DeleteFunc(all, func(s sighting) bool { return !sees[s.family] })
}

// weigh is what a result says of its endpoint, and whether it counts. A failure in another region counts only if some check of the family in
// another region succeeded that began after the last failure that counted was over, and was over when this one began: it may be the agent
// that is cut off. So a cut adds one at most to the failures of an endpoint, and it takes two (fallAbroad). Another failure is as if the
// check could not be made: what was up becomes unknown. So does what was down, but not while some other check was good the last
// time: it is no cut then, and soon more is known.
func (a *checker) weigh(r result) (o outcome, counts bool) {
	w := r.watch
	a.recall(w, r.state == Up)
	if !w.abroad {
		return r.outcome, true
	}
	family := w.users[0].family()
	switch {
	case r.state == Up && r.began.After(a.reached[family].get()):
		a.reached[family].Store(&r.began)
	case r.state == Down && r.reached.After(w.counted):
		w.counted = r.at
	case r.state == Down && w.state == Down && a.well[family] > 0:
		return r.outcome, false
	case r.state == Down:
		o = r.outcome
		o.state, o.why, o.text = Unknown, reason{code: reasonCutOff}, cmp.Or(o.text, o.why.String())
		return o, true
	}
	return r.outcome, true
}

// recall notes how the last check of a watch was.
func (a *checker) recall(w *watch, good bool) {
	if w.abroad && w.good != good {
		if good {
			a.well[w.users[0].family()]++
		} else {
			a.well[w.users[0].family()]--
		}
	}
	w.good = good
}

// recount notes which watches are of other regions than the agent's alone, and how many of these were good.
func (a *checker) recount(region string) {
	a.well = [families]int{}
	for _, w := range a.watches {
		was := w.abroad
		w.abroad = !w.ofRegion(region)
		if w.abroad && !was { // its failures counted in another way
			w.counted, w.opposing = time.Now(), 0
		}
		if w.abroad && w.good {
			a.well[w.users[0].family()]++
		}
	}
}

// A moment is a time that goroutines share.
type moment struct{ atomic.Pointer[time.Time] }

// get is the time, zero if none was set.
func (m *moment) get() time.Time {
	if t := m.Load(); t != nil {
		return *t
	}
	return time.Time{}
}

// The families of endpoints: one can be out of order alone.
const (
	familyHost = iota
	familyIPv4
	familyIPv6
	families
)

var familyNames = [families]string{"host names", "IPv4", "IPv6"}

func (t *Target) family() int {
	switch {
	case t.addr.Is4():
		return familyIPv4
	case t.addr.Is6():
		return familyIPv6
	}
	return familyHost
}

// duties are the targets of other regions that an agent is to probe: those of each service in a region for which it is among the
// first of the plan's number, in an order of all agents by hash (rendezvous hashing, Thaler and Ravishankar, 1998), of one region the first
// alone, and for a region that is bound to keys among those of such regions. Who comes or goes moves only the duties that it takes or
// leaves. agents are those that are heard, this one among them.
func (p *Plan) duties(self agentKey, agents []agentKey) (mine []Target) {
	if p == nil || p.Witnesses == 0 {
		return nil
	}
	keyed := slices.DeleteFunc(slices.Clone(agents), func(a agentKey) bool { return !p.keyed(a.region) })
	hashes, keyedHashes := hashesOf(agents), hashesOf(keyed)
	chosen := make(map[string]bool) // by service and region
	for i := range p.Targets {
		t := &p.Targets[i]
		if t.Region == self.region {
			continue
		}
		key := t.Service + "\x00" + t.Region
		is, known := chosen[key]
		if !known {
			if p.keyed(t.Region) {
				is = slices.Contains(p.witnesses(key, t.Region, keyed, keyedHashes), self)
			} else {
				is = slices.Contains(p.witnesses(key, t.Region, agents, hashes), self)
			}
			chosen[key] = is
		}
		if is {
			mine = append(mine, *t)
		}
	}
	return mine
}

func hashesOf(agents []agentKey) []uint64 {
	hashes := make([]uint64, len(agents))
	for i, a := range agents {
		hashes[i] = xxhash.Sum64String(a.region + "\x00" + a.name)
	}
	return hashes
}

// witnesses are the agents that probe a service in a region; hashes are the agents'. One pass, since a mesh has a thousand of each.
func (p *Plan) witnesses(key, region string, agents []agentKey, hashes []uint64) (chosen []agentKey) {
	salt := xxhash.Sum64String(key)
	ranks := make([]uint64, 0, p.Witnesses+1) // of the chosen, ascending
	for i, a := range agents {
		rank := mix(salt ^ hashes[i])
		if a.region == region || len(ranks) == p.Witnesses && rank >= ranks[len(ranks)-1] {
			continue
		}
		if same := slices.IndexFunc(chosen, func(c agentKey) bool { return c.region == a.region }); same >= 0 {
			if rank >= ranks[same] {
				continue
			}
			chosen, ranks = slices.Delete(chosen, same, same+1), slices.Delete(ranks, same, same+1)
		}
		at, _ := slices.BinarySearch(ranks, rank)
		chosen, ranks = slices.Insert(chosen, at, a), slices.Insert(ranks, at, rank)
		if len(ranks) > p.Witnesses {
			chosen, ranks = chosen[:p.Witnesses], ranks[:p.Witnesses]
		}
	}
	return chosen
}

// mix spreads the bits of a hash (the finalizer of SplitMix64, Steele, Lea and Flood, 2014).
func mix(x uint64) uint64 {
	x = (x ^ x>>30) * 0xbf58476d1ce4e5b9
	x = (x ^ x>>27) * 0x94d049bb133111eb
	return x ^ x>>31
}
