// Package healthmesh owns who can answer and how full they are: checks, reports, gossip, merging,
// orders, and the view that results. It knows nothing of zones, places, DNS answers or config files.
package healthmesh

import (
	"maps"
	"slices"
	"time"

	"github.com/cespare/xxhash/v2"
	"github.com/hashicorp/memberlist"
)

// State is what evidence says of a region or endpoint.
type State uint8

const (
	Unknown State = iota // no evidence
	Up
	Down
)

// An EndpointID names one endpoint of one service in one region, alike on every node: the xxhash64 of
// "service NUL region NUL endpoint"; service absolute and lower case, endpoint as netip.Addr or the host name prints.
type EndpointID uint64

// ID returns the id of an endpoint.
func ID(service, region, endpoint string) EndpointID {
	return EndpointID(xxhash.Sum64String(service + "\x00" + region + "\x00" + endpoint))
}

func (s State) String() string {
	switch s {
	case Up:
		return "up"
	case Down:
		return "down"
	}
	return "unknown"
}

// A View is all that the mesh believes at one moment, immutable once published. Two views with the same Number
// differ in nothing but Heard.
type View struct {
	Number   uint64             // counts the changes of what this node believes
	Regions  map[string]*Region // by name; a region never heard of is absent, unless an order names it
	Members  []Member           // of the mesh, by name
	Isolated bool               // most regions fell silent at once: the last belief is held
	Freeze   *Order             // in force: states of evidence are held as they were; nil if none
}

// A Stamp is when something came to be by the clock of the node that says so: the incarnation of the node's life, in
// milliseconds since 1970, and the milliseconds of that life. No jump of a wall clock during the life changes it, and it
// is alike at every node. 0 is unknown.
type Stamp uint64

// A Region is what the mesh believes of one region.
type Region struct {
	State      State     // Up: heard within the lease (or held); Down: silent or left
	Held       bool      // State is the last belief and not fresh: from disk, or while isolated
	Cause      string    // why State is what it is, for people: "heard", "silent for 5s", "left"
	Since      time.Time // when State became so
	Heard      time.Time // when the last new report came, here or at the peer that passed it on; monotonic, zero if never
	Agents     []string  // names of the agents behind the evidence
	Source     string    // "report", "disk"
	Capacity   float64   // live capacity, 0 if not reported
	Load       float64   // in the unit of capacity
	HasLoad    bool
	LoadStale  bool   // Load is the last that could be read
	Suppressed uint32 // flips of its endpoints that its agents kept from their states
	Endpoints  map[EndpointID]Endpoint
	Fault      Stamp     // of the last report before a silence or a leave; 0 while State is not Down
	FaultAt    time.Time // the same by this node's monotonic clock
	Order      *Order    // of drain, pin-up or pin-down, in force; nil if none
	Drained    float64   // how much a drain has taken of the region by now, 0 to 1, in steps of 1/64; 0 without one
	Shed       *Order    // in force, nil if none

	falls     falls
	returning time.Time // since when a region that is held down is heard again; zero if it is not
}

// Returning says whether the region is heard again and held down, since it fell too often of late.
func (r *Region) Returning() bool { return r.State == Down && !r.returning.IsZero() }

// An Endpoint is what the mesh believes of one endpoint.
type Endpoint struct {
	State  State
	Reason string    // of the last change: "connection refused", "status 503"
	Since  Stamp     // when State became so, as the first reporter that says so has it
	At     time.Time `json:"-"` // the same by this node's monotonic clock; zero if unknown
}

// The kinds of Order.
const (
	Drain   = "drain"    // the region leaves the answers, at once or over a time
	PinUp   = "pin-up"   // the region answers, whatever evidence says
	PinDown = "pin-down" // the region does not answer
	Shed    = "shed"     // a share of the region's clients go to the next regions
	Freeze  = "freeze"   // evidence changes no state
	None    = "none"     // an order taken back
)

// An Order is what an operator told of one region, or of all evidence (freeze). The last one counts, of each region one of drain, pin-up,
// pin-down and none, and one shed; a shed of 0 takes the shed back, and none with no region the freeze.
type Order struct {
	Region string        `json:"region,omitempty"` // none for a freeze
	Kind   string        `json:"kind"`
	Share  float64       `json:"share,omitempty"` // that a shed takes from the region, 0 to 1
	Over   time.Duration `json:"over,omitempty"`  // in which a drain takes all, linearly; 0: at once
	For    time.Duration `json:"for,omitempty"`   // after which it ends by itself; 0: it is in force until taken back
	Owner  string        `json:"owner,omitempty"` // who gave it
	Reason string        `json:"reason,omitempty"`
	By     string        `json:"by"` // the director that took it
	At     time.Time     `json:"at"` // by the hybrid logical clock of By: later wins; ties by By
	Given  time.Time     `json:"-"`  // the same by this node's monotonic clock: ends and progress count from it, answers must not

	latest time.Time // set if Given goes by a wall clock over a restart: the latest that Given can be, by the time that was counted
}

// A Member is one node of the mesh.
type Member struct {
	Name   string `json:"name"`
	Role   string `json:"role"`   // "director" or "agent"
	Region string `json:"region"` // of an agent
	Addr   string `json:"addr"`
	Keys   string `json:"keys,omitempty"` // names the gossip keys that it has
}

// compose makes a view of a belief, the orders in force at now, and the members.
func compose(b belief, all *orders, nodes []memberlist.Node, now time.Time) *View {
	v := &View{Regions: maps.Clone(b.regions), Isolated: b.isolated, Freeze: all.freeze(now), Members: make([]Member, len(nodes))}
	for i, n := range nodes {
		v.Members[i] = member(n)
	}
	for s, o := range all.held {
		if s == (slot{}) || !o.inForce(now) {
			continue
		}
		r := Region{} // an order stands for a region not heard of, too
		if believed := v.Regions[s.region]; believed != nil {
			r = *believed
		}
		if s.shed {
			r.Shed = &o
		} else {
			r.Order, r.Drained = &o, o.drained(now)
		}
		v.Regions[s.region] = &r
	}
	return v
}

// inForce lists the orders of a view.
func (v *View) inForce() (all []*Order) {
	if v.Freeze != nil {
		all = append(all, v.Freeze)
	}
	for _, r := range v.Regions {
		for _, o := range []*Order{r.Order, r.Shed} {
			if o != nil {
				all = append(all, o)
			}
		}
	}
	return all
}

// difference is how two views differ.
type difference uint8

const (
	same    difference = iota // in nothing but Heard
	amounts                   // in loads or capacities
	meaning                   // in more
)

func compare(a, b *View) difference {
	if a.Isolated != b.Isolated || !sameOrder(a.Freeze, b.Freeze) || len(a.Regions) != len(b.Regions) || !slices.Equal(a.Members, b.Members) {
		return meaning
	}
	diff := same
	for name, r := range b.Regions {
		was := a.Regions[name]
		if was == nil {
			return meaning
		}
		diff = max(diff, was.compare(r))
	}
	return diff
}

func (r *Region) compare(o *Region) difference {
	switch {
	case r.State != o.State || r.Held != o.Held || r.Cause != o.Cause || r.Source != o.Source,
		!sameOrder(r.Order, o.Order) || !sameOrder(r.Shed, o.Shed) || r.Drained != o.Drained,
		!slices.Equal(r.Agents, o.Agents), !maps.Equal(r.Endpoints, o.Endpoints):
		return meaning
	case r.Capacity != o.Capacity || r.Load != o.Load || r.HasLoad != o.HasLoad || r.LoadStale != o.LoadStale || r.Suppressed != o.Suppressed:
		return amounts
	}
	return same
}
