package steer_test

import (
	"net/netip"
	"strings"
	"testing"

	"github.com/miekg/dns"

	"github.com/nearcast/nearcast/steer"
	"github.com/nearcast/nearcast/zones"
)

// What an explanation says, stage by stage, for each way to an answer.
func TestExplanations(t *testing.T) {
	three := []string{"us-east", "eu-west", "ap-south"}
	up := "us-east up, eu-west up, ap-south up"
	noECS := service("nearest", three...)
	noECS.ECS = "off"
	for _, tt := range []struct {
		name    string
		svc     zones.ServiceConfig
		beliefs string
		qname   string
		qtype   uint16
		client  string
		region  string
		want    []string // in stages and candidates' reasons
	}{
		{"nearest", service("nearest", three...), up, "www", dns.TypeA, amsterdam + "/32", "eu-west",
			[]string{"rank nearest: eu-west, us-east, ap-south", "group within 250 km of the nearest live region: eu-west", "pick eu-west, the only one", "us-east: a region before it in rank answers: heard"}},
		{"failover", service("failover", three...), "us-east down, eu-west up, ap-south up", "www", dns.TypeA, mumbai + "/32", "eu-west",
			[]string{"rank failover: us-east, eu-west, ap-south", "group eu-west", "us-east: silent for 5s"}},
		{"weighted", service("weighted", three...), up, "www", dns.TypeA, mumbai + "/32", "",
			[]string{"rank weighted: no order", "group us-east, eu-west, ap-south", "by the hash of 117.192.0.0/24", "shares the group; other networks hash to it: heard"}},
		{"drained", service("nearest", three...), "us-east up, eu-west drained, ap-south up", "www", dns.TypeA, amsterdam + "/32", "us-east",
			[]string{"eu-west draining", "eu-west: drained at test"}},
		{"all refuse", service("failover", "us-east", "eu-west"), "us-east up shed=1, eu-west up shed=1", "www", dns.TypeA, amsterdam + "/32", "us-east",
			[]string{"us-east takes 0 % of its clients", "us-east: answers: all regions refuse this network, so the nearest group takes it as if none did", "eu-west: refuses this network"}},
		{"fail open", service("nearest", three...), "us-east down, eu-west down, ap-south down", "www", dns.TypeA, amsterdam + "/32", "eu-west",
			[]string{"group no region can answer: fail open with eu-west", "eu-west: no region can answer: stands in although down (silent for 5s)"}},
		{"never heard of", service("nearest", three...), "us-east up, eu-west unknown, ap-south unknown", "www", dns.TypeA, amsterdam + "/32", "us-east",
			[]string{"eu-west: no evidence, and others have: never heard of"}},
		{"no client subnets", noECS, up, "www", dns.TypeA, amsterdam + "/32", "eu-west",
			[]string{"client by the source's address: the service goes by no client subnet"}},
		{"a private client", service("nearest", three...), up, "www", dns.TypeA, "10.1.2.0/24", "",
			[]string{"client by the source's address: 10.1.2.0/24 is in a special-purpose block, no place"}},
		{"unknown place", service("nearest", three...), up, "www", dns.TypeA, "0.0.0.1/32", "",
			[]string{"rank nearest: the client's place is unknown, so all regions are one group"}},
		{"an alias", service("nearest", three...), up, "alias", dns.TypeA, amsterdam + "/32", "eu-west",
			[]string{"zone an alias of www.geo.example.com.", "pick eu-west, the only one"}},
		{"an alias out of the zones", service("nearest", three...), up, "out", dns.TypeA, amsterdam + "/32", "",
			[]string{"zone an alias of www.example.org.", "zone in none of the zones served here"}},
		{"a circle of aliases", service("nearest", three...), up, "round", dns.TypeA, amsterdam + "/32", "",
			[]string{"zone an alias of round.geo.example.com."}},
		{"below a DNAME", service("nearest", three...), up, "www.moved", dns.TypeA, amsterdam + "/32", "eu-west",
			[]string{"zone renamed by the DNAME at moved.geo.example.com. to www.geo.example.com.", "pick eu-west, the only one"}},
		{"records of the zone", service("nearest", three...), up, "info", dns.TypeTXT, amsterdam + "/32", "", []string{"zone answered from the zone file"}},
		{"no records of the type", service("nearest", three...), up, "info", dns.TypeA, amsterdam + "/32", "", []string{"zone the name has no A records"}},
		{"no such name", service("nearest", three...), up, "nothing", dns.TypeA, amsterdam + "/32", "", []string{"zone the zone has no such name"}},
		{"delegated", service("nearest", three...), up, "x.child", dns.TypeA, amsterdam + "/32", "", []string{"zone delegated at child.geo.example.com."}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			set := load(t, tt.svc)
			e, err := build(t, set, tt.beliefs).Explain(view(t, set, tt.beliefs), tt.qname+".geo.example.com", tt.qtype, asker(tt.client))
			if err != nil {
				t.Fatal(err)
			}
			if tt.region != "" && e.Region != tt.region {
				t.Errorf("region %s, want %s", e.Region, tt.region)
			}
			got := text(e)
			for _, w := range tt.want {
				if !strings.Contains(got, w) {
					t.Errorf("no %q in\n%s", w, got)
				}
			}
		})
	}
}

// asker is a client whose address or network comes with its query.
func asker(prefix string) steer.Asker {
	p := netip.MustParsePrefix(prefix)
	return steer.Asker{Source: p.Addr(), Subnet: p}
}

// text is an explanation's stages and reasons, one a line.
func text(e *steer.Explanation) string {
	var b strings.Builder
	for _, s := range e.Stages {
		b.WriteString(s.Name + " " + s.Effect + "\n")
	}
	for _, c := range e.Candidates {
		b.WriteString(c.Region + ": " + c.Reason + "\n")
	}
	return b.String()
}
