package healthmesh

import (
	"slices"
	"strings"
	"time"
)

// The bounds of the table.
const (
	maxReports  = 8192          // parts of reports in all: 10 MB at most, half of what memberlist takes in one push/pull
	maxRegions  = 1024          // regions believed in; a view is rebuilt up to 50 times a second
	forgetAfter = 1 * time.Hour // a silent agent's report is dropped; what was believed of its region stays
)

// A table holds the newest report of every agent. Owned by the mesh's goroutine.
type table struct {
	agents map[string]*agent
	parts  int // in all agents
}

// An agent is what the table holds of one agent.
type agent struct {
	name, region string
	newest       numbering
	parts        []*part // by report.Part; nil where none came yet; as many as the newest report has
}

// A part is one part of a report as it came.
type part struct {
	report
	raw []byte    // as the agent encoded it, to be passed on
	at  time.Time // when it came, by this node's monotonic clock; what came by push/pull is older by its age
}

func newTable() *table { return &table{agents: make(map[string]*agent)} }

// verdict is what became of a report.
type verdict uint8

const (
	applied verdict = iota
	known           // not newer than what the table has
	refused         // beyond a bound
)

// apply puts p into the table if its number is larger than what the table has: the one place where this is decided.
func (t *table) apply(p *part, now time.Time) verdict {
	if now.Sub(p.at) > forgetAfter {
		return known
	}
	a := t.agents[p.Agent]
	switch {
	case a == nil:
		a = &agent{name: p.Agent, newest: p.numbering}
	case a.newest.after(p.numbering):
		return known
	case a.newest == p.numbering && len(a.parts) != int(p.Parts):
		return refused // one number, two forms: not from one agent
	case a.newest == p.numbering && a.parts[p.Part] != nil && a.parts[p.Part].numbering == p.numbering:
		return known
	}
	if more := int(p.Parts) - len(a.parts); more > 0 && t.parts+more > maxReports {
		return refused
	}
	if a.newest.Incarnation != p.Incarnation || a.region != p.Region {
		t.drop(a) // another life: what the last one said of its other parts is not evidence of this one
	}
	t.agents[p.Agent] = a
	a.region, a.newest = p.Region, p.numbering
	t.parts += int(p.Parts) - len(a.parts)
	a.parts = slices.Clip(append(a.parts, make([]*part, maxParts)...)[:p.Parts])
	a.parts[p.Part] = p
	return applied
}

// drop takes an agent out of the table.
func (t *table) drop(a *agent) {
	t.parts -= len(a.parts)
	a.parts = nil
	delete(t.agents, a.name)
}

// forget drops the agents that were silent for long.
func (t *table) forget(now time.Time) {
	for _, a := range t.agents {
		if now.Sub(a.heard().at) > forgetAfter {
			t.drop(a)
		}
	}
}

// heard is the part of the agent that came last; every agent in the table has one.
func (a *agent) heard() *part {
	var last *part
	for _, p := range a.parts {
		if p != nil && (last == nil || p.at.After(last.at) || p.at.Equal(last.at) && p.after(last.numbering)) {
			last = p
		}
	}
	return last
}

// byRegion groups the agents, by name within a region.
func (t *table) byRegion() map[string][]*agent {
	regions := make(map[string][]*agent)
	for _, a := range t.agents {
		regions[a.region] = append(regions[a.region], a)
	}
	for _, agents := range regions {
		slices.SortFunc(agents, func(a, b *agent) int { return strings.Compare(a.name, b.name) })
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
