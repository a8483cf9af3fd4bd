package healthmesh

import (
	"cmp"
	"context"
	"log/slog"
	"math"
	"net/http"
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
	Checks   []Check // with their defaults filled in; without any, the target is neither checked nor reported
	Need     int     // how many of Checks must succeed; 0: all

	addr netip.Addr // of Endpoint, once the target is in a plan; invalid for a host name
}

// AgentOptions are what an agent does in its region.
type AgentOptions struct {
	Region   string // the agent's own
	Targets  []Target
	Load     LoadConfig
	Capacity float64
	Log      *slog.Logger
}

// The bounds of an agent's work.
const (
	maxChecks = 128         // checks that run at once: each has a socket
	maxPhase  = time.Second // until the first check, so that checks are not in step
	loadStep  = 0.01        // a smaller relative change of load goes out with the next report
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
		loads:   make(chan reading),
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
		case r := <-a.loads:
			a.takeLoad(r)
		case now := <-stale.C:
			a.ageLoad(now)
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
	loads   chan reading  // from the load's goroutine
	slots   chan struct{} // a token for each check that runs
	running sync.WaitGroup

	o          AgentOptions
	duties     []Target // of other regions
	subjects   map[EndpointID]*subject
	watches    map[string]*watch // by Target.key
	suppressed uint32            // flips since the start
	stopLoad   context.CancelFunc
	load       float64
	loadAt     time.Time // when it was read; zero: there is none
	loadErr    string    // the last reading's error, "" if none
	said       float64   // the load that was published last
}

// adopt makes o what is done.
func (a *checker) adopt(ctx context.Context, o AgentOptions) {
	o.Log = cmp.Or(o.Log, slog.Default())
	a.adoptTargets(ctx, o, time.Now())
	if o.Load != a.o.Load {
		a.startLoad(ctx, o.Load)
	}
	a.o = o
	a.tell()
}

// tell publishes the state of the region.
func (a *checker) tell() {
	a.said = a.load
	a.publish(Status{Capacity: a.o.Capacity, Load: a.load, HasLoad: !a.loadAt.IsZero(), Endpoints: a.endpoints(), Suppressed: a.suppressed})
}

// A reading is one outcome of reading the load.
type reading struct {
	from LoadConfig
	load float64
	at   time.Time
	err  error
}

// startLoad reads the load as c says, in place of what was read before.
func (a *checker) startLoad(ctx context.Context, c LoadConfig) {
	if a.stopLoad != nil {
		a.stopLoad()
	}
	a.load, a.loadAt, a.loadErr = 0, time.Time{}, ""
	ctx, a.stopLoad = context.WithCancel(ctx)
	if c.URL == "" {
		return
	}
	a.running.Go(func() {
		transport := http.DefaultTransport.(*http.Transport).Clone()
		transport.Proxy = nil // the region's load is in the region
		defer transport.CloseIdleConnections()
		client := &http.Client{Transport: transport}
		tick := time.NewTicker(c.Interval)
		defer tick.Stop()
		for {
			load, err := readLoad(ctx, client, c)
			select {
			case a.loads <- reading{c, load, time.Now(), err}:
			case <-ctx.Done():
				return
			}
			select {
			case <-tick.C:
			case <-ctx.Done():
				return
			}
		}
	})
}

func (a *checker) takeLoad(r reading) {
	if r.from != a.o.Load {
		return // a reload came in between
	}
	problem := ""
	if r.err != nil {
		problem = r.err.Error()
	}
	if problem != a.loadErr {
		if problem != "" {
			a.o.Log.Warn("load cannot be read", "url", r.from.URL, "error", problem)
		} else {
			a.o.Log.Info("load is read again", "url", r.from.URL)
		}
		a.loadErr = problem
	}
	if r.err != nil {
		return
	}
	first := a.loadAt.IsZero()
	a.load, a.loadAt = r.load, r.at
	if first || math.Abs(a.load-a.said) > loadStep*a.said {
		a.tell()
	}
}

// ageLoad stops reporting a load that was not read for long.
func (a *checker) ageLoad(now time.Time) {
	if a.loadAt.IsZero() || now.Sub(a.loadAt) < a.o.Load.MaxAge {
		return
	}
	a.o.Log.Warn("load is too old and no longer reported", "url", a.o.Load.URL, "age", now.Sub(a.loadAt).Round(time.Second))
	a.load, a.loadAt = 0, time.Time{}
	a.tell()
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
