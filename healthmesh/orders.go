package healthmesh

import (
	"fmt"
	"maps"
	"slices"
	"time"
)

// orders are the last orders by slot, in force or not. What has ended is never forgotten while there is room: a node that was
// away for long cannot bring back what came before it. Owned by the mesh's goroutine.
type orders struct {
	held  map[slot]Order
	clock time.Time // the largest At that was seen
}

func newOrders() *orders { return &orders{held: make(map[slot]Order)} }

// apply takes o if it beats the order that is held for its slot. Of an order that is held already, the ages are merged.
//
// However far o.At is ahead of this node's clock, it counts: the orders that nodes give after they have seen it are later still, so a
// director whose clock is a year ahead holds up nobody, and whether an order counts must not depend on the clock of who looks.
func (all *orders) apply(o Order, now time.Time) (verdict, error) {
	if o.At.After(all.clock) {
		all.clock = o.At
	}
	held, ok := all.held[o.slot()]
	switch {
	case ok && sameOrder(&o, &held):
		met := held.meet(o)
		all.held[o.slot()] = met
		if met.inForce(now) && !held.inForce(now) { // it ended by a guess that was wrong
			return applied, nil
		}
		return known, nil
	case ok && !o.beats(held):
		return known, nil
	case !ok && len(all.held) >= maxOrders:
		oldest, found := all.oldestEnded(now)
		if !found {
			return refused, errOrdersFull
		}
		delete(all.held, oldest)
	}
	all.held[o.slot()] = o
	return applied, nil
}

// oldestEnded is the slot of the earliest order that has no effect.
func (all *orders) oldestEnded(now time.Time) (s slot, found bool) {
	for _, o := range slices.Backward(all.newestFirst()) {
		if !o.inForce(now) {
			return o.slot(), true
		}
	}
	return s, false
}

// give makes o a new order of this node, and takes it.
//
// At is a hybrid logical clock (Kulkarni, Demirbas, Madappa, Avva and Leone, 2014): the wall clock, or one nanosecond past the largest At
// that this node has seen, if that is later. The nanoseconds are the logical part. So an order is later than all that its
// giver could know of, whatever its wall clock does; only with a clock in the last second of the year 9999, the end of what is
// accepted, could a director shut out others.
func (all *orders) give(o Order, node string, wall, now time.Time) (Order, error) {
	o.By, o.At, o.Given = node, wall.Round(0).UTC(), now
	if !o.At.After(all.clock) {
		o.At = all.clock.Add(1)
	}
	if err := o.Check(); err != nil {
		return o, err
	}
	_, err := all.apply(o, now) // it is new: later than all others
	return o, err
}

// newestFirst lists the orders, the latest first.
func (all *orders) newestFirst() []Order {
	return slices.SortedFunc(maps.Values(all.held), func(a, b Order) int { return b.compare(a) })
}

// moving says whether any order will change its effect by itself.
func (all *orders) moving(now time.Time) bool {
	for _, o := range all.held {
		if o.inForce(now) && (o.For > 0 || o.age(now) < o.Over) {
			return true
		}
	}
	return false
}

// freeze is the order to freeze that is in force; nil if there is none.
func (all *orders) freeze(now time.Time) *Order {
	if o, ok := all.held[slot{}]; ok && o.inForce(now) {
		return &o
	}
	return nil
}

// A savedOrder is an order on disk, with its age when it was written: what was counted, and what is guessed beyond that.
type savedOrder struct {
	Order Order         `json:"order"`
	Age   time.Duration `json:"age"`
	Guess time.Duration `json:"guess,omitempty"`
}

func (s savedOrder) check() error {
	if s.Age < 0 || s.Age > maxAge || s.Guess < 0 || s.Guess > maxAge {
		return fmt.Errorf("order of age %v, or %v more, 0 to %v is accepted", s.Age, s.Guess, maxAge)
	}
	return s.Order.Check()
}

// save puts the orders into the memory that is written at now, which the wall clock calls wall.
func (all *orders) save(m *memory, wall, now time.Time) {
	m.Clock, m.Written = all.clock, wall.Round(0).UTC()
	for _, o := range all.newestFirst() {
		s := savedOrder{Order: o, Age: o.age(now)}
		if o.guessed() {
			s.Age = min(max(now.Sub(o.latest), 0), maxAge)
			s.Guess = o.age(now) - s.Age
		}
		m.Orders = append(m.Orders, s)
	}
}

// recallOrders takes the orders of a memory. The time in between is guessed: the wall clock's, if that went forward.
func recallOrders(m memory, wall, now time.Time) *orders {
	all := newOrders()
	all.clock = m.Clock
	for _, s := range m.Orders {
		o := s.Order
		o.At = o.At.Round(0).UTC()
		elapsed := min(max(wall.Sub(m.Written), 0), maxAge)
		o.Given, o.latest = now.Add(-min(s.Age+s.Guess+elapsed, maxAge)), now.Add(-s.Age)
		_, _ = all.apply(o, now) // as many as were held, so none is refused
	}
	return all
}
