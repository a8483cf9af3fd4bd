package steer_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/miekg/dns"

	"github.com/nearcast/nearcast/healthmesh"
	"github.com/nearcast/nearcast/steer"
	"github.com/nearcast/nearcast/zones"
)

// The whole table of believe: each order with each evidence, and what is left of the clients with and without a shed.
func TestOrdersAndEvidence(t *testing.T) {
	const v4, v6 = "192.0.2.1", "2001:db8:0::1"
	evidence := []struct{ view, both, only4 string }{ // the state by evidence of A, and of A where only IPv4 is bad
		{"unknown", "unknown", ""},
		{"unheard", "unknown", ""},
		{"down", "down", ""},
		{"up", "up", ""},
		{"up 192.0.2.1=unknown 2001:db8::1=unknown", "unknown", ""},
		{"up 192.0.2.1=down 2001:db8::1=down", "down", ""},
		{"up 192.0.2.1=down 2001:db8::1=unknown", "unknown", "down"},
		{"up 192.0.2.1=down", "up", "down"},
	}
	orders := []struct {
		text  string
		state string // "" for that of evidence
		admit float64
	}{
		{"", "", 1},
		{"drain=0.25", "", 0.75},
		{"drain=1", "draining", 0},
		{"pin-up", "up", 1},
		{"pin-down", "pinned-down", 1},
	}
	svc := service("failover", "us-east", "eu-west")
	svc.Regions[0].Addresses = []string{v4, "2001:db8::1"}
	set := load(t, svc)
	for _, e := range evidence {
		for _, o := range orders {
			for _, shed := range []float64{0, 0.5} {
				text := e.view + " " + o.text
				if shed > 0 {
					text += fmt.Sprintf(" shed=%g", shed)
				}
				if e.view == "unknown" && strings.TrimSpace(text) != "unknown" {
					continue // a region that has an order is in the view: "unheard"
				}
				beliefs := "us-east " + text + ", eu-west up"
				s := build(t, set, beliefs)
				got := s.Status(view(t, set, beliefs))[0].Regions[0]
				want, admit := o.state, o.admit*(1-shed)
				if want == "" {
					want = e.both
				}
				if got.State != want || got.Admit != admit {
					t.Errorf("us-east %s: %s, admits %g; want %s, %g", text, got.State, got.Admit, want, admit)
				}
				only := want
				if e.only4 != "" && o.state == "" {
					only = e.only4
				}
				explained, err := s.Explain(view(t, set, beliefs), "www.geo.example.com.", dns.TypeA, asker(newJersey+"/32"))
				if err != nil {
					t.Fatal(err)
				}
				if got := explained.Candidates[0].State; got != only {
					t.Errorf("us-east %s: %s for IPv4, want %s", text, got, only)
				}
			}
		}
	}
}

// What a pin, a drain and the guard make of answers.
func TestOrdersAnswer(t *testing.T) {
	two := service("failover", "eu-west", "us-east")
	two.Regions[0].Addresses = []string{"192.0.2.1", "192.0.2.2"}
	three := service("failover", "us-east", "eu-west", "ap-south")
	one := service("failover", "us-east")
	atLeast2 := service("failover", "us-east", "eu-west", "ap-south")
	atLeast2.MinActive = 2
	for _, tt := range []struct{ name, beliefs, want string }{
		{"a region pinned up answers although its endpoints fail, with all", "eu-west up pin-up 192.0.2.1=down 192.0.2.2=down, us-east up", "eu-west 192.0.2.1 192.0.2.2"},
		{"with those that are up, if some are", "eu-west up pin-up 192.0.2.1=down, us-east up", "eu-west 192.0.2.2"},
		{"although it is silent", "eu-west down pin-up, us-east up", "eu-west 192.0.2.1 192.0.2.2"},
		{"although it was never heard of", "eu-west unheard pin-up, us-east up", "eu-west 192.0.2.1 192.0.2.2"},
		{"a region pinned down does not answer", "eu-west up pin-down, us-east up", "us-east 192.0.2.11"},
		{"nor does a drained one", "eu-west up drain=1, us-east up", "us-east 192.0.2.11"},
		{"two drains of two regions leave the one that was drained last", "eu-west up drain=1 at=7, us-east up drain=1 at=3", "eu-west 192.0.2.1 192.0.2.2"},
		{"at the same time, the last by name", "eu-west up drain=1, us-east up pin-down", "us-east 192.0.2.11"},
		{"a drain in progress counts", "eu-west up drain=0.5 at=3, us-east up drain=1 at=7", "eu-west 192.0.2.1 192.0.2.2"},
		{"nobody but a drained region and one that is down: fail open", "eu-west up drain=1, us-east down", "open eu-west 192.0.2.1 192.0.2.2"},
		{"the last region of a service stays", "us-east up drain=1", "us-east 192.0.2.1"},
		{"min_active of 2: one of three may go", "us-east up drain=1 at=1, eu-west up, ap-south up", "eu-west 192.0.2.11"},
		{"a second drain has no effect", "us-east up drain=1 at=2, eu-west up pin-down at=1, ap-south up", "us-east 192.0.2.1"},
		{"the first fault leaves, however heavy", "us-east down fault=1, eu-west up, ap-south up", "eu-west 192.0.2.11"},
		{"the second is held: 500 of 600", "us-east down fault=2, eu-west down fault=1, ap-south up", "us-east 192.0.2.1"},
		{"by when they began", "us-east down fault=1, eu-west down fault=2, ap-south up", "eu-west 192.0.2.11"},
	} {
		svc := two
		switch {
		case !strings.Contains(tt.beliefs, "eu-west"):
			svc = one
		case strings.Contains(tt.name, "min_active") || strings.Contains(tt.name, "second drain"):
			svc = atLeast2
		case strings.Contains(tt.beliefs, "ap-south"):
			svc = three
		}
		if got := answer(build(t, load(t, svc), tt.beliefs), dns.TypeA, client(amsterdam)); got != tt.want {
			t.Errorf("%s: %s, want %s", tt.name, got, tt.want)
		}
	}
}

// Of a region that is silent nobody knows how its endpoints are.
func TestEndpointsOfASilentRegion(t *testing.T) {
	set := load(t, service("nearest", "us-east", "eu-west"))
	const beliefs = "us-east down, eu-west up 192.0.2.11=down"
	for _, r := range build(t, set, beliefs).Status(view(t, set, beliefs))[0].Regions {
		for _, e := range r.Endpoints {
			want := "up"
			switch {
			case r.Region == "us-east":
				want = "unknown"
			case e.Endpoint == "192.0.2.11":
				want = "down"
			}
			if e.State != want || want == "unknown" && e.Reason != "was up when last heard of" {
				t.Errorf("%s: %+v, want %s", r.Region, e, want)
			}
		}
	}
}

// A region as a whole is down where its agents are silent or all endpoints that services have there are down; orders come first.
func TestRegionState(t *testing.T) {
	checked := service("nearest", "us-east", "eu-west")
	checked.Regions[1].Addresses = []string{"192.0.2.1", "192.0.2.2"}
	unchecked := service("nearest", "eu-west")
	unchecked.Name, unchecked.Checked, unchecked.Regions[0].Addresses = "api", false, []string{"192.0.2.3"}
	one, two := load(t, checked), load(t, checked, unchecked)
	three := load(t, service("nearest", "us-east", "eu-west", "ap-south"))
	bare := *one
	bare.Regions = append(slices.Clone(one.Regions), zones.Region{Name: "ap-south", Capacity: 1, MaxCapacity: 1})
	for _, c := range []struct {
		name   string
		set    *zones.Set
		belief string // of the region, and more
		want   steer.State
		cause  string
	}{
		{"not heard of", one, "eu-west unknown", steer.Unknown, "never heard of"},
		{"known by an order", one, "eu-west unheard shed=0.2", steer.Unknown, "sheds 20 % at test"},
		{"silent", one, "eu-west down", steer.Down, "silent for 5s"},
		{"one of two is down", one, "eu-west up 192.0.2.2=down", steer.Up, "heard"},
		{"one is down, one unknown", one, "eu-west up 192.0.2.1=unknown 192.0.2.2=down", steer.Unknown, "heard, and no endpoint is known to be up"},
		{"all are down for one reason", one, "eu-west up 192.0.2.1=down 192.0.2.2=down", steer.Down, "all endpoints are down: connection refused"},
		{"all are down for their own", one, "eu-west up 192.0.2.1=down 192.0.2.2=down:timeout", steer.Down, "all endpoints are down"},
		{"a service without checks is left", two, "eu-west up 192.0.2.1=down 192.0.2.2=down 192.0.2.3=unknown", steer.Up, "heard"},
		{"and is down by its backends", two, "eu-west up 192.0.2.1=down 192.0.2.2=down 192.0.2.3=down", steer.Down, "all endpoints are down: connection refused"},
		{"pinned up", one, "eu-west up pin-up 192.0.2.1=down 192.0.2.2=down", steer.Up, "pinned up at test; all endpoints are down: connection refused"},
		{"of no service", &bare, "ap-south up", steer.Up, "heard"},
		{"pinned down", one, "eu-west up pin-down, us-east up", steer.PinnedDown, "pinned down at test; heard"},
		{"pinned down, which min_active bars", one, "eu-west up pin-down at=2, us-east up pin-down at=1", steer.Up, "pinned down at test, without effect for min_active of its services; heard"},
		{"drained, which min_active bars", one, "eu-west up drain=1 at=2, us-east up pin-down at=1", steer.Up, "drained at test, without effect for min_active of its services; heard"},
		{"drained before, which min_active bars", one, "eu-west up drain=0.5 at=2, us-east up pin-down at=1", steer.Up, "draining, 50 % gone: drained at test, without effect for min_active of its services; heard"},
		{"held by the guard", three, "us-east down fault=2, eu-west down fault=1, ap-south up", steer.Held, "held by the guard in 1 of 1 services: silent for 5s"},
		{"not held by the guard", three, "eu-west down fault=1, us-east down fault=2, ap-south up", steer.Down, "silent for 5s"},
	} {
		s, v := build(t, c.set, c.belief), view(t, c.set, c.belief)
		region, _, _ := strings.Cut(c.belief, " ")
		if r := v.Regions[region]; r != nil { // what an agent reports of a service that is no longer configured
			r.Endpoints[1] = healthmesh.Endpoint{State: healthmesh.Up}
			if strings.Contains(c.name, "no service") {
				r.Endpoints[1] = healthmesh.Endpoint{State: healthmesh.Down, Reason: "timeout"}
			}
		}
		at := slices.IndexFunc(c.set.Regions, func(r zones.Region) bool { return r.Name == region })
		if got := s.Regions(v)[at]; got.State != c.want || got.Cause != c.cause {
			t.Errorf("%s: %v, %q; want %v, %q", c.name, got.State, got.Cause, c.want, c.cause)
		}
	}
}
