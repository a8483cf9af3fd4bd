package steer

import (
	"fmt"
	"slices"
	"strings"

	"github.com/nearcast/nearcast/healthmesh"
	"github.com/nearcast/nearcast/zones"
)

// A Change is one thing that differs between two snapshots, for logs and for people.
type Change struct {
	Region   string   // "" for a service that began or ceased to fail open
	Services []string // that it holds for
	Endpoint string   // "" for the whole region
	From, To string   // a State's name, or "up in part" where some clients are refused; "open", "closed" for failing open
	Cause    string
}

// failsOpen tells if services began to fail open.
func (c Change) failsOpen() bool { return c.Region == "" && c.To == "open" }

// alarms tells if an operator should look: answers are given against the evidence.
func (c Change) alarms() bool { return c.failsOpen() || c.To == Held.String() }

func (c Change) String() string {
	what := c.Region
	if c.Endpoint != "" {
		what += " " + c.Endpoint
	}
	services := strings.Join(c.Services, ", ")
	if c.Region == "" {
		if c.failsOpen() {
			return fmt.Sprintf("%s fails open: no region can answer, so all are taken as if they could, whatever orders say", services)
		}
		return services + " no longer fails open"
	}
	return fmt.Sprintf("%s %s (was %s) for %s: %s", what, c.To, c.From, services, c.Cause)
}

// Changes lists what differs in the states that steering sees, with the causes that the
// view after names. Services that a change holds for alike are listed together.
func Changes(before, after *Snapshot, v *healthmesh.View) []Change {
	var all []Change
	olds := make(map[string]*zones.Service, len(before.Set.Services))
	for _, svc := range before.Set.Services {
		olds[svc.Name] = svc
	}
	for _, svc := range after.Set.Services {
		old := olds[svc.Name]
		if old == nil {
			continue
		}
		for j := range svc.Members {
			if i := before.member(old, after.regionName(svc, uint16(j))); i >= 0 {
				all = appendMemberChanges(all, before, after, v, old, svc, i, j)
			}
		}
		if was, is := before.failsOpen(old), after.failsOpen(svc); was != is {
			words := map[bool]string{true: "open", false: "closed"}
			all = appendChange(all, Change{From: words[was], To: words[is]}, svc.Name)
		}
	}
	return all
}

func appendMemberChanges(all []Change, before, after *Snapshot, v *healthmesh.View, old, svc *zones.Service, i, j int) []Change {
	was, is := before.beliefs[old.Index][i], after.beliefs[svc.Index][j]
	region := after.regionName(svc, uint16(j))
	if from, to := was.word(old), is.word(svc); from != to {
		return appendChange(all, Change{Region: region, From: from, To: to, Cause: after.cause(v, svc, j)}, svc.Name)
	}
	switch is.best(svc) {
	case Draining, PinnedDown, Down:
		return all
	}
	oldEnds := endpoints(old.Members[i])
	for k, e := range endpoints(svc.Members[j]) {
		k0 := slices.IndexFunc(oldEnds, func(o endpoint) bool { return o.name == e.name })
		if k0 < 0 || was.endpoints[k0] == is.endpoints[k] {
			continue
		}
		reason := "check passes"
		if r := v.Regions[region]; r != nil && is.endpoints[k] != healthmesh.Up {
			reason = r.Endpoints[healthmesh.ID(svc.Name, region, e.name)].Reason
		}
		all = appendChange(all, Change{
			Region: region, Endpoint: e.name, From: evidence(was.endpoints[k0]), To: evidence(is.endpoints[k]), Cause: reason,
		}, svc.Name)
	}
	return all
}

// appendChange adds a change, or its service to one that is the same but for that.
func appendChange(all []Change, c Change, service string) []Change {
	for i, o := range all {
		if o.Region == c.Region && o.Endpoint == c.Endpoint && o.From == c.From && o.To == c.To && o.Cause == c.Cause {
			all[i].Services = append(o.Services, service)
			return all
		}
	}
	c.Services = []string{service}
	return append(all, c)
}

// best is the state of a member over all families; that it is held in one comes before all else.
func (b belief) best(svc *zones.Service) State {
	for _, state := range []State{Held, Draining, PinnedDown, Up, Unknown} {
		if slices.ContainsFunc(asked(svc), func(f family) bool { return b.state[f] == state }) {
			return state
		}
	}
	return Down
}

// word is the best state, and whether the member takes all of its clients.
func (b belief) word(svc *zones.Service) string {
	if state := b.best(svc); state != Up || b.admit == 1 {
		return state.String()
	}
	return "up in part"
}

func (s *Snapshot) member(svc *zones.Service, region string) int {
	return slices.IndexFunc(svc.Members, func(m zones.Member) bool { return s.Set.Regions[m.Region].Name == region })
}

func (s *Snapshot) failsOpen(svc *zones.Service) bool {
	for _, f := range asked(svc) {
		if s.faces[svc.Index][f].choices[0].failOpen {
			return true
		}
	}
	return false
}
