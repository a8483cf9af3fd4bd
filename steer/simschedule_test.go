package steer_test

import (
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"strings"
	"time"

	"github.com/nearcast/nearcast/healthmesh"
)

// A schedule is a mesh and what happens to it. It follows from the seed alone.
type schedule struct {
	seed      uint64
	directors int
	regions   []int // agents of each
	weather   weather
	witnesses int     // other regions that see each endpoint
	signed    bool    // regions are bound to keys
	listed    bool    // orders are directors' alone, by their keys
	events    []event // by time
}

// The kinds of event. Those that last are undone at their end.
const (
	storm     = "storm"     // packets and streams are lost on all links
	oneWay    = "one way"   // one link carries nothing
	deaf      = "deaf"      // a node gets nothing
	mute      = "mute"      // what a node sends gets nowhere
	partition = "partition" // some nodes and the others are apart
	noUDP     = "no UDP"    // a node's packets are lost both ways, streams pass
	pausing   = "pause"     // a process is stopped and goes on
	crash     = "crash"     // a process is killed, and starts again
	blackout  = "blackout"  // a machine loses its power, and starts again
	wiped     = "wiped"     // as crash, without what was on its disk
	leaving   = "leave"     // a process is told to end, and starts again
	twin      = "twin"      // an agent is stopped, another takes its place elsewhere, and then the first goes on
	clock     = "clock"     // a wall clock jumps
	fullDisk  = "full disk" // nothing can be written
	fault     = "fault"     // an endpoint fails
	far       = "far"       // an endpoint works, but cannot be reached from other regions
	lying     = "lying"     // an agent says that endpoints of all other regions are down
	blinding  = "blinding"  // agents get no answer from any other region
	forging   = "forging"   // a member without a region's key speaks for it, or one without a director's gives an order
	loading   = "load"      // a region's load and capacity change
	reload    = "reload"    // all nodes are given a configuration that binds regions and orders to keys, and then the one before
	order     = "order"     // an operator gives an order
)

// The kinds of scene, of several events that seldom meet by chance.
const (
	meeting  = "meeting"  // two directors give contrary orders for one slot, mostly on both sides of a partition, and with a clock that jumped
	waiting  = "waiting"  // a director is given an order with an end while another is stopped
	relapse  = "relapse"  // all agents of a region leave and start, again and again
	outage   = "outage"   // an endpoint fails in all regions
	reborn   = "reborn"   // a wall clock jumps, and the process is killed and starts again soon
	aged     = "aged"     // a director starts again with a clock that jumped ahead, while an order with an end is in force
	deafborn = "deafborn" // a process starts that gets nothing
	absent   = "absent"   // all agents of a region die while a director is cut off from all, and it hears of them later
)

// kinds are what is drawn from, the frequent ones more than once.
var kinds = []string{
	storm, oneWay, oneWay, deaf, mute, partition, partition, partition, noUDP, pausing, pausing, pausing, crash, crash, crash, blackout,
	wiped, leaving, leaving, twin, clock, clock, fullDisk, fault, fault, fault, fault, far, far, lying, lying, blinding, blinding, forging, loading, reload, order, order, order, order,
	meeting, meeting, waiting, relapse, outage, reborn, aged, deafborn, absent,
}

// unfreeze takes back the freeze, as healthmesh.None of no region.
const unfreeze = "unfreeze"

// orderKinds are what operators give.
var orderKinds = []string{
	healthmesh.Drain, healthmesh.Drain, healthmesh.Drain, healthmesh.PinDown, healthmesh.PinUp, healthmesh.Shed, healthmesh.Freeze, healthmesh.None, healthmesh.None, unfreeze,
}

// contrary are kinds of order for one slot.
var contrary = [][2]string{
	{healthmesh.Drain, healthmesh.PinUp}, {healthmesh.PinDown, healthmesh.None}, {healthmesh.Drain, healthmesh.None}, {healthmesh.Shed, healthmesh.Shed}, {healthmesh.Freeze, unfreeze},
}

// An event happens at a time since the start.
type event struct {
	at, lasts time.Duration
	kind      string
	nodes     []int         // it happens to; directors first, then agents by region
	region    int           // of a fault, a load or an order
	endpoint  int           // of a fault
	amount    float64       // lost by a storm; of load; of a shed
	over      time.Duration // of a drain
	jump      time.Duration // of a clock
	order     string        // kind of order
}

func (e event) String() string {
	s := fmt.Sprintf("%8.3fs %-9s", e.at.Seconds(), e.kind)
	switch e.kind {
	case storm:
		s += fmt.Sprintf(" loss %.2f", e.amount)
	case forging:
		s += fmt.Sprintf(" region %d as agent %v", e.region, e.nodes)
	case fault, far:
		s += fmt.Sprintf(" region %d endpoint %d", e.region, e.endpoint)
	case reload:
	case loading:
		s += fmt.Sprintf(" region %d %.2f", e.region, e.amount)
	case order:
		s += fmt.Sprintf(" %s %.2f over %v region %d at node %v", e.order, e.amount, e.over, e.region, e.nodes)
	case clock:
		s += fmt.Sprintf(" node %v by %v", e.nodes, e.jump)
	default:
		s += fmt.Sprintf(" nodes %v", e.nodes)
	}
	if e.lasts > 0 {
		s += fmt.Sprintf(" for %.3fs", e.lasts.Seconds())
	}
	return s
}

func (s schedule) String() string {
	var b strings.Builder
	fmt.Fprintf(&b, "seed %d: %d directors (nodes 0 to %d), agents of each region %v, %d witnesses, signed %v, directors listed %v, weather %+v\n",
		s.seed, s.directors, s.directors-1, s.regions, s.witnesses, s.signed, s.listed, s.weather)
	for _, e := range s.events {
		fmt.Fprintln(&b, e)
	}
	return b.String()
}

// The bounds of a schedule.
const (
	maxDirectors = 4

	settling  = 4 * time.Second  // from the start to the first fault
	active    = 25 * time.Second // in which faults begin
	startTime = time.Second      // in which all nodes start
	lasting   = 25 * time.Second // of one fault at most, but for the long partitions
	leaveTime = 4 * time.Second  // in which a process that is told to end has ended
)

// draw makes the schedule of a seed.
func draw(seed uint64) schedule {
	rng := rand.New(rand.NewPCG(seed, 1))
	// Most meshes are small: what a message costs grows with the square of the nodes.
	s := schedule{seed: seed, directors: []int{2, 2, 2, 3, maxDirectors}[rng.IntN(5)]}
	for range []int{2, 3, 3, 3, 3, 4, 5}[rng.IntN(7)] {
		s.regions = append(s.regions, []int{1, 1, 1, 1, 1, 1, 2, 3}[rng.IntN(8)])
	}
	s.weather = weather{delay: between(rng, time.Millisecond, 100*time.Millisecond), jitter: between(rng, time.Millisecond, 50*time.Millisecond)}
	if rng.IntN(2) == 0 {
		s.weather.loss, s.weather.twice, s.weather.late = rng.Float64()*0.1, rng.Float64()*0.05, rng.Float64()*0.05
	}
	s.witnesses, s.signed, s.listed = []int{0, 2, 3, 3}[rng.IntN(4)], rng.IntN(5) == 0, rng.IntN(4) == 0
	for range 1 + rng.IntN(9) {
		s.events = append(s.events, s.scene(rng, kinds[rng.IntN(len(kinds))])...)
	}
	if rng.IntN(32) == 0 { // past memberlist's memory of the dead
		e := s.event(rng, partition)
		e.lasts = between(rng, time.Minute, 12*time.Minute)
		s.events = append(s.events, e)
	}
	slices.SortFunc(s.events, func(a, b event) int { return int(a.at - b.at) })
	return s
}

func (s schedule) size() int {
	n := s.directors
	for _, agents := range s.regions {
		n += agents
	}
	return n
}

func (s schedule) event(rng *rand.Rand, kind string) event {
	e := event{
		kind: kind, at: settling + time.Duration(rng.Int64N(int64(active))), lasts: between(rng, 300*time.Millisecond, lasting),
		region: rng.IntN(len(s.regions)), nodes: []int{rng.IntN(s.size())},
	}
	switch kind {
	case storm:
		e.amount, e.nodes = rng.Float64()*0.6, nil
	case oneWay:
		e.nodes = rng.Perm(s.size())[:2]
	case partition:
		e.nodes = rng.Perm(s.size())[:1+rng.IntN(s.size()-1)]
	case leaving:
		e.lasts += leaveTime
	case clock:
		e.lasts, e.jump = 0, between(rng, time.Second, 60*24*time.Hour)
		if rng.IntN(2) == 0 {
			e.jump = -e.jump
		}
	case crash:
		if rng.IntN(5) == 0 { // all directors at once: what they know is on their disks
			e.nodes = rng.Perm(s.directors)
		}
	case fault, far:
		e.endpoint = rng.IntN(simEndpoints)
	case blinding:
		agents := rng.Perm(s.size() - s.directors)
		e.nodes = agents[:1+rng.IntN(len(agents))]
		for i := range e.nodes {
			e.nodes[i] += s.directors
		}
	case lying, twin:
		e.nodes = []int{s.directors + rng.IntN(s.size()-s.directors)}
	case loading:
		e.lasts, e.amount = 0, rng.Float64()*1.5
	case order:
		e.nodes = []int{rng.IntN(s.directors)}
		if rng.IntN(2) == 0 {
			e.region = 0 // so that orders meet
		}
		e = e.ordering(rng, orderKinds[rng.IntN(len(orderKinds))])
	}
	return e
}

// ordering is e as an order of a kind.
func (e event) ordering(rng *rand.Rand, kind string) event {
	e.kind, e.order = order, kind
	switch {
	case kind == healthmesh.Shed:
		e.amount = float64(rng.IntN(4)) / 4 // none takes it back
	case kind == healthmesh.Drain && rng.IntN(2) == 0:
		e.over = between(rng, 100*time.Millisecond, e.lasts)
	}
	takesBack := kind == healthmesh.None || kind == unfreeze || kind == healthmesh.Shed && e.amount == 0
	if takesBack || kind != healthmesh.Freeze && rng.IntN(2) == 0 {
		e.lasts = 0 // until taken back
	}
	return e
}

// scene is an event of a kind, or several.
func (s schedule) scene(rng *rand.Rand, kind string) (all []event) {
	switch kind {
	case meeting:
		return s.meeting(rng)
	case waiting:
		givers := rng.Perm(s.directors)
		stop, o := s.event(rng, pausing), s.event(rng, order)
		stop.nodes, stop.lasts = givers[:1], between(rng, 2*time.Second, lasting)
		o.lasts = stop.lasts + between(rng, time.Second, 5*time.Second)
		o.at, o.nodes = stop.at+between(rng, time.Millisecond, stop.lasts/4), givers[1:2]
		o.order, o.amount, o.over = []string{healthmesh.Drain, healthmesh.PinUp, healthmesh.PinDown}[rng.IntN(3)], 0, 0
		return []event{stop, o}
	case relapse:
		e := s.event(rng, leaving)
		e.nodes = s.agents(e.region)
		for i := range 2 + rng.IntN(6) {
			e.lasts = leaveTime + between(rng, 10*time.Millisecond, time.Second)
			all = append(all, e)
			e.at += e.lasts + 1500*time.Millisecond + (500*time.Millisecond)<<min(i, 4) // it is held down for longer each time
		}
		return all
	case outage:
		e := s.event(rng, fault)
		for e.region = range s.regions {
			one := e
			one.at += time.Duration(rng.Int64N(int64(3 * time.Second)))
			all = append(all, one)
		}
		return all
	case absent:
		apart, dead := s.event(rng, partition), s.event(rng, blackout)
		apart.nodes, apart.lasts = []int{rng.IntN(s.directors)}, between(rng, healing, lasting)
		dead.nodes, dead.at, dead.lasts = s.agents(dead.region), apart.at+between(rng, 10*time.Millisecond, time.Second), apart.lasts+between(rng, healing/2, healing)
		return []event{apart, dead}
	case aged:
		nodes := rng.Perm(s.directors)
		o, jump, again := s.event(rng, order).ordering(rng, healthmesh.Drain), s.event(rng, clock), s.event(rng, crash)
		o.nodes, o.lasts, o.over, o.amount = nodes[1:2], between(rng, lasting/2, lasting), 0, 0
		jump.nodes, jump.at, jump.jump = nodes[:1], o.at+between(rng, 100*time.Millisecond, 4*time.Second), jump.jump.Abs()
		again.nodes, again.at, again.lasts = nodes[:1], jump.at+between(rng, 10*time.Millisecond, time.Second), between(rng, 100*time.Millisecond, 4*time.Second)
		return []event{o, jump, again}
	case reborn, deafborn:
		before, again := s.event(rng, clock), s.event(rng, crash)
		if kind == deafborn {
			before = s.event(rng, deaf)
			before.lasts = between(rng, 2*healing, 3*healing)
		}
		again.at, again.lasts, again.nodes = before.at+between(rng, 100*time.Millisecond, 4*time.Second), between(rng, 100*time.Millisecond, 4*time.Second), before.nodes
		return []event{before, again}
	}
	return []event{s.event(rng, kind)}
}

// meeting draws contrary orders.
func (s schedule) meeting(rng *rand.Rand) []event {
	kinds, nodes := contrary[rng.IntN(len(contrary))], rng.Perm(s.directors)[:2]
	first := s.event(rng, pausing)
	second := first
	second.at += time.Duration(rng.Int64N(int64(time.Second)))
	first, second = first.ordering(rng, kinds[0]), second.ordering(rng, kinds[1])
	first.nodes, second.nodes = nodes[:1], nodes[1:]
	if rng.IntN(2) == 0 {
		first.nodes, second.nodes = second.nodes, first.nodes
	}
	apart := s.event(rng, partition)
	apart.at = first.at - between(rng, 10*time.Millisecond, settling/2)
	apart.lasts += second.at - apart.at
	apart.nodes = append(slices.DeleteFunc(apart.nodes, func(n int) bool { return slices.Contains(nodes, n) }), first.nodes[0])
	all := []event{first, second}
	if rng.IntN(4) > 0 {
		all = append(all, apart)
	}
	if rng.IntN(2) == 0 {
		jump := s.event(rng, clock)
		jump.at, jump.nodes = apart.at, nodes[:1]
		all = append(all, jump)
	}
	return all
}

// agents are the nodes of a region.
func (s schedule) agents(region int) (nodes []int) {
	first := s.directors
	for _, agents := range s.regions[:region] {
		first += agents
	}
	for i := range s.regions[region] {
		nodes = append(nodes, first+i)
	}
	return nodes
}

// between draws a time, as likely between 1 and 2 as between 10 and 20.
func between(rng *rand.Rand, least, most time.Duration) time.Duration {
	f := math.Exp(rng.Float64() * math.Log(float64(most)/float64(least)))
	return time.Duration(f * float64(least)).Round(time.Millisecond)
}

// end is when the last fault has healed.
func (s schedule) end() time.Duration {
	end := settling
	for _, e := range s.events {
		end = max(end, e.at+e.lasts)
	}
	return end
}
