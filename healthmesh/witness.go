package healthmesh

import (
	"slices"
	"time"

	"github.com/cespare/xxhash/v2"
)

// A testified is what agents of other regions say of one endpoint.
type testified struct {
	byRegion map[string]*ballot // the votes of agents
	ballot   ballot             // the votes of regions
}

// votes are the votes of regions, nil if there are none.
func (t *testified) votes() *ballot {
	if t == nil {
		return nil
	}
	return &t.ballot
}

// testimony gathers what agents say of endpoints that are not of their regions: fresh, of agents that are not cut off themselves.
// Without a plan there is none: nothing tells of which region an endpoint is.
func testimony(t *table, plan *Plan, lease time.Duration, now time.Time) map[EndpointID]*testified {
	if plan == nil {
		return nil
	}
	all := make(map[EndpointID]*testified)
	for _, a := range t.agents {
		if p := a.heard(); p == nil || p.Leaving {
			continue
		}
		for _, p := range a.believable(plan, lease, now) {
			t := all[p.id]
			if t == nil {
				t = &testified{byRegion: make(map[string]*ballot)}
				all[p.id] = t
			}
			b := t.byRegion[a.region]
			if b == nil {
				b = new(ballot)
				t.byRegion[a.region] = b
			}
			*b = append(*b, p.vote)
		}
	}
	for _, t := range all {
		for region, b := range t.byRegion {
			up, down := b.count(Up), b.count(Down)
			if up == down {
				continue
			}
			most := Up
			if down > up {
				most = Down
			}
			e := b.first(most)
			e.voter = region
			t.ballot = append(t.ballot, e)
		}
	}
	return all
}

// A sighting is what an agent says of one endpoint of another region.
type sighting struct {
	id   EndpointID
	vote vote
}

// believable are the agent's fresh sightings of other regions, without those of families in which it sees everything failing.
func (a *agent) believable(plan *Plan, lease time.Duration, now time.Time) (all []sighting) {
	var sees [families]bool
	for _, p := range a.parts {
		if p == nil || now.Sub(p.at) >= lease {
			continue
		}
		for _, e := range p.Endpoints {
			target := plan.targets[e.ID]
			if target == nil || target.Region == a.region || e.State == Unknown {
				continue
			}
			sees[target.family()] = sees[target.family()] || e.State == Up
			all = append(all, sighting{e.ID, voteOf(a.name, p, e)})
		}
	}
	return slices.DeleteFunc(all, func(s sighting) bool { return !sees[plan.targets[s.id].family()] })
}

// The families of endpoints: one can be out of order alone.
const (
	familyHost = iota
	familyIPv4
	familyIPv6
	families
)

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
// alone. Who comes or goes moves only the duties that it takes or leaves. agents are those that are heard, this one among them.
func (p *Plan) duties(self agentKey, agents []agentKey) (mine []Target) {
	if p == nil || p.Witnesses == 0 {
		return nil
	}
	hashes := make([]uint64, len(agents))
	for i, a := range agents {
		hashes[i] = xxhash.Sum64String(a.region + "\x00" + a.name)
	}
	chosen := make(map[string]bool) // by service and region
	for i := range p.Targets {
		t := &p.Targets[i]
		if t.Region == self.region {
			continue
		}
		key := t.Service + "\x00" + t.Region
		is, known := chosen[key]
		if !known {
			is = slices.Contains(p.witnesses(key, t.Region, agents, hashes), self)
			chosen[key] = is
		}
		if is {
			mine = append(mine, *t)
		}
	}
	return mine
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
