package healthmesh

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"
)

// votesOf makes a ballot: "up up down none".
func votesOf(text string) ballot {
	var b ballot
	for i, word := range strings.Fields(text) {
		state := map[string]State{"up": Up, "down": Down, "none": Unknown}[word]
		p := &part{report: report{Agent: "1", Region: fmt.Sprint(i), Elapsed: 10}}
		b = append(b, vote{p, &reported{State: state, Reason: reason{code: reasonTimeout}, Since: uint64(10 - i)}})
	}
	return b
}

// The whole table of judgeEndpoint: each verdict inside with each outside and each belief before.
func TestJudgeEndpoint(t *testing.T) {
	inside := map[string]State{
		"up": Up, "up up down": Up, "up none": Up, "down": Down, "up down": Down, "up down down": Down, "down none": Down,
		"": Unknown, "none": Unknown, "none none": Unknown,
	}
	outside := map[string]State{
		"up": Up, "up up down": Up, "down down": Down, "up down down": Down, "down down down": Down,
		"": Unknown, "none": Unknown, "down": Unknown, "up down": Unknown, "up up down down": Unknown, "down none": Unknown,
	}
	rows := map[[2]State]State{ // inside, outside -> now; absent: as before
		{Down, Up}: Down, {Down, Down}: Down, {Down, Unknown}: Down,
		{Up, Up}: Up, {Up, Down}: Down, {Up, Unknown}: Up,
		{Unknown, Up}: Up, {Unknown, Down}: Down,
	}
	for in, inState := range inside {
		for out, outState := range outside {
			for _, before := range []State{Unknown, Up, Down} {
				want, decided := rows[[2]State{inState, outState}]
				if !decided {
					want = before
				}
				got := judgeEndpoint(votesOf(in), votesOf(out), Endpoint{State: before})
				if got.State != want {
					t.Errorf("inside %q, outside %q, before %v: %v, want %v", in, out, before, got.State, want)
				}
				if reachable := !strings.HasPrefix(got.Reason, "unreachable"); reachable != (want != Down || inState == Down || !decided) {
					t.Errorf("inside %q, outside %q: reason %q", in, out, got.Reason)
				}
			}
		}
	}
}

// meeting is a table of agents and what they see, "a-1: a=up b=down, b-1: ...": the agent a-1 is of region a; "b=" is the endpoint of b.
func meeting(t *testing.T, text string, now time.Time) *table {
	t.Helper()
	tab := newTable(5 * time.Second)
	for line := range strings.SplitSeq(text, ",") {
		name, sees, _ := strings.Cut(strings.TrimSpace(line), ":")
		region, _, _ := strings.Cut(name, "-")
		r := report{Agent: name, Region: region, numbering: numbering{1000, 1}, Elapsed: 500, Parts: 1, Capacity: 100}
		for _, f := range strings.Fields(sees) {
			of, state, _ := strings.Cut(f, "=")
			r.Endpoints = append(r.Endpoints, reported{
				ID: endpointOf(of), State: map[string]State{"up": Up, "down": Down}[state], Reason: reason{code: reasonTimeout}, Since: 100,
			})
		}
		if v := tab.apply(&part{report: r, at: now}, anyone, now); v > repeated {
			t.Fatalf("%s: %v", line, v)
		}
	}
	return tab
}

// endpointOf is the endpoint of a region: "b" has one of IPv4, "b6" is its endpoint of IPv6.
func endpointOf(name string) EndpointID { return ID("www.", name[:1], name) }

func planOf(regions string) *Plan {
	p := &Plan{Witnesses: 3}
	for _, r := range strings.Fields(regions) {
		p.Regions = append(p.Regions, PlanRegion{Name: r, Capacity: 100})
		p.Targets = append(p.Targets,
			Target{ID: endpointOf(r), Region: r, Service: "www.", Endpoint: "192.0.2.1"},
			Target{ID: endpointOf(r + "6"), Region: r, Service: "www.", Endpoint: "2001:db8::1"})
	}
	return p.index()
}

// What regions see of each other makes the state of their endpoints.
func TestWitnesses(t *testing.T) {
	for _, c := range []struct{ name, sees, want string }{
		{"all is well", "a-1: a=up b=up c=up, b-1: a=up b=up c=up, c-1: a=up b=up c=up", "a=up b=up c=up"},
		{"two see a third fail", "a-1: a=up b=up c=up, b-1: a=down b=up c=up, c-1: a=down b=up c=up", "a=down b=up c=up"},
		{"one alone does not count", "a-1: a=up b=up c=up, b-1: a=down b=up c=up, c-1: a=up b=up c=up", "a=up b=up c=up"},
		{"one alone does not count, though the other says nothing", "a-1: a=up, b-1: a=down b=up c=up, c-1: c=up", "a=up b=up c=up"},
		{"many agents of one region are one voice", "a-1: a=up, b-1: a=down c=up b=up, b-2: a=down c=up b=up, b-3: a=down c=up b=up, c-1: c=up", "a=up b=up c=up"},
		{"who sees all fail abstains", "a-1: a=up b=up c=up, b-1: a=down b=up c=down, c-1: a=down b=up c=up", "a=up b=up c=up"},
		{"its own agents know better that it fails", "a-1: a=down, b-1: a=up b=up c=up, c-1: a=up b=up c=up", "a=down b=up c=up"},
		{"without IPv6 nobody judges IPv6", "a-1: a=up a6=up, b-1: a=up a6=down b=up c=up c6=down, c-1: a=up a6=down b=up b6=down c=up",
			"a=up a6=up b=up c=up"},
		{"IPv6 alone fails", "a-1: a=up a6=up, b-1: a=up a6=down b=up c=up c6=up, c-1: a=up a6=down b=up b6=up c=up", "a=up a6=down b=up c=up"},
	} {
		now := time.Now()
		plan := planOf("a b c")
		b := believe(meeting(t, c.sees, now), belief{start: now}, plan, 5*time.Second, now)
		var got []string
		for _, name := range []string{"a", "a6", "b", "c"} {
			if e, ok := b.regions[name[:1]].Endpoints[endpointOf(name)]; ok {
				got = append(got, name+"="+e.State.String())
			}
		}
		if s := strings.Join(got, " "); s != c.want {
			t.Errorf("%s: %s, want %s", c.name, s, c.want)
		}
	}
}

// Where a region is bound to keys, regions for which anyone can speak are not its witnesses, nor take the duty from those that are.
func TestWitnessesOfBoundRegions(t *testing.T) {
	plan := planOf("a b x y z")
	for i := range plan.Regions[:2] {
		plan.Regions[i].Keys = []PublicKey{{byte(i)}}
	}
	plan = plan.index()
	now := time.Now()
	tab := meeting(t, "a-1: a=up b=up x=up, b-1: a=up b=up x=down y=up, x-1: a=down x=up y=up, y-1: a=down x=down y=up, z-1: a=down x=down y=up", now)
	b := believe(tab, belief{start: now}, plan, 5*time.Second, now)
	for name, want := range map[string]State{"a": Up, "x": Down} {
		if got := b.regions[name].Endpoints[endpointOf(name)].State; got != want {
			t.Errorf("%s is %v, want %v", name, got, want)
		}
	}
	agents := []agentKey{{"a", "a-1"}, {"b", "b-1"}, {"x", "x-1"}, {"y", "y-1"}, {"z", "z-1"}}
	for _, a := range agents {
		mine := slices.ContainsFunc(plan.duties(a, agents), func(t Target) bool { return t.Region == "a" })
		if mine != (a.region == "b") {
			t.Errorf("%s is a witness of a: %v", a.name, mine)
		}
	}
}

// Whatever the agents of one region say, endpoints of other regions are as if they had said nothing.
func TestNoRegionTakesOutAnother(t *testing.T) {
	plan := planOf("a b c d")
	rapid.Check(t, func(t *rapid.T) {
		now := time.Now()
		honest, lied := newTable(5*time.Second), newTable(5*time.Second)
		draw := func(agent, region string) *part {
			r := report{Agent: agent, Region: region, numbering: numbering{1, 1}, Parts: 1}
			for _, id := range slices.Sorted(maps.Keys(plan.targets)) {
				r.Endpoints = append(r.Endpoints, reported{ID: id, State: State(rapid.IntRange(0, 2).Draw(t, "state"))})
			}
			return &part{report: r, at: now}
		}
		for _, region := range []string{"a", "b", "c"} {
			p := draw(region+"-1", region)
			// The others see everything up, at worst nothing.
			for i, e := range p.Endpoints {
				if e.State == Down && plan.targets[e.ID].Region != region {
					p.Endpoints[i].State = Up
				}
			}
			honest.apply(p, anyone, now)
			lied.apply(p, anyone, now)
		}
		for n := range rapid.IntRange(1, 4).Draw(t, "liars") {
			lied.apply(draw(fmt.Sprint("d-", n), "d"), anyone, now)
		}
		want := believe(honest, belief{start: now}, plan, 5*time.Second, now)
		got := believe(lied, belief{start: now}, plan, 5*time.Second, now)
		for _, region := range []string{"a", "b", "c"} {
			for id, e := range got.regions[region].Endpoints {
				if was := want.regions[region].Endpoints[id].State; e.State == Down && was != Down {
					t.Fatalf("endpoint %x of %s is %v, without the liars %v", id, region, e, was)
				}
			}
		}
	})
}

// Duties: each endpoint has as many witnesses of other regions as the plan says, all nodes agree on them, and who goes leaves the
// others' duties as they are.
func TestDuties(t *testing.T) {
	p := planOf("a b c d e f")
	var agents []agentKey
	for _, region := range strings.Fields("a b c d e f") {
		agents = append(agents, agentKey{region, region + "-1"}, agentKey{region, region + "-2"})
	}
	witnesses := func(agents []agentKey) map[EndpointID][]agentKey {
		all := make(map[EndpointID][]agentKey)
		for _, a := range agents {
			for _, target := range p.duties(a, agents) {
				all[target.ID] = append(all[target.ID], a)
			}
		}
		return all
	}
	all := witnesses(agents)
	for id, target := range p.targets {
		regions := map[string]bool{}
		for _, a := range all[id] {
			regions[a.region] = true
		}
		if len(all[id]) != 3 || len(regions) != 3 || regions[target.Region] {
			t.Errorf("%s of %s has the witnesses %v", target.Endpoint, target.Region, all[id])
		}
	}
	gone := agents[3]
	fewer := witnesses(slices.DeleteFunc(slices.Clone(agents), func(a agentKey) bool { return a == gone }))
	for id := range all {
		if slices.Contains(all[id], gone) {
			continue
		}
		if !slices.Equal(all[id], fewer[id]) {
			t.Errorf("%x: witnesses %v, after another went %v", id, all[id], fewer[id])
		}
	}
	one, two := p.duties(agents[0], agents[:2]), p.duties(agents[1], agents[:2])
	if len(one)+len(two) != 10 {
		t.Errorf("two agents of one region, alone, share its duties as %d and %d, 10 in all are wanted", len(one), len(two))
	}
	alone := p.duties(agentKey{"b", "b-1"}, []agentKey{{"a", "a-1"}, {"b", "b-1"}})
	if len(alone) != 10 {
		t.Errorf("with one other region's agent, it has %d duties, all 10 of other regions are wanted", len(alone))
	}
}

// A region that falls again and again is held down for longer each time, at most holdLast, and at once believed after a quiet time.
func TestFallsAreHeldDown(t *testing.T) {
	now := time.Now()
	const lease = 5 * time.Second
	tab := newTable(5 * time.Second)
	b := belief{start: now}
	sequence := uint64(0)
	step := func(d time.Duration, regions ...string) {
		for range int(d / (250 * time.Millisecond)) {
			now = now.Add(250 * time.Millisecond)
			sequence++
			for _, r := range regions {
				tab.apply(&part{report: report{Agent: r, Region: r, numbering: numbering{1, sequence}, Parts: 1}, at: now}, anyone, now)
			}
			b = believe(tab, b, nil, lease, now)
		}
	}
	step(time.Second, "a", "b", "c")
	for i, want := range []time.Duration{0, 1, 2, 4, 8, 8} {
		step(lease+time.Second, "b", "c")
		if r := b.regions["a"]; r.State != Down || !strings.HasPrefix(r.Cause, causeSilent) {
			t.Fatalf("fall %d: %v %s", i, r.State, r.Cause)
		}
		heard := now
		for b.regions["a"].State != Up {
			step(250*time.Millisecond, "a", "b", "c")
			if r := b.regions["a"]; r.Returning() != (r.State == Down) {
				t.Fatalf("fall %d: returning %v, %s", i, r.Returning(), r.Cause)
			}
			if now.Sub(heard) > time.Minute {
				t.Fatalf("fall %d: never up again: %s", i, b.regions["a"].Cause)
			}
		}
		if held := now.Sub(heard); held < want*time.Second || held > want*time.Second+time.Second {
			t.Errorf("fall %d: held down for %v, want %v s", i, held, int(want))
		}
	}
	step(fallMemory+time.Second, "a", "b", "c")
	step(lease+time.Second, "b", "c")
	step(500*time.Millisecond, "a", "b", "c")
	if r := b.regions["a"]; r.State != Up {
		t.Errorf("after a quiet time: %v %s", r.State, r.Cause)
	}
}

// The stamp of a fault is alike at every node, and its time here follows from when the report came.
func TestStamps(t *testing.T) {
	now := time.Now()
	plan := planOf("a b c")
	tab := meeting(t, "a-1: a=down, b-1: b=up, c-1: c=up", now)
	e := believe(tab, belief{start: now}, plan, 5*time.Second, now).regions["a"].Endpoints[endpointOf("a")]
	if e.Since != 1100 || !e.At.Equal(now.Add(-400*time.Millisecond)) {
		t.Errorf("down since %d, %v ago; want 1100 and 400ms", e.Since, now.Sub(e.At))
	}
}

// Amounts are those of most agents: one of three cannot move them, and none goes beyond what the plan says.
func TestAmountsAreMedians(t *testing.T) {
	now := time.Now()
	for _, c := range []struct{ capacities, want []float64 }{
		{[]float64{50}, []float64{50}}, {[]float64{50, 60}, []float64{50}}, {[]float64{1, 50, 60}, []float64{50}},
		{[]float64{50, 60, 1e9}, []float64{60}}, {[]float64{0, 0, 70}, []float64{70}}, {[]float64{1e9}, []float64{100}}, {[]float64{0}, []float64{0}},
	} {
		tab := newTable(5 * time.Second)
		for i, capacity := range c.capacities {
			r := report{Agent: fmt.Sprint(i), Region: "a", numbering: numbering{1, 1}, Parts: 1, Capacity: capacity, HasLoad: true, Load: 1e6}
			tab.apply(&part{report: r, at: now}, anyone, now)
		}
		r := believe(tab, belief{start: now}, planOf("a"), 5*time.Second, now).regions["a"]
		if r.Capacity != c.want[0] || r.Load != maxOverload*cmp.Or(r.Capacity, 100) {
			t.Errorf("%v: capacity %v, load %v, want %v", c.capacities, r.Capacity, r.Load, c.want[0])
		}
	}
}
