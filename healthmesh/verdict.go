package healthmesh

import (
	"cmp"
	"slices"
	"strings"
	"time"
)

// judgeEndpoint is the rule by which what a region's own agents find (inside) and what agents of other regions find (outside) make
// the state of one endpoint. The first row that applies decides:
//
//	inside        outside        the endpoint is
//	down          any            down: its own agents see what is behind it
//	any           unreachable    down: it may work, but not for those who are to come
//	up            any other      up
//	no verdict    reachable      up: its agents have not checked yet, or cannot
//	no verdict    no verdict     as it was believed before
//
// Inside, the region's agents vote: more for up than for down is up; as many or fewer is down, since a wrong down costs some share and
// a wrong up costs users; none for either is no verdict.
//
// Outside, regions vote, not agents, because a region's keys are what is trusted: a region's vote is that of most of its agents,
// none if they are even. Unreachable needs two regions and more than half of those that vote; reachable needs more than half. So no
// single agent, nor all agents of one region, can take another region's endpoint out.
//
// An agent for which all endpoints of a family (IPv4, IPv6, host names) outside of its region fail abstains for that family: it is
// the one that is cut off, or has no such family.
func judgeEndpoint(inside, outside ballot, before Endpoint) Endpoint {
	in, out := inside.verdict(1), outside.verdict(2)
	switch {
	case in == Down:
		return inside.first(Down).endpoint()
	case out == Down:
		e := outside.first(Down).endpoint()
		e.Reason = unreachable + e.Reason + ", seen from " + strings.Join(outside.voters(Down), ", ")
		return e
	case in == Up:
		return inside.first(Up).endpoint()
	case out == Up:
		return outside.first(Up).endpoint()
	}
	return before
}

// A vote is what one agent says of an endpoint; in the ballot of regions it stands for all of its region.
type vote struct {
	agentKey
	state  State
	reason reason
	since  Stamp
	at     time.Time // the same by this node's monotonic clock
}

// A ballot is the votes on one endpoint.
type ballot []vote

func (b ballot) count(s State) (n int) {
	for i := range b {
		if b[i].state == s {
			n++
		}
	}
	return n
}

// verdict is up for more votes up than down, down for as many or more down if these are at least quorum; two in a tie are no quorum
// of more than one.
func (b ballot) verdict(quorum int) State {
	up, down := b.count(Up), b.count(Down)
	switch {
	case up > down:
		return Up
	case down >= quorum && (down > up || quorum == 1 && down > 0):
		return Down
	}
	return Unknown
}

// first is the first vote, by stamp and name, for a state that has some.
func (b ballot) first(s State) *vote {
	var first *vote
	for i := range b {
		if v := &b[i]; v.state == s && (first == nil || v.before(first)) {
			first = v
		}
	}
	return first
}

func (v *vote) before(o *vote) bool {
	return cmp.Or(cmp.Compare(v.since, o.since), cmp.Compare(v.region, o.region), cmp.Compare(v.name, o.name)) < 0
}

func (v *vote) endpoint() Endpoint {
	return Endpoint{State: v.state, Reason: v.reason.String(), Since: v.since, At: v.at}
}

// voters are the regions that voted for the state, by name.
func (b ballot) voters(s State) (names []string) {
	for i := range b {
		if b[i].state == s {
			names = append(names, b[i].region)
		}
	}
	slices.Sort(names)
	return names
}

// regions makes the votes of agents those of their regions, in place: of each region the first vote of those that are most.
func (b ballot) regions() ballot {
	slices.SortFunc(b, func(v, o vote) int { return cmp.Compare(v.region, o.region) })
	all := b[:0]
	for len(b) > 0 {
		n := 1
		for n < len(b) && b[n].region == b[0].region {
			n++
		}
		one := b[:n]
		b = b[n:]
		switch up, down := one.count(Up), one.count(Down); {
		case up > down:
			all = append(all, *one.first(Up))
		case down > up:
			all = append(all, *one.first(Down))
		}
	}
	return all
}

// voteOf is an entry of an agent's report as a vote.
func voteOf(voter agentKey, p *part, e *reported) vote {
	ago := time.Duration(p.Elapsed-e.Since) * time.Millisecond
	return vote{agentKey: voter, state: e.State, reason: e.Reason, since: p.stamp(e.Since), at: p.at.Add(-ago)}
}

// endpoints are those that the region's agents name, and what is found of each.
func (e evidence) endpoints(reports []*part, before map[EndpointID]Endpoint) map[EndpointID]Endpoint {
	inside := make(map[EndpointID]ballot, len(before))
	for _, p := range reports {
		voter := agentKey{e.name, p.Agent}
		for i := range p.Endpoints {
			r := &p.Endpoints[i]
			if e.plan.region(r.ID, e.name) != e.name {
				continue // it is a witness of that one
			}
			b := inside[r.ID]
			if b == nil {
				b = make(ballot, 0, len(e.fresh))
			}
			inside[r.ID] = append(b, voteOf(voter, p, r))
		}
	}
	all := make(map[EndpointID]Endpoint, len(inside))
	for id, b := range inside {
		was := before[id]
		now := judgeEndpoint(b, e.witness[id], was)
		if now.State == was.State && now.Since == was.Since {
			now.At = was.At // one instant, not one for each report's way here
		}
		all[id] = now
	}
	return all
}
