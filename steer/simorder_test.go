package steer_test

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/nearcast/nearcast/healthmesh"
)

// A simSlot is what one order can be in force for: a region's state, a region's shed, or the freeze.
type simSlot struct {
	region string
	shed   bool
}

func slotOf(o healthmesh.Order) simSlot { return simSlot{o.Region, o.Kind == healthmesh.Shed} }

func (s *simulation) slots() []simSlot {
	all := []simSlot{{}}
	for _, r := range s.regions {
		all = append(all, simSlot{r.name, false}, simSlot{r.name, true})
	}
	return all
}

// A given order is one that a director took. Its reason makes it unlike all others.
type given struct {
	healthmesh.Order
	time   time.Time
	until  time.Time // zero: until taken back
	by     *simnode
	unsure bool // it may be lost, or may end before its time

	life    *life                  // of by, when it was given
	jumped  bool                   // a node guesses its age with a clock that jumped
	guessed map[*simnode]time.Time // when nodes that knew it began other lives

	endedAt time.Time // when the first director no longer held it; zero: none that remembers that
	endedBy *simnode
}

// after says whether g replaces o: whether it is later by the hybrid clock.
func (g *given) after(o *given) bool {
	return cmp.Or(g.At.Compare(o.At), cmp.Compare(g.By, o.By)) > 0
}

func (g *given) takesBack() bool {
	return g.Kind == healthmesh.None || g.Kind == healthmesh.Shed && g.Share == 0
}

func (g *given) over() bool { return !g.until.IsZero() && !time.Now().Before(g.until) }

// name is how a violation shows an order; nil is none.
func (g *given) name() string {
	if g == nil {
		return "nothing"
	}
	return fmt.Sprintf("%s (%s, of %s by %s)", g.Reason, g.Kind, g.At.UTC().Format(time.RFC3339Nano), g.By)
}

// latest is the order that all have to end with.
func (s *simulation) latest(slot simSlot) (last *given) {
	for _, g := range s.orders {
		if slotOf(g.Order) == slot && (last == nil || g.after(last)) {
			last = g
		}
	}
	return last
}

// A noteBook is what a director knew of orders, as long as its memory lasts.
type noteBook struct {
	held   map[simSlot]*given // the order in force
	newest map[simSlot]*given // the latest that it held or took
	gone   map[*given]bool    // those that were in force and are not
}

func (s *simulation) notes(d *simnode) *noteBook {
	if s.noted[d] == nil {
		s.noted[d] = &noteBook{held: make(map[simSlot]*given), newest: make(map[simSlot]*given), gone: make(map[*given]bool)}
	}
	return s.noted[d]
}

func (n *noteBook) know(g *given) {
	if slot := slotOf(g.Order); n.newest[slot] == nil || g.after(n.newest[slot]) {
		n.newest[slot] = g
	}
}

// forgot is when a node lost its memory.
func (s *simulation) forgot(n *simnode) {
	delete(s.noted, n)
	for key := range s.reached {
		if slices.Contains(key[:], n) {
			delete(s.reached, key)
		}
	}
	for _, g := range s.orders {
		g.unsure = g.unsure || g.by == n
		if g.endedBy == n {
			g.endedAt, g.endedBy = time.Time{}, nil
		}
	}
}

// restarted is when a node whose word on orders counts begins another life: from then on it guesses how old those are that it remembers, until it is
// told by who counted, which the giver surely does in the life in which it gave the order. With a wall clock that jumped the guess is wrong,
// and as long as nobody counts all others who guess believe it, so that an order may end before its time. It never ends after it.
func (s *simulation) restarted(n *simnode, jumped bool) {
	for _, g := range s.orders {
		if g.until.IsZero() {
			continue
		}
		g.jumped, g.guessed[n] = g.jumped || jumped, time.Now()
		g.unsure = g.unsure || g.jumped && g.by.life != g.life
	}
}

// guesses says whether a director may hold an order for older than it is.
func (s *simulation) guesses(d *simnode, g *given) bool {
	return g.jumped && !s.told(g.by, d, later(g.time, g.guessed[d]))
}

// give has a director take an order.
func (s *simulation) give(d *simnode, e event) {
	if !slices.Contains(s.serving(), d) {
		return
	}
	o := healthmesh.Order{Region: s.regions[e.region].name, Kind: e.order, Reason: fmt.Sprint("order ", len(s.orders)), Share: e.amount, Over: e.over, For: e.lasts}
	switch o.Kind {
	case healthmesh.Freeze:
		o.Region = ""
		s.thaws = later(s.thaws, time.Now().Add(e.lasts+healing))
	case unfreeze:
		o.Region, o.Kind = "", healthmesh.None
	}
	g := &given{time: time.Now(), by: d, life: d.life, guessed: make(map[*simnode]time.Time)}
	if o.For > 0 {
		g.until = g.time.Add(o.For)
	}
	ctx, cancel := context.WithTimeout(context.Background(), time.Second)
	defer cancel()
	if err := d.life.mesh.Give(ctx, o); err != nil && !d.disk.behind() {
		s.violated("a director takes orders", "%s: %v", d.name, err)
		return
	}
	taken, ok := d.disk.order(o.Reason)
	if !ok {
		s.violated("a director takes orders", "%s does not remember %v", d.name, o)
		return
	}
	g.Order = taken
	notes := s.notes(d)
	for _, known := range notes.newest {
		if !g.after(known) {
			s.violated("an order is later than all that its giver knew", "%s took %s and knew %s", d.name, g.name(), known.name())
		}
	}
	notes.know(g)
	s.orders = append(s.orders, g)
}

func later(a, b time.Time) time.Time {
	if a.After(b) {
		return a
	}
	return b
}

// inForce is the order of a view.
func inForce(v *healthmesh.View, slot simSlot) *healthmesh.Order {
	r := v.Regions[slot.region]
	switch {
	case slot.region == "":
		return v.Freeze
	case r == nil:
		return nil
	case slot.shed:
		return r.Shed
	}
	return r.Order
}

// checkOrders: none returns after it ended or was taken back, and the latest comes to all.
func (s *simulation) checkOrders(d *simnode, v *healthmesh.View) {
	notes := s.notes(d)
	for _, slot := range s.slots() {
		var now *given
		if o := inForce(v, slot); o != nil {
			i := slices.IndexFunc(s.orders, func(g *given) bool { return g.Reason == o.Reason })
			if i < 0 {
				s.violated("orders are of those who may give them", "%s holds %v", d.name, o)
				return
			}
			now = s.orders[i]
		}
		if before := notes.held[slot]; before != nil && before != now && (before.over() || !s.guesses(d, before)) {
			notes.gone[before] = true
			if before.endedBy == nil {
				before.endedAt, before.endedBy = time.Now(), d
			}
			s.checkLost(d, before)
		}
		if notes.held[slot] = now; now != nil {
			s.checkHeld(d, notes, now)
			notes.know(now)
		}
		if last := s.latest(slot); last != nil {
			s.checkLatest(d, last, now)
		}
	}
}

// checkHeld: an order in force has not ended, here or elsewhere, and there was no later one.
func (s *simulation) checkHeld(d *simnode, notes *noteBook, g *given) {
	newest := notes.newest[slotOf(g.Order)]
	switch {
	case notes.gone[g] && !g.unsure:
		s.violated("no order returns after its end", "%s holds %s again", d.name, g.name())
	case newest != nil && newest.after(g):
		s.violated("no order returns after its end", "%s holds %s and knew %s", d.name, g.name(), newest.name())
	case !g.until.IsZero() && time.Since(g.until) > endsWithin+d.away && (s.resumed.Before(g.time) || s.told(g.by, d, s.resumed)):
		// Nobody can tell how long a packet waited for a node that was stopped, until others say how old the order is.
		s.violated("no order returns after its end", "%s holds %s, which ended %v ago", d.name, g.name(), time.Since(g.until))
	case g.endedBy != nil && !g.unsure && s.told(g.endedBy, d, g.endedAt):
		s.violated("what one director saw end has ended everywhere", "%s holds %s, which ended at %s %v ago", d.name, g.name(), g.endedBy.name, time.Since(g.endedAt))
	}
}

// checkLost: an order that a director held is gone because it ended or because there is a later one.
func (s *simulation) checkLost(d *simnode, g *given) {
	if g == s.latest(slotOf(g.Order)) && !g.unsure && !g.over() {
		s.violated("no order is lost", "%s held %s and does not any more", d.name, g.name())
	}
}

// checkLatest: the latest order comes to all that the giver can reach.
func (s *simulation) checkLatest(d *simnode, g, held *given) {
	if g.unsure || g.over() || s.guesses(d, g) || !s.told(g.by, d, g.time) {
		return
	}
	want := g
	if g.takesBack() {
		want = nil
	}
	if held != want {
		s.violated("all directors hold the latest order", "%s holds %s, not %s that %s took %v ago", d.name, held.name(), g.name(), g.by.name, time.Since(g.time))
	}
}

// told says whether what a director knew at a time must have come to another: it could be told at once, or the two were apart and are not any more.
func (s *simulation) told(from, to *simnode, at time.Time) bool {
	within := heldAnyway
	if s.weather.loss == 0 && s.weather.late == 0 {
		within = heldWithin
	}
	r := s.reached[[2]*simnode{from, to}]
	switch {
	case !r.connected || time.Since(at) < within:
		return false
	case at.Sub(r.since) >= healing:
		return true
	}
	return min(time.Since(at), time.Since(r.since)) >= healing
}
