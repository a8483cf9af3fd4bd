package e2e

import (
	"flag"
	"fmt"
	"slices"
	"sync"
	"syscall"
	"testing"
	"time"
)

var longFaults = flag.Bool("faults.long", false, "partitions of up to ten minutes and five minutes of flapping")

// What nearcast promises under faults, with the check of a world.
const (
	boundDeath    = 6 * time.Second            // an agent dies or is cut off: its region is out of all answers
	boundObserved = 2*time.Second + fallWindow // an endpoint fails, for its own agent or for those of other regions
	boundDrain    = time.Second                // an order or a farewell
	boundHeal     = 10 * time.Second           // the fault is over: all directors answer as before it
	slack         = 1500 * time.Millisecond    // what a machine that does other work may add
)

// The times of the test itself.
const (
	paused    = 10 * time.Second // for processes that are stopped and go on
	extra     = time.Second      // that a fault lasts longer than its bound, to see that it keeps its effect
	calm      = time.Second      // of right answers, after which a fault is healed
	shortest  = 30 * time.Second // partitions
	middle    = 90 * time.Second
	longest   = 10 * time.Minute // past what memberlist remembers of the dead
	flapHalf  = 3 * time.Second
	flapShort = 30 * time.Second
	flapLong  = 5 * time.Minute
	noUDP     = 20 * time.Second // some rounds of what goes over TCP
	steadied  = 5 * time.Second  // for faults that change nothing
)

// A fault is done to a world that is well, and taken back.
type fault struct {
	name   string
	region int           // that it must take out of the answers; noRegion if no answer may change
	out    time.Duration // within which it must; 0 if it may leave it in
	stays  time.Duration // before it is taken back
	mute   int           // director that need not answer until it is taken back, with 1 added; 0: all must
	beside int           // region that is at fault as well, of whose clients nothing is judged, with 1 added; 0: none
	before func(*world)  // what must have happened for it; its answers are not judged
	begin  func(*world)
	end    func(*world)
}

// takes is a fault that takes a region out.
func takes(region int, out time.Duration, name string, begin, end func(*world)) fault {
	return fault{name: name, region: region, out: out, stays: out + slack + extra, begin: begin, end: end}
}

// keeps is a fault that changes nothing.
func keeps(stays time.Duration, name string, begin, end func(*world)) fault {
	return fault{name: name, region: noRegion, stays: stays, begin: begin, end: end}
}

// Processes that die, sleep and leave.
var processFaults = []fault{
	takes(euWest, boundDeath, "the only agent of a region is killed",
		func(w *world) { w.stop(agentName(euWest, 0), syscall.SIGKILL) }, func(w *world) { w.startAgent(euWest, 0) }),
	keeps(boundDeath+extra, "one of two agents of a region is killed",
		func(w *world) { w.stop(agentName(usEast, 1), syscall.SIGKILL) }, func(w *world) { w.startAgent(usEast, 1) }),
	takes(saEast, boundDrain, "the only agent of a region is told to stop",
		func(w *world) { w.stop(agentName(saEast, 0), syscall.SIGTERM) }, func(w *world) { w.startAgent(saEast, 0) }),
	takes(usEast, boundDrain, "a region is drained",
		func(w *world) { w.order(1, "drain", "us-east") }, func(w *world) { w.order(0, "undrain", "us-east") }),
	{name: "the only agent of a region sleeps", region: apSouth, out: boundDeath, stays: paused,
		begin: func(w *world) { w.signal(agentName(apSouth, 0), syscall.SIGSTOP) },
		end:   func(w *world) { w.signal(agentName(apSouth, 0), syscall.SIGCONT) }},
	{name: "a director sleeps", region: noRegion, stays: paused, mute: 1 + 1,
		begin: func(w *world) { w.signal(directorName(1), syscall.SIGSTOP) },
		end:   func(w *world) { w.signal(directorName(1), syscall.SIGCONT) }},
}

// order gives an order at a director.
func (w *world) order(d int, args ...string) {
	w.t.Helper()
	if out, err := w.verb(d, args...); err != nil {
		w.t.Errorf("%v: %v\n%s", args, err, out)
	}
}

// all is every address of a region, of its agents and its endpoint.
func all(region int) string { return fmt.Sprintf("10.0.%d.0/24", region+1) }

// from and to are the packets that leave or reach addresses of one network from or for others.
func from(network string) string { return fmt.Sprintf("ip saddr %[1]s ip daddr != %[1]s", network) }
func to(network string) string   { return fmt.Sprintf("ip saddr != %[1]s ip daddr %[1]s", network) }

func cut(rules ...string) func(*world) { return func(w *world) { w.cut(rules...) } }
func heal(w *world)                    { w.heal() }

// Links that pass only some. An agent that was cut off has seen all others' endpoints fail, and must be no wrong witness of the next that
// is cut off, nor hold it down for longer: they come one after the other.
var linkFaults = []fault{
	takes(apSouth, boundDeath, "nothing comes out of a region", cut(from(all(apSouth))), heal),
	takes(euWest, boundObserved, "nothing comes into a region", cut(to(all(euWest))), heal),
	takes(usEast, boundObserved, "nothing comes into another region", cut(to(all(usEast))), heal),
	takes(saEast, boundObserved, "a region's endpoint is reached from inside alone", cut(to(endpointAt(saEast)+"/32")+" ip saddr != "+all(saEast)), heal),
	keeps(noUDP, "no UDP to and from a region, TCP is open",
		cut(from(all(apSouth))+" ip protocol udp", to(all(apSouth))+" ip protocol udp"), heal),
}

// partitioned is a region that is cut off whole.
func partitioned(region int, stays time.Duration) fault {
	f := takes(region, boundDeath, fmt.Sprintf("a region is cut off for %v", stays), cut(from(all(region)), to(all(region))), heal)
	f.stays = stays
	return f
}

// both are two regions that are cut off at once: neither is a witness of a third.
var both = fault{
	name: "nothing comes into two regions at once", region: euWest, out: boundObserved, stays: boundObserved + slack + extra, beside: saEast + 1,
	begin: cut(to(all(euWest)), to(all(saEast))), end: heal,
}

// deaf cuts a director off from everything but its clients.
func deaf(w *world) {
	at := directorAt(1)
	w.cut(fmt.Sprintf("ip saddr %s ip daddr != %s", at, clientsAt), fmt.Sprintf("ip daddr %s ip saddr != %s", at, clientsAt))
}

// alone is a director that is cut off from everything but its clients, and goes on as before.
func alone(stays time.Duration) fault {
	return keeps(stays, fmt.Sprintf("a director is cut off for %v", stays), deaf, heal)
}

// missed is a director that hears only after its partition that an agent was killed.
var missed = fault{
	name: "a director hears again, an agent was killed meanwhile", region: euWest, out: boundHeal, stays: boundHeal + slack + extra,
	before: func(w *world) {
		deaf(w)
		w.stop(agentName(euWest, 0), syscall.SIGKILL)
		w.until("the other director takes its region out", func() bool { a := w.ask(0, euWest); return a.err == nil && a.region != euWest })
	},
	begin: heal, end: func(w *world) { w.startAgent(euWest, 0) },
}

// The endpoint itself fails.
var endpointFaults = []fault{
	takes(usEast, boundObserved, "an endpoint answers 503",
		func(w *world) { w.sites[usEast].failing.Store(true) }, func(w *world) { w.sites[usEast].failing.Store(false) }),
	takes(euWest, boundObserved, "nobody listens at an endpoint",
		func(w *world) { w.sites[euWest].stop() }, func(w *world) {
			if err := w.sites[euWest].start(); err != nil {
				w.t.Error(err)
			}
		}),
}

// flapping is an endpoint that goes up and down.
func flapping(length time.Duration) fault {
	return fault{
		name: fmt.Sprintf("an endpoint is down and up, %v each, for %v", flapHalf, length), region: apSouth, stays: length,
		begin: func(w *world) {
			for begin := time.Now(); time.Since(begin) < length; {
				for _, fails := range []bool{true, false} {
					w.sites[apSouth].failing.Store(fails)
					time.Sleep(flapHalf)
				}
			}
		},
		end: func(w *world) {
			// It falls once, and is held down from then on: it would have come up in each of the other rounds.
			least := int(length/(2*flapHalf)) - 2
			if n := w.suppressed(apSouth); n < least {
				w.t.Errorf("%d flips were suppressed and counted, want at least %d", n, least)
			}
		},
	}
}

// A node's machine runs out of something.
var machineFaults = []fault{
	{name: "the only agent of a region has no files left", region: noRegion, stays: boundDeath + extra,
		begin: func(w *world) { w.limitFiles(agentName(apSouth, 0), noFiles) },
		end:   func(w *world) { w.limitFiles(agentName(apSouth, 0), manyFiles) }},
	keeps(steadied, "a director has no files left",
		func(w *world) { w.limitFiles(directorName(1), noFiles) }, func(w *world) { w.limitFiles(directorName(1), manyFiles) }),
	full(takes(euWest, boundDeath, "an agent is killed while no node's disk has room",
		func(w *world) { w.stop(agentName(euWest, 0), syscall.SIGKILL) }, func(w *world) { w.startAgent(euWest, 0); w.emptyDisk() })),
	full(takes(saEast, boundDrain, "a region is drained while no node's disk has room",
		func(w *world) { w.orderUnsaved(1, "drain", "sa-east") },
		func(w *world) { w.orderUnsaved(0, "undrain", "sa-east"); w.emptyDisk() })),
}

// full is a fault that happens when the disk is full already: to fill it takes time, too.
func full(f fault) fault {
	f.before = func(w *world) { w.fillDisk() }
	return f
}

// A trial is a program and what is done to worlds of it.
type trial struct {
	name   string
	build  func() (string, error)
	faults []fault
}

// Real nodes on a network of their own, under faults of all kinds: no answer is empty or an error, only clients of the region
// that is at fault are sent elsewhere, and within the bounds, and all directors answer as before soon after the fault is over.
func TestFaults(t *testing.T) {
	if testing.Short() {
		t.Skip("starts networks of processes; left out by -short")
	}
	need(t, "root")
	need(t, "cuts")
	worlds := []trial{
		{"processes", nearcast, processFaults},
		{"links", nearcast, linkFaults},
		{"endpoints", nearcast, append(endpointFaults, flapping(flapShort))},
		{"machines", nearcast, machineFaults},
		{"clocks", clocked, clockFaults},
		{"regions cut off", nearcast, []fault{partitioned(apSouth, shortest), both}},
		{"director cut off", nearcast, []fault{alone(shortest), missed}},
	}
	var long []trial
	if *longFaults {
		for _, f := range []fault{partitioned(apSouth, middle), partitioned(apSouth, longest), alone(middle), alone(longest), flapping(flapLong)} {
			long = append(long, trial{f.name, nearcast, []fault{f}})
		}
	}
	var verdicts []verdict
	for _, worlds := range [][]trial{worlds, long} {
		of := make([][]verdict, len(worlds))
		var all sync.WaitGroup
		for i, x := range worlds { // all at once: they wait most of the time
			all.Go(func() {
				t.Run(x.name, func(t *testing.T) {
					bin, err := x.build()
					if err != nil {
						t.Fatal(err)
					}
					of[i] = suffer(t, bin, x.faults)
				})
			})
		}
		all.Wait()
		verdicts = append(verdicts, slices.Concat(of...)...)
	}
	t.Log("\n" + table(verdicts))
}
