package steer

import (
	"encoding/binary"
	"slices"

	"github.com/nearcast/nearcast/geo"
)

// maxGroups is the most groups of a chain: what four groups refuse would not be carried by a fifth, farther still, and each more
// makes more kinds of chain, so more classes of networks.
const maxGroups = 4

// A chain is the regions that answer: the nearest group and, if all of it may refuse a network, the next ones in rank order
// until one has a region that refuses none.
type chain struct {
	members  []uint16 // positions in Service.Members, group by group; at least one
	ends     []int    // where each group ends in members; at least one
	tier     State    // of the members: Up or Unknown, beside Held; Down for a chain that fails open
	failOpen bool
	doubtful bool // it fails open, or a member is Held
}

// nearest is the first group.
func (c chain) nearest() []uint16 { return c.members[:c.ends[0]] }

// tierOf is the best state that any member has and that may answer by evidence or a pin: Up, else Unknown,
// else nothing is left and the service fails open.
func tierOf(all []belief, f family) (tier State, failOpen bool) {
	for _, tier := range []State{Up, Unknown} {
		if slices.ContainsFunc(all, func(b belief) bool { return b.state[f] == tier }) {
			return tier, false
		}
	}
	return Down, true
}

// choose takes a ranking through the stages state, rank, group and spill: the first live region and those live ones within its
// reach, and so on while all of the last group may refuse. If no region is live, all are taken as if they were up and
// refused nothing (fail open), so that there is always an answer.
func choose(r geo.Ranking, all []belief, f family) chain {
	tier, failOpen := tierOf(all, f)
	c := chain{tier: tier, failOpen: failOpen}
	live := func(j uint16) bool {
		state := all[j].state[f]
		return failOpen || state == tier || state == Held
	}
	for at := 0; at < len(r.Order) && len(c.ends) < maxGroups; at++ {
		if !live(r.Order[at]) {
			continue
		}
		first, last := len(c.members), int(r.Reach[at])
		for _, j := range r.Order[at : last+1] {
			if live(j) {
				c.members = append(c.members, j)
			}
		}
		c.ends = append(c.ends, len(c.members))
		if failOpen || slices.ContainsFunc(c.members[first:], func(j uint16) bool { return all[j].admit == 1 }) {
			break
		}
		at = last
	}
	c.doubtful = failOpen || slices.ContainsFunc(c.members, func(j uint16) bool { return all[j].state[f] == Held })
	return c
}

// classify gives each ranking the class of its chain: rankings that choose the same
// regions share one, so that geography can merge their networks.
func classify(rankings []geo.Ranking, all []belief, f family) (class []uint32, chains []chain) {
	class = make([]uint32, len(rankings))
	known := map[string]uint32{}
	for i, r := range rankings {
		c := choose(r, all, f)
		key := c.sort()
		n, ok := known[key]
		if !ok {
			n = uint32(len(chains))
			known[key] = n
			chains = append(chains, c)
		}
		class[i] = n
	}
	return class, chains
}

// sort brings each group into one order, on which the pick does not depend, and returns a text that is alike for chains of the
// same groups.
func (c chain) sort() string {
	b := make([]byte, 0, 2*(len(c.members)+len(c.ends)))
	lo := 0
	for _, hi := range c.ends {
		group := c.members[lo:hi]
		slices.Sort(group)
		b = binary.BigEndian.AppendUint16(b, uint16(len(group)))
		for _, m := range group {
			b = binary.BigEndian.AppendUint16(b, m)
		}
		lo = hi
	}
	return string(b)
}
