package admin

import (
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/nearcast/nearcast/healthmesh"
	"github.com/nearcast/nearcast/steer"
)

// Beliefs exports what a director believes: snapshot and view, evidence and members.
// It reads them at each scrape and keeps nothing.
type Beliefs struct {
	Snapshot func() *steer.Snapshot
	View     func() *healthmesh.View
	Stats    func() healthmesh.Stats
}

var (
	descGeneration = prometheus.NewDesc("nearcast_snapshot_generation", "Number of the snapshot in use.", nil, nil)
	descView       = prometheus.NewDesc("nearcast_view_number", "Number of the newest view of the mesh.", nil, nil)
	descIsolated   = prometheus.NewDesc("nearcast_isolated", "1 while most regions fell silent at once and the last view is held.", nil, nil)
	descMembers    = prometheus.NewDesc("nearcast_mesh_members", "Members of the mesh.", []string{"role"}, nil)
	descAge        = prometheus.NewDesc("nearcast_evidence_age_seconds", "Time since the last new report of the region; absent if none came.", []string{"region"}, nil)
	descRegion     = prometheus.NewDesc("nearcast_region_state", "1 for the state that the region is in.", []string{"region", "state"}, nil)
	descCapacity   = prometheus.NewDesc("nearcast_region_capacity", "Configured capacity of the region.", []string{"region"}, nil)
	descLoad       = prometheus.NewDesc("nearcast_region_load", "Reported load of the region, in the unit of capacity; absent if none.", []string{"region"}, nil)
	descLive       = prometheus.NewDesc("nearcast_region_live_capacity", "Capacity of the region that its agents report as live; absent if none.", []string{"region"}, nil)
	descStale      = prometheus.NewDesc("nearcast_region_load_stale", "1 while the region's load is the last that could be read.", []string{"region"}, nil)
	descFlips      = prometheus.NewDesc("nearcast_region_suppressed_flips_total", "Flips of the region's endpoints that flap damping kept from their states, since its agents' start.", []string{"region"}, nil)
	descUnused     = prometheus.NewDesc("nearcast_mesh_unused_messages_total", "Messages, reports and orders of the mesh that were not taken, by reason: forged (not signed by who may say so), undecodable, refused (beyond a bound), earlier (reports of an earlier life of their agent), dropped (this director was behind; they come again).", []string{"reason"}, nil)
	descQueued     = prometheus.NewDesc("nearcast_mesh_queued_messages", "Messages that wait for gossip.", nil, nil)
	descDrained    = prometheus.NewDesc("nearcast_region_drained_ratio", "How far a drain of the region has come, 0 to 1.", []string{"region"}, nil)
	descShed       = prometheus.NewDesc("nearcast_region_shed_ratio", "Part of the region's clients that an order sheds, 0 to 1.", []string{"region"}, nil)
	descFrozen     = prometheus.NewDesc("nearcast_frozen", "1 while an order keeps evidence from changing states.", nil, nil)
	descGuard      = prometheus.NewDesc("nearcast_guard_held", "1 while the service's guard holds the region in the answers against the evidence.", []string{"service", "region"}, nil)
	descReturning  = prometheus.NewDesc("nearcast_region_returning", "1 while the region is heard again and stays down, since it fell too often of late.", []string{"region"}, nil)
	descFailOpen   = prometheus.NewDesc("nearcast_service_fail_open", "1 while the service fails open.", []string{"service"}, nil)
)

// Describe implements prometheus.Collector.
func (b Beliefs) Describe(ch chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{
		descGeneration, descView, descIsolated, descMembers, descAge, descRegion, descCapacity, descLoad, descLive, descStale, descFlips, descUnused, descQueued, descFailOpen,
		descDrained, descShed, descFrozen, descGuard, descReturning,
	} {
		ch <- d
	}
}

// Collect implements prometheus.Collector.
func (b Beliefs) Collect(ch chan<- prometheus.Metric) {
	s, v := b.Snapshot(), b.View()
	gauge := func(d *prometheus.Desc, x float64, labels ...string) {
		ch <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, x, labels...)
	}
	gauge(descGeneration, float64(s.Generation))
	gauge(descView, float64(v.Number))
	counter := func(d *prometheus.Desc, n uint64, label string) {
		ch <- prometheus.MustNewConstMetric(d, prometheus.CounterValue, float64(n), label)
	}
	stats := b.Stats()
	counter(descUnused, stats.Forged, "forged")
	counter(descUnused, stats.Undecodable, "undecodable")
	counter(descUnused, stats.Refused, "refused")
	counter(descUnused, stats.Earlier, "earlier")
	counter(descUnused, stats.Dropped, "dropped")
	gauge(descQueued, float64(stats.Queued))
	gauge(descIsolated, truth(v.Isolated))
	gauge(descFrozen, truth(v.Freeze != nil))
	roles := map[string]int{"director": 0, "agent": 0}
	for _, m := range v.Members {
		if _, known := roles[m.Role]; known {
			roles[m.Role]++
		}
	}
	for role, n := range roles {
		gauge(descMembers, float64(n), role)
	}
	for i, whole := range s.Regions(v) {
		r := s.Set.Regions[i]
		gauge(descCapacity, r.Capacity, r.Name)
		for _, state := range steer.RegionStates {
			gauge(descRegion, truth(state == whole.State), r.Name, state.String())
		}
		drained, shed, returning := 0.0, 0.0, false
		if seen := v.Regions[r.Name]; seen != nil {
			drained, returning = seen.Drained, seen.Returning()
			if seen.Shed != nil {
				shed = seen.Shed.Share
			}
			if !seen.Heard.IsZero() {
				gauge(descAge, time.Since(seen.Heard).Seconds(), r.Name)
			}
			counter(descFlips, uint64(seen.Suppressed), r.Name)
			if seen.Capacity > 0 {
				gauge(descLive, seen.Capacity, r.Name)
			}
			if seen.HasLoad {
				gauge(descLoad, seen.Load, r.Name)
				gauge(descStale, truth(seen.LoadStale), r.Name)
			}
		}
		gauge(descDrained, drained, r.Name)
		gauge(descShed, shed, r.Name)
		gauge(descReturning, truth(returning), r.Name)
	}
	for _, svc := range s.Status(v) {
		gauge(descFailOpen, truth(svc.FailOpen), svc.Name)
		for _, m := range svc.Regions {
			gauge(descGuard, truth(m.State == steer.Held.String()), svc.Name, m.Region)
		}
	}
}

func truth(b bool) float64 {
	if b {
		return 1
	}
	return 0
}
