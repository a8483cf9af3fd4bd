package healthmesh

import (
	"cmp"
	"context"
	"log/slog"
	"net/netip"
	"sync"
	"time"
)

// A Target is one endpoint to check.
type Target struct {
	ID       EndpointID
	Name     string  // for logs: "www.geo.example.com. 127.0.1.1"
	Service  string  // absolute name
	Region   string  // that the endpoint is in
	Endpoint string  // address or host name
	Checks   []Check // with their defaults filled in; without any, the target is not checked, and reported only where its region's backends are watched
	Need     int     // how many of Checks must succeed; 0: all

	addr netip.Addr // of Endpoint, once the target is in a plan; invalid for a host name
}

// AgentOptions are what an agent does in its region.
type AgentOptions struct {
	Region      string   // the agent's own
	Targets     []Target // the region's endpoints, those without a check too
	Load        LoadConfig
	Backends    BackendsConfig
	Capacity    float64 // configured
	MaxCapacity float64 // bound of the backends' capacity; below Capacity: Capacity is the bound
	Log         *slog.Logger
}

// The bounds of an agent's work.
const (
	maxChecks = 128         // checks that run at once: each has a socket
	maxPhase  = time.Second // until the first check, so that checks are not in step
)

// RunAgent checks the targets and reads the load until ctx ends, and publishes every change to m. A value from
// reload replaces the options; targets that stay keep their state.
// Endpoints of other regions are checked as well, as the mesh deals out the duties of witnesses.
func RunAgent(ctx context.Context, m *Mesh, o AgentOptions, reload <-chan AgentOptions) {
	changed, duties := m.duties()
	runAgent(ctx, m.Publish, o, reload, changed, duties)
}

func runAgent(ctx context.Context, publish func(Status), o AgentOptions, reload <-chan AgentOptions, changed <-chan struct{}, duties func() []Target) {
	a := &checker{
		publish: publish,
		results: make(chan result),
		load:    &loader{},
		fleet:   &fleet{},
		slots:   make(chan struct{}, maxChecks),
	}
	defer a.running.Wait()
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	a.adopt(ctx, o)
	stale := time.NewTicker(minInterval)
	defer stale.Stop()
	for {
		select {
		case r := <-a.results:
			a.judge(r)
		case r := <-a.load.readings:
			a.tellIf(a.load.take(r))
		case now := <-stale.C:
			a.tellIf(a.load.age(now))
		case l := <-a.fleet.lives:
			a.tellIf(a.fleet.take(l))
		case o := <-reload:
			a.adopt(ctx, o)
		case <-changed:
			a.duties = duties()
			a.adopt(ctx, a.o)
		case <-ctx.Done():
			return
		}
	}
}

// A checker is the state of an agent's checks, owned by one goroutine.
type checker struct {
	publish func(Status)
	results chan result   // from the watches' goroutines
	slots   chan struct{} // a token for each check that runs
	running sync.WaitGroup

	o          AgentOptions
	duties     []Target // of other regions
	subjects   map[EndpointID]*subject
	watches    map[string]*watch // by Target.key
	reached    [families]moment  // when the last check of an endpoint of another region began that succeeded
	well       [families]int     // watches of other regions whose last check was good
	lost       [families]loss    // of sight of other regions
	suppressed uint32            // flips since the start
	load       *loader
	fleet      *fleet
}

// adopt makes o what is done.
func (a *checker) adopt(ctx context.Context, o AgentOptions) {
	o.Log = cmp.Or(o.Log, slog.Default())
	a.adoptTargets(ctx, o, time.Now())
	a.load = a.load.next(ctx, &a.running, o)
	a.fleet = a.fleet.next(ctx, &a.running, o)
	a.o = o
	a.tell()
}

// tell publishes the state of the region.
func (a *checker) tell() {
	s := Status{Endpoints: a.endpoints(), Suppressed: a.suppressed}
	a.load.fill(&s)
	a.fleet.fill(&s, a.o.Targets)
	a.publish(s)
}

func (a *checker) tellIf(changed bool) {
	if changed {
		a.tell()
	}
}

// sleep waits, and says whether ctx was still good after it.
func sleep(ctx context.Context, d time.Duration) bool {
	select {
	case <-time.After(d):
		return true
	case <-ctx.Done():
		return false
	}
}
