package steer_test

import (
	"fmt"
	"math"
	"strings"
	"testing"

	"github.com/miekg/dns"
	"pgregory.net/rapid"

	"github.com/nearcast/nearcast/steer"
	"github.com/nearcast/nearcast/zones"
)

const sampled = 20000 // client networks

// networks calls f with clients of neighbouring /24s, which the database puts into the same place.
func networks(f func(c string)) {
	for i := range sampled {
		f(fmt.Sprintf("%d.%d.%d.9", 20+i>>16, i>>8&255, i&255))
	}
}

// near tells if a count of the sampled networks is a share of them, within five standard deviations.
func near(count int, share float64) bool {
	return math.Abs(float64(count)/sampled-share) <= 5*math.Sqrt(share*(1-share)/sampled)+1e-9
}

// A region that refuses clients keeps its part of those that it would get, in every form of group, and the others get the rest.
func TestAdmittedShares(t *testing.T) {
	type shares map[string]float64
	wide := 20000.0
	band := service("nearest", "us-east", "us-west", "eu-west") // 300, 300, 200
	band.BandKM = &wide
	for _, tt := range []struct {
		name    string
		service zones.ServiceConfig
		beliefs string
		want    shares
	}{
		{"alone in its group", service("failover", "us-east", "eu-west", "ap-south"), "us-east up shed=0.3, eu-west up, ap-south up", shares{"us-east": 0.7, "eu-west": 0.3}},
		{"draining, and the next sheds", service("failover", "us-east", "eu-west", "ap-south"), "us-east up drain=0.75, eu-west up shed=0.5, ap-south up", shares{"us-east": 0.25, "eu-west": 0.375, "ap-south": 0.375}},
		{"the next is down", service("failover", "us-east", "eu-west", "ap-south"), "us-east up shed=0.5, eu-west down, ap-south up", shares{"us-east": 0.5, "ap-south": 0.5}},
		{"both orders", service("failover", "us-east", "eu-west"), "us-east up drain=0.5 shed=0.5, eu-west up", shares{"us-east": 0.25, "eu-west": 0.75}},
		{"in a group, for the others by weight", service("weighted", "us-east", "eu-west", "ap-south"), "us-east up shed=0.5, eu-west up, ap-south up", shares{"us-east": 0.25, "eu-west": 0.5, "ap-south": 0.25}},
		{"in a band", band, "us-east up shed=0.5, us-west up, eu-west up", shares{"us-east": 0.1875, "us-west": 0.4875, "eu-west": 0.325}},
		{"all refuse all: as if none did", service("weighted", "us-east", "eu-west", "ap-south"), "us-east up shed=1, eu-west up shed=1, ap-south up shed=1", shares{"us-east": 1. / 2, "eu-west": 1. / 3, "ap-south": 1. / 6}},
		{"all of a chain refuse all", service("failover", "us-east", "eu-west"), "us-east up shed=1, eu-west up shed=1", shares{"us-east": 1}},
		{"nobody else is up", service("failover", "us-east", "eu-west"), "us-east up shed=1, eu-west down", shares{"us-east": 1}},
		{"fail open refuses none", service("failover", "us-east", "eu-west"), "us-east down shed=0.5, eu-west down", shares{"us-east": 1}},
		{"four groups at most", service("failover", "us-east", "us-west", "eu-west", "eu-mid", "ap-south"), "us-east up shed=1, us-west up shed=1, eu-west up shed=1, eu-mid up shed=0.5, ap-south up", shares{"us-east": 0.5, "eu-mid": 0.5}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			set := load(t, tt.service)
			s := build(t, set, tt.beliefs)
			svc, count := set.Services[0], map[string]int{}
			networks(func(c string) {
				p := s.Pick(svc, dns.TypeA, client(c))
				count[set.Regions[svc.Members[p.Members[0]].Region].Name]++
			})
			e, err := s.Explain(view(t, set, tt.beliefs), "www.geo.example.com.", dns.TypeA, asker("20.0.0.9/32"))
			if err != nil {
				t.Fatal(err)
			}
			for _, c := range e.Candidates {
				if want := tt.want[c.Region]; !near(count[c.Region], want) || math.Abs(c.Share-want) > 0.003 {
					t.Errorf("%s gets %d of %d networks, %.4f by explain; want %.4f", c.Region, count[c.Region], sampled, c.Share, want)
				}
			}
		})
	}
}

// The shares that explain tells are those that are counted, whatever weights and orders there are.
func TestExplainedSharesAreThoseCounted(t *testing.T) {
	set := load(t, service("weighted", "us-east", "us-west", "eu-west", "eu-mid", "ap-south"))
	beliefs := "us-east up shed=0.9, us-west up shed=0.2, eu-west up shed=0.5, eu-mid up shed=0.7, ap-south up shed=0.1"
	s := build(t, set, beliefs)
	e, err := s.Explain(view(t, set, beliefs), "www.geo.example.com.", dns.TypeA, asker("20.0.0.9/32"))
	if err != nil {
		t.Fatal(err)
	}
	count, sum := map[string]int{}, 0.0
	networks(func(c string) {
		p := s.Pick(set.Services[0], dns.TypeA, client(c))
		count[set.Regions[set.Services[0].Members[p.Members[0]].Region].Name]++
	})
	for _, c := range e.Candidates {
		sum += c.Share
		if !near(count[c.Region], c.Share) {
			t.Errorf("%s gets %d of %d networks, %.4f by explain", c.Region, count[c.Region], sampled, c.Share)
		}
	}
	if math.Abs(sum-1) > 0.003 {
		t.Errorf("explained shares sum to %v", sum)
	}
}

// Raising what one region admits moves networks to it alone, lowering moves networks from it alone.
func TestAdmitIsMonotone(t *testing.T) {
	surveys := map[string]*steer.Survey{}
	for _, policy := range []string{"nearest", "failover", "weighted"} {
		surveys[policy] = steer.NewSurvey(load(t, service(policy, "us-east", "us-west", "eu-west", "eu-mid", "ap-south")), world())
	}
	rapid.Check(t, func(rt *rapid.T) {
		survey := surveys[rapid.SampledFrom([]string{"nearest", "failover", "weighted"}).Draw(rt, "policy")]
		set := survey.Set
		shed := make([]float64, len(set.Regions))
		for i := range shed {
			shed[i] = rapid.SampledFrom([]float64{0, 0, 0.1, 0.5, 1}).Draw(rt, "shed")
		}
		build := func() *steer.Snapshot {
			var all []string
			for i, r := range set.Regions {
				all = append(all, fmt.Sprintf("%s up shed=%g", r.Name, shed[i]))
			}
			return steer.Build(steer.Input{Survey: survey, View: view(rt, set, strings.Join(all, ","))})
		}
		more := build()
		i := rapid.IntRange(0, len(shed)-1).Draw(rt, "region")
		shed[i] = rapid.Float64Range(shed[i], 1).Draw(rt, "higher")
		fewer := build()
		for range 50 {
			c := client(drawAddr(rt).String())
			was, is := more.Pick(set.Services[0], dns.TypeA, c).Members[0], fewer.Pick(set.Services[0], dns.TypeA, c).Members[0]
			if was != is && set.Services[0].Members[was].Region != i {
				rt.Fatalf("%v moves from member %d to %d although only region %d admits less", c.Addr, was, is, i)
			}
		}
	})
}

// An answer that depends on whether a region refuses the network holds for no more than that.
func TestScopeOfAdmittedNetworks(t *testing.T) {
	set := load(t, service("failover", "us-east", "eu-west"))
	for beliefs, want := range map[string][2]int{
		"us-east up, eu-west up":            {0, 0},
		"us-east up shed=0.1, eu-west up":   {24, 48},
		"us-east up shed=0.1, eu-west down": {0, 0},
		"us-east up, eu-west up shed=0.5":   {0, 0},
	} {
		s := build(t, set, beliefs)
		v4 := s.Pick(set.Services[0], dns.TypeA, client(newJersey)).Scope
		v6 := s.Pick(set.Services[0], dns.TypeA, client("2001:db8::1")).Scope
		if v4 != want[0] || v6 != want[1] {
			t.Errorf("%s: scopes %d and %d, want %v", beliefs, v4, v6, want)
		}
	}
}

// Explain says of each region whether it refuses the network, as Pick found it.
func TestExplainSaysWhoRefuses(t *testing.T) {
	set := load(t, service("failover", "us-east", "eu-west", "ap-south"))
	beliefs := "us-east up drain=0.5, eu-west up shed=0.5, ap-south up"
	s, v, seen := build(t, set, beliefs), view(t, set, beliefs), map[string]bool{}
	for i := range 64 {
		from := fmt.Sprintf("20.0.%d.9", i)
		e, err := s.Explain(v, "www.geo.example.com.", dns.TypeA, asker(from+"/32"))
		if err != nil {
			t.Fatal(err)
		}
		p := s.Pick(set.Services[0], dns.TypeA, client(from))
		for at, c := range e.Candidates {
			want := map[bool]string{true: "refuses this network: ", false: "takes what regions before it in rank refuse: "}[at < int(p.Members[0])]
			if at == int(p.Members[0]) {
				want = "answers: "
			}
			if at == 1 && p.Members[0] == 0 {
				continue // whether it would refuse does not matter
			}
			if !strings.HasPrefix(c.Reason, want) {
				t.Errorf("%s: %s is said to be %q, want %q", from, c.Region, c.Reason, want)
			}
		}
		seen[e.Region] = true
	}
	if len(seen) != 3 {
		t.Errorf("answers with %v, want all three regions", seen)
	}
	e, _ := s.Explain(v, "www.geo.example.com.", dns.TypeA, asker("20.0.0.9/32"))
	for _, want := range []string{
		"spill us-east takes 50 % of its clients, eu-west takes 50 % of its clients, whom all of the group refuse go on to eu-west, ap-south",
		"draining, 50 % gone: drained at test; heard", "sheds 50 % at test; heard",
	} {
		if !strings.Contains(text(e), want) {
			t.Errorf("no %q in\n%s", want, text(e))
		}
	}
}
