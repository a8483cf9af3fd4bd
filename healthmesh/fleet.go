package healthmesh

import (
	"cmp"
	"context"
	"errors"
	"log/slog"
	"net"
	"reflect"
	"slices"
	"strconv"
	"sync"
	"time"
)

// liveHold is how long the live capacity must be enough before a region that was below min_live comes back.
const liveHold = 5 * time.Second

// live is what a region's backends carry.
type live struct {
	capacity float64
	below    bool      // less than min_live, or not for long enough at least that
	since    time.Time // since when below is what it is; zero: since the start
	low      float64   // the last capacity that was too little
}

// A fleet watches the backends of a region: the roster lists them, and an agent within the agent checks them, with fall, rise and
// hold as endpoints have them. The zero fleet has no backends. The agent's goroutine owns it; run alone runs beside, and ends with
// stop or its context.
type fleet struct {
	c        BackendsConfig // with its defaults filled in
	region   string
	capacity float64 // configured
	most     float64 // bound of the live capacity
	log      *slog.Logger
	lives    chan live // from run
	stop     context.CancelFunc

	now live // the last that came
}

// next gives the fleet for o: f itself if o changes nothing of it, else a new one, which holds what f knew until it knows better.
func (f *fleet) next(ctx context.Context, running *sync.WaitGroup, o AgentOptions) *fleet {
	n := &fleet{c: o.Backends, region: o.Region, capacity: o.Capacity, most: max(o.Capacity, o.MaxCapacity), log: o.Log}
	if reflect.DeepEqual(n.c, f.c) && n.region == f.region && n.capacity == f.capacity && n.most == f.most {
		return f
	}
	if f.stop != nil {
		f.stop()
	}
	n.now = live{capacity: n.capacity}
	if !n.c.configured() {
		return n
	}
	if f.c.configured() {
		n.now = f.now
		n.now.capacity = min(n.now.capacity, n.most)
	}
	n.lives = make(chan live)
	ctx, n.stop = context.WithCancel(ctx)
	m := &muster{fleet: n, live: n.now}
	running.Go(func() { m.run(ctx) })
	return n
}

// take takes in what the backends carry; it tells that this is to be published.
func (f *fleet) take(l live) bool {
	f.now = l
	return true
}

// fill puts the capacity into a status that is about to be published. Below min_live all of the region's endpoints are down. Of
// services without a check, endpoints are reported for this alone: up while there is enough, so that the region's agents can vote.
func (f *fleet) fill(s *Status, targets []Target) {
	s.Capacity, s.Below = f.now.capacity, f.now.below
	if !f.c.configured() {
		return
	}
	for _, t := range targets[:min(len(targets), maxEndpoints)] {
		was := s.Endpoints[t.ID]
		switch {
		case s.Below:
			e := Endpoint{State: Down, Reason: reason{reasonMinLive, f.percent(f.now.low)}.String(), At: f.now.since}
			if was.State == Down && !was.At.IsZero() {
				e.At = was.At // it was down before the region
			}
			s.Endpoints[t.ID] = e
		case len(t.Checks) == 0:
			s.Endpoints[t.ID] = Endpoint{State: Up, At: f.now.since}
		}
	}
}

// percent is a capacity below min_live, in percent of the configured one.
func (f *fleet) percent(capacity float64) uint16 {
	return uint16(min(100*capacity/f.capacity, 100)) // min_live is at most 100
}

// A muster is the state of a fleet that runs, owned by run.
type muster struct {
	*fleet // what does not change of it

	live    live
	list    []backend
	listed  bool                    // there was a list since the start
	health  map[EndpointID]Endpoint // of backends, from the agent within
	enough  time.Time               // since when a region that is below has enough; zero: it has not
	problem bool                    // the last reading of the list failed; owned by follow
}

// run watches the backends until ctx ends.
func (m *muster) run(ctx context.Context) {
	var running sync.WaitGroup
	defer running.Wait()
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	lists, targets, states := make(chan []backend), make(chan AgentOptions), make(chan Status, 1)
	running.Go(func() { m.follow(ctx, newRoster(m.c), lists) })
	running.Go(func() { runAgent(ctx, newest(states), AgentOptions{Region: m.region, Log: m.log}, targets, nil, nil) })
	for {
		var held <-chan time.Time // nil unless the region only waits to come back
		if !m.enough.IsZero() {
			held = time.After(time.Until(m.enough.Add(liveHold)))
		}
		select {
		case list := <-lists:
			m.log.Info("backends", "region", m.region, "before", len(m.list), "after", len(list))
			m.list, m.listed = list, true
			select {
			case targets <- AgentOptions{Region: m.region, Targets: m.targets(), Log: m.log}:
			case <-ctx.Done():
				return
			}
		case s := <-states:
			m.health = s.Endpoints
		case <-held:
		case <-ctx.Done():
			return
		}
		if m.judge(time.Now()) {
			select {
			case m.lives <- m.live:
			case <-ctx.Done():
				return
			}
		}
	}
}

// newest gives the function that puts a status into a mailbox for one, in place of an older one that was not taken yet: its only
// writer never waits.
func newest(mailbox chan Status) func(Status) {
	return func(s Status) {
		select {
		case <-mailbox:
		default:
		}
		mailbox <- s
	}
}

// follow reads the list again and again, and sends each new one. A list that cannot be read changes nothing.
func (m *muster) follow(ctx context.Context, read roster, lists chan<- []backend) {
	var last []backend
	for first := true; ; {
		list, err := read(ctx)
		if ctx.Err() != nil {
			return
		}
		m.tellProblem(err)
		if err == nil && (first || !slices.Equal(list, last)) {
			first, last = false, list
			select {
			case lists <- list:
			case <-ctx.Done():
				return
			}
		}
		if m.c.Interval == 0 || !sleep(ctx, m.c.Interval) {
			return // a static list, or the end
		}
	}
}

func (m *muster) tellProblem(err error) {
	switch {
	case errors.Is(err, errUnsettled):
	case err != nil && !m.problem:
		m.log.Warn("list of backends cannot be read, the last one stays", "region", m.region, "error", err)
		m.problem = true
	case err == nil && m.problem:
		m.log.Info("list of backends is read again", "region", m.region)
		m.problem = false
	}
}

// targets are the backends as the agent within checks them.
func (m *muster) targets() []Target {
	all := make([]Target, 0, len(m.list))
	for _, b := range m.list {
		all = append(all, m.target(b))
	}
	return all
}

// judge makes the live capacity what list and health say, and tells if that changed it. Backends that were not checked yet might
// carry all or nothing; so of what is possible, the live capacity is the nearest to what it was.
func (m *muster) judge(now time.Time) (changed bool) {
	if !m.listed {
		return false
	}
	healthy, unknown := 0.0, 0.0
	for _, b := range m.list {
		capacity := b.capacity
		if capacity == 0 {
			capacity = m.c.Capacity
		}
		switch state := m.health[m.id(b)].State; {
		case state == Up, m.c.Check.Type == "":
			healthy += capacity
		case state == Unknown:
			unknown += capacity
		}
	}
	was := m.live
	m.live.capacity = min(min(max(was.capacity, healthy), healthy+unknown), m.most)
	m.gate(now)
	if m.live.below != was.below {
		m.log.Warn("live capacity below min_live", "region", m.region, "before", was.below, "after", m.live.below,
			"live", m.live.capacity, "configured", m.capacity, "min_live", m.c.MinLive)
	}
	return m.live != was
}

// gate puts the region below min_live at once, and takes it back once it has had enough for liveHold without a break.
func (m *muster) gate(now time.Time) {
	const slack = 1e-9 // relative: a sum of capacities is not exact
	need := float64(m.c.MinLive) / 100 * m.capacity * (1 - slack)
	switch {
	case m.live.capacity < need:
		m.live.low, m.enough = m.live.capacity, time.Time{}
		if !m.live.below {
			m.live.below, m.live.since = true, now
		}
	case !m.live.below:
	case m.enough.IsZero():
		m.enough = now
	case now.Sub(m.enough) >= liveHold:
		m.live.below, m.live.since, m.enough = false, now, time.Time{}
	}
}

func (m *muster) id(b backend) EndpointID { return ID("", m.region, b.addr) }

// target is a backend as the agent within checks it.
func (m *muster) target(b backend) Target {
	host, text, _ := net.SplitHostPort(b.addr) // was validated
	port, _ := strconv.Atoi(text)
	t := Target{ID: m.id(b), Name: "backend " + b.addr, Region: m.region, Endpoint: host}
	if c := m.c.Check; c.Type != "" {
		c.Port = cmp.Or(c.Port, port)
		t.Checks = []Check{c}
	}
	return t
}
