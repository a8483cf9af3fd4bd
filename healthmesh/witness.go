package healthmesh

import (
	"cmp"
	"slices"
	"strings"
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
	chosen := make(map[string]bool) // by service and region
	for i := range p.Targets {
		t := &p.Targets[i]
		if t.Region == self.region {
			continue
		}
		key := t.Service + "\x00" + t.Region
		is, known := chosen[key]
		if !known {
			is = slices.Contains(p.witnesses(key, t.Region, agents), self)
			chosen[key] = is
		}
		if is {
			mine = append(mine, *t)
		}
	}
	return mine
}

// witnesses are the agents that probe a service in a region.
func (p *Plan) witnesses(key, region string, agents []agentKey) (chosen []agentKey) {
	type ranked struct {
		agentKey
		rank uint64
	}
	var all []ranked
	for _, a := range agents {
		if a.region != region {
			all = append(all, ranked{a, xxhash.Sum64String(key + "\x00" + a.region + "\x00" + a.name)})
		}
	}
	slices.SortFunc(all, func(a, b ranked) int {
		return cmp.Or(cmp.Compare(a.rank, b.rank), strings.Compare(a.region, b.region), strings.Compare(a.name, b.name))
	})
	for _, a := range all {
		if len(chosen) == p.Witnesses {
			break
		}
		if !slices.ContainsFunc(chosen, func(c agentKey) bool { return c.region == a.region }) {
			chosen = append(chosen, a.agentKey)
		}
	}
	return chosen
}
