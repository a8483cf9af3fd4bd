package steer_test

import (
	"cmp"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

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

// view is a mesh's belief in short: "us-east up, eu-west down fault=7, ap-south drained, us-west unknown, eu-mid up 192.0.2.1=down@3".
// A region that is up has all endpoints of set up but those named; the numbers are when a fault began. Orders follow the state:
// "drain=0.75" (gone so far), "pin-up", "pin-down", "shed=0.2", each given at the second of "at=5"; "load=7" and "live=50" are amounts.
func view(t failer, set *zones.Set, text string) *healthmesh.View {
	t.Helper()
	v := &healthmesh.View{Regions: map[string]*healthmesh.Region{}}
	for part := range strings.SplitSeq(text, ",") {
		f := strings.Fields(part)
		if r := region(t, set, f[0], f[1], f[2:]); r != nil {
			v.Regions[f[0]] = r
		}
	}
	return v
}

func region(t failer, set *zones.Set, name, state string, more []string) *healthmesh.Region {
	t.Helper()
	r := &healthmesh.Region{State: healthmesh.Up, Cause: "heard"}
	order := func(kind string) *healthmesh.Order { return &healthmesh.Order{Region: name, Kind: kind, By: "test"} }
	switch state {
	case "up":
	case "down":
		r.State, r.Cause = healthmesh.Down, "silent for 5s"
	case "drained":
		r.Order, r.Drained = order(healthmesh.Drain), 1
	case "unheard": // but known by an order, or before it is heard again
		r.State, r.Cause = healthmesh.Unknown, ""
	case "unknown":
		return nil
	default:
		t.Fatalf("%q is no state", state)
	}
	named := map[string]healthmesh.Endpoint{}
	for _, m := range more {
		key, value, _ := strings.Cut(m, "=")
		x, _ := strconv.ParseFloat(value, 64)
		switch key {
		case "fault":
			r.Fault = healthmesh.Stamp(x)
		case "load":
			r.Load, r.HasLoad = x, true
		case "live":
			r.Capacity = x
		case "drain":
			r.Order, r.Drained = order(healthmesh.Drain), x
		case "pin-up", "pin-down":
			r.Order = order(key)
		case "shed":
			r.Shed = order(healthmesh.Shed)
			r.Shed.Share = x
		case "at":
			r.Order.At = time.Unix(int64(x), 0)
		default:
			named[key] = endpoint(value)
		}
	}
	r.Endpoints = ends(set, name, named)
	return r
}

// endpoint is "up", "down", "unknown", "down@3" with the time at which it became so, or "down:timeout" with a reason of its own.
func endpoint(text string) healthmesh.Endpoint {
	word, at, _ := strings.Cut(text, "@")
	word, reason, _ := strings.Cut(word, ":")
	since, _ := strconv.ParseUint(at, 10, 64)
	e := healthmesh.Endpoint{Since: healthmesh.Stamp(since)}
	e.State = map[string]healthmesh.State{"up": healthmesh.Up, "down": healthmesh.Down, "unknown": healthmesh.Unknown}[word]
	if e.State == healthmesh.Down {
		e.Reason = cmp.Or(reason, "connection refused")
	}
	return e
}

// ends are all endpoints of a region in a set: those named as they are named, the others up.
func ends(set *zones.Set, region string, named map[string]healthmesh.Endpoint) map[healthmesh.EndpointID]healthmesh.Endpoint {
	all := map[healthmesh.EndpointID]healthmesh.Endpoint{}
	for _, svc := range set.Services {
		for _, m := range svc.Members {
			if set.Regions[m.Region].Name != region {
				continue
			}
			for _, name := range m.Endpoints() {
				e, ok := named[name]
				if !ok {
					e.State = healthmesh.Up
				}
				all[healthmesh.ID(svc.Name, region, name)] = e
			}
		}
	}
	return all
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
