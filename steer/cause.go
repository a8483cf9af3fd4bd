package steer

import (
	"fmt"
	"strings"

	"github.com/nearcast/nearcast/healthmesh"
	"github.com/nearcast/nearcast/zones"
)

// cause is what is behind a member's state and share, for people: orders, guards, and evidence, as far as each has a say.
func (s *Snapshot) cause(v *healthmesh.View, svc *zones.Service, j int) string {
	r := v.Regions[s.regionName(svc, uint16(j))]
	if r == nil {
		return "never heard of"
	}
	order := honoured(svc, s.Set.Regions, v)[j]
	parts := orderCauses(r, order)
	if state, over := overrule(r, order); over && state != Down && state != Up {
		return strings.Join(parts, "; ")
	}
	if r.Order != nil && order == nil {
		parts = append(parts, barred(svc, r.Order))
	}
	evidence := s.evidence(v, r, svc, j)
	for _, f := range asked(svc) {
		if all := s.beliefs[svc.Index]; all[j].state[f] == Held {
			evidence = fmt.Sprintf("held by the guard: %.0f %% of the capacity is out already, at most %d %% may be: %s", 100*removed(svc, f, all), svc.Removal, evidence)
			break
		}
	}
	return strings.Join(append(parts, evidence), "; ")
}

// orderCauses are the orders that have an effect on a region, and how far they have come.
func orderCauses(r *healthmesh.Region, order *healthmesh.Order) (parts []string) {
	switch {
	case isKind(order, healthmesh.Drain) && r.Drained < 1:
		parts = append(parts, fmt.Sprintf("draining, %.0f %% gone: %s", 100*r.Drained, order))
	case order != nil:
		parts = append(parts, order.String())
	}
	if r.Shed != nil {
		parts = append(parts, r.Shed.String())
	}
	return parts
}

// barred says that an order has no effect on a service.
func barred(svc *zones.Service, o *healthmesh.Order) string {
	return fmt.Sprintf("%s, without effect here: min_active is %d", o, svc.Active)
}

// evidence is what is known of a member's endpoints where not all are up, else of its region.
func (s *Snapshot) evidence(v *healthmesh.View, r *healthmesh.Region, svc *zones.Service, j int) string {
	if r.State == healthmesh.Down {
		return heldBack(v, r, r.Cause)
	}
	var bad []string
	region := s.regionName(svc, uint16(j))
	for i, e := range endpoints(svc.Members[j]) {
		if s.beliefs[svc.Index][j].endpoints[i] == healthmesh.Up {
			continue
		}
		reason := r.Endpoints[healthmesh.ID(svc.Name, region, e.name)].Reason
		if reason == "" {
			reason = "not checked yet"
		}
		bad = append(bad, e.name+": "+reason)
	}
	if bad != nil {
		return heldBack(v, r, strings.Join(bad, "; "))
	}
	return heldBack(v, r, r.Cause)
}

// heldBack adds to what evidence says why that may be old.
func heldBack(v *healthmesh.View, r *healthmesh.Region, evidence string) string {
	switch {
	case r.Held && v.Freeze != nil:
		evidence += " (held, what is known now differs: " + v.Freeze.String() + ")"
	case r.Held:
		evidence += " (held: the last that was known)"
	case v.Freeze != nil:
		evidence += " (" + v.Freeze.String() + ")"
	}
	return evidence
}
