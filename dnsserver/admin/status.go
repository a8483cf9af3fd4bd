package admin

import (
	"cmp"
	"time"

	"github.com/nearcast/nearcast/geo"
	"github.com/nearcast/nearcast/healthmesh"
	"github.com/nearcast/nearcast/steer"
)

// A Status is all that a director believes, as `nearcast status` prints it.
type Status struct {
	Node       string                `json:"node"`
	Generation uint64                `json:"generation"`
	Isolated   bool                  `json:"isolated"` // most regions fell silent at once: the last belief is held
	Regions    []Region              `json:"regions"`
	Services   []steer.ServiceStatus `json:"services"`
	Members    []healthmesh.Member   `json:"members"`
	Geo        []geo.Source          `json:"geo"`
	Warnings   []string              `json:"warnings"`
}

// A Region is what a director believes of one region.
type Region struct {
	Name       string            `json:"name"`
	State      string            `json:"state"`
	Cause      string            `json:"cause"`
	Held       bool              `json:"held"`     // the last belief, not fresh
	Capacity   float64           `json:"capacity"` // configured
	Live       float64           `json:"live"`     // reported; 0 if not
	Load       *float64          `json:"load"`     // reported, in the unit of capacity; null if not
	AgeSeconds *float64          `json:"age_seconds"`
	Source     string            `json:"source"`
	Agents     []string          `json:"agents"`
	Order      *healthmesh.Order `json:"order"`
}

// geoMaxAge is the age of a database that an operator is warned of: networks move.
const geoMaxAge = 365 * 24 * time.Hour

func makeStatus(node string, s *steer.Snapshot, v *healthmesh.View, now time.Time) Status {
	st := Status{
		Node: node, Generation: s.Generation, Isolated: v.Isolated, Regions: []Region{}, Services: s.Status(v),
		Members: v.Members, Geo: s.Survey.Table.Sources(), Warnings: []string{},
	}
	for _, r := range s.Set.Regions {
		st.Regions = append(st.Regions, regionStatus(r.Name, r.Capacity, v, now))
	}
	if v.Isolated {
		st.Warnings = append(st.Warnings, "most regions fell silent at once: this director may be the one cut off, and holds its last view")
	}
	for _, svc := range st.Services {
		if svc.FailOpen {
			st.Warnings = append(st.Warnings, svc.Name+" fails open: no region can answer, so all are taken as if they could")
		}
	}
	for _, src := range st.Geo {
		if now.Sub(src.Built) > geoMaxAge {
			st.Warnings = append(st.Warnings, "the geographic database "+src.Name+" is of "+src.Built.Format(time.DateOnly)+", more than a year old")
		}
	}
	return st
}

func regionStatus(name string, capacity float64, v *healthmesh.View, now time.Time) Region {
	out := Region{
		Name: name, State: steer.RegionState(v, name).String(), Cause: "never heard of", Capacity: capacity, Source: "none", Agents: []string{},
	}
	r := v.Regions[name]
	if r == nil {
		return out
	}
	out.Cause, out.Source = cmp.Or(r.Cause, out.Cause), cmp.Or(r.Source, out.Source) // a region may have an order alone
	out.Held, out.Live, out.Order = r.Held, r.Capacity, r.Order
	out.Agents = append(out.Agents, r.Agents...)
	if r.HasLoad {
		out.Load = &r.Load
	}
	if !r.Heard.IsZero() {
		age := now.Sub(r.Heard).Seconds()
		out.AgeSeconds = &age
	}
	return out
}
