package steer_test

import (
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/nearcast/nearcast/geo"
	"github.com/nearcast/nearcast/healthmesh"
	"github.com/nearcast/nearcast/steer"
	"github.com/nearcast/nearcast/zones"
)

// world is the embedded database, compiled once for all tests.
var world = sync.OnceValue(func() *geo.Table {
	return geo.Load(geo.Config{}, "", nil, nil, func(key string, value any, accepted string) {
		panic(fmt.Sprint(key, value, accepted))
	})
})

// Regions with the coordinates of well-known sites, in tests' order of mention.
var sites = map[string]zones.RegionConfig{
	"us-east":  {Name: "us-east", Location: []float64{38.95, -77.45}, Capacity: 300},
	"us-west":  {Name: "us-west", Location: []float64{45.60, -121.18}, Capacity: 300},
	"eu-west":  {Name: "eu-west", Location: []float64{53.35, -6.26}, Capacity: 200},
	"eu-mid":   {Name: "eu-mid", Location: []float64{50.11, 8.68}, Capacity: 100},
	"ap-south": {Name: "ap-south", Location: []float64{19.08, 72.88}, Capacity: 100},
}

// load compiles a zone geo.example.com. of services, with the regions that these name.
func load(t testing.TB, services ...zones.ServiceConfig) *zones.Set {
	t.Helper()
	dir := t.TempDir()
	zone := "$ORIGIN geo.example.com.\n$TTL 300\n@ SOA ns1 hostmaster 1 3600 600 604800 30\n@ NS ns1\nns1 A 192.0.2.1\ninfo TXT x\nalias CNAME www\nout CNAME www.example.org.\nround CNAME round\nmoved DNAME geo.example.com.\nchild NS ns.child\nns.child A 192.0.2.4\n"
	if err := os.WriteFile(filepath.Join(dir, "z"), []byte(zone), 0o600); err != nil {
		t.Fatal(err)
	}
	var regions []zones.RegionConfig
	seen := map[string]bool{}
	for _, s := range services {
		for _, m := range s.Regions {
			if !seen[m.Region] {
				seen[m.Region] = true
				regions = append(regions, sites[m.Region])
			}
		}
	}
	set := zones.Load(dir, regions, []zones.ZoneConfig{{Name: "geo.example.com", File: "z", Services: services}},
		func(key string, value any, accepted string) { t.Errorf("%s: %v: %s", key, value, accepted) })
	if set == nil {
		t.FailNow()
	}
	return set
}

// service is a checked service whose n-th region has the addresses 192.0.2.(10n+1) and 2001:db8:n::1.
func service(steer string, regions ...string) zones.ServiceConfig {
	s := zones.ServiceConfig{Name: "www", TTL: 30, Steer: steer, Checked: true}
	for i, r := range regions {
		s.Regions = append(s.Regions, zones.MemberConfig{
			Region: r, Addresses: []string{fmt.Sprintf("192.0.2.%d", 10*i+1), fmt.Sprintf("2001:db8:%d::1", i)},
		})
	}
	return s
}

// failer is what a fixture needs of a test or a property.
type failer interface {
	Helper()
	Fatalf(format string, args ...any)
}

// view is a mesh's belief in short: "us-east up, eu-west down, ap-south drained, us-west unknown, eu-mid up 192.0.2.1=down".
// A region that is up has all endpoints of set up but those named.
func view(t failer, set *zones.Set, text string) *healthmesh.View {
	t.Helper()
	v := &healthmesh.View{Regions: map[string]*healthmesh.Region{}}
	for part := range strings.SplitSeq(text, ",") {
		f := strings.Fields(part)
		r := &healthmesh.Region{State: healthmesh.Up, Cause: "heard", Endpoints: map[healthmesh.EndpointID]healthmesh.Endpoint{}}
		switch f[1] {
		case "up":
		case "down":
			r.State, r.Cause = healthmesh.Down, "silent for 5s"
		case "drained":
			r.Order = &healthmesh.Order{Region: f[0], Kind: healthmesh.Drain, By: "test"}
		case "unknown":
			continue
		default:
			t.Fatalf("%q is no state", f[1])
		}
		named := map[string]healthmesh.State{}
		for _, e := range f[2:] {
			name, state, _ := strings.Cut(e, "=")
			named[name] = map[string]healthmesh.State{"up": healthmesh.Up, "down": healthmesh.Down, "unknown": healthmesh.Unknown}[state]
		}
		for _, svc := range set.Services {
			for _, m := range svc.Members {
				if set.Regions[m.Region].Name != f[0] {
					continue
				}
				for _, name := range m.Endpoints() {
					state, ok := named[name]
					if !ok {
						state = healthmesh.Up
					}
					e := healthmesh.Endpoint{State: state}
					if state == healthmesh.Down {
						e.Reason = "connection refused"
					}
					r.Endpoints[healthmesh.ID(svc.Name, f[0], name)] = e
				}
			}
		}
		v.Regions[f[0]] = r
	}
	return v
}

func build(t testing.TB, set *zones.Set, beliefs string) *steer.Snapshot {
	t.Helper()
	return steer.Build(steer.Input{Generation: 1, Survey: steer.NewSurvey(set, world()), View: view(t, set, beliefs)})
}

func client(a string) geo.Client {
	addr := netip.MustParseAddr(a)
	return geo.NewClient(addr, addr.BitLen())
}

// Clients whose place the database knows.
const (
	newJersey = "128.112.1.1"
	amsterdam = "193.0.6.139"
	mumbai    = "117.192.0.1"
)
