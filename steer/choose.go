package steer

import (
	"slices"

	"github.com/nearcast/nearcast/geo"
)

// group is the regions that answer together: positions in Service.Members, in rank
// order. It is never empty.
type group struct {
	members  []uint16
	tier     State // Up or Unknown; Down for a group that fails open
	failOpen bool
}

// tierOf is the best state that any member has and that may answer: Up, else Unknown,
// else nothing is left and the service fails open.
func tierOf(states []State) (tier State, failOpen bool) {
	for _, tier := range []State{Up, Unknown} {
		if slices.Contains(states, tier) {
			return tier, false
		}
	}
	return Down, true
}

// choose takes a ranking through the stages state, rank and group: the first live
// region and those live ones within its reach. If no region is live, all are taken
// as if they were (fail open), so that there is always an answer.
func choose(r geo.Ranking, states []State) group {
	tier, failOpen := tierOf(states)
	live := func(at int) bool { return failOpen || states[r.Order[at]] == tier }
	first := 0
	for !live(first) {
		first++
	}
	g := group{tier: tier, failOpen: failOpen}
	for at := first; at <= int(r.Reach[first]); at++ {
		if live(at) {
			g.members = append(g.members, r.Order[at])
		}
	}
	return g
}

// classify gives each ranking the class of its group: rankings that choose the same
// regions share one, so that geography can merge their networks.
func classify(rankings []geo.Ranking, states []State) (class []uint32, groups []group) {
	class = make([]uint32, len(rankings))
	known := map[string]uint32{}
	for i, r := range rankings {
		g := choose(r, states)
		slices.Sort(g.members) // one order for one set: the pick does not depend on it
		key := memberKey(g.members)
		c, ok := known[key]
		if !ok {
			c = uint32(len(groups))
			known[key] = c
			groups = append(groups, g)
		}
		class[i] = c
	}
	return class, groups
}

func memberKey(members []uint16) string {
	b := make([]byte, 0, 2*len(members))
	for _, m := range members {
		b = append(b, byte(m>>8), byte(m))
	}
	return string(b)
}
