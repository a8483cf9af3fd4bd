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

// A vote is what one agent says of an endpoint: an entry of its report. In the ballot of regions it stands for all of its region.
type vote struct {
	p *part
	e *reported
}

// A ballot is the votes on one endpoint.
type ballot []vote

// poll is the ballot on an endpoint, with room for the votes that are likely.
func poll(all map[EndpointID]*ballot, id EndpointID, likely int) *ballot {
	b := all[id]
	if b == nil {
		b = new(ballot)
		*b = make(ballot, 0, likely)
		all[id] = b
	}
	return b
}

func (b *ballot) add(p *part, e *reported) { *b = append(*b, vote{p, e}) }

// votes of a ballot that nobody made are none.
func (b *ballot) votes() ballot {
	if b == nil {
		return nil
	}
	return *b
}

func (b ballot) count(s State) (n int) {
	for i := range b {
		if b[i].e.State == s {
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
func (b ballot) first(s State) vote {
	var first vote
	for _, v := range b {
		if v.e.State == s && (first.e == nil || v.before(first)) {
			first = v
		}
	}
	return first
}

func (v vote) since() Stamp { return v.p.stamp(v.e.Since) }

func (v vote) before(o vote) bool {
	return cmp.Or(cmp.Compare(v.since(), o.since()), cmp.Compare(v.p.Region, o.p.Region), cmp.Compare(v.p.Agent, o.p.Agent)) < 0
}

func (v vote) endpoint() Endpoint {
	ago := time.Duration(v.p.Elapsed-v.e.Since) * time.Millisecond
	return Endpoint{State: v.e.State, Reason: v.e.Reason.String(), Since: v.since(), At: v.p.at.Add(-ago)}
}

// voters are the regions that voted for the state, by name.
func (b ballot) voters(s State) (names []string) {
	for i := range b {
		if b[i].e.State == s {
			names = append(names, b[i].p.Region)
		}
	}
	slices.Sort(names)
	return names
}

// regions makes the votes of agents those of their regions, in place: of each region the first vote of those that are most.
func (b ballot) regions() ballot {
	slices.SortFunc(b, func(v, o vote) int { return cmp.Compare(v.p.Region, o.p.Region) })
	all := b[:0]
	for len(b) > 0 {
		n := 1
		for n < len(b) && b[n].p.Region == b[0].p.Region {
			n++
		}
		one := b[:n]
		b = b[n:]
		switch up, down := one.count(Up), one.count(Down); {
		case up > down:
			all = append(all, one.first(Up))
		case down > up:
			all = append(all, one.first(Down))
		}
	}
	return all
}

// endpoints are those that the region's agents name, and what is found of each.
func (e evidence) endpoints(reports []*part, before map[EndpointID]Endpoint) map[EndpointID]Endpoint {
	inside := make(map[EndpointID]*ballot, len(before))
	for _, p := range reports {
		for i := range p.Endpoints {
			r := &p.Endpoints[i]
			if e.plan.region(r.ID, e.name) != e.name {
				continue // it is a witness of that one
			}
			poll(inside, r.ID, len(e.fresh)).add(p, r)
		}
	}
	all := make(map[EndpointID]Endpoint, len(inside))
	for id, b := range inside {
		was := before[id]
		now := judgeEndpoint(*b, e.witness[id].votes(), was)
		if now.State == was.State && now.Since == was.Since {
			now.At = was.At // one instant, not one for each report's way here
		}
		all[id] = now
	}
	return all
}
