package admin

import (
	"cmp"
	"time"

	"github.com/nearcast/nearcast/geo"
	"github.com/nearcast/nearcast/healthmesh"
	"github.com/nearcast/nearcast/steer"
	"github.com/nearcast/nearcast/zones"
)

// A Status is all that a director believes, as `nearcast status` prints it.
type Status struct {
	Node       string                `json:"node"`
	Time       time.Time             `json:"time"` // by this director's clock, as all times are
	Generation uint64                `json:"generation"`
	Isolated   bool                  `json:"isolated"` // most regions fell silent at once: the last belief is held
	Freeze     *Order                `json:"freeze"`   // in force: states of evidence are held
	Regions    []Region              `json:"regions"`
	Services   []steer.ServiceStatus `json:"services"`
	Members    []healthmesh.Member   `json:"members"`
	Geo        []geo.Source          `json:"geo"`
	Warnings   []string              `json:"warnings"`
}

// A Region is what a director believes of one region.
type Region struct {
	Name       string   `json:"name"`
	State      string   `json:"state"`
	Cause      string   `json:"cause"`
	Held       bool     `json:"held"`       // the last belief, not fresh
	Capacity   float64  `json:"capacity"`   // configured
	Live       float64  `json:"live"`       // reported; 0 if not
	Load       *float64 `json:"load"`       // reported, in the unit of capacity; null if not
	LoadStale  bool     `json:"load_stale"` // Load is the last that could be read
	AgeSeconds *float64 `json:"age_seconds"`
	Source     string   `json:"source"`
	Agents     []string `json:"agents"`
	Order      *Order   `json:"order"`      // drain, pin-up or pin-down, in force
	Drained    float64  `json:"drained"`    // how much a drain has taken by now, 0 to 1
	Shed       *Order   `json:"shed"`       // in force
	Suppressed uint32   `json:"suppressed"` // flips of endpoints that flap damping kept from their states

	// OldAnswersUntil is when the last client can still hold an answer with the region: of any director if an order takes the region
	// out, of this director if evidence does; null else, and if it never was in an answer.
	OldAnswersUntil *time.Time `json:"old_answers_until"`
}

// geoMaxAge is the age of a database that an operator is warned of: networks move.
const geoMaxAge = 365 * 24 * time.Hour

func makeStatus(node string, s *steer.Snapshot, v *healthmesh.View, now time.Time) Status {
	st := Status{
		Node: node, Time: now.Round(0).UTC(), Generation: s.Generation, Freeze: tell(v.Freeze, s, now), Isolated: v.Isolated, Regions: []Region{}, Services: s.Status(v),
		Members: v.Members, Geo: s.Survey.Table.Sources(), Warnings: []string{},
	}
	for i, whole := range s.Regions(v) {
		st.Regions = append(st.Regions, regionStatus(s.Set.Regions[i], whole, s, v, now))
	}
	if v.Isolated {
		st.Warnings = append(st.Warnings, "most regions fell silent at once: this director may be the one cut off, and holds its last view")
	}
	if v.Freeze != nil {
		st.Warnings = append(st.Warnings, "states are held whatever the evidence: "+v.Freeze.String())
	}
	for _, svc := range st.Services {
		st.Warnings = append(st.Warnings, svc.Warnings...)
		if svc.FailOpen {
			st.Warnings = append(st.Warnings, svc.Name+" fails open: no region can answer, so all are taken as if they could, whatever orders say")
		}
	}
	for _, src := range st.Geo {
		if now.Sub(src.Built) > geoMaxAge {
			st.Warnings = append(st.Warnings, "the geographic database "+src.Name+" is of "+src.Built.Format(time.DateOnly)+", more than a year old")
		}
	}
	return st
}

func regionStatus(region zones.Region, whole steer.RegionStatus, s *steer.Snapshot, v *healthmesh.View, now time.Time) Region {
	out := Region{
		Name: region.Name, State: whole.State.String(), Cause: whole.Cause, Capacity: region.Capacity, Source: "none", Agents: []string{},
	}
	r := v.Regions[region.Name]
	if r == nil {
		return out
	}
	out.Source = cmp.Or(r.Source, out.Source) // a region may have an order alone
	out.Held, out.Live, out.Suppressed = r.Held, r.Capacity, r.Suppressed
	out.Order, out.Drained, out.Shed = tell(r.Order, s, now), r.Drained, tell(r.Shed, s, now)
	switch {
	case out.Order != nil && out.Order.GoneAt != nil:
		out.OldAnswersUntil = out.Order.GoneAt
	case whole.State == steer.Down:
		out.OldAnswersUntil = wall(s.GoneAt(region.Name, time.Time{}), now)
	}
	out.Agents = append(out.Agents, r.Agents...)
	if r.HasLoad {
		out.Load, out.LoadStale = &r.Load, r.LoadStale
	}
	if !r.Heard.IsZero() {
		age := now.Sub(r.Heard).Seconds()
		out.AgeSeconds = &age
	}
	return out
}
