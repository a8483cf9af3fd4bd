package steer_test

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/nearcast/nearcast/healthmesh"
)

// effect is what an event does, and what undoes it.
func (s *simulation) effect(e event) (do, undo func()) {
	all := cut{1, 1}
	var nodes []*simnode
	for _, i := range e.nodes {
		nodes = append(nodes, s.nodes[i])
	}
	change := func(by cut, from, to []*simnode, there, back bool) (do, undo func()) {
		var links []link // as the addresses are at that time
		return func() {
				links = s.links(from, to, there, back)
				s.net.change(by, links...)
			}, func() {
				s.net.change(cut{-by.packets, -by.streams}, links...)
			}
	}
	switch e.kind {
	case storm:
		return func() {
				w := s.weather
				w.loss = max(w.loss, e.amount)
				s.bad = w.loss > lossExcuses
				s.net.set(w)
			}, func() {
				s.bad = false
				s.net.set(s.weather)
			}
	case oneWay:
		return change(all, nodes[:1], nodes[1:], true, false)
	case deaf:
		return change(all, s.nodes, nodes, true, false)
	case mute:
		return change(all, nodes, s.nodes, true, false)
	case partition:
		return change(all, nodes, s.others(nodes), true, true)
	case noUDP:
		do, undo := change(cut{packets: 1}, nodes, s.nodes, true, true)
		return func() { nodes[0].noUDP++; do() }, func() { nodes[0].noUDP--; undo() }
	case pausing:
		return nodes[0].pause, nodes[0].resume
	case crash, blackout:
		return func() {
				for _, n := range nodes {
					n.kill(e.kind == blackout)
				}
			}, func() {
				for _, n := range nodes {
					n.start()
				}
			}
	case wiped:
		return func() {
			if nodes[0].life != nil {
				nodes[0].kill(false)
				nodes[0].disk = new(memoryDisk)
				s.forgot(nodes[0])
			}
		}, nodes[0].start
	case leaving:
		return func() {
				for _, n := range nodes {
					n.leave()
				}
			}, func() {
				for _, n := range nodes {
					n.start()
				}
			}
	case twin:
		return s.twin(nodes[0], e.lasts)
	case clock:
		return func() { nodes[0].wall.Add(int64(e.jump)) }, nil
	case fullDisk:
		return func() { nodes[0].disk.set(true) }, func() { nodes[0].disk.set(false) }
	case fault:
		r := s.regions[e.region]
		return func() { s.fault(&r.down[e.endpoint], 1) }, func() { s.fault(&r.down[e.endpoint], -1) }
	case far:
		r := s.regions[e.region]
		return func() { s.fault(&r.far[e.endpoint], 1) }, func() { s.fault(&r.far[e.endpoint], -1) }
	case lying:
		return func() { s.fault(&nodes[0].lies, 1) }, func() { s.fault(&nodes[0].lies, -1) }
	case blinding:
		return func() {
				for _, n := range nodes {
					s.fault(&n.blind, 1)
				}
			}, func() {
				for _, n := range nodes {
					s.fault(&n.blind, -1)
				}
			}
	case forging:
		if nodes[0].director() {
			return s.rogue(e.region, nodes[0])
		}
		return s.forger(e.region, nodes[0])
	case reload:
		return func() { s.strict++; s.reload() }, func() { s.strict--; s.reload() }
	case loading:
		r := s.regions[e.region]
		return func() { r.load, r.capacity = e.amount, 0.5+e.amount/3; s.tell(0) }, nil
	case order:
		return func() { s.give(nodes[0], e) }, nil
	}
	panic(e.kind)
}

// plan is the configuration as it is now.
func (s *simulation) plan() *healthmesh.Plan {
	now := s.schedule
	now.signed, now.listed = s.signed || s.strict > 0, s.listed || s.strict > 0
	return s.world.plan(now)
}

// reload has all nodes take the configuration, each at its time.
func (s *simulation) reload() {
	for _, n := range s.nodes {
		s.after(time.Duration(s.rng.Int64N(int64(time.Second))), func() {
			if n.life != nil {
				n.life.mesh.Adopt(s.plan())
			}
		})
	}
}

// links are those from nodes to nodes, and back if both.
func (s *simulation) links(from, to []*simnode, there, back bool) (all []link) {
	for _, a := range from {
		for _, b := range to {
			if a != b && there {
				all = append(all, link{a.addr(), b.addr()})
			}
			if a != b && back {
				all = append(all, link{b.addr(), a.addr()})
			}
		}
	}
	return all
}

func (s *simulation) others(nodes []*simnode) (all []*simnode) {
	for _, n := range s.nodes {
		if !slices.Contains(nodes, n) {
			all = append(all, n)
		}
	}
	return all
}

// A simRegion is what is true of a region, whoever knows it.
type simRegion struct {
	name           string
	down, far      [simEndpoints]int // faults of each endpoint
	capacity, load float64           // parts of the configured capacity
}

func (s *simulation) truth(region string) *simRegion {
	return s.regions[slices.IndexFunc(s.regions, func(r *simRegion) bool { return r.name == region })]
}

// fault counts the faults of something. Agents find out, each at its time.
func (s *simulation) fault(what *int, by int) {
	*what += by
	s.tell(time.Second)
}

func (s *simulation) tell(within time.Duration) {
	s.changed = time.Now().Add(within)
	for _, n := range s.nodes {
		if !n.director() {
			s.after(time.Duration(s.rng.Int64N(int64(within)+1)), n.publish)
		}
	}
}

// status is what an agent says. Every agent is a witness of all other regions.
func (s *simulation) status(n *simnode) healthmesh.Status {
	own := s.truth(n.region)
	st := healthmesh.Status{
		Capacity: own.capacity * sites[own.name].Capacity, Load: own.load * sites[own.name].Capacity, HasLoad: own.load > 0,
		Endpoints: make(map[healthmesh.EndpointID]healthmesh.Endpoint),
	}
	for _, r := range s.regions {
		for i, id := range endpointsOf[r.name] {
			if r == own || s.witnesses > 0 {
				st.Endpoints[id] = s.sees(n, r, i)
			}
		}
	}
	return st
}

// sees is what an agent says of an endpoint.
func (s *simulation) sees(n *simnode, r *simRegion, endpoint int) healthmesh.Endpoint {
	switch own := r.name == n.region; {
	case n.life == nil || !n.life.checked:
		return healthmesh.Endpoint{}
	case r.down[endpoint] > 0, !own && (n.blind > 0 || r.far[endpoint] > 0), n.lies > 0 && !s.spared(n, r):
		return healthmesh.Endpoint{State: healthmesh.Down, Reason: "connection refused"}
	}
	return healthmesh.Endpoint{State: healthmesh.Up, Reason: "status 200"}
}

// twin stops an agent, and has another take its place at another address, with nothing of its memory. When the first goes on, it is the
// past: whatever it says then must not count.
func (s *simulation) twin(n *simnode, lasts time.Duration) (do, undo func()) {
	var past *life
	return func() {
			if !n.runs() {
				return
			}
			past = n.life
			past.station.pause()
			s.past = append(s.past, past)
			n.life, n.disk, n.moves = nil, new(memoryDisk), n.moves+1
			n.ip = fmt.Sprintf("10.0.%d.%d", 2+n.moves, n.index+1)
			for _, d := range s.nodes[:s.directors] {
				delete(s.reached, [2]*simnode{n, d}) // it is heard anew
			}
			n.start()
			s.after(lasts/2, func() {
				past.station.resume()
				past.mesh.Publish(healthmesh.Status{Capacity: 1, Endpoints: map[healthmesh.EndpointID]healthmesh.Endpoint{
					endpointsOf[n.region][0]: {State: healthmesh.Down, Reason: "failed"},
					endpointsOf[n.region][1]: {State: healthmesh.Down, Reason: "failed"},
					endpointsOf[n.region][2]: {State: healthmesh.Down, Reason: "failed"},
				}})
			})
		}, func() {
			if past != nil {
				s.finish(past)
			}
		}
}

// finish ends a process that is no node's any more.
func (s *simulation) finish(l *life) {
	l.station.close(false)
	gone, cancel := context.WithCancel(context.Background())
	cancel()
	s.nodes[0].end(l, gone)
}

// spared says whether a liar tells the truth of a region: of one other, or it would be taken for cut off. Of its own it lies too: where there are
// three agents, the two others are believed.
func (s *simulation) spared(n *simnode, r *simRegion) bool {
	first := s.regions[0]
	if first.name == n.region {
		first = s.regions[1]
	}
	return r == first && !n.forges
}

// rogue is a member that has the gossip key and says that it is a director, and gives an order. Where no directors are listed it may.
func (s *simulation) rogue(region int, as *simnode) (do, undo func()) {
	r := s.regions[region]
	n := &simnode{sim: s, name: fmt.Sprint("rogue-", as.name), ip: fmt.Sprintf("10.0.1.%d", as.index), disk: new(memoryDisk), forges: true, key: s.world.keys[r.name]}
	s.forgers = append(s.forgers, n)
	if !s.listed {
		return func() {}, nil
	}
	return func() {
		n.start()
		s.after(time.Second, func() {
			if n.life == nil {
				return
			}
			ctx, cancel := context.WithTimeout(context.Background(), time.Second)
			defer cancel()
			if err := n.life.mesh.Give(ctx, healthmesh.Order{Region: r.name, Kind: healthmesh.PinDown, Reason: "forged"}); err != nil {
				s.violated("a rogue gives its order", "%v", err)
			}
		})
	}, func() { n.kill(false) }
}

// forger is a member that has the gossip key and a region's key, and speaks for another region, under its agent's name or one of its own.
// Where regions are not bound to keys it is an agent like others, so there is none.
func (s *simulation) forger(region int, as *simnode) (do, undo func()) {
	r := s.regions[region]
	other := s.regions[(region+1)%len(s.regions)]
	n := &simnode{
		sim: s, name: fmt.Sprint("forger-", as.name), region: r.name, ip: fmt.Sprintf("10.0.1.%d", as.index), disk: new(memoryDisk),
		lies: 1, forges: true, key: s.world.keys[other.name],
	}
	if as.index%2 == 0 {
		n.name = as.name
	}
	s.forgers = append(s.forgers, n)
	if !s.signed {
		return func() {}, nil
	}
	return n.start, func() { n.kill(false) }
}
