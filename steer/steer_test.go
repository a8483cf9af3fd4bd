package steer_test

import (
	"fmt"
	"math"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"github.com/miekg/dns"
	"pgregory.net/rapid"

	"github.com/nearcast/nearcast/geo"
	"github.com/nearcast/nearcast/steer"
	"github.com/nearcast/nearcast/zones"
)

// answer is what a pick says in short: "eu-west 192.0.2.11", "us-east NODATA", with "open " before it if it fails open.
func answer(s *steer.Snapshot, qtype uint16, c geo.Client) string {
	svc := s.Set.Services[0]
	p := s.Pick(svc, qtype, c)
	var parts []string
	if p.FailOpen {
		parts = append(parts, "open")
	}
	for i := range p.N {
		parts = append(parts, s.Set.Regions[svc.Members[p.Members[i]].Region].Name)
		if p.Sets[i] == nil {
			parts = append(parts, "NODATA")
			continue
		}
		for _, rr := range p.Sets[i].RRs {
			parts = append(parts, strings.TrimPrefix(rr.String(), rr.Header().String()))
		}
	}
	return strings.Join(parts, " ")
}

func TestPickAnswers(t *testing.T) {
	three := []string{"us-east", "eu-west", "ap-south"}
	onlyV4 := service("nearest", three...)
	onlyV4.Regions[1].Addresses = onlyV4.Regions[1].Addresses[:1]
	noV6 := service("nearest", three...)
	for i := range noV6.Regions {
		noV6.Regions[i].Addresses = noV6.Regions[i].Addresses[:1]
	}
	hosts := zones.ServiceConfig{Name: "www", TTL: 30, Checked: true}
	for _, r := range three {
		hosts.Regions = append(hosts.Regions, zones.MemberConfig{Region: r, CNAME: r + ".example.net"})
	}
	two := service("failover", "eu-west", "us-east")
	two.Regions[0].Addresses = []string{"192.0.2.1", "192.0.2.2", "2001:db8::1"}

	tests := []struct {
		name    string
		service zones.ServiceConfig
		beliefs string
		client  string
		qtype   uint16
		want    string
	}{
		{"the nearest region answers", service("nearest", three...), "us-east up, eu-west up, ap-south up", newJersey, dns.TypeA, "us-east 192.0.2.1"},
		{"each client has its own", service("nearest", three...), "us-east up, eu-west up, ap-south up", mumbai, dns.TypeA, "ap-south 192.0.2.21"},
		{"the other family alike", service("nearest", three...), "us-east up, eu-west up, ap-south up", amsterdam, dns.TypeAAAA, "eu-west 2001:db8:1::1"},
		{"a region that is down is passed over", service("nearest", three...), "us-east down, eu-west up, ap-south up", newJersey, dns.TypeA, "eu-west 192.0.2.11"},
		{"so is a drained one", service("nearest", three...), "us-east drained, eu-west up, ap-south up", newJersey, dns.TypeA, "eu-west 192.0.2.11"},
		{"so is one without evidence, if others have some", service("nearest", three...), "eu-west up, ap-south down", newJersey, dns.TypeA, "eu-west 192.0.2.11"},
		{"with no evidence at all, all regions are taken", service("nearest", three...), "us-east unknown", newJersey, dns.TypeA, "us-east 192.0.2.1"},
		{"an endpoint that was never checked is no evidence", service("nearest", three...), "us-east up 192.0.2.1=unknown, eu-west up", newJersey, dns.TypeA, "eu-west 192.0.2.11"},
		{"a failed endpoint takes its family out", service("nearest", three...), "us-east up 192.0.2.1=down, eu-west up", newJersey, dns.TypeA, "eu-west 192.0.2.11"},
		{"but not the other family", service("nearest", three...), "us-east up 192.0.2.1=down, eu-west up", newJersey, dns.TypeAAAA, "us-east 2001:db8:0::1"},
		{"a region without the family answers NODATA, not a farther region", onlyV4, "us-east up, eu-west up, ap-south up", amsterdam, dns.TypeAAAA, "eu-west NODATA"},
		{"and fails over with its other family", onlyV4, "us-east up, eu-west up 192.0.2.11=down, ap-south up", amsterdam, dns.TypeAAAA, "us-east 2001:db8:0::1"},
		{"a service without the family is NODATA for all", noV6, "us-east down, eu-west up, ap-south up", newJersey, dns.TypeAAAA, "us-east NODATA"},
		{"all down: fail open, the nearest as if healthy", service("nearest", three...), "us-east down, eu-west down, ap-south down", newJersey, dns.TypeA, "open us-east 192.0.2.1"},
		{"all down or drained: fail open", service("nearest", three...), "us-east drained, eu-west down, ap-south down", newJersey, dns.TypeA, "open us-east 192.0.2.1"},
		{"all endpoints failed: fail open", service("nearest", three...), "us-east up 192.0.2.1=down, eu-west up 192.0.2.11=down, ap-south up 192.0.2.21=down", mumbai, dns.TypeA, "open ap-south 192.0.2.21"},
		{"failover takes the first", two, "us-east up, eu-west up", newJersey, dns.TypeA, "eu-west 192.0.2.1 192.0.2.2"},
		{"without its failed endpoints", two, "us-east up, eu-west up 192.0.2.1=down", newJersey, dns.TypeA, "eu-west 192.0.2.2"},
		{"then the second", two, "us-east up, eu-west down", amsterdam, dns.TypeA, "us-east 192.0.2.11"},
		{"host names answer every type", hosts, "us-east up, eu-west up, ap-south up", mumbai, dns.TypeTXT, "ap-south ap-south.example.net."},
		{"and fail over", hosts, "us-east up, eu-west up, ap-south up ap-south.example.net.=down", mumbai, dns.TypeA, "eu-west eu-west.example.net."},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			s := build(t, load(t, tt.service), tt.beliefs)
			got := strings.ReplaceAll(answer(s, tt.qtype, client(tt.client)), "db8::1", "db8:0::1")
			if got != tt.want {
				t.Errorf("got %q, want %q", got, tt.want)
			}
		})
	}
}

func TestScopeIsAsWideAsTheAnswer(t *testing.T) {
	tests := []struct {
		name    string
		service zones.ServiceConfig
		beliefs string
		want    func(scope int) bool
		says    string
	}{
		{"failover does not depend on the client", service("failover", "us-east", "eu-west"), "us-east up, eu-west up", func(n int) bool { return n == 0 }, "0"},
		{"nor does nearest with one region left", service("nearest", "us-east", "eu-west"), "us-east down, eu-west up", func(n int) bool { return n == 0 }, "0"},
		{"a weighted group is shared by /24", service("weighted", "us-east", "eu-west"), "us-east up, eu-west up", func(n int) bool { return n == 24 }, "24"},
		{"nearest is as wide as the place", service("nearest", "us-east", "eu-west"), "us-east up, eu-west up", func(n int) bool { return n > 0 && n <= 24 }, "1 to 24"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			s := build(t, load(t, tt.service), tt.beliefs)
			if got := s.Pick(s.Set.Services[0], dns.TypeA, client(newJersey)).Scope; !tt.want(got) {
				t.Errorf("scope is %d, want %s", got, tt.says)
			}
		})
	}
}

// Whatever the beliefs, all addresses inside a scope get the same answer, and if one region answers, the
// scope cannot be wider by a bit.
func TestEveryAddressInAScopeHasTheAnswer(t *testing.T) {
	set := load(t, service("nearest", "us-east", "us-west", "eu-west", "eu-mid", "ap-south"))
	survey := steer.NewSurvey(set, world())
	rapid.Check(t, func(t *rapid.T) {
		var beliefs []string
		for _, r := range set.Regions {
			beliefs = append(beliefs, r.Name+" "+rapid.SampledFrom([]string{"up", "up", "up shed=0.5", "up drain=0.75", "down", "drained", "unknown"}).Draw(t, r.Name))
		}
		s := steer.Build(steer.Input{Survey: survey, View: view(t, set, strings.Join(beliefs, ","))})
		a := drawAddr(t)
		c := client(a.String())
		p := s.Pick(set.Services[0], dns.TypeA, c)
		for range 20 {
			b := inside(a, p.Scope+c.Wrap, rapid.Uint64().Draw(t, "bits"))
			if q := s.Pick(set.Services[0], dns.TypeA, client(b.String())); q.Members != p.Members {
				t.Fatalf("%v has scope /%d and %v, but %v in it has %v", a, p.Scope, p.Members, b, q.Members)
			}
		}
	})
}

func drawAddr(t *rapid.T) netip.Addr {
	if rapid.Bool().Draw(t, "IPv6") {
		var b [16]byte
		b[0], b[1] = 0x20|byte(rapid.IntRange(0, 15).Draw(t, "a0")), byte(rapid.IntRange(0, 255).Draw(t, "a1"))
		for i := 2; i < 8; i++ {
			b[i] = byte(rapid.IntRange(0, 255).Draw(t, "a"))
		}
		return netip.AddrFrom16(b)
	}
	x := rapid.Uint32Range(1<<24, 223<<24).Draw(t, "IPv4")
	return netip.AddrFrom4([4]byte{byte(x >> 24), byte(x >> 16), byte(x >> 8), byte(x)})
}

// inside is an address that shares the first n bits of a; the others are drawn from bits.
func inside(a netip.Addr, n int, bits uint64) netip.Addr {
	b := a.AsSlice()
	for i := n; i < min(a.BitLen(), 64); i++ {
		b[i/8] = b[i/8]&^(0x80>>(i%8)) | byte(bits>>(i%64)&1)<<(7-i%8)
	}
	out, _ := netip.AddrFromSlice(b)
	return out
}

func TestSharesFollowCapacityAndMoveLittle(t *testing.T) {
	set := load(t, service("weighted", "us-east", "eu-west", "ap-south")) // 300, 200, 100
	before := build(t, set, "us-east up, eu-west up, ap-south up")
	after := build(t, set, "us-east up, eu-west down, ap-south up")
	const networks = 60000
	count := map[string]int{}
	for i := range networks {
		c := client(fmt.Sprintf("%d.%d.%d.9", 20+i>>16, i>>8&255, i&255))
		was, is := answer(before, dns.TypeA, c), answer(after, dns.TypeA, c)
		count[was]++
		if was != is && !strings.HasPrefix(was, "eu-west") {
			t.Fatalf("%v moved from %s to %s although only eu-west left", c.Addr, was, is)
		}
	}
	for name, share := range map[string]float64{"us-east 192.0.2.1": 3. / 6, "eu-west 192.0.2.11": 2. / 6, "ap-south 192.0.2.21": 1. / 6} {
		// Five standard deviations of a binomial share.
		if got := float64(count[name]) / networks; math.Abs(got-share) > 5*math.Sqrt(share*(1-share)/networks) {
			t.Errorf("%s has a share of %.4f, want %.4f", name, got, share)
		}
	}
}

// A region that scaled in or out has a share by its live capacity, at most by its maximum.
func TestSharesFollowLiveCapacity(t *testing.T) {
	set := load(t, service("weighted", "us-east", "eu-west")) // 300, 200
	set.Regions[0].MaxCapacity = 600
	const networks = 30000
	for _, c := range []struct {
		live  float64 // of us-east
		share float64
	}{{0, 300. / 500}, {300, 300. / 500}, {150, 150. / 350}, {450, 450. / 650}, {600, 600. / 800}, {6000, 600. / 800}} {
		v := view(t, set, "us-east up, eu-west up")
		v.Regions["us-east"].Capacity = c.live
		s := steer.Build(steer.Input{Generation: 1, Survey: steer.NewSurvey(set, world()), View: v})
		count := 0
		for i := range networks {
			if strings.HasPrefix(answer(s, dns.TypeA, client(fmt.Sprintf("%d.%d.%d.9", 20+i>>16, i>>8&255, i&255))), "us-east") {
				count++
			}
		}
		// Five standard deviations of a binomial share.
		if got := float64(count) / networks; math.Abs(got-c.share) > 5*math.Sqrt(c.share*(1-c.share)/networks) {
			t.Errorf("with %v live, us-east has a share of %.4f, want %.4f", c.live, got, c.share)
		}
	}
}

// A service without a check believes its region, unless that says that its backends carry too little.
func TestUncheckedServiceFollowsItsBackends(t *testing.T) {
	svc := service("failover", "us-east", "eu-west")
	svc.Checked = false
	set := load(t, svc)
	for states, want := range map[string]string{
		"us-east up, eu-west up": "us-east 192.0.2.1",
		"us-east up 192.0.2.1=unknown 2001:db8:0::1=unknown, eu-west up": "us-east 192.0.2.1",
		"us-east up 192.0.2.1=down 2001:db8:0::1=down, eu-west up":       "eu-west 192.0.2.11",
	} {
		if got := answer(build(t, set, states), dns.TypeA, client(newJersey)); got != want {
			t.Errorf("%s: %s, want %s", states, got, want)
		}
	}
}

func TestBandSharesAmongRegionsNearlyAsNear(t *testing.T) {
	wide := 2000.0
	svc := service("nearest", "eu-west", "eu-mid", "us-east")
	svc.BandKM = &wide
	s := build(t, load(t, svc), "eu-west up, eu-mid up, us-east up")
	seen := map[string]bool{}
	for i := range 64 { // RIPE NCC's 193.0.0.0/19 and its neighbours in the Netherlands
		seen[answer(s, dns.TypeA, client(fmt.Sprintf("193.0.%d.1", i%24)))] = true
	}
	if !seen["eu-west 192.0.2.1"] || !seen["eu-mid 192.0.2.11"] || len(seen) != 2 {
		t.Errorf("answers are %v, want both regions in Europe and no other", seen)
	}
}

func TestSeveralAnswersAreDistinctRegions(t *testing.T) {
	svc := service("weighted", "us-east", "us-west", "eu-west", "eu-mid", "ap-south")
	svc.Answers = 3
	s := build(t, load(t, svc), "us-east up, us-west up, eu-west down, eu-mid up, ap-south up")
	p := s.Pick(s.Set.Services[0], dns.TypeA, client(newJersey))
	m := slices.Clone(p.Members[:p.N])
	slices.Sort(m)
	if p.N != 3 || len(slices.Compact(m)) != 3 || slices.Contains(m, 2) {
		t.Errorf("answers with the members %v, want three different ones without the third, which is down", p.Members[:p.N])
	}
}

// The same inputs give the same answers, whatever the snapshot before was.
func TestBuildIsPure(t *testing.T) {
	set := load(t, service("nearest", "us-east", "us-west", "eu-west", "eu-mid", "ap-south"))
	survey := steer.NewSurvey(set, world())
	rapid.Check(t, func(t *rapid.T) {
		draw := func() string {
			var beliefs []string
			for _, r := range set.Regions {
				beliefs = append(beliefs, r.Name+" "+rapid.SampledFrom([]string{"up", "up shed=0.25", "down fault=7", "down fault=3", "drained", "unknown"}).Draw(t, r.Name))
			}
			return strings.Join(beliefs, ",")
		}
		first := steer.Build(steer.Input{Survey: survey, View: view(t, set, draw())})
		v := view(t, set, draw())
		alone := steer.Build(steer.Input{Survey: survey, View: v})
		after := steer.Build(steer.Input{Survey: survey, View: v, Previous: first})
		if !alone.SameAnswers(after) {
			t.Fatal("SameAnswers tells builds of the same inputs apart")
		}
		for range 20 {
			c := client(drawAddr(t).String())
			a, b := alone.Pick(set.Services[0], dns.TypeAAAA, c), after.Pick(set.Services[0], dns.TypeAAAA, c)
			if a.Members != b.Members || a.Scope != b.Scope || a.FailOpen != b.FailOpen {
				t.Fatalf("%v: %v /%d alone, %v /%d after another", c.Addr, a.Members, a.Scope, b.Members, b.Scope)
			}
		}
	})
}

func TestPickDoesNotAllocate(t *testing.T) {
	five := []string{"us-east", "us-west", "eu-west", "eu-mid", "ap-south"}
	c := client(newJersey)
	for _, policy := range []string{"weighted", "failover"} {
		for _, beliefs := range []string{
			"us-east up, us-west up, eu-west up, eu-mid up, ap-south up",
			"us-east up shed=1, us-west up shed=1, eu-west up shed=1, eu-mid up shed=1, ap-south up shed=1",
		} {
			s := build(t, load(t, service(policy, five...)), beliefs)
			if n := testing.AllocsPerRun(100, func() { s.Pick(s.Set.Services[0], dns.TypeA, c) }); n != 0 {
				t.Errorf("%s, %s: %v allocations", policy, beliefs, n)
			}
		}
	}
}

func TestExplanationTellsWhatPickDoes(t *testing.T) {
	unguarded := service("nearest", "us-east", "eu-west", "ap-south")
	unguarded.MaxAutomaticRemoval = 100
	set := load(t, unguarded)
	s := build(t, set, "us-east down, eu-west up 192.0.2.11=down, ap-south up")
	v := view(t, set, "us-east down, eu-west up 192.0.2.11=down, ap-south up")
	e, err := s.Explain(v, "WWW.geo.example.com", dns.TypeA, asker(newJersey+"/32"))
	if err != nil {
		t.Fatal(err)
	}
	if e.Region != "ap-south" || !slices.Equal(e.Answers, []string{"192.0.2.21"}) || e.Scope != 0 || e.Network != "0.0.0.0/0" {
		t.Errorf("explains %s %v scope %d network %s, want ap-south 192.0.2.21, 0, 0.0.0.0/0", e.Region, e.Answers, e.Scope, e.Network)
	}
	want := []struct{ region, state, reason string }{
		{"us-east", "down", "silent for 5s"},
		{"eu-west", "down", "192.0.2.11: connection refused"},
		{"ap-south", "up", "answers: heard"},
	}
	for i, w := range want {
		c := e.Candidates[i]
		if c.Region != w.region || c.State != w.state || c.Reason != w.reason || c.DistanceKM == nil {
			t.Errorf("candidate %d is %+v, want %+v with a distance", i, c, w)
		}
	}
	if e.Candidates[2].Share != 1 || e.Candidates[0].Share != 0 {
		t.Errorf("shares are %v and %v, want 1 for the only live region and 0", e.Candidates[2].Share, e.Candidates[0].Share)
	}
	for _, name := range []string{"state", "rank", "group", "pick"} {
		if !slices.ContainsFunc(e.Stages, func(s steer.Stage) bool { return s.Name == name }) {
			t.Errorf("no stage %q in %v", name, e.Stages)
		}
	}
	if _, err := s.Explain(v, "example.org.", dns.TypeA, asker("192.0.2.1/32")); err == nil {
		t.Error("a name in no zone is explained")
	}
}

func TestChangesNameRegionServiceAndCause(t *testing.T) {
	set := load(t, service("nearest", "us-east", "eu-west", "ap-south"))
	tests := []struct{ before, after, want string }{
		{"us-east up, eu-west up, ap-south up", "us-east down, eu-west up, ap-south up", "us-east down (was up) for www.geo.example.com.: silent for 5s"},
		{"us-east up, eu-west up, ap-south up", "us-east up, eu-west drained, ap-south up", "eu-west draining (was up) for www.geo.example.com.: drained at test"},
		{"us-east up, eu-west up, ap-south up", "us-east up 192.0.2.1=down, eu-west up, ap-south up", "us-east 192.0.2.1 down (was up) for www.geo.example.com.: connection refused"},
		{"us-east up 192.0.2.1=down, eu-west up, ap-south up", "us-east up, eu-west up, ap-south up", "us-east 192.0.2.1 up (was down) for www.geo.example.com.: check passes"},
		{"us-east down, eu-west down, ap-south up", "us-east down, eu-west down, ap-south down", "us-east down (was held) for www.geo.example.com.: silent for 5s; ap-south down (was up) for www.geo.example.com.: silent for 5s; www.geo.example.com. fails open: no region can answer, so all are taken as if they could, whatever orders say"},
		{"us-east up, eu-west up, ap-south up", "us-east up, eu-west up, ap-south up", ""},
	}
	for _, tt := range tests {
		var got []string
		for _, c := range steer.Changes(build(t, set, tt.before), build(t, set, tt.after), view(t, set, tt.after)) {
			got = append(got, c.String())
		}
		if strings.Join(got, "; ") != tt.want {
			t.Errorf("%s -> %s:\n got %q\nwant %q", tt.before, tt.after, strings.Join(got, "; "), tt.want)
		}
	}
}
