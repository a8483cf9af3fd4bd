package steer_test

import (
	"slices"
	"strings"
	"time"

	"github.com/nearcast/nearcast/healthmesh"
)

// reach is whether packets of one node can come to a director, over others where need be, and since when that is so. Those of a process that
// has joined nobody and can join nobody go nowhere: it knows none to send to.
type reach struct {
	connected bool
	since     time.Time
	steady    time.Time // since when, but for gaps
	bridged   bool      // they may come over a forger, which is on all sides of a partition
}

// next is the reach when it was found to be connected or not.
func (r reach) next(connected bool, now time.Time) reach {
	switch {
	case r.connected == connected:
		return r
	case !connected && now.Sub(r.since) < gapAfter:
		r.steady = now
	case connected && now.Sub(r.since) > gap:
		r.steady = now
	}
	r.connected, r.since = connected, now
	return r
}

// reach looks at all ways after something changed.
func (s *simulation) reach() {
	now := time.Now()
	for _, d := range s.nodes[:s.directors] {
		within := s.within(d, s.nodes)
		bridged := within
		if len(s.forgers) > 0 {
			bridged = s.within(d, slices.Concat(s.nodes, s.forgers))
		}
		s.cutOff(d, bridged)
		for _, n := range s.nodes {
			key := [2]*simnode{n, d}
			was, ok := s.reached[key]
			if !ok {
				was = reach{!within[n], now, now, false}
			}
			is := was.next(within[n], now)
			if is.bridged = within[n] != bridged[n]; is.bridged != was.bridged {
				is.since, is.steady = now, now
			}
			s.reached[key] = is
		}
	}
}

// within are the nodes whose packets can come to a director.
func (s *simulation) within(d *simnode, nodes []*simnode) map[*simnode]bool {
	within := map[*simnode]bool{}
	if !d.runs() || s.bad {
		return within
	}
	within[d] = true
	for queue := []*simnode{d}; len(queue) > 0; queue = queue[1:] {
		for _, n := range nodes {
			if !within[n] && s.knows(n) && s.net.open(link{n.addr(), queue[0].addr()}) {
				within[n] = true
				if n.moves == 0 { // others know one that moved by its old address until that is dead
					queue = append(queue, n)
				}
			}
		}
	}
	return within
}

// knows says whether a node's process runs and knows others: it has joined them, or it can, over a stream to any of them whose address it knows.
func (s *simulation) knows(n *simnode) bool {
	if !n.runs() {
		return false
	}
	n.life.joined = n.life.joined || n.life.mesh.Stats().Members > 1
	return n.life.joined || slices.ContainsFunc(s.nodes, func(o *simnode) bool {
		return o != n && o.runs() && o.moves == 0 && s.net.streams(n.addr(), o.addr())
	})
}

// cutOff notes what a director believes that is cut off from all regions in one moment: it cannot tell that from the death of all.
func (s *simulation) cutOff(d *simnode, within map[*simnode]bool) {
	agents := 0
	for _, n := range s.nodes {
		if !n.director() && within[n] {
			agents++
		}
	}
	switch {
	case agents > 0 || s.bad || len(s.past) > 0 || !slices.Contains(s.serving(), d): // a storm lets some through, and so may who is the past
		delete(s.cut, d)
	case s.cut[d] == nil && s.allHeard(d):
		s.cut[d] = d.life.mesh.View()
	}
}

// allHeard says whether a director could hear all regions for some time.
func (s *simulation) allHeard(d *simnode) bool {
	for _, r := range s.regions {
		if heard, _ := s.heard(d, r.name, healing); !heard {
			return false
		}
	}
	return true
}

// checkCutOff: who is cut off from all goes on with what it believed.
func (s *simulation) checkCutOff(d *simnode, m *lookout) {
	if s.cut[d] == nil {
		return
	}
	for name, was := range s.cut[d].Regions {
		if r := m.view.Regions[name]; was.State == healthmesh.Up && (r == nil || r.State != healthmesh.Up) && !strings.HasPrefix(r.Cause, "left") {
			s.violated("a director that is cut off holds its view", "%s believes of %s: %v", d.name, name, show(r))
		}
	}
}

// heard says whether some agent of the region could be heard by d for the whole of the last time; calm, whether nothing changed in
// who of them could.
func (s *simulation) heard(d *simnode, region string, last time.Duration) (heard, calm bool) {
	calm = true
	for _, n := range s.nodes {
		if n.region != region {
			continue
		}
		r := s.reached[[2]*simnode{n, d}]
		if time.Since(r.since) < last || r.bridged || n.noUDP > 0 { // what comes by streams alone comes late, and holds as long as other reports
			calm = false
		} else if r.connected {
			heard = true
		}
	}
	return heard, calm
}

// steady says whether some agent of the region could be heard by d for some time, but for gaps in which no lease runs out.
func (s *simulation) steady(d *simnode, region string) bool {
	return slices.ContainsFunc(s.nodes, func(n *simnode) bool {
		r := s.reached[[2]*simnode{n, d}]
		return n.region == region && n.noUDP == 0 && r.connected && time.Since(r.steady) >= healing
	})
}

// dead says whether no agent of the region had a process in the last time.
func (s *simulation) dead(region string, last time.Duration) bool {
	return !slices.ContainsFunc(s.nodes, func(n *simnode) bool {
		return n.region == region && (n.life != nil || time.Since(n.died) < last)
	})
}
