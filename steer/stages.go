package steer

import (
	"fmt"
	"strings"

	"github.com/nearcast/nearcast/geo"
	"github.com/nearcast/nearcast/zones"
)

// stages puts into words what each stage did, in the order in which they ran.
func (e *Explanation) stages(s *Snapshot, svc *zones.Service, g chain, f family, picked []uint16, l geo.Location, c geo.Client) {
	add := func(name, format string, args ...any) {
		e.Stages = append(e.Stages, Stage{name, fmt.Sprintf(format, args...)})
	}
	var states, order []string
	for _, cand := range e.Candidates {
		states = append(states, cand.Region+" "+cand.State)
		order = append(order, cand.Region)
	}
	add("state", "%s", strings.Join(states, ", "))
	if text := s.guardText(svc, f); text != "" {
		add("guard", "%s", text)
	}
	switch {
	case svc.Policy == zones.Weighted:
		add("rank", "weighted: no order")
	case svc.Policy == zones.Failover:
		add("rank", "failover: %s", strings.Join(order, ", "))
	case l.Region != "":
		add("rank", "an override names %s: %s", l.Region, strings.Join(order, ", "))
	case !l.Known:
		add("rank", "nearest: the client's place is unknown, so all regions are one group")
	default:
		add("rank", "nearest: %s", strings.Join(order, ", "))
	}
	switch {
	case g.failOpen:
		add("group", "no region can answer: fail open with %s", s.names(svc, g.members))
	case svc.Policy == zones.Nearest:
		add("group", "within %g km of the nearest live region: %s", svc.BandKM, s.names(svc, g.nearest()))
	default:
		add("group", "%s", s.names(svc, g.nearest()))
	}
	if text := s.spillText(svc, g); text != "" {
		add("spill", "%s", text)
	}
	if len(g.members) == 1 {
		add("pick", "%s, the only one", s.names(svc, picked))
		return
	}
	_, share := shareNetwork(c.Addr)
	network, _ := c.Addr.Prefix(share)
	add("pick", "%s, by the hash of %v", s.names(svc, picked), network)
}

// guardText says what the guard holds in the answers.
func (s *Snapshot) guardText(svc *zones.Service, f family) string {
	all := s.beliefs[svc.Index]
	var held []uint16
	for j := range all {
		if all[j].state[f] == Held {
			held = append(held, uint16(j))
		}
	}
	if held == nil {
		return ""
	}
	return fmt.Sprintf("%.0f %% of the capacity is out already, at most %d %% may be: held in the answers, with all addresses and a TTL of at most %d s: %s",
		100*removed(svc, f, all), svc.Removal, doubtTTL, s.names(svc, held))
}

// spillText says what part of its clients each region takes that does not take all of them, and where the others go.
func (s *Snapshot) spillText(svc *zones.Service, g chain) string {
	var parts []string
	for _, j := range g.members {
		if a := g.admits(&s.beliefs[svc.Index][j]); a < 1 {
			parts = append(parts, fmt.Sprintf("%s takes %.0f %% of its clients", s.regionName(svc, j), 100*a))
		}
	}
	if further := g.members[g.ends[0]:]; len(further) > 0 {
		parts = append(parts, "whom all of the group refuse go on to "+s.names(svc, further))
	}
	return strings.Join(parts, ", ")
}

func (s *Snapshot) names(svc *zones.Service, members []uint16) string {
	var out []string
	for _, j := range members {
		out = append(out, s.regionName(svc, j))
	}
	return strings.Join(out, ", ")
}
