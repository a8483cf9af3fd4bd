package steer_test

import (
	"cmp"
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
	lossExcuses   = 0.25                    // a storm that loses more excuses silence
	seenWithin    = 2 * time.Second         // from a report to all directors that it can reach
	fallsWithin   = 6500 * time.Millisecond // from the death of a region's agents: the lease, a beat, and the check's own step
	unheardWithin = 7500 * time.Millisecond // from the death of a region's agents until nobody can take a report of theirs for fresh
	heldWithin    = time.Second             // from an order to all directors, where no packet is lost
	heldAnyway    = 6 * time.Second         // and where some are: a push/pull later
	endsWithin    = time.Second             // an order may live so much longer, for the ages of its travel
	gap           = 1500 * time.Millisecond // a process may be killed or a network cut for so long, and nobody finds out
	gapAfter      = 3 * time.Second         // the gap before
	inUseWithin   = 400 * time.Millisecond  // from a view to the snapshot: amounts wait for a token and a tick
)

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
		s.checkCutOff(d, m)
		s.checkOrders(d, m.view)
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
	text     string                     // of answers
	held     map[string]map[string]bool // what guards hold, by service and region
	guarded  struct {                   // what held is of
		snapshot *steer.Snapshot
		number   uint64
	}
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
			fmt.Fprintf(&b, " %s %s %v %v", r.Order.Kind, r.Order.Reason, r.Drained, r.Order.At.UnixNano())
		}
		if r.State == healthmesh.Down {
			fmt.Fprintf(&b, " since %d", r.Fault)
		}
		if r.Shed != nil {
			fmt.Fprintf(&b, " sheds %v", r.Shed.Share)
		}
		for _, id := range slices.Sorted(maps.Keys(r.Endpoints)) {
			fmt.Fprintf(&b, " %x=%v", uint16(id), r.Endpoints[id].State)
			if r.Endpoints[id].State == healthmesh.Down {
				fmt.Fprintf(&b, " since %d", r.Endpoints[id].Since)
			}
		}
		b.WriteByte('\n')
	}
	return b.String()
}

// checkRegions: evidence is believed in time, and nothing is believed without.
func (s *simulation) checkRegions(d *simnode, m *lookout) {
	if time.Now().Before(s.thaws) {
		return // an operator holds the states
	}
	for _, truth := range s.regions {
		r := m.view.Regions[truth.name]
		heard, _ := s.heard(d, truth.name, healing)
		switch {
		case (heard || s.steady(d, truth.name)) && (r == nil || r.State != healthmesh.Up):
			s.violated("a region whose agents can be heard is up", "%s believes of %s: %v", d.name, truth.name, show(r))
		case heard && s.calm(d) && time.Since(s.changed) > seenWithin:
			s.checkEndpoints(d, truth, r)
		case r != nil && r.State != healthmesh.Down && s.dead(truth.name, fallsWithin) && s.othersHeard(d, truth, 2*healing):
			s.violated("a region whose agents are dead is down", "%s believes of %s: %v", d.name, truth.name, show(r))
		}
		if r != nil && r.State == healthmesh.Up && !r.Held && s.dead(truth.name, unheardWithin) && time.Since(s.resumed) > unheardWithin {
			s.violated("no region is up without evidence", "%s believes of %s: %v", d.name, truth.name, show(r))
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
		if s.broken(d, truth, i) || s.unreachable(d, truth, i) {
			want = healthmesh.Down
		} else if truth.far[i] == 0 && truth.down[i] == 0 {
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

// broken says whether at least half of a region's agents see an endpoint down.
func (s *simulation) broken(d *simnode, of *simRegion, endpoint int) bool {
	balance := 0
	for _, n := range s.nodes {
		switch {
		case n.region != of.name || !s.reached[[2]*simnode{n, d}].connected || !n.life.checked:
		case s.sees(n, of, endpoint).State == healthmesh.Up:
			balance++
		default:
			balance--
		}
	}
	return balance <= 0
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
	held := s.checkGuard(d, m)
	for _, a := range m.answers {
		able := s.able(a, m.view, held[a.service])
		for _, region := range a.regions {
			if len(able) > 0 && !slices.Contains(able, region) {
				s.violated("who cannot answer is not in an answer", "%s: %v, able are %v, view\n%s", d.name, a, able, m.says)
			}
		}
	}
}

type answered struct{ by, text string }

// able are the regions that a view says can answer: those that orders or evidence have not taken out, and those that the guard holds, which
// it does not do in a family that fails open.
func (s *simulation) able(a simAnswer, v *healthmesh.View, held map[string]bool) (all []string) {
	out := s.ordered(v)
	for _, truth := range s.regions {
		r := v.Regions[truth.name]
		if r == nil {
			continue
		}
		id, checked := a.endpoint(truth.name)
		works := r.State != healthmesh.Down && (!checked || r.Endpoints[id].State == healthmesh.Up)
		pinned := r.Order != nil && r.Order.Kind == healthmesh.PinUp
		if !out[truth.name] && (works || pinned || held[truth.name] && !a.open) {
			all = append(all, truth.name)
		}
	}
	return all
}

// ordered are the regions that operators have taken out: not the last of those whose order came last, if that would leave none.
func (s *simulation) ordered(v *healthmesh.View) map[string]bool {
	var orders []*healthmesh.Order
	for _, truth := range s.regions {
		if r := v.Regions[truth.name]; r != nil && r.Order != nil && (r.Order.Kind == healthmesh.PinDown || r.Order.Kind == healthmesh.Drain) {
			orders = append(orders, r.Order)
		}
	}
	slices.SortFunc(orders, func(a, b *healthmesh.Order) int {
		return cmp.Or(a.At.Compare(b.At), strings.Compare(a.Region, b.Region))
	})
	out := make(map[string]bool)
	for _, o := range orders[:min(len(orders), len(s.regions)-1)] {
		out[o.Region] = o.Kind == healthmesh.PinDown || v.Regions[o.Region].Drained == 1
	}
	return out
}

// checkGuard: evidence takes at most half of a service's weight out of its answers, or one region; it returns whom the guard holds in, by service.
func (s *simulation) checkGuard(d *simnode, m *lookout) map[string]map[string]bool {
	if m.guarded.snapshot == m.snapshot && m.guarded.number == m.number {
		return m.held
	}
	m.guarded.snapshot, m.guarded.number = m.snapshot, m.number
	held := make(map[string]map[string]bool)
	m.held = held
	for _, svc := range m.snapshot.Status(m.view) {
		held[svc.Name] = make(map[string]bool)
		out, total, regions := 0.0, 0.0, 0
		for _, r := range svc.Regions {
			weight := sites[r.Region].Capacity
			total += weight
			held[svc.Name][r.Region] = r.State == "held"
			if r.State == "down" {
				out, regions = out+weight, regions+1
			}
			if r.State != "up" && r.Cause == "" {
				s.violated("a region is out for a stated cause", "%s: %s of %s is %s", d.name, r.Region, svc.Name, r.State)
			}
		}
		if !svc.FailOpen && regions > 1 && out > total/2 {
			s.violated("automation takes at most half", "%s: %v of %v of %s are out\n%s", d.name, out, total, svc.Name, m.says)
		}
	}
	return held
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
