package steer

import (
	"fmt"
	"strings"

	"github.com/nearcast/nearcast/healthmesh"
	"github.com/nearcast/nearcast/zones"
)

// A ServiceStatus is what a snapshot believes of one service.
type ServiceStatus struct {
	Name     string         `json:"name"`
	Policy   string         `json:"policy"`
	TTL      uint32         `json:"ttl"`
	FailOpen bool           `json:"fail_open"`
	Warnings []string       `json:"warnings"` // of guards that hold against evidence or orders, and of what is not known
	Regions  []MemberStatus `json:"regions"`
}

// A MemberStatus is one region's part in a service.
type MemberStatus struct {
	Region    string           `json:"region"`
	State     string           `json:"state"`
	Cause     string           `json:"cause"`
	Weight    float64          `json:"weight"` // live capacity in this service's shares
	Admit     float64          `json:"admit"`  // the part that it takes of the clients that it would get, 0 to 1
	Endpoints []EndpointStatus `json:"endpoints"`
}

// An EndpointStatus is one endpoint of a region in a service.
type EndpointStatus struct {
	Endpoint string `json:"endpoint"`
	State    string `json:"state"`
	Reason   string `json:"reason,omitempty"`
}

// Status tells what the snapshot believes of every service; the view, the newest
// there is, tells why.
func (s *Snapshot) Status(v *healthmesh.View) []ServiceStatus {
	all := make([]ServiceStatus, len(s.Set.Services))
	for i, svc := range s.Set.Services {
		all[i] = ServiceStatus{Name: svc.Name, Policy: svc.Policy.String(), TTL: svc.TTL, FailOpen: s.failsOpen(svc), Warnings: s.warnings(v, svc)}
		for j, m := range svc.Members {
			b := s.beliefs[i][j]
			st := MemberStatus{
				Region: s.regionName(svc, uint16(j)), State: b.best(svc).String(), Cause: s.cause(v, svc, j), Weight: b.weight, Admit: b.admit,
			}
			for k, e := range endpoints(m) {
				es := EndpointStatus{Endpoint: e.name, State: evidence(b.endpoints[k])}
				if r := v.Regions[st.Region]; r != nil {
					es.Reason = r.Endpoints[healthmesh.ID(svc.Name, st.Region, e.name)].Reason
					if r.State == healthmesh.Down && b.endpoints[k] == healthmesh.Up { // nobody knows of the endpoints of a region that is silent
						es.State, es.Reason = evidence(healthmesh.Unknown), "was up when last heard of"
					}
				}
				st.Endpoints = append(st.Endpoints, es)
			}
			all[i].Regions = append(all[i].Regions, st)
		}
	}
	return all
}

// warnings are what a service's guards do against evidence or orders now, and what they do not guard: who was never known to be up is not
// taken out, but is not in either.
func (s *Snapshot) warnings(v *healthmesh.View, svc *zones.Service) []string {
	all, orders := []string{}, honoured(svc, s.Set.Regions, v)
	var unknown []string
	weight, answers := 0.0, false
	for j, b := range s.beliefs[svc.Index] {
		region := s.regionName(svc, uint16(j))
		r := v.Regions[region]
		switch b.best(svc) {
		case Unknown:
			unknown, weight = append(unknown, region), weight+svc.Members[j].Weight
		case Up:
			answers = true
		case Held:
			answers = true
			all = append(all, fmt.Sprintf("%s: %s stays in the answers, %s", svc.Name, region, s.cause(v, svc, j)))
		}
		if r != nil && r.Order != nil && orders[j] == nil {
			all = append(all, fmt.Sprintf("%s: %s, %s", svc.Name, region, barred(svc, r.Order)))
		}
	}
	if part := 100 * weight / totalWeight(svc); answers && part > float64(svc.Removal) {
		all = append(all, fmt.Sprintf("%s: nothing is known of %s, with %.0f %% of its capacity: they get no clients while others are up", svc.Name, strings.Join(unknown, ", "), part))
	}
	return all
}

// evidence is the word for what evidence says of an endpoint.
func evidence(s healthmesh.State) string {
	return [...]string{healthmesh.Unknown: "unknown", healthmesh.Up: "up", healthmesh.Down: "down"}[s]
}
