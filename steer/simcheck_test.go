package steer_test

import (
	"cmp"
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/nearcast/nearcast/healthmesh"
	"github.com/nearcast/nearcast/steer"
)

// What is promised of a mesh, in virtual time.
const (
	lossExcuses = 0.25                    // a storm that loses more excuses silence
	seenWithin  = 2 * time.Second         // from a report to all directors that it can reach
	fallsWithin = 6500 * time.Millisecond // from the death of a region's agents: the lease, a beat, and the check's own step
	heldWithin  = time.Second             // from an order to all directors, where no packet is lost
	heldAnyway  = 6 * time.Second         // and where some are: a push/pull later
	endsWithin  = time.Second             // an order may live so much longer, for the ages of its travel
	inUseWithin = 400 * time.Millisecond  // from a view to the snapshot: amounts wait for a token and a tick
)

// reach is whether packets of one node can come to a director, over others where need be, and since when that is so.
type reach struct {
	connected bool
	since     time.Time
}

// reach looks at all ways after something changed.
func (s *simulation) reach() {
	now := time.Now()
	for _, d := range s.nodes[:s.directors] {
		within := map[*simnode]bool{}
		if d.runs() && !s.bad {
			within[d] = true
			for queue := []*simnode{d}; len(queue) > 0; queue = queue[1:] {
				for _, n := range s.nodes {
					if n.runs() && !within[n] && s.net.open(link{n.addr(), queue[0].addr()}) {
						within[n] = true
						queue = append(queue, n)
					}
				}
			}
		}
		for _, n := range s.nodes {
			key := [2]*simnode{n, d}
			if was, ok := s.reached[key]; !ok || was.connected != within[n] {
				s.reached[key] = reach{within[n], now}
			}
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
		if time.Since(r.since) < last || n.noUDP > 0 { // what comes by streams alone comes late, and holds as long as other reports
			calm = false
		} else if r.connected {
			heard = true
		}
	}
	return heard, calm
}

// dead says whether no agent of the region had a process in the last time.
func (s *simulation) dead(region string, last time.Duration) bool {
	return !slices.ContainsFunc(s.nodes, func(n *simnode) bool {
		return n.region == region && (n.life != nil || time.Since(n.died) < last)
	})
}

// serving are the directors that answer.
func (s *simulation) serving() (all []*simnode) {
	for _, n := range s.nodes[:s.directors] {
		if n.runs() && n.life.keeper.Load() != nil {
			all = append(all, n)
		}
	}
	return all
}

// check is what holds at every moment.
func (s *simulation) check() {
	for _, d := range s.serving() {
		m := s.look(d)
		s.checkRegions(d, m)
		s.checkOrders(d, m)
		s.checkAnswers(d, m)
	}
}

// A lookout is what was last seen of a director's life.
type lookout struct {
	view     *healthmesh.View
	number   uint64
	says     string    // what the view says
	since    time.Time // when it came to say so
	snapshot *steer.Snapshot
	answers  []simAnswer
	text     string // of answers
}

func (s *simulation) look(d *simnode) *lookout {
	m := s.seen[d.life]
	if m == nil {
		m = new(lookout)
		s.seen[d.life] = m
	}
	m.view = d.life.mesh.View()
	if m.view.Number != m.number || m.says == "" {
		m.number = m.view.Number
		if says := saying(m.view); says != m.says {
			m.says, m.since = says, time.Now()
		}
	}
	if snapshot := d.life.keeper.Load().Snapshot(); snapshot != m.snapshot {
		m.snapshot = snapshot
		var err error
		if m.answers, err = s.world.answersOf(snapshot); err != nil {
			s.violated("no answer is empty", "%s: %v", d.name, err)
		}
		m.text = fmt.Sprint(m.answers)
	}
	return m
}

// saying is all that answers may depend on.
func saying(v *healthmesh.View) string {
	var b strings.Builder
	for _, name := range slices.Sorted(maps.Keys(v.Regions)) {
		r := v.Regions[name]
		fmt.Fprintf(&b, "%s %v capacity %v load %v %v", name, r.State, r.Capacity, r.Load, r.HasLoad)
		if r.Order != nil {
			fmt.Fprintf(&b, " %s %s", r.Order.Kind, r.Order.Reason)
		}
		for _, id := range slices.Sorted(maps.Keys(r.Endpoints)) {
			fmt.Fprintf(&b, " %x=%v", uint16(id), r.Endpoints[id].State)
		}
		b.WriteByte('\n')
	}
	return b.String()
}

// checkRegions: evidence is believed in time, and nothing is believed without.
func (s *simulation) checkRegions(d *simnode, m *lookout) {
	for _, truth := range s.regions {
		r := m.view.Regions[truth.name]
		heard, _ := s.heard(d, truth.name, healing)
		switch {
		case heard && (r == nil || r.State != healthmesh.Up):
			s.violated("a region whose agents can be heard is up", "%s believes of %s: %v", d.name, truth.name, show(r))
		case heard && s.calm(d) && time.Since(s.changed) > seenWithin:
			s.checkEndpoints(d, truth, r)
		case r != nil && r.State != healthmesh.Down && s.dead(truth.name, fallsWithin) && s.othersHeard(d, truth, 2*healing):
			s.violated("a region whose agents are dead is down", "%s believes of %s: %v", d.name, truth.name, show(r))
		}
		if r != nil && r.State == healthmesh.Down && r.Cause == "" {
			s.violated("a region is down for a stated cause", "%s: %s is down, cause %q", d.name, truth.name, r.Cause)
		}
	}
}

func show(r *healthmesh.Region) string {
	if r == nil {
		return "nothing"
	}
	return fmt.Sprintf("%v, held %v, cause %q, since %v, heard %v ago, agents %v", r.State, r.Held, r.Cause, r.Since, time.Since(r.Heard), r.Agents)
}

func (s *simulation) othersHeard(d *simnode, but *simRegion, last time.Duration) bool {
	for _, r := range s.regions {
		if heard, _ := s.heard(d, r.name, last); r != but && !heard {
			return false
		}
	}
	return true
}

func (s *simulation) checkEndpoints(d *simnode, truth *simRegion, r *healthmesh.Region) {
	for i, id := range endpointsOf[truth.name] {
		want, rule := healthmesh.Up, "what agents see of endpoints is believed"
		if truth.down[i] > 0 || s.unreachable(d, truth, i) {
			want = healthmesh.Down
		} else if truth.far[i] == 0 {
			rule = "an endpoint that works is not taken out"
		}
		switch got := r.Endpoints[id]; {
		case got.State != want:
			s.violated(rule, "%s believes endpoint %d of %s %v for %q, it is %v", d.name, i, truth.name, got.State, got.Reason, want)
		case got.State == healthmesh.Down && got.Reason == "":
			s.violated("an endpoint is down for a stated cause", "%s: endpoint %d of %s", d.name, i, truth.name)
		}
	}
}

// calm says whether for some time nothing changed in who can be heard.
func (s *simulation) calm(d *simnode) bool {
	for _, r := range s.regions {
		if _, calm := s.heard(d, r.name, healing); !calm {
			return false
		}
	}
	return true
}

// unreachable says whether most regions, two at least, see an endpoint of another region down. An agent that sees nothing of a family
// up outside of its region is not asked.
func (s *simulation) unreachable(d *simnode, of *simRegion, endpoint int) bool {
	up, down := 0, 0
	for _, r := range s.regions {
		balance := 0
		for _, n := range s.nodes {
			if n.region != r.name || r == of || !s.reached[[2]*simnode{n, d}].connected || s.blind(n, endpoint) {
				continue
			}
			if s.sees(n, of, endpoint).State == healthmesh.Up {
				balance++
			} else {
				balance--
			}
		}
		switch {
		case balance > 0:
			up++
		case balance < 0:
			down++
		}
	}
	return s.witnesses > 0 && down >= 2 && down > up
}

// blind says whether an agent sees nothing of an endpoint's family up outside of its region.
func (s *simulation) blind(n *simnode, endpoint int) bool {
	for _, r := range s.regions {
		for i := range simEndpoints {
			if family6 := 1; r.name != n.region && (i == family6) == (endpoint == family6) && s.sees(n, r, i).State == healthmesh.Up {
				return false
			}
		}
	}
	return true
}

// checkAnswers: equal views give equal answers, and answers are of those that can answer.
func (s *simulation) checkAnswers(d *simnode, m *lookout) {
	if time.Since(m.since) < inUseWithin {
		return
	}
	if before, ok := s.answers[m.says]; !ok {
		s.answers[m.says] = answered{d.name, m.text}
	} else if before.text != m.text {
		s.violated("equal views give equal answers", "%s answered\n%s%s answers\n%sto\n%s", before.by, before.text, d.name, m.text, m.says)
	}
	for _, a := range m.answers {
		able := s.able(a, m.view)
		for _, region := range a.regions {
			if len(able) > 0 && !slices.Contains(able, region) {
				s.violated("who cannot answer is not in an answer", "%s: %v, able are %v, view\n%s", d.name, a, able, m.says)
			}
		}
	}
}

type answered struct{ by, text string }

// able are the regions that a view says can answer.
func (s *simulation) able(a simAnswer, v *healthmesh.View) (all []string) {
	for _, truth := range s.regions {
		r := v.Regions[truth.name]
		if r == nil || r.State == healthmesh.Down || r.Order != nil && r.Order.Kind == healthmesh.Drain {
			continue
		}
		id, checked := a.endpoint(truth.name)
		if !checked || r.Endpoints[id].State == healthmesh.Up {
			all = append(all, truth.name)
		}
	}
	return all
}

// agree: after the last fault, all directors believe and answer alike. That it is the truth, checkRegions sees to.
func (s *simulation) agree() {
	var first *simnode
	for _, d := range s.serving() {
		if first == nil {
			first = d
			continue
		}
		a, b := s.look(first), s.look(d)
		if a.says != b.says {
			s.violated("all directors agree in the end", "%s believes\n%s%s believes\n%s", first.name, a.says, d.name, b.says)
		} else if a.text != b.text {
			s.violated("all directors agree in the end", "%s answers\n%s%s answers\n%s", first.name, a.text, d.name, b.text)
		}
	}
}

// A given order is one that a director took.
type given struct {
	id     string // its reason, which makes it unlike all others
	region string
	kind   string
	at     time.Time
	until  time.Time // zero: until taken back
	by     *simnode
	unsure bool // it may be lost, or may not be the last
}

// A noteBook is what a director has held of orders, as long as its memory lasts.
type noteBook struct {
	held map[string]string // by region: the order in force
	gone map[string]bool   // those that were in force and are not
}

func (s *simulation) notes(d *simnode) *noteBook {
	if s.noted[d] == nil {
		s.noted[d] = &noteBook{held: make(map[string]string), gone: make(map[string]bool)}
	}
	return s.noted[d]
}

// forgot is when a node lost its memory.
func (s *simulation) forgot(n *simnode) {
	delete(s.noted, n)
	for _, g := range s.orders {
		if g.by == n {
			g.unsure = true
		}
	}
}

func (s *simulation) lastGiven(region string) *given {
	for _, g := range slices.Backward(s.orders) {
		if g.region == region {
			return g
		}
	}
	return nil
}

// give has a director take an order.
func (s *simulation) give(d *simnode, e event) {
	if !slices.Contains(s.serving(), d) {
		return
	}
	region, notes := s.regions[e.region].name, s.notes(d)
	g := &given{id: fmt.Sprint("order ", len(s.orders)), region: region, kind: e.order, at: time.Now(), by: d}
	o := healthmesh.Order{Region: region, Kind: e.order, Reason: g.id}
	if e.lasts > 0 {
		g.until = time.Now().Add(e.lasts)
		o.For = e.lasts
	}
	// The mesh's order is that of the clocks that the givers have seen: it is ours if each had seen the one before.
	if last := s.lastGiven(region); last != nil {
		g.unsure = last.unsure || last.by != d && notes.held[region] != last.id && !notes.gone[last.id]
	}
	ctx, cancel := context.WithTimeout(context.Background(), time.Second)
	defer cancel()
	if err := d.life.mesh.Give(ctx, o); err != nil && !d.disk.behind() {
		s.violated("a director takes orders", "%s: %v", d.name, err)
	}
	s.orders = append(s.orders, g)
}

// checkOrders: none returns after it ended or was taken back, and new ones come to all.
func (s *simulation) checkOrders(d *simnode, m *lookout) {
	notes := s.notes(d)
	for _, region := range s.regions {
		id := ""
		if r := m.view.Regions[region.name]; r != nil && r.Order != nil {
			id = r.Order.Reason
			i := slices.IndexFunc(s.orders, func(g *given) bool { return g.id == id })
			if g := s.orders[i]; !g.until.IsZero() && time.Since(g.until) > endsWithin {
				s.violated("no order returns after its end", "%s holds %s of %s, which ended %v ago", d.name, id, region.name, time.Since(g.until))
			}
		}
		if before := notes.held[region.name]; before != id {
			if before != "" {
				notes.gone[before] = true
			}
			notes.held[region.name] = id
		}
		if notes.gone[id] {
			s.violated("no order returns after its end", "%s holds %s of %s again", d.name, id, region.name)
		}
		s.checkLast(d, region.name, id)
	}
}

// checkLast: the last order comes to all that the giver can reach.
func (s *simulation) checkLast(d *simnode, region, held string) {
	g := s.lastGiven(region)
	if g == nil || g.unsure || !g.until.IsZero() && !time.Now().Before(g.until) {
		return
	}
	within := heldAnyway
	if s.weather.loss == 0 && s.weather.late == 0 {
		within = heldWithin
	}
	r := s.reached[[2]*simnode{g.by, d}]
	if time.Since(g.at) < within || !r.connected || g.at.Sub(r.since) < healing {
		return
	}
	want := cmp.Or(map[bool]string{true: g.id}[g.kind != healthmesh.None])
	if held != want {
		s.violated("all directors hold an order", "%s holds %q of %s, not %q that %s took %v ago", d.name, held, region, want, g.by.name, time.Since(g.at))
	}
}
