package steer_test

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"github.com/miekg/dns"

	"github.com/nearcast/nearcast/geo"
	"github.com/nearcast/nearcast/geo/compact"
	"github.com/nearcast/nearcast/healthmesh"
	"github.com/nearcast/nearcast/steer"
	"github.com/nearcast/nearcast/zones"
)

// regionNames are those of simulated regions.
var regionNames = []string{"us-east", "eu-west", "ap-south", "us-west", "eu-mid"}

// The services of a simulated director: one by nearness, of both families; one by weight, with two regions in an answer; one
// that nobody checks.
const (
	www, api, plain = "www.geo.example.com.", "api.geo.example.com.", "plain.geo.example.com."
	simEndpoints    = 3 // checked ones of a region: two of www, one of api
)

func addresses(region string) (www4, www6, api4, plain4 string) {
	for i, name := range regionNames {
		if name == region {
			return fmt.Sprintf("192.0.2.%d", i+1), fmt.Sprintf("2001:db8:%d::1", i+1), fmt.Sprintf("198.51.100.%d", i+1), fmt.Sprintf("203.0.113.%d", i+1)
		}
	}
	panic(region)
}

// endpointsOf are the checked endpoints of each region.
var endpointsOf = func() map[string][simEndpoints]healthmesh.EndpointID {
	all := make(map[string][simEndpoints]healthmesh.EndpointID)
	for _, region := range regionNames {
		www4, www6, api4, _ := addresses(region)
		all[region] = [...]healthmesh.EndpointID{healthmesh.ID(www, region, www4), healthmesh.ID(www, region, www6), healthmesh.ID(api, region, api4)}
	}
	return all
}()

// A simWorld is zones and geography of simulated directors, and what they and agents know of all regions. Immutable.
type simWorld struct {
	set     *zones.Set
	survey  *steer.Survey
	clients []geo.Client
	keys    map[string]*healthmesh.Identity // of each region's agents, and of each director
	targets []healthmesh.Target
}

// plan is the configuration as the mesh sees it.
func (w *simWorld) plan(s schedule) *healthmesh.Plan {
	p := &healthmesh.Plan{Targets: slices.Clone(w.targets), Witnesses: s.witnesses}
	for i := range s.regions {
		r := healthmesh.PlanRegion{Name: regionNames[i], Capacity: sites[regionNames[i]].Capacity}
		if s.signed {
			r.Keys = []healthmesh.PublicKey{w.keys[r.Name].Public()}
		}
		p.Regions = append(p.Regions, r)
	}
	for i := range s.directors {
		if s.listed {
			p.Directors = append(p.Directors, w.keys[directorName(i)].Public())
		}
	}
	return p
}

// makeWorlds makes the worlds of 2 regions and more, by their number.
func makeWorlds(t *testing.T) []*simWorld {
	table := smallTable()
	worlds := make([]*simWorld, len(regionNames)+1)
	for n := 2; n <= len(regionNames); n++ {
		w := zones.ServiceConfig{Name: "www", TTL: 30, Steer: "nearest", Checked: true}
		a := zones.ServiceConfig{Name: "api", TTL: 30, Steer: "weighted", Answers: 2, Checked: true}
		p := zones.ServiceConfig{Name: "plain", TTL: 30, Steer: "failover"}
		for _, region := range regionNames[:n] {
			www4, www6, api4, plain4 := addresses(region)
			w.Regions = append(w.Regions, zones.MemberConfig{Region: region, Addresses: []string{www4, www6}})
			a.Regions = append(a.Regions, zones.MemberConfig{Region: region, Addresses: []string{api4}})
			p.Regions = append(p.Regions, zones.MemberConfig{Region: region, Addresses: []string{plain4}})
		}
		set := load(t, w, a, p)
		worlds[n] = &simWorld{set: set, survey: steer.NewSurvey(set, table), keys: make(map[string]*healthmesh.Identity)}
		for i := range maxDirectors {
			worlds[n].keys[directorName(i)] = identity(t)
		}
		for _, region := range regionNames[:n] {
			worlds[n].keys[region] = identity(t)
			www4, www6, api4, _ := addresses(region)
			for i, e := range []string{www4, www6, api4} {
				worlds[n].targets = append(worlds[n].targets, healthmesh.Target{
					ID: endpointsOf[region][i], Name: e, Region: region, Service: []string{www, www, api}[i], Endpoint: e, Checks: []healthmesh.Check{{Type: "http"}},
				})
			}
		}
		for _, c := range []string{"10.1.1.1", "70.1.2.3", "130.4.5.6", "200.7.8.9", "2001:db8:1::1", "2001:db8:8000::1"} {
			worlds[n].clients = append(worlds[n].clients, client(c))
		}
	}
	return worlds
}

func directorName(i int) string { return fmt.Sprintf("d%d", i) }

func identity(t *testing.T) *healthmesh.Identity {
	key, err := healthmesh.ParseIdentity(healthmesh.GenerateIdentity())
	if err != nil {
		t.Fatal(err)
	}
	return key
}

// smallTable has four places of IPv4 and two of IPv6.
func smallTable() *geo.Table {
	d := &compact.Data{Source: "simulation", Labels: []compact.Label{
		{Country: "US", Lat: 4071, Lon: -7400}, {Country: "NL", Lat: 5237, Lon: 490}, {Country: "IN", Lat: 1908, Lon: 7288}, {Country: "US", Lat: 3777, Lon: -12242},
	}}
	for i := range uint64(4) {
		d.V4 = append(d.V4, compact.Run{Start: i * compact.Units4 / 4, Count: compact.Units4 / 4, Label: uint32(i + 1)})
	}
	a := netip.MustParseAddr("2001:db8::").As16()
	start := uint64(0)
	for _, b := range a[:6] {
		start = start<<8 | uint64(b)
	}
	d.V6 = []compact.Run{{Start: start, Count: 1 << 15, Label: 2}, {Start: start + 1<<15, Count: 1 << 15, Label: 3}}
	return geo.FromCompact(d)
}

// A simAnswer is what a client is told.
type simAnswer struct {
	service string
	qtype   uint16
	client  netip.Addr
	regions []string
	records string
	open    bool
}

func (a simAnswer) String() string {
	return fmt.Sprintf("%s %s %v: %v%s%s\n", a.service, dns.TypeToString[a.qtype], a.client, a.regions, a.records, map[bool]string{true: " open"}[a.open])
}

// endpoint is what the answer would hold of a region; plain's are not checked.
func (a simAnswer) endpoint(region string) (id healthmesh.EndpointID, checked bool) {
	ids := endpointsOf[region]
	switch {
	case a.service == www && a.qtype == dns.TypeA:
		return ids[0], true
	case a.service == www:
		return ids[1], true
	}
	return ids[2], a.service == api
}

// answersOf is what a snapshot answers to all clients. It is an error if an answer is empty.
func (w *simWorld) answersOf(s *steer.Snapshot) (all []simAnswer, err error) {
	for _, svc := range w.set.Services {
		for _, qtype := range []uint16{dns.TypeA, dns.TypeAAAA} {
			if svc.Name != www && qtype == dns.TypeAAAA {
				continue
			}
			for _, c := range w.clients {
				p := s.Pick(svc, qtype, c)
				a := simAnswer{service: svc.Name, qtype: qtype, client: c.Addr, open: p.FailOpen}
				for i := range p.N {
					if p.Sets[i] == nil || len(p.Sets[i].RRs) == 0 {
						return nil, fmt.Errorf("%s to %v has no records of type %d", svc.Name, c.Addr, qtype)
					}
					a.regions = append(a.regions, w.set.Regions[svc.Members[p.Members[i]].Region].Name)
					for _, rr := range p.Sets[i].RRs {
						a.records += (" " + strings.TrimPrefix(rr.String(), rr.Header().String()))
					}
				}
				if p.N == 0 {
					return nil, fmt.Errorf("%s to %v is empty", svc.Name, c.Addr)
				}
				all = append(all, a)
			}
		}
	}
	return all, nil
}
