package steer

import (
	"fmt"
	"strings"

	"github.com/nearcast/nearcast/healthmesh"
)

// A RegionStatus is what a snapshot believes of one region as a whole.
type RegionStatus struct {
	State State
	Cause string
}

// A tally is what evidence says of all endpoints that services have in one region.
type tally struct {
	count  [healthmesh.Down + 1]int // endpoints, by state
	reason string                   // of those that are down, "" if it is not the same for all
	held   int                      // services in which a guard keeps the region in the answers
	orders int                      // services for which its order holds
	of     int                      // services that have it
}

// Regions tells what is believed of the regions, by position in Set.Regions; the view, the newest there is, tells why.
//
// An order or silence makes a region's state, else its best endpoint of any service. An order without effect on any of its services, for
// their min_active, is none. The region is held where guards keep it in the answers of all of its services.
func (s *Snapshot) Regions(v *healthmesh.View) []RegionStatus {
	tallies := s.tally(v)
	all := make([]RegionStatus, len(tallies))
	for i, t := range tallies {
		all[i] = t.status(v, v.Regions[s.Set.Regions[i].Name])
	}
	return all
}

func (s *Snapshot) tally(v *healthmesh.View) []tally {
	all := make([]tally, len(s.Set.Regions))
	for i, svc := range s.Set.Services {
		orders := honoured(svc, s.Set.Regions, v)
		for j, m := range svc.Members {
			region := s.Set.Regions[m.Region].Name
			r, t := v.Regions[region], &all[m.Region]
			t.of++
			if s.beliefs[i][j].best(svc) == Held {
				t.held++
			}
			if orders[j] != nil {
				t.orders++
			}
			if r == nil || t.count[healthmesh.Up] > 0 {
				continue
			}
			for _, name := range m.Endpoints() {
				state := endpointState(svc, region, name, r)
				if state == healthmesh.Down {
					if why := r.Endpoints[healthmesh.ID(svc.Name, region, name)].Reason; t.count[state] == 0 {
						t.reason = why
					} else if why != t.reason {
						t.reason = ""
					}
				}
				t.count[state]++
			}
		}
	}
	return all
}

// status joins a tally with what else is known of the region, which is nil if nothing is.
func (t tally) status(v *healthmesh.View, r *healthmesh.Region) RegionStatus {
	if r == nil {
		return RegionStatus{Unknown, "never heard of"}
	}
	order, parts := r.Order, orderCauses(r, r.Order)
	if order != nil && t.of > 0 && t.orders == 0 {
		parts[0] += ", without effect for min_active of its services"
		order = nil
	}
	state, over := overrule(r, order)
	cause, best := r.Cause, t.best(r)
	switch {
	case r.State != healthmesh.Up:
	case best == Down:
		cause = strings.TrimSuffix("all endpoints are down: "+t.reason, ": ")
	case best == Unknown:
		cause += ", and no endpoint is known to be up"
	}
	if !over {
		state = best
	}
	if t.held > 0 && (best == Down || r.State == healthmesh.Down) {
		cause = fmt.Sprintf("held by the guard in %d of %d services: %s", t.held, t.of, cause)
	}
	if state == Down && t.of > 0 && t.held == t.of {
		state = Held
	}
	if cause != "" {
		parts = append(parts, heldBack(v, r, cause))
	}
	return RegionStatus{state, strings.Join(parts, "; ")}
}

// best is the state of the best endpoint, where there are none that of the region.
func (t tally) best(r *healthmesh.Region) State {
	switch {
	case t.count[healthmesh.Up] > 0, t.of == 0 && r.State == healthmesh.Up:
		return Up
	case t.count[healthmesh.Unknown] > 0 || t.of == 0:
		return Unknown
	}
	return Down
}
