package steer

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/nearcast/nearcast/healthmesh"
	"github.com/nearcast/nearcast/zones"
)

const (
	targetLoad    = 0.8 // of its live capacity that a region may have once it took over what another gave up
	namedServices = 3   // in an error that holds for many
)

// Carry is nil if the others can take over a share (0 to 1) of a region's load, an error of one line with the figures if not. The
// others are those that no order takes out, and that are up for all kinds of addresses, by evidence or a pin; of a service of which none
// is up, those of which nothing is known, since these stand in. Together they must stay within 80 % of their live capacity, of
// which a region that sheds offers the rest.
//
// A region reports one load, for all of its services, and nothing says how much of it is which service's. So it is judged by sets of
// others: each set that is left to any of the services must be able to carry all of the share. That is what it takes if most of the
// load is that service's, and too strict where it is not: the caller may let an operator insist. A load that is not reported
// counts as 0, and the error says whose.
func (s *Snapshot) Carry(v *healthmesh.View, region string, share float64) error {
	moved := 0.0
	if r := v.Regions[region]; r != nil && r.HasLoad {
		moved = r.Load * share
	}
	services := map[string][]string{} // by the others' names
	var sets []string                 // of others, in the order of services
	others := map[string][]zones.Region{}
	for _, svc := range s.Set.Services {
		if s.member(svc, region) < 0 {
			continue
		}
		left := s.survivors(v, svc, region)
		key := regionNames(left)
		if services[key] == nil {
			sets, others[key] = append(sets, key), left
		}
		services[key] = append(services[key], svc.Name)
	}
	var problems []string
	for _, key := range sets {
		if text := overload(v, others[key], moved); text != "" {
			problems = append(problems, text+", for "+listed(services[key]))
		}
	}
	if problems == nil {
		return nil
	}
	return fmt.Errorf("%.0f %% of %s's load is %.4g%s, and the others cannot carry it: %s",
		100*share, region, moved, unreported(v, []zones.Region{{Name: region}}), strings.Join(problems, "; "))
}

// Unweighed says that nobody can tell if the others can take over from a region, since it reports no load; "" if it does.
func (s *Snapshot) Unweighed(v *healthmesh.View, region string) string {
	if r := v.Regions[region]; r != nil && r.HasLoad {
		return ""
	}
	return region + " reports no load: whether the others can carry it is not known"
}

// survivors are the members of a service that can take over from a region.
func (s *Snapshot) survivors(v *healthmesh.View, svc *zones.Service, region string) (left []zones.Region) {
	for j, m := range svc.Members {
		other, b := s.Set.Regions[m.Region], s.beliefs[svc.Index][j]
		if other.Name == region || gone(v.Regions[other.Name]) {
			continue
		}
		if !slices.ContainsFunc(asked(svc), func(f family) bool { return !b.answers(s.beliefs[svc.Index], f) }) {
			left = append(left, other)
		}
	}
	slices.SortFunc(left, func(a, b zones.Region) int { return strings.Compare(a.Name, b.Name) })
	return left
}

// gone tells if orders leave nothing to a region.
func gone(r *healthmesh.Region) bool { return r != nil && (takesOut(r.Order) || shed(r) == 1) }

// answers tells if a member is of the best there is among all.
func (b belief) answers(all []belief, f family) bool {
	tier, failOpen := tierOf(all, f)
	return !failOpen && b.state[f] == tier
}

// overload is "" if the regions can carry a load beside their own.
func overload(v *healthmesh.View, regions []zones.Region, moved float64) string {
	if len(regions) == 0 {
		return "no other region is up"
	}
	capacity, load := 0.0, moved
	for _, r := range regions {
		seen := v.Regions[r.Name] // nil: unheard of, but pinned up
		if seen == nil {
			seen = &healthmesh.Region{}
		}
		capacity += r.Capacity * liveShare(seen.Capacity, r) * (1 - shed(seen))
		if seen.HasLoad {
			load += seen.Load
		}
	}
	if moved <= 0 || load <= targetLoad*capacity*(1+1e-9) {
		return ""
	}
	return fmt.Sprintf("%s%s would have %.4g of %.4g, %.3g %%, at most %.0f %% may be",
		regionNames(regions), unreported(v, regions), load, capacity, 100*load/capacity, 100*targetLoad)
}

// unreported says whose load is not known.
func unreported(v *healthmesh.View, regions []zones.Region) string {
	known := func(r zones.Region) bool { return v.Regions[r.Name] != nil && v.Regions[r.Name].HasLoad }
	unknown := slices.DeleteFunc(slices.Clone(regions), known)
	switch len(unknown) {
	case 0:
		return ""
	case len(regions):
		return " (no load reported, counted as 0)"
	}
	return " (no load reported by " + regionNames(unknown) + ", counted as 0)"
}

func regionNames(regions []zones.Region) string {
	names := make([]string, len(regions))
	for i, r := range regions {
		names[i] = r.Name
	}
	return strings.Join(names, ", ")
}

func listed(names []string) string {
	if more := len(names) - namedServices; more > 0 {
		return fmt.Sprintf("%s and %d more", strings.Join(names[:namedServices], ", "), more)
	}
	return strings.Join(names, ", ")
}

// MinActive is nil if a region may be drained, pinned down or told to shed all, an error that names the services that would be left with fewer than
// their min_active regions if not. A drain or a pin down would have no effect on these.
func (s *Snapshot) MinActive(v *healthmesh.View, region string) error {
	var short []string
	for _, svc := range s.Set.Services {
		if s.member(svc, region) < 0 {
			continue
		}
		left := 0
		for _, m := range svc.Members {
			name := s.Set.Regions[m.Region].Name
			if name != region && !gone(v.Regions[name]) {
				left++
			}
		}
		if left < svc.Active {
			short = append(short, fmt.Sprintf("%s would keep %d of at least %d", svc.Name, left, svc.Active))
		}
	}
	if short == nil {
		return nil
	}
	return errors.New("without " + region + " there would be fewer regions than min_active: " + listed(short))
}
