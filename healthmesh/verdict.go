package healthmesh

import (
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
func judgeEndpoint(inside, outside *ballot, before Endpoint) Endpoint {
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

// A vote is what one agent, or all of one region, say of an endpoint.
type vote struct {
	voter  string
	state  State
	reason reason
	since  Stamp
	at     time.Time // the same by this node's monotonic clock
}

// A ballot is the votes on one endpoint. Nil has none.
type ballot []vote

func (b *ballot) count(s State) (n int) {
	for _, v := range b.all() {
		if v.state == s {
			n++
		}
	}
	return n
}

func (b *ballot) all() []vote {
	if b == nil {
		return nil
	}
	return *b
}

// verdict is up for more votes up than down, down for as many or more down if these are at least quorum; two in a tie are no quorum
// of more than one.
func (b *ballot) verdict(quorum int) State {
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
func (b *ballot) first(s State) vote {
	var first *vote
	for i, v := range *b {
		if v.state == s && (first == nil || v.since < first.since || v.since == first.since && v.voter < first.voter) {
			first = &(*b)[i]
		}
	}
	return *first
}

func (v vote) endpoint() Endpoint {
	return Endpoint{State: v.state, Reason: v.reason.String(), Since: v.since, At: v.at}
}

// voters are who voted for the state, by name.
func (b *ballot) voters(s State) (names []string) {
	for _, v := range *b {
		if v.state == s {
			names = append(names, v.voter)
		}
	}
	slices.Sort(names)
	return names
}

// voteOf is an entry of an agent's report as a vote.
func voteOf(voter string, p *part, e reported) vote {
	ago := time.Duration(p.Elapsed-e.Since) * time.Millisecond
	return vote{voter: voter, state: e.State, reason: e.Reason, since: p.stamp(e.Since), at: p.at.Add(-ago)}
}

// endpoints are those that the region's agents name, and what is found of each.
func (e evidence) endpoints(reports []*part, before map[EndpointID]Endpoint) map[EndpointID]Endpoint {
	inside := make(map[EndpointID]*ballot)
	for _, p := range reports {
		for _, r := range p.Endpoints {
			if e.plan.region(r.ID, e.name) != e.name {
				continue // it is a witness of that one
			}
			b := inside[r.ID]
			if b == nil {
				b = new(ballot)
				inside[r.ID] = b
			}
			*b = append(*b, voteOf(p.Agent, p, r))
		}
	}
	all := make(map[EndpointID]Endpoint, len(inside))
	for id, b := range inside {
		was := before[id]
		now := judgeEndpoint(b, e.witness[id].votes(), was)
		if now.State == was.State && now.Since == was.Since {
			now.At = was.At // one instant, not one for each report's way here
		}
		all[id] = now
	}
	return all
}
