package steer_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/miekg/dns"
	"pgregory.net/rapid"

	"github.com/nearcast/nearcast/steer"
	"github.com/nearcast/nearcast/zones"
)

// What the guard does, in figures, text and answers.
func TestHeldRegion(t *testing.T) {
	svc := service("nearest", "us-east", "eu-west", "ap-south") // 300, 200, 100
	svc.Regions[0].Addresses = []string{"192.0.2.1", "192.0.2.2", "2001:db8::1"}
	set := load(t, svc)
	const beliefs = "us-east up 192.0.2.1=down@9 192.0.2.2=down@5, eu-west down fault=7, ap-south up"
	s, v := build(t, set, beliefs), view(t, set, beliefs)
	p := s.Pick(set.Services[0], dns.TypeA, client(newJersey))
	if got := answer(s, dns.TypeA, client(newJersey)); got != "us-east 192.0.2.1 192.0.2.2" || p.Sets[0].RRs[0].Header().Ttl != 10 {
		t.Errorf("%s with TTL %d; want all of us-east's IPv4 addresses with 10", got, p.Sets[0].RRs[0].Header().Ttl)
	}
	if got := answer(build(t, set, "us-east down fault=9 192.0.2.1=down, eu-west down fault=7, ap-south up"), dns.TypeA, client(newJersey)); got != "us-east 192.0.2.1 192.0.2.2" {
		t.Errorf("%s; want all of us-east's IPv4 addresses: what was known of them before it fell silent is old", got)
	}
	if p := s.Pick(set.Services[0], dns.TypeA, client(mumbai)); p.Sets[0].RRs[0].Header().Ttl != 30 {
		t.Errorf("TTL %d where no member is held, want 30", p.Sets[0].RRs[0].Header().Ttl)
	}
	if got := answer(s, dns.TypeAAAA, client(amsterdam)); got != "us-east 2001:db8::1" {
		t.Errorf("IPv6 in Europe: %s, want us-east: its IPv6 is up, and eu-west, 200 of 600, may leave", got)
	}
	status := s.Status(v)[0]
	cause := "held by the guard: 33 % of the capacity is out already, at most 50 % may be: 192.0.2.1: connection refused; 192.0.2.2: connection refused"
	if us := status.Regions[0]; us.State != "held" || us.Cause != cause {
		t.Errorf("us-east is %s: %s; want held: %s", us.State, us.Cause, cause)
	}
	e, err := s.Explain(v, "www.geo.example.com.", dns.TypeA, asker(newJersey+"/32"))
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{
		"guard 33 % of the capacity is out already, at most 50 % may be: held in the answers, with all addresses and a TTL of at most 10 s: us-east",
		"us-east: answers: " + cause, "eu-west: silent for 5s",
	} {
		if !strings.Contains(text(e), want) {
			t.Errorf("no %q in\n%s", want, text(e))
		}
	}
	changes := steer.Changes(build(t, set, "us-east up, eu-west down fault=7, ap-south up"), s, v)
	if want := "us-east held (was up) for www.geo.example.com.: " + cause; len(changes) != 1 || changes[0].String() != want {
		t.Errorf("changes are %v, want %s", changes, want)
	}
}

// drawn is a service of 2 to 5 regions with drawn weights and guards.
func drawn(t *testing.T, rt *rapid.T) *steer.Survey {
	names := []string{"us-east", "us-west", "eu-west", "eu-mid", "ap-south"}[:rapid.IntRange(2, 5).Draw(rt, "regions")]
	svc := service(rapid.SampledFrom([]string{"failover", "weighted"}).Draw(rt, "policy"), names...)
	for i := range svc.Regions {
		w := float64(rapid.IntRange(1, 10).Draw(rt, "weight")) / 10
		svc.Regions[i].Weight = &w
	}
	svc.MaxAutomaticRemoval = rapid.IntRange(1, 100).Draw(rt, "percent")
	svc.MinActive = rapid.IntRange(1, len(names)).Draw(rt, "active")
	return steer.NewSurvey(load(t, svc), world())
}

// drawRegions draws a state for each region, as view has them.
func drawRegions(t *rapid.T, set *zones.Set) []string {
	all := make([]string, len(set.Regions))
	for i, r := range set.Regions {
		state := rapid.SampledFrom([]string{"up", "up", "unknown", "unheard", "down", "bad", "bad4"}).Draw(t, r.Name)
		at := rapid.IntRange(0, 9).Draw(t, "fault")
		switch state {
		case "down":
			state = fmt.Sprintf("down fault=%d", at)
		case "bad":
			state = fmt.Sprintf("up 192.0.2.%d=down@%d 2001:db8:%x::1=down@%d", 10*i+1, at, i, at+1)
		case "bad4":
			state = fmt.Sprintf("up 192.0.2.%d=down@%d", 10*i+1, at)
		}
		if order := rapid.SampledFrom([]string{"", "", "", "drain=1", "drain=0.5", "pin-down", "pin-up"}).Draw(t, "order"); order != "" && state != "unknown" {
			state += fmt.Sprintf(" %s at=%d", order, rapid.IntRange(0, 9).Draw(t, "at"))
		}
		all[i] = r.Name + " " + state
	}
	return all
}

// states are the members' states for a family, by evidence, orders and guards.
func states(t failer, s *steer.Snapshot, beliefs string, qtype uint16) map[string]string {
	e, err := s.Explain(view(t, s.Set, beliefs), "www.geo.example.com.", qtype, asker(newJersey+"/32"))
	if err != nil {
		t.Fatalf("%v", err)
	}
	all := map[string]string{}
	for _, c := range e.Candidates {
		all[c.Region] = c.State
	}
	return all
}

// Whatever the evidence and the orders, automation takes out one region or at most the bound while anybody can answer, orders
// leave min_active regions, each client gets an answer, and what was built before makes no difference.
func TestGuardsHold(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		survey := drawn(t, rt)
		svc := survey.Set.Services[0]
		beliefs := strings.Join(drawRegions(rt, survey.Set), ",")
		before := steer.Build(steer.Input{Survey: survey, View: view(rt, survey.Set, strings.Join(drawRegions(rt, survey.Set), ","))})
		v := view(rt, survey.Set, beliefs)
		s := steer.Build(steer.Input{Survey: survey, View: v})
		if after := steer.Build(steer.Input{Survey: survey, View: v, Previous: before}); !after.SameAnswers(s) {
			rt.Fatalf("%s: answers differ by what was before", beliefs)
		}
		for _, qtype := range []uint16{dns.TypeA, dns.TypeAAAA} {
			out, total, faults, ordered, available := 0.0, 0.0, 0, 0, false
			for region, state := range states(rt, s, beliefs, qtype) {
				w := svc.Members[slices.IndexFunc(svc.Members, func(m zones.Member) bool { return survey.Set.Regions[m.Region].Name == region })].Weight
				total += w
				switch state {
				case "down":
					out += w
					faults++
				case "draining", "pinned-down":
					ordered++
				case "up", "unknown":
					available = true
				}
			}
			if available && faults > 1 && out > total*float64(svc.Removal)/100+1e-9 {
				rt.Fatalf("%s: automation takes out %g of %g, more than %d %%", beliefs, out, total, svc.Removal)
			}
			if len(svc.Members)-ordered < svc.Active {
				rt.Fatalf("%s: orders leave %d members, min_active is %d", beliefs, len(svc.Members)-ordered, svc.Active)
			}
			p := s.Pick(svc, qtype, client(drawAddr(rt).String()))
			if p.N < 1 || p.Sets[0] == nil || p.FailOpen == available {
				rt.Fatalf("%s: %d regions answer, open %v", beliefs, p.N, p.FailOpen)
			}
		}
	})
}

// A fault that begins later than all others changes nothing of what they got, as long as anybody can answer.
func TestALaterFaultBringsNoneBack(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		survey := drawn(t, rt)
		regions := drawRegions(rt, survey.Set)
		build := func() (map[string]string, bool) {
			beliefs := strings.Join(regions, ",")
			s := steer.Build(steer.Input{Survey: survey, View: view(rt, survey.Set, beliefs)})
			return states(rt, s, beliefs, dns.TypeA), s.Pick(survey.Set.Services[0], dns.TypeA, client(newJersey)).FailOpen
		}
		was, open := build()
		i := rapid.IntRange(0, len(regions)-1).Draw(rt, "later")
		name := survey.Set.Regions[i].Name
		if open || was[name] != "up" {
			rt.Skip("a fault of what is down already, or where the service fails open, is not a later one")
		}
		_, order, _ := strings.Cut(regions[i], " up")
		regions[i] = name + " down fault=100" + order
		is, open := build()
		for region, state := range was {
			if !open && region != name && is[region] != state {
				rt.Fatalf("%v: with the later fault %s is %s, was %s", regions, region, is[region], state)
			}
		}
	})
}

// A region that has been out since its endpoints failed stays out when its agents fall silent, too, and another is held.
func TestAFaultKeepsItsPlaceWhenTheRegionFallsSilent(t *testing.T) {
	set := load(t, service("nearest", "us-east", "eu-west", "ap-south"))
	for _, us := range []string{"up 192.0.2.1=down@3", "down 192.0.2.1=down@3 fault=9", "down fault=3"} {
		beliefs := "us-east " + us + ", eu-west down fault=5, ap-south up"
		if got := states(t, build(t, set, beliefs), beliefs, dns.TypeA); got["us-east"] != "down" || got["eu-west"] != "held" {
			t.Errorf("%s: %v, want us-east down and eu-west held", beliefs, got)
		}
	}
}

// Where most of a service's capacity was never known to be up, that is warned of: its clients are all sent to the rest.
func TestUnknownRegionsAreWarnedOf(t *testing.T) {
	set := load(t, service("nearest", "us-east", "eu-west", "ap-south")) // 300, 200 and 100
	for beliefs, want := range map[string]string{
		"us-east unheard, eu-west unknown, ap-south up":   "www.geo.example.com.: nothing is known of us-east, eu-west, with 83 % of its capacity: they get no clients while others are up",
		"us-east up, eu-west unheard, ap-south up":        "",
		"us-east unheard, eu-west unheard, ap-south down": "",
	} {
		if got := strings.Join(build(t, set, beliefs).Status(view(t, set, beliefs))[0].Warnings, "; "); got != want {
			t.Errorf("%s: %q, want %q", beliefs, got, want)
		}
	}
}
