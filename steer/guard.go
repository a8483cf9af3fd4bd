package steer

import (
	"cmp"
	"slices"

	"github.com/nearcast/nearcast/healthmesh"
	"github.com/nearcast/nearcast/zones"
)

// The guards of a service bound what orders and evidence may take out of its answers. They know no history and no clock: what
// makes them steady is that orders and faults have the times at which they came to be, alike at every director, and that a later
// one never changes what an earlier one got.

// honoured are the orders that hold for a service's members, nil where there is none: of those that take a member out, in the order
// in which they were given, only so many that Service.Active members are left.
func honoured(svc *zones.Service, regions []zones.Region, v *healthmesh.View) []*healthmesh.Order {
	orders := make([]*healthmesh.Order, len(svc.Members))
	var out []int
	for j, m := range svc.Members {
		if r := v.Regions[regions[m.Region].Name]; r != nil {
			orders[j] = r.Order
		}
		if takesOut(orders[j]) {
			out = append(out, j)
		}
	}
	most := len(svc.Members) - svc.Active
	if len(out) <= most {
		return orders
	}
	name := func(j int) string { return regions[svc.Members[j].Region].Name }
	slices.SortFunc(out, func(a, b int) int { return cmp.Or(orders[a].At.Compare(orders[b].At), cmp.Compare(name(a), name(b))) })
	for _, j := range out[most:] {
		orders[j] = nil
	}
	return orders
}

// takesOut tells if an order ends with its region out of the answers.
func takesOut(o *healthmesh.Order) bool {
	return isKind(o, healthmesh.Drain) || isKind(o, healthmesh.PinDown)
}

// guard makes Held of Down where evidence would take more of a service's weight out of one family's answers than Service.Removal
// percent. Faults go out in the order in which they began, so that a new one brings none back. The first always
// does, however heavy its region is: one region that fails is no sign of blind health checks, and failing over is what they
// are for. If no member is left to answer, the guard is not asked: the service fails open.
func guard(svc *zones.Service, regions []zones.Region, v *healthmesh.View, f family, all []belief) {
	if _, failOpen := tierOf(all, f); failOpen {
		return
	}
	bound, out := float64(svc.Removal)/100*totalWeight(svc), 0.0
	for i, fault := range faults(svc, regions, v, f, all) {
		w := svc.Members[fault.member].Weight
		if i > 0 && out+w > bound*(1+1e-9) { // sums of weights such as 0.1 are not exact
			all[fault.member].state[f] = Held
			continue
		}
		out += w
	}
}

// faults are those of a family, in the order in which they began, ties by region.
func faults(svc *zones.Service, regions []zones.Region, v *healthmesh.View, f family, all []belief) (list []fault) {
	for j, m := range svc.Members {
		if all[j].state[f] == Down {
			name := regions[m.Region].Name
			list = append(list, faultOf(svc, j, name, v.Regions[name], f))
		}
	}
	slices.SortFunc(list, func(a, b fault) int { return cmp.Or(cmp.Compare(a.began, b.began), cmp.Compare(a.region, b.region)) })
	return list
}

func totalWeight(svc *zones.Service) (sum float64) {
	for _, m := range svc.Members {
		sum += m.Weight
	}
	return sum
}

// removed is the part of a service's weight that evidence has taken out of a family's answers, 0 to 1.
func removed(svc *zones.Service, f family, all []belief) (part float64) {
	for j, m := range svc.Members {
		if all[j].state[f] == Down {
			part += m.Weight
		}
	}
	return part / totalWeight(svc)
}
