package healthmesh

import (
	"maps"
	"testing"
	"time"

	"pgregory.net/rapid"
)

// someOrder draws from few values, so that orders meet in their slots and in their times.
func someOrder(t *rapid.T) Order {
	o := Order{
		Region: rapid.SampledFrom([]string{"a", "b"}).Draw(t, "region"), Kind: rapid.SampledFrom([]string{Drain, PinUp, Shed, None}).Draw(t, "kind"),
		By: rapid.SampledFrom([]string{"d1", "d2"}).Draw(t, "by"), At: t0.Add(time.Duration(rapid.IntRange(0, 3).Draw(t, "at"))),
		Given: now.Add(-time.Duration(rapid.IntRange(0, 4).Draw(t, "age")) * time.Minute),
	}
	if o.Kind == Shed {
		o.Share = float64(rapid.IntRange(0, 2).Draw(t, "share")) / 2
	}
	if !o.takesBack() {
		o.For = time.Duration(rapid.IntRange(0, 3).Draw(t, "for")) * time.Minute
	}
	return o
}

func merged(t *rapid.T, lists ...[]Order) *orders {
	all := newOrders()
	for _, list := range lists {
		for _, o := range list {
			if _, err := all.apply(o, now); err != nil {
				t.Fatal(err)
			}
		}
	}
	return all
}

// Whatever way orders come by, in whatever groups, and how often: all nodes end with the same.
func TestMergeIsCommutativeAssociativeAndIdempotent(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		a, b := rapid.SliceOfN(rapid.Custom(someOrder), 0, 6).Draw(t, "a"), rapid.SliceOfN(rapid.Custom(someOrder), 0, 6).Draw(t, "b")
		want := merged(t, a, b)
		for name, got := range map[string]*orders{
			"the other way": merged(t, b, a), "twice": merged(t, a, b, a), "in groups": merged(t, merged(t, a).newestFirst(), merged(t, b).newestFirst()),
			"shuffled": merged(t, rapid.Permutation(append(a[:len(a):len(a)], b...)).Draw(t, "shuffled")),
		} {
			if len(got.held) != len(want.held) || got.clock != want.clock {
				t.Fatalf("%s: %v, want %v", name, got, want)
			}
			for s, o := range want.held {
				if got.held[s] != o {
					t.Fatalf("%s: %+v, want %+v", name, got.held[s], o)
				}
			}
		}
	})
}

// A machine of the test: a director whose wall clock does as it likes.
type machine struct {
	all   *orders
	skew  time.Duration // of its wall clock
	disk  memory
	ended map[Order]bool // without Given: what this director counted to its end
	last  map[slot]Order // the latest that it held
}

func (m *machine) wall(now time.Time) time.Time { return t0.Add(now.Sub(epoch) + m.skew) }

var epoch = now

// save is what a director does whenever it takes an order, or what is in force changes.
func (m *machine) save(now time.Time) {
	m.disk = memory{}
	m.all.save(&m.disk, m.wall(now), now)
}

// Whatever orders are given, messages are lost, doubled and late, clocks jump and directors restart: what a director counted to its end is
// never in force there again, nor is what it held a later order than, and who hears the others agrees with them.
func TestEndedOrdersNeverReturn(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		now := epoch
		machines := make([]*machine, 3)
		for i := range machines {
			machines[i] = &machine{all: newOrders(), ended: make(map[Order]bool), last: make(map[slot]Order)}
		}
		var packets [][]byte
		pick := func(what string) *machine { return machines[rapid.IntRange(0, 2).Draw(t, what)] }
		take := func(m *machine, packet []byte) {
			s, err := unseal(packet, now)
			if err != nil || s.bad > 0 {
				t.Fatal(s.bad, err)
			}
			for _, o := range s.orders {
				switch v, err := m.all.apply(o, now); {
				case err != nil:
					t.Fatal(err)
				case v == applied:
					m.save(now)
				}
			}
		}
		t.Repeat(map[string]func(*rapid.T){
			"give": func(t *rapid.T) {
				m := pick("giver")
				o := someOrder(t)
				last := m.all.clock
				o, err := m.all.give(o, []string{"d0", "d1", "d2"}[rapid.IntRange(0, 2).Draw(t, "name")], m.wall(now), now)
				if err != nil || !o.At.After(last) {
					t.Fatalf("%+v: %v", o, err)
				}
				m.save(now)
			},
			"send": func(t *rapid.T) { packets = append(packets, sealed(pick("sender").all.newestFirst(), nil, now)) },
			"receive": func(t *rapid.T) {
				if len(packets) > 0 { // it stays in the network, and can come again, much later
					take(pick("receiver"), packets[rapid.IntRange(0, len(packets)-1).Draw(t, "packet")])
				}
			},
			"wait": func(t *rapid.T) {
				now = now.Add(time.Duration(rapid.IntRange(1, 120).Draw(t, "seconds")) * time.Second)
			},
			"jump": func(t *rapid.T) {
				pick("jumper").skew += time.Duration(rapid.IntRange(-100, 100).Draw(t, "hours")) * time.Hour
			},
			"restart": func(t *rapid.T) {
				m := pick("restarted")
				m.all = recallOrders(m.disk, m.wall(now), now)
			},
			"": func(t *rapid.T) {
				for _, m := range machines {
					for at, o := range m.last {
						if held, ok := m.all.held[at]; !ok || o.beats(held) {
							t.Fatalf("%+v is held, and %+v was", held, o)
						}
					}
					m.last = maps.Clone(m.all.held)
					for _, o := range m.all.held {
						id, counted := o, o
						id.Given, id.latest = time.Time{}, time.Time{}
						if o.guessed() {
							counted.Given = o.latest
						}
						switch {
						case !counted.inForce(now) && !o.takesBack() && !m.ended[id]:
							m.ended[id] = true
							m.save(now)
						case o.inForce(now) && m.ended[id]:
							t.Fatalf("%+v is in force again", o)
						}
					}
				}
			},
		})
		for range machines { // once all hear each other, they hold the same
			for _, from := range machines {
				for _, to := range machines {
					take(to, sealed(from.all.newestFirst(), nil, now))
				}
			}
		}
		for _, m := range machines {
			for s, o := range machines[0].all.held {
				got := m.all.held[s]
				// Ages travel in milliseconds, so they may differ by less.
				if !sameOrder(&got, &o) || got.guessed() != o.guessed() || got.age(now)/time.Millisecond != o.age(now)/time.Millisecond {
					t.Fatalf("%+v and %+v", got, o)
				}
			}
		}
	})
}

// An order on disk is at its next start as old as it was, and as much older as the wall clock went forward.
func TestOrdersOverARestart(t *testing.T) {
	all := newOrders()
	if _, err := all.give(Order{Region: "a", Kind: Drain, For: time.Hour}, "d", t0, now); err != nil {
		t.Fatal(err)
	}
	var m memory
	all.save(&m, t0, now.Add(10*time.Minute))
	for wall, want := range map[time.Duration]time.Duration{
		0: 10 * time.Minute, time.Minute: 11 * time.Minute, -time.Hour: 10 * time.Minute, time.Hour: 70 * time.Minute, 1e6 * time.Hour: maxAge,
	} {
		o := recallOrders(m, t0.Add(wall), now).held[slot{"a", false}]
		if o.age(now) != want || o.inForce(now) != (want < time.Hour) {
			t.Errorf("when the wall clock went on by %v it is %v old, want %v", wall, o.age(now), want)
		}
	}
}

// A director that starts with its clock far ahead ends no order that another one counts, nor is it the other way around; it counts on from
// what it is told.
func TestARestartEndsNothing(t *testing.T) {
	counting := newOrders()
	given, err := counting.give(Order{Region: "a", Kind: Drain, For: time.Hour}, "d", t0, now)
	if err != nil {
		t.Fatal(err)
	}
	at := slot{"a", false}
	var m memory
	counting.save(&m, t0, now)
	tell := func(from, to *orders, now time.Time) {
		s, err := unseal(sealed(from.newestFirst(), nil, now), now)
		if err != nil {
			t.Fatal(err)
		}
		for _, o := range s.orders {
			if _, err := to.apply(o, now); err != nil {
				t.Fatal(err)
			}
		}
	}
	later := now.Add(30 * time.Minute)
	started := recallOrders(m, t0.AddDate(1, 0, 0), later)
	if started.held[at].inForce(later) {
		t.Fatal("no clock is ahead")
	}
	var again memory
	started.save(&again, t0.AddDate(1, 0, 0), later)
	for what, jumped := range map[string]*orders{"after a start": started, "after another": recallOrders(again, t0.AddDate(2, 0, 0), later)} {
		tell(jumped, counting, later)
		if got := counting.held[at]; got != given {
			t.Errorf("%s it makes %+v of the other's %+v", what, got, given)
		}
		tell(counting, jumped, later)
		if got := jumped.held[at]; got.guessed() || got.age(later) != 30*time.Minute {
			t.Errorf("%s it holds %+v, %v old", what, got, got.age(later))
		}
		if got := jumped.held[at]; !got.inForce(now.Add(time.Hour-1)) || got.inForce(now.Add(time.Hour)) {
			t.Errorf("%s it does not end with the other's", what)
		}
	}
}
