package healthmesh

import (
	"cmp"
	"slices"
	"time"
)

// The bounds of the table.
const (
	maxReports  = 8192           // parts of reports in all: 10 MB at most, half of what memberlist takes in one push/pull
	maxRegions  = 1024           // regions believed in; a view is rebuilt up to 50 times a second
	maxAgents   = 4096           // whose numbers are remembered; as many as a mesh has members
	regionShare = 2              // one region has at most the half of either: whoever has its keys cannot keep the others out
	forgetAfter = 1 * time.Hour  // a silent agent's report is dropped; what was believed of its region, and the agent's number, stay
	numberAge   = 24 * time.Hour // and the number of an agent that is silent for so long is dropped when there are maxAgents
)

// A table holds the newest report of every agent. Owned by the mesh's goroutine.
type table struct {
	agents map[agentKey]*agent
	parts  int           // in all agents
	lease  time.Duration // that a report is fresh for
}

// An agentKey tells agents apart. An agent of another region with the same name is another agent: whoever may speak for one
// region cannot take the place of another's agent.
type agentKey struct{ region, name string }

// An agent is what the table holds of one agent.
type agent struct {
	agentKey
	newest  numbering
	elapsed uint64    // of its life, in the newest report
	parts   []*part   // by report.Part; nil where none came yet; as many as the newest report has; none once it is forgotten
	at      time.Time // when the newest report came; when this node began for one remembered from disk
}

// A part is one part of a report as it came.
type part struct {
	report
	raw             []byte    // as the agent encoded it, to be passed on
	body, signature []byte    // of raw
	at              time.Time // when it came, by this node's monotonic clock; what came by push/pull is older by its age
}

func newTable(lease time.Duration) *table {
	return &table{agents: make(map[agentKey]*agent), lease: lease}
}

// verdict is what became of a report.
type verdict uint8

const (
	applied  verdict = iota
	repeated         // applied, and says of states what the one before said: the usual beat
	known            // not newer than what the table has
	earlier          // of an earlier life of its agent than the table knows of
	refused          // beyond a bound
	forged           // not genuine
)

// apply puts p into the table if its number is larger than what the table has and it is genuine: the one place where this is
// decided.
func (t *table) apply(p *part, genuine func(*part) bool, now time.Time) verdict {
	if now.Sub(p.at) > forgetAfter {
		return known
	}
	key := agentKey{p.Region, p.Agent}
	a := t.agents[key]
	switch {
	case a == nil:
		a = &agent{agentKey: key}
	case a.newest.Incarnation > p.Incarnation:
		return earlier
	case a.newest.after(p.numbering):
		return known
	case a.newest == p.numbering && len(a.parts) == 0 && !p.Leaving && now.Sub(p.at) < t.lease:
		return known // forgotten, or of before a restart: who lives says more soon; that it says no more since long is news
	case a.newest == p.numbering && len(a.parts) > 0 && len(a.parts) != int(p.Parts):
		return refused // one number, two forms: not from one agent
	case a.newest == p.numbering && len(a.parts) > 0 && a.parts[p.Part] != nil && a.parts[p.Part].numbering == p.numbering:
		return known
	}
	if !genuine(p) {
		return forged
	}
	if !t.hasRoom(a, int(p.Parts)-len(a.parts), now) {
		return refused
	}
	if a.newest.Incarnation != p.Incarnation {
		t.drop(a) // another life: what the last one said of its other parts is not evidence of this one
	} else if len(a.parts) > 0 { // of a number from disk nobody knows how old it is
		p.at = a.least(p, now)
	}
	t.agents[key] = a
	a.newest, a.elapsed, a.at = p.numbering, p.Elapsed, p.at
	t.parts += int(p.Parts) - len(a.parts)
	a.parts = slices.Clip(append(a.parts, make([]*part, maxParts)...)[:p.Parts])
	before := a.parts[p.Part]
	a.parts[p.Part] = p
	if before != nil && before.Leaving == p.Leaving && slices.Equal(before.Endpoints, p.Endpoints) {
		return repeated
	}
	return applied
}

// least is when a newer report came, whatever age it claims, which is not the agent's word but that of who passed it on: no earlier than
// the one before and as much later as the agent's clock says, and not later than now.
func (a *agent) least(p *part, now time.Time) time.Time {
	at := now
	if p.Elapsed < a.elapsed {
		at = a.at
	} else if past := time.Duration(p.Elapsed-a.elapsed) * time.Millisecond; past < now.Sub(a.at) {
		at = a.at.Add(past)
	}
	if p.at.After(at) {
		return p.at
	}
	return at
}

// drop forgets what an agent said, but not its number: an old report that comes again is still old.
func (t *table) drop(a *agent) {
	t.parts -= len(a.parts)
	a.parts = nil
}

// hasRoom says whether more parts of a fit, and makes room for a number that is not there yet.
func (t *table) hasRoom(a *agent, more int, now time.Time) bool {
	held := t.agents[a.agentKey] != nil
	if held && more <= 0 {
		return true
	}
	agents, parts := 0, max(more, 0)
	for _, o := range t.agents {
		if o.region == a.region {
			agents, parts = agents+1, parts+len(o.parts)
		}
	}
	switch {
	case parts > maxReports/regionShare || more > 0 && t.parts+more > maxReports:
		return false
	case held:
		return true
	case agents >= maxAgents/regionShare:
		return t.evict(now, a.region)
	}
	return len(t.agents) < maxAgents || t.evict(now, "")
}

// evict makes room for another agent's number, if there is one that can go, of any region where region is "".
func (t *table) evict(now time.Time, region string) bool {
	var oldest *agent
	for _, a := range t.agents {
		if (region == "" || a.region == region) && len(a.parts) == 0 && now.Sub(a.at) > numberAge && (oldest == nil || a.at.Before(oldest.at)) {
			oldest = a
		}
	}
	if oldest != nil {
		delete(t.agents, oldest.agentKey)
	}
	return oldest != nil
}

// forget drops what agents said that were silent for long, and says whether there were any.
func (t *table) forget(now time.Time) (any bool) {
	for _, a := range t.agents {
		if len(a.parts) > 0 && now.Sub(a.at) > forgetAfter {
			t.drop(a)
			any = true
		}
	}
	return any
}

// heard is the part of the agent that came last, nil if none is held.
func (a *agent) heard() *part {
	var last *part
	for _, p := range a.parts {
		if p != nil && (last == nil || p.at.After(last.at) || p.at.Equal(last.at) && p.after(last.numbering)) {
			last = p
		}
	}
	return last
}

// byRegion groups the agents that said something, by name within a region.
func (t *table) byRegion() map[string][]*agent {
	regions := make(map[string][]*agent)
	for _, a := range t.agents {
		if len(a.parts) > 0 {
			regions[a.region] = append(regions[a.region], a)
		}
	}
	for _, agents := range regions {
		slices.SortFunc(agents, func(a, b *agent) int { return cmp.Compare(a.name, b.name) })
	}
	return regions
}

// all lists the parts of all agents, for push/pull.
func (t *table) all() []*part {
	list := make([]*part, 0, t.parts)
	for _, a := range t.agents {
		for _, p := range a.parts {
			if p != nil {
				list = append(list, p)
			}
		}
	}
	return list
}

// numbers are the newest numbers by agent, for the disk: with them a report that comes again after a restart is known.
func (t *table) numbers() []savedNumber {
	list := make([]savedNumber, 0, len(t.agents))
	for _, a := range t.agents {
		list = append(list, savedNumber{a.region, a.name, a.newest.Incarnation, a.newest.Sequence})
	}
	slices.SortFunc(list, func(a, b savedNumber) int {
		return cmp.Or(cmp.Compare(a.Region, b.Region), cmp.Compare(a.Agent, b.Agent))
	})
	return list
}

// remember takes numbers from the disk.
func (t *table) remember(list []savedNumber, now time.Time) {
	for _, n := range list {
		key := agentKey{n.Region, n.Agent}
		t.agents[key] = &agent{agentKey: key, newest: numbering{n.Incarnation, n.Sequence}, at: now}
	}
}
